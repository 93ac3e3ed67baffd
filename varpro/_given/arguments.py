"""Single arguments at the doors: what has the wrong type is refused by name, before anything is computed."""

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np

from .._errors import InputError
from .containers import numbers_of


def whole(what: str, value: Any, least: int | None = None) -> int:
    """An integer of at least `least`; floats that are whole are taken."""
    found: Any = _scalar(value)
    real = isinstance(found, numbers.Real)
    integral = isinstance(found, numbers.Integral) or (real and float(found).is_integer())
    if not integral or isinstance(found, bool | np.bool_):
        raise InputError(f"{what} must be a whole number, not {shown(value)}.", argument=what)
    count = int(cast(Any, found))
    if least is not None and count < least:
        raise InputError(f"{what} must be at least {least}, not {count}.", argument=what)
    return count


def number(what: str, value: Any, argument: str | None = None) -> float:
    """One real number, also NaN and infinite ones."""
    array = _scalar(value)
    if not isinstance(array, numbers.Real) or isinstance(array, bool | np.bool_):
        raise InputError(f"{what} must be a number, not {shown(value)}.", argument=argument or what)
    return float(array)


def flag(what: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(_scalar(value), bool | np.bool_):
        raise InputError(f"{what} must be True or False, not {shown(value)}.", argument=what)
    return bool(value)


def choice(what: str, value: Any, known: Iterable[Any]) -> Any:
    """One of some words."""
    known = tuple(known)
    if not isinstance(value, str | None) or value not in known:
        raise InputError(f"{what} must be one of {known}, not {shown(value)}.", argument=what)
    return value


def mapping(what: str, value: Any, example: str) -> Mapping[str, Any]:
    """A dict whose keys are names; empty for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(
            f"{what} must be a dict such as {example}, not {shown(value)}.", argument=what
        )
    for key in value:
        if not isinstance(key, str):
            raise InputError(
                f"{what}: the keys are names, such as in {example}; {shown(key)} is none.",
                argument=what,
            )
    return value


def names(what: str, value: Any) -> tuple[str, ...]:
    """One name or several."""
    found = (value,) if isinstance(value, str) else value
    if found is None:
        return ()
    if not isinstance(found, Iterable) or isinstance(found, Mapping | bytes):
        raise InputError(f"{what} must be a name or several, not {shown(value)}.", argument=what)
    found = items(what, found)
    for one in found:
        if not isinstance(one, str):
            raise InputError(f"{what} must be names; {shown(one)} is none.", argument=what)
    return found


def items(what: str, value: Iterable[Any]) -> tuple[Any, ...]:
    """What stands in a list."""
    try:
        return tuple(value)
    except TypeError:  # an array without axes
        raise InputError(
            f"{what} must be a name or several, not {shown(value)}.", argument=what
        ) from None


def ends(what: str, value: Any, argument: str = "bounds") -> tuple[Any, Any]:
    """A pair of bounds, in which None is an open end."""
    try:
        if isinstance(value, str | Mapping | set | frozenset):
            raise TypeError
        lower, upper = value
    except (TypeError, ValueError):
        raise InputError(
            f"{what} must be a pair (lower, upper), not {shown(value)}.", argument=argument
        ) from None
    return -math.inf if lower is None else lower, math.inf if upper is None else upper


def axes_in(value: Any) -> int:
    """How many axes a value has, whatever holds it; one for lists of different lengths."""
    try:
        return int(getattr(value, "ndim", None) or np.ndim(value))
    except (TypeError, ValueError):
        return 1


def _scalar(value: Any) -> Any:
    """A number out of an array without axes."""
    if isinstance(value, numbers.Number | bool | np.generic | str | bytes) or value is None:
        return value
    if hasattr(value, "__array__") and getattr(value, "shape", None) in ((), (1,)):
        kind = getattr(getattr(value, "dtype", None), "kind", "O")
        return numbers_of("a number", value).values.item() if kind in "iufc" else value
    return value


def shown(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"an array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
