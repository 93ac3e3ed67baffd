"""Stretched exponential decays."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import PyTree

from .._parameters.param import Param
from .._types import ArrayIn
from ._base import AbstractBasis, ParamField, as_param, backend, parameter
from ._decay import of_decay
from ._origin import (
    Origin,
    check_begins,
    from_origin,
    origin_field,
    refuse_with_response,
    shape_origin,
    with_origin,
)
from ._reported import Reported
from ._response import AbstractResponse
from ._start_grids import Box, log_grid

# exp(-p) is zero beyond e^9 in every precision; held there, its derivative is zero too, not 0 * inf.
_LOG_MOST = 9.0
# Starts that are tried: lifetimes up to this many times the span of x, this factor apart; exponents.
_SPANS, _RATIO, _MOST_LIFETIMES = 5.0, 1.7, 26
_EXPONENTS = np.array([0.3, 0.45, 0.65, 0.85, 1.3, 2.0])


class StretchedExp(AbstractBasis):
    """A stretched exponential, `exp(-((x - origin) / tau)^beta)`, for x >= origin (Kohlrausch 1854).

    The mean lifetime is `tau / beta * Gamma(1 / beta)`: `name.mean_lifetime` for `fit.derive`, which knows all
    that `Exp` has, too.

    **Arguments:**

    - `name`: of the component and its coefficient.
    - `tau`: where the column has fallen to 1/e, in units of x. Positive.
    - `beta`: the exponent. Starts of both may be left out and are then found in the data; beside a start
        of tau, that of beta is 1, a plain exponential.
    - `irf`: the response with which it is convolved, by quadrature; it then begins where that is.
    - `origin`: the x at which it begins; 0 by default, or the first x where all x are more than five
        times their span away from 0, which the report says.

    **Raises:** `InputError` for both irf and origin, and from a fit with x before the origin.
    """

    name: str
    tau: ParamField = parameter()
    beta: ParamField = parameter()
    irf: AbstractResponse | None = eqx.field(default=None, kw_only=True)
    origin: Origin = origin_field()
    elementwise: ClassVar[bool] = True
    positive: ClassVar[tuple[str, ...]] = ("tau", "beta")

    def __check_init__(self):
        refuse_with_response(f"StretchedExp '{self.name}'", self.origin, self.irf)

    def __post_init__(self):
        if self.tau is None:
            self.tau = Param()
        if self.beta is None:
            # With a start for one, the other begins as a plain exponential; else both are sought.
            known = as_param(self.tau).init is not None or self.irf is not None  # pyright: ignore
            self.beta = Param(1.0) if known else Param()

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        if self.irf is not None:
            irf_values = self.irf.local_values(values)
            return self.irf.convolve_function(
                x, lambda v: jnp.asarray(self._plain(v, values)), irf_values
            )
        return self._plain(from_origin(x, self.origin), values)

    def _plain(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m, 1) from the origin, without a response; NaN for x < 0."""
        xp, x = backend(x, values) if x.ndim == 1 else (jnp, x)
        s = x / values["tau"]
        # By way of the logarithm: s^(beta - 1) is infinite at x = 0, the derivative is not.
        log_s = xp.log(xp.where(s > 0, s, 1.0))
        power = xp.exp(xp.minimum(values["beta"] * log_s, _LOG_MOST))
        decay = xp.where(s > 0, xp.exp(-power), 1.0)
        return xp.where(s < 0, xp.nan, decay)

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Lifetimes (g,) inside `box`, a factor 1.7 apart, each with some exponents, lifetimes ascending."""
        first = min(3, x.size - 1)
        shortest, longest = (x[first] - x[0]) / first, _SPANS * (x[-1] - x[0])
        tau = log_grid(shortest, longest, box["tau"], _RATIO, _MOST_LIFETIMES)
        beta = np.unique(np.clip(_EXPONENTS, *box["beta"]))
        return {"tau": np.repeat(tau, beta.size), "beta": np.tile(beta, tau.size)}

    def reported(self, values: Mapping[str, ArrayIn], coef: Sequence[ArrayIn]) -> Reported:
        """Mean lifetime, half life, integral; shares and means, as of a sum of exponentials."""
        (c,) = coef
        tau, beta = values["tau"], jnp.asarray(values["beta"])
        mean = tau / beta * jnp.exp(gammaln(1.0 / beta))
        moment = tau**2 / beta * jnp.exp(gammaln(2.0 / beta))
        half_life = tau * jnp.exp(math.log(math.log(2.0)) / beta)
        own = {"mean_lifetime": mean, "half_life": half_life, "integral": c * mean}
        return of_decay(own, c, c * mean, c * moment)

    @property
    def finds_start(self) -> bool:
        """Whether starts may be left out: not through a response."""
        return self.irf is None

    def prepared(self, x: PyTree, dtype: np.dtype) -> "StretchedExp":
        """Place the origin. **Raises:** `InputError` for x before it."""
        if self.irf is not None:
            return self
        origin = shape_origin(x, self.origin, dtype)
        remedy = "Leave those samples out, shift x, give origin=, or give it a response, irf=."
        check_begins(f"StretchedExp '{self.name}'", x, origin, remedy)
        return with_origin(self, origin)
