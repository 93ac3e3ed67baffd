"""The optimum as a differentiable function of all that the problem is made of.

With c(alpha) = Phi^+ y and the cost f(alpha, c), alpha is where g(alpha) = (df / d alpha)(alpha, c(alpha))
vanishes: by the envelope theorem that is the whole gradient of the reduced cost. With ' for tangents, the
implicit function theorem gives

    (dg / d alpha) alpha' = -g'        c' as in `linalg.solution_derivative`, along alpha' and the problem's

Both derivatives of g see the coefficients move, by the rule of `linalg.pinv_solve`. A coordinate on a
bound follows the bound. Where the search has failed there is no optimum to be followed: NaN.
"""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._problem.problem import Problem
from .._reduced.common_basis import Reduced
from .._status import RESULTS
from ..linalg import column_scale, pinv_solve
from .minimise import Search, locate


@eqx.filter_custom_jvp
def optimum(problem: Problem, bounds: PyTree, alpha0: Float[Array, " p"], *, how: Search):
    """The optimal alpha, its coefficients (n, k), and how it was found."""
    reduced = Reduced(problem, how.linear_solver, how.jacobian)
    alpha, outcome, point = locate(reduced, bounds, alpha0, how)
    return alpha, point.coef, outcome


@optimum.def_jvp
def _optimum_jvp(primals, tangents, *, how: Search):
    problem, bounds, alpha0 = primals
    # An argument that does not move has no tangent; the start has none that matters.
    t_problem, t_bounds, _ = tangents
    alpha, coef, outcome = optimum(problem, bounds, alpha0, how=how)
    t_outcome = jax.tree.map(lambda _: None, outcome)

    def coefficients(alpha, problem):
        phi, y = problem.phi(alpha), problem.target(alpha)
        scale = column_scale(phi)
        y = y.astype(jnp.result_type(phi, y))
        return pinv_solve(phi / scale, y, how.linear_solver) / scale[:, None]

    if alpha.size == 0 and all(leaf is None for leaf in _leaves(t_problem)):
        return (alpha, coef, outcome), (None, jnp.zeros_like(coef), t_outcome)
    if alpha.size == 0:
        _, t_coef = eqx.filter_jvp(lambda p: coefficients(alpha, p), (problem,), (t_problem,))
        return (alpha, coef, outcome), (None, t_coef, t_outcome)

    def gradient(alpha, problem):
        # At constant coefficients, but its own derivative must see them move.
        return jax.grad(problem.cost)(alpha, coefficients(alpha, problem))

    on_lower, on_upper = (
        jnp.zeros(alpha.shape, bool) if bound is None else beyond(alpha, bound)
        for bound, beyond in zip(bounds, (jnp.less_equal, jnp.greater_equal), strict=True)
    )
    moving = ~(on_lower | on_upper)
    t_alpha = jnp.zeros_like(alpha)
    for on, t_bound in zip((on_lower, on_upper), t_bounds, strict=True):
        if t_bound is not None:
            t_alpha = jnp.where(on, t_bound, t_alpha)
    t_gradient = jnp.zeros_like(alpha)
    moves = any(leaf is not None for leaf in _leaves(t_problem))
    if moves:
        _, t_gradient = eqx.filter_jvp(lambda p: gradient(alpha, p), (problem,), (t_problem,))
    hessian = jax.jacfwd(gradient)(alpha, problem)
    # Rows of coordinates on a bound state t_alpha = (tangent of the bound).
    right = jnp.where(moving, -t_gradient, t_alpha)
    left = jnp.where(moving[:, None], hessian, jnp.eye(alpha.size, dtype=hessian.dtype))
    t_alpha = _solve_scaled(left, right)
    # A factor, so that NaN comes back from the way in reverse, too.
    t_alpha = t_alpha * jnp.where(outcome.result == RESULTS.successful, 1.0, jnp.nan)
    _, t_coef = eqx.filter_jvp(coefficients, (alpha, problem), (t_alpha, t_problem))
    return (alpha, coef, outcome), (t_alpha, t_coef, t_outcome)


def _leaves(tangent: PyTree) -> list[Array | None]:
    return jax.tree.leaves(tangent, is_leaf=lambda leaf: leaf is None)


def _solve_scaled(a: Float[Array, "p p"], b: Float[Array, " p"]) -> Float[Array, " p"]:
    # Parameters come in any units: scale columns, then rows, before LU.
    columns = _unit(jnp.max(jnp.abs(a), axis=0))
    a = a / columns
    rows = _unit(jnp.max(jnp.abs(a), axis=1))
    return jnp.linalg.solve(a / rows[:, None], b / rows) / columns


def _unit(scale: Array) -> Array:
    return jax.lax.stop_gradient(jnp.where(scale > 0, scale, jnp.ones_like(scale)))
