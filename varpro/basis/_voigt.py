"""Spectral peaks of unit height between a Gaussian and a Lorentzian: Voigt's, its approximation, and
Pearson's type VII. Starts that are left out are found as in `varpro.basis._peak`."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import FWHM_PER_SIGMA, ParamField, parameter
from ._faddeeva import erfcx, faddeeva
from ._loss import AbstractLoss
from ._peak import (
    AbstractPeak,
    AbstractWidthPeak,
    Lines,
    candidates,
    check_peak,
    coefficient_field,
    half_width,
    lines_field,
    log_gamma,
    loss_field,
    root,
)
from ._start_grids import Box

# A Gaussian so much narrower than the Lorentzian widens nothing.
_THIN = 1e-8
# The full width of a Voigt peak over that of either of its halves, if those are equal: Olivero and
# Longbothum, J. Quant. Spectrosc. Radiat. Transfer 17 (1977) 233.
_EQUAL_PARTS = 0.5346 + math.sqrt(0.2166 + 1.0)


class Voigt(AbstractPeak):
    """A Voigt peak of unit height, a Gaussian convolved with a Lorentzian:

        Re w(z) / Re w(z0),  z = (x - center + i gamma) / (sqrt(2) sigma),  z0 = i gamma / (sqrt(2) sigma)

    with the Faddeeva function w. Its area is `sqrt(2 pi) sigma / Re w(z0)` times its height.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `sigma`: standard deviation of the Gaussian, in units of x.
    - `gamma`: half width at half maximum of the Lorentzian, in units of x.
    - `coefficient`: what it is, "height" (default) or "area".
    - `lines`, `wavelengths`: several lines of one shape, as pairs of a shift, or a wavelength, and a ratio
        (`varpro.basis.AbstractPeak`).
    - `loss`: a `Shirley` or `Tougaard`, the background that it shares with other peaks.

    Neither sigma nor gamma is negative; where one is 0, the peak is a Lorentzian or a Gaussian, and a fit
    may end there. Each start may be left out; it is then found in the data.
    """

    name: str
    center: ParamField = parameter()
    sigma: ParamField = parameter()
    gamma: ParamField = parameter()
    coefficient: str = coefficient_field()
    lines: Lines = lines_field()
    wavelengths: Lines = lines_field()
    loss: AbstractLoss | None = loss_field()
    positive: ClassVar[tuple[str, ...]] = ("sigma", "gamma")

    def __post_init__(self):
        self.center = Param() if self.center is None else self.center
        self.sigma = Param() if self.sigma is None else self.sigma
        self.gamma = Param() if self.gamma is None else self.gamma

    def __check_init__(self):
        check_peak(self)

    def profile(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """One line of unit height (m, g) at x (m, 1)."""
        if isinstance(x, np.ndarray):
            from scipy.special import wofz

            scale, y = _scaled(values)
            u = (x - values["center"]) / scale
            return wofz(u + 1j * y).real / wofz(1j * y).real
        scale, y = _scaled(values)
        u = (x - values["center"]) / scale
        return faddeeva(u + 1j * y).real / erfcx(y)

    def unit_area(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """`sqrt(2 pi) sigma / Re w(z0)`."""
        scale, y = _scaled(values)
        if isinstance(y, np.ndarray):
            from scipy.special import erfcx as exactly

            return math.sqrt(math.pi) * scale / exactly(y)
        return math.sqrt(math.pi) * scale / erfcx(y)

    def full_width(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Twice the distance at which `Re w(z)` is half of `Re w(z0)`, by Newton's method from the formula of
        Olivero and Longbothum, which is good to 2e-4."""
        scale, y = _scaled({key: jnp.asarray(value) for key, value in values.items()})
        lorentz, gauss = y, math.sqrt(math.log(2.0))
        about = 0.5346 * lorentz + jnp.sqrt(0.2166 * lorentz**2 + gauss**2)
        top = erfcx(y)
        half = root(lambda u: faddeeva(u + 1j * y).real / top - 0.5, about)
        return 2.0 * scale * half

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Values (g,) inside `box`, centres ascending, the shape as it usually is."""
        shared = {key: ends for key, ends in box.items() if "." in key}
        grid = candidates(x, {"center": box["center"], "fwhm": (0.0, np.inf)} | shared, 2.0)
        width = grid.pop("fwhm") / _EQUAL_PARTS
        widths = {"sigma": width / FWHM_PER_SIGMA, "gamma": 0.5 * width}
        return grid | {key: np.clip(value, *box[key]) for key, value in widths.items()}


class PseudoVoigt(AbstractWidthPeak):
    """A Lorentzian and a Gaussian of one width, mixed:

        eta / (1 + u^2) + (1 - eta) 2^(-u^2),  u = (x - center) / width

    Of unit height, as both are.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `width`: half width at half maximum, in units of x; or
    - `fwhm`: full width at half maximum, twice that.
    - `eta`: the share of the Lorentzian in the height; starts at 0.5, between 0 and 1.
    - `coefficient`: what it is, "height" (default) or "area".
    - `lines`, `wavelengths`: several lines of one shape, as pairs of a shift, or a wavelength, and a ratio
        (`varpro.basis.AbstractPeak`).
    - `loss`: a `Shirley` or `Tougaard`, the background that it shares with other peaks.

    Starts of centre and width may be left out; they are then found in the data.
    """

    eta: ParamField = parameter()
    usual: ClassVar[Mapping[str, Param]] = {"eta": Param(0.5, lower=0.0, upper=1.0)}

    def profile(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """One line of unit height (m, g) at x (m, 1)."""
        xp = np if isinstance(x, np.ndarray) else jnp
        square = ((x - values["center"]) / half_width(values)) ** 2
        eta = values["eta"]
        return eta / (1.0 + square) + (1.0 - eta) * xp.exp(-math.log(2.0) * square)

    def unit_area(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """That of the Lorentzian and of the Gaussian, by their shares."""
        eta, gauss = values["eta"], math.sqrt(math.pi / math.log(2.0))
        return half_width(values) * (eta * math.pi + (1.0 - eta) * gauss)

    def full_width(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Two half widths: both parts are at half of their maxima there."""
        return 2.0 * half_width(values)


class Pearson7(AbstractWidthPeak):
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
    - `coefficient`: what it is, "height" (default) or "area".
    - `lines`, `wavelengths`: several lines of one shape, as pairs of a shift, or a wavelength, and a ratio
        (`varpro.basis.AbstractPeak`).
    - `loss`: a `Shirley` or `Tougaard`, the background that it shares with other peaks.

    Starts of centre and width may be left out; they are then found in the data.
    """

    shape: ParamField = parameter()
    usual: ClassVar[Mapping[str, Param]] = {"shape": Param(2.0, lower=0.5)}
    # A Gaussian has an infinite one, which a search by the inverse comes near to.
    lifetimes: ClassVar[tuple[str, ...]] = ("shape",)

    def __check_init__(self):
        if self.shape is not None and self.shape.upper <= 0:
            raise InputError(f"Pearson7 '{self.name}' needs a positive shape.")

    def profile(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """One line of unit height (m, g) at x (m, 1)."""
        xp = np if isinstance(x, np.ndarray) else jnp
        square = ((x - values["center"]) / half_width(values)) ** 2
        shape = values["shape"]
        return xp.exp(-shape * xp.log1p(xp.expm1(math.log(2.0) / shape) * square))

    def unit_area(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """`width sqrt(pi / (2^(1 / shape) - 1)) Gamma(shape - 1/2) / Gamma(shape)`."""
        shape = values["shape"]
        xp = np if isinstance(shape, np.ndarray) else jnp
        factor = xp.sqrt(math.pi / xp.expm1(math.log(2.0) / shape))
        return half_width(values) * factor * xp.exp(log_gamma(shape - 0.5) - log_gamma(shape))

    def full_width(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Two half widths."""
        return 2.0 * half_width(values)


def _scaled(values: Mapping[str, ArrayIn]) -> tuple[Any, Any]:
    """`sqrt(2) sigma`, and gamma over that. What is less than a share of gamma widens nothing: for sigma = 0
    the peak is a Lorentzian."""
    if isinstance(values["gamma"], np.ndarray):
        gamma = np.abs(values["gamma"])
        scale = np.sqrt(2.0) * np.maximum(np.abs(values["sigma"]), _THIN * gamma)
        return scale, gamma / scale
    gamma = jnp.abs(jnp.asarray(values["gamma"]))
    thin = float(jnp.finfo(gamma.dtype).eps) ** 0.5
    scale = math.sqrt(2.0) * jnp.maximum(jnp.abs(jnp.asarray(values["sigma"])), thin * gamma)
    return scale, gamma / scale
