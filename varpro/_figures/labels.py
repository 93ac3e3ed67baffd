"""What the axes of a figure say."""

import equinox as eqx
import numpy as np

from .._given.names import RHS, Names, with_unit


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

    @classmethod
    def of(cls, data: Names) -> "Labels":
        """Those that data themselves have, as far as they said."""
        texts = data.columns if isinstance(data.columns, tuple) else None
        return cls(
            with_unit(data.x or "x", data.x_unit),
            with_unit(data.y or "y", data.y_unit),
            with_unit(data.rhs if data.rhs != RHS else "right-hand side", data.rhs_unit),
            data.positions,
            texts,
        )

    def name(self, j: int) -> str:
        """What right-hand side j is called."""
        if self.names is not None:
            return self.names[j]
        return f"{self.at[j]:.6g}" if self.at is not None else str(j)

    def positions(self, count: int) -> np.ndarray:
        """Where the `count` right-hand sides stand."""
        return np.arange(count) if self.at is None else np.asarray(self.at)
