"""Decaying waves of complex data: spectra in the time domain, ring-down, normal modes."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import AbstractBasis, ParamField, Shared, as_fixed_param, backend, parameter
from ._origin import Origin, from_origin, origin_field, reference, shape_origin, with_origin
from ._reported import Reported


class Receiver(Shared):
    """A phase and a delay that all lines of a spectrum have in common, given to them as `receiver=`.

        receiver = vp.Receiver("receiver", phase=0.0)
        model = vp.ComplexExp("PCr", freq=0.0, rate=20.0, receiver=receiver) + ...
        fit = vp.fit(model, t, fid, real_coefficients=True)

    Line j is then `exp(i phase) exp((2 pi i freq_j - rate_j) (x + delay))`, and its coefficient a real
    amplitude: the model of AMARES (Vanhamme, van den Boogaart and Van Huffel, J. Magn. Reson. 129, 35
    (1997)). With complex coefficients a common phase has no meaning and is not determined.

    **Arguments:**

    - `name`: prefix of its parameters, `receiver.phase` and `receiver.delay`.
    - `phase`: in radians; 0 by default.
    - `delay`: from the pulse to x = 0, in units of x; none by default, and held unless a `Param` says
        otherwise.
    """

    name: str
    phase: ParamField = parameter(0.0)
    delay: "Param | None" = eqx.field(default=None, converter=as_fixed_param, kw_only=True)


class ComplexExp(AbstractBasis):
    """A decaying wave `exp((2 pi i freq - rate) x)`, for complex data.

    Its complex coefficient is an amplitude and a phase; with a `receiver`, and `real_coefficients=True`
    in the fit, a real amplitude.

    **Arguments:**

    - `name`: of the component and its coefficient.
    - `freq`: cycles per unit of x; of either sign.
    - `rate`: of the exponential decay, in radians per unit of x: a Lorentzian line of full width
        `rate / pi` at half maximum; or
    - `tau`: its inverse, the lifetime; or
    - `fwhm`: the full width at half maximum, in the units of `freq`.
    - `gaussian`: full width at half maximum of a Gaussian line, in the units of `freq`: a factor
        `exp(-(pi gaussian x)^2 / (4 ln 2))`. With an exponential decay the line is a Voigt profile.
    - `receiver`: a `Receiver`.
    - `origin`: the x from which phase and decay count; 0 by default. Where that lies so far from the
        data that amplitudes there are out of proportion, or a Gaussian factor shows nothing of its shape,
        it is the first x, and the report says so; never with a receiver, whose `delay` is for that.

    `fit.derive` knows `name.amplitude` and `name.phase`, in radians, and `name.rate`, `name.tau` and
    `name.fwhm`, those of the exponential decay.

    Without any decay the wave goes on for ever. Starts that are left out, of frequency and decay, are
    found in the spectrum of the data; several waves get increasing
    frequencies in the order in which they stand in the model.

    **Raises:** `InputError` for more than one of rate, tau and fwhm.
    """

    name: str
    freq: ParamField = parameter()
    rate: ParamField = parameter()
    tau: ParamField = parameter()
    fwhm: ParamField = parameter()
    gaussian: ParamField = parameter()
    receiver: Receiver | None = eqx.field(default=None, kw_only=True)
    origin: Origin = origin_field()
    elementwise: ClassVar[bool] = True
    wave: ClassVar[bool] = True
    lifetimes: ClassVar[tuple[str, ...]] = ("tau",)
    positive: ClassVar[tuple[str, ...]] = ("rate", "tau", "fwhm", "gaussian")

    def __post_init__(self):
        if self.freq is None:
            self.freq = Param()

    def __check_init__(self):
        if sum(p is not None for p in (self.rate, self.tau, self.fwhm)) > 1:
            raise InputError(f"ComplexExp '{self.name}' takes one of rate, tau and fwhm.")

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        xp, x = backend(from_origin(x, self.origin), values)
        shared = {} if self.receiver is None else self.receiver.local_values(values)
        x = x + shared["delay"] if "delay" in shared else x
        phase, decay = 2 * np.pi * values["freq"] * x, xp.zeros_like(x)
        phase = phase + shared["phase"] if "phase" in shared else phase
        if "rate" in values:
            decay = values["rate"] * x
        elif "tau" in values:
            decay = x / values["tau"]
        elif "fwhm" in values:
            decay = np.pi * values["fwhm"] * x
        if "gaussian" in values:
            decay = decay + (np.pi * values["gaussian"] * x) ** 2 / (4 * np.log(2.0))
        return xp.exp(-decay) * (xp.cos(phase) + 1j * xp.sin(phase))

    def prepared(self, x: PyTree, dtype: np.dtype) -> "ComplexExp":
        """Place the origin of a Gaussian factor, and bring any to the precision `dtype`."""
        if self.gaussian is not None and self.receiver is None:
            return with_origin(self, shape_origin(x, self.origin, dtype))
        return with_origin(self, None if self.origin is None else self.origin.astype(dtype))

    def placed(self, x: PyTree, dtype: np.dtype) -> "ComplexExp":
        """Count from the first x where all x are far from the origin."""
        if self.gaussian is not None or self.receiver is not None:
            return self
        first = reference(x, self.origin, dtype)
        return self if first is None else with_origin(self, first)

    def falls_by(self, values: Mapping[str, ArrayIn]) -> ArrayIn | float:
        """The rate of the exponential decay."""
        if "rate" in values:
            return values["rate"]
        return 1.0 / values["tau"] if "tau" in values else np.pi * values.get("fwhm", 0.0)

    def reported(self, values: Mapping[str, ArrayIn], coef: Sequence[ArrayIn]) -> Reported:
        """Amplitude and phase of the coefficient; rate, lifetime and width of the line."""
        c = jnp.asarray(coef[0])
        own: dict[str, Any] = {"amplitude": jnp.abs(c), "phase": jnp.angle(c)}
        if {"rate", "tau", "fwhm"} & set(values):
            rate = self.falls_by(values)
            own |= {"rate": rate, "tau": 1.0 / rate, "fwhm": rate / np.pi}
        return Reported(own)
