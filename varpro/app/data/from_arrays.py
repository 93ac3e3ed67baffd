"""The arrays of a data file that a configuration asks for, checked and ready to fit."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import varpro as vp

from ..config.data import Data
from ..config.document import Document, Key
from ..config.messages import complain, nearest
from .formats import read_arrays
from .lazily import OTHERS, values_of
from .samples import Columns, paired


def read_array_columns(document: Document, data: Data, key: Key, path: Path) -> Columns:
    """What `columns.read_columns` makes of a table, of a file of arrays.

    y names one array on two axes, that of x and one of right-hand sides, or one or more arrays on
    that of x alone.
    """
    dataset = read_arrays(path)

    def complaint(message: str, *more: str | int) -> vp.InputError:
        return vp.InputError(complain(document, (*key, *more), message))

    def array(name: str, *more: str | int) -> xr.DataArray:
        if name not in dataset.variables:
            known = [str(n) for n in dataset.variables]
            if name in dataset.attrs.get(OTHERS, {}):
                other = dataset.attrs[OTHERS][name]
                raise complaint(
                    f"'{name}' of {path} is {other}; expected numbers along an axis.", *more
                )
            raise complaint(f"{path} has no array '{name}'. {nearest(name, known)}", *more)
        return dataset[name]

    if data.where:
        raise complaint("is for tables of text. Use select for the axes of arrays.", "where")
    if data.covariance is not None:
        raise complaint("is for tables of text. From Python give sigma=C.", "covariance")
    x = array(data.x, "x")
    if x.ndim != 1:
        raise complaint(f"'{data.x}' has {x.ndim} axes; x has one.", "x")
    (axis,) = x.dims
    ys = [array(name, "y", i) for i, name in enumerate(data.y)]
    for i, name in enumerate(data.imag):
        if array(name, "imag", i).dims != ys[i].dims:
            message = f"'{name}' {_shape(dataset[name])} has not the axes of '{data.y[i]}' {_shape(ys[i])}."
            raise complaint(message, "imag", i)
    for i, (name, y) in enumerate(zip(data.y, ys, strict=True)):
        if axis not in y.dims:
            raise complaint(
                f"'{name}' {_shape(y)} has no axis in common with x = '{data.x}' {_shape(x)}.",
                "y",
                i,
            )
        if y.ndim > 2 or (y.ndim == 2 and len(ys) > 1):
            raise complaint(
                f"'{name}' {_shape(y)}: expected one array on the axis of x and one other, or several "
                "on that of x alone. Every pixel of an image for itself: 'share: none' under fit.",
                "y",
                i,
            )
    other = next((d for d in ys[0].dims if d != axis), None)
    for name, interval in data.select.items():
        selected = array(name, "select", name)
        if selected.ndim != 1 or selected.dims[0] not in (axis, other):
            raise complaint(f"'{name}' is no axis of the data.", "select", name)
        positions = np.asarray(values_of(dataset, name, path), float)
        low, high = (
            (interval[0], interval[-1]) if isinstance(interval, list) else (interval, interval)
        )
        keep = np.flatnonzero((positions >= low) & (positions <= high))
        if not keep.size:
            raise complaint(f"no '{name}' lies between {low:g} and {high:g}.", "select", name)
        dataset = dataset.isel({selected.dims[0]: keep})
    if data.range is not None:
        positions = np.asarray(values_of(dataset, data.x, path), float)
        keep = np.flatnonzero((positions >= data.range[0]) & (positions <= data.range[1]))
        if not keep.size:
            raise complaint(
                f"no {data.x} lies between {data.range[0]:g} and {data.range[1]:g}.", "range"
            )
        dataset = dataset.isel({axis: keep})

    def values(name: str) -> np.ndarray:
        dims = dataset[name].dims
        array_values = values_of(dataset, name, path)
        if axis in dims:
            array_values = np.moveaxis(array_values, dims.index(axis), 0)
        if array_values.dtype.kind == "m":
            raise complaint(
                f"'{name}' holds spans of time ({array_values.dtype}), whose numbers depend on a unit. "
                "Write them as numbers of one."
            )
        if array_values.dtype.kind not in "iufcb":
            raise complaint(f"'{name}' holds {array_values.dtype}, not numbers.")
        return array_values

    def real(name: str, key: str) -> np.ndarray:
        found = values(name)
        if np.iscomplexobj(found):
            raise complaint(f"'{name}' is complex; {key} is real.", key)
        return found

    names, labels, axis_name = paired(data.y, data.imag), None, ""
    curves = [values(name) for name in data.y]
    if data.imag:
        curves = [re + 1j * values(name) for re, name in zip(curves, data.imag, strict=True)]
    if other is None:
        y = np.stack(curves, axis=1)
        y = y[:, 0] if len(data.y) == 1 else y
    else:
        y = curves[0]
        labels, axis_name = _labels(dataset, str(other), path)
        names = tuple(_text(v) for v in labels) if labels is not None else ()
        names = names or tuple(str(i) for i in range(y.shape[1]))
    xs = real(data.x, "x").astype(float)
    weighting: dict[str, Any] = {"sigma": None, "weights": None, "mask": None}
    if data.sigma == "poisson":
        if np.iscomplexobj(y) or (y[np.isfinite(y)] < 0).any():
            raise complaint("poisson is for counts, but y is negative or complex.", "sigma")
        weighting["sigma"] = np.sqrt(np.maximum(y, 1.0))
    elif isinstance(data.sigma, float):
        weighting["sigma"] = data.sigma
    for what in ("sigma", "weights", "mask"):
        name = getattr(data, what)
        if isinstance(name, str) and name != "poisson":
            array(name, what)
            weighting[what] = real(name, what)
    if weighting["mask"] is not None:
        try:
            weighting["mask"] = as_truth(weighting["mask"])
        except ValueError as error:
            raise complaint(f"'{data.mask}' {error}", "mask") from error
    bad = ~np.isfinite(y)
    if bad.any() and data.nan == "raise" and weighting["mask"] is None:
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise vp.InputError(
            f"{path}: '{data.y[0]}' has {int(bad.sum())} values that are not finite, the first at "
            f"{index}. Mend them, or set 'nan: drop' under data."
        )
    return Columns(
        x=xs,
        y=y,
        sigma=weighting["sigma"],
        weights=weighting["weights"],
        x_name=data.x,
        y_names=names,
        x_unit=data.units.x or str(dataset[data.x].attrs.get("units", "")),
        y_unit=data.units.y or str(dataset[data.y[0]].attrs.get("units", "")),
        dropped=0,
        mask=weighting["mask"],
        labels=labels,
        labels_name=axis_name,
    )


def as_truth(array: np.ndarray) -> np.ndarray:
    """A mask of a file, some formats of which have no truth values: those of numbers 0 and 1.

    **Raises:** `ValueError` for other numbers.
    """
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iu" or not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"holds {array.dtype}, not true and false. A mask is of truth values, or of 0 and 1 in "
            "whole numbers."
        )
    return array.astype(bool)


def _labels(dataset: xr.Dataset, axis: str, path: Path) -> tuple[np.ndarray | None, str]:
    """The numbers along the axis of right-hand sides, and what they are called."""
    if axis in dataset.coords and dataset[axis].ndim == 1:
        return values_of(dataset, axis, path), axis
    vectors = [str(name) for name, v in dataset.variables.items() if v.dims == (axis,)]
    if len(vectors) == 1:
        return values_of(dataset, vectors[0], path), vectors[0]
    return None, axis


def _text(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, int | float | np.number) else str(value)


def _shape(array: xr.DataArray) -> str:
    sizes = ", ".join(f"{d}: {n}" for d, n in zip(array.dims, array.shape, strict=True))
    return f"({sizes})"
