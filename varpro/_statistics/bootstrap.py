"""The bootstrap: fits of data drawn anew from what the fit has found.

With mu the fitted curve, w the weights (1 if there are none) and e_i = w_i (y_i - mu_i) / sqrt(1 - h_i),
less their mean, the residuals brought to the variance of the noise (h is the leverage of the whole
model, nonlinear parameters included), a replicate has

- "residual": mu + e_j / w_i with j drawn from the samples: noise of one distribution;
- "wild": mu +- e_i / w_i, the sign drawn: noise whose size may differ from sample to sample;
- "case": the samples themselves, each as often as it is drawn (a weight): nothing is assumed of the
    noise, and the design is random too;
- "poisson": counts of mean mu.

All right-hand sides of a sample are drawn together, so what correlates them stays. A prior is one
more observation, drawn about the fitted value with its own standard deviation. Davison and Hinkley,
Bootstrap Methods and their Application (1997), 6.2, 6.3 and 7.6; Wu, Ann. Statist. 14 (1986) 1261.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Int, PyTree, UInt

from .._errors import InputError
from .._given.arguments import whole
from .._problem.columns import Assembled
from .._problem.problem import Problem
from .._programs.program import program
from .._reduced.by_group import reduction
from .._reduced.multi_dataset import Several
from .._search.minimise import locate
from .._status import Status
from .._types import ArrayIn, precision
from ..linalg._carried import carried
from .bands import leverage
from .constrained_refit import all_coefficients
from .derivation import Derivation
from .derived import values_along
from .intervals import Intervals
from .joint_covariance import Quantity
from .quantities import check_choice, drawn, noise_variance, quantities, values
from .record import AbstractLeastSquares, Fitted
from .refit_problem import RefitProblem, lanes, needs_optimum, placed_problem
from .student import check_level

BootstrapKind = Literal["residual", "wild", "case", "poisson"]
LimitKind = Literal["percentile", "basic"]
# Replicates in one call of the compiled program: all wait for the slowest of them.
_LANES = 64
# A sample that decides a parameter alone has no residual to speak of.
_LEAST = 1e-3


class Bootstrap(eqx.Module):
    """The replicates of a bootstrap, and what follows from them.

    **Fields:** `fit`; `kind`; `alpha` (b, q), `coef` (b, n) or (b, n, k), of several data sets a dict of
    these, `cost` (b,) and `status` (b,), names of `RESULTS`, of all b replicates, in the order of the fit. Statistics leave out the
    replicates that did not converge: `ok` (b,) marks the others, `failed` counts them.
    """

    fit: AbstractLeastSquares
    kind: BootstrapKind
    alpha: np.ndarray
    coef: np.ndarray | dict[str, np.ndarray]
    cost: np.ndarray
    status: np.ndarray

    @property
    def ok(self) -> np.ndarray:
        finite = np.isfinite(self.alpha).all(axis=1)
        for coef in self._coefs:
            finite &= np.isfinite(coef.reshape(len(coef), -1)).all(axis=1)
        return finite & (self.status == "successful")

    @property
    def _coefs(self) -> list[np.ndarray]:
        """The coefficients of each data set."""
        return list(self.coef.values()) if isinstance(self.coef, dict) else [self.coef]

    @property
    def failed(self) -> int:
        return int(np.sum(~self.ok))

    def samples(
        self, names: str | Sequence[str] | None = None, rhs: int | Sequence[int] | None = None
    ) -> np.ndarray:
        """The converged replicates (b, r) of chosen numbers, `names` and `rhs` as in
        `FitResult.covariance_of`."""
        return self._samples(quantities(self.fit, names, rhs))

    @property
    def covariance(self) -> np.ndarray:
        """Joint covariance of the replicates, in the order of `fit.cov_names`."""
        asked = [self.fit.names[i] for i in self.fit.layout.free]
        asked += self.fit.columns if isinstance(self.fit, Fitted) else ()
        chosen = quantities(self.fit, asked, 0)
        return np.atleast_2d(np.cov(self._samples(chosen), rowvar=False))

    @property
    def stderr(self) -> dict[str, float | np.ndarray]:
        """Standard deviations of the replicates by name, in the shapes of `FitResult.stderr`."""
        return self._by_name(lambda drawn, at: np.std(drawn, axis=0, ddof=1))

    @property
    def bias(self) -> dict[str, float | complex | np.ndarray]:
        """Mean of the replicates less the value of the fit, by name: what curvature of the model
        adds to the estimate, to first order."""
        return self._by_name(lambda drawn, at: np.mean(drawn, axis=0) - at)

    def _by_name(self, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict:
        self._enough()
        fit = self.fit
        found = [*zip(fit.names, statistic(self.alpha[self.ok], fit.alpha), strict=True)]
        for (key, one), coef in zip(fit.parts.items(), self._coefs, strict=True):
            names = [f"{key}{column}" for column in one.columns]
            found += zip(names, statistic(coef[self.ok], one.coef), strict=True)
        return {name: a.item() if np.ndim(a) == 0 else a for name, a in found}

    def _enough(self) -> None:
        if len(self.ok) - self.failed < 2:
            raise InputError(
                f"{self.failed} of {len(self.ok)} replicates did not converge: too few are left. "
                "Look at .status, and at fit.diagnostics."
            )

    def ci(
        self,
        level: float = 0.95,
        names: str | Sequence[str] | None = None,
        rhs: int | Sequence[int] | None = None,
        kind: LimitKind = "percentile",
    ) -> Intervals:
        """Confidence intervals from the quantiles of the replicates.

        **Arguments:**

        - `level`: the confidence, 0.95 by default.
        - `names`, `rhs`: as in `FitResult.covariance_of`.
        - `kind`: "percentile": the quantiles themselves. "basic": mirrored at the value of the fit,
            which corrects for bias and may pass beyond a bound.

        **Raises:** `InputError` for an unknown name, kind or right-hand side, a level outside 0 to
        1, or fewer than two replicates that converged.
        """
        check_level(level)
        check_choice(kind, LimitKind, "kind")
        chosen = quantities(self.fit, names, rhs)
        self._enough()
        drawn, at = self._samples(chosen), values(self.fit, chosen)
        tail = 0.5 * (1.0 - level)
        lower, upper = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
        if kind == "basic":
            lower, upper = 2 * at - upper, 2 * at - lower
        labels, none = tuple(one.label for one in chosen), ("",) * len(chosen)
        return Intervals(
            labels, at, lower, upper, level, "bootstrap", none, none, failed=self.failed
        )

    def derive(self, what: Derivation, level: float = 0.95) -> Intervals:
        """Percentile intervals of numbers that follow from a fit, as `FitResult.derive` takes them: also
        where these are far from linear, such as a ratio whose denominator is badly known.

        **Raises:** `InputError` as there, and for several right-hand sides.
        """
        check_level(level)
        self._enough()
        ok, fit = self.ok, self.fit
        if isinstance(fit, Fitted) and fit.coef.ndim > 1:
            raise InputError("derive is for one right-hand side.")
        names, drawn = values_along(fit, what, self.alpha[ok], [c[ok] for c in self._coefs])
        at_fit = [one.coef[None] for one in fit.parts.values()]
        _, at = values_along(fit, what, fit.alpha[None], at_fit)
        tail = 0.5 * (1.0 - level)
        lower, upper = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
        none = ("",) * len(names)
        return Intervals(
            names, at[0], lower, upper, level, "bootstrap", none, none, failed=self.failed
        )

    def _samples(self, chosen: Sequence[Quantity]) -> np.ndarray:
        return drawn(self.fit, chosen, self.alpha, self._coefs)[self.ok]

    def __str__(self) -> str:
        text = f"{self.kind} bootstrap of {len(self.ok)} replicates"
        if self.failed:
            text += f", {self.failed} of them left out: they did not converge"
        return text


class _Source(NamedTuple):
    """What replicates of a data set are drawn from: the fitted curve (m, k), residuals for unit noise (m, k),
    the indices of the `count` samples in use, with m behind them."""

    fitted: Inexact[ArrayIn, "m k"]
    resid: Inexact[ArrayIn, "m k"]
    used: Int[ArrayIn, " m"]
    count: Int[ArrayIn, ""]


class _Priors(NamedTuple):
    """The values (q,) that priors are drawn about, and the noise for them."""

    values: Float[ArrayIn, " q"]
    noise: Float[ArrayIn, ""]


def bootstrap(
    fit: AbstractLeastSquares, n: int, kind: BootstrapKind, key: int | Array
) -> Bootstrap:
    """Described in `FitResult.bootstrap`."""
    if whole("n", n) < 1:
        raise InputError(f"n={n} replicates were asked for; give 1 or more, such as 1000.")
    n, key = int(n), random_key(key)
    needs_optimum(fit, "bootstrap")
    parts, alone = list(fit.parts.values()), isinstance(fit, Fitted)
    if kind != "poisson" and not (fit.dof > 0 and fit.chisq > 0):
        raise InputError(
            "There are no residuals to draw from: the fit has no degrees of freedom, or is perfect."
        )
    drawn_from = [_source(one, kind) for one in parts]
    repeat, places = placed_problem(fit, filled=not alone)
    several = repeat.problem
    if isinstance(several, Several):
        sources, ranks = [], []
        for s, stack in enumerate(several.stacks):
            members = sorted((j, i) for i, (t, j) in enumerate(places) if t == s)
            m = stack.problem.y.shape[1]
            mine = [_longer(drawn_from[i], m) for _, i in members]
            sources.append(jax.tree.map(lambda *a: np.stack(a), *mine))
            ranks.append(np.array([parts[i].rank for _, i in members]))
    else:
        sources, ranks = drawn_from, [np.array(parts[0].rank)]
    priors = _Priors(fit.alpha, np.asarray(noise_variance(fit), fit.alpha.dtype))
    width = lanes(repeat.problem, _LANES)
    with precision(fit.alpha.dtype):
        key = jax.random.key(key) if isinstance(key, int) else key
        found = []
        for first in range(0, n, width):
            # The last ones beyond n are for nothing: the program has one shape.
            lane = np.arange(first, first + width, dtype=np.uint32)
            out = _replicates(
                *(repeat, tuple(sources), priors, fit.optimum.alpha, key, lane, tuple(ranks), kind)
            )
            found.append(jax.device_get(out))
    alpha, coefs, cost, status = jax.tree.map(lambda *a: np.concatenate(a)[:n], *found)
    coef = {}
    for (key_, one), (s, j) in zip(fit.parts.items(), places, strict=True):
        mine = coefs[s] if alone else coefs[s][:, j]
        mine = mine[:, list(one.model.order)]
        coef[key_.removesuffix(".")] = mine[..., 0] if one.coef.ndim == 1 else mine
    return Bootstrap(fit, kind, alpha, coef[""] if alone else coef, cost, Status.names(status))


def _longer(source: _Source, m: int) -> _Source:
    """The same for m samples, the last ones of weight zero."""
    more = m - len(source.fitted)

    def filled(a: Any) -> np.ndarray:
        return np.concatenate([a, np.zeros((more, *a.shape[1:]), a.dtype)])

    used = np.full(m, m, np.int32)
    used[: int(source.count)] = np.asarray(source.used)[: int(source.count)]
    return _Source(filled(source.fitted), filled(source.resid), used, source.count)


def random_key(key: Any) -> Any:
    """A seed, or a key of `jax.random`."""
    if isinstance(key, jax.Array) and (
        jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.dtype == np.uint32
    ):
        return key
    return whole("key", key, 0)


def _source(fit: Fitted, kind: BootstrapKind) -> _Source:
    if fit.weights is not None and fit.weights.ndim == 2:
        raise InputError(
            "There is no bootstrap of a fit whose right-hand sides have weights of their own. Use "
            "intervals by covariance."
        )
    if fit.whitener is not None:
        raise InputError(
            "There is no bootstrap of correlated noise: its residuals cannot change places. Use intervals by "
            "covariance or profile."
        )
    m, dtype = len(fit.y), fit.alpha.dtype
    y, fitted = fit.y_in_use.reshape(m, -1), fit.fitted.reshape(m, -1)
    weights = np.ones(m, dtype) if fit.weights is None else fit.weights
    used = np.flatnonzero(weights > 0)
    if kind == "poisson":
        _check_counts(y[used], fitted[used])
        resid = np.zeros_like(fitted)
    else:
        resid = (y - fitted) * weights[:, None]
        resid /= np.sqrt(np.maximum(1.0 - leverage(fit), _LEAST))
        if kind == "residual":
            resid -= resid[used].mean(axis=0)
    places = np.full(m, m, np.int32)
    places[: used.size] = used
    count = np.asarray(used.size, np.int32)
    return _Source(fitted, resid.astype(fit.y.dtype), places, count)


def _check_counts(y: np.ndarray, fitted: np.ndarray) -> None:
    if np.iscomplexobj(y) or np.any(y < 0) or np.any(y != np.round(y)):
        raise InputError(
            "kind='poisson' draws counts, but y holds other numbers than 0, 1, 2, ... Give y in "
            "counts, or use kind='residual' or 'wild'."
        )
    if np.any(fitted < -0.5):
        raise InputError(
            f"kind='poisson' needs a curve above zero, but the fit falls to {fitted.min():.3g}."
        )


def _entries(
    refit_problem: RefitProblem,
    sources: tuple[_Source, ...],
    priors: _Priors,
    alpha: ArrayIn,
    key: PyTree,
    lane: ArrayIn,
    *_: object,
) -> float:
    """Numbers that one evaluation of all replicates makes: columns, derivatives and residuals."""
    problem, total = refit_problem.problem, 0.0
    for one in problem.stacks if isinstance(problem, Several) else (None,):
        at = problem if one is None else one.problem
        assert isinstance(at, Problem) and isinstance(at.columns, Assembled)
        width = sum(group.width for group in at.columns.model.groups)
        rows = at.y.size / at.y.shape[-1]
        total += rows * (width + np.shape(alpha)[0] + at.y.shape[-1])
    return float(total * np.shape(lane)[0])


@program(entries=_entries)
def _replicates(
    refit_problem: RefitProblem,
    sources: tuple[_Source, ...],
    priors: _Priors,
    alpha: Float[ArrayIn, " p"],
    key: PyTree,
    lane: UInt[ArrayIn, " l"],
    ranks: tuple[ArrayIn, ...],
    kind: BootstrapKind,
) -> tuple[Array, list[Array], Array, Array]:
    """Parameter values, coefficients of each stack, cost and status of the replicates with these numbers."""
    problem, limits, how = refit_problem
    alpha = jnp.asarray(alpha)

    def one(number):
        key_ = jax.random.fold_in(key, number)
        if isinstance(problem, Several):
            reduced, samples = _redrawn(problem, sources, priors, key_, kind)
            layout, values = problem.layout, reduced.values
        else:
            columns = problem.columns
            assert isinstance(columns, Assembled)
            y, weights = draw(problem, sources[0], key_, kind)
            numbers, priors_of = columns.numbers, columns.priors
            means = _prior_means(numbers, priors_of, priors, jax.random.split(key_)[1])
            numbers = eqx.tree_at(lambda at: at.prior_mean, numbers, means)
            columns = eqx.tree_at(lambda at: at.numbers, columns, numbers)
            drawn = Problem(columns, y, weights, problem.linear, groups=problem.groups)
            reduced = reduction(drawn, how.linear_solver, how.jacobian)
            samples = _samples(y, weights)
            layout, values = columns.layout, columns.values
        best, found, point = locate(reduced, limits, carried(alpha, number), how)
        if layout.exchange:
            best = layout.sorted_components(best)
            _, point = reduced.evaluate(best)
        status = Status.of(found.result, found.stats).result
        known: Any = point
        points = [at for at, _ in known] if isinstance(problem, Several) else [known]
        # Too few distinct samples leave open what the fit had determined.
        linear = sum(at.coef.size * (2 if jnp.iscomplexobj(at.coef) else 1) for at in points)
        few = samples < alpha.size + linear
        for at, rank in zip(points, ranks, strict=True):
            few = few | jnp.any(at.factor.rank < rank)
        status = jnp.where(few, Status.code("singular"), status)
        coefs = all_coefficients(problem, [at.coef for at in points])
        return values(best), coefs, reduced.cost(best, point), status

    return jax.vmap(one)(lane)


def _redrawn(
    several: Several,
    sources: tuple[_Source, ...],
    priors: _Priors,
    key: PyTree,
    kind: BootstrapKind,
) -> tuple[Several, Array]:
    """Data sets drawn anew, each for itself, and how many real observations they have."""
    stacks, samples, first = [], jnp.zeros((), jnp.int32), 0
    for stack, source in zip(several.stacks, sources, strict=True):

        def one(problem, source, number):
            return draw(problem, source, jax.random.fold_in(key, number), kind)

        numbers = jnp.arange(first, first + len(stack.picks), dtype=jnp.uint32)
        first += len(stack.picks)
        y, weights = stack.each(one, jax.tree.map(jnp.asarray, source), numbers)
        problem = dataclasses.replace(stack.problem, y=y, weights=weights)
        stacks.append(dataclasses.replace(stack, problem=problem))
        each = jax.vmap(_samples)(y, weights) if weights is not None else _samples(y[0], None)
        samples = samples + jnp.sum(each) * (1 if weights is not None else len(stack.picks))
    prior_key = jax.random.split(key)[1]
    means = _prior_means(several.numbers, several.priors, priors, prior_key)
    numbers = eqx.tree_at(lambda at: at.prior_mean, several.numbers, means)
    return dataclasses.replace(several, stacks=tuple(stacks), numbers=numbers), samples


def _samples(y: Array, weights: Array | None) -> Any:
    """How many real observations carry weight."""
    samples = y.shape[0] if weights is None else jnp.sum(weights > 0)
    return samples * y.shape[1] * (2 if jnp.iscomplexobj(y) else 1)


def draw(
    problem: Problem, source: _Source, key: PyTree, kind: BootstrapKind
) -> tuple[Array, Array | None]:
    """Data (m, k) and weights of one replicate of a data set."""
    data_key = jax.random.split(key)[0]
    y = jnp.asarray(problem.y)
    weights = None if problem.weights is None else jnp.asarray(problem.weights)
    fitted, used = jnp.asarray(source.fitted), jnp.asarray(source.used)
    m = fitted.shape[0]
    if kind in ("residual", "case"):
        place = jax.random.randint(data_key, used.shape, 0, source.count, jnp.int32)
        # Of the draws, as many are taken as there are samples in use.
        index = jnp.where(jnp.arange(m) < source.count, used[place], m)
    if kind == "residual":
        chosen = jnp.asarray(source.resid)[jnp.minimum(index, m - 1)]
        resid = jnp.zeros_like(y).at[used].set(chosen, mode="drop")
        y = fitted + _unweighted(resid, weights)
    elif kind == "wild":
        sign = jax.random.rademacher(data_key, (m, 1), fitted.dtype)
        y = fitted + _unweighted(sign * source.resid, weights)
    elif kind == "case":
        count = jnp.zeros((m,), fitted.real.dtype).at[index].add(1.0, mode="drop")
        weights = jnp.sqrt(count) * (1.0 if weights is None else weights)
    else:
        counts = jax.random.poisson(data_key, jnp.maximum(fitted, 0.0), dtype=jnp.int32)
        y = counts.astype(y.dtype)
    return y, weights


def _prior_means(numbers: Any, observed: tuple[int, ...], priors: _Priors, key: PyTree) -> Array:
    """Means of priors (q,), drawn about what the fit has found."""
    if not observed:
        return jnp.asarray(numbers.prior_mean)
    sd = jnp.sqrt(priors.noise) * jnp.where(jnp.isfinite(numbers.prior_sd), numbers.prior_sd, 0.0)
    shift = sd * jax.random.normal(key, sd.shape, sd.dtype)
    return jnp.asarray(priors.values + shift)


def _unweighted(resid: Array, weights: Array | None) -> Array:
    if weights is None:
        return resid
    return resid / jnp.where(weights > 0, weights, 1.0)[:, None]
