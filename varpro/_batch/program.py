"""The compiled program of a block of curves: search, values and standard errors."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from .._problem.columns import Assembled
from .._problem.noise import AbstractNoise
from .._programs.program import program
from .._reduced.normal_equations import Curve, Moments, moments
from .._search.batched_levenberg import LaneOptima, Limits, search_lanes
from .._statistics.per_curve import noise_variance, variances
from .._status import CurveStatus
from .._types import ArrayIn
from ..linalg._cholesky import inverse
from .ends import at_natural_ends, by_lanes, ends_of, moments_at, own_and_common

# Difference of sums, in units of their rounding, that tells nothing.
_CANCELLED = 16
# A part of the largest x that is none of it.
_NOTHING = 1e-6


@program
def run_block(
    columns: Assembled,
    curves: Curve,
    start: Float[ArrayIn, "b p"],
    counted: ArrayIn,
    limits: Limits,
    known: Bool[ArrayIn, ""],
    lanes: int,
    devices: int,
) -> dict[str, Array]:
    """Fits of b curves with `counted` (b,) real numbers of data each; one program per shape.

    `known`: the noise is, so that no residual scales the errors. `lanes` are searched side by side on
    each of `devices`, and b is a multiple of their product.
    """
    each, common = own_and_common(curves)
    whole = (columns, common, limits, known)
    mine = (each, jnp.asarray(start), jnp.asarray(counted))
    if devices == 1:
        return _fits(mine, whole, lanes)
    # Each device searches its own share, and none waits for another.
    arrays, rest = eqx.partition(whole, eqx.is_array)
    mesh = Mesh(np.array(jax.devices()[:devices]), ("curves",))
    split, everywhere = PartitionSpec("curves"), PartitionSpec()
    program = jax.shard_map(
        lambda mine, arrays: _fits(mine, eqx.combine(arrays, rest), lanes),
        mesh=mesh,
        in_specs=(split, everywhere),
        out_specs=split,
        check_vma=False,
    )
    return program(mine, arrays)


def _fits(mine: Any, whole: Any, lanes: int) -> dict[str, Array]:
    (each, start, counted), (columns, common, limits, known) = mine, whole
    found = search_lanes(columns, each._replace(**common), start, limits, lanes)
    ends = ends_of(columns, found, each, common, limits, lanes)
    ends = at_natural_ends(columns, ends, start, each, common, limits, lanes)

    def one(end, curve, counted):
        curve = curve._replace(**common)
        at = moments_at(columns, end, curve, limits)
        found, lost = _statistics(columns, end, at, curve, counted, limits, known)
        return found | {"status": told(end.status, lost), "steps": end.steps}

    return by_lanes(one, (ends, each, counted), lanes)


def information(columns: Assembled, end: LaneOptima, at: Moments, curve: Curve, limits: Limits):
    """The moments `at` an end of which the covariance is made: under a robust loss those for the given
    weights, for it is the loss that tells how much is known (`AbstractNoise.spread`)."""
    return moments(columns, end.alpha, curve, held=end.coef) if limits.noise.robust else at


def robust_variance(
    noise: AbstractNoise, at: Moments, curve: Curve, dof: Array
) -> Float[Array, ""]:
    """`AbstractNoise.spread` of one curve."""
    y = jnp.asarray(curve.y)
    given = jnp.ones_like(y).real if curve.weights is None else jnp.asarray(curve.weights)
    return jnp.asarray(noise.spread(at.model, y, given, jnp.asarray(curve.unit), dof))


def _statistics(
    columns: Assembled,
    end: LaneOptima,
    at: Moments,
    curve: Curve,
    counted: Array,
    limits: Limits,
    known: Bool[ArrayIn, ""],
) -> tuple[dict[str, Array], Bool[Array, " p"]]:
    """Values and standard errors of one curve with all parameters of its own, and which of these the
    data do not determine."""
    alpha, seen = end.alpha, information(columns, end, at, curve, limits)
    p = alpha.size
    on_bound, held = jnp.zeros((p,), bool), jnp.zeros((p,), bool)
    if curve.lower is not None and curve.upper is not None:
        held = jnp.asarray(curve.lower == curve.upper)
        on_bound = (alpha <= curve.lower) | (alpha >= curve.upper)
    # Data and model were divided by `unit`.
    unit = jnp.asarray(curve.unit)
    precise = unit**limits.noise.degree
    prior = columns.prior(alpha)
    dof, noise = noise_variance(columns, at, prior, counted, ~on_bound, precise, known)
    if limits.noise.robust:
        noise = robust_variance(limits.noise, at, curve, dof)
    both = (~on_bound)[:, None] & ~on_bound
    eye = jnp.eye(p, dtype=alpha.dtype)
    covariance, lost = inverse(jnp.where(both, seen.kaufman, eye)) if p else (eye, on_bound)
    covariance = jnp.where(both, covariance, 0.0)
    lost = (lost | without_effect(columns, at, seen, alpha)) & ~on_bound
    withheld = on_bound & ~held
    values, coef = variances(columns, alpha, seen, covariance, 1.0, lost, on_bound, withheld)
    # Of a constant curve the residual is rounding, and tells no error.
    exact = ~jnp.asarray(known) & (at.squares <= _rounding(at, alpha))
    coef = jnp.where(jnp.any(lost) & exact, jnp.inf, coef)
    return {
        "alpha": columns.values(alpha),
        "alpha_stderr": jnp.sqrt(scaled(values, noise)),
        "coef": jnp.asarray(columns.linear.all_of(at.coef * unit)),
        "coef_stderr": jnp.sqrt(scaled(coef, noise)) * unit,
        "chisq": at.squares * precise,
        "dof": dof,
        "cost": at.cost * precise,
    }, lost


def scaled(variance: Array, noise: Array | float) -> Array:
    """Variances times that of the noise; infinite ones stay so, even of a perfect fit."""
    return jnp.where(jnp.isinf(variance), jnp.inf, variance * noise)


def without_effect(
    columns: Assembled, at: Moments, seen: Moments, alpha: Float[Array, " p"]
) -> Bool[Array, " p"]:
    """Which parameters move the curve `at` an end by no more than rounding, as far as is `seen`.

    Either when they change by all of themselves, or by the largest x where they are nothing beside that and its
    inverse, as a center at 0; so it is with a component whose coefficient is zero. Or
    beside what coefficients can do as well: with F the derivative and T = G^{-1} Phi^T F, what is left of F is
    the difference F^T F - T^T G T, which is rounding where columns in T all but cancel, as those of a constant
    and of a lifetime of a million spans do."""
    left = jnp.diagonal(seen.kaufman)
    sizes = jnp.sqrt(jnp.diagonal(seen.gram).real)
    taken = jnp.sum(sizes[:, None] * jnp.abs(inverse(seen.gram)[0] @ seen.cross), axis=0)
    rounding = _CANCELLED * float(jnp.finfo(alpha.dtype).eps) * taken**2
    change = jnp.abs(alpha)
    if len(xs := jax.tree.leaves(columns.x)) == 1 and change.size:
        most = jnp.max(jnp.abs(jnp.asarray(xs[0], alpha.dtype)))
        change = jnp.where(change < _NOTHING * jnp.minimum(most, 1 / most), most, change)
    return (left * change**2 <= _rounding(at, alpha)) | (left <= rounding)


def _rounding(at: Moments, alpha: Array) -> Float[Array, ""]:
    """Squares of the data that are no more than rounding."""
    coef = jnp.where(at.free, at.coef, 0.0)
    fitted = jnp.sum((coef.conj() @ at.gram) * coef).real
    return (100 * float(jnp.finfo(alpha.dtype).eps)) ** 2 * (at.squares + fitted)


def told(status: Int[Array, ""], lost: Bool[Array, " p"]) -> Int[Array, ""]:
    """The status of a curve of which these parameters are not determined."""
    ended = (status == CurveStatus.SUCCESSFUL) | (status == CurveStatus.FLOOR)
    return jnp.where(ended & jnp.any(lost), CurveStatus.UNDETERMINED, status)
