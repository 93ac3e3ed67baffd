"""A = U T V^H of any rank: the five verbs of every rank-revealing factorisation.

U (m, r) and V (n, r) have orthonormal columns and T is small and easily solved with. Masked
columns, those beyond the numerical rank, are zero in U and in V and T has a one there on its
diagonal, so the one mask serves every verb.

U, T and V are not functions of A: only U U^H, V V^H and U T V^H are. For derivatives the simplest
motion is chosen, the one that does not turn U and V within their own ranges:

    T' = U^H A' V,    U' = (I - U U^H) A' V T^{-1},    V' = (I - V V^H) A'^H U T^{-H}

T' is a full matrix although T may be a triangle or a diagonal, so nothing divides by a difference
of singular values, and no derivative passes through a QR or an SVD of JAX. A first derivative
never uses these motions; they make the second and higher ones right.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from ._factor import AbstractFactor, adjoint
from ._householder import Reflectors


class AbstractCore(eqx.Module):
    """A small nonsingular T."""

    @abc.abstractmethod
    def matrix(self) -> Inexact[Array, "r r"]:
        """T."""

    @abc.abstractmethod
    def inv(self, t: Inexact[Array, "r k"]) -> Inexact[Array, "r k"]:
        """`T^{-1} t`."""

    @abc.abstractmethod
    def inv_h(self, t: Inexact[Array, "r k"]) -> Inexact[Array, "r k"]:
        """`T^{-H} t`."""


class Frame(eqx.Module):
    """U = `matrix`, or U = `outer` times `matrix` with Householder reflections as outer."""

    matrix: Inexact[Array, "_ r"]
    outer: Reflectors | None = None

    def into(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "r k"]:
        """`U^H b`."""
        return adjoint(self.matrix) @ (b if self.outer is None else self.outer.into(b))

    def out(self, t: Inexact[Array, "r k"]) -> Inexact[Array, "m k"]:
        """`U t`."""
        t = self.matrix @ t
        return t if self.outer is None else self.outer.out(t)

    def explicit(self) -> Inexact[Array, "m r"]:
        """U."""
        return self.matrix if self.outer is None else self.outer.out(self.matrix)


class TwoSided(AbstractFactor):
    """A = U T V^H of numerical rank `rank`."""

    u: Frame
    core: AbstractCore
    v: Frame
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    full_columns: bool = eqx.field(static=True, default=False)
    full_rows: bool = eqx.field(static=True, default=False)

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
        self, b: Array, g: Array | None = None, z: Array | None = None
    ) -> tuple[Array, Array]:
        t = self.u.into(b)
        if g is not None:
            t = t + self.core.inv_h(self.v.into(g))
        x, rest = self.core.inv(t), b - self.u.out(t)
        if z is not None:
            return self.v.out(x - self.v.into(z)) + z, rest
        return self.v.out(x), rest

    def attached(self, a: Array) -> AbstractFactor:
        parts = self.u.explicit(), self.core.matrix(), self.v.explicit()
        u, t, v = _moving(self.core, parts, a)
        core = AttachedCore(self.core, t)
        return TwoSided(u=Frame(u), core=core, v=Frame(v), rank=self.rank, cond=self.cond)


class Diagonal(AbstractCore):
    """T = diag(s), real."""

    s: Inexact[Array, " r"]

    def matrix(self) -> Array:
        return jnp.diag(self.s)

    def inv(self, t: Array) -> Array:
        return t / self.s[:, None]

    def inv_h(self, t: Array) -> Array:
        return t / self.s[:, None]


class Lower(AbstractCore):
    """T = R^H with an upper triangle R."""

    r: Inexact[Array, "r r"]

    def matrix(self) -> Array:
        return adjoint(self.r)

    def inv(self, t: Array) -> Array:
        return jax.scipy.linalg.solve_triangular(self.r, t, trans="C")

    def inv_h(self, t: Array) -> Array:
        return jax.scipy.linalg.solve_triangular(self.r, t)


class AttachedCore(AbstractCore):
    """`core` as a function of `t`, its matrix, which may move as a full one."""

    core: AbstractCore
    t: Inexact[Array, "r r"]

    def matrix(self) -> Array:
        return self.t

    def inv(self, t: Array) -> Array:
        return jax.lax.custom_linear_solve(
            lambda x: self.t @ x,
            t,
            lambda _, y: self.core.inv(y),
            lambda _, y: self.core.inv_h(y.conj()).conj(),
        )

    def inv_h(self, t: Array) -> Array:
        return jax.lax.custom_linear_solve(
            lambda x: adjoint(self.t) @ x,
            t,
            lambda _, y: self.core.inv_h(y),
            lambda _, y: self.core.inv(y.conj()).conj(),
        )


@eqx.filter_custom_jvp
def _moving(core: AbstractCore, parts: tuple[Array, Array, Array], a: Array):
    """U, T and V as functions of `a`."""
    return parts


@_moving.def_jvp
def _moving_jvp(primals, tangents):
    core, parts, a = primals
    _, _, t_a = tangents
    u, t, v = _moving(core, parts, a)
    if t_a is None:
        return (u, t, v), (None, None, None)
    attached = AttachedCore(core, t)
    av, ah_u = t_a @ v, adjoint(t_a) @ u
    t_t = adjoint(u) @ av
    t_u = adjoint(attached.inv_h(adjoint(av - u @ t_t)))
    t_v = adjoint(attached.inv(adjoint(ah_u - v @ adjoint(t_t))))
    return (u, t, v), (t_u, t_t, t_v)


def decide_rank(
    sizes: Float[Array, " r"], shape: tuple[int, ...], rcond: float | None
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


def cutoff(dtype: jnp.dtype, shape: tuple[int, ...], rcond: float | None) -> float:
    """The size, relative to the largest, at which a number stops counting as nonzero."""
    return max(shape) * float(jnp.finfo(dtype).eps) if rcond is None else rcond
