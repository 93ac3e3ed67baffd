"""How often 95 % intervals hold the truth, in simulated data sets fitted in lanes of one program.

Shared by `test_coverage.py` and `scripts/bench/coverage.py`. Each data set is fitted from the truth
(starts are not the question here); then each quantity is held at its true value, which tells whether
the profile interval holds it without looking for the limits: it does where the rise of chi-square is
below the bound.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import varpro as vp
from varpro._problem.columns import Assembled
from varpro._problem.problem import Problem
from varpro._reduced.common_basis import Reduced
from varpro._search.minimise import locate
from varpro._statistics.bands import _variance
from varpro._statistics.constrained_refit import constrained_refits
from varpro._statistics.covariance import covariance_blocks
from varpro._statistics.joint_covariance import Optimum
from varpro._statistics.penalised import Penalised
from varpro._statistics.quantities import quantities
from varpro._statistics.refit_problem import refit_problem
from varpro._status import RESULTS

LEVEL = 0.95
LANES = 100


@dataclasses.dataclass(frozen=True)
class Case:
    """A model that starts from its true parameters, and the true columns `phi(x)` (m, n); `coef`
    (n,) or (n, k); `sigma` of the noise, a number or (m,); what the fit is told (`told`: keyword
    arguments of `fit`); and `at`, two x for the curve."""

    name: str
    model: vp.AbstractBasis
    phi: Callable[[np.ndarray], np.ndarray]
    x: np.ndarray
    coef: np.ndarray
    sigma: np.ndarray | float
    at: tuple[float, float]
    told: dict = dataclasses.field(default_factory=dict)

    def curve(self, x: np.ndarray) -> np.ndarray:
        return self.phi(np.asarray(x)) @ self.coef

    def noisy(self, rng: np.random.Generator, sets: int) -> np.ndarray:
        """Data sets (sets, *shape of y)."""
        clean = self.curve(self.x)
        sigma = np.broadcast_to(np.asarray(self.sigma), self.x.shape)
        sigma = sigma.reshape(-1, *([1] * (clean.ndim - 1)))
        return clean + sigma * rng.normal(size=(sets, *clean.shape))

    def fit(self, y: np.ndarray) -> vp.FitResult:
        return vp.fit(self.model, self.x, y, **self.told)


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Shares of data sets whose intervals hold the truth, by name, among the `given` that have one;
    `failed` fits did not converge and count as misses."""

    names: tuple[str, ...]
    covariance: np.ndarray
    profile: np.ndarray
    given: np.ndarray
    failed: int


def band(sets: int, level: float = 0.99) -> tuple[float, float]:
    """Within which the share of exact intervals lies with this probability."""
    low, high = scipy.stats.binom.interval(level, sets, LEVEL)
    return low / sets, high / sets


def coverage(case: Case, sets: int, seed: int = 0) -> Coverage:
    """Simulate, fit and count."""
    data = case.noisy(np.random.default_rng(seed), sets)
    one = case.fit(data[0])
    chosen = quantities(one, None, None if data.ndim == 2 else 0)
    theta = np.array([one.params[one.names[i]].init for i in one.layout.free])
    true = np.concatenate([theta, case.coef.reshape(len(one.columns), -1)[:, 0]])
    held = constrained_refits(one, [[c] for c in chosen])
    stack = [held.held(i, true[i : i + 1]) for i in range(len(chosen))]
    stack = jax.tree.map(lambda *a: np.stack(a), *stack)
    curve = case.curve(np.array(case.at)).reshape(2, -1)[:, 0]
    at = np.array(case.at)
    parts = []
    for first in range(0, sets, LANES):
        y = data[first : first + LANES]
        y = np.concatenate([y, np.repeat(y[:1], LANES - len(y), axis=0)])
        y = y.reshape(LANES, len(case.x), -1)
        columns = _columns(one, at)
        out = _simulate(refit_problem(one), y, theta, stack, columns, one.absolute_sigma)
        parts.append(jax.device_get(out))
    value, variance, rise, bound, ok = (np.concatenate(a)[:sets] for a in zip(*parts, strict=True))
    # A coordinate on its bound is one parameter less.
    dof = one.dof - int(one.at_bound.sum()) + bound
    if one.absolute_sigma:
        t = np.full(sets, scipy.stats.norm.ppf(0.5 + LEVEL / 2))
    else:
        t = scipy.stats.t.ppf(0.5 + LEVEL / 2, dof)
    expected = np.concatenate([true, curve])
    with np.errstate(invalid="ignore"):
        inside = np.abs(value - expected) <= t[:, None] * np.sqrt(variance)
        given = ~np.isnan(variance) | ~ok[:, None]
        by_covariance = (inside & ok[:, None]).sum(axis=0) / given.sum(axis=0)
        by_profile = ((rise <= t[:, None] ** 2) & ok[:, None]).mean(axis=0)
    names = (*(c.label for c in chosen), *(f"curve at {x:g}" for x in case.at))
    by_profile = np.concatenate([by_profile, np.full(2, np.nan)])
    return Coverage(names, by_covariance, by_profile, given.sum(axis=0), int((~ok).sum()))


def _columns(fit: vp.FitResult, x: np.ndarray) -> Assembled:
    columns = refit_problem(fit).problem.columns
    return Assembled(columns.model, columns.layout, columns.numbers, x, ())


@eqx.filter_jit
def _simulate(refit_problem, ys, theta0, held, at, absolute):
    """Per data set: values (r + 2,), variances, rise of chi-square in units of the noise (r,) with
    each quantity held at the truth, number of coordinates on a bound, and success."""
    problem, limits, how = refit_problem
    columns = problem.columns
    lower, upper = (-jnp.inf, jnp.inf) if limits[0] is None else limits
    dof = problem.y.size - theta0.size - len(columns.model.columns) * problem.y.shape[1]

    def one(y):
        reduced = Reduced(Problem(columns, y, problem.weights), how.linear_solver, how.jacobian)
        theta, found, point = locate(reduced, limits, jnp.asarray(theta0), how)
        on_bound = (theta <= lower) | (theta >= upper)
        blocks = covariance_blocks(reduced, theta, point, on_bound)
        transform = jax.jacfwd(columns.values)(theta)
        chisq = 2 * reduced.cost(theta, point)
        bound = jnp.sum(on_bound)
        noise = 1.0 if absolute else chisq / (dof + bound)
        optimum = Optimum(theta, theta, theta, columns.numbers, (), transform, blocks)
        curve, spread = _variance(at, optimum, point.coef, (), False, False)
        free, order = np.array(columns.layout.free), np.array(columns.model.order)
        coef = point.coef[order]
        value = [columns.values(theta)[free], coef[:, 0], curve[0, :, 0]]
        variance = [blocks.value_variance(transform)[free], blocks.coef_variance()[order, 0]]
        variance.append(spread[0, 0, :, 0])

        def rise(held):
            pulled = Penalised(reduced, held)
            there, _, at_ = locate(pulled, limits, theta, how)
            return (pulled.answer(there, at_)[1] - chisq) / noise

        ok = found.result == RESULTS.successful
        variance = noise * jnp.concatenate(variance)
        return jnp.concatenate(value), variance, jax.vmap(rise)(held), bound, ok

    return jax.vmap(one)(ys)


def _decays(*taus: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.stack([np.exp(-x / tau) for tau in taus] + [np.ones_like(x)], 1)


def _peaks(x: np.ndarray) -> np.ndarray:
    one, two = (np.exp(-0.5 * ((x - at) / w) ** 2) for at, w in ((3.0, 0.6), (5.0, 0.9)))
    return np.stack([one, two, np.ones_like(x)], 1)


_T = np.linspace(0.0, 20.0, 80)
_RAMP = 0.01 * (1.0 + _T / 5.0)
_TWO = vp.Exp("fast", tau=1.0) + vp.Exp("slow", tau=6.0) + vp.Constant("bg")
_PEAKS = vp.Gaussian("one", center=3.0, width=0.6) + vp.Gaussian("two", center=5.0, width=0.9)
_C = np.array([3.0, 2.0, 0.5])
_MANY = np.stack([_C * (1.0 + 0.1 * j) * [1.0, np.cos(j), 1.0] for j in range(20)], axis=1)


def _bounded(upper: float) -> dict:
    return {"bounds": {"slow.tau": (1.0, upper)}}


CASES = {
    case.name: case
    for case in (
        Case("exponentials", _TWO, _decays(1, 6), _T, _C, 0.02, (2.0, 30.0)),
        Case(
            *("peaks", _PEAKS + vp.Constant("bg"), _peaks, np.linspace(0.0, 10.0, 80)),
            *(np.array([4.0, 2.0, 0.5]), 0.1, (3.0, 4.0)),
        ),
        Case("many right-hand sides", _TWO, _decays(1, 6), _T[::2], _MANY, 0.05, (2.0, 30.0)),
        Case(
            *("weighted, up to a factor", _TWO, _decays(1, 6), _T, _C, _RAMP, (2.0, 30.0)),
            {"sigma": 7.0 * _RAMP},
        ),
        Case(
            *("weighted, absolute", _TWO, _decays(1, 6), _T, _C, _RAMP, (2.0, 30.0)),
            {"sigma": _RAMP, "absolute_sigma": True},
        ),
        Case(
            *("bounded, far from the bound", _TWO, _decays(1, 6), _T, _C, 0.02, (2.0, 30.0)),
            _bounded(9.0),
        ),
        Case(
            *("bounded, one error from the bound", _TWO, _decays(1, 6), _T, _C, 0.02, (2.0, 30.0)),
            _bounded(6.15),
        ),
        Case(
            *("strongly curved", vp.Exp("decay", tau=1.5) + vp.Constant("bg"), _decays(1.5)),
            *(np.linspace(0.0, 2.0, 12), np.array([1.0, 0.2]), 0.04, (1.0, 4.0)),
        ),
        Case(
            *("uneven noise, no weights", _TWO, _decays(1, 6), _T, _C),
            *(np.where(_T > 8.0, 0.03, 0.002), (2.0, 30.0)),
        ),
    )
}
