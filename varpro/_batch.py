"""Many independent fits: checks, blocks of one compiled shape, and threads over blocks."""

import concurrent.futures
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._batch_fit import STATUS, BatchFit
from ._data import prepare_data
from ._guess import guess_starts
from ._lanes import MOST, Limits, Moments, inverse, moments, search_lanes
from ._noise import Noise, Reweighting, check_noise
from ._params import Layout, Param, build_layout, expand
from ._precision import precision
from ._problem import Assembled
from ._results import InputError
from ._single import ModelLike, as_basis, check_distinct, starts_of
from ._types import ArrayIn
from .basis import bare, build_model

# Lanes that are searched side by side, and curves in one call of the compiled program.
_LANES, _BLOCK = 128, 4096
# Numbers of data in one block.
_MEMORY = 2**23
_BAD, _EMPTY = STATUS.index("bad_data"), STATUS.index("no_data")


def fit_many(
    model: ModelLike,
    x: PyTree,
    y: np.ndarray,
    *,
    init: Mapping[str, Param | float | np.ndarray] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    fix: str | Sequence[str] = (),
    tie: Mapping[str, str] | None = None,
    order: Sequence[str] | Sequence[Sequence[str]] = (),
    sigma: np.ndarray | float | None = None,
    weights: np.ndarray | None = None,
    absolute_sigma: bool = False,
    mask: np.ndarray | None = None,
    noise: Noise = "normal",
    loss_scale: float = 1.0,
    ftol: float | None = None,
    max_steps: int = 100,
    block: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BatchFit:
    """Fit the same model to many curves, each with parameters of its own: pixels, wells, spectra.

    Every curve is fitted as if it were alone: the result does not depend on its neighbours, on their
    order, or (beyond rounding) on `block` and `workers`. A curve that cannot be fitted has a status
    and no effect on others.

    **Arguments:**

    - `model`, `bounds`, `fix`, `tie`, `order`: as in `varpro.fit`, the same for all curves.
    - `x`: sample positions (m,), shared; for your own functions any pytree of arrays with m rows.
    - `y`: data (..., m), real, any batch axes before the samples; a `numpy.memmap` is read in blocks.
    - `init`: starts by name; an array of the batch's shape starts each curve elsewhere. Starts that
        are left out are found in the sum of all curves.
    - `sigma` or `weights`, `mask`: (m,), or (..., m) for each curve; see `varpro.fit`.
    - `absolute_sigma`: take sigma as it is; else each curve's errors are scaled by its own residual.
    - `noise`: "normal" for least squares; "poisson" for counts: the maximum of the Poisson likelihood,
        without the bias of weights taken from the data; "huber", "soft_l1" or "cauchy" for outliers.
    - `loss_scale`: the residual, in units of sigma, from which on those losses see an outlier.
    - `ftol`: what a Gauss-Newton step may still promise to take off chi-square, relative; 1e-9 by
        default, 1e-7 in float32. 1e-4 is a hundredth of a standard error at a hundred samples.
    - `max_steps`: evaluations per search, 100 by default.
    - `block`: curves in one call of the compiled program; 4096 by default, less for long curves.
    - `workers`: threads, as many as there are cores by default.
    - `progress`: called as `progress(done, total)` after each block, from the calling thread.

    **Returns:** a `BatchFit`.

    **Raises:** `InputError` for anything given that cannot be right, before any computation.
    """
    check_noise(noise, loss_scale)
    ready = _prepared(model, x, y, init, bounds, fix, tie, order, sigma, weights, mask)
    real = ready.real
    if ftol is None:
        ftol = 1e-9 if real == np.float64 else 1e-7
    if not ftol > 0 or max_steps < 1 or (block is not None and block < 1):
        raise InputError(
            f"ftol={ftol} and block={block} must be positive, and max_steps={max_steps} 1 or more."
        )
    total = len(ready.y)
    size = min(block or max(_MEMORY // max(ready.y.shape[1], 1), 1), block or _BLOCK)
    lanes = min(_LANES, 1 << max(size - 1, 0).bit_length(), 1 << max(total - 1, 0).bit_length())
    size = min(-(-size // lanes) * lanes, -(-total // lanes) * lanes)
    reweight = None if noise == "normal" else Reweighting(noise, np.asarray(loss_scale, real))  # pyright: ignore[reportArgumentType]
    known = absolute_sigma or noise == "poisson"
    lower, upper = (ready.lower, ready.upper) if ready.bounded else (None, None)
    limits = Limits(lower, upper, np.asarray(ftol, real), np.asarray(max_steps))  # pyright: ignore
    out = _Results(ready, total)

    def one(first: int) -> int:
        rows = slice(first, min(first + size, total))
        data, status, counted = ready.block(rows, size)
        with precision(real):
            found = _program(
                ready.columns,
                *data,
                limits,
                lanes,
                reweight,
                known,
                noise == "poisson",
            )
            found = jax.device_get(found)
        out.store(rows, found, status, counted)
        return rows.stop - rows.start

    starts = range(0, total, size)
    count = max(1, min(workers or os.cpu_count() or 1, len(starts)))
    if count == 1:
        done = 0
        for first in starts:
            done += one(first)
            if progress:
                progress(done, total)
    else:
        _in_threads(one, starts, count, total, progress)
    return out.result(absolute_sigma)


def _in_threads(one, starts, count, total, progress) -> None:
    """Blocks on threads; the first alone, so that one of them compiles."""
    done = one(starts[0])
    if progress:
        progress(done, total)
    stop = threading.Event()

    def unless_stopped(first: int) -> int:
        return 0 if stop.is_set() else one(first)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        waiting = [pool.submit(unless_stopped, first) for first in starts[1:]]
        try:
            for future in concurrent.futures.as_completed(waiting):
                done += future.result()
                if progress:
                    progress(done, total)
        except BaseException:
            stop.set()  # blocks in flight end by themselves, the others never begin
            raise


class _Ready(eqx.Module):
    """Everything that is checked once: data (b, m), weights (m,), (b, m) or None, starts (b, p)."""

    y: np.ndarray
    weights: np.ndarray | None
    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    columns: Assembled
    layout: Layout
    params: dict[str, Param]
    model: Any
    x: PyTree
    shape: tuple[int, ...]
    real: np.dtype

    @property
    def bounded(self) -> bool:
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def block(self, rows: slice, size: int) -> tuple[tuple, np.ndarray, np.ndarray]:
        """Data of some curves, filled up to `size`; statuses of those that need no search; and how
        many samples each has."""
        y = np.asarray(self.y[rows], self.real)
        b, m = y.shape
        weights = self.weights
        if weights is not None and weights.ndim == 2:
            weights = np.asarray(weights[rows], self.real)
        used = np.broadcast_to(True if weights is None else weights > 0, y.shape)
        counted = used.sum(axis=1)
        bad = (~np.isfinite(y) & used).any(axis=1)
        free = len(self.layout.free) + len(self.model.columns)
        status = np.where(bad, _BAD, np.where(counted < free, _EMPTY, 0))
        y = np.where(used & (status == 0)[:, None], y, 0.0)
        # Squares neither overflow nor underflow; a term without coefficient keeps its size.
        largest = np.abs(y).max(axis=1)
        plain = (largest == 0) | bool(self.model.offsets)
        unit = np.exp2(np.round(np.log2(np.where(plain, 1.0, largest))))
        y = (y / unit[:, None]).astype(self.real)
        start = self.start[rows] if len(self.start) > 1 else np.repeat(self.start, b, axis=0)

        def filled(a: np.ndarray, dtype: type | np.dtype) -> np.ndarray:
            return np.concatenate([a, np.repeat(a[:1], size - b, axis=0)]).astype(dtype)

        if weights is not None and weights.ndim == 2:
            weights = filled(weights, self.real)
        data = (
            filled(y, self.real),
            weights,
            filled(unit, self.real),
            filled(start, self.real),
            filled(counted, np.int32),
        )
        return data, status, counted


def _prepared(model, x, y, init, bounds, fix, tie, order, sigma, weights, mask) -> _Ready:
    y = y if isinstance(y, np.ndarray) else np.asarray(y)
    if y.ndim < 1 or y.size == 0:
        raise InputError(f"y must have shape (..., m) with at least one sample, not {y.shape}.")
    if np.iscomplexobj(y):
        raise InputError(
            "Batches take real data. Fit real and imaginary part side by side, or each curve with "
            "varpro.fit."
        )
    if y.dtype == bool or not np.issubdtype(y.dtype, np.number):
        raise InputError(f"y must be numeric, but has dtype {y.dtype}.")
    real = np.dtype(np.float32 if y.dtype == np.float32 else np.float64)
    shape, m = y.shape[:-1], y.shape[-1]
    flat = y.reshape(-1, m)
    w, common = _weights(sigma, weights, mask, y.shape, real)
    # What one curve would be told about x, weights and mask, all curves are.
    sample = np.zeros(m, real)
    data = prepare_data(x, sample, weights=common, absolute_sigma=True)
    init = dict(init or {})
    each = {name: value for name, value in init.items() if np.ndim(value) > 0}  # pyright: ignore
    plain = {name: value for name, value in init.items() if name not in each}
    with precision(real):
        basis = as_basis(model, init).prepared(data.x, real)  # pyright: ignore[reportArgumentType]
        built = build_model(basis)
        params = starts_of(basis, plain, bounds or {})
        names = tuple(params)
        own = {n: np.asarray(v) for p, v in each.items() for n in expand(p, names, "init")}
        for name, value in own.items():
            if value.shape != shape:
                raise InputError(
                    f"init for {name} has shape {value.shape}, but the batch has {shape}."
                )
            old = params[name]
            middle = float(np.median(value))
            params[name] = Param(middle, old.lower, old.upper, old.fixed, old.prior)
        if any(param.prior is not None for param in params.values()):
            raise InputError("Priors are not part of batches yet. Use bounds, or fit one by one.")
        fix = [fix] if isinstance(fix, str) else fix
        chains = [order] if order and isinstance(order[0], str) else order
        if any(param.init is None for param in params.values()):
            params = guess_starts(
                basis,
                params,
                prepare_data(x, _sum(flat, real), weights=common, absolute_sigma=True),
                fix=fix,
                tie=tie,
                order=chains,
            )
        layout, numbers, coordinates = build_layout(
            params, fix=fix, tie=tie or {}, order=chains, alike=built.alike
        )
        p, n = len(layout.free), len(built.columns)
        if p > MOST or n > MOST:
            raise InputError(
                f"Batches take at most {MOST} free parameters and {MOST} columns; this model has {p} "
                f"and {n}. Fit its curves one by one with varpro.fit."
            )
        if not own:
            check_distinct(built, layout, params, data)
        numbers = jax.tree.map(lambda a: a.astype(real), numbers)
    start = coordinates.start[None]
    if own:
        start = _own_starts(own, layout, coordinates.start, len(flat))
        outside = (start < coordinates.lower) | (start > coordinates.upper)
        if outside.any():
            i, j = np.argwhere(outside)[0]
            raise InputError(
                f"init for {names[layout.free[j]]} = {start[i, j]:g} at curve {i} lies outside its "
                f"bounds [{coordinates.lower[j]:g}, {coordinates.upper[j]:g}]."
            )
    columns = Assembled(bare(built), bare(layout), numbers, data.x, ())
    lower, upper = coordinates.lower.astype(real), coordinates.upper.astype(real)
    return _Ready(
        *(flat, w, start.astype(real), lower, upper, columns, layout),
        *(params, built, data.x, shape, real),
    )


def _sum(flat: np.ndarray, real: np.dtype) -> np.ndarray:
    """The mean of the curves that are finite, of at most some thousands of them."""
    some = flat[:: max(1, len(flat) // 4096)]
    good = np.isfinite(some).all(axis=1)
    if not good.any():
        raise InputError(
            "Every curve has values that are not finite, so that no start can be found."
        )
    return some[good].mean(axis=0).astype(real)


def _weights(sigma, weights, mask, shape, real) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weights (m,) or (b, m), and those of a typical curve for the checks of one."""
    if sigma is not None and weights is not None:
        raise InputError("Give sigma or weights, not both.")
    found = None
    for what, value in (("sigma", sigma), ("weights", weights)):
        if value is None:
            continue
        array = np.asarray(value, real)
        _fits(what, array, shape)
        if what == "sigma" and not (array > 0).all():
            raise InputError("sigma must be positive everywhere. Leave samples out with mask=.")
        if not np.isfinite(array).all() or (array < 0).any():
            raise InputError(f"{what} must be finite and not negative.")
        found = 1.0 / array if what == "sigma" else array
    if mask is not None:
        array = np.asarray(mask)
        if array.dtype != bool:
            raise InputError(f"mask must be boolean, but has dtype {array.dtype}.")
        _fits("mask", array, shape)
        found = np.where(array, 1.0 if found is None else found, 0.0).astype(real)
    if found is None:
        return None, None
    m = shape[-1]
    if found.ndim <= 1:
        one = np.broadcast_to(found, (m,)).astype(real)
        if not (one > 0).any():
            raise InputError("No sample carries weight: all are masked or of zero weight.")
        return one, one
    return np.broadcast_to(found, shape).reshape(-1, m), None


def _fits(what: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape not in ((), shape[-1:], shape):
        raise InputError(
            f"{what} has shape {array.shape}; expected a number, {shape[-1:]} or {shape}."
        )


def _own_starts(own, layout: Layout, start: np.ndarray, b: int) -> np.ndarray:
    if layout.above:
        raise InputError("Starts of single curves and order= do not go together. Use bounds.")
    out = np.repeat(start[None], b, axis=0)
    for j, i in enumerate(layout.free):
        if layout.names[i] in own:
            out[:, j] = own[layout.names[i]].reshape(-1)
    return out


class _Results:
    """Arrays that blocks write their rows of."""

    def __init__(self, ready: _Ready, total: int):
        self.ready = ready
        q, n = len(ready.layout.names), len(ready.model.columns)
        self.alpha = np.full((total, q), np.nan, ready.real)
        self.alpha_stderr, self.coef = self.alpha.copy(), np.full((total, n), np.nan, ready.real)
        self.coef_stderr, self.chisq = self.coef.copy(), np.full(total, np.nan, ready.real)
        self.dof = np.zeros(total, np.int64)
        self.num_steps, self.status = np.zeros(total, np.int32), np.zeros(total, np.int8)

    def store(self, rows: slice, found: dict, status: np.ndarray, counted: np.ndarray) -> None:
        b = rows.stop - rows.start
        good = status == 0
        order = list(self.ready.model.order)
        self.status[rows] = np.where(good, found["status"][:b], status)
        self.num_steps[rows] = np.where(good, found["steps"][:b], 0)
        self.dof[rows] = np.where(good, found["dof"][:b], 0)
        for name in ("alpha", "alpha_stderr", "chisq"):
            value = found[name][:b]
            mask = good.reshape(-1, *([1] * (value.ndim - 1)))
            getattr(self, name)[rows] = np.where(mask, value, np.nan)
        for name in ("coef", "coef_stderr"):
            getattr(self, name)[rows] = np.where(good[:, None], found[name][:b, order], np.nan)

    def result(self, absolute: bool) -> BatchFit:
        ready = self.ready
        shape, model = ready.shape, ready.model

        def shaped(a):
            return a.reshape((*shape, *a.shape[1:]))

        return BatchFit(
            names=ready.layout.names,
            columns=tuple(model.columns[i] for i in model.order),
            alpha=shaped(self.alpha),
            alpha_stderr=shaped(self.alpha_stderr),
            coef=shaped(self.coef),
            coef_stderr=shaped(self.coef_stderr),
            chisq=shaped(self.chisq),
            dof=shaped(self.dof),
            num_steps=shaped(self.num_steps),
            status=shaped(self.status),
            x=ready.x,
            absolute_sigma=absolute,
            params=ready.params,
            layout=ready.layout,
            model=model,
        )


@eqx.filter_jit
def _program(
    columns: Assembled,
    y: Float[ArrayIn, "b m"],
    weights: Float[ArrayIn, "*b m"] | None,
    unit: Float[ArrayIn, " b"],
    start: Float[ArrayIn, "b p"],
    counted: ArrayIn,
    limits: Limits,
    lanes: int,
    reweight: Reweighting | None,
    known: bool,
    counts: bool,
) -> dict[str, Array]:
    """Search and statistics of one block; one program per shape."""
    y, unit, start = jnp.asarray(y), jnp.asarray(unit), jnp.asarray(start)
    found = search_lanes(columns, y, weights, unit, start, limits, lanes, reweight)
    own = weights is not None and weights.ndim == 2

    def one(args):
        theta, coef, y, unit, counted, w = args
        w = w if own else weights
        if reweight is not None:
            given = jnp.ones_like(y) if w is None else jnp.asarray(w)
            offset = columns.offset(theta)
            model = columns.phi(theta) @ coef
            w = reweight(model if offset is None else model + offset, y, given, unit)
        theta = columns.layout.arranged(theta)
        at = moments(columns, theta, y, w)
        return _statistics(columns, theta, at, unit, counted, limits, known, counts)

    # Curves side by side as in the search, a few at a time.
    w = jnp.asarray(weights) if own else jnp.zeros((len(y), 0), y.dtype)
    each = found.theta, found.coef, y, unit, jnp.asarray(counted), w
    b = len(y)
    chunks = jax.tree.map(lambda a: a.reshape(b // lanes, lanes, *a.shape[1:]), each)
    out = jax.lax.map(jax.vmap(one), chunks)
    out = jax.tree.map(lambda a: a.reshape(b, *a.shape[2:]), out)
    return out | {"status": found.status, "steps": found.steps}


def _statistics(
    columns: Assembled,
    theta: Float[Array, " p"],
    at: Moments,
    unit: Float[Array, ""],
    counted: Array,
    limits: Limits,
    known: bool,
    counts: bool,
) -> dict[str, Array]:
    """Values and standard errors of one curve; see `varpro._stats` for the formulas."""
    p, n = theta.size, at.coef.size
    on_bound = jnp.zeros((p,), bool)
    if limits.lower is not None and limits.upper is not None:
        on_bound = (theta <= limits.lower) | (theta >= limits.upper)
    dof = counted - jnp.sum(~on_bound) - n
    # Data and model were divided by `unit`; counts have the variance of their mean.
    precise = unit if counts else unit**2
    chisq = 2 * at.cost * precise
    share = 1.0 / precise if known else 2 * at.cost / jnp.where(dof > 0, dof, 1)
    share = jnp.where((dof > 0) | known, share, jnp.nan)
    both = (~on_bound)[:, None] & ~on_bound
    eye = jnp.eye(p, dtype=theta.dtype)
    spread, lost = inverse(jnp.where(both, at.kaufman, eye)) if p else (eye, on_bound)
    spread, lost = jnp.where(both, spread, 0.0), lost & ~on_bound
    gram, lost_coef = inverse(at.gram)
    gain = gram @ jnp.where(on_bound, 0.0, at.cross)
    values = columns.values(theta)
    transform = jax.jacfwd(columns.values)(theta)
    moves = transform != 0
    variance = jnp.sum((transform @ spread) * transform, axis=1)
    variance = jnp.where(moves @ lost, jnp.inf, variance)
    variance = jnp.where(moves @ on_bound, jnp.nan, variance)
    linear = jnp.diagonal(gram) + jnp.sum((gain @ spread) * gain, axis=1)
    linear = jnp.where(lost_coef | ((gain != 0) @ lost), jnp.inf, linear)
    return {
        "alpha": values,
        "alpha_stderr": jnp.sqrt(variance * share),
        "coef": at.coef * unit,
        "coef_stderr": jnp.sqrt(linear * share) * unit,
        "chisq": chisq,
        "dof": dof,
    }
