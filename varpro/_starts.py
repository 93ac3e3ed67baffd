"""Where a fit starts: the parameters of a model with what the user said of them, and the refusal of
starts and data that determine nothing."""

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ._data import Data
from ._linear import Linear
from ._params import Layout, Numbers, Param, expand
from ._results import InputError
from .basis import AbstractBasis, Custom, Model, Sum

ModelLike = AbstractBasis | Callable[[dict[str, Array], PyTree], object]


def as_basis(model: ModelLike, init: Mapping[str, Param | float]) -> AbstractBasis:
    if isinstance(model, AbstractBasis):
        return model
    if callable(model):
        return Custom("", model, init)  # pyright: ignore[reportArgumentType]
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


def check_enough(data: Data, nonlinear: int, columns: int, linear: Linear) -> None:
    if linear.penalty is not None:
        return
    parts = 2 if np.iscomplexobj(data.y) and not linear.real else 1
    if data.keep.ndim == 2:
        used = data.keep.sum(axis=0)
        least = int(np.argmin(used))
        if used[least] < columns:
            raise InputError(
                f"Right-hand side {least} (counted from 0) has {used[least]} values in use, which "
                f"cannot determine {columns} coefficients. Leave it out, or use a smaller model."
            )
    count = columns * data.sides * parts
    if data.effective < nonlinear + count:
        raise InputError(
            f"{data.effective} data points cannot determine {nonlinear + count} parameters "
            f"({nonlinear} nonlinear, {count} linear). Give more data or a smaller model."
        )


def check_distinct(
    built: Model, layout: Layout, numbers: Numbers, params: Mapping[str, Param], data: Data
) -> None:
    """Refuse starts from which two components would stay the same for ever.

    Equal columns have equal derivatives, so no step tells their parameters apart if all are free.
    """
    inits = [param.init for param in params.values()]
    values = np.array([inits[source] for source in layout.source], dtype=float)
    values = values * np.asarray(numbers.scale) + np.asarray(numbers.shift)
    for first, second, index in built.twins(values):
        apart = [(layout.source[i], layout.source[j]) for i, j in index]
        free = [len({i, j}.intersection(layout.free)) for i, j in apart if i != j]
        if 1 in free or 2 not in free:
            continue
        phi = np.asarray(built.evaluate(data.x, jnp.asarray(values, data.real)))
        size = np.linalg.norm(phi, axis=0)
        rank = np.linalg.matrix_rank(phi / np.where(size > 0, size, 1.0))
        at = ", ".join(f"{layout.names[i].rpartition('.')[2]} = {values[i]:g}" for i, _ in index)
        raise InputError(
            f"Phi has rank {rank} of {phi.shape[1]} at the starting point: columns '{first}' and "
            f"'{second}' are identical ({at}). Give distinct starts."
        )
