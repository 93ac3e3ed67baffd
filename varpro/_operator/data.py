"""Data of a model whose matrix is an operator: whatever that returns, an image, or a dict of arrays."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._given.arguments import shown
from .._given.containers import numbers_of, real_numbers, truth_of
from .._problem.options import Weighting


class OperatorData(NamedTuple):
    """Data `y`, and `weights` like them or None; both pytrees of arrays, finite where they are in use.

    `count`: how many real numbers of weight above zero there are among them; `real`: the type in which to
    compute; `absolute`: whether sigma is known.
    """

    y: PyTree
    weights: PyTree | None
    count: int
    real: np.dtype
    absolute: bool


def operator_data(y: Any, weighting: Weighting, parts: type | None = None) -> OperatorData:
    """Data as arrays, with their weights. `parts`: list or tuple where the operator returns one, for a list of
    arrays is one array too.

    **Raises:** `InputError` for what is no number, for shapes that do not fit y, for sigma that is not
    positive, weights that are negative, and values in use that are not finite (unless they are dropped).
    """
    if weighting.sigma is not None and weighting.weights is not None:
        raise InputError(
            "Give either sigma (standard deviations) or weights (1/sigma), not both.",
            argument="weights",
        )
    if parts is not None and isinstance(y, list | tuple):
        tree = parts(_tree(f"y[{i}]", one) for i, one in enumerate(y))
    else:
        tree = _tree("y", y)
    single = all(leaf.dtype in (np.float32, np.complex64) for leaf in jax.tree.leaves(tree))
    real = np.dtype(np.float32 if single else np.float64)
    tree = jax.tree.map(
        lambda a: a.astype(np.result_type(real, a.dtype if np.iscomplexobj(a) else real)), tree
    )
    weights = None
    if weighting.sigma is not None:
        sigma = _like("sigma", weighting.sigma, tree, real_numbers)
        _all(sigma, lambda a: (a > 0) & np.isfinite(a), "sigma", "positive and finite")
        weights = jax.tree.map(lambda a: 1.0 / a, sigma)
    if weighting.weights is not None:
        weights = _like("weights", weighting.weights, tree, real_numbers)
        _all(weights, lambda a: (a >= 0) & np.isfinite(a), "weights", "finite, and not negative")
    used = jax.tree.map(lambda a: np.ones(a.shape, bool), tree)
    if weights is not None:
        used = jax.tree.map(lambda w: w > 0, weights)
    if weighting.mask is not None:
        mask = _like("mask", weighting.mask, tree, lambda what, a: truth_of(what, a).values)
        used = jax.tree.map(np.logical_and, used, mask)
    finite = jax.tree.map(np.isfinite, tree)
    lost = sum(int(np.sum(u & ~f)) for u, f in _pairs(used, finite))
    if lost and weighting.nan == "raise":
        raise InputError(
            f"y has {lost} values that are not finite. Leave them out with nan='drop', or with a mask.",
            argument="y",
        )
    used = jax.tree.map(np.logical_and, used, finite)
    if not all(leaf.all() for leaf in jax.tree.leaves(used)):
        given = jax.tree.map(lambda u: np.ones(u.shape), used) if weights is None else weights
        weights = jax.tree.map(lambda w, u: np.where(u, w, 0.0), given, used)
        tree = jax.tree.map(lambda a, u: np.where(u, a, np.zeros((), a.dtype)), tree, used)
    if weights is not None:
        weights = jax.tree.map(lambda w: np.asarray(w, real), weights)
    count = sum(
        int(np.sum(u)) * (2 if np.iscomplexobj(a) else 1)
        for a, u in zip(jax.tree.leaves(tree), jax.tree.leaves(used), strict=True)
    )
    if not count:
        raise InputError("No value of y is in use: all have weight zero.", argument="y")
    return OperatorData(tree, weights, count, real, weighting.variance_known)


def _tree(what: str, value: Any) -> PyTree:
    """The arrays of a dict, or of a tuple of arrays; else one array."""
    if isinstance(value, Mapping):
        if not value:
            raise InputError(f"{what} is an empty dict.", argument="y")
        return {key: _tree(f"{what}[{key!r}]", one) for key, one in value.items()}
    parts = isinstance(value, tuple) and value
    if parts and all(isinstance(a, Mapping) or getattr(a, "ndim", 0) > 0 for a in value):
        return tuple(_tree(f"{what}[{i}]", one) for i, one in enumerate(value))
    return numbers_of(what, value).values


def _like(what: str, given: Any, y: PyTree, read: Callable[[str, Any], np.ndarray]) -> PyTree:
    """Arrays like those of y; one number stands for all of a part."""
    if isinstance(y, Mapping):
        if not isinstance(given, Mapping):
            return {key: _like(what, given, one, read) for key, one in y.items()}
        if set(given) != set(y):
            raise InputError(
                f"{what} has the parts {', '.join(map(str, given))}, but y has {', '.join(map(str, y))}.",
                argument=what,
            )
        return {key: _like(f"{what}[{key!r}]", given[key], one, read) for key, one in y.items()}
    if isinstance(y, list | tuple):
        each = isinstance(given, tuple | type(y)) and len(given) == len(y)
        every = given if each else [given] * len(y)
        return type(y)(_like(what, a, b, read) for a, b in zip(every, y, strict=True))
    if isinstance(given, Mapping):
        raise InputError(f"{what} is a dict, but y is one array.", argument=what)
    array = read(what, given)
    if array.ndim in (0, y.ndim):
        try:
            return np.broadcast_to(array, y.shape)
        except ValueError:
            pass
    raise InputError(
        f"{what} has shape {array.shape}, but what it belongs to in y has {y.shape}. Give that shape, or one "
        f"number, not {shown(given)}.",
        argument=what.partition("[")[0],
    )


def _all(tree: PyTree, sound: Callable[[np.ndarray], np.ndarray], what: str, be: str) -> None:
    bad = sum(int(np.sum(~sound(leaf))) for leaf in jax.tree.leaves(tree))
    if bad:
        raise InputError(f"{what} must be {be}; {bad} of its values are not.", argument=what)


def _pairs(one: PyTree, other: PyTree) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
