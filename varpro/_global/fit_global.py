"""A fit of several data sets: names of shared and of local parameters, and one compiled program."""

import dataclasses
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from .._errors import InputError, suggestion
from .._export_cache import cached_jit
from .._parameters.layout import Coordinates, Layout
from .._problem.checks import check_columns, check_distinct
from .._problem.columns import Assembled
from .._problem.data import Data, prepare_data
from .._problem.linear_constraints import Linear, as_typed
from .._problem.model_like import ModelLike
from .._problem.options import Constraints, Weighting
from .._problem.problem import Problem
from .._reduced.multi_dataset import Several, local_layout, stacked
from .._results.assemble import assemble
from .._results.fit_result import FitResult
from .._search.minimise import Search, typed
from .._search.multistart import Multistart, best_of
from .._starts.declare import Setup, declare, set_up
from .._statistics.covariance import (
    ParameterCovariance,
    coefficient_covariance,
    combine,
    parameter_covariance,
    without_rounding_coefficients,
)
from .._statistics.joint_covariance import scaled
from .._statistics.record import prior_chisq
from .._statistics.solution import DatasetOptimum, Either, FitSolution
from .._status import Status
from .._types import ArrayIn, precision
from ..basis import Model, without_names
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


class _Set(eqx.Module):
    """One data set made ready: `picks` are the places of its parameters among all."""

    name: str
    data: Data
    model: Model
    own: tuple[str, ...]
    picks: np.ndarray
    linear: Linear


def fit_sets(
    model: ModelLike | Mapping[str, ModelLike],
    sets: Mapping[str, tuple[PyTree, np.ndarray]],
    share: str | Sequence[str],
    constraints: Constraints,
    weighting: Weighting,
    search: Multistart,
) -> GlobalFit:
    """What `varpro.fit` does with several data sets."""
    datas = _data(sets, weighting)
    real = np.result_type(*(data.real for data in datas.values()))
    local = typed(search.local, real)
    with precision(real):
        models = {
            key: declare(model_of(model, key, sets), data, init_of(constraints.init, key))
            for key, data in datas.items()
        }
        declared = {key: each.params() for key, each in models.items()}
        shared = shared_names(share, declared)
        params, own = named(declared, shared, constraints.init)
        names = tuple(params)
        columns = dict.fromkeys(name for each in models.values() for name in each.model.columns)
        constraints = constraints.split((*names, *own), columns)
        rules = rules_of_all(constraints.coefficients, tuple(columns), models, datas)
        picks = {
            key: np.array([names.index(full_name(key, n, shared)) for n in some], int)
            for key, some in declared.items()
        }
        setup = set_up(
            applied(params, own, constraints),
            of_all(constraints, names, own, datas),
            lambda params: guessed(params, models, datas, picks, declared),
        )
        params, layout = setup.params, setup.layout
        ready = [
            _Set(key, datas[key], models[key].model, tuple(declared[key]), picks[key], rules[key])
            for key in datas
        ]
        _enough(ready, len(layout.free))
        for one in ready:
            if search.starts == 1:
                _distinct(one, setup)
        numbers, coordinates = setup.typed(real)
        free = [_local_free(one, layout) for one in ready]
        problems = [_problem(one, f, real) for one, f in zip(ready, free, strict=True)]
        stacks, members = stacked(problems, [one.picks for one in ready], free)
        several = Several(
            stacks,
            without_names(layout),
            numbers,
            setup.priors,
            local.linear_solver,
            local.jacobian,
        )
        points = search.points(coordinates).astype(real)
        solution = jax.device_get(_program(several, coordinates, points, local, setup.bounded))
    place = {i: (s, j) for s, group in enumerate(members) for j, i in enumerate(group)}
    parts = []
    for i, one in enumerate(ready):
        s, j = place[i]
        part = jax.tree.map(lambda a, j=j: a[j], solution.sets[s])
        moved = one.model.moved_by(free[i]) & (search.starts == 1)
        where = f" in data set '{one.name}'"
        check_columns(one.model, part.start_size, part.start, moved, one.own, where)
        parts.append(part)
    return _result(ready, free, parts, setup, solution)


def _data(sets: Mapping[str, tuple[PyTree, np.ndarray]], weighting: Weighting) -> dict[str, Data]:
    """All data sets checked, and brought to one floating type."""
    if not sets:
        raise InputError("No data set was given. Expected {'name': (x, y), ...}.")
    arrays = weighting.arrays
    for what, value in arrays.items():
        if isinstance(value, Mapping):
            for key in value:
                if key not in sets:
                    raise InputError(
                        f"{what}: no data set '{key}'. {suggestion(key, sets)}",
                        argument=what,
                        name=key,
                    )
            without = [key for key in sets if key not in value]
            if without and what != "mask":
                raise InputError(
                    f"{what} is given for some data sets, but not for {without}.", argument=what
                )
        elif np.ndim(value) > 0:
            raise InputError(
                f"{what} is one array, but there are {len(sets)} data sets. Give one for each: "
                f"{what}={{'{next(iter(sets))}': ...}}.",
                argument=what,
            )
    found = {}
    for key, pair in sets.items():
        if not isinstance(key, str) or not key:
            raise InputError(f"Data sets have names; {key!r} is none.")
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"Data set '{key}' must be a pair (x, y).")
        mine = {
            what: value.get(key) if isinstance(value, Mapping) else value
            for what, value in arrays.items()
        }
        try:
            found[key] = prepare_data(*pair, dataclasses.replace(weighting, **mine))
        except InputError as error:
            raise InputError(
                f"Data set '{key}': {error}", argument=error.argument, name=key
            ) from error
    kinds = {key: data.real for key, data in found.items()}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"'{key}' {kind}" for key, kind in kinds.items())
        raise InputError(f"Data sets differ in their floating type: {listed}. Convert them to one.")
    return found


def _enough(ready: Sequence[_Set], nonlinear: int) -> None:
    total, linear = 0, 0
    for one in ready:
        parts = 2 if np.iscomplexobj(one.data.y) and not one.linear.real else 1
        mine = len(one.linear.sought or one.model.columns) * one.data.y.shape[1] * parts
        mine = 0 if one.linear.penalty is not None else mine
        if one.data.effective < mine:
            raise InputError(
                f"Data set '{one.name}' has {one.data.effective} data points, which cannot "
                f"determine {mine} coefficients. Give more data or a smaller model.",
                argument="data",
                name=one.name,
            )
        total, linear = total + one.data.effective, linear + mine
    if total < nonlinear + linear:
        raise InputError(
            f"{total} data points cannot determine {nonlinear + linear} parameters ({nonlinear} "
            f"nonlinear, {linear} linear). Give more data or a smaller model.",
            argument="data",
        )


def _local_free(one: _Set, layout: Layout) -> tuple[int, ...]:
    """Which of a data set's values move with alpha."""
    free = set(layout.free)
    return tuple(i for i, j in enumerate(one.picks) if layout.source[j] in free)


def _distinct(one: _Set, setup: Setup) -> None:
    """Refuse equal starts of components within a data set."""
    layout = setup.layout
    source = [layout.source[j] for j in one.picks]
    mine = Layout(
        one.own,
        tuple(i for i in _local_free(one, layout) if source.index(source[i]) == i),
        tuple(source.index(j) for j in source),
        (),
        (),
    )
    values = list(setup.params.values())
    local = {name: values[layout.source[j]] for name, j in zip(one.own, one.picks, strict=True)}
    numbers = jax.tree.map(lambda a: a[one.picks], setup.numbers)
    check_distinct(one.model, mine, numbers, local, one.data)


def _problem(one: _Set, free: tuple[int, ...], real: np.dtype) -> Problem:
    layout, numbers = local_layout(one.own, free)
    numbers = jax.tree.map(lambda a: a.astype(real), numbers)
    columns = Assembled(without_names(one.model), without_names(layout), numbers, one.data.x, ())
    data, linear = one.data, as_typed(one.linear, real)
    return Problem(columns, data.y, data.common, linear, data.column_weights)


class GlobalSolution(eqx.Module):
    """The record that the compiled program returns: the optima of data sets in stacks of one shape, and
    of all q parameters what `DatasetOptimum` has of those of one."""

    sets: list[DatasetOptimum]
    values: Float[Either, " q"]
    transform: Float[Either, "q p"]
    on_bound: Bool[Either, " q"]
    value_variance: Float[Either, " q"]
    covariance: ParameterCovariance
    status: Status
    cost: Float[Either, ""]
    start_costs: Float[Either, " s"]


@cached_jit
def _program(
    several: Several, coordinates: Coordinates, points: ArrayIn, how: Search, bounded: bool
) -> GlobalSolution:
    """Everything that is computed for a fit of several data sets, one program per set of shapes."""
    lower, upper = jnp.asarray(coordinates.lower), jnp.asarray(coordinates.upper)
    limits = (lower, upper) if bounded else (None, None)
    start = several.values(jnp.asarray(coordinates.start))
    alpha, found, point, start_costs = best_of(several, jnp.asarray(points), limits, how)
    on_bound = (alpha <= lower) | (alpha >= upper)
    values, transform = several.values(alpha), jax.jacfwd(several.values)(alpha)

    def clean(reduced, local, at):
        reduced, at = without_rounding_coefficients(reduced, local, at)
        jac = reduced.rotated(local, at)[0]
        return jnp.linalg.qr(jac, mode="r") if jac.shape[0] > jac.shape[1] else jac

    prior = jax.jacfwd(lambda alpha: several.prior(several.values(alpha)))(alpha)
    jac = jnp.concatenate([*several.blocks(alpha, point, clean), prior])
    whole = parameter_covariance(jac, on_bound)

    def parts(stack, points):
        free = np.array(stack.free, int)

        def one(problem, picks, at):
            reduced, local = several.restricted(stack, problem, values[picks])
            own = restrict(whole, transform[picks[free]])
            reduced, at = without_rounding_coefficients(reduced, local, at)
            blocks = combine(own, coefficient_covariance(reduced, local, at, own.on_bound))
            places = jnp.eye(picks.size, dtype=local.dtype)[:, free]
            first, begin = several.restricted(stack, problem, start[picks])
            return DatasetOptimum.at(
                reduced.problem,
                local,
                at.coef,
                blocks,
                start=start[picks],
                start_columns=problem.weighted(first.problem.columns.phi(begin)),
                values=values[picks],
                transform=places,
                on_bound=(transform[picks] != 0) @ on_bound,
                fitted=True,
            )

        return stack.each(one, jnp.asarray(stack.picks), points)

    return GlobalSolution(
        sets=[parts(s, at) for s, (at, _) in zip(several.stacks, point, strict=True)],
        values=values,
        transform=transform,
        on_bound=(transform != 0) @ on_bound,
        value_variance=whole.value_variance(transform),
        covariance=whole,
        status=Status.of(found.result, found.stats),
        cost=several.cost(alpha, point),
        start_costs=start_costs,
    )


def restrict(whole: ParameterCovariance, transform: Array) -> ParameterCovariance:
    """The covariance of alpha as that of the values (f,) that one data set takes from it."""
    moves = transform != 0
    return ParameterCovariance(
        whole.half @ transform.T,
        whole.null_alpha @ transform.T,
        jnp.sqrt(jnp.sum((transform * whole.unit_alpha) ** 2, axis=1)),
        moves @ whole.lost_alpha,
        moves @ whole.on_bound,
        whole.cond_jac,
    )


def _result(
    ready: Sequence[_Set],
    free: Sequence[tuple[int, ...]],
    parts: Sequence[DatasetOptimum],
    setup: Setup,
    solution: GlobalSolution,
) -> GlobalFit:
    """Names back on numbers, on the host."""
    params, layout = setup.params, setup.layout
    moving = [i for i in layout.free if not solution.on_bound[i]]
    observed = sum(layout.source[i] in layout.free for i in setup.priors)
    effective = sum(one.data.effective for one in ready)
    linear = sum(
        float(part.blocks.count) * (2 if np.iscomplexobj(one.data.y) and not one.linear.real else 1)
        for one, part in zip(ready, parts, strict=True)
    )
    linear = linear if any(one.linear.penalty is not None for one in ready) else round(linear)
    dof = effective + observed - len(moving) - linear
    chisq = float(sum(part.chisq for part in parts))
    total = chisq + prior_chisq(layout, params, solution.values)
    absolute = ready[0].data.absolute
    noise = 1.0 if absolute else (total / dof if dof > 0 else np.nan)
    status = solution.status
    # The costs of the steps are those of all data together.
    without_costs = dataclasses.replace(status, costs=None)
    sets: dict[str, FitResult] = {}
    for one, local, part in zip(ready, free, parts, strict=True):
        mine, numbers = local_layout(one.own, local)
        nowhere = np.full(len(local), np.inf)
        box = Coordinates(part.alpha, -nowhere, nowhere)
        numbers = eqx.tree_at(lambda n: n.start, numbers, part.values)
        taken = dict(zip(one.own, [params[layout.names[j]] for j in one.picks], strict=True))
        sets[one.name] = assemble(
            one.model,
            mine,
            taken,
            one.data,
            numbers,
            box,
            FitSolution(part, without_costs, 0.5 * part.chisq, solution.start_costs),
            one.linear,
            pooled=(float(noise), dof),
        )
    whole = solution.covariance
    rows = whole.half @ solution.transform[list(layout.free)].T
    covariance = rows.T @ rows
    lost = (solution.transform[list(layout.free)] != 0) @ whole.lost_alpha
    covariance[np.diag_indices(len(covariance))] = np.where(lost, np.inf, np.diag(covariance))
    held = solution.on_bound[list(layout.free)]
    covariance[held] = covariance[:, held] = np.nan
    fixed = [layout.source[i] not in layout.free for i in range(len(layout.names))]
    return GlobalFit(
        sets=sets,
        names=layout.names,
        alpha=solution.values,
        alpha_stderr=np.where(fixed, 0.0, np.sqrt(scaled(solution.value_variance, noise))),
        at_bound=solution.on_bound,
        cov_names=tuple(layout.names[i] for i in layout.free),
        covariance=scaled(covariance, noise),
        success=status.converged,
        status=status.name,
        message=status.message,
        stop=status.stop,
        cost=float(solution.cost),
        start_costs=solution.start_costs,
        chisq=chisq,
        num_data=effective,
        num_free=len(layout.free),
        dof=dof,
        absolute_sigma=absolute,
        num_steps=int(status.num_steps),
        num_residuals=int(status.num_residuals),
        num_jacobians=int(status.num_jacobians),
        cond_jac=float(whole.cond_jac),
        params=params,
        layout=layout,
        costs=status.history,
    )
