"""Small positive definite matrices, real or Hermitian, number by number: nothing calls LAPACK, so that
XLA makes one loop over many of them side by side. Larger ones are left to LAPACK."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact

# Up to this size.
_UNROLLED = 8


def products(pairs: Sequence[tuple[Array, Array]], real: bool = False) -> tuple[Array, ...]:
    """The sum over samples of every `conj(a) b`, in one loop over the samples; of complex ones the real
    part alone where nothing else is asked."""
    terms: list[Array] = []
    for a, b in pairs:
        if not jnp.iscomplexobj(a):
            terms.append(a * b)
            continue
        terms.append(a.real * b.real + a.imag * b.imag)
        if not (real or a is b):
            terms.append(a.real * b.imag - a.imag * b.real)
    zeros = tuple(jnp.zeros((), t.dtype) for t in terms)
    sums = iter(
        jax.lax.reduce(
            tuple(terms), zeros, lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True)), (0,)
        )
    )
    plain = [real or a is b or not jnp.iscomplexobj(a) for a, b in pairs]
    return tuple(next(sums) if one else jax.lax.complex(next(sums), next(sums)) for one in plain)


def squared(a: Array) -> Array:
    """`|a|^2`."""
    return (a * a.conj()).real


def dot(a: Sequence[Array | float], b: Sequence[Array]) -> Array | float:
    return sum((x * y for x, y in zip(a, b, strict=True)), 0.0)


class Cholesky(NamedTuple):
    """L of `D^{-1/2} A D^{-1/2}`, D the diagonal of A, by rows; zero for a column that depends on
    earlier ones, whose inverse pivot is zero too."""

    lines: list[list[Array]]
    inverse: list[Array]
    unit: list[Array]


def cholesky(a: Sequence[Sequence[Array]]) -> Cholesky:
    n = len(a)
    unit = [inverse_root(a[i][i].real) for i in range(n)]
    lines, inverse = [], []
    for i in range(n):
        line: list[Array] = []
        for j in range(i):
            rest = a[i][j] * unit[i] * unit[j] - dot(line, [v.conj() for v in lines[j][:j]])
            line.append(rest * inverse[j])
        norm = a[i][i].real
        pivot = norm * unit[i] ** 2 - sum((squared(v) for v in line), jnp.zeros_like(norm))
        # Squares: what is left of a column of norm one once the others are taken out. NaN stays.
        lost = pivot <= 16 * n * float(jnp.finfo(pivot.dtype).eps)
        root = jnp.sqrt(jnp.where(lost, 1.0, pivot))
        inverse.append(jnp.where(lost, 0.0, 1.0 / root))
        lines.append([*line, root])
    return Cholesky(lines, inverse, unit)


def inverse_root(a: Array) -> Array:
    return jnp.where(a > 0, 1.0 / jnp.sqrt(jnp.where(a > 0, a, 1.0)), jnp.where(a == 0, 1.0, a))


def solved(factor: Cholesky, b: Sequence[Array]) -> list[Array]:
    """`A^{-1} b`, without the columns that depend on earlier ones."""
    x: list[Array] = []
    for i, line in enumerate(factor.lines):
        x.append((b[i] * factor.unit[i] - dot(line[:i], x[:i])) * factor.inverse[i])
    for i in reversed(range(len(x))):
        later = range(i + 1, len(x))
        rest = dot([factor.lines[k][i].conj() for k in later], [x[k] for k in later])
        x[i] = (x[i] - rest) * factor.inverse[i]
    return [v * unit for v, unit in zip(x, factor.unit, strict=True)]


def solve(a: Float[Array, "p p"], b: Float[Array, " p"], lanes: bool = True) -> Float[Array, " p"]:
    """`A^{-1} b`. `lanes`: of many side by side; one alone is quicker to compile with LAPACK."""
    p = b.size
    if p > (_UNROLLED if lanes else 1):
        return _by_eigenvalues(a)[0] @ b
    factor = cholesky([[a[i, j] for j in range(p)] for i in range(p)])
    return jnp.stack(solved(factor, [b[i] for i in range(p)])) if p else b


def positive(a: Float[Array, "p p"], lanes: bool = True) -> Bool[Array, ""]:
    """Whether a symmetric matrix is positive definite, by more than rounding."""
    p = a.shape[0]
    if p > (_UNROLLED if lanes else 1):
        unit = inverse_root(jnp.diagonal(a))
        # LAPACK leaves NaN where a pivot is not positive.
        pivots = jnp.diagonal(jnp.linalg.cholesky(a * unit * unit[:, None]))
        return jnp.all(pivots > (16 * p * float(jnp.finfo(a.dtype).eps)) ** 0.5)
    factor = cholesky([[a[i, j] for j in range(p)] for i in range(p)])
    return jnp.all(jnp.stack(factor.inverse) > 0) if p else jnp.ones((), bool)


def inverse(a: Inexact[Array, "p p"]) -> tuple[Inexact[Array, "p p"], Bool[Array, " p"]]:
    """The inverse of a positive definite matrix, and which columns depend on earlier ones."""
    p = a.shape[0]
    if not p:  # curves that share every nonlinear parameter
        return a, jnp.zeros(0, bool)
    if p > _UNROLLED:
        return _by_eigenvalues(a)
    factor = cholesky([[a[i, j] for j in range(p)] for i in range(p)])
    eye = jnp.eye(p, dtype=a.dtype)
    out = [jnp.stack(solved(factor, [eye[i, j] for i in range(p)])) for j in range(p)]
    return jnp.stack(out, axis=1), jnp.stack(factor.inverse) == 0


def _by_eigenvalues(
    a: Inexact[Array, "p p"],
) -> tuple[Inexact[Array, "p p"], Bool[Array, " p"]]:
    """The pseudoinverse of a matrix too large to unroll, and what has a part in its null space."""
    unit = inverse_root(jnp.diagonal(a).real)
    scaled = a * unit * unit[:, None]
    # The decomposition of what is not finite may not return.
    sound = jnp.all(jnp.isfinite(scaled))
    values, vectors = jnp.linalg.eigh(jnp.where(sound, scaled, jnp.eye(len(a), dtype=a.dtype)))
    lost = values <= 16 * len(a) * float(jnp.finfo(a.dtype).eps)
    back = (vectors * jnp.where(lost, 0.0, 1.0 / jnp.where(lost, 1.0, values))) @ vectors.conj().T
    part = jnp.any(lost & (jnp.abs(vectors) > 1e-3), axis=1)
    return jnp.where(sound, back * unit * unit[:, None], jnp.nan), part
