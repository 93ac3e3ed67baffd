"""All that one alpha tells of one curve, from two passes over its samples and without LAPACK.

With n columns and d of their derivatives D,

    G = Phi^T Phi,  P = Phi^T D,  H = D^T D,  b = Phi^T y                    c = G^{-1} b
    r = y - Phi c,  e = Phi^T r,  u = D^T r,  r^T r                          c += G^{-1} e

where the second pass repairs what the squared condition of G cost, with r formed and not a difference
of squares. With F the derivative of Phi c at constant c, and U gathering u by column and coordinate,

    gradient = -F^T r,    J^T J = F^T F - (Phi^T F)^T G^{-1} (Phi^T F) + U^T G^{-1} U

is the full matrix of Golub and Pereyra (1973); its last term, which Kaufman drops, is for nothing
here. Each pass is one reduction over all products, which XLA turns into one loop.

Of complex data ^T is ^H, and of gradient and J^T J the real part counts, for alpha is real. Where
coefficients are real, inner products are replaced by their real parts, which are those of real and
imaginary parts as data side by side; everything else is as written.

Weights that follow the model (`AbstractNoise`) are made anew at every alpha, with the coefficients
that the last ones give there, and the cost is the function that they minimise: Fisher scoring.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from .._errors import REAL_DATA, InputError
from .._problem.columns import Assembled
from .._problem.noise import NORMAL, AbstractNoise
from .._types import ArrayIn
from ..linalg._cholesky import cholesky, dot, inverse, products, solved

# Columns and coordinates up to which products are unrolled.
UNROLLED = 8


class Curve(NamedTuple):
    """One problem, or many with a first axis: data (m,), about one in size; weights (m,); the number
    by which the data were divided; what divides a prior's residual, for it has the data's unit; and
    bounds (p,). Of weights and bounds there may be none."""

    y: Inexact[ArrayIn, "*b m"]
    weights: Float[ArrayIn, "*b m"] | None
    unit: Float[ArrayIn, "*b"]
    lower: Float[ArrayIn, "*b p"] | None
    upper: Float[ArrayIn, "*b p"] | None


class PreviousWeights(NamedTuple):
    """What weights that follow the model begin with: the last model and its coefficients; whether to
    make new ones yet; and how far to go to the coefficients that they give. Where the curvature is
    more than twice what is expected, as near a mean of no counts, whole ways overshoot for ever."""

    model: Inexact[Array, " m"]
    coef: Inexact[Array, " n"]
    scoring: Bool[Array, ""]
    share: Float[Array, ""]


class Moments(NamedTuple):
    """What is known at one alpha: coefficients, the cost, its gradient, J^T J with and without the
    last term, G and Phi^T F; the model (m,) where weights follow it; and how far, relative to the
    cost, the last weights moved the coefficients. A prior is in all but the residual's squares."""

    coef: Inexact[Array, " n"]
    squares: Float[Array, ""]
    cost: Float[Array, ""]
    gradient: Float[Array, " p"]
    full: Float[Array, "p p"]
    kaufman: Float[Array, "p p"]
    gram: Inexact[Array, "n n"]
    cross: Inexact[Array, "n p"]
    model: Inexact[Array, " _"]
    drift: Float[Array, ""]


def moments(
    columns: Assembled,
    alpha: Float[Array, " p"],
    curve: Curve,
    noise: AbstractNoise = NORMAL,
    before: PreviousWeights | None = None,
) -> Moments:
    """All that one alpha tells of one curve; `before` is where weights that follow the model come
    from."""
    phi, offset = columns.phi(alpha), columns.offset(alpha)
    partials, column, coordinate = _derivatives(columns, alpha, offset is not None)
    y, weights, real = jnp.asarray(curve.y), curve.weights, columns.real
    if jnp.iscomplexobj(phi) and not jnp.iscomplexobj(y):
        raise InputError(REAL_DATA)
    # Real columns may meet complex data.
    phi, partials = (v.astype(jnp.result_type(v, y)) for v in (phi, partials))
    drift, guess, given = jnp.zeros((), alpha.dtype), None, weights
    if noise.follows_model:
        given = jnp.ones_like(y).real if weights is None else jnp.asarray(weights)
        assert before is not None
        old = noise.weights(before.model, y, given, curve.unit)
        guess = _coefficients(phi, y if offset is None else y - offset, old, real)
        guess = before.coef + before.share * (guess - before.coef)
        weights = noise.weights(_model(phi, guess, offset), y, given, curve.unit)
        weights = jnp.where(before.scoring, weights, given)
    target = y if offset is None else y - offset
    n, d, p = phi.shape[1], len(column), alpha.size
    a = [phi[:, i] for i in range(n)] + [partials[:, i] for i in range(d)]
    if weights is not None:
        # A sample of weight zero may hold anything, even NaN.
        a = [jnp.where(weights > 0, v * weights, 0.0) for v in a]
        target = jnp.where(weights > 0, target * weights, 0.0)
    narrow = max(n, p) <= UNROLLED
    parts = (_unrolled if narrow else _by_matrices)(a, target, column, coordinate, p, real)
    coef, squares, gradient = parts.coef, parts.squares, parts.gradient
    cost, model = 0.5 * squares, jnp.zeros((0,), y.dtype)
    if guess is not None and given is not None and before is not None:
        step = coef - guess
        coef = jnp.where(before.scoring, guess + before.share * step, coef)
        model = _model(phi, coef, offset)
        cost = jnp.where(before.scoring, noise.cost(model, y, given, curve.unit), cost)
        moved = jnp.sum((jnp.sum(parts.gram * step, axis=1) * step.conj()).real)
        drift = 0.5 * moved / jnp.where(cost > 0, cost, 1.0)
    matrices = (parts.full, parts.kaufman)
    prior = columns.prior(alpha)
    if prior is not None and p:
        # Half a square has the data's unit twice, half a deviance of counts once.
        per = jnp.asarray(curve.unit) ** (noise.degree / 2)
        rows = jax.jacfwd(columns.prior)(alpha) / per
        prior = prior / per
        cost = cost + 0.5 * jnp.sum(prior**2)
        gradient = gradient + rows.T @ prior
        matrices = tuple(a + rows.T @ rows for a in matrices)
    return Moments(
        coef,
        squares,
        cost,
        gradient,
        *matrices,
        parts.gram,
        parts.cross,
        model,
        drift,
    )


def frozen_weights(
    columns: Assembled, alpha: Float[Array, " p"], coef: Inexact[Array, " n"]
) -> PreviousWeights:
    """Weights as this alpha and these coefficients make them, which stay as they are."""
    model = _model(columns.phi(alpha), coef, columns.offset(alpha))
    return PreviousWeights(model, coef, jnp.ones((), bool), jnp.zeros((), alpha.dtype))


def coef_variance(gram_inv: Inexact[Array, "n n"]) -> Float[Array, " n"]:
    """Variances of coefficients at a alpha that is known, for unit noise; of a complex one that of its
    distance from the mean."""
    own = jnp.diagonal(gram_inv).real
    return 2.0 * own if jnp.iscomplexobj(gram_inv) else own


class _Parts(NamedTuple):
    """What `Moments` are made of, for columns, derivatives and data that are weighted."""

    coef: Inexact[Array, " n"]
    squares: Float[Array, ""]
    gradient: Float[Array, " p"]
    full: Float[Array, "p p"]
    kaufman: Float[Array, "p p"]
    gram: Inexact[Array, "n n"]
    cross: Inexact[Array, "n p"]


def _unrolled(
    a: Sequence[Array],
    target: Inexact[Array, " m"],
    column: tuple[int, ...],
    coordinate: tuple[int, ...],
    p: int,
    real: bool,
) -> _Parts:
    """Number by number: what XLA fuses best, as long as the numbers are few."""
    d, dtype = len(column), target.real.dtype if real else target.dtype
    n = len(a) - d
    pairs = [(i, j) for i in range(n + d) for j in range(i + 1)]
    sums = products([(a[i], a[j]) for i, j in pairs] + [(a[i], target) for i in range(n)], real)
    full = [[jnp.zeros((), dtype)] * (n + d) for _ in range(n + d)]
    for (i, j), value in zip(pairs, sums, strict=False):
        full[i][j], full[j][i] = value, value.conj()
    factor = cholesky([row[:n] for row in full[:n]])
    coef = solved(factor, sums[len(pairs) :])
    resid = target
    for v, c in zip(a[:n], coef, strict=True):
        resid = resid - v * c
    sums = products([(resid, resid)] + [(v, resid) for v in a], real)
    change = solved(factor, sums[1 : n + 1])
    squares = sums[0] - jnp.real(dot(_conj(sums[1 : n + 1]), change))
    coef = [c + e for c, e in zip(coef, change, strict=True)]
    u = [
        value - dot([full[n + j][i] for i in range(n)], change)
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
        towards = solved(factor, [row[j] for row in cross])
        back = solved(factor, [row[j] for row in gathered])
        line, more = [], []
        for i in range(p):
            inner = sum(
                (full[n + k][n + q] * size[k].conj() * size[q] for k in of[i] for q in of[j]), zero
            )
            line.append(jnp.real(inner - dot(_conj([row[i] for row in cross]), towards)))
            more.append(jnp.real(dot(_conj([row[i] for row in gathered]), back)))
        plain.append(line)
        bent.append([a + b for a, b in zip(line, more, strict=True)])
    slopes = [-sum((u[k] * size[k].conj() for k in of[j]), zero) for j in range(p)]
    gradient = jnp.stack(slopes or [zero]).real
    return _Parts(
        jnp.stack(coef) if n else jnp.zeros((0,), dtype),
        jnp.maximum(squares, 0.0),
        gradient[:p],
        _matrix(bent, p, p, gradient.dtype),
        _matrix(plain, p, p, gradient.dtype),
        _matrix([row[:n] for row in full[:n]], n, n, dtype),
        _matrix(cross, n, p, dtype),
    )


def _by_matrices(
    a: Sequence[Array],
    target: Inexact[Array, " m"],
    column: tuple[int, ...],
    coordinate: tuple[int, ...],
    p: int,
    real: bool,
) -> _Parts:
    """The same for many columns or coordinates."""
    n = len(a) - len(column)
    whole = jnp.stack(list(a), axis=1)
    if real:
        whole, target = (jnp.concatenate([v.real, v.imag]) for v in (whole, target))
    full = whole.conj().T @ whole
    gram = full[:n, :n]
    back, _ = inverse(gram)
    coef = back @ (whole[:, :n].conj().T @ target)
    resid = target - whole[:, :n] @ coef
    e = whole.conj().T @ resid
    change = back @ e[:n]
    squares = (resid.conj() @ resid - e[:n].conj() @ change).real
    coef, u = coef + change, e[n:] - full[n:, :n] @ change
    of, where = np.array(column, int), np.array(coordinate, int)
    # One where a derivative is one by this coordinate; an offset has no column.
    chosen = jnp.asarray(np.eye(p)[where], target.dtype).reshape(len(of), p)
    size = jnp.where(of >= 0, coef[np.maximum(of, 0)], 1.0)
    towards = size[:, None] * chosen
    cross = full[:n, n:] @ towards
    linear = of >= 0
    bent = jnp.zeros((n, p), target.dtype).at[of[linear], where[linear]].add(u[linear])
    kaufman = (towards.conj().T @ full[n:, n:] @ towards - cross.conj().T @ back @ cross).real
    return _Parts(
        coef,
        jnp.maximum(squares, 0.0),
        -(towards.conj().T @ u).real,
        kaufman + (bent.conj().T @ back @ bent).real,
        kaufman,
        gram,
        cross,
    )


def _conj(a: Sequence[Array]) -> list[Array]:
    return [v.conj() for v in a]


def _coefficients(phi: Array, target: Array, weights: Array, real: bool) -> Inexact[Array, " n"]:
    """The coefficients alone, for these weights."""
    n = phi.shape[1]
    a = [jnp.where(weights > 0, phi[:, i] * weights, 0.0) for i in range(n)]
    b = jnp.where(weights > 0, target * weights, 0.0)
    if n > UNROLLED:
        whole = jnp.stack(a, axis=1)
        if real:
            whole, b = (jnp.concatenate([v.real, v.imag]) for v in (whole, b))
        return inverse(whole.conj().T @ whole)[0] @ (whole.conj().T @ b)
    pairs = [(i, j) for i in range(n) for j in range(i + 1)]
    sums = products([(a[i], a[j]) for i, j in pairs] + [(v, b) for v in a], real)
    full = [[sums[0]] * n for _ in range(n)]
    for (i, j), value in zip(pairs, sums, strict=False):
        full[i][j], full[j][i] = value, value.conj()
    return jnp.stack(solved(cholesky(full), sums[len(pairs) :]))


def _model(phi: Array, coef: Array, offset: Array | None) -> Array:
    model = sum((phi[:, i] * coef[i] for i in range(phi.shape[1])), jnp.zeros((), phi.dtype))
    return model if offset is None else model + offset


def _derivatives(
    columns: Assembled, alpha: Float[Array, " p"], offset: bool
) -> tuple[Inexact[Array, "m d"], tuple[int, ...], tuple[int, ...]]:
    """Derivatives of columns by coordinates that are not zero, with the number of the column (-1 for
    the offset) and of the coordinate."""
    p, n = alpha.size, len(columns.model.columns)
    table = columns.table(alpha)
    if table is not None:
        values, column, coordinate = table
    elif p:
        tangents = jax.jacfwd(columns.phi)(alpha)
        values = tangents.reshape(tangents.shape[0], n * p)
        column, coordinate = np.repeat(np.arange(n), p), np.tile(np.arange(p), n)
    else:
        values = jnp.zeros((columns.phi(alpha).shape[0], 0), alpha.dtype)
        column = coordinate = np.zeros(0, int)
    if offset and p:
        values = jnp.concatenate([values, jax.jacfwd(columns.offset)(alpha)], axis=1)
        column = np.concatenate([column, np.full(p, -1)])
        coordinate = np.concatenate([coordinate, np.arange(p)])
    return values, tuple(column.tolist()), tuple(coordinate.tolist())


def _matrix(rows: Sequence[Sequence[Array]], n: int, p: int, dtype: jnp.dtype) -> Array:
    return jnp.stack([jnp.stack(list(r)) for r in rows]) if n and p else jnp.zeros((n, p), dtype)
