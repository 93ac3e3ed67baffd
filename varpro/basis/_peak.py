"""Spectral peaks of unit height.

What is left out of a centre and a width (no `center` at all, or `center=vp.Param(lower=0)`) is found
in the data, by a search among centres all over x and widths from its spacing, or 1/400 of its span,
to a third of its span; without `fwhm` a width is a `width`. Peaks of one kind that differ in their
names alone get increasing centres in the order in which they stand in the model.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import FWHM_PER_SIGMA, AbstractBasis, backend, parameter
from ._start_grids import Box, line_grid, log_grid

# Widths that are tried: neighbours this factor apart, not below this part of the span of x. Centres:
# this many widths apart.
_RATIO, _MOST, _WIDTHS, _STEP = 2.0, 400, 12, 1.0


class Gaussian(AbstractBasis):
    """A Gaussian peak of unit height, `exp(-(x - center)^2 / (2 width^2))`.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `width`: standard deviation, in units of x; or
    - `fwhm`: full width at half maximum, `2 sqrt(2 ln 2)` standard deviations.

    Each start may be left out; it is then found in the data, together with those of the other peaks.
    """

    name: str
    center: Param | None = parameter()
    width: Param | None = parameter()
    fwhm: Param | None = parameter()
    elementwise: ClassVar[bool] = True

    def __post_init__(self):
        if self.center is None:
            self.center = Param()
        if self.width is None and self.fwhm is None:
            self.width = Param()

    def __check_init__(self):
        check_one_width(self)

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        xp, x = backend(x, values)
        width = values["width"] if "width" in values else values["fwhm"] / FWHM_PER_SIGMA
        return xp.exp(-0.5 * ((x - values["center"]) / width) ** 2)

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Centres and widths (g,) inside `box`, centres ascending."""
        return candidates(x, box, FWHM_PER_SIGMA)


class Lorentzian(AbstractBasis):
    """A Lorentzian peak of unit height, `1 / (1 + ((x - center) / width)^2)`.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `width`: half width at half maximum, in units of x; or
    - `fwhm`: full width at half maximum, twice that.

    Each start may be left out; it is then found in the data, together with those of the other peaks.
    """

    name: str
    center: Param | None = parameter()
    width: Param | None = parameter()
    fwhm: Param | None = parameter()
    elementwise: ClassVar[bool] = True

    def __post_init__(self):
        if self.center is None:
            self.center = Param()
        if self.width is None and self.fwhm is None:
            self.width = Param()

    def __check_init__(self):
        check_one_width(self)

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        xp, x = backend(x, values)
        width = half_width(values)
        return 1.0 / (1.0 + ((x - values["center"]) / width) ** 2)

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Centres and widths (g,) inside `box`, centres ascending."""
        return candidates(x, box, 2.0)


def check_one_width(peak: Any) -> None:
    """Refuse a peak with two widths. **Raises:** `InputError` for both width and fwhm."""
    if peak.width is not None and peak.fwhm is not None:
        kind = type(peak).__name__
        raise InputError(f"{kind} '{peak.name}' needs either width or fwhm, not both.")


def half_width(values: Mapping[str, ArrayIn]) -> ArrayIn:
    """Half width at half maximum, from `width` or half of `fwhm`."""
    return values["width"] if "width" in values else 0.5 * values["fwhm"]


def candidates(
    x: np.ndarray, box: Mapping[str, Box], fwhm_per_width: float
) -> dict[str, np.ndarray]:
    """Centres and widths (g,) inside `box`, the centres of every width that width apart.

    `fwhm_per_width` is the full width at half maximum over `width`.
    """
    key, size = ("width", 1.0) if "width" in box else ("fwhm", fwhm_per_width)
    span = x[-1] - x[0]
    narrowest = max(span / _MOST, float(np.median(np.diff(x))))
    widths = log_grid(size * narrowest, size * span / 3, box[key], _RATIO, _WIDTHS)
    centers = [
        line_grid(x[0], x[-1], box["center"], max(_STEP * abs(width) / size, span / _MOST))
        for width in widths
    ]
    grid = {
        "center": np.concatenate(centers),
        key: np.repeat(widths, [len(c) for c in centers]),
    }
    order = np.argsort(grid["center"], kind="stable")
    return {name: values[order] for name, values in grid.items()}
