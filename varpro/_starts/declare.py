"""The set-up of every fit: from a model, data and constraints to parameters and their layout."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._parameters.expression import evaluated
from .._parameters.inverses import Inverses
from .._parameters.layout import Coordinates, Layout, Numbers, build_layout
from .._parameters.param import Param
from .._problem.data import Data
from .._problem.linear_constraints import Linear
from .._problem.model_like import ModelLike, as_basis, starts_of
from .._problem.options import NONE, Constraints
from .._types import ArrayIn
from ..basis import (
    AbstractBasis,
    Model,
    Sum,
    at_wavelengths,
    build_model,
    representable,
    with_origin,
)

# By how much of themselves cost and parameters may differ where nothing but the origin of x does. Of data
# without noise the cost is rounding, and only the parameters can be compared.
_SAME_COST, _SAME_VALUES = 1e-6, 1e-8


def same_optimum(
    cost: ArrayIn, values: ArrayIn, old_cost: ArrayIn, old_values: ArrayIn
) -> np.ndarray:
    """Whether optima (...) from two origins are one, by their costs (...) and parameters (..., q)."""
    away = np.abs(np.asarray(values) - old_values)
    near = (away <= _SAME_VALUES * np.abs(np.asarray(old_values))).all(axis=-1)
    return (np.asarray(cost) <= np.asarray(old_cost) * (1 + _SAME_COST)) | near


@dataclasses.dataclass(frozen=True)
class Declared:
    """A model that is ready for the x of data: its `basis`, and the `model` that computes all of its
    columns from an array of parameters; `given`, the basis with its own origins where `placed` moved
    them."""

    basis: AbstractBasis
    model: Model
    given: AbstractBasis | None = None

    def placed(self, data: Data, linear: Linear) -> "Declared":
        """The same with columns that count from an x among the data, where those are far from the
        origins; itself where none is, and where a rule for coefficients says what they are there."""
        tied = any(a is not None for a in (linear.mix, linear.constant, linear.penalty))
        ends = [np.asarray(a) for a in (linear.lower, linear.upper) if a is not None]
        if tied or linear.real or any((np.isfinite(end) & (end != 0)).any() for end in ends):
            return self
        used = data.keep if data.keep.ndim == 1 else data.keep.any(axis=1)
        x = data.x[used] if isinstance(data.x, np.ndarray) else data.x
        basis = self.basis.placed(x, data.real)
        changed = [n for n, o in zip(_parts(basis), _parts(self.basis), strict=True) if n is not o]
        # A wave that counts from elsewhere has another phase, and what is positive here is not there.
        if not changed or (ends and any(part.wave for part in changed)):
            return self
        return Declared(basis, build_model(basis), self.basis)

    def as_given(self, x: PyTree, values: Mapping[str, np.ndarray]) -> "Declared | None":
        """The same, of the same compiled programs, with the origins that were given, if they were moved and
        the coefficients for parameters of these `values`, by full name, can be told there."""
        if self.given is None:
            return None
        parts = []
        for part, given in zip(_parts(self.basis), _parts(self.given), strict=True):
            if part is not given:
                local = {key: values[part.parameter_name(key)] for key in part.parameters}
                if not representable(x, given.origin, part.origin, part.falls_by(local)):
                    return None
                wanted = np.zeros_like(part.origin) if given.origin is None else given.origin
                part = with_origin(part, wanted)
            parts.append(part)
        basis = Sum(tuple(parts)) if isinstance(self.basis, Sum) else parts[0]
        return Declared(basis, build_model(basis))

    @functools.cached_property
    def lifetimes(self) -> list[str]:
        """Names of the parameters that are inverses of rates."""
        return [
            p.parameter_name(k)
            for p in _parts(self.basis)
            for k in p.lifetimes
            if k in p.parameters
        ]

    @functools.cached_property
    def own_params(self) -> dict[str, Param]:
        """All parameters by full name, with what the model says of them."""
        return self.params(NONE)

    def params(self, constraints: Constraints) -> dict[str, Param]:
        """All parameters by full name, with what is said of them on top of what the model says."""
        return starts_of(self.basis, constraints.init, constraints.bounds)


def _parts(basis: AbstractBasis) -> tuple[Any, ...]:
    return basis.parts if isinstance(basis, Sum) else (basis,)


@dataclasses.dataclass(frozen=True)
class Setup:
    """Parameters with starts, by full name, and where they lie in the vector alpha that is sought;
    `lifetimes`, which of them are the inverses of rates."""

    params: dict[str, Param]
    layout: Layout
    numbers: Numbers
    coordinates: Coordinates
    lifetimes: frozenset[str] = frozenset()

    @property
    def inverses(self) -> Inverses:
        """The lifetimes in alpha that are coordinates themselves; they are sought by their inverse where their
        bounds make one interval of inverses."""
        layout, box = self.layout, self.coordinates
        children = layout.dependents
        places = [
            place
            for place, i in enumerate(layout.free)
            if layout.names[i] in self.lifetimes and i not in children
        ]
        lower, upper = box.lower[places], box.upper[places]
        one = (lower >= 0) | (upper <= 0) | (np.isinf(lower) & np.isinf(upper))
        return Inverses(tuple(places), one)

    @property
    def starts(self) -> np.ndarray:
        """Where all parameters (q,) begin, those that follow another by a formula as they were declared."""
        inits = [np.nan if p.init is None else p.init for p in self.params.values()]
        values = np.array([inits[source] for source in self.layout.source], float)
        return values * np.asarray(self.numbers.scale) + np.asarray(self.numbers.shift)

    @property
    def all_starts(self) -> np.ndarray:
        """Where all parameters (q,) begin, formulas evaluated."""
        values = self.starts
        for i, tree in self.layout.formulas:
            values[i] = evaluated(tree, values, np)
        return values

    def changes(self, alpha: np.ndarray) -> np.ndarray:
        """By how much coordinates (p,) change when they change by all of themselves, or back to their starts;
        a lifetime of any length by its inverse."""
        start = np.abs(self.coordinates.start)
        size = np.maximum(np.abs(alpha), start)
        inverses = self.inverses
        size = np.where(size > 0, size, 1.0)
        at = np.array(inverses.places, int)[np.asarray(inverses.taken)]
        with np.errstate(all="ignore"):
            size[at] = np.maximum(size[at], alpha[at] ** 2 / start[at])
        return size

    def started_at(self, alpha: np.ndarray) -> "Setup":
        """The same with the coordinates alpha (p,) as start."""
        start = dataclasses.replace(self.coordinates, start=np.asarray(alpha, float))
        return dataclasses.replace(self, coordinates=start)

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
    """The model made ready for `data`; `init` holds the parameters of a bare function.

    **Raises:** `InputError` for x that the model cannot have, and for a dispersion without wavelengths."""
    basis = _prepared(model, data, init)
    return Declared(basis, build_model(basis))


def declare_all(
    models: Mapping[str, ModelLike],
    datas: Mapping[str, Data],
    inits: Mapping[str, Mapping[str, Any]],
) -> dict[str, Declared]:
    """The same for each data set: those whose model is one object, which x does not change, share what is made of it."""
    made: dict[int, Declared] = {}
    declared = {}
    for key, data in datas.items():
        basis = _prepared(models[key], data, inits[key])
        if id(basis) not in made:
            made[id(basis)] = Declared(basis, build_model(basis))
        declared[key] = made[id(basis)]
    return declared


def _prepared(model: ModelLike, data: Data, init: Mapping[str, Any]) -> AbstractBasis:
    count = data.y.shape[1] if data.count is None else data.count
    basis = as_basis(model, init).prepared(data.x, data.real)
    return at_wavelengths(basis, data.names.numbers, count, data.real)


def set_up(
    params: Mapping[str, Param],
    constraints: Constraints,
    guess: Callable[[Mapping[str, Param]], Mapping[str, Param]],
    interchangeable: Sequence[Sequence[Sequence[int]]] = (),
    lifetimes: Iterable[str] = (),
) -> Setup:
    """Parameters laid out, once `guess` has found the starts that are left out.

    `interchangeable`: see `build_layout`; `lifetimes`: see `Setup`. Raises `InputError` for constraints that contradict each
    other, and for a parameter without a start.
    """
    if any(param.init is None for param in params.values()):
        params = guess(params)
    layout = build_layout(
        params,
        fix=constraints.fix,
        tie=constraints.tie,
        order=constraints.order,
        inequalities=constraints.inequalities,
        interchangeable=interchangeable,
    )
    return Setup(dict(params), *layout, frozenset(lifetimes))
