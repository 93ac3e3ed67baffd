"""The operator L of a penalty on coefficients that are too many for a matrix of its rows."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._given.arguments import shown
from ..linalg import Flat, FunctionPair, Products, described, is_operator


def check_operator(operator: Any) -> None:
    """**Raises:** `InputError` for what is neither a name known here nor an operator."""
    known = isinstance(operator, str) and operator in ("identity", "gradient")
    if not known and not is_operator(operator):
        raise InputError(
            f"operator={shown(operator)} is none. Give 'identity', 'gradient' or an operator of lineax.",
            argument="operator",
        )


def penalty_products(given: PyTree, coefficients: Flat) -> Products:
    """L, for coefficients of this structure.

    **Raises:** `InputError` if L takes something else.
    """
    if isinstance(given, str):
        made = (lambda c: c) if given == "identity" else _differences
        operator: Any = lx.FunctionLinearOperator(made, coefficients.structure)
    elif isinstance(given, lx.AbstractLinearOperator):
        operator = given
    else:
        operator = _of_vectors(given, coefficients)
    found = Products.of(operator)
    if found.input.treedef != coefficients.treedef or (
        [leaf.shape for leaf in found.input.leaves] != [leaf.shape for leaf in coefficients.leaves]
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
