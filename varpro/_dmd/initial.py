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
_MORE = 8
# Passes in which leading directions are found, and how far off they may be.
_PASSES, _OFF = 12, 1e-12
# Relative deviation from even spacing that rounding may make.
_EVEN = 1e-6


def leading(y: Inexact[np.ndarray, "m k"], count: int) -> Inexact[np.ndarray, "m q"]:
    """The data in coordinates of about their leading `count` directions across right-hand sides, and
    some more; as they are, where those are hardly fewer.

    By products with random directions, once through `Y Y^H` (Halko et al., SIAM Rev. 53, 217 (2011)).
    """
    m, k = y.shape
    q = count + _MORE
    if k <= 2 * q or m <= q:
        return y
    basis = np.random.default_rng(0).normal(size=(m, q)).astype(y.dtype)
    seen = along(y, basis.conj().T @ y)
    basis = np.linalg.qr(seen)[0]
    return along(y, basis.conj().T @ y)


def leading_exactly(y: Inexact[np.ndarray, "m k"], count: int) -> Inexact[np.ndarray, "k r"] | None:
    """The leading `count` right singular directions to rounding, or None where this is not the way.

    Subspace iteration with `Y Y^H` and some more directions, each one product with Y there and back:
    what is wrong shrinks by the ratio of the squares of singular values outside and inside. By the
    theorem of Davis and Kahan (1970) the subspace is off by no more than the residual over the gap
    between them, which is why nothing is returned where that is not small, or shrinks too slowly.
    """
    m, k = y.shape
    q = count + _MORE
    if min(m, k) <= 4 * q:
        return None
    if m > k:
        found = leading_exactly(y.conj().T, count)
        return None if found is None else np.linalg.qr((found.conj().T @ y).conj().T)[0]
    real = np.finfo(y.dtype)
    basis = np.random.default_rng(0).normal(size=(m, q)).astype(y.dtype)
    for _ in range(_PASSES):
        basis = np.linalg.qr(basis)[0]
        back = (basis.conj().T @ y).conj().T
        square, turn = np.linalg.eigh(back.conj().T @ back)
        square, turn = square[::-1], turn[:, ::-1]
        back, basis = back @ turn, basis @ turn
        after = y @ back
        off = np.linalg.norm(after[:, :count] - basis[:, :count] * square[:count])
        gap = square[count - 1] - square[count]
        if off <= max(_OFF * gap, 4 * q * real.eps * square[0]):
            small = off <= np.sqrt(real.eps) * gap
            return np.linalg.qr(back[:, :count])[0] if small else None
        basis = after
    return None


def along(
    y: Inexact[np.ndarray, "m k"], rows: Inexact[np.ndarray, "q k"]
) -> Inexact[np.ndarray, "m q"]:
    """The data in coordinates of what some rows span."""
    return y @ np.linalg.qr(rows.conj().T)[0]


def candidates(
    x: Float[np.ndarray, " m"], y: Inexact[np.ndarray, "m q"], r: int, kind: str
) -> list[Inexact[np.ndarray, " r"]]:
    """Guesses of r eigenvalues by "dmd", the "pencil", or both ("auto")."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    spacing = np.diff(x)
    # Samples at one time say nothing about how things change.
    apart = np.concatenate([[True], spacing > 0])
    x, y = x[apart], y[apart]
    spacing = np.diff(x)
    even = len(x) > 2 and np.ptp(spacing) <= _EVEN * spacing.mean()
    left, size, _ = np.linalg.svd(y, full_matrices=False)
    known = int(np.sum(size > max(y.shape) * np.finfo(size.dtype).eps * size[0]))
    found = []
    if kind != "pencil" and known >= r and len(x) > r:
        w = (left[:, :r] * size[:r]).T
        step, middle = np.diff(w) / spacing, 0.5 * (w[:, 1:] + w[:, :-1])
        found.append(np.linalg.eigvals(_onto(step, middle)))
        if even:
            found.append(_logarithm(np.linalg.eigvals(_onto(w[:, 1:], w[:, :-1])), spacing[0]))
    if kind != "dmd" or not found:
        w = (left[:, : min(known, r)] * size[: min(known, r)]).T
        step = spacing.mean()
        if not even:
            grid = np.linspace(x[0], x[-1], len(x))
            w = np.stack([np.interp(grid, x, row) for row in w])
        found.append(_pencil(w, step, r))
    return [_sane(one, x, r) for one in found]


def _onto(b: np.ndarray, a: np.ndarray) -> np.ndarray:
    """A with `b = A a` in the sense of least squares."""
    return np.linalg.lstsq(a.T, b.T, rcond=None)[0].T


def _pencil(w: np.ndarray, step: float, r: int) -> np.ndarray:
    rows, m = w.shape
    delays = int(np.clip(_STACKED // rows, 2, max(m // 3, 2)))
    delays = max(delays, -(-2 * r // rows))
    delays = min(delays, max(m - r, 2))
    stack = np.concatenate([w[:, i : m - delays + 1 + i] for i in range(delays)])
    left = np.linalg.svd(stack, full_matrices=False)[0][:, :r]
    before, after = left[:-rows], left[rows:]
    return _logarithm(np.linalg.eigvals(np.linalg.lstsq(before, after, rcond=None)[0]), step)


def _logarithm(factor: np.ndarray, step: float) -> np.ndarray:
    # What is gone after one step has no more than this to say.
    size = np.maximum(np.abs(factor), 1e-8)
    return (np.log(size) + 1j * np.angle(factor)) / step


def _sane(found: np.ndarray, x: np.ndarray, r: int) -> np.ndarray:
    """r distinct eigenvalues whose exponentials are seen in these samples, by frequency."""
    span = x[-1] - x[0]
    found = np.asarray(found, complex)[:r]
    found = np.where(np.isfinite(found), found, 0.0)
    if len(found) < r:
        more = np.arange(1, r - len(found) + 1)
        found = np.concatenate([found, -more / span + 2j * np.pi * more / span])
    spacing = np.median(np.diff(x))
    re = np.clip(np.real(found), -2.0 / spacing, 5.0 / span)
    # Equal ones would stay together for ever.
    found = np.sort_complex(re + 1j * np.imag(found))
    near = np.concatenate([[False], np.abs(np.diff(found)) < 1e-6 / span])
    return found + near * (-1.0 + 1.0j) * np.cumsum(near) * 1e-2 / span
