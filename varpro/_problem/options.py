"""The options of a fit, one object per subject; built once at the door and passed on whole."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import equinox as eqx

from .._errors import InputError
from .._given import arguments
from .._parameters.tie import TieLike
from .linear_constraints import CoefficientSpec
from .noise import NORMAL, AbstractNoise

NanPolicy = Literal["raise", "drop"]


def _starts(given: Any) -> Mapping[str, Any]:
    return arguments.mapping("init", given, "{'fast.tau': 1.0}")


def _bounds(given: Any) -> Mapping[str, tuple[Any, Any]]:
    found = arguments.mapping("bounds", given, "{'fast.tau': (0.1, 10.0)}")
    return {name: arguments.ends(f"bounds for {name}", pair) for name, pair in found.items()}


def _ties(given: Any) -> Mapping[str, Any]:
    return arguments.mapping("tie", given, "{'b.width': 'a.width'}")


def _fixed(given: Any) -> Sequence[str]:
    return arguments.names("fix", given)


def _chains(given: Any) -> Sequence[Any]:
    if given is None or isinstance(given, str) or not isinstance(given, Iterable):
        if not given and given is not False:
            return ()
        raise InputError(
            f"order must be names that increase, such as ('fast.tau', 'slow.tau'), not {given!r}.",
            argument="order",
        )
    chains = list(arguments.items("order", given))
    if chains and all(isinstance(one, str) for one in chains):
        return [tuple(chains)]
    return [(one,) if isinstance(one, str) else arguments.names("order", one) for one in chains]


def _inequalities(given: Any) -> tuple[str, ...]:
    texts: Any = () if given is None else given
    if isinstance(texts, str | Mapping) or not isinstance(texts, Iterable):
        texts = (texts,)
    texts = tuple(texts)
    if not all(isinstance(text, str) for text in texts):
        raise InputError(
            f"inequalities must be texts such as 'a.tau + b.tau <= 10', not {given!r}.",
            argument="inequalities",
        )
    return texts


class Constraints(eqx.Module):
    """What parameters may do, in the words of the user; names may be patterns such as "*.tau".

    **Fields:** `init` and `bounds` of nonlinear parameters, on top of what the model says (`bounds`
    also of coefficients, until `split`); names `fix` of those that are held; `tie`, what one follows;
    `order`, chains of names that increase; `inequalities` between parameters, as text; `coefficients`, the
    rules of those.
    """

    init: Mapping[str, Any] = eqx.field(default=None, converter=_starts)
    bounds: Mapping[str, tuple] = eqx.field(default=None, converter=_bounds)
    fix: Sequence[str] = eqx.field(default=(), converter=_fixed)
    tie: Mapping[str, TieLike] = eqx.field(default=None, converter=_ties)
    order: Sequence[Any] = eqx.field(default=(), converter=_chains)
    coefficients: CoefficientSpec = CoefficientSpec()
    inequalities: tuple[str, ...] = eqx.field(default=(), converter=_inequalities)

    def split(self, parameters: Iterable[str], columns: Iterable[str]) -> "Constraints":
        """These constraints, with bounds of coefficients among the rules of those."""
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

    def __check_init__(self):
        arguments.flag("absolute_sigma", self.absolute_sigma)
        if not isinstance(self.nan, str) or self.nan not in get_args(NanPolicy):
            raise InputError(f"nan must be 'raise' or 'drop', not {self.nan!r}.", argument="nan")

    @property
    def variance_known(self) -> bool:
        """Whether no residual scales the standard errors."""
        return self.absolute_sigma or self.noise.variance_known

    @property
    def arrays(self) -> dict[str, Any]:
        """What has the shape of the data, by name."""
        return {"sigma": self.sigma, "weights": self.weights, "mask": self.mask}
