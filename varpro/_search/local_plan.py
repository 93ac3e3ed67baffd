"""When columns are local enough for tiles, and a solve by them; on the host, for tiles have shapes.

What does not fit the tiles that were chosen is never taken: the search begins again where it stood, with
larger ones, and where those no longer pay it is the dense one's turn.
"""

from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._programs.program import program
from .._reduced.local_columns import LocalProblem
from ..basis import Model, without_names
from .levenberg_marquardt import LevenbergMarquardt
from .local_search import LocalEnd, local_search

# Tiles pay from so many components with a support and so many entries of Phi on, where each tile sees less
# than this part of the components. Room that is left for supports to grow, and for components of other tiles: a
# step costs the square of either, tiles that are too small a new program.
_COMPONENTS, _ENTRIES, _PART, _ROOM, _MORE = 32, 2**18, 0.34, 1.3, 0.2
_TRIES, _MOST_COMMON = 4, 64


class Tiles(NamedTuple):
    """Samples of a tile, and components that may begin in one."""

    length: int
    slots: int


def concrete(*values: Any) -> bool:
    """Whether numbers are known, and nobody differentiates by them."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def local_group(built: Model) -> int | None:
    """The group of most components with a support whose parameters are their own, if there is one."""
    found = [
        i
        for i, group in enumerate(built.groups)
        if group.has_support and group.width >= _COMPONENTS
    ]
    if not found or built.offsets or not built.rowwise:
        return None
    best = max(found, key=lambda i: built.groups[i].width)
    every = np.concatenate([np.ravel(group.index) for group in built.groups])
    own = np.array(built.groups[best].index).ravel()
    shared = np.isin(own, np.unique(every)[np.unique(every, return_counts=True)[1] > 1])
    others = sum(group.width for i, group in enumerate(built.groups) if i != best)
    return None if shared.any() or others > _MOST_COMMON else best


def tiles_for(built: Model, group: int, x: np.ndarray, alpha: np.ndarray) -> Tiles | None:
    """The tiles at alpha for x (m,), ascending; None where they do not pay."""
    ends = built.groups[group].support(alpha)
    if ends is None:
        return None
    low, high = map(np.asarray, ends)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    first, last = np.searchsorted(x, low), np.searchsorted(x, high, side="right")
    # Tiles longer than the longest support see more components, but there are fewer of them.
    length = max(int(np.max(last - first) * _ROOM), 32)
    tile = np.clip(first // length, 0, (len(x) - 1) // length)
    most = int(np.max(np.bincount(tile)))
    slots = most + max(2, int(np.ceil(_MORE * most)))
    n = built.groups[group].width
    if len(x) * n < _ENTRIES or 2 * slots > _PART * n:
        return None
    return Tiles(length, slots)


def local_solve(
    built: Model,
    group: int,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    alpha: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    solver: LevenbergMarquardt,
    max_steps: int,
) -> tuple[LocalEnd, np.ndarray, np.ndarray] | None:
    """The optimum, all coefficients (n,) in the order of the columns, and the residual (m,); None where
    tiles do not pay, or no longer."""
    order = np.argsort(x, kind="stable")
    x, y, weights = x[order], y[order], weights[order]
    solver = jax.tree.map(lambda leaf: np.asarray(leaf, y.dtype), solver)
    at_least = Tiles(0, 0)
    for _ in range(_TRIES):
        tiles = tiles_for(built, group, x, alpha)
        if tiles is None:
            return None
        tiles = Tiles(*(max(a, b) for a, b in zip(tiles, at_least, strict=True)))
        problem = _tiled(built, group, x, y, weights, tiles)
        end = _search(problem, alpha.astype(y.dtype), *bounds, solver, np.asarray(max_steps))
        if not np.any(end.overrun):
            return end, _all_coefficients(built, group, end), _in_order(end.point.resid, order)
        alpha = np.asarray(end.alpha)
        at_least = Tiles(int(tiles.length * _ROOM), int(tiles.slots * _ROOM) + 1)
    return None


@program
def _search(
    problem: LocalProblem,
    alpha: Array,
    lower: Array,
    upper: Array,
    solver: LevenbergMarquardt,
    max_steps: Array,
) -> LocalEnd:
    return local_search(problem, *map(jnp.asarray, (alpha, lower, upper)), solver, max_steps)


def _tiled(
    built: Model, group: int, x: np.ndarray, y: np.ndarray, weights: np.ndarray, tiles: Tiles
) -> LocalProblem:
    length = tiles.length
    count = -(-len(x) // length)
    fill = count * length - len(x)

    def tiled(a, value):
        return np.concatenate([a, np.full(fill, value, a.dtype)]).reshape(count, length)

    return LocalProblem(
        without_names(built),
        x,
        tiled(x, x[-1]),
        tiled(y, 0.0),
        tiled(weights, 0.0),
        group,
        tiles.slots,
    )


def _all_coefficients(built: Model, group: int, end: LocalEnd) -> np.ndarray:
    before = sum(g.width for g in built.groups[:group])
    local, common = np.asarray(end.point.local), np.asarray(end.point.common)
    width = sum(g.width for g in built.groups) - len(local)
    return np.concatenate([common[:before], local, common[before:width]])


def _in_order(resid: Array, order: np.ndarray) -> np.ndarray:
    flat = np.asarray(resid).ravel()[: len(order)]
    out = np.empty_like(flat)
    out[order] = flat
    return out
