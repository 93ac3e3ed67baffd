"""What reads the formats of instruments, a function for each: packages make arrays of the files, and these
name their axes."""

import contextlib
import importlib
import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from varpro import InputError

from ..regular_files import refuse_large
from .instruments import Format


def read_instrument(one: Format, path: Path) -> xr.Dataset:
    """The arrays of a file of a format.

    **Raises:** `InputError` where what reads it is not installed.
    """
    if not one.package:
        raise InputError(
            f"{path}: data: is {one.name}, which no package reads that is kept up. Save it as text or "
            "JCAMP-DX."
        )
    if not path.is_dir():
        refuse_large(path, one.name, path.stat().st_size)
    # What they warn programmers of, users do not need; and one of them turns all warnings on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = importlib.import_module(one.package)
        except ImportError as error:
            raise InputError(
                f"{path}: data: is {one.name}, which needs {one.package}, which is not installed. Install "
                f"it with 'pip install varpro[{one.extra}]'."
            ) from error
        return _READ[one.key](path, module)


# ---------------------------------------------------------------- NMR and EPR


def _fid(data: Any, step: float) -> xr.Dataset:
    """Free induction decays, the last axis is time."""
    data = np.asarray(data)
    dims = (*(f"trace{i or ''}" for i in range(data.ndim - 1)), "time")
    time = ("time", step * np.arange(data.shape[-1]), {"units": "s"})
    return xr.Dataset({"fid": (dims, data)}, {"time": time})


def _bruker(path: Path, glue: Any) -> xr.Dataset:
    parameters, data = glue.bruker.read(str(path))
    acqus = parameters["acqus"]
    # Blocks on the disk are filled up with zeros.
    count = int(acqus["TD"]) // (2 if np.iscomplexobj(data) else 1)
    data = data[..., :count]
    # Of an analog filter there is nothing to remove.
    if float(acqus.get("GRPDLY", 0)) > 0 or int(acqus.get("DSPFVS", 0)) >= 10:
        data = glue.bruker.remove_digital_filter(parameters, data)
    return _fid(data, 1.0 / float(acqus["SW_h"]))


def _varian(path: Path, glue: Any) -> xr.Dataset:
    parameters, data = glue.varian.read(str(path))
    return _fid(data, 1.0 / float(parameters["procpar"]["sw"]["values"][0]))


def _pipe(path: Path, glue: Any) -> xr.Dataset:
    parameters, data = glue.pipe.read(str(path))
    unit = glue.pipe.make_uc(parameters, data)
    return xr.Dataset({"fid": ("time", np.asarray(data)), "time": ("time", unit.sec_scale())})


def _epr(path: Path, eprpy: Any) -> xr.Dataset:
    found = eprpy.load(str(path))
    data, axes = (
        np.asarray(found.data),
        [np.asarray(axis, float) for axis in found.dims if axis is not None],
    )
    units = str(found.acq_param.get("XUNI", "")).strip("' ")
    # The first axis of eprpy is the outer one.
    names = ["field"] if data.ndim == 1 else ["second", "field"]
    sizes = {axis.size: axis for axis in axes}
    coords = {
        name: (name, sizes[n], {"units": units} if name == "field" else {})
        for name, n in zip(names, data.shape, strict=True)
        if n in sizes
    }
    return xr.Dataset({"signal": (tuple(names), data)}, coords)


# ---------------------------------------------------------------- spectra


def _jcamp(path: Path, jcamp: Any) -> xr.Dataset:
    # What it finds wrong it prints.
    with contextlib.redirect_stdout(io.StringIO()) as said:
        found = jcamp.readfile(str(path))
    if "x" not in found:
        found = next(iter(found.get("children", [])), found)
    x, y = (np.asarray(found.get(key, ()), float) for key in ("x", "y"))
    if not x.size or x.size != y.size:
        reason = (said.getvalue().strip().splitlines() or ["it holds no spectrum"])[-1]
        raise ValueError(reason)
    units = [str(found.get(key, "")).strip() for key in ("xunits", "yunits")]
    return xr.Dataset({"y": ("x", y, {"units": units[1]})}, {"x": ("x", x, {"units": units[0]})})


def _opus(path: Path, brukeropus: Any) -> xr.Dataset:
    found = brukeropus.read_opus(str(path))
    arrays: dict[str, Any] = {}

    def rank(key: str) -> int:
        # Absorbance and what else was made of them, then the spectra themselves, interferograms and phases last.
        return 3 if key.startswith(("ig", "ph")) else {"sm": 1, "rf": 2}.get(key, 0)

    for key in sorted(found.data_keys, key=rank):
        data = getattr(found, key)
        x, y = np.asarray(data.x, float), np.asarray(data.y, float)
        arrays[f"{key}_x"] = (f"{key}_axis", x[: y.size])
        arrays[key] = (f"{key}_axis", y[: x.size])
    return xr.Dataset(arrays)


# ---------------------------------------------------------------- photons and images


def _sdt(path: Path, sdtfile: Any) -> xr.Dataset:
    file = sdtfile.SdtFile(str(path))
    arrays: dict[str, Any] = {}
    for i, (data, times) in enumerate(zip(file.data, file.times, strict=True)):
        number = "" if i == 0 else str(i + 1)
        time = f"time{number}"
        dims = (*(f"axis{number}_{j}" for j in range(np.ndim(data) - 1)), time)
        arrays[f"counts{number}"] = (dims, np.asarray(data))
        arrays[time] = (time, np.asarray(times), {"units": "s"})
    return xr.Dataset(arrays)


def _ptu(path: Path, ptufile: Any) -> xr.Dataset:
    with ptufile.PtuFile(str(path)) as file:
        data, dims, coords = file.decode_image(), "".join(file.dims), dict(file.coords)
    names = {"T": "frame", "Y": "row", "X": "column", "C": "channel", "H": "time"}
    axes = [names.get(d, d) for d in dims]
    known = {names.get(d, d): (names.get(d, d), np.asarray(v)) for d, v in coords.items()}
    known = {k: v for k, v in known.items() if k in axes}
    if "time" in known:
        known["time"] = (*known["time"], {"units": "s"})
    return xr.Dataset({"counts": (axes, np.asarray(data))}, known)


def _nifti(path: Path, nibabel: Any) -> xr.Dataset:
    image = nibabel.load(str(path))
    shape, header = image.shape, image.header
    refuse_large(path, "signal", int(np.prod(shape, dtype=float)) * 8)
    names = ["x", "y", "z", "time", *(f"axis{i}" for i in range(4, 7))][: len(shape)]
    coords = {}
    if len(shape) > 3:
        unit = header.get_xyzt_units()[1]
        step = float(header.get_zooms()[3])
        coords["time"] = (
            "time",
            step * np.arange(shape[3]),
            {"units": {"sec": "s", "msec": "ms"}.get(unit, "")},
        )
    return xr.Dataset({"signal": (names, np.asarray(image.dataobj))}, coords)


def _walk_wdf(path: Path) -> None:
    """Follow the blocks of a Renishaw file once: of a damaged one its reader never finds the end.

    **Raises:** `ValueError` for a block without a size.
    """
    end, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 16 <= end:
            file.seek(place)
            _, _, size = struct.unpack("<4sIQ", file.read(16))
            if size < 16:
                raise ValueError(f"a block at byte {place} has no size")
            place += size
    if place != end:
        raise ValueError("it ends within a block")


def _rosetta(path: Path, rsciio: Any) -> xr.Dataset:
    ending = path.suffix[1:].lower()
    if ending == "wdf":
        _walk_wdf(path)
    plugin = next(
        p for p in rsciio.IO_PLUGINS if ending in [e.lower() for e in p["file_extensions"]]
    )
    signals = importlib.import_module(plugin["api"]).file_reader(str(path))
    arrays: dict[str, Any] = {}
    for i, signal in enumerate(signals):
        number, dims = "" if i == 0 else str(i + 1), []
        data = np.asarray(signal["data"])
        for j, axis in enumerate(
            sorted(signal["axes"], key=lambda a: a.get("index_in_array", 0) or 0)
        ):
            name = f"{axis.get('name') or f'axis{j}'}{number}".replace(" ", "_")
            values = axis.get("axis")
            if values is None:
                values = axis.get("offset", 0.0) + axis.get("scale", 1.0) * np.arange(axis["size"])
            arrays[name] = (
                name,
                np.asarray(values, float),
                {"units": str(axis.get("units") or "")},
            )
            dims.append(name)
        arrays[f"signal{number}"] = (dims, data)
    return xr.Dataset(arrays)


_READ: dict[str, Callable[[Path, Any], xr.Dataset]] = {
    "bruker": _bruker,
    "varian": _varian,
    "pipe": _pipe,
    "epr": _epr,
    "jcamp": _jcamp,
    "opus": _opus,
    "sdt": _sdt,
    "ptu": _ptu,
    "nifti": _nifti,
    "rosetta": _rosetta,
}
