"""Spectral peaks of unit height between a Gaussian and a Lorentzian: Voigt's, its approximation, and
Pearson's type VII. Starts that are left out are found as in `varpro.basis._peak`."""

import math
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import FWHM_PER_SIGMA, AbstractBasis, backend, column, parameter
from ._faddeeva import erfcx, faddeeva
from ._peak import candidates, check_one_width, half_width
from ._start_grids import Box

# The full width of a Voigt peak over that of either of its halves, if those are equal: Olivero and
# Longbothum, J. Quant. Spectrosc. Radiat. Transfer 17 (1977) 233.
_EQUAL_PARTS = 0.5346 + math.sqrt(0.2166 + 1.0)


class Voigt(AbstractBasis):
    """A Voigt peak of unit height, a Gaussian convolved with a Lorentzian:

        Re w(z) / Re w(z0),  z = (x - center + i gamma) / (sqrt(2) sigma),  z0 = i gamma / (sqrt(2) sigma)

    with the Faddeeva function w. Its area is `sqrt(2 pi) sigma / Re w(z0)` times its height.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `sigma`: standard deviation of the Gaussian, in units of x.
    - `gamma`: half width at half maximum of the Lorentzian, in units of x.

    Signs of sigma and gamma do not matter. Each start may be left out; it is then found in the data.
    """

    name: str
    center: Param | None = parameter()
    sigma: Param | None = parameter()
    gamma: Param | None = parameter()
    elementwise: ClassVar[bool] = True

    def __post_init__(self):
        self.center = self.center or Param()
        self.sigma = self.sigma or Param()
        self.gamma = self.gamma or Param()

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        xp, _ = backend(x, values)
        if xp is np:
            from scipy.special import wofz

            scale = np.sqrt(2.0) * np.abs(values["sigma"])
            u, y = (np.asarray(x)[:, None] - values["center"]) / scale, values["gamma"] / scale
            return wofz(u + 1j * np.abs(y)).real / wofz(1j * np.abs(y)).real
        scale = math.sqrt(2.0) * jnp.abs(jnp.asarray(values["sigma"]))
        u, y = (column(x) - values["center"]) / scale, jnp.abs(values["gamma"]) / scale
        return faddeeva(u + 1j * y).real / erfcx(y)

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Values (g,) inside `box`, centres ascending, the shape as it usually is."""
        grid = candidates(x, {"center": box["center"], "fwhm": (0.0, np.inf)}, 2.0)
        width = grid.pop("fwhm") / _EQUAL_PARTS
        widths = {"sigma": width / FWHM_PER_SIGMA, "gamma": 0.5 * width}
        return grid | {key: np.clip(value, *box[key]) for key, value in widths.items()}


class PseudoVoigt(AbstractBasis):
    """A Lorentzian and a Gaussian of one width, mixed:

        eta / (1 + u^2) + (1 - eta) 2^(-u^2),  u = (x - center) / width

    Of unit height, as both are.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `width`: half width at half maximum, in units of x; or
    - `fwhm`: full width at half maximum, twice that.
    - `eta`: the share of the Lorentzian in the height; starts at 0.5, between 0 and 1.

    Starts of centre and width may be left out; they are then found in the data.
    """

    name: str
    center: Param | None = parameter()
    width: Param | None = parameter()
    fwhm: Param | None = parameter()
    eta: Param | None = parameter()
    elementwise: ClassVar[bool] = True

    def __post_init__(self):
        self.center = self.center or Param()
        self.eta = self.eta or Param(0.5, lower=0.0, upper=1.0)
        if self.width is None and self.fwhm is None:
            self.width = Param()

    def __check_init__(self):
        check_one_width(self)

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        xp, x = backend(x, values)
        square = ((x - values["center"]) / half_width(values)) ** 2
        eta = values["eta"]
        return eta / (1.0 + square) + (1.0 - eta) * xp.exp(-math.log(2.0) * square)

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Values (g,) inside `box`, centres ascending, the shape as it usually is."""
        return _with_shape(x, box, "eta", 0.5)


class Pearson7(AbstractBasis):
    """A peak of Pearson's type VII, of unit height:

        (1 + (2^(1 / shape) - 1) u^2)^(-shape),  u = (x - center) / width

    For shape = 1 it is a Lorentzian, for a large shape a Gaussian; its flanks fall like
    `|u|^(-2 shape)`. Hall et al., J. Appl. Cryst. 10 (1977) 66.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `width`: half width at half maximum, in units of x; or
    - `fwhm`: full width at half maximum, twice that.
    - `shape`: the exponent; starts at 2, not below 0.5.

    Starts of centre and width may be left out; they are then found in the data.
    """

    name: str
    center: Param | None = parameter()
    width: Param | None = parameter()
    fwhm: Param | None = parameter()
    shape: Param | None = parameter()
    elementwise: ClassVar[bool] = True

    def __post_init__(self):
        self.center = self.center or Param()
        self.shape = self.shape or Param(2.0, lower=0.5)
        if self.width is None and self.fwhm is None:
            self.width = Param()

    def __check_init__(self):
        check_one_width(self)
        if self.shape is not None and self.shape.upper <= 0:
            raise InputError(f"Pearson7 '{self.name}' needs a positive shape.")

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        xp, x = backend(x, values)
        square = ((x - values["center"]) / half_width(values)) ** 2
        shape = values["shape"]
        return xp.exp(-shape * xp.log1p(xp.expm1(math.log(2.0) / shape) * square))

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Values (g,) inside `box`, centres ascending, the shape as it usually is."""
        return _with_shape(x, box, "shape", 2.0)


def _with_shape(
    x: np.ndarray, box: Mapping[str, Box], key: str, usual: float
) -> dict[str, np.ndarray]:
    """Centres and widths (g,) inside `box`, and `usual`, inside its interval, for the parameter `key`."""
    grid = candidates(x, {k: v for k, v in box.items() if k != key}, 2.0)
    return grid | {key: np.full(grid["center"].size, np.clip(usual, *box[key]))}
