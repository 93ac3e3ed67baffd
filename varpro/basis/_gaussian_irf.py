"""A Gaussian response of an instrument."""

import math
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import FWHM_PER_SIGMA, POSITIVE, Domain, ParamField, as_fixed_param, parameter
from ._dispersion import AbstractDispersed, Powers, polynomial, powers
from ._faddeeva import filtered_decay
from ._matrix_exponential import repeated, states
from ._response import Causal, as_scalar, gauss_legendre, train

# In standard deviations: nothing of a Gaussian is beyond _REACH, to 1e-15. Before _REACH the
# integral runs over v from 0 to 2 _REACH; panels that shrink towards 0 resolve what is up to 1e7
# times faster than the response, and powers of v.
_REACH = 8.0
_NODES, _WEIGHTS = gauss_legendre(
    np.r_[0.0, 2.0 * 4.0 ** np.arange(-10.0, 0.0), np.arange(2.0, 2 * _REACH + 1, 2.0)], 16
)
_WEIGHTS = _WEIGHTS / math.sqrt(2.0 * math.pi)
_AT_REACH = _WEIGHTS * np.exp(-0.5 * (_REACH - _NODES) ** 2)
# After _REACH nothing begins within the response, and Gauss's rule for it will do.
_LATE, _LATE_WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_LATE_WEIGHTS = _LATE_WEIGHTS / math.sqrt(2.0 * math.pi)


class GaussianIRF(AbstractDispersed):
    """A Gaussian instrument response of unit area, given to components as `irf=`.

        irf = vp.GaussianIRF("irf", center=0.3, width=0.1)
        model = vp.Exp("fast", tau=0.5, irf=irf) + vp.Exp("slow", tau=5.0, irf=irf)

    Its parameters, `irf.center` and so on, exist once. Through it a decay of rate k that begins at
    `center` is `exp(-k t) theta(t)` convolved with the Gaussian, in a form in which nothing overflows,
    by the Faddeeva function: as in TIMP and pyglotaran, and unlike an amplitude at the maximum.

    **Arguments:**

    - `name`: prefix of its parameters.
    - `center`: time zero, in units of x. Several Gaussians have `center2`, `width2` and `weight2`
        (relative to the first, which has 1), and so on up to 3.
    - `width`: standard deviation, in units of x; or
    - `fwhm`: full width at half maximum, `2 sqrt(2 ln 2)` standard deviations.
    - `period`: time between excitations; held unless a `Param` says otherwise. What is left of decays
        of all earlier ones is added, `1 / (1 - exp(-k period))` of the one before.
    - `backsweep`: of a synchroscan streak camera: the beam also sweeps back, half a period later, and
        what falls on the screen is added. The formula is that of TIMP (Mullen and van Stokkum,
        J. Stat. Softw. 18(3), 2007), in which earlier excitations are not widened by the response.
    - `center_dispersion`, `width_dispersion`: starts of the coefficients d1, d2, ... by which time zero and
        width follow the wavelength, `center + d1 u + d2 u^2 + ...` with `u = (wavelength -
        dispersion_center) / 100`, as in TIMP and pyglotaran; all Gaussians follow alike, and a width as it is
        given. They are parameters `irf.center_dispersion1` and so on; `vp.Param(0.2, fixed=True)` holds one.
    - `dispersion_center`: the wavelength at which time zero is `center`.
    - `dispersion_in`: "wavelength" (default), or "wavenumber" for `u = 1000 / wavelength - 1000 /
        dispersion_center`.
    - `chirp`: a time zero that was measured, wavelengths and times (r,) each or an array (r, 2), which is
        added to `center` along straight lines; in a configuration the file of these two columns.
    - `wavelengths`: of the right-hand sides (k,), where the data have no labels that are numbers.

    **Raises:** `InputError` if both widths or none are given, `backsweep` without a period, a dispersion
    without its centre, or a chirp that is not finite. At a fit, for data without wavelengths, for a chirp
    that does not cover them, and for polynomials of too high a degree for them.
    """

    name: str
    center: ParamField = parameter()
    width: ParamField = parameter()
    fwhm: ParamField = parameter()
    center2: ParamField = parameter()
    width2: ParamField = parameter()
    weight2: ParamField = parameter()
    center3: ParamField = parameter()
    width3: ParamField = parameter()
    weight3: ParamField = parameter()
    period: "Param | None" = eqx.field(default=None, converter=as_fixed_param, kw_only=True)
    backsweep: bool = eqx.field(static=True, default=False, kw_only=True)
    center_dispersion: Powers = powers()
    width_dispersion: Powers = powers()

    def __check_init__(self):
        label = f"GaussianIRF '{self.name}'"
        if self.center is None:
            raise InputError(f"{label} needs center, where time zero is about.")
        if (self.width is None) == (self.fwhm is None):
            raise InputError(f"{label} needs either width or fwhm.")
        if self.backsweep and self.period is None:
            raise InputError(f"{label}: backsweep needs the period of the sweep.")
        for i in ("2", "3"):
            given = [key for key in ("center", "width", "weight") if getattr(self, key + i)]
            if given and len(given) < 3:
                raise InputError(
                    f"{label}: another Gaussian needs center{i}, width{i} and weight{i}."
                )

    @property
    def domain(self) -> Domain:
        """Widths are not negative."""
        widths = (key for key in ("width", "fwhm", "width2", "width3") if getattr(self, key))
        return {f"{self.name}.{key}": POSITIVE for key in widths}

    @property
    def polynomials(self) -> dict[str, tuple[Param, ...]]:
        """Of time zero and of the width."""
        some = {"center_dispersion": self.center_dispersion}
        return some | {"width_dispersion": self.width_dispersion}

    def gaussians(
        self, values: Mapping[str, ArrayIn]
    ) -> list[tuple[jax.Array, jax.Array, jax.Array]]:
        """Centre and standard deviation, in units of x, and share of each Gaussian; shares add up to
        one."""
        v = {key: jnp.asarray(value) for key, value in values.items()}
        width = v["width"] if "width" in v else v["fwhm"] / FWHM_PER_SIGMA
        place = self.place()
        if place is not None:
            later = place.delay + polynomial(v, "center_dispersion", place.distance)
            wider = polynomial(v, "width_dispersion", place.distance)
            wider = wider if "width" in v else wider / FWHM_PER_SIGMA
            width = width + wider
            v |= {key: v[key] + later for key in ("center", "center2", "center3") if key in v}
            v |= {key: v[key] + wider for key in ("width2", "width3") if key in v}
        components = [(v["center"], width, jnp.ones_like(width))]
        for i in ("2", "3"):
            if "center" + i in v:
                components.append((v["center" + i], v["width" + i], v["weight" + i]))
        total = sum((weight for _, _, weight in components[1:]), components[0][2])
        return [(center, width, weight / total) for center, width, weight in components]

    def convolve_decay(self, x: ArrayIn, rate: ArrayIn, values: Mapping[str, ArrayIn]) -> jax.Array:
        """Decays `exp(-rate v)` convolved with the response at `x`; x and rates broadcast."""
        x, rate = jnp.asarray(x), jnp.asarray(rate)
        total = jnp.zeros((), x.dtype)
        for center, width, share in self.gaussians(values):
            t = x - center
            response = filtered_decay(t, rate, width)
            if "period" in values:
                period = values["period"]
                remainder = 1.0 / -jnp.expm1(-rate * period)
                if self.backsweep:
                    back = jnp.exp(-rate * jnp.maximum(0.5 * period - t, 0.0))
                    response = (
                        response
                        + (jnp.exp(-rate * jnp.maximum(t + period, 0.0)) + back) * remainder
                    )
                else:
                    response = response + filtered_decay(t + period, rate, width) * remainder
            total = total + share * response
        return total

    def convolve_states(
        self,
        x: Float[ArrayIn, " m"],
        k: Inexact[Array, "n n"],
        start: Inexact[Array, " n"],
        values: Mapping[str, ArrayIn],
        known: Bool[np.ndarray, " n"],
    ) -> Inexact[Array, "m n"]:
        """States `exp(K v) start` convolved with the response (m, n)."""
        x = jnp.asarray(x)
        remainder = (
            repeated(k, start, as_scalar(values["period"]), known) if "period" in values else None
        )
        total = jnp.zeros((), x.dtype)
        for center, width, share in self.gaussians(values):
            t = x - as_scalar(center)
            response = _convolved_states(k, start, t, as_scalar(width), known)
            if remainder is not None:
                period = as_scalar(values["period"])
                if self.backsweep:
                    response = response + states(k, remainder, jnp.maximum(t + period, 0.0), known)
                    response = response + states(
                        k, remainder, jnp.maximum(0.5 * period - t, 0.0), known
                    )
                else:
                    response = response + _convolved_states(
                        k, remainder, t + period, as_scalar(width), known
                    )
            total = total + as_scalar(share) * response
        return total

    def convolve_function(
        self, x: Float[ArrayIn, " m"], function: Causal, values: Mapping[str, ArrayIn]
    ) -> Inexact[Array, "m g"]:
        """Columns `function(v)` convolved with the response (m, g), by quadrature."""
        x = jnp.asarray(x)
        total = jnp.zeros((), x.dtype)
        for center, width, share in self.gaussians(values):
            t = x - as_scalar(center)
            response = _convolved(function, t, as_scalar(width))
            if "period" in values:
                period = as_scalar(values["period"])
                earlier = train(function, period)
                if self.backsweep:
                    response = response + earlier(jnp.maximum(t + period, 0.0)[:, None])
                    response = response + earlier(jnp.maximum(0.5 * period - t, 0.0)[:, None])
                else:
                    response = response + _convolved(earlier, t + period, as_scalar(width))
            total = total + as_scalar(share) * response
        return total


def _scaled_time(
    t: Float[Array, " m"], width: Float[Array, ""]
) -> tuple[Float[Array, " m"], Float[Array, ""]]:
    """Times in units of s, `t / s`, and s: the width, or the rounding of t where that is more."""
    eps = float(jnp.finfo(t.dtype).eps)
    largest = jnp.maximum(jnp.max(jnp.abs(t)), float(jnp.finfo(t.dtype).tiny) ** 0.4)
    s = jnp.maximum(jnp.abs(width), eps * largest)
    return t / s, s


@jax.custom_jvp
def _early(u: Float[Array, " m"], columns: Inexact[Array, "r n"]) -> Inexact[Array, "m n"]:
    """Columns convolved with the Gaussian (m, n) at times u, in standard deviations, below _REACH, from
    `columns` (r, n) at _NODES."""
    return _product(_node_weights(u)[0], columns)


@_early.defjvp
def _early_jvp(primals, tangents):
    # Each row moves with its own u, so one slope serves the tangents of all parameters.
    (u, columns), (t_u, t_columns) = primals, tangents
    weights, distance = _node_weights(u)
    slope = _product(-distance * weights, columns)
    return _product(weights, columns), _product(weights, t_columns) + slope * t_u[:, None]


def _node_weights(u: Float[Array, " m"]) -> tuple[Float[Array, "m r"], Float[Array, "m r"]]:
    """Weights of the nodes for times u, and distances of the nodes in standard deviations."""
    # Clipped where it is zero in any case, before it becomes a denormal number.
    distance = jnp.clip(u[:, None] - _NODES.astype(u.dtype), -12.0, 12.0)
    return jnp.exp(-0.5 * distance**2) * _WEIGHTS.astype(u.dtype), distance


def _product(a: Array, b: Array) -> Array:
    """`a @ b` in full precision on every device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _convolved_states(
    k: Inexact[Array, "n n"],
    start: Inexact[Array, " n"],
    t: Float[Array, " m"],
    width: Float[Array, ""],
    known: Bool[np.ndarray, " n"],
) -> Inexact[Array, "m n"]:
    """States (m, n) convolved with one Gaussian at time 0. Once it is over they go on by themselves."""
    u, s = _scaled_time(t, width)
    columns = states(k, start, s * _NODES.astype(t.dtype), known)
    late = states(
        k, jnp.asarray(_AT_REACH, t.dtype) @ columns, jnp.maximum(t - _REACH * s, 0.0), known
    )
    return jnp.where((u < _REACH)[:, None], _early(u, columns), late)


def _convolved(
    function: Causal, t: Float[Array, " m"], width: Float[Array, ""]
) -> Inexact[Array, "m g"]:
    """Columns `function(v)` (m, g) convolved with one Gaussian at time 0, by quadrature."""
    u, s = _scaled_time(t, width)
    early = _early(u, function((s * _NODES.astype(t.dtype))[:, None]))
    times = jnp.maximum(t[:, None] - s * _LATE.astype(t.dtype), 0.0)
    values = function(times.reshape(-1, 1)).reshape(*times.shape, -1)
    late = jnp.sum(values * _LATE_WEIGHTS.astype(t.dtype)[:, None], axis=1)
    return jnp.where((u < _REACH)[:, None], early, late)
