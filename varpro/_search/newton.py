"""The minimum of any smooth function inside a box, by Newton's method, damped as by Levenberg and Marquardt.

A step counts where the function itself falls. What is minimised tells at each point two curvatures: one that
is never less than nothing and the one that is; the second is taken where it is positive definite, so that
the last steps are quadratic, and the first elsewhere (Nocedal and Wright, Numerical Optimization, 2006, 3.4
and 10.3).

A function with a slack, as of an interior-point method, is minimised for smaller and smaller ones, and only
for the last of them to the end.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..linalg._carried import carried
from ..linalg._cholesky import positive, solve

# Trial points at most, and those of a plain search.
_STEPS, _PLAIN = 200, 6
# Steps of the damping, and the damping beyond which nothing moves.
_MORE, _LESS, _MOST = 8.0, 0.1, 1e10
# How much more of a step is tried after one that counted.
_GROW = 8.0
# Rounds in which what leaves the box is held on its bound.
_LEGS = 3
# How much smaller the slack becomes at a time.
_SHRINK = 0.02


class Point(NamedTuple):
    """What is known of the function at theta (t,).

    `size`: the sum of what the cost is made of, without signs; `scale`: the diagonal of what the curvature
    is expected to be; `promise`: what an undamped step takes off the cost; `room`: how much of that step may
    be taken; `more`: whatever the next evaluation begins with.
    """

    theta: Float[Array, " t"]
    cost: Float[Array, ""]
    size: Float[Array, ""]
    gradient: Float[Array, " t"]
    hessian: Float[Array, "t t"]
    scale: Float[Array, " t"]
    promise: Float[Array, ""]
    room: Float[Array, ""]
    more: PyTree = None


class Found(NamedTuple):
    """Where the function is least, whether it is stationary there, and how many trial points there were."""

    at: Point
    converged: Bool[Array, ""]
    steps: Int[Array, ""]


class Slacks(NamedTuple):
    """The first slack and the last one."""

    first: Float[Array, ""] | float
    last: float


class _State(NamedTuple):
    at: Point
    trial: Float[Array, " t"]
    predicted: Float[Array, ""]
    share: Float[Array, ""]  # of the step that is tried
    reach: Float[Array, ""]  # what of a step has been good for anything lately
    damping: Float[Array, ""]
    slack: Float[Array, ""]
    steps: Int[Array, ""]
    met: Bool[Array, ""]  # whether the last point was as good as an end has to be
    converged: Bool[Array, ""]
    done: Bool[Array, ""]


def minimum(
    point: Callable[[Array, Array, PyTree], Point],
    start: Float[Array, " t"],
    lower: Float[Array, " t"] | None,
    upper: Float[Array, " t"] | None,
    more: PyTree = None,
    slacks: Slacks = Slacks(0.0, 0.0),  # noqa: B008
    rounding: float | None = None,
    plain: bool = False,
    lanes: bool = False,
    told: Callable[[Array, Array, Array, Array], Bool[Array, ""]] | None = None,
) -> Found:
    """The minimum of `point(theta, slack, more)` near `start`; `more` is that of the last point that
    counted, and bounds are None where there are none. `rounding`: the part of the size of the cost that is no more than rounding;
    `plain`: few points are tried, and the step that leaves nothing is not looked at; `lanes`: whether many
    are searched side by side; `told(theta, steps, cost, gradient)`, after each, says whether to go on."""
    dtype = start.dtype
    eps = float(jnp.finfo(dtype).eps)
    rounding = 64 * eps if rounding is None else rounding
    start = _inside(start, lower, upper)
    final, most = slacks.last, _PLAIN if plain else _STEPS

    def body(state: _State) -> _State:
        new, at = point(state.trial, state.slack, state.at.more), state.at
        first = ~jnp.isfinite(at.cost)
        sound = jnp.isfinite(new.cost) & jnp.all(jnp.isfinite(new.gradient))
        sound = sound & jnp.all(jnp.isfinite(new.hessian))
        actual, level = at.cost - new.cost, rounding * new.size
        close = (jnp.abs(actual) <= level) & (new.promise <= 0.5 * at.promise)
        better = (actual > 1e-3 * state.predicted) & (actual > 0)
        accepted = sound & (first | better | close)
        gain = actual / jnp.where(state.predicted > 0, state.predicted, 1.0)
        damping = jnp.where(gain > 0.5, state.damping * _LESS, state.damping)
        # A direction downhill is tried at shorter and shorter length before it is turned.
        worse = jnp.maximum(state.damping, 1e-4) * _MORE
        damping = jnp.where(accepted, damping, jnp.where(state.share < 1e-2, worse, state.damping))
        damping = jnp.where(damping < 1e-8, 0.0, damping)
        # After a short step the next is not tried at its whole length, for that fails as well.
        reach = jnp.where(accepted, jnp.minimum(_GROW * state.reach, 1.0), 0.25 * state.share)
        reach = jnp.where(~accepted & (state.share < 1e-2), 1.0, reach)
        damping = jnp.where(first, state.damping, damping)
        here = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, at)
        # A hundred-thousandth of a standard error; one more step leaves nothing of it.
        met = here.promise <= eps**0.75 * here.size
        # Steps are lost in the rounding of the cost: as near as one can tell.
        blocked = ~accepted & (damping > _MOST)
        shortest = ~accepted & (state.share < 1e-2)
        floor = (blocked | shortest) & (here.promise <= eps**0.6 * here.size)
        # On the way to the last slack no optimum has to be exact.
        passed = (here.promise <= 1e-2 * state.slack * here.size) | met
        shrinks = jnp.isfinite(here.cost) & (state.slack > final) & passed
        slack = jnp.where(shrinks, jnp.maximum(state.slack * _SHRINK, final), state.slack)
        enough = met if plain else met & state.met
        converged = (enough | floor) & ~shrinks & jnp.isfinite(here.cost)
        step, _ = newton_step(here, lower, upper, damping, lanes)
        share = jnp.where(accepted, jnp.minimum(0.95 * here.room, reach), reach)
        slope, bend = jnp.sum(here.gradient * step), jnp.sum(step * (here.hessian @ step))
        predicted = -(share * slope + 0.5 * share**2 * bend)
        # With another slack it is another function.
        cost = jnp.where(shrinks, jnp.inf, here.cost)
        damping, reach = jnp.where(shrinks, 0.0, damping), jnp.where(shrinks, 1.0, reach)
        trial = jnp.where(shrinks, here.theta, here.theta + share * step)
        done = converged | blocked | (first & ~sound) | (state.steps + 1 >= most)
        done = done & ~shrinks | (state.steps + 1 >= most)
        if told is not None:
            size = jnp.where(here.size > 0, here.size, 1.0)
            rest = jnp.sqrt(jnp.maximum(here.promise, 0.0) / size)
            done = done | ~told(here.theta, state.steps + 1, here.cost, rest)
        return _State(
            *(here._replace(cost=cost), _inside(trial, lower, upper), predicted, share, reach),
            *(damping, slack, state.steps + 1, met & ~shrinks, converged),
            done,
        )

    zero, count, no = jnp.zeros((), dtype), jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    row, square = jnp.zeros_like(start), jnp.zeros((start.size, start.size), dtype)
    nothing = Point(start, zero + jnp.inf, zero, row, square, row, zero, zero, more)
    slack = jnp.asarray(slacks.first, dtype)
    begin = _State(nothing, start, zero, zero + 1.0, zero + 1.0, zero, slack, count, no, no, no)
    begin = carried(begin, start) if start.size else begin
    end = jax.lax.while_loop(lambda state: ~state.done, body, begin)
    if plain:
        theta = jnp.where(end.converged, end.trial, end.at.theta)
        return Found(end.at._replace(theta=theta), end.converged, end.steps)
    near = (end.at.promise <= eps**0.6 * end.at.size) & (end.slack <= final)
    return Found(end.at, end.converged | (near & jnp.isfinite(end.at.cost)), end.steps)


def newton_step(
    at: Point,
    lower: Array | None,
    upper: Array | None,
    damping: Array | float,
    lanes: bool = False,
) -> tuple[Float[Array, " t"], Float[Array, ""]]:
    """The damped step inside the box, and what it would take off the cost if nothing but the bounds that
    hold were in its way: nothing at a minimum, and there alone."""
    free = off_bounds(at.theta, at.gradient, lower, upper)
    scale = jnp.where(at.scale > 0, at.scale, 1.0)
    matrix = at.hessian + jnp.diag(damping * scale)

    def among(free, slope):
        return jnp.where(
            free, -solve(_among(matrix, free), jnp.where(free, slope, 0.0), lanes), 0.0
        )

    step = among(free, at.gradient)
    promise = -0.5 * jnp.sum(at.gradient * step)
    if lower is None or upper is None:
        return step, promise

    # What would leave the box goes to its bound, and the rest is minimised anew.
    def leg(_, state):
        held, free, step = state
        inside = jnp.clip(at.theta + step, lower, upper)
        leaves = free & (inside != at.theta + step)
        held, free = jnp.where(leaves, inside - at.theta, held), free & ~leaves
        return held, free, held + among(free, at.gradient + at.hessian @ held)

    begin = jnp.zeros_like(step), free, step
    _, _, step = jax.lax.fori_loop(0, _LEGS, leg, begin, unroll=lanes)
    # What still leaves it stops the whole step there.
    limit = jnp.where(step < 0, lower, upper) - at.theta
    beyond = (at.theta + step < lower) | (at.theta + step > upper)
    share = jnp.min(jnp.where(beyond, limit / jnp.where(beyond, step, 1.0), 1.0), initial=1.0)
    return jnp.maximum(share, 0.0) * step, promise


def _inside(theta: Array, lower: Array | None, upper: Array | None) -> Array:
    return theta if lower is None or upper is None else jnp.clip(theta, lower, upper)


def off_bounds(
    theta: Array, gradient: Array, lower: Array | None, upper: Array | None
) -> Bool[Array, " t"]:
    """Which coordinates are not held by the bound that they are on; without bounds all."""
    if lower is None or upper is None:
        return jnp.ones(theta.shape, bool)
    outward = ((theta <= lower) & (gradient > 0)) | ((theta >= upper) & (gradient < 0))
    return ~(outward | (lower == upper))


def curvature(
    sure: Float[Array, "t t"],
    whole: Float[Array, "t t"],
    free: Bool[Array, " t"],
    lanes: bool = False,
) -> Float[Array, "t t"]:
    """The curvature that is, `whole`, where among the free coordinates it is positive definite; else one
    that is never less than nothing."""
    return jnp.where(positive(_among(whole, free), lanes), whole, sure)


def _among(matrix: Array, free: Array) -> Array:
    """The matrix among the free coordinates, and nothing but its diagonal, or ones, elsewhere."""
    both = free[:, None] & free
    diagonal = jnp.where(free, jnp.diagonal(matrix), 1.0)
    return jnp.where(both, matrix, jnp.diag(diagonal))
