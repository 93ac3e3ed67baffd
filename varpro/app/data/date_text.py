"""Dates and times of day as people and programs write them, and as seconds since the first.

A date that could be read in two ways is refused: what is read is never a guess.
"""

import re
from collections.abc import Sequence

import numpy as np

# Letters of a date, beyond which none is looked for: patterns take longer than their text is long.
_LONGEST = 60
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?"
_ZONE = r"(?: ?[ap]\.?m\.?)?(?: ?(?:z|utc|gmt|[-+][0-9]{2}:?[0-9]{2}))?"
_AFTER = rf"(?:[ t,:]+(?P<time>{_CLOCK}{_ZONE}))?"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}[.,]{0,2} ?)?"
_DAY, _NAME = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th|\.)?", r"(?P<name>[^\W\d_]{3,9})\.?"
_YEAR = r"(?P<year>[0-9]{4}|[0-9]{2})"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<iso>[0-9]{{4}})[-/.](?P<month>[0-9]{{1,2}})[-/.](?P<day>[0-9]{{1,2}}){_AFTER}",
        rf"(?P<first>[0-9]{{1,2}})(?P<sign>[-/.])(?P<second>[0-9]{{1,2}})(?P=sign){_YEAR}{_AFTER}",
        # 19-Sep-03, 19. September 2003, 19Sep2003, Fri, 19 Sep 2003
        rf"{_WEEKDAY}{_DAY}[-/ ]?{_NAME}[-/, ]{{0,2}}{_YEAR}{_AFTER}",
        # Sep 19, 2003, September-19-2003
        rf"{_WEEKDAY}{_NAME}[-/ ]{_DAY}(?:, ?|[-/ ]){_YEAR}{_AFTER}",
        # Fri Sep 19 10:31:00 2003
        rf"{_WEEKDAY}{_NAME} {{1,2}}{_DAY} (?P<time>{_CLOCK})(?: [a-z]{{3,4}})? {_YEAR}",
        rf"(?P<iso>[0-9]{{4}})[-/. ]?{_NAME}[-/ ]?{_DAY}{_AFTER}",
        # Months alone.
        rf"{_NAME}[-/, ]{{0,2}}(?P<iso>[0-9]{{4}})",
        rf"(?P<iso>[0-9]{{4}})[-/ ]{_NAME}",
        r"(?P<iso>1[5-9][0-9]{2}|2[01][0-9]{2})[-/](?P<month>0[1-9]|1[0-2])",
        # Which of the two it is, a day or a year, other rows tell.
        rf"{_NAME}[-/ ](?P<either>[0-9]{{1,2}})",
        rf"(?P<either>[0-9]{{1,2}})[-/ ]{_NAME}",
    )
)
_DIGIT = re.compile("[0-9]")
_COMPACT = re.compile(r"(?P<iso>19[0-9]{2}|20[0-9]{2})(?P<month>[0-9]{2})(?P<day>[0-9]{2})")
_TIME = re.compile(
    r"([0-9]{1,3}):([0-9]{2})(?::([0-9]{2}(?:[.,][0-9]+)?))?(?: ?([AaPp])\.?[Mm]\.?)?"
)
# English and German, short and in full.
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar jän",
            "feb february februar",
            "mar march mär märz mrz",
            "apr april",
            "may mai",
            "jun june juni",
            "jul july juli",
            "aug august",
            "sep sept september",
            "oct october okt oktober",
            "nov november",
            "dec december dez dezember",
        ),
        start=1,
    )
    for name in names.split()
}


def is_date(text: str) -> bool:
    """Whether a field holds a date, a time of day, or both."""
    return ":" in text and _is_time(text) or not text.isdigit() and _parts(text) is not None


def is_compact(text: str) -> bool:
    """Whether eight digits could be a date, 20240131; whether they are one, the name of their column tells."""
    match = _COMPACT.fullmatch(text)
    return match is not None and 0 < int(match["month"]) < 13 and 0 < int(match["day"]) < 32


def seconds_since(first: str, texts: Sequence[str]) -> np.ndarray:
    """Dates, or times of day, as seconds since the first; NaN where a text is empty.

    **Raises:** `ValueError` with the reason: days, months and years that cannot be told apart, a time that
    goes back behind midnight, a date that there is not.
    """
    given = [first, *texts]
    found = [text for text in given if text]
    if all(map(_is_time, found)):
        seconds = np.array([_of_day(text) for text in found])
        if (np.diff(seconds) < -43200).any():
            raise ValueError("the time of day goes past midnight; write the date beside it")
    else:
        import pandas as pd

        try:
            # The year first, whoever wrote it: pandas takes the day of 2024-02-01 for the month where it is
            # told that days come first.
            written = _years_first(found)
            stamps = pd.to_datetime(written, format="mixed", utc=True, yearfirst=True)
        except (ValueError, OverflowError) as error:
            raise ValueError(str(error).split(". You might")[0][:120]) from None
        # Whole nanoseconds: seconds since 1970 would cost the last digits of short ones.
        ticks = stamps.as_unit("ns").asi8
        seconds = (ticks - ticks[0]) / 1e9
    values = np.full(len(given), np.nan)
    values[np.array([bool(text) for text in given])] = seconds
    return values[1:] - values[0]


def _is_time(text: str) -> bool:
    return len(text) <= _LONGEST and _TIME.fullmatch(text) is not None


def _of_day(text: str) -> float:
    match = _TIME.fullmatch(text)
    assert match is not None
    hours, seconds = int(match[1]), float((match[3] or "0").replace(",", "."))
    if match[4]:  # 12 am is midnight, 12 pm is noon
        hours = hours % 12 + 12 * (match[4] in "pP")
    return 3600 * hours + 60 * int(match[2]) + seconds


def _parts(text: str) -> dict[str, str] | None:
    """What a date says: month and day, `first` and `second` of them, the year as `iso` or of two or four
    digits, the time, and `either` a day or a year; None for anything else."""
    if len(text) > _LONGEST or _DIGIT.search(text) is None:
        return None
    for pattern in (_COMPACT,) if text.isdigit() else _DATES:
        if match := pattern.fullmatch(text):
            parts = {key: part for key, part in match.groupdict().items() if part}
            if "name" not in parts:
                return parts
            if number := _MONTHS.get(parts["name"].lower()):
                return parts | {"month": str(number)}
    return None


def _years_first(texts: Sequence[str]) -> list[str]:
    """Dates with year, month and day in this order, and the time as it was.

    **Raises:** `ValueError` where these cannot be told apart.
    """
    dates = [_parts(text) for text in texts]
    there = [date for date in dates if date is not None]
    day_first, year_last = _day_first(there), _year_last(there)
    _refuse_either(there)
    written = []
    for text, date in zip(texts, dates, strict=True):
        if date is None:
            written.append(text)
            continue
        day, month = date.get("day", "1"), date.get("month", "")
        year = date.get("iso") or date.get("year") or date.get("either", "")
        if "first" in date:
            day, month = date["first"], date["second"]
            day, month = (day, month) if day_first else (month, day)
        elif not year_last and len(year) == 2 and "name" in date:
            day, year = year, day
        if len(year) == 2:  # from 1969 to 2068, as POSIX has it
            year = f"{'19' if int(year) > 68 else '20'}{year}"
        time = date.get("time", "").replace(",", ".")
        written.append(f"{year}-{int(month):02d}-{int(day):02d} {time}".rstrip())
    return written


def _day_first(dates: Sequence[dict[str, str]]) -> bool:
    """Whether 3.4.2024 is in April. A point is written by those who write the day first."""
    some = [date for date in dates if "first" in date]
    if not some or any(date["sign"] == "." or int(date["first"]) > 12 for date in some):
        return True
    if any(int(date["second"]) > 12 for date in some):
        return False
    if len({(date["first"], date["second"]) for date in some}) == 1:
        if some[0]["first"] == some[0]["second"] or len(some) == len(dates):
            return True  # all on one day: whichever it is, what lies between them is the same
    raise ValueError("day and month cannot be told apart; write 2024-12-31")


def _year_last(dates: Sequence[dict[str, str]]) -> bool:
    """Whether 19-Sep-03 is of 2003, as nearly all who name the month write it."""
    some = [date for date in dates if "name" in date and len(date.get("year", "")) == 2]
    firsts, lasts = {date["day"] for date in some}, {date["year"] for date in some}
    if any(int(day) > 31 for day in firsts):
        return False
    if len(some) > 2 and len(firsts) == 1 and len(lasts) > 2 and all(int(y) < 32 for y in lasts):
        raise ValueError("day and year cannot be told apart; write 2024-12-31")
    return True


def _refuse_either(dates: Sequence[dict[str, str]]) -> None:
    """**Raises:** `ValueError` where a number beside the name of a month may be a day or a year."""
    some = [int(date["either"]) for date in dates if "either" in date]
    if some and (max(some) < 32 or len(some) < len(dates)):
        raise ValueError("day and year cannot be told apart; write 2024-12-31")
