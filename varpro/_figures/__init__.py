"""Figures of results, drawn with matplotlib, which only the modules below import.

Nothing here changes a setting of matplotlib or registers a figure with pyplot: a figure is returned,
and style sheets of the user hold.
"""

from typing import Any

import equinox as eqx
import numpy as np

from .._results import InputError


class Labels(eqx.Module):
    """What the axes of a figure say.

    **Fields:** `x` and `y`, titles of the axes, with units if any ("time [ns]"); `rhs`, what tells
    right-hand sides or curves apart ("wavelength [nm]"); `at`, where each of them stands on that axis,
    (k,), or None for 0, 1, 2, ...; `names`, what each is called.
    """

    x: str = "x"
    y: str = "y"
    rhs: str = "right-hand side"
    at: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    def name(self, j: int) -> str:
        """What right-hand side j is called."""
        if self.names is not None:
            return self.names[j]
        return f"{self.at[j]:.6g}" if self.at is not None else str(j)

    def positions(self, count: int) -> np.ndarray:
        """Where the `count` right-hand sides stand."""
        return np.arange(count) if self.at is None else np.asarray(self.at)


def maps_of_coefficients(
    names: tuple[str, ...],
    coef: np.ndarray,
    stderr: np.ndarray,
    shape: tuple[int, ...] | None,
    labels: Labels | None,
    fig: Any,
) -> Any:
    """Maps of coefficients (n, k) whose k right-hand sides are pixels of an image of this shape."""
    if coef.ndim == 1:
        raise InputError("One right-hand side makes no map. See fit.plot().")
    from . import _maps

    k = coef.shape[1]
    shape = (k,) if shape is None else tuple(shape)
    if np.prod(shape) != k:
        raise InputError(
            f"shape = {shape} has {int(np.prod(shape))} pixels for {k} right-hand sides."
        )
    values = {
        name: (coef[i].reshape(shape), stderr[i].reshape(shape)) for i, name in enumerate(names)
    }
    return _maps.draw(values, {}, None, (), labels or Labels(), fig)
