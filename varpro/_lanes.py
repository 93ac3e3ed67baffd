"""Many small fits of one model, each with data and nonlinear parameters of its own.

Lanes are searched side by side, and a lane that is done takes the next waiting problem, so that one
slow curve holds nobody. A lane never calls LAPACK: with n columns and d of their derivatives D,
everything that a step needs follows from two passes over the samples,

    G = Phi^T Phi,  P = Phi^T D,  H = D^T D,  b = Phi^T y                    c = G^{-1} b
    r = y - Phi c,  e = Phi^T r,  u = D^T r,  r^T r                          c += G^{-1} e

where the second repairs what the squared condition of G cost, with r formed and not a difference of
squares. With F the derivative of Phi c at constant c, and U gathering u by column and coordinate,

    gradient = -F^T r,    J^T J = F^T F - (Phi^T F)^T G^{-1} (Phi^T F) + U^T G^{-1} U

is the full matrix of Golub and Pereyra (1973); its last term, which Kaufman drops, is for nothing
here. Each pass is one reduction over all products, which XLA turns into one loop.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ._problem import Assembled
from ._types import ArrayIn

# Columns and coordinates for which products are unrolled; beyond, one curve is fitted after another.
MOST = 8

# How a lane ended, in the order of `STATUS`.
STATUS = ("running", "successful", "floor", "stuck", "nonfinite", "nonlinear_max_steps_reached")
RUNNING, CONVERGED, FLOOR, STUCK, NONFINITE, MAX_STEPS = range(6)


class Limits(eqx.Module):
    """Where and how long to search, the same for all lanes: `lower` and `upper` (p,) or None,
    `ftol` the reduction of the cost that a Gauss-Newton step may still promise, relative."""

    lower: Float[ArrayIn, " p"] | None
    upper: Float[ArrayIn, " p"] | None
    ftol: Float[ArrayIn, ""]
    max_steps: Int[ArrayIn, ""]


class Moments(NamedTuple):
    """What is known at one theta: coefficients, `1/2 r^T r`, its gradient, J^T J with and without
    the last term, G and Phi^T F; and the model (m,) where weights follow it."""

    coef: Float[Array, " n"]
    cost: Float[Array, ""]
    gradient: Float[Array, " p"]
    full: Float[Array, "p p"]
    kaufman: Float[Array, "p p"]
    gram: Float[Array, "n n"]
    cross: Float[Array, "n p"]
    model: Float[Array, " _"]


class _State(NamedTuple):
    theta: Float[Array, " p"]
    trial: Float[Array, " p"]
    at: Moments
    scale: Float[Array, " p"]  # largest diagonal of J^T J so far
    damping: Float[Array, ""]
    growth: Float[Array, ""]
    predicted: Float[Array, ""]
    steps: Int[Array, ""]
    bad: Int[Array, ""]
    status: Int[Array, ""]


def moments(
    columns: Assembled,
    theta: Float[Array, " p"],
    y: Float[Array, " m"],
    weights: Float[Array, " m"] | None,
    keep_model: bool = False,
) -> Moments:
    """All that one theta tells of one curve."""
    phi, offset = columns.phi(theta), columns.offset(theta)
    partials, column, coordinate = _derivatives(columns, theta, offset is not None)
    if offset is not None:
        y = y - offset
    n, d, p = phi.shape[1], len(column), theta.size
    a = [phi[:, i] for i in range(n)] + [partials[:, i] for i in range(d)]
    if weights is not None:
        # A sample of weight zero may hold anything, even NaN.
        a = [jnp.where(weights > 0, v * weights, 0.0) for v in a]
        y = jnp.where(weights > 0, y * weights, 0.0)
    pairs = [(i, j) for i in range(n + d) for j in range(i + 1)]
    sums = _products([(a[i], a[j]) for i, j in pairs] + [(a[i], y) for i in range(n)])
    full = [[jnp.zeros((), y.dtype)] * (n + d) for _ in range(n + d)]
    for (i, j), value in zip(pairs, sums, strict=False):
        full[i][j] = full[j][i] = value
    factor = _cholesky([row[:n] for row in full[:n]])
    coef = _solved(factor, sums[len(pairs) :])
    resid = y
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
    size = [coef[c] if c >= 0 else jnp.ones((), y.dtype) for c in column]
    of = [[i for i in range(d) if coordinate[i] == j] for j in range(p)]
    zero = jnp.zeros((), y.dtype)
    cross = [
        [sum((full[i][n + k] * size[k] for k in of[j]), zero) for j in range(p)] for i in range(n)
    ]
    gather = [
        [sum((u[k] for k in of[j] if column[k] == i), zero) for j in range(p)] for i in range(n)
    ]
    plain, bent = [], []
    for j in range(p):
        towards = _solved(factor, [row[j] for row in cross])
        back = _solved(factor, [row[j] for row in gather])
        line, more = [], []
        for i in range(p):
            inner = sum(
                (full[n + k][n + q] * size[k] * size[q] for k in of[i] for q in of[j]), zero
            )
            line.append(inner - _dot([row[i] for row in cross], towards))
            more.append(_dot([row[i] for row in gather], back))
        plain.append(line)
        bent.append([a + b for a, b in zip(line, more, strict=True)])
    gradient = [-sum((u[k] * size[k] for k in of[j]), zero) for j in range(p)]
    return Moments(
        jnp.stack(coef),
        0.5 * jnp.maximum(squares, 0.0),
        jnp.stack(gradient) if p else jnp.zeros((0,), y.dtype),
        _matrix(bent, p, p, y.dtype),
        _matrix(plain, p, p, y.dtype),
        _matrix([row[:n] for row in full[:n]], n, n, y.dtype),
        _matrix(cross, n, p, y.dtype),
        _model(phi, coef, offset) if keep_model else jnp.zeros((0,), y.dtype),
    )


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


def _dot(a: Sequence[Array], b: Sequence[Array]) -> Array | float:
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
    unit = [_inverse_root(a[i][i]) for i in range(n)]
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


def _inverse_root(a: Array) -> Array:
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


def _solve_matrix(a: Float[Array, "p p"], b: Float[Array, " p"]) -> Float[Array, " p"]:
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


def _fresh(theta: Float[Array, " p"], n: int, m: int) -> _State:
    p, dtype = theta.size, theta.dtype
    zero, count = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    vector, square = jnp.zeros((p,), dtype), jnp.zeros((p, p), dtype)
    at = Moments(
        jnp.zeros((n,), dtype),
        jnp.full((), jnp.inf, dtype),
        vector,
        square,
        square,
        jnp.zeros((n, n), dtype),
        jnp.zeros((n, p), dtype),
        jnp.zeros((m,), dtype),
    )
    damping, growth = jnp.full((), 1.0, dtype), jnp.full((), 2.0, dtype)
    return _State(theta, theta, at, vector, damping, growth, zero, count, count, count)


def _step(
    columns: Assembled,
    limits: Limits,
    state: _State,
    y: Float[Array, " m"],
    weights: Float[Array, " m"] | None,
) -> _State:
    """One trial point judged and the next one chosen: Levenberg-Marquardt with More's scaling and
    the damping of Nielsen (1999)."""
    eps = float(jnp.finfo(y.dtype).eps)
    first = state.steps == 0
    new = moments(columns, state.trial, y, weights, state.at.model.size > 0)
    sound = (
        jnp.isfinite(new.cost) & jnp.all(jnp.isfinite(new.full)) & jnp.all(jnp.isfinite(new.coef))
    )
    actual = state.at.cost - new.cost
    ratio = jnp.where(state.predicted > 0, actual / state.predicted, -1.0)
    ratio = jnp.where(first, 1.0, ratio)
    # Close to the optimum rounding decides which cost is lower; the gradient still knows.
    grain = 64 * eps * jnp.maximum(state.at.cost, eps * 0.5 * jnp.sum(y * y))
    promise = _promise(new, state.trial, limits, state.scale)
    close = ~first & (jnp.abs(actual) <= grain)
    close = close & (promise <= 0.5 * _promise(state.at, state.theta, limits, state.scale))
    accepted = sound & (first | (ratio > 1e-4) | close)
    at = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, state.at)
    theta = jnp.where(accepted, state.trial, state.theta)
    damping = jnp.where(
        accepted,
        state.damping * jnp.where(first, 1.0, jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)),
        state.damping * state.growth,
    )
    damping = jnp.maximum(damping, eps)
    growth = jnp.where(accepted, 2.0, 2 * state.growth)
    bad = jnp.where(sound, 0, state.bad + 1)
    diagonal = jnp.diagonal(at.full)
    scale = jnp.maximum(state.scale, jnp.where(accepted, diagonal, state.scale))
    free = _free(theta, at.gradient, limits)
    trial, predicted = _trial(theta, at, scale, damping, free, limits)
    # The cost that a full step from here still promises to remove, relative.
    promise = _promise(at, theta, limits, scale)
    # Where a step is lost in the rounding of theta nothing more can be had.
    still = jnp.all(jnp.abs(trial - theta) <= eps * jnp.abs(theta))
    tiny = at.cost <= (eps**2) * jnp.sum(y * y)
    cosine = jnp.max(
        jnp.where(free, jnp.abs(at.gradient), 0.0) * _inverse_root(diagonal), initial=0.0
    ) * _inverse_root(2 * at.cost)
    status = jnp.full((), RUNNING, jnp.int32)
    for test, code in (
        (state.steps + 1 >= limits.max_steps, MAX_STEPS),
        ((still | (damping > 1 / eps)) & (cosine > eps**0.4), STUCK),
        ((still | (damping > 1 / eps)) & (cosine <= eps**0.4), FLOOR),
        ((promise <= limits.ftol) | tiny, CONVERGED),
        ((first & ~sound) | (bad >= 20), NONFINITE),
    ):
        status = jnp.where(test, code, status)
    return _State(theta, trial, at, scale, damping, growth, predicted, state.steps + 1, bad, status)


def _free(theta, gradient, limits: Limits) -> Array:
    if limits.lower is None or limits.upper is None:
        return jnp.ones(theta.shape, bool)
    outward = (theta <= limits.lower) & (gradient > 0) | (theta >= limits.upper) & (gradient < 0)
    return ~(outward | (limits.lower == limits.upper))


def _masked(matrix: Array, free: Array) -> Array:
    both = free[:, None] & free
    return jnp.where(both, matrix, jnp.where(jnp.eye(free.size, dtype=bool), 1.0, 0.0))


def _promise(at: Moments, theta: Array, limits: Limits, scale: Array) -> Array:
    """What a Gauss-Newton step removes of the cost, relative to it."""
    free = _free(theta, at.gradient, limits)
    slope = jnp.where(free, at.gradient, 0.0)
    # The matrix without the last term is the curvature of what the step can predict.
    step = _solve_matrix(_masked(at.full, free), slope)
    return 0.5 * jnp.sum(slope * step) / jnp.where(at.cost > 0, at.cost, 1.0)


def _trial(theta, at: Moments, scale, damping, free, limits: Limits) -> tuple[Array, Array]:
    """The damped step, kept inside the bounds, and the reduction that it predicts."""
    damped = at.full + jnp.diag(jnp.where(scale > 0, scale, 1.0) * damping)

    def least(free, slope):
        step = _solve_matrix(_masked(damped, free), jnp.where(free, slope, 0.0))
        return jnp.where(free, -step, 0.0)

    step = least(free, at.gradient)
    if limits.lower is not None and limits.upper is not None:
        # What would leave the box goes to its bound, and the rest is minimised anew.
        inside = jnp.clip(theta + step, limits.lower, limits.upper)
        out = free & (inside != theta + step)
        walked = jnp.where(out, inside - theta, 0.0)
        step = walked + least(free & ~out, at.gradient + damped @ walked)
        step = jnp.clip(theta + step, limits.lower, limits.upper) - theta
    predicted = -(jnp.sum(at.gradient * step) + 0.5 * jnp.sum(step * (at.full @ step)))
    return theta + step, predicted


class Found(NamedTuple):
    """Where the searches of b problems ended, and with which coefficients."""

    theta: Float[Array, "b p"]
    coef: Float[Array, "b n"]
    status: Int[Array, " b"]
    steps: Int[Array, " b"]


# Gives the weights (m,) of one curve from its model, its data, the weights that were given, and the
# number by which model and data were divided.
Reweight = Callable[[Array, Array, Array, Array], Array]
# Rounds of new weights, far beyond what they need.
_ROUNDS = 30


def search_lanes(
    columns: Assembled,
    y: Float[Array, "b m"],
    weights: Float[Array, "*b m"] | None,
    unit: Float[Array, " b"],
    start: Float[Array, "b p"],
    limits: Limits,
    lanes: int,
    reweight: Reweight | None = None,
) -> Found:
    """The optimum of every problem. Rows of `y` should be about one in size.

    `weights` are one row for all or one for each; `unit` are numbers that only `reweight` sees. With `reweight` they are made anew from the model
    each time a search ends, until it ends where it began: iteratively reweighted least squares.
    """
    b, m = y.shape
    n = len(columns.model.columns)
    own = (weights is not None and weights.ndim == 2) or reweight is not None
    given = jnp.ones((m,), y.dtype) if weights is None else jnp.asarray(weights)
    fresh = jax.vmap(lambda theta: _fresh(theta, n, 0 if reweight is None else m))

    def pick(a, index):
        return a[jnp.minimum(index, b - 1)]

    def first_weights(index):
        if not own:
            return jnp.zeros((lanes, 0), y.dtype)
        return pick(given, index) if given.ndim == 2 else jnp.broadcast_to(given, (lanes, m))

    def step(state, y, w):
        shared = None if own else weights
        one = lambda s, y, w: _step(columns, limits, s, y, w if own else shared)  # noqa: E731
        return jax.vmap(one)(state, y, w)

    def renewed(state, rows, w, index, rounds):
        """Lanes whose search ended, begun again where it did with the weights found there."""
        ended = ((state.status == CONVERGED) | (state.status == FLOOR)) & (index < b)
        again = ended & (rounds < _ROUNDS) & ((state.steps > 1) | (rounds == 0))

        def begin():
            assert reweight is not None
            found = jax.vmap(reweight)(
                state.at.model, rows, first_weights(index), pick(unit, index)
            )
            begun = fresh(state.theta)._replace(damping=jnp.minimum(state.damping, 1e-3))
            new = begun, found
            return jax.tree.map(lambda a, b: _lanewise(again, a, b), new, (state, w))

        state, w = jax.lax.cond(jnp.any(again), begin, lambda: (state, w))
        return state, w, rounds + again

    def body(carry):
        state, index, following, rows, w, rounds, steps, out = carry
        state = step(state, rows, w)
        steps = steps + 1
        if reweight is not None:
            state, w, rounds = renewed(state, rows, w, index, rounds)
        done = (state.status != RUNNING) & (index < b)
        # A lane that is not done writes nowhere, and takes no new problem.
        at = jnp.where(done, index, b)
        out = Found(
            out.theta.at[at].set(state.theta, mode="drop"),
            out.coef.at[at].set(state.at.coef, mode="drop"),
            out.status.at[at].set(state.status, mode="drop"),
            out.steps.at[at].set(steps, mode="drop"),
        )
        index = jnp.where(done, following + jnp.cumsum(done) - 1, index)
        following = following + jnp.sum(done)

        def refilled():
            new = fresh(pick(start, index)), pick(y, index), first_weights(index)
            return jax.tree.map(lambda a, b: _lanewise(done, a, b), new, (state, rows, w))

        state, rows, w = jax.lax.cond(jnp.any(done), refilled, lambda: (state, rows, w))
        rounds, steps = jnp.where(done, 0, rounds), jnp.where(done, 0, steps)
        return state, index, following, rows, w, rounds, steps, out

    index, count = jnp.arange(lanes), jnp.zeros((lanes,), jnp.int32)
    out = Found(
        jnp.zeros(start.shape, start.dtype),
        jnp.zeros((b, n), y.dtype),
        jnp.zeros((b,), jnp.int32),
        jnp.zeros((b,), jnp.int32),
    )
    state, rows, w = fresh(pick(start, index)), pick(y, index), first_weights(index)
    carry = (state, index, jnp.array(lanes), rows, w, count, count, out)
    return jax.lax.while_loop(lambda c: jnp.any(c[1] < b), body, carry)[-1]


def _lanewise(which: Bool[Array, " l"], new: Array, old: Array) -> Array:
    return jnp.where(which.reshape(-1, *([1] * (old.ndim - 1))), new, old)
