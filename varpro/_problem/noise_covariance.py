"""Noise that is correlated between samples: its covariance matrix, checked and made a whitening operator.

With C = D R D, D the standard deviations and R = L L^T the correlations of the samples in use, L^{-1} D^{-1}
makes the noise white. What is left out is left out of C too, which is the covariance of the rest; the
factor is made of R, so that units play no part in its rounding.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from .._errors import InputError
from .._given.containers import numbers_of, real_numbers


@runtime_checkable
class SparseMatrix(Protocol):
    """A matrix of scipy.sparse."""

    def toarray(self) -> object: ...


@runtime_checkable
class CovarianceObject(Protocol):
    """A `scipy.stats.Covariance`."""

    @property
    def covariance(self) -> object: ...


# A covariance that is no array.
Covariance = SparseMatrix | CovarianceObject

# Asymmetry, relative to both standard deviations, that rounding may leave.
_SYMMETRIC = 1e-8


def is_covariance(value: Any) -> bool:
    """Whether this can mean nothing but a covariance matrix: a `scipy.stats.Covariance`, or a matrix of
    scipy.sparse."""
    return _of(value, "scipy.stats", "covariance") or _of(value, "scipy.sparse", "toarray")


def _of(value: Any, package: str, has: str) -> bool:
    """Whether a class of this package, with this attribute, made it."""
    return hasattr(value, has) and any(
        one.__module__.startswith(package) for one in type(value).__mro__
    )


def covariance_of(value: Any, m: int, k: int) -> np.ndarray | None:
    """The covariance matrix (m, m) that sigma is, or None where it is standard deviations; k right-hand
    sides."""
    sure = is_covariance(value)
    if sure:
        value = value.toarray() if hasattr(value, "toarray") else value.covariance
    elif numbers_of("sigma", value).values.shape != (m, m):
        return None
    matrix = real_numbers("sigma", value).astype(float)
    if matrix.shape != (m, m):
        raise InputError(
            f"sigma is a covariance matrix of shape {matrix.shape}; expected ({m}, {m}), for the m samples of y.",
            argument="sigma",
        )
    if sure or k != m or m == 1:
        return None if m == 1 and not sure else matrix
    if _is_definite(matrix):
        raise InputError(
            f"sigma has shape ({m}, {m}), which y has too: is it the covariance of samples or the standard "
            "deviation of every value? Give scipy.stats.Covariance.from_cholesky(np.linalg.cholesky(sigma)) "
            "for the first, or weights=1/sigma for the second.",
            argument="sigma",
        )
    return None


def _is_definite(matrix: np.ndarray) -> bool:
    if not np.isfinite(matrix).all() or not np.array_equal(matrix, matrix.T):
        return False
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def deviations(covariance: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """Standard deviations (m,); NaN where there is none.

    **Raises:** `InputError` for a variance of a sample in use that is not positive.
    """
    own = np.diagonal(covariance)
    if keep is not None:
        wrong = (own <= 0) & keep.reshape(len(own), -1).any(axis=1)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise InputError(
                f"sigma is no covariance matrix: the variance of sample {i} is {own[i]:.6g}, which is not "
                "positive.",
                argument="sigma",
            )
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.where(own > 0, own, np.nan))


def whitener_of(covariance: np.ndarray, keep: np.ndarray) -> np.ndarray | None:
    """`L^{-1}` (m, m) of the correlations of the samples in use, zero elsewhere, by which residuals in units of
    their standard deviations are multiplied; None where nothing is correlated.

    **Raises:** `InputError` for what is not symmetric and positive definite.
    """
    if keep.ndim == 2:
        raise InputError(
            "A covariance of samples is for right-hand sides that use the same samples, but their masks or "
            "missing values differ. Fit them one by one, or give several data sets.",
            argument="sigma",
        )
    used = np.flatnonzero(keep)
    part, sd = covariance[np.ix_(used, used)], deviations(covariance)[used]
    if not np.isfinite(part).all():
        row, column = used[np.argwhere(~np.isfinite(part))[0]]
        raise InputError(
            f"sigma contains a non-finite covariance at ({row}, {column}). Leave such samples out with mask=.",
            argument="sigma",
        )
    correlation = part / sd[:, None] / sd
    apart = np.abs(correlation - correlation.T)
    if apart.size and apart.max() > _SYMMETRIC:
        i, j = np.unravel_index(np.argmax(apart), apart.shape)
        raise InputError(
            f"sigma of shape {covariance.shape} is the covariance of samples, which is symmetric, but entry "
            f"({used[i]}, {used[j]}) is {part[i, j]:.6g} and ({used[j]}, {used[i]}) is {part[j, i]:.6g}.",
            argument="sigma",
        )
    correlation = 0.5 * (correlation + correlation.T)
    if np.array_equal(correlation, np.diag(np.diagonal(correlation))):
        return None
    try:
        factor = np.linalg.cholesky(correlation)
    except np.linalg.LinAlgError:
        least = float(np.linalg.eigvalsh(correlation)[0])
        raise InputError(
            "sigma is no covariance matrix: it is not positive definite. The least eigenvalue of its "
            f"correlations is {least:.3g}. Give one estimated from more records than there are samples, or add "
            "the variance of independent noise to its diagonal.",
            argument="sigma",
        ) from None
    import scipy.linalg

    whitener = np.zeros_like(covariance)
    inverse = scipy.linalg.solve_triangular(factor, np.eye(len(used)), lower=True)
    whitener[np.ix_(used, used)] = inverse
    return whitener
