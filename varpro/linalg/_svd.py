"""The singular value decomposition: any matrix, of any rank."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint, constant
from ._householder import reflectors_and_triangle
from ._orthogonal import Diagonal, Frame, TwoSided, decide_rank

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
        outer, square = None, a
        if max(m, n) >= _ELONGATED * min(m, n):
            outer, r = reflectors_and_triangle(a if m > n else adjoint(a))
            square = jnp.triu(r) if m > n else adjoint(jnp.triu(r))
        u, s, vh = jnp.linalg.svd(square, full_matrices=False)
        mask, rank, cond = decide_rank(s, a.shape, self.rcond)
        left = Frame(u * mask, outer if m > n else None)
        right = Frame(adjoint(vh) * mask, outer if m < n else None)
        core = Diagonal(jnp.where(mask, s, jnp.ones_like(s)).astype(a.dtype))
        return TwoSided(u=left, core=core, v=right, rank=rank, cond=cond)
