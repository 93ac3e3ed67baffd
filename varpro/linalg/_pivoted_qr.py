"""Complete orthogonal decomposition by QR with column pivoting: any rank, cheaper than an SVD."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint, constant
from ._orthogonal import Frame, Lower, TwoSided, decide_rank


class PivotedQR(AbstractPinvSolver):
    """QR with column pivoting, then a second QR for the minimum norm: every rank.

    `A P = Q R`; rows of R beyond the numerical rank are set to zero, and `R^H = Z L^H` turns what
    is left into a triangle, so `A = Q L (P Z)^H`. The rank is that of the diagonal of R, which
    may overlook a deficiency that singular values show (Kahan's matrix); in practice it is
    reliable. Where JAX has no pivoted QR for a device it raises `NotImplementedError`.

    **Arguments:**

    - `rcond`: diagonal entries at or below `rcond` times the largest count as zero;
        `max(m, n) * eps` by default.

    Reference: Golub & Van Loan, Matrix Computations, 4th ed., section 5.4.7.
    """

    rcond: float | None = eqx.field(static=True, default=None)

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        a = constant(a)
        q, r, order = jax.scipy.linalg.qr(a, mode="economic", pivoting=True)
        mask, rank, cond = decide_rank(jnp.abs(jnp.diagonal(r)), a.shape, self.rcond)
        z, upper = jnp.linalg.qr(adjoint(jnp.where(mask[:, None], r, jnp.zeros_like(r))))
        # A masked row of R leaves a zero column in `upper`.
        upper = upper + jnp.diag((~mask).astype(a.dtype))
        v = (z * mask)[jnp.argsort(order)]
        u, core, v = Frame(q * mask), Lower(upper), Frame(v)
        return TwoSided(u=u, core=core, v=v, rank=rank, cond=cond)
