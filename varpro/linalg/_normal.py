"""Normal equations with any solver for positive definite systems. Assumes full rank."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Inexact, Int, PyTree

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint, constant
from ._full_rank import AttachedTall, WideFactor
from ._orthogonal import cutoff, decide_rank


class Normal(AbstractPinvSolver):
    """Normal equations: the cheapest way where the condition number allows its square.

    `A^H A x = A^H b` if tall or square, `A A^H y = b` with `x = A^H y` if wide. Full rank is
    assumed: a matrix that `inner` cannot solve with gives NaN. For an inner solver other than
    Cholesky the rank is not looked at and `cond` of the factor is NaN.

    **Arguments:**

    - `inner`: any lineax solver for positive definite systems, iterative ones too.
        `lineax.Cholesky()` by default. Where it reports a failure, the answer is NaN.
    """

    inner: lx.AbstractLinearSolver = eqx.field(static=True, default=lx.Cholesky())

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        m, n = a.shape
        a = constant(a)
        if m < n:
            return WideFactor(self._tall(adjoint(a)))
        return self._tall(a)

    def _tall(self, a: Inexact[Array, "m n"]) -> "TallNormal":
        m, n = a.shape
        if not isinstance(self.inner, lx.Cholesky):
            gram = InnerGram(_inner_state(self.inner, a), self.inner)
            rank, cond = jnp.array(n), jnp.full((), jnp.nan, jnp.finfo(a.dtype).dtype)
            return TallNormal(
                a=a, gram=gram, rank=rank, cond=cond, full_columns=True, full_rows=m == n
            )
        lower = jnp.linalg.cholesky(adjoint(a) @ a)
        diagonal = jnp.abs(jnp.diagonal(lower))
        # The squares of these are what rounding disturbs. And Cholesky fails as a whole: all that
        # is known then is that some column depends on the others.
        rcond = cutoff(diagonal.dtype, a.shape, None) ** 0.5
        _, rank, cond = decide_rank(diagonal, a.shape, rcond)
        rank = jnp.where(jnp.any(jnp.isnan(diagonal)), n - 1, rank)
        gram = CholeskyGram(lower)
        return TallNormal(a=a, gram=gram, rank=rank, cond=cond, full_columns=True, full_rows=m == n)


class TallNormal(AbstractFactor):
    """A with full column rank, known by its Gram matrix `A^H A`."""

    a: Inexact[Array, "m n"]
    gram: "CholeskyGram | InnerGram"
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def pinv(self, b: Array) -> Array:
        return self.gram.inv(adjoint(self.a) @ b)

    def pinv_h(self, c: Array) -> Array:
        return self.a @ self.gram.inv(c)

    def gram_inv(self, c: Array) -> Array:
        return self.gram.inv(c)

    def onto_range(self, b: Array) -> Array:
        return self.a @ self.gram.inv(adjoint(self.a) @ b)

    def onto_rows(self, c: Array) -> Array:
        return c

    def solve(
        self, b: Array, g: Array | None = None, z: Array | None = None
    ) -> tuple[Array, Array]:
        right = adjoint(self.a) @ b
        x = self.gram.inv(right if g is None else right + g)
        return x, b - self.a @ x

    def attached(self, a: Array) -> AbstractFactor:
        return AttachedTall(self, a)


class CholeskyGram(eqx.Module):
    """`G = L L^H`."""

    lower: Inexact[Array, "r r"]

    def inv(self, v: Inexact[Array, "r k"]) -> Inexact[Array, "r k"]:
        """`G^{-1} v`."""
        half = jax.scipy.linalg.solve_triangular(self.lower, v, lower=True)
        return jax.scipy.linalg.solve_triangular(self.lower, half, lower=True, trans="C")


class InnerGram(eqx.Module):
    """G as a lineax solver sees it, which is always real."""

    state: PyTree
    solver: lx.AbstractLinearSolver = eqx.field(static=True)

    def inv(self, v: Inexact[Array, "r k"]) -> Inexact[Array, "r k"]:
        """`G^{-1} v`, NaN where the inner solver fails."""
        stacked = jnp.concatenate([v.real, v.imag]) if jnp.iscomplexobj(v) else v
        x = jax.vmap(self._column, in_axes=1, out_axes=1)(stacked)
        return jax.lax.complex(*jnp.split(x, 2)) if jnp.iscomplexobj(v) else x

    def _column(self, v: Array) -> Array:
        x, result, _ = self.solver.compute(self.state, v, {})
        # lineax's CG answers zero, and success, to a NaN.
        good = (result == lx.RESULTS.successful) & jnp.all(jnp.isfinite(v))
        return jnp.where(good, x, jnp.full_like(x, jnp.nan))


def _inner_state(solver: lx.AbstractLinearSolver, a: Inexact[Array, "m n"]) -> PyTree:
    """The state of `solver` for `A^H A`, as a real matrix of twice the size if A is complex."""
    if jnp.iscomplexobj(a):
        a = jnp.block([[a.real, -a.imag], [a.imag, a.real]])
    operator = lx.MatrixLinearOperator(a)
    gram = lx.TaggedLinearOperator(operator.T @ operator, lx.positive_semidefinite_tag)
    return solver.init(gram, {})
