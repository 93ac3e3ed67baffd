"""Derived quantities: numbers that follow from the parameters and coefficients of a fit, with errors.

For g(values, c) of the q parameter values and the coefficients c of one right-hand side, with
d values = T d alpha and d c = -G d alpha + e (see `varpro._statistics.covariance`),

    d g = (g_values T - Re(g_c G)) d alpha + Re(g_c e)

so that its variance is a sum of squares, and no covariance of all parameters is formed. The derivatives
of g are exact. A parameter on a bound counts as fixed there, as in bands. Where what the data leave open
moves g, its variance is infinite; a sum of two amplitudes may be known where neither is.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._programs.program import program
from .._types import ArrayIn, precision
from ..basis import without_names
from .covariance import CovarianceBlocks
from .derivation import Derivation, Named, Recipe, named, names_asked, recipe
from .derived_result import Derived
from .joint_covariance import Optimum, scaled
from .quantities import noise_dof, noise_variance, picks_of
from .record import AbstractLeastSquares, Fitted

# Of the change of a quantity by all parameters, the share (squared) by what the data leave open from which
# on it counts as not determined.
_LOST = 1e-6


def derive(fit: AbstractLeastSquares, what: Derivation) -> Derived:
    """The quantities of a fit; described in `FitResult.derive`."""
    models = models_of(fit)
    asked = recipe(what, models.names)
    parts = []
    for one in fit.parts.values():
        part = of_right_hand_sides(one, jax.tree.map(np.asarray, one.optimum))
        if not isinstance(fit, Fitted):
            part = part._replace(**{name: getattr(part, name)[:1] for name in part.along()})
        parts.append(part)
    return as_derived(
        *found(models, asked, tuple(parts), fit.alpha.dtype),
        noise_variance(fit),
        noise_dof(fit),
        not isinstance(fit, Fitted) or fit.coef.ndim == 1,
    )


def models_of(fit: AbstractLeastSquares) -> Named:
    """The models of all data sets of a fit, with the names that their numbers have there."""
    if isinstance(fit, Fitted):
        return named(fit.model)
    parts = list(fit.parts.values())
    places: list[tuple[str, int, int]] = []
    for name in fit.names:
        for s, (key, one) in enumerate(fit.parts.items()):
            own = name.removeprefix(key)
            if own in one.names and (own == name or name not in one.names):
                places.append((name, s, one.names.index(own)))
                break
    return Named(
        tuple(without_names(one.model) for one in parts),
        tuple(fit.parts),
        tuple(places),
        tuple(one.model.columns if one.coef.ndim == 1 else None for one in parts),
        tuple(tuple(group.components for group in one.model.groups) for one in parts),
    )


def values_along(
    fit: AbstractLeastSquares, what: Derivation, alpha: np.ndarray, coefs: Sequence[np.ndarray]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and values (b, r) for b sets of parameters (b, q) and, of each data set, of coefficients (b, n),
    in the order of the user."""
    models, picks = models_of(fit), picks_of(fit)
    asked = recipe(what, models.names)
    parts = list(fit.parts.values())
    coefs = [c[:, np.argsort(one.model.order)] for c, one in zip(coefs, parts, strict=True)]
    values = [alpha[:, list(own)] for own in picks]
    with precision(fit.alpha.dtype):
        names = names_asked(models, asked, [v[0] for v in values], [c[0] for c in coefs])
        return names, _along.on_host(models, asked, names, values, coefs)


@program
def _along(
    models: Named,
    asked: Recipe,
    names: tuple[str, ...],
    values: Sequence[ArrayIn],
    coefs: Sequence[ArrayIn],
) -> Array:
    def one(values: list[Array], coefs: list[Array]) -> Array:
        out = asked(models.numbers(values, coefs))
        return jnp.stack([jnp.asarray(out[name], values[0].dtype) for name in names])

    return jax.vmap(one)([*map(jnp.asarray, values)], [*map(jnp.asarray, coefs)])


class Part(NamedTuple):
    """What one data set gives: its parameters (q,), their derivative `transform` (q, p) by the coordinates,
    `half`, `null_alpha`, `unit_alpha`, `on_bound` of these (see `ParameterCovariance`), and for each of k
    right-hand sides coefficients (k, n) with `gram_inv`, `sensitivity`, `null_coef`, `unit_coef` and
    `held_coef` (see `CoefficientCovariance`)."""

    values: Any
    transform: Any
    half: Any
    null_alpha: Any
    unit_alpha: Any
    on_bound: Any
    coef: Any
    gram_inv: Any
    sensitivity: Any
    null_coef: Any
    unit_coef: Any
    held_coef: Any

    @classmethod
    def along(cls) -> tuple[str, ...]:
        """The fields that differ between right-hand sides."""
        return ("coef", "gram_inv", "sensitivity", "null_coef", "unit_coef", "held_coef")


def of_right_hand_sides(fit: Fitted, optimum: Optimum) -> Part:
    """What the covariance of a fit says of all of its right-hand sides."""
    coef = fit.coef.reshape(len(fit.columns), -1)[np.argsort(fit.model.order)].T
    return part_of(fit.alpha, coef, optimum.transform, optimum.blocks)


def part_of(values: Any, coef: Any, transform: Any, blocks: CovarianceBlocks) -> Part:
    """The part of one data set, coefficients (k, n) as the model computes columns."""
    k = coef.shape[0]

    def wide(a: Any) -> Any:
        # On the host nothing is compiled for it.
        xp = np if isinstance(a, np.ndarray) else jnp
        return xp.broadcast_to(a, (k, *a.shape[1:]))

    return Part(
        *(values, transform, blocks.half, blocks.null_alpha, blocks.unit_alpha, blocks.on_bound),
        *(coef, wide(blocks.gram_inv), wide(blocks.sensitivity), wide(blocks.null_coef)),
        *(wide(blocks.unit_coef), wide(blocks.held_coef)),
    )


def found(
    models: Named, asked: Recipe, parts: tuple[Part, ...], dtype: np.dtype
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names, values (k, r), and covariance for unit noise (k, r, r)."""
    with precision(dtype):
        names = names_asked(
            models, asked, [part.values for part in parts], [part.coef[0] for part in parts]
        )
        value, unit = _joint.on_host(models, asked, names, parts)
    return names, np.asarray(value, float), np.asarray(unit, float)


def as_derived(
    names: tuple[str, ...],
    value: np.ndarray,
    unit: np.ndarray,
    variance: float,
    dof: float,
    single: bool,
) -> Derived:
    """Numbers as a result, for the variance of the noise."""
    covariance = scaled(unit, variance)
    if single:
        return Derived(names, value[0], covariance[0], dof)
    spread = np.diagonal(covariance, axis1=1, axis2=2)
    same = (value == value[0]).all(axis=0) & ((spread == spread[0]) | np.isnan(spread)).all(axis=0)
    return Derived(names, value.T, covariance, dof, tuple(map(bool, same)))


@program
def _joint(
    models: Named, asked: Recipe, names: tuple[str, ...], parts: tuple[Part, ...]
) -> tuple[Array, Array]:
    """Values (k, r) and covariance for unit noise (k, r, r)."""
    axes = Part(*(0 if field in Part.along() else None for field in Part._fields))
    return jax.vmap(lambda *some: joint(models, asked, names, some), (axes,) * len(parts))(*parts)


def joint(
    models: Named, asked: Recipe, names: tuple[str, ...], parts: Sequence[Part]
) -> tuple[Array, Array]:
    """Values (r,) and covariance for unit noise (r, r) of one right-hand side of each data set."""
    parts = [jax.tree.map(jnp.asarray, part) for part in parts]

    def at(values: Any, halves: Any) -> tuple[Array, Array]:
        coef = [c[0] if len(c) == 1 else jax.lax.complex(*c) for c in halves]
        out = asked(models.numbers(values, coef))
        value = jnp.stack([jnp.asarray(out[name], values[0].dtype) for name in names])
        return value, value  # to be differentiated, and as it is: one trace makes both

    values = [part.values for part in parts]
    halves = [(p.coef.real, p.coef.imag) if jnp.iscomplexobj(p.coef) else (p.coef,) for p in parts]
    (by_values, by_halves), value = jax.jacfwd(at, (0, 1), has_aux=True)(values, halves)
    by_coef = [d[0] if len(d) == 1 else d[0] - 1j * d[1] for d in by_halves]
    slopes = [
        a @ part.transform - (b @ part.sensitivity).real
        for a, b, part in zip(by_values, by_coef, parts, strict=True)
    ]

    def spread(rows: str, gram: Callable[[Part], Array]) -> Array:
        # The rows of `half` of several data sets stand for the same directions.
        along = [s @ getattr(part, rows).T for s, part in zip(slopes, parts, strict=True)]
        moved = jnp.sum(jnp.stack(along), axis=0)
        own = sum((b @ gram(p) @ b.conj().T).real for b, p in zip(by_coef, parts, strict=True))
        return moved @ moved.T + own

    found = spread("half", lambda part: part.gram_inv)
    # What the data leave open matters only where it moves the quantity.
    open_ = jnp.diag(spread("null_alpha", lambda part: part.null_coef @ part.null_coef.conj().T))
    every = open_ + sum(
        jnp.sum((s * part.unit_alpha) ** 2, axis=1)
        + jnp.sum(jnp.abs(b * part.unit_coef) ** 2, axis=1)
        for s, b, part in zip(slopes, by_coef, parts, strict=True)
    )
    diagonal = jnp.where(open_ > _LOST * every, jnp.inf, jnp.diag(found))
    # Nothing but what is held on a bound moves it: there is no error to be told.
    held = sum(
        jnp.any(((a @ part.transform) != 0) & part.on_bound, axis=1)
        | jnp.any((b != 0) & part.held_coef, axis=1)
        for a, b, part in zip(by_values, by_coef, parts, strict=True)
    )
    diagonal = jnp.where((held > 0) & (diagonal == 0), jnp.nan, diagonal)
    return value, jnp.fill_diagonal(found, diagonal, inplace=False)
