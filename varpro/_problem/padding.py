"""Data filled up to one of a few sizes, so that data of other lengths run in the same program.

What is added are samples of weight zero, at the x of one that is in use, and right-hand sides of zeros: no
sum changes by more than the rounding of its order. What counts samples and right-hand sides does so
on the host, from the data as they came. A model is filled up only if each row of its columns is made of
the same row of x (`Model.rowwise`), and right-hand sides only where no rule or weight is theirs alone.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import PyTree

from ..basis import Model
from .columns import Assembled
from .data import Data
from .linear_constraints import Linear
from .problem import Problem

# Numbers in y from which on no copy of it is made for the sake of a program.
_MOST = 2**20
# Right-hand sides up to which there is a program for every number of them.
_FEW = 16


def padded_length(count: int) -> int:
    """The next of the sizes 16, 20, 24, 28, 32, 40, ...: four between two powers of two up to 128, then
    eight, so that at most every eighth sample of long data is one too many."""
    count = max(count, 16)
    power = 1 << ((count - 1).bit_length() - 1)
    step = power // (4 if count <= 128 else 8)
    return -(-count // step) * step


def common_lengths(counts: Sequence[int]) -> list[int]:
    """For data sets of so many samples each the lengths at which they run: as few as can be where none
    grows by more than half of what it has."""
    lengths: dict[int, int] = {}
    size = 0
    for count in sorted(set(counts), reverse=True):
        if not size or 3 * count < 2 * size:
            size = padded_length(count)
        lengths[count] = size
    return [lengths[count] for count in counts]


def padded_sides(data: Data, linear: Linear) -> int:
    """How many right-hand sides the program has."""
    k = data.y.shape[1]
    rules = linear.mix, linear.penalty, linear.constant, linear.lower, linear.upper, linear.areas
    plain = all(rule is None for rule in rules) and data.column_weights is None
    return padded_length(k) if plain and k > _FEW else k


def may_grow(data: Data, columns: Assembled) -> bool:
    """Whether samples may be added to these data: not where noise is correlated, for that takes m^2 numbers."""
    return data.y.size <= _MOST and columns.model.rowwise and data.whitener is None


def longer(x: PyTree, length: int, at: int = 0) -> PyTree:
    """Positions x, host arrays (m, ...), with that of sample `at` repeated up to `length` of them."""

    def filled(leaf):
        return np.concatenate(
            [leaf, np.broadcast_to(leaf[at], (length - len(leaf), *leaf.shape[1:]))]
        )

    return jax.tree.map(filled, x)


def longer_columns(columns: Assembled, data: Data, length: int) -> Assembled:
    """The columns at `length` samples, the last of them at the x of one that is in use."""
    keep = data.keep if data.keep.ndim == 1 else np.asarray(data.keep.any(axis=1))
    if length == len(keep):
        return columns
    return dataclasses.replace(columns, x=longer(columns.x, length, int(np.argmax(keep))))


def filled_positions(model: Model, x: PyTree) -> tuple[PyTree, int | None]:
    """Positions at which to evaluate a model, filled up where that may be, and how many of them are x;
    None where they are x itself."""
    counts = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(x)}
    if len(counts) != 1 or not model.rowwise:
        return x, None
    (m,) = counts
    return (longer(x, padded_length(m)), m) if 0 < m <= _MOST else (x, None)


def longer_problem(
    columns: Assembled, data: Data, rules: Linear, length: int, sides: int
) -> Problem:
    """The problem of data with columns at `length` samples and with `sides` right-hand sides."""
    m, k = data.y.shape
    y = np.zeros((length, sides), data.y.dtype)
    y[:m, :k] = data.y
    if data.column_weights is not None:
        # They say it all: then there is no row of common ones.
        weights = np.zeros((length, k), data.real)
        weights[:m] = data.column_weights
        return Problem(columns, y, None, rules, weights)
    common = np.zeros(length, data.real)
    common[:m] = 1.0 if data.weights is None else data.weights
    return Problem(columns, y, common, rules)


def problem_of(columns: Assembled, data: Data, rules: Linear, length: int) -> Problem:
    """The problem of data with columns at their x, filled up to `length` where that may be."""
    if not may_grow(data, columns):
        return Problem(columns, data.y, data.common, rules, data.column_weights, data.whitener)
    filled = longer_columns(columns, data, length)
    return longer_problem(filled, data, rules, length, data.y.shape[1])
