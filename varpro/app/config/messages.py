"""What is said about wrong input, in one line that names the place and what would be right there."""

import difflib
from collections.abc import Iterable

from pydantic_core import PydanticCustomError

from .document import Document, Key, in_one_line


def nearest(word: str, known: Iterable[str]) -> str:
    """The sentence after an unknown word: the nearest known one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    if not close:  # exponential is called exp, and poly polynomial
        close = [k for k in known if min(len(k), len(word)) > 2 and _begins(k, word)][:1]
    if close:
        return f"Did you mean '{close[0]}'?"
    ellipsis = ", ..." if len(known) > 12 else ""
    return f"Known: {', '.join(known[:12])}{ellipsis}." if known else "There are none here."


def _begins(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{message}", {"message": message})


def shown(value: object) -> str:
    if isinstance(value, dict):
        return "keys"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else f"'{in_one_line(str(value))}'"


def complain(document: Document, key: Key, message: str) -> str:
    """One problem in one line, as every problem of a configuration is told."""
    return " ".join(f"{document.where(key)}: {message}".split())
