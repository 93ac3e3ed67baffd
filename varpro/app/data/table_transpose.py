"""A table whose rows are the curves, turned so that its columns are."""

import dataclasses
from collections.abc import Sequence

from .table_lines import CELLS, TableFormat
from .table_rows import find_rows


@dataclasses.dataclass(frozen=True)
class Turned:
    """The columns of a table as lines of cells, the lines of the file that their cells come from, how the rest is
    written, and what deserves a look."""

    lines: list[str]
    origins: tuple[int, ...]
    how: TableFormat
    notes: tuple[str, ...]


def turned(file: str, lines: Sequence[str], how: TableFormat, sheet: bool) -> Turned:
    """Turn the table that stands in the lines of a file: all lines of as many fields as its rows have.

    **Raises:** `InputError` where the lines hold no table.
    """
    found = find_rows(file, lines, how, sheet)
    rows = [line for line in found.lines[: found.end] if len(line.fields) == found.count]
    columns = [CELLS.join(line.fields[j] for line in rows) for j in range(found.count)]
    # What was said of lines has been done.
    rest = dataclasses.replace(how, skip=None, footer=None, comment=None, delimiter="auto")
    notes = (*found.notes, f"transpose: {len(rows)} lines from {rows[0]} on are columns")
    return Turned(columns, tuple(line.number for line in rows), rest, notes)
