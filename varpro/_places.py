"""Places in arrays that are known before any number is: slices, selections and constants.

XLA makes a loop of every scatter on CPUs, which costs more to compile and to run than what is put there.
"""

import functools
import operator
from collections.abc import Sequence
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from ._types import ArrayIn

Places = Sequence[int] | np.ndarray


@overload
def taken(array: Array, places: Places) -> Array: ...


@overload
def taken(array: ArrayIn, places: Places) -> ArrayIn: ...


def taken(array: ArrayIn, places: Places) -> ArrayIn:
    """`array[places]`, of the first axis."""
    at = np.asarray(places, int)
    if isinstance(array, np.ndarray):
        return array[at]
    if np.array_equal(at, np.arange(array.shape[0])):
        return array
    step = int(at[1] - at[0]) if at.size > 1 else 1
    if at.size and step > 0 and (np.diff(at) == step).all():
        return jax.lax.slice_in_dim(array, int(at[0]), int(at[-1]) + 1, step)
    return array[at]


def with_values(array: ArrayIn, places: Places, values: ArrayIn) -> Array:
    """`array.at[places].set(values)`, of the first axis; no place stands there twice."""
    at, array = np.asarray(places, int), jnp.asarray(array)
    values, size = jnp.asarray(values, array.dtype), array.shape[0]
    if at.size == 0:
        return array
    if np.array_equal(at, np.arange(size)):
        return values
    if (np.diff(at) == 1).all():
        return jnp.concatenate([array[: at[0]], values, array[at[-1] + 1 :]])
    mask, number = np.zeros(size, bool), np.zeros(size, int)
    mask[at], number[at] = True, np.arange(at.size)
    return jnp.where(mask.reshape(-1, *[1] * (array.ndim - 1)), values[number], array)


def summed_at(terms: Inexact[Array, "d ..."], places: Places, size: int) -> Array:
    """`zeros(size).at[places].add(terms)`, of the first axis."""
    at = np.asarray(places, int)
    if at.size == size and np.array_equal(np.sort(at), np.arange(size)):
        return jnp.asarray(taken(terms, np.argsort(at)))
    # Terms of one place are of different rounds; the last row stands for nothing.
    order = np.argsort(at, kind="stable")
    turn = np.arange(at.size) - np.searchsorted(at[order], at[order])
    rows = jnp.concatenate([terms, jnp.zeros((1, *terms.shape[1:]), terms.dtype)])
    rounds = []
    for now in range(turn.max(initial=0) + 1):
        of_place, mine = np.full(size, at.size), order[turn == now]
        of_place[at[mine]] = mine
        rounds.append(rows[of_place])
    return functools.reduce(operator.add, rounds)
