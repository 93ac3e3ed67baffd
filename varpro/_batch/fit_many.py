"""Many independent fits: the doors, starts of every curve, and threads over blocks."""

import concurrent.futures
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._given.arguments import names, whole
from .._given.containers import is_labelled
from .._parameters.tie import TieLike
from .._problem.linear_constraints import CoefficientSpec, Penalties, Relation, Strength
from .._problem.model_like import ModelLike
from .._problem.noise import Noise, noise_model
from .._problem.options import Constraints, NanPolicy, Weighting
from .._starts.declare import same_optimum
from .._status import CurveStatus
from .batch_fit import BatchFit
from .dask import dask_array, fit_chunks
from .job import BatchJob
from .labelled import Cube, make_cube
from .prepare import BatchSearch, Start, prepare
from .progress import Bar, Progress, progress_of
from .shared import fit_mixed
from .starts import improved, started


def fit_many(
    model: ModelLike,
    x: PyTree,
    y: Any = None,
    *,
    dim: str | None = None,
    init: Mapping[str, Any] | None = None,
    bounds: Mapping[str, tuple] | None = None,
    fix: str | Sequence[str] = (),
    tie: Mapping[str, TieLike] | None = None,
    order: Sequence[str] | Sequence[Sequence[str]] = (),
    inequalities: str | Sequence[str] = (),
    share: str | Sequence[str] = (),
    nonnegative: bool | str | Sequence[str] = False,
    relations: Mapping[str, Relation] | None = None,
    ridge: Penalties | None = None,
    smooth: Mapping[str, Strength] | None = None,
    real_coefficients: bool = False,
    sigma: Any = None,
    weights: Any = None,
    absolute_sigma: bool = False,
    mask: Any = None,
    nan: NanPolicy = "raise",
    noise: Noise = "normal",
    loss_scale: float = 1.0,
    start: Start = "mean",
    binning: int = 8,
    ftol: float | None = None,
    max_steps: int = 100,
    block: int | None = None,
    starts: int = 1,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | bool | None = None,
) -> BatchFit:
    """Fit the same model to many curves, each with parameters of its own: pixels, wells, spectra.

    Every curve is fitted as if it were alone: the result does not depend on its neighbours, on their
    order, or (beyond rounding) on `block` and `workers`. A curve that cannot be fitted has a status
    and no effect on others.

    **Arguments:**

    - `model`, `fix`, `tie`, `order`, `inequalities`: as in `varpro.fit`, the same for all curves.
    - `x`: sample positions (m,), shared, or (..., m) of each curve, where NaN leaves a sample out;
        for your own functions any pytree of arrays with m rows, shared. None
        for labelled data: their coordinate along `dim`.
    - `y`: data (..., m), real or complex, any batch axes before the samples. Any array that can be indexed with
        slices is read in blocks: `numpy.memmap`, a variable of h5py or zarr. Or an
        `xarray.DataArray`, whose samples lie along `dim` wherever that stands. Each chunk of a dask
        array is fitted by a task of its own: with a `distributed.Client`, on its cluster.
    - `init`: starts by name; an array of the batch's shape starts each curve elsewhere. Starts that
        are left out are found in the mean of the curves.
    - `bounds`: `{name: (lower, upper)}` of parameters, and of coefficients by the name of their column;
        numbers or arrays of the batch's shape. Equal ends hold a
        parameter at a value of each curve's own, as `fix` does where `init` is an array.
    - `share`: names and patterns such as "irf.*" of parameters that all curves have in common, sought
        together with those that each has of its own (see `varpro._batch.shared`).
    - `nonnegative`, `relations`, `ridge`, `smooth`: rules for coefficients as in `varpro.fit`, in each
        curve by itself and exactly. With up to five that are nonnegative, or three between two bounds,
        they cost next to nothing. No "gcv".
    - `real_coefficients`: of complex data, as in `varpro.fit`.
    - `sigma` or `weights`, `mask`: a number, (m,), or (..., m) for each curve; labelled arrays may
        lack dimensions. See `varpro.fit`.
    - `absolute_sigma`: take sigma as it is; else each curve's errors are scaled by its own residual.
    - `nan`: "raise" (default), for which a curve with values that are not finite has the status
        "bad_data"; or "drop", which leaves such values out.
    - `noise`, `loss_scale`: as in `varpro.fit`, for each curve by itself.
    - `start`: "mean", the starts that were given or found; "global", where a fit of the mean curve
        ends; "binned", where a fit of the mean of `binning` neighbours along every batch axis ends;
        "neighbours", every curve once more from what its neighbours found, and the better one kept.
    - `ftol`: what a Gauss-Newton step may still promise to take off chi-square, relative; 1e-9 by
        default, 1e-7 in float32. 1e-4 is a hundredth of a standard error at a hundred samples.
    - `max_steps`: evaluations per search, 100 by default.
    - `block`: curves in one call of the compiled program; 4096 by default, less for long curves.
    - `starts`, `seed`: how many starts each curve has, the given one and scrambled Sobol points of the box
        that the bounds make, as in `varpro.fit`. Coefficients are eliminated, so that a start is a
        projection: all are compared by a product of matrices, and the search begins at the best. Hundreds
        take less time than the search.
    - `workers`: threads, as many as there are cores by default.
    - `progress`: True for a bar on the terminal; or a function, called as `progress(done, total)` after
        each block, from the calling thread.

    On several devices, such as two accelerators, a block is shared among them.

    **Returns:** a `BatchFit`.

    **Raises:** `InputError` for anything given that cannot be right, before any computation.
    """
    x, y = (None, x) if y is None and is_labelled(x) else (x, y)
    coefficients = CoefficientSpec(
        nonnegative, {}, {} if relations is None else relations, ridge, smooth, real_coefficients
    )
    constraints = Constraints(init, bounds, fix, tie, order, coefficients, inequalities)
    return fit_curves(
        make_cube(x, y, dim),
        model,
        share,
        constraints,
        Weighting(sigma, weights, mask, absolute_sigma, nan, noise_model(noise, loss_scale)),
        BatchSearch(start, binning, ftol, max_steps, block, starts, seed),
        workers,
        progress,
    )


def fit_curves(
    cube: Cube,
    model: ModelLike,
    share: str | Sequence[str],
    constraints: Constraints,
    weighting: Weighting,
    search: BatchSearch,
    workers: int | None = None,
    progress: Progress | bool | None = None,
) -> BatchFit:
    """What `fit_many` does, and `varpro.fit` with columns that have parameters of their own."""
    if workers is not None:
        whole("workers", workers, 1)
    job = prepare(cube, model, constraints, weighting, search)
    shown = progress_of(progress)
    try:
        return _fitted(job, names("share", share), search, workers, shown)
    finally:
        if isinstance(shown, Bar):
            shown.close()


def _fitted(
    job: BatchJob,
    share: Sequence[str],
    search: BatchSearch,
    workers: int | None,
    progress: Progress | None,
) -> BatchFit:
    def fit_all(job: BatchJob) -> dict[str, np.ndarray]:
        return _all(job, workers, None)

    if share:
        if search.starts > 1:
            raise InputError(
                "starts= is for curves that share nothing; of these the mean tells where to begin.",
                argument="starts",
            )

        def each_block(one, job: BatchJob) -> None:
            in_threads(one, range(0, job.count, job.size), job.count, workers, progress)

        return fit_mixed(job, list(share), search, fit_all, each_block)
    job = started(job, search.start, search.binning, fit_all)
    found = _all(job, workers, progress)
    if search.start == "neighbours":
        found = improved(job, found, lambda job: _all(job, workers, progress))
    if (there := job.as_given(found)) is not None:
        again = _all(there, workers, None)
        ends = (again["cost"], again["alpha"], found["cost"], found["alpha"])
        same = same_optimum(*ends) | ~CurveStatus.converged(found["status"])
        if same.all():
            job, found = there, found | {key: again[key] for key in ("coef", "coef_stderr")}
    return job.gather(found)


def prepare_many(
    model: ModelLike,
    x: PyTree,
    y: Any = None,
    *,
    dim: str | None = None,
    init: Mapping[str, Any] | None = None,
    bounds: Mapping[str, tuple] | None = None,
    fix: str | Sequence[str] = (),
    tie: Mapping[str, TieLike] | None = None,
    order: Sequence[str] | Sequence[Sequence[str]] = (),
    inequalities: str | Sequence[str] = (),
    nonnegative: bool | str | Sequence[str] = False,
    relations: Mapping[str, Relation] | None = None,
    ridge: Penalties | None = None,
    smooth: Mapping[str, Strength] | None = None,
    real_coefficients: bool = False,
    sigma: Any = None,
    weights: Any = None,
    absolute_sigma: bool = False,
    mask: Any = None,
    nan: NanPolicy = "raise",
    noise: Noise = "normal",
    loss_scale: float = 1.0,
    start: Start = "mean",
    binning: int = 8,
    ftol: float | None = None,
    max_steps: int = 100,
    block: int | None = None,
    starts: int = 1,
    seed: int = 0,
    workers: int | None = None,
) -> BatchJob:
    """What `fit_many` does before it fits: everything checked, and starts decided.

    The job fits any rows of the data, in any order, on any machine, and the same rows give the same
    result; `varpro run` keeps finished blocks with it. Arguments as in `fit_many`.
    """
    x, y = (None, x) if y is None and is_labelled(x) else (x, y)
    coefficients = CoefficientSpec(
        nonnegative, {}, {} if relations is None else relations, ridge, smooth, real_coefficients
    )
    constraints = Constraints(init, bounds, fix, tie, order, coefficients, inequalities)
    weighting = Weighting(sigma, weights, mask, absolute_sigma, nan, noise_model(noise, loss_scale))
    search = BatchSearch(start, binning, ftol, max_steps, block, starts, seed)
    job = prepare(make_cube(x, y, dim), model, constraints, weighting, search)
    return started(job, start, binning, lambda job: _all(job, workers, None))


def _all(job: BatchJob, workers: int | None, progress: Progress | None) -> dict[str, np.ndarray]:
    """Fits of all curves: blocks on threads, or chunks where dask has its workers."""
    spread = dask_array(job.rows)
    if spread is not None:
        return fit_chunks(job, spread)
    out: dict[str, np.ndarray] = {}
    lock = threading.Lock()

    def one(first: int) -> int:
        last = min(first + job.size, job.count)
        found = job.fit_rows(first, last)
        with lock:
            for key, value in found.items():
                if key not in out:
                    out[key] = np.empty((job.count, *value.shape[1:]), value.dtype)
        for key, value in found.items():
            out[key][first:last] = value
        return last - first

    in_threads(one, range(0, job.count, job.size), job.count, workers, progress)
    return out


def in_threads(
    one: Callable[[int], int],
    starts: Sequence[int],
    total: int,
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Blocks on threads; the first alone, so that one of them compiles."""
    count = max(1, min(workers or os.cpu_count() or 1, len(starts)))
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
