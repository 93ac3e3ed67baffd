"""Models whose matrix is an operator, told from those of columns."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._given.containers import as_positions, is_array
from .._types import precision
from ..basis import AbstractBasis, Custom
from ..linalg import foreign, is_operator
from .frozen import Recalled
from .functions import array_of
from .model_like import ModelLike, as_basis


def plain_positions(x: PyTree) -> PyTree:
    """x with arrays of NumPy or JAX in place of other containers."""
    own = (np.ndarray, jax.Array, int, float, complex, str)
    return jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, own) or not is_array(leaf) else array_of("x", leaf),
        as_positions("x", x),
    )


# What functions were seen to return: a fit is asked for more often than a function is written.
_KNOWN = Recalled(32)


def returns_operator(model: ModelLike, x: PyTree, init: Mapping[str, Any]) -> bool:
    """Whether a model is a function that returns an operator. What it cannot be called with is no answer
    here: whoever prepares the model says what is wrong.

    **Raises:** `InputError` for a function that returns what JAX knows nothing of.
    """
    custom = isinstance(model, Custom)
    if not custom and (isinstance(model, AbstractBasis | type) or not callable(model)):
        return False
    function: Any = model.function if custom else model
    known = _KNOWN.get(id(function))
    if known is not None and known[0] is function:
        return known[1]
    keys = model.parameters if custom else init
    found: list[bool] = []

    def called(theta, x):
        value = function(theta, x)
        if advice := foreign(value):
            label = getattr(function, "__name__", "the model")
            raise InputError(f"{label} returned {advice}", argument="model")
        found.append(is_operator(value))

    with precision(np.dtype(float)):
        try:
            theta = {key: jax.ShapeDtypeStruct((), np.float64) for key in keys}
            jax.eval_shape(called, theta, plain_positions(x))
        except InputError:
            raise
        except Exception:
            return False
    _KNOWN.put(id(function), (function, found[0]))
    return found[0]


def check_returned(model: ModelLike, x: PyTree, init: Mapping[str, Any]) -> None:
    """Say what is wrong with a function that was meant to return an operator and does not.

    **Raises:** `InputError` where it cannot be called, or returns what JAX knows nothing of.
    """
    if isinstance(model, AbstractBasis | type) and not isinstance(model, Custom):
        return
    if not callable(model) and not isinstance(model, Custom):
        return
    basis = as_basis(model, init)
    assert isinstance(basis, Custom)
    with precision(np.dtype(float)):
        basis.prepared(plain_positions(x), np.dtype(float))
