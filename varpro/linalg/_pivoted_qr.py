"""QR with column pivoting: reveals the rank for a fraction of what an SVD costs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint, triangular
from ._frames import TwoSided, cutoff, rank_and_cond, significant


class PivotedQR(AbstractPinvSolver):
    """Complete orthogonal decomposition by two QR: minimum-norm solutions for every rank.

    `A P = Q R` with columns pivoted, so the diagonal of R falls and its small end tells the rank.
    The rows of R beyond the rank are dropped, and a second QR `R^H = Z S` turns what is left into
    a triangle: `A = Q S^H (P Z)^H`.

    **Arguments:**

    - `rcond`: diagonal entries of R at or below `rcond` times the largest count as zero;
        `max(m, n) * eps` by default.

    Reference: Golub and Van Loan, Matrix Computations, section 5.5.2.
    """

    rcond: float | None = None

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        q, r, pivots = jax.scipy.linalg.qr(a, mode="economic", pivoting=True)
        sizes = jnp.abs(jnp.diagonal(r))
        mask = significant(sizes, cutoff(a, self.rcond))
        rank, cond = rank_and_cond(sizes, mask)
        # The pivots put what is significant first, so the columns of Z beyond the rank are those
        # of zeros in R^H; S is made nonsingular there and the mask keeps them out of every verb.
        z, s = jnp.linalg.qr(adjoint(jnp.where(mask[:, None], r, 0)), mode="reduced")
        t = adjoint(jnp.where(mask[:, None] & mask, s, jnp.eye(mask.size, dtype=s.dtype)))
        v = jnp.zeros_like(z).at[pivots].set(z)
        return TwoSided(q * mask, t, v * mask, rank, cond, triangular(lower=True))
