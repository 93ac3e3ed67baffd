"""Where the search of each curve of a batch begins: a fit of the mean, of bins, or of neighbours."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from .._errors import InputError
from .._problem.noise import NORMAL
from .._status import CurveStatus
from .curves import Rows, Weighing
from .job import BatchJob
from .prepare import Start, in_use, mean_curve

# Fits all curves of a job.
FitAll = Callable[[BatchJob], dict[str, np.ndarray]]
# By how much of itself a cost must be lower to be lower.
_LOWER = 1e-6
# Rounds of starts from neighbours at most.
_ROUNDS = 4


def started(job: BatchJob, start: Start, binning: int, fit_all: FitAll) -> BatchJob:
    """The job with the starts that `start` stands for."""
    if start in ("mean", "neighbours") or not job.layout.free:
        return job
    if job.layout.chained:
        raise InputError(
            f"start={start!r} and this order= or inequalities= do not go together. Use bounds."
        )
    middle = _from(job, mean_curve(job.rows, job.weighing, job.dtype)[None], fit_all)
    job = job.with_starts(np.repeat(middle, len(job.start), axis=0))
    if start == "global":
        return job
    coarse, shape = _binned(job.rows, job.weighing, binning, job.dtype)
    starts = _from(job, coarse, fit_all).reshape(*shape, -1)
    for axis, n in enumerate(job.shape):
        starts = np.repeat(starts, binning, axis=axis).take(np.arange(n), axis=axis)
    return job.with_starts(starts.reshape(job.count, -1))


def _from(job: BatchJob, curves: np.ndarray, fit_all: FitAll) -> np.ndarray:
    """Where fits of other curves (b, m) end, in coordinates (b, p); where one fails, its start."""
    box = job.box
    if box is not None and box[0].ndim == 2:
        # Wherever some curve may go.
        box = box[0].min(axis=0), box[1].max(axis=0)
    start = job.start[:1] if len(job.start) == 1 else np.median(job.start, axis=0)[None]
    start = start if box is None else np.clip(start, *box)
    limits = job.limits
    if limits.noise.follows_model and not limits.noise.robust:
        # The search of a curve passes the optimum of least squares on its way, and that does as a start.
        limits = dataclasses.replace(limits, noise=NORMAL)
    coarse = dataclasses.replace(
        job,
        rows=Rows(curves, 1),
        weighing=job.weighing if not job.weighing.own else Weighing(None, None, None, drop=True),
        start=start.astype(job.real),
        box=box,
        limits=limits,
        coef_box=_widest(job.coef_box),
        source=None,
        dims=None,
        coords={},
        block=None,
    ).sized()
    found = fit_all(coarse)
    good = CurveStatus.converged(found["status"])
    return np.where(good[:, None], found["alpha"][:, list(job.layout.free)], start)


def _widest(box: tuple[np.ndarray, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Bounds that hold where those of some curve do."""
    if box is None or box[0].ndim == 1:
        return box
    return box[0].min(axis=0), box[1].max(axis=0)


def _binned(
    rows: Rows, weighing: Weighing, binning: int, dtype: np.dtype
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Means over bins of `binning` along every batch axis, without values that are not finite or not in
    use; the data are read once, in lines along the first axis."""
    shape = tuple(-(-n // binning) for n in rows.shape)
    total = np.zeros((*shape, rows.samples), np.promote_types(dtype, float))
    count = np.zeros((*shape, rows.samples), np.int32)
    inner = rows.count // rows.shape[0] if rows.shape else 1
    for line in range(rows.shape[0] if rows.shape else 1):
        data = rows.read(line * inner, (line + 1) * inner).astype(dtype)
        good = in_use(weighing, line * inner, (line + 1) * inner, data) & np.isfinite(data)
        data, good = (a.reshape(*rows.shape[1:], rows.samples) for a in (data, good))
        data = np.where(good, data, 0.0)
        for axis, n in enumerate(rows.shape[1:]):
            edges = np.arange(0, n, binning)
            data = np.add.reduceat(data, edges, axis=axis)
            good = np.add.reduceat(good.astype(np.int32), edges, axis=axis)
        at = line // binning if rows.shape else ...
        total[at] += data
        count[at] += good
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean.reshape(-1, rows.samples).astype(dtype), shape


def improved(job: BatchJob, found: dict[str, np.ndarray], fit_all: FitAll) -> dict[str, np.ndarray]:
    """Every curve once more from where the best fit among its neighbours ended, and the better kept:
    a curve that failed, or that ended in a minimum that is not the lowest, gets a second chance, and
    so do its own neighbours then."""
    if not job.layout.free or not job.shape:
        return found
    if job.layout.chained:
        raise InputError(
            "start='neighbours' and this order= or inequalities= do not go together. Use bounds."
        )
    for _ in range(_ROUNDS):
        again = fit_all(job.with_starts(_of_best_neighbour(job, found)))
        better = CurveStatus.converged(again["status"])
        lower = again["cost"] < found["cost"] * (1 - _LOWER)
        better &= ~CurveStatus.converged(found["status"]) | lower
        if not better.any():
            break
        found = {
            key: np.where(better.reshape(-1, *[1] * (old.ndim - 1)), again[key], old)
            for key, old in found.items()
        }
    return found


def _of_best_neighbour(job: BatchJob, found: dict[str, np.ndarray]) -> np.ndarray:
    """Where the best fit among the neighbours of each curve, also diagonal ones, ended (b, p)."""
    good = CurveStatus.converged(found["status"]) & (found["dof"] > 0)
    alpha = found["alpha"][:, list(job.layout.free)].reshape(*job.shape, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        worth = np.where(good, found["cost"] / found["dof"], np.inf).reshape(job.shape)
    padded = np.pad(worth, 1, constant_values=np.inf)
    best, of = np.full(job.shape, np.inf), np.broadcast_to(job.start, (job.count, alpha.shape[-1]))
    of = of.reshape(alpha.shape).copy()
    wide = np.pad(alpha, [(1, 1)] * len(job.shape) + [(0, 0)])
    for step in itertools.product((0, 1, 2), repeat=len(job.shape)):
        if all(s == 1 for s in step):
            continue
        where = tuple(slice(s, s + n) for s, n in zip(step, job.shape, strict=True))
        lower = padded[where] < best
        best = np.where(lower, padded[where], best)
        of = np.where(lower[..., None], wide[where], of)
    return of.reshape(job.count, -1)
