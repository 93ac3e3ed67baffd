"""QR of a matrix or of its adjoint, whichever is tall. Assumes full rank."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint, constant
from ._full_rank import AttachedTall, WideFactor
from ._householder import Reflectors, reflectors_and_triangle
from ._orthogonal import decide_rank


class QR(AbstractPinvSolver):
    """Householder QR: the fast choice for well-conditioned tall or wide matrices of full rank.

    `A = Q R` if tall or square, `A^H = Q R` if wide. Full rank is assumed, and terms that vanish
    there are not computed; a rank-deficient matrix gives infinities or huge numbers, and `rank`
    and `cond` of the factor, estimated from the diagonal of R, tell. Use `PivotedQR` or `SVD` there.
    """

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        m, n = a.shape
        a = constant(a)
        if m < n:
            return WideFactor(_tall_qr(adjoint(a)))
        return _tall_qr(a)


class TallQR(AbstractFactor):
    """A = Q R with full column rank."""

    q: Reflectors
    r: Inexact[Array, "n n"]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def pinv(self, b: Array) -> Array:
        return self._r_inv(self.q.into(b))

    def pinv_h(self, c: Array) -> Array:
        return self.q.out(self._r_inv_h(c))

    def gram_inv(self, c: Array) -> Array:
        return self._r_inv(self._r_inv_h(c))

    def onto_range(self, b: Array) -> Array:
        return self.q.out(self.q.into(b))

    def onto_rows(self, c: Array) -> Array:
        return c

    def solve(
        self, b: Array, g: Array | None = None, z: Array | None = None
    ) -> tuple[Array, Array]:
        t = self.q.into(b)
        if g is not None:
            t = t + self._r_inv_h(g)
        return self._r_inv(t), b - self.q.out(t)

    def attached(self, a: Array) -> AbstractFactor:
        return AttachedTall(self, a)

    def _r_inv(self, t: Array) -> Array:
        return jax.scipy.linalg.solve_triangular(self.r, t)

    def _r_inv_h(self, t: Array) -> Array:
        return jax.scipy.linalg.solve_triangular(self.r, t, trans="C")


def _tall_qr(a: Inexact[Array, "m n"]) -> TallQR:
    m, n = a.shape
    q, r = reflectors_and_triangle(a)
    _, rank, cond = decide_rank(jnp.abs(jnp.diagonal(r)), a.shape, None)
    return TallQR(q=q, r=r, rank=rank, cond=cond, full_columns=True, full_rows=m == n)
