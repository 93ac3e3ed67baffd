"""Relations of coefficients for some of the right-hand sides."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._errors import InputError
from .._given.arguments import shown
from .._types import ArrayIn

Sides = tuple[float, float] | Sequence[tuple[float, float]] | ArrayIn


@dataclasses.dataclass(frozen=True)
class Within:
    """A relation of a coefficient that holds for some right-hand sides, such as a spectrum that is zero above a
    wavelength:

        vp.fit(model, t, y, relations={"s1": vp.Within((600, 700), 0.0)})

    In the others the coefficient is free.

    **Arguments:**

    - `sides`: an interval (low, high) of the labels of right-hand sides, such as wavelengths in the unit of their
        axis, with both ends; or several, [(low, high), ...]; or truth values (k,), one for each.
    - `relation`: as in `relations=` of `varpro.fit`: {"a": 0.5}, half of a; "a", the same; or a number.

    **Raises:** `InputError` for sides or relations that are none.
    """

    sides: Any
    relation: float | str | Mapping[str, float]

    def __init__(self, sides: Sides, relation: float | str | Mapping[str, float]):
        object.__setattr__(self, "sides", sides_in(sides, "vp.Within", "relations"))
        object.__setattr__(self, "relation", relation)
        if isinstance(relation, Within):
            raise InputError("relations: a vp.Within holds no other one.", argument="relations")

    def chosen(self, name: str, k: int, labels: np.ndarray | None) -> np.ndarray:
        """For which of k right-hand sides (k,) it holds, of which `labels` (k,) are the numbers.

        **Raises:** `InputError` where these are not known, or none of them is meant.
        """
        return chosen_sides(self.sides, f"relations of '{name}'", name, k, labels)


def chosen_sides(
    sides: tuple[Any, ...], what: str, name: str, k: int, labels: np.ndarray | None
) -> np.ndarray:
    """Which of k right-hand sides (k,) are meant by intervals of their `labels` (k,) or by truth values; `what`
    begins the sentence that says why none is.

    **Raises:** `InputError` where labels are not known, or no right-hand side is meant.
    """
    argument = what.split()[0]
    if isinstance(sides[0], bool):
        found = np.array(sides)
        if found.size != k:
            raise InputError(
                f"{what}: expected {k} truth values, one for each right-hand side, not {found.size}.",
                argument=argument,
                name=name,
            )
    elif labels is None:
        raise InputError(
            f"{what}: an interval needs right-hand sides that are labelled with numbers. Give y "
            "with labels, as a DataArray with a coordinate or a DataFrame whose columns are numbers, or "
            f"truth values ({k},) in place of the interval.",
            argument=argument,
            name=name,
        )
    else:
        at = np.asarray(labels, float)
        found = np.any([(low <= at) & (at <= high) for low, high in sides], axis=0)
    if not found.any():
        where = (
            "" if labels is None else f", which go from {np.min(labels):g} to {np.max(labels):g}"
        )
        raise InputError(
            f"{what}: no right-hand side lies within {shown(sides)}{where}.",
            argument=argument,
            name=name,
        )
    return found


def sides_in(given: Any, what: str, argument: str) -> tuple[Any, ...]:
    """Intervals ((low, high), ...), or truth values."""
    try:
        found = np.asarray(given)
    except ValueError:
        found = np.asarray(None)
    if found.dtype == bool and found.ndim == 1 and found.size:
        return tuple(found.tolist())
    numbers = found.dtype.kind in "iuf"
    pairs = np.atleast_2d(found) if numbers else np.zeros((0, 2))
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or np.isnan(pairs).any():
        raise InputError(
            f"{what}: expected an interval (low, high) of right-hand sides, several, or truth values (k,), not "
            f"{shown(given)}.",
            argument=argument,
        )
    if np.any(pairs[:, 0] > pairs[:, 1]):
        raise InputError(
            f"{what}: an interval goes from low to high, not {shown(given)}.",
            argument=argument,
        )
    return tuple((float(low), float(high)) for low, high in pairs)
