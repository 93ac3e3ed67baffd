"""An instrument's response, shared by the components that are seen through it."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp

from .._params import Param
from .._results import InputError
from .._types import ArrayIn
from ._base import FWHM_PER_SIGMA, AbstractBasis, Shared, column, parameter
from ._special import filtered_decay


class GaussianIRF(Shared):
    """A Gaussian instrument response of unit area, given to components as `irf=`.

        irf = vp.GaussianIRF("irf", center=0.3, width=0.1)
        model = vp.Exp("fast", tau=0.5, irf=irf) + vp.Exp("slow", tau=5.0, irf=irf)

    Its parameters, `irf.center` and so on, exist once. Through it a decay of rate k that begins at
    `center` is `exp(-k t) theta(t)` convolved with the Gaussian, in a form in which nothing overflows
    (`varpro.basis._special`): as in TIMP and pyglotaran, and unlike an amplitude at the maximum.

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

    **Raises:** `InputError` if both widths or none are given, or `backsweep` without a period.
    """

    name: str
    center: Param | None = parameter()
    width: Param | None = parameter()
    fwhm: Param | None = parameter()
    center2: Param | None = parameter()
    width2: Param | None = parameter()
    weight2: Param | None = parameter()
    center3: Param | None = parameter()
    width3: Param | None = parameter()
    weight3: Param | None = parameter()
    period: "Param | None" = eqx.field(default=None, converter=lambda v: _held(v), kw_only=True)
    backsweep: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        what = f"GaussianIRF '{self.name}'"
        if self.center is None:
            raise InputError(f"{what} needs center, where time zero is about.")
        if (self.width is None) == (self.fwhm is None):
            raise InputError(f"{what} needs either width or fwhm.")
        if self.backsweep and self.period is None:
            raise InputError(f"{what}: backsweep needs the period of the sweep.")
        for i in ("2", "3"):
            given = [key for key in ("center", "width", "weight") if getattr(self, key + i)]
            if given and len(given) < 3:
                raise InputError(
                    f"{what}: another Gaussian needs center{i}, width{i} and weight{i}."
                )

    def gaussians(
        self, values: Mapping[str, ArrayIn]
    ) -> list[tuple[jax.Array, jax.Array, jax.Array]]:
        """Centre, standard deviation and share of each Gaussian; shares add up to one."""
        v = {key: jnp.asarray(value) for key, value in values.items()}
        width = v["width"] if "width" in v else v["fwhm"] / FWHM_PER_SIGMA
        found = [(v["center"], width, jnp.ones_like(width))]
        for i in ("2", "3"):
            if "center" + i in v:
                found.append((v["center" + i], v["width" + i], v["weight" + i]))
        total = sum((weight for _, _, weight in found[1:]), found[0][2])
        return [(center, width, weight / total) for center, width, weight in found]

    def seen(self, x: ArrayIn, rate: ArrayIn, values: Mapping[str, ArrayIn]) -> jax.Array:
        """A decay through it at `x`; everything broadcasts."""
        x, rate = jnp.asarray(x), jnp.asarray(rate)
        total = jnp.zeros((), x.dtype)
        for center, width, share in self.gaussians(values):
            t = x - center
            now = filtered_decay(t, rate, width)
            if "period" in values:
                period = values["period"]
                left = 1.0 / -jnp.expm1(-rate * period)
                if self.backsweep:
                    back = jnp.exp(-rate * jnp.maximum(0.5 * period - t, 0.0))
                    now = now + (jnp.exp(-rate * jnp.maximum(t + period, 0.0)) + back) * left
                else:
                    now = now + filtered_decay(t + period, rate, width) * left
            total = total + share * now
        return total


def _held(value: "Param | float | None") -> Param | None:
    """A number is a value that is known, not a start."""
    return value if value is None or isinstance(value, Param) else Param(value, fixed=True)


class CoherentArtifact(AbstractBasis):
    """What the sample does while the pulse lasts: the response and its derivatives.

    Columns `g`, `g'` and `g''` as functions of `u = (x - center) / width` of the (first) Gaussian,
    without units: `exp(-u^2 / 2)` times 1, `-u` and `u^2 - 1`. Their coefficients are
    `name.0`, `name.1`, `name.2`. Kovalenko et al., Phys. Rev. A 59, 2369 (1999).

    **Arguments:**

    - `name`: of the component.
    - `irf`: the `GaussianIRF`.
    - `order`: how many columns, 1 to 3; 1 by default.
    """

    name: str
    irf: GaussianIRF | None = eqx.field(default=None, kw_only=True)
    order: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if self.irf is None:
            raise InputError(f"CoherentArtifact '{self.name}' needs irf, the response it follows.")
        if not 1 <= self.order <= 3:
            raise InputError(
                f"CoherentArtifact '{self.name}' needs order 1 to 3, not {self.order}."
            )

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}.{i}" for i in range(self.order))

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> jax.Array:
        assert self.irf is not None
        center, width, _ = self.irf.gaussians(self.irf.own(values))[0]
        # Far out all is zero, also what would overflow.
        u = jnp.clip((column(x) - center) / width, -60.0, 60.0)
        factors = jnp.concatenate([jnp.ones_like(u), -u, u**2 - 1.0], axis=1)
        return jnp.exp(-0.5 * u**2) * factors[:, : self.order]
