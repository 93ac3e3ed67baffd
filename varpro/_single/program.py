"""The compiled program of a fit of one data set, one per shape, and what it refuses to return."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import REAL_DATA, InputError
from .._parameters.inverses import Inverses
from .._parameters.layout import Coordinates
from .._problem.checks import check_columns
from .._problem.columns import Assembled
from .._problem.data import Data
from .._problem.linear_constraints import Linear
from .._problem.noise import AbstractNoise
from .._problem.problem import Problem
from .._programs.program import program
from .._reduced.by_group import AnyReduced, reduction, with_coefficients
from .._search.cross_validation import best_strength
from .._search.likelihood import Box, Sample, likeliest
from .._search.minimise import Search
from .._search.multistart import best_of
from .._search.progress import newton_teller
from .._search.shared_likelihood import eliminated, likeliest_of_all, weighted_by
from .._statistics.covariance import covariance_blocks
from .._statistics.solution import DatasetOptimum, FitSolution
from .._status import Status
from .._types import ArrayIn
from .ready import Ready

# Rounds of new weights at most.
_ROUNDS = 10


def run_program(
    fit: Ready,
    points: np.ndarray,
    data: Data,
    linear: Linear,
    noise: AbstractNoise | None = None,
) -> FitSolution:
    """Run the compiled program, after a look at the basis where it starts. `noise`: one whose weights
    follow the model; the data then have the given ones."""
    problem = fit.problem(data, linear, noise is None)
    points = points.astype(data.real)
    solution = _least_squares(fit, problem, points)
    if noise is not None:
        solution = _likeliest(fit, problem, points, solution, noise)
    optimum = solution.optimum.of_data(*data.y.shape)
    if solution.weights is not None:
        # Right-hand sides are not filled up where weights follow the model.
        solution = dataclasses.replace(solution, weights=solution.weights[: len(data.y)])
    if optimum.fitted is None:
        coef = linear.sought_of(optimum.coef)
        y = data.y if fit.groups else data.y[:, :0]
        only = Problem(fit.columns, y, None, problem.linear, groups=fit.groups)
        optimum = dataclasses.replace(optimum, fitted=np.asarray(_curve(only, optimum.alpha, coef)))
    assert optimum.fitted is not None
    if np.iscomplexobj(optimum.fitted) and not np.iscomplexobj(data.y):
        raise InputError(REAL_DATA)
    moved, names = fit.moved, fit.setup.layout.names
    check_columns(fit.model, optimum.start_size, optimum.start, moved, names)
    status = solution.status
    if status.converged and status.stop != "fit" and _has_vanished(fit, optimum, data):
        status = status.as_vanished
    return dataclasses.replace(solution, optimum=optimum, status=status)


def _has_vanished(fit: Ready, optimum: DatasetOptimum, data: Data) -> bool:
    """Whether some parameter has no effect at the end of a search."""
    # All of it moves the curve by less than the rounding of that.
    if np.any(optimum.blocks.without_effect(fit.setup.changes(optimum.alpha), optimum.size)):
        return True
    # What every column adds that it moves is lost in the rounding of the cost, and nothing says where it should be.
    unseen = optimum.share < 8 * float(np.finfo(data.real).eps) ** 0.5
    if not np.any(unseen & fit.moved):
        return False
    layout = fit.setup.layout
    rows = layout.free_of(fit.model.made_of())
    for i in layout.free:
        moves = np.array([i in row for row in rows])
        if moves.any() and np.all(unseen[moves]):
            return True
    return False


@program
def _curve(problem: Problem, alpha: ArrayIn, coef: ArrayIn) -> Array:
    return problem.curve(jnp.asarray(alpha), jnp.asarray(coef))


def _least_squares(fit: Ready, problem: Problem, points: np.ndarray) -> FitSolution:
    return _program.on_host(
        problem, fit.coordinates, points, fit.how, fit.bounded, fit.setup.inverses
    )


def _likeliest(
    fit: Ready, problem: Problem, points: np.ndarray, first: FitSolution, noise: AbstractNoise
) -> FitSolution:
    """The minimum of the cost of `noise` near that of least squares with the given weights, `first`.

    Least squares with the weights of the last model walks along valleys that are narrow in parameters and
    coefficients together; the cost itself ends each round. Each search is the program of a fit without
    noise, so that all that is compiled for a noise is the end of it.
    """
    solution, status, sides = first, first.status, problem.y.shape[1]
    for _ in range(_ROUNDS if sides == 1 else 1):
        found = solution
        if sides == 1:
            coef = _sought(problem.linear, solution.optimum)
            weights = _next_weights.on_host(problem, solution.optimum.alpha, coef, noise)
            weighted = dataclasses.replace(problem, weights=weights)
            again = np.broadcast_to(solution.optimum.alpha, points.shape).astype(points.dtype)
            found = _least_squares(fit, weighted, again)
            status = status.plus(found.status)
        solution = _likelihood_program.on_host(
            *(
                problem,
                fit.coordinates,
                found.optimum.alpha,
                _sought(problem.linear, found.optimum),
            ),
            *(status, fit.how, fit.bounded, noise),
        )
        status = solution.status
        if status.converged or not np.isfinite(solution.cost):
            break
    return dataclasses.replace(solution, start_costs=first.start_costs)


def _sought(linear: Linear, optimum: DatasetOptimum) -> np.ndarray:
    return linear.sought_of(optimum.coef)


def _entries(problem: Problem, coordinates: Coordinates, points: ArrayIn, *_: object) -> float:
    """Numbers that one evaluation makes: columns, derivatives by each coordinate, residuals."""
    m, k = problem.y.shape
    columns = problem.columns
    assert isinstance(columns, Assembled)
    width = sum(group.width for group in columns.model.groups)
    starts = len(points) if np.ndim(points) == 2 else 1
    return float(m * (width + coordinates.start.size + k) * starts)


@program(entries=_entries)
def _program(
    problem: Problem,
    coordinates: Coordinates,
    points: ArrayIn,
    how: Search,
    bounded: bool,
    inverses: Inverses,
) -> FitSolution:
    """Everything that is computed for a fit, one program per shape."""
    columns = problem.columns
    assert isinstance(columns, Assembled)
    reduced = reduction(problem, how.linear_solver, how.jacobian)
    limits = _limits(coordinates, bounded)
    given = reduced, jnp.asarray(points), limits, how, inverses, columns.values
    alpha, found, point, start_costs = best_of(*given)
    if columns.layout.exchange:
        alpha = columns.layout.sorted_components(alpha)
        _, point = reduced.evaluate(alpha)
    status = Status.of(found.result, found.stats)
    optimum = _optimum(problem, problem, reduced, coordinates, alpha, point)
    strength = best_strength(problem, alpha)
    return FitSolution(optimum, status, reduced.cost(alpha, point), start_costs, strength)


@program(entries=_entries)
def _likelihood_program(
    problem: Problem,
    coordinates: Coordinates,
    alpha: ArrayIn,
    coef: ArrayIn,
    status: Status,
    how: Search,
    bounded: bool,
    noise: AbstractNoise,
) -> FitSolution:
    """The minimum of the cost of `noise` near (alpha, coef), and all that is told of a fit there."""
    limits = _limits(coordinates, bounded)
    alpha, coef = jnp.asarray(alpha), jnp.asarray(coef)
    least = _least_of_one if problem.y.shape[1] == 1 else _least_of_several
    columns = problem.columns
    assert isinstance(columns, Assembled)
    told = newton_teller(how.watch, columns.values)
    alpha, coef, weighted, status = least(problem, limits, alpha, coef, status, noise, told)
    seen = problem if noise.robust else weighted
    reduced, point = with_coefficients(
        reduction(seen, how.linear_solver, how.jacobian), alpha, coef
    )
    optimum = _optimum(problem, weighted, reduced, coordinates, alpha, point)
    cost, strength = weighted.cost(alpha, coef), best_strength(weighted, alpha)
    return FitSolution(optimum, status, cost, cost[None], strength, _last_weights(weighted))


def _limits(coordinates: Coordinates, bounded: bool) -> tuple[Array | None, Array | None]:
    ends = jnp.asarray(coordinates.lower), jnp.asarray(coordinates.upper)
    return ends if bounded else (None, None)


def _optimum(
    given: Problem,
    problem: Problem,
    reduced: AnyReduced,
    coordinates: Coordinates,
    alpha: Array,
    point: PyTree,
) -> DatasetOptimum:
    """What is told of a fit at its end: `given` are the data with their own weights, `problem` with those of
    the end, and of `reduced` the covariance is made."""
    columns = problem.columns
    assert isinstance(columns, Assembled)
    start = jnp.asarray(coordinates.start)
    lower, upper = jnp.asarray(coordinates.lower), jnp.asarray(coordinates.upper)
    on_bound = (alpha <= lower) | (alpha >= upper)
    blocks = covariance_blocks(reduced, alpha, point, on_bound)
    transform = (
        jax.jacfwd(columns.values)(alpha)
        if alpha.size
        else jnp.zeros((columns.numbers.start.size, 0))
    )
    return DatasetOptimum.at(
        problem,
        alpha,
        point.coef,
        blocks,
        start=columns.values(start),
        start_size=given.column_size(start)[1],
        values=columns.values(alpha),
        transform=transform,
        on_bound=(transform != 0) @ on_bound,
        # Of large data after this program, when its copy of them is gone.
        fitted=not problem.large,
    )


def _last_weights(problem: Problem) -> Array | None:
    """Weights (m,), or (m, k) of several right-hand sides."""
    weights = problem.weights if problem.column_weights is None else problem.column_weights
    return None if weights is None else jnp.asarray(weights)


@program
def _next_weights(problem: Problem, alpha: ArrayIn, coef: ArrayIn, noise: AbstractNoise) -> Array:
    """Weights (m,) that belong to the model at (alpha, coef)."""
    return _reweighted(problem, jnp.asarray(alpha), jnp.asarray(coef), noise)


def _reweighted(problem: Problem, alpha: Array, coef: Array, noise: AbstractNoise) -> Array:
    assert problem.weights is not None
    y, given = jnp.asarray(problem.y)[:, 0], jnp.asarray(problem.weights)
    model = problem.curve(alpha, coef)[:, 0]
    return noise.weights(model, y, given, jnp.ones((), alpha.dtype))


def _least_of_one(
    problem: Problem,
    limits: tuple[Array | None, Array | None],
    alpha: Array,
    coef: Array,
    status: Status,
    noise: AbstractNoise,
    told: Callable[..., Array] | None,
) -> tuple[Array, Array, Problem, Status]:
    """The minimum of the cost near (alpha, coef), the problem with the weights that belong to it, and the
    status of this search and those before it."""
    linear, y = problem.linear, jnp.asarray(problem.y)[:, 0]
    assert problem.weights is not None
    given, unit = jnp.asarray(problem.weights), jnp.ones((), alpha.dtype)
    bounds = [None if b is None else jnp.asarray(b)[:, 0] for b in (linear.lower, linear.upper)]
    sample, box = Sample(y, given, unit, noise), Box(*limits, *bounds)
    end = likeliest(problem.columns, linear, sample, box, alpha, coef[:, 0], told=told)
    coef = end.coef[:, None]
    weights = _reweighted(problem, end.alpha, coef, noise)
    status = status.followed_by(end.converged, jnp.isfinite(end.cost), end.steps)
    return end.alpha, coef, dataclasses.replace(problem, weights=weights), status


def _least_of_several(
    problem: Problem,
    limits: tuple[Array | None, Array | None],
    alpha: Array,
    coef: Array,
    status: Status,
    noise: AbstractNoise,
    told: Callable[..., Array] | None,
) -> tuple[Array, Array, Problem, Status]:
    """The same of several right-hand sides, each with weights of its own."""
    columns = problem.columns
    assert isinstance(columns, Assembled)

    def residuals(alpha):
        found = columns.prior(alpha)
        assert found is not None
        return found

    prior = residuals if columns.priors and alpha.size else None

    def evaluate(alpha, coef):
        return eliminated(problem, noise, alpha, coef)

    end = likeliest_of_all(evaluate, prior, limits, alpha, coef, told)
    status = status.followed_by(end.converged, jnp.isfinite(end.cost), end.steps)
    return end.alpha, end.coef, weighted_by(problem, noise, end.alpha, end.coef), status
