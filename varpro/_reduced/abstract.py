"""What every reduced problem offers to a search."""

import abc
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PyTree

Jacobian = Literal["auto", "kaufman", "full"]


class AbstractReduced(eqx.Module):
    """Residual vector (M,) and Jacobian (M, p) of a sum of squares of alpha alone."""

    @abc.abstractmethod
    def evaluate(self, alpha: Float[Array, " p"]) -> tuple[Float[Array, " M"], PyTree]:
        """The real residual vector, and the point: what a Jacobian at the same alpha reuses."""

    @abc.abstractmethod
    def jacobian(self, alpha: Float[Array, " p"], point: PyTree) -> Float[Array, "M p"]:
        """The Jacobian of `evaluate` at the same alpha."""

    @abc.abstractmethod
    def rotated(
        self, alpha: Float[Array, " p"], point: PyTree
    ) -> tuple[Float[Array, "N p"], Float[Array, " N"]]:
        """Jacobian and residual at the same alpha, both turned by one matrix with orthonormal
        columns in whose range they are: all that a Gauss-Newton step needs."""

    @abc.abstractmethod
    def cost(self, alpha: Float[Array, " p"], point: PyTree) -> Float[Array, ""]:
        """`1/2 || residual ||^2`, with priors."""

    @abc.abstractmethod
    def data_norm(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        """The norm of what the columns have to explain at alpha."""

    @abc.abstractmethod
    def rounding_factor(self, alpha: Float[Array, " p"]) -> float | Float[Array, ""] | None:
        """How much more than rounding the residual's norm suffers, where it is a difference."""

    @abc.abstractmethod
    def quality(self, point: PyTree) -> dict[str, Array]:
        """Rank and condition number of the weighted basis (`rank`, `cond`)."""


class AbstractResumed(AbstractReduced):
    """A reduced problem whose evaluation is cheaper where one nearby is known."""

    @abc.abstractmethod
    def resumed(
        self, alpha: Float[Array, " p"], point: PyTree
    ) -> tuple[Float[Array, " M"], PyTree]:
        """As `evaluate`; `point` is one at another alpha, or all zeros."""


@eqx.filter_custom_jvp
def reduced_residual(reduced: AbstractReduced, alpha: Float[Array, " p"]) -> Float[Array, " M"]:
    """The residual of `reduced` with its Jacobian as derivative rule, for any least-squares solver.

    The rule is Gauss-Newton's: right for J^T J and J^T r, not to be differentiated again.
    """
    return reduced.evaluate(alpha)[0]


@reduced_residual.def_jvp
def _reduced_residual_jvp(primals, tangents):
    reduced, alpha = primals
    _, t_alpha = tangents
    resid, point = reduced.evaluate(alpha)
    return resid, reduced.jacobian(alpha, point) @ t_alpha


def real_rows(a: Inexact[Array, "r ..."]) -> Float[Array, "s ..."]:
    """Real and imaginary parts stacked along the first axis."""
    return jnp.concatenate([a.real, a.imag]) if jnp.iscomplexobj(a) else a
