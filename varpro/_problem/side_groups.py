"""Right-hand sides gathered by basis, where a dispersion gives them different ones.

Those at one place along the dispersion have one basis, and one factorisation serves them. Where all its
coefficients are held, equal times zero and widths are one place, whatever the wavelengths are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from .._parameters.layout import Layout
from .._types import ArrayIn
from ..basis import AbstractResponse, Model, at_side, sides_in

Groups = tuple[Int[ArrayIn, "g s"], ...]
"""Numbers of right-hand sides that have one basis, a row for each basis, in stacks of one size; none where
all have the same."""


def laid_out(model: Model, layout: Layout, values: np.ndarray) -> tuple[Model, Groups]:
    """A model that knows the places of right-hand sides, and how these are gathered, for parameters that have
    `values` (q,) where they are held; the model of the only place where there is one."""
    if not sides_in(model):
        return model, ()
    places = np.unique(np.stack(_rows(model, layout, values)), axis=1, return_inverse=True)[1]
    members: dict[int, list[int]] = {}
    for j, place in enumerate(np.ravel(places).tolist()):
        members.setdefault(place, []).append(j)
    if len(members) == 1:
        return at_side(model, 0), ()
    by_size: dict[int, list[list[int]]] = {}
    for some in members.values():
        by_size.setdefault(len(some), []).append(some)
    return model, tuple(np.array(some, np.int32) for some in by_size.values())


def middle(model: Model) -> Model:
    """The model of one right-hand side, of that in the middle of the dispersion, to look at."""
    known = sides_in(model)
    if not known:
        return model
    away = np.abs(np.asarray(known[0].distance) - np.median(known[0].distance))
    return at_side(model, int(np.argmin(away)))


def _rows(model: Model, layout: Layout, values: np.ndarray) -> list[np.ndarray]:
    """Numbers (k,) of which right-hand sides with one basis have the same."""
    followed = {i for i, _ in layout.formulas}
    rows: list[np.ndarray] = []
    for group in (*model.groups, *model.offsets):
        responses = jax.tree.leaves(
            group.formula, is_leaf=lambda node: isinstance(node, AbstractResponse)
        )
        for response in responses:
            if not isinstance(response, AbstractResponse) or not sides_in(response):
                continue
            (sides,) = sides_in(response)
            distance, delay = np.asarray(sides.distance), np.asarray(sides.delay)
            polynomials: dict[str, np.ndarray] = {}
            moving = False
            for key, index in zip(group.keys, group.index, strict=True):
                name, _, power = key.rpartition(".")[2].rpartition("_dispersion")
                if not name or not power.isdigit():
                    continue
                i = index[0]
                moving |= layout.source[i] in layout.free or i in followed
                term = values[i] * distance ** int(power)
                polynomials[name] = polynomials.get(name, 0.0) + term
            rows += [delay, distance] if moving else [delay, *polynomials.values()]
    return rows


def each_basis(groups: Groups, function: Callable[..., PyTree], *args: Any) -> list[Any]:
    """`function(members, *args)` of the right-hand sides of one basis after the other: for each stack of
    `groups` the results with a leading axis; of `args` each has an entry for every stack."""
    return [
        jax.lax.map(lambda one: function(*one), (jnp.asarray(members), *rest))
        for members, *rest in zip(groups, *args, strict=True)
    ]


def scattered(groups: Groups, parts: Sequence[Array], axis: int, count: int) -> Array:
    """What `each_basis` found, by stack, of which entries (g, ...) have right-hand sides along `axis` (or 1
    for all of a basis), as one array with all `count` of them there."""
    rows = []
    for members, part in zip(groups, parts, strict=True):
        each = jnp.moveaxis(part, 1 + axis, 1)
        each = jnp.broadcast_to(each, (*members.shape, *each.shape[2:]))
        rows.append(jax.lax.collapse(each, 0, 2))
    at = jnp.concatenate([jnp.ravel(jnp.asarray(members)) for members in groups])
    found = jnp.concatenate(rows)
    whole = jnp.zeros((count, *found.shape[1:]), found.dtype).at[at].set(found)
    return jnp.moveaxis(whole, 0, axis)
