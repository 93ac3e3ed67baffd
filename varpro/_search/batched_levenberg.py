"""Many small fits of one model, each with data and nonlinear parameters of its own.

Lanes are searched side by side, and a lane that is done takes the next waiting problem, so that one
slow curve holds nobody; what a lane needs at one alpha is in `varpro._reduced.normal_equations`.

Weights that follow the model begin to do so where least squares with the given weights have all but
ended: far from the data a model of counts may be negative.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from .._parameters.inverses import Inverses
from .._problem.columns import Assembled
from .._problem.noise import NORMAL, AbstractNoise
from .._reduced.normal_equations import Curve, Moments, PreviousWeights, moments
from .._status import CurveStatus
from .._types import ArrayIn
from ..linalg._cholesky import inverse_root, solve, squared

# The reduction that least squares may still promise where scoring begins.
_LOOSE = 1e-3
# Size of a residual, in units of the precision of the data, that rounding alone may leave.
_ROUNDING = 1024.0


class Limits(eqx.Module):
    """How to search, the same for all lanes: `ftol` is the reduction of the cost that a Gauss-Newton
    step may still promise, relative; `damping` that of the first step, little where starts are good;
    `noise` makes weights that follow the model; `inverses`: the coordinates by the inverse of which
    a search steps."""

    ftol: Float[ArrayIn, ""]
    max_steps: Int[ArrayIn, ""]
    damping: Float[ArrayIn, ""]
    noise: AbstractNoise = NORMAL
    inverses: Inverses = eqx.field(default_factory=Inverses.none)


class _State(NamedTuple):
    alpha: Float[Array, " p"]
    trial: Float[Array, " p"]
    moments: Moments
    scale: Float[Array, " p"]  # largest diagonal of J^T J so far
    damping: Float[Array, ""]
    growth: Float[Array, ""]
    predicted: Float[Array, ""]
    steps: Int[Array, ""]
    bad: Int[Array, ""]
    scoring: Bool[Array, ""]  # whether weights follow the model by now
    length: Float[Array, ""]  # of a step while they do, in Gauss-Newton steps
    share: Float[Array, ""]  # of the way to the coefficients that new weights give
    status: Int[Array, ""]


class _Types(NamedTuple):
    """Types of the coefficients and of the data."""

    coef: jnp.dtype
    data: jnp.dtype


def _initial_state(
    alpha: Float[Array, " p"], n: int, m: int, damping: ArrayIn, types: _Types
) -> _State:
    p, dtype = alpha.size, alpha.dtype
    zero, count = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    vector, square = jnp.zeros((p,), dtype), jnp.zeros((p, p), dtype)
    empty = Moments(
        jnp.zeros((n,), types.coef),
        zero,
        jnp.full((), jnp.inf, dtype),
        vector,
        square,
        square,
        jnp.zeros((n, n), types.coef),
        jnp.zeros((n, p), types.coef),
        jnp.zeros((m,), types.data),
        zero,
        jnp.ones((n,), bool),
    )
    damping, growth = jnp.asarray(damping, dtype), jnp.full((), 2.0, dtype)
    scoring = jnp.zeros((), bool)
    unit = jnp.full((), 1.0, dtype)
    return _State(
        alpha, alpha, empty, vector, damping, growth, zero, count, count, scoring, unit, unit, count
    )


def _step(columns: Assembled, limits: Limits, state: _State, curve: Curve) -> _State:
    """One trial point judged and the next one chosen: Levenberg-Marquardt with More's scaling and
    the damping of Nielsen (1999)."""
    y, reweighted = jnp.asarray(curve.y), limits.noise.follows_model
    eps = float(jnp.finfo(y.dtype).eps)
    first = jnp.isinf(state.moments.cost)
    before = PreviousWeights(state.moments.model, state.moments.coef, state.scoring, state.share)
    new = _moments_there(columns, state.trial, curve, limits, before)
    finite = (
        jnp.isfinite(new.cost) & jnp.all(jnp.isfinite(new.full)) & jnp.all(jnp.isfinite(new.coef))
    )
    actual = state.moments.cost - new.cost
    ratio = jnp.where(state.predicted > 0, actual / state.predicted, -1.0)
    ratio = jnp.where(first, 1.0, ratio)
    # Close to the optimum rounding decides which cost is lower; the gradient still knows.
    rounding_level = 64 * eps * jnp.maximum(state.moments.cost, eps * 0.5 * jnp.sum(squared(y)))
    reduction = newton_reduction(new, state.trial, curve, state.scale)
    close = ~first & (jnp.abs(actual) <= rounding_level)
    close = close & (
        reduction <= 0.5 * newton_reduction(state.moments, state.alpha, curve, state.scale)
    )
    accepted = finite & (first | (ratio > 1e-4) | close)
    settled = jnp.ones((), bool)
    if reweighted:
        # New coefficients may do what no step of alpha promised.
        coefficients_improve = (
            finite
            & ~first
            & (actual >= -rounding_level)
            & (state.moments.drift > limits.ftol)
            & state.scoring
        )
        ratio = jnp.where(coefficients_improve, jnp.clip(ratio, 1.0, 2.0), ratio)
        accepted = accepted | coefficients_improve
    length, share = state.length, state.share
    if reweighted:
        # Scoring takes the curvature that is expected for the one that is: where few counts tell of a
        # parameter that is half of it or twice, and steps overshoot for ever. What the last step
        # gained tells: with the curvature l times what was expected, (1 - l s / 2) / (1 - s / 2).
        gain_ratio = jnp.where(state.predicted > 0, actual / state.predicted, 1.0)
        curvature_ratio = (2.0 - gain_ratio * (2.0 - length)) / length
        new_length = jnp.clip(1.0 / jnp.maximum(curvature_ratio, 0.1), 0.3, 1.5)
        informative = accepted & ~first & state.scoring & (actual > rounding_level)
        length = jnp.where(informative, new_length, length)
        share = jnp.where(state.scoring, share * jnp.where(accepted, 4.0, 0.5), share)
        share = jnp.minimum(share, 1.0)
    current = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, state.moments)
    if reweighted:
        settled = current.drift <= limits.ftol
    alpha = jnp.where(accepted, state.trial, state.alpha)
    damping = jnp.where(
        accepted,
        state.damping * jnp.where(first, 1.0, jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)),
        state.damping * state.growth,
    )
    damping = jnp.maximum(damping, eps)
    growth = jnp.where(accepted, 2.0, 2 * state.growth)
    bad = jnp.where(finite, 0, state.bad + 1)
    diagonal = jnp.diagonal(current.full)
    scale = jnp.maximum(state.scale, jnp.where(accepted, diagonal, state.scale))
    free = _free(alpha, current.gradient, curve)
    trial, predicted = _trial(alpha, current, scale, damping, free, curve, length)
    # The cost that a full step from here still promises to remove, relative.
    reduction = newton_reduction(current, alpha, curve, scale)
    # Where a step is lost in the rounding of alpha nothing more can be had.
    stationary = jnp.all(jnp.abs(trial - alpha) <= eps * jnp.abs(alpha)) & settled
    exact = current.cost <= (eps**2) * jnp.sum(squared(y))
    # What is left is that of rounding in x or in the columns, and has no gradient to speak of.
    rounding = current.cost <= (_ROUNDING * eps) ** 2 * jnp.sum(squared(y))
    cosine = jnp.max(
        jnp.where(free, jnp.abs(current.gradient), 0.0) * inverse_root(diagonal), initial=0.0
    ) * inverse_root(2 * current.cost)
    status = jnp.full((), CurveStatus.WAITING, jnp.int32)
    for test, code in (
        (state.steps + 1 >= limits.max_steps, CurveStatus.MAX_STEPS),
        (stationary | (damping > 1 / eps), CurveStatus.STUCK),
        (
            (stationary | (damping > 1 / eps)) & ((cosine <= eps**0.4) | rounding),
            CurveStatus.FLOOR,
        ),
        ((reduction <= limits.ftol) & settled | exact, CurveStatus.SUCCESSFUL),
        ((first & ~finite) | (bad >= 20), CurveStatus.NONFINITE),
    ):
        status = jnp.where(test, code, status)
    state = _State(
        *(alpha, trial, current, scale, damping, growth, predicted, state.steps + 1, bad),
        *(state.scoring, length, share),
        status,
    )
    if not reweighted:
        return state
    ended = (
        (reduction <= _LOOSE) | (status == CurveStatus.SUCCESSFUL) | (status == CurveStatus.FLOOR)
    )
    # From here on another function is minimised.
    scoring_state = state._replace(
        trial=alpha,
        moments=current._replace(cost=jnp.full_like(current.cost, jnp.inf)),
        scale=jnp.zeros_like(scale),
        damping=jnp.minimum(damping, 1e-2),
        growth=jnp.full_like(growth, 2.0),
        scoring=jnp.ones((), bool),
        status=jnp.full_like(status, CurveStatus.WAITING),
    )
    starts_scoring = ended & ~state.scoring
    return jax.tree.map(lambda a, b: jnp.where(starts_scoring, a, b), scoring_state, state)


def _moments_there(
    columns: Assembled, there: Array, curve: Curve, limits: Limits, before: PreviousWeights
) -> Moments:
    """The moments at a point of the coordinates that are sought, with derivatives by them."""
    inverses = limits.inverses
    at = moments(columns, inverses.of(there), curve, limits.noise, before)
    if not inverses.places:
        return at
    slopes = inverses.slopes(there)
    pairs = slopes[:, None] * slopes
    return at._replace(
        gradient=at.gradient * slopes,
        full=at.full * pairs,
        kaufman=at.kaufman * pairs,
        cross=at.cross * slopes,
    )


def _free(alpha, gradient, curve: Curve) -> Array:
    if curve.lower is None or curve.upper is None:
        return jnp.ones(alpha.shape, bool)
    # At the end of a width the slope may vanish: it is even there.
    outward = (alpha <= curve.lower) & (gradient >= 0) | (alpha >= curve.upper) & (gradient <= 0)
    return ~(outward | (curve.lower == curve.upper))


def _masked(matrix: Array, free: Array) -> Array:
    both_free = free[:, None] & free
    return jnp.where(both_free, matrix, jnp.where(jnp.eye(free.size, dtype=bool), 1.0, 0.0))


def newton_reduction(point: Moments, alpha: Array, curve: Curve, scale: Array) -> Array:
    """What a Gauss-Newton step removes of the cost, relative to it."""
    free = _free(alpha, point.gradient, curve)
    slope = jnp.where(free, point.gradient, 0.0)
    # The matrix without the last term is the curvature of what the step can predict.
    step = solve(_masked(point.full, free), slope)
    return 0.5 * jnp.sum(slope * step) / jnp.where(point.cost > 0, point.cost, 1.0)


def _trial(
    alpha, point: Moments, scale, damping, free, curve: Curve, length
) -> tuple[Array, Array]:
    """The damped step, of this length, kept inside the bounds, and the reduction that it predicts."""
    damped = point.full + jnp.diag(jnp.where(scale > 0, scale, 1.0) * damping)

    def damped_step(free, slope):
        step = solve(_masked(damped, free), jnp.where(free, slope, 0.0))
        return jnp.where(free, -step, 0.0)

    step = damped_step(free, point.gradient)
    if curve.lower is not None and curve.upper is not None:
        # What would leave the box goes to its bound, and the rest is minimised anew.
        inside = jnp.clip(alpha + step, curve.lower, curve.upper)
        outside = free & (inside != alpha + step)
        bound_step = jnp.where(outside, inside - alpha, 0.0)
        step = bound_step + damped_step(free & ~outside, point.gradient + damped @ bound_step)
        step = jnp.clip(alpha + length * step, curve.lower, curve.upper) - alpha
    else:
        step = length * step
    predicted = -(jnp.sum(point.gradient * step) + 0.5 * jnp.sum(step * (point.full @ step)))
    return alpha + step, predicted


class LaneOptima(NamedTuple):
    """Where the searches of b problems ended, and with which coefficients."""

    alpha: Float[Array, "b p"]
    coef: Inexact[Array, "b n"]
    status: Int[Array, " b"]
    steps: Int[Array, " b"]


def search_lanes(
    columns: Assembled,
    curves: Curve,
    start: Float[Array, "b p"],
    limits: Limits,
    lanes: int,
) -> LaneOptima:
    """The optimum of every problem. Weights and bounds are one row for all or one for each."""
    inverses = limits.inverses
    if not inverses.places:
        return _searched(columns, curves, start, limits, lanes)
    sought, box = curves, (curves.lower, curves.upper)
    if box[0] is not None and box[1] is not None:
        lower, upper = (jnp.broadcast_to(jnp.asarray(end), start.shape) for end in box)
        ends = jax.vmap(inverses.bounds)(lower, upper, start)
        sought = curves._replace(lower=ends[0], upper=ends[1])
    there = jax.vmap(inverses.of)(start)
    found = _searched(columns, sought, there, limits, lanes)
    alpha = jax.vmap(inverses.of)(found.alpha)
    if sought is not curves:
        alpha = jax.vmap(inverses.inside)(alpha, lower, upper)
    return found._replace(alpha=alpha)


def _searched(
    columns: Assembled,
    curves: Curve,
    start: Float[Array, "b p"],
    limits: Limits,
    lanes: int,
) -> LaneOptima:
    """The same in the coordinates that are sought."""
    b, m = curves.y.shape
    n = columns.linear.width(len(columns.model.columns))
    num_model = m if limits.noise.follows_model else 0
    types = _Types(start.dtype if columns.linear.real else curves.y.dtype, curves.y.dtype)
    initial_states = jax.vmap(
        lambda alpha: _initial_state(alpha, n, num_model, limits.damping, types)
    )
    common = curves.common()
    separate = curves._replace(**dict.fromkeys(common))

    def problems_of(index):
        """What the problems of these numbers have of their own."""
        return jax.tree.map(lambda a: a[jnp.minimum(index, b - 1)], separate)

    def step(state, lane):
        step_of_one = lambda s, c: _step(columns, limits, s, c._replace(**common))  # noqa: E731
        return jax.vmap(step_of_one)(state, lane)

    def body(carry):
        state, index, following, lane, steps, optima = carry
        state = step(state, lane)
        steps = steps + 1
        done = (state.status != CurveStatus.WAITING) & (index < b)
        # A lane that is not done writes nowhere, and takes no new problem.
        row = jnp.where(done, index, b)
        optima = LaneOptima(
            optima.alpha.at[row].set(state.alpha, mode="drop"),
            optima.coef.at[row].set(state.moments.coef, mode="drop"),
            optima.status.at[row].set(state.status, mode="drop"),
            optima.steps.at[row].set(steps, mode="drop"),
        )
        index = jnp.where(done, following + jnp.cumsum(done) - 1, index)
        following = following + jnp.sum(done)

        def refilled():
            new = initial_states(start[jnp.minimum(index, b - 1)]), problems_of(index)
            return jax.tree.map(lambda a, b: _where_lane(done, a, b), new, (state, lane))

        state, lane = jax.lax.cond(jnp.any(done), refilled, lambda: (state, lane))
        return state, index, following, lane, jnp.where(done, 0, steps), optima

    index, count = jnp.arange(lanes), jnp.zeros((lanes,), jnp.int32)
    dtype = start.dtype
    optima = LaneOptima(
        jnp.zeros(start.shape, dtype),
        jnp.zeros((b, n), types.coef),
        jnp.zeros((b,), jnp.int32),
        jnp.zeros((b,), jnp.int32),
    )
    state = initial_states(start[jnp.minimum(index, b - 1)])
    carry = (state, index, jnp.array(lanes), problems_of(index), count, optima)
    return jax.lax.while_loop(lambda c: jnp.any(c[1] < b), body, carry)[-1]


def _where_lane(which: Bool[Array, " l"], new: Array, old: Array) -> Array:
    return jnp.where(which.reshape(-1, *([1] * (old.ndim - 1))), new, old)
