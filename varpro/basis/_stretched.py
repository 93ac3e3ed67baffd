"""Stretched exponential decays."""

from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import AbstractBasis, column, parameter
from ._response import AbstractResponse

# exp(-p) is zero beyond e^9 in every precision; held there, its derivative is zero too, not 0 * inf.
_LOG_MOST = 9.0


class StretchedExp(AbstractBasis):
    """A stretched exponential, `exp(-(x / tau)^beta)`, for x >= 0 (Kohlrausch 1854).

    The mean lifetime is `tau / beta * Gamma(1 / beta)`.

    **Arguments:**

    - `name`: of the component and its coefficient.
    - `tau`: where the column has fallen to 1/e, in units of x. Positive.
    - `beta`: the exponent; starts at 1, a plain exponential, where nothing is given.
    - `irf`: the response with which it is convolved, by quadrature; it then begins where that is.

    **Raises:** `InputError` from a fit whose x holds negative values where there is no response.
    """

    name: str
    tau: Param | None = parameter()
    beta: Param | None = parameter()
    irf: AbstractResponse | None = eqx.field(default=None, kw_only=True)
    elementwise: ClassVar[bool] = True

    def __post_init__(self):
        if self.tau is None:
            self.tau = Param()
        if self.beta is None:
            self.beta = Param(1.0)

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> jax.Array:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        if self.irf is not None:
            irf_values = self.irf.local_values(values)
            return self.irf.convolve_function(x, lambda v: self._plain(v, values), irf_values)
        return self._plain(column(x), values)

    def _plain(self, x: Array, values: Mapping[str, ArrayIn]) -> jax.Array:
        """Columns (m, g) at x (m, 1) without a response; NaN for x < 0."""
        s = x / values["tau"]
        # By way of the logarithm: s^(beta - 1) is infinite at x = 0, the derivative is not.
        log_s = jnp.log(jnp.where(s > 0, s, 1.0))
        power = jnp.exp(jnp.minimum(values["beta"] * log_s, _LOG_MOST))
        decay = jnp.where(s > 0, jnp.exp(-power), 1.0)
        return jnp.where(s < 0, jnp.nan, decay)

    def prepared(self, x: PyTree, dtype: np.dtype) -> "StretchedExp":
        """Check `x`. **Raises:** `InputError` for negative x without a response."""
        lowest = np.min(x)
        if self.irf is None and lowest < 0:
            raise InputError(
                f"StretchedExp '{self.name}' needs x >= 0, but x goes down to {lowest:g}. Leave "
                "those samples out, shift x, or give it a response, irf=."
            )
        return self
