"""A = U T V^H: the five verbs of every orthogonal factorisation.

U (m, r) and V (n, r) have orthonormal columns and T is small and easily solved with; the classes
below say how each is kept. Masked columns, those beyond the numerical rank, are zero in U and in V
and T has a one there on its diagonal, so the one mask serves every verb. A frame that is the
identity costs nothing: `onto_rows` of a tall QR returns its argument.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Inexact, Int

from ._factor import AbstractFactor, adjoint


class AbstractFrame(eqx.Module):
    """A matrix with orthonormal (or masked) columns."""

    @abc.abstractmethod
    def into(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "r k"]:
        """`U^H b`."""

    @abc.abstractmethod
    def out(self, t: Inexact[Array, "r k"]) -> Inexact[Array, "m k"]:
        """`U t`."""


class AbstractCore(eqx.Module):
    """A small nonsingular T."""

    @abc.abstractmethod
    def inv(self, t: Inexact[Array, "r k"]) -> Inexact[Array, "r k"]:
        """`T^{-1} t`."""

    @abc.abstractmethod
    def inv_h(self, t: Inexact[Array, "r k"]) -> Inexact[Array, "r k"]:
        """`T^{-H} t`."""


class TwoSided(AbstractFactor):
    """A = U T V^H of numerical rank `rank`."""

    u: AbstractFrame
    core: AbstractCore
    v: AbstractFrame
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True)
    full_rows: bool = eqx.field(static=True)

    def pinv(self, b: Array) -> Array:
        return self.v.out(self.core.inv(self.u.into(b)))

    def pinv_h(self, c: Array) -> Array:
        return self.u.out(self.core.inv_h(self.v.into(c)))

    def gram_inv(self, c: Array) -> Array:
        return self.v.out(self.core.inv(self.core.inv_h(self.v.into(c))))

    def onto_range(self, b: Array) -> Array:
        return self.u.out(self.u.into(b))

    def onto_rows(self, c: Array) -> Array:
        return self.v.out(self.v.into(c))

    def solve(
        self, b: Array | None, g: Array | None = None, z: Array | None = None
    ) -> tuple[Array, Array]:
        t = None if b is None else self.u.into(b)
        if g is not None:
            lifted = self.core.inv_h(self.v.into(g))
            t = lifted if t is None else t + lifted
        assert t is not None
        x = self.core.inv(t)
        if z is None or self.full_columns:
            return self.v.out(x), self.u.out(t)
        return self.v.out(x - self.v.into(z)) + z, self.u.out(t)


class Identity(AbstractFrame):
    """U = I."""

    def into(self, b: Array) -> Array:
        return b

    def out(self, t: Array) -> Array:
        return t


class Explicit(AbstractFrame):
    """U as a matrix."""

    matrix: Inexact[Array, "m r"]

    def into(self, b: Array) -> Array:
        return adjoint(self.matrix) @ b

    def out(self, t: Array) -> Array:
        return self.matrix @ t


class Reflectors(AbstractFrame):
    """U = Q, the first r columns of a product of Householder reflections, as LAPACK keeps them.

    A few vectors are reflected, in one block also when `vmap` brings them one by one; for more
    vectors than columns Q is formed, because one product with it is then cheaper.
    """

    packed: Inexact[Array, "m r"]
    taus: Inexact[Array, " r"]

    def into(self, b: Array) -> Array:
        packed, taus = self.packed, self.taus
        missing = packed.shape[0] - taus.shape[0]
        # Both directions as maps from (m, k) to (m, k): `_with_transpose` wants square ones.
        wide = _with_transpose(
            lambda y: _padded(_q_h(packed, taus, y), missing),
            lambda y: _q(packed, taus, y[: taus.shape[0]].conj()).conj(),
            b,
        )
        return wide[: taus.shape[0]]

    def out(self, t: Array) -> Array:
        packed, taus = self.packed, self.taus
        missing = packed.shape[0] - taus.shape[0]
        return _with_transpose(
            lambda y: _q(packed, taus, y[: taus.shape[0]]),
            lambda y: _padded(_q_h(packed, taus, y.conj()).conj(), missing),
            _padded(t, missing),
        )


class Turned(AbstractFrame):
    """U = Q W with Householder reflections Q and a small matrix W."""

    outer: Reflectors
    inner: Explicit

    def into(self, b: Array) -> Array:
        return self.inner.into(self.outer.into(b))

    def out(self, t: Array) -> Array:
        return self.outer.out(self.inner.out(t))


class Diagonal(AbstractCore):
    """T = diag(s), real."""

    s: Float[Array, " r"]

    def inv(self, t: Array) -> Array:
        return t / self.s[:, None].astype(t.dtype)

    def inv_h(self, t: Array) -> Array:
        return self.inv(t)


class Upper(AbstractCore):
    """T = R, an upper triangle; what lies below the diagonal is not read."""

    r: Inexact[Array, "r r"]

    def inv(self, t: Array) -> Array:
        return jax.scipy.linalg.solve_triangular(self.r, t)

    def inv_h(self, t: Array) -> Array:
        return jax.scipy.linalg.solve_triangular(self.r, t, trans="C")


class Lower(AbstractCore):
    """T = R^H, kept as the upper triangle R."""

    r: Inexact[Array, "r r"]

    def inv(self, t: Array) -> Array:
        return Upper(self.r).inv_h(t)

    def inv_h(self, t: Array) -> Array:
        return Upper(self.r).inv(t)


def decide_rank(
    sizes: Float[Array, " r"], shape: tuple[int, int], rcond: float | None
) -> tuple[Bool[Array, " r"], Int[Array, ""], Float[Array, ""]]:
    """Which of `sizes` count as nonzero, how many these are, and the condition number.

    A size counts as zero at or below `rcond` (default `max(m, n) * eps`) times the largest, so a
    zero matrix has rank zero. NaN counts as nonzero: NaN in gives NaN out.
    """
    if sizes.size == 0:
        return jnp.zeros(0, bool), jnp.array(0), jnp.ones((), sizes.dtype)
    largest = jnp.max(sizes)
    mask = ~(sizes <= cutoff(sizes.dtype, shape, rcond) * largest)
    cond = jnp.where(jnp.all(mask), largest / jnp.min(jnp.where(mask, sizes, largest)), jnp.inf)
    return mask, jnp.sum(mask), cond


def cutoff(dtype: jnp.dtype, shape: tuple[int, int], rcond: float | None) -> float:
    """The size, relative to the largest, at which a number stops counting as nonzero."""
    return max(shape) * float(jnp.finfo(dtype).eps) if rcond is None else rcond


def _with_transpose(apply, apply_transposed, b: Array) -> Array:
    # JAX knows no transpose of `ormqr`, nor of a function with its own batching rule. As the
    # "solve" of a linear system both are told; the system's own matrix is never used, since the
    # factor carries no tangent.
    return jax.lax.custom_linear_solve(
        lambda x: x, b, lambda _, y: apply(y), lambda _, y: apply_transposed(y)
    )


def _padded(t: Array, missing: int) -> Array:
    return jnp.concatenate([t, jnp.zeros((missing, t.shape[1]), t.dtype)])


def _plain_q_h(packed: Array, taus: Array, b: Array) -> Array:
    if b.shape[1] > taus.shape[0]:
        return adjoint(jax.lax.linalg.householder_product(packed, taus)) @ b
    return jax.lax.linalg.ormqr(packed, taus, b, transpose=True)[: taus.shape[0]]


def _plain_q(packed: Array, taus: Array, t: Array) -> Array:
    if t.shape[1] > taus.shape[0]:
        return jax.lax.linalg.householder_product(packed, taus) @ t
    return jax.lax.linalg.ormqr(packed, taus, _padded(t, packed.shape[0] - taus.shape[0]))


def _in_one_block(plain):
    """`plain(packed, taus, b)`, with a batch of b's under one factor as more columns of one b."""
    apply = custom_vmap(plain)

    @apply.def_vmap
    def rule(size, batched, packed, taus, b):
        if batched[0] or batched[1]:
            axes = [0 if flag else None for flag in batched]
            return jax.vmap(plain, in_axes=axes)(packed, taus, b), True
        columns = jnp.moveaxis(b, 0, 1).reshape(b.shape[1], -1)
        out = apply(packed, taus, columns)
        return jnp.moveaxis(out.reshape(out.shape[0], size, -1), 1, 0), True

    return apply


_q_h, _q = _in_one_block(_plain_q_h), _in_one_block(_plain_q)
