"""The strength of a penalty by generalised cross-validation.

Of the fits of one basis with a penalty of strength s, that is best which would predict a datum best
that it has not seen (Golub, Heath and Wahba, Technometrics 21, 215, 1979): the least of

    GCV(s) = || R(s) ||^2 / (m - trace H(s))^2

with H what makes the fitted curve of the data, the same for all right-hand sides. By the generalised
singular values of Phi and the penalty both are sums over n numbers, for every s at once. Bounds of
coefficients do not enter: the strength is that of the fit without them.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._problem.problem import Problem

# Strengths that are tried, in powers of ten about that at which penalty and data weigh the same, how
# many in a row, and how many rows; each row spans two steps of the one before.
_SPAN, _TRIALS, _ROWS = 12.0, 241, 5


def best_strength(problem: Problem, alpha: Float[Array, " p"]) -> Float[Array, ""]:
    """The best strength at alpha; NaN where none is sought."""
    penalty = problem.linear.penalty
    if penalty is None or not problem.linear.automatic:
        return jnp.full((), jnp.nan, alpha.dtype)
    m = problem.y.shape[0]
    phi, y = problem.phi(alpha)[:m], problem.target(alpha)[:m]
    penalty = jnp.asarray(penalty).astype(phi.dtype)
    size = jnp.sqrt(jnp.sum(jnp.abs(phi) ** 2) / jnp.sum(jnp.abs(penalty) ** 2))
    # [Phi; size penalty] = Q T and Q_top = U cos V^H: in these coordinates all is diagonal.
    q, _ = jnp.linalg.qr(jnp.concatenate([phi, size * penalty]))
    u, cos, _ = jnp.linalg.svd(q[:m], full_matrices=False)
    cos2 = jnp.clip(cos**2, 0.0, 1.0)
    energy = jnp.sum(jnp.abs(u.conj().T @ y) ** 2, axis=1)
    outside = jnp.maximum(jnp.sum(jnp.abs(y) ** 2) - jnp.sum(energy), 0.0)
    num_used = m if problem.weights is None else jnp.sum(problem.weights > 0)

    def score(log):
        damping = 10.0 ** log[:, None] * (1.0 - cos2)
        filter_factors = cos2 / jnp.where(cos2 + damping > 0, cos2 + damping, 1.0)
        resid = outside + jnp.sum((1.0 - filter_factors) ** 2 * energy, axis=1)
        dof = num_used - jnp.sum(filter_factors, axis=1)
        return jnp.where(dof > 0, resid / jnp.where(dof > 0, dof, 1.0) ** 2, jnp.inf)

    centre, half = jnp.zeros((), cos2.dtype), _SPAN
    for _ in range(_ROWS):
        trial = centre + half * jnp.linspace(-1.0, 1.0, _TRIALS, dtype=cos2.dtype)
        centre = trial[jnp.argmin(score(trial))]
        half = 4.0 * half / (_TRIALS - 1)
    return 10.0**centre * size**2
