"""The interface of a basis: named parameters, named columns, and a formula that fills the columns.

A basis holds configuration alone. Its numbers (starts, bounds) live in `Param` fields; what is left
once those are taken out is the formula, and two bases with equal formulas are evaluated together:
fifty peaks are one array operation, so compile time does not grow with their number.
"""

import abc
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._reported import Reported
from ._start_grids import Box


def as_param(value: "Param | float | None") -> "Param | None":
    """Convert a plain number, a start, to a `Param`; None, for a parameter that is not used, stays."""
    return value if value is None or isinstance(value, Param) else Param(value)


Domain = dict[str, tuple[float, float]]
"""Lowest and highest value of parameters by local name."""

POSITIVE = (0.0, math.inf)
"""The domain of what has no sign: a width, or the lifetime or rate of what only decays."""


Params = tuple[tuple[str, Param], ...]
"""Parameters whose names are the user's, in his order."""


def as_params(value: "Mapping[str, Param | float] | Params | None") -> Params:
    """Convert a dict of `Param` or plain starts to pairs of name and `Param`."""
    pairs = isinstance(value, tuple) and all(isinstance(v, tuple) and len(v) == 2 for v in value)
    if value is not None and not isinstance(value, Mapping) and not pairs:
        raise InputError(
            f"Parameters are a dict of starts such as {{'tau': 1.0}}, not {type(value).__name__}."
        )
    items = value.items() if isinstance(value, Mapping) else (value or ())
    return tuple((str(k), as_param(v)) for k, v in items)  # pyright: ignore[reportReturnType]


if TYPE_CHECKING:

    class ParamField:
        """A field that takes a `Param` or a plain start, and holds a `Param`."""

        def __get__(self, instance: object, owner: Any = None) -> "Param | None": ...
        def __set__(self, instance: object, value: "Param | float | None") -> None: ...

    class ParamsField:
        """A field that takes a dict of starts by name, and holds pairs of name and `Param`."""

        def __get__(self, instance: object, owner: Any = None) -> Params: ...
        def __set__(self, instance: object, value: Mapping[str, Any] | Params | None) -> None: ...
else:
    ParamField, ParamsField = Param | None, Params


def as_fixed_param(value: "Param | float | None") -> "Param | None":
    """Convert a plain number, here a known value and not a start, to a fixed `Param`."""
    return value if value is None or isinstance(value, Param) else Param(value, fixed=True)


def parameter(default: "Param | float | None" = None) -> Any:
    """A dataclass field for a nonlinear parameter, keyword only, converted by `as_param`."""
    # Any, as for `dataclasses.field`: what is returned describes the field and is not its value.
    return eqx.field(default=default, converter=as_param, kw_only=True)


Tree = TypeVar("Tree")


def fields_of(module: eqx.Module) -> Iterator[tuple[str, Any]]:
    """Names and values of the fields of a module; not by `getattr`, which equinox makes slow."""
    values = vars(module)
    return ((field.name, values[field.name]) for field in dataclasses.fields(module))


class Shared(eqx.Module):
    """A part of a formula that several bases have in common, with its parameters, such as a response.

    Its parameters bear its name, and are the same ones in every basis that has it as a field.
    """

    name: eqx.AbstractVar[str]

    @property
    def parameters(self) -> dict[str, Param]:
        """Parameters by full name, `name.parameter`."""
        found: dict[str, Param] = {}
        for key, value in fields_of(self):
            if isinstance(value, Param):
                found[f"{self.name}.{key}"] = value
            elif isinstance(value, tuple):
                several = enumerate(value, 1)
                found |= {f"{self.name}.{key}{i}": v for i, v in several if isinstance(v, Param)}
        return found

    @property
    def domain(self) -> Domain:
        """The ends between which its parameters have a meaning, by full name, of those that have any."""
        return {}

    def local_values(self, values: Mapping[str, ArrayIn]) -> dict[str, ArrayIn]:
        """Select its values among those of a basis, by local name."""
        # Names are gone from a basis that is compiled; a dot still tells whose parameter it is.
        return {k.rpartition(".")[2]: v for k, v in values.items() if "." in k}


class AbstractBasis(eqx.Module):
    """Columns of the matrix `Phi(alpha)` as a function of named nonlinear parameters."""

    name: eqx.AbstractVar[str]

    # Columns whose entries depend on x and on their own parameters elementwise. Such bases are
    # evaluated in groups, with parameters of shape (g,) and x of shape (m, 1).
    elementwise: ClassVar[bool] = False
    # Whether the columns take a loop to compute, which is then run once for the derivatives by all
    # parameters, and not once for each.
    joint_derivative: ClassVar[bool] = False
    # Waves of a frequency `freq` that decay by `rate`, `tau`, `fwhm` or `gaussian`: what is left out is
    # sought in the spectrum of the data.
    wave: ClassVar[bool] = False
    # Parameters by local name that are sought by their inverses: lifetimes, and what else may be infinite.
    lifetimes: ClassVar[tuple[str, ...]] = ()
    # Parameters by local name that are not below zero.
    positive: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def evaluate(self, x: PyTree, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """The columns (m, n) at `x` for parameter `values` by local name."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, which are the names of the linear coefficients."""
        return (self.name,)

    @property
    def parameters(self) -> dict[str, Param]:
        """The nonlinear parameters by local name, in the order of the fields."""
        parameters: dict[str, Param] = {}
        for key, value in fields_of(self):
            if isinstance(value, Param):
                parameters[key] = value
            elif isinstance(value, Shared):
                parameters |= value.parameters
        return parameters

    @property
    def domain(self) -> Domain:
        """The ends between which parameters have a meaning, by local name, of those that have any: their
        bounds where the user gives none."""
        domain: Domain = {}
        for _, value in fields_of(self):
            if isinstance(value, Shared):
                domain |= value.domain
        return domain | dict.fromkeys(self.positive, POSITIVE)

    def parameter_name(self, local: str) -> str:
        """Full name of a parameter: `component.parameter`; a shared parameter has it already."""
        return local if "." in local else f"{self.name}.{local}"

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Values among which a start is sought where none is given; only for elementwise bases.

        **Arguments:** `x` (m,), ascending and distinct, and for every parameter by local name its
        lowest and highest value, equal where the value is given.

        **Returns:** by local name arrays (g,) inside `box`, in the order in which components that
        differ in their names alone are to take them. A basis without this method needs a start.
        """
        raise NotImplementedError

    def support(self, values: Mapping[str, ArrayIn]) -> "tuple[ArrayIn, ArrayIn] | None":
        """Lowest and highest x (g,) between which a column is more than 1e-18 of its height, for an
        elementwise basis that has such ends; None by default. Beyond them columns count as zero, and many
        components cost no more than where they overlap."""
        return None

    def growing(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Further candidates, as in `candidates`, that are tried where those leave a structure in the
        residual; none by default."""
        return {}

    @property
    def rowwise(self) -> bool:
        """Whether a row of the columns depends on the same row of x alone, so that samples may be added or
        left out without a change of the others. What is not known to be so is taken as it is."""
        return self.elementwise

    @property
    def column_parameters(self) -> tuple[tuple[int, ...], ...] | None:
        """Of each column the numbers of those of its parameters on which it depends, at most; None where
        that is not known."""
        return None

    @property
    def finds_start(self) -> bool:
        """Whether starts may be left out."""
        return self.wave or type(self).candidates is not AbstractBasis.candidates

    def prepared(self, x: PyTree, dtype: np.dtype) -> "AbstractBasis":
        """Return the basis with all that depends on data `x` filled in and checked, in the precision
        `dtype`.

        **Raises:** `InputError` for x that the basis cannot have.
        """
        return self

    def placed(self, x: PyTree, dtype: np.dtype) -> "AbstractBasis":
        """Return the basis with columns that count from an x among the data where all of those are far
        from its origin: the same columns but for factors, which its coefficients make up for."""
        return self

    def falls_by(self, values: Mapping[str, ArrayIn]) -> ArrayIn | float:
        """The rate per unit of x at which the columns fall, of a basis that `placed` may change."""
        return 0.0

    def reported(self, values: Mapping[str, ArrayIn], coef: Sequence[ArrayIn]) -> Reported:
        """Numbers that people report of one component, from its parameters by local name and the
        coefficients of its columns, all scalars; none by default. `fit.derive` knows them by name."""
        return Reported()

    def __add__(self, other: "AbstractBasis") -> "Sum":
        if not isinstance(other, AbstractBasis):
            raise InputError(
                f"A model is a sum of bases such as vp.Exp('decay') + vp.Constant('background'); "
                f"{other!r} is none. A function of your own goes in vp.Custom('name', function)."
            )
        return Sum(_parts(self) + _parts(other))

    def __radd__(self, other: int) -> "AbstractBasis":
        # The built-in `sum` starts from 0.
        return self if isinstance(other, int) and other == 0 else NotImplemented


class Sum(AbstractBasis):
    """Bases side by side: `vp.Exp("fast", tau=1.0) + vp.Constant("background")`."""

    parts: tuple[AbstractBasis, ...]
    name: str = ""

    def evaluate(self, x: PyTree, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, n) of all parts, side by side."""
        blocks = []
        for part in self.parts:
            local = {k: values[part.parameter_name(k)] for k in part.parameters}
            blocks.append(part.evaluate(x, local))
        return jnp.concatenate(blocks, axis=1)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns of all parts, in their order."""
        return tuple(name for part in self.parts for name in part.column_names)

    @property
    def parameters(self) -> dict[str, Param]:
        """Parameters of all parts by full name."""
        return {
            part.parameter_name(local): value
            for part in self.parts
            for local, value in part.parameters.items()
        }

    def parameter_name(self, local: str) -> str:
        """The name itself: local names of a sum are full names."""
        return local

    @property
    def rowwise(self) -> bool:
        """Whether all parts are."""
        return all(part.rowwise for part in self.parts)

    def prepared(self, x: PyTree, dtype: np.dtype) -> "Sum":
        """Prepare every part for `x`; return the sum itself if that changes none."""
        parts = tuple(part.prepared(x, dtype) for part in self.parts)
        return self._with(parts)

    def placed(self, x: PyTree, dtype: np.dtype) -> "Sum":
        """Place every part; return the sum itself if that changes none."""
        return self._with(tuple(part.placed(x, dtype) for part in self.parts))

    def _with(self, parts: tuple[AbstractBasis, ...]) -> "Sum":
        unchanged = all(new is old for new, old in zip(parts, self.parts, strict=True))
        return self if unchanged else Sum(parts)


def _parts(basis: AbstractBasis) -> tuple[AbstractBasis, ...]:
    return basis.parts if isinstance(basis, Sum) else (basis,)


def column(x: ArrayIn) -> Array:
    """`x` as a column (m, 1), so that parameters (g,) broadcast to (m, g)."""
    return jnp.asarray(x)[:, None]


def backend(x: ArrayIn, values: Mapping[str, ArrayIn]) -> tuple[Any, ArrayIn]:
    """Choose the array library of a formula, and return it with `x` as a column (m, 1).

    NumPy where all is on the host, so that columns are evaluated without compiling anything.
    """
    if all(isinstance(a, np.ndarray) for a in (x, *values.values())):
        return np, x[:, None]
    return jnp, column(x)


def without_names(tree: Tree) -> Tree:
    """Remove starts and names from a tree, so that new ones never compile anew."""
    return jax.tree.map(
        lambda leaf: None if isinstance(leaf, Param | str) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, Param),
    )


FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
"""Full width at half maximum of a Gaussian over its standard deviation, `2 sqrt(2 ln 2)`."""
