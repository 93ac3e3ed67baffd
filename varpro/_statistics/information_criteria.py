"""Information criteria of a least-squares fit with normal errors.

With N real observations, K fitted parameters (free nonlinear ones and all linear coefficients, a
complex one counting twice) and chi-square S, minus twice the largest log-likelihood is, without
terms that are the same for all models of the same data and weights,

    N ln(S / N)    with sigma known up to a factor, which is fitted too (absolute_sigma=False)
    S              with sigma known (absolute_sigma=True)

    AIC  = that + 2 K                                   (Akaike 1974)
    AICc = AIC + 2 K' (K' + 1) / (N - K' - 1)           (Hurvich and Tsai 1989)
    BIC  = that + K ln N                                (Schwarz 1978)

AIC and BIC leave the fitted noise variance out of K, as lmfit does: it would add a constant. lmfit has
the first line alone, also with `scale_covar=False`.
In the correction it is no constant, so K' = K + 1 there when the variance is fitted (Burnham and
Anderson, Model Selection and Multimodel Inference, 2002, sections 2.2 and 2.4) and K' = K otherwise.
Priors are not part of the likelihood.

Of counts that were fitted with `noise="poisson"` it is the deviance, 2 sum(y ln(y / mu) - y + mu), without
weights: those of least squares follow each model, so that their sums are of different things (McCullagh
and Nelder 1989, section 2.3).
"""

import math
from typing import Protocol, runtime_checkable

from .._problem.noise import noise_model


@runtime_checkable
class Counted(Protocol):
    """What the criteria are made of."""

    @property
    def chisq(self) -> float: ...
    @property
    def num_data(self) -> int: ...
    @property
    def num_params(self) -> int | float: ...
    @property
    def absolute_sigma(self) -> bool: ...


def aic(fit: Counted) -> float:
    """Akaike's criterion."""
    return _deviance(fit) + 2.0 * fit.num_params


def aicc(fit: Counted) -> float:
    """Akaike's criterion corrected for few data; infinite where N <= K' + 1 leaves it undefined."""
    k = fit.num_params + (0 if fit.absolute_sigma else 1)
    spare = fit.num_data - k - 1
    return aic(fit) + 2.0 * k * (k + 1) / spare if spare > 0 else math.inf


def bic(fit: Counted) -> float:
    """Schwarz' criterion."""
    return _deviance(fit) + math.log(fit.num_data) * fit.num_params


def _deviance(fit: Counted) -> float:
    noise = noise_model(getattr(fit, "noise", "normal"))
    sets = getattr(fit, "sets", None)
    # Of counts in several data sets the likelihood is the product of theirs.
    if noise.variance_known and sets:
        return sum(noise.deviance(one) for one in sets.values())
    return noise.deviance(fit)
