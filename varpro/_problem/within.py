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
        object.__setattr__(self, "sides", _sides(sides))
        object.__setattr__(self, "relation", relation)
        if isinstance(relation, Within):
            raise InputError("relations: a vp.Within holds no other one.", argument="relations")

    def chosen(self, name: str, k: int, labels: np.ndarray | None) -> np.ndarray:
        """For which of k right-hand sides (k,) it holds, of which `labels` (k,) are the numbers.

        **Raises:** `InputError` where these are not known, or none of them is meant.
        """
        if isinstance(self.sides[0], bool):
            found = np.array(self.sides)
            if found.size != k:
                raise InputError(
                    f"relations of '{name}': expected {k} truth values, one for each right-hand side, not "
                    f"{found.size}.",
                    argument="relations",
                    name=name,
                )
        elif labels is None:
            raise InputError(
                f"relations of '{name}': an interval needs right-hand sides that are labelled with numbers. Give y "
                "with labels, as a DataArray with a coordinate or a DataFrame whose columns are numbers, or "
                f"truth values ({k},) in place of the interval.",
                argument="relations",
                name=name,
            )
        else:
            at = np.asarray(labels, float)
            found = np.any([(low <= at) & (at <= high) for low, high in self.sides], axis=0)
        if not found.any():
            where = (
                ""
                if labels is None
                else f", which go from {np.min(labels):g} to {np.max(labels):g}"
            )
            raise InputError(
                f"relations of '{name}': no right-hand side lies within {shown(self.sides)}{where}.",
                argument="relations",
                name=name,
            )
        return found


def _sides(given: Any) -> tuple[Any, ...]:
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
            f"vp.Within: expected an interval (low, high) of right-hand sides, several, or truth values (k,), not "
            f"{shown(given)}.",
            argument="relations",
        )
    if np.any(pairs[:, 0] > pairs[:, 1]):
        raise InputError(
            f"vp.Within: an interval goes from low to high, not {shown(given)}.",
            argument="relations",
        )
    return tuple((float(low), float(high)) for low, high in pairs)
