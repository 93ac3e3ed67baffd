"""A fit of one data set: names, checks and statistics around one compiled program per shape."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._problem.checks import check_squares
from .._problem.compress import Compressed, compress
from .._problem.data import Data, prepare_data
from .._problem.linear_constraints import Linear
from .._problem.model_like import ModelLike, takes_vectors
from .._problem.noise import AbstractNoise, check_noise
from .._problem.options import Constraints, Weighting
from .._results.assemble import assemble
from .._results.fit_result import FitResult
from .._search.multistart import Multistart
from .._search.progress import under_names
from .._starts.declare import same_optimum
from .._statistics.solution import FitSolution
from .._types import precision
from .program import run_program
from .ready import Ready, ready
from .rescue import run_or_rescue

# Rounds of new strengths of a penalty at most, and the change of their logarithm below which they have
# settled.
_ROUNDS, _STRENGTH = 50, 1e-4
# Right-hand sides for each sample from which on several starts are searched with compressed ones.
_PAYS = 2


def fit_one(
    model: ModelLike,
    x: PyTree,
    y: Any,
    constraints: Constraints,
    weighting: Weighting,
    search: Multistart,
    dim: str | None = None,
) -> FitResult:
    """What `varpro.fit` does with one data set.

    y may be `Compressed`; then coefficients and curves are those of its columns.
    """
    small = isinstance(y, Compressed)
    values = y.columns if isinstance(y, Compressed) else y
    data = prepare_data(x, values, weighting, dim=dim, flat=takes_vectors(model))
    if isinstance(y, Compressed):
        data = dataclasses.replace(data, count=y.count, vector=False)
    check_noise(weighting.noise, data.y, data.keep)
    check_squares(data)
    return fit_data(model, data, constraints, search, weighting.noise, small)


def fit_data(
    model: ModelLike,
    data: Data,
    constraints: Constraints,
    search: Multistart,
    noise: AbstractNoise,
    small: bool = False,
) -> FitResult:
    """The same for data that are checked; `small`: they are compressed already."""
    spread = None
    with precision(data.real):
        fit = ready(model, data, constraints, search, noise)
        under_names(search.local.watch, fit.setup.layout.names)
        linear, points = fit.linear, fit.points

        def run(points, data, linear, noise=None):
            return run_or_rescue(fit, points, data, linear, noise)

        pays = search.starts > 1 and data.y.shape[1] > _PAYS * len(data.y)
        searched, ended = None, None
        wanted = pays and not fit.mixed if search.compress is None else search.compress
        if wanted and not small:
            less = compress(data.y)
            columns = dataclasses.replace(data, y=less.columns, count=less.count)
            ended = run(points, columns, linear)
            points, searched = ended.optimum.alpha[None], less.columns.shape[1]
        if linear.automatic and fit.groups:
            raise InputError(
                "A penalty of strength 'gcv' is for right-hand sides of one basis, and here a dispersion gives "
                "them different ones. Give a number.",
                argument="ridge",
            )
        typed_noise, weighted = None, data
        if noise.follows_model:
            if linear.automatic:
                raise InputError(
                    "A penalty of strength 'gcv' is for noise='normal'. Give a number.",
                    argument="ridge",
                )
            given = np.ones(len(data.y)) if data.weights is None else data.weights
            data = weighted = dataclasses.replace(data, weights=given.astype(data.real))
            typed_noise = jax.tree.map(lambda a: np.asarray(a, data.real), noise)
            solution = run(points, data, linear, typed_noise)
            if noise.robust:
                spread = _spread(typed_noise, solution, data)
            data = dataclasses.replace(data, weights=solution.weights)
        elif linear.automatic:
            linear, solution = _by_gcv(run, points, data, linear)
        else:
            solution = run(points, data, linear)
        fit, solution = _at_given_origins(fit, weighted, linear, solution, typed_noise)
    if ended is not None:
        status = dataclasses.replace(ended.status, result=solution.status.result)
        solution = dataclasses.replace(solution, status=status, start_costs=ended.start_costs)
    setup = fit.setup
    return assemble(
        *(fit.model, setup.layout, setup.params, data, fit.columns.numbers, fit.coordinates),
        *(solution, linear),
        compressed=searched,
        noise=noise.name,
        spread=spread,
    )


def _at_given_origins(
    fit: Ready,
    data: Data,
    linear: Linear,
    solution: FitSolution,
    noise: AbstractNoise | None,
) -> tuple[Ready, FitSolution]:
    """The fit and its solution with amplitudes where the user wants them, if they can be told there."""
    if (there := fit.as_given(data, solution)) is None:
        return fit, solution
    there = dataclasses.replace(there, moved=np.zeros_like(there.moved))
    new = run_program(there, there.points, data, linear, noise)
    ends = new.cost, new.optimum.values, solution.cost, solution.optimum.values
    if not same_optimum(*ends):
        return fit, solution
    status, start_costs = solution.status, solution.start_costs
    return there, dataclasses.replace(new, status=status, start_costs=start_costs)


Run = Callable[[np.ndarray, Data, Linear], FitSolution]


def _spread(noise: AbstractNoise, solution: FitSolution, data: Data) -> Callable[[float], float]:
    """Of degrees of freedom the variance of the noise under a robust loss; `data` with given weights."""

    def variance(dof: float) -> float:
        with precision(data.real):
            one, fitted, given = np.ones((), data.real), solution.optimum.fitted, data.weights
            assert fitted is not None and given is not None
            given = np.broadcast_to(given.reshape(len(data.y), -1), data.y.shape)
            return float(noise.spread(fitted.ravel(), data.y.ravel(), given.ravel(), one, dof))

    return variance


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
