"""Files of arrays: every format becomes an `xarray.Dataset` of named arrays on named axes.

A format is a function of a path. Ours are below; others come from the entry points of the group
`varpro.readers`, whose names are file endings without the dot:

    [project.entry-points."varpro.readers"]
    dm3 = "my_package:read_dm3"

What is read is data alone: nothing is unpickled, no code in a file runs, and no other file is read that
a file names. Headers are looked at first; numbers are read of the arrays that are wanted.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from varpro import InputError

from ..caller import max_bytes, refuse_code
from ..regular_files import refuse_disguised, size_of
from .explicit import read_explicit
from .file_array import head_of_npy, npy_array
from .hdf5_files import in_words as hdf5_in_words, look as look_at_hdf5, refuse_large_positions
from .instrument_readers import read_instrument
from .instruments import format_of
from .kinds import FOLDERS, OURS, ending, plugins
from .lazily import NUMBERS, OTHERS, LazyArray, in_words, named, readable, reason_of
from .zarr_folders import look as look_at_zarr

Reader = Callable[[Path], xr.Dataset]


def read_arrays(path: Path) -> xr.Dataset:
    """The arrays of a file, lazily where its format allows.

    **Raises:** `InputError` naming the file if it is missing, damaged or of an unknown format.
    """
    if not path.is_dir():
        size_of(path, "data")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: data: no permission to read it.")
    kind = ending(path)
    instrument = format_of(path) if kind not in _OURS else None
    if instrument is not None and kind not in readers():
        kind, reader = instrument.name, functools.partial(read_instrument, instrument)
    else:
        reader = readers().get(kind) or (None if path.is_dir() else read_explicit)
    if reader is None or (path.is_dir() and kind in OURS and kind not in FOLDERS):
        raise InputError(
            f"{path}: data: is a folder, not a file. Known formats: {', '.join(sorted(readers()))}."
        )
    if kind in OURS and not path.is_dir():
        refuse_disguised(path, kind)
    try:
        dataset = reader(path)
        if not dataset.variables:
            others = [f"'{n}' ({what})" for n, what in dataset.attrs.get(OTHERS, {}).items()]
            beside = f" of numbers: {', '.join(others[:6])}" if others else ""
            raise InputError(f"{path}: data: the file holds no arrays{beside}.")
        return dataset
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path}: data: cannot be read as {kind or 'text'} ({reason_of(error)}). Is it whole?"
        ) from error


def readers() -> dict[str, Reader]:
    """Formats by file ending: those of varpro, and those of installed packages."""
    formats: dict[str, Reader] = {}
    for entry in plugins():
        formats[entry.name.lower()] = functools.partial(_by_plugin, entry)
    return formats | _OURS


def _by_plugin(entry: importlib.metadata.EntryPoint, path: Path) -> xr.Dataset:
    refuse_code(f"{path}: data: files like this are read by an installed package ('{entry.name}')")
    return entry.load()(path)


def _needed(package: str, path: Path) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{path}: data: files like this need {package}, which is not installed. Install it with "
            f"'pip install {package}'."
        ) from error


def _npz(path: Path) -> xr.Dataset:
    arrays: dict[str, LazyArray] = {}
    others: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            if name == member:
                others[name] = "a file of another kind"
                continue
            with archive.open(member) as stream:
                shape, _, dtype, _ = head_of_npy(stream)
            if dtype.kind in NUMBERS and shape:
                read = functools.partial(_member, path, name)
                arrays[name] = LazyArray.whole(path, name, shape, dtype, read)
            else:
                others[name] = in_words(shape, dtype)
    return named(arrays, others)


def _member(path: Path, name: str) -> np.ndarray:
    with readable(path, name), np.load(path, allow_pickle=False) as file:
        return file[name]


def _npy(path: Path) -> xr.Dataset:
    array = npy_array(path)
    return named(
        {"data": LazyArray(array.shape, array.dtype, lambda index: np.asarray(array[index]))}
    )


def _netcdf(path: Path) -> xr.Dataset:
    with path.open("rb") as file:
        classic = file.read(3) == b"CDF"
    if not classic:
        refuse_large_positions(path)
    if not classic and (grouped := _in_groups(path)) is not None:
        return grouped
    # Times stay numbers: a unit such as "ns" must not turn them into spans of time.
    # Nor is a file mapped, which another process may truncate.
    options = {"engine": "scipy", "mmap": False} if classic else {"engine": "h5netcdf"}
    return xr.open_dataset(path, decode_times=False, cache=False, **options)  # pyright: ignore


def _in_groups(path: Path) -> xr.Dataset | None:
    """The arrays of a file that has them in groups and none outside, named by both; None of any other."""
    arrays, others = _arrays_of_hdf5(path)
    if not arrays or any("/" not in name for name in (*arrays, *others)):
        return None
    return named(arrays, others)


def _zarr(path: Path) -> xr.Dataset:
    _needed("zarr", path)
    look_at_zarr(path)
    return xr.open_zarr(
        path,
        chunks=None,
        consolidated=False,
        decode_times=False,
    )


def _hdf5(path: Path) -> xr.Dataset:
    return named(*_arrays_of_hdf5(path))


def _arrays_of_hdf5(path: Path) -> tuple[dict[str, LazyArray], dict[str, str]]:
    """The arrays of numbers along axes; and what else there is, in words."""
    arrays: dict[str, LazyArray] = {}
    others: dict[str, str] = {}
    for name, (shape, dtype) in look_at_hdf5(path).items():
        if dtype.kind in NUMBERS and shape:
            arrays[name] = LazyArray(shape, dtype, functools.partial(_part, path, name))
        else:
            others[name] = hdf5_in_words(dtype) or in_words(shape, dtype)
    return arrays, others


def _part(path: Path, name: str, index: Any) -> np.ndarray:
    import h5py

    with readable(path, name), h5py.File(path, "r") as file:
        array = file[name]
        assert isinstance(array, h5py.Dataset)
        return np.asarray(array[index])


# A damaged file can crash scipy's compiled reader, and must not take the run along with it; nor may one
# that was packed small and is large take the machine's memory. Arguments: the file, an archive for what is
# found, how many bytes may be read unasked, how many at most, and the array that is asked for, if any.
_LOADMAT = """
import json, sys
import numpy as np
from scipy.io import loadmat, whosmat
path, archive, unasked, most, *names = sys.argv[1:]
if sys.platform == "linux":
    import resource
    used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    room = used + 2 * (int(most) if names else 2 * int(unasked)) + 2**28
    if hard == resource.RLIM_INFINITY or room < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (room, hard))
sizes = dict(double=8, single=4, int64=8, uint64=8, int32=4, uint32=4, int16=2, uint16=2, int8=1, uint8=1)
known = {k: (s, sizes[c]) for k, s, c in whosmat(path) if c in sizes and len(s)}
total = sum(float(np.prod(s, dtype=float)) * b for s, b in known.values())
structs = [k for k, s, c in whosmat(path) if c == "struct" and np.prod(s, dtype=float) == 1]
def leaves(name, v, depth=0):
    if not isinstance(v, np.ndarray) or depth > 8:
        return
    if v.dtype.names and v.size == 1:
        for field in v.dtype.names:
            yield from leaves(name + "/" + field, v.ravel()[0][field], depth + 1)
    elif v.dtype.kind in "iufc" and v.ndim and v.size:
        yield name, v
wanted = [n.partition("/")[0] for n in names] or ([*known, *structs] if total <= int(unasked) else [])
found = {k: v for k, v in loadmat(path, variable_names=wanted).items() if k in wanted} if wanted else {}
found = {n: a for k, v in found.items() for n, a in leaves(k, v) if not names or n in names}
rest = {} if wanted else {k: [list(map(int, s)), b] for k, (s, b) in known.items()}
np.savez(archive, np.array(json.dumps(rest)), np.array(list(found), dtype=str), *found.values())
"""
# Bytes of all arrays together up to which they are read with the first look.
_UNASKED = 2**26


def _loadmat(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name, the one asked for or all if they are small; and shape and size of a number of
    those that were not read."""
    with tempfile.TemporaryDirectory() as folder:
        archive = os.path.join(folder, "found.npz")
        # -P: a module beside the data must not be taken for one of Python's.
        words = [sys.executable, "-P", "-c", _LOADMAT, str(path.absolute()), archive]
        words += [str(min(_UNASKED, max_bytes())), str(max_bytes()), *names]
        process = subprocess.run(words, capture_output=True, text=True, errors="replace")
        if process.returncode:
            messages = process.stderr.strip().splitlines() if process.returncode > 0 else []
            reason = messages[-1] if messages else "its reader crashed"
            if "MemoryError" in reason:
                reason = f"its numbers take more memory than {max_bytes()} bytes"
            raise InputError(f"{path}: data: cannot be read as mat ({reason[:200]}). Is it whole?")
        with np.load(archive, allow_pickle=False) as file:
            names_found = file["arr_1"].tolist()
            found = {name: file[f"arr_{i + 2}"] for i, name in enumerate(names_found)}
            return found, json.loads(str(file["arr_0"]))


def _arrays_of_mat(path: Path) -> dict[str, LazyArray]:
    found, rest = _loadmat(path)
    arrays = {
        name: LazyArray.whole(path, name, array.shape, array.dtype, lambda array=array: array)
        for name, array in found.items()
    }
    for name, (shape, itemsize) in rest.items():

        def read(name: str = name) -> np.ndarray:
            return _loadmat(path, name)[0][name]

        arrays[name] = LazyArray.whole(path, name, tuple(shape), f"f{max(itemsize, 2)}", read)
    return arrays


def _mat(path: Path) -> xr.Dataset:
    with path.open("rb") as file:
        newest = b"MATLAB 7.3" in file.read(128)
    # HDF5 has MATLAB's axes in reverse.
    arrays, others = _arrays_of_hdf5(path) if newest else (_arrays_of_mat(path), {})
    if newest:
        arrays = {name: array.T for name, array in arrays.items()}
    # MATLAB has no vectors, only matrices with one row or column.
    flat = {k: v.flat() if 1 in v.shape and len(v.shape) == 2 else v for k, v in arrays.items()}
    return named(flat, others)


def _tiff(path: Path) -> xr.Dataset:
    with opened_tiff(_needed("tifffile", path), path) as file:
        series = file.series[0]
        shape, dtype = series.shape, series.dtype

    def read() -> np.ndarray:
        with opened_tiff(_needed("tifffile", path), path) as file:
            return file.series[0].asarray()

    return named({"data": LazyArray.whole(path, "data", shape, dtype, read)})


@contextlib.contextmanager
def opened_tiff(tifffile: Any, path: Path) -> Iterator[Any]:
    """A TIFF file, unless some of its pages are in other files.

    **Raises:** `InputError` naming the other file.
    """
    with tifffile.TiffFile(path) as file:
        for page in file.series[0].pages if file.series else ():
            other = None if page is None else page.parent.filehandle.path
            if other is not None and os.path.realpath(other) != os.path.realpath(path):
                raise InputError(
                    f"{path}: data: has pages in another file ('{other}'), and no file is read that "
                    "the configuration does not name. Write the stack into one file."
                )
        yield file


def _formats() -> Iterator[tuple[str, Reader]]:
    yield from {"npz": _npz, "npy": _npy, "zarr": _zarr, "mat": _mat}.items()
    yield from dict.fromkeys(("nc", "nc4", "cdf", "netcdf"), _netcdf).items()
    yield from dict.fromkeys(("h5", "hdf5", "hdf"), _hdf5).items()
    yield from dict.fromkeys(("tif", "tiff"), _tiff).items()


_OURS: dict[str, Reader] = dict(_formats())
