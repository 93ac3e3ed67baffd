"""The singular value decomposition: any matrix, of any rank."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint
from ._frames import TwoSided, cutoff, rank_and_cond, significant


class SVD(AbstractPinvSolver):
    """Singular value decomposition: minimum-norm solutions for every rank.

    **Arguments:**

    - `rcond`: singular values at or below `rcond` times the largest count as zero;
        `max(m, n) * eps` by default.
    """

    rcond: float | None = None

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        u, s, vh = jnp.linalg.svd(a, full_matrices=False)
        mask = significant(s, cutoff(a, self.rcond))
        rank, cond = rank_and_cond(s, mask)
        t = jnp.diag(jnp.where(mask, s, 1.0)).astype(a.dtype)
        return TwoSided(u * mask, t, adjoint(vh) * mask, rank, cond, _diagonal)


def _diagonal(t: Array, b: Array, trans: str) -> Array:
    # The singular values are real: the same for every transposition.
    return b / jnp.diagonal(t).real[:, None]
