"""The reduced problem of right-hand sides of one basis that a few penalties couple.

Beside k right-hand sides, each with its own n coefficients c_j, there are l rows P_j (l, n) of penalties:

    minimise  sum_j || y_j - Phi c_j ||^2 + || sum_j P_j c_j ||^2

With c0 and G = (Phi^H Phi)^+ those of least squares alone, and T = sum_j P_j G P_j^T (l, l), Woodbury's identity
gives the joint optimum from one factorisation of Phi and one of l x l numbers,

    z = (I + T)^{-1} sum_j P_j c0_j,        c_j = c0_j - G P_j^T z,        sum_j P_j c_j = z

The rows are those of the whole problem, k m of data and then -z, and so is Kaufman's Jacobian: for tangents
v_j = y_j' - Phi' c_j and x0_j = Phi^+ v_j the columns follow by x_j = x0_j - G P_j^T u, with u = (I + T)^{-1} sum_j
P_j x0_j, and R_j' = v_j - Phi x_j, and -u below.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PyTree

from .._problem.problem import Problem
from ..linalg import AbstractPinvSolver, Balanced, balanced
from .abstract import AbstractReduced, Jacobian


class CoupledPoint(eqx.Module):
    """What the Jacobian at the same alpha reuses: the `factor` of Phi, `coef` of the joint optimum, and the
    residuals (l,) of the penalties, with their `bond`."""

    factor: Balanced
    coef: Inexact[Array, "n k"]
    met: Float[Array, " l"]
    bond: "Bond"


class Bond(eqx.Module):
    """What penalties do to each right-hand side: `reach` (k, n, l), G P_j^T, and `gram` (l, l), I + T."""

    reach: Float[Array, "k n l"]
    gram: Float[Array, "l l"]

    @classmethod
    def of(cls, factor: Balanced, areas: Float[Array, "l n k"]) -> "Bond":
        """The bond of these rows for a basis with this factor."""
        scale = factor.scale[:, None]
        count, n, k = areas.shape
        rows = areas.transpose(1, 2, 0).reshape(n, k * count) / scale
        reach = (factor.gram_inv(rows) / scale).reshape(n, k, count).transpose(1, 0, 2)
        gram = jnp.eye(count, dtype=reach.dtype) + jnp.einsum("lnk,knq->lq", areas, reach)
        return cls(reach, gram)

    def pulled(
        self, areas: Float[Array, "l n k"], free: Float[Array, "n k *p"]
    ) -> tuple[Float[Array, "n k *p"], Float[Array, "l *p"]]:
        """What is linear in the data, from what it is without penalties (n, k, ...); and what the rows of
        penalties make of it."""
        seen = jnp.tensordot(areas, free, 2)
        factor = jax.scipy.linalg.cho_factor(self.gram)
        met = jax.scipy.linalg.cho_solve(factor, seen.reshape(seen.shape[0], -1))
        met = met.reshape(seen.shape)
        return free - jnp.moveaxis(jnp.tensordot(self.reach, met, 1), 0, 1), met

    @property
    def half(self) -> Float[Array, "k n l"]:
        """W_j (n, l), such that coefficients of i and j have the covariance [i = j] G - W_i W_j^T."""
        lower = jnp.linalg.cholesky(self.gram)
        wide = self.reach.reshape(-1, self.gram.shape[0])
        found = jax.scipy.linalg.solve_triangular(lower, wide.T, lower=True).T
        return found.reshape(self.reach.shape)


class Coupled(AbstractReduced):
    """The reduced problem of one data set whose right-hand sides are coupled by `problem.linear.areas`."""

    problem: Problem
    linear_solver: AbstractPinvSolver
    jacobian_kind: Jacobian = eqx.field(static=True)

    @property
    def areas(self) -> Float[Array, "l n k"]:
        """The rows of the penalties."""
        assert self.problem.linear.areas is not None
        return jnp.asarray(self.problem.linear.areas)

    def evaluate(self, alpha: Float[Array, " p"]) -> tuple[Float[Array, " M"], CoupledPoint]:
        phi, y = self.problem.phi(alpha), self.problem.target(alpha)
        factor = balanced(self.linear_solver, phi)
        bond = Bond.of(factor, self.areas)
        coef, met = bond.pulled(self.areas, factor.coefficients(y))
        prior = self.problem.columns.prior(alpha)
        rest = [] if prior is None else [prior]
        rows = jnp.concatenate([(y - phi @ coef).reshape(-1), -met, *rest])
        return rows, CoupledPoint(factor, coef, met, bond)

    def jacobian(self, alpha: Float[Array, " p"], point: CoupledPoint) -> Float[Array, "M p"]:
        problem, p = self.problem, alpha.size
        phi = problem.phi(alpha)
        n, k = point.coef.shape
        v = -problem.apply_derivative(alpha, point.coef)[0]
        if (tangent := problem.target_derivative(alpha)) is not None:
            v = v + tangent[:, None, :]
        free = point.factor.coefficients(v.reshape(-1, k * p)).reshape(n, k, p)
        moved, met = point.bond.pulled(self.areas, free)
        rows = [(v - jnp.tensordot(phi, moved, 1)).reshape(-1, p), -met]
        if problem.columns.prior(alpha) is not None:
            rows.append(jax.jacfwd(problem.columns.prior)(alpha))
        return jnp.concatenate(rows)

    def rotated(
        self, alpha: Float[Array, " p"], point: CoupledPoint
    ) -> tuple[Float[Array, "M p"], Float[Array, " M"]]:
        phi, y = self.problem.phi(alpha), self.problem.target(alpha)
        prior = self.problem.columns.prior(alpha)
        rest = [] if prior is None else [prior]
        rows = jnp.concatenate([(y - phi @ point.coef).reshape(-1), -point.met, *rest])
        return self.jacobian(alpha, point), rows

    def cost(self, alpha: Float[Array, " p"], point: PyTree) -> Float[Array, ""]:
        return self.problem.cost(alpha, point.coef) + 0.5 * jnp.sum(point.met**2)

    def data_norm(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        return jnp.linalg.norm(self.problem.target(alpha))

    def rounding_factor(self, alpha: Float[Array, " p"]) -> None:
        return None

    def quality(self, point: CoupledPoint) -> dict[str, Array]:
        return {"rank": point.factor.rank, "cond": point.factor.cond}
