"""A fit of several data sets: names of shared and of local parameters, and one search for all."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import PyTree

from .._problem.checks import check_columns
from .._problem.columns import Assembled
from .._problem.linear_constraints import as_typed
from .._problem.model_like import ModelLike
from .._problem.noise import AbstractNoise
from .._problem.options import Constraints, Weighting
from .._problem.padding import common_lengths, problem_of
from .._problem.problem import Problem
from .._problem.side_groups import laid_out
from .._reduced.multi_dataset import Several, local_layout, stacked
from .._search.minimise import Search, typed
from .._search.multistart import Multistart
from .._search.progress import under_names
from .._starts.declare import Declared, Setup, declare_all, same_optimum, set_up
from .._statistics.solution import DatasetOptimum
from .._types import precision
from ..basis import without_names
from .assemble_sets import assemble_sets
from .data_sets import DataSet, check_distinct_starts, check_enough, data_of_all, local_free
from .global_fit import GlobalFit
from .parameter_names import (
    applied,
    full_name,
    guessed,
    init_of,
    model_of,
    named,
    of_all,
    rules_of_all,
    shared_names,
)
from .program import GlobalSolution, run_program


def fit_sets(
    model: ModelLike | Mapping[str, ModelLike],
    sets: Mapping[str, tuple[PyTree, np.ndarray]],
    share: str | Sequence[str],
    constraints: Constraints,
    weighting: Weighting,
    search: Multistart,
    dim: str | None = None,
) -> GlobalFit:
    """What `varpro.fit` does with several data sets."""
    datas = data_of_all(sets, weighting, dim, model)
    real = np.result_type(*(data.real for data in datas.values()))
    local = typed(search.local, real)
    noise = _typed_noise(weighting.noise, real)
    with precision(real):
        models = declare_all(
            {key: model_of(model, key, sets) for key in datas},
            datas,
            {key: init_of(constraints.init, key) for key in datas},
        )
        declared = {key: each.own_params for key, each in models.items()}
        shared = shared_names(share, declared)
        params, own = named(declared, shared, constraints.init)
        names = tuple(params)
        columns = dict.fromkeys(name for each in models.values() for name in each.model.columns)
        constraints = constraints.split((*names, *own), columns)
        rules = rules_of_all(constraints.coefficients, tuple(columns), models, datas)
        placed = {key: each.placed(datas[key], rules[key]) for key, each in models.items()}
        if any(placed[key] is not models[key] for key in models):
            models = placed
            rules = rules_of_all(constraints.coefficients, tuple(columns), models, datas)
        picks = {
            key: np.array([names.index(full_name(key, n, shared)) for n in some], int)
            for key, some in declared.items()
        }
        setup = set_up(
            applied(params, own, constraints),
            of_all(constraints, names, own, datas),
            lambda params: guessed(params, models, datas, picks, declared),
            lifetimes=[
                full_name(key, name, shared)
                for key, each in models.items()
                for name in each.lifetimes
            ],
        )
        params, layout = setup.params, setup.layout
        under_names(local.watch, layout.names)
        ready = [
            DataSet(
                *(key, datas[key], models[key].model, tuple(declared[key]), picks[key], rules[key]),
                setup.starts[picks[key]],
            )
            for key in datas
        ]
        check_enough(ready, len(layout.free))
        if search.starts == 1:
            starts = setup.all_starts
            for one in ready:
                check_distinct_starts(one, layout, starts)
        free = [local_free(one, layout) for one in ready]
        checked = search.starts == 1
        points = search.points(setup.coordinates)
        parts, solution = _solved(ready, free, setup, points, local, checked, noise)
        given = [
            _at_given_origins(one, models[one.name], part)
            for one, part in zip(ready, parts, strict=True)
        ]
        if any(new is not old for new, old in zip(given, ready, strict=True)):
            alpha = solution.alpha
            there = setup.started_at(alpha)
            again = _solved(given, free, there, alpha[None], local, False, noise)
            new = again[1]
            if same_optimum(new.cost, new.values, solution.cost, solution.values):
                status, start_costs = solution.status, solution.start_costs
                ready, (parts, solution) = given, again
                solution = dataclasses.replace(solution, status=status, start_costs=start_costs)
    return assemble_sets(ready, free, parts, setup, solution, noise)


def _typed_noise(noise: AbstractNoise, real: np.dtype) -> AbstractNoise | None:
    """Noise whose weights follow the model, in the precision of the data; else None."""
    return jax.tree.map(lambda a: np.asarray(a, real), noise) if noise.follows_model else None


def _solved(
    ready: Sequence[DataSet],
    free: Sequence[tuple[int, ...]],
    setup: Setup,
    points: np.ndarray,
    how: Search,
    checked: bool,
    noise: AbstractNoise | None,
) -> tuple[list[DatasetOptimum], GlobalSolution]:
    """Run the compiled program from `points` (s, p): the optimum of each data set, and all of them.

    `checked`: refuse columns that no sample sees from the start."""
    real = np.result_type(*(one.data.real for one in ready))
    numbers, coordinates = setup.typed(real)
    lengths = common_lengths([len(one.data.y) for one in ready])
    problems = [_problem(*each, real) for each in zip(ready, free, lengths, strict=True)]
    stacks, members = stacked(problems, [one.picks for one in ready], free)
    several = Several(
        stacks,
        without_names(setup.layout),
        numbers,
        setup.priors,
        how.linear_solver,
        how.jacobian,
    )
    solution = run_program(
        *(several, coordinates, points.astype(real), how, setup.bounded, setup.inverses, noise)
    )
    solution = jax.device_get(solution)
    place = {i: (s, j) for s, group in enumerate(members) for j, i in enumerate(group)}
    parts = []
    for i, one in enumerate(ready):
        s, j = place[i]
        part = jax.tree.map(lambda a, j=j: a[j], solution.sets[s]).of_data(*one.data.y.shape)
        moved = one.model.moved_by(free[i]) & checked
        where = f" in data set '{one.name}'"
        check_columns(one.model, part.start_size, part.start, moved, one.own, where)
        parts.append(part)
    if solution.weights is not None:
        weights = [solution.weights[s][j] for s, j in (place[i] for i in range(len(ready)))]
        weights = [w[: len(one.data.y)] for w, one in zip(weights, ready, strict=True)]
        solution = dataclasses.replace(solution, weights=weights)
    return parts, solution


def _at_given_origins(one: DataSet, declared: Declared, part: DatasetOptimum) -> DataSet:
    """A data set with amplitudes where the user wants them, if they can be told there."""
    values = dict(zip(one.model.names, part.values, strict=True))
    again = declared.as_given(one.data.x, values)
    return one if again is None else dataclasses.replace(one, model=again.model)


def _problem(one: DataSet, free: tuple[int, ...], length: int, real: np.dtype) -> Problem:
    layout, numbers = local_layout(one.own, free)
    numbers = jax.tree.map(lambda a: a.astype(real), numbers)
    model, groups = laid_out(one.model, layout, one.held)
    columns = Assembled(without_names(model), without_names(layout), numbers, one.data.x, ())
    problem = problem_of(columns, one.data, as_typed(one.linear, real), length)
    return dataclasses.replace(problem, groups=groups) if groups else problem
