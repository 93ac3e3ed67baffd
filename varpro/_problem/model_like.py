"""What may be given as a model, and the parameters that it declares."""

import dataclasses
from collections.abc import Callable, Mapping

from jaxtyping import Array, PyTree

from .._errors import InputError
from .._parameters.layout import expand
from .._parameters.param import Param
from ..basis import AbstractBasis, Custom, Sum

ModelLike = AbstractBasis | Callable[[dict[str, Array], PyTree], object]


def as_basis(model: ModelLike, init: Mapping[str, Param | float]) -> AbstractBasis:
    if isinstance(model, AbstractBasis):
        return model
    if callable(model):
        return Custom("", model, init)
    raise InputError(
        f"model must be a basis such as vp.Exp('decay', tau=1.0), a sum of them, or a function "
        f"f(theta, x); {type(model).__name__} was given."
    )


def starts_of(
    basis: AbstractBasis,
    init: Mapping[str, Param | float],
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, Param]:
    """All parameters by full name, with what was given on top of what the model says."""
    parts = basis.parts if isinstance(basis, Sum) else (basis,)
    params: dict[str, Param] = {}
    for part in parts:
        own = part.parameters
        params |= zip(map(part.parameter_name, own), own.values(), strict=True)
    for pattern, value in init.items():
        for name in expand(pattern, tuple(params), "init"):
            old = params[name]
            if isinstance(value, Param):
                params[name] = value
            else:
                params[name] = dataclasses.replace(old, init=float(value))
    for pattern, (lower, upper) in bounds.items():
        for name in expand(pattern, tuple(params), "bounds"):
            old = params[name]
            params[name] = dataclasses.replace(old, lower=float(lower), upper=float(upper))
    return params
