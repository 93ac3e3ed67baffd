"""Where the curves of a block end, lanes of them side by side.

Weights that follow the model lead near the minimum of the cost that they stand for. From there it is sought
twice: by a few plain steps of Newton's method, which do for most curves, and with all care for the others,
which are brought together so that no lane waits for them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .._problem.columns import Assembled
from .._reduced.normal_equations import Curve, Moments, frozen_weights, moments
from .._search.batched_levenberg import LaneOptima, Limits, newton_reduction
from .._search.likelihood import Box, Sample, likeliest
from .._status import CurveStatus

# Curves that are sought with all care side by side: they are few, and wait for the slowest.
_FEW = 8
# The part of its start that is left of a parameter on its way to 0, and by how much of itself a cost may rise there.
_NEAR, _SAME = 1e-4, 1e-9


def own_and_common(curves: Curve) -> tuple[Curve, dict[str, Array]]:
    """What each curve has of its own, and rows that all have in common."""
    common = jax.tree.map(jnp.asarray, curves.common())
    own = curves._replace(**dict.fromkeys(common))
    return jax.tree.map(jnp.asarray, own), common


def by_lanes(function: Callable[..., Any], arguments: tuple[PyTree, ...], lanes: int) -> Any:
    """`function` of every curve, `lanes` of them side by side as in the search; the leading axis of all
    arrays, a multiple of `lanes`, counts curves."""

    def chunked(a):
        return a.reshape(a.shape[0] // lanes, lanes, *a.shape[1:])

    chunks = jax.tree.map(chunked, arguments)
    results = jax.lax.map(lambda chunk: jax.vmap(function)(*chunk), chunks)
    return jax.tree.map(lambda a: a.reshape(a.shape[0] * lanes, *a.shape[2:]), results)


def ends_of(
    columns: Assembled,
    found: LaneOptima,
    each: Curve,
    common: dict[str, Array],
    limits: Limits,
    lanes: int,
) -> LaneOptima:
    """Where b searches led, with components in their order, at the minimum of the cost."""
    if not limits.noise.follows_model:
        ordered = jax.vmap(
            lambda curve, alpha: curve.placed(columns).layout.sorted_components(alpha)
        )
        return found._replace(alpha=ordered(each, found.alpha))

    def plain(end: LaneOptima, curve: Curve) -> LaneOptima:
        return _likeliest(columns, end, curve._replace(**common), limits, plain=True)

    def careful(end: LaneOptima, curve: Curve) -> LaneOptima:
        return _likeliest(columns, end, curve._replace(**common), limits, plain=False)

    ends = by_lanes(plain, (found, each), lanes)
    lost = ends.status != CurveStatus.SUCCESSFUL
    return _again(careful, ends, lost, (found, each), min(lanes, _FEW))


def at_natural_ends(
    columns: Assembled,
    ends: LaneOptima,
    start: Float[Array, "b p"],
    each: Curve,
    common: dict[str, Array],
    limits: Limits,
    lanes: int,
) -> LaneOptima:
    """Where searches ended, with what was on its way to 0 there: where a parameter may not be negative, as a
    width, and its best value is 0, the curve depends on its square, and a search comes near alone."""
    lower = common.get("lower", each.lower)
    if lower is None or limits.noise.follows_model or start.shape[1] == 0:
        return ends
    near = (jnp.asarray(lower) == 0) & (ends.alpha > 0)
    near = near & (ends.alpha <= _NEAR * jnp.abs(start))
    lost = jnp.any(near, axis=1)

    def moved(end: LaneOptima, near: Array, curve: Curve) -> LaneOptima:
        curve = curve._replace(**common)
        there = jnp.where(near, 0.0, end.alpha)

        def looked_at(alpha: Array) -> tuple[Array, Array, Array]:
            at = moments_at(columns, end._replace(alpha=alpha), curve, limits)
            left = newton_reduction(at, alpha, curve, jnp.zeros_like(alpha))
            return at.cost, at.coef, left

        cost, coef, left = jax.vmap(looked_at)(jnp.stack([end.alpha, there]))
        good = jnp.isfinite(cost[1]) & (cost[1] <= cost[0] * (1 + _SAME)) & (left[1] <= limits.ftol)
        steps, status = jnp.zeros_like(end.steps), jnp.full_like(end.status, CurveStatus.SUCCESSFUL)
        new = LaneOptima(there, coef[1], status, steps)
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, end._replace(steps=steps))

    return _again(moved, ends, lost, (ends, near, each), min(lanes, _FEW))


def _again(
    function: Callable[..., LaneOptima],
    ends: LaneOptima,
    which: Bool[Array, " b"],
    arguments: tuple[PyTree, ...],
    lanes: int,
) -> LaneOptima:
    """`ends` with those of `which` from `function`, and the steps of both."""
    order, count = jnp.argsort(~which, stable=True), jnp.sum(which)

    def body(carry):
        begin, ends = carry
        rows = jax.lax.dynamic_slice_in_dim(order, begin, lanes)
        new = jax.vmap(function)(*jax.tree.map(lambda a: a[rows], arguments))
        new = new._replace(steps=new.steps + ends.steps[rows])
        rows = jnp.where(which[rows], rows, which.size)
        return begin + lanes, jax.tree.map(lambda a, b: a.at[rows].set(b, mode="drop"), ends, new)

    return jax.lax.while_loop(lambda carry: carry[0] < count, body, (0, ends))[1]


def _likeliest(
    columns: Assembled, end: LaneOptima, curve: Curve, limits: Limits, plain: bool
) -> LaneOptima:
    """The minimum of the cost of one curve near the end of its search."""
    columns = curve.placed(columns)
    noise, alpha = limits.noise, columns.layout.sorted_components(end.alpha)
    y = jnp.asarray(curve.y)
    given = jnp.ones_like(y).real if curve.weights is None else jnp.asarray(curve.weights)
    coef = end.coef
    if columns.layout.exchange:
        before = frozen_weights(columns, end.alpha, coef)._replace(share=jnp.ones((), alpha.dtype))
        coef = moments(columns, alpha, curve, noise, before).coef
    sample = Sample(y, given, jnp.asarray(curve.unit), noise)
    box = Box(curve.lower, curve.upper, *(curve.coef_box() or (None, None)))
    best = likeliest(columns, columns.linear, sample, box, alpha, coef, plain, lanes=plain)
    # Of a curve that is zero nothing is known, and its parameters stay where they are.
    some = jnp.any((y != 0) & (given > 0))
    best = best._replace(alpha=jnp.where(some, best.alpha, alpha))
    status = jnp.where(
        best.converged,
        CurveStatus.SUCCESSFUL,
        jnp.where(jnp.isfinite(best.cost), CurveStatus.MAX_STEPS, CurveStatus.NONFINITE),
    )
    steps = end.steps + best.steps if plain else best.steps
    return LaneOptima(best.alpha, best.coef, status.astype(end.status.dtype), steps)


def moments_at(columns: Assembled, end: LaneOptima, curve: Curve, limits: Limits) -> Moments:
    """What is known of a curve where it ended."""
    if not limits.noise.follows_model:
        return moments(curve.placed(columns), end.alpha, curve)
    columns = curve.placed(columns)
    return moments(
        columns, end.alpha, curve, limits.noise, frozen_weights(columns, end.alpha, end.coef)
    )
