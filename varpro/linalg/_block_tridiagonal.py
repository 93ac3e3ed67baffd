"""Positive definite systems of blocks that touch their neighbours, with a border that touches all.

    [ B    F ] [ u ]   [ a ]        B block tridiagonal: `diagonal` (t, w, w), and `below` (t, w, w),
    [ F^T  C ] [ v ] = [ b ]        which couples block i to block i - 1; F (t, w, g), C (g, g)

Cholesky factors block by block: time and memory grow with t w^2 (w + g), not with the square of t w. Rows and
columns are first scaled to a diagonal of ones; one of zeros is left out, and its unknown is zero.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float


class Bordered(NamedTuple):
    """The matrix."""

    diagonal: Float[Array, "t w w"]
    below: Float[Array, "t w w"]
    border: Float[Array, "t w g"]
    corner: Float[Array, "g g"]

    @property
    def sizes(self) -> tuple[Float[Array, "t w"], Float[Array, " g"]]:
        """Its diagonal."""
        return jnp.diagonal(self.diagonal, axis1=1, axis2=2), jnp.diagonal(self.corner)


class BorderedFactor(NamedTuple):
    """Its Cholesky factor, in scaled coordinates."""

    lower: Float[Array, "t w w"]
    mixed: Float[Array, "t w w"]
    border: Float[Array, "t w g"]
    solved_border: Float[Array, "t w g"]
    corner: Float[Array, "g g"]
    scale: tuple[Float[Array, "t w"], Float[Array, " g"]]

    def solve(
        self, a: Float[Array, "t w"], b: Float[Array, " g"]
    ) -> tuple[Float[Array, "t w"], Float[Array, " g"]]:
        """The unknowns u and v."""
        scale, ends = self.scale
        u = _solve(self.lower, self.mixed, (scale * a)[:, :, None])[:, :, 0]
        rest = ends * b - jnp.einsum("twg,tw->g", self.border, u)
        v = jsl.cho_solve((self.corner, True), rest)
        u = u - self.solved_border @ v
        return scale * u, ends * v


def factored(matrix: Bordered) -> BorderedFactor:
    """The factor; not finite where the matrix is not positive definite."""
    sizes, ends = (
        jnp.where(d > 0, 1 / jnp.sqrt(jnp.where(d > 0, d, 1.0)), 0.0) for d in matrix.sizes
    )
    before = jnp.concatenate([sizes[:1], sizes[:-1]])
    eye = jnp.eye(sizes.shape[1], dtype=sizes.dtype)
    empty = (sizes == 0)[:, :, None] * eye
    diagonal = matrix.diagonal * sizes[:, :, None] * sizes[:, None, :] + empty
    below = matrix.below * sizes[:, :, None] * before[:, None, :]
    border = matrix.border * sizes[:, :, None] * ends

    def step(above, block):
        diagonal, below = block
        mixed = jsl.solve_triangular(above, below.T, lower=True).T
        lower = jnp.linalg.cholesky(diagonal - mixed @ mixed.T)
        return lower, (lower, mixed)

    _, (lower, mixed) = jax.lax.scan(
        step, eye, (diagonal, jnp.concatenate([jnp.zeros_like(below[:1]), below[1:]]))
    )
    solved = _solve(lower, mixed, border)
    corner = matrix.corner * ends[:, None] * ends + jnp.diag((ends == 0).astype(ends.dtype))
    corner = jnp.linalg.cholesky(corner - jnp.einsum("twg,twh->gh", border, solved))
    return BorderedFactor(lower, mixed, border, solved, corner, (sizes, ends))


def _solve(lower: Array, mixed: Array, right: Float[Array, "t w k"]) -> Float[Array, "t w k"]:
    def forward(z, block):
        lower, mixed, right = block
        z = jsl.solve_triangular(lower, right - mixed @ z, lower=True)
        return z, z

    def back(x, block):
        lower, after, z = block
        x = jsl.solve_triangular(lower, z - after.T @ x, lower=True, trans=1)
        return x, x

    zero = jnp.zeros_like(right[0])
    _, z = jax.lax.scan(forward, zero, (lower, mixed, right))
    after = jnp.concatenate([mixed[1:], jnp.zeros_like(mixed[:1])])
    return jax.lax.scan(back, zero, (lower, after, z), reverse=True)[1]
