"""Constraints of eigenvalues: conjugate pairs, stability, frequency bands; and starts that comply."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .._errors import InputError
from .exponentials import Spectrum

Band = tuple[float, float]

# Turns over the whole span below which a wave of the start is taken for two real eigenvalues.
_SLOW = 1e-3


class EigenvalueConstraints(NamedTuple):
    """Constraints that the user gave: r eigenvalues, `bands` in cycles per unit of time (None: free)."""

    r: int
    real: bool
    stable: bool
    imaginary: bool
    bands: tuple[Band, ...] | None


def check_bands(bands: Band | Sequence[Band] | None, r: int, real: bool) -> tuple[Band, ...] | None:
    """Check `bands` and return them as pairs: one for all waves, or one for each.

    **Raises:** `InputError` for a wrong shape or number, and for a band that is none.
    """
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


def choose_start(
    x: np.ndarray,
    y: np.ndarray | None,
    constraints: EigenvalueConstraints,
    candidates: Sequence[np.ndarray],
) -> tuple[Spectrum, np.ndarray]:
    """Choose among several sets of r eigenvalues, constrained, the one that leaves least of y (m, q).

    **Returns:** the kinds of eigenvalues and the coordinates (p,).
    """
    best, least = None, np.inf
    for eigenvalues in candidates:
        spectrum, alpha = _constrained(eigenvalues, x, constraints)
        cost = (
            0.0
            if y is None or len(candidates) == 1
            else _residual_squares(spectrum.eigenvalues(alpha), x, y)
        )
        if best is None or cost < least:
            best, least = (spectrum, alpha), cost
    assert best is not None
    return best


def coordinate_bounds(
    spectrum: Spectrum, constraints: EigenvalueConstraints, real: np.dtype
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Lower and upper bounds (p,) of the coordinates, of dtype `real`; None, None if all are free."""
    lower, upper = np.full(spectrum.size, -np.inf), np.full(spectrum.size, np.inf)
    w = spectrum.waves
    imaginary = slice(w, 2 * w) if spectrum.damped else slice(0, w)
    if spectrum.damped and constraints.stable:
        upper[:w] = upper[2 * w :] = 0.0
    if constraints.bands is not None:
        ends = 2 * np.pi * np.array(constraints.bands)
        lower[imaginary], upper[imaginary] = ends[:, 0], ends[:, 1]
    if np.isinf(lower).all() and np.isinf(upper).all():
        return None, None
    return lower.astype(real), upper.astype(real)


def _constrained(
    eigenvalues: np.ndarray, x: np.ndarray, constraints: EigenvalueConstraints
) -> tuple[Spectrum, np.ndarray]:
    """Move eigenvalues (r,) to where the constraints allow them; return kinds and coordinates."""
    span, damped = np.ptp(x), not constraints.imaginary
    eigenvalues, single = (
        _split_pairs(eigenvalues, span, constraints)
        if constraints.real
        else (eigenvalues, np.zeros(0))
    )
    re, im = np.real(eigenvalues), np.imag(eigenvalues)
    if constraints.stable:
        # Off the bound, where the derivative tells both ways.
        re, single = (np.minimum(a, -1e-2 / span) for a in (re, single))
    if constraints.bands is not None:
        re, im = _in_bands(re, im, 2 * np.pi * np.array(constraints.bands))
    spectrum = Spectrum(len(eigenvalues), len(single), constraints.real, damped)
    if not damped:
        im = _distinct(im, 1e-2 / span)
    return spectrum, spectrum.coordinates(re + 1j * im, single)


def _split_pairs(
    eigenvalues: np.ndarray, span: float, constraints: EigenvalueConstraints
) -> tuple[np.ndarray, np.ndarray]:
    """Split eigenvalues into waves of positive frequency, one for each pair, and real eigenvalues;
    add some where there are too few."""
    r = constraints.r
    waves = eigenvalues[np.imag(eigenvalues) > _SLOW / span]
    pairs = min(len(waves), r // 2)
    if constraints.imaginary:
        pairs = r // 2  # two constants would be one
    if constraints.bands is not None and len(constraints.bands) > 1:
        pairs = len(constraints.bands)
    waves = waves[np.argsort(-np.real(waves), kind="stable")][:pairs]
    missing = np.arange(1, pairs - len(waves) + 1)
    waves = np.concatenate([waves, (-0.1 + 2j * np.pi) * missing / span])
    single = np.sort(np.real(eigenvalues[np.abs(np.imag(eigenvalues)) <= _SLOW / span]))[::-1][
        : r - 2 * pairs
    ]
    missing = np.arange(1, r - 2 * pairs - len(single) + 1)
    return waves, _distinct(np.concatenate([single, -missing / span]), 1e-2 / span)


def _in_bands(re: np.ndarray, im: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move waves into bands `ends` (bands, 2): all into a single one; of several, each takes the wave
    that the assignment of least distance gives it."""
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

    distance = np.maximum(np.maximum(ends[:, :1] - im, im - ends[:, 1:]), 0.0)
    _, order = linear_sum_assignment(distance)
    re, im = re[order], np.clip(im[order], ends[:, 0], ends[:, 1])
    # Two that come to the same band from outside start at the same place otherwise.
    for i in range(1, len(im)):
        if np.any(im[:i] == im[i]) and np.isfinite(ends[i]).all():
            im[i] = ends[i, 0] + (i + 1) / (len(im) + 1) * (ends[i, 1] - ends[i, 0])
    return re, im


def _distinct(values: np.ndarray, least: float) -> np.ndarray:
    """Lower values, in their order, until no two are nearer than `least`."""
    distinct = np.array(values, float)
    for i in range(1, len(distinct)):
        while np.any(np.abs(distinct[:i] - distinct[i]) < least):
            distinct[i] -= 2 * least
    return distinct


def _residual_squares(eigenvalues: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Sum of squares that linear least squares with these exponentials leave of y (m, q)."""
    with np.errstate(over="ignore", invalid="ignore"):
        phi = np.exp(np.outer(x, eigenvalues))
        phi = phi / np.linalg.norm(phi, axis=0)
    if not np.isfinite(phi).all():
        return np.inf
    q = np.linalg.qr(phi)[0]
    return float(np.linalg.norm(y) ** 2 - np.linalg.norm(q.conj().T @ y) ** 2)
