"""All that one theta tells of one curve, from two passes over its samples and without LAPACK.

With n columns and d of their derivatives D,

    G = Phi^T Phi,  P = Phi^T D,  H = D^T D,  b = Phi^T y                    c = G^{-1} b
    r = y - Phi c,  e = Phi^T r,  u = D^T r,  r^T r                          c += G^{-1} e

where the second pass repairs what the squared condition of G cost, with r formed and not a difference
of squares. With F the derivative of Phi c at constant c, and U gathering u by column and coordinate,

    gradient = -F^T r,    J^T J = F^T F - (Phi^T F)^T G^{-1} (Phi^T F) + U^T G^{-1} U

is the full matrix of Golub and Pereyra (1973); its last term, which Kaufman drops, is for nothing
here. Each pass is one reduction over all products, which XLA turns into one loop.

Weights that follow the model (`Reweighting`) are made anew at every theta, with the coefficients
that the last ones give there, and the cost is the function that they minimise: Fisher scoring.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ._noise import Reweighting
from ._problem import Assembled
from ._types import ArrayIn

# Columns and coordinates for which products are unrolled; beyond, one curve is fitted after another.
MOST = 8


class Curve(NamedTuple):
    """One problem, or many with a first axis: data (m,), about one in size; weights (m,); the number
    by which the data were divided; what divides a prior's residual, for it has the data's unit; and
    bounds (p,). Of weights and bounds there may be none."""

    y: Float[ArrayIn, "*b m"]
    weights: Float[ArrayIn, "*b m"] | None
    unit: Float[ArrayIn, "*b"]
    lower: Float[ArrayIn, "*b p"] | None
    upper: Float[ArrayIn, "*b p"] | None


class Moments(NamedTuple):
    """What is known at one theta: coefficients, the cost, its gradient, J^T J with and without the
    last term, G and Phi^T F; the model (m,) where weights follow it; and how far, relative to the
    cost, the last weights moved the coefficients. A prior is in all but the residual's squares."""

    coef: Float[Array, " n"]
    squares: Float[Array, ""]
    cost: Float[Array, ""]
    gradient: Float[Array, " p"]
    full: Float[Array, "p p"]
    kaufman: Float[Array, "p p"]
    gram: Float[Array, "n n"]
    cross: Float[Array, "n p"]
    model: Float[Array, " _"]
    drift: Float[Array, ""]


def moments(
    columns: Assembled,
    theta: Float[Array, " p"],
    curve: Curve,
    reweight: Reweighting | None = None,
    before: Float[Array, " m"] | None = None,
    scoring: Bool[Array, ""] | bool = True,
) -> Moments:
    """All that one theta tells of one curve; `before` is the model that the last weights are from,
    and `scoring` whether to make new ones."""
    phi, offset = columns.phi(theta), columns.offset(theta)
    partials, column, coordinate = _derivatives(columns, theta, offset is not None)
    y, weights, dtype = jnp.asarray(curve.y), curve.weights, phi.dtype
    drift, guess, given = jnp.zeros((), dtype), None, weights
    if reweight is not None:
        given = jnp.ones_like(y) if weights is None else jnp.asarray(weights)
        assert before is not None
        old = reweight(before, y, given, curve.unit)
        guess = _coefficients(phi, y if offset is None else y - offset, old)
        weights = reweight(_model(phi, guess, offset), y, given, curve.unit)
        weights = jnp.where(scoring, weights, given)
    target = y if offset is None else y - offset
    n, d, p = phi.shape[1], len(column), theta.size
    a = [phi[:, i] for i in range(n)] + [partials[:, i] for i in range(d)]
    if weights is not None:
        # A sample of weight zero may hold anything, even NaN.
        a = [jnp.where(weights > 0, v * weights, 0.0) for v in a]
        target = jnp.where(weights > 0, target * weights, 0.0)
    pairs = [(i, j) for i in range(n + d) for j in range(i + 1)]
    sums = _products([(a[i], a[j]) for i, j in pairs] + [(a[i], target) for i in range(n)])
    full = [[jnp.zeros((), dtype)] * (n + d) for _ in range(n + d)]
    for (i, j), value in zip(pairs, sums, strict=False):
        full[i][j] = full[j][i] = value
    factor = _cholesky([row[:n] for row in full[:n]])
    coef = _solved(factor, sums[len(pairs) :])
    resid = target
    for v, c in zip(a[:n], coef, strict=True):
        resid = resid - v * c
    sums = _products([(resid, resid)] + [(v, resid) for v in a])
    change = _solved(factor, sums[1 : n + 1])
    squares = sums[0] - _dot(sums[1 : n + 1], change)
    coef = [c + e for c, e in zip(coef, change, strict=True)]
    u = [
        value - _dot([full[i][n + j] for i in range(n)], change)
        for j, value in enumerate(sums[n + 1 :])
    ]
    # From derivatives of columns to derivatives by coordinates, coefficients held; an offset has one.
    size = [coef[c] if c >= 0 else jnp.ones((), dtype) for c in column]
    of = [[i for i in range(d) if coordinate[i] == j] for j in range(p)]
    zero = jnp.zeros((), dtype)
    cross = [
        [sum((full[i][n + k] * size[k] for k in of[j]), zero) for j in range(p)] for i in range(n)
    ]
    gathered = [
        [sum((u[k] for k in of[j] if column[k] == i), zero) for j in range(p)] for i in range(n)
    ]
    plain, bent = [], []
    for j in range(p):
        towards = _solved(factor, [row[j] for row in cross])
        back = _solved(factor, [row[j] for row in gathered])
        line, more = [], []
        for i in range(p):
            inner = sum(
                (full[n + k][n + q] * size[k] * size[q] for k in of[i] for q in of[j]), zero
            )
            line.append(inner - _dot([row[i] for row in cross], towards))
            more.append(_dot([row[i] for row in gathered], back))
        plain.append(line)
        bent.append([a + b for a, b in zip(line, more, strict=True)])
    gradient = jnp.stack([-sum((u[k] * size[k] for k in of[j]), zero) for j in range(p)] or [zero])
    squares = jnp.maximum(squares, 0.0)
    cost, model = 0.5 * squares, jnp.zeros((0,), dtype)
    if reweight is not None and guess is not None and given is not None:
        model = _model(phi, coef, offset)
        cost = jnp.where(scoring, reweight.cost(model, y, given, curve.unit), cost)
        step = [c - g for c, g in zip(coef, guess, strict=True)]
        moved = _dot([_dot(row[:n], step) for row in full[:n]], step)
        drift = 0.5 * jnp.asarray(moved, dtype) / jnp.where(cost > 0, cost, 1.0)
    matrices = (_matrix(bent, p, p, dtype), _matrix(plain, p, p, dtype))
    gradient = gradient[:p]
    prior = columns.prior(theta)
    if prior is not None and p:
        # Counts have half a deviance, in the data's unit, and all else a square.
        per = curve.unit if reweight is None else jnp.sqrt(curve.unit)
        per = curve.unit if reweight is not None and reweight.noise != "poisson" else per
        rows = jax.jacfwd(columns.prior)(theta) / per
        prior = prior / per
        cost = cost + 0.5 * jnp.sum(prior**2)
        gradient = gradient + rows.T @ prior
        matrices = tuple(a + rows.T @ rows for a in matrices)
    return Moments(
        jnp.stack(coef) if n else jnp.zeros((0,), dtype),
        squares,
        cost,
        gradient,
        *matrices,
        _matrix([row[:n] for row in full[:n]], n, n, dtype),
        _matrix(cross, n, p, dtype),
        model,
        drift,
    )


def _coefficients(phi: Array, target: Array, weights: Array) -> list[Array]:
    """The coefficients alone, for these weights."""
    n = phi.shape[1]
    a = [jnp.where(weights > 0, phi[:, i] * weights, 0.0) for i in range(n)]
    b = jnp.where(weights > 0, target * weights, 0.0)
    pairs = [(i, j) for i in range(n) for j in range(i + 1)]
    sums = _products([(a[i], a[j]) for i, j in pairs] + [(v, b) for v in a])
    full = [[sums[0]] * n for _ in range(n)]
    for (i, j), value in zip(pairs, sums, strict=False):
        full[i][j] = full[j][i] = value
    return _solved(_cholesky(full), sums[len(pairs) :])


def _model(phi: Array, coef: Sequence[Array], offset: Array | None) -> Array:
    model = sum((phi[:, i] * c for i, c in enumerate(coef)), jnp.zeros((), phi.dtype))
    return model if offset is None else model + offset


def _derivatives(
    columns: Assembled, theta: Float[Array, " p"], offset: bool
) -> tuple[Float[Array, "m d"], tuple[int, ...], tuple[int, ...]]:
    """Derivatives of columns by coordinates that are not zero, with the number of the column (-1 for
    the offset) and of the coordinate."""
    p, n = theta.size, len(columns.model.columns)
    table = columns.table(theta)
    if table is not None:
        values, column, coordinate = table
    elif p:
        tangents = jax.jacfwd(columns.phi)(theta)
        values = tangents.reshape(tangents.shape[0], n * p)
        column, coordinate = np.repeat(np.arange(n), p), np.tile(np.arange(p), n)
    else:
        values = jnp.zeros((columns.phi(theta).shape[0], 0), theta.dtype)
        column = coordinate = np.zeros(0, int)
    if offset and p:
        values = jnp.concatenate([values, jax.jacfwd(columns.offset)(theta)], axis=1)
        column = np.concatenate([column, np.full(p, -1)])
        coordinate = np.concatenate([coordinate, np.arange(p)])
    return values, tuple(column.tolist()), tuple(coordinate.tolist())


def _products(pairs: Sequence[tuple[Array, Array]]) -> tuple[Array, ...]:
    """The sum over samples of every product, in one loop over the samples."""
    terms = tuple(a * b for a, b in pairs)
    zeros = tuple(jnp.zeros((), t.dtype) for t in terms)
    return jax.lax.reduce(
        terms, zeros, lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True)), (0,)
    )


def _dot(a: Sequence[Array | float], b: Sequence[Array]) -> Array | float:
    return sum((x * y for x, y in zip(a, b, strict=True)), 0.0)


def _matrix(rows: Sequence[Sequence[Array]], n: int, p: int, dtype: jnp.dtype) -> Array:
    return jnp.stack([jnp.stack(list(r)) for r in rows]) if n and p else jnp.zeros((n, p), dtype)


class _Cholesky(NamedTuple):
    """L of `D^{-1/2} A D^{-1/2}`, D the diagonal of A, by rows; zero for a column that depends on
    earlier ones, whose inverse pivot is zero too."""

    lines: list[list[Array]]
    inverse: list[Array]
    unit: list[Array]


def _cholesky(a: Sequence[Sequence[Array]]) -> _Cholesky:
    n = len(a)
    unit = [inverse_root(a[i][i]) for i in range(n)]
    lines, inverse = [], []
    for i in range(n):
        line: list[Array] = []
        for j in range(i):
            rest = a[i][j] * unit[i] * unit[j] - _dot(line, lines[j][:j])
            line.append(rest * inverse[j])
        pivot = a[i][i] * unit[i] ** 2 - sum((v * v for v in line), jnp.zeros_like(a[i][i]))
        # Squares: what is left of a column of norm one once the others are taken out. NaN stays.
        lost = pivot <= 16 * n * float(jnp.finfo(pivot.dtype).eps)
        root = jnp.sqrt(jnp.where(lost, 1.0, pivot))
        inverse.append(jnp.where(lost, 0.0, 1.0 / root))
        lines.append([*line, root])
    return _Cholesky(lines, inverse, unit)


def inverse_root(a: Array) -> Array:
    return jnp.where(a > 0, 1.0 / jnp.sqrt(jnp.where(a > 0, a, 1.0)), jnp.where(a == 0, 1.0, a))


def _solved(factor: _Cholesky, b: Sequence[Array]) -> list[Array]:
    """`A^{-1} b`, without the columns that depend on earlier ones."""
    x: list[Array] = []
    for i, line in enumerate(factor.lines):
        x.append((b[i] * factor.unit[i] - _dot(line[:i], x[:i])) * factor.inverse[i])
    for i in reversed(range(len(x))):
        later = range(i + 1, len(x))
        rest = _dot([factor.lines[k][i] for k in later], [x[k] for k in later])
        x[i] = (x[i] - rest) * factor.inverse[i]
    return [v * unit for v, unit in zip(x, factor.unit, strict=True)]


def solve(a: Float[Array, "p p"], b: Float[Array, " p"]) -> Float[Array, " p"]:
    p = b.size
    factor = _cholesky([[a[i, j] for j in range(p)] for i in range(p)])
    return jnp.stack(_solved(factor, [b[i] for i in range(p)])) if p else b


def inverse(a: Float[Array, "p p"]) -> tuple[Float[Array, "p p"], Bool[Array, " p"]]:
    """The inverse of a positive definite matrix, and which columns depend on earlier ones."""
    p = a.shape[0]
    factor = _cholesky([[a[i, j] for j in range(p)] for i in range(p)])
    eye = jnp.eye(p, dtype=a.dtype)
    out = [jnp.stack(_solved(factor, [eye[i, j] for i in range(p)])) for j in range(p)]
    return jnp.stack(out, axis=1), jnp.stack(factor.inverse) == 0
