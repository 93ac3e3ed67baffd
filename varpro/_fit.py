"""`fit`: names, checks and statistics around one compiled program per shape."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ._data import Data, NanPolicy, prepare_data
from ._fit_result import FitResult
from ._fitted import prior_chisq
from ._guess import guess_starts
from ._joint import Optimum, Quantity, scaled, unit_covariance
from ._levenberg import STOP, STOP_NAMES
from ._multistart import best_of, start_points
from ._params import Coordinates, Layout, Numbers, Param, build_layout, expand
from ._problem import Assembled, Problem
from ._reduced import Jacobian, Reduced
from ._results import RESULT_NAMES, RESULTS, FitError, InputError, code, explained
from ._solve import Search, Solver, search
from ._stats import covariance_blocks
from ._types import ArrayIn
from .basis import AbstractBasis, Custom, Model, Sum, bare, build_model
from .linalg import AbstractPinvSolver, column_scale

ModelLike = AbstractBasis | Callable[[dict[str, Array], PyTree], object]


def fit(
    model: ModelLike,
    x: PyTree,
    y: np.ndarray,
    *,
    init: Mapping[str, Param | float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    fix: str | Sequence[str] = (),
    tie: Mapping[str, str] | None = None,
    order: Sequence[str] | Sequence[Sequence[str]] = (),
    sigma: np.ndarray | float | None = None,
    weights: np.ndarray | None = None,
    absolute_sigma: bool = False,
    mask: np.ndarray | None = None,
    nan: NanPolicy = "raise",
    share: str | None = None,
    solver: Solver | None = None,
    linear_solver: AbstractPinvSolver | None = None,
    jacobian: Jacobian | None = None,
    max_steps: int | None = None,
    starts: int = 1,
    seed: int = 0,
    throw: bool = False,
) -> FitResult:
    """Fit `y ~ Phi(alpha) c` for the nonlinear parameters alpha and the coefficients c.

    Only nonlinear parameters have a start, and where that of a decay or a peak is left out it is found
    in the data (`varpro._guess`); `fit["slow.tau"].init` tells which. The computation runs in float64 for float64 or integer
    data whatever JAX's global setting is, and in float32 for float32 data.

    **Arguments:**

    - `model`: a sum of bases such as `vp.Exp("fast", tau=0.5) + vp.Constant("background")`, or any
        function `f(theta, x)` of a dict of scalars that returns columns (see `vp.Custom`).
    - `x`: sample positions (m,); for your own functions any pytree of arrays with m rows.
    - `y`: data (m,), or (m, k) for k right-hand sides. Real or complex.
    - `init`: starts by name, plain numbers or `vp.Param`; overrides what the model says. For a bare
        function it defines the parameters.
    - `bounds`: `{name: (lower, upper)}`, overrides what the model says.
    - `fix`: names of parameters to hold at their start. Here, in `init` and in `bounds` a pattern
        such as "*.tau" stands for all names that it matches.
    - `tie`: `{name: other}`, the first takes the value of the second.
    - `order`: a chain of names that must increase, such as ("fast.tau", "slow.tau"), or several.
    - `sigma`: standard deviation of each sample (m,), or one number; or
    - `weights`: (m,), multiplies the residual. Zero leaves a sample out.
    - `absolute_sigma`: take sigma as it is (True) or up to a common factor (False, default), which
        scales all standard errors by the root of the reduced chi-square. As in scipy.
    - `mask`: boolean (m,), True for samples to use.
    - `nan`: "raise" (default) or "drop" samples that are not finite.
    - `share`: "all": one set of nonlinear parameters for all columns of Y, the default for (m, k).
    - `solver`: `vp.LevenbergMarquardt()` by default; any optimistix solver.
    - `linear_solver`: `vp.linalg.SVD()` by default, which every rank suits.
    - `jacobian`: "auto" (default), "full" or "kaufman", as in `varpro.solve`.
    - `max_steps`: trial points at most; 256 by default.
    - `starts`: how many starts to try, the given one and scrambled Sobol points of the box that the
        bounds make (see `varpro._multistart`); the fit of least cost is returned.
    - `seed`: of those points; the same seed gives the same fit.
    - `throw`: raise `FitError` when the fit does not converge; otherwise see `.success`.

    **Returns:** a `FitResult`.

    **Raises:** `InputError` for anything given that cannot be right, before any computation;
    `FitError` as said under `throw`.
    """
    if share not in (None, "all"):
        raise InputError(f"share must be 'all' or left out, not {share!r}.")
    how = search(solver, linear_solver, jacobian, max_steps)
    if starts < 1:
        raise InputError(f"starts must be at least 1, not {starts}.")
    data = prepare_data(
        x, y, sigma=sigma, weights=weights, mask=mask, absolute_sigma=absolute_sigma, nan=nan
    )
    # Tolerances enter compiled programs as arrays: new ones do not compile anew.
    how = jax.tree.map(
        lambda leaf: np.asarray(leaf, data.real) if isinstance(leaf, float) else leaf, how
    )
    with _precision(data.real):
        basis = _named(model, init or {}).prepared(data.x, data.real)
        built = build_model(basis)
        params = _starts(basis, init or {}, bounds or {})
        fix = [fix] if isinstance(fix, str) else fix
        chains = [order] if order and isinstance(order[0], str) else order
        params = guess_starts(basis, params, data, fix=fix, tie=tie, order=chains)  # pyright: ignore[reportArgumentType]
        layout, numbers, coordinates = build_layout(
            params,
            fix=fix,
            tie=tie,
            order=chains,  # pyright: ignore[reportArgumentType]
            alike=built.alike,
        )
        _enough_data(data, len(layout.free), len(built.columns))
        if starts == 1:
            _distinct(built, layout, params, data)
        prior = tuple(i for i, p in enumerate(params.values()) if p.prior is not None)
        points = start_points(coordinates, starts, seed)
        out = _checked(built, layout, numbers, coordinates, points, data, how, prior)
    result = _assemble(built, layout, params, data, numbers, coordinates, out)
    if throw and not result.success:
        raise FitError(f"The fit did not converge: {result.message}", result)
    return result


def _precision(dtype: np.dtype) -> contextlib.AbstractContextManager:
    # A local setting: float64 data are computed in float64, and nobody else's setting changes.
    wide = dtype == np.float64
    return jax.enable_x64(True) if wide else contextlib.nullcontext()


def _named(model: ModelLike, init: Mapping[str, Param | float]) -> AbstractBasis:
    if isinstance(model, AbstractBasis):
        return model
    if callable(model):
        return Custom("", model, init)  # pyright: ignore[reportArgumentType]
    raise InputError(
        f"model must be a basis such as vp.Exp('decay', tau=1.0), a sum of them, or a function "
        f"f(theta, x); {type(model).__name__} was given."
    )


def _starts(
    basis: AbstractBasis,
    init: Mapping[str, Param | float],
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, Param]:
    """All parameters by full name, with what was given on top of what the model says."""
    parts = basis.parts if isinstance(basis, Sum) else (basis,)
    params = {p.parameter_name(k): v for p in parts for k, v in p.parameters.items()}
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


def _enough_data(data: Data, nonlinear: int, columns: int) -> None:
    parts = 2 if np.iscomplexobj(data.y) else 1
    linear = columns * data.y.shape[1] * parts
    if data.effective < nonlinear + linear:
        raise InputError(
            f"{data.effective} data points cannot determine {nonlinear + linear} parameters "
            f"({nonlinear} nonlinear, {linear} linear). Give more data or a smaller model."
        )


def _distinct(built: Model, layout: Layout, params: Mapping[str, Param], data: Data) -> None:
    """Refuse starts from which two components would stay the same for ever.

    Equal columns have equal derivatives, so no step tells their parameters apart if all are free.
    """
    inits = [param.init for param in params.values()]
    values = np.array([inits[source] for source in layout.source], dtype=float)
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
) -> dict[str, PyTree]:
    """Run the compiled program, after a look at the basis where it starts."""
    real = data.real
    numbers, coordinates = jax.tree.map(lambda a: a.astype(real), (numbers, coordinates))
    problem = Problem(
        Assembled(bare(built), bare(layout), numbers, data.x, prior),
        data.y,  # pyright: ignore[reportArgumentType]
        data.weights,  # pyright: ignore[reportArgumentType]
    )
    bounded = bool(np.isfinite(coordinates.lower).any() or np.isfinite(coordinates.upper).any())
    points = points.astype(real)
    out = _program(problem, coordinates, points, how, bounded)  # pyright: ignore[reportArgumentType]
    out = jax.device_get(out)
    finite, seen = np.isfinite(out["start_size"]), out["start_size"] > 0
    if not np.all(seen):
        # A component that no sample sees from where it starts never moves.
        seen |= (len(points) > 1) | ~built.moved_by(layout.free)
    if not np.all(finite & seen):
        column = built.columns[int(np.argmin(finite & seen))]
        what = "zero at every sample" if np.all(finite) else "not finite"
        values = dict(zip(layout.names, np.asarray(out["start"]).tolist(), strict=True))
        at = ", ".join(f"{name} = {value:g}" for name, value in values.items())
        raise InputError(f"Column '{column}' is {what} at the start ({at}). Give other starts.")
    return out


@eqx.filter_jit
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
    reduced = Reduced(problem, how.linear_solver, how.jacobian)
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
    fitted = columns.phi(theta) @ point.coef
    offset = columns.offset(theta)
    if offset is not None:
        fitted = fitted + offset[:, None]
    resid = problem.weighted(problem.y - fitted)
    stats = dict(found.stats)
    return {
        "start_size": jnp.where(column_scale(used) < jnp.inf, jnp.max(jnp.abs(used), axis=0), 0.0),
        "start": columns.values(start),
        "values": columns.values(theta),
        "coef": point.coef,
        "fitted": fitted,
        "cost": reduced.cost(theta, point),
        "chisq": jnp.sum(jnp.abs(resid) ** 2),
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


def _assemble(
    built: Model,
    layout: Layout,
    params: dict[str, Param],
    data: Data,
    numbers: Numbers,
    coordinates: Coordinates,
    out: dict[str, PyTree],
) -> FitResult:
    """Names back on numbers, on the host."""
    order = list(built.order)
    parts = 2 if np.iscomplexobj(data.y) else 1
    n, k = out["coef"].shape
    free = [i for i in layout.free if not out["on_bound"][i]]
    # A prior is one more observation, of a parameter that is free to follow it.
    prior = tuple(i for i, p in enumerate(params.values()) if p.prior is not None)
    observed = sum(layout.source[i] in layout.free for i in prior)
    dof = data.effective + observed - len(free) - n * k * parts
    chisq = float(out["chisq"])
    total = chisq + prior_chisq(layout, params, out["values"])
    scale = 1.0 if data.absolute else (total / dof if dof > 0 else np.nan)
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
        message=_message(status, stop, int(stats["num_steps"])),
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
    )


def _root(variance: np.ndarray, scale: float) -> np.ndarray:
    return np.sqrt(scaled(variance, scale))


def _message(status: str, stop: str, steps: int) -> str:
    """One sentence on how the run ended."""
    if status == "nonlinear_max_steps_reached":
        return (
            f"The limit of {steps} steps came before any test was met. Give better starts or a "
            "larger max_steps."
        )
    if stop:
        return explained(STOP, stop)
    return "" if status == "failed" else explained(RESULTS, status)
