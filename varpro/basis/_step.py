"""Edges: steps from 0 to 1."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import equinox as eqx
import jax.scipy.special
import numpy as np

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import FWHM_PER_SIGMA, AbstractBasis, ParamField, backend, parameter
from ._peak import candidates
from ._reported import Reported
from ._start_grids import Box

_SHAPES = ("erf", "arctan", "logistic")


class Step(AbstractBasis):
    """An edge that rises from 0 to 1 about `center`, s = (x - center) / width:

        erf       (1 + erf(s / sqrt(2))) / 2, a step seen with a Gaussian of standard deviation width
        arctan    1/2 + atan(s) / pi, one of a lifetime, with a Lorentzian of that half width
        logistic  1 / (1 + exp(-s)), as of a Fermi function

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height of the step; negative where it falls.
    - `center`: position of the middle, in units of x.
    - `width`: as above, in units of x.
    - `shape`: "erf" (default), "arctan" or "logistic".

    Each start may be left out; it is then found in the data. `fit.derive` knows `name.height` and
    `name.fwhm`, the full width at half maximum of the slope.
    """

    name: str
    center: ParamField = parameter()
    width: ParamField = parameter()
    shape: str = eqx.field(static=True, default="erf", kw_only=True)
    elementwise: ClassVar[bool] = True
    positive: ClassVar[tuple[str, ...]] = ("width",)

    def __post_init__(self):
        self.center = Param() if self.center is None else self.center
        self.width = Param() if self.width is None else self.width

    def __check_init__(self):
        if self.shape not in _SHAPES:
            raise InputError(
                f"Step '{self.name}': shape is one of {', '.join(map(repr, _SHAPES))}, not "
                f"{self.shape!r}."
            )

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        xp, x = backend(x, values)
        s = (x - values["center"]) / values["width"]
        if self.shape == "arctan":
            return 0.5 + xp.arctan(s) / math.pi
        if self.shape == "logistic":
            return 0.5 + 0.5 * xp.tanh(0.5 * s)
        if xp is np:
            from scipy.special import erf

            return 0.5 + 0.5 * erf(s / math.sqrt(2.0))
        return 0.5 + 0.5 * jax.scipy.special.erf(s / math.sqrt(2.0))

    def reported(self, values: Mapping[str, ArrayIn], coef: Sequence[ArrayIn]) -> Reported:
        """Height, and full width at half maximum of the slope."""
        # sech^2(s / 2) is a half at s = 2 acosh(sqrt(2)).
        per_width = {
            "erf": FWHM_PER_SIGMA,
            "arctan": 2.0,
            "logistic": 4.0 * math.acosh(math.sqrt(2.0)),
        }
        return Reported({"height": coef[0], "fwhm": per_width[self.shape] * values["width"]})

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Centres and widths (g,) inside `box`, centres ascending."""
        return candidates(x, box, 2.0)
