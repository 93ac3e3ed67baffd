"""A fit of one data set: names, checks and statistics around one compiled program per shape."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._columnwise import reduction
from ._compress import Compressed, compress
from ._data import Data, NanPolicy, prepare_data
from ._fit_result import FitResult
from ._fitted import prior_chisq
from ._guess import guess_starts
from ._joint import Optimum, Quantity, scaled, unit_covariance
from ._levenberg import STOP, STOP_NAMES
from ._linear import Linear, Wishes
from ._multistart import best_of, start_points
from ._noise import Noise, Reweighting, check_noise
from ._params import Coordinates, Layout, Numbers, Param, build_layout, expand
from ._precision import precision
from ._problem import Assembled, Problem
from ._programs import kept
from ._results import RESULT_NAMES, RESULTS, InputError, code, explained
from ._solve import Search
from ._stats import covariance_blocks
from ._strength import best_strength
from ._ties import TieLike
from ._types import ArrayIn
from .basis import AbstractBasis, Custom, Model, Sum, bare, build_model
from .linalg import column_scale

# Rounds of new weights at most, and the change of the parameters, in standard errors of unit noise,
# below which they have settled.
_ROUNDS, _SETTLED = 50, 1e-5
# Change of the logarithm of a penalty's strength below which it has settled.
_STRENGTH = 1e-4
# Right-hand sides for each sample from which on several starts are searched with compressed ones.
_PAYS = 2
# Numbers of data from which on nothing of their size is made beside them.
_LARGE = 2**22

ModelLike = AbstractBasis | Callable[[dict[str, Array], PyTree], object]


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
    wishes: Wishes,
    noise: Noise = "normal",
    loss_scale: float = 1.0,
    compressed: bool | None = None,
) -> FitResult:
    """What `varpro.fit` does with one data set; `given` holds sigma, weights and mask.

    y may be `Compressed`; then coefficients and curves are those of its columns. `compressed`:
    whether to search with compressed columns; None for where that pays.
    """
    check_noise(noise, loss_scale)
    known = absolute_sigma or noise == "poisson"
    small = isinstance(y, Compressed)
    columns = y.columns if isinstance(y, Compressed) else y
    data = prepare_data(x, columns, absolute_sigma=known, nan=nan, **given)
    if isinstance(y, Compressed):
        data = dataclasses.replace(data, count=y.count, vector=False)
    if noise != "normal":
        _can_be_reweighted(data, noise)
    how = typed(how, data.real)
    with precision(data.real):
        basis = as_basis(model, init).prepared(data.x, data.real)
        built = build_model(basis)
        bounds, wishes = wishes.with_bounds(bounds, built.names, built.columns)
        linear = wishes.rules(built.columns, data.sides, built.order, np.iscomplexobj(data.y))
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
            alike=() if linear.sought else built.alike,
        )
        _enough_data(data, len(layout.free), len(linear.sought or built.columns), linear)
        if starts == 1:
            check_distinct(built, layout, numbers, params, data)
        prior = tuple(i for i, p in enumerate(params.values()) if p.prior is not None)

        def run(points, data, linear):
            return _checked(built, layout, numbers, coordinates, points, data, how, prior, linear)

        points = start_points(coordinates, starts, seed)
        pays = starts > 1 and data.y.shape[1] > _PAYS * len(data.y)
        searched, ended = None, None
        if compressed or (compressed is None and pays and not small and not together):
            less = compress(data.y)
            columns = dataclasses.replace(data, y=less.columns, count=less.count)
            ended = run(points, columns, linear)
            points, searched = ended["theta"][None], less.columns.shape[1]
        if noise != "normal":
            if wishes.automatic:
                raise InputError(
                    "A penalty of strength 'gcv' is for noise='normal'. Give a number."
                )
            weigh = Reweighting(noise, np.asarray(loss_scale, data.real))  # pyright: ignore
            data, out = _reweighting(run, points, data, linear, weigh)
        elif wishes.automatic:
            linear, out = _by_gcv(run, points, data, linear)
        else:
            out = run(points, data, linear)
    if ended is not None:
        out |= {key: ended[key] for key in ("start_costs", "stats", "stop")}
    fit = assemble(built, layout, params, data, numbers, coordinates, out, linear)
    return dataclasses.replace(fit, compressed=searched, noise=noise)


def _why_not_compressed(built: Model, linear: Linear, data: Data, noise: Noise) -> str:
    """What keeps right-hand sides from being mixed; empty where nothing does."""
    if data.apart is not None:
        return "their weights or masks differ, so that they have no basis in common"
    if linear.bounded:
        return "with bounds on coefficients each has its own set of active ones"
    if linear.real:
        return "real coefficients of complex data do not stay real in mixtures"
    if built.offsets or linear.constant is not None:
        return "a term without a coefficient is the same for all of them, not for their mixtures"
    if noise != "normal":
        return f"noise={noise!r} weighs every value by itself"
    return ""


Run = Callable[[np.ndarray, Data, Linear], dict[str, PyTree]]


def _reweighting(
    run: Run, points: np.ndarray, data: Data, linear: Linear, weigh: Reweighting
) -> tuple[Data, dict[str, PyTree]]:
    """Fits with weights that follow the last one, until they have settled; the data with them."""
    given = np.ones(len(data.y)) if data.weights is None else data.weights
    data = dataclasses.replace(data, weights=given.astype(data.real))
    out = run(points, data, linear)
    for _ in range(_ROUNDS):
        before = out["values"]
        fitted, y = out["fitted"][:, 0], data.y[:, 0]
        new = _reweighted(weigh, fitted, y, given)  # pyright: ignore[reportArgumentType]
        data = dataclasses.replace(data, weights=np.asarray(new))
        out = run(out["theta"][None], data, linear)
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
        points = out["theta"][None]
        linear = eqx.tree_at(lambda it: it.strength, linear, np.asarray(out["strength"]))
        if not np.isfinite(found) or abs(found - before) < _STRENGTH:
            break
    return linear, out


def _can_be_reweighted(data: Data, noise: Noise) -> None:
    if np.iscomplexobj(data.y) or data.y.shape[1] > 1:
        raise InputError(
            f"noise={noise!r} weighs every value by itself, which needs one real column y (m,). Fit "
            "many curves, each for itself, with varpro.fit_many."
        )
    if noise == "poisson" and np.any(data.y[data.keep] < 0):
        raise InputError("noise='poisson' is for counts, but y has negative values.")


@eqx.filter_jit
def _reweighted(
    weigh: Reweighting, model: ArrayIn, y: ArrayIn, given: ArrayIn
) -> Float[Array, " m"]:
    return weigh(jnp.asarray(model), jnp.asarray(y), jnp.asarray(given), jnp.ones((), y.dtype))


def typed(how: Search, real: np.dtype) -> Search:
    """Tolerances as arrays: they enter compiled programs, and new ones do not compile anew."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, real) if isinstance(leaf, float) else leaf, how
    )


def as_typed(linear: Linear, real: np.dtype) -> Linear:
    """Rules in the precision of the data, without names."""
    return jax.tree.map(lambda a: np.asarray(a, real), linear)


def as_basis(model: ModelLike, init: Mapping[str, Param | float]) -> AbstractBasis:
    if isinstance(model, AbstractBasis):
        return model
    if callable(model):
        return Custom("", model, init)  # pyright: ignore[reportArgumentType]
    raise InputError(
        f"model must be a basis such as vp.Exp('decay', tau=1.0), a sum of them, or a function "
        f"f(theta, x); {type(model).__name__} was given."
    )


def starts_of(
    basis: AbstractBasis,
    init: Mapping[str, Param | float],
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, Param]:
    """All parameters by full name, with what was given on top of what the model says."""
    parts = basis.parts if isinstance(basis, Sum) else (basis,)
    params: dict[str, Param] = {}
    for part in parts:
        own = part.parameters
        params |= zip(map(part.parameter_name, own), own.values(), strict=True)
    for pattern, value in init.items():
        for name in expand(pattern, tuple(params), "init"):
            old = params[name]
            if isinstance(value, Param):
                params[name] = value
            else:
                params[name] = Param(float(value), old.lower, old.upper, old.fixed, old.prior)
    for pattern, (lower, upper) in bounds.items():
        for name in expand(pattern, tuple(params), "bounds"):
            old = params[name]
            params[name] = Param(old.init, float(lower), float(upper), old.fixed, old.prior)
    return params


def _enough_data(data: Data, nonlinear: int, columns: int, linear: Linear) -> None:
    if linear.penalty is not None:
        return
    parts = 2 if np.iscomplexobj(data.y) and not linear.real else 1
    if data.keep.ndim == 2:
        used = data.keep.sum(axis=0)
        least = int(np.argmin(used))
        if used[least] < columns:
            raise InputError(
                f"Right-hand side {least} (counted from 0) has {used[least]} values in use, which "
                f"cannot determine {columns} coefficients. Leave it out, or use a smaller model."
            )
    count = columns * data.sides * parts
    if data.effective < nonlinear + count:
        raise InputError(
            f"{data.effective} data points cannot determine {nonlinear + count} parameters "
            f"({nonlinear} nonlinear, {count} linear). Give more data or a smaller model."
        )


def check_distinct(
    built: Model, layout: Layout, numbers: Numbers, params: Mapping[str, Param], data: Data
) -> None:
    """Refuse starts from which two components would stay the same for ever.

    Equal columns have equal derivatives, so no step tells their parameters apart if all are free.
    """
    inits = [param.init for param in params.values()]
    values = np.array([inits[source] for source in layout.source], dtype=float)
    values = values * np.asarray(numbers.scale) + np.asarray(numbers.shift)
    for first, second, index in built.twins(values):
        apart = [(layout.source[i], layout.source[j]) for i, j in index]
        free = [len({i, j}.intersection(layout.free)) for i, j in apart if i != j]
        if 1 in free or 2 not in free:
            continue
        phi = np.asarray(built.evaluate(data.x, jnp.asarray(values, data.real)))
        size = np.linalg.norm(phi, axis=0)
        rank = np.linalg.matrix_rank(phi / np.where(size > 0, size, 1.0))
        at = ", ".join(f"{layout.names[i].rpartition('.')[2]} = {values[i]:g}" for i, _ in index)
        raise InputError(
            f"Phi has rank {rank} of {phi.shape[1]} at the starting point: columns '{first}' and "
            f"'{second}' are identical ({at}). Give distinct starts."
        )


def _checked(
    built: Model,
    layout: Layout,
    numbers: Numbers,
    coordinates: Coordinates,
    points: np.ndarray,
    data: Data,
    how: Search,
    prior: tuple[int, ...],
    linear: Linear,
) -> dict[str, PyTree]:
    """Run the compiled program, after a look at the basis where it starts."""
    real = data.real
    numbers, coordinates = jax.tree.map(lambda a: a.astype(real), (numbers, coordinates))
    problem = Problem(
        Assembled(bare(built), bare(layout), numbers, data.x, prior),
        data.y,  # pyright: ignore[reportArgumentType]
        data.common,  # pyright: ignore[reportArgumentType]
        as_typed(linear, real),  # pyright: ignore[reportArgumentType]
        data.apart,  # pyright: ignore[reportArgumentType]
    )
    bounded = bool(np.isfinite(coordinates.lower).any() or np.isfinite(coordinates.upper).any())
    points = points.astype(real)
    out = _program(problem, coordinates, points, how, bounded)  # pyright: ignore[reportArgumentType]
    out = jax.device_get(out)
    if out["fitted"] is None:
        coef = out["coef"] if linear.mix is None else out["coef"][list(linear.sought)]
        empty = dataclasses.replace(problem, y=data.y[:, :0], weights=None, apart=None)
        out["fitted"] = np.asarray(_curve(empty, out["theta"], coef))
    if np.iscomplexobj(out["fitted"]) and not np.iscomplexobj(data.y):
        raise InputError(
            "The model is complex, but y is real. Give y as complex numbers, or a real model such as "
            "vp.Oscillation."
        )
    # Of several starts another may do better.
    check_columns(built, out, built.moved_by(layout.free) & (len(points) == 1), layout.names)
    return out


def check_columns(
    built: Model,
    out: Mapping[str, PyTree],
    moved: np.ndarray,
    names: Sequence[str],
    where: str = "",
) -> None:
    """Refuse columns that are not finite at the start, and those among `moved` that no sample sees
    from there: such a component never moves."""
    finite = np.isfinite(out["start_size"])
    good = finite & ((out["start_size"] > 0) | ~moved)
    if not np.all(good):
        column = built.columns[int(np.argmin(good))]
        what = "zero at every sample" if np.all(finite) else "not finite"
        values = dict(zip(names, np.asarray(out["start"]).tolist(), strict=True))
        at = ", ".join(f"{name} = {value:g}" for name, value in values.items())
        raise InputError(
            f"Column '{column}' is {what} at the start{where} ({at}). Give other starts."
        )


@eqx.filter_jit
def _curve(problem: Problem, theta: ArrayIn, coef: ArrayIn) -> Array:
    return problem.curve(jnp.asarray(theta), jnp.asarray(coef))


@kept
def _program(
    problem: Problem, coordinates: Coordinates, points: ArrayIn, how: Search, bounded: bool
) -> dict[str, PyTree]:
    """Everything that is computed for a fit, one program per shape."""
    columns = problem.columns
    assert isinstance(columns, Assembled)
    start = jnp.asarray(coordinates.start)
    lower, upper = jnp.asarray(coordinates.lower), jnp.asarray(coordinates.upper)
    limits = (lower, upper) if bounded else (None, None)
    used = problem.weighted(columns.phi(start))
    reduced = reduction(problem, how.linear_solver, how.jacobian)
    theta, found, point, start_costs = best_of(reduced, jnp.asarray(points), limits, how)
    if columns.layout.exchange:
        theta = columns.layout.arranged(theta)
        _, point = reduced.evaluate(theta)
    on_bound = (theta <= lower) | (theta >= upper)
    blocks = covariance_blocks(reduced, theta, point, on_bound)
    transform = (
        jax.jacfwd(columns.values)(theta)
        if theta.size
        else jnp.zeros((columns.numbers.start.size, 0))
    )
    large = problem.y.size > _LARGE
    stats = dict(found.stats)
    return {
        "start_size": jnp.where(column_scale(used) < jnp.inf, jnp.max(jnp.abs(used), axis=0), 0.0),
        "start": columns.values(start),
        "values": columns.values(theta),
        "coef": problem.linear.all_of(point.coef),
        "coef_at_bound": jnp.broadcast_to(blocks.held_coef, blocks.gain.shape[:2]).T,
        "num_linear": blocks.count,
        "strength": best_strength(problem, theta),
        # Of large data after this program, when its copy of them is gone.
        "fitted": None if large else problem.curve(theta, point.coef),
        "cost": reduced.cost(theta, point),
        "chisq": problem.chisq(theta, point.coef, _LARGE if large else None),
        "start_costs": start_costs,
        "status": code(found.result, RESULTS, RESULT_NAMES),
        "stop": code(stats.pop("stop"), STOP, STOP_NAMES) if "stop" in stats else jnp.array(0),
        "stats": stats,
        "value_variance": blocks.value_variance(transform),
        "coef_variance": blocks.coef_variance(),
        "theta": theta,
        "transform": transform,
        "blocks": blocks,
        "on_bound": (transform != 0) @ on_bound,
        "rank": blocks.rank,
        "cond": blocks.cond,
        "cond_jac": blocks.cond_jac,
    }


def assemble(
    built: Model,
    layout: Layout,
    params: dict[str, Param],
    data: Data,
    numbers: Numbers,
    coordinates: Coordinates,
    out: dict[str, PyTree],
    linear: Linear,
    pooled: tuple[float, int | float] | None = None,
) -> FitResult:
    """Names back on numbers, on the host. `pooled`: see `FitResult`."""
    order = list(built.order)
    parts = 2 if np.iscomplexobj(data.y) and not linear.real else 1
    # Compressed columns stand for more right-hand sides, each with as many coefficients.
    num_linear = parts * float(out["num_linear"]) * data.sides / data.y.shape[1]
    num_linear = num_linear if linear.penalty is not None else round(num_linear)
    free = [i for i in layout.free if not out["on_bound"][i]]
    # A prior is one more observation, of a parameter that is free to follow it.
    prior = tuple(i for i, p in enumerate(params.values()) if p.prior is not None)
    observed = sum(layout.source[i] in layout.free for i in prior)
    dof = data.effective + observed - len(free) - num_linear
    chisq = float(out["chisq"])
    total = chisq + prior_chisq(layout, params, out["values"])
    scale = 1.0 if data.absolute else (total / dof if dof > 0 else np.nan)
    scale = scale if pooled is None else pooled[0]
    fixed = [layout.source[i] not in layout.free for i in range(len(layout.names))]
    alpha_stderr = np.where(fixed, 0.0, _root(out["value_variance"], scale))
    real = data.real
    optimum = Optimum(
        out["theta"],
        coordinates.lower.astype(real),  # pyright: ignore[reportArgumentType]
        coordinates.upper.astype(real),  # pyright: ignore[reportArgumentType]
        jax.tree.map(lambda a: a.astype(real), numbers),
        prior,
        out["transform"],
        out["blocks"],
    )
    joint = [Quantity(layout.names[i], i) for i in layout.free]
    for i in order:
        name = built.columns[i]
        if parts == 1:
            joint.append(Quantity(name, i, 0))
        else:
            joint += [Quantity(f"{name}.real", i, 0), Quantity(f"{name}.imag", i, 0, imag=True)]
    status, stop = RESULT_NAMES[out["status"]], STOP_NAMES[out["stop"]]
    stats = out["stats"]

    def shaped(a: np.ndarray) -> np.ndarray:
        return a[:, 0] if data.vector else a

    columns = tuple(built.columns[i] for i in order)
    return FitResult(
        names=layout.names,
        columns=columns,
        alpha=out["values"],
        coef=shaped(out["coef"][order]),
        x=data.x,
        y=shaped(data.y),
        fitted=shaped(out["fitted"]),
        weights=data.weights,
        success=status == "successful",
        status=status,
        message=message(status, stop, int(stats["num_steps"])),
        stop=stop,
        cost=float(out["cost"]),
        start_costs=out["start_costs"],
        chisq=chisq,
        num_data=data.effective,
        num_free=len(layout.free),
        dof=dof,
        absolute_sigma=data.absolute,
        cov_names=tuple(one.label for one in joint),
        covariance=scaled(unit_covariance(optimum, joint), scale),
        num_steps=int(stats["num_steps"]),
        num_residuals=int(stats.get("num_residuals", -1)),
        num_jacobians=int(stats.get("num_jacobians", -1)),
        rank=int(out["rank"]),
        cond=float(out["cond"]),
        cond_jac=float(out["cond_jac"]),
        params=params,
        layout=layout,
        model=built,
        alpha_stderr=alpha_stderr,
        coef_stderr=shaped(_root(out["coef_variance"][order], scale)),
        at_bound=np.asarray(out["on_bound"]),
        optimum=optimum,
        num_linear=num_linear,
        coef_at_bound=shaped(out["coef_at_bound"][order]),
        linear=linear,
        pooled=pooled,
        costs=history(stats),
    )


def history(stats: Mapping[str, np.ndarray]) -> np.ndarray:
    """The costs of the steps that were done."""
    costs = stats.get("costs", np.zeros(0))
    return np.asarray(costs[: int(stats["num_steps"])])


def _root(variance: np.ndarray, scale: float) -> np.ndarray:
    return np.sqrt(scaled(variance, scale))


def message(status: str, stop: str, steps: int) -> str:
    """One sentence on how the run ended."""
    if status == "nonlinear_max_steps_reached":
        return (
            f"The limit of {steps} steps came before any test was met. Give better starts or a "
            "larger max_steps."
        )
    if stop:
        return explained(STOP, stop)
    return "" if status == "failed" else explained(RESULTS, status)
