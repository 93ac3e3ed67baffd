"""Exponential decays."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import POSITIVE, AbstractBasis, Domain, ParamField, backend, column, parameter
from ._origin import (
    Origin,
    from_origin,
    origin_field,
    reference,
    refuse_with_response,
    with_origin,
)
from ._reported import Reported
from ._response import AbstractResponse
from ._start_grids import Box, log_grid

# Lifetimes that are tried: neighbours this factor apart, up to this many times the span of x.
_RATIO, _SPANS = 1.35, 5.0
# What grows faster than by `exp` of this over all x is seen by the last sample alone.
_FASTEST_GROWTH = 30.0


class Exp(AbstractBasis):
    """An exponential decay, `exp(-x / tau)` or `exp(-rate x)`, as it is or through a response.

    **Arguments:**

    - `name`: of the component and its coefficient.
    - `tau`: the lifetime, in units of x; or
    - `rate`: its inverse.
    - `irf`: the response with which it is convolved; it then begins at the centre of that.
    - `origin`: the x from which it counts, `exp(-(x - origin) / tau)`, so that its coefficient is the
        amplitude there; 0 by default. Where the amplitude there is out of proportion to the data, which
        lie far from it, the coefficient is that at the first x, and the report says so.

    With neither lifetime nor rate, it is a decay by `tau`. A start that is left out (`tau=vp.Param(lower=0.1)`, or no
    `tau` at all) is chosen from a grid of lifetimes between the first spacing of x and five times
    its span; several decays are chosen together and get increasing lifetimes in the order in which
    they stand in the model. Where no decay will do, and bounds allow it, growth is tried: negative
    lifetimes or rates, which a search also reaches from a decay, through a straight line.

    `fit.derive` knows `name.tau`, `name.rate`, `name.half_life`, `name.integral` (amplitude times lifetime),
    `name.fraction` of all amplitudes and `name.intensity_fraction` of all integrals; of all decays
    `lifetime.amplitude_mean` and `lifetime.intensity_mean`.

    **Raises:** `InputError` for both tau and rate, and for both irf and origin.
    """

    name: str
    tau: ParamField = parameter()
    rate: ParamField = parameter()
    irf: AbstractResponse | None = eqx.field(default=None, kw_only=True)
    origin: Origin = origin_field()
    elementwise: ClassVar[bool] = True
    lifetimes: ClassVar[tuple[str, ...]] = ("tau",)

    def __post_init__(self):
        if self.tau is None and self.rate is None:
            self.tau = Param()

    def __check_init__(self):
        if self.tau is not None and self.rate is not None:
            raise InputError(f"Exp '{self.name}' needs either tau or rate, not both.")
        refuse_with_response(f"Exp '{self.name}'", self.origin, self.irf)

    @property
    def domain(self) -> Domain:
        """Through a response nothing grows; without one a decay may, of negative tau or rate."""
        if self.irf is None:
            return {}
        return self.irf.domain | {"tau": POSITIVE, "rate": POSITIVE}

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        if self.irf is not None:
            rate = values["rate"] if "rate" in values else 1.0 / jnp.asarray(values["tau"])
            return self.irf.convolve_decay(column(x), rate, self.irf.local_values(values))
        xp, x = backend(from_origin(x, self.origin), values)
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

    def growing(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Negative lifetimes or rates (g,) inside `box`; none through a response."""
        key = "rate" if "rate" in box else "tau"
        lower, upper = box[key]
        if self.irf is not None or lower >= 0 or lower == upper:
            return {}
        span, inside = x[-1] - x[0], (max(-upper, 0.0), -lower)
        low, high = span / _FASTEST_GROWTH, _SPANS * span
        if key == "rate":
            return {key: -log_grid(1 / high, 1 / low, inside, _RATIO)}
        return {key: -log_grid(low, high, inside, _RATIO)[::-1]}

    def prepared(self, x: PyTree, dtype: np.dtype) -> "Exp":
        """Bring the origin to the precision `dtype`."""
        return with_origin(self, None if self.origin is None else self.origin.astype(dtype))

    def placed(self, x: PyTree, dtype: np.dtype) -> "Exp":
        """Count from the first x where all x are far from the origin."""
        if self.irf is not None or (first := reference(x, self.origin, dtype)) is None:
            return self
        return with_origin(self, first)

    def falls_by(self, values: Mapping[str, ArrayIn]) -> ArrayIn | float:
        """The rate of the decay."""
        return values["rate"] if "rate" in values else 1.0 / values["tau"]

    def reported(self, values: Mapping[str, ArrayIn], coef: Sequence[ArrayIn]) -> Reported:
        """Rate or lifetime, whichever is no parameter, half life, integral; shares and means."""
        (c,) = coef
        tau = values["tau"] if "tau" in values else 1.0 / values["rate"]
        own = {"tau": tau, "rate": 1.0 / tau, "half_life": math.log(2.0) * tau, "integral": c * tau}
        return of_decay(own, c, c * tau, c * tau**2)

    @property
    def finds_start(self) -> bool:
        """Whether starts may be left out: of a response all must be given."""
        # The position of a response must be known before the decays that it hides can be sought.
        return self.irf is None or all(p.init is not None for p in self.irf.parameters.values())


def of_decay(
    own: dict[str, Any], amplitude: ArrayIn, integral: ArrayIn, moment: ArrayIn
) -> Reported:
    """What is reported of every decay: beside its `own` numbers its shares of the amplitudes and of the
    integrals, and its part in the mean lifetimes, weighted by amplitude, `sum a tau / sum a`, and by
    intensity, `sum a tau^2 / sum a tau`."""
    return Reported(
        own,
        {"fraction": amplitude, "intensity_fraction": integral},
        {
            "lifetime.amplitude_mean": (integral, amplitude),
            "lifetime.intensity_mean": (moment, integral),
        },
    )
