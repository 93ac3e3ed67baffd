"""What may be given as a model, and the parameters that it declares."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal

from jaxtyping import Array, PyTree

from .._errors import InputError
from .._given.arguments import number
from .._parameters.layout import expand
from .._parameters.param import Param
from ..basis import AbstractBasis, Custom, Offset, Sum

# 0 is what the built-in `sum` says that it may return; it is refused.
ModelLike = AbstractBasis | Callable[[dict[str, Array], PyTree], object] | Literal[0]


def as_basis(model: ModelLike, init: Mapping[str, Param | float]) -> AbstractBasis:
    if isinstance(model, AbstractBasis):
        for part in model.parts if isinstance(model, Sum) else (model,):
            if not isinstance(part.name, str):
                raise InputError(
                    f"A component of the model is called {part.name!r}. Its first argument is its name, "
                    f"such as vp.{type(part).__name__}('name').",
                    argument="model",
                )
        return model
    if isinstance(model, type) and issubclass(model, AbstractBasis):
        raise InputError(
            f"model is the class {model.__name__}. Give one of it, such as vp.{model.__name__}('name')."
        )
    if callable(model):
        return Custom("", model, init)
    raise InputError(
        f"model must be a basis such as vp.Exp('decay', tau=1.0), a sum of them, or a function "
        f"f(theta, x); {type(model).__name__} was given."
    )


def takes_vectors(model: object) -> bool:
    """Whether x of shape (m, 1) is one axis for a model: for all but functions and bases of the user's
    own, which take it as it is."""
    if isinstance(model, Sum):
        return all(map(takes_vectors, model.parts))
    if isinstance(model, Offset):
        return takes_vectors(model.basis)
    ours = type(model).__module__.partition(".")[0] == __name__.partition(".")[0]
    return ours and not isinstance(model, Custom)


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
    domain = {part.parameter_name(key): ends for part in parts for key, ends in part.domain.items()}
    for pattern, value in init.items():
        for name in expand(pattern, tuple(params), "init"):
            old = params[name]
            if isinstance(value, Param):
                params[name] = value
            else:
                start = number(f"init for {name}", value, "init")
                params[name] = dataclasses.replace(old, init=start)
    for pattern, (lower, upper) in bounds.items():
        for name in expand(pattern, tuple(params), "bounds"):
            old = params[name]
            lower, upper = (number(f"bounds for {name}", end, "bounds") for end in (lower, upper))
            params[name] = dataclasses.replace(old, lower=lower, upper=upper)
    return {name: _inside(name, param, domain.get(name)) for name, param in params.items()}


def _inside(name: str, param: Param, domain: tuple[float, float] | None) -> Param:
    """A parameter with the ends of its domain for bounds that are not given.

    **Raises:** `InputError` for a start beyond them.
    """
    if domain is None or (param.fixed and param.init is not None):
        return param
    lower = param.lower if param.lower > -math.inf or param.upper <= domain[0] else domain[0]
    upper = param.upper if param.upper < math.inf or param.lower >= domain[1] else domain[1]
    if (lower, upper) == (param.lower, param.upper):
        return param
    if param.init is not None and not lower <= param.init <= upper:
        raise InputError(
            f"init for {name} = {param.init:g} lies outside [{lower:g}, {upper:g}], where it has a "
            f"meaning. Where it is to go beyond, say how far: bounds={{'{name}': (lower, upper)}}.",
            argument="init",
            name=name,
        )
    return dataclasses.replace(param, lower=lower, upper=upper)
