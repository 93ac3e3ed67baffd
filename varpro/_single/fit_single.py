"""A fit of one data set: names, checks and statistics around one compiled program per shape."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._errors import InputError
from .._parameters.layout import build_layout
from .._parameters.param import Param
from .._parameters.tie import TieLike
from .._problem.checks import check_distinct, check_enough
from .._problem.compress import Compressed, compress
from .._problem.data import Data, NanPolicy, prepare_data
from .._problem.linear_constraints import CoefficientSpec, Linear
from .._problem.model_like import ModelLike, as_basis, starts_of
from .._problem.noise import NORMAL, AbstractNoise, check_noise
from .._results.assemble import assemble
from .._results.fit_result import FitResult
from .._search.minimise import Search, typed
from .._search.multistart import start_points
from .._starts.guess import guess_starts
from .._types import ArrayIn, precision
from ..basis import Model, build_model
from .program import run_program

# Rounds of new weights at most, and the change of the parameters, in standard errors of unit noise,
# below which they have settled.
_ROUNDS, _SETTLED = 50, 1e-5
# Change of the logarithm of a penalty's strength below which it has settled.
_STRENGTH = 1e-4
# Right-hand sides for each sample from which on several starts are searched with compressed ones.
_PAYS = 2


def fit_one(
    model: ModelLike,
    x: PyTree,
    y: np.ndarray | Compressed,
    *,
    init: Mapping[str, Param | float],
    bounds: Mapping[str, tuple[float, float]],
    fix: Sequence[str],
    tie: Mapping[str, TieLike],
    order: Sequence[Sequence[str]],
    given: Mapping[str, Any],
    absolute_sigma: bool,
    nan: NanPolicy,
    how: Search,
    starts: int,
    seed: int,
    spec: CoefficientSpec,
    noise: AbstractNoise = NORMAL,
    compressed: bool | None = None,
) -> FitResult:
    """What `varpro.fit` does with one data set; `given` holds sigma, weights and mask.

    y may be `Compressed`; then coefficients and curves are those of its columns. `compressed`:
    whether to search with compressed columns; None for where that pays.
    """
    known = absolute_sigma or noise.variance_known
    small = isinstance(y, Compressed)
    columns = y.columns if isinstance(y, Compressed) else y
    data = prepare_data(x, columns, absolute_sigma=known, nan=nan, **given)
    if isinstance(y, Compressed):
        data = dataclasses.replace(data, count=y.count, vector=False)
    check_noise(noise, data.y, data.keep)
    how = typed(how, data.real)
    with precision(data.real):
        basis = as_basis(model, init).prepared(data.x, data.real)
        built = build_model(basis)
        bounds, spec = spec.with_bounds(bounds, built.names, built.columns)
        linear = spec.rules(built.columns, data.num_rhs, built.order, np.iscomplexobj(data.y))
        together = _why_not_compressed(built, linear, data, noise)
        if (small or compressed) and together:
            raise InputError(f"Right-hand sides cannot be compressed: {together}.")
        params = starts_of(basis, init, bounds)
        params = guess_starts(basis, params, data, fix=fix, tie=tie, order=order)
        layout, numbers, coordinates = build_layout(
            # Rules for single coefficients tell components apart that are alike but for their names.
            params,
            fix=fix,
            tie=tie,
            order=order,
            interchangeable=() if linear.sought else built.interchangeable,
        )
        check_enough(data, len(layout.free), len(linear.sought or built.columns), linear)
        if starts == 1:
            check_distinct(built, layout, numbers, params, data)
        prior = tuple(i for i, p in enumerate(params.values()) if p.prior is not None)

        def run(points, data, linear):
            return run_program(
                built, layout, numbers, coordinates, points, data, how, prior, linear
            )

        points = start_points(coordinates, starts, seed)
        pays = starts > 1 and data.y.shape[1] > _PAYS * len(data.y)
        searched, ended = None, None
        if compressed or (compressed is None and pays and not small and not together):
            less = compress(data.y)
            columns = dataclasses.replace(data, y=less.columns, count=less.count)
            ended = run(points, columns, linear)
            points, searched = ended["alpha"][None], less.columns.shape[1]
        if noise.follows_model:
            if spec.automatic:
                raise InputError(
                    "A penalty of strength 'gcv' is for noise='normal'. Give a number."
                )
            data, out = _reweighting(run, points, data, linear, noise)
        elif spec.automatic:
            linear, out = _by_gcv(run, points, data, linear)
        else:
            out = run(points, data, linear)
    if ended is not None:
        out |= {key: ended[key] for key in ("start_costs", "stats", "stop")}
    fit = assemble(built, layout, params, data, numbers, coordinates, out, linear)
    return dataclasses.replace(fit, compressed=searched, noise=noise.name)


def _why_not_compressed(built: Model, linear: Linear, data: Data, noise: AbstractNoise) -> str:
    """What keeps right-hand sides from being mixed; empty where nothing does."""
    if data.column_weights is not None:
        return "their weights or masks differ, so that they have no basis in common"
    if linear.bounded:
        return "with bounds on coefficients each has its own set of active ones"
    if linear.real:
        return "real coefficients of complex data do not stay real in mixtures"
    if built.offsets or linear.constant is not None:
        return "a term without a coefficient is the same for all of them, not for their mixtures"
    if noise.follows_model:
        return f"noise={noise.name!r} weighs every value by itself"
    return ""


Run = Callable[[np.ndarray, Data, Linear], dict[str, PyTree]]


def _reweighting(
    run: Run, points: np.ndarray, data: Data, linear: Linear, noise: AbstractNoise
) -> tuple[Data, dict[str, PyTree]]:
    """Fits with weights that follow the last one, until they have settled; the data with them."""
    given = np.ones(len(data.y)) if data.weights is None else data.weights
    data = dataclasses.replace(data, weights=given.astype(data.real))
    noise = jax.tree.map(lambda a: np.asarray(a, data.real), noise)
    out = run(points, data, linear)
    for _ in range(_ROUNDS):
        before = out["values"]
        fitted, y = out["fitted"][:, 0], data.y[:, 0]
        new = _reweighted(noise, fitted, y, given)  # pyright: ignore[reportArgumentType]
        data = dataclasses.replace(data, weights=np.asarray(new))
        out = run(out["alpha"][None], data, linear)
        change = np.abs(out["values"] - before)
        if not np.any(change > _SETTLED * np.sqrt(np.abs(out["value_variance"]))):
            break
    return data, out


def _by_gcv(
    run: Run, points: np.ndarray, data: Data, linear: Linear
) -> tuple[Linear, dict[str, PyTree]]:
    """Fits with the strength of the penalty that generalised cross-validation finds best for the
    basis of the last one, until it has settled."""
    # The first strength is a guess; the program that fits also finds what suits its optimum.
    for _ in range(_ROUNDS):
        out = run(points, data, linear)
        before, found = np.log(linear.strength), np.log(out["strength"])  # pyright: ignore
        points = out["alpha"][None]
        linear = eqx.tree_at(lambda it: it.strength, linear, np.asarray(out["strength"]))
        if not np.isfinite(found) or abs(found - before) < _STRENGTH:
            break
    return linear, out


@eqx.filter_jit
def _reweighted(
    noise: AbstractNoise, model: ArrayIn, y: ArrayIn, given: ArrayIn
) -> Float[Array, " m"]:
    return noise.weights(
        jnp.asarray(model), jnp.asarray(y), jnp.asarray(given), jnp.ones((), given.dtype)
    )
