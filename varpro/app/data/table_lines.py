"""The lines of a table and their fields: what separates them, and where they are."""

import csv
import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from varpro import InputError

from .number_text import as_number, is_value

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": None}
# What separates the cells of a sheet when they are made lines.
CELLS = "\x1f"
# A field among blanks, in quotes or not.
_QUOTED = re.compile(r'(")([^"]*)"(?=\s|$)|(\S+)')


@dataclasses.dataclass(frozen=True)
class TableFormat:
    """What a configuration says of how a table is written; None is found in the file.

    `skip` lines at the top and `footer` lines at the end are left out; `header` of the rest are rows of
    names, 0, 1 or 2, and below them stand units if `units_row`. With `transpose` rows are columns, and all that is
    said of rows and columns is said of the table when it was turned.
    """

    delimiter: str = "auto"
    skip: int | None = None
    comment: str | None = None
    header: int | None = None
    units_row: bool | None = None
    footer: int | None = None
    decimal: Literal[".", ","] | None = None
    thousands: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    transpose: bool = False


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a file: its number, its text, and that as fields."""

    number: int
    text: str
    fields: list[str]

    def __str__(self) -> str:
        return f"line {self.number} '{shortened(self.text.replace(CELLS, ' | '))}'"


def is_words(line: Line, count: int) -> bool:
    """Whether a line has as many fields as the rows, and none of them is a number."""
    return len(line.fields) == count and not any(map(is_value, line.fields))


def ragged(file: str, row: Line, delimiter: str | None, count: int, what: str) -> InputError:
    """A row of another number of fields than `what` has."""
    place = f"{file}:{row.number}"
    starts = [match.start() for match in places(row.text, delimiter)]
    if count < len(row.fields) and count < len(starts):
        place = f"{place}:{starts[count] + 1}"
    found = len(row.fields)
    text = shortened(row.text.strip().replace(CELLS, " | "))
    return InputError(
        f"{place} found {found} field{'s' * (found != 1)} where {what} has {count}. The line is "
        f"'{text}'."
    )


def steps(fields: Sequence[str]) -> np.ndarray | None:
    """The steps between numbers that rise or fall all along; None of any others."""
    values = [as_number(field) for field in fields]
    found = np.diff([np.nan if value is None else value for value in values])
    rising = bool((found > 0).all() or (found < 0).all())
    return found if rising and np.isfinite(found).all() else None


def split(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        if '"' in line:
            return [a if quote else b for quote, a, b in _QUOTED.findall(line)]
        return line.split()
    if '"' in line and delimiter != CELLS:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]
    return [field.strip() for field in line.split(delimiter)]


def places(line: str, delimiter: str | None) -> list[re.Match[str]]:
    """Where the fields of a line are."""
    pattern = (
        r'"[^"]*"(?=\s|$)|\S+' if delimiter is None else rf"(?:^|(?<={delimiter}))[^{delimiter}]*"
    )
    return list(re.finditer(pattern, line))


def shortened(text: str, most: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."
