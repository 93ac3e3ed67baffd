"""Cubes of curves in files of arrays, read in blocks where their format allows.

A `Source` has dims, coords, shape and dtype, and `source[index]` reads that part of the file. It is
pickled as a path, so that a worker elsewhere opens the file itself.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import varpro as vp

from ..config.data import Data
from ..config.document import Document
from ..config.messages import complain, nearest
from ..regular_files import refuse_disguised, refuse_large, size_of
from .file_array import FileArray, npy_array
from .formats import opened_tiff, read_arrays
from .from_arrays import as_truth
from .from_table import as_seen_from_here
from .hdf5_files import refuse_large_positions
from .kinds import ending
from .lazily import readable
from .samples import Columns, paired


@dataclasses.dataclass(frozen=True)
class Source:
    """An array in a file; `coords` are `xarray.Variable`s by name. `windows`: of axes by name first and last
    place, plus one, of which nothing else is seen."""

    path: Path
    name: str
    dims: tuple[str, ...]
    coords: Mapping[str, xr.Variable]
    shape: tuple[int, ...]
    dtype: np.dtype
    unit: str
    renamed: Mapping[str, str]  # dims by what they are called in the file
    imag: str | None = None  # the array of imaginary parts, if they are in one of their own
    truth: bool = False  # whether 0 and 1 mean false and true
    windows: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    def __getitem__(self, index: Any) -> np.ndarray:
        with readable(self.path, self.name):
            values = self._part(self.name, index)
            if self.imag is not None:
                return values + 1j * self._part(self.imag, index)
        try:
            return as_truth(values) if self.truth else values
        except ValueError as error:
            raise vp.InputError(f"{self.path}: '{self.name}' {error}") from error

    def _part(self, name: str, index: Any) -> np.ndarray:
        part = _opened(self.path).array(name)[self._placed(index)]
        refuse_large(self.path, name, part.nbytes)
        return np.asarray(part)

    def _placed(self, index: Any) -> Any:
        """What an index means in the file."""
        if not any(name in self.windows for name in self.dims):
            return index
        parts = list(index) if isinstance(index, tuple) else [index]
        if Ellipsis in [part for part in parts if not isinstance(part, np.ndarray)]:
            at = next(i for i, part in enumerate(parts) if part is Ellipsis)
            parts[at : at + 1] = [slice(None)] * (len(self.dims) - len(parts) + 1)
        parts += [slice(None)] * (len(self.dims) - len(parts))
        for i, (name, size) in enumerate(zip(self.dims, self.shape, strict=True)):
            if name in self.windows:
                first = self.windows[name][0]
                if isinstance(parts[i], slice):
                    begin, end, step = parts[i].indices(size)
                    # A slice that runs down to the first place ends before it.
                    parts[i] = slice(first + begin, first + end, step)
                    if step < 0:
                        parts[i] = np.arange(first + begin, first + end, step)
                else:
                    parts[i] = first + np.arange(size)[parts[i]]
        return tuple(parts)

    def within(self, windows: Mapping[str, tuple[int, int]]) -> "Source":
        """What is seen through windows alone, of which some may be on other axes than those of this array."""
        coords = {
            name: c.isel({d: slice(*windows[str(d)]) for d in c.dims if str(d) in windows})
            for name, c in self.coords.items()
        }
        sizes = {name: end - first for name, (first, end) in windows.items()}
        shape = tuple(sizes.get(d, n) for d, n in zip(self.dims, self.shape, strict=True))
        return dataclasses.replace(self, coords=coords, shape=shape, windows=dict(windows))

    def moved(self, name: str) -> "Source":
        """Another array of the same file, such as that of the standard deviations."""
        found = _described(self.path, name, self.renamed)
        return found.within(self.windows) if self.windows else found

    def mask(self, name: str) -> "Source":
        """Another array of the same file, of truth values.

        **Raises:** `InputError` for one of anything else.
        """
        found = self.moved(name)
        if found.dtype.kind not in "iub":
            raise vp.InputError(
                f"{self.path}: mask: '{name}' holds {found.dtype}, not true and false."
            )
        return dataclasses.replace(found, truth=True, dtype=np.dtype(bool))


@dataclasses.dataclass(frozen=True)
class _File:
    """An open file: the names of its arrays, the arrays, and their labels."""

    names: tuple[str, ...]
    array: Callable[[str], Any]
    dims: Callable[[str], tuple[str, ...]]
    coords: Callable[[str], Mapping[str, xr.Variable]]
    attrs: Callable[[str], Mapping[str, Any]]


def read_cube(document: Document, data: Data, path: Path) -> tuple[Columns, Source]:
    """The array of curves that a configuration names; and for all that is said of one curve, a curve.

    **Raises:** `InputError` for what is not there, naming what is.
    """

    def complaint(message: str, key: str) -> vp.InputError:
        return vp.InputError(complain(document, ("data", key), message))

    if data.where:
        raise complaint("is for tables of text. Use select for the axes of arrays.", "where")
    if data.sigma == "poisson":
        raise complaint(
            "of many curves say 'fit: {noise: poisson}', the likelihood of counts.", "sigma"
        )
    if len(data.y) > 1:
        raise complaint("of a file of curves name one array.", "y")
    name = data.variable or next(iter(data.y), None)
    try:
        source = open_cube(path, name, data.x, data.dims, data.spacing, data.origin)
        source = _with_imag(source, *data.imag) if data.imag else source
    except vp.InputError as error:
        message = str(error).replace(str(path), str(as_seen_from_here(path)))
        raise vp.InputError(complain(document, ("data",), message)) from error
    if source.coords[data.x].values.dtype.kind == "c":
        raise complaint(f"'{data.x}' is complex; x is real.", "x")
    source = source.within(_windows(document, data, source))
    positions = source.coords[data.x]
    x = np.asarray(positions.values, float)
    columns = Columns(
        x=x,
        y=np.zeros(x.shape),
        sigma=None,
        weights=None,
        x_name=data.x,
        y_names=paired([source.name], data.imag),
        x_unit=data.units.x or str(positions.attrs.get("units", "")),
        y_unit=data.units.y or source.unit,
        dropped=0,
    )
    return columns, source


def _windows(document: Document, data: Data, source: Source) -> dict[str, tuple[int, int]]:
    """The parts of axes that a configuration asks for: by their labels, or by places from 0 where there are
    none."""
    asked = {name: ("select", name) for name in data.select}
    windows: dict[str, tuple[int, int]] = {}
    for name, key in [*asked.items(), *([(data.x, ("range",))] if data.range is not None else [])]:

        def complaint(message: str, key: tuple[str, ...] = key) -> vp.InputError:
            return vp.InputError(complain(document, ("data", *key), message))

        ends = data.range if key == ("range",) else data.select[name]
        assert ends is not None
        low, high = (ends[0], ends[-1]) if isinstance(ends, list) else (ends, ends)
        labels = source.coords.get(name)
        axis = name if labels is None or labels.ndim != 1 else str(labels.dims[0])
        if axis not in source.dims:
            known = dict.fromkeys(
                [*source.dims, *(n for n, c in source.coords.items() if c.ndim == 1)]
            )
            raise complaint(f"'{name}' is no axis of the data. {nearest(name, list(known))}")
        size = source.shape[source.dims.index(axis)]
        at = np.arange(size) if labels is None or labels.ndim != 1 else np.asarray(labels.values)
        if at.dtype.kind not in "iuf":
            raise complaint(f"the labels of '{name}' are no numbers.")
        kept = np.flatnonzero((at >= low) & (at <= high))
        if not kept.size:
            raise complaint(f"no '{name}' lies between {low:g} and {high:g}.")
        if kept.size != kept[-1] - kept[0] + 1:
            raise complaint(
                f"'{name}' is not sorted: what lies between {low:g} and {high:g} is no one stretch of it. Use mask."
            )
        first, end = windows.get(axis, (0, size))
        first, end = max(first, int(kept[0])), min(end, int(kept[-1]) + 1)
        if first >= end:
            raise complaint(f"nothing of '{axis}' is left.")
        windows[axis] = first, end
    return windows


def _with_imag(source: Source, imag: str) -> Source:
    other = source.moved(imag)
    if other.shape != source.shape or "c" in (other.dtype.kind, source.dtype.kind):
        raise vp.InputError(
            f"imag: '{imag}' {other.shape} {other.dtype} and '{source.name}' {source.shape} "
            f"{source.dtype} are not real and imaginary parts of one array."
        )
    dtype = np.result_type(source.dtype, other.dtype, np.complex64)
    return dataclasses.replace(source, dtype=dtype, imag=imag)


def open_cube(
    path: Path,
    variable: str | None,
    x: str,
    dims: Sequence[str] | None = None,
    spacing: float | None = None,
    origin: float = 0.0,
) -> Source:
    """An array in a file, with positions along `x`.

    **Arguments:**

    - `variable`: its name; may be left out where the file has one array of two or more axes.
    - `x`: the dimension along which a curve lies, or an array of positions on one of its axes.
    - `dims`: names of all axes, in order, for files that have none or others.
    - `spacing`, `origin`: positions along `x` where the file has none, `origin + i spacing`.
    """
    file = _opened(path)
    source = _described(path, variable, {})
    if dims is not None:
        if len(dims) != len(source.dims) or len(set(dims)) != len(dims):
            raise vp.InputError(
                f"{path}: dims: {len(dims)} names for the {len(source.dims)} axes of "
                f"'{source.name}' {source.shape}; each axis needs one of its own."
            )
        renamed = dict(zip(source.dims, dims, strict=True))
        source = _described(path, source.name, renamed)
    if x not in source.dims and x in file.names and len(file.array(x).shape) == 1:
        # Positions in an array of another name than its axis.
        (axis,) = file.dims(x)
        axis = source.renamed.get(axis, axis)
        if axis in source.dims:
            file_names = {new: old for old, new in source.renamed.items()}
            source = _described(
                path, source.name, {**source.renamed, file_names.get(axis, axis): x}
            )
    if x not in source.dims:
        raise vp.InputError(
            f"{path}: '{source.name}' has no dimension '{x}'. {nearest(x, source.dims)} "
            "Other names: dims."
        )
    m = source.shape[source.dims.index(x)]
    coords = dict(source.coords)
    if spacing is not None:
        coords[x] = xr.Variable((x,), origin + spacing * np.arange(m))
    elif x not in coords and x in file.names and file.array(x).shape == (m,):
        coords[x] = xr.Variable((x,), _vector(path, file, x), dict(file.attrs(x)))
    if x not in coords:
        raise vp.InputError(f"{path}: no positions along '{x}'. Give spacing (and origin).")
    if coords[x].dtype.kind not in "iuf":
        raise vp.InputError(f"{path}: the positions along '{x}' are no numbers. Give spacing.")
    return dataclasses.replace(source, coords=coords)


def _described(path: Path, variable: str | None, renamed: Mapping[str, str]) -> Source:
    """The names, shape and coordinates of an array, without reading it."""
    file = _opened(path)
    if variable is None:
        large = [name for name in file.names if len(file.array(name).shape) > 1]
        if len(large) != 1:
            raise vp.InputError(
                f"{path}: say which array is fitted, variable: NAME. Known: {', '.join(file.names)}."
            )
        variable = large[0]
    if variable not in file.names:
        raise vp.InputError(f"{path}: no array '{variable}'. {nearest(variable, file.names)}")
    array, file_dims = file.array(variable), file.dims(variable)
    coords = {}
    for name, c in file.coords(variable).items():
        if set(c.dims) <= set(file_dims):
            with readable(path, name):
                dims = [renamed.get(str(d), str(d)) for d in c.dims]
                coords[renamed.get(name, name)] = xr.Variable(dims, c.values, c.attrs)
    unit = str(file.attrs(variable).get("units", ""))
    dims = tuple(renamed.get(d, d) for d in file_dims)
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    return Source(path, variable, dims, coords, shape, dtype, unit, dict(renamed))


def _vector(path: Path, file: _File, name: str) -> np.ndarray:
    array = file.array(name)
    refuse_large(path, name, math.prod(array.shape) * np.dtype(array.dtype).itemsize)
    with readable(path, name):
        return np.asarray(array[:])


def _opened(path: Path) -> _File:
    changed = path.stat().st_mtime_ns if path.exists() else 0
    return _kept_open(path, changed)


@functools.lru_cache(maxsize=8)
def _kept_open(path: Path, changed: int) -> _File:
    """A file stays open in this process until it changes."""
    lazily = _LAZY.get(path.suffix.lower())
    if lazily is None or path.is_dir():
        return _labelled(read_arrays(path))
    size_of(path, "data")
    refuse_disguised(path, ending(path))
    try:
        return lazily(path)
    except vp.InputError:
        raise
    except Exception as error:  # whatever the library makes of a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise vp.InputError(f"{path}: data: cannot be read ({reason}). Is it whole?") from error


def _labelled(content: xr.Dataset) -> _File:
    return _File(
        tuple(str(name) for name in content.variables),
        lambda name: content[name].variable,
        lambda name: tuple(str(d) for d in content[name].dims),
        lambda name: {str(key): c.variable for key, c in content[name].coords.items()},
        lambda name: content[name].attrs,
    )


def _hdf5(path: Path) -> _File:
    refuse_large_positions(path)  # also what h5netcdf cannot open: it complains about that twice
    content = xr.open_dataset(
        path, engine="h5netcdf", decode_times=False, cache=False, phony_dims="sort"
    )
    return _labelled(content)


def _tiff(path: Path) -> _File:
    import tifffile

    with opened_tiff(tifffile, path) as file:
        series = file.series[0]
        dims = tuple(letter.lower() for letter in series.axes)
        if series.dataoffset is not None:
            dtype = series.dtype.newbyteorder(file.byteorder)
            array = FileArray(path, series.dataoffset, dtype, series.shape)
        else:
            # A compressed page holds one sample of every curve: all are unpacked once, into a file
            # of ours.
            refuse_large(path, "data", series.nbytes)
            array = series.asarray(out="memmap")
    return _only(array, dims)


def _npy(path: Path) -> _File:
    array = npy_array(path)
    return _only(array, tuple(f"data_{i}" for i in range(array.ndim)))


def _only(array: Any, dims: tuple[str, ...]) -> _File:
    """A file with one array, which has no name."""
    if len(set(dims)) < len(dims):
        dims = tuple(f"axis_{i}" for i in range(array.ndim))
    return _File(("data",), lambda _: array, lambda _: dims, lambda _: {}, lambda _: {})


# Formats of which parts are read here, though `formats` reads them whole.
_LAZY: dict[str, Callable[[Path], _File]] = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), _hdf5),
    **dict.fromkeys((".tif", ".tiff"), _tiff),
    ".npy": _npy,
}
