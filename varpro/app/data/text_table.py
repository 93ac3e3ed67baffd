"""Columns of numbers from a text file or a sheet, with errors that say in which line and column.

A file is lines of equally many fields, with or without a header, separated by commas, semicolons, tabs or
blanks, and whatever instruments write above, between and below them: `table_layout` finds where they are.
"""

import dataclasses
import re
from collections import Counter
from pathlib import Path

import numpy as np

from varpro import InputError

from .date_text import is_compact, is_date, seconds_since
from .number_text import (
    MISSING,
    as_complex,
    as_number,
    as_written,
    decimal_comma,
    grouped,
    plain_number,
    without_blanks,
)
from .table_layout import lay_out
from .table_lines import CELLS, Line, TableFormat, places, shortened
from .table_transpose import turned
from .table_units import split_unit
from .text_encoding import read_data_text
from .workbooks import is_workbook, lines_of_sheet

# What columns of dates are called whose fields are numbers, 20240131.
_DAYS = re.compile(r"(?i).*(date|datum|day|tag)|(date|datum|day|tag)\b.*")


@dataclasses.dataclass(frozen=True)
class Table:
    """The fields of a file as text. `lines[i]` is the line of row i in the file; `doubtful` says
    that the header was found in a comment; `first` is the first row of the whole file, which dates are
    counted from; `common` and `notes` are sentences on how the file was read, the notes worth a look."""

    file: str
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    raw: list[str]
    delimiter: str | None
    doubtful: bool = False
    units: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    header_line: int = 1
    how: TableFormat = TableFormat()
    common: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    # Of a table that was turned, the line of the file that each column comes from.
    origins: tuple[int, ...] = ()

    def find(self, name: str) -> int | None:
        """The index of a column by its header, with or without the unit in it, or by its number from 1 on
        where no header is a number."""
        if name and self.header.count(name) > 1:
            first, second = [i + 1 for i, head in enumerate(self.header) if head == name][:2]
            raise InputError(
                f"{self.file}:{self.header_line} two columns have the header '{shortened(name)}'. Name "
                f"them by number, {first} or {second}."
            )
        if name in self.header:
            return self.header.index(name)
        names = self.names()
        if names.count(name) > 1:
            heads = [
                f"'{shortened(h)}'" for h, n in zip(self.header, names, strict=True) if n == name
            ]
            raise InputError(
                f"{self.file}: {len(heads)} columns are called '{shortened(name)}': {', '.join(heads)}. "
                "Name one with its unit."
            )
        if name in names:
            return names.index(name)
        if name.isdecimal() and 0 < int(name) <= len(self.header):
            # Of a matrix with an axis of numbers a number is one of them, the corner apart.
            numbers = any(as_number(head) is not None for head in names if head)
            if name == "1" or self.doubtful or not numbers:
                return int(name) - 1
        return None

    def positions(self, indices: list[int]) -> np.ndarray | None:
        """The numbers that stand in the header of these columns; None where any has none."""
        found = [as_number(self.names()[j]) for j in indices]
        if any(one is None or not np.isfinite(one) for one in found):
            return None
        numbered = self.header == tuple(str(i + 1) for i in range(len(self.header)))
        return None if numbered else np.array(found)

    def names(self) -> list[str]:
        return [split_unit(head)[0] for head in self.header]

    def take(self, rows: list[int]) -> "Table":
        """A table of some of the rows."""
        return dataclasses.replace(
            self,
            rows=[self.rows[i] for i in rows],
            lines=[self.lines[i] for i in rows],
            raw=[self.raw[i] for i in rows],
        )

    def with_positions(self, name: str, spacing: float, origin: float) -> "Table":
        """A table with one column more, of positions that no column holds: evenly spaced from `origin` on.

        **Raises:** `InputError` where a column is called so.
        """
        if name in self.header or name in self.names():
            raise InputError(
                f"{self.file} has a column '{shortened(name)}', and spacing says where samples stand. Leave one "
                "out, or call x otherwise."
            )
        sign = self.how.decimal or ("," if self.how.thousands == "." else ".")
        texts = [repr(origin + spacing * i).replace(".", sign) for i in range(len(self.rows))]
        return dataclasses.replace(
            self,
            header=(*self.header, name),
            rows=[[*row, text] for row, text in zip(self.rows, texts, strict=True)],
            units=(*self.units, "") if self.units else (),
            first=(*self.first, texts[0]) if self.first else (),
        )

    def unit(self, index: int) -> str:
        """The unit in a header such as `t [ns]` or `t (ns)`, or below it, or nothing; of dates seconds."""
        if self.holds_dates(index):
            return "s"
        return split_unit(self.header[index])[1] or (self.units[index] if self.units else "")

    def holds_dates(self, index: int) -> bool:
        """Whether a column is one of dates or times of day."""
        texts = [row[index] for row in self.rows if row[index].lower() not in MISSING]
        if _DAYS.fullmatch(split_unit(self.header[index])[0].strip()) and texts:
            if all(map(is_compact, texts)):
                return True
        # Few are looked at, and all when they are read.
        some = texts[:: max(1, len(texts) // 50)]
        return bool(some) and 2 * sum(map(is_date, some)) >= len(some)

    def numbers(self, index: int, dates: bool = False) -> np.ndarray:
        """A column as float64; an empty field is NaN; `dates` are seconds since that of the first row."""
        texts = [row[index] for row in self.rows]
        if dates and self.holds_dates(index):
            return self._seconds(index, texts)
        values = np.empty(len(texts))
        decimal, thousands = self.how.decimal, self.how.thousands
        if decimal is None and thousands is not None:
            decimal = "," if thousands == "." else "."
        given = decimal is not None
        if not given:
            texts = [without_blanks(text) for text in texts]
        grouping, point = (",", ".") if given else self._signs(index, texts)
        for i, text in enumerate(texts):
            if given:
                number = as_written(text, decimal or ".", thousands)
            else:
                number = as_number(text)
                if number is not None and "," in text and text.lower() not in MISSING:
                    number = as_written(text, point, None)
                elif number is not None and grouping == "." in text:
                    number = as_written(text, ",", None)
            if number is None:
                raise InputError(
                    f"{self.at(i, index)} column '{one_line(self.header[index])}': "
                    f"'{one_line(text)}' is not a number.{self._line(i)}"
                )
            values[i] = number
        return values

    def values(self, index: int, dates: bool = False) -> np.ndarray:
        """A column as float64, or as complex128 where its fields are complex."""
        texts = [row[index] for row in self.rows]
        first = next((text for text in texts if text.lower() not in MISSING), "")
        if as_complex(first) is None:
            return self.numbers(index, dates)
        found = np.empty(len(texts), complex)
        for i, text in enumerate(texts):
            value = as_complex(text)
            value = as_number(text) if value is None else value
            if value is None:
                raise InputError(
                    f"{self.at(i, index)} column '{one_line(self.header[index])}': '{one_line(text)}' is not a "
                    f"number.{self._line(i)}"
                )
            found[i] = value
        return found

    def _line(self, row: int) -> str:
        """The line of a row, for a message."""
        text = shortened(self.raw[row].strip().replace(CELLS, " | "))
        return f" The line is '{text}'."

    def _seconds(self, index: int, texts: list[str]) -> np.ndarray:
        for i, text in enumerate(texts):
            if text.lower() not in MISSING and not (is_date(text) or is_compact(text)):
                raise InputError(
                    f"{self.at(i, index)} column '{one_line(self.header[index])}': '{one_line(text)}' is no date."
                    f"{self._line(i)}"
                )
        first = self.first[index] if self.first else ""
        if not (is_date(first) or is_compact(first)):
            first = next(text for text in texts if text.lower() not in MISSING)
        try:
            there = [text if text.lower() not in MISSING else "" for text in texts]
            return seconds_since(first, there)
        except ValueError as error:
            raise InputError(
                f"{self.at(0, index)} column '{one_line(self.header[index])}': {error}.{self._line(0)}"
            ) from None

    def _signs(self, index: int, texts: list[str]) -> tuple[str, str]:
        """The signs of thousands and of decimals that the numbers of a column have, all the same.

        **Raises:** `InputError` where they contradict each other, or could be read either way.
        """
        commas = [i for i, text in enumerate(texts) if "," in text]
        if not commas:
            return ",", "."
        dots = [i for i, text in enumerate(texts) if "." in text and text.lower() not in MISSING]

        def fits(thousands: str, decimal: str) -> bool:
            groups, plain = grouped(thousands, decimal), plain_number(decimal)
            some = {*commas, *dots}
            some = [i for i in some if len(texts[i]) <= 80]  # others are no numbers
            return all(groups.fullmatch(texts[i]) or plain.fullmatch(texts[i]) for i in some)

        english, german = fits(",", "."), fits(".", ",")
        if english != german:
            return (",", ".") if english else (".", ",")
        first = commas[0]
        other = next((t for i, t in enumerate(texts) if t and i not in commas), "")
        beside = f" beside '{one_line(other)}'" if other else ""
        what = (
            "may be a number with decimals or one with thousands"
            if english
            else "has another decimal sign than other numbers of the column"
        )
        if english and not other and self._decimal_comma(index):
            return ".", ","
        if english and self._decimal_point(index) and self._all_grouped(texts):
            return ",", "."
        raise InputError(
            f"{self.at(first, index)} column '{one_line(self.header[index])}': '{one_line(texts[first])}'{beside} "
            f"{what}. Say which under data: decimal, thousands.{self._line(first)}"
        )

    def _decimal_comma(self, index: int) -> bool:
        """Whether a column beside this one has numbers that only a decimal comma explains."""
        fields = (row[j] for row in self.rows for j in range(len(row)) if j != index)
        return any(decimal_comma(text) for text in fields)

    def _decimal_point(self, index: int) -> bool:
        """Whether a column beside this one has numbers that only a decimal point explains."""
        point, groups = plain_number("."), grouped(".", ",")
        fields = (row[j] for row in self.rows for j in range(len(row)) if j != index)
        return any("." in f and point.fullmatch(f) and not groups.fullmatch(f) for f in fields)

    @staticmethod
    def _all_grouped(texts: list[str]) -> bool:
        """Whether no number of 1000 or more is without a comma."""
        plain = (as_number(text) for text in texts if "," not in text)
        return all(value is None or not abs(value) >= 1000 for value in plain)

    def at(self, row: int, index: int) -> str:
        """`decay.csv:17:9`: file, line and character of a field; of a sheet `book.xlsx:B17`."""
        if self.origins:
            return f"{self.file}:{self.origins[index]} field {self.lines[row]}"
        if self.delimiter == CELLS:
            return f"{self.file}:{_letters(index)}{self.lines[row]}"
        starts = [match.start() for match in places(self.raw[row], self.delimiter)]
        column = f":{starts[index] + 1}" if index < len(starts) else ""
        return f"{self.file}:{self.lines[row]}{column}"


def read_table(path: str | Path, how: TableFormat | None = None) -> Table:
    """Read the text of a file, or a sheet of a workbook, into fields.

    **Raises:** `InputError` with the line where it is no table.
    """
    how = how or TableFormat()
    file, notes = str(path), []
    if sheet := is_workbook(path):
        lines, name = lines_of_sheet(Path(path), how.sheet)
        file = f"{path}[{name}]"
    else:
        if how.sheet is not None:
            raise InputError(f"{path}: data: sheet: this is a text, and no workbook.")
        text, decided = read_data_text(path, how.encoding)
        lines, notes = text.split("\n"), [decided] * bool(decided)
    origins: tuple[int, ...] = ()
    if how.transpose:
        side = turned(file, lines, how, sheet)
        lines, origins, sheet, notes = side.lines, side.origins, True, [*notes, *side.notes]
        layout = lay_out(file, lines, side.how, sheet)
    else:
        layout = lay_out(file, lines, how, sheet)
    table = Table(
        file,
        layout.header,
        [row.fields for row in layout.rows],
        [row.number for row in layout.rows],
        [row.text for row in layout.rows],
        layout.delimiter,
        layout.doubtful,
        layout.units,
        tuple(layout.rows[0].fields),
        layout.header_line,
        how,
        tuple(layout.common),
        (*notes, *layout.notes, *_decimals(layout.rows, how)),
        origins,
    )
    return table


def _decimals(rows: list[Line], how: TableFormat) -> list[str]:
    """A note where numbers have a decimal comma."""
    if how.decimal is not None:
        return []
    for row in rows[:50]:
        if any(decimal_comma(field) for field in row.fields):
            return [f"decimal: comma, by {row}"]
    return []


def repeated_names(table: Table) -> set[str]:
    """Headers that several columns have."""
    return {name for name, times in Counter(table.header).items() if times > 1}


def _letters(index: int) -> str:
    """The letters of a column of a sheet."""
    letters = ""
    while index >= 0:
        index, rest = divmod(index, 26)
        letters, index = chr(65 + rest) + letters, index - 1
    return letters


def one_line(text: str) -> str:
    """A field or a header as a message may quote it: in one line, whatever signs part lines for whom."""
    return shortened(text, 40)
