"""What eigenvalues may be: conjugate pairs, stability, frequency bands; and starts that comply."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .._errors import InputError
from .exponentials import Spectrum

Band = tuple[float, float]

# Turns over the whole span below which a wave of the start is taken for two real eigenvalues.
_SLOW = 1e-3


class Rules(NamedTuple):
    """The wishes of the user: r eigenvalues, `bands` in cycles per unit of time, None where free."""

    r: int
    real: bool
    stable: bool
    imaginary: bool
    bands: tuple[Band, ...] | None


def check_bands(bands: Band | Sequence[Band] | None, r: int, real: bool) -> tuple[Band, ...] | None:
    """One band for all, or one for each wave."""
    if bands is None:
        return None
    try:
        array = np.asarray(bands, float)
    except (TypeError, ValueError) as error:
        raise InputError("bands: give (low, high), or a list of such pairs.") from error
    if array.shape == (2,):
        array = array[None]
    elif array.ndim != 2 or array.shape[1] != 2:
        raise InputError(
            f"bands has shape {array.shape}; give (low, high), or a list of such pairs."
        )
    elif (real and 2 * len(array) > r) or (not real and len(array) != r):
        raise InputError(
            f"bands: {len(array)} of them for r={r} eigenvalues; give one for "
            + ("each conjugate pair" if real else "each")
            + ", or a single (low, high) for all."
        )
    if np.isnan(array).any() or not np.all(array[:, 0] <= array[:, 1]):
        raise InputError("bands: each is (low, high) with low <= high, in cycles per unit of t.")
    if real and (array < 0).any():
        raise InputError("bands: with conjugate pairs, frequencies are those of the positive half.")
    return tuple((float(low), float(high)) for low, high in array)


def guess(
    x: np.ndarray, y: np.ndarray | None, rules: Rules, found: Sequence[np.ndarray]
) -> tuple[Spectrum, np.ndarray]:
    """Of several sets of r eigenvalues the one that leaves least of y (m, q), within the rules: which
    kinds there are, and the coordinates."""
    best, least = None, np.inf
    for one in found:
        spectrum, alpha = _within(one, x, rules)
        cost = 0.0 if y is None or len(found) == 1 else _cost(spectrum.eigenvalues(alpha), x, y)
        if best is None or cost < least:
            best, least = (spectrum, alpha), cost
    assert best is not None
    return best


def box(
    spectrum: Spectrum, rules: Rules, real: np.dtype
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Bounds of the coordinates; None where there are none."""
    lower, upper = np.full(spectrum.size, -np.inf), np.full(spectrum.size, np.inf)
    w = spectrum.waves
    imaginary = slice(w, 2 * w) if spectrum.damped else slice(0, w)
    if spectrum.damped and rules.stable:
        upper[:w] = upper[2 * w :] = 0.0
    if rules.bands is not None:
        ends = 2 * np.pi * np.array(rules.bands)
        lower[imaginary], upper[imaginary] = ends[:, 0], ends[:, 1]
    if np.isinf(lower).all() and np.isinf(upper).all():
        return None, None
    return lower.astype(real), upper.astype(real)


def _within(found: np.ndarray, x: np.ndarray, rules: Rules) -> tuple[Spectrum, np.ndarray]:
    """The kinds and coordinates of some eigenvalues, moved to where the rules allow them."""
    span, damped = np.ptp(x), not rules.imaginary
    found, single = _paired(found, span, rules) if rules.real else (found, np.zeros(0))
    re, im = np.real(found), np.imag(found)
    if rules.stable:
        # Off the bound, where the derivative tells both ways.
        re, single = (np.minimum(a, -1e-2 / span) for a in (re, single))
    if rules.bands is not None:
        re, im = _in_bands(re, im, 2 * np.pi * np.array(rules.bands))
    spectrum = Spectrum(len(found), len(single), rules.real, damped)
    if not damped:
        im = _apart(im, 1e-2 / span)
    return spectrum, spectrum.joined(re + 1j * im, single)


def _paired(found: np.ndarray, span: float, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Waves of positive frequency, and real eigenvalues."""
    r = rules.r
    waves = found[np.imag(found) > _SLOW / span]
    pairs = min(len(waves), r // 2)
    if rules.imaginary:
        pairs = r // 2  # two constants would be one
    if rules.bands is not None and len(rules.bands) > 1:
        pairs = len(rules.bands)
    waves = waves[np.argsort(-np.real(waves), kind="stable")][:pairs]
    more = np.arange(1, pairs - len(waves) + 1)
    waves = np.concatenate([waves, (-0.1 + 2j * np.pi) * more / span])
    single = np.sort(np.real(found[np.abs(np.imag(found)) <= _SLOW / span]))[::-1][: r - 2 * pairs]
    more = np.arange(1, r - 2 * pairs - len(single) + 1)
    return waves, _apart(np.concatenate([single, -more / span]), 1e-2 / span)


def _in_bands(re: np.ndarray, im: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each wave into a band: one band takes all, of several each takes what is nearest."""
    if len(ends) == 1:
        low, high = ends[0]
        outside = (im < low) | (im > high)
        within = np.linspace(low, high, int(outside.sum()) + 2)[1:-1]
        if not np.isfinite(within).all():
            within = np.clip(im[outside], low, high)
        im = im.copy()
        im[outside] = within
        return re, im
    from scipy.optimize import linear_sum_assignment

    gap = np.maximum(np.maximum(ends[:, :1] - im, im - ends[:, 1:]), 0.0)
    _, wave = linear_sum_assignment(gap)
    re, im = re[wave], np.clip(im[wave], ends[:, 0], ends[:, 1])
    # Two that come to the same band from outside start at the same place otherwise.
    for i in range(1, len(im)):
        if np.any(im[:i] == im[i]) and np.isfinite(ends[i]).all():
            im[i] = ends[i, 0] + (i + 1) / (len(im) + 1) * (ends[i, 1] - ends[i, 0])
    return re, im


def _apart(values: np.ndarray, least: float) -> np.ndarray:
    """The values in their order, no two of them equal."""
    out = np.array(values, float)
    for i in range(1, len(out)):
        while np.any(np.abs(out[:i] - out[i]) < least):
            out[i] -= 2 * least
    return out


def _cost(eigenvalues: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """What least squares with these exponentials leave of y."""
    with np.errstate(over="ignore", invalid="ignore"):
        phi = np.exp(np.outer(x, eigenvalues))
        phi = phi / np.linalg.norm(phi, axis=0)
    if not np.isfinite(phi).all():
        return np.inf
    q = np.linalg.qr(phi)[0]
    return float(np.linalg.norm(y) ** 2 - np.linalg.norm(q.conj().T @ y) ** 2)
