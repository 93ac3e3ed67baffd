"""What the axes of a figure say."""

import equinox as eqx
import numpy as np


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
