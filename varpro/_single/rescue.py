"""What is tried before a search of one data set is given up.

A start from which no sample sees a component tells nothing of it; points near it may. A search that runs
against a cliff of the cost, such as the pole of a formula, or off to where nothing depends on a parameter,
took too long a step early: one with another first radius from the same start may not, nor one from beside it. And
a search that strayed from its start to a minimum that leaves more than noise has found what the start did not
mean. Nothing of this compiles, and what is returned has passed the same tests as any other fit.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np

from .._problem.checks import ZeroColumnError
from .._problem.data import Data
from .._problem.linear_constraints import Linear
from .._problem.noise import AbstractNoise
from .._search.levenberg_marquardt import LevenbergMarquardt
from .._search.multistart import start_points
from .._statistics.residual_tests import lag_test
from .._statistics.solution import FitSolution
from .program import run_program
from .ready import Ready

# First radii that are tried, as factors of the one that failed; and points near a start.
_RADII, _POINTS = (0.1, 10.0), 16
# Searches from an optimum that may improve it, and the relative change of the cost that is none.
_CONFIRMATIONS, _SAME = 4, 1e-8
# Where a parameter that ended at 0 begins again, as a part of its start; the relative gain that counts.
_BESIDE, _GAIN = 0.1, 1e-10
# The probability of noise whose neighbours are as much alike as those of a residual: below the first there is a
# doubt whether it is noise, below the second none that it is not; and how few samples tell.
_DOUBT, _SURE, _FEWEST = 0.05, 1e-3, 12
# Numbers in one evaluation of columns and their derivatives up to which points near a start are tried, and the steps
# after which a search is given up by the user and not by the problem.
_NUMBERS, _STEPS = 1_000_000, 256

# The solution of a fit that is ready, from points (s, p).
_Run = Callable[[Ready, np.ndarray], FitSolution]


def run_or_rescue(
    fit: Ready,
    points: np.ndarray,
    data: Data,
    linear: Linear,
    noise: AbstractNoise | None = None,
) -> FitSolution:
    """The solution from `points`, or what else may be had.

    **Raises:** `InputError` for columns that are zero at the start, and near it.
    """

    def run(fit: Ready, points: np.ndarray) -> FitSolution:
        return run_program(fit, points, data, linear, noise)

    try:
        solution = run(fit, points)
    except ZeroColumnError as error:
        near = _from_nearby(run, fit, data)
        if near is None:
            raise error
        return near
    if len(points) > 1 or not isinstance(fit.how.solver, LevenbergMarquardt):
        return solution
    least = 0.0
    small = len(data.y) * (len(fit.model.columns) + points.size + data.y.shape[1]) <= _NUMBERS
    if solution.status.converged:
        solution = _off_the_ends(run, fit, points[0], solution)
        strayed = small and _strayed(points[0], solution.optimum.alpha)
        if not strayed or _noise(solution, data) > _DOUBT:
            return solution
        least = _SURE
    elif solution.status.name in ("nonlinear_divergence", "nonfinite"):
        for times in _RADII:
            factor = np.asarray(fit.how.solver.factor * times, data.real)
            how = eqx.tree_at(lambda how: how.solver.factor, fit.how, factor)
            again = run(dataclasses.replace(fit, how=how), points)
            if again.cost <= solution.cost and (sound := _confirmed(run, fit, again)):
                solution, least = sound, _SURE
                break
        if solution.status.converged and (not small or _noise(solution, data) > _DOUBT):
            return solution
    elif fit.how.max_steps < _STEPS:
        return solution
    near = _from_nearby(run, fit, data, solution.cost, least) if small else None
    return solution if near is None else near


def _strayed(start: np.ndarray, alpha: np.ndarray) -> bool:
    """Whether a parameter has become twice or half what it was at the start, or more than that."""
    known = start != 0
    with np.errstate(all="ignore"):
        ratio = alpha[known] / start[known]
    return bool(np.any(~((ratio >= 0.5) & (ratio <= 2.0))))


def _noise(solution: FitSolution, data: Data) -> float:
    """The probability of noise whose neighbours are as much alike as those of the residual; 1 where nothing
    tells."""
    fitted = solution.optimum.fitted
    assert fitted is not None
    resid, used = data.y - fitted, np.any(data.keep.reshape(len(data.y), -1), axis=1)
    weights = data.weights if solution.weights is None else solution.weights
    if weights is not None:
        weights = weights.reshape(len(resid), -1)
        with np.errstate(all="ignore"):
            resid = resid * weights
        used = used & np.any(weights > 0, axis=1)
    if data.whitener is not None:
        resid = data.whitener @ resid
    x = jax.tree.leaves(data.x)
    if len(x) == 1 and x[0].ndim == 1:
        order = np.argsort(x[0], kind="stable")
        resid, used = resid[order], used[order]
    resid = resid[used]
    if np.iscomplexobj(resid):
        resid = np.concatenate([resid.real, resid.imag], axis=1)
    with np.errstate(all="ignore"):  # the curve of a search that was lost may be anything
        # What is left may be rounding.
        if not np.linalg.norm(data.y - fitted) > 1e-8 * np.linalg.norm(data.y):
            return 1.0
        test = lag_test(resid, _FEWEST)
    return 1.0 if test is None else test.p


def _off_the_ends(run: _Run, fit: Ready, point: np.ndarray, solution: FitSolution) -> FitSolution:
    """The solution, or a better one from beside it where a step led to 0: of an even function, such as that
    of a width, the slope vanishes there whether or not it is the optimum."""
    alpha, box = solution.optimum.alpha, fit.coordinates
    ended = (alpha == 0) & (np.asarray(box.lower) == 0) & (np.asarray(box.upper) > 0)
    if not np.any(ended):
        return solution
    beside = np.where(ended, np.abs(point) * _BESIDE, alpha)
    again = run(fit, beside[None])
    better = again.status.converged and again.cost < solution.cost * (1 - _GAIN)
    return again if better else solution


def _from(run: _Run, fit: Ready, point: np.ndarray) -> FitSolution | None:
    """The solution where `point` is the start; None where columns are zero there."""
    point = point.astype(np.asarray(fit.coordinates.start).dtype)
    there = dataclasses.replace(fit, coordinates=dataclasses.replace(fit.coordinates, start=point))
    try:
        return run(there, point[None])
    except ZeroColumnError:
        return None


def _confirmed(run: _Run, fit: Ready, solution: FitSolution) -> FitSolution | None:
    """An optimum at which a search that begins there, with steps of its own, stays; None without one. What
    was found by trying once more must stand more than what was found at once."""
    for _ in range(_CONFIRMATIONS):
        alpha = np.asarray(solution.optimum.alpha)
        if not (solution.status.converged and np.isfinite(alpha).all()):
            return None
        again = _from(run, fit, alpha)
        if again is None:
            return None
        if not again.cost < solution.cost * (1 - _SAME):
            return solution if again.status.converged else None
        solution = again
    return None


def _from_nearby(
    run: _Run, fit: Ready, data: Data, cost: float = np.inf, least: float = 0.0
) -> FitSolution | None:
    """Of the optima that are reached from points near the start the best one of less than this cost whose
    residual is noise with at least this probability; the first one that leaves no doubt about it ends the
    search. None without any."""
    best, most = None, cost * (1 - _SAME)
    for point in start_points(fit.coordinates, _POINTS + 1, seed=0)[1:]:
        solution = _from(run, fit, point)
        if solution is None or solution.cost >= most or not _noise(solution, data) >= least:
            continue
        if sound := _confirmed(run, fit, solution):
            best, most = sound, sound.cost
            if _noise(best, data) > _DOUBT:
                break
    return best
