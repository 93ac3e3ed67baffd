"""Columns of numbers from a text file, with errors that say in which line and column.

A file is lines of equally many fields, with or without a header, separated by commas, semicolons,
tabs or blanks; lines that start with `#` are comments, of which the last before the numbers may be the
header.
"""

import csv
import dataclasses
import re
from collections import Counter
from pathlib import Path

import numpy as np

from varpro import InputError

from ..config.document import read_text

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": None}
_SNIFFED = ("\t", ";", ",", None)
_SAMPLE = 50
_COMMA_DECIMAL = re.compile(r"[-+]?[0-9]*,[0-9]+([eE][-+]?[0-9]+)?")
_UNIT = re.compile(r"(.*?)\s*(?:\[(.*)\]|\((.*)\))")


@dataclasses.dataclass(frozen=True)
class Table:
    """The fields of a file as text. `lines[i]` is the line of row i in the file; `commented` says
    that the header was found in a comment."""

    file: str
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    raw: list[str]
    delimiter: str | None
    commented: bool = False

    def find(self, name: str) -> int | None:
        """The index of a column by its header, with or without the unit in it."""
        if name in self.header:
            return self.header.index(name)
        if self.commented and name.isdigit() and 0 < int(name) <= len(self.header):
            return int(name) - 1  # what looks like a header may be none
        names = [_split_unit(head)[0] for head in self.header]
        return names.index(name) if names.count(name) == 1 else None

    def names(self) -> list[str]:
        return [_split_unit(head)[0] for head in self.header]

    def take(self, rows: list[int]) -> "Table":
        """The same table with some of its rows."""
        return dataclasses.replace(
            self,
            rows=[self.rows[i] for i in rows],
            lines=[self.lines[i] for i in rows],
            raw=[self.raw[i] for i in rows],
        )

    def unit(self, index: int) -> str:
        """The unit in a header such as `t [ns]` or `t (ns)`, or nothing."""
        return _split_unit(self.header[index])[1]

    def numbers(self, index: int) -> np.ndarray:
        """A column as float64; an empty field is NaN."""
        texts = [row[index] for row in self.rows]
        values = np.empty(len(texts))
        for i, text in enumerate(texts):
            number = _number(text, self.delimiter)
            if number is None:
                raise InputError(
                    f"{self.at(i, index)} column '{self.header[index]}': "
                    f"'{_short(text)}' is not a number."
                )
            values[i] = number
        return values

    def at(self, row: int, index: int) -> str:
        """`decay.csv:17:9`: file, line and character of a field."""
        starts = [match.start() for match in _fields(self.raw[row], self.delimiter)]
        column = f":{starts[index] + 1}" if index < len(starts) else ""
        return f"{self.file}:{self.lines[row]}{column}"


def read_table(path: str | Path, delimiter: str = "auto") -> Table:
    """Read the text of a file into fields; `delimiter` is "auto" or a key of `DELIMITERS`."""
    data_lines: list[tuple[int, str]] = []
    comment = ""
    for number, line in enumerate(read_text(path, "data").split("\n"), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            data_lines.append((number, line))
        elif stripped and not data_lines:
            comment = stripped.lstrip("#").strip() or comment
    if not data_lines:
        raise InputError(f"{path}: data: the file holds no numbers.")
    sample = [line for _, line in data_lines[:_SAMPLE]]
    separator = _sniff(sample) if delimiter == "auto" else DELIMITERS[delimiter]
    rows = [_split(line, separator) for _, line in data_lines]

    has_header = any(_number(field, separator) is None for field in rows[0])
    count = len(rows[0])
    comment_header = None if has_header else _header_in(comment, separator, count)
    numbered = tuple(str(i + 1) for i in range(count))
    header = tuple(rows[0]) if has_header else comment_header or numbered
    body = slice(1 if has_header else 0, None)
    table = Table(
        str(path),
        header,
        rows[body],
        [number for number, _ in data_lines[body]],
        [line for _, line in data_lines[body]],
        separator,
        comment_header is not None,
    )
    repeated = [name for name, times in Counter(header).items() if times > 1]
    if repeated:
        raise InputError(f"{path}:{data_lines[0][0]} two columns have the header '{repeated[0]}'.")
    if not table.rows:
        raise InputError(f"{path}:{data_lines[0][0]} data: a header and no numbers below it.")
    for i, row in enumerate(table.rows):
        if len(row) != count:
            location = f"{path}:{table.lines[i]}"
            if len(row) > count:
                location = table.at(i, count)
            raise InputError(
                f"{location} found {len(row)} field{'s' * (len(row) != 1)} where "
                f"{'the header' if has_header else 'the first row'} has {count}."
            )
    return table


def _header_in(comment: str, separator: str | None, count: int) -> tuple[str, ...] | None:
    """The header that a comment is: as many different names as there are columns, cut as they are, or
    at blanks where the columns are not."""
    for delimiter in dict.fromkeys((separator, None)):
        names = _split(comment, delimiter) if comment else []
        if delimiter is None:
            # A unit may stand apart from its name: t [ns].
            names = re.findall(r"[^\s\[(]\S*(?:\s*(?:\[[^\]]*\]|\([^)]*\)))?", comment)
        words = all(name and _number(name, separator) is None for name in names)
        if len(names) == count and len(set(names)) == count and words:
            return tuple(names)
    return None


def _split_unit(head: str) -> tuple[str, str]:
    match = _UNIT.fullmatch(head)
    if match is None or not match[1]:
        return head, ""
    return match[1], (match[2] or match[3] or "").strip()


def _split(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    if '"' in line:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]
    return [field.strip() for field in line.split(delimiter)]


def _fields(line: str, delimiter: str | None) -> list[re.Match[str]]:
    pattern = r"\S+" if delimiter is None else rf"(?:^|(?<={delimiter}))[^{delimiter}]*"
    return list(re.finditer(pattern, line))


def _number(text: str, delimiter: str | None) -> float | None:
    """The value of a field, NaN for an empty one, None for one that is no number."""
    if not text:
        return np.nan
    try:
        return None if "_" in text else float(text)
    except ValueError:
        pass
    if delimiter != "," and _COMMA_DECIMAL.fullmatch(text):
        return float(text.replace(",", "."))
    return None


def _sniff(sample: list[str]) -> str | None:
    """The separator that cuts most lines into equally many fields, most of them numbers."""

    def score(delimiter: str | None) -> float:
        rows = [_split(line, delimiter) for line in sample]
        count, frequency = Counter(map(len, rows)).most_common(1)[0]
        if count == 1:
            return 0.0
        fields = [field for row in rows for field in row if len(row) == count]
        numeric = sum(_number(field, delimiter) is not None for field in fields)
        return frequency / len(rows) + numeric / len(fields)

    return max(_SNIFFED, key=score)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
