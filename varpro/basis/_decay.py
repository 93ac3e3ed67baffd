"""Exponential decays."""

from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import AbstractBasis, backend, column, parameter
from ._response import AbstractResponse
from ._start_grids import Box, log_grid

# Lifetimes that are tried: neighbours this factor apart, up to this many times the span of x.
_RATIO, _SPANS = 1.35, 5.0


class Exp(AbstractBasis):
    """An exponential decay, `exp(-x / tau)` or `exp(-rate x)`, as it is or through a response.

    **Arguments:**

    - `name`: of the component and its coefficient.
    - `tau`: the lifetime, in units of x; or
    - `rate`: its inverse.
    - `irf`: the response with which it is convolved; it then begins at the centre of that.

    With neither, it is a decay by `tau`. A start that is left out (`tau=vp.Param(lower=0.1)`, or no
    `tau` at all) is chosen from a grid of lifetimes between the first spacing of x and five times
    its span; several decays are chosen together and get increasing lifetimes in the order in which
    they stand in the model. Without bounds that ask for it, no start grows with x.

    **Raises:** `InputError` for both tau and rate.
    """

    name: str
    tau: Param | None = parameter()
    rate: Param | None = parameter()
    irf: AbstractResponse | None = eqx.field(default=None, kw_only=True)
    elementwise: ClassVar[bool] = True

    def __post_init__(self):
        if self.tau is None and self.rate is None:
            self.tau = Param()

    def __check_init__(self):
        if self.tau is not None and self.rate is not None:
            raise InputError(f"Exp '{self.name}' needs either tau or rate, not both.")

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        if self.irf is not None:
            rate = values["rate"] if "rate" in values else 1.0 / jnp.asarray(values["tau"])
            return self.irf.convolve_decay(column(x), rate, self.irf.local_values(values))
        xp, x = backend(x, values)
        if "rate" in values:
            return xp.exp(-values["rate"] * x)
        return xp.exp(-x / values["tau"])

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Lifetimes or rates (g,) inside `box`, a factor 1.35 apart, lifetimes ascending."""
        shared = {key: interval for key, interval in box.items() if "." in key}
        # Decays are steepest where they begin, so the spacing there tells the shortest lifetime.
        first = min(3, x.size - 1)
        shortest, longest = (x[first] - x[0]) / first, _SPANS * (x[-1] - x[0])
        if "rate" in box:
            grid = {"rate": log_grid(1 / longest, 1 / shortest, box["rate"], _RATIO)[::-1]}
        else:
            grid = {"tau": log_grid(shortest, longest, box["tau"], _RATIO)}
        count = len(next(iter(grid.values())))
        return grid | {key: np.full(count, low) for key, (low, _) in shared.items()}

    @property
    def finds_start(self) -> bool:
        """Whether starts may be left out: of a response all must be given."""
        # The position of a response must be known before the decays that it hides can be sought.
        return self.irf is None or all(p.init is not None for p in self.irf.parameters.values())
