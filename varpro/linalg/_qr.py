"""QR of a matrix or of its adjoint, whichever is tall. Assumes full rank."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint, small_solve, triangular
from ._frames import cutoff, rank_and_cond, significant


class QR(AbstractPinvSolver):
    """Householder QR: the fast choice for well-conditioned tall or wide matrices of full rank.

    A rank-deficient matrix gives infinities or huge numbers; use `SVD` or `PivotedQR` there.
    """

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        m, n = a.shape
        tall = a if m >= n else adjoint(a)
        # LAPACK's Householder vectors and R in one array; Q is formed when tangents need it.
        raw, taus = jnp.linalg.qr(tall, mode="raw")
        sizes = jnp.abs(jnp.diagonal(raw))
        estimate = rank_and_cond(sizes, significant(sizes, cutoff(a, None)))
        cls = _TallReflectors if m >= n else _WideReflectors
        return cls(raw.T, taus, *estimate, full_columns=m >= n, full_rows=m <= n)


class _TallReflectors(AbstractFactor):
    """A = Q R by Householder vectors: products with Q cost no Q, which is best for few vectors."""

    packed: Inexact[Array, "m n"]
    taus: Inexact[Array, " n"]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def pinv(self, b: Array) -> Array:
        return _upper(_triangle(self.packed), _q_h(self.packed, self.taus, b))

    def pinv_h(self, c: Array) -> Array:
        return _q(self.packed, self.taus, _upper(_triangle(self.packed), c, h=True))

    def gram_inv(self, c: Array) -> Array:
        r = _triangle(self.packed)
        return _upper(r, _upper(r, c, h=True))

    def onto_range(self, b: Array) -> Array:
        return _q(self.packed, self.taus, _q_h(self.packed, self.taus, b))

    def onto_rows(self, c: Array) -> Array:
        return c

    def attached(self, a: Array) -> AbstractFactor:
        q = jax.lax.linalg.householder_product(self.packed, self.taus)
        q, r = _tall_frame((q, _triangle(self.packed)), a)
        flags = {"full_columns": self.full_columns, "full_rows": self.full_rows}
        return _TallQ(q=q, r=r, rank=self.rank, cond=self.cond, **flags)


class _WideReflectors(AbstractFactor):
    """A^H = Q R by Householder vectors."""

    packed: Inexact[Array, "n m"]
    taus: Inexact[Array, " m"]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def pinv(self, b: Array) -> Array:
        return _q(self.packed, self.taus, _upper(_triangle(self.packed), b, h=True))

    def pinv_h(self, c: Array) -> Array:
        return _upper(_triangle(self.packed), _q_h(self.packed, self.taus, c))

    def gram_inv(self, c: Array) -> Array:
        return self.pinv(self.pinv_h(c))

    def onto_range(self, b: Array) -> Array:
        return b

    def onto_rows(self, c: Array) -> Array:
        return _q(self.packed, self.taus, _q_h(self.packed, self.taus, c))

    def attached(self, a: Array) -> AbstractFactor:
        q = jax.lax.linalg.householder_product(self.packed, self.taus)
        # The adjoint of a wide matrix is tall, and moves like one.
        q, r = _tall_frame((q, _triangle(self.packed)), adjoint(a))
        flags = {"full_columns": self.full_columns, "full_rows": self.full_rows}
        return _WideQ(q=q, r=r, rank=self.rank, cond=self.cond, **flags)


class _TallQ(AbstractFactor):
    """A = Q R with Q (m, n) explicit: one product for any number of vectors."""

    q: Inexact[Array, "m n"]
    r: Inexact[Array, "n n"]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def pinv(self, b: Array) -> Array:
        return _upper(self.r, adjoint(self.q) @ b)

    def pinv_h(self, c: Array) -> Array:
        return self.q @ _upper(self.r, c, h=True)

    def gram_inv(self, c: Array) -> Array:
        return _upper(self.r, _upper(self.r, c, h=True))

    def onto_range(self, b: Array) -> Array:
        return self.q @ (adjoint(self.q) @ b)

    def onto_rows(self, c: Array) -> Array:
        return c

    def attached(self, a: Array) -> AbstractFactor:
        return self


class _WideQ(AbstractFactor):
    """A^H = Q R with Q (n, m) explicit."""

    q: Inexact[Array, "n m"]
    r: Inexact[Array, "m m"]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def pinv(self, b: Array) -> Array:
        return self.q @ _upper(self.r, b, h=True)

    def pinv_h(self, c: Array) -> Array:
        return _upper(self.r, adjoint(self.q) @ c)

    def gram_inv(self, c: Array) -> Array:
        return self.q @ _upper(self.r, _upper(self.r, adjoint(self.q) @ c), h=True)

    def onto_range(self, b: Array) -> Array:
        return b

    def onto_rows(self, c: Array) -> Array:
        return self.q @ (adjoint(self.q) @ c)

    def attached(self, a: Array) -> AbstractFactor:
        return self


@eqx.filter_custom_jvp
def _tall_frame(frame: tuple[Array, Array], a: Array) -> tuple[Array, Array]:
    """Q and R of a tall `a`, as functions of `a`."""
    return frame


@_tall_frame.def_jvp
def _tall_frame_jvp(primals, tangents):
    frame, a = primals
    _, t_a = tangents
    q, r = _tall_frame(frame, a)
    if t_a is None:
        return (q, r), (None, None)
    t_r = adjoint(q) @ t_a
    t_q = adjoint(_upper(r, adjoint(t_a - q @ t_r), h=True))
    return (q, r), (t_q, t_r)


def _upper(r: Array, b: Array, *, h: bool = False) -> Array:
    return small_solve(r, b, triangular(lower=False), h=h)


def _triangle(packed: Array) -> Array:
    return jnp.triu(packed[: packed.shape[1]])


def _q_h(packed: Array, taus: Array, b: Array) -> Array:
    """`Q^H b`."""
    return jax.lax.linalg.ormqr(packed, taus, b, transpose=True)[: packed.shape[1]]


def _q(packed: Array, taus: Array, c: Array) -> Array:
    """`Q c`."""
    missing = packed.shape[0] - packed.shape[1]
    padded = jnp.concatenate([c, jnp.zeros((missing, c.shape[1]), c.dtype)])
    return jax.lax.linalg.ormqr(packed, taus, padded)
