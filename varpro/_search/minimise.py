"""How to search for the optimum of a reduced problem, by one call of optimistix."""

from collections.abc import Callable
from typing import Any, get_args

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, Int, PyTree

from .._errors import InputError
from .._given.arguments import choice, shown, whole
from .._parameters.inverses import Inverses
from .._reduced.abstract import AbstractReduced, AbstractResumed, Jacobian, reduced_residual
from .._status import RESULTS
from .._types import ArrayIn
from ..linalg import QR, SVD, AbstractPinvSolver
from .iterate import iterate
from .levenberg_marquardt import LevenbergMarquardt
from .progress import tell

Solver = optx.AbstractLeastSquaresSolver | optx.AbstractMinimiser


class Search(eqx.Module):
    """How to look for the optimum: everything about a solve but the problem itself. `watch`: who is told of
    its steps (`progress`)."""

    solver: Solver
    linear_solver: AbstractPinvSolver
    jacobian: Jacobian = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    watch: Int[ArrayIn, ""] | None = None


def search(
    solver: Solver | None = None,
    linear_solver: AbstractPinvSolver | None = None,
    jacobian: Jacobian | None = None,
    max_steps: int | None = None,
) -> Search:
    """The search with defaults filled in."""
    kind = choice("jacobian", "auto" if jacobian is None else jacobian, get_args(Jacobian))
    steps = whole("max_steps", 256 if max_steps is None else max_steps, 1)
    return Search(_solver(solver), _linear_solver(linear_solver), kind, steps)


def _solver(solver: Any) -> Solver:
    if solver is None:
        return LevenbergMarquardt()
    if isinstance(solver, optx.AbstractLeastSquaresSolver | optx.AbstractMinimiser):
        return solver
    if isinstance(solver, tuple) and hasattr(solver, "init") and hasattr(solver, "update"):
        hint = "An optimiser of optax goes in optimistix.OptaxMinimiser(optimiser, rtol, atol)."
    elif isinstance(solver, type) and issubclass(solver, optx.AbstractIterativeSolver):
        hint = f"That is a class: give one of it, {solver.__name__}(...)."
    else:
        hint = "Give vp.LevenbergMarquardt(), or a least-squares solver or minimiser of optimistix."
    raise InputError(f"solver={shown(solver)} is none. {hint}", argument="solver")


# Solvers of lineax by those that do the same here, and have the derivatives of variable projection.
_OF_LINEAX = {lx.QR: QR, lx.SVD: SVD}


def _linear_solver(solver: Any) -> AbstractPinvSolver:
    if solver is None:
        return SVD()
    if type(solver) in _OF_LINEAX:
        return _OF_LINEAX[type(solver)]()
    if isinstance(solver, AbstractPinvSolver):
        return solver
    raise InputError(
        f"linear_solver={shown(solver)} is none. Give vp.linalg.SVD(), QR(), PivotedQR() or another one "
        "of vp.linalg.",
        argument="linear_solver",
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
    inverses: Inverses | None = None,
    values: Callable[[Array], Float[Array, " q"]] | None = None,
) -> tuple[Float[Array, " p"], SearchEnd, PyTree]:
    """The optimal alpha, how it was found, and what the last evaluation knows. Not to be
    differentiated. `history`: of how many steps the cost is kept, where our solver steps; `inverses`: the
    coordinates in alpha by the inverse of which it steps; `values`: of alpha all parameter values, of
    which those are told who watch."""
    lower, upper = bounds
    if alpha0.size == 0:
        alpha, stats, result = alpha0, {"num_steps": jnp.array(0)}, RESULTS.successful
        _, point = reduced.evaluate(alpha0)
    elif isinstance(how.solver, LevenbergMarquardt):
        options: dict[str, Any] = {"jacobian": _jacobian}
        options |= {"data_norm": reduced.data_norm(alpha0)}
        options |= {"history": history} if history else {}
        options |= {"resume": _resume} if isinstance(reduced, AbstractResumed) else {}
        rounding_factor = reduced.rounding_factor(alpha0)
        if rounding_factor is not None:
            options["rounding_factor"] = rounding_factor
        inverses = Inverses.none() if inverses is None else inverses
        options |= dict(zip(("lower", "upper"), inverses.bounds(lower, upper, alpha0), strict=True))
        end, result, point, stats = iterate(
            _evaluate,
            how.solver,
            inverses.of(alpha0),
            (reduced, inverses),
            options,
            how.max_steps,
            None if how.watch is None else _teller(how.watch, inverses, values),
        )
        alpha, result = inverses.of(end), RESULTS.promote(result)
        if inverses.places and lower is not None and upper is not None:
            alpha = inverses.inside(alpha, lower, upper)
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


def _teller(
    watch: ArrayIn, inverses: Inverses, values: Callable[[Array], Array] | None
) -> Callable[[Array, PyTree, Array], Array]:
    def told(there, state, steps):
        alpha = inverses.of(there)
        cost, gradient = LevenbergMarquardt.reached(state)
        return tell(
            *(jnp.asarray(watch), steps, cost, gradient, alpha if values is None else values(alpha))
        )

    return told


def _evaluate(there, args):
    reduced, inverses = args
    return reduced.evaluate(inverses.of(there))


def _resume(there, point, args):
    reduced, inverses = args
    return reduced.resumed(inverses.of(there), point)


def _jacobian(there, resid, point, args):
    reduced, inverses = args
    jac, turned = reduced.rotated(inverses.of(there), point)
    return (jac * inverses.slopes(there) if inverses.places else jac), turned


def typed(how: Search, real: np.dtype) -> Search:
    """Tolerances as arrays: they enter compiled programs, and new ones do not compile anew."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, real) if isinstance(leaf, float) else leaf, how
    )
