"""The norm L1 as a penalty on coefficients that are too many for a matrix of its rows."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Float, PyTree

from .._errors import InputError
from .._given.arguments import number
from ..linalg import Flat, Products
from .penalty_operator import check_operator, penalty_products


class L1(eqx.Module):
    """The penalty `strength || L c ||_1` of a model whose basis is an operator: most of L c becomes zero.

    With `operator="gradient"` it is the anisotropic total variation. Coefficients are found to a duality gap:
    their cost is at most so much above the least one, which is measured, and is in `stats["gap"]`.

    **Arguments:**

    - `strength`: a number, fixed. Modules of complex numbers are summed.
    - `operator`: L. "identity" (default), "gradient", or an operator as for `varpro.Tikhonov`.
    - `gap`: the duality gap at which an inner solve ends, relative to the cost, at most 1e-3. By default
        9e-8 in double precision, 8e-4 in single: the machine's precision to the power 0.45.

    **Raises:** `InputError` for a strength or gap that is not positive, for a gap above 1e-3, and for an operator of no kind known
    here.
    """

    strength: Float[Any, ""] | float = 1.0
    operator: PyTree = "identity"
    gap: Float[Any, ""] | float | None = None

    def __check_init__(self):
        if isinstance(self.strength, str):
            raise InputError(
                f"The strength of vp.L1 is a number, not {self.strength!r}.", argument="strength"
            )
        if not isinstance(self.strength, jax.Array) and not number("strength", self.strength) > 0:
            raise InputError(
                f"strength must be positive, but is {self.strength}.", argument="strength"
            )
        if isinstance(self.gap, float | int) and not 0 < self.gap <= 1e-3:
            raise InputError(f"gap must lie between 0 and 1e-3, not {self.gap}.", argument="gap")
        check_operator(self.operator)

    @property
    def automatic(self) -> bool:
        """Whether the strength is sought: it is not."""
        return False

    def products(self, coefficients: Flat) -> Products:
        """L, for coefficients of this structure.

        **Raises:** `InputError` if L takes something else.
        """
        return penalty_products(self.operator, coefficients)
