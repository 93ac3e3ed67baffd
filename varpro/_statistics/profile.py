"""Profile likelihood: how chi-square rises as a quantity is held away from its value in the fit.

With S(v) the least chi-square (priors included) with the quantity at v, and s^2 the variance of the
noise (the reduced chi-square, or 1 if sigma is absolute),

    tau(v) = sign(v - v_fit) sqrt((S(v) - S(v_fit)) / s^2)

is the profile t function of Bates and Watts, Nonlinear Regression Analysis (1988), 6.1: a straight
line for a linear model. The interval of level P is where |tau| is at most the t quantile of
(1 + P) / 2; that is lmfit's F test, F(1, dof; P) = t^2, and the likelihood ratio for known sigma.
For two quantities the bound on tau^2 / 2 is F(2, dof; P), or half the quantile of chi-square(2).
"""

from collections.abc import Generator
from typing import NamedTuple

import equinox as eqx
import numpy as np

from .._errors import InputError
from .._given.arguments import number, whole
from .constrained_refit import SLACK, AbstractRefits, constrained_refits
from .intervals import Intervals
from .joint_covariance import Quantity
from .quantities import noise_variance, quantile
from .record import AbstractLeastSquares, Fitted
from .refit_problem import needs_optimum
from .student import check_level

# Standard errors from which on a limit that is not found counts as infinite.
_FAR = 1e6
# Trial values per limit, far beyond what bisection needs.
_TRIALS = 100
# Precision of a limit in standard errors, and what float32 can do instead.
_PRECISION, _COARSE = 1e-7, 1e-3


class Profile(eqx.Module):
    """The profile of one quantity.

    **Fields:** `name`; `value` (s,) at which it is held, ascending; `tau` (s,), the signed root of
    the rise of chi-square over the variance of the noise; `chisq` (s,), with priors; the traces
    `alpha` (s, q) and `coef` (s, n) or (s, n, k) of all parameters, of several data sets a dict of these;
    `ok` (s,), whether each refit converged.
    """

    name: str
    value: np.ndarray
    tau: np.ndarray
    chisq: np.ndarray
    alpha: np.ndarray
    coef: np.ndarray | dict[str, np.ndarray]
    ok: np.ndarray


class Contour(eqx.Module):
    """The profile of two quantities on a grid.

    **Fields:** `names`; `first` (s,) and `second` (t,), the values; `chisq` (s, t), with priors;
    `level` (s, t), the confidence of the region on whose edge each point lies: the contour line of
    0.95 bounds the joint 95 % region; `ok` (s, t), whether each refit converged.
    """

    names: tuple[str, str]
    first: np.ndarray
    second: np.ndarray
    chisq: np.ndarray
    level: np.ndarray
    ok: np.ndarray


def profile(fit: AbstractLeastSquares, one: Quantity, points: int, span: float) -> Profile:
    """`points` values from `-span` to `span` standard errors."""
    needs_optimum(fit, "profile")
    if whole("points", points) < 2 or not 0 < number("span", span) < np.inf:
        raise InputError(f"points={points} must be 2 or more, and span={span} positive.")
    held = constrained_refits(fit, [[one]])
    delta = np.linspace(-span, span, points)
    target = held.start[0] + delta[:, None] * held.unit[0]
    out = held.refit(np.zeros(points, int), target, None)
    tau = np.sign(out.held[:, 0] - held.start[0, 0]) * _tau(fit, out.chisq)
    coef = {
        key.removesuffix("."): c[..., 0] if part.coef.ndim == 1 else c
        for (key, part), c in zip(fit.parts.items(), out.coefs, strict=True)
    }
    traces = coef[""] if isinstance(fit, Fitted) else coef
    return Profile(one.label, out.held[:, 0], tau, out.chisq, out.values, traces, out.ok)


def contour(
    fit: AbstractLeastSquares, pair: tuple[Quantity, Quantity], points: int, span: float
) -> Contour:
    """A grid of `points` x `points` over `span` standard errors either way."""
    from scipy.special import chdtr, fdtr

    needs_optimum(fit, "profile")
    if whole("points", points) < 2 or not 0 < number("span", span) < np.inf:
        raise InputError(f"points={points} must be 2 or more, and span={span} positive.")
    if pair[0] == pair[1]:
        raise InputError(f"A contour is of two different numbers, not of '{pair[0].label}' twice.")
    held = constrained_refits(fit, [list(pair)])
    delta = np.linspace(-span, span, points)
    first, second = (held.start[0, i] + delta * held.unit[0, i] for i in (0, 1))
    target = np.stack([a.ravel() for a in np.meshgrid(first, second, indexing="ij")], axis=1)
    out = held.refit(np.zeros(len(target), int), target, None)
    # Springs give way by a millionth of a standard error; where a bound does not, there is no value.
    there = np.all(np.abs(out.held - target) <= 1e-3 * held.unit[0], axis=1)
    rise = np.where(there & out.ok, _tau(fit, out.chisq) ** 2, np.nan)
    level = chdtr(2.0, rise) if fit.absolute_sigma else fdtr(2.0, float(fit.dof), rise / 2.0)
    shape = (points, points)
    chisq = np.where(there, out.chisq, np.nan).reshape(shape)
    names = (pair[0].label, pair[1].label)
    return Contour(names, first, second, chisq, level.reshape(shape), out.ok.reshape(shape))


def profile_intervals(
    fit: AbstractLeastSquares, level: float, chosen: tuple[Quantity, ...]
) -> Intervals:
    """Both limits of every quantity."""
    check_level(level)
    needs_optimum(fit, "profile")
    if (
        not chosen
    ):  # of several right-hand sides none but nonlinear parameters are meant unless they are named
        none = np.zeros(0)
        return Intervals((), none, none, none, level, "profile", (), ())
    return limits_of(constrained_refits(fit, [[one] for one in chosen]), level)


def limits_of(held: AbstractRefits, level: float) -> Intervals:
    """Both limits of everything that is held, all in the same lanes of one program."""
    fit, r = held.fit, len(held.labels)
    threshold = quantile(fit, level)
    # Lane i < r goes down from quantity i, lane r + i goes up.
    which, sign = np.tile(np.arange(r), 2), np.repeat([-1.0, 1.0], r)
    start, unit = held.start[which, 0], held.unit[which, 0]
    precision = _PRECISION if fit.alpha.dtype == np.float64 else _COARSE
    give = 100.0 * float(np.finfo(fit.alpha.dtype).eps) ** (2 * SLACK)
    searches = {lane: _limit(threshold, precision, give) for lane in range(2 * r)}
    trial = np.array([next(search) for search in searches.values()])
    # The outermost point inside that is not at infinity: the next refit starts from there, moved as the
    # covariance says.
    low, alpha = np.zeros(2 * r), np.repeat(held.origin[None], 2 * r, axis=0)
    lower, upper = held.limits
    limit, notes = np.full(2 * r, np.nan), [""] * (2 * r)
    better, least = None, 2.0 * fit.cost
    while searches:
        lanes = np.array(list(searches))
        move = sign[lanes] * (trial[lanes] - low[lanes]) * unit[lanes]
        begin = alpha[lanes] + held.ahead[which[lanes], :, 0] * move[:, None]
        target = start[lanes] + sign[lanes] * trial[lanes] * unit[lanes]
        out = held.refit(which[lanes], target[:, None], begin)
        delta = sign[lanes] * (out.held[:, 0] - start[lanes]) / unit[lanes]
        f = np.where(np.isfinite(out.chisq), _tau(fit, out.chisq) - threshold, np.nan)
        bound = np.any((out.alpha <= lower) | (out.alpha >= upper), axis=1) | out.beyond
        for i, lane in enumerate(lanes.tolist()):
            chisq = float(out.chisq[i])
            if _lower(fit, chisq) and chisq < least:
                least = chisq
                better = dict(zip(fit.names, out.values[i].tolist(), strict=True))
            if f[i] < 0 and out.ended[i]:
                low[lane], alpha[lane] = delta[i], out.alpha[i]
            numbers = float(delta[i]), float(f[i])
            met = _Met(*numbers, bool(out.ok[i]), _lower(fit, chisq), bool(bound[i]))
            try:
                trial[lane] = searches[lane].send(met)
            except StopIteration as end:
                limit[lane], notes[lane] = end.value
                del searches[lane]
    value = start + sign * limit * unit
    return Intervals(
        held.labels,
        held.start[:, 0],
        value[:r],
        value[r:],
        level,
        "profile",
        tuple(notes[:r]),
        tuple(notes[r:]),
        better,
    )


class _Met(NamedTuple):
    """What a refit says: the distance reached, f there, whether it converged, whether chi-square is
    below that of the fit, and whether a coordinate stands on a bound."""

    delta: float
    f: float
    ok: bool
    lower: bool
    bound: bool


def _limit(
    threshold: float, precision: float, give: float
) -> Generator[float, _Met, tuple[float, str]]:
    """The search for one limit: yields distances from the fit in standard errors, is sent what the
    refits there met, and returns the limit with a note. `give` is more than what penalty give way.

    f = tau - threshold is nearly linear in the distance: secants, kept in a bracket, reach full
    precision in a few refits. f < 0 at `low`, f >= 0 (or no fit at all) at `high`.
    """
    low, f_low, high, f_high = 0.0, -threshold, np.inf, np.inf
    trial, width, doubt, pull = threshold, np.inf, False, 0.0
    for _ in range(_TRIALS):
        met = yield trial
        lost = False
        if np.isnan(met.f):
            high, f_high = trial, np.inf
        elif met.lower and met.delta > 0.01:
            return np.nan, "lower minimum"
        else:
            doubt, pull = not met.ok, trial - met.delta
            # Rounding of chi-square: the bracket has become too small for it.
            lost = not low < met.delta < high
            if met.f >= 0:
                high, f_high = (high, f_high) if lost else (met.delta, met.f)
            elif pull > give * (1.0 + trial):
                # Held further out it does not follow.
                found = "bound" if met.bound else "edge"
                return (met.delta, found) if met.ok else (np.nan, "failed")
            elif not lost:
                before, f_before = low, f_low
                low, f_low = met.delta, met.f
                if np.isinf(high):
                    if low > _FAR:
                        return np.inf, "open"
                    slope = (f_low - f_before) / (low - before) if low > before else 0.0
                    step = -1.02 * f_low / slope if slope > 0 else np.inf
                    trial = low + float(np.clip(step, 1e-3 * low + 1e-9, 3.0 * low + 1e-9))
                    continue
        before, width = width, high - low
        rounding_level = precision * max(1.0, high * 1e-6)
        broken = np.isinf(f_high)
        secant = low if broken else low - f_low * width / (f_high - f_low)
        near = not broken and min(secant - low, high - secant) <= rounding_level
        if width <= rounding_level or near or lost:
            if doubt:
                return np.nan, "failed"
            jump = broken or (width <= rounding_level and f_high - f_low > 1e-2)
            return secant, "edge" if jump else ""
        # A bracket that a secant did not halve is halved; penalty give way as they did last.
        trial = pull + (0.5 * (low + high) if broken or width > 0.5 * before else secant)
    return np.nan, "failed"


def _lower(fit: AbstractLeastSquares, chisq: float) -> bool:
    rounding = 100 * float(np.finfo(fit.alpha.dtype).eps) * fit.cost
    return bool(chisq < 2.0 * fit.cost - 1e-6 * noise_variance(fit) - rounding)


def _tau(fit: AbstractLeastSquares, chisq: np.ndarray) -> np.ndarray:
    rise = np.maximum(chisq - 2.0 * fit.cost, 0.0)
    return np.sqrt(rise / noise_variance(fit))
