"""Exponential decays."""

from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from .._params import Param
from .._results import InputError
from .._types import ArrayIn
from ._base import AbstractBasis, column, parameter


class Exp(AbstractBasis):
    """An exponential decay, `exp(-x / tau)` or `exp(-rate x)`.

    **Arguments:**

    - `name`: of the component and its coefficient.
    - `tau`: the lifetime, in units of x; or
    - `rate`: its inverse.
    """

    name: str
    tau: Param | None = parameter()
    rate: Param | None = parameter()
    elementwise: ClassVar[bool] = True

    def __check_init__(self):
        if (self.tau is None) == (self.rate is None):
            raise InputError(f"Exp '{self.name}' needs either tau or rate.")

    def evaluate(self, x: ArrayIn, values: Mapping[str, Array]) -> Array:
        if "rate" in values:
            return jnp.exp(-values["rate"] * column(x))
        return jnp.exp(-column(x) / values["tau"])
