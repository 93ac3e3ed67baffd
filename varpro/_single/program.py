"""The compiled program of a fit of one data set, one per shape, and what it refuses to return."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

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
from .._search.levenberg_marquardt import STOP, STOP_NAMES
from .._search.minimise import Search
from .._search.multistart import best_of
from .._starts.declare import Setup
from .._statistics.covariance import covariance_blocks
from .._status import RESULT_NAMES, RESULTS, enum_index
from .._types import ArrayIn
from ..basis import Model, without_names
from ..linalg import column_scale


def run_program(
    built: Model,
    setup: Setup,
    points: np.ndarray,
    data: Data,
    how: Search,
    linear: Linear,
) -> dict[str, PyTree]:
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
    out = _program(problem, coordinates, points, how, setup.bounded)
    out = jax.device_get(out)
    if out["fitted"] is None:
        coef = out["coef"] if linear.mix is None else out["coef"][list(linear.sought)]
        empty = dataclasses.replace(problem, y=data.y[:, :0], weights=None, column_weights=None)
        out["fitted"] = np.asarray(_curve(empty, out["alpha"], coef))
    if np.iscomplexobj(out["fitted"]) and not np.iscomplexobj(data.y):
        raise InputError(REAL_DATA)
    # Of several starts another may do better.
    check_columns(built, out, built.moved_by(layout.free) & (len(points) == 1), layout.names)
    return out


@eqx.filter_jit
def _curve(problem: Problem, alpha: ArrayIn, coef: ArrayIn) -> Array:
    return problem.curve(jnp.asarray(alpha), jnp.asarray(coef))


@cached_jit
def _program(
    problem: Problem, coordinates: Coordinates, points: ArrayIn, how: Search, bounded: bool
) -> dict[str, PyTree]:
    """Everything that is computed for a fit, one program per shape."""
    columns = problem.columns
    assert isinstance(columns, Assembled)
    start = jnp.asarray(coordinates.start)
    lower, upper = jnp.asarray(coordinates.lower), jnp.asarray(coordinates.upper)
    limits = (lower, upper) if bounded else (None, None)
    used = problem.weighted(columns.phi(start))
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
    stats = dict(found.stats)
    return {
        "start_size": jnp.where(column_scale(used) < jnp.inf, jnp.max(jnp.abs(used), axis=0), 0.0),
        "start": columns.values(start),
        "values": columns.values(alpha),
        "coef": problem.linear.all_of(point.coef),
        "coef_at_bound": jnp.broadcast_to(blocks.held_coef, blocks.sensitivity.shape[:2]).T,
        "num_linear": blocks.count,
        "strength": best_strength(problem, alpha),
        # Of large data after this program, when its copy of them is gone.
        "fitted": None if problem.large else problem.curve(alpha, point.coef),
        "cost": reduced.cost(alpha, point),
        "chisq": problem.chisq(alpha, point.coef),
        "start_costs": start_costs,
        "status": enum_index(found.result, RESULTS, RESULT_NAMES),
        "stop": enum_index(stats.pop("stop"), STOP, STOP_NAMES)
        if "stop" in stats
        else jnp.array(0),
        "stats": stats,
        "value_variance": blocks.value_variance(transform),
        "coef_variance": blocks.coef_variance(),
        "alpha": alpha,
        "transform": transform,
        "blocks": blocks,
        "on_bound": (transform != 0) @ on_bound,
        "rank": blocks.rank,
        "cond": blocks.cond,
        "cond_jac": blocks.cond_jac,
    }
