"""Oscillations."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import AbstractBasis, ParamField, parameter
from ._origin import (
    Origin,
    from_origin,
    origin_field,
    reference,
    refuse_with_response,
    shape_origin,
    with_origin,
)
from ._reported import Reported
from ._response import AbstractResponse

_ENVELOPES = ("exponential", "gaussian")


class Oscillation(AbstractBasis):
    """An oscillation of any phase: columns `d(x) cos(2 pi freq x)` and `d(x) sin(2 pi freq x)`.

    The envelope d is `exp(-x / tau)`, or `exp(-x^2 / (2 tau^2))`, or 1. With coefficients a of the
    cosine and b of the sine, the amplitude is `sqrt(a^2 + b^2)` and the phase `atan2(-b, a)` in
    `cos(2 pi freq x + phase)`.

    **Arguments:**

    - `name`: of the component; its coefficients are `name.cos` and `name.sin`.
    - `freq`: cycles per unit of x.
    - `tau`: the lifetime, in units of x; for a Gaussian envelope its standard deviation; or
    - `rate`: its inverse. With neither the oscillation does not decay.
    - `envelope`: "exponential" (default) or "gaussian".
    - `irf`: the response with which it is convolved. It then begins where that is, with the phases of
        cosine and sine counted from there.
    - `origin`: the x from which phase and decay count; 0 by default. Where that lies so far from the
        data that amplitudes there are out of proportion, or a Gaussian envelope shows nothing of its
        shape, it is the first x, and the report says so.

    `fit.derive` knows `name.amplitude` and `name.phase`, in radians, and of one that decays `name.tau` and
    `name.rate`.

    Starts that are left out, of frequency and decay, are found in the spectrum of the data,
    but not through a response.

    **Raises:** `InputError` for both tau and rate, for another envelope, and for both irf and origin.
    """

    name: str
    freq: ParamField = parameter()
    tau: ParamField = parameter()
    rate: ParamField = parameter()
    envelope: str = eqx.field(static=True, default="exponential")
    irf: AbstractResponse | None = eqx.field(default=None, kw_only=True)
    origin: Origin = origin_field()
    wave: ClassVar[bool] = True
    lifetimes: ClassVar[tuple[str, ...]] = ("tau",)
    positive: ClassVar[tuple[str, ...]] = ("tau", "rate")

    def __post_init__(self):
        if self.freq is None:
            self.freq = Param()

    def __check_init__(self):
        refuse_with_response(f"Oscillation '{self.name}'", self.origin, self.irf)
        if self.tau is not None and self.rate is not None:
            raise InputError(f"Oscillation '{self.name}' needs either tau or rate, not both.")
        if not isinstance(self.envelope, str) or self.envelope not in _ENVELOPES:
            raise InputError(
                f"Oscillation '{self.name}' needs envelope 'exponential' or 'gaussian', not "
                f"{self.envelope!r}."
            )

    @property
    def _centred(self) -> bool:
        """Whether its shape depends on where it begins."""
        return self.envelope == "gaussian" and (self.tau is not None or self.rate is not None)

    def prepared(self, x: PyTree, dtype: np.dtype) -> "Oscillation":
        """Place the origin of a Gaussian envelope, and bring any to the precision `dtype`."""
        if self._centred and self.irf is None:
            return with_origin(self, shape_origin(x, self.origin, dtype))
        return with_origin(self, None if self.origin is None else self.origin.astype(dtype))

    def placed(self, x: PyTree, dtype: np.dtype) -> "Oscillation":
        """Count from the first x where all x are far from the origin."""
        if self.irf is not None or self._centred:
            return self
        first = reference(x, self.origin, dtype)
        return self if first is None else with_origin(self, first)

    def falls_by(self, values: Mapping[str, ArrayIn]) -> ArrayIn | float:
        """The rate of the envelope."""
        return self._rate(values)

    @property
    def finds_start(self) -> bool:
        """Whether starts may be left out: only without a response."""
        return self.irf is None

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names `name.cos` and `name.sin`."""
        return (f"{self.name}.cos", f"{self.name}.sin")

    @property
    def rowwise(self) -> bool:
        """Every row is made of its own x, if nobody has changed the formula."""
        return type(self).evaluate is Oscillation.evaluate

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> jax.Array:
        """Columns (m, 2) at x (m,)."""
        x = jnp.asarray(from_origin(x, self.origin))
        if self.irf is None:
            return self._plain(x[:, None], values)
        irf_values = self.irf.local_values(values)
        if self.envelope == "gaussian":
            return self.irf.convolve_function(x, lambda v: self._plain(v, values), irf_values)
        # A decay whose rate is complex: exp(-rate v) = d(v) (cos + i sin).
        rate = jnp.asarray(self._rate(values) - 2j * jnp.pi * values["freq"])
        decay = self.irf.convolve_decay(x[:, None], rate, irf_values)
        return jnp.concatenate([decay.real, decay.imag], axis=1)

    def reported(self, values: Mapping[str, ArrayIn], coef: Sequence[ArrayIn]) -> Reported:
        """Amplitude and phase, as in `amplitude cos(2 pi freq x + phase)`; rate and lifetime."""
        a, b = coef
        own: dict[str, Any] = {"amplitude": jnp.hypot(a, b), "phase": jnp.arctan2(-b, a)}
        if "tau" in values or "rate" in values:
            rate = self._rate(values)
            own |= {"rate": rate, "tau": 1.0 / rate}
        return Reported(own)

    def _rate(self, values: Mapping[str, ArrayIn]) -> ArrayIn | float:
        """Rate of decay, `1 / tau` where that is given, 0 where neither is."""
        if "rate" in values:
            return values["rate"]
        return 1.0 / values["tau"] if "tau" in values else 0.0

    def _plain(self, x: Array, values: Mapping[str, ArrayIn]) -> jax.Array:
        """Columns (m, 2) at x (m, 1) without a response."""
        phase = 2 * jnp.pi * values["freq"] * x
        waves = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=1)
        s = self._rate(values) * x
        return jnp.exp(-s if self.envelope == "exponential" else -0.5 * s**2) * waves
