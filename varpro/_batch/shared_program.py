"""The searches of curves for given values of the parameters that they share; see `varpro._batch.shared`."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._parameters.layout import Numbers
from .._places import taken
from .._problem.columns import Assembled
from .._programs.program import program
from .._reduced.normal_equations import Curve, frozen_weights, moments
from .._search.batched_levenberg import Limits, search_lanes
from .._statistics.per_curve import noise_variance, variances
from .._status import CurveStatus
from .._types import ArrayIn, precision
from ..basis import without_names
from ..linalg._cholesky import inverse
from .ends import by_lanes, ends_of, own_and_common
from .job import FIELDS, BatchJob
from .prepare import mean_curve
from .program import information, robust_variance, told, without_effect

_FINISHED = (
    *(CurveStatus.SUCCESSFUL, CurveStatus.FLOOR, CurveStatus.STUCK, CurveStatus.MAX_STEPS),
)


class Evaluated(NamedTuple):
    """F and its derivatives at one s, summed over curves, and where the curves are."""

    cost: float
    gradient: np.ndarray
    full: np.ndarray
    kaufman: np.ndarray
    alpha: np.ndarray  # (b, l), of each curve
    slope: np.ndarray  # (b, l, s), dl/ds
    dof: float
    used: np.ndarray  # (b,), which curves are in the sums
    ended: np.ndarray  # (b,), which of them are at their own minimum
    spread: float  # what divided by `dof` is the variance of the noise


@dataclasses.dataclass(frozen=True)
class Prior:
    """Priors of shared parameters, which count once and not for every curve."""

    mean: np.ndarray
    sd: np.ndarray  # of a residual in the unit of all costs

    @classmethod
    def of(cls, job: BatchJob, shared: list[int], scale: float) -> "Prior":
        at = [job.layout.free[j] for j in shared]
        numbers = job.columns.numbers
        sd = np.asarray(numbers.prior_sd, float)[at] * scale**0.5
        return cls(np.asarray(numbers.prior_mean, float)[at], sd)

    def added(self, s: np.ndarray, seen: Evaluated) -> Evaluated:
        r, more = (s - self.mean) / self.sd, np.diag(1.0 / self.sd**2)
        return seen._replace(
            cost=seen.cost + 0.5 * float(r @ r),
            gradient=seen.gradient + r / self.sd,
            full=seen.full + more,
            kaufman=seen.kaufman + more,
            dof=seen.dof + np.isfinite(self.sd).sum(),
            spread=seen.spread + float(r @ r),
        )


class InnerFits:
    """The searches of all curves for given s."""

    def __init__(self, job: BatchJob, shared: list[int], local: list[int]):
        self.shared, self.local = tuple(shared), tuple(local)
        layout = job.layout
        self.at = np.array([layout.free[j] for j in shared])
        free = tuple(layout.free[j] for j in local)
        exchange = tuple(
            tuple(tuple(local.index(j) for j in row) for row in chain) for chain in layout.exchange
        )
        inner = dataclasses.replace(
            layout, free=free, above=(), has_ceiling=(), exchange=exchange, pivots=()
        )
        own = tuple(i for i in job.columns.priors if i in free)
        self.outer = dataclasses.replace(job.columns, priors=own)
        columns = dataclasses.replace(job.columns, layout=without_names(inner), priors=own)
        box = None if job.box is None else tuple(a[..., local] for a in job.box)
        self.job = dataclasses.replace(
            job,
            layout=inner,
            columns=columns,
            start=job.start[:, local],
            box=box,
            limits=dataclasses.replace(job.limits, inverses=job.limits.inverses.among(local)),
        )
        self.known = job.variance_known
        # A number of the size of the data, so that sums of squares neither overflow nor underflow.
        largest = np.nanmax(
            np.abs(mean_curve(job.rows, job.weighing, np.promote_types(job.dtype, float)))
        )
        self.unit = float(np.exp2(np.round(np.log2(largest)))) if largest > 0 else 1.0
        self.scale = self.unit**job.limits.noise.degree

    def evaluate(self, s, alpha, used, each_block, prior: Prior) -> Evaluated:
        """F at s; curves begin at `alpha` (b, l), if given, and those of `used` count."""
        job, size = self.job, len(s)
        count, own = job.count, len(self.local)
        at = np.zeros((count, own), job.real)
        slope = np.zeros((count, own, size), job.real)
        sums: dict[int, tuple] = {}
        mask, ended = np.zeros(count, bool), np.zeros(count, bool)
        moved = job if alpha is None else job.with_starts(alpha)

        def one(first: int) -> int:
            last = min(first + job.size, count)
            curves, start, counted, status = moved.block_inputs(first, last)
            found = self.run(curves, start, counted, s, None, None)
            b = last - first
            at[first:last] = found["own"][:b]
            slope[first:last] = found["slope"][:b]
            fine = (status == 0) & np.isin(found["ended"][:b], _FINISHED)
            fine &= np.isfinite(found["cost"][:b])
            now = fine if used is None else used[first:last]
            mask[first:last] = now
            ended[first:last] = CurveStatus.converged(found["ended"][:b])
            keys = ("cost", "gradient", "full", "kaufman", "dof", "spread")
            sums[first] = tuple(
                np.sum(found[key][:b][now], axis=0, dtype=np.float64) for key in keys
            )
            return b

        each_block(one, job)
        # In the order of the curves, whichever block was done first.
        total: list[Any] = [sum(sums[first][i] for first in sorted(sums)) for i in range(6)]
        cost, gradient, full, kaufman, dof, spread = total
        dof = float(dof) - size
        matrices = (gradient, full, kaufman)
        seen = Evaluated(float(cost), *matrices, at, slope, dof, mask, ended, float(spread))
        return prior.added(s, seen)

    def statistics(self, s, alpha, spread, free, each_block) -> dict[str, np.ndarray]:
        """What is known of each curve at the optimum."""
        job = self.job
        moved = job.with_starts(alpha)
        out: dict[str, np.ndarray] = {}

        def one(first: int) -> int:
            last = min(first + job.size, job.count)
            curves, start, counted, status = moved.block_inputs(first, last)
            found = job.finalise(self.run(curves, start, counted, s, spread, free), status)
            for key in FIELDS:
                out.setdefault(key, np.empty((job.count, *found[key].shape[1:]), found[key].dtype))
                out[key][first:last] = found[key]
            return last - first

        each_block(one, job)
        return out

    def run(self, curves, start, counted, s, spread, free) -> dict[str, Any]:
        job = self.job
        with precision(job.real):
            shared: Any = np.asarray(s, job.real)
            begin = np.asarray(job.columns.numbers.start, job.real).copy()
            begin[self.at] = shared
            numbers = dataclasses.replace(job.columns.numbers, start=begin)
            unit: Any = np.asarray(self.unit, job.real)
            if spread is None:
                spread, free = np.zeros((len(s), len(s))), np.ones(len(s), bool)
            wide: Any = np.asarray(spread, job.real), np.asarray(free)
            found = _mixed_block(
                *(
                    job.columns,
                    self.outer,
                    numbers,
                    curves,
                    start,
                    counted,
                    job.limits,
                    shared,
                    wide,
                ),
                *(unit, np.asarray(self.known), self.shared, self.local, job.lanes),
            )
            return jax.device_get(found)


@program
def _mixed_block(
    inner: Assembled,
    outer: Assembled,
    numbers: Numbers,
    curves: Curve,
    start: Float[ArrayIn, "b l"],
    counted: ArrayIn,
    limits: Limits,
    s: Float[ArrayIn, " s"],
    spread: tuple[ArrayIn, ArrayIn],
    scale: Float[ArrayIn, ""],
    known: Bool[ArrayIn, ""],
    shared: tuple[int, ...],
    local: tuple[int, ...],
    lanes: int,
) -> dict[str, Array]:
    """Searches of b curves at s; what the outer step adds up, and values with errors for `spread`, the
    covariance of s and which of it is inside its bounds: one program, as the searches take most of it."""
    inner = dataclasses.replace(inner, numbers=numbers)
    curves, start = jax.tree.map(jnp.asarray, curves), jnp.asarray(start)
    found = search_lanes(inner, curves, start, limits, lanes)
    each, common = own_and_common(curves)
    of_s, of_l = np.array(shared, int), np.array(local, int)
    back_in_order = np.argsort(np.concatenate([of_l, of_s]))
    s = jnp.asarray(s)

    def one(end, curve, counted):
        curve = curve._replace(**common)
        alpha = end.alpha
        before = (
            frozen_weights(curve.placed(inner), alpha, end.coef)
            if limits.noise.follows_model
            else None
        )
        whole = taken(jnp.concatenate([alpha, s.astype(alpha.dtype)]), back_in_order)
        at = moments(outer, whole, curve, limits.noise, before)
        inside = jnp.ones(alpha.shape, bool)
        if curve.lower is not None and curve.upper is not None:
            inside = (alpha > curve.lower) & (alpha < curve.upper)
        unit, degree = jnp.asarray(curve.unit), limits.noise.degree
        precise, small = unit**degree, (unit / scale) ** degree
        prior = outer.prior(whole)
        dof, own = noise_variance(outer, at, prior, counted, inside, precise, known)
        seen = information(outer, end._replace(alpha=whole), at, curve, limits)
        if limits.noise.robust:
            own = robust_variance(limits.noise, at, curve, dof)

        def parts(matrix):
            pair = inside[:, None] & inside
            low = matrix[of_l][:, of_l]
            back, lost = inverse(jnp.where(pair, low, jnp.eye(len(local), dtype=low.dtype)))
            back = jnp.where(pair, back, 0.0)
            slope = -back @ matrix[of_l][:, of_s]
            schur = matrix[of_s][:, of_s] + matrix[of_s][:, of_l] @ slope
            return back, lost & inside, slope, schur

        _, _, slope, full = parts(at.full)
        back, lost, towards, kaufman = parts(seen.kaufman)
        lost = lost | (without_effect(outer, at, seen, whole)[of_l] & inside)
        out = {"chisq": at.squares * precise, "dof": dof, "own": alpha, "cost": at.cost * small}
        out |= {"ended": end.status, "steps": end.steps, "slope": slope}
        gradient = at.gradient[of_s] + slope.T @ at.gradient[of_l]
        sums = {"gradient": gradient, "full": full, "kaufman": kaufman}
        sums["spread"] = own * dof if limits.noise.robust else 2.0 * at.cost
        out |= {k: v * small for k, v in sums.items()}
        wide, free = (jnp.asarray(a) for a in spread)
        # Joint covariance of s and l, and with it of all that follows from them.
        sure = jnp.where(jnp.isfinite(wide), wide, 0.0)
        mixed = towards @ sure
        joint = jnp.block([[back * own + mixed @ towards.T, mixed], [mixed.T, sure]]).astype(
            alpha.dtype
        )
        joint = taken(taken(joint, back_in_order).T, back_in_order).T
        gone = taken(jnp.concatenate([lost, jnp.isinf(jnp.diagonal(wide))]), back_in_order)
        held = taken(jnp.concatenate([~inside, ~free]), back_in_order)
        values, linear = variances(outer, whole, seen, joint, own, gone, held, held)
        return out | {
            "status": told(end.status, lost),
            "alpha": outer.values(whole),
            "alpha_stderr": jnp.sqrt(values),
            "coef": jnp.asarray(outer.linear.all_of(at.coef * unit)),
            "coef_stderr": jnp.sqrt(linear) * unit,
        }

    ends = ends_of(inner, found, each, common, limits, lanes)
    return by_lanes(one, (ends, each, jnp.asarray(counted)), lanes)
