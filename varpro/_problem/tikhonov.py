"""A quadratic penalty on coefficients that are too many for a matrix of its rows."""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, PyTree

from .._errors import InputError
from .._given.arguments import number, shown
from ..linalg import Flat, FunctionPair, Products, described, is_operator

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
        known = isinstance(self.operator, str) and self.operator in ("identity", "gradient")
        if not known and not is_operator(self.operator):
            raise InputError(
                f"operator={shown(self.operator)} is none. Give 'identity', 'gradient' or an operator "
                "of lineax.",
                argument="operator",
            )

    @property
    def automatic(self) -> bool:
        """Whether the strength is sought."""
        return isinstance(self.strength, str)

    def products(self, coefficients: Flat) -> Products:
        """L, for coefficients of this structure.

        **Raises:** `InputError` if L takes something else.
        """
        if isinstance(self.operator, str):
            identity = self.operator == "identity"
            made = (lambda c: c) if identity else _differences
            operator: Any = lx.FunctionLinearOperator(made, coefficients.structure)
        elif isinstance(self.operator, lx.AbstractLinearOperator):
            operator = self.operator
        else:
            operator = _of_vectors(self.operator, coefficients)
        found = Products.of(operator)
        if found.input.treedef != coefficients.treedef or (
            [leaf.shape for leaf in found.input.leaves]
            != [leaf.shape for leaf in coefficients.leaves]
        ):
            takes = described((found.input.leaves, found.input.treedef))
            have = described((coefficients.leaves, coefficients.treedef))
            raise InputError(
                f"The operator of the penalty takes {takes}, but the coefficients have {have}.",
                argument="operator",
            )
        return found


def _of_vectors(matrix: Any, coefficients: Flat) -> FunctionPair:
    """A sparse matrix, for all numbers of the coefficients in a row."""
    if matrix.shape[1] != coefficients.size:
        have = described((coefficients.leaves, coefficients.treedef))
        raise InputError(
            f"The operator of the penalty has shape {matrix.shape}, but the coefficients have {have}.",
            argument="operator",
        )
    transposed = matrix.T
    return FunctionPair(
        lambda c: matrix @ coefficients.ravel(c),
        lambda u: coefficients.unravel(transposed @ u),
        coefficients.structure,
    )


def _differences(c: PyTree) -> list[Array]:
    """Differences between neighbours, for every axis of every leaf."""
    return [
        jnp.diff(leaf, axis=axis)
        for leaf in jax.tree.leaves(c)
        for axis in range(leaf.ndim)
        if leaf.shape[axis] > 1
    ]
