"""Components that have run together: two that are one, with coefficients that cancel.

Where the data tell of fewer components than the model has, a search may move two of them to one spot: their
difference is then the derivative of a column by its parameters, with coefficients that grow without
limit. The cost has no minimum there, only ever smaller steps, so that a search that ends has not converged.
"""

from collections.abc import Collection

import numpy as np
from jaxtyping import Bool, Float, Inexact, PyTree

from ..basis import Model, at_side

# The sum of two coefficients over the larger, and the squared sine of the angle between their columns, below
# which they are one component. In single precision a search on its way there ends earlier, in rounding.
_CANCELLED, _SINE = 3e-3, 1e-6
_CANCELLED_SINGLE, _SINE_SINGLE = 5e-2, 1e-3
# Columns that are made at a time.
_AT_ONCE = 1024


def run_together(
    model: Model,
    x: PyTree,
    values: np.ndarray,
    coef: Inexact[np.ndarray, "b n k"],
    free: Collection[int],
) -> Bool[np.ndarray, " b"]:
    """Which of b fits have two components on one spot, from parameters `values` (b, q), coefficients in the
    order in which the model computes columns, and the indices of parameters that were `free`."""
    found, first = np.zeros(len(values), bool), 0
    single = values.dtype == np.float32
    cancelled, sine = (_CANCELLED_SINGLE, _SINE_SINGLE) if single else (_CANCELLED, _SINE)
    for group in model.groups:
        members = range(group.width if group.formula.elementwise and group.keys else 0)
        for i in members:
            for j in range(i + 1, len(members)):
                if any(ids[i] in free or ids[j] in free for ids in group.index):
                    a, b = coef[:, first + i], coef[:, first + j]
                    size = np.maximum(np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1))
                    with np.errstate(invalid="ignore"):
                        suspect = np.linalg.norm(a + b, axis=-1) < cancelled * size
                    at = np.flatnonzero(suspect & ~found)
                    for begin in range(0, at.size, _AT_ONCE):
                        some = at[begin : begin + _AT_ONCE]
                        found[some] = _sine(group, x, values[some], i, j) < sine
        first += group.width
    return found


def _sine(group, x: PyTree, values: np.ndarray, i: int, j: int) -> Float[np.ndarray, " b"]:
    """The squared sine of the angle between columns i and j of a group, for each row of `values`."""

    def columns(member: int) -> np.ndarray:
        local = {
            key: values[:, ids[member]] for key, ids in zip(group.keys, group.index, strict=True)
        }
        made = np.asarray(at_side(group.formula, 0).evaluate(x, local))
        return made / np.maximum(np.linalg.norm(made, axis=0), np.finfo(made.dtype).tiny)

    a, b = columns(i), columns(j)
    apart = b - a * np.sum(a.conj() * b, axis=0)
    return np.sum(np.abs(apart) ** 2, axis=0)
