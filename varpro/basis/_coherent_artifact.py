"""The coherent artifact: the signal of a sample while the pulse lasts."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp

from .._errors import InputError
from .._types import ArrayIn
from ._base import AbstractBasis, column
from ._gaussian_irf import GaussianIRF
from ._measured_irf import MeasuredIRF


class CoherentArtifact(AbstractBasis):
    """The signal of a sample while the pulse lasts: the response and its derivatives.

    Columns `g`, `g'` and `g''` as functions of `u = (x - center) / width` of the (first) Gaussian,
    without units: `exp(-u^2 / 2)` times 1, `-u` and `u^2 - 1`. Of a measured response the first column is
    the response, one at its maximum, as scattered light has it, and the others are its central differences
    from sample to sample; between samples all are straight lines. Their coefficients are
    `name.0`, `name.1`, `name.2`. Kovalenko et al., Phys. Rev. A 59, 2369 (1999).

    **Arguments:**

    - `name`: of the component.
    - `irf`: the `GaussianIRF` or `MeasuredIRF`.
    - `order`: the number of columns, 1 to 3; 1 by default.

    **Raises:** `InputError` without a response, and for another order.
    """

    name: str
    irf: GaussianIRF | MeasuredIRF | None = eqx.field(default=None, kw_only=True)
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
        """Names `name.0` and so on, by order of the derivative."""
        return tuple(f"{self.name}.{i}" for i in range(self.order))

    @property
    def rowwise(self) -> bool:
        """Every row is made of its own x, if nobody has changed the formula."""
        return type(self).evaluate is CoherentArtifact.evaluate

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> jax.Array:
        """Columns (m, order) at x (m,)."""
        assert self.irf is not None
        if isinstance(self.irf, MeasuredIRF):
            return self.irf.differences(x, self.irf.local_values(values), self.order)
        center, width, _ = self.irf.gaussians(self.irf.local_values(values))[0]
        # Far out all is zero, also what would overflow.
        u = jnp.clip((column(x) - center) / width, -60.0, 60.0)
        factors = jnp.concatenate([jnp.ones_like(u), -u, u**2 - 1.0], axis=1)
        return jnp.exp(-0.5 * u**2) * factors[:, : self.order]
