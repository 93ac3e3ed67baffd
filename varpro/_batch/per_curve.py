"""Starts, bounds and held values that each curve of a batch has of its own."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._errors import InputError
from .._given.arguments import axes_in, ends, number
from .._given.containers import real_numbers
from .._parameters.layout import Coordinates, Layout, expand
from .._parameters.param import Param
from .labelled import Cube

# Which curves by their numbers have nothing that could be fitted.
Blanks = Callable[[np.ndarray], np.ndarray]


def starts_by_curve(
    cube: Cube, init: Mapping[str, Any], blank: Blanks
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Starts of all curves, and those of each as (b,)."""
    plain, own = {}, {}
    for name, value in init.items():
        if isinstance(value, Param) or axes_in(value) == 0:
            plain[name] = (
                value if isinstance(value, Param) else number(f"init for {name}", value, "init")
            )
        else:
            own[name] = _finite("init", name, _each("init", name, cube, value), blank)
    return plain, own


def bounds_by_curve(cube: Cube, bounds: Mapping[str, tuple], blank: Blanks) -> tuple[dict, dict]:
    plain, own = {}, {}
    for name, given in bounds.items():
        pair = ends(f"bounds for {name}", given)
        if all(axes_in(end) == 0 for end in pair):
            plain[name] = pair
            continue
        lower, upper = (
            _finite("bounds", name, _each("bounds", name, cube, end), blank) for end in pair
        )
        wrong = ~(lower <= upper)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise InputError(
                f"bounds for {name} must satisfy lower <= upper, but are [{lower[i]:g}, "
                f"{upper[i]:g}] at curve {i}.",
                argument="bounds",
            )
        own[name] = lower, upper
    return plain, own


def _each(what: str, name: str, cube: Cube, value: Any) -> np.ndarray:
    array, shape = real_numbers(what, cube.plain(what, value)).astype(float), cube.rows.shape
    if array.ndim == len(shape) + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim in (0, len(shape)) and all(
        n in (1, s) for n, s in zip(array.shape, shape, strict=False)
    ):
        array = np.broadcast_to(array, shape)  # labelled maps may lack dimensions
    if array.shape != shape:
        raise InputError(
            f"{what} for {name} has shape {array.shape}, but the batch has {shape}.", argument=what
        )
    return array.reshape(-1)


def _finite(what: str, name: str, array: np.ndarray, blank: Blanks) -> np.ndarray:
    """A map that may be empty where there is nothing to fit: there it gets the median of the others."""
    bad = ~np.isfinite(array) if what == "init" else np.isnan(array)
    if not bad.any():
        return array
    numbers = np.flatnonzero(bad)
    needed = numbers[~blank(numbers)]
    if needed.size or bad.all():
        i = int(needed[0]) if needed.size else 0
        raise InputError(f"{what} for {name} is not finite at curve {i}.", argument=what)
    return np.where(bad, np.median(array[~bad]), array)


def held_by_curve(fix, names, own, boxes, params) -> tuple[list[str], dict[str, Any]]:
    """A parameter that is held at a value of each curve's own is one without room to move."""
    held = {n for pattern in fix for n in expand(pattern, names, "fix")}
    held |= {n for n, param in params.items() if param.fixed}
    each = held & set(own)
    for name in each:
        old = params[name]
        params[name] = Param(old.init, old.lower, old.upper, False, old.prior)
    boxes = boxes | {name: (own[name], own[name]) for name in each}
    return sorted(held - each), boxes


def bounding_boxes(params: dict[str, Param], own, boxes) -> dict[str, Param]:
    """Starts and bounds that stand for those of all curves."""
    params = dict(params)
    for name in {*own, *boxes}:
        old = params[name]
        lower, upper = old.lower, old.upper
        if name in boxes:
            lower, upper = boxes[name][0].min(), boxes[name][1].max()
            if lower == upper:
                lower, upper = np.nextafter(lower, -np.inf), np.nextafter(upper, np.inf)
        init = float(np.median(own[name])) if name in own else old.init
        if init is not None and name in boxes:
            init = float(np.clip(init, lower, upper))
        params[name] = dataclasses.replace(old, init=init, lower=float(lower), upper=float(upper))
    return params


def refuse_what_has_no_own(layout: Layout, own, boxes) -> None:
    if layout.chained and (own or boxes):
        raise InputError(
            "Starts or bounds of single curves and order= or inequalities= do not go together. Use bounds."
        )
    tied = {layout.names[i] for i, j in enumerate(layout.source) if i != j}
    for name in (*own, *boxes):
        if name in tied:
            raise InputError(f"{name} is tied: give starts and bounds to what it follows.")
    sorted_ones = {
        layout.names[layout.free[i]] for chain in layout.exchange for r in chain for i in r
    }
    for name in boxes:
        if name in sorted_ones:
            raise InputError(f"{name} is ordered, so that all curves must have the same bounds.")


def box_of(boxes, layout: Layout, coordinates: Coordinates, real) -> tuple | None:
    """Bounds (p,) of all curves, or (b, p) of each."""
    lower, upper = coordinates.lower, coordinates.upper
    if boxes:
        b = len(next(iter(boxes.values()))[0])
        lower, upper = (np.repeat(a[None], b, axis=0) for a in (lower, upper))
        for j, i in enumerate(layout.free):
            if layout.names[i] in boxes:
                lower[:, j], upper[:, j] = boxes[layout.names[i]]
    elif not (np.isfinite(lower).any() or np.isfinite(upper).any()):
        return None
    return lower.astype(real), upper.astype(real)


def starts_of_curves(
    own, layout: Layout, coordinates: Coordinates, box, boxed: bool, real
) -> np.ndarray:
    """Starts (1, p) of all curves, or (b, p) of each."""
    start = coordinates.start[None].astype(real)
    mine = {j: own[layout.names[i]] for j, i in enumerate(layout.free) if layout.names[i] in own}
    if mine:
        start = np.repeat(start, len(next(iter(mine.values()))), axis=0)
        for j, value in mine.items():
            start[:, j] = value
    if box is None:
        return start
    if boxed:
        # A start that all curves share is moved to where each may go; one's own is not.
        inside = np.clip(start, *box)
        for j in mine:
            inside[:, j] = start[:, j]
        start = inside
    outside = (start < box[0]) | (start > box[1])
    if outside.any():
        i, j = np.argwhere(outside)[0]
        lower, upper = (np.broadcast_to(a, start.shape)[i, j] for a in box)
        raise InputError(
            f"init for {layout.names[layout.free[j]]} = {start[i, j]:g} at curve {i} lies outside "
            f"its bounds [{lower:g}, {upper:g}]."
        )
    return start
