"""A fit of several data sets: names of shared and of local parameters, and one compiled program."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError, suggestion
from .._export_cache import cached_jit
from .._parameters.layout import Coordinates, Layout, Numbers, build_layout
from .._parameters.param import Param
from .._parameters.tie import TieLike
from .._problem.checks import check_columns, check_distinct
from .._problem.columns import Assembled
from .._problem.data import Data, NanPolicy, prepare_data
from .._problem.linear_constraints import CoefficientSpec, Linear, as_typed
from .._problem.model_like import ModelLike, as_basis, starts_of
from .._problem.problem import Problem
from .._reduced.multi_dataset import Several, local_layout, stacked
from .._results.assemble import assemble, history, message
from .._results.fit_result import FitResult
from .._search.levenberg_marquardt import STOP, STOP_NAMES
from .._search.minimise import Search, typed
from .._search.multistart import best_of, start_points
from .._statistics.covariance import (
    ParameterCovariance,
    coefficient_covariance,
    combine,
    parameter_covariance,
    without_rounding_coefficients,
)
from .._statistics.joint_covariance import scaled
from .._statistics.record import prior_chisq
from .._status import RESULT_NAMES, RESULTS, enum_index
from .._types import ArrayIn, precision
from ..basis import Model, build_model, without_names
from ..linalg import column_scale
from .global_fit import GlobalFit
from .parameter_names import (
    applied,
    full_name,
    guessed,
    init_of,
    matched,
    model_of,
    named,
    orders_of_all,
    rules_of_all,
    shared_names,
    ties_of_all,
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
    *,
    share: str | Sequence[str],
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
) -> GlobalFit:
    """What `varpro.fit` does with several data sets; `given` holds sigma, weights and mask."""
    datas = _data(sets, given, absolute_sigma, nan)
    real = np.result_type(*(data.real for data in datas.values()))
    how = typed(how, real)
    with precision(real):
        bases = {
            key: as_basis(model_of(model, key, sets), init_of(init, key)).prepared(data.x, real)
            for key, data in datas.items()
        }
        declared = {key: starts_of(basis, {}, {}) for key, basis in bases.items()}
        shared = shared_names(share, declared)
        params, own = named(declared, shared, init)
        names = tuple(params)
        models = {key: build_model(basis) for key, basis in bases.items()}
        every = dict.fromkeys(name for one in models.values() for name in one.columns)
        bounds, spec = spec.with_bounds(bounds, (*names, *own), every)
        rules = rules_of_all(spec, tuple(every), models, datas)
        params = applied(params, own, init, bounds)
        picks = {
            key: np.array([names.index(full_name(key, n, shared)) for n in some], int)
            for key, some in declared.items()
        }
        params = guessed(params, bases, datas, picks, declared)
        tie, order = ties_of_all(tie, names, own, datas), orders_of_all(order, names, own, datas)
        fixed = [names[i] for p in fix for i in matched(p, names, own, "fix")]
        layout, numbers, coordinates = build_layout(params, fix=fixed, tie=tie, order=order)
        ready = [
            _Set(key, datas[key], models[key], tuple(declared[key]), picks[key], rules[key])
            for key in datas
        ]
        _enough(ready, len(layout.free))
        for one in ready:
            if starts == 1:
                _distinct(one, layout, numbers, params)
        prior = tuple(i for i, p in enumerate(params.values()) if p.prior is not None)
        numbers, coordinates = jax.tree.map(lambda a: a.astype(real), (numbers, coordinates))
        free = [_local_free(one, layout) for one in ready]
        problems = [_problem(one, f, real) for one, f in zip(ready, free, strict=True)]
        stacks, members = stacked(problems, [one.picks for one in ready], free)
        several = Several(
            stacks, without_names(layout), numbers, prior, how.linear_solver, how.jacobian
        )
        bounded = bool(np.isfinite(coordinates.lower).any() or np.isfinite(coordinates.upper).any())
        points = start_points(coordinates, starts, seed).astype(real)
        out = jax.device_get(_program(several, coordinates, points, how, bounded))  # pyright: ignore[reportArgumentType]
    place = {i: (s, j) for s, group in enumerate(members) for j, i in enumerate(group)}
    parts = []
    for i, one in enumerate(ready):
        s, j = place[i]
        part = jax.tree.map(lambda a, j=j: a[j], out["sets"][s])
        moved = one.model.moved_by(free[i]) & (starts == 1)
        check_columns(one.model, part, moved, one.own, f" in data set '{one.name}'")
        parts.append(part)
    return _result(ready, free, parts, params, layout, prior, out)


def _data(
    sets: Mapping[str, tuple[PyTree, np.ndarray]],
    given: Mapping[str, Any],
    absolute: bool,
    nan: NanPolicy,
) -> dict[str, Data]:
    """All data sets checked, and brought to one floating type."""
    if not sets:
        raise InputError("No data set was given. Expected {'name': (x, y), ...}.")
    for what, value in given.items():
        if isinstance(value, Mapping):
            for key in value:
                if key not in sets:
                    raise InputError(f"{what}: no data set '{key}'. {suggestion(key, sets)}")
            without = [key for key in sets if key not in value]
            if without and what != "mask":
                raise InputError(f"{what} is given for some data sets, but not for {without}.")
        elif np.ndim(value) > 0:
            raise InputError(
                f"{what} is one array, but there are {len(sets)} data sets. Give one for each: "
                f"{what}={{'{next(iter(sets))}': ...}}."
            )
    found = {}
    for key, pair in sets.items():
        if not isinstance(key, str) or not key:
            raise InputError(f"Data sets have names; {key!r} is none.")
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"Data set '{key}' must be a pair (x, y).")
        mine = {
            what: value.get(key) if isinstance(value, Mapping) else value
            for what, value in given.items()
        }
        try:
            found[key] = prepare_data(pair[0], pair[1], absolute_sigma=absolute, nan=nan, **mine)
        except InputError as error:
            raise InputError(f"Data set '{key}': {error}") from error
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
                f"determine {mine} coefficients. Give more data or a smaller model."
            )
        total, linear = total + one.data.effective, linear + mine
    if total < nonlinear + linear:
        raise InputError(
            f"{total} data points cannot determine {nonlinear + linear} parameters ({nonlinear} "
            f"nonlinear, {linear} linear). Give more data or a smaller model."
        )


def _local_free(one: _Set, layout: Layout) -> tuple[int, ...]:
    """Which of a data set's values move with alpha."""
    free = set(layout.free)
    return tuple(i for i, j in enumerate(one.picks) if layout.source[j] in free)


def _distinct(one: _Set, layout: Layout, numbers: Numbers, params: Mapping[str, Param]) -> None:
    """Refuse equal starts of components within a data set."""
    source = [layout.source[j] for j in one.picks]
    mine = Layout(
        one.own,
        tuple(i for i in _local_free(one, layout) if source.index(source[i]) == i),
        tuple(source.index(j) for j in source),
        (),
        (),
    )
    values = list(params.values())
    local = {name: values[layout.source[j]] for name, j in zip(one.own, one.picks, strict=True)}
    numbers = jax.tree.map(lambda a: a[one.picks], numbers)
    check_distinct(one.model, mine, numbers, local, one.data)


def _problem(one: _Set, free: tuple[int, ...], real: np.dtype) -> Problem:
    layout, numbers = local_layout(one.own, free)
    numbers = jax.tree.map(lambda a: a.astype(real), numbers)
    columns = Assembled(without_names(one.model), without_names(layout), numbers, one.data.x, ())
    data, linear = one.data, as_typed(one.linear, real)
    return Problem(columns, data.y, data.common, linear, data.column_weights)  # pyright: ignore[reportArgumentType]


@cached_jit
def _program(
    several: Several, coordinates: Coordinates, points: ArrayIn, how: Search, bounded: bool
) -> dict[str, PyTree]:
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
            used = problem.weighted(first.problem.columns.phi(begin))
            seen = column_scale(used) < jnp.inf
            return {
                "start_size": jnp.where(seen, jnp.max(jnp.abs(used), axis=0), 0.0),
                "start": start[picks],
                "values": values[picks],
                "coef": problem.linear.all_of(at.coef),
                "coef_at_bound": jnp.broadcast_to(blocks.held_coef, blocks.sensitivity.shape[:2]).T,
                "num_linear": blocks.count,
                "fitted": reduced.problem.curve(local, at.coef),
                "chisq": reduced.problem.chisq(local, at.coef),
                "value_variance": blocks.value_variance(places),
                "coef_variance": blocks.coef_variance(),
                "alpha": local,
                "transform": places,
                "blocks": blocks,
                "on_bound": (transform[picks] != 0) @ on_bound,
                "rank": blocks.rank,
                "cond": blocks.cond,
                "cond_jac": blocks.cond_jac,
            }

        return stack.each(one, jnp.asarray(stack.picks), points)

    stats = {k: v for k, v in found.stats.items() if k not in ("rank", "cond")}
    stop = enum_index(stats.pop("stop"), STOP, STOP_NAMES) if "stop" in stats else jnp.array(0)
    return {
        "sets": [parts(s, at) for s, (at, _) in zip(several.stacks, point, strict=True)],
        "values": values,
        "alpha": alpha,
        "transform": transform,
        "on_bound": (transform != 0) @ on_bound,
        "held": on_bound,
        "value_variance": whole.value_variance(transform),
        "spread": whole,
        "cost": several.cost(alpha, point),
        "start_costs": start_costs,
        "status": enum_index(found.result, RESULTS, RESULT_NAMES),
        "stop": stop,
        "stats": stats,
    }


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
    parts: Sequence[dict[str, PyTree]],
    params: dict[str, Param],
    layout: Layout,
    prior: tuple[int, ...],
    out: dict[str, PyTree],
) -> GlobalFit:
    """Names back on numbers, on the host."""
    moving = [i for i in layout.free if not out["on_bound"][i]]
    observed = sum(layout.source[i] in layout.free for i in prior)
    effective = sum(one.data.effective for one in ready)
    linear = sum(
        float(part["num_linear"])
        * (2 if np.iscomplexobj(one.data.y) and not one.linear.real else 1)
        for one, part in zip(ready, parts, strict=True)
    )
    linear = linear if any(one.linear.penalty is not None for one in ready) else round(linear)
    dof = effective + observed - len(moving) - linear
    chisq = float(sum(part["chisq"] for part in parts))
    total = chisq + prior_chisq(layout, params, out["values"])
    absolute = ready[0].data.absolute
    noise = 1.0 if absolute else (total / dof if dof > 0 else np.nan)
    steps = int(out["stats"]["num_steps"])
    status, stop = RESULT_NAMES[out["status"]], STOP_NAMES[out["stop"]]
    common = {key: out[key] for key in ("status", "stop", "start_costs")}
    # The costs of the steps are those of all data together.
    common["stats"] = {key: value for key, value in out["stats"].items() if key != "costs"}
    sets: dict[str, FitResult] = {}
    for one, local, part in zip(ready, free, parts, strict=True):
        mine, numbers = local_layout(one.own, local)
        nowhere = np.full(len(local), np.inf)
        box = Coordinates(part["alpha"], -nowhere, nowhere)
        numbers = eqx.tree_at(lambda n: n.start, numbers, part["values"])
        taken = dict(zip(one.own, [params[layout.names[j]] for j in one.picks], strict=True))
        cost = 0.5 * float(part["chisq"])
        sets[one.name] = assemble(
            one.model,
            mine,
            taken,
            one.data,
            numbers,
            box,
            common | part | {"cost": cost},
            one.linear,
            pooled=(float(noise), dof),
        )
    whole: ParameterCovariance = out["spread"]
    rows = whole.half @ out["transform"][list(layout.free)].T
    covariance = rows.T @ rows
    lost = (out["transform"][list(layout.free)] != 0) @ whole.lost_alpha
    covariance[np.diag_indices(len(covariance))] = np.where(lost, np.inf, np.diag(covariance))
    held = out["on_bound"][list(layout.free)]
    covariance[held] = covariance[:, held] = np.nan
    fixed = [layout.source[i] not in layout.free for i in range(len(layout.names))]
    return GlobalFit(
        sets=sets,
        names=layout.names,
        alpha=out["values"],
        alpha_stderr=np.where(fixed, 0.0, np.sqrt(scaled(out["value_variance"], noise))),
        at_bound=out["on_bound"],
        cov_names=tuple(layout.names[i] for i in layout.free),
        covariance=scaled(covariance, noise),
        success=status == "successful",
        status=status,
        message=message(status, stop, steps),
        stop=stop,
        cost=float(out["cost"]),
        start_costs=out["start_costs"],
        chisq=chisq,
        num_data=effective,
        num_free=len(layout.free),
        dof=dof,
        absolute_sigma=absolute,
        num_steps=steps,
        num_residuals=int(out["stats"].get("num_residuals", -1)),
        num_jacobians=int(out["stats"].get("num_jacobians", -1)),
        cond_jac=float(whole.cond_jac),
        params=params,
        layout=layout,
        costs=history(out["stats"]),
    )
