"""Oscillations."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp

from .._params import Param
from .._results import InputError
from .._types import ArrayIn
from ._base import AbstractBasis, parameter

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
    """

    name: str
    freq: Param | None = parameter()
    tau: Param | None = parameter()
    rate: Param | None = parameter()
    envelope: str = eqx.field(static=True, default="exponential")

    def __post_init__(self):
        if self.freq is None:
            self.freq = Param()

    def __check_init__(self):
        if self.tau is not None and self.rate is not None:
            raise InputError(f"Oscillation '{self.name}' needs either tau or rate, not both.")
        if self.envelope not in _ENVELOPES:
            raise InputError(
                f"Oscillation '{self.name}' needs envelope 'exponential' or 'gaussian', not "
                f"{self.envelope!r}."
            )

    @property
    def column_names(self) -> tuple[str, ...]:
        return (f"{self.name}.cos", f"{self.name}.sin")

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> jax.Array:
        x = jnp.asarray(x)
        phase = 2 * jnp.pi * values["freq"] * x
        waves = jnp.stack([jnp.cos(phase), jnp.sin(phase)], axis=1)
        if "rate" not in values and "tau" not in values:
            return waves
        s = values["rate"] * x if "rate" in values else x / values["tau"]
        decay = jnp.exp(-s if self.envelope == "exponential" else -0.5 * s**2)
        return decay[:, None] * waves
