"""The compiled program of a block of curves: search, values and standard errors."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PyTree

from .._problem.columns import Assembled
from .._reduced.normal_equations import Curve, Moments, frozen_weights, moments
from .._search.batched_levenberg import Limits, search_lanes
from .._statistics.per_curve import noise_variance, variances
from .._types import ArrayIn
from ..linalg._cholesky import inverse


@eqx.filter_jit
def run_block(
    columns: Assembled,
    curves: Curve,
    start: Float[ArrayIn, "b p"],
    counted: ArrayIn,
    limits: Limits,
    known: bool,
    lanes: int,
    devices: int,
) -> dict[str, Array]:
    """Fits of b curves with `counted` (b,) real numbers of data each; one program per shape.

    `known`: the noise is, so that no residual scales the errors. `lanes` are searched side by side on
    each of `devices`, and b is a multiple of their product.
    """
    each, common = own_and_common(curves)
    whole = (columns, common, limits)
    mine = (each, jnp.asarray(start), jnp.asarray(counted))
    if devices == 1:
        return _fits(mine, whole, known, lanes)
    # Each device searches its own share, and none waits for another.
    arrays, rest = eqx.partition(whole, eqx.is_array)
    mesh = Mesh(np.array(jax.devices()[:devices]), ("curves",))
    split, everywhere = PartitionSpec("curves"), PartitionSpec()
    program = jax.shard_map(
        lambda mine, arrays: _fits(mine, eqx.combine(arrays, rest), known, lanes),
        mesh=mesh,
        in_specs=(split, everywhere),
        out_specs=split,
        check_vma=False,
    )
    return program(mine, arrays)


def own_and_common(curves: Curve) -> tuple[Curve, dict[str, Array]]:
    """What each curve has of its own, and rows that all have in common."""
    rows = {k: getattr(curves, k) for k in ("weights", "lower", "upper")}
    common = {k: jnp.asarray(a) for k, a in rows.items() if a is not None and a.ndim == 1}
    own = curves._replace(**dict.fromkeys(common))
    return jax.tree.map(jnp.asarray, own), common


def _fits(mine: Any, whole: Any, known: bool, lanes: int) -> dict[str, Array]:
    (each, start, counted), (columns, common, limits) = mine, whole
    found = search_lanes(columns, each._replace(**common), start, limits, lanes)

    def one(alpha, coef, curve, counted):
        curve = curve._replace(**common)
        before = frozen_weights(columns, alpha, coef) if limits.noise.follows_model else None
        alpha = columns.layout.sorted_components(alpha)
        at = moments(columns, alpha, curve, limits.noise, before)
        return _statistics(columns, alpha, at, curve, counted, limits, known)

    curves = by_lanes(one, (found.alpha, found.coef, each, counted), lanes)
    return curves | {"status": found.status, "steps": found.steps}


def by_lanes(
    function: Callable[..., dict[str, Array]], arguments: tuple[PyTree, ...], lanes: int
) -> dict[str, Array]:
    """`function` of every curve, `lanes` of them side by side as in the search; the leading axis of all
    arrays, a multiple of `lanes`, counts curves."""

    def chunked(a):
        return a.reshape(a.shape[0] // lanes, lanes, *a.shape[1:])

    chunks = jax.tree.map(chunked, arguments)
    results = jax.lax.map(lambda chunk: jax.vmap(function)(*chunk), chunks)
    return jax.tree.map(lambda a: a.reshape(a.shape[0] * lanes, *a.shape[2:]), results)


def _statistics(
    columns: Assembled,
    alpha: Float[Array, " p"],
    at: Moments,
    curve: Curve,
    counted: Array,
    limits: Limits,
    known: bool,
) -> dict[str, Array]:
    """Values and standard errors of one curve with all parameters of its own."""
    p = alpha.size
    on_bound, held = jnp.zeros((p,), bool), jnp.zeros((p,), bool)
    if curve.lower is not None and curve.upper is not None:
        held = jnp.asarray(curve.lower == curve.upper)
        on_bound = (alpha <= curve.lower) | (alpha >= curve.upper)
    # Data and model were divided by `unit`.
    unit = jnp.asarray(curve.unit)
    precise = unit**limits.noise.degree
    prior = columns.prior(alpha)
    dof, noise = noise_variance(at, prior, counted, ~on_bound, precise, known)
    both = (~on_bound)[:, None] & ~on_bound
    eye = jnp.eye(p, dtype=alpha.dtype)
    covariance, lost = inverse(jnp.where(both, at.kaufman, eye)) if p else (eye, on_bound)
    covariance, lost = jnp.where(both, covariance, 0.0), lost & ~on_bound
    withheld = on_bound & ~held
    values, coef = variances(columns, alpha, at, covariance, 1.0, lost, on_bound, withheld)
    return {
        "alpha": columns.values(alpha),
        "alpha_stderr": jnp.sqrt(values * noise),
        "coef": at.coef * unit,
        "coef_stderr": jnp.sqrt(coef * noise) * unit,
        "chisq": at.squares * precise,
        "dof": dof,
        "cost": at.cost * precise,
    }
