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

    `index` counts the q parameters if `rhs` is None, else the n columns as the model computes them.
    """

    label: str
    index: int
    rhs: int | None = None
    imag: bool = False


def gradient(optimum: Optimum, chosen: Sequence[Quantity]) -> np.ndarray:
    """Derivatives (r, p) of the quantities by alpha, coefficients following as they must."""
    rows = np.zeros((len(chosen), optimum.alpha.size))
    values, linear, index, rhs, phase = _sorted(chosen)
    rows[values] = np.asarray(optimum.transform)[[chosen[i].index for i in values]]
    rows[linear] = -np.real(phase[:, None] * np.asarray(optimum.blocks.sensitivity)[rhs, index])
    return rows


def unit_covariance(optimum: Optimum, chosen: Sequence[Quantity]) -> np.ndarray:
    """Joint covariance (r, r) of the quantities for unit noise: infinite variances of what the data
    do not determine, NaN for what depends on a coordinate that is on its bound."""
    blocks = optimum.blocks
    values, linear, index, rhs, phase = _sorted(chosen)
    rows = gradient(optimum, chosen) @ np.asarray(blocks.half, float).T
    joint = rows @ rows.T
    # E[Re(a e) Re(b e)] = Re(a G b*) for circular e of covariance 2 G; a = -i for imaginary parts.
    gram_inv = np.asarray(blocks.gram_inv)
    own = rhs if len(gram_inv) > 1 else np.zeros_like(rhs)
    share = np.real(phase[:, None] * gram_inv[own[:, None], index[:, None], index] * phase.conj())
    joint[np.ix_(linear, linear)] += share * (rhs[:, None] == rhs)
    moves = np.asarray(optimum.transform)[[chosen[i].index for i in values]] != 0
    leans = np.asarray(blocks.sensitivity)[rhs, index] != 0
    lost, bound = np.zeros(len(chosen), bool), np.zeros(len(chosen), bool)
    lost[values] = moves @ np.asarray(blocks.lost_alpha)
    bound[values] = moves @ np.asarray(blocks.on_bound)
    # A coefficient that leans on an undetermined parameter is undetermined too.
    lost[linear] = np.asarray(blocks.lost_coef)[own, index] | (
        leans @ np.asarray(blocks.lost_alpha)
    )
    bound[linear] = np.asarray(blocks.held_coef)[own, index]
    joint[np.diag_indices(len(chosen))] = np.where(lost, np.inf, np.diag(joint))
    joint[bound] = joint[:, bound] = np.nan
    return joint


def scaled(variance: np.ndarray, scale: float) -> np.ndarray:
    """Variances times the variance of the noise.

    Infinite ones stay infinite for a perfect fit; a zero residual gives no error estimate: NaN.
    """
    scale = scale if scale > 0 else np.nan
    return np.where(np.isinf(variance), np.inf, variance * scale)


def _sorted(chosen: Sequence[Quantity]) -> tuple[np.ndarray, ...]:
    """Places of parameter values and of coefficients; index, right-hand side and phase of these."""
    values = np.array([i for i, one in enumerate(chosen) if one.rhs is None], int)
    linear = np.array([i for i, one in enumerate(chosen) if one.rhs is not None], int)
    index = np.array([chosen[i].index for i in linear], int)
    rhs = np.array([chosen[i].rhs for i in linear], int)
    return values, linear, index, rhs, np.where([chosen[i].imag for i in linear], -1j, 1.0)
