"""The uncertainty of the fitted curve, and of its components, at any x.

With d c_j = -G_j d alpha + e_j (see `varpro._statistics.covariance`), the curve of right-hand side j moves by

    d mu_j = (Phi' c_j + phi0' - Phi G_j) d alpha + Phi e_j

so its variance is a sum of squares over p directions of alpha, each one derivative of the model
along (h, -G h) for a row h of the root of cov(alpha), plus that of Phi e_j. No matrix larger than
the answer is made, and no m x m one. Bates and Watts, Nonlinear Regression Analysis (1988), 2.3.
"""

import dataclasses
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from .._errors import InputError
from .._given.containers import real_numbers
from .._problem.columns import Assembled
from .._problem.padding import filled_positions
from .._problem.side_groups import Groups, each_basis, laid_out, scattered
from .._programs.program import program
from .._types import ArrayIn, precision
from ..basis import at_side, without_names
from .covariance import CovarianceBlocks
from .joint_covariance import Optimum
from .quantities import noise_variance, quantile
from .record import Fitted
from .student import check_level

BandKind = Literal["confidence", "prediction"]
# Of a change of the curve by all parameters, the share (squared) by what the data leave open from
# which on the curve counts as not determined.
_LOST = 1e-6


class Band(eqx.Module):
    """A curve and how well it is known, arrays of one shape.

    **Fields:** `value`; `stderr`, its standard error (of a prediction, with the noise of one new
    observation); `lower` and `upper`, the limits at `level`; `kind`. Limits hold at each x for
    itself, not for all at once. Of complex data `stderr` holds for the real and for the imaginary
    part, each as real and imaginary part of itself, and so do the limits.
    """

    value: np.ndarray
    stderr: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    level: float
    kind: BandKind

    def __repr__(self) -> str:
        """Its level and kind, and the range of its half width."""
        half = np.abs(self.upper - self.lower) / 2
        shape = " x ".join(map(str, half.shape)) or "1"
        text = f"{100 * self.level:g} % {self.kind} band of {shape} values"
        known = half[np.isfinite(half)]
        if not known.size:
            return f"{text}, not determined by the data"
        low, high = float(known.min()), float(known.max())
        return f"{text}: +/- {low:.2g}" + (f" to {high:.2g}" if high > low else "")


def band(
    fit: Fitted,
    x: PyTree = None,
    *,
    level: float = 0.95,
    kind: BandKind = "confidence",
    sigma: np.ndarray | float | None = None,
) -> Band:
    """The fitted curve at `x` with a pointwise band; described in `FitResult.predict`."""
    check_level(level, "band")
    x, single = (None, False) if x is None else fit.positions(x)
    value, variance = _spread(fit, x, apart=False)
    value, variance = value[0], variance[0]
    if kind == "prediction":
        variance = variance + _new_noise(fit, x, sigma, value.shape[0])
    return _only(_band(fit, value, variance, level, kind), single)


def _only(band: Band, single: bool) -> Band:
    """The band of the only position of a number."""
    return (
        jax.tree.map(lambda a: a[0] if isinstance(a, np.ndarray) else a, band) if single else band
    )


def component_bands(fit: Fitted, x: PyTree = None, *, level: float = 0.95) -> dict[str, Band]:
    """The contribution of each column at `x` with a pointwise confidence band, by name."""
    check_level(level, "band")
    x, single = (None, False) if x is None else fit.positions(x)
    value, variance = _spread(fit, x, apart=True)
    names = [fit.model.columns[i] for i in fit.model.order]
    rows = list(fit.model.order)
    if value.shape[0] > len(rows):
        names, rows = [*names, "offset"], [*rows, len(rows)]
    return {
        name: _only(_band(fit, value[i], variance[i], level, "confidence"), single)
        for name, i in zip(names, rows, strict=True)
    }


def leverage(fit: Fitted) -> np.ndarray:
    """How much of each weighted datum (m, k) is in its own fitted value, 0 to 1: the variance of the
    curve there for unit noise. Their sum is the number of parameters that the data determine.

    Where the data leave the curve open it is 1.
    """
    _, variance = _spread(fit, None, apart=False)
    h = variance[0].mean(axis=0)
    if fit.weights is not None:
        weights = fit.weights.reshape(len(h), -1)
        h = np.where(weights > 0, h * weights**2, 0.0)
    return np.clip(np.nan_to_num(h, nan=1.0, posinf=1.0), 0.0, 1.0)


def _band(
    fit: Fitted, value: np.ndarray, variance: np.ndarray, level: float, kind: BandKind
) -> Band:
    scale = noise_variance(fit)
    with np.errstate(invalid="ignore"):
        # A zero residual gives no error estimate, as for standard errors.
        stderr = np.sqrt(variance * (scale if scale > 0 else np.nan))
    if np.iscomplexobj(value):
        stderr = stderr[0] + 1j * stderr[1]
    else:
        stderr = stderr[0]
    if fit.coef.ndim == 1:
        value, stderr = value[:, 0], stderr[:, 0]
    half = quantile(fit, level) * stderr
    return Band(value, stderr, value - half, value + half, level, kind)


def _new_noise(fit: Fitted, x: PyTree, sigma: np.ndarray | float | None, m: int) -> np.ndarray:
    """Variance of one new observation (m, 1), in units of `noise_variance`."""
    if sigma is None:
        if fit.weights is None:
            return np.ones((m, 1))
        if x is not None:
            raise InputError(
                "The noise at new positions is not known: the data have weights. Give "
                "predict(..., sigma=) there, in the same units as sigma or 1/weights of the fit."
            )
        with np.errstate(divide="ignore"):
            return (1.0 / fit.weights.reshape(m, -1)) ** 2
    given = real_numbers("sigma", sigma).astype(float)
    if given.shape not in ((), (m,)) or not np.all(given > 0):
        raise InputError(
            f"sigma must be one positive number or an array ({m},) of them, one per position; it "
            f"has shape {given.shape}."
        )
    return np.broadcast_to(given, (m,))[:, None] ** 2


def _spread(fit: Fitted, x: PyTree, apart: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values (s, m, k), and variances (s, parts, m, k) of real and imaginary part for unit noise;
    s = 1 for the sum of all, else the columns and the offset."""
    dtype, optimum = fit.alpha.dtype, fit.optimum
    x = fit.x if x is None else x
    order = np.argsort(fit.model.order)  # to the order in which the model computes columns
    coef = fit.coef.reshape(len(fit.columns), -1)[order]
    with precision(dtype):
        model, groups = laid_out(fit.model, fit.layout, fit.alpha)
        x, m = filled_positions(model, x)
        columns = Assembled(without_names(model), without_names(fit.layout), optimum.numbers, x, ())
        lost = bool(np.any(optimum.blocks.lost_alpha) or np.any(optimum.blocks.lost_coef))
        value, variance = _variance.on_host(columns, optimum, coef, groups, apart, lost)
    return value[:, :m], variance[:, :, :m]


@program
def _variance(
    columns: Assembled,
    optimum: Optimum,
    coef: Inexact[ArrayIn, "n k"],
    groups: Groups,
    apart: bool,
    lost: bool,
) -> tuple[Array, Array]:
    blocks = jax.tree.map(jnp.asarray, optimum.blocks)
    alpha, coef = jnp.asarray(optimum.alpha), jnp.asarray(coef)
    if not groups:
        return _variance_of_one(columns, alpha, blocks, coef, apart, lost)

    def one(members):
        of_each = ("gram_inv", "sensitivity", "null_coef", "unit_coef", "lost_coef", "held_coef")
        own = {key: getattr(blocks, key)[members] for key in of_each}
        mine = dataclasses.replace(blocks, **own), coef[:, members]
        return _variance_of_one(at_side(columns, members[0]), alpha, *mine, apart, lost)

    value, variance = zip(*each_basis(groups, one), strict=True)
    count = coef.shape[1]
    return scattered(groups, value, 2, count), scattered(groups, variance, 3, count)


def _variance_of_one(
    columns: Assembled,
    alpha: Float[Array, " p"],
    blocks: CovarianceBlocks,
    coef: Inexact[Array, "n k"],
    apart: bool,
    lost: bool,
) -> tuple[Array, Array]:
    """The same of right-hand sides that have one basis."""

    def curves(alpha, coef):
        phi, offset = columns.phi(alpha), columns.offset(alpha)
        if not apart:
            total = (phi @ coef)[None]
            return total if offset is None else total + offset[:, None]
        each = phi.T[:, :, None] * coef[:, None, :]
        if offset is None:
            return each
        offset = jnp.broadcast_to(offset[:, None], each.shape[1:]).astype(each.dtype)
        return jnp.concatenate([each, offset[None]])

    value = curves(alpha, coef)

    def along(directions):
        """Sum of squares of the curves' derivatives along each row, coefficients following."""

        def add(total, h):
            follow = -(blocks.sensitivity @ h.astype(blocks.sensitivity.dtype)).T
            _, moved = jax.jvp(curves, (alpha, coef), (h, follow.astype(coef.dtype)))
            return total + _parts(moved), None

        start = jnp.zeros_like(_parts(value))
        return jax.lax.scan(add, start, directions)[0] if alpha.size else start

    phi = columns.phi(alpha)
    if jnp.iscomplexobj(phi) and not jnp.iscomplexobj(coef):
        seen = [phi.real, phi.imag]
    else:
        seen = [phi.astype(coef.dtype)]

    def linear(gram):
        """The variance by changes of the coefficients of covariance `gram` (g, n, n), independent of
        alpha: that of the real, and of the imaginary part; of complex coefficients both are alike."""
        return jnp.stack([part(gram, phi) for phi in seen], axis=1)

    def part(gram, phi):
        def one(gram):
            if not apart:
                return jnp.maximum(jnp.sum((phi @ gram) * phi.conj(), axis=1).real, 0.0)[None]
            square = jnp.abs(phi.T) ** 2 * jnp.diag(gram).real[:, None]
            none = jnp.zeros((value.shape[0] - square.shape[0], square.shape[1]), square.dtype)
            return jnp.concatenate([square, none])

        return jnp.moveaxis(jax.lax.map(one, gram), 0, -1)

    variance = along(blocks.half) + linear(blocks.gram_inv)
    if lost:
        # What the data leave open matters only where it moves the curve.
        null, unit = blocks.null_coef, jax.vmap(jnp.diag)(blocks.unit_coef).astype(coef.dtype)
        open_ = along(blocks.null_alpha) + linear(null @ null.conj().swapaxes(1, 2))
        every = along(jnp.diag(blocks.unit_alpha)) + linear(unit**2) + open_
        variance = jnp.where(open_ > _LOST * every, jnp.inf, variance)
    return value, variance


def _parts(a: Inexact[Array, "s m k"]) -> Float[Array, "s parts m k"]:
    """Squares of the real, and of the imaginary part."""
    parts = (a.real, a.imag) if jnp.iscomplexobj(a) else (a,)
    return jnp.stack([part**2 for part in parts], axis=1)
