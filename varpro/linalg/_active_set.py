"""Least squares with bounds on the coefficients, in many lanes at once.

    minimise  1/2 || A c - t ||^2   subject to   lower <= c <= upper

With the set F of coefficients off their bounds known, the others stand on theirs and
c_F = A_F^+ (t - A c_bound). Few columns have few such sets: all are solved for, and the feasible one
of least cost is the answer, ties and dependent columns included.

For more columns all that are on the wrong side change it at once, as long as there are fewer of them
from set to set: block principal pivoting (Portugal, Judice and Vicente 1994, Kim and Park 2011), which
takes some five sets where one change at a time takes as many as there are columns. It may circle,
and starts from nonsense where columns cancel, as those of a distribution of lifetimes do. Then the
primal active-set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23) goes
on, for bounds on either side as Stark and Parker (1995) have it: from the unconstrained solution,
or from the bounds, as few will leave them. All end in a point that satisfies the conditions of
Karush, Kuhn and Tucker to rounding. Lanes are the last axis.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import dynamic_update_index_in_dim as replaced
from jaxtyping import Array, Bool, Float

from ._masked_qr import masked
from ._svd import SVD

BoundedSides = tuple[tuple[bool, bool], ...]


# So many sets at most are all solved for; beyond, one is sought.
_SETS = 32


# Right-hand sides that are in work at the same time: enough for vectors, few enough for the cache.
LANES = 1024


# Columns (of size one) cancel whose contributions are together this many times larger than the data.
_CANCEL = 10.0


# Sets that are tried in blocks, and how many in a row may have no fewer faults than the best.
_BLOCKS, _PATIENCE = 24, 3


def bounded_solve(
    a: Float[Array, "s n #l"],
    t: Float[Array, "s l"],
    lower: Float[Array, "n l"],
    upper: Float[Array, "n l"],
    sides: BoundedSides,
) -> tuple[Float[Array, "n l"], Bool[Array, "n l"]]:
    """The solution of every lane, and which coefficients are off their bounds.

    Columns of `a` should be of size one. `sides` says of each coefficient whether it has a lower and
    an upper bound in any lane. A coefficient on a bound is that bound exactly; among dependent
    columns the solution is one with as many zeros as there are columns too many. NaN in gives NaN
    out.
    """
    sets = all_sets(sides)
    c, free = _sought(a, t, lower, upper) if sets is None else _chosen(a, t, lower, upper, sets)
    # The rule that NaN spreads: a comparison with it would leave a coefficient on a bound.
    bad = jnp.any(jnp.isnan(a), axis=(0, 1)) | jnp.any(jnp.isnan(t), axis=0)
    return jnp.where(bad, jnp.nan, c), free


def all_sets(sides: BoundedSides) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """All sets as rows (sets, n): which coefficients are free, on the lower, on the upper bound; None where
    they are too many to try."""
    if np.prod([1.0 + low + high for low, high in sides]) > _SETS:
        return None
    options = [(0, *([-1] if low else []), *([1] if high else [])) for low, high in sides]
    where = np.array(list(itertools.product(*options))).reshape(-1, len(sides))
    return where == 0, where < 0, where > 0


def _chosen(a, t, lower, upper, sets):
    """By trying all sets, one after the other."""

    def attempt(best, at):
        free, below, above = (jnp.broadcast_to(x[:, None], lower.shape) for x in at)
        fixed = jnp.where(below, lower, jnp.where(above, upper, 0.0))
        factor = masked(a, free)
        # The second time is for the rounding of the first.
        c = fixed
        for _ in range(2):
            rest = t - jnp.einsum("snl,nl->sl", a, c)
            c = c + factor.solve(rest[:, None])[0][:, 0]
        cost = jnp.sum((t - jnp.einsum("snl,nl->sl", a, c)) ** 2, axis=0)
        inside = jnp.all((c >= lower) & (c <= upper) & jnp.isfinite(c), axis=0)
        cost = jnp.where(inside, cost, jnp.inf)
        old, chosen, held = best
        better = cost < old
        return (
            jnp.where(better, cost, old),
            jnp.where(better, c, chosen),
            jnp.where(better, free, held),
        ), None

    start = (
        jnp.full(t.shape[1:], jnp.inf, t.dtype),
        jnp.zeros_like(lower),
        jnp.zeros(lower.shape, bool),
    )
    (_, c, free), _ = jax.lax.scan(attempt, start, tuple(jnp.asarray(x) for x in sets))
    return c, free


def _sought(a, t, lower, upper):
    """By moving from set to set, downhill; a lane that is done stays as it is."""
    n, lanes = lower.shape
    tolerance = 16 * n * jnp.finfo(a.dtype).eps * jnp.sqrt(jnp.sum(t**2, axis=0))
    rows = jnp.arange(n)[:, None]

    def image(c):
        return jnp.einsum("snl,nl->sl", a, c)

    def step_of(c, free):
        return _among(a, t - image(c), free)

    def body(state):
        c, free, added, barred, done, count = state
        step = step_of(c, free)
        # How much of the step there is room for, and who stands in its way.
        limit = jnp.where(step < 0, lower, upper)
        beyond = free & ((c + step < lower) | (c + step > upper))
        room = jnp.where(beyond, (limit - c) / jnp.where(beyond, step, 1.0), jnp.inf)
        share = jnp.minimum(jnp.min(room, axis=0), 1.0)
        stopped = beyond & (room <= share)
        moved = jnp.where(stopped, limit, jnp.clip(c + share * step, lower, upper))
        # One that was freed and would leave its bounds at once, by rounding, waits until others move.
        progress = (share > 0) & jnp.any(moved != c, axis=0)
        barred = jnp.where(progress, False, barred | (stopped & (rows == added)))
        left = free & ~stopped
        full = share >= 1.0
        slope = jnp.einsum("snl,sl->nl", a, t - image(moved))
        gain = jnp.where(moved <= lower, slope, jnp.where(moved >= upper, -slope, 0.0))
        gain = jnp.where(left | barred | (lower >= upper), 0.0, gain)
        pick = jnp.argmax(gain, axis=0)
        ends = full & (jnp.max(gain, axis=0) <= tolerance)
        freed = left | ((rows == pick) & full & ~ends)
        new = moved, freed, jnp.where(full, pick, added), barred
        old = c, free, added, barred
        new = tuple(jnp.where(done, o, x) for o, x in zip(old, new, strict=True))
        return *new, done | ends | jnp.isnan(share), count + 1

    if a.shape[2] == 1:
        # Where to begin is all this decides: one factorisation for all lanes.
        start = SVD().factor(a[:, :, 0]).pinv(t)
    else:
        start = _among(a, t, jnp.ones((n, lanes), bool))
    start = jnp.nan_to_num(start)
    cancels = jnp.sum(jnp.abs(start), axis=0) > _CANCEL * jnp.sqrt(jnp.sum(t**2, axis=0))
    bounded = jnp.isfinite(lower) | jnp.isfinite(upper)
    nan = jnp.any(jnp.isnan(t), axis=0)

    def inside(few):
        c = jnp.clip(jnp.where(few & bounded, 0.0, start), lower, upper)
        return c, (c > lower) & (c < upper)

    c, free = inside(False)
    found, where, done, weak = _in_blocks_of_sets(
        a, t, lower, upper, c, free, cancels | nan, tolerance
    )
    c, free = inside(weak)
    c, free = jnp.where(done, found, c), jnp.where(done, where, free)
    state = jax.lax.while_loop(
        lambda state: (state[-1] < 20 + 10 * n) & ~jnp.all(state[-2]),
        body,
        (
            *(c, free, jnp.full((lanes,), -1), jnp.zeros((n, lanes), bool)),
            *(done | nan, jnp.array(0)),
        ),
    )
    c, free = state[:2]
    # Once more on the final set, for the rounding.
    c = jnp.clip(c + step_of(c, free), lower, upper)
    return c, (c > lower) & (c < upper)


def _in_blocks_of_sets(a, t, lower, upper, c, free, left_out, tolerance):
    """Coefficients and sets, which lanes have ended so, and in which a set depends too much for it or
    was not tried; those that are `left_out` do not begin."""
    n = lower.shape[0]
    rows, many = jnp.arange(n)[:, None], jnp.iinfo(jnp.int32).max
    gram = jnp.einsum("sil,sjl->lij", a, a)

    def slope_at(c):
        return jnp.einsum("snl,sl->nl", a, t - jnp.einsum("snl,nl->sl", a, c))

    def body(state):
        c, free, below, fewest, patience, done, lost, count = state
        # A set asks for less than the digits of its solution, which it gets at the end.
        chosen = free.T
        normal = jnp.where(chosen[:, :, None] & chosen[:, None], gram, jnp.eye(n, dtype=a.dtype))
        factor = jnp.linalg.cholesky(normal)
        pivots = jnp.diagonal(factor, axis1=1, axis2=2)
        weak = ~(jnp.min(pivots, axis=1) > jnp.finfo(a.dtype).eps ** 0.375)
        new = jnp.where(free, 0.0, jnp.where(below, lower, upper))
        for _ in range(2):
            right = jnp.where(free, slope_at(new), 0.0).T[..., None]
            new = new + jax.scipy.linalg.cho_solve((factor, True), right)[..., 0].T
        slope = slope_at(new)
        under, over = free & (new < lower), free & (new > upper)
        wanted = ~free & (lower < upper) & (jnp.where(below, slope, -slope) > tolerance)
        wrong = under | over | wanted
        faults = jnp.sum(wrong, axis=0, dtype=jnp.int32)
        fewer = faults < fewest
        patience = jnp.where(fewer, _PATIENCE, patience - 1)
        # Out of patience: the last one alone, which ends for certain, if late.
        last = rows == jnp.max(jnp.where(wrong, rows, -1), axis=0)
        change = wrong & (last | (patience > 0))
        ends = (faults == 0) & ~weak
        return (
            jnp.where(done, c, new),
            jnp.where(done | ends, free, free ^ change),
            jnp.where(done | ends, below, jnp.where(change & free, under, below)),
            jnp.minimum(faults, fewest),
            patience,
            done | ends,
            lost | weak,
            count + 1,
        )

    lanes = jnp.zeros(lower.shape[1:], jnp.int32)
    state = (
        c,
        free,
        c <= lower,
        lanes + many,
        lanes,
        jnp.zeros_like(left_out),
        left_out,
        jnp.array(0),
    )
    c, free, *_, done, weak, _ = jax.lax.while_loop(
        lambda state: (state[-1] < _BLOCKS) & ~jnp.all(state[-3] | state[-2]), body, state
    )
    return c, free, done, weak


def _among(a, t, free):
    """`A_F^+ t`, zero where a column is left out or depends on others.

    By Gram-Schmidt, twice, as in `_masked`, but over no more columns than the lane with the most of
    them has: of a hundred lifetimes five are in use.
    """
    s, n, _ = a.shape
    lanes = free.shape[1]
    order = jnp.argsort(~free, axis=0, stable=True)
    count = jnp.max(jnp.sum(free, axis=0))
    floor = 16 * n * jnp.finfo(a.dtype).eps

    def taken(j, state):
        q, r, z, rest = state
        pick = order[j]
        column = a[:, pick, 0] if a.shape[2] == 1 else a[:, pick, jnp.arange(lanes)]
        used = jnp.take_along_axis(free, pick[None], axis=0)[0]
        column = jnp.where(used, column, 0.0)
        size = jnp.sqrt(jnp.sum(column**2, axis=0))
        parts = jnp.zeros((n, lanes), a.dtype)
        for _ in range(2):
            part = jnp.einsum("sjl,sl->jl", q, column)
            column, parts = column - jnp.einsum("sjl,jl->sl", q, part), parts + part
        left = jnp.sqrt(jnp.sum(column**2, axis=0))
        keep = used & ~(left <= floor * size)
        unit = jnp.where(keep, column / jnp.where(keep, left, 1.0), 0.0)
        share = jnp.where(keep, jnp.sum(unit * rest, axis=0), 0.0)
        # A column that is left out is a row and a column of the unit matrix.
        parts = replaced(jnp.where(keep, parts, 0.0), jnp.where(keep, left, 1.0), j, 0)
        q, r, z = replaced(q, unit, j, 1), replaced(r, parts, j, 1), replaced(z, share, j, 0)
        return q, r, z, rest - unit * share

    def back(i, z):
        j = count - 1 - i
        x = z[j] / r[j, j]
        z = jnp.where((jnp.arange(n) < j)[:, None], z - r[:, j] * x, z)
        return replaced(z, x, j, 0)

    q, r = jnp.zeros((s, n, lanes), a.dtype), jnp.zeros((n, n, lanes), a.dtype)
    z, rest = jnp.zeros((n, lanes), a.dtype), jnp.broadcast_to(t, (s, lanes))
    q, r, z, _ = jax.lax.fori_loop(0, count, taken, (q, r, z, rest))
    z = jax.lax.fori_loop(0, count, back, z)
    return jnp.zeros_like(z).at[order, jnp.arange(lanes)].set(z)


def in_blocks(function, arrays, size: int):
    """`function` of arrays whose last axis are lanes, `size` of them at a time."""
    k = jax.tree.leaves(arrays)[0].shape[-1]
    if k <= size:
        return function(*arrays)
    blocks = -(-k // size)

    def apart(a):
        # Lanes that fill up the last block do again what the last lane does.
        a = jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, blocks * size - k)], mode="edge")
        return jnp.moveaxis(a.reshape(*a.shape[:-1], blocks, size), -2, 0)

    def together(a):
        a = jnp.moveaxis(a, 0, -2)
        return a.reshape(*a.shape[:-2], -1)[..., :k]

    out = jax.lax.map(lambda some: function(*some), jax.tree.map(apart, arrays))
    return jax.tree.map(together, out)


def bounded_sides_of(lower: np.ndarray, upper: np.ndarray) -> BoundedSides:
    """Of bounds (n, k): which coefficients have any on either side."""
    return tuple(
        (bool(np.any(np.isfinite(low))), bool(np.any(np.isfinite(high))))
        for low, high in zip(lower, upper, strict=True)
    )
