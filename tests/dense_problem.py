"""What fits with rules are compared with: one dense problem of all numbers, with the rules written into it.

Nothing of it is compiled, and nothing of it is the library's.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares


class Dense(NamedTuple):
    """An optimum of all numbers z (n,) together, from J^T J there."""

    z: np.ndarray
    stderr: np.ndarray
    covariance: np.ndarray
    chisq: float
    dof: int


def slopes(curve: Callable[[np.ndarray], np.ndarray], z: np.ndarray) -> np.ndarray:
    """The Jacobian (m, n) of a curve of analytic functions by complex steps, which are exact."""
    steps = 1e-30j * np.eye(z.size)
    return np.stack([np.ravel(curve(z + h)).imag / 1e-30 for h in steps], axis=1)


def dense(
    curve: Callable[[np.ndarray], np.ndarray],
    y: np.ndarray,
    start: np.ndarray | list[float],
    weights: np.ndarray | float = 1.0,
    known: bool = False,
) -> Dense:
    """The least squares of `weights * (curve(z) - y)`, arrays of any one shape; `known`: weights are inverse
    standard deviations, so that no residual scales the errors. What a prior says is one more value of all."""
    weighted = lambda z: np.ravel(curve(z) * weights)  # noqa: E731
    wanted = np.ravel(y * weights)
    best = least_squares(
        lambda z: weighted(z) - wanted,
        np.asarray(start, float),
        lambda z: slopes(weighted, z),
        **{"method": "lm", "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15},
    )
    jac = slopes(weighted, best.x)
    chisq, dof = 2 * best.cost, jac.shape[0] - jac.shape[1]
    size = np.linalg.norm(jac, axis=0)
    covariance = np.linalg.inv((jac / size).T @ (jac / size)) / size / size[:, None]
    covariance = covariance if known else covariance * chisq / dof
    return Dense(best.x, np.sqrt(np.diag(covariance)), covariance, chisq, dof)
