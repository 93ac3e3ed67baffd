"""What the text of a field means: a number in one of the ways in which they are written, a date, or
nothing."""

import functools
import re

import numpy as np

from .date_text import is_date

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
