"""Derived quantities of many curves, each with its error.

A `BatchFit` holds the errors of its curves and not their covariance, which is made anew here from model,
parameters and coefficients, for the noise that those errors stand for: where all samples of a curve have
one weight, the covariance for unit noise differs from that by one factor, the same for all parameters.
Where it is not the same, samples had weights of their own, and these must be given.

Where curves share parameters, what all others say of these is information of its own for each curve: with S_i the
Schur complement of curve i, its own parameters and coefficients eliminated, rows E with E^T E = sum_j S_j - S_i
stand below its Jacobian, and its covariance is the block of that of all curves together. As in the errors of such a
fit, the noise of a curve is that of its own residual, and that of what all share is that of all: the covariance for
unit noise is what it is with shared parameters held, times the one, and the rest times the other.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._given.containers import real_numbers
from .._parameters.layout import Layout, Numbers
from .._problem.columns import Assembled
from .._problem.linear_constraints import Linear
from .._problem.problem import Problem
from .._programs.program import program
from .._reduced.common_basis import Point, Reduced
from .._statistics.covariance import covariance_blocks, parameter_covariance
from .._statistics.derivation import Derivation, Named, Recipe, named, names_asked, recipe
from .._statistics.derived import joint, part_of
from .._statistics.derived_result import Derived
from .._types import ArrayIn, precision
from ..basis import Model, without_names
from ..linalg import SVD

# Curves in one call, numbers of data in one, the part by which variances may differ (batches use normal
# equations), and the share of curves in which they may.
_BLOCK, _MEMORY, _SAME, _SOME = 1024, 2**22, 0.02, 0.05


def derive_each(
    fit: Any, numbers: Numbers | None, what: Derivation, sigma: Any, weights: Any
) -> Derived:
    """The quantities of each curve of a `BatchFit`; described in `BatchFit.derive`."""
    if fit.own_positions is not None or fit.ruled:
        raise InputError(
            "Curves with positions of their own, relations or penalties are derived from one by one: "
            "fit[i, j].derive(...)."
        )
    models = named(fit.model)
    asked = recipe(what, models.names)
    layout: Layout = fit.layout
    if layout.tied and numbers is None:
        raise InputError("This fit was saved without the numbers of its ties. Fit anew.")
    b, q, n = fit.status.size, len(fit.names), len(fit.columns)
    m = len(jax.tree.leaves(fit.x)[0])
    given = _weights(sigma, weights, fit.shape, m)
    dtype = fit.alpha.dtype
    if numbers is None:
        empty = np.zeros(q, dtype)
        numbers = Numbers(
            empty, empty - np.inf, empty + np.inf, empty, empty + np.inf, empty + 1, empty
        )
    alpha = fit.alpha.reshape(b, q)
    stored = fit.alpha_stderr.reshape(b, q), fit.coef_stderr.reshape(b, n)
    coef = fit.coef.reshape(b, n)[:, np.argsort(fit.model.order)]
    plain = dataclasses.replace(
        without_names(layout), above=(), has_ceiling=(), exchange=(), pivots=()
    )
    on_bound = np.isnan(stored[0][:, list(layout.free)])
    good = fit.success.ravel()
    # Where a coefficient stands on its bound its error is withheld, and with it those of what follows.
    sure = good & ~np.isnan(stored[1]).any(axis=1)
    size = int(np.clip(_MEMORY // max(m, 1), 1, min(_BLOCK, b)))
    # Curves that ended nowhere are computed with another one's numbers, and are NaN.
    place = np.where(good, np.arange(b), np.flatnonzero(good)[0] if good.any() else 0)
    names: tuple[str, ...] = ()
    with precision(dtype):
        names = names_asked(models, asked, [alpha[0]], [coef[0]])
        model = plain, without_names(fit.model), fit.x, numbers

        def by_blocks(function: Any) -> list[np.ndarray]:
            blocks: list[Any] = []
            for first in range(0, b, size):
                rows = place[np.minimum(np.arange(first, first + size), b - 1)]
                mine = None if given is None else given if given.ndim == 1 else given[rows]
                out = function(rows, (alpha[rows], coef[rows], on_bound[rows], mine))
                blocks.append([a[: b - first] for a in out])
            return [np.concatenate(a) for a in zip(*blocks, strict=True)]

        others, places = None, ()
        if fit.shared:
            places = tuple(j for j, i in enumerate(layout.free) if fit.names[i] in fit.shared)
            (each,) = by_blocks(lambda _, some: [_information.on_host(places, *model, *some)])
            each = np.where(good[:, None, None], each, 0.0)
            others = _roots(each.sum(axis=0) - each, places, len(layout.free), dtype)

        def derived(rows: np.ndarray, some: tuple[Any, ...]) -> Any:
            beside = None if others is None else others[rows]
            return _block.on_host(models, asked, names, places, *model, *some, beside)

        value, *units = by_blocks(derived)
    shown = np.concatenate([stored[0], stored[1][:, np.argsort(fit.model.order)]], axis=1)
    own, own_variance = units[0], np.concatenate(units[1:3], axis=1)
    common = 0.0
    if others is not None:
        # What is shared alone tells the noise of all.
        whole = np.concatenate(units[4:6], axis=1)
        at = [layout.free[j] for j in places]
        with np.errstate(all="ignore"):
            common = float(np.nanmedian(shown[good][:, at] ** 2 / whole[good][:, at]))
            shown = np.sqrt(shown**2 - common * (whole - own_variance))
    factor = _noise(shown, own_variance, sure)
    value = np.where(good[:, None], value, np.nan)
    covariance = own * factor[:, None, None]
    if others is not None:
        with np.errstate(invalid="ignore"):
            covariance = covariance + common * (units[3] - own)
        covariance = np.where(np.isinf(own), own, covariance)
    covariance = np.where(sure[:, None, None], covariance, np.nan)
    r = len(names)
    return Derived(
        names,
        np.moveaxis(value.reshape(*fit.shape, r), -1, 0).astype(float),
        covariance.reshape(*fit.shape, r, r).astype(float),
        float("nan"),
    )


def _weights(sigma: Any, weights: Any, shape: tuple[int, ...], m: int) -> np.ndarray | None:
    """Weights (m,) or (b, m) of what was given; None for none."""
    if sigma is not None and weights is not None:
        raise InputError("Give sigma or weights, not both.")
    if sigma is None and weights is None:
        return None
    what, value = ("sigma", sigma) if sigma is not None else ("weights", weights)
    array = np.asarray(real_numbers(what, value), float)
    try:
        whole = np.broadcast_to(array, (m,) if array.ndim < 2 else (*shape, m))
    except ValueError:
        raise InputError(
            f"{what} has shape {array.shape}; expected a number, {(m,)} or {(*shape, m)}.",
            argument=what,
        ) from None
    with np.errstate(divide="ignore"):
        whole = whole if sigma is None else 1.0 / whole
    return whole if whole.ndim == 1 else whole.reshape(-1, m)


def _roots(matrices: np.ndarray, places: tuple[int, ...], p: int, dtype: np.dtype) -> np.ndarray:
    """Rows (b, s, p) whose products are these matrices (b, s, s) at some places of p."""
    values, vectors = np.linalg.eigh(matrices)
    rows = np.zeros((len(matrices), len(places), p), dtype)
    rows[:, :, list(places)] = np.sqrt(np.maximum(values, 0.0))[:, :, None] * vectors.swapaxes(1, 2)
    return rows


def _noise(shown: np.ndarray, unit: np.ndarray, good: np.ndarray) -> np.ndarray:
    """The variance of the noise (b,) for unit weights, from the errors of a fit and those for unit noise."""
    with np.errstate(all="ignore"):
        ratio = shown**2 / unit
    ratio = np.where(np.isfinite(ratio) & (ratio > 0), ratio, np.nan)
    known = ~np.isnan(ratio).all(axis=1)
    middle = np.full(len(good), np.nan)
    middle[known] = np.nanmedian(ratio[known], axis=1)
    away = np.abs(ratio / middle[:, None] - 1) > _SAME
    some = np.any(away, axis=1)[good & known]
    if some.size and np.mean(some) > _SOME:
        raise InputError(
            "The errors of these curves are not those of samples of equal weight. Give sigma= or weights= "
            "as to the fit; of noise='poisson' the root of what is fitted, sigma=np.sqrt(fit.predict())."
        )
    return middle


class _Curve(NamedTuple):
    """One curve at its optimum: its columns, its coordinates (p,), the reduced problem and its point."""

    columns: Assembled
    alpha: Array
    reduced: Reduced
    point: Point


def _at(
    layout: Layout, model: Model, x: PyTree, numbers: Numbers, values: Array, c: Array, weights: Any
) -> _Curve:
    """A curve without noise that has these parameter values (q,) and coefficients (n,)."""
    columns = Assembled(model, layout, dataclasses.replace(numbers, start=values), x, ())
    at = values[np.array(layout.free, int)]
    phi = columns.phi(at)
    real = jnp.iscomplexobj(phi) and not jnp.iscomplexobj(c)
    y = phi @ c
    offset = columns.offset(at)
    y = y if offset is None else y + offset
    problem = Problem(columns, y[:, None], weights, Linear(real=real))
    reduced = Reduced(problem, SVD(), "kaufman")
    return _Curve(columns, at, reduced, reduced.evaluate(at)[1])


@program
def _information(
    places: tuple[int, ...],
    layout: Layout,
    model: Model,
    x: PyTree,
    numbers: Numbers,
    alpha: ArrayIn,
    coef: ArrayIn,
    on_bound: ArrayIn,
    weights: ArrayIn | None,
) -> Array:
    """What each curve says of the coordinates at `places` (b, s, s), for unit noise, all else eliminated."""

    def one(values, c, held, weights):
        curve = _at(layout, model, x, numbers, values, c, weights)
        jac = jnp.where(held, 0.0, curve.reduced.rotated(curve.alpha, curve.point)[0])
        own = [j for j in range(curve.alpha.size) if j not in places]
        jac = jac[:, np.array([*own, *places])]
        # Rows of zeros, so that there is a triangle of any curve.
        jac = jnp.concatenate([jac, jnp.zeros((jac.shape[1], jac.shape[1]), jac.dtype)])
        corner = jnp.linalg.qr(jac, mode="r")[len(own) :, len(own) :]
        return corner.T @ corner

    return _each(one, alpha, coef, on_bound, weights)


def _each(
    one: Any, alpha: ArrayIn, coef: ArrayIn, on_bound: ArrayIn, weights: ArrayIn | None, *more: Any
) -> Any:
    """`one` of every curve; `weights` of all, or of each."""
    own = weights is not None and weights.ndim == 2
    axes = (0, 0, 0, 0 if own else None, *(0 for _ in more))
    args = (alpha, coef, on_bound, weights, *more)
    return jax.vmap(one, axes)(*(None if a is None else jnp.asarray(a) for a in args))


@program
def _block(
    models: Named,
    asked: Recipe,
    names: tuple[str, ...],
    places: tuple[int, ...],
    layout: Layout,
    model: Model,
    x: PyTree,
    numbers: Numbers,
    alpha: ArrayIn,
    coef: ArrayIn,
    on_bound: ArrayIn,
    weights: ArrayIn | None,
    others: ArrayIn | None,
) -> tuple[Array, ...]:
    """Values (b, r), covariance for unit noise (b, r, r), and variances of parameters and coefficients, with the
    coordinates at `places` held; with `others` (b, s, p), rows that say what other curves tell of these, the last three
    again with them free."""

    def one(values, c, held, weights, *beside):
        columns, at, reduced, point = _at(layout, model, x, numbers, values, c, weights)
        blocks = covariance_blocks(reduced, at, point, held)
        transform = jax.jacfwd(columns.values)(at)

        def told(blocks):
            part = part_of(values, c[None], transform, blocks)
            part = part._replace(**{key: getattr(part, key)[0] for key in part.along()})
            value, unit = joint(models, asked, names, [part])
            return value, unit, blocks.value_variance(transform), blocks.coef_variance()[:, 0]

        if not beside:
            return told(blocks)
        rows = jnp.concatenate([reduced.rotated(at, point)[0], *beside])
        known = jnp.zeros(held.shape, bool).at[np.array(places)].set(True)

        def with_rows(flags):
            found = dataclasses.replace(parameter_covariance(rows, flags), on_bound=held)
            return dataclasses.replace(blocks, **vars(found))

        return (*told(with_rows(held | known)), *told(with_rows(held))[1:])

    more = () if others is None else (others,)
    return _each(one, alpha, coef, on_bound, weights, *more)
