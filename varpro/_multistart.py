"""Starting points that cover the box of the free coordinates."""

import numpy as np

from ._params import Coordinates

# How far from its start a coordinate without bounds is sought: half a decade, either way.
_DECADES = 0.5


def start_points(coordinates: Coordinates, count: int, seed: int) -> np.ndarray:
    """`count` starts (count, p): the given one, then scrambled Sobol points of the box around it.

    Between two finite bounds of one sign that are more than a decade apart points are spread by
    logarithm, between other finite bounds evenly. A coordinate that lacks a bound is spread over
    `start * 10^(-0.5 ... 0.5)`, or over -1 ... 1 if it starts at zero, and kept inside its bounds.
    """
    start, lower, upper = coordinates.start, coordinates.lower, coordinates.upper
    p = start.size
    if count == 1 or p == 0:
        return start[None].repeat(count, axis=0)
    from scipy.stats import qmc  # takes a second to import, and most fits have one start

    sobol = qmc.Sobol(p, scramble=True, rng=np.random.default_rng(seed))
    unit = sobol.random_base2(int(np.ceil(np.log2(count))))[: count - 1]
    points = np.empty((count, p))
    points[0] = start
    for j in range(p):
        points[1:, j] = _spread(unit[:, j], start[j], lower[j], upper[j])
    return points


def _spread(unit: np.ndarray, start: float, lower: float, upper: float) -> np.ndarray:
    if np.isfinite(lower) and np.isfinite(upper):
        if lower * upper > 0 and max(lower / upper, upper / lower) > 10.0:
            return lower * (upper / lower) ** unit
        return lower + (upper - lower) * unit
    if start == 0.0:
        return np.clip(2.0 * unit - 1.0, lower, upper)
    return np.clip(start * 10.0 ** (_DECADES * (2.0 * unit - 1.0)), lower, upper)
