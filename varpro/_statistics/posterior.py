"""The posterior of a fit as draws, and what follows from them.

R-hat and effective sizes are those of Vehtari et al., Bayesian Analysis 16 (2021) 667, rank-normalised, as
blackjax computes them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._errors import InputError, needed
from .._given.arguments import whole
from .._programs.program import program
from .._text import text_table
from .._types import ArrayIn, precision
from .bootstrap import random_key
from .intervals import Intervals
from .joint_covariance import Quantity
from .posterior_density import density_of
from .proper import check_proper
from .quantities import drawn, quantities
from .record import Fitted
from .student import check_level

if TYPE_CHECKING:
    import arviz

# Above which R-hat, and below which effective size, draws are not to be trusted (Vehtari et al. 2021, 4).
RHAT, SIZE = 1.01, 400


class Posterior(eqx.Module):
    """Draws of the posterior of a fit, c chains of d each.

    **Fields:** `fit`; `alpha` (c, d, q) and `coef` (c, d, n) or (c, d, n, k), in the order of the fit; `sigma` (c, d),
    the standard deviation of the noise for unit weights; `log_density` (c, d), of the coordinates that were
    sampled, up to a constant; `divergent` (c, d), whether the step to a draw went astray.
    """

    fit: Fitted
    alpha: np.ndarray
    coef: np.ndarray
    sigma: np.ndarray
    log_density: np.ndarray
    divergent: np.ndarray

    def samples(
        self, names: str | Sequence[str] | None = None, rhs: int | Sequence[int] | None = None
    ) -> np.ndarray:
        """The draws (c, d, r) of chosen numbers, `names` and `rhs` as in `FitResult.covariance_of`."""
        return self._samples(quantities(self.fit, names, rhs))

    def ci(
        self,
        level: float = 0.95,
        names: str | Sequence[str] | None = None,
        rhs: int | Sequence[int] | None = None,
    ) -> Intervals:
        """Credible intervals with equal tails; their `value` is the median.

        **Raises:** `InputError` for an unknown name or right-hand side, and a level outside 0 to 1.
        """
        check_level(level)
        chosen = quantities(self.fit, names, rhs)
        tail = 0.5 * (1.0 - level)
        found = self._samples(chosen).reshape(-1, len(chosen))
        lower, value, upper = np.quantile(found, [tail, 0.5, 1.0 - tail], axis=0)
        labels, none = tuple(one.label for one in chosen), ("",) * len(chosen)
        return Intervals(labels, value, lower, upper, level, "posterior", none, none)

    @property
    def rhat(self) -> dict[str, float]:
        """R-hat of each free parameter and coefficient: 1 where all chains agree."""
        return self._by_label("rhat")

    @property
    def ess(self) -> dict[str, float]:
        """Effective sample sizes for the middle of each distribution: as many independent draws tell as much."""
        return self._by_label("ess_bulk")

    @property
    def ess_tail(self) -> dict[str, float]:
        """Effective sample sizes for the limits of 90 % intervals."""
        return self._by_label("ess_tail")

    @property
    def findings(self) -> tuple[str, ...]:
        """Why the draws are not to be trusted, in sentences; empty where they are."""
        found = []
        rhat, size = self.rhat, self.ess
        far = [name for name, value in rhat.items() if not value <= RHAT]
        few = [name for name, value in size.items() if not value >= SIZE]
        if far:
            found.append(
                f"The chains do not agree (R-hat above {RHAT} of {', '.join(far)}): the posterior may have "
                "several tops or no end. Draw more, or give bounds or priors."
            )
        if few:
            found.append(f"Fewer than {SIZE} effective draws of {', '.join(few)}: ask for more.")
        astray = int(self.divergent.sum())
        if astray:
            found.append(
                f"{astray} of {self.divergent.size} steps diverged: the density has a corner where the sampler "
                "cannot follow, and the draws may avoid it."
            )
        return tuple(found)

    def to_inference_data(self) -> "arviz.InferenceData":
        """The draws as an `arviz.InferenceData`: `posterior` with parameters and coefficients by name, and
        `sigma`; `sample_stats`; `observed_data`.

        **Raises:** `InputError` where arviz is not installed.
        """
        arviz = needed("arviz", "to_inference_data")
        fit = self.fit
        variables = {name: self.alpha[..., i] for i, name in enumerate(fit.names)}
        variables |= {name: self.coef[:, :, i] for i, name in enumerate(fit.columns)}
        many = self.coef.ndim == 4
        return arviz.from_dict(
            posterior=variables | {"sigma": self.sigma},
            sample_stats={"lp": self.log_density, "diverging": self.divergent},
            observed_data={"y": fit.y},
            dims={name: ["rhs"] for name in fit.columns} if many else {},
        )

    def __str__(self) -> str:
        intervals, labels = self.ci(), [one.label for one in quantities(self.fit)]
        deviation = self.samples().reshape(-1, len(labels)).std(axis=0)
        rhat, size, tail = self.rhat, self.ess, self.ess_tail
        rows = []
        for i, name in enumerate(labels):
            numbers = (intervals.value[i], deviation[i], intervals.lower[i], intervals.upper[i])
            sizes = f"{rhat[name]:.3f}", f"{size[name]:.0f}", f"{tail[name]:.0f}"
            rows.append((name, *(f"{value:.5g}" for value in numbers), *sizes))
        head = ("", "median", "sd", "2.5 %", "97.5 %", "R-hat", "ESS", "ESS tail")
        chains, draws = self.sigma.shape
        text = f"posterior, {chains} chains of {draws} draws\n{text_table(head, rows, (0,))}"
        return "\n".join([text, *self.findings])

    def _samples(self, chosen: Sequence[Quantity]) -> np.ndarray:
        chains, draws = self.sigma.shape
        alpha, coef = (a.reshape(chains * draws, *a.shape[2:]) for a in (self.alpha, self.coef))
        return drawn(self.fit, chosen, alpha, [coef]).reshape(chains, draws, len(chosen))

    def _by_label(self, what: str) -> dict[str, float]:
        _needs_blackjax()
        chosen = quantities(self.fit)
        with precision(self.alpha.dtype):
            found = np.moveaxis(self._samples(chosen).astype(self.alpha.dtype), 2, 0)
            # One after the other: a program of one number serves any number of them.
            every = [_diagnostics.on_host(one)[_DIAGNOSTICS.index(what)] for one in found]
        return {one.label: float(value) for one, value in zip(chosen, every, strict=True)}


_DIAGNOSTICS = ("rhat", "ess_bulk", "ess_tail")


@program
def _diagnostics(samples: ArrayIn) -> list[Array]:
    """What blackjax says of draws (c, d)."""
    import blackjax

    return [getattr(blackjax.diagnostics, what)(jnp.asarray(samples)) for what in _DIAGNOSTICS]


def posterior(
    fit: Fitted, n: int, chains: int, warmup: int, coef_sd: Any, key: int | Array
) -> Posterior:
    """Described in `FitResult.posterior`."""
    n, chains, warmup = whole("n", n, 4), whole("chains", chains, 2), whole("warmup", warmup, 1)
    key = random_key(key)
    _needs_blackjax()
    with precision(fit.alpha.dtype):
        density, top = density_of(fit, coef_sd, "posterior")
        check_proper(fit, density, top)
        from .sampler import draw

        key = jax.random.key(key) if isinstance(key, int) else key
        keys = jax.random.key_data(jax.random.split(key, chains))
        found = draw.on_host(density, top, np.asarray(keys), warmup, n)
    coef = found.coef[:, :, list(fit.model.order)]
    coef = coef[..., 0] if fit.coef.ndim == 1 else coef
    return Posterior(fit, found.alpha, coef, found.sigma, found.log_density, found.divergent)


def _needs_blackjax() -> None:
    try:
        import blackjax  # noqa: F401
    except ImportError as error:
        raise InputError(
            "The posterior is sampled by blackjax, which is not installed. Install it with "
            "'pip install varpro[bayes]'."
        ) from error
