"""Line shapes of photoelectron spectra: Doniach and Sunjic's, and those of CasaXPS."""

import math
from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import ParamField, parameter
from ._faddeeva import erfcx
from ._loss import TOWARDS
from ._peak import (
    AbstractWidthPeak,
    half_width,
    log_gamma,
    root,
)

# Halvings of an angle from which Newton's method finds the half maximum.
_HALVINGS = 12


class DoniachSunjic(AbstractWidthPeak):
    """The line of a core level of a metal, whose electrons respond to the hole, of unit height:

        cos(pi alpha / 2 + (1 - alpha) theta) cos(theta)^(1 - alpha) / top,
        theta = atan(u),  u = (center - x) / width,  top = cos(pi alpha / (2 (2 - alpha)))^(2 - alpha)

    For alpha = 0 a Lorentzian. Its maximum is not at the centre, but `width tan(pi alpha / (2 (2 - alpha)))`
    towards the tail. The tail falls as `|u|^(alpha - 1)`, so that there is no area. Doniach and Sunjic,
    J. Phys. C 3, 285 (1970).

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: of the line without asymmetry, in units of x.
    - `width`: half width at half maximum of that, in units of x; or
    - `fwhm`: twice that.
    - `alpha`: the asymmetry, from 0 up to below 1; starts at 0.1, and goes no further than 0.6.
    - `towards`: on which side the tail is: "high" (default), as on an axis of binding energies, or "low".
    - `coefficient`: "height"; it has no area.
    - `lines`, `wavelengths`: several lines of one shape, as pairs of a shift, or a wavelength, and a ratio
        (`varpro.basis.AbstractPeak`).
    - `loss`: a `Shirley` or `Tougaard`, the background that it shares with other peaks.

    Starts of centre and width may be left out; they are then found in the data.
    """

    alpha: ParamField = parameter()
    towards: str = eqx.field(static=True, default="high", kw_only=True)
    usual: ClassVar[Mapping[str, Param]] = {"alpha": Param(0.1, lower=0.0, upper=0.6)}
    integrable: ClassVar[bool] = False

    def __check_init__(self):
        if self.towards not in TOWARDS:
            raise InputError(
                f"DoniachSunjic '{self.name}': towards is 'high' or 'low', not {self.towards!r}."
            )

    def profile(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """One line of unit height (m, g) at x (m, 1)."""
        xp = np if isinstance(x, np.ndarray) else jnp
        u = (x - values["center"]) / half_width(values)
        u = -u if self.towards == "high" else u
        return _doniach(xp, xp.arctan(u), values["alpha"])

    def unit_area(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """There is none."""
        raise NotImplementedError

    def full_width(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """From half to half of the maximum, on both sides of it."""
        alpha = jnp.asarray(values["alpha"])
        top = -0.5 * math.pi * alpha / (2.0 - alpha)

        def side(end: float):
            inner, outer = top, jnp.full_like(top, end)
            for _ in range(_HALVINGS):
                middle = 0.5 * (inner + outer)
                above = _doniach(jnp, middle, alpha) > 0.5
                inner, outer = jnp.where(above, middle, inner), jnp.where(above, outer, middle)
            return jnp.tan(root(lambda t: _doniach(jnp, t, alpha) - 0.5, 0.5 * (inner + outer)))

        return half_width(values) * (side(0.5 * math.pi) - side(-0.5 * math.pi))


def _doniach(xp, theta: ArrayIn, alpha: ArrayIn) -> ArrayIn:
    """The shape by the angle, 1 at most."""
    phase = 0.5 * math.pi * alpha + (1.0 - alpha) * theta
    top = xp.cos(0.5 * math.pi * alpha / (2.0 - alpha)) ** (2.0 - alpha)
    # The cosine of an angle that is a right one but for rounding may come out negative.
    return xp.cos(phase) * xp.maximum(xp.cos(theta), 1e-30) ** (1.0 - alpha) / top


class GaussLorentz(AbstractWidthPeak):
    """The product of a Gaussian and a Lorentzian, GL(100 mix) of CasaXPS, of unit height:

        2^(-(1 - mix) u^2) / (1 + mix u^2),  u = (x - center) / width

    Its full width at half maximum is twice `width` for mix = 0 and 1, and up to 4 % less between. Their sum,
    SGL, is `PseudoVoigt`. Fairley et al., Appl. Surf. Sci. Adv. 5, 100112 (2021).

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `width`: in units of x, half of the F of CasaXPS; or
    - `fwhm`: the F of CasaXPS.
    - `mix`: 0 for a Gaussian, 1 for a Lorentzian; starts at 0.3.
    - `coefficient`: what it is, "height" (default) or "area".
    - `lines`, `wavelengths`: several lines of one shape, as pairs of a shift, or a wavelength, and a ratio
        (`varpro.basis.AbstractPeak`).
    - `loss`: a `Shirley` or `Tougaard`, the background that it shares with other peaks.

    Starts of centre and width may be left out; they are then found in the data.
    """

    mix: ParamField = parameter()
    usual: ClassVar[Mapping[str, Param]] = {"mix": Param(0.3, lower=0.0, upper=1.0)}

    def profile(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """One line of unit height (m, g) at x (m, 1)."""
        xp = np if isinstance(x, np.ndarray) else jnp
        square = ((x - values["center"]) / half_width(values)) ** 2
        return _product(xp, square, values["mix"])

    def unit_area(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """`pi exp(s^2) erfc(s) / sqrt(mix)` half widths, s^2 = ln 2 (1 - mix) / mix."""
        if isinstance(values["mix"], np.ndarray):
            from scipy.special import erfcx as exactly

            mix = np.maximum(values["mix"], np.finfo(float).tiny)
            s = np.sqrt(math.log(2.0) * (1.0 - mix) / mix)
            return half_width(values) * math.pi * exactly(s) / np.sqrt(mix)
        mix = jnp.asarray(values["mix"])
        # By z = sqrt(mix) s, which is finite for mix = 0: erfcx(z / q) / q for q = sqrt(mix).
        tiny = float(jnp.finfo(mix.dtype).eps) ** 2
        q = jnp.sqrt(jnp.maximum(mix, tiny))
        z = jnp.sqrt(jnp.maximum(math.log(2.0) * (1.0 - mix), tiny))
        return half_width(values) * math.pi * erfcx(z / q) / q

    def full_width(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Twice the distance at which the product is a half, by Newton's method."""
        mix = jnp.asarray(values["mix"])
        start = jnp.ones_like(mix)
        half = root(lambda u: _product(jnp, u**2, mix) - 0.5, start)
        return 2.0 * half_width(values) * half


def _product(xp, square: ArrayIn, mix: ArrayIn) -> ArrayIn:
    return xp.exp(-math.log(2.0) * (1.0 - mix) * square) / (1.0 + mix * square)


class LorentzianPowers(AbstractWidthPeak):
    """A Lorentzian to a power on either side, LA(low, high, 0) of CasaXPS, of unit height:

        (1 + u^2)^(-low) for x < center,  (1 + u^2)^(-high) above,  u = (x - center) / width

    Powers below 1 make tails, above 1 shoulders without. Fairley et al., Appl. Surf. Sci. Adv. 5, 100112
    (2021); without the Gaussian with which CasaXPS may convolve it.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position of the maximum, in units of x.
    - `width`: half width at half maximum for powers of 1, in units of x; or
    - `fwhm`: twice that, the F of CasaXPS.
    - `low`, `high`: the powers, each starts at 1 and is above 0.5.
    - `coefficient`: what it is, "height" (default) or "area".
    - `lines`, `wavelengths`: several lines of one shape, as pairs of a shift, or a wavelength, and a ratio
        (`varpro.basis.AbstractPeak`).
    - `loss`: a `Shirley` or `Tougaard`, the background that it shares with other peaks.

    Starts of centre and width may be left out; they are then found in the data. The reported full width at
    half maximum is that of the shape with its powers.
    """

    low: ParamField = parameter()
    high: ParamField = parameter()
    usual: ClassVar[Mapping[str, Param]] = {
        "low": Param(1.0, lower=0.5),
        "high": Param(1.0, lower=0.5),
    }

    def profile(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """One line of unit height (m, g) at x (m, 1)."""
        xp = np if isinstance(x, np.ndarray) else jnp
        u = (x - values["center"]) / half_width(values)
        power = xp.where(u < 0, values["low"], values["high"])
        return xp.exp(-power * xp.log1p(u**2))

    def unit_area(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """`sqrt(pi) / 2 Gamma(p - 1/2) / Gamma(p)` half widths for the power p of each side."""
        half = half_width(values)
        xp = np if isinstance(half, np.ndarray) else jnp
        sides = (xp.exp(log_gamma(p - 0.5) - log_gamma(p)) for p in (values["low"], values["high"]))
        return 0.5 * math.sqrt(math.pi) * half * sum(sides)

    def full_width(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """`sqrt(2^(1 / p) - 1)` half widths for the power p of each side."""
        sides = (jnp.sqrt(jnp.expm1(math.log(2.0) / values[k])) for k in ("low", "high"))
        return half_width(values) * sum(sides)
