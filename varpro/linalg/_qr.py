"""QR of a matrix or of its adjoint, whichever is tall. Assumes full rank."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint, constant
from ._two_sided import Identity, Lower, Reflectors, TwoSided, Upper, decide_rank


class QR(AbstractPinvSolver):
    """Householder QR: the fast choice for well-conditioned tall or wide matrices of full rank.

    `A = Q R` if tall or square, `A^H = Q R` if wide. Full rank is assumed, and terms that vanish
    there are not computed; a rank-deficient matrix gives infinities or huge numbers, and `rank`
    and `cond` of the factor, estimated from the diagonal of R, tell. Use `PivotedQR` or `SVD` there.
    """

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        m, n = a.shape
        a = constant(a)
        raw, taus = jnp.linalg.qr(a if m >= n else adjoint(a), mode="raw")
        packed = raw.T
        q, r = Reflectors(packed, taus), packed[: taus.shape[0]]
        _, rank, cond = decide_rank(jnp.abs(jnp.diagonal(r)), a.shape, None)
        if m >= n:
            return TwoSided(
                q, Upper(r), Identity(), rank, cond, full_columns=True, full_rows=m == n
            )
        return TwoSided(Identity(), Lower(r), q, rank, cond, full_columns=False, full_rows=True)
