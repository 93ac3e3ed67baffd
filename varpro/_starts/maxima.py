"""Starts of peaks where the smoothed data have their maxima.

Peaks that overlap are explained about as well by two broad ones on one spot, which differ by little and
are the derivative of one peak by its width. People put peaks where they see them.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from .components import Components, Values

# Widths of the kernels with which data are smoothed, in parts of the span of x.
_KERNELS = (200.0, 100.0, 60.0, 35.0, 20.0)
# Standard deviations of a Gaussian, or half widths of a Lorentzian, from its maximum to the next minimum.
_REACH = 2.0


def at_maxima(
    components: Components, estimate: list[Values | None]
) -> Iterator[list[Values | None]]:
    """Estimates with peaks at the maxima of what the others of `estimate` leave of the data, smoothed more
    and more: all peaks, or all but one, which is left empty, for that may be a shoulder. None for data of
    several columns."""
    slots = components.slots
    peaks = [i for i, slot in enumerate(slots) if is_sought_peak(slot.box)]
    if len(peaks) < 2 or components.y.shape[1] > 1 or np.iscomplexobj(components.y):
        return
    others: list[Values | None] = [None if i in peaks else v for i, v in enumerate(estimate)]
    nothing: list[Values | None] = [None] * len(slots)
    for before in (others, nothing) if any(others) else (nothing,):
        yield from _with_peaks(components, before, peaks)


def _with_peaks(
    components: Components, others: list[Values | None], peaks: list[int]
) -> Iterator[list[Values | None]]:
    """Estimates with these peaks beside the `others`."""
    phi, y = components.columns(others), components.y
    if phi.shape[1]:
        y = y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]
    order = np.argsort(components.x, kind="stable")
    x, scale = components.x[order], components.scale[order]
    y = y[order, 0] / np.where(scale > 0, scale, 1.0)
    seen = set()
    for parts in _KERNELS:
        width = (x[-1] - x[0]) / parts
        kernel = np.exp(-0.5 * ((x[:, None] - x) / width) ** 2) * scale**2
        smooth = kernel @ y / np.maximum(kernel.sum(axis=1), 1e-300)
        for count in (len(peaks), len(peaks) - 1):
            tops, reach = _prominent(smooth, x, count)
            if len(tops) == count and tuple(tops) not in seen:
                seen.add(tuple(tops))
                trial = list(others)
                for i, top, far in zip(peaks, tops, reach, strict=False):
                    trial[i] = _at(components.grids[i], float(x[top]), far)
                yield trial


def _at(grid: Mapping[str, np.ndarray], center: float, reach: float) -> Values:
    """Values of a peak at `center` as wide as its nearest minimum is far, all else as on the grid nearby."""
    away = np.abs(grid["center"] - center) / reach
    near = np.argmin(away + np.abs(np.log(np.abs(_width(grid)) / (reach / _REACH))))
    values = {key: float(value[near]) for key, value in grid.items()}
    values["center"] = float(np.clip(center, grid["center"].min(), grid["center"].max()))
    return values


def is_sought_peak(box: dict[str, tuple[float, float]]) -> bool:
    """Whether a component is a peak the centre of which is sought."""
    return "center" in box and box["center"][0] < box["center"][1]


def _width(grid: Mapping[str, np.ndarray]) -> np.ndarray:
    """What stands for the width among the parameters of a peak."""
    key = next(k for k in ("width", "fwhm", "sigma", "gamma") if k in grid)
    return grid[key] / 2.0 if key == "fwhm" else grid[key]


def _prominent(smooth: np.ndarray, x: np.ndarray, count: int) -> tuple[list[int], list[float]]:
    """Indices of the most prominent maxima, ascending, and how far each is from its nearest minimum."""
    inside = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:])
    tops = np.flatnonzero(inside) + 1
    prominence = []
    for top in tops:
        higher = np.flatnonzero(smooth > smooth[top])
        left = higher[higher < top].max(initial=-1)
        right = higher[higher > top].min(initial=smooth.size)
        base = max(smooth[left + 1 : top + 1].min(), smooth[top:right].min())
        prominence.append(smooth[top] - base)
    chosen = np.sort(tops[np.argsort(prominence)[::-1][:count]])
    lows = np.flatnonzero((smooth[1:-1] <= smooth[:-2]) & (smooth[1:-1] < smooth[2:])) + 1
    ends = np.r_[0, lows, smooth.size - 1]
    reach = [float(np.abs(x[ends] - x[top]).min()) for top in chosen]
    return chosen.tolist(), [max(far, 1e-3 * (x[-1] - x[0])) for far in reach]
