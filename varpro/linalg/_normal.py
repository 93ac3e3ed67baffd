"""The normal equations: `A^H A` of a tall matrix or `A A^H` of a wide one. Assumes full rank.

The verbs are products with A and solves with its Gram matrix. What depends on A stays visible in
those products, so no rule about frames is needed for derivatives.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Inexact, Int, PyTree

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint
from ._frames import cutoff, rank_and_cond, significant


class Normal(AbstractPinvSolver):
    """Solve with the Gram matrix: fastest for well-conditioned matrices, at half the digits.

    **Arguments:**

    - `inner`: a lineax solver of positive definite systems, direct or iterative; a Cholesky
        factorisation by default. Where it reports a failure the answer is NaN.

    Only a Cholesky factorisation estimates rank and condition; with other solvers the rank is the
    assumed one and the condition NaN.
    """

    inner: lx.AbstractLinearSolver = lx.Cholesky()

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        m, n = a.shape
        cls = _TallGram if m >= n else _WideGram
        if type(self.inner) is lx.Cholesky:
            lower = jax.scipy.linalg.cholesky(_gram(a), lower=True)
            sizes = jnp.abs(jnp.diagonal(lower))
            # Rounding in the Gram matrix hides what is smaller than the root of eps.
            mask = significant(sizes, cutoff(a, None) ** 0.5)
            solve, estimate = _Cholesky(lower), rank_and_cond(sizes, mask)
        else:
            solve = _Inner(self.inner, self.inner.init(gram_operator(a), {}))
            estimate = jnp.array(min(m, n)), jnp.array(jnp.nan, a.real.dtype)
        return cls(a, solve, *estimate, full_columns=m >= n, full_rows=m <= n)


class _Cholesky(eqx.Module):
    lower: Array

    def __call__(self, b: Array) -> Array:
        return jax.scipy.linalg.cho_solve((self.lower, True), b)


class _Inner(eqx.Module):
    solver: lx.AbstractLinearSolver
    state: PyTree

    def __call__(self, b: Array) -> Array:
        return jax.vmap(lambda v: inner_solve(self.solver, self.state, v)[0], 1, 1)(b)


class _TallGram(AbstractFactor):
    """`G = A^H A`; full column rank, so `A^+ A = I`."""

    a: Inexact[Array, "m n"]
    solve: Callable[[Array], Array]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def pinv(self, b: Array) -> Array:
        return self.gram_inv(adjoint(self.a) @ b)

    def pinv_h(self, c: Array) -> Array:
        return self.a @ self.gram_inv(c)

    def gram_inv(self, c: Array) -> Array:
        return gram_solve(lambda x: adjoint(self.a) @ (self.a @ x), c, self.solve)

    def onto_range(self, b: Array) -> Array:
        return self.a @ self.pinv(b)

    def onto_rows(self, c: Array) -> Array:
        return c

    def attached(self, a: Array) -> AbstractFactor:
        return eqx.tree_at(lambda f: f.a, self, a)


class _WideGram(AbstractFactor):
    """`G = A A^H`; full row rank, so `A A^+ = I`."""

    a: Inexact[Array, "m n"]
    solve: Callable[[Array], Array]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def pinv(self, b: Array) -> Array:
        return adjoint(self.a) @ self._inverse(b)

    def pinv_h(self, c: Array) -> Array:
        return self._inverse(self.a @ c)

    def gram_inv(self, c: Array) -> Array:
        return self.pinv(self.pinv_h(c))

    def onto_range(self, b: Array) -> Array:
        return b

    def onto_rows(self, c: Array) -> Array:
        return self.pinv(self.a @ c)

    def attached(self, a: Array) -> AbstractFactor:
        return eqx.tree_at(lambda f: f.a, self, a)

    def _inverse(self, b: Array) -> Array:
        return gram_solve(lambda x: self.a @ (adjoint(self.a) @ x), b, self.solve)


def inner_solve(
    solver: lx.AbstractLinearSolver, state: PyTree, v: Inexact[Array, " r"]
) -> tuple[Inexact[Array, " r"], lx.RESULTS]:
    """Solution and result; NaN where the solver fails, as nobody sees the result of a tangent."""
    # Not `lx.linear_solve`, which raises where it does not converge.
    x, result, _ = solver.compute(state, v, {})
    # lineax's CG answers zero, and success, to a NaN.
    good = (result == lx.RESULTS.successful) & jnp.all(jnp.isfinite(v))
    return jnp.where(good, x, jnp.nan), result


def gram_solve(matvec: Callable, b: Array, solve: Callable, *, has_aux: bool = False):
    """`G^{-1} b` for a Hermitian G, differentiable by whatever `matvec` depends on.

    With `has_aux`, `solve` returns something beside the solution, and so does this.
    """

    def transposed(_, v):
        if not has_aux:
            return solve(v.conj()).conj()
        x, aux = solve(v.conj())
        return x.conj(), aux

    return jax.lax.custom_linear_solve(
        matvec, b, lambda _, v: solve(v), transposed, has_aux=has_aux
    )


def _gram(a: Array) -> Array:
    return adjoint(a) @ a if a.shape[0] >= a.shape[1] else a @ adjoint(a)


def gram_operator(a: Array) -> lx.AbstractLinearOperator:
    """The smaller Gram matrix, never formed unless the solver asks for its entries."""
    size = jax.ShapeDtypeStruct((min(a.shape),), a.dtype)
    tall = a.shape[0] >= a.shape[1]
    matvec = (lambda x: adjoint(a) @ (a @ x)) if tall else (lambda x: a @ (adjoint(a) @ x))
    return lx.FunctionLinearOperator(matvec, size, lx.positive_semidefinite_tag)
