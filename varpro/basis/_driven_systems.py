"""Linear systems that a response drives: `v' = K v + start p(t)`, for p a straight line on each cell.

Time is in cells. Decays know nothing of each other and have closed forms; a scheme is a system of
states that holds p and its slope as two states more.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from ._matrix_exponential import Step, moves, repeated, states

# Below it the closed forms lose digits and a series of so many terms has them.
_SMALL, _TERMS = 0.5, 14


class Decays(eqx.Module):
    """`v' = -rate v + p` for every rate (g,)."""

    rate: Inexact[Array, " g"]

    def along(self, steps: int) -> Step:
        """Propagator of states (..., g) over `steps` cells without a drive."""
        factor = jnp.exp(-self.rate * steps)
        return lambda v: v * factor

    def cell(
        self, v: Inexact[Array, "m g"], drive: Float[Array, "m 2"], after: Float[Array, " m"]
    ) -> Inexact[Array, "m g"]:
        """States (m, g) at the time `after` behind states `v`, for p and its slope in `drive`."""
        t = after[:, None]
        z = self.rate * t
        phi1, phi2 = _phi(z)
        return v * jnp.exp(-z) + drive[:, :1] * t * phi1 + drive[:, 1:] * t**2 * phi2

    def inflow(self, drive: Float[Array, "r 2"]) -> Inexact[Array, "r g"]:
        """States (r, g) at the end of a cell that p and its slope in `drive` make from none."""
        phi1, phi2 = _phi(self.rate)
        return drive[:, :1] * phi1 + drive[:, 1:] * phi2

    def left(
        self, v: Inexact[Array, " g"], period: Float[Array, ""], after: Float[Array, ""]
    ) -> Inexact[Array, " g"]:
        """Sum over i >= 0 of the states (g,) at `after + i period` behind states `v`."""
        return v * jnp.exp(-self.rate * after) / -jnp.expm1(-self.rate * period)


class Scheme(eqx.Module):
    """`v' = K v + start p` for n states; `known` as in `states`. The methods are those of `Decays`."""

    k: Inexact[Array, "n n"]
    start: Inexact[Array, " n"]
    known: tuple[bool, ...] = eqx.field(static=True)

    def along(self, steps: int) -> Step:
        """Propagator of states (..., n) over `steps` cells without a drive."""
        return moves(self.k, jnp.asarray(steps, self.k.real.dtype), np.array(self.known))

    def _extended(self) -> tuple[Inexact[Array, "s s"], np.ndarray]:
        """K extended by p and its slope as two states more (n + 2, n + 2), and its `known`."""
        n, k = self.k.shape[0], self.k
        start = jnp.asarray(self.start, k.dtype)[:, None]
        upper = jnp.concatenate([k, start, jnp.zeros_like(start)], axis=1)
        lower = jnp.asarray(np.eye(2, n + 2, n + 1), k.dtype)
        return jnp.concatenate([upper, lower]), np.array([*self.known, True, True])

    def cell(
        self, v: Inexact[Array, "m n"], drive: Float[Array, "m 2"], after: Float[Array, " m"]
    ) -> Inexact[Array, "m n"]:
        """States (m, n) at the time `after` behind states `v`, for p and its slope in `drive`."""
        extended, known = self._extended()
        state = jnp.concatenate([v, drive.astype(v.dtype)], axis=1)
        return states(extended, state, after, known)[:, : v.shape[1]]

    def inflow(self, drive: Float[Array, "r 2"]) -> Inexact[Array, "r n"]:
        """States (r, n) at the end of a cell that p and its slope in `drive` make from none."""
        n = self.k.shape[0]
        inflow = self.cell(jnp.zeros((2, n), self.k.dtype), jnp.eye(2), jnp.ones(2, drive.dtype))
        return drive.astype(inflow.dtype) @ inflow

    def left(
        self, v: Inexact[Array, " n"], period: Float[Array, ""], after: Float[Array, ""]
    ) -> Inexact[Array, " n"]:
        """Sum over i >= 0 of the states (n,) at `after + i period` behind states `v`."""
        known = np.array(self.known)
        return states(self.k, repeated(self.k, v, period, known), after[None], known)[0]


def _phi(z: Inexact[Array, "..."]) -> tuple[Inexact[Array, "..."], Inexact[Array, "..."]]:
    """`(1 - exp(-z)) / z` and `(z - 1 + exp(-z)) / z^2`, also for small z."""
    small = jnp.abs(z) < _SMALL
    small_z, large_z = jnp.where(small, z, 0.0), jnp.where(small, 1.0, z)
    series = jnp.zeros_like(small_z)
    for i in range(_TERMS, 1, -1):
        series = 1.0 / math.factorial(i) - small_z * series
    phi1 = (1.0 - jnp.exp(-large_z)) / large_z
    return jnp.where(small, 1.0 - small_z * series, phi1), jnp.where(
        small, series, (1.0 - phi1) / large_z
    )
