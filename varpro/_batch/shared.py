"""Curves that share some parameters and have the others to themselves.

minimise over s    F(s) = sum_i min over l_i of F_i(s, l_i)

with F_i the cost of curve i once its coefficients are eliminated, s what all curves share and l_i
what is curve i's own. It is variable projection once more: the l_i are found exactly, in lanes, for
each s, so that by the envelope theorem the gradient of F is the sum of those by s; and with J_i^T J_i
in blocks, the Gauss-Newton matrix of F is the sum of Schur complements

    S = sum_i (H_ss - H_sl H_ll^{-1} H_ls),     dl_i/ds = -H_ll^{-1} H_ls,     cov(s) = sigma^2 S^{-1}

which is the arrow-shaped matrix of the joint problem with all l_i eliminated. Each evaluation of F is
one pass over the curves, whose searches begin where dl_i/ds says, and take a step or two.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from .._errors import InputError
from .._parameters.layout import expand
from .._status import CurveStatus
from .batch_fit import BatchFit
from .job import BatchJob
from .prepare import BatchSearch
from .shared_program import Evaluated, InnerFits, Prior
from .starts import started

# Passes at most, the distance from the optimum in standard errors at which to stop, and the part of
# the cost that is rounding.
_PASSES, _NEAR, _GRAIN = 60, 1e-4, 1e-12
# Rounds in which other curves end by themselves, at most.
_ROUNDS = 4

FitAll = Callable[[BatchJob], dict[str, np.ndarray]]


def fit_mixed(
    job: BatchJob,
    share: Sequence[str],
    search: BatchSearch,
    fit_all: FitAll,
    each_block: Callable[[Callable[[int], int], BatchJob], None],
) -> BatchFit:
    """The fit of `job` in which the parameters of `share` are the same for all curves; `search` says
    where the others begin (see `varpro._batch.starts`)."""
    if search.start == "neighbours":
        raise InputError(
            "share: start='neighbours' is for curves that share nothing.", argument="share"
        )
    names = job.layout.names
    wanted = {name for pattern in share for name in expand(pattern, names, "share")}
    shared, local = _places(job, wanted)
    if not shared:
        raise InputError(
            "share: all of these are fixed or tied. Leave share= out.", argument="share"
        )
    if len(job.start) > 1 and (job.start[:, shared] != job.start[:1, shared]).any():
        raise InputError(
            "share: a parameter that all curves share has one start.", argument="share"
        )
    box, mine = job.box, None
    if box is not None:
        ends = tuple(np.atleast_2d(a)[:, shared] for a in box)
        if any((a != a[:1]).any() for a in ends):
            raise InputError(
                "share: a parameter that all curves share has the same bounds.", argument="share"
            )
        mine = tuple(a[0].astype(float) for a in ends)
    begun = started(job, "global", 1, fit_all).start[0, shared].astype(float)
    inner = InnerFits(started(job, search.start, search.binning, fit_all), shared, local)
    outer = BoxedStart(begun, mine)
    prior = Prior.of(job, shared, inner.scale)
    at = inner.evaluate(outer.start, None, None, each_block, prior)
    if not at.used.any():
        raise InputError(
            "share: no curve could be fitted, so there is nothing to share.", argument="share"
        )
    s, good, whole = outer.start, False, at.used
    for _ in range(_ROUNDS):
        # A curve that is not at its own minimum says nothing true of what all share.
        counted = whole & at.ended if (whole & at.ended).any() else whole
        if (counted != at.used).any():
            at = inner.evaluate(s, at.alpha, counted, each_block, prior)
        s, at, good = _minimum(inner, outer, s, at, each_block, prior)
        if (at.used == (whole & at.ended)).all():
            break
    free = outer.inside(s)
    unit = at.spread / at.dof if at.dof > 0 else np.nan
    unit = 1.0 / inner.scale if inner.known else unit
    spread = np.zeros_like(at.kaufman)
    spread[np.ix_(free, free)] = unit * _inverse(at.kaufman[np.ix_(free, free)])
    found = inner.statistics(s, at.alpha, spread, free, each_block)
    if not good:
        ended = CurveStatus.converged(found["status"])
        found["status"][ended] = CurveStatus.MAX_STEPS
    return job.gather(found, tuple(names[job.layout.free[j]] for j in shared))


def _minimum(
    inner: InnerFits,
    outer: "BoxedStart",
    s: np.ndarray,
    at: Evaluated,
    each_block: Callable[[Callable[[int], int], BatchJob], None],
    prior: Prior,
) -> tuple[np.ndarray, Evaluated, bool]:
    """Levenberg-Marquardt of F from s, where it is known: where it ends, and whether at a minimum."""
    used, damping = at.used, 1e-3
    scale = np.diag(at.full)
    for _ in range(_PASSES):
        scale = np.maximum(scale, np.diag(at.full))
        free = outer.free(s, at.gradient)
        newton = _least(at.full, at.gradient, free, scale, 0.0)
        unit = 1.0 / inner.scale if inner.known else 2 * at.cost / max(at.dof, 1.0)
        if -(at.gradient @ newton) <= _NEAR**2 * unit:
            return s, at, True
        step = outer.clipped(s, _least(at.full, at.gradient, free, scale, damping)) - s
        predicted = -(at.gradient @ step + 0.5 * step @ at.full @ step)
        if predicted <= _GRAIN * at.cost or damping > 1e12:
            return s, at, bool(predicted <= _GRAIN * at.cost)
        alpha = at.alpha + (at.slope @ step).astype(at.alpha.dtype)
        trial = inner.evaluate(s + step, alpha, used, each_block, prior)
        if np.isfinite(trial.cost) and at.cost - trial.cost > 1e-4 * predicted:
            s, at, damping = s + step, trial, damping / 10
        else:
            damping *= 10
    return s, at, False


def _places(job: BatchJob, wanted: set[str]) -> tuple[list[int], list[int]]:
    """Positions in alpha of what is shared and of what is each curve's own."""
    layout = job.layout
    if layout.chained:
        raise InputError(
            "share= and this order= or inequalities= do not go together. Use bounds.",
            argument="share",
        )
    shared = [j for j, i in enumerate(layout.free) if layout.names[i] in wanted]
    for chain in layout.exchange:
        among = {j for row in chain for j in row}
        if among & set(shared):
            raise InputError("share: what is ordered cannot be shared.", argument="share")
    return shared, [j for j in range(len(layout.free)) if j not in shared]


def _least(matrix, gradient, free, scale, damping) -> np.ndarray:
    step = np.zeros_like(gradient)
    if free.any():
        unit = np.sqrt(np.where(scale > 0, scale, 1.0))[free]
        scaled = matrix[np.ix_(free, free)] / unit / unit[:, None]
        scaled = scaled + damping * np.eye(len(unit))
        step[free] = -np.linalg.lstsq(scaled, gradient[free] / unit, rcond=1e-14)[0] / unit
    return step


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse, infinite where the curves together do not determine a parameter."""
    unit = np.sqrt(np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0))
    values, vectors = np.linalg.eigh(matrix / unit / unit[:, None])
    lost = values <= len(values) * 1e-14
    inverse = (vectors / np.where(lost, np.inf, values)) @ vectors.T
    out = inverse / unit / unit[:, None]
    weak = (np.abs(vectors[:, lost]) > 1e-6).any(axis=1)
    out[np.diag_indices_from(out)] = np.where(weak, np.inf, np.diag(out))
    return out


@dataclasses.dataclass(frozen=True)
class BoxedStart:
    """Start and bounds of the shared parameters."""

    start: np.ndarray
    box: tuple[np.ndarray, np.ndarray] | None

    def free(self, s: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        if self.box is None:
            return np.ones(s.shape, bool)
        out = (s <= self.box[0]) & (gradient > 0) | (s >= self.box[1]) & (gradient < 0)
        return ~out

    def clipped(self, s: np.ndarray, step: np.ndarray) -> np.ndarray:
        return s + step if self.box is None else np.clip(s + step, *self.box)

    def inside(self, s: np.ndarray) -> np.ndarray:
        if self.box is None:
            return np.ones(s.shape, bool)
        return (s > self.box[0]) & (s < self.box[1])
