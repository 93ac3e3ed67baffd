"""The options of a fit, one object per subject; built once at the door and passed on whole."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import equinox as eqx

from .._parameters.tie import TieLike
from .linear_constraints import CoefficientSpec
from .noise import NORMAL, AbstractNoise

NanPolicy = Literal["raise", "drop"]


def _mapping(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return given or {}


def _names(given: str | Sequence[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else given


def _chains(given: Sequence[str] | Sequence[Sequence[str]]) -> Sequence[Any]:
    return [given] if given and isinstance(given[0], str) else given


class Constraints(eqx.Module):
    """What parameters may do, in the words of the user; names may be patterns such as "*.tau".

    **Fields:** `init` and `bounds` of nonlinear parameters, on top of what the model says (`bounds`
    also of coefficients, until `split`); names `fix` of those that are held; `tie`, what one follows;
    `order`, chains of names that increase; `coefficients`, the rules of those.
    """

    init: Mapping[str, Any] = eqx.field(default=None, converter=_mapping)
    bounds: Mapping[str, tuple] = eqx.field(default=None, converter=_mapping)
    fix: Sequence[str] = eqx.field(default=(), converter=_names)
    tie: Mapping[str, TieLike] = eqx.field(default=None, converter=_mapping)
    order: Sequence[Any] = eqx.field(default=(), converter=_chains)
    coefficients: CoefficientSpec = CoefficientSpec()

    def split(self, parameters: Iterable[str], columns: Iterable[str]) -> "Constraints":
        """The same, with bounds of coefficients among the rules of those."""
        parameters, columns = tuple(parameters), tuple(columns)
        mine = {
            pattern: ends
            for pattern, ends in self.bounds.items()
            if not fnmatch.filter(parameters, pattern) and fnmatch.filter(columns, pattern)
        }
        if not mine:
            return self
        rest = {pattern: ends for pattern, ends in self.bounds.items() if pattern not in mine}
        coefficients = dataclasses.replace(self.coefficients, bounds=mine)
        return dataclasses.replace(self, bounds=rest, coefficients=coefficients)


NONE = Constraints()


class Weighting(eqx.Module):
    """How much each value counts.

    **Fields:** `sigma`, or `weights` 1/sigma, and `mask`, in any shape that the door takes;
    `absolute_sigma`, whether sigma is known and not only up to a factor; `nan`, what becomes of
    values that are not finite; `noise`, how data scatter.
    """

    sigma: Any = None
    weights: Any = None
    mask: Any = None
    absolute_sigma: bool = False
    nan: NanPolicy = "raise"
    noise: AbstractNoise = NORMAL

    @property
    def variance_known(self) -> bool:
        """Whether no residual scales the standard errors."""
        return self.absolute_sigma or self.noise.variance_known

    @property
    def arrays(self) -> dict[str, Any]:
        """What has the shape of the data, by name."""
        return {"sigma": self.sigma, "weights": self.weights, "mask": self.mask}
