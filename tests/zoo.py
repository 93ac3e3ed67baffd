"""Matrices that every solver meets: smooth curves A(t) of constant rank, and their derivatives.

A(t) = L(t) R(t) with polynomial L and R has the rank of its factors for every t near 0, so the
derivative of a pseudoinverse along it exists, and differences of an accurate pseudoinverse tell it.
"""

import dataclasses

import numpy as np

SHAPES = {"tall": (7, 3), "square": (4, 4), "wide": (3, 7), "column": (5, 1), "row": (1, 5)}


@dataclasses.dataclass(frozen=True)
class Curve:
    """A(t) (m, n) of rank r and b(t) (m, k), polynomials in t."""

    left: np.ndarray  # (3, m, s), coefficients of 1, t, t^2
    right: np.ndarray  # (3, s, n)
    b: np.ndarray  # (3, m, k)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.left, self.right, self.b


def at(arrays, t):
    """A and b at t, for arrays of NumPy or JAX."""
    left, right, b = (x[0] + t * x[1] + t * t * x[2] for x in arrays)
    return left @ right, b


def curve(shape: tuple[int, int], rank: int, dtype, *, repeated: bool = False, k: int = 2) -> Curve:
    """Well-conditioned, with equal singular values at t = 0 if `repeated`, else from 1 to 2.

    Columns of L and rows of R beyond the rank are zero, so that arrays have one shape at any rank.
    """
    (m, n), s = shape, min(shape)
    rng = np.random.default_rng([m, n, rank, k, int(repeated)])

    def normal(*size):
        x = rng.normal(size=size)
        return x + 1j * rng.normal(size=size) if np.issubdtype(dtype, np.complexfloating) else x

    def smooth(start):
        steps = [0.2 * normal(*start.shape) for _ in range(2)]
        return np.stack([start, *steps])

    keep = np.arange(s) < rank
    sizes = np.ones(s) if repeated else np.linspace(1, 2, s)
    left = smooth(np.linalg.qr(normal(m, s))[0] * sizes) * keep
    right = smooth(np.linalg.qr(normal(n, s))[0].conj().T) * keep[:, None]
    b = np.stack([normal(m, k) for _ in range(3)])
    return Curve(left.astype(dtype), right.astype(dtype), b.astype(dtype))


# Central differences of order eight; their error here is below 1e-11.
_STEP = 0.01
_FIRST = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
_SECOND = {1: 8 / 5, 2: -1 / 5, 3: 8 / 315, 4: -1 / 560}


def first_derivative(f):
    """f'(0)."""
    return sum(w * (f(i * _STEP) - f(-i * _STEP)) for i, w in _FIRST.items()) / _STEP


def second_derivative(f):
    """f''(0)."""
    ends = sum(w * (f(i * _STEP) + f(-i * _STEP)) for i, w in _SECOND.items())
    return (ends - 205 / 72 * f(0.0)) / _STEP**2
