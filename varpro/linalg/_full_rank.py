"""Factors that assume full rank: of a wide matrix by its adjoint, and as functions of the matrix.

A tall A of full column rank needs no more than the augmented system, Hermitian and nonsingular,

    [ I    A ] [ s ]   [  b ]
    [ A^H  0 ] [ x ] = [ -g ]       x = A^+ b + (A^H A)^{-1} g,   s = b - A x

whose entries are those of A. Told so by `jax.lax.custom_linear_solve`, JAX itself differentiates
it to any order, and every solve with it is one `solve` of the factor.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int

from ._factor import AbstractFactor, adjoint


class AttachedTall(AbstractFactor):
    """`factor` of a tall `a` as a function of `a`."""

    factor: AbstractFactor
    a: Inexact[Array, "m n"]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def __init__(self, factor: AbstractFactor, a: Inexact[Array, "m n"]):
        self.factor, self.a = factor, a
        self.rank, self.cond = factor.rank, factor.cond
        self.full_columns, self.full_rows = factor.full_columns, factor.full_rows

    def pinv(self, b: Array) -> Array:
        return self.solve(b)[0]

    def pinv_h(self, c: Array) -> Array:
        return -self.solve(_zeros_like_tangent(c, self.a.shape[0]), c)[1]

    def gram_inv(self, c: Array) -> Array:
        return self.solve(_zeros_like_tangent(c, self.a.shape[0]), c)[0]

    def onto_range(self, b: Array) -> Array:
        return b - self.solve(b)[1]

    def onto_rows(self, c: Array) -> Array:
        return c

    def solve(
        self, b: Array, g: Array | None = None, z: Array | None = None
    ) -> tuple[Array, Array]:
        def augmented(sx):
            s, x = sx
            return s + self.a @ x, adjoint(self.a) @ s

        def inverse(_, right):
            b, minus_g = right
            x, s = self.factor.solve(b, -minus_g)
            return s, x

        def inverse_transposed(_, right):
            return jax.tree.map(jnp.conj, inverse(_, jax.tree.map(jnp.conj, right)))

        minus_g = _zeros_like_tangent(b, self.a.shape[1]) if g is None else -g
        s, x = jax.lax.custom_linear_solve(augmented, (b, minus_g), inverse, inverse_transposed)
        return x, s

    def attached(self, a: Array) -> AbstractFactor:
        return self


class WideFactor(AbstractFactor):
    """A wide A of full row rank, known by a factor of the tall `A^H`."""

    tall: AbstractFactor
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def __init__(self, tall: AbstractFactor):
        self.tall = tall
        self.rank, self.cond = tall.rank, tall.cond
        self.full_columns, self.full_rows = False, True

    def pinv(self, b: Array) -> Array:
        return self.tall.pinv_h(b)

    def pinv_h(self, c: Array) -> Array:
        return self.tall.pinv(c)

    def gram_inv(self, c: Array) -> Array:
        return self.tall.pinv_h(self.tall.pinv(c))

    def onto_range(self, b: Array) -> Array:
        return b

    def onto_rows(self, c: Array) -> Array:
        return self.tall.onto_range(c)

    def solve(
        self, b: Array, g: Array | None = None, z: Array | None = None
    ) -> tuple[Array, Array]:
        # Every b can be reached, and g moves where to.
        rest = jnp.zeros_like(b) if g is None else -self.tall.pinv(g)
        image = b if g is None else b - rest
        if z is None:
            return self.tall.pinv_h(image), rest
        # The point nearest to z with A x = b is the residual of this least-squares problem.
        return self.tall.solve(z, -image)[1], rest

    def attached(self, a: Array) -> AbstractFactor:
        return WideFactor(self.tall.attached(adjoint(a)))


def _zeros_like_tangent(b: Inexact[Array, "m k"], rows: int) -> Inexact[Array, "rows k"]:
    """Zeros that are a linear function of b: what `custom_linear_solve` can transpose."""
    return jnp.broadcast_to(jnp.sum(b[:0], axis=0), (rows, b.shape[1]))
