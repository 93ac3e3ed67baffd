"""Is what a fit leaves over random? Two tests along x, on the host.

Both look for too few changes alone: a model that misses a feature leaves neighbours of equal sign.
Fitted parameters make residuals alternate a little, so a good fit raises fewer alarms than the level
says, never more.
"""

import math
from typing import NamedTuple

import jax
import numpy as np

from .record import Fitted

# Below this the normal approximation of both tests is not good enough for small levels.
_FEWEST = 20
# Residuals this small against the data are rounding or an unfinished search, not noise.
_EXACT = 1e-8


class RunsTest(NamedTuple):
    """Wald and Wolfowitz (1940): `runs` of one sign, how many are expected, and p of so few."""

    runs: int
    expected: float
    sd: float
    p: float


class LagTest(NamedTuple):
    """Correlation of neighbours, Durbin and Watson's d (1950), and p of so much correlation."""

    correlation: float
    durbin_watson: float
    p: float


def ordered_residuals(fit: Fitted) -> np.ndarray | None:
    """Weighted residuals in use (m, k), in order of x where x is one axis; None of an exact fit.

    Real and imaginary parts are columns side by side. Where x is no single axis the order is that
    of the rows.
    """
    m = fit.y.shape[0]
    # Weights of single values are tiled for imaginary parts; those of samples broadcast.
    apart = fit.weights is not None and fit.weights.ndim == 2
    parts = 2 if np.iscomplexobj(fit.y) and apart else 1
    y = fit.y_in_use.reshape(m, -1)
    resid = y - fit.fitted.reshape(m, -1)
    white = fit.whitener is not None
    if white:
        assert fit.weights is not None
        resid, y = (fit.whitened(a * fit.weights[:, None]) for a in (resid, y))
    if np.iscomplexobj(resid):
        resid, y = (np.concatenate([np.real(a), np.imag(a)], axis=1) for a in (resid, y))
    leaves = jax.tree.leaves(fit.x)
    if len(leaves) == 1 and leaves[0].ndim == 1:
        order = np.argsort(leaves[0], kind="stable")
        resid, y = resid[order], y[order]
    else:
        order = slice(None)
    if fit.weights is not None:
        weights = fit.weights[order].reshape(m, -1)
        used = (weights > 0).any(axis=1)
        weights = np.ones_like(weights) if white else weights
        resid, y = (a[used] * np.tile(weights[used], (1, parts)) for a in (resid, y))
    size, noise = np.linalg.norm(y), np.linalg.norm(resid)
    small = max(_EXACT, 10 * float(np.finfo(resid.dtype).eps))
    return resid if np.isfinite(noise) and noise > small * size else None


def runs_test(resid: np.ndarray) -> RunsTest | None:
    """The runs of all columns (m, k) together; None for fewer than 20 samples or one sign alone.

    Of n1 positive and n2 negative values 1 + 2 n1 n2 / n runs are expected, with variance
    (mean - 1) (mean - 2) / (n - 1); normal approximation with correction for continuity.
    """
    n = resid.shape[0]
    if n < _FEWEST:
        return None
    positive = resid >= 0
    count = positive.sum(axis=0)
    runs = 1 + (positive[1:] != positive[:-1]).sum(axis=0)
    mean = 1 + 2.0 * count * (n - count) / n
    variance = (mean - 1) * (mean - 2) / (n - 1)
    total = float(variance.sum())
    if total <= 0:
        return None
    sd, expected = math.sqrt(total), float(mean.sum())
    return RunsTest(int(runs.sum()), expected, sd, _below((runs.sum() + 0.5 - expected) / sd))


def lag_test(resid: np.ndarray, fewest: int = _FEWEST) -> LagTest | None:
    """Lag-1 autocorrelation of all columns (m, k) together; None for fewer than 20 samples, or `fewest`.

    Of independent residuals it has mean 0 or a little less and variance 1 / (m k).
    """
    if resid.shape[0] < fewest:
        return None
    power = float(np.sum(resid**2))
    r = float(np.sum(resid[1:] * resid[:-1])) / power
    d = float(np.sum((resid[1:] - resid[:-1]) ** 2)) / power
    return LagTest(r, d, _below(-r * math.sqrt(resid.size)))


def chisq_tail(chisq: float, dof: int | float) -> float:
    """Probability of a chi-square this large or larger (Wilson and Hilferty 1931)."""
    v = 2.0 / (9.0 * dof)
    return _below(-((chisq / dof) ** (1 / 3) - (1 - v)) / math.sqrt(v))


def _below(z: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-float(z) / math.sqrt(2.0))


class Spectrum(NamedTuple):
    """The largest singular values (r,) of the weighted residual, with `left` vectors (m, r) along
    the samples and `right` ones (k, r) along the right-hand sides, None if they are not known.

    Of noise alone all values are alike and the vectors are noise; a value that stands out, with a
    smooth vector, is what the model lacks.
    """

    left: np.ndarray
    values: np.ndarray
    right: np.ndarray | None


def spectrum(resid: np.ndarray, rank: int) -> Spectrum:
    """By way of the triangle of the longer side, so that no more than the smaller square is
    decomposed, and nothing is squared."""
    m, k = resid.shape
    if k > m:
        other = spectrum(resid.T, rank)
        assert other.right is not None
        return Spectrum(other.right, other.values, other.left)
    q, r = np.linalg.qr(resid)
    u, values, v = np.linalg.svd(r)
    return Spectrum(q @ u[:, :rank], values[:rank], v[:rank].conj().T)
