"""Confidence intervals by the covariance."""

from collections.abc import Sequence

import numpy as np

from .intervals import Intervals
from .quantities import covariance, quantile, quantities, values
from .record import AbstractLeastSquares


def covariance_intervals(
    fit: AbstractLeastSquares,
    level: float,
    names: str | Sequence[str] | None,
    rhs: int | Sequence[int] | None,
) -> Intervals:
    """`value +/- quantile * stderr`; NaN where the standard error is withheld."""
    chosen = quantities(fit, names, rhs)
    at = values(fit, chosen)
    half = quantile(fit, level) * np.sqrt(np.diag(covariance(fit, chosen)))
    notes = tuple("bound" if np.isnan(h) and fit.dof > 0 else "" for h in half)
    labels = tuple(one.label for one in chosen)
    return Intervals(labels, at, at - half, at + half, level, "covariance", notes, notes)
