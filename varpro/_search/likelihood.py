"""The minimum of a noise model's own cost, over parameters and coefficients together.

Least squares whose weights follow the model leads near it; from there on all theta = (alpha, c) move
at once. With s_i the derivative of the cost by the model at sample i and J that of the model by theta,

    gradient = Re J^H s,        H = Re J^H diag(h) J + sum_i Re s_i^* (d^2 model_i / d theta^2)

where h is the curvature of the cost of each sample. Where H is not positive definite, h is not less than
nothing and the last term left out. That term is what tells of few counts how long a step has to be: without
it the curvature is half of what it is, or twice. So every answer is a point at which the cost, and not
a surrogate, is stationary.

Counts keep their means above zero as in an interior-point method: where nothing was counted, a share
`slack` of the mean count was, which is made smaller as the search goes on. Of a fit without a free
parameter the problem is convex, and this is Newton's method on a self-concordant function (Boyd and
Vandenberghe, Convex Optimization, 2004, 9.6 and 11.3). For a complex residual the curvature is h along
it and w^2 across, with w the weight.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from .._problem.columns import AbstractColumns
from .._problem.linear_constraints import Linear
from .._problem.noise import AbstractNoise
from .._types import ArrayIn
from ..linalg._cholesky import solve
from .newton import Point, Slacks, curvature, minimum, newton_step, off_bounds

# Steps of the coefficients alone after each step of all parameters.
_NEARER = 2


class Sample(eqx.Module):
    """One right-hand side and how it scatters: data (m,), given weights (m,), the number by which data
    and model were divided, and the noise model."""

    y: Inexact[ArrayIn, " m"]
    given: Float[ArrayIn, " m"]
    unit: Float[ArrayIn, ""]
    noise: AbstractNoise


class Box(NamedTuple):
    """Bounds of alpha (p,) and of the coefficients that are sought (n,); None where there are none."""

    lower: Float[ArrayIn, " p"] | None = None
    upper: Float[ArrayIn, " p"] | None = None
    coef_lower: Float[ArrayIn, " n"] | None = None
    coef_upper: Float[ArrayIn, " n"] | None = None


class Likeliest(NamedTuple):
    """Where the cost is least: parameters, coefficients that are sought, the cost with priors and
    penalties, the sum of what it is made of without signs, whether it is stationary there, and how many
    trial points there were."""

    alpha: Float[Array, " p"]
    coef: Inexact[Array, " n"]
    cost: Float[Array, ""]
    size: Float[Array, ""]
    converged: Bool[Array, ""]
    steps: Int[Array, ""]


class Derivatives(NamedTuple):
    """The cost at theta = (alpha, c), real and imaginary parts one after the other, and its derivatives:
    `sure` is the part of the second that is never less than nothing, `whole` all of it. `scale`, `size` as in
    `newton.Point`; `least` as in `noise.Pointwise`; the model (m,) and its derivative (m, t)."""

    cost: Float[Array, ""]
    size: Float[Array, ""]
    gradient: Float[Array, " t"]
    sure: Float[Array, "t t"]
    whole: Float[Array, "t t"]
    scale: Float[Array, " t"]
    least: Float[Array, ""]
    model: Inexact[Array, " m"]
    jac: Inexact[Array, "m t"]


def likeliest(
    columns: AbstractColumns,
    linear: Linear,
    sample: Sample,
    box: Box,
    alpha: Float[Array, " p"],
    coef: Inexact[Array, " n"],
    plain: bool = False,
    lanes: bool = False,
    told: Callable[[Array, Array, Array, Array], Bool[Array, ""]] | None = None,
) -> Likeliest:
    """The minimum of the cost that begins near `alpha` and `coef`. `plain`: a few steps of Newton's method
    and nothing else, which converge where the start is near and no mean is in the way to zero; `lanes`: as
    in `newton.minimum`, and so is `told`, which is told of alpha."""
    dtype = alpha.dtype
    p, n, parted = alpha.size, coef.size, jnp.iscomplexobj(coef)
    start = parts_of(alpha, coef)
    lower, upper = _ends(box, p, n, start)
    coef_ends = None if lower is None or upper is None else (lower[p:], upper[p:])
    used, noise = jnp.asarray(sample.given) > 0, sample.noise

    def split(theta):
        c = theta[p : p + n]
        return theta[:p], (jax.lax.complex(c, theta[p + n :]) if parted else c).astype(coef.dtype)

    # Means near zero bend with alpha: where a step of all theta leads to, they are not what it meant.
    bends = bool(noise.slack(dtype)) and p > 0 and linear.rows is None and not parted
    bends = bends and not plain

    def point(theta, slack, _):
        here, c = split(theta)
        if bends:
            c = _nearer(columns, linear, sample, here, c, slack, coef_ends, lanes)
            theta = parts_of(here, c)
        seen = derivatives(columns, linear, sample, here, c, slack)
        free = off_bounds(theta, seen.gradient, lower, upper)
        hessian = curvature(seen.sure, seen.whole, free, lanes)
        at = Point(
            *(theta, seen.cost, seen.size, seen.gradient, hessian, seen.scale, seen.cost, seen.cost)
        )
        step, promise = newton_step(at, lower, upper, 0.0, lanes)
        room = noise.room(seen.model.real, (seen.jac @ step).real, used)
        return at._replace(promise=promise, room=room)

    final = noise.slack(dtype)
    begin = split(start if lower is None else jnp.clip(start, lower, upper))
    first: Array | float = final
    if final and not plain:
        # Where no mean is near zero there is no way to go.
        near = derivatives(columns, linear, sample, *begin, jnp.asarray(final, dtype)).least < 0.1
        first = jnp.where(near, max(1e-2, final), final)
    tell = None
    if told is not None:
        tell = lambda theta, *rest: told(theta[:p], *rest)  # noqa: E731
    found = minimum(
        point, start, lower, upper, slacks=Slacks(first, final), plain=plain, lanes=lanes, told=tell
    )
    at = found.at
    return Likeliest(*split(at.theta), at.cost, at.size, found.converged, found.steps)


def _nearer(
    columns: AbstractColumns,
    linear: Linear,
    sample: Sample,
    alpha: Float[Array, " p"],
    coef: Float[Array, " n"],
    slack: Float[Array, ""],
    ends: tuple[Array, Array] | None,
    lanes: bool,
) -> Float[Array, " n"]:
    """Coefficients of less cost for the same alpha, by some steps of Newton's method: of them alone the
    cost is convex, and every mean is linear. Those on a bound stay there."""
    noise, y, given = sample.noise, jnp.asarray(sample.y), jnp.asarray(sample.given)
    used = given > 0
    phi, offset = columns.phi(alpha), columns.offset(alpha)
    by_coef = jnp.where(used[:, None], phi if linear.mix is None else phi @ linear.mix, 0.0)
    model = phi @ linear.all_of(coef)
    model = jnp.where(used, model if offset is None else model + offset, 0.0)

    def look(model):
        return noise.pointwise(model, y, given, sample.unit, slack)

    free = jnp.ones(coef.shape, bool)
    if ends is not None:
        lower, upper = ends
        free = (coef > lower) & (coef < upper)

    def nearer(_, state):
        seen, coef, model = state
        matrix = by_coef.T @ (seen.curvature[:, None] * by_coef)
        both = free[:, None] & free
        matrix = jnp.where(both, matrix, jnp.diag(jnp.where(free, 0.0, 1.0)))
        step = -solve(matrix, jnp.where(free, by_coef.T @ seen.slope, 0.0), lanes)
        change = by_coef @ step
        share = jnp.minimum(1.0, 0.95 * noise.room(model, change, used))
        if ends is not None:
            to_end = jnp.where(step < 0, lower, upper) - coef
            leaves = (coef + step < lower) | (coef + step > upper)
            each = jnp.where(leaves, to_end / jnp.where(leaves, step, 1.0), 1.0)
            share = jnp.minimum(share, jnp.min(each, initial=1.0))
        new = look(model + share * change)
        better = jnp.sum(new.cost) < jnp.sum(seen.cost)
        moved = coef + share * step
        moved = moved if ends is None else jnp.clip(moved, *ends)
        there = new, moved, model + share * change
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), there, state)

    begin = look(model), coef, model
    return jax.lax.fori_loop(0, _NEARER, nearer, begin, unroll=lanes)[1]


def parts_of(alpha: Float[Array, " p"], coef: Inexact[Array, " n"]) -> Float[Array, " t"]:
    """theta of alpha and coefficients."""
    parts = [coef.real, coef.imag] if jnp.iscomplexobj(coef) else [coef]
    return jnp.concatenate([alpha, *parts]).astype(alpha.dtype)


def derivatives(
    columns: AbstractColumns,
    linear: Linear,
    sample: Sample,
    alpha: Float[Array, " p"],
    coef: Inexact[Array, " n"],
    slack: Float[Array, ""],
) -> Derivatives:
    """The cost and its derivatives by parameters and coefficients."""
    noise, y, given = sample.noise, jnp.asarray(sample.y), jnp.asarray(sample.given)
    used, parted, p = given > 0, jnp.iscomplexobj(coef), alpha.size
    model, jac = _model(columns, linear, alpha, coef, parted)
    model = jnp.where(used, model, 0.0)
    jac = jnp.where(used[:, None], jac, 0.0)
    seen = noise.pointwise(model, y, given, sample.unit, slack)
    slope = seen.slope.astype(jac.dtype)
    gradient = (jac.conj().T @ slope).real
    along, across = jac, None
    if jnp.iscomplexobj(seen.slope) or jnp.iscomplexobj(jac):
        size = jnp.abs(seen.slope)
        turned = (
            jac * jnp.where(size > 0, seen.slope.conj() / jnp.where(size > 0, size, 1), 1)[:, None]
        )
        along, across = turned.real, turned.imag
    sure = along.T @ (seen.curvature[:, None] * along)
    scale = jnp.sum(seen.expected[:, None] * jnp.abs(jac) ** 2, axis=0)
    if across is not None:
        sure = sure + across.T @ (seen.expected[:, None] * across)
    cost, size = jnp.sum(seen.cost), jnp.sum(jnp.abs(seen.cost))
    for rows, value in _extra_rows(columns, linear, sample, alpha, coef, parted):
        cost, size = cost + 0.5 * jnp.sum(value**2), size + 0.5 * jnp.sum(value**2)
        gradient, sure = gradient + rows.T @ value, sure + rows.T @ rows
        scale = scale + jnp.sum(rows**2, axis=0)
    whole = sure + along.T @ ((seen.bend - seen.curvature)[:, None] * along)
    if p:
        whole = whole + _bent(columns, linear, alpha, coef, jnp.where(used, slope, 0.0))
    return Derivatives(cost, size, gradient, sure, whole, scale, seen.least, model, jac)


def _model(columns, linear: Linear, alpha, c, parted: bool) -> tuple[Array, Array]:
    """The model (m,) and its derivative (m, t) by theta."""
    phi, every, offset = columns.phi(alpha), linear.all_of(c), columns.offset(alpha)
    model = phi @ every.astype(jnp.result_type(phi, every))
    by_c = phi if linear.mix is None else phi @ linear.mix
    parts = [by_c, *([1j * by_c] if parted else [])]
    if alpha.size:
        by_alpha = columns.apply_derivative(alpha, every[:, None].astype(model.dtype))[0][:, 0]
        if offset is not None:
            by_alpha = by_alpha + jax.jacfwd(columns.offset)(alpha)
        parts = [by_alpha, *parts]
    model = model if offset is None else model + offset
    dtype = jnp.result_type(*parts)
    return model, jnp.concatenate([part.astype(dtype) for part in parts], axis=1)


def _bent(columns, linear: Linear, alpha, c, slope) -> Float[Array, "t t"]:
    """`sum_i Re s_i^* (d^2 model_i / d theta^2)`: the model is linear in the coefficients, so that derivatives
    by alpha are all that there are."""
    every = linear.all_of(c).astype(slope.dtype)
    by_alpha, mixed = columns.second_derivatives(alpha, every, slope)
    if columns.offset(alpha) is not None:
        offset = lambda alpha: (slope.conj() @ columns.offset(alpha)).real  # noqa: E731
        by_alpha = by_alpha + jax.jacfwd(jax.jacfwd(offset))(alpha)
    mixed = mixed if linear.mix is None else linear.mix.conj().T @ mixed
    mixed = jnp.concatenate([mixed.real, mixed.imag] if jnp.iscomplexobj(c) else [mixed.real])
    by_alpha = 0.5 * (by_alpha + by_alpha.T)
    zeros = jnp.zeros((mixed.shape[0],) * 2, by_alpha.dtype)
    return jnp.block([[by_alpha, mixed.T], [mixed, zeros]])


def _extra_rows(columns, linear: Linear, sample: Sample, alpha, c, parted: bool):
    """Rows and values of priors and of penalties, which are squares whatever the noise is."""
    t = alpha.size + c.size * (2 if parted else 1)
    prior = columns.prior(alpha)
    if prior is not None and alpha.size:
        # Half a square has the data's unit twice, half a deviance of counts once.
        per = jnp.asarray(sample.unit) ** (sample.noise.degree / 2)
        rows = jax.jacfwd(columns.prior)(alpha) / per
        yield jnp.pad(rows, [(0, 0), (0, t - alpha.size)]), prior / per
    if (rows := linear.rows) is not None:
        rows = jnp.asarray(rows)
        for i, part in enumerate([c.real, c.imag] if parted else [c]):
            before = alpha.size + i * c.size
            yield jnp.pad(rows, [(0, 0), (before, t - before - c.size)]), rows @ part


def _ends(box: Box, p: int, n: int, start: Array) -> tuple[Array, Array] | tuple[None, None]:
    """The bounds of theta; None where nothing has any."""
    if all(end is None for end in box):
        return None, None

    def ends(of_alpha, of_coef, none):
        first = jnp.full((p,), none) if of_alpha is None else jnp.asarray(of_alpha)
        then = jnp.full((n,), none) if of_coef is None else jnp.asarray(of_coef)
        rest = jnp.full((start.size - p - n,), none)
        return jnp.concatenate([first, then, rest]).astype(start.dtype)

    return ends(box.lower, box.coef_lower, -jnp.inf), ends(box.upper, box.coef_upper, jnp.inf)
