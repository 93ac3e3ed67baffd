"""Where in a text the table is: its names and units above its rows, and what was decided.

Names and units stand right above the first row, or in the last comment before it. What was decided, and by
which line, is kept for people to read.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from varpro import InputError

from .number_text import as_number, is_value
from .table_lines import CELLS, Line, TableFormat, is_words, places, ragged, split, steps
from .table_rows import Rows, find_rows
from .table_units import is_units

_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", None: "space", CELLS: "cells"}
_AXIS_SAMPLE = 50
# What a part of a file is called: [Data 1]. Lines between names and rows that say nothing of columns.
_SECTION = re.compile(r"\[[^\[\]]*\s[^\[\]]*\]")
_BETWEEN = 3
# Columns of words, which rows leave out where nothing was remarked.
_REMARKS = re.compile(r"(?i)(comments?|remarks?|notes?|bemerkung(en)?|kommentare?)?")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The rows of a table, its names and units, and what was decided: what is common, and `notes` of what
    deserves a look."""

    header: tuple[str, ...]
    units: tuple[str, ...]
    rows: list[Line]
    delimiter: str | None
    header_line: int
    # Whether the names were found in a comment, or one of them made up.
    doubtful: bool
    common: list[str]
    notes: list[str]


def lay_out(file: str, lines: Sequence[str], how: TableFormat, sheet: bool = False) -> Layout:
    """Find the table in the lines of a file.

    **Raises:** `InputError` with the line that is no row of it.
    """
    return _Names(find_rows(file, lines, how, sheet), how).layout()


class _Names:
    """The names and units of one table."""

    def __init__(self, found: Rows, how: TableFormat):
        self.found, self.how = found, how

    def layout(self) -> Layout:
        lines, first, end = self.found.lines, self.found.first, self.found.end
        rows = lines[first:end]
        above = []  # nearest first
        for line in reversed(lines[:first]):
            if len(line.fields) != self.found.count or _SECTION.fullmatch(line.text.strip()):
                break
            above.append(line)
        units: list[str] = []
        header: tuple[str, ...] | None = None
        how, doubtful = self.how, False
        used = 0
        if how.units_row is None and how.header != 0:
            at = next((i for i, line in enumerate(above[:3]) if is_units(line)), None)
            # Units are units of names: which stand above them, whatever comments stand below.
            if at is not None and at + 1 < len(above) and is_words(above[at + 1], self.found.count):
                units, used = above[at].fields, at + 1
                self.found.notes.append(f"units: {above[at]}")
            elif at is not None and (longer := self._longer_names(lines[: first - len(above)])):
                # Columns that were not measured are named, and have no unit.
                units, used = above[at].fields, len(above)
                above = [*above, longer]
                self.found.notes.append(f"units: {lines[first - 1 - at]}")
        elif how.units_row and above:
            units, used = above[0].fields, 1
        names = above[used:]
        if how.header is not None:
            if len(names) < how.header:
                where = f" above {rows[0]}" if rows else ""
                raise InputError(
                    f"{self.found.file}: data: header: {how.header} rows of names were announced, but "
                    f"{len(names)} lines of {self.found.count} fields stand{where}."
                )
            names = names[: how.header]
        elif names:
            repeated = [f for f, n in Counter(f for f in names[0].fields if f).items() if n > 1]
            two = (
                len(names) > 1
                and repeated
                and is_words(names[0], self.found.count)
                and is_words(names[1], self.found.count)
            )
            names = names[: 2 if two else 1]
        header_line = lines[0].number
        if how.header is None and self.found.count == 1 and names and is_value(names[0].fields[0]):
            names = []  # a number by itself is a setting, and no name
        if how.header is None and self._are_pairs(above, rows):
            names = []
            if not units:
                used = 0
        if names:
            header = _joined([line.fields for line in names])
            numbered = any(name.isdecimal() for name in header[1:])
            if (
                not header[0]
                and len(names) == 1
                and (steps(header[1:]) is not None or numbered)
                and len(header) > 2
            ):
                header, doubtful = ("x", *header[1:]), True  # the corner of a matrix
            header_line = names[-1].number
            used += len(names)
            if len(names) > 1:
                self.found.notes.append(
                    f"header: lines {names[-1].number} and {names[0].number} together"
                )
        elif how.header is None and first == 0 and self._is_axis(rows):
            # The corner of a matrix, which has no name of its own.
            corner = rows[0].fields[0]
            corner = "x" if as_number(corner) is not None else corner
            header, header_line, doubtful = (corner, *rows[0].fields[1:]), rows[0].number, True
            self.found.notes.append(f"header: {rows[0]}, the axis of the columns")
            rows, names = rows[1:], [rows[0]]
        elif how.header is None:
            header, header_line, doubtful, used = self._header_elsewhere(lines, first, rows, used)
        before = lines[: max(first - used, 0)]
        if before and how.skip is None:
            many = (
                f"{len(before)} lines above the table, the last"
                if len(before) > 1
                else "above the table:"
            )
            self.found.notes.append(f"skip: {many} {before[-1]}")
        common = [f"separator: {_NAMES[self.found.delimiter]}"]
        if header is None:
            header = tuple(str(i + 1) for i in range(self.found.count))
            common.append(f"no header: the first row is {rows[0]}" if rows else "no header")
        elif names and len(names) == 1:
            common.append(f"header: {names[0]}")
        elif not names:
            common.append(f"header: line {header_line}")
        if not rows:
            raise InputError(
                f"{self.found.file}:{header_line} data: a header and no numbers below it."
            )
        self._check_counts(rows, bool(names))
        return Layout(
            header,
            tuple(f.strip().strip("[]()") for f in units) or ("",) * len(header),
            rows,
            self.found.delimiter,
            header_line,
            doubtful,
            common,
            self.found.notes,
        )

    def _longer_names(self, lines: list[Line]) -> Line | None:
        """The last line, if it names the columns and some more: without these."""
        count = self.found.count
        if not lines or len(lines[-1].fields) <= count or any(map(is_value, lines[-1].fields)):
            return None
        last = lines[-1]
        return Line(last.number, last.text, last.fields[:count])

    def _are_pairs(self, above: list[Line], rows: list[Line]) -> bool:
        """Whether what stands above two columns are pairs of a key and a value, apart from the rows by an empty
        line, and no names."""
        if self.found.count != 2 or len(above) < 3 or not rows:
            return False
        apart = rows[0].number > above[0].number + 1
        together = all(a.number == b.number + 1 for a, b in zip(above[:2], above[1:3], strict=True))
        return apart and together

    def _header_elsewhere(
        self, lines: list[Line], first: int, rows: list[Line], used: int
    ) -> tuple[tuple[str, ...] | None, int, bool, int]:
        """Names in the last comment above the rows, or in a line that is cut into another number of fields:
        with names apart by blanks, or without one for the names of the rows."""
        top = rows[0].number if rows else 0
        comment = next((c for c in reversed(self.found.comments) if c[0] < top and c[1]), None)
        last = lines[first - 1] if first else None
        if last is not None and _SECTION.fullmatch(last.text.strip()):
            return None, top, False, used
        if last is not None and (comment is None or comment[0] < last.number):
            names = self._cut(last.text) or self._above_columns(last.text, rows)
            if names is not None:
                return names, last.number, True, used + 1
            beyond = last.fields[self.found.count :]
            if beyond and all(map(_REMARKS.fullmatch, beyond)) and is_words(last, len(last.fields)):
                return tuple(last.fields[: self.found.count]), last.number, False, used + 1
            short = len(last.fields) == self.found.count - 1 and not any(map(is_value, last.fields))
            short = short and not any(sign in field for field in last.fields for sign in ",;\t")
            if short and self._are_row_names(rows):
                return ("", *last.fields), last.number, False, used + 1
            if self.how.skip is None and (further := self._further_up(lines[:first])) is not None:
                return tuple(further.fields), further.number, True, used + 1
            words = all(0 < len(f) <= 20 and not set(":=") & set(f) for f in last.fields)
            apart = self.found.delimiter is not None and len(last.fields) > 1 and words
            if first == 1 and apart and self.how.skip is None and rows:
                raise self._ragged(rows[0], len(last.fields), "the header")
        elif comment is not None:
            names = self._cut(comment[1])
            if names is not None:
                return names, comment[0], True, used
        return None, top, False, used

    def _further_up(self, lines: list[Line]) -> Line | None:
        """Names of three columns or more above a line or two that end what stood above the table."""
        for line in reversed(lines[-_BETWEEN:]):
            names = line.fields
            if len(names) != self.found.count or len(names) < 3 or self.found.delimiter is None:
                continue
            if is_words(line, len(names)) and len(set(names)) == len(names) and all(names):
                return line
        return None

    def _are_row_names(self, rows: list[Line]) -> bool:
        """Whether the first field of all rows is a name: in quotes, or a count from 0 or 1 on."""
        if all(row.text.lstrip().startswith('"') for row in rows):
            return True
        counted = [as_number(row.fields[0]) for row in rows]
        return counted in (
            [float(i) for i in range(len(rows))],
            [i + 1.0 for i in range(len(rows))],
        )

    def _cut(self, text: str) -> tuple[str, ...] | None:
        """The header that a text is: as many different names as there are columns, cut as they are, or at
        blanks where the columns are not."""
        for delimiter in dict.fromkeys((self.found.delimiter, None)):
            if delimiter is None:
                # A unit may stand apart from its name: t [ns].
                names = re.findall(r"[^\s\[(]\S*(?:\s*(?:\[[^\]]*\]|\([^)]*\)))?", text)
                if len(names) > 1 and all(name[-1] in ",;" for name in names[:-1]):
                    names = [name.rstrip(",;") for name in names]
            else:
                names = split(text, delimiter) if text else []
            # "Data: y x"
            if len(names) == self.found.count + 1 and names[0].endswith(":"):
                names = names[1:]
            # What ends so is a key, and what follows its value.
            words = all(name and as_number(name) is None for name in names)
            words = words and not any(name.endswith(("=", ":")) for name in names)
            if len(names) == self.found.count and len(set(names)) == self.found.count and words:
                return tuple(names)
        return None

    def _above_columns(self, text: str, rows: list[Line]) -> tuple[str, ...] | None:
        """Names with blanks in them above columns that blanks part: each begins where its column does."""
        if self.found.delimiter is not None or not rows:
            return None
        starts = [match.start() for match in places(rows[0].text, None)]
        if len(starts) != self.found.count or not all(
            text[i : i + 1].strip() and not text[i - 1 : i].strip() for i in starts
        ):
            return None
        parts = zip(starts, [*starts[1:], None], strict=True)
        names = tuple(" ".join(text[i:j].split()) for i, j in parts)
        words = all(as_number(name) is None and not name.endswith(("=", ":")) for name in names)
        return names if words and len(set(names)) == len(names) else None

    def _is_axis(self, lines: list[Line]) -> bool:
        """Whether the first row of numbers is the axis of the columns of a matrix: nothing or 0 in the corner,
        then numbers that rise or fall. After a 0 these must be told from the values at x = 0."""
        rows = [line.fields for line in lines[:_AXIS_SAMPLE]]
        corner, others = rows[0][0], rows[0][1:]
        if len(others) < 2 or len(rows) < 3 or any(len(row) != len(rows[0]) for row in rows[1:3]):
            return False
        if steps(others) is None:
            return False
        if corner == "":
            return True
        first, second = (as_number(row[0]) for row in rows[1:3])
        zero = as_number(corner)
        named = all(
            as_number(row[0]) is None for row in rows
        )  # the rows, and the corner above them
        if zero != 0.0 and not named:
            return False
        if first is not None and second is not None and first < 0.0 and second > first:
            return True  # x rises as if nothing stood in the corner
        body = [row[1:] for row in rows[1:]]
        values = [as_number(field) for row in body for field in row]
        largest = max((abs(v) for v in values if v is not None and np.isfinite(v)), default=np.inf)
        if min(abs(as_number(field) or 0.0) for field in others) > 3.0 * largest:
            return True
        rising = sum(steps(row) is not None for row in body)
        return len(others) >= 5 and rising <= 0.1 * len(body)

    def _check_counts(self, rows: list[Line], headed: bool) -> None:
        for row in rows:
            if len(row.fields) != self.found.count:
                raise self._ragged(
                    row, self.found.count, "the header" if headed else "the first row"
                )

    def _ragged(self, row: Line, count: int, what: str) -> InputError:
        return ragged(self.found.file, row, self.found.delimiter, count, what)


def _joined(rows: list[list[str]]) -> tuple[str, ...]:
    """The names of one row, or of two, nearest first, of which the upper one has cells over several columns."""
    if len(rows) == 1:
        return tuple(rows[0])
    filled, last = [], ""
    for field in rows[1]:
        last = field or last
        filled.append(last)
    return tuple(f"{a} {b}".strip() for a, b in zip(filled, rows[0], strict=True))
