"""What the response of an instrument does to what is seen through it."""

import abc
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from .._types import ArrayIn
from ._base import Shared

Causal = Callable[[Float[Array, "r 1"]], Inexact[Array, "r g"]]
"""Columns as functions of the time since the excitation, which is not negative."""

PULSES = 50
"""As many earlier excitations are added one by one to what is no sum of exponentials."""


class AbstractResponse(Shared):
    """A response R of unit area, given to components as `irf=`: instead of f they are

    y(x) = int_0^inf R(x - v) f(v) dv.
    """

    @abc.abstractmethod
    def seen(self, x: ArrayIn, rate: ArrayIn, values: Mapping[str, ArrayIn]) -> Array:
        """The decays `exp(-rate v)` (m, g) at x (m, 1) for rates (g,), which may be complex, or one
        rate."""

    @abc.abstractmethod
    def seen_states(
        self,
        x: Float[ArrayIn, " m"],
        k: Inexact[Array, "n n"],
        start: Inexact[Array, " n"],
        values: Mapping[str, ArrayIn],
        known: Bool[np.ndarray, " n"],
    ) -> Inexact[Array, "m n"]:
        """The states `exp(K v) start`; for `known` see `varpro.basis._matrix_exponential.states`."""

    @abc.abstractmethod
    def seen_function(
        self, x: Float[ArrayIn, " m"], function: Causal, values: Mapping[str, ArrayIn]
    ) -> Inexact[Array, "m g"]:
        """Columns of any form, by quadrature."""


def one(value: ArrayIn) -> Array:
    """A shared value as a scalar; components that are evaluated together repeat it."""
    return jnp.ravel(jnp.asarray(value))[0]


def gauss_legendre(edges: Float[np.ndarray, " e"], order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss's rule on every interval between `edges`, one after the other."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    half, middle = 0.5 * np.diff(edges)[:, None], 0.5 * (edges[1:] + edges[:-1])[:, None]
    return (middle + half * nodes).ravel(), (half * weights).ravel()


def train(function: Causal, period: Float[Array, ""]) -> Causal:
    """The sum of `function` at v, v + period, v + 2 period and so on: of PULSES excitations."""

    def summed(v: Float[Array, "r 1"]) -> Inexact[Array, "r g"]:
        def more(total, i):
            return total + function(v + i * period), None

        # In a loop: nothing of the size of all pulses together is ever in memory.
        return jax.lax.scan(more, function(v), jnp.arange(1, PULSES).astype(v.dtype))[0]

    return summed
