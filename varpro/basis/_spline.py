"""B-splines, for baselines and smooth curves without a formula."""

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from .._errors import InputError
from .._given.arguments import whole
from .._given.containers import real_numbers
from .._types import ArrayIn
from ._base import AbstractBasis, backend

Knots = Float[np.ndarray, " b"] | None
"""Positions at which the pieces of a spline meet."""


# The recursion over degrees is one of steps that are compiled, and every column has a name.
_HIGHEST, _MOST = 50, 1_000_000


def _knots(value: object) -> np.ndarray | None:
    """Convert knots to an array; None stays."""
    return None if value is None else real_numbers("knots", value).astype(float)


class BSpline(AbstractBasis):
    """B-splines: columns `name.0`, `name.1`, ..., bumps that add up to 1, each over `degree + 1` pieces.

    By the recursion of de Boor and Cox (de Boor, A Practical Guide to Splines, 1978), from pieces of
    degree 0; at the ends the knots are repeated. Without nonlinear parameters. Outside of the knots
    all columns are zero. A penalty on differences of their coefficients (`smooth=`) makes it a P-spline.

    **Arguments:**

    - `name`: of the component.
    - `knots`: ascending, the ends among them; `len(knots) + degree - 1` columns. Or
    - `count`: the number of columns; the knots are then evenly spaced between the ends of x.
    - `degree`: of the pieces, 3 by default.

    **Raises:** `InputError` for neither or both, for knots that do not ascend, and for fewer columns
    than `degree + 1`.
    """

    name: str
    knots: Knots = eqx.field(default=None, converter=_knots, kw_only=True)
    count: int = eqx.field(static=True, default=0, kw_only=True)
    degree: int = eqx.field(static=True, default=3, kw_only=True)

    def __check_init__(self):
        label = f"BSpline '{self.name}'"
        whole(f"The count of {label}", self.count)
        whole(f"The degree of {label}", self.degree)
        if self.degree < 0:
            raise InputError(f"{label} needs degree >= 0, not {self.degree}.")
        if self.degree > _HIGHEST:
            raise InputError(f"{label} has degree {self.degree}; give at most {_HIGHEST}.")
        if self.count > _MOST:
            raise InputError(f"{label} has {self.count} columns; give at most {_MOST:,}.")
        if (self.knots is None) == (self.count == 0):
            raise InputError(f"{label} needs either knots or count.")
        knots = self.knots
        if knots is None:
            if self.count <= self.degree:
                raise InputError(
                    f"{label} of degree {self.degree} has {self.degree + 1} columns or more, not "
                    f"{self.count}."
                )
        elif knots.ndim != 1 or knots.size < 2 or not np.isfinite(knots).all():
            raise InputError(f"{label} needs two knots or more, and finite ones.")
        elif not (np.diff(knots) > 0).all():
            raise InputError(f"{label} needs ascending knots.")

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names `name.0` and so on, ascending in x."""
        count = self.count if self.knots is None else self.knots.shape[0] + self.degree - 1
        return tuple(f"{self.name}.{i}" for i in range(count))

    def prepared(self, x: PyTree, dtype: np.dtype) -> "BSpline":
        """Place the knots, where only their `count` was given, between the ends of x.

        **Raises:** `InputError` if all x are equal.
        """
        if self.knots is not None:
            return self
        low, high = float(np.min(x)), float(np.max(x))
        if not low < high:
            raise InputError(f"BSpline '{self.name}' needs two different x or more, or knots.")
        knots = np.linspace(low, high, self.count - self.degree + 1)
        return BSpline(self.name, knots=knots, degree=self.degree)

    @property
    def rowwise(self) -> bool:
        """Every row is made of its own x, if nobody has changed the formula."""
        return type(self).evaluate is BSpline.evaluate

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, n) at x (m,). **Raises:** `InputError` before `prepared` has placed the knots."""
        if self.knots is None:
            raise InputError(f"BSpline '{self.name}' has no knots yet: call prepared(x, dtype).")
        xp, x = backend(x, values)
        k = self.degree
        pad = ((k, k),)
        t = xp.pad(xp.asarray(self.knots, jnp.result_type(x, float)), pad, mode="edge")
        # The last piece holds its right end, too.
        inside = (t[:-1] <= x) & (
            (x < t[1:]) | ((x == t[-1]) & (t[1:] == t[-1]) & (t[:-1] < t[-1]))
        )
        b = inside.astype(t.dtype)
        for d in range(1, k + 1):
            width = t[d:] - t[:-d]
            # Of a piece without width there is nothing.
            rise = (x - t[:-d]) / xp.where(width > 0, width, 1.0)
            b = rise[:, :-1] * b[:, :-1] + xp.where(width > 0, 1.0 - rise, 0.0)[:, 1:] * b[:, 1:]
        return b
