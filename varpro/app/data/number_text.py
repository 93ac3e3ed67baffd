"""What the text of a field means: a number in one of the ways in which they are written, a date, or
nothing."""

import functools
import re
from collections.abc import Sequence

import numpy as np

# What programs write where nothing was measured.
MISSING = frozenset(
    (
        *(
            "",
            "nan",
            "na",
            "n/a",
            "#n/a",
            "#na",
            "n.a.",
            "<na>",
            "-",
            "--",
            "---",
            "\u2013",
            "\u2014",
        ),
        *("null", "none", "nil", "missing", "nd", "n.d.", "nat", "1.#qnan", "1.#ind", "-1.#ind"),
        *("#num!", "#value!", "#div/0!", "#ref!", "#null!", "?", "*", "...", "overflow", "ovrflw"),
    )
)
# Letters of a number, beyond which it is looked at by Python's own reader alone: patterns take longer than
# their text is long.
_LONGEST = 80
_COMMA_DECIMAL = re.compile(r"[-+]?[0-9]*,[0-9]+([eE][-+]?[0-9]+)?")
# Fortran's double precision: 1.0D-03.
_FORTRAN = re.compile(r"([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))[dD]([-+]?[0-9]+)")
# Digits in threes with blanks or apostrophes between, which mean nothing else.
_SPACED = re.compile(
    r"[-+]?[0-9]{1,3}(?:[ \u00a0\u2009\u202f'’][0-9]{3})+(?:[.,][0-9]*)?(?:[eE][-+]?[0-9]+)?"
)
_SPACES = str.maketrans("", "", " \u00a0\u2009\u202f'’")
_DATE = re.compile(
    r"(?:(?P<iso>[0-9]{4})[-/.](?P<month>[0-9]{1,2})[-/.](?P<day>[0-9]{1,2})"
    r"|(?P<first>[0-9]{1,2})(?P<sign>[-/.])(?P<second>[0-9]{1,2})(?P=sign)(?P<year>[0-9]{4}|[0-9]{2}))"
    r"(?P<time>[ T,]+[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?[AaPp][Mm])?(?:Z|[-+][0-9]{2}:?[0-9]{2})?)?"
)
_TIME = re.compile(
    r"([0-9]{1,3}):([0-9]{2})(?::([0-9]{2}(?:[.,][0-9]+)?))?(?: ?([AaPp])\.?[Mm]\.?)?"
)


def as_float(text: str) -> float | None:
    """A number written with a point, also as Fortran writes it and with a minus sign of print, NaN for one
    that is missing; None for anything else."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        pass
    if len(text) > _LONGEST:
        return None
    if text.strip().lower() in MISSING:
        return np.nan
    if "\u2212" in text:
        return as_float(text.replace("\u2212", "-"))
    if match := _FORTRAN.fullmatch(text):
        return float(f"{match[1]}e{match[2]}")
    return None


def as_number(text: str) -> float | None:
    """The value of a field whose column is not known: commas are decimals or thousands as far as one can
    tell, which is enough to tell numbers from words."""
    value = as_float(text)
    if value is not None or len(text) > _LONGEST:
        return value
    if _SPACED.fullmatch(text):
        return as_number(without_blanks(text))
    if _COMMA_DECIMAL.fullmatch(text):
        return float(text.replace(",", "."))
    for thousands, sign in ((",", "."), (".", ",")):
        if grouped(thousands, sign).fullmatch(text):
            return float(text.replace(thousands, "").replace(sign, "."))
    return None


def as_written(text: str, decimal: str, thousands: str | None) -> float | None:
    """The value of a field whose signs are known; thousands None are the other sign, where in threes."""
    if text.strip().lower() in MISSING:
        return np.nan
    text = without_blanks(text) if thousands is None else text
    other = "," if decimal == "." else "."
    if thousands is not None:
        text = text.replace(thousands, "")
    elif other in text:
        if not grouped(other, decimal).fullmatch(text):
            return None
        text = text.replace(other, "")
    if decimal == ",":
        if "." in text:
            return None
        text = text.replace(",", ".")
    return as_float(text)


_COMPLEX = re.compile(r"\(?\s*[-+]?[0-9.][^jJiI]*?[-+][^jJiI]*[jJiI]\s*\)?")


def as_complex(text: str) -> complex | None:
    """A complex number as programs write them, 1+2j, 1 - 2i or (1+2j); None for anything else."""
    if len(text) > _LONGEST or not _COMPLEX.fullmatch(text):
        return None
    try:
        bare = text.strip(" ()").replace(" ", "").replace("+-", "-")
        return complex(bare.lower().replace("i", "j"))
    except ValueError:
        return None


def without_blanks(text: str) -> str:
    """A number without blanks and apostrophes between its thousands; any other text as it is."""
    return text.translate(_SPACES) if len(text) <= _LONGEST and _SPACED.fullmatch(text) else text


def is_value(text: str) -> bool:
    """Whether a field holds a number, real or complex, or a date, and not nothing."""
    number = as_number(text)
    if number is None:
        return is_date(text) or as_complex(text) is not None
    return not (np.isnan(number) and text.strip().lower() in MISSING)


def is_date(text: str) -> bool:
    """Whether a field holds a date, a time of day, or both."""
    if len(text) > _LONGEST:
        return False
    return ":" in text and bool(_TIME.fullmatch(text)) or bool(_DATE.fullmatch(text))


def seconds_since(first: str, texts: Sequence[str]) -> np.ndarray:
    """Dates, or times of day, as seconds since the first; a missing one is NaN.

    **Raises:** `ValueError` with the reason: days and months that cannot be told apart, a time that goes
    back behind midnight, a date that there is not.
    """
    given = [first, *texts]
    there = [text.strip().lower() not in MISSING for text in given]
    found = [text for text, is_there in zip(given, there, strict=True) if is_there]
    if all(_TIME.fullmatch(text) for text in found):
        seconds = np.array([_of_day(text) for text in found])
        if (np.diff(seconds) < -43200).any():
            raise ValueError("the time of day goes past midnight; write the date beside it")
    else:
        import pandas as pd

        day_first = _day_first(found)
        try:
            # The year first, whoever wrote it: pandas takes the day of 2024-02-01 for the month where it is
            # told that days come first.
            written = [_year_first(text, day_first) for text in found]
            stamps = pd.to_datetime(written, format="mixed", utc=True, yearfirst=True)
        except (ValueError, OverflowError) as error:
            raise ValueError(str(error).split(". You might")[0][:120]) from None
        # Whole nanoseconds: seconds since 1970 would cost the last digits of short ones.
        ticks = stamps.as_unit("ns").asi8
        seconds = (ticks - ticks[0]) / 1e9
    values = np.full(len(given), np.nan)
    values[np.array(there)] = seconds
    return values[1:] - values[0]


def _of_day(text: str) -> float:
    match = _TIME.fullmatch(text)
    assert match is not None
    hours, seconds = int(match[1]), float((match[3] or "0").replace(",", "."))
    if match[4]:  # 12 am is midnight, 12 pm is noon
        hours = hours % 12 + 12 * (match[4] in "pP")
    return 3600 * hours + 60 * int(match[2]) + seconds


def _year_first(text: str, day_first: bool) -> str:
    """A date with the year first, then month and day, and the time as it was."""
    match = _DATE.fullmatch(text)
    if match is None:
        return text
    time = (match["time"] or "").replace(
        ",", " ", 1 if (match["time"] or "").startswith(",") else 0
    )
    time = time.replace(",", ".").lstrip(" T")
    if match["iso"]:
        year, month, day = match["iso"], match["month"], match["day"]
    else:
        day, month = match["first"], match["second"]
        day, month = (day, month) if day_first else (month, day)
        # Of two digits from 1969 to 2068, as POSIX has it.
        year = match["year"]
        year = year if len(year) == 4 else f"{'19' if int(year) > 68 else '20'}{year}"
    return f"{year}-{int(month):02d}-{int(day):02d} {time}".rstrip()


def _day_first(texts: Sequence[str]) -> bool:
    """Whether 3.4.2024 is in April. A point is written by those who write the day first."""
    matches = [match for text in texts if (match := _DATE.fullmatch(text)) and match["first"]]
    if not matches or any(match["sign"] == "." or int(match["first"]) > 12 for match in matches):
        return True
    if any(int(match["second"]) > 12 for match in matches):
        return False
    if len({(match["first"], match["second"]) for match in matches}) == 1:
        if matches[0]["first"] == matches[0]["second"] or len(matches) == len(texts):
            return True  # all on one day: whichever it is, what lies between them is the same
    raise ValueError("day and month cannot be told apart; write 2024-12-31")


@functools.cache
def grouped(thousands: str, decimal: str) -> re.Pattern[str]:
    """Numbers of 1,000 or more, their digits in threes."""
    t, d = re.escape(thousands), re.escape(decimal)
    return re.compile(rf"[-+]?[1-9][0-9]{{0,2}}({t}[0-9]{{3}})+({d}[0-9]*)?([eE][-+]?[0-9]+)?")


@functools.cache
def plain_number(decimal: str) -> re.Pattern[str]:
    d = re.escape(decimal)
    return re.compile(rf"[-+]?([0-9]+{d}?[0-9]*|{d}[0-9]+)([eE][-+]?[0-9]+)?")


def decimal_comma(text: str) -> bool:
    """Whether a number has a decimal comma and could not have a comma of thousands."""
    return bool(_COMMA_DECIMAL.fullmatch(text)) and not grouped(",", ".").fullmatch(text)
