"""The data of a batch as curves by number, with the names and coordinates of its axes."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .curves import Rows


@dataclasses.dataclass(frozen=True)
class Cube:
    """Data with the names and coordinates of its batch axes, and the positions of its samples."""

    rows: Rows
    x: PyTree
    dims: tuple[str, ...] | None
    coords: dict[str, tuple[tuple[str, ...], np.ndarray]]
    sample: str  # the dimension of the samples

    def rows_of(self, value: Any) -> Rows | None:
        """A labelled array with all dimensions of the data, whose batch axes are in their order, as
        rows that are read when they are needed; None for any other."""
        if self.dims is None or not hasattr(value, "dims"):
            return None
        if tuple(d for d in value.dims if d != self.sample) != self.dims:
            return None
        if self.sample not in value.dims:
            return None
        return Rows(getattr(value, "variable", value), value.dims.index(self.sample))

    def plain(self, value: Any) -> Any:
        """A labelled array in the order of the cube, its other axes of size one; else as it is."""
        if self.dims is None or not hasattr(value, "dims"):
            return value
        unknown = set(value.dims) - {*self.dims, self.sample}
        if unknown:
            raise InputError(f"'{unknown.pop()}' is no dimension of the data {self.dims}.")
        order = [d for d in (*self.dims, self.sample) if d in value.dims]
        found = np.asarray(value[(slice(None),) * len(value.dims)])
        found = found.transpose([value.dims.index(d) for d in order])
        sizes = dict(zip(order, found.shape, strict=True))
        return found.reshape([sizes.get(d, 1) for d in (*self.dims, self.sample)])


def make_cube(x: PyTree, y: Any, dim: str | None) -> Cube:
    """The data as curves by number. `y`: any array with its samples last, or a labelled one whose
    samples lie along `dim`."""
    dims, coords, axis = None, {}, -1
    if hasattr(y, "dims") and hasattr(y, "coords"):
        if dim is None and len(y.dims) > 1:
            raise InputError(f"Say along which dimension a curve lies: dim=, one of {y.dims}.")
        dim = y.dims[0] if dim is None else dim
        if dim not in y.dims:
            raise InputError(f"dim='{dim}' is no dimension of the data; those are {y.dims}.")
        axis = y.dims.index(dim)
        dims = tuple(str(d) for d in y.dims if d != dim)
        coords = {
            str(name): (tuple(str(d) for d in c.dims), np.asarray(c.values))
            for name, c in y.coords.items()
            if dim not in c.dims
        }
        if x is None:
            if dim not in y.coords:
                raise InputError(f"The data have no coordinate '{dim}'; give x.")
            x = np.asarray(y.coords[dim].values)
        elif hasattr(x, "dims"):
            x = np.asarray(x.values)
        data = getattr(y, "variable", y)
    elif dim is not None:
        raise InputError(
            "dim= is for labelled data (xarray); of a plain array it is the last axis."
        )
    else:
        data = y if is_array(y) else np.asarray(y)
    if x is None:
        raise InputError("x is missing.", argument="x")
    if len(data.shape) < 1 or 0 in data.shape:
        raise InputError(
            f"y must have shape (..., m) with at least one sample, not {data.shape}.", argument="y"
        )
    dtype = np.dtype(data.dtype)
    if dtype.kind not in "iufc":
        raise InputError(f"y must be numeric, but has dtype {dtype}.", argument="y")
    return Cube(Rows(data, axis % len(data.shape)), x, dims, coords, str(dim or ""))


def is_array(y: Any) -> bool:
    return all(hasattr(y, name) for name in ("shape", "dtype", "__getitem__"))
