"""The interface of a basis: named parameters, named columns, and a formula that fills the columns.

A basis holds configuration alone. Its numbers (starts, bounds) live in `Param` fields; what is left
once those are taken out is the formula, and two bases with equal formulas are evaluated together:
fifty peaks are one array operation, so compile time does not grow with their number.
"""

import abc
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._parameters.param import Param
from .._types import ArrayIn
from ._start_grids import Box


def as_param(value: "Param | float | None") -> "Param | None":
    """Convert a plain number, a start, to a `Param`; None, for a parameter that is not used, stays."""
    return value if value is None or isinstance(value, Param) else Param(value)


Params = tuple[tuple[str, Param], ...]
"""Parameters whose names are the user's, in his order."""


def as_params(value: "Mapping[str, Param | float] | Params | None") -> Params:
    """Convert a dict of `Param` or plain starts to pairs of name and `Param`."""
    items = value.items() if isinstance(value, Mapping) else (value or ())
    return tuple((str(k), as_param(v)) for k, v in items)  # pyright: ignore[reportReturnType]


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
        return {f"{self.name}.{k}": v for k, v in fields_of(self) if isinstance(v, Param)}

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

    def __add__(self, other: "AbstractBasis") -> "Sum":
        return Sum(_parts(self) + _parts(other))

    def __radd__(self, other: object) -> "AbstractBasis":
        # The built-in `sum` starts from 0.
        return self if other == 0 else NotImplemented


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

    def prepared(self, x: PyTree, dtype: np.dtype) -> "Sum":
        """Prepare every part for `x`; return the sum itself if that changes none."""
        parts = tuple(part.prepared(x, dtype) for part in self.parts)
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
