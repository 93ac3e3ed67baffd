"""How to search for the optimum of a reduced problem, by one call of optimistix."""

from typing import get_args

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, PyTree

from .._errors import InputError
from .._reduced.abstract import AbstractReduced, Jacobian, reduced_residual
from .._status import RESULTS
from ..linalg import SVD, AbstractPinvSolver
from .levenberg_marquardt import LevenbergMarquardt

Solver = optx.AbstractLeastSquaresSolver | optx.AbstractMinimiser


class Search(eqx.Module):
    """How to look for the optimum: everything about a solve but the problem itself."""

    solver: Solver
    linear_solver: AbstractPinvSolver
    jacobian: Jacobian = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)


def search(
    solver: Solver | None = None,
    linear_solver: AbstractPinvSolver | None = None,
    jacobian: Jacobian | None = None,
    max_steps: int | None = None,
) -> Search:
    """The search with defaults filled in."""
    jacobian = "auto" if jacobian is None else jacobian
    if jacobian not in get_args(Jacobian):
        raise InputError(f"jacobian must be one of {get_args(Jacobian)}, not {jacobian!r}.")
    steps = 256 if max_steps is None else max_steps
    if steps < 1:
        raise InputError(f"max_steps must be at least 1, not {steps}.")
    return Search(
        LevenbergMarquardt() if solver is None else solver,
        SVD() if linear_solver is None else linear_solver,
        jacobian,
        steps,
    )


class SearchEnd(eqx.Module):
    """Where a search ended: nothing here but integers and flags, which have no derivative."""

    result: RESULTS
    stats: dict[str, Array]


def locate(
    reduced: AbstractReduced,
    bounds: PyTree,
    alpha0: Float[Array, " p"],
    how: Search,
    history: int = 0,
) -> tuple[Float[Array, " p"], SearchEnd, PyTree]:
    """The optimal alpha, how it was found, and what the last evaluation knows. Not to be
    differentiated. `history`: of how many steps the cost is kept, where our solver steps."""
    lower, upper = bounds
    if alpha0.size == 0:
        alpha, stats, result = alpha0, {"num_steps": jnp.array(0)}, RESULTS.successful
        _, point = reduced.evaluate(alpha0)
    elif isinstance(how.solver, LevenbergMarquardt):
        options = {"lower": lower, "upper": upper, "jacobian": _jacobian}
        options |= {"data_norm": reduced.data_norm(alpha0)}
        options |= {"history": history} if history else {}
        rounding_factor = reduced.rounding_factor(alpha0)
        if rounding_factor is not None:
            options["rounding_factor"] = rounding_factor
        solution = optx.least_squares(
            _evaluate,
            how.solver,
            alpha0,
            args=reduced,
            options=options,
            has_aux=True,
            max_steps=how.max_steps,
            throw=False,
        )
        alpha, stats, result = solution.value, solution.stats, RESULTS.promote(solution.result)
        point = solution.aux
    else:
        if lower is not None or upper is not None:
            raise InputError(
                f"{type(how.solver).__name__} knows no bounds. Use varpro.LevenbergMarquardt, or "
                "remove the bounds."
            )
        solution = optx.least_squares(
            lambda alpha, args: reduced_residual(args, alpha),
            how.solver,
            alpha0,
            args=reduced,
            max_steps=how.max_steps,
            throw=False,
        )
        alpha, stats, result = solution.value, solution.stats, RESULTS.promote(solution.result)
        _, point = reduced.evaluate(alpha)
    stats = {k: v for k, v in stats.items() if k != "max_steps"}
    return alpha, SearchEnd(result, stats | reduced.quality(point)), point


def _evaluate(alpha, reduced):
    return reduced.evaluate(alpha)


def _jacobian(alpha, resid, point, reduced):
    return reduced.rotated(alpha, point)


def typed(how: Search, real: np.dtype) -> Search:
    """Tolerances as arrays: they enter compiled programs, and new ones do not compile anew."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, real) if isinstance(leaf, float) else leaf, how
    )
