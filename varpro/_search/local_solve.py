"""A solve by tiles of a model whose columns are local, at the door of `solve`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._problem.functions import array_of
from ..basis import Model
from .levenberg_marquardt import LevenbergMarquardt
from .local_plan import concrete, local_group, local_solve
from .minimise import search
from .solution import Solution, bound_like


def solve_locally(
    built: Model,
    x: PyTree,
    y: Any,
    alpha0: dict[str, Any],
    weights: Any,
    bounds: tuple[PyTree, PyTree],
    solver: LevenbergMarquardt | None,
    max_steps: int | None,
) -> Solution | None:
    """The solve by tiles of a model whose columns are local, where that pays; else None."""
    group = local_group(built)
    if group is None or not concrete(x, y, alpha0, weights, bounds):
        return None
    if not isinstance(x, np.ndarray | jax.Array):
        return None
    y, x = np.asarray(array_of("y", y)), np.asarray(x)
    start = {name: np.asarray(array_of("alpha0", alpha0[name]), y.dtype) for name in built.names}
    single = all(value.shape == () for value in start.values())
    wide = y.dtype == np.float64 and jax.config.jax_enable_x64  # pyright: ignore
    if y.ndim != 1 or x.shape != y.shape or not wide or not single:
        return None
    given = (
        np.ones(y.shape) if weights is None else np.asarray(array_of("weights", weights), y.dtype)
    )
    if given.shape != y.shape:
        return None
    ends = []
    for bound, open_end in zip(bounds, (-np.inf, np.inf), strict=True):
        vector = bound_like(bound, start)
        by_key = dict(zip(sorted(start), range(len(start)), strict=True))
        full = np.full(len(start), open_end) if vector is None else np.asarray(vector)
        ends.append(full[[by_key[name] for name in built.names]] if vector is not None else full)
    alpha = np.array([float(start[name]) for name in built.names])
    steps = search(max_steps=max_steps).max_steps
    found = local_solve(
        *(built, group, x, y, given, alpha, (ends[0], ends[1])),
        *(LevenbergMarquardt() if solver is None else solver, steps),
    )
    if found is None:
        return None
    end, coef, resid = found
    value = dict(zip(built.names, np.asarray(end.alpha), strict=True))
    return Solution(
        {name: jnp.asarray(value[name]) for name in alpha0},
        jnp.asarray(coef[np.array(built.order)]),
        jnp.asarray(resid),
        end.point.cost,
        end.result,
        end.stats,
    )
