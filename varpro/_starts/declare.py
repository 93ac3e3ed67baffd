"""The set-up of every fit: from a model, data and constraints to parameters and their layout."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._parameters.layout import Coordinates, Layout, Numbers, build_layout
from .._parameters.param import Param
from .._problem.data import Data
from .._problem.model_like import ModelLike, as_basis, starts_of
from .._problem.options import NONE, Constraints
from ..basis import AbstractBasis, Model, build_model


@dataclasses.dataclass(frozen=True)
class Declared:
    """A model that is ready for the x of data: its `basis`, and the `model` that computes all of its
    columns from an array of parameters."""

    basis: AbstractBasis
    model: Model

    def params(self, constraints: Constraints = NONE) -> dict[str, Param]:
        """All parameters by full name, with what is said of them on top of what the model says."""
        return starts_of(self.basis, constraints.init, constraints.bounds)


@dataclasses.dataclass(frozen=True)
class Setup:
    """Parameters with starts, by full name, and where they lie in the vector alpha that is sought."""

    params: dict[str, Param]
    layout: Layout
    numbers: Numbers
    coordinates: Coordinates

    @property
    def priors(self) -> tuple[int, ...]:
        """The places of parameters that have a prior."""
        return tuple(i for i, param in enumerate(self.params.values()) if param.prior is not None)

    @property
    def bounded(self) -> bool:
        """Whether any coordinate of alpha has a bound."""
        box = self.coordinates.lower, self.coordinates.upper
        return any(bool(np.isfinite(end).any()) for end in box)

    def typed(self, real: np.dtype) -> tuple[Numbers, Coordinates]:
        """Its numbers in the precision of the data."""
        return jax.tree.map(lambda a: a.astype(real), (self.numbers, self.coordinates))


def declare(model: ModelLike, data: Data, init: Mapping[str, Any]) -> Declared:
    """The model made ready for `data`; `init` holds the parameters of a bare function."""
    basis = as_basis(model, init).prepared(data.x, data.real)
    return Declared(basis, build_model(basis))


def set_up(
    params: Mapping[str, Param],
    constraints: Constraints,
    guess: Callable[[Mapping[str, Param]], Mapping[str, Param]],
    interchangeable: Sequence[Sequence[Sequence[int]]] = (),
) -> Setup:
    """Parameters laid out, once `guess` has found the starts that are left out.

    `interchangeable`: see `build_layout`. Raises `InputError` for constraints that contradict each
    other, and for a parameter without a start.
    """
    if any(param.init is None for param in params.values()):
        params = guess(params)
    layout = build_layout(
        params,
        fix=constraints.fix,
        tie=constraints.tie,
        order=constraints.order,
        interchangeable=interchangeable,
    )
    return Setup(dict(params), *layout)
