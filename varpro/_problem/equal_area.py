"""Penalties on sums of coefficients over right-hand sides, which couple these."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .._errors import InputError, suggestion
from .._given import arguments
from .within import Sides, chosen_sides, sides_in


@dataclasses.dataclass(frozen=True)
class EqualArea:
    """A penalty that draws the areas of two spectra together, a priori knowledge such as that two species have
    the same oscillator strength:

        vp.fit(model, t, y, equal_areas=vp.EqualArea("s1", "s2", weight=10.0))

    With a_j and b_j the coefficients of two columns in right-hand side j, it adds
    `weight^2 (sum_j a_j - ratio sum_j b_j)^2` to chi-square, which is what an observation would add that says
    "the difference is zero" with a standard deviation of 1 / weight, in units of that of the data. Coefficients
    and nonlinear parameters are the joint optimum, and errors and covariances know of it.

    **Arguments:**

    - `first`, `second`: names of the two columns.
    - `weight`: positive, in the inverse unit of the coefficients.
    - `ratio`: of the area of the first to that of the second.
    - `within`: the right-hand sides over which the first is summed, as in `vp.Within`: an interval (low, high)
        of their labels, several, or truth values (k,); all by default.
    - `second_within`: those of the second; `within` by default.

    **Raises:** `InputError` for names, numbers or intervals that are none.
    """

    first: str
    second: str
    weight: float
    ratio: float
    within: Any
    second_within: Any

    def __init__(
        self,
        first: str,
        second: str,
        weight: float,
        ratio: float = 1.0,
        within: Sides | None = None,
        second_within: Sides | None = None,
    ):
        if not (isinstance(first, str) and isinstance(second, str)):
            raise InputError(
                f"vp.EqualArea takes the names of two columns, not {first!r} and {second!r}.",
                argument="equal_areas",
            )
        for what, value in (("weight", weight), ("ratio", ratio)):
            number = arguments.number(f"{what} of an equal area", value, "equal_areas")
            if not np.isfinite(number) or (what == "weight" and number <= 0):
                raise InputError(
                    f"vp.EqualArea: {what} must be a {'positive ' * (what == 'weight')}number, not {value!r}.",
                    argument="equal_areas",
                )
            object.__setattr__(self, what, number)
        own = None if within is None else sides_in(within, "vp.EqualArea", "equal_areas")
        other = (
            own if second_within is None else sides_in(second_within, "vp.EqualArea", "equal_areas")
        )
        fields = {"first": first, "second": second, "within": own, "second_within": other}
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if first == second and own == other:
            raise InputError(
                f"vp.EqualArea: '{first}' has the area that it has. Name two columns, or two intervals.",
                argument="equal_areas",
                name=first,
            )

    def row(self, names: Sequence[str], k: int, labels: np.ndarray | None) -> np.ndarray:
        """What multiplies the coefficients (N, k) of columns `names` in the residual of this penalty."""
        row = np.zeros((len(names), k))
        terms = ((self.first, self.within, 1.0), (self.second, self.second_within, -self.ratio))
        for name, sides, factor in terms:
            if name not in names:
                raise InputError(
                    f"equal_areas: no column '{name}'. {suggestion(name, names)}",
                    argument="equal_areas",
                    name=name,
                )
            used = True
            if sides is not None:
                used = chosen_sides(sides, f"equal_areas of '{name}'", name, k, labels)
            row[names.index(name)] += self.weight * factor * np.where(used, 1.0, 0.0)
        return row


def as_equal_areas(given: Any) -> tuple[EqualArea, ...]:
    """One or several as a tuple. **Raises:** `InputError` for what is none."""
    if given is None:
        return ()
    some = (given,) if isinstance(given, EqualArea) or not isinstance(given, Iterable) else given
    some = tuple(some)
    for one in some:
        if not isinstance(one, EqualArea):
            raise InputError(
                f"equal_areas: expected vp.EqualArea('a', 'b', weight=10.0) or several, not {arguments.shown(one)}.",
                argument="equal_areas",
            )
    return some


def area_rows(
    areas: Sequence[EqualArea], names: Sequence[str], k: int, labels: np.ndarray | None
) -> np.ndarray | None:
    """The rows (l, N, k) of all penalties; None where there are none."""
    return np.stack([one.row(names, k, labels) for one in areas]) if areas else None
