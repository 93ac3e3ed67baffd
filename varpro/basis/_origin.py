"""The x from which a formula counts, and where in the data it lies if they are far from 0.

`exp(-x / tau)` of x = 56210 to 56220 is zero in every precision, and a moved origin multiplies it by a
constant: `exp(-(x - x0) / tau) = exp(x0 / tau) exp(-x / tau)`. A search that counts from the first x
therefore finds the same lifetimes and curves, and nothing under- or overflows. The coefficient is then
the amplitude at that x.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import numpy as np
from jaxtyping import Float, PyTree

from .._errors import InputError
from .._types import ArrayIn

if TYPE_CHECKING:
    Origin = Any  # what users give is a number or None; inside it is an array
else:
    Origin = Float[np.ndarray, ""] | None
"""The x from which a formula counts, None for 0, as an array: another one needs no other program."""

# In spans of x: how far 0 may lie from all of them before columns are made from the first x, and before
# a formula whose shape depends on where it begins does so there.
_NEAR, _NEAR_SHAPE = 1.0, 5.0
# An amplitude is reported where the user wants it if it is at most `exp` of this times that in the data,
# by precision, and at most this many spans away: columns that small or uncertain are of no use.
_LARGEST, _FARTHEST = {8: 160.0, 4: 50.0}, 1e4


def _as_origin(value: object) -> np.ndarray | None:
    if value is None or isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value
    try:
        number = np.asarray(value, float)
    except (TypeError, ValueError):
        number = np.asarray(np.nan)
    if number.ndim or not np.isfinite(number):
        raise InputError(f"origin must be a finite number, not {value!r}.", argument="origin")
    return number


def origin_field() -> Any:
    """A dataclass field for an origin, keyword only; 0 by default."""
    return eqx.field(default=None, converter=_as_origin, kw_only=True)


def from_origin(x: ArrayIn, origin: ArrayIn | None) -> ArrayIn:
    """`x` counted from `origin`."""
    return x if origin is None else x - origin


Basis = TypeVar("Basis", bound=Any)


def with_origin(basis: Basis, origin: np.ndarray | None) -> Basis:
    """The same basis with another origin."""
    return basis if origin is basis.origin else dataclasses.replace(basis, origin=origin)


def _distance(x: np.ndarray, origin: float) -> tuple[float, float]:
    """The first x, and how far all x lie from `origin`, in spans; 0 where it is among them, or where x
    have no span."""
    low, high = float(np.min(x)), float(np.max(x))
    away, span = max(low - origin, origin - high, 0.0), high - low
    return low, away / span if span > 0 else 0.0


def reference(x: PyTree, origin: np.ndarray | None, dtype: np.dtype) -> np.ndarray | None:
    """The first x if all x are far from the origin, else None."""
    if not isinstance(x, np.ndarray) or x.ndim != 1 or x.dtype.kind != "f":
        return None
    first, away = _distance(x, 0.0 if origin is None else float(origin))
    return np.asarray(first, dtype) if away > _NEAR else None


def shape_origin(x: PyTree, origin: np.ndarray | None, dtype: np.dtype) -> np.ndarray | None:
    """The origin of a formula whose shape depends on it: as given, else 0, or the first x where all x are
    so far from 0 that the formula shows nothing of its shape there."""
    if origin is not None:
        return origin.astype(dtype)
    if not isinstance(x, np.ndarray) or x.ndim != 1 or x.dtype.kind != "f":
        return None
    first, away = _distance(x, 0.0)
    return np.asarray(first, dtype) if away > _NEAR_SHAPE else None


def representable(
    x: np.ndarray, wanted: np.ndarray | None, used: np.ndarray, rate: ArrayIn | float
) -> bool:
    """Whether amplitudes at the origin `used`, of columns that fall by `rate` per unit of x, can be given
    at the origin `wanted`."""
    at = 0.0 if wanted is None else float(wanted)
    exponent = np.max(np.abs(np.asarray(rate) * (float(used) - at)), initial=0.0)
    return bool(exponent <= _LARGEST[x.dtype.itemsize] and _distance(x, at)[1] <= _FARTHEST)


def check_begins(label: str, x: PyTree, origin: np.ndarray | None, remedy: str) -> None:
    """Refuse x before the origin. **Raises:** `InputError`."""
    lowest, begins = float(np.min(x)), 0.0 if origin is None else float(origin)
    if lowest < begins:
        raise InputError(
            f"{label} needs x >= {begins:.10g}, but x goes down to {lowest:.10g}. {remedy}",
            argument="x",
        )


def refuse_with_response(label: str, origin: np.ndarray | None, irf: object) -> None:
    """Refuse an origin beside a response. **Raises:** `InputError`."""
    if origin is not None and irf is not None:
        raise InputError(
            f"{label} needs either origin or irf: through a response it begins at the centre of that.",
            argument="origin",
        )
