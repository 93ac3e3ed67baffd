"""Grids from which starts are chosen: inside bounds, as fine as the data can tell apart."""

import numpy as np

Box = tuple[float, float]
"""Lowest and highest value of a parameter; equal where the value is given."""


def log_grid(low: float, high: float, box: Box, ratio: float, max_count: int = 64) -> np.ndarray:
    """Values from `low` to `high` (both positive) inside `box`, ascending, evenly in the logarithm.

    Neighbours differ by the factor `ratio` or less, with at least 8 and at most `most` values. A box
    of negative values gets negative ones; one beyond `high` or `low` gets a factor of 4 from its end.
    """
    lower, upper = box
    if lower == upper:
        return np.array([lower])
    if upper <= 0:
        return -log_grid(low, high, (-upper, -lower), ratio, max_count)[::-1]
    start, stop = max(low, lower), min(high, upper)
    if start >= stop:
        start, stop = (lower, min(4 * lower, upper)) if lower > low else (upper / 4, upper)
        start = max(start, lower)
    count = 1 + np.ceil(np.log(stop / start) / np.log(ratio))
    return np.clip(np.geomspace(start, stop, int(np.clip(count, 8, max_count))), lower, upper)


def line_grid(low: float, high: float, box: Box, step: float) -> np.ndarray:
    """Values from `low` to `high` inside `box`, ascending, at most `step` apart, at least 3."""
    lower, upper = box
    if lower == upper:
        return np.array([lower])
    start, stop = max(low, lower), min(high, upper)
    if start >= stop:
        above = lower >= high
        start = lower if above else max(lower, upper - (high - low))
        stop = min(upper, lower + (high - low)) if above else upper
    return np.linspace(start, stop, max(3, 1 + int(np.ceil((stop - start) / step))))
