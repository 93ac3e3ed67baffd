"""Factors of matrices with columns left out, for many lanes at once.

By modified Gram-Schmidt, every step of which is elementwise over the lanes: LAPACK would be called
once per lane. What meets the factor is orthogonalised along with the columns, which makes the
least-squares solution as accurate as that by Householder's reflections (Bjorck, Numerical Methods
for Least Squares Problems, 1996, 2.4.4). Lanes are the last axis of every array.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import dynamic_update_index_in_dim as replaced
from jaxtyping import Array, Bool, Inexact

# Up to this many columns the steps are written out, and XLA joins them; a loop costs more than them.
_UNROLLED = 4

State = TypeVar("State")


class Masked(eqx.Module):
    """`A_F = Q R` for the columns F of each lane; a column that is left out, or that depends on
    earlier ones, is zero in Q and has a zero row in R."""

    q: Inexact[Array, "s n l"]
    r: Inexact[Array, "n n l"]
    kept: Bool[Array, "n l"]

    def taken(
        self, b: Inexact[Array, "s p l"]
    ) -> tuple[Inexact[Array, "n p l"], Inexact[Array, "s p l"]]:
        """The parts of b along the columns of Q, one after the other, and what is left of it:
        `Q^H b` and `(I - A_F A_F^+) b`."""
        n = self.kept.shape[0]

        def take(j, state):
            z, b = state
            part = jnp.einsum("sl,spl->pl", self.q[:, j].conj(), b)
            return replaced(z, part, j, 0), b - self.q[:, j][:, None] * part

        dtype = jnp.result_type(self.q, b)
        return _loop(n, take, (jnp.zeros((n, *b.shape[1:]), dtype), b.astype(dtype)))

    def solve(
        self,
        b: Inexact[Array, "s p l"],
        g: Inexact[Array, "n p l"] | None = None,
        z: Inexact[Array, "n p l"] | None = None,
    ) -> tuple[Inexact[Array, "n p l"], Inexact[Array, "s p l"]]:
        """`AbstractFactor.solve` of A_F in every lane: x is zero where a column is left out, a basic
        solution where columns depend. Those kept are independent, and z is not looked at."""
        t, rest = self.taken(b)
        if g is None:
            return self.back(t), rest
        h = self._back_h(g)
        return self.back(t + h), rest - jnp.einsum("snl,npl->spl", self.q, h)

    def back(self, z: Inexact[Array, "n p l"]) -> Inexact[Array, "n p l"]:
        """`R^{-1} z`, zero where a column is left out."""
        n = self.kept.shape[0]

        def substitute(i, x):
            j = n - 1 - i
            done = jnp.einsum("nl,npl->pl", self.r[j], jnp.where(_before(j + 1, n), 0.0, x))
            return replaced(x, (x[j] - done) / self._diagonal(j), j, 0)

        return _loop(n, substitute, jnp.where(self.kept[:, None], z, 0.0))

    def _back_h(self, g: Inexact[Array, "n p l"]) -> Inexact[Array, "n p l"]:
        """`R^{-H} g`, for the entries of g that are kept."""
        n = self.kept.shape[0]

        def substitute(j, x):
            above = jnp.where(_before(j, n), x, 0.0)
            done = jnp.einsum("nl,npl->pl", self.r[:, j].conj(), above)
            return replaced(x, (x[j] - done) / self._diagonal(j), j, 0)

        start = jnp.where(self.kept[:, None], g, 0.0).astype(jnp.result_type(self.q, g))
        return _loop(n, substitute, start)

    def _diagonal(self, j: Array | int) -> Inexact[Array, " l"]:
        return jnp.where(self.kept[j], self.r[j, j], 1.0)


def masked(a: Inexact[Array, "s n #l"], free: Bool[Array, "n l"]) -> Masked:
    """Factor the columns of `a` that are `free` in each lane. NaN in gives NaN out."""
    s, n, _ = a.shape
    lanes = free.shape[1]
    least = 16 * n * jnp.finfo(a.dtype).eps * jnp.sqrt(jnp.sum(jnp.abs(a) ** 2, axis=0))

    def step(j, state):
        rest, q, r, kept = state
        column = rest[:, j]
        size = jnp.sqrt(jnp.sum(jnp.abs(column) ** 2, axis=0))
        keep = free[j] & ~(size <= least[j])
        unit = jnp.where(keep, column / jnp.where(keep, size, 1.0), 0.0)
        row = jnp.einsum("sl,snl->nl", unit.conj(), rest)
        row = jnp.where(_before(j, n)[:, 0], 0.0, row)
        rest = rest - unit[:, None] * row
        q, r, kept = replaced(q, unit, j, 1), replaced(r, row, j, 0), replaced(kept, keep, j, 0)
        return rest, q, r, kept

    rest = jnp.where(free, a, jnp.zeros((), a.dtype))
    state = (rest, jnp.zeros_like(rest), jnp.zeros((n, n, lanes), a.dtype), jnp.zeros_like(free))
    _, q, r, kept = _loop(n, step, state)
    return Masked(q, r, kept)


def _loop(n: int, body: Callable[[int, State], State], state: State) -> State:
    if n <= _UNROLLED:
        for j in range(n):
            state = body(j, state)
        return state
    return jax.lax.fori_loop(0, n, body, state)


def _before(j: Array | int, n: int) -> Bool[Array, "n 1 1"]:
    return cast(Array, jnp.arange(n) < j)[:, None, None]
