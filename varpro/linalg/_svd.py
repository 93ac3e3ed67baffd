"""The singular value decomposition: any matrix, of any rank."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint, constant
from ._two_sided import Diagonal, Explicit, Reflectors, Turned, TwoSided, decide_rank

# From this ratio of sides on, QR first and the SVD of the triangle are faster.
_ELONGATED = 1.5


class SVD(AbstractPinvSolver):
    """Singular value decomposition: minimum-norm solutions for every rank.

    `A = U S V^H`, with one rank mask for every verb. An elongated matrix is first reduced to a
    triangle by QR; its long singular vectors are never formed.

    **Arguments:**

    - `rcond`: singular values at or below `rcond` times the largest count as zero;
        `max(m, n) * eps` by default.
    """

    rcond: float | None = eqx.field(static=True, default=None)

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        m, n = a.shape
        a = constant(a)
        outer = None
        square = a
        if max(m, n) >= _ELONGATED * min(m, n):
            raw, taus = jnp.linalg.qr(a if m > n else adjoint(a), mode="raw")
            outer = Reflectors(raw.T, taus)
            r = jnp.triu(raw.T[: taus.shape[0]])
            square = r if m > n else adjoint(r)
        u, s, vh = jnp.linalg.svd(square, full_matrices=False)
        mask, rank, cond = decide_rank(s, a.shape, self.rcond)
        left, right = Explicit(u * mask), Explicit(adjoint(vh) * mask)
        if outer is not None:
            left, right = (Turned(outer, left), right) if m > n else (left, Turned(outer, right))
        core = Diagonal(jnp.where(mask, s, jnp.ones_like(s)))
        return TwoSided(left, core, right, rank, cond, full_columns=False, full_rows=False)
