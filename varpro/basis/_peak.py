"""Spectral peaks of unit height."""

from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from .._params import Param
from .._results import InputError
from .._types import ArrayIn
from ._base import FWHM_PER_SIGMA, AbstractBasis, column, parameter


class Gaussian(AbstractBasis):
    """A Gaussian peak of unit height, `exp(-(x - center)^2 / (2 width^2))`.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `width`: standard deviation, in units of x; or
    - `fwhm`: full width at half maximum, `2 sqrt(2 ln 2)` standard deviations.
    """

    name: str
    center: Param | None = parameter()
    width: Param | None = parameter()
    fwhm: Param | None = parameter()
    elementwise: ClassVar[bool] = True

    def __check_init__(self):
        _needs_center_and_width(self)

    def evaluate(self, x: ArrayIn, values: Mapping[str, Array]) -> Array:
        width = values["width"] if "width" in values else values["fwhm"] / FWHM_PER_SIGMA
        return jnp.exp(-0.5 * ((column(x) - values["center"]) / width) ** 2)


class Lorentzian(AbstractBasis):
    """A Lorentzian peak of unit height, `1 / (1 + ((x - center) / width)^2)`.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `width`: half width at half maximum, in units of x; or
    - `fwhm`: full width at half maximum, twice that.
    """

    name: str
    center: Param | None = parameter()
    width: Param | None = parameter()
    fwhm: Param | None = parameter()
    elementwise: ClassVar[bool] = True

    def __check_init__(self):
        _needs_center_and_width(self)

    def evaluate(self, x: ArrayIn, values: Mapping[str, Array]) -> Array:
        width = values["width"] if "width" in values else 0.5 * values["fwhm"]
        return 1.0 / (1.0 + ((column(x) - values["center"]) / width) ** 2)


def _needs_center_and_width(peak: Gaussian | Lorentzian) -> None:
    if peak.center is None or (peak.width is None) == (peak.fwhm is None):
        kind = type(peak).__name__
        raise InputError(f"{kind} '{peak.name}' needs center and either width or fwhm.")
