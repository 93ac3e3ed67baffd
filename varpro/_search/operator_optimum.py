"""The optimum of a basis that is an operator, as a differentiable function of all it is made of.

At the optimum both gradients of the cost vanish, f_c by the coefficients and f_a by alpha. With ' for
tangents, G = B^H B and X = G^{-1} f_ca (one inner solve for each coordinate):

    (f_aa - Re f_ac X) alpha' = -(f_a' - Re X^H f_c')        c' = -G^{-1} (f_c' + f_ca alpha')

so a derivative costs p + 1 inner solves, and X^H f_c' none. Where the search has failed there is no
optimum to be followed: NaN.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._errors import InputError
from .._problem.l1 import L1
from .._problem.operator_problem import OperatorProblem
from .._problem.tikhonov import Tikhonov
from .._reduced.abstract import Jacobian
from .._reduced.large import AbstractLarge
from .._reduced.operator_basis import OperatorReduced
from .._reduced.sparse_operator import SparseReduced
from .._status import RESULTS
from ..linalg import (
    AbstractIterative,
    ConjugateGradients,
    adjoint_agrees,
    gram_solve,
    restricted,
)
from .minimise import Search, SearchEnd, locate
from .strength import best_strength

# Searches with new strengths at most, and the change of its logarithm below which it has settled.
_ROUNDS, _SETTLED = 12, 0.05


class OperatorSearch(eqx.Module):
    """How to search where the basis is an operator."""

    outer: Search
    inner: AbstractIterative
    penalty: Tikhonov | L1 | None

    @property
    def jacobian(self) -> Jacobian:
        return "kaufman" if self.outer.jacobian == "auto" else self.outer.jacobian


def reduced_of(
    problem: OperatorProblem, inner: AbstractIterative, jacobian: Jacobian
) -> AbstractLarge:
    """The reduced problem, by its penalty."""
    if problem.sparse is None:
        return OperatorReduced(problem, inner, jacobian)
    assert isinstance(inner, ConjugateGradients)
    return SparseReduced(problem, inner)


@eqx.filter_custom_jvp
def operator_optimum(
    problem: OperatorProblem, bounds: PyTree, alpha0: Float[Array, " p"], *, how: OperatorSearch
):
    """The optimal alpha, its coefficients (n,), the strength of the penalty, and how all was found."""

    def search(alpha, strength):
        mine = dataclasses.replace(problem, strength=strength)
        reduced = reduced_of(mine, how.inner, how.jacobian)
        alpha, ends, point = locate(reduced, bounds, alpha, how.outer)
        _, point = reduced.polished(alpha, point)
        ends = SearchEnd(ends.result, ends.stats | reduced.quality(point))
        return alpha, point.coef, ends

    def suited(alpha):
        assert isinstance(penalty, Tikhonov)
        return best_strength(OperatorReduced(problem, how.inner, how.jacobian), alpha, penalty)

    penalty, strength = how.penalty, problem.strength
    bounded = how.inner.free(jnp.zeros(0)) is not None
    if penalty is not None and penalty.strength == "gcv" and bounded:
        raise InputError(
            "The strength 'gcv' is for coefficients without bounds. Give a number, or 'discrepancy'.",
            argument="strength",
        )
    found = jnp.array(True)
    if penalty is None or not penalty.automatic:
        alpha, coef, ends = search(alpha0, strength)
    else:
        strength, found = suited(alpha0)
        begin = search(alpha0, strength)

        def again(state):
            (alpha, *_), old, new, _, rounds = state
            ended = search(alpha, new)
            newer, found = suited(ended[0])
            return ended, new, newer, found, rounds + 1

        def unsettled(state):
            _, old, new, found, rounds = state
            apart = jnp.abs(jnp.log(new / old)) > _SETTLED
            return (rounds < _ROUNDS) & apart & found

        new, found = suited(begin[0])
        state = (begin, strength, new, found, jnp.array(0))
        (alpha, coef, ends), strength, _, found, rounds = jax.lax.while_loop(
            unsettled, again, state
        )
    result = ends.result
    # A transpose may be right at the start alone: where alpha was left out of it.
    agrees = adjoint_agrees(problem.products(alpha0)) & adjoint_agrees(problem.products(alpha))
    for bad, member in (
        (~ends.stats["inner_converged"], RESULTS.linear_max_steps_reached),
        (~found, RESULTS.strength_not_found),
        (~agrees, RESULTS.adjoint_mismatch),
    ):
        lost = result == RESULTS.nonfinite
        result = RESULTS.where(bad & ~lost, member, result)
    if problem.penalty is not None:
        agrees = adjoint_agrees(problem.penalty)
        result = RESULTS.where(agrees, result, RESULTS.adjoint_mismatch)
    return alpha, coef, strength, SearchEnd(result, ends.stats)


@operator_optimum.def_jvp
def _operator_optimum_jvp(primals, tangents, *, how: OperatorSearch):
    problem, bounds, alpha0 = primals
    t_problem, t_bounds, _ = tangents
    if how.penalty is not None and how.penalty.automatic:
        raise InputError(
            f"A solve with strength={how.penalty.strength!r} has no derivative. Give the number that it "
            "found, stats['strength'].",
            argument="strength",
        )
    alpha, coef, strength, outcome = operator_optimum(problem, bounds, alpha0, how=how)
    if problem.sparse is not None:
        raise InputError("A solve with vp.L1 has no derivative.", argument="penalty")
    t_outcome = jax.tree.map(lambda _: None, outcome)

    def by_coef(alpha, coef, problem):
        rows = problem.rows(problem.products(alpha))
        rest = jax.tree.map(jnp.subtract, problem.target(alpha), rows.ahead(coef))
        return -rows.back(rest)

    def by_alpha(alpha, coef, problem):
        return jax.grad(lambda at: problem.cost(at, coef))(alpha)

    reduced = OperatorReduced(problem, how.inner, how.jacobian)
    inner, free = how.inner.linear, how.inner.free(coef)
    rows, precondition = restricted(
        problem.rows(problem.products(alpha)), reduced.preconditioner(alpha), free
    )
    empty = problem.empty(coef.dtype)

    def movable(v):
        return v if free is None else jnp.where(free, v, jnp.zeros((), v.dtype))

    t_fc, t_fa = jnp.zeros_like(coef), jnp.zeros_like(alpha)
    moves = any(t is not None for t in _leaves(t_problem))
    if moves:
        _, t_fc = eqx.filter_jvp(lambda it: by_coef(alpha, coef, it), (problem,), (t_problem,))
        _, t_fa = eqx.filter_jvp(lambda it: by_alpha(alpha, coef, it), (problem,), (t_problem,))
    t_alpha = None
    if alpha.size:
        on_lower, on_upper = (
            jnp.zeros(alpha.shape, bool) if bound is None else beyond(alpha, bound)
            for bound, beyond in zip(bounds, (jnp.less_equal, jnp.greater_equal), strict=True)
        )
        held = jnp.zeros_like(alpha)
        for on, t_bound in zip((on_lower, on_upper), t_bounds, strict=True):
            if t_bound is not None:
                held = jnp.where(on, t_bound, held)
        moving = ~(on_lower | on_upper)
        eye = jnp.eye(alpha.size, dtype=alpha.dtype)
        f_ca = jax.vmap(lambda e: jax.jvp(lambda a: by_coef(a, coef, problem), (alpha,), (e,))[1])(
            eye
        )
        f_ca = movable(f_ca)
        x = jax.vmap(lambda f: gram_solve(inner, rows, f, empty, precondition))(f_ca)
        # One coordinate at a time: with all p^2 at once there would be as many vectors.
        f_aa = jax.lax.map(
            lambda e: jax.jvp(lambda a: by_alpha(a, coef, problem), (alpha,), (e,))[1], eye
        )
        hessian = f_aa - (f_ca.conj() @ x.T).real
        right = jnp.where(moving, -(t_fa - (x.conj() @ t_fc).real), held)
        left = jnp.where(moving[:, None], hessian, eye)
        scale = jnp.max(jnp.abs(left), axis=0)
        scale = jnp.where(scale > 0, scale, 1.0)
        t_alpha = jnp.linalg.solve(left / scale, right) / scale
        t_alpha = t_alpha * jnp.where(outcome.result == RESULTS.successful, 1.0, jnp.nan)
        t_fc = t_fc + (t_alpha @ f_ca).astype(t_fc.dtype)
    t_coef = -gram_solve(inner, rows, movable(t_fc), empty, precondition)
    t_strength = t_problem.strength
    return (alpha, coef, strength, outcome), (t_alpha, t_coef, t_strength, t_outcome)


def _leaves(tangent: PyTree) -> list[Array | None]:
    return jax.tree.leaves(tangent, is_leaf=lambda leaf: leaf is None)
