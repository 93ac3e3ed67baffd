"""TODO varpro/_reduced/abstract.py."""

import abc
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PyTree

Jacobian = Literal["auto", "kaufman", "full"]


class AbstractReduced(eqx.Module):
    """Residual vector (M,) and Jacobian (M, p) of a sum of squares of theta alone."""

    @abc.abstractmethod
    def evaluate(self, theta: Float[Array, " p"]) -> tuple[Float[Array, " M"], PyTree]:
        """The real residual vector, and the point: what a Jacobian at the same theta reuses."""

    @abc.abstractmethod
    def jacobian(self, theta: Float[Array, " p"], point: PyTree) -> Float[Array, "M p"]:
        """The Jacobian of `evaluate` at the same theta."""

    @abc.abstractmethod
    def turned(
        self, theta: Float[Array, " p"], point: PyTree
    ) -> tuple[Float[Array, "N p"], Float[Array, " N"]]:
        """Jacobian and residual at the same theta, both turned by one matrix with orthonormal
        columns in whose range they are: all that a Gauss-Newton step needs."""

    @abc.abstractmethod
    def cost(self, theta: Float[Array, " p"], point: PyTree) -> Float[Array, ""]:
        """`1/2 || residual ||^2`, with priors."""

    @abc.abstractmethod
    def level(self, theta: Float[Array, " p"]) -> Float[Array, ""]:
        """The norm of what the columns have to explain at theta."""

    @abc.abstractmethod
    def blur(self, theta: Float[Array, " p"]) -> float | None:
        """How much more than rounding the residual's norm suffers, where it is a difference."""

    @abc.abstractmethod
    def quality(self, point: PyTree) -> dict[str, Array]:
        """Rank and condition number of the weighted basis (`rank`, `cond`)."""


@eqx.filter_custom_jvp
def reduced_residual(reduced: AbstractReduced, theta: Float[Array, " p"]) -> Float[Array, " M"]:
    """The residual of `reduced` with its Jacobian as derivative rule, for any least-squares solver.

    The rule is Gauss-Newton's: right for J^T J and J^T r, not to be differentiated again.
    """
    return reduced.evaluate(theta)[0]


@reduced_residual.def_jvp
def _reduced_residual_jvp(primals, tangents):
    reduced, theta = primals
    _, t_theta = tangents
    resid, point = reduced.evaluate(theta)
    return resid, reduced.jacobian(theta, point) @ t_theta


def real_rows(a: Inexact[Array, "r ..."]) -> Float[Array, "s ..."]:
    """Real and imaginary parts stacked along the first axis."""
    return jnp.concatenate([a.real, a.imag]) if jnp.iscomplexobj(a) else a
