"""The optimum of a fit on the host, and the covariance of whatever one asks of it.

Of q parameter values and n k coefficients no matrix of all is ever formed: every quantity is a row
of derivatives by alpha and, for a coefficient, a share in the independent part of its right-hand
side (see `varpro._statistics.covariance`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from .._parameters.layout import Numbers
from .._types import ArrayIn
from .covariance import CovarianceBlocks


class Optimum(eqx.Module):
    """What refits and errors need of a solution, as host arrays.

    **Fields:** `alpha`, `lower`, `upper`: the free coordinates and their bounds (p,); `numbers` that
    go with the layout; `priors`: indices of parameters that have one; `transform` (q, p):
    derivative of the parameter values by alpha; `blocks` of the covariance for unit noise, columns
    in the order in which the model computes them.
    """

    alpha: Float[ArrayIn, " p"]
    lower: Float[ArrayIn, " p"]
    upper: Float[ArrayIn, " p"]
    numbers: Numbers
    priors: tuple[int, ...] = eqx.field(static=True)
    transform: Float[ArrayIn, "q p"]
    blocks: CovarianceBlocks


class Quantity(NamedTuple):
    """One real number of a fit: a parameter value, or a (part of a) coefficient.

    `index` counts the q parameters if `rhs` is None, else the n columns of data set `part` as its model
    computes them.
    """

    label: str
    index: int
    rhs: int | None = None
    imag: bool = False
    part: int = 0


def roots(
    optimum: Optimum, chosen: Sequence[Quantity], parts: Sequence[Optimum] | None = None
) -> np.ndarray:
    """Rows (r, s) whose products are the covariances of the quantities by way of alpha, for unit noise,
    coefficients following as they must; columns are those of the rows of `blocks.half`, which are the same
    directions in all data sets. `parts`: the optimum of each data set, this one if it is the only one."""
    parts = (optimum,) if parts is None else parts
    half = np.asarray(optimum.blocks.half, float)
    rows = np.zeros((len(chosen), len(half)))
    transform = np.asarray(optimum.transform)
    for i, one in enumerate(chosen):
        if one.rhs is None:
            rows[i] = transform[one.index] @ half.T
        else:
            blocks = parts[one.part].blocks
            slope = np.asarray(blocks.sensitivity)[one.rhs, one.index]
            rows[i] = -np.real(_phase(one) * slope) @ np.asarray(blocks.half, float).T
    return rows


def unit_covariance(
    optimum: Optimum, chosen: Sequence[Quantity], parts: Sequence[Optimum] | None = None
) -> np.ndarray:
    """Joint covariance (r, r) of the quantities for unit noise: infinite variances of what the data
    do not determine, NaN for what depends on a coordinate that is on its bound. `parts` as in `roots`."""
    parts = (optimum,) if parts is None else parts
    rows = roots(optimum, chosen, parts)
    joint = rows @ rows.T
    transform = np.asarray(optimum.transform)
    lost, bound = np.zeros(len(chosen), bool), np.zeros(len(chosen), bool)
    together: dict[tuple[int, int], list[int]] = {}
    for i, one in enumerate(chosen):
        if one.rhs is None:
            moves = transform[one.index] != 0
            lost[i] = moves @ np.asarray(optimum.blocks.lost_alpha)
            bound[i] = moves @ np.asarray(optimum.blocks.on_bound)
            continue
        together.setdefault((one.part, one.rhs), []).append(i)
        blocks = parts[one.part].blocks
        own = one.rhs if len(np.asarray(blocks.gram_inv)) > 1 else 0
        # A coefficient that leans on an undetermined parameter is undetermined too.
        leans = np.asarray(blocks.sensitivity)[one.rhs, one.index] != 0
        lost[i] = np.asarray(blocks.lost_coef)[own, one.index] | (
            leans @ np.asarray(blocks.lost_alpha)
        )
        bound[i] = np.asarray(blocks.held_coef)[own, one.index]
    for (part, rhs), some in together.items():
        # E[Re(a e) Re(b e)] = Re(a G b*) for circular e of covariance 2 G; a = -i for imaginary parts.
        gram_inv = np.asarray(parts[part].blocks.gram_inv)
        gram_inv = gram_inv[rhs if len(gram_inv) > 1 else 0]
        index, phase = [chosen[i].index for i in some], np.array([_phase(chosen[i]) for i in some])
        share = np.real(phase[:, None] * gram_inv[np.ix_(index, index)] * phase.conj())
        joint[np.ix_(some, some)] += share
        coupling = parts[part].blocks.coupling
        if coupling is not None:
            _couple(joint, np.asarray(coupling), part, rhs, some, chosen)
    joint[np.diag_indices(len(chosen))] = np.where(lost, np.inf, np.diag(joint))
    joint[bound] = joint[:, bound] = np.nan
    return joint


def _couple(
    joint: np.ndarray,
    coupling: np.ndarray,
    part: int,
    rhs: int,
    some: Sequence[int],
    chosen: Sequence[Quantity],
) -> None:
    """Add what penalties make coefficients `some` of one right-hand side share with those of later ones."""
    for i in some:
        for j, other in enumerate(chosen):
            if other.part == part and other.rhs is not None and other.rhs > rhs:
                share = coupling[rhs, chosen[i].index] @ coupling[other.rhs, other.index]
                joint[i, j] -= share
                joint[j, i] -= share


def _phase(one: Quantity) -> float | complex:
    return -1j if one.imag else 1.0


def scaled(variance: np.ndarray, scale: float) -> np.ndarray:
    """Variances times the variance of the noise.

    Infinite ones stay infinite for a perfect fit; a zero residual gives no error estimate: NaN.
    """
    scale = scale if scale > 0 else np.nan
    return np.where(np.isinf(variance), np.inf, variance * scale)
