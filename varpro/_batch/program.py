"""The compiled program of a block of curves: search, values and standard errors."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from .._problem.columns import Assembled
from .._reduced.normal_equations import Curve, Moments, coef_variance, frozen_weights, moments
from .._search.batched_levenberg import Limits, search_lanes
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
    each, common = _split(curves)
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


def _split(curves: Curve) -> tuple[Curve, dict[str, Array]]:
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
        return statistics(columns, alpha, at, curve, counted, limits, known)

    # Curves side by side as in the search, a few at a time.
    every = found.alpha, found.coef, each, counted
    b = len(counted)
    chunks = jax.tree.map(lambda a: a.reshape(b // lanes, lanes, *a.shape[1:]), every)
    out = jax.lax.map(lambda chunk: jax.vmap(one)(*chunk), chunks)
    out = jax.tree.map(lambda a: a.reshape(b, *a.shape[2:]), out)
    return out | {"status": found.status, "steps": found.steps}


def statistics(
    columns: Assembled,
    alpha: Float[Array, " p"],
    at: Moments,
    curve: Curve,
    counted: Array,
    limits: Limits,
    known: bool,
) -> dict[str, Array]:
    """Values and standard errors of one curve; see `varpro._statistics.covariance` for the formulas."""
    p, n = alpha.size, at.coef.size * (2 if jnp.iscomplexobj(at.coef) else 1)
    on_bound, held = jnp.zeros((p,), bool), jnp.zeros((p,), bool)
    if curve.lower is not None and curve.upper is not None:
        held = jnp.asarray(curve.lower == curve.upper)
        on_bound = (alpha <= curve.lower) | (alpha >= curve.upper)
    prior = columns.prior(alpha)
    # A prior is one more observation.
    dof = counted + (0 if prior is None else prior.size) - jnp.sum(~on_bound) - n
    # Data and model were divided by `unit`.
    unit = jnp.asarray(curve.unit)
    precise = unit**limits.noise.degree
    chisq = at.squares * precise
    total = at.squares if prior is None else at.squares + jnp.sum(prior**2) / precise
    share = 1.0 / precise if known else total / jnp.where(dof > 0, dof, 1)
    share = jnp.where((dof > 0) | known, share, jnp.nan)
    both = (~on_bound)[:, None] & ~on_bound
    eye = jnp.eye(p, dtype=alpha.dtype)
    spread, lost = inverse(jnp.where(both, at.kaufman, eye)) if p else (eye, on_bound)
    spread, lost = jnp.where(both, spread, 0.0), lost & ~on_bound
    gram, lost_coef = inverse(at.gram)
    gain = gram @ jnp.where(on_bound, 0.0, at.cross)
    values = columns.values(alpha)
    transform = jax.jacfwd(columns.values)(alpha)
    moves = transform != 0
    variance = jnp.sum((transform @ spread) * transform, axis=1)
    variance = jnp.where(moves @ lost, jnp.inf, variance)
    variance = jnp.where(moves @ (on_bound & ~held), jnp.nan, variance)
    linear = coef_variance(gram) + jnp.sum((gain @ spread) * gain.conj(), axis=1).real
    linear = jnp.where(lost_coef | ((gain != 0) @ lost), jnp.inf, linear)
    return {
        "alpha": values,
        "alpha_stderr": jnp.sqrt(variance * share),
        "coef": at.coef * unit,
        "coef_stderr": jnp.sqrt(linear * share) * unit,
        "chisq": chisq,
        "dof": dof,
        "cost": at.cost * precise,
    }
