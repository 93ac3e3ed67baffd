"""The samples that a choice of a model looks at."""

import dataclasses

import numpy as np

import varpro as vp

from .candidates import Shape, shape_of
from .found import Found

# Columns of Y, and samples, that a choice looks at.
_COLUMNS, _SAMPLES = 16, 1500


@dataclasses.dataclass(frozen=True)
class Samples:
    """What a choice looks at: x (m,) sorted, y (m, k), and weights (m, 1)."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    shape: Shape


def samples_of(found: Found) -> Samples:
    """The samples that are whole, without columns that have hardly any numbers.

    **Raises:** `InputError` where too few are left to guess from.
    """
    x = np.asarray(found.x, float)
    y = np.asarray(found.y, complex if np.iscomplexobj(found.y) else float)
    finite = np.isfinite(y) & np.isfinite(x)[:, None]
    filled = finite.sum(axis=0)
    columns = filled * 2 > max(int(filled.max(initial=0)), 1)
    keep = finite[:, columns].all(axis=1) if columns.any() else np.zeros(len(x), bool)
    if keep.sum() < 4:
        raise vp.InputError(
            f"only {int(keep.sum())} samples of x and y are finite; nothing can be guessed from them. "
            "Write the configuration without --from."
        )
    sigma = None if found.sigma is None else np.asarray(found.sigma, float)[keep]
    x, y = x[keep], y[keep][:, columns]
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    y = y[:, np.linspace(0, y.shape[1] - 1, min(y.shape[1], _COLUMNS)).round().astype(int)]
    counted = found.noise == "poisson" and y.shape[1] == 1 and not np.iscomplexobj(y)
    if counted:
        from scipy.ndimage import gaussian_filter1d

        # Weights from the counts themselves are biased towards small ones.
        expected = gaussian_filter1d(np.real(y[:, 0]), 2.0, mode="nearest")
        weight = 1.0 / np.sqrt(np.maximum(expected, 1.0))
    else:
        weight = np.ones(len(x)) if sigma is None else 1.0 / sigma[order]
    step = 1 if np.iscomplexobj(y) else -(-len(x) // _SAMPLES)
    x, y, weight = x[::step], y[::step], weight[::step]
    curve = np.real(y[:, 0]) if y.shape[1] == 1 else _leading(y)
    return Samples(x, y, weight[:, None], shape_of(x, curve, counted))


def _leading(y: np.ndarray) -> np.ndarray:
    """The curve that explains most of several, so that noise in the others does not hide its shape."""
    centred = y - np.median(y, axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    sign = 1.0 if abs(right[0].real.max()) >= abs(right[0].real.min()) else -1.0
    return sign * (left[:, 0] * sizes[0]).real


def of_one_curve(samples: Samples) -> Samples:
    """The curve of several that varies most, alone."""
    j = int(np.argmax(np.ptp(np.real(samples.y), axis=0)))
    curve = samples.y[:, j : j + 1]
    shape = shape_of(samples.x, np.real(curve[:, 0]), False)
    return dataclasses.replace(samples, y=curve, shape=shape)
