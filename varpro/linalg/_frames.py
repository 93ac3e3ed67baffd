"""Factors that reveal the rank: A = U T V^H with masked columns of U and V.

A column beyond the rank is zero in U and in V, and T has a one there on its diagonal. So one mask,
applied once, serves every verb.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from ._factor import AbstractFactor, adjoint, small_solve


def significant(sizes: Float[Array, " r"], rcond: float) -> Bool[Array, " r"]:
    """Which of `sizes` count as nonzero beside the largest. The one decision about rank.

    NaN counts as nonzero, so that NaN in gives NaN out rather than rank zero.
    """
    if sizes.size == 0:
        return jnp.zeros(0, bool)
    return ~(sizes <= rcond * jnp.max(sizes))


def cutoff(a: Inexact[Array, "m n"], rcond: float | None) -> float:
    """What is asked for, or what rounding hides in a factorisation of `a`."""
    return max(a.shape) * float(jnp.finfo(a.dtype).eps) if rcond is None else rcond


def rank_and_cond(sizes: Float[Array, " r"], mask: Bool[Array, " r"]) -> tuple[Array, Array]:
    """Numerical rank; condition number, infinite below full rank and 1 for an empty matrix."""
    if sizes.size == 0:
        return jnp.array(0), jnp.ones((), sizes.dtype)
    full = jnp.all(mask)
    return jnp.sum(mask), jnp.where(
        full, jnp.max(sizes) / jnp.where(full, jnp.min(sizes), 1.0), jnp.inf
    )


class TwoSided(AbstractFactor):
    """A = U T V^H; `solve(t, b, trans)` knows the structure of T."""

    u: Inexact[Array, "m r"]
    t: Inexact[Array, "r r"]
    v: Inexact[Array, "n r"]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    solve: Callable = eqx.field(static=True)
    full_columns: bool = eqx.field(static=True, default=False)
    full_rows: bool = eqx.field(static=True, default=False)

    def pinv(self, b: Array) -> Array:
        return self.v @ small_solve(self.t, adjoint(self.u) @ b, self.solve)

    def pinv_h(self, c: Array) -> Array:
        return self.u @ small_solve(self.t, adjoint(self.v) @ c, self.solve, h=True)

    def gram_inv(self, c: Array) -> Array:
        inner = small_solve(self.t, adjoint(self.v) @ c, self.solve, h=True)
        return self.v @ small_solve(self.t, inner, self.solve)

    def onto_range(self, b: Array) -> Array:
        return self.u @ (adjoint(self.u) @ b)

    def onto_rows(self, c: Array) -> Array:
        return self.v @ (adjoint(self.v) @ c)

    def attached(self, a: Array) -> AbstractFactor:
        frame = _frame((self.u, self.t, self.v), a, solve=self.solve)
        return eqx.tree_at(lambda f: (f.u, f.t, f.v), self, frame)


@eqx.filter_custom_jvp
def _frame(frame: tuple[Array, Array, Array], a: Array, *, solve: Callable):
    """U, T and V as functions of `a`."""
    return frame


@_frame.def_jvp
def _frame_jvp(primals, tangents, *, solve: Callable):
    frame, a = primals
    _, t_a = tangents
    u, t, v = _frame(frame, a, solve=solve)
    if t_a is None:
        return (u, t, v), (None, None, None)
    av, ah_u = t_a @ v, adjoint(t_a) @ u
    t_t = adjoint(u) @ av
    t_u = adjoint(small_solve(t, adjoint(av - u @ t_t), solve, h=True))
    t_v = adjoint(small_solve(t, adjoint(ah_u - v @ adjoint(t_t)), solve))
    return (u, t, v), (t_u, t_t, t_v)
