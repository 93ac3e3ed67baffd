"""Factors of matrices whose columns come in any units.

Columns are divided by powers of two near their norms, so that neither the numerical rank nor the
condition number depends on units, and no digit is lost on the way. A tall matrix is turned into its
triangle first: norms, balancing and rank decision are then a matter of n x n numbers.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int

from ._factor import AbstractFactor, AbstractPinvSolver
from ._householder import Reflectors, reflectors_and_triangle
from ._orthogonal import cutoff
from ._pivoted_qr import PivotedQR
from ._qr import QR
from ._svd import SVD


class Balanced(eqx.Module):
    """A = B D factored, with D = diag(`scale`) and B = Q [T; 0], `inner` being a factor of T (n, n).

    Without `outer`, Q = I and `inner` is a factor of B. `rank`, `cond`, `gram_inv` and `onto_rows` are
    those of B. Not to be differentiated.
    """

    inner: AbstractFactor
    outer: Reflectors | None
    scale: Float[Array, " n"]

    @property
    def rank(self) -> Int[Array, ""]:
        """Numerical rank."""
        return self.inner.rank

    @property
    def cond(self) -> Float[Array, ""]:
        """Condition number, infinite below full rank."""
        return self.inner.cond

    def gram_inv(self, c: Inexact[Array, "n k"]) -> Inexact[Array, "n k"]:
        """`(B^H B)^+ c`."""
        return self.inner.gram_inv(c)

    def onto_rows(self, c: Inexact[Array, "n k"]) -> Inexact[Array, "n k"]:
        """The projection of c onto the row space of B."""
        return self.inner.onto_rows(c)

    def coefficients(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "n k"]:
        """The least-squares solution of `A c = b` of least norm `|| D c ||`."""
        return self.solve(self.head(b))[0]

    def rotate(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "m k"]:
        """`Q^H b`: coordinates in which the range of A is within the first rows."""
        return b if self.outer is None else self.outer.rotate(b)

    def rotate_back(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "m k"]:
        """The inverse of `rotate`."""
        return b if self.outer is None else self.outer.rotate_back(b)

    def head(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "s k"]:
        """The first rows of `Q^H b`: all of b that a solution depends on."""
        return b if self.outer is None else self.outer.into(b)

    def solve(
        self,
        b: Inexact[Array, "s k"],
        g: Inexact[Array, "n k"] | None = None,
        z: Inexact[Array, "n k"] | None = None,
    ) -> tuple[Inexact[Array, "n k"], Inexact[Array, "s k"]]:
        """`AbstractFactor.solve` in the coordinates of `rotate`, or of `head` for x alone.

        Norms of solutions are `|| D x ||`, and x is the one nearest to `D^{-2} z` by that norm.
        """
        size = b.shape[0] if self.outer is None else self.scale.size
        scale = self.scale[:, None]
        g, z = (None if v is None else v / scale for v in (g, z))
        x, rest = self.inner.solve(b[:size], g, z)
        return x / scale, jnp.concatenate([rest, b[size:]])


def balanced(solver: AbstractPinvSolver, a: Inexact[Array, "m n"]) -> Balanced:
    """`a` factored by `solver` with its columns balanced."""
    m, n = a.shape
    if m <= n or not isinstance(solver, QR | PivotedQR | SVD):
        scale = column_scale(a)
        return Balanced(solver.factor(a / scale), None, scale)
    if isinstance(solver, PivotedQR | SVD):
        solver = dataclasses.replace(solver, rcond=cutoff(a.dtype, a.shape, solver.rcond))
    outer, triangle = reflectors_and_triangle(a)
    triangle = jnp.triu(triangle)
    scale = column_scale(triangle)
    return Balanced(solver.factor(triangle / scale), outer, scale)


def column_scale(a: Inexact[Array, "m n"]) -> Float[Array, " n"]:
    """Powers of two near the column norms; 1 for a column that is zero or not finite.

    Infinite for a column so small that only the tail of a formula can have made it, which leaves it
    out, and NaN for one as large: their coefficients would be of no use to anybody.
    """
    a = jax.lax.stop_gradient(a)
    # Through the largest entry, for squares of huge or tiny columns overflow or vanish.
    largest = jnp.max(jnp.abs(a), axis=0, initial=0.0)
    safe = jnp.where((largest > 0) & jnp.isfinite(largest), largest, jnp.ones_like(largest))
    norm = largest * jnp.sqrt(jnp.sum(jnp.abs(a / safe) ** 2, axis=0))
    # No bits of the mantissa left: the nearest power of two.
    power = jax.lax.reduce_precision(norm, jnp.finfo(norm.dtype).nexp, 0)
    sane = 1e75 if norm.dtype == jnp.float64 else 1e30
    power = jnp.where(power > sane, jnp.nan, jnp.where(power < 1 / sane, jnp.inf, power))
    return jnp.where((largest > 0) & jnp.isfinite(largest), power, jnp.ones_like(power))
