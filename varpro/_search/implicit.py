"""The optimum as a differentiable function of the problem.

It is differentiated by the implicit function theorem on the exact gradient of the reduced cost, not
on the Gauss-Newton surrogate that the iteration uses: with g(alpha, problem) = 0 at the optimum,

    alpha' = - (dg/dalpha)^{-1} (dg/dproblem) problem'

on the coordinates that are not on a bound; one on a bound moves with its bound.
"""

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
def optimum(problem: Problem, bounds: PyTree, alpha0: Float[Array, " p"], *, how: Search):
    """The optimal alpha, its coefficients (n, k), and how it was found."""
    reduced = Reduced(problem, how.linear_solver, how.jacobian)
    alpha, found, point = locate(reduced, bounds, alpha0, how)
    return alpha, point.coef, found


@optimum.def_jvp
def _optimum_jvp(primals, tangents, *, how: Search):
    problem, bounds, alpha0 = primals
    t_problem, t_bounds, _ = tangents
    alpha, coef, found = optimum(problem, bounds, alpha0, how=how)
    t_found = jax.tree.map(lambda _: None, found)

    def coefficients(alpha, problem):
        phi, y = problem.phi(alpha), problem.target(alpha)
        scale = column_scale(phi)
        y = y.astype(jnp.result_type(phi, y))
        return pinv_solve(phi / scale, y, how.linear_solver) / scale[:, None]

    if alpha.size == 0:
        _, t_coef = eqx.filter_jvp(lambda p: coefficients(alpha, p), (problem,), (t_problem,))
        return (alpha, coef, found), (None, t_coef, t_found)

    def gradient(alpha, problem):
        # By the envelope theorem, the derivative at constant coefficients is the exact gradient of
        # the reduced cost; its own derivative must see the coefficients move.
        return jax.grad(problem.cost)(alpha, coefficients(alpha, problem))

    on_lower, on_upper = (
        jnp.zeros(alpha.shape, bool) if b is None else at(alpha, b)
        for b, at in zip(bounds, (jnp.less_equal, jnp.greater_equal), strict=True)
    )
    moving = ~(on_lower | on_upper)
    t_alpha = jnp.zeros_like(alpha)
    for on, t_bound in zip((on_lower, on_upper), t_bounds, strict=True):
        if t_bound is not None:
            t_alpha = jnp.where(on, t_bound, t_alpha)
    _, t_gradient = eqx.filter_jvp(lambda p: gradient(alpha, p), (problem,), (t_problem,))
    hessian = jax.jacfwd(gradient)(alpha, problem)
    # Rows of coordinates on a bound state t_alpha = (tangent of the bound).
    right = jnp.where(moving, -t_gradient, t_alpha)
    left = jnp.where(moving[:, None], hessian, jnp.eye(alpha.size, dtype=hessian.dtype))
    t_alpha = _solve_scaled(left, right)
    _, t_coef = eqx.filter_jvp(coefficients, (alpha, problem), (t_alpha, t_problem))
    return (alpha, coef, found), (t_alpha, t_coef, t_found)


def _solve_scaled(a: Float[Array, "p p"], b: Float[Array, " p"]) -> Float[Array, " p"]:
    # Parameters come in any units: scale columns, then rows, before LU.
    columns = _unit(jnp.max(jnp.abs(a), axis=0))
    a = a / columns
    rows = _unit(jnp.max(jnp.abs(a), axis=1))
    return jnp.linalg.solve(a / rows[:, None], b / rows) / columns


def _unit(scale: Array) -> Array:
    return jax.lax.stop_gradient(jnp.where(scale > 0, scale, jnp.ones_like(scale)))
