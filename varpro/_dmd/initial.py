"""Eigenvalues to start from: exact dynamic modes, and the matrix pencil.

With the data reduced to its leading r coordinates, w(t) (r,), the dynamics are `w' = A w`. Between
neighbours in time, at any spacing, `(w_{j+1} - w_j) / dt = A (w_{j+1} + w_j) / 2` up to dt^2 (Askham and
Kutz, SIAM J. Appl. Dyn. Syst. 17, 380 (2018)); at even spacing, `w_{j+1} = exp(A dt) w_j` without error
(exact DMD, Tu et al. 2014). The pencil stacks delayed copies of w, which averages noise and finds
more exponentials than there are rows (Hua and Sarkar, IEEE Trans. ASSP 38, 814 (1990)).
"""

import numpy as np
from jaxtyping import Float, Inexact

# Rows of the stack of delayed copies, about.
_STACKED = 96
# Directions beyond those asked for in which the range of the data is sought.
_OVERSAMPLING = 8
# Passes in which leading directions are found, and how far off they may be.
_PASSES, _ERROR = 12, 1e-12
# Relative deviation from even spacing that rounding may make.
_EVEN = 1e-6


def leading(y: Inexact[np.ndarray, "m k"], count: int) -> Inexact[np.ndarray, "m q"]:
    """Reduce data (m, k) to coordinates (m, q) along about their leading `count` directions across
    right-hand sides, and 8 more; return them as they are where k is hardly more.

    By products with random directions, once through `Y Y^H` (Halko et al., SIAM Rev. 53, 217 (2011)).
    """
    m, k = y.shape
    q = count + _OVERSAMPLING
    if k <= 2 * q or m <= q:
        return y
    basis = np.random.default_rng(0).normal(size=(m, q)).astype(y.dtype)
    sketch = along(y, basis.conj().T @ y)
    basis = np.linalg.qr(sketch)[0]
    return along(y, basis.conj().T @ y)


def leading_exactly(y: Inexact[np.ndarray, "m k"], count: int) -> Inexact[np.ndarray, "k r"] | None:
    """Leading `count` right singular vectors (k, count) to rounding, or None where this is not the way.

    Subspace iteration with `Y Y^H` and some more directions, each one product with Y there and back:
    what is wrong shrinks by the ratio of the squares of singular values outside and inside. By the
    theorem of Davis and Kahan (1970) the subspace is off by no more than the residual over the gap
    between them, which is why nothing is returned where that is not small, or shrinks too slowly.
    """
    m, k = y.shape
    q = count + _OVERSAMPLING
    if min(m, k) <= 4 * q:
        return None
    if m > k:
        left = leading_exactly(y.conj().T, count)
        return None if left is None else np.linalg.qr((left.conj().T @ y).conj().T)[0]
    precision = np.finfo(y.dtype)
    basis = np.random.default_rng(0).normal(size=(m, q)).astype(y.dtype)
    for _ in range(_PASSES):
        basis = np.linalg.qr(basis)[0]
        right = (basis.conj().T @ y).conj().T
        square, rotation = np.linalg.eigh(right.conj().T @ right)
        square, rotation = square[::-1], rotation[:, ::-1]
        right, basis = right @ rotation, basis @ rotation
        after = y @ right
        error = np.linalg.norm(after[:, :count] - basis[:, :count] * square[:count])
        gap = square[count - 1] - square[count]
        if error <= max(_ERROR * gap, 4 * q * precision.eps * square[0]):
            accurate = error <= np.sqrt(precision.eps) * gap
            return np.linalg.qr(right[:, :count])[0] if accurate else None
        basis = after
    return None


def along(
    y: Inexact[np.ndarray, "m k"], rows: Inexact[np.ndarray, "q k"]
) -> Inexact[np.ndarray, "m q"]:
    """Coordinates (m, q) of the data along the orthonormalised `rows` (q, k)."""
    return y @ np.linalg.qr(rows.conj().T)[0]


def candidates(
    x: Float[np.ndarray, " m"], y: Inexact[np.ndarray, "m q"], r: int, kind: str
) -> list[Inexact[np.ndarray, " r"]]:
    """Candidates of r eigenvalues (r,), per unit of x, by "dmd", the "pencil", or both ("auto")."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    spacing = np.diff(x)
    # Samples at one time say nothing about how things change.
    distinct = np.concatenate([[True], spacing > 0])
    x, y = x[distinct], y[distinct]
    spacing = np.diff(x)
    even = len(x) > 2 and np.ptp(spacing) <= _EVEN * spacing.mean()
    u, s, _ = np.linalg.svd(y, full_matrices=False)
    rank = int(np.sum(s > max(y.shape) * np.finfo(s.dtype).eps * s[0]))
    eigenvalues = []
    if kind != "pencil" and rank >= r and len(x) > r:
        w = (u[:, :r] * s[:r]).T
        step, middle = np.diff(w) / spacing, 0.5 * (w[:, 1:] + w[:, :-1])
        eigenvalues.append(np.linalg.eigvals(_propagator(step, middle)))
        if even:
            eigenvalues.append(
                _logarithm(np.linalg.eigvals(_propagator(w[:, 1:], w[:, :-1])), spacing[0])
            )
    if kind != "dmd" or not eigenvalues:
        w = (u[:, : min(rank, r)] * s[: min(rank, r)]).T
        step = spacing.mean()
        if not even:
            grid = np.linspace(x[0], x[-1], len(x))
            w = np.stack([np.interp(grid, x, row) for row in w])
        eigenvalues.append(_pencil(w, step, r))
    return [_distinct_eigenvalues(values, x, r) for values in eigenvalues]


def _propagator(b: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Propagator A (r, r) with `b = A a`, a and b (r, steps), in the sense of least squares."""
    return np.linalg.lstsq(a.T, b.T, rcond=None)[0].T


def _pencil(w: np.ndarray, step: float, r: int) -> np.ndarray:
    """Eigenvalues (r,) from a stack of delayed copies of w (rows, m), evenly spaced by `step`."""
    rows, m = w.shape
    delays = int(np.clip(_STACKED // rows, 2, max(m // 3, 2)))
    delays = max(delays, -(-2 * r // rows))
    delays = min(delays, max(m - r, 2))
    stack = np.concatenate([w[:, i : m - delays + 1 + i] for i in range(delays)])
    u = np.linalg.svd(stack, full_matrices=False)[0][:, :r]
    before, after = u[:-rows], u[rows:]
    return _logarithm(np.linalg.eigvals(np.linalg.lstsq(before, after, rcond=None)[0]), step)


def _logarithm(factor: np.ndarray, step: float) -> np.ndarray:
    """Eigenvalues per unit of time from factors per step, moduli below 1e-8 raised to that."""
    # A factor that small is the rounding of what has decayed within one step.
    modulus = np.maximum(np.abs(factor), 1e-8)
    return (np.log(modulus) + 1j * np.angle(factor)) / step


def _distinct_eigenvalues(eigenvalues: np.ndarray, x: np.ndarray, r: int) -> np.ndarray:
    """Complete to r distinct eigenvalues, in order of real parts, with exponentials that samples at x
    can show: real parts are clipped to what decays within a spacing and grows over the span."""
    span = x[-1] - x[0]
    eigenvalues = np.asarray(eigenvalues, complex)[:r]
    eigenvalues = np.where(np.isfinite(eigenvalues), eigenvalues, 0.0)
    if len(eigenvalues) < r:
        missing = np.arange(1, r - len(eigenvalues) + 1)
        eigenvalues = np.concatenate([eigenvalues, -missing / span + 2j * np.pi * missing / span])
    spacing = np.median(np.diff(x))
    re = np.clip(np.real(eigenvalues), -2.0 / spacing, 5.0 / span)
    # Equal ones would stay together for ever.
    eigenvalues = np.sort_complex(re + 1j * np.imag(eigenvalues))
    equal = np.concatenate([[False], np.abs(np.diff(eigenvalues)) < 1e-6 / span])
    return eigenvalues + equal * (-1.0 + 1.0j) * np.cumsum(equal) * 1e-2 / span
