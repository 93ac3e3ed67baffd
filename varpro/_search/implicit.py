"""TODO varpro/_search/implicit.py."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._problem.problem import Problem
from .._reduced.common_basis import Reduced
from ..linalg import column_scale, pinv_solve
from .minimise import Search, locate


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
