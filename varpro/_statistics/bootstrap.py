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

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Int, PyTree, UInt

from .._errors import InputError
from .._problem.columns import Assembled
from .._problem.problem import Problem
from .._reduced.per_column import reduction
from .._search.minimise import locate
from .._status import Status
from .._types import ArrayIn, precision
from .bands import leverage
from .constrained_refit import RefitProblem, lanes, needs_optimum, refit_problem
from .intervals import Intervals
from .joint_covariance import Quantity
from .quantities import check_choice, check_level, noise_variance, quantities, values
from .record import Fitted

BootstrapKind = Literal["residual", "wild", "case", "poisson"]
LimitKind = Literal["percentile", "basic"]
# Replicates in one call of the compiled program: all wait for the slowest of them.
_LANES = 64
# A sample that decides a parameter alone has no residual to speak of.
_LEAST = 1e-3


class Bootstrap(eqx.Module):
    """The replicates of a bootstrap, and what follows from them.

    **Fields:** `fit`; `kind`; `alpha` (b, q), `coef` (b, n) or (b, n, k), `cost` (b,) and `status`
    (b,), names of `RESULTS`, of all b replicates, in the order of the fit. Statistics leave out the
    replicates that did not converge: `ok` (b,) marks the others, `failed` counts them.
    """

    fit: Fitted
    kind: BootstrapKind
    alpha: np.ndarray
    coef: np.ndarray
    cost: np.ndarray
    status: np.ndarray

    @property
    def ok(self) -> np.ndarray:
        finite = np.isfinite(self.alpha).all(axis=1)
        finite &= np.isfinite(self.coef.reshape(len(self.coef), -1)).all(axis=1)
        return finite & (self.status == "successful")

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
        """Joint covariance of the replicates, in the order of `FitResult.cov_names`."""
        free = [self.fit.names[i] for i in self.fit.layout.free]
        chosen = quantities(self.fit, [*free, *self.fit.columns], 0)
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
        found = [
            *zip(fit.names, statistic(self.alpha[self.ok], fit.alpha), strict=True),
            *zip(fit.columns, statistic(self.coef[self.ok], fit.coef), strict=True),
        ]
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

    def _samples(self, chosen: Sequence[Quantity]) -> np.ndarray:
        place = {i: j for j, i in enumerate(self.fit.model.order)}
        coef = self.coef.reshape(*self.coef.shape[:2], -1)
        columns = []
        for one in chosen:
            if one.rhs is None:
                columns.append(self.alpha[:, one.index])
            else:
                drawn = coef[:, place[one.index], one.rhs]
                columns.append(np.imag(drawn) if one.imag else np.real(drawn))
        return np.stack(columns, axis=1)[self.ok] if columns else np.zeros((self.ok.sum(), 0))

    def __str__(self) -> str:
        text = f"{self.kind} bootstrap of {len(self.ok)} replicates"
        if self.failed:
            text += f", {self.failed} of them left out: they did not converge"
        return text


class _Source(NamedTuple):
    """What replicates are drawn from: the fitted curve (m, k), residuals for unit noise (m, k), the
    indices of the samples in use, the values that priors are drawn about and the noise for them."""

    fitted: Inexact[ArrayIn, "m k"]
    resid: Inexact[ArrayIn, "m k"]
    used: Int[ArrayIn, " u"]
    values: Float[ArrayIn, " q"]
    noise: Float[ArrayIn, ""]


def bootstrap(fit: Fitted, n: int, kind: BootstrapKind, key: int | Array) -> Bootstrap:
    """Described in `FitResult.bootstrap`."""
    if n < 1:
        raise InputError(f"n={n} replicates were asked for; give 1 or more, such as 1000.")
    needs_optimum(fit, "bootstrap")
    source, repeat = _source(fit, kind), refit_problem(fit)
    width = lanes(repeat.problem, _LANES)
    with precision(fit.alpha.dtype):
        key = jax.random.key(key) if isinstance(key, int) else key
        parts = []
        for first in range(0, n, width):
            # The last ones beyond n are for nothing: the program has one shape.
            lane = np.arange(first, first + width, dtype=np.uint32)
            out = _replicates(repeat, source, fit.optimum.alpha, key, lane, fit.rank, kind)
            parts.append(jax.device_get(out))
    alpha, coef, cost, status = (np.concatenate(a)[:n] for a in zip(*parts, strict=True))
    coef = coef[:, list(fit.model.order)]
    return Bootstrap(
        fit,
        kind,
        alpha,
        coef[..., 0] if fit.coef.ndim == 1 else coef,
        cost,
        Status.names(status),
    )


def _source(fit: Fitted, kind: BootstrapKind) -> _Source:
    if fit.weights is not None and fit.weights.ndim == 2:
        raise InputError(
            "There is no bootstrap of a fit whose right-hand sides have weights of their own. Use "
            "intervals by covariance."
        )
    m, dtype = len(fit.y), fit.alpha.dtype
    y, fitted = fit.y.reshape(m, -1), fit.fitted.reshape(m, -1)
    weights = np.ones(m, dtype) if fit.weights is None else fit.weights
    used = np.flatnonzero(weights > 0)
    if kind == "poisson":
        _check_counts(y[used], fitted[used])
        resid = np.zeros_like(fitted)
    else:
        if not (fit.dof > 0 and fit.chisq > 0):
            raise InputError(
                "There are no residuals to draw from: the fit has no degrees of freedom, or is "
                "perfect."
            )
        resid = (y - fitted) * weights[:, None]
        resid /= np.sqrt(np.maximum(1.0 - leverage(fit), _LEAST))
        if kind == "residual":
            resid -= resid[used].mean(axis=0)
    noise = np.asarray(noise_variance(fit), dtype)
    return _Source(fitted, resid.astype(fit.y.dtype), used.astype(np.int32), fit.alpha, noise)


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


@eqx.filter_jit
def _replicates(
    refit_problem: RefitProblem,
    source: _Source,
    alpha: Float[ArrayIn, " p"],
    key: PyTree,
    lane: UInt[ArrayIn, " l"],
    rank: int,
    kind: BootstrapKind,
) -> tuple[Array, Array, Array, Array]:
    """Parameter values, coefficients, cost and status of the replicates with these numbers."""
    problem, limits, how = refit_problem
    columns = problem.columns
    assert isinstance(columns, Assembled)
    alpha = jnp.asarray(alpha)

    def one(number):
        y, weights, means = draw(problem, source, jax.random.fold_in(key, number), kind)
        numbers = eqx.tree_at(lambda at: at.prior_mean, columns.numbers, means)
        drawn = Problem(
            eqx.tree_at(lambda at: at.numbers, columns, numbers), y, weights, problem.linear
        )
        reduced = reduction(drawn, how.linear_solver, how.jacobian)
        best, found, point = locate(reduced, limits, alpha, how)
        if columns.layout.exchange:
            best = columns.layout.sorted_components(best)
            _, point = reduced.evaluate(best)
        status = Status.of(found.result, found.stats).result
        # Too few distinct samples leave open what the fit had determined.
        samples = y.shape[0] if weights is None else jnp.sum(weights > 0)
        parts = 2 if jnp.iscomplexobj(y) else 1
        linear = point.coef.size * (2 if jnp.iscomplexobj(point.coef) else 1)
        few = samples * y.shape[1] * parts < alpha.size + linear
        few = few | (point.factor.rank < rank)
        status = jnp.where(few, Status.code("singular"), status)
        coef = jnp.asarray(problem.linear.all_of(point.coef))
        return columns.values(best), coef, reduced.cost(best, point), status

    return jax.vmap(one)(lane)


def draw(
    problem: Problem, source: _Source, key: PyTree, kind: BootstrapKind
) -> tuple[Array, Array | None, Array]:
    """Data (m, k), weights and means of priors (q,) of one replicate."""
    data_key, prior_key = jax.random.split(key)
    y = jnp.asarray(problem.y)
    weights = None if problem.weights is None else jnp.asarray(problem.weights)
    fitted, used = jnp.asarray(source.fitted), jnp.asarray(source.used)
    m = fitted.shape[0]
    if kind in ("residual", "case"):
        index = used[jax.random.randint(data_key, used.shape, 0, used.size, jnp.int32)]
    if kind == "residual":
        resid = jnp.zeros_like(y).at[used].set(source.resid[index])
        y = fitted + _unweighted(resid, weights)
    elif kind == "wild":
        sign = jax.random.rademacher(data_key, (m, 1), fitted.dtype)
        y = fitted + _unweighted(sign * source.resid, weights)
    elif kind == "case":
        count = jnp.zeros((m,), source.values.dtype).at[index].add(1.0)
        weights = jnp.sqrt(count) * (1.0 if weights is None else weights)
    else:
        counts = jax.random.poisson(data_key, jnp.maximum(fitted, 0.0), dtype=jnp.int32)
        y = counts.astype(y.dtype)
    columns = problem.columns
    assert isinstance(columns, Assembled)
    numbers = columns.numbers
    if not columns.priors:
        return y, weights, jnp.asarray(numbers.prior_mean)
    sd = jnp.sqrt(source.noise) * jnp.where(jnp.isfinite(numbers.prior_sd), numbers.prior_sd, 0.0)
    shift = sd * jax.random.normal(prior_key, sd.shape, sd.dtype)
    return y, weights, jnp.asarray(source.values + shift)


def _unweighted(resid: Array, weights: Array | None) -> Array:
    if weights is None:
        return resid
    return resid / jnp.where(weights > 0, weights, 1.0)[:, None]
