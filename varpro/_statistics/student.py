"""Levels of confidence, and how many standard errors they reach."""

import numpy as np

from .._errors import InputError
from .._given.arguments import number


def student(dof: float, level: float) -> float:
    """The two-sided quantile of Student's t; of the normal distribution for infinite `dof`."""
    from scipy.special import ndtri, stdtrit  # takes a while to import

    check_level(level)
    tail = 0.5 * (1.0 + level)
    if np.isinf(dof):
        return float(ndtri(tail))
    return float(stdtrit(dof, tail)) if dof > 0 else float("nan")


def check_level(level: float, what: str = "level") -> None:
    """Refuse what is no probability between 0 and 1."""
    if not 0.0 < number(what, level) < 1.0:
        raise InputError(f"{what} must lie between 0 and 1, such as 0.95; {level!r} was given.")
