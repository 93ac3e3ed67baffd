"""The likelihood of alpha with the coefficients integrated out, and what they are then.

For y = Phi c + e, e normal with standard deviation sigma, and a normal prior c ~ N(mean, S), S = L L^H, y is
normal about Phi mean with the covariance V = sigma^2 I + Phi S Phi^H. No matrix of m x m is formed: with
A = [Phi L; sigma D] and D the identity,

    |V| = sigma^(2 (m - n)) |A^H A|        y^H V^-1 y = min over u of || [y; 0] - A u ||^2 / sigma^2

(the matrix determinant lemma; Lawson and Hanson 1974, chapter 25). A flat prior of a coefficient is a zero in D and
one in L: what is left is the integral over it, a density of y of one dimension less. One QR of Phi L for
each alpha, one of n rows more for each sigma; both triangles give the determinant, and nothing is squared.

Under Jeffreys' prior 1 / sigma the integral over sigma is a gamma function where all coefficients are flat,
and else one sum over log sigma, which converges exponentially (Trefethen and Weideman, SIAM Rev. 56 (2014) 385).
Of complex data the real and the imaginary part have this sigma each, and so has the prior.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from ..linalg import solve_upper, thin_qr

# Nodes of the sum over log sigma, in units of the width of its integrand: close in the middle, far outside.
_NODES = np.linspace(-5.0, 5.0, 161)
# Nodes of one look for the middle, and how often it is looked for between neighbours of the best.
_SCAN, _SCANS = 33, 5


class Fold(eqx.Module):
    """Everything for one sigma: `factor` (n, n), the triangle of A, the whitened coefficients `u` (n, k) of
    least squares, the `chisq` that they leave, and whether the columns have `full` rank."""

    factor: Inexact[Array, "n n"]
    u: Inexact[Array, "n k"]
    chisq: Float[Array, ""]
    full: Array


class Marginal(eqx.Module):
    """Data (m, k) with their coefficients integrated out, as a function of sigma.

    **Fields:** the `triangle` (r, n) of Phi L, `head` (r, k) and `rest`, what the data have inside its range,
    and the squares of what they have outside; `root`, L as (n,) or (n, n), and `mean` (n, k) of the prior, None
    for a flat one; `proper` (n,), ones where it is not flat, None for nowhere; `count`, how many samples there
    are, and `log_weights`, the sum of the logarithms of their weights; `parts`, 2 for complex data.
    """

    triangle: Inexact[Array, "r n"]
    head: Inexact[Array, "r k"]
    rest: Float[Array, ""]
    root: Array | None
    mean: Array | None
    proper: Float[Array, " n"] | None
    count: Float[Array, ""]
    log_weights: Float[Array, ""]
    parts: int = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        phi: Inexact[Array, "m n"],
        y: Inexact[Array, "m k"],
        *,
        weights: Float[Array, " m"] | None = None,
        mean: Array | None = None,
        root: Array | None = None,
        proper: Float[Array, " n"] | None = None,
    ) -> "Marginal":
        """Of weighted `phi` and `y`, whose `weights` are known here for their logarithms alone."""
        y = y.astype(jnp.result_type(phi, y))
        phi = phi.astype(y.dtype)
        if mean is not None:
            mean = jnp.broadcast_to(mean, (phi.shape[1], y.shape[1]))
            y = y - phi @ mean
        if root is not None:
            phi = phi @ root if root.ndim == 2 else phi * root
        q, triangle = thin_qr(phi)
        head = q.conj().T @ y
        real = y.real.dtype
        if weights is None:
            count, logs = jnp.asarray(y.shape[0], real), jnp.zeros((), real)
        else:
            used = weights > 0
            count = jnp.sum(used).astype(real)
            logs = jnp.sum(jnp.log(jnp.where(used, weights, 1.0)))
        rest = jnp.sum(jnp.abs(y - q @ head) ** 2)
        parts = 2 if jnp.iscomplexobj(y) else 1
        return cls(triangle, head, rest, root, mean, proper, count, logs, parts)

    def fold(self, sigma: Float[Array, ""] | float) -> Fold:
        """What follows for one sigma."""
        n = self.triangle.shape[1]
        damped = jnp.zeros(n) if self.proper is None else sigma * self.proper
        a = jnp.concatenate([self.triangle, jnp.diag(damped).astype(self.triangle.dtype)])
        b = jnp.concatenate([self.head, jnp.zeros((n, self.head.shape[1]), self.head.dtype)])
        q, factor = thin_qr(a)
        size, height = jnp.linalg.norm(a, axis=0), jnp.abs(jnp.diag(factor))
        full = jnp.all(height > 8 * a.shape[0] * jnp.finfo(height.dtype).eps * size)
        u = solve_upper(factor, q.conj().T @ b)
        return Fold(factor, u, self.rest + jnp.sum(jnp.abs(b - a @ u) ** 2), full)

    @property
    def freedom(self) -> Float[Array, ""]:
        """Real numbers in the data less those that a flat prior leaves to them."""
        n, k = self.triangle.shape[1], self.head.shape[1]
        flat = n if self.proper is None else n - jnp.sum(self.proper)
        return self.parts * k * (self.count - flat)

    def log_density(self, sigma: Float[Array, ""] | float) -> Float[Array, ""]:
        """The logarithm of the density of y for this sigma. NaN where the data do not determine a coefficient
        with a flat prior: there is no density."""
        fold = self.fold(sigma)
        density = self._log_factor(fold, sigma) - 0.5 * fold.chisq / sigma**2
        return jnp.where(fold.full, density, jnp.nan)

    def _log_factor(self, fold: Fold, sigma: Float[Array, ""] | float) -> Float[Array, ""]:
        """What stands before the exponential function."""
        n, k = self.triangle.shape[1], self.head.shape[1]
        volume = jnp.sum(jnp.log(jnp.abs(jnp.diag(fold.factor))))
        logs = self.log_weights - (self.count - n) * jnp.log(sigma) - volume
        return self.parts * k * logs - 0.5 * self.freedom * np.log(2 * np.pi)

    def log_marginal(self) -> Float[Array, ""]:
        """The logarithm of the integral of that density over d sigma / sigma. NaN too where nothing is left
        to tell sigma from: no more data than coefficients, or none that the columns do not explain."""
        determined = (self.freedom > 0) & (self.rest > 0) & (self.count > self.triangle.shape[1])
        if self.proper is not None:
            return jnp.where(determined, self._over_sigma(), jnp.nan)
        fold, nu = self.fold(1.0), self.freedom
        # The integral over sigma of sigma^(-nu - 1) exp(-chisq / (2 sigma^2)).
        over = jax.scipy.special.gammaln(0.5 * nu) - 0.5 * nu * jnp.log(0.5 * fold.chisq)
        found = self._log_factor(fold, 1.0) + over + np.log(0.5)
        return jnp.where(determined & fold.full, found, jnp.nan)

    def _over_sigma(self) -> Float[Array, ""]:
        """The sum over log sigma, its nodes about the maximum of the integrand."""
        here = jax.lax.stop_gradient(self)

        def at(t, one):
            return jax.vmap(lambda t: one.log_density(jnp.exp(t)))(t)

        # The maximum lies between what no coefficients and what all of them leave of the data.
        samples = self.parts * self.head.shape[1] * self.count
        whole = here.rest + jnp.sum(jnp.abs(here.head) ** 2)
        ends = 0.5 * jnp.log(jnp.stack([here.rest, whole]) / samples) + jnp.array([-1.0, 6.0])
        for _ in range(_SCANS):
            t = jnp.linspace(ends[0], ends[1], _SCAN)
            best = jnp.argmax(at(t, here))
            ends = t[jnp.clip(jnp.stack([best - 1, best + 1]), 0, _SCAN - 1)]
        middle = 0.5 * (ends[0] + ends[1])
        # Between those of all data and of what coefficients may take of them: 2 freedom is the curvature of
        # sigma^-freedom exp(-chisq / (2 sigma^2)) at its maximum.
        width = 1 / jnp.sqrt(2 * jnp.maximum(here.freedom, 1.0))
        t = middle + width * jnp.sinh(_NODES)
        logs = at(t, self) + jnp.log(width * jnp.cosh(_NODES) * (_NODES[1] - _NODES[0]))
        return jax.scipy.special.logsumexp(logs)

    def draw_sigma(self, key: Array) -> Float[Array, ""]:
        """A sigma under Jeffreys' prior, where all coefficients have flat ones."""
        chi_square = jax.random.chisquare(key, self.freedom, dtype=self.rest.dtype)
        return jnp.sqrt(self.fold(1.0).chisq / chi_square)

    def draw_coef(self, key: Array, sigma: Float[Array, ""]) -> Inexact[Array, "n k"]:
        """Coefficients for this sigma."""
        fold = self.fold(sigma)
        real = jax.random.normal(key, (self.parts, *fold.u.shape), self.rest.dtype)
        noise = real[0] if self.parts == 1 else real[0] + 1j * real[1]
        u = fold.u + sigma * solve_upper(fold.factor, noise)
        if self.root is not None:
            u = self.root @ u if self.root.ndim == 2 else self.root[:, None] * u
        return u if self.mean is None else u + self.mean
