"""Where in a text the rows of a table are: what separates their fields, what stands above and below them.

The rows are the lines of equally many fields whose first column of numbers holds one; the separator is the
one that makes most of them.
"""

import csv
import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Sequence

from varpro import InputError

from .number_text import MISSING, as_number, is_value
from .table_lines import CELLS, DELIMITERS, Line, TableFormat, is_words, split, steps
from .table_units import is_units

_SNIFFED = ("\t", ";", ",", None)
_SAMPLE = 300
# Comments begin with the first of these; lines that begin with another one are comments, too, unless they
# are rows.
_MARK, _OTHER_MARKS = "#", ("%", "//", "!", "*", "@", "&", "$", ">")
# A remark behind the numbers of a line; #N/A and its like are values.
_REMARK = re.compile(r"\s#(?!N/?A|VALUE|DIV|REF|NUM|NAME|NULL)")
# Rows below a table that sum it up.
_SUMMARIES = re.compile(
    r"(?i)(mean|average|avg|total|sum|std|sd|stdev|st\. ?dev\.?|standard deviation|min|minimum|max|maximum"
    r"|median|count|n|rsd|cv|%cv|mittelwert|summe|end|eof)\.?:?"
)


@dataclasses.dataclass(frozen=True)
class Rows:
    """The lines of a table, of which those from `first` to `end` are its rows of `count` fields; comments, and
    what deserves a look."""

    file: str
    lines: list[Line]
    first: int
    end: int
    count: int
    delimiter: str | None
    comments: list[tuple[int, str]]
    notes: list[str]


def find_rows(file: str, lines: Sequence[str], how: TableFormat, sheet: bool) -> Rows:
    """The rows among the lines of a file.

    **Raises:** `InputError` where nothing but comments is there.
    """
    return _RowFinder(file, lines, how, sheet).rows()


class _RowFinder:
    """One look at one file."""

    def __init__(self, file: str, lines: Sequence[str], how: TableFormat, sheet: bool):
        self.file, self.how, self.sheet = file, how, sheet
        self.notes: list[str] = []
        last = len(lines)
        if how.footer:
            while last and not lines[last - 1].strip():
                last -= 1
            last = max(last - how.footer, 0)
        # Lines that are neither empty nor a comment, and the comments above the first of them.
        self.texts: list[tuple[int, str]] = []
        self.comments: list[tuple[int, str]] = []
        mark = how.comment or _MARK
        for number, line in list(enumerate(lines, start=1))[how.skip or 0 : last]:
            line = line.lstrip("\ufeff")  # that a program began every line with
            stripped = line.strip(CELLS).strip()
            if not stripped:
                continue
            if stripped.startswith(mark) and not stripped.upper().startswith(("#N/A", "#DIV")):
                comment = stripped.removeprefix(mark)
                while comment.lstrip().startswith(mark):
                    comment = comment.lstrip().removeprefix(mark)
                self.comments.append((number, comment.strip()))
            else:
                self.texts.append((number, line))
        if not self.texts:
            raise InputError(f"{file}: data: the file holds no numbers.")

    def rows(self) -> Rows:
        if self.sheet:
            self.delimiter: str | None = CELLS
        elif self.how.delimiter == "auto":
            self.delimiter = self._sniff()
        else:
            self.delimiter = DELIMITERS[self.how.delimiter]
        lines = self._without_marks([self._line(number, text) for number, text in self.texts])
        self.count = self._count(lines)
        lines = self._without_empty_column(lines)
        self.columns = self._columns_of_numbers(lines)
        self.lead = self.columns[0] if self.columns else 0
        first = self._first(lines)
        end = self._end(lines, first)
        return Rows(
            self.file, lines, first, end, self.count, self.delimiter, self.comments, self.notes
        )

    # ------------------------------------------------------------ fields

    def _line(self, number: int, text: str) -> Line:
        try:
            return Line(number, text, split(text, self.delimiter))
        except csv.Error as error:
            raise InputError(
                f"{self.file}:{number} data: cannot be cut into fields ({error})."
            ) from None

    def _sample(self) -> list[str]:
        """Some lines, more of the beginning than of the rest."""
        texts = [text for _, text in self.texts]
        rest = texts[_SAMPLE:]
        return texts[:_SAMPLE] + rest[:: max(1, len(rest) // _SAMPLE)]

    def _sniff(self) -> str | None:
        """The separator that cuts most lines into equally many fields, most of them numbers."""
        sample = self._sample()

        def score(delimiter: str | None) -> float:
            if delimiter == "," and self.how.decimal == ",":
                return 0.0
            try:
                rows = [split(line, delimiter) for line in sample]
            except csv.Error:
                return 0.0
            some = [row for row in rows if any(map(is_value, row))] or rows
            count, frequency = Counter(map(len, some)).most_common(1)[0]
            if count < 2:
                return 0.0
            cut = [(line, row) for line, row in zip(sample, rows, strict=True) if len(row) == count]
            same = sum(split(line, "\t") == row for line, row in cut) if delimiter is None else 0
            if same > 0.9 * len(cut):
                return 0.0  # tabs do the same, and leave the blanks within names alone
            fields = [field for row in some for field in row if len(row) == count]
            numeric = sum(as_number(f) is not None or is_value(f) for f in fields)
            return frequency / len(rows) + numeric / len(fields)

        return max(_SNIFFED, key=score)

    def _count(self, lines: list[Line]) -> int:
        """How many fields the rows have."""
        sample = [*lines[:_SAMPLE], *lines[_SAMPLE :: max(1, len(lines) // _SAMPLE)]]
        some = [line for line in sample if any(map(is_value, line.fields))]
        if not some:  # words alone
            return len(lines[0].fields)
        # By the numbers in them: a table of many columns is no more lines than what stands beside it.
        weights: Counter[int] = Counter()
        for line in some:
            weights[len(line.fields)] += sum(map(is_value, line.fields))
        lines_of = Counter(len(line.fields) for line in some)
        often = [count for count in weights if lines_of[count] > 2]
        if not often:
            return lines_of.most_common(1)[0][0]
        return max(often, key=weights.__getitem__)

    def _without_marks(self, lines: list[Line]) -> list[Line]:
        """Without remarks behind numbers, and lines that other programs mark as comments."""
        kept, marked = [], []
        for line in lines:
            if (
                _MARK in line.text
                and self.how.comment is None
                and (match := _REMARK.search(line.text))
            ):
                text = line.text[: match.start()].rstrip()
                fields = split(text, self.delimiter)
                if len(fields) < len(line.fields) and any(map(is_value, fields)):
                    line = Line(line.number, text, fields)
            mark = next((m for m in _OTHER_MARKS if line.text.lstrip().startswith(m)), None)
            lead = line.fields[0]
            if self.how.comment is None and mark and not self.sheet and lead.lower() not in MISSING:
                marked.append(line)
                self.comments.append((line.number, line.text.lstrip().lstrip(mark).strip()))
            else:
                kept.append(line)
        if not kept:
            return lines
        self.comments.sort()
        if marked:
            many = f"{len(marked)} lines, the first" if len(marked) > 1 else "1 line,"
            self.notes.append(f"comments: {many} {marked[0]}")
        return kept

    def _without_empty_column(self, lines: list[Line]) -> list[Line]:
        """Separators at the end of lines make a column of nothing, which has no name."""
        rows = [line for line in lines if len(line.fields) == self.count]
        if self.delimiter is None or self.count < 2 or any(line.fields[-1] for line in rows):
            return lines
        self.count -= 1
        return [
            Line(line.number, line.text, line.fields[:-1])
            if len(line.fields) == self.count + 1
            else line
            for line in lines
        ]

    def _columns_of_numbers(self, lines: list[Line]) -> list[int]:
        rows = [line.fields for line in lines if len(line.fields) == self.count]
        rows = rows[:: max(1, len(rows) // _SAMPLE)]
        rows = rows[len(rows) // 2 :]
        found = []
        for j in range(self.count):
            good = sum(as_number(row[j]) is not None or is_value(row[j]) for row in rows)
            if 2 * good >= len(rows) and any(is_value(row[j]) for row in rows):
                found.append(j)
        return found

    # ------------------------------------------------------------ rows

    def _first(self, lines: list[Line]) -> int:
        """The index of the first row."""
        if not self.columns:
            return 0 if self.how.header == 0 else 1
        first = next((i for i, line in enumerate(lines) if self._is_row(line)), len(lines))
        if self.how.header is not None or self.how.units_row is not None:
            return first
        first = self._below_a_report(lines, self._below_settings(lines, first))
        if self._counts(lines, first):
            self.notes.append(f"skip: {lines[first]}, the number of those below it")
            first += 1
        # A spoilt row right below the names is no header.
        while first > 1 and self._spoilt(lines[first - 1]) and self._names(lines[first - 2]):
            first -= 1
        return first

    def _counts(self, lines: list[Line], first: int) -> bool:
        """Whether the first of numbers below each other is how many follow."""
        left = len(lines) - first - 1
        return self.count == 1 and left >= 5 and as_number(lines[first].fields[0]) == float(left)

    def _below_settings(self, lines: list[Line], first: int) -> int:
        """The first row below numbers that stand alone among comments, each a setting of the instrument."""
        runs: list[list[int]] = []
        if not self.comments:
            return first
        for i in range(first, len(lines)):
            if not runs or lines[i].number != lines[i - 1].number + 1:
                runs.append([])
            runs[-1].append(i)
        alone = list(itertools.takewhile(lambda run: len(run) <= 2, runs))
        commented = {number for number, _ in self.comments}
        told = all(lines[run[0]].number - 1 in commented for run in alone)
        if len(alone) < 2 or not told or len(alone) == len(runs):
            return first
        if len(runs[len(alone)]) < 5 * sum(map(len, alone)):
            return first
        return runs[len(alone)][0]

    def _below_a_report(self, lines: list[Line], first: int) -> int:
        """The first row of the longest run of rows, where what stands above it is text with numbers in it:
        as many lines as that text has, and rows are few among them."""
        rows = [self._is_row(line) for line in lines]
        runs = [(len(list(group)), row) for row, group in itertools.groupby(rows[first:], key=bool)]
        longest = max((length for length, row in runs if row), default=0)
        where, above, text = first, 0, 0
        for length, row in runs:
            if row and length == longest:
                break
            where, above, text = where + length, above + length * row, text + length * (not row)
        broken = any(len(line.fields) != self.count for line in lines[first:where])
        if broken and text >= 3 and text >= 2 * above and longest >= 3 * above:
            return where
        return first

    def _spoilt(self, line: Line) -> bool:
        """Whether a line has numbers, and in the first place something else, and is no axis of a matrix."""
        if len(line.fields) != self.count or not any(map(is_value, line.fields)):
            return False
        others = [f for j, f in enumerate(line.fields) if j != self.lead]
        rising = len(others) > 1 and steps(others) is not None
        return not (rising and not any(c.isdigit() for c in line.fields[self.lead]))

    def _names(self, line: Line) -> bool:
        return (
            is_words(line, self.count)
            and all(f.lower() not in MISSING for f in line.fields[1:])
            and len(set(line.fields)) == self.count
            and not is_units(line)
        )

    def _end(self, lines: list[Line], first: int) -> int:
        """The index behind the last row: what stands below it does not begin with a number."""
        if self.how.footer is not None:
            return len(lines)
        end = self._other_table(lines, first)
        # Rows of a long run that was ended early: a time, and nothing measured.
        while end > first + 1 and self._unmeasured(lines[end - 1]):
            end -= 1
        while end > first + 1 and self._below(lines[end - 1]):
            end -= 1
        if end < len(lines):
            below = lines[end:]
            many = (
                f"{len(below)} lines below the table, from"
                if len(below) > 1
                else "below the table:"
            )
            self.notes.append(f"footer: {many} {below[0]}")
        return end

    def _other_table(self, lines: list[Line], first: int) -> int:
        """The index of the text below an empty line with which something else begins; of the end, if nothing does.

        **Raises:** `InputError` where that is another table, of which nobody said that it is not meant.
        """
        last = next(
            (
                i
                for i in range(first + 2, len(lines))
                if lines[i].number > lines[i - 1].number + 1 and self._below(lines[i])
            ),
            len(lines),
        )
        rows = [i for i in range(last, len(lines)) if self._is_row(lines[i])]
        if 2 * len(rows) >= last - first >= 3:
            raise InputError(
                f"{self.file}:{lines[rows[0]].number} data: another table of {len(rows)} rows below the one of "
                f"{last - first}, from {lines[last]} on. Say which with skip or footer, or part the file."
            )
        return last

    def _unmeasured(self, line: Line) -> bool:
        """Whether a line has less fields than rows, and a number in the first alone."""
        others = [
            f for i, f in enumerate(line.fields) if i != self.lead and f.lower() not in MISSING
        ]
        return len(line.fields) < self.count and self.count > 2 and not others

    def _is_row(self, line: Line) -> bool:
        return len(line.fields) == self.count and is_value(line.fields[self.lead])

    def _below(self, line: Line) -> bool:
        lead = line.fields[self.lead] if self.lead < len(line.fields) else line.fields[0]
        if not self.columns or is_value(lead) or any(is_value(f) for f in line.fields[:1]):
            return False
        letters = sum(c.isalpha() for c in lead)
        if len(line.fields) == self.count and any(is_value(line.fields[j]) for j in self.columns):
            return bool(_SUMMARIES.fullmatch(lead.strip()))
        if not any(c.isalnum() for c in line.text):
            return not any(f in MISSING for f in line.fields) or len(line.fields) != self.count
        return letters >= 2 and letters > sum(c.isdigit() for c in lead)
