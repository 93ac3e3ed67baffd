"""Profile likelihood: how chi-square rises as a quantity is held away from its value in the fit.

With S(v) the least chi-square (priors included) with the quantity at v, and s^2 the variance of the
noise (the reduced chi-square, or 1 if sigma is absolute),

    tau(v) = sign(v - v_fit) sqrt((S(v) - S(v_fit)) / s^2)

is the profile t function of Bates and Watts, Nonlinear Regression Analysis (1988), 6.1: a straight
line for a linear model. The interval of level P is where |tau| is at most the t quantile of
(1 + P) / 2; that is lmfit's F test, F(1, dof; P) = t^2, and the likelihood ratio for known sigma.
For two quantities the bound on tau^2 / 2 is F(2, dof; P), or half the quantile of chi-square(2).
"""

import equinox as eqx
import numpy as np

from ._fitted import Fitted
from ._held import Refits, holder, needs_optimum
from ._intervals import Intervals
from ._joint import Quantity
from ._quantities import check_level, noise_variance, quantile
from ._results import InputError

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
    `alpha` (s, q) and `coef` (s, n) or (s, n, k) of all parameters; `ok` (s,), whether each refit
    converged.
    """

    name: str
    value: np.ndarray
    tau: np.ndarray
    chisq: np.ndarray
    alpha: np.ndarray
    coef: np.ndarray
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


def profile(fit: Fitted, one: Quantity, points: int, span: float) -> Profile:
    """`points` values from `-span` to `span` standard errors."""
    needs_optimum(fit, "profile")
    if points < 2 or not span > 0:
        raise InputError(f"points={points} must be 2 or more, and span={span} positive.")
    held = holder(fit, [[one]])
    delta = np.linspace(-span, span, points)
    target = held.start[0] + delta[:, None] * held.unit[0]
    out = held.refit(np.zeros(points, int), target, None)
    tau = np.sign(out.held[:, 0] - held.start[0, 0]) * _tau(fit, out.chisq)
    coef = out.coef[..., 0] if fit.coef.ndim == 1 else out.coef
    return Profile(one.label, out.held[:, 0], tau, out.chisq, out.alpha, coef, out.ok)


def contour(fit: Fitted, pair: tuple[Quantity, Quantity], points: int, span: float) -> Contour:
    """A grid of `points` x `points` over `span` standard errors either way."""
    from scipy.special import chdtr, fdtr

    needs_optimum(fit, "profile")
    if points < 2 or not span > 0:
        raise InputError(f"points={points} must be 2 or more, and span={span} positive.")
    if pair[0] == pair[1]:
        raise InputError(f"A contour is of two different numbers, not of '{pair[0].label}' twice.")
    held = holder(fit, [list(pair)])
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


def profile_intervals(fit: Fitted, level: float, chosen: tuple[Quantity, ...]) -> Intervals:
    """Both limits of every quantity, all in the same lanes of one program."""
    check_level(level)
    needs_optimum(fit, "profile")
    limits = _Limits(fit, chosen, quantile(fit, level))
    limits.search()
    value, notes = limits.result()
    r = len(chosen)
    return Intervals(
        tuple(one.label for one in chosen),
        limits.held.start[:, 0],
        value[:r],
        value[r:],
        level,
        "profile",
        notes[:r],
        notes[r:],
        limits.better,
    )


class _Limits:
    """The search for limits: lane i < r goes down from quantity i, lane r + i goes up.

    Works on delta, the distance in standard errors, and f = tau - threshold, which is nearly linear
    in it: secants, kept in a bracket, reach full precision in a few refits.
    """

    def __init__(self, fit: Fitted, chosen: tuple[Quantity, ...], threshold: float):
        self.fit, self.threshold = fit, threshold
        self.held = holder(fit, [[one] for one in chosen])
        self.precision = _PRECISION if fit.alpha.dtype == np.float64 else _COARSE
        r = len(chosen)
        self.which = np.tile(np.arange(r), 2)
        self.sign = np.repeat([-1.0, 1.0], r)
        # The bracket: f < 0 at `low`, f >= 0 (or no fit at all) at `high`, once that is known.
        self.low, self.f_low = np.zeros(2 * r), np.full(2 * r, -threshold)
        self.high, self.f_high = np.full(2 * r, np.inf), np.full(2 * r, np.inf)
        self.trial = np.full(2 * r, threshold)
        self.theta = np.repeat(np.asarray(fit.optimum.theta)[None], 2 * r, axis=0)
        self.limit, self.notes = np.full(2 * r, np.nan), [""] * (2 * r)
        self.done, self.doubt = np.zeros(2 * r, bool), np.zeros(2 * r, bool)
        self.width = np.full(2 * r, np.inf)  # of the bracket, two trials ago
        self.better: dict[str, float] | None = None
        self.least = 2.0 * fit.cost

    def search(self) -> None:
        for round_ in range(_TRIALS):
            lanes = np.flatnonzero(~self.done)
            if lanes.size == 0:
                return
            self._step(lanes, warm=round_ > 0)
        for lane in np.flatnonzero(~self.done).tolist():
            self._end(lane, np.nan, "failed")

    def result(self) -> tuple[np.ndarray, tuple[str, ...]]:
        start, unit = self.held.start[self.which, 0], self.held.unit[self.which, 0]
        return start + self.sign * self.limit * unit, tuple(self.notes)

    def _end(self, lane: int, limit: float, note: str = "") -> None:
        self.limit[lane], self.notes[lane], self.done[lane] = limit, note, True

    def _step(self, lanes: np.ndarray, warm: bool) -> None:
        held, which = self.held, self.which[lanes]
        start, unit = held.start[which], held.unit[which]
        target = start + (self.sign[lanes] * self.trial[lanes])[:, None] * unit
        theta = None
        if warm:
            # From the last point of the profile, moved along as the covariance says.
            at = start + (self.sign[lanes] * self.low[lanes])[:, None] * unit
            theta = self.theta[lanes] + np.einsum("lpr,lr->lp", held.ahead[which], target - at)
        out = held.refit(which, target, theta)
        delta = self.sign[lanes] * (out.held - start)[:, 0] / unit[:, 0]
        f = np.where(np.isfinite(out.chisq), _tau(self.fit, out.chisq) - self.threshold, np.nan)
        for i, lane in enumerate(lanes.tolist()):
            self._judge(lane, delta[i], f[i], out, i)

    def _judge(self, lane: int, delta: float, f: float, out: Refits, i: int) -> None:
        """What one refit says, and where to look next."""
        trial = self.trial[lane]
        if not np.isfinite(f):
            self.high[lane], self.f_high[lane] = trial, np.inf
        else:
            self._note_minimum(out, i)
            if delta > 0.01 and self._is_lower(out.chisq[i]):
                self._end(lane, np.nan, "lower minimum")
                return
            stopped = delta < trial * (1.0 - 1e-3) - 1e-4
            self.doubt[lane] = not out.ok[i]
            if f < 0:
                if stopped:
                    # Held further out it does not follow: it stands on a bound.
                    self._end(lane, delta, "bound" if out.ok[i] else "failed")
                    return
                before, f_before = self.low[lane], self.f_low[lane]
                self.low[lane], self.f_low[lane], self.theta[lane] = delta, f, out.theta[i]
                if np.isinf(self.high[lane]):
                    self._outwards(lane, before, f_before)
                    return
            else:
                self.high[lane], self.f_high[lane] = delta, f
        self._inwards(lane)

    def _outwards(self, lane: int, before: float, f_before: float) -> None:
        low, f = self.low[lane], self.f_low[lane]
        if low > _FAR:
            self._end(lane, np.inf, "open")
            return
        slope = (f - f_before) / (low - before) if low > before else 0.0
        step = -f / slope * 1.02 if slope > 0 else np.inf
        self.trial[lane] = low + np.clip(step, 1e-3 * low + 1e-9, 3.0 * low + 1e-9)

    def _inwards(self, lane: int) -> None:
        low, high = self.low[lane], self.high[lane]
        width, grain = high - low, self.precision * max(1.0, high * 1e-6)
        secant = np.nan
        if np.isfinite(self.f_high[lane]):
            secant = low - self.f_low[lane] * width / (self.f_high[lane] - self.f_low[lane])
        near = min(secant - low, high - secant) if np.isfinite(secant) else np.inf
        if width <= grain or near <= grain:
            broken = not np.isfinite(self.f_high[lane])
            jump = not broken and width <= grain and self.f_high[lane] - self.f_low[lane] > 1e-2
            note = "failed" if self.doubt[lane] else "edge" if broken or jump else ""
            self._end(lane, np.nan if note == "failed" else low if broken else secant, note)
            return
        # A bracket that two secants did not halve is halved.
        slow = width > 0.5 * self.width[lane]
        self.width[lane] = width
        middle = 0.5 * (low + high)
        self.trial[lane] = middle if slow or not np.isfinite(secant) else secant

    def _is_lower(self, chisq: float) -> bool:
        rounding = 100 * float(np.finfo(self.fit.alpha.dtype).eps) * self.fit.cost
        return bool(chisq < 2.0 * self.fit.cost - 1e-6 * noise_variance(self.fit) - rounding)

    def _note_minimum(self, out: Refits, i: int) -> None:
        if self._is_lower(out.chisq[i]) and out.chisq[i] < self.least:
            self.least = float(out.chisq[i])
            self.better = dict(zip(self.fit.names, out.alpha[i].tolist(), strict=True))


def _tau(fit: Fitted, chisq: np.ndarray) -> np.ndarray:
    rise = np.maximum(chisq - 2.0 * fit.cost, 0.0)
    return np.sqrt(rise / noise_variance(fit))
