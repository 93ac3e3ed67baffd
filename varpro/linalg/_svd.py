"""The singular value decomposition: any matrix, of any rank."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint
from ._frames import TwoSided


class SVD(AbstractPinvSolver):
    """Singular value decomposition: minimum-norm solutions for every rank.

    **Arguments:**

    - `rcond`: singular values at or below `rcond` times the largest count as zero;
        `max(m, n) * eps` by default.
    """

    rcond: float | None = None

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        u, s, vh = jnp.linalg.svd(a, full_matrices=False)
        mask = significant(s, a.shape, self.rcond)
        rank, cond = rank_and_cond(s, mask)
        t = jnp.diag(jnp.where(mask, s, 1.0)).astype(a.dtype)
        return TwoSided(u * mask, t, adjoint(vh) * mask, rank, cond, _diagonal)


def significant(
    sizes: Float[Array, " r"], shape: tuple[int, ...], rcond: float | None
) -> Bool[Array, " r"]:
    """Which of `sizes` (largest first) count as nonzero. The one decision about rank.

    NaN counts as nonzero, so that NaN in gives NaN out rather than rank zero.
    """
    if sizes.size == 0:
        return jnp.zeros(0, bool)
    rcond = max(shape) * jnp.finfo(sizes.dtype).eps if rcond is None else rcond
    return ~(sizes <= rcond * sizes[0])


def rank_and_cond(sizes: Float[Array, " r"], mask: Bool[Array, " r"]) -> tuple[Array, Array]:
    """Numerical rank; condition number, infinite below full rank and 1 for an empty matrix."""
    if sizes.size == 0:
        return jnp.array(0), jnp.ones((), sizes.dtype)
    full = jnp.all(mask)
    return jnp.sum(mask), jnp.where(full, sizes[0] / jnp.where(full, jnp.min(sizes), 1.0), jnp.inf)


def _diagonal(t: Array, b: Array, trans: str) -> Array:
    # The singular values are real: the same for every transposition.
    return b / jnp.diagonal(t).real[:, None]
