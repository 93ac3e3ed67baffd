"""The exceptions of the project: bad input is an `InputError` at the door, before any compute."""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class VarproError(Exception):
    """Base class of every exception that varpro raises on purpose."""


class InputError(VarproError, ValueError):
    """Something given is wrong; the message names what came, what was expected and what to do.

    `argument` is the argument of `varpro.fit` that it is about, "data" for all of the data, and `name`
    the parameter, column, pattern or data set in it; None where it is about no single one.
    """

    def __init__(self, message: str, *, argument: str | None = None, name: str | None = None):
        ValueError.__init__(self, message)
        self.argument, self.name = argument, name


# What a complex model of real data is told, wherever that shows.
REAL_DATA = (
    "The model is complex, but y is real. Give y as complex numbers, or a real model such as "
    "vp.Oscillation."
)


class FitError(VarproError, RuntimeError):
    """A fit did not converge and `throw=True` was asked for. `.fit` holds the best point found."""

    def __init__(self, message: str, fit: object = None):
        super().__init__(message)
        self.fit = fit


def suggestion(word: str, known: Iterable[str]) -> str:
    """The sentence that follows an unknown name: the nearest known one, and all when few."""
    known, word = sorted(map(str, known)), str(word)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    if not known:
        return "There are none here."
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"Known: {shown}."


def needed(package: str, purpose: str) -> Any:
    """Import an optional package, or say how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{purpose} needs {package}, which is not installed. Install it with "
            f"'pip install {package}'."
        ) from error
