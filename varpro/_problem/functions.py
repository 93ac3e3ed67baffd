"""What the pure doors take, `solve`, `log_marginal` and `reduced_loss`: a basis as a function of (alpha, args)
or a model, and arrays, which may be those of a transformation that is under way."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._given.arguments import shown
from .._given.containers import as_positions, numbers_of
from ..basis import AbstractBasis, Model, Sum, build_model
from ..linalg import is_operator


class Functions(NamedTuple):
    """A separable model as two functions of (alpha, args), and alpha."""

    basis: Callable[[PyTree, PyTree], Array]
    offset: Callable[[PyTree, PyTree], Array] | None
    alpha: PyTree


def functions_of(basis: Any, alpha: PyTree, args: PyTree, offset: Any, what: str) -> Functions:
    """What was given as functions. `what` is the argument that alpha came by; of a model it is a dict, by
    default of its starts.

    **Raises:** `InputError` for what is neither a function nor a model.
    """
    if isinstance(basis, AbstractBasis):
        built, _, alpha = built_of(basis, alpha, args, offset, what)
        return as_functions(built, alpha)
    for name, value in (("basis", basis), ("offset", offset)):
        if value is not None and not callable(value):
            raise InputError(f"{name} must be a function of (alpha, args), not {shown(value)}.")
    return Functions(basis, offset, alpha)


def array_of(what: str, value: Any) -> Any:
    """An array that JAX takes as it is, or what numbers a container holds."""
    if value is None or isinstance(value, jax.Array | int | float | complex):
        return value
    plain = isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)
    if plain and value.dtype.isnative and value.dtype.kind in "iufc":
        return value
    given = numbers_of(what, value)
    if given.missing is not None and given.missing.any():
        raise InputError(f"{what} is masked. Give weights that are zero there.", argument=what)
    return given.values


def warn_of_single(y: Any) -> None:
    """Say to the caller of a door that double precision would be lost."""
    if getattr(y, "dtype", None) in (np.float64, np.complex128) and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        warnings.warn(
            f"y is {y.dtype}, but JAX computes in float32 here. Set jax.config.update("
            "'jax_enable_x64', True), or give y in single precision.",
            stacklevel=3,
        )


def check_rows(basis: Callable, alpha: PyTree, args: PyTree, y: Array) -> tuple[int, int]:
    """The shape (m, n) of the columns.

    **Raises:** `InputError` where it does not go with y.
    """
    # Of a network some leaves are functions.
    phi = eqx.filter_eval_shape(basis, alpha, args)
    if is_operator(phi):
        raise InputError(
            "basis(alpha, args) returns an operator, which vp.solve and vp.fit take, and nothing else does.",
            argument="basis",
        )
    shape = getattr(phi, "shape", None)
    if shape is None or y.ndim not in (1, 2) or len(shape) not in (1, 2) or shape[0] != y.shape[0]:
        raise InputError(
            f"basis(alpha, args) has shape {shape} but y has shape {y.shape}; expected (m, n) "
            "and (m,) or (m, k)."
        )
    return shape[0], shape[1] if len(shape) == 2 else 1


def built_of(
    model: AbstractBasis, alpha: Any, x: PyTree, offset: Any, what: str
) -> tuple[Model, PyTree, dict[str, Any]]:
    """A model of bases as functions of all its parameters, x as arrays, and alpha by name.

    **Raises:** `InputError` where x, a start or the name of one is missing.
    """
    if offset is not None:
        raise InputError("offset= is for functions; a model has vp.Offset(...) for that.")
    if x is None:
        raise InputError("args is missing: x, where the model is evaluated.", argument="args")
    real = np.dtype(float if jax.config.jax_enable_x64 else np.float32)  # pyright: ignore
    x = jax.tree.map(lambda leaf: array_of("args", leaf), as_positions("args", x))
    built = build_model(model.prepared(x, real))
    parts = model.parts if isinstance(model, Sum) else (model,)
    starts = {p.parameter_name(k): v.init for p in parts for k, v in p.parameters.items()}
    given = starts if alpha is None else alpha
    if not isinstance(given, Mapping) or set(given) != set(built.names):
        raise InputError(
            f"{what} must be a dict with the parameters {', '.join(built.names)}, not {shown(given)}.",
            argument=what,
        )
    without = [name for name in built.names if given[name] is None]
    if without:
        raise InputError(f"{without[0]} has no start. Give it in {what}.", argument=what)
    return built, x, dict(given)


def as_functions(built: Model, alpha: dict[str, Any]) -> Functions:
    """The columns in the order of the user, as functions of a dict of parameters."""
    order = np.array(built.order)

    def vector(alpha: Any) -> Array:
        return jnp.stack([jnp.asarray(alpha[name]) for name in built.names])

    def columns(alpha: Any, x: PyTree) -> Array:
        phi = built.evaluate(x, vector(alpha) if built.names else jnp.zeros(0))
        return phi[:, order]

    def term(alpha: Any, x: PyTree) -> Array:
        return built.offset(x, vector(alpha) if built.names else jnp.zeros(0))  # pyright: ignore

    return Functions(columns, term if built.offsets else None, alpha)
