"""The reduced problem of a basis that is an operator: inner solves in place of a factorisation.

Once per alpha: one inner solve for c, from the c of the last point, as exact as the progress of the search is
worth; once, at its end, as exact as it goes. Once per accepted alpha: one inner
solve for each of p coordinates, side by side. With B = [W A; sqrt(strength) L] and ' for tangents

    r' = (I - B B^+) v - B^{+H} w       v = (W(y' - A' c), 0),  w = (W A)'^H r        Kaufman drops w

which is what `x = B^+ v + (B^H B)^{-1} w` leaves of v (`linalg._derivative`). With x and c in error by dx and
dc the gradient r'^T r is in error by <B dx, B dc>, the product of two small numbers: x may be rough, but not
its `|| B dx ||` against what is left of v, by which steps would be too short. Nothing here is
larger than p vectors. E. Chung and J. G. Nagy, SIAM J. Sci. Comput. 32 (2010); M. I. Espanol and
M. Pasha, Inverse Problems 39 (2023).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from .._problem.operator_problem import OperatorProblem
from ..linalg import AbstractIterative, Accuracy, Preconditioner, Rows, real_dot, restricted
from .abstract import Jacobian, real_rows
from .large import AbstractLarge


class OperatorPoint(eqx.Module):
    """What one evaluation knows; `resid` of data and of the penalty; `steps` of this inner solve and of those
    from whose coefficients it began."""

    coef: Inexact[Array, " n"]
    resid: tuple[Array, Array]
    steps: Int[Array, ""]
    converged: Bool[Array, ""]


class OperatorReduced(AbstractLarge):
    """The reduced problem of an `OperatorProblem`."""

    problem: OperatorProblem
    inner: AbstractIterative
    jacobian_kind: Jacobian = eqx.field(static=True)

    def evaluate(self, alpha: Float[Array, " p"]) -> tuple[Float[Array, " M"], OperatorPoint]:
        nothing = jnp.zeros(self.problem.coefficients.size, self._dtype())
        return self._from(alpha, nothing, jnp.zeros((), jnp.int32), "full")

    def resumed(
        self, alpha: Float[Array, " p"], point: OperatorPoint
    ) -> tuple[Float[Array, " M"], OperatorPoint]:
        return self._from(alpha, point.coef, point.steps, "progress")

    def _dtype(self) -> jnp.dtype:
        return self.problem.coefficients.dtype

    def polished(
        self, alpha: Float[Array, " p"], point: OperatorPoint
    ) -> tuple[Float[Array, " M"], OperatorPoint]:
        return self._from(alpha, point.coef, point.steps, "full")

    def _from(
        self, alpha: Array, coef: Array, before: Array, accuracy: Accuracy
    ) -> tuple[Array, OperatorPoint]:
        problem = self.problem
        rows = problem.rows(problem.products(alpha))
        found = self.inner.least_squares(
            *(rows, problem.target(alpha), None, coef, self.preconditioner(alpha), accuracy)
        )
        # A vector that is not finite is no start for the next solve.
        finite = jnp.isfinite(real_dot(found.rest, found.rest))
        kept = jnp.where(finite, found.x, 0.0)
        resid = jax.tree.map(lambda r: jnp.where(finite, r, jnp.nan), found.rest)
        point = OperatorPoint(kept, resid, before + found.steps, found.converged & finite)
        return self._rows(alpha, resid), point

    def _rows(self, alpha: Array, resid: tuple[Array, Array]) -> Array:
        return jnp.concatenate([all_rows(resid), self.problem.beside(alpha)])

    def preconditioner(
        self, alpha: Float[Array, " p"], strength: Float[Array, ""] | None = None
    ) -> Preconditioner | None:
        """The preconditioner at alpha as a function of vectors, or None."""
        make = getattr(self.inner, "preconditioner", None)
        if make is None:
            return None
        problem = self.problem
        strength = problem.strength if strength is None else strength
        inverse = make(problem.unravel(alpha), problem.args, strength)
        apply = getattr(inverse, "mv", inverse)
        flat = problem.coefficients
        return lambda v: flat.ravel(apply(flat.unravel(v)))

    def free(self, point: OperatorPoint) -> Bool[Array, " n"] | None:
        return self.inner.free(point.coef)

    def tangent(
        self, alpha: Float[Array, " p"], point: OperatorPoint
    ) -> tuple[Rows, Preconditioner | None]:
        rows = self.problem.rows(self.problem.products(alpha))
        return restricted(rows, self.preconditioner(alpha), self.free(point))

    def jacobian(self, alpha: Float[Array, " p"], point: OperatorPoint) -> Float[Array, "M p"]:
        return self.jacobian_to(alpha, point, "jacobian")

    def jacobian_to(
        self, alpha: Float[Array, " p"], point: OperatorPoint, accuracy: Accuracy
    ) -> Float[Array, "M p"]:
        problem = self.problem
        rows, precondition = self.tangent(alpha, point)
        v = problem.moving(alpha, point.coef)
        nothing = problem.empty(self._dtype())[1]
        zero = jnp.zeros_like(point.coef)
        w = problem.back_moving(alpha, point.resid[0]) if self.jacobian_kind == "full" else None

        inner = self.inner.linear
        if w is not None and (free := self.free(point)) is not None:
            w = jnp.where(free, w, 0.0)

        def one(v, w):
            found = inner.least_squares(rows, (v, nothing), w, zero, precondition, accuracy)
            return all_rows(found.rest)

        columns = jax.vmap(one)(v, w).T
        return jnp.concatenate([columns, jax.jacfwd(problem.beside)(alpha)])

    def rotated(
        self, alpha: Float[Array, " p"], point: OperatorPoint
    ) -> tuple[Float[Array, "N p"], Float[Array, " N"]]:
        return self.jacobian(alpha, point), self._rows(alpha, point.resid)

    def cost(self, alpha: Float[Array, " p"], point: OperatorPoint) -> Float[Array, ""]:
        beside = self.problem.beside(alpha)
        return 0.5 * (real_dot(point.resid, point.resid) + real_dot(beside, beside))

    def data_norm(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        return jnp.linalg.norm(self.problem.target(alpha)[0])

    def rounding_factor(self, alpha: Float[Array, " p"]) -> float | None:
        return None

    def quality(self, point: OperatorPoint) -> dict[str, Array]:
        return {"inner_steps": point.steps, "inner_converged": point.converged}


def all_rows(resid: tuple[Array, Array]) -> Float[Array, " M"]:
    """Residuals of data and of the penalty, real."""
    return jnp.concatenate([real_rows(part) for part in resid])
