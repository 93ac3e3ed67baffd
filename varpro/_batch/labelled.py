"""The data of a batch as curves by number, with the names and coordinates of its axes."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._given.arguments import axes_in
from .._given.containers import (
    Axis,
    Given,
    axes_of,
    is_table,
    lazy_parts,
    numbers_of,
    one_variable,
    read,
    real_numbers,
)
from .._given.names import NAMELESS, Names, names_of, places_of
from .curves import Rows


@dataclasses.dataclass(frozen=True)
class Cube:
    """Data with the names and coordinates of their batch axes, and the positions of their samples.

    `absent` marks values that a mask of the data covers; `axes` are all axes of labelled data, in their
    order, that of the samples last; `own_x` are the positions of each curve, where they have their own."""

    rows: Rows
    x: PyTree
    dims: tuple[str, ...] | None
    coords: dict[str, tuple[Any, ...]]
    sample: str  # the dimension of the samples
    axes: tuple[Axis, ...] = ()
    absent: Rows | None = None
    names: Names = NAMELESS
    own_x: Rows | None = None

    def rows_of(self, what: str, value: Any) -> Rows | None:
        """A labelled array with all dimensions of the data, whose batch axes are in their order, as
        rows that are read when they are needed; None for any other."""
        if self.dims is None or not hasattr(value, "dims"):
            return None
        if tuple(d for d in value.dims if d != self.sample) != self.dims:
            return None
        if self.sample not in value.dims:
            return None
        if any(places is not None for places in self._places(what, value).values()):
            return None
        return Rows(getattr(value, "variable", value), value.dims.index(self.sample))

    def plain(self, what: str, value: Any) -> Any:
        """A labelled array in the order of the cube, joined by its labels, its other axes of size one;
        else as it is."""
        if is_table(value) or type(value).__name__ == "Series":
            return self._by_order(what, value)
        if self.dims is None or not hasattr(value, "dims"):
            return value
        value = one_variable(what, value)
        unknown = {str(d) for d in value.dims} - {*self.dims, self.sample}
        if unknown:
            raise InputError(
                f"{what}: '{unknown.pop()}' is no dimension of the data {self.dims}.", argument=what
            )
        places = self._places(what, value)
        order = [d for d in (*self.dims, self.sample) if d in value.dims]
        found = read(what, value[(slice(None),) * len(value.dims)])
        array = _filled(found.values, found.missing)
        for i, d in enumerate(value.dims):
            if (order_of := places[str(d)]) is not None:
                array = array.take(order_of, axis=i)
        array = array.transpose([value.dims.index(d) for d in order])
        sizes = dict(zip(order, array.shape, strict=True))
        return array.reshape([sizes.get(d, 1) for d in (*self.dims, self.sample)])

    def _places(self, what: str, value: Any) -> dict[str, np.ndarray | None]:
        known = {axis.name: axis for axis in self.axes}
        return {
            str(d): places_of(what, axis, known.get(axis.name, Axis()))
            for d, axis in zip(value.dims, axes_of(value), strict=True)
        }

    def _by_order(self, what: str, value: Any) -> np.ndarray:
        """A table or column of pandas: its rows are the batch of one axis, or the samples."""
        given = read(what, value)
        array = _filled(given.values, given.missing)
        if len(self.axes) == 2 and given.axes:
            batch = len(array) == self.rows.count or given.values.ndim == 2
            for i, like in enumerate(self.axes if given.values.ndim == 2 else ()):
                if (places := places_of(what, given.axes[i], like)) is not None:
                    array = array.take(places, axis=i)
            if given.values.ndim == 1 and batch:
                places = places_of(what, given.axes[0], self.axes[0])
                array = array if places is None else array.take(places)
        return array


def _said(coordinate: Any) -> tuple[dict[str, str], ...]:
    """The unit of a coordinate, where it says one."""
    unit = str(getattr(coordinate, "attrs", {}).get("units", ""))
    return ({"units": unit},) if unit else ()


def _filled(array: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
    """Values of which those that are missing are NaN; truth values, False."""
    if missing is None or not missing.any():
        return array
    if array.dtype == bool:
        return array & ~missing
    return np.where(missing, np.nan, array)


def make_cube(x: PyTree, y: Any, dim: str | None) -> Cube:
    """The data as curves by number. `y`: any array with its samples last, or a labelled one whose
    samples lie along `dim`."""
    y = one_variable("y", y)
    dims, coords, axis, axes, missing = None, {}, -1, (), None
    if hasattr(y, "dims") and hasattr(y, "coords"):
        if dim is None and len(y.dims) > 1:
            raise InputError(f"Say along which dimension a curve lies: dim=, one of {y.dims}.")
        dim = y.dims[0] if dim is None else dim
        if dim not in y.dims:
            raise InputError(f"dim='{dim}' is no dimension of the data; those are {y.dims}.")
        axis = y.dims.index(dim)
        dims = tuple(str(d) for d in y.dims if d != dim)
        coords = {
            str(name): (tuple(str(d) for d in c.dims), np.asarray(c.values), *_said(c))
            for name, c in y.coords.items()
            if dim not in c.dims
        }
        named = {str(d): one for d, one in zip(y.dims, axes_of(y), strict=True)}
        axes = (*(named[d] for d in dims), named[str(dim)])
        if x is None:
            if dim not in y.coords:
                raise InputError(f"The data have no coordinate '{dim}'; give x.")
            x = np.asarray(y.coords[dim].values)
        elif hasattr(x, "dims") and tuple(x.dims) == (dim,):
            places = places_of("x", axes_of(x)[0], axes[-1])
            x = x if places is None else np.asarray(x.values)[places]
        data = getattr(y, "variable", y)
    elif dim is not None:
        raise InputError(
            "dim= is for labelled data (xarray); of a plain array it is the last axis."
        )
    else:
        data, missing = lazy_parts(y)
        if data is None:
            given = read("y", y)
            data, missing, axes = given.values, given.missing, given.axes
            if len(axes) == 2 and axes[0].labels is not None and not axes[0].counted:
                name = axes[0].name or "curve"
                dims, coords = (name,), {name: ((name,), axes[0].labels)}
    if x is None:
        raise InputError("x is missing.", argument="x")
    if len(data.shape) < 1 or 0 in data.shape:
        raise InputError(
            f"y must have shape (..., m) with at least one sample, not {data.shape}.", argument="y"
        )
    numbers_of("y", np.zeros(0, data.dtype))  # dates, texts and the like are refused
    axis = axis % len(data.shape)
    absent = None if missing is None else Rows(missing, axis)
    names = NAMELESS
    if axes:
        ordered = (axes[-1], *axes[:1]) if len(axes) == 2 else (axes[-1],)
        unit = str(getattr(y, "attrs", {}).get("units", ""))
        name = str(getattr(y, "name", None) or "")
        names = names_of(Given(np.zeros(0), None, ordered, name, unit), None)
    return Cube(Rows(data, axis), x, dims, coords, str(dim or ""), axes, absent, names)


def own_positions(cube: Cube) -> Rows | None:
    """Positions of each curve, where x has axes of the batch; of models to which x is one axis."""
    x, rows = cube.x, cube.rows
    points = tuple(int(size) for size in getattr(x, "shape", ()))
    one_axis = len(points) == 1 or points[1:] == (1,)
    if one_axis and points[:1] == rows.shape[:1] and points[0] != rows.samples:
        shape = (*rows.shape, rows.samples)
        raise InputError(
            f"x has {points[0]} points, as the first axis of y {shape} has; in fit_many a curve runs along "
            "the last axis. Transpose y.",
            argument="x",
        )
    if isinstance(x, dict | list | tuple) or axes_in(x) < 2 or not rows.shape:
        return None
    whole = (*rows.shape, rows.samples)
    array = real_numbers("x", cube.plain("x", x)).astype(float)
    if (
        array.shape[-1] != rows.samples
        or array.shape[0] == rows.samples
        and array.ndim != len(whole)
    ):
        return None
    try:
        array = np.broadcast_to(array, whole)
    except ValueError as error:
        raise InputError(
            f"x has shape {array.shape}; expected ({rows.samples},) for all curves, or {whole}, one row for "
            "each.",
            argument="x",
        ) from error
    return Rows(array, len(whole) - 1)
