"""The reduced problem: residual and Jacobian as functions of alpha alone.

Once per alpha: Phi, one factorisation, C. Once per accepted alpha, reusing that factorisation: the
Jacobian. With ' for tangents, P = Phi Phi^+ (`linalg.solution_derivative`, for dense Phi' and for tables):

    R' = (I - P)(Y' - Phi' C) - Phi^{+H} Phi'^H R        Kaufman (1975) drops the last term

From a poor start the last term is worth its price: with it 0 of 450 fits of two exponentials went
astray, without it 105. "auto" keeps it up to k = n right-hand sides.

With more right-hand sides and C^T = Qc Rc (k n), Kaufman's R' equals -(I - P) Phi' Rc^T Qc^T for each
coordinate. Its rows live in the span of Qc, so the block R Qc (m n) and the norm of the rest, whose
derivative is zero there, give the same cost, gradient and Gauss-Newton matrix as all m k residuals.
As R is normal to the fit, its squares are those of Y less those of the fit, so that nothing of the
size of Y is written; not for data so precise that the difference would lose the digits of R.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PyTree

from .._problem.columns import gather
from .._problem.problem import Problem
from ..linalg import AbstractPinvSolver, Balanced, balanced, solution_derivative
from .abstract import AbstractReduced, Jacobian, real_rows


def difference(dtype: jnp.dtype) -> float:
    """The part of the squares of Y above which those of the residual are taken as a difference."""
    return float(jnp.finfo(dtype).eps) ** 0.25


class Point(eqx.Module):
    """All that one evaluation knows: what the Jacobian at the same alpha reuses."""

    factor: Balanced  # of Phi
    coef: Inexact[Array, "n k"]
    block: Inexact[Array, "m j"]  # the residual, or R Qc
    rotated: Inexact[Array, "n j"]  # C, or C Qc
    rhs_sum: Inexact[Array, " j"]  # a row of ones, or that times Qc: what an offset's tangent meets


class Reduced(AbstractReduced):
    """The reduced problem of one data set: the variable projection functional."""

    problem: Problem
    linear_solver: AbstractPinvSolver
    jacobian_kind: Jacobian = eqx.field(static=True)

    def _full(self, n: int, k: int) -> bool:
        # Without any column both are the same, and the compressed form has no room for a residual.
        return self.jacobian_kind == "full" or n == 0 or (self.jacobian_kind == "auto" and k <= n)

    def compressed(self, n: int, k: int) -> bool:
        """Whether `evaluate` returns the compressed residual."""
        return k > n and not self._full(n, k)

    def cost(self, alpha: Float[Array, " p"], point: PyTree) -> Float[Array, ""]:
        return self.problem.cost(alpha, point.coef)

    def data_norm(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        return jnp.linalg.norm(self.problem.target(alpha))

    def rounding_factor(self, alpha: Float[Array, " p"]) -> float | None:
        n, k = jax.eval_shape(self.problem.phi, alpha).shape[1], self.problem.y.shape[1]
        return 8 / difference(alpha.dtype) if self.compressed(n, k) else None

    def quality(self, point: Point) -> dict[str, Array]:
        return {"rank": point.factor.rank, "cond": point.factor.cond}

    def evaluate(self, alpha: Float[Array, " p"]) -> tuple[Float[Array, " M"], Point]:
        problem = self.problem
        phi, y = problem.phi(alpha), problem.target(alpha)
        y = y.astype(jnp.result_type(phi, y))
        factor = balanced(self.linear_solver, phi)
        coef = factor.coefficients(y)
        n, k = coef.shape
        if self.compressed(n, k):
            turn = jnp.linalg.qr(coef.conj().T)[0]
            rotated, rhs_sum = coef @ turn, jnp.sum(turn, axis=0)
            block, extra = self._blocks(phi, y, coef, turn, rotated)
        else:
            block, rotated, extra = y - phi @ coef, coef, None
            rhs_sum = jnp.ones((k,), coef.dtype)
        rest = [r for r in (extra, problem.columns.prior(alpha)) if r is not None]
        rows = jnp.concatenate([real_rows(block.reshape(-1)), *rest])
        return rows, Point(factor, coef, block, rotated, rhs_sum)

    def _blocks(self, phi, y, coef, turn, rotated):
        """`R Qc` (m, n), and the norm of the rest of R (1,)."""

        def formed():
            resid = y - phi @ coef
            block = resid @ turn
            return block, jnp.sum(jnp.abs(resid) ** 2)

        def unformed():
            fitted = phi @ rotated
            return y @ turn - fitted, energy - jnp.sum(jnp.abs(fitted) ** 2)

        # Y is read twice and nothing of its size is written, unless the difference of squares would
        # cost the digits that a search needs.
        energy = jnp.sum(jnp.abs(y) ** 2)
        fitted = jnp.sum(jnp.abs(phi @ rotated) ** 2)
        block, squares = jax.lax.cond(fitted < (1 - difference(y.dtype)) * energy, unformed, formed)
        rest = squares - jnp.sum(jnp.abs(block) ** 2)
        return block, jnp.sqrt(jnp.maximum(rest, 0.0))[None]

    def jacobian(self, alpha: Float[Array, " p"], point: Point) -> Float[Array, "M p"]:
        t_resid, _ = self._derivative(alpha, point)
        rows = t_resid.reshape(t_resid.shape[0], -1)
        t_resid = point.factor.rotate_back(rows).reshape(t_resid.shape)
        return self._with_priors(alpha, point, t_resid)

    def rotated(
        self, alpha: Float[Array, " p"], point: Point
    ) -> tuple[Float[Array, "M p"], Float[Array, " M"]]:
        # In the coordinates in which Phi is a triangle, with no way back from there.
        core = self._core(alpha, point)
        t_resid, resid = self._derivative(alpha, point) if core is None else core
        jac = self._with_priors(alpha, point, t_resid)
        rows = real_rows(resid.reshape(-1))
        prior = self.problem.columns.prior(alpha)
        # The rest of many right-hand sides meets a row of zeros: what it is does not matter.
        zeros = jnp.zeros(jac.shape[0] - rows.size - (0 if prior is None else prior.size))
        return jac, jnp.concatenate([rows, zeros, *([] if prior is None else [prior])])

    def _core(self, alpha: Array, point: Point) -> tuple[Array, Array] | None:
        """`U^H R'` (d, j, p) and `U^H R` (d, j) for an orthonormal U that spans all R', where that has few
        columns: with D (m, d) the derivatives of single columns, (I - P) D = U S, and Kaufman's R' is
        -U S times the coefficients of these columns. None where they are many, or Phi is not all that
        moves."""
        problem, factor = self.problem, point.factor
        n, k = point.coef.shape
        m, j = point.block.shape
        if not self.compressed(n, k) or problem.target_derivative(alpha) is not None:
            return None
        shape = jax.eval_shape(lambda t: problem.tangents(t)[0], alpha)
        d = shape.shape[1]
        if 2 * d > min(m - n, j * alpha.size):
            return None
        values, column, coordinate = problem.tangents(alpha)
        coef = point.rotated if problem.linear.mix is None else problem.linear.mix @ point.rotated
        both = factor.rotate(jnp.concatenate([values.astype(coef.dtype), point.block], axis=1))
        # R' is linear in v: first of v = D, then times the coefficients.
        _, rejected = solution_derivative(factor, both[:, :d])
        u, s = jnp.linalg.qr(rejected)
        t_resid = gather(-s[:, None, :] * coef[column].T, coordinate, alpha.size)
        return t_resid, u.conj().T @ both[:, d:]

    def _derivative(self, alpha: Array, point: Point) -> tuple[Array, Array]:
        """`R'` (m, j, p) and R (m, j) in the coordinates of `Balanced.rotate`."""
        problem, factor = self.problem, point.factor
        m, j = point.block.shape
        full = self._full(*point.coef.shape)
        v, w = problem.apply_derivative(alpha, point.rotated, point.block if full else None)
        v = -v
        tangent = problem.target_derivative(alpha)
        if tangent is not None:
            v = v + tangent[:, None, :] * point.rhs_sum[:, None]
        p = v.shape[-1]
        both = factor.rotate(jnp.concatenate([v.reshape(m, j * p), point.block], axis=1))
        w = None if w is None else w.reshape(-1, j * p)
        _, t_resid = solution_derivative(factor, both[:, : j * p], w)
        return t_resid.reshape(m, j, p), both[:, j * p :]

    def _with_priors(self, alpha: Array, point: Point, t_resid: Array) -> Float[Array, "M p"]:
        m, j, p = t_resid.shape
        rows = [real_rows(t_resid.reshape(m * j, p))]
        if j < point.coef.shape[1]:
            rows.append(jnp.zeros((1, p), rows[0].dtype))
        if self.problem.columns.prior(alpha) is not None:
            rows.append(jax.jacfwd(self.problem.columns.prior)(alpha))
        return jnp.concatenate(rows)
