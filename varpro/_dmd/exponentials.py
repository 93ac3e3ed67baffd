"""Complex exponentials of free eigenvalues as columns of a separable problem in real coordinates.

Over time x an eigenvalue `lambda = re + i im` has the column `exp(lambda x)`. Where the coefficients
are real there is a pair, lambda and its conjugate, with columns `exp(re x) cos(im x)` and
`exp(re x) sin(im x)`, or a single real one with `exp(re x)`. With coefficients a and b of a pair,

    a exp(re x) cos(im x) + b exp(re x) sin(im x) = c exp(lambda x) + its conjugate,  c = (a - i b) / 2.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._problem.columns import AbstractColumns, by_table
from .._types import ArrayIn


class Spectrum(eqx.Module):
    """What kinds of eigenvalues there are: `waves` of free frequency, which are pairs if `paired`,
    and `singles` on the real axis. `damped`: whether real parts are free, or else zero.

    The coordinates alpha are the real parts of the waves, their imaginary parts, and the singles.
    """

    waves: int = eqx.field(static=True)
    singles: int = eqx.field(static=True, default=0)
    paired: bool = eqx.field(static=True, default=False)
    damped: bool = eqx.field(static=True, default=True)

    @property
    def count(self) -> int:
        """How many eigenvalues, which is how many columns."""
        return self.waves * (2 if self.paired else 1) + self.singles

    @property
    def size(self) -> int:
        """How many coordinates."""
        return self.waves + (self.waves + self.singles if self.damped else 0)

    def split(self, alpha):
        """Real parts of the waves and of the singles, and imaginary parts of the waves."""
        w, xp = self.waves, jnp if isinstance(alpha, Array) else np
        if not self.damped:
            return xp.zeros_like(alpha), xp.zeros((self.singles,), alpha.dtype), alpha
        return alpha[:w], alpha[2 * w :], alpha[w : 2 * w]

    def joined(self, waves: np.ndarray, singles: np.ndarray) -> np.ndarray:
        """The coordinates of these eigenvalues."""
        if not self.damped:
            return np.imag(waves).copy()
        return np.concatenate([np.real(waves), np.imag(waves), np.real(singles)])

    def eigenvalues(self, alpha: np.ndarray) -> np.ndarray:
        """All eigenvalues (count,); of pairs first all of positive frequency, then the others."""
        re, single, im = self.split(np.asarray(alpha))
        waves = re + 1j * im
        return np.concatenate([waves, *([waves.conj()] if self.paired else []), single])

    def derivative(self) -> np.ndarray:
        """Of real and imaginary parts of all eigenvalues by alpha: (2, count, size), constant."""
        out = np.zeros((2, self.count, self.size))
        zero = self.eigenvalues(np.zeros(self.size))
        for j, unit in enumerate(np.eye(self.size)):
            change = self.eigenvalues(unit) - zero
            out[:, :, j] = np.real(change), np.imag(change)
        return out

    def gradient(self, against: np.ndarray, coef: np.ndarray) -> np.ndarray:
        """`Re <against, Phi' coef>` by alpha, where `against` (n, k) are products with x Phi."""
        w = self.waves
        if not self.paired:
            both = np.einsum("nk,nk->n", against.conj(), coef)
            return np.concatenate([both.real, -both.imag] if self.damped else [-both.imag])
        u, v, a, b = against[:w], against[w : 2 * w], coef[:w], coef[w : 2 * w]
        im = np.sum(u * b - v * a, axis=1)
        if not self.damped:
            return im
        single = np.sum(against[2 * w :] * coef[2 * w :], axis=1)
        return np.concatenate([np.sum(u * a + v * b, axis=1), im, single])

    def coefficients(self, coef: np.ndarray) -> np.ndarray:
        """Those of the eigenvalues (count, ...) from those of the columns."""
        if not self.paired:
            return coef
        w = self.waves
        pair = 0.5 * (coef[:w] - 1j * coef[w : 2 * w])
        return np.concatenate([pair, pair.conj(), coef[2 * w :]])

    def variances(self, variance: np.ndarray) -> np.ndarray:
        """Variances of the coefficients of the eigenvalues from those of the columns."""
        if not self.paired:
            return variance
        w = self.waves
        pair = 0.25 * (variance[:w] + variance[w : 2 * w])
        return np.concatenate([pair, pair, variance[2 * w :]])


class Exponentials(AbstractColumns):
    """The columns of such a spectrum over times `x` (m,)."""

    x: Float[ArrayIn, " m"]
    spectrum: Spectrum

    def _parts(self, alpha: Array) -> tuple[Array, Array, Array, Array]:
        """Time as a column, the decays and the phases of the waves, and the singles."""
        x = jnp.asarray(self.x)[:, None]
        re, single, im = self.spectrum.split(alpha)
        return x, jnp.exp(re * x), im * x, jnp.exp(single * x)

    def phi(self, alpha: Float[Array, " p"]):
        _, decay, phase, single = self._parts(alpha)
        cos, sin = decay * jnp.cos(phase), decay * jnp.sin(phase)
        if not self.spectrum.paired:
            return cos + 1j * sin
        return jnp.concatenate([cos, sin, single], axis=1)

    def offset(self, alpha: Float[Array, " p"]) -> None:
        return None

    def tangents(self, alpha):
        x, decay, phase, single = self._parts(alpha)
        w, s, damped = self.spectrum.waves, self.spectrum.singles, self.spectrum.damped
        cos, sin = x * decay * jnp.cos(phase), x * decay * jnp.sin(phase)
        waves, one = np.arange(w), np.arange(s)
        im = waves + w if damped else waves
        if not self.spectrum.paired:
            wave = cos + 1j * sin
            table = [(wave, waves, waves)] if damped else []
            table.append((1j * wave, waves, im))
        else:
            table = [(cos, waves, waves), (sin, waves + w, waves)] if damped else []
            table += [(-sin, waves, im), (cos, waves + w, im)]
            table += [(x * single, 2 * w + one, 2 * w + one)] if damped else []
        values, column, coordinate = zip(*table, strict=True)
        return (
            jnp.concatenate(values, axis=1),
            np.concatenate(column),
            np.concatenate(coordinate),
        )

    def apply_derivative(self, alpha, b, r=None):
        return by_table(*self.tangents(alpha), b, r, alpha.size)

    def prior(self, alpha: Float[Array, " p"]) -> None:
        return None
