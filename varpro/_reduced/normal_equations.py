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

Coefficients that follow others are a product with what is sought: Phi is then that of the sought ones,
while derivatives stay those of all columns. Penalties are rows of Phi without data. A coefficient on
its bound does not move, so that its column is a known term: its row and column of G are those of the
unit matrix.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from .._errors import REAL_DATA, InputError
from .._places import summed_at, taken
from .._problem.columns import Assembled
from .._problem.linear_constraints import Linear
from .._problem.noise import NORMAL, AbstractNoise
from .._types import ArrayIn
from ..linalg._active_set import all_sets, bounded_solve
from ..linalg._bounded_normal import bounded_normal
from ..linalg._cholesky import cholesky, dot, inverse, inverse_root, products, solved, squared

# Columns and coordinates up to which products are unrolled.
UNROLLED = 8


class Curve(NamedTuple):
    """One problem, or many with a first axis: data (m,), about one in size; weights (m,); the number
    by which the data were divided; what divides a prior's residual, for it has the data's unit; and
    bounds of parameters (p,) and, in the unit of the data, of coefficients that are sought (n,); and
    positions (m,) of its own. Of weights, bounds and positions there may be none."""

    y: Inexact[ArrayIn, "*b m"]
    weights: Float[ArrayIn, "*b m"] | None
    unit: Float[ArrayIn, "*b"]
    lower: Float[ArrayIn, "*b p"] | None
    upper: Float[ArrayIn, "*b p"] | None
    coef_lower: Float[ArrayIn, "*b n"] | None = None
    coef_upper: Float[ArrayIn, "*b n"] | None = None
    x: Float[ArrayIn, "*b m"] | None = None

    def placed(self, columns: Assembled) -> Assembled:
        """The columns at the positions of this curve."""
        return columns if self.x is None else dataclasses.replace(columns, x=jnp.asarray(self.x))

    def common(self) -> dict[str, ArrayIn]:
        """Of many problems the rows that all have in common, by name."""
        rows = ("weights", "lower", "upper", "coef_lower", "coef_upper")
        return {k: a for k in rows if (a := getattr(self, k)) is not None and a.ndim == 1}

    def coef_box(self) -> tuple[Array, Array] | None:
        """Bounds of coefficients for the data as they are searched."""
        if self.coef_lower is None or self.coef_upper is None:
            return None
        return jnp.asarray(self.coef_lower) / self.unit, jnp.asarray(self.coef_upper) / self.unit


class PreviousWeights(NamedTuple):
    """What weights that follow the model begin with: the last model and its coefficients; whether to
    make new ones yet; and how far to go to the coefficients that they give. Where the curvature is
    more than twice what is expected, as near a mean of no counts, whole ways overshoot for ever."""

    model: Inexact[Array, " m"]
    coef: Inexact[Array, " n"]
    scoring: Bool[Array, ""]
    share: Float[Array, ""]


class Moments(NamedTuple):
    """What is known at one alpha: coefficients that are sought, the cost, its gradient, J^T J with and
    without the last term, G and Phi^T F; the model (m,) where weights follow it; how far, relative to the
    cost, the last weights moved the coefficients; and which of these are off their bounds. A prior
    and a penalty are in all but the residual's squares."""

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
    free: Bool[Array, " n"]


def moments(
    columns: Assembled,
    alpha: Float[Array, " p"],
    curve: Curve,
    noise: AbstractNoise = NORMAL,
    before: PreviousWeights | None = None,
    held: Inexact[Array, " n"] | None = None,
) -> Moments:
    """All that one alpha tells of one curve; `before` is where weights that follow the model come
    from, and `held` are coefficients to take in place of those of least squares."""
    columns = curve.placed(columns)
    linear, box = columns.linear, curve.coef_box()
    phi, offset = sought_columns(columns, alpha)
    partials, column, coordinate = _derivatives(columns, alpha, bool(columns.model.offsets))
    y, weights = jnp.asarray(curve.y), curve.weights
    if jnp.iscomplexobj(phi) and not jnp.iscomplexobj(y):
        raise InputError(REAL_DATA)
    # Real columns may meet complex data.
    phi, partials = (v.astype(jnp.result_type(v, y)) for v in (phi, partials))
    drift, guess, given = jnp.zeros((), alpha.dtype), None, weights
    if noise.follows_model:
        given = jnp.ones_like(y).real if weights is None else jnp.asarray(weights)
        assert before is not None
        old = noise.weights(before.model, y, given, curve.unit)
        guess = _coefficients(phi, y if offset is None else y - offset, old, linear, box)
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
    if linear.rows is not None:
        a, target = _penalised(a, target, linear)
    narrow = max(n, p) <= UNROLLED and len(columns.model.columns) <= UNROLLED
    made = _unrolled if narrow else _by_matrices
    parts = made(a, target, (column, coordinate, p), linear, (box, guess, held))
    coef, squares, gradient = parts.coef, parts.squares, parts.gradient
    cost, model = 0.5 * squares, jnp.zeros((0,), y.dtype)
    taken = _penalty(linear, coef)
    squares = squares if taken is None else jnp.maximum(squares - taken, 0.0)
    if guess is not None and given is not None and before is not None:
        step = coef - guess
        coef = jnp.where(before.scoring, guess + before.share * step, coef)
        model = _model(phi, coef, offset)
        own = noise.cost(model, y, given, curve.unit)
        taken = _penalty(linear, coef)
        own = own if taken is None else own + 0.5 * taken
        cost = jnp.where(before.scoring, own, cost)
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
        parts.free,
    )


def frozen_weights(
    columns: Assembled, alpha: Float[Array, " p"], coef: Inexact[Array, " n"]
) -> PreviousWeights:
    """Weights as this alpha and these coefficients make them, which stay as they are."""
    phi, offset = sought_columns(columns, alpha)
    model = _model(phi, coef, offset)
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
    free: Bool[Array, " n"]


# Of each derivative its column among all and its coordinate, and how many coordinates there are.
_Places = tuple[tuple[int, ...], tuple[int, ...], int]
# Bounds of coefficients, coefficients that tell which are on them, and those to take as they are.
_Given = tuple[tuple[Array, Array] | None, Array | None, Array | None]


def _unrolled(
    a: Sequence[Array],
    target: Inexact[Array, " m"],
    places: _Places,
    linear: Linear,
    given: _Given,
) -> _Parts:
    """Number by number: what XLA fuses best, as long as the numbers are few."""
    (column, coordinate, p), (box, known, held), real = places, given, linear.real
    known = known if held is None else held
    d, dtype = len(column), target.real.dtype if real else target.dtype
    n = len(a) - d
    pairs = [(i, j) for i in range(n + d) for j in range(i + 1)]
    sums = products([(a[i], a[j]) for i, j in pairs] + [(a[i], target) for i in range(n)], real)
    full = [[jnp.zeros((), dtype)] * (n + d) for _ in range(n + d)]
    for (i, j), value in zip(pairs, sums, strict=False):
        full[i][j], full[j][i] = value, value.conj()
    gram = [row[:n] for row in full[:n]]
    right, off = list(sums[len(pairs) :]), [jnp.ones((), bool)] * n
    if box is not None and n:
        ends = [list(end.astype(dtype)) for end in box]
        coef, off = _in_box(gram, right, *ends, linear, known, a[:n], target)
        gram = _without_held(gram, off)
    factor = cholesky(gram)

    def inverse_of(b: Sequence[Array]) -> list[Array]:
        if box is not None:
            b = [jnp.where(one, v, 0.0) for one, v in zip(off, b, strict=True)]
        return solved(factor, b)

    if box is None:
        coef = inverse_of(right)
    resid = target
    for v, c in zip(a[:n], coef, strict=True):
        resid = resid - v * c
    sums = products([(resid, resid)] + [(v, resid) for v in a], real)
    change = inverse_of(sums[1 : n + 1])
    squares = sums[0] - jnp.real(dot(_conj(sums[1 : n + 1]), change))
    coef = [c + e for c, e in zip(coef, change, strict=True)]
    if box is not None and n:
        coef = [jnp.clip(c, *pair) for c, pair in zip(coef, zip(*ends, strict=True), strict=True)]
    coef = coef if held is None else [held[i] for i in range(n)]
    u = [
        value - dot([full[n + j][i] for i in range(n)], change)
        for j, value in enumerate(sums[n + 1 :])
    ]
    # From derivatives of columns to derivatives by coordinates, coefficients held; an offset has one.
    every = coef if linear.mix is None else list(linear.all_of(jnp.stack(coef)))
    size = [every[c] if c >= 0 else jnp.ones((), dtype) for c in column]
    of = [[i for i in range(d) if coordinate[i] == j] for j in range(p)]
    zero = jnp.zeros((), dtype)
    cross = [
        [sum((full[i][n + k] * size[k] for k in of[j]), zero) for j in range(p)] for i in range(n)
    ]
    gathered = [
        [sum((u[k] for k in of[j] if column[k] == i), zero) for j in range(p)]
        for i in range(len(every))
    ]
    if linear.mix is not None:
        # Of what is sought, through that which follows it.
        mix = jnp.asarray(linear.mix)
        gathered = [
            [sum((mix[i, q] * row[j] for i, row in enumerate(gathered)), zero) for j in range(p)]
            for q in range(n)
        ]
    if box is not None:
        cross = [
            [jnp.where(one, v, zero) for v in row] for one, row in zip(off, cross, strict=True)
        ]
    plain, bent = [], []
    for j in range(p):
        towards = inverse_of([row[j] for row in cross])
        back = inverse_of([row[j] for row in gathered])
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
        _matrix(gram, n, n, dtype),
        _matrix(cross, n, p, dtype),
        jnp.stack(off) if n else jnp.zeros((0,), bool),
    )


def _in_box(
    gram: Sequence[Sequence[Array]],
    right: Sequence[Array],
    lower: Sequence[Array],
    upper: Sequence[Array],
    linear: Linear,
    known: Array | None,
    columns: Sequence[Array],
    target: Array,
) -> tuple[list[Array], list[Array]]:
    """Coefficients in their box, and which are off their bounds; `known` are coefficients that tell it."""
    n = len(right)
    if known is not None:
        off = [(known[i] > lower[i]) & (known[i] < upper[i]) for i in range(n)]
        fixed = [jnp.where(off[i], 0.0, known[i]) for i in range(n)]
        rest = [jnp.where(off[i], right[i] - dot(gram[i], fixed), 0.0) for i in range(n)]
        found = solved(cholesky(_without_held(gram, off)), rest)
        return [jnp.where(*three) for three in zip(off, found, fixed, strict=True)], off
    if all_sets(linear.sides) is not None:
        return bounded_normal(gram, right, lower, upper, linear.sides)
    whole, t = jnp.stack(columns, axis=1), target
    if jnp.iscomplexobj(whole):  # coefficients with bounds are real
        whole, t = (jnp.concatenate([v.real, v.imag]) for v in (whole, target))
    scale = jnp.stack([inverse_root(gram[i][i].real) for i in range(n)])
    q, r = jnp.linalg.qr(whole * scale)
    ends = [jnp.stack(list(end)) / jnp.where(scale > 0, scale, 1.0) for end in (lower, upper)]
    c, off = bounded_solve(
        r[:, :, None], (q.T @ t)[:, None], *(end[:, None] for end in ends), linear.sides
    )
    return list(c[:, 0] * scale), list(off[:, 0])


def _without_held(gram: Sequence[Sequence[Array]], off: Sequence[Array]) -> list[list[Array]]:
    """G, with rows and columns of the unit matrix for coefficients on their bounds."""
    n = len(off)
    return [
        [
            jnp.where(off[i], gram[i][i], 1.0)
            if i == j
            else jnp.where(off[i] & off[j], gram[i][j], 0.0)
            for j in range(n)
        ]
        for i in range(n)
    ]


def _by_matrices(
    a: Sequence[Array],
    target: Inexact[Array, " m"],
    places: _Places,
    linear: Linear,
    given: _Given,
) -> _Parts:
    """The normal equations of many columns or coordinates."""
    (column, coordinate, p), (box, known, held), real = places, given, linear.real
    known = known if held is None else held
    n = len(a) - len(column)
    whole = jnp.stack(list(a), axis=1)
    if real:
        whole, target = (jnp.concatenate([v.real, v.imag]) for v in (whole, target))
    full = whole.conj().T @ whole
    gram, off = full[:n, :n], jnp.ones((n,), bool)
    right = whole[:, :n].conj().T @ target
    if box is not None:
        rows = [[gram[i, j] for j in range(n)] for i in range(n)]
        ends = (list(end.astype(right.dtype)) for end in box)
        found, chosen = _in_box(
            rows, list(right), *ends, linear, known, [whole[:, i] for i in range(n)], target
        )
        start, off = jnp.stack(found), jnp.stack(chosen)
        gram = jnp.where(off[:, None] & off, gram, jnp.eye(n, dtype=gram.dtype))
    back, _ = inverse(gram)
    # What is on its bound stays there.
    back = jnp.where(off[:, None] & off, back, 0.0)
    coef = back @ right if box is None else start
    resid = target - whole[:, :n] @ coef
    e = whole.conj().T @ resid
    change = back @ e[:n]
    squares = (resid.conj() @ resid - e[:n].conj() @ change).real
    coef, u = coef + change, e[n:] - full[n:, :n] @ change
    coef = coef if box is None else jnp.clip(coef, *box)
    coef = coef if held is None else held
    every = linear.all_of(coef)
    of, where = np.array(column, int), np.array(coordinate, int)
    # One where a derivative is one by this coordinate; an offset has no column.
    chosen = jnp.asarray(np.eye(p)[where], target.dtype).reshape(len(of), p)
    size = jnp.where(of >= 0, every[np.maximum(of, 0)], 1.0)
    towards = size[:, None] * chosen
    cross = jnp.where(off[:, None], full[:n, n:] @ towards, 0.0)
    own = of >= 0
    bent = summed_at(taken(u, np.flatnonzero(own)), of[own] * p + where[own], every.size * p)
    bent = bent.reshape(every.size, p)
    bent = bent if linear.mix is None else jnp.asarray(linear.mix).T @ bent
    kaufman = (towards.conj().T @ full[n:, n:] @ towards - cross.conj().T @ back @ cross).real
    return _Parts(
        coef,
        jnp.maximum(squares, 0.0),
        -(towards.conj().T @ u).real,
        kaufman + (bent.conj().T @ back @ bent).real,
        kaufman,
        gram,
        cross,
        off,
    )


def _conj(a: Sequence[Array]) -> list[Array]:
    return [v.conj() for v in a]


def sought_columns(columns: Assembled, alpha: Array) -> tuple[Inexact[Array, "m n"], Array | None]:
    """The columns of coefficients that are sought, and what the model adds to them, or None."""
    phi, offset, linear = columns.phi(alpha), columns.offset(alpha), columns.linear
    if linear.constant is not None:
        held = phi @ linear.constant.astype(phi.dtype)
        offset = held if offset is None else held + offset
    return phi if linear.mix is None else phi @ jnp.asarray(linear.mix).astype(phi.dtype), offset


def _penalised(
    a: Sequence[Array], target: Array, linear: Linear
) -> tuple[list[Array], Inexact[Array, " M"]]:
    """Columns, their derivatives and data with the rows of a penalty, in which the data are zero."""
    rows = jnp.asarray(linear.rows)
    count, n = rows.shape
    more = [rows[:, i] if i < n else jnp.zeros((count,)) for i in range(len(a))]
    longer = [jnp.concatenate([v, e.astype(v.dtype)]) for v, e in zip(a, more, strict=True)]
    return longer, jnp.concatenate([target, jnp.zeros((count,), target.dtype)])


def _penalty(linear: Linear, coef: Array) -> Float[Array, ""] | None:
    """The squares of the penalty, or None without one."""
    return None if linear.rows is None else jnp.sum(squared(jnp.asarray(linear.rows) @ coef))


def _coefficients(
    phi: Array, target: Array, weights: Array, linear: Linear, box: tuple[Array, Array] | None
) -> Inexact[Array, " n"]:
    """The coefficients alone, for these weights."""
    n, real = phi.shape[1], linear.real
    a = [jnp.where(weights > 0, phi[:, i] * weights, 0.0) for i in range(n)]
    b = jnp.where(weights > 0, target * weights, 0.0)
    if linear.rows is not None:
        a, b = _penalised(a, b, linear)
    if n > UNROLLED and box is None:
        whole = jnp.stack(a, axis=1)
        if real:
            whole, b = (jnp.concatenate([v.real, v.imag]) for v in (whole, b))
        return inverse(whole.conj().T @ whole)[0] @ (whole.conj().T @ b)
    pairs = [(i, j) for i in range(n) for j in range(i + 1)]
    sums = products([(a[i], a[j]) for i, j in pairs] + [(v, b) for v in a], real)
    full = [[sums[0]] * n for _ in range(n)]
    for (i, j), value in zip(pairs, sums, strict=False):
        full[i][j], full[j][i] = value, value.conj()
    right = list(sums[len(pairs) :])
    if box is None:
        return jnp.stack(solved(cholesky(full), right))
    ends = (list(end.astype(right[0].dtype)) for end in box)
    return jnp.stack(_in_box(full, right, *ends, linear, None, a, b)[0])


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
