"""The pure solve: one call of optimistix, and the derivative of its answer.

Safe under `jit`, `vmap` and `grad`; never raises for numbers. The optimum is differentiated by the
implicit function theorem on the exact gradient of the reduced cost, not on the Gauss-Newton
surrogate that the iteration uses: with g(theta, problem) = 0 at the optimum,

    theta' = - (dg/dtheta)^{-1} (dg/dproblem) problem'

on the coordinates that are not on a bound; one on a bound moves with its bound.
"""

import warnings
from collections.abc import Callable
from typing import get_args

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact, PyTree, Shaped

from ._levenberg import LevenbergMarquardt
from ._problem import Opaque, Problem
from ._reduced import AbstractReduced, Jacobian, Reduced, reduced_residual
from ._results import RESULTS, InputError
from ._types import ArrayIn
from .linalg import SVD, AbstractPinvSolver, column_scale, pinv_solve

Solver = optx.AbstractLeastSquaresSolver | optx.AbstractMinimiser


class Solution(eqx.Module):
    """The answer of `solve`.

    **Fields:**

    - `value`: the nonlinear parameters, a pytree like `alpha0`.
    - `coef`: the linear coefficients (n,) or (n, k).
    - `resid`: weighted residual, of the shape of y.
    - `cost`: `1/2 || resid ||^2`, with priors.
    - `result`: a `RESULTS` member; `result == RESULTS.successful` is an array that `jit` can branch on.
    - `stats`: counts (`num_steps`, `num_residuals`, `num_jacobians`), the test that ended the run
        (`stop`), the numerical rank and condition number of the weighted basis (`rank`, `cond`).
    """

    value: PyTree[Array]
    coef: Inexact[Array, "n *k"]
    resid: Inexact[Array, "m *k"]
    cost: Float[Array, ""]
    result: RESULTS
    stats: dict[str, PyTree[Array]]


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


class Found(eqx.Module):
    """Where a search ended: nothing here but integers and flags, which have no derivative."""

    result: RESULTS
    stats: dict[str, Array]


def solve(
    basis: Callable[[PyTree, PyTree], Inexact[Array, "m n"]],
    y: Shaped[ArrayIn, "m *k"],
    alpha0: PyTree[ArrayLike],
    args: PyTree = None,
    *,
    weights: Float[ArrayIn, " m"] | None = None,
    offset: Callable[[PyTree, PyTree], Inexact[Array, " m"]] | None = None,
    lower: PyTree[ArrayLike] | None = None,
    upper: PyTree[ArrayLike] | None = None,
    solver: Solver | None = None,
    linear_solver: AbstractPinvSolver | None = None,
    jacobian: Jacobian | None = None,
    max_steps: int | None = None,
) -> Solution:
    """Minimise `1/2 || W (y - offset(alpha) - basis(alpha) c) ||^2` over alpha and c.

    Pure and traceable; `value`, `coef`, `resid` and `cost` are differentiable in y, weights, args,
    bounds and whatever arrays `basis` closes over. For data of every day, with names, checks and
    statistics, see `varpro.fit`.

    **Arguments:**

    - `basis`: called as `basis(alpha, args)`, returns the columns (m, n).
    - `y`: data (m,) or (m, k); k columns share alpha.
    - `alpha0`: start, any pytree of real arrays.
    - `args`: passed to `basis` and `offset`.
    - `weights`: (m,), multiplies the residual; one over the standard deviation.
    - `offset`: `offset(alpha, args)` returns the term without coefficient (m,).
    - `lower`, `upper`: bounds, pytrees like `alpha0` (scalars broadcast to every entry).
    - `solver`: `LevenbergMarquardt()` by default, or any optimistix least-squares solver or
        minimiser (those know no bounds).
    - `linear_solver`: factors the basis; `varpro.linalg.SVD()` by default, which every rank suits.
    - `jacobian`: "full" (Golub and Pereyra), "kaufman" (without its last term: cheaper and as good
        near the optimum) or "auto" (default): full for up to n right-hand sides, else Kaufman's.
    - `max_steps`: trial points at most, 256 by default.

    **Returns:** a `Solution`. A failed solve is a result, not an exception.

    **Raises:** `InputError` if shapes do not fit or a solver cannot keep the bounds given.
    """
    how = search(solver, linear_solver, jacobian, max_steps)
    if getattr(y, "dtype", None) in (np.float64, np.complex128) and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        warnings.warn(
            f"y is {y.dtype}, but JAX computes in float32 here. Set jax.config.update("  # pyright: ignore[reportAttributeAccessIssue]
            "'jax_enable_x64', True), or give y in single precision.",
            stacklevel=2,
        )
    return _solve(basis, y, alpha0, args, weights, offset, lower, upper, how)


@eqx.filter_jit
def _solve(
    basis: Callable[[PyTree, PyTree], Inexact[Array, "m n"]],
    y: Shaped[ArrayIn, "m *k"],
    alpha0: PyTree[ArrayLike],
    args: PyTree,
    weights: Float[ArrayIn, " m"] | None,
    offset: Callable[[PyTree, PyTree], Inexact[Array, " m"]] | None,
    lower: PyTree[ArrayLike] | None,
    upper: PyTree[ArrayLike] | None,
    how: Search,
) -> Solution:
    alpha0 = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf, float)), alpha0)
    theta0, unravel = jax.flatten_util.ravel_pytree(alpha0)
    y = jnp.asarray(y, jnp.result_type(y, float))
    phi = jax.eval_shape(basis, alpha0, args)
    rows = phi.shape[0] if phi.ndim in (1, 2) else None
    if y.ndim not in (1, 2) or rows != y.shape[0]:
        raise InputError(
            f"basis(alpha, args) has shape {phi.shape} but y has shape {y.shape}; expected (m, n) "
            "and (m,) or (m, k)."
        )
    # Arrays that the callables close over become arguments, so that they can be differentiated.
    basis = eqx.filter_closure_convert(basis, alpha0, args)
    if offset is not None:
        offset = eqx.filter_closure_convert(offset, alpha0, args)
    columns = Opaque(basis, offset, args, unravel)
    problem = Problem(columns, y.reshape(y.shape[0], -1), weights)
    bounds = _like(lower, alpha0), _like(upper, alpha0)
    theta, coef, found = optimum(problem, bounds, theta0, how=how)
    resid = problem.target(theta) - problem.phi(theta) @ coef
    cost = problem.cost(theta, coef)
    if y.ndim == 1:
        coef, resid = coef[:, 0], resid[:, 0]
    return Solution(unravel(theta), coef, resid, cost, found.result, found.stats)


def locate(
    reduced: AbstractReduced,
    bounds: PyTree,
    theta0: Float[Array, " p"],
    how: Search,
    history: int = 0,
) -> tuple[Float[Array, " p"], Found, PyTree]:
    """The optimal theta, how it was found, and what the last evaluation knows. Not to be
    differentiated. `history`: of how many steps the cost is kept, where our solver steps."""
    lower, upper = bounds
    if theta0.size == 0:
        theta, stats, result = theta0, {"num_steps": jnp.array(0)}, RESULTS.successful
        _, point = reduced.evaluate(theta0)
    elif isinstance(how.solver, LevenbergMarquardt):
        options = {"lower": lower, "upper": upper, "jacobian": _jacobian}
        options |= {"level": reduced.level(theta0)}
        options |= {"history": history} if history else {}
        blur = reduced.blur(theta0)
        if blur is not None:
            options["blur"] = blur
        solution = optx.least_squares(
            _evaluate,
            how.solver,
            theta0,
            args=reduced,
            options=options,
            has_aux=True,
            max_steps=how.max_steps,
            throw=False,
        )
        theta, stats, result = solution.value, solution.stats, RESULTS.promote(solution.result)
        point = solution.aux
    else:
        if lower is not None or upper is not None:
            raise InputError(
                f"{type(how.solver).__name__} knows no bounds. Use varpro.LevenbergMarquardt, or "
                "remove the bounds."
            )
        solution = optx.least_squares(
            lambda theta, args: reduced_residual(args, theta),
            how.solver,
            theta0,
            args=reduced,
            max_steps=how.max_steps,
            throw=False,
        )
        theta, stats, result = solution.value, solution.stats, RESULTS.promote(solution.result)
        _, point = reduced.evaluate(theta)
    stats = {k: v for k, v in stats.items() if k != "max_steps"}
    return theta, Found(result, stats | reduced.quality(point)), point


@eqx.filter_custom_jvp
def optimum(problem: Problem, bounds: PyTree, theta0: Float[Array, " p"], *, how: Search):
    """The optimal theta, its coefficients (n, k), and how it was found."""
    reduced = Reduced(problem, how.linear_solver, how.jacobian)
    theta, found, point = locate(reduced, bounds, theta0, how)
    return theta, point.coef, found


@optimum.def_jvp
def _optimum_jvp(primals, tangents, *, how: Search):
    problem, bounds, theta0 = primals
    t_problem, t_bounds, _ = tangents
    theta, coef, found = optimum(problem, bounds, theta0, how=how)
    t_found = jax.tree.map(lambda _: None, found)

    def coefficients(theta, problem):
        phi, y = problem.phi(theta), problem.target(theta)
        scale = column_scale(phi)
        y = y.astype(jnp.result_type(phi, y))
        return pinv_solve(phi / scale, y, how.linear_solver) / scale[:, None]

    if theta.size == 0:
        _, t_coef = eqx.filter_jvp(lambda p: coefficients(theta, p), (problem,), (t_problem,))
        return (theta, coef, found), (None, t_coef, t_found)

    def gradient(theta, problem):
        # By the envelope theorem, the derivative at constant coefficients is the exact gradient of
        # the reduced cost; its own derivative must see the coefficients move.
        return jax.grad(problem.cost)(theta, coefficients(theta, problem))

    on_lower, on_upper = (
        jnp.zeros(theta.shape, bool) if b is None else at(theta, b)
        for b, at in zip(bounds, (jnp.less_equal, jnp.greater_equal), strict=True)
    )
    moving = ~(on_lower | on_upper)
    t_theta = jnp.zeros_like(theta)
    for on, t_bound in zip((on_lower, on_upper), t_bounds, strict=True):
        if t_bound is not None:
            t_theta = jnp.where(on, t_bound, t_theta)
    _, t_gradient = eqx.filter_jvp(lambda p: gradient(theta, p), (problem,), (t_problem,))
    hessian = jax.jacfwd(gradient)(theta, problem)
    # Rows of coordinates on a bound state t_theta = (tangent of the bound).
    right = jnp.where(moving, -t_gradient, t_theta)
    left = jnp.where(moving[:, None], hessian, jnp.eye(theta.size, dtype=hessian.dtype))
    t_theta = _solve_scaled(left, right)
    _, t_coef = eqx.filter_jvp(coefficients, (theta, problem), (t_theta, t_problem))
    return (theta, coef, found), (t_theta, t_coef, t_found)


def _solve_scaled(a: Float[Array, "p p"], b: Float[Array, " p"]) -> Float[Array, " p"]:
    # Parameters come in any units: scale columns, then rows, before LU.
    columns = _unit(jnp.max(jnp.abs(a), axis=0))
    a = a / columns
    rows = _unit(jnp.max(jnp.abs(a), axis=1))
    return jnp.linalg.solve(a / rows[:, None], b / rows) / columns


def _unit(scale: Array) -> Array:
    return jax.lax.stop_gradient(jnp.where(scale > 0, scale, jnp.ones_like(scale)))


def _evaluate(theta, reduced):
    return reduced.evaluate(theta)


def _jacobian(theta, resid, point, reduced):
    return reduced.turned(theta, point)


def _like(bound: PyTree, alpha0: PyTree) -> Array | None:
    """A bound as a vector (p,): a pytree like alpha0, or a prefix of scalars, broadcast."""
    if bound is None:
        return None
    try:
        full = jax.tree.map(
            lambda b, sub: jax.tree.map(
                lambda a: jnp.broadcast_to(b, a.shape).astype(a.dtype), sub
            ),
            bound,
            alpha0,
        )
    except ValueError as error:
        raise InputError(f"A bound does not have the structure of alpha0: {error}") from error
    return jax.flatten_util.ravel_pytree(full)[0]
