"""The compiled program of a fit of one data set, one per shape, and what it refuses to return."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._errors import REAL_DATA, InputError
from .._export_cache import cached_jit
from .._parameters.layout import Coordinates
from .._problem.checks import check_columns
from .._problem.columns import Assembled
from .._problem.data import Data
from .._problem.linear_constraints import Linear, as_typed
from .._problem.problem import Problem
from .._reduced.per_column import reduction
from .._search.cross_validation import best_strength
from .._search.minimise import Search
from .._search.multistart import best_of
from .._starts.declare import Setup
from .._statistics.covariance import covariance_blocks
from .._statistics.solution import DatasetOptimum, FitSolution
from .._status import Status
from .._types import ArrayIn
from ..basis import Model, without_names


def run_program(
    built: Model,
    setup: Setup,
    points: np.ndarray,
    data: Data,
    how: Search,
    linear: Linear,
) -> FitSolution:
    """Run the compiled program, after a look at the basis where it starts."""
    real, layout = data.real, setup.layout
    numbers, coordinates = setup.typed(real)
    problem = Problem(
        Assembled(without_names(built), without_names(layout), numbers, data.x, setup.priors),
        data.y,
        data.common,
        as_typed(linear, real),
        data.column_weights,
    )
    points = points.astype(real)
    solution = _program(problem, coordinates, points, how, setup.bounded)
    solution = jax.device_get(solution)
    optimum = solution.optimum
    if optimum.fitted is None:
        coef = optimum.coef if linear.mix is None else optimum.coef[list(linear.sought)]
        empty = dataclasses.replace(problem, y=data.y[:, :0], weights=None, column_weights=None)
        optimum = dataclasses.replace(
            optimum, fitted=np.asarray(_curve(empty, optimum.alpha, coef))
        )
    if np.iscomplexobj(optimum.fitted) and not np.iscomplexobj(data.y):
        raise InputError(REAL_DATA)
    # Of several starts another may do better.
    check_columns(
        built,
        optimum.start_size,
        optimum.start,
        built.moved_by(layout.free) & (len(points) == 1),
        layout.names,
    )
    return dataclasses.replace(solution, optimum=optimum)


@eqx.filter_jit
def _curve(problem: Problem, alpha: ArrayIn, coef: ArrayIn) -> Array:
    return problem.curve(jnp.asarray(alpha), jnp.asarray(coef))


@cached_jit
def _program(
    problem: Problem, coordinates: Coordinates, points: ArrayIn, how: Search, bounded: bool
) -> FitSolution:
    """Everything that is computed for a fit, one program per shape."""
    columns = problem.columns
    assert isinstance(columns, Assembled)
    start = jnp.asarray(coordinates.start)
    lower, upper = jnp.asarray(coordinates.lower), jnp.asarray(coordinates.upper)
    limits = (lower, upper) if bounded else (None, None)
    reduced = reduction(problem, how.linear_solver, how.jacobian)
    alpha, found, point, start_costs = best_of(reduced, jnp.asarray(points), limits, how)
    if columns.layout.exchange:
        alpha = columns.layout.sorted_components(alpha)
        _, point = reduced.evaluate(alpha)
    on_bound = (alpha <= lower) | (alpha >= upper)
    blocks = covariance_blocks(reduced, alpha, point, on_bound)
    transform = (
        jax.jacfwd(columns.values)(alpha)
        if alpha.size
        else jnp.zeros((columns.numbers.start.size, 0))
    )
    optimum = DatasetOptimum.at(
        problem,
        alpha,
        point.coef,
        blocks,
        start=columns.values(start),
        start_columns=problem.weighted(columns.phi(start)),
        values=columns.values(alpha),
        transform=transform,
        on_bound=(transform != 0) @ on_bound,
        # Of large data after this program, when its copy of them is gone.
        fitted=not problem.large,
    )
    return FitSolution(
        optimum,
        Status.of(found.result, found.stats),
        reduced.cost(alpha, point),
        start_costs,
        best_strength(problem, alpha),
    )
