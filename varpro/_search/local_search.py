"""Levenberg and Marquardt's steps where the normal equations are block tridiagonal (`_reduced/local_columns`).

The damping is Marquardt's, times the squared norm of each column; it follows the gain as Nielsen's (K.
Madsen, H. B. Nielsen, O. Tingleff, Methods for non-linear least squares problems, 2004). The tests of
convergence are those of `levenberg_marquardt`, for steps in units of those norms.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int

from .._reduced.local_columns import Linearised, LocalPoint, LocalProblem, Placed, step_factor
from .._status import RESULTS, STOP
from .levenberg_marquardt import LevenbergMarquardt

_BEGIN, _MOST = 1e-3, 1e13
# Trial points beyond the tiles after which larger ones are needed.
_OVERRUNS = 4


class LocalEnd(NamedTuple):
    """Where a search ended; `overrun`: it may have ended there because points beyond did not fit the tiles,
    and were not taken."""

    alpha: Float[Array, " p"]
    point: LocalPoint
    result: RESULTS
    stats: dict[str, Array]
    overrun: Bool[Array, ""]


class _State(eqx.Module):
    alpha: Float[Array, " p"]
    point: LocalPoint
    placed: Placed
    linear: Linearised
    damping: Float[Array, ""]
    growth: Float[Array, ""]
    steps: Int[Array, ""]
    jacobians: Int[Array, ""]
    overruns: Int[Array, ""]  # trial points that did not fit the tiles
    stop: STOP


def local_search(
    problem: LocalProblem,
    alpha0: Float[Array, " p"],
    lower: Float[Array, " p"],
    upper: Float[Array, " p"],
    solver: LevenbergMarquardt,
    max_steps: int,
) -> LocalEnd:
    """The optimum of `problem` from alpha0, between bounds."""
    eps = float(jnp.finfo(problem.y.dtype).eps)
    numbers = problem.numbers
    alpha0 = jnp.clip(alpha0, lower, upper)
    point, placed = problem.evaluate(alpha0)
    linear = problem.linearised(alpha0, point, placed)
    size = jnp.sum(problem.weighted_y**2)

    def step(state: _State) -> _State:
        alpha, linear, point = state.alpha, state.linear, state.point
        slope, sizes = linear.slope, linear.sizes
        held = (
            ((alpha <= lower) & (slope <= 0)) | ((alpha >= upper) & (slope >= 0)) | (lower == upper)
        )
        real = jnp.where(held, 1.0, 0.0).astype(alpha.dtype)
        fixed = problem.from_alpha(state.placed, numbers, real, 0.0)
        damping = state.damping * sizes * (1 - real)
        damped = problem.from_alpha(state.placed, numbers, damping, 0.0)
        factor = step_factor(linear.matrix, damped, fixed)
        right = tuple(r * (1 - f) for r, f in zip(linear.right, fixed, strict=True))
        found = factor.solve(*right)
        move = problem.to_alpha(state.placed, numbers, found, alpha)
        trial = jnp.clip(alpha + move, lower, upper)
        move = trial - alpha
        new, place = problem.evaluate(trial)
        overruns = state.overruns + (~place.fits & jnp.all(jnp.isfinite(trial)))
        cost = jnp.where(point.cost > 0, point.cost, 1.0)
        # Differences of residuals keep the digits of a small reduction.
        change = new.resid - point.resid
        actual = -0.5 * jnp.sum(change * (new.resid + point.resid)) / cost
        predicted = 0.5 * (jnp.sum(slope * move) + jnp.sum(damping * move**2)) / cost
        ratio = actual / jnp.where(predicted > 0, predicted, 1.0)
        good = new.finite & jnp.all(jnp.isfinite(trial)) & (predicted > 0)
        close = good & (jnp.abs(actual) <= 64 * eps) & (predicted <= 64 * eps)
        accepted = good & (ratio > 1e-4)
        cosine = jnp.max(
            jnp.where(held | (sizes <= 0), 0.0, jnp.abs(slope))
            / jnp.sqrt(jnp.where(sizes > 0, sizes, 1.0) * 2 * cost),
            initial=0.0,
        )
        length = jnp.sqrt(jnp.sum(sizes * move**2))
        whole = jnp.sqrt(jnp.sum(sizes * alpha**2))
        short = good & (length <= solver.xtol * whole) & (state.damping <= 1e-2)
        flat = good & (jnp.abs(actual) <= solver.ftol) & (predicted <= solver.ftol)
        lost = state.damping >= _MOST
        stop = STOP.running
        for test, member in (
            (lost & (cosine > eps**0.4), STOP.stuck),
            (lost & ~(cosine > eps**0.4), STOP.floor),
            (close & ~accepted, STOP.floor),
            (flat, STOP.ftol),
            (short, STOP.xtol),
            (cosine <= solver.gtol, STOP.gtol),
            (point.cost <= eps**2 * size, STOP.fit),
            (~state.point.finite, STOP.nonfinite),
        ):
            stop = STOP.where(test, member, stop)
        damping = jnp.where(
            accepted,
            jnp.maximum(state.damping * jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3), 1e-14),
            state.damping * state.growth,
        )
        following = jax.lax.cond(
            accepted,
            lambda: problem.linearised(trial, new, place),
            lambda: linear,
        )
        return _State(
            jnp.where(accepted, trial, alpha),
            jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, point),
            jax.tree.map(lambda a, b: jnp.where(accepted, a, b), place, state.placed),
            following,
            damping,
            jnp.where(accepted, 2.0, 2 * state.growth),
            state.steps + 1,
            state.jacobians + accepted,
            overruns,
            stop,
        )

    number = jnp.zeros((), jnp.int32)
    one = jnp.ones((), alpha0.dtype)
    begin = _State(
        *(alpha0, point, placed, linear, _BEGIN * one, 2 * one, number, number + 1),
        *(jnp.where(placed.fits, number, _OVERRUNS), STOP.running),
    )

    def unfinished(state):
        going = (state.stop == STOP.running) & (state.overruns < _OVERRUNS)
        return going & (state.steps < max_steps)

    end = jax.lax.while_loop(unfinished, step, begin)
    result = RESULTS.promote(
        optx.RESULTS.where(
            end.stop == STOP.stuck,
            optx.RESULTS.nonlinear_divergence,
            optx.RESULTS.where(
                end.stop == STOP.running,
                optx.RESULTS.nonlinear_max_steps_reached,
                optx.RESULTS.where(
                    end.stop == STOP.nonfinite, optx.RESULTS.nonfinite, optx.RESULTS.successful
                ),
            ),
        )
    )
    stats = {
        "stop": end.stop,
        "num_steps": end.steps,
        "num_residuals": end.steps + 1,
        "num_jacobians": end.jacobians,
        "at_lower": end.alpha <= lower,
        "at_upper": end.alpha >= upper,
    }
    # An optimum inside is one, whatever was tried on the way.
    overrun = (end.overruns > 0) & (result != RESULTS.successful)
    return LocalEnd(end.alpha, end.point, result, stats, overrun)
