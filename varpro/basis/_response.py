"""Responses of instruments, and the convolution of columns with them."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from .._types import ArrayIn
from ._base import Shared

Causal = Callable[[Float[Array, "r 1"]], Inexact[Array, "r g"]]
"""Columns as functions of the time since the excitation, which is not negative."""

PULSES = 50
"""Number of earlier excitations that are added one by one to columns that are no exponentials."""


class AbstractResponse(Shared):
    """A response R of unit area, given to components as `irf=`: instead of f they are

    y(x) = int_0^inf R(x - v) f(v) dv.
    """

    @property
    def disperses(self) -> bool:
        """Whether it waits for the wavelengths of right-hand sides, of which each has another one."""
        return False

    def at_wavelengths(
        self, wavelengths: np.ndarray | None, count: int, dtype: np.dtype
    ) -> "AbstractResponse":
        """Return the response that knows the wavelengths of `count` right-hand sides, those that are given
        where it has none of its own; itself without dispersion.

        **Raises:** `InputError` for wavelengths that it cannot have.
        """
        return self

    @abc.abstractmethod
    def convolve_decay(self, x: ArrayIn, rate: ArrayIn, values: Mapping[str, ArrayIn]) -> Array:
        """Convolve the decays `exp(-rate v)` with R: (m, g) at x (m, 1) for rates (g,), which may be
        complex, or one rate."""

    @abc.abstractmethod
    def convolve_states(
        self,
        x: Float[ArrayIn, " m"],
        k: Inexact[Array, "n n"],
        start: Inexact[Array, " n"],
        values: Mapping[str, ArrayIn],
        known: Bool[np.ndarray, " n"],
    ) -> Inexact[Array, "m n"]:
        """Convolve the states `exp(K v) start` with R: (m, n) at x (m,); `known` as in
        `varpro.basis._matrix_exponential.states`."""

    @abc.abstractmethod
    def convolve_function(
        self, x: Float[ArrayIn, " m"], function: Causal, values: Mapping[str, ArrayIn]
    ) -> Inexact[Array, "m g"]:
        """Convolve columns `function(v)` of any form with R, by quadrature: (m, g) at x (m,)."""


Tree = TypeVar("Tree")


def _responses(tree: Any) -> list[AbstractResponse]:
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, AbstractResponse))
    return [one for one in leaves if isinstance(one, AbstractResponse)]


def disperses(basis: Any) -> bool:
    """Whether a response in the basis has a dispersion, for which wavelengths must be known."""
    return any(one.disperses for one in _responses(basis))


def at_wavelengths(
    basis: Tree, wavelengths: np.ndarray | None, count: int, dtype: np.dtype
) -> Tree:
    """The same basis, whose responses know the wavelengths of `count` right-hand sides.

    **Raises:** `InputError` as `AbstractResponse.at_wavelengths` does.
    """
    if not disperses(basis):
        return basis
    # One response stays one object: components that share it are evaluated together.
    known: dict[int, AbstractResponse] = {}

    def placed(node: Any) -> Any:
        if not isinstance(node, AbstractResponse) or not node.disperses:
            return node
        if id(node) not in known:
            known[id(node)] = node.at_wavelengths(wavelengths, count, dtype)
        return known[id(node)]

    return jax.tree.map(placed, basis, is_leaf=lambda node: isinstance(node, AbstractResponse))


def as_scalar(value: ArrayIn) -> Array:
    """Convert a shared value to a scalar; components that are evaluated together repeat it."""
    return jnp.ravel(jnp.asarray(value))[0]


def gauss_legendre(edges: Float[np.ndarray, " e"], order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss's rule on every interval between `edges`, one after the other."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    half, middle = 0.5 * np.diff(edges)[:, None], 0.5 * (edges[1:] + edges[:-1])[:, None]
    return (middle + half * nodes).ravel(), (half * weights).ravel()


def train(function: Causal, period: Float[Array, ""]) -> Causal:
    """Sum `function` at v, v + period, v + 2 period and so on: over PULSES excitations."""

    def sum_of(v: Float[Array, "r 1"]) -> Inexact[Array, "r g"]:
        def add(total, i):
            return total + function(v + i * period), None

        # In a loop: nothing of the size of all pulses together is ever in memory.
        return jax.lax.scan(add, function(v), jnp.arange(1, PULSES).astype(v.dtype))[0]

    return sum_of
