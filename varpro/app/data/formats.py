"""Files of arrays: every format becomes an `xarray.Dataset` of named arrays on named axes.

A format is a function of a path. Ours are below; others come from the entry points of the group
`varpro.readers`, whose names are file endings without the dot:

    [project.entry-points."varpro.readers"]
    dm3 = "my_package:read_dm3"

What is read is data alone: nothing is unpickled and no code in a file runs.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from varpro import InputError

from .explicit import read_explicit
from .kinds import ending, plugins

Reader = Callable[[Path], xr.Dataset]


def read_arrays(path: Path) -> xr.Dataset:
    """The arrays of a file, lazily where its format allows.

    **Raises:** `InputError` naming the file if it is missing, damaged or of an unknown format.
    """
    if not path.exists():
        raise InputError(f"{path}: data: no such file.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: data: no permission to read it.")
    kind = ending(path)
    reader = readers().get(kind) or (None if path.is_dir() else read_explicit)
    if reader is None:
        raise InputError(
            f"{path}: data: is a folder, not a file. Known formats: {', '.join(sorted(readers()))}."
        )
    try:
        dataset = reader(path)
        if not dataset.variables:
            raise InputError(f"{path}: data: the file holds no arrays.")
        return dataset
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"{path}: data: cannot be read as {kind or 'text'} ({reason}). Is it whole?"
        ) from error


def readers() -> dict[str, Reader]:
    """Formats by file ending: those of varpro, and those of installed packages."""
    formats: dict[str, Reader] = {}
    for entry in plugins():
        formats[entry.name.lower()] = lambda path, entry=entry: entry.load()(path)
    return formats | _OURS


def _needed(package: str, path: Path) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{path}: data: files like this need {package}, which is not installed. Install it with "
            f"'pip install {package}'."
        ) from error


def named(arrays: dict[str, np.ndarray]) -> xr.Dataset:
    """Arrays without named axes: axes of one length are taken to be the same one if a vector has
    that length, and are called after it."""
    vectors: dict[int, str] = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            vectors.setdefault(array.size, name)
    variables: dict[str, Any] = {}
    for name, array in arrays.items():
        dims: list[str] = []
        for i, size in enumerate(array.shape):
            axis = f"{vectors[size]}_axis" if size in vectors else f"{name}_{i}"
            dims.append(axis if axis not in dims else f"{name}_{i}")
        variables[name] = (tuple(dims), array)
    return xr.Dataset(variables)


def _numeric(name: str, array: Any, path: Path) -> np.ndarray | None:
    array = np.asarray(array)
    return array if array.dtype.kind in "iufcb" and array.ndim else None


def _npz(path: Path) -> xr.Dataset:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return named({k: v for k, v in arrays.items() if _numeric(k, v, path) is not None})


def _npy(path: Path) -> xr.Dataset:
    array = np.load(path, allow_pickle=False, mmap_mode="r")
    return named({"data": array})


def _netcdf(path: Path) -> xr.Dataset:
    with path.open("rb") as file:
        classic = file.read(3) == b"CDF"
    # Times stay numbers: a unit such as "ns" must not turn them into spans of time.
    return xr.open_dataset(
        path, engine="scipy" if classic else "h5netcdf", decode_times=False, cache=False
    )


def _zarr(path: Path) -> xr.Dataset:
    _needed("zarr", path)
    return xr.open_zarr(
        path,
        chunks=None,
        consolidated=False,
        decode_times=False,
    )


def _hdf5(path: Path) -> xr.Dataset:
    h5py = _needed("h5py", path)
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(path, "r") as file:

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "iufc" and item.ndim:
                arrays[name] = item[()]

        file.visititems(visit)
    return named(arrays)


# A damaged file can crash scipy's compiled reader, and must not take the run along with it.
_LOADMAT = """
import sys
import numpy as np
from scipy.io import loadmat
found = {k: np.asarray(v) for k, v in loadmat(sys.argv[1]).items() if not k.startswith("__")}
found = {k: v for k, v in found.items() if v.dtype.kind in "iufc" and v.ndim}
np.savez(sys.argv[2], np.array(list(found), dtype=str), *found.values())
"""


def _loadmat(path: Path) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        archive = os.path.join(folder, "found.npz")
        words = [sys.executable, "-c", _LOADMAT, str(path), archive]
        process = subprocess.run(words, capture_output=True, text=True, errors="replace")
        if process.returncode:
            messages = process.stderr.strip().splitlines() if process.returncode > 0 else []
            reason = messages[-1] if messages else "its reader crashed"
            raise InputError(f"{path}: data: cannot be read as mat ({reason[:200]}). Is it whole?")
        with np.load(archive, allow_pickle=False) as file:
            names = file["arr_0"].tolist()
            return {name: file[f"arr_{i + 1}"] for i, name in enumerate(names)}


def _mat(path: Path) -> xr.Dataset:
    with path.open("rb") as file:
        newest = b"MATLAB 7.3" in file.read(128)
    if newest:
        content = _hdf5(path)
        # HDF5 has MATLAB's axes in reverse.
        arrays = {str(name): array.values.T for name, array in content.items()}
    else:
        arrays = _loadmat(path)
    arrays = {k: v for k, v in arrays.items() if v.dtype.kind in "iufc" and v.ndim}
    # MATLAB has no vectors, only matrices with one row or column.
    return named(
        {k: v.reshape(-1) if 1 in v.shape and v.ndim == 2 else v for k, v in arrays.items()}
    )


def _tiff(path: Path) -> xr.Dataset:
    stack = _needed("tifffile", path).imread(path)
    return named({"data": stack})


def _sdt(path: Path) -> xr.Dataset:
    file = _needed("sdtfile", path).SdtFile(str(path))
    arrays: dict[str, Any] = {}
    for i, (data, times) in enumerate(zip(file.data, file.times, strict=True)):
        number = "" if i == 0 else str(i + 1)
        time = f"time{number}"
        dims = (*(f"axis{number}_{j}" for j in range(np.ndim(data) - 1)), time)
        arrays[f"counts{number}"] = (dims, np.asarray(data))
        arrays[time] = (time, np.asarray(times), {"units": "s"})
    return xr.Dataset(arrays)


def _ptu(path: Path) -> xr.Dataset:
    with _needed("ptufile", path).PtuFile(str(path)) as file:
        image = file.decode_image(asxarray=True)
    return image.rename("counts").rename({"H": "time"}).to_dataset()


def _nmr(path: Path) -> xr.Dataset:
    glue = _needed("nmrglue", path)
    info, fid = glue.pipe.read(str(path))
    unit = glue.pipe.make_uc(info, fid)
    return xr.Dataset({"fid": ("time", np.asarray(fid)), "time": ("time", unit.sec_scale())})


def _formats() -> Iterator[tuple[str, Reader]]:
    yield from {"npz": _npz, "npy": _npy, "zarr": _zarr, "mat": _mat}.items()
    yield from dict.fromkeys(("nc", "nc4", "cdf", "netcdf"), _netcdf).items()
    yield from dict.fromkeys(("h5", "hdf5", "hdf"), _hdf5).items()
    yield from dict.fromkeys(("tif", "tiff"), _tiff).items()
    yield from {"sdt": _sdt, "ptu": _ptu, "fid": _nmr}.items()


_OURS: dict[str, Reader] = dict(_formats())
