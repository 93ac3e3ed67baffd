"""A fit of one data set: names, checks and statistics around one compiled program per shape."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._errors import InputError
from .._problem.checks import check_distinct, check_enough
from .._problem.compress import Compressed, compress
from .._problem.data import Data, prepare_data
from .._problem.linear_constraints import Linear
from .._problem.model_like import ModelLike
from .._problem.noise import AbstractNoise, check_noise
from .._problem.options import Constraints, Weighting
from .._results.assemble import assemble
from .._results.fit_result import FitResult
from .._search.minimise import typed
from .._search.multistart import Multistart
from .._starts.declare import declare, set_up
from .._starts.guess import guess_starts
from .._statistics.solution import FitSolution
from .._types import ArrayIn, precision
from ..basis import Model
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
    constraints: Constraints,
    weighting: Weighting,
    search: Multistart,
) -> FitResult:
    """What `varpro.fit` does with one data set.

    y may be `Compressed`; then coefficients and curves are those of its columns.
    """
    noise, small = weighting.noise, isinstance(y, Compressed)
    data = prepare_data(x, y.columns if isinstance(y, Compressed) else y, weighting)
    if isinstance(y, Compressed):
        data = dataclasses.replace(data, count=y.count, vector=False)
    check_noise(noise, data.y, data.keep)
    local = typed(search.local, data.real)
    with precision(data.real):
        declared = declare(model, data, constraints.init)
        built = declared.model
        constraints = constraints.split(built.names, built.columns)
        rules = constraints.coefficients
        linear = rules.rules(built.columns, data.num_rhs, built.order, np.iscomplexobj(data.y))
        together = _why_not_compressed(built, linear, data, noise)
        if (small or search.compress) and together:
            raise InputError(
                f"Right-hand sides cannot be compressed: {together}.", argument="compress"
            )
        setup = set_up(
            declared.params(constraints),
            constraints,
            lambda params: guess_starts(declared.basis, params, data, constraints),
            # Rules for single coefficients tell components apart that are alike but for their names.
            () if linear.sought else built.interchangeable,
        )
        check_enough(data, len(setup.layout.free), len(linear.sought or built.columns), linear)
        if search.starts == 1:
            check_distinct(built, setup.layout, setup.numbers, setup.params, data)

        def run(points, data, linear):
            return run_program(built, setup, points, data, local, linear)

        points = search.points(setup.coordinates)
        pays = search.starts > 1 and data.y.shape[1] > _PAYS * len(data.y)
        searched, ended = None, None
        wanted = pays and not together if search.compress is None else search.compress
        if wanted and not small:
            less = compress(data.y)
            columns = dataclasses.replace(data, y=less.columns, count=less.count)
            ended = run(points, columns, linear)
            points, searched = ended.optimum.alpha[None], less.columns.shape[1]
        if noise.follows_model:
            if linear.automatic:
                raise InputError(
                    "A penalty of strength 'gcv' is for noise='normal'. Give a number.",
                    argument="ridge",
                )
            data, solution = _reweighting(run, points, data, linear, noise)
        elif linear.automatic:
            linear, solution = _by_gcv(run, points, data, linear)
        else:
            solution = run(points, data, linear)
    if ended is not None:
        status = dataclasses.replace(ended.status, result=solution.status.result)
        solution = dataclasses.replace(solution, status=status, start_costs=ended.start_costs)
    fit = assemble(
        built, setup.layout, setup.params, data, setup.numbers, setup.coordinates, solution, linear
    )
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


Run = Callable[[np.ndarray, Data, Linear], FitSolution]


def _reweighting(
    run: Run, points: np.ndarray, data: Data, linear: Linear, noise: AbstractNoise
) -> tuple[Data, FitSolution]:
    """Fits with weights that follow the last one, until they have settled; the data with them."""
    given = np.ones(len(data.y)) if data.weights is None else data.weights
    data = dataclasses.replace(data, weights=given.astype(data.real))
    noise = jax.tree.map(lambda a: np.asarray(a, data.real), noise)
    solution = run(points, data, linear)
    for _ in range(_ROUNDS):
        before = solution.optimum
        fitted, y = before.fitted[:, 0], data.y[:, 0]  # pyright: ignore[reportOptionalSubscript]
        new = _reweighted(noise, fitted, y, given)
        data = dataclasses.replace(data, weights=np.asarray(new))
        solution = run(before.alpha[None], data, linear)
        optimum = solution.optimum
        change = np.abs(optimum.values - before.values)
        if not np.any(change > _SETTLED * np.sqrt(np.abs(optimum.value_variance))):
            break
    return data, solution


def _by_gcv(run: Run, points: np.ndarray, data: Data, linear: Linear) -> tuple[Linear, FitSolution]:
    """Fits with the strength of the penalty that generalised cross-validation finds best for the
    basis of the last one, until it has settled."""
    # The first strength is a guess; the program that fits also finds what suits its optimum.
    for _ in range(_ROUNDS):
        solution = run(points, data, linear)
        before, best = np.log(linear.strength), np.log(solution.strength)  # pyright: ignore
        points = solution.optimum.alpha[None]
        linear = eqx.tree_at(lambda it: it.strength, linear, np.asarray(solution.strength))
        if not np.isfinite(best) or abs(best - before) < _STRENGTH:
            break
    return linear, solution


@eqx.filter_jit
def _reweighted(
    noise: AbstractNoise, model: ArrayIn, y: ArrayIn, given: ArrayIn
) -> Float[Array, " m"]:
    return noise.weights(
        jnp.asarray(model), jnp.asarray(y), jnp.asarray(given), jnp.ones((), given.dtype)
    )
