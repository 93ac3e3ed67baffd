"""One nonlinear parameter as its owner gives it."""

import math

import equinox as eqx
import numpy as np

from .._errors import InputError
from .._given.arguments import ends, flag, number


class Param(eqx.Module):
    """A nonlinear parameter: where it starts and where it may go.

    **Arguments:**

    - `init`: the start, in the units of the data.
    - `lower`, `upper`: bounds, both allowed as values; infinite by default.
    - `fixed`: hold it at `init`.
    - `prior`: `(mean, sd)` of a Gaussian prior, added to the cost as `((value - mean) / sd)^2 / 2`.
    """

    init: float | None = None
    lower: float = -math.inf
    upper: float = math.inf
    fixed: bool = False
    prior: tuple[float, float] | None = None

    def __post_init__(self):
        self.init = None if self.init is None else number("A start", self.init, "init")
        self.lower = -math.inf if self.lower is None else number("A bound", self.lower, "bounds")
        self.upper = math.inf if self.upper is None else number("A bound", self.upper, "bounds")

    def __check_init__(self):
        flag("fixed", self.fixed)
        if math.isnan(self.lower) or math.isnan(self.upper) or self.lower >= self.upper:
            raise InputError(
                f"Bounds must satisfy lower < upper, but [{self.lower:g}, {self.upper:g}] was "
                "given. To hold a parameter, use fixed=True."
            )
        if self.init is not None and not np.all(np.isfinite(self.init)):
            raise InputError(f"A start must be finite, but {self.init} was given.")
        if self.prior is not None:
            mean, sd = (number("prior", one) for one in ends("prior", self.prior, "prior"))
            if not (math.isfinite(mean) and math.isfinite(sd) and sd > 0):
                raise InputError(
                    f"prior=(mean, sd) needs a finite mean and sd > 0, but {self.prior} was given."
                )
