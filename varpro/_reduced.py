"""The reduced problem: residual and Jacobian as functions of theta alone.

Once per theta: Phi, one factorisation, C. Once per accepted theta, reusing that factorisation: the
Jacobian. With ' for tangents, P = Phi Phi^+ (Golub & Pereyra 1973):

    R' = (I - P)(Y' - Phi' C) - Phi^{+H} Phi'^H R        Kaufman (1975) drops the last term

From a poor start the last term is worth its price: with it 0 of 450 fits of two exponentials went
astray, without it 105. "auto" keeps it up to k = n right-hand sides.

With more right-hand sides and C^T = Qc Rc (k n), Kaufman's R' equals -(I - P) Phi' Rc^T Qc^T for each
coordinate. Its rows live in the span of Qc, so the block R Qc (m n) and the norm of the rest, whose
derivative is zero there, give the same cost, gradient and Gauss-Newton matrix as all m k residuals.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from ._problem import Problem, column_scale
from .linalg import AbstractFactor, AbstractPinvSolver

Jacobian = Literal["auto", "kaufman", "full"]


class Point(eqx.Module):
    """All that one evaluation knows: what the Jacobian at the same theta reuses."""

    factor: AbstractFactor  # of Phi with its columns divided by `scale`
    scale: Float[Array, " n"]
    coef: Inexact[Array, "n k"]
    block: Inexact[Array, "m j"]  # the residual, or R Qc
    turned: Inexact[Array, "n j"]  # C, or C Qc
    gain: Inexact[Array, " j"]  # row of ones turned alike: what an offset's tangent meets


class Reduced(eqx.Module):
    """Residual vector (M,) and Jacobian (M, p) of the variable projection functional."""

    problem: Problem
    linear_solver: AbstractPinvSolver
    jacobian_kind: Jacobian = eqx.field(static=True)

    def _full(self, n: int, k: int) -> bool:
        return self.jacobian_kind == "full" or (self.jacobian_kind == "auto" and k <= n)

    def evaluate(self, theta: Float[Array, " p"]) -> tuple[Float[Array, " M"], Point]:
        """The real residual vector, and the point for `jacobian`."""
        problem = self.problem
        phi, y = problem.phi(theta), problem.target(theta)
        y = y.astype(jnp.result_type(phi, y))
        scale = column_scale(phi)
        factor = self.linear_solver.factor(phi / scale)
        coef = factor.pinv(y) / scale[:, None]
        resid = y - phi @ coef
        n, k = coef.shape
        if k > n and not self._full(n, k):
            turn = jnp.linalg.qr(coef.conj().T)[0]
            block, turned = resid @ turn, coef @ turn
            rest = jnp.sum(jnp.abs(resid) ** 2) - jnp.sum(jnp.abs(block) ** 2)
            extra = jnp.sqrt(jnp.maximum(rest, 0.0))[None]
            gain = jnp.sum(turn, axis=0)
        else:
            block, turned, extra, gain = resid, coef, None, jnp.ones((k,), coef.dtype)
        prior = problem.columns.prior(theta)
        rows = [_real_rows(block.reshape(-1)), *(r for r in (extra, prior) if r is not None)]
        return jnp.concatenate(rows), Point(factor, scale, coef, block, turned, gain)

    def jacobian(self, theta: Float[Array, " p"], point: Point) -> Float[Array, "M p"]:
        """The Jacobian of `evaluate` at the same theta."""
        problem = self.problem
        m, j = point.block.shape
        v = -problem.apply_derivative(theta, point.turned)
        tangent = problem.target_derivative(theta)
        if tangent is not None:
            v = v + tangent[:, None, :] * point.gain[:, None]
        p = v.shape[-1]
        v = v.reshape(m, j * p)
        v = v - point.factor.onto_range(v)
        full = self._full(*point.coef.shape)
        if full:
            u = problem.apply_derivative_h(theta, point.block)
            v = v - point.factor.pinv_h(u.reshape(-1, j * p) / point.scale[:, None])
        rows = [_real_rows(v.reshape(m * j, p))]
        if not full and point.coef.shape[1] > point.coef.shape[0]:
            rows.append(jnp.zeros((1, p), rows[0].dtype))
        if problem.columns.prior(theta) is not None:
            rows.append(jax.jacfwd(problem.columns.prior)(theta))
        return jnp.concatenate(rows)

    def cost(self, theta: Float[Array, " p"]) -> Float[Array, ""]:
        """`1/2 || residual ||^2`."""
        return 0.5 * jnp.sum(self.evaluate(theta)[0] ** 2)


@eqx.filter_custom_jvp
def reduced_residual(reduced: Reduced, theta: Float[Array, " p"]) -> Float[Array, " M"]:
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


def _real_rows(a: Inexact[Array, "r ..."]) -> Float[Array, "s ..."]:
    """Real and imaginary parts stacked along the first axis."""
    return jnp.concatenate([a.real, a.imag]) if jnp.iscomplexobj(a) else a
