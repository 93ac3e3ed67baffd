"""A quadratic penalty on coefficients that are too many for a matrix of its rows."""

from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import Float, PyTree

from .._errors import InputError
from .._given.arguments import number
from ..linalg import Flat, Products
from .penalty_operator import check_operator, penalty_products

Choice = Literal["gcv", "discrepancy"]


class Tikhonov(eqx.Module):
    """The penalty `1/2 strength || L c ||^2` of a model whose basis is an operator.

    **Arguments:**

    - `strength`: a number; "gcv" for the one of least generalised cross-validation, with the trace by
        random vectors (Golub and von Matt, J. Comput. Graph. Stat. 6, 1, 1997); "discrepancy" for the one
        at which the residual has the size of the noise (Morozov). Sought at alpha0, then at the optimum
        of every search, until it stays within 5 %.
    - `operator`: L. "identity" (default); "gradient" for the differences between neighbours along every
        axis of every array among the coefficients; or an operator of lineax, `vp.linalg.FunctionPair` or
        sparse matrix of JAX that takes the coefficients.
    - `noise`: for "discrepancy" the standard deviation of a weighted residual: 1 (default) if weights are
        one over the standard deviation.

    **Raises:** `InputError` for a strength that is negative or no number, and for an operator of no kind
    known here.
    """

    strength: Float[Any, ""] | float | Choice = 1.0
    operator: PyTree = "identity"
    noise: Float[Any, ""] | float = 1.0

    def __check_init__(self):
        if isinstance(self.strength, str):
            if self.strength not in ("gcv", "discrepancy"):
                raise InputError(
                    f"strength must be a number, 'gcv' or 'discrepancy', not {self.strength!r}.",
                    argument="strength",
                )
        elif (
            not isinstance(self.strength, jax.Array) and not number("strength", self.strength) >= 0
        ):
            raise InputError(
                f"strength must not be negative, but is {self.strength}.", argument="strength"
            )
        if not isinstance(self.noise, jax.Array) and not number("noise", self.noise) > 0:
            raise InputError(f"noise must be positive, but is {self.noise}.", argument="noise")
        check_operator(self.operator)

    @property
    def automatic(self) -> bool:
        """Whether the strength is sought."""
        return isinstance(self.strength, str)

    def products(self, coefficients: Flat) -> Products:
        """L, for coefficients of this structure.

        **Raises:** `InputError` if L takes something else.
        """
        return penalty_products(self.operator, coefficients)
