"""Baselines: a constant and polynomials, linear in everything they have."""

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp

from .._errors import InputError
from .._given.arguments import whole
from .._types import ArrayIn
from ._base import AbstractBasis, backend

# No x but 1 has a higher power that means anything in double precision.
_HIGHEST = 1000


class Constant(AbstractBasis):
    """A constant, one column of ones."""

    name: str

    @property
    def rowwise(self) -> bool:
        """Every row is made of its own x, if nobody has changed the formula."""
        return type(self).evaluate is Constant.evaluate

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Ones (m, 1)."""
        xp, _ = backend(x, values)
        return xp.ones((x.shape[0], 1), jnp.result_type(x, float))


class Polynomial(AbstractBasis):
    """Powers `1, x, ..., x^degree`, with coefficients named `name.0`, `name.1`, ...

    **Arguments:**

    - `name`: of the component.
    - `degree`: the highest power, at least 0; 1 by default.

    **Raises:** `InputError` for a negative degree, or one above 1000.
    """

    name: str
    degree: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if whole("degree", self.degree) < 0:
            raise InputError(f"Polynomial '{self.name}' needs degree >= 0, not {self.degree}.")
        if self.degree > _HIGHEST:
            raise InputError(
                f"Polynomial '{self.name}' of degree {self.degree} has powers that no number can hold; "
                f"give at most {_HIGHEST}, or a BSpline."
            )

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names `name.0` and so on, by power."""
        return tuple(f"{self.name}.{i}" for i in range(self.degree + 1))

    @property
    def rowwise(self) -> bool:
        """Every row is made of its own x, if nobody has changed the formula."""
        return type(self).evaluate is Polynomial.evaluate

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Powers of x (m, degree + 1)."""
        xp, _ = backend(x, values)
        return xp.vander(x, self.degree + 1, increasing=True)
