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
    """Numbers of eigenvalues of each kind: `waves` of free frequency, which are pairs if `paired`,
    and `singles` on the real axis. `damped`: whether real parts are free, or else zero.

    The coordinates alpha are the real parts of the waves, their imaginary parts, and the singles.
    """

    waves: int = eqx.field(static=True)
    singles: int = eqx.field(static=True, default=0)
    paired: bool = eqx.field(static=True, default=False)
    damped: bool = eqx.field(static=True, default=True)

    @property
    def count(self) -> int:
        """Number of eigenvalues, which is the number of columns n."""
        return self.waves * (2 if self.paired else 1) + self.singles

    @property
    def size(self) -> int:
        """Number of coordinates p."""
        return self.waves + (self.waves + self.singles if self.damped else 0)

    def split(self, alpha):
        """Split coordinates (p,) into real parts of the waves and of the singles, and imaginary parts
        of the waves."""
        w, xp = self.waves, jnp if isinstance(alpha, Array) else np
        if not self.damped:
            return xp.zeros_like(alpha), xp.zeros((self.singles,), alpha.dtype), alpha
        return alpha[:w], alpha[2 * w :], alpha[w : 2 * w]

    def coordinates(self, waves: np.ndarray, singles: np.ndarray) -> np.ndarray:
        """Coordinates (p,) of eigenvalues: complex `waves` and real `singles`."""
        if not self.damped:
            return np.imag(waves).copy()
        return np.concatenate([np.real(waves), np.imag(waves), np.real(singles)])

    def eigenvalues(self, alpha: np.ndarray) -> np.ndarray:
        """All eigenvalues (count,); of pairs first all of positive frequency, then the others."""
        re, single, im = self.split(np.asarray(alpha))
        waves = re + 1j * im
        return np.concatenate([waves, *([waves.conj()] if self.paired else []), single])

    def derivative(self) -> np.ndarray:
        """Derivative of real and imaginary parts of all eigenvalues by alpha, (2, count, size); it is
        constant."""
        derivative = np.zeros((2, self.count, self.size))
        zero = self.eigenvalues(np.zeros(self.size))
        for j, unit in enumerate(np.eye(self.size)):
            change = self.eigenvalues(unit) - zero
            derivative[:, :, j] = np.real(change), np.imag(change)
        return derivative

    def gradient(self, against: np.ndarray, coef: np.ndarray) -> np.ndarray:
        """Gradient (p,) of `Re <r, Phi coef>` by alpha, from `against = (x Phi)^H r` (n, k)."""
        w = self.waves
        if not self.paired:
            products = np.einsum("nk,nk->n", against.conj(), coef)
            return np.concatenate(
                [products.real, -products.imag] if self.damped else [-products.imag]
            )
        u, v, a, b = against[:w], against[w : 2 * w], coef[:w], coef[w : 2 * w]
        im = np.sum(u * b - v * a, axis=1)
        if not self.damped:
            return im
        single = np.sum(against[2 * w :] * coef[2 * w :], axis=1)
        return np.concatenate([np.sum(u * a + v * b, axis=1), im, single])

    def coefficients(self, coef: np.ndarray) -> np.ndarray:
        """Coefficients of the eigenvalues (count, ...) from those of the columns (n, ...)."""
        if not self.paired:
            return coef
        w = self.waves
        pair = 0.5 * (coef[:w] - 1j * coef[w : 2 * w])
        return np.concatenate([pair, pair.conj(), coef[2 * w :]])

    def variances(self, variance: np.ndarray) -> np.ndarray:
        """Variances of the coefficients of the eigenvalues (count, ...), of real and imaginary part
        together, from those of the columns (n, ...) if these are uncorrelated."""
        if not self.paired:
            return variance
        w = self.waves
        pair = 0.25 * (variance[:w] + variance[w : 2 * w])
        return np.concatenate([pair, pair, variance[2 * w :]])


class Exponentials(AbstractColumns):
    """Columns of the exponentials of a `Spectrum` over times `x` (m,)."""

    x: Float[ArrayIn, " m"]
    spectrum: Spectrum

    def _parts(self, alpha: Array) -> tuple[Array, Array, Array, Array]:
        """Times (m, 1), decays and phases of the waves (m, w), and columns of the singles (m, s)."""
        x = jnp.asarray(self.x)[:, None]
        re, single, im = self.spectrum.split(alpha)
        return x, jnp.exp(re * x), im * x, jnp.exp(single * x)

    def phi(self, alpha: Float[Array, " p"]):
        """Columns (m, n), complex unless paired."""
        _, decay, phase, single = self._parts(alpha)
        cos, sin = decay * jnp.cos(phase), decay * jnp.sin(phase)
        if not self.spectrum.paired:
            return cos + 1j * sin
        return jnp.concatenate([cos, sin, single], axis=1)

    def offset(self, alpha: Float[Array, " p"]) -> None:
        """None: no column is fixed to the coefficient 1."""
        return None

    def tangents(self, alpha):
        """Derivatives of single columns (m, t), each with the column and the coordinate it is by."""
        x, decay, phase, single = self._parts(alpha)
        w, s, damped = self.spectrum.waves, self.spectrum.singles, self.spectrum.damped
        cos, sin = x * decay * jnp.cos(phase), x * decay * jnp.sin(phase)
        waves, singles = np.arange(w), np.arange(s)
        im = waves + w if damped else waves
        if not self.spectrum.paired:
            wave = cos + 1j * sin
            table = [(wave, waves, waves)] if damped else []
            table.append((1j * wave, waves, im))
        else:
            table = [(cos, waves, waves), (sin, waves + w, waves)] if damped else []
            table += [(-sin, waves, im), (cos, waves + w, im)]
            table += [(x * single, 2 * w + singles, 2 * w + singles)] if damped else []
        values, column, coordinate = zip(*table, strict=True)
        return (
            jnp.concatenate(values, axis=1),
            np.concatenate(column),
            np.concatenate(coordinate),
        )

    def apply_derivative(self, alpha, b, r=None):
        """Products of the derivative with coefficients, from `tangents` by `by_table`."""
        return by_table(*self.tangents(alpha), b, r, alpha.size)

    def prior(self, alpha: Float[Array, " p"]) -> None:
        """None: coordinates have no prior."""
        return None
