"""Uncertainty of a fit, from the blocks of the variable projection.

With J the Kaufman Jacobian of the reduced residual, J^T J is the Schur complement of the normal
matrix of the full problem, so for unit noise (G_j = Phi^+ Phi' c_j):

    cov(theta) = (J^T J)^{-1}
    cov(c_i, c_j) = [i = j] (Phi^H Phi)^{-1} + G_i cov(theta) G_j^H
    cov(c_j, theta) = -G_j cov(theta)

so that d c_j = -G_j d theta + e_j with independent e_j. Of complex data e_j is circular: its real
and its imaginary part have this variance each. A Gaussian prior is one more row of J. See Golub and
LeVeque (1979) for many right-hand sides, O'Leary and Rust (2013) for one.

What the data do not determine (a column of J or of Phi that depends on others) has infinite
variance. A coordinate on a bound counts as fixed there, and its own error is withheld: NaN.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from ._reduced import Point, Reduced
from .linalg import SVD

# A parameter of which more than this fraction (squared) lies outside the row space is undetermined.
_LOST = 1e-6


class Blocks(eqx.Module):
    """Blocks of the covariance for unit noise, all finite, and masks of what they do not tell.

    `null_theta` (rows) and `null_coef` (columns) span the directions that the data leave open, in
    coordinates of which `unit_theta` and `unit_coef` are the units; rounding noise where there are
    none.
    """

    half: Float[Array, "s p"]  # its gram matrix is cov(theta), so no variance comes out negative
    gram_inv: Inexact[Array, "n n"]
    gain: Inexact[Array, "k n p"]
    null_theta: Float[Array, "p p"]
    null_coef: Inexact[Array, "n n"]
    unit_theta: Float[Array, " p"]
    unit_coef: Float[Array, " n"]
    lost_theta: Bool[Array, " p"]
    lost_coef: Bool[Array, " n"]
    on_bound: Bool[Array, " p"]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    cond_jac: Float[Array, ""]

    def value_variance(self, transform: Float[Array, "q p"]) -> Float[Array, " q"]:
        """Variances of parameter values whose derivative by theta is `transform`."""
        variance = jnp.sum((self.half @ transform.T) ** 2, axis=0)
        variance = jnp.where((transform != 0) @ self.lost_theta, jnp.inf, variance)
        return jnp.where((transform != 0) @ self.on_bound, jnp.nan, variance)

    def coef_variance(self) -> Float[Array, "n k"]:
        """Variances of all coefficients; of a complex one, of its distance from the mean."""
        spread = jnp.sum(jnp.abs(jnp.einsum("sp,knp->snk", self.half, self.gain)) ** 2, axis=0)
        parts = 2.0 if jnp.iscomplexobj(self.gain) else 1.0
        variance = parts * jnp.diag(self.gram_inv).real[:, None] + spread
        return jnp.where(self._coef_lost().T, jnp.inf, variance)

    def _coef_lost(self) -> Bool[Array, "k n"]:
        # A coefficient that leans on an undetermined parameter is undetermined too.
        return self.lost_coef | ((self.gain != 0) & self.lost_theta).any(axis=-1)


def covariance_blocks(
    reduced: Reduced, theta: Float[Array, " p"], point: Point, on_bound: Bool[Array, " p"]
) -> Blocks:
    """The blocks at the solution, by rank-revealing factorisations of Phi and J.

    `point` is that of `reduced` at theta; it is evaluated anew if its factor reveals no rank.
    """
    problem, known = reduced.problem, isinstance(reduced.linear_solver, SVD)
    reduced = Reduced(problem, SVD(), "kaufman")
    if not known:
        _, point = reduced.evaluate(theta)
    # A coefficient that is rounding noise says nothing about the parameters of its column.
    size = jnp.linalg.norm(problem.phi(theta), axis=0) * jnp.linalg.norm(point.coef, axis=1)
    noise = 100 * jnp.finfo(size.dtype).eps * jnp.linalg.norm(problem.target(theta))
    heard = (size > noise)[:, None]
    coef, turned = (jnp.where(heard, c, jnp.zeros_like(c)) for c in (point.coef, point.turned))
    point = eqx.tree_at(lambda at: (at.coef, at.turned), point, (coef, turned))
    factor = point.factor
    n, k = coef.shape
    p = theta.size
    eye = jnp.eye(n, dtype=coef.dtype)
    null_coef = eye - factor.onto_rows(eye)
    lost_coef = jnp.diag(null_coef).real > _LOST
    unit_coef = 1.0 / factor.scale
    gram_inv = factor.gram_inv(eye) / point.factor.scale[:, None] / point.factor.scale
    if p == 0:
        none = jnp.zeros((0,), bool)
        gain = jnp.zeros((k, n, 0), coef.dtype)
        half, lost_theta, cond_jac = jnp.zeros((0, 0), theta.dtype), none, factor.cond * 0 + 1
        null_theta, unit_theta = half, theta
    else:
        jac = jnp.where(on_bound, 0.0, reduced.turned(theta, point)[0])
        size = jnp.linalg.norm(jac, axis=0)
        scale = jnp.where(size > 0, size, jnp.ones_like(size))
        jac_factor = SVD().factor(jnp.linalg.qr(jac / scale, mode="r"))
        eye_p = jnp.eye(p, dtype=jac.dtype)
        half = jac_factor.pinv_h(eye_p) / scale
        null = eye_p - jac_factor.onto_rows(eye_p)
        lost_theta = (jnp.diag(null) > _LOST) & ~on_bound
        unit_theta = jnp.where(on_bound, 0.0, 1.0 / scale)
        null_theta = null * unit_theta
        cond_jac = jac_factor.cond
        v, _ = problem.apply_derivative(theta, coef)
        tangent = problem.target_derivative(theta)
        if tangent is not None:
            v = v - tangent[:, None, :]
        gain = factor.pinv(v.reshape(-1, k * p)) / point.factor.scale[:, None]
        gain = gain.reshape(n, k, p).transpose(1, 0, 2)
        gain = jnp.where(on_bound, jnp.zeros((), gain.dtype), gain)
    return Blocks(
        half,
        gram_inv,
        gain,
        null_theta,
        null_coef * unit_coef[:, None],
        unit_theta,
        unit_coef,
        lost_theta,
        lost_coef,
        on_bound,
        factor.rank,
        factor.cond,
        cond_jac,
    )
