"""What reads the formats of instruments, a function for each: packages make arrays of the files, and these
name their axes."""

import contextlib
import importlib
import io
import logging
import shutil
import struct
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from varpro import InputError

from ..regular_files import is_regular, refuse_large
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
    found = _loaded_epr(path, eprpy)
    data, axes = (
        np.asarray(found.data),
        [np.asarray(axis, float) for axis in found.dims if axis is not None],
    )
    units = str(found.acq_param.get("XUNI", "")).strip("' ")
    # The first axis of eprpy is the outer one.
    first = str(found.acq_param.get("XNAM", "")).strip("' ").lower() or "x"
    first = "field" if "field" in first else "time" if "time" in first else first
    names = [first] if data.ndim == 1 else ["second", first]
    sizes = {axis.size: axis for axis in axes}
    coords = {
        name: (name, sizes[n], {"units": units} if name == first else {})
        for name, n in zip(names, data.shape, strict=True)
        if n in sizes
    }
    return xr.Dataset({"signal": (tuple(names), data)}, coords)


def _loaded_epr(path: Path, eprpy: Any) -> Any:
    """A pair of files, of which one that says not what x is is read as if it did."""
    try:
        return eprpy.load(str(path))
    except KeyError:
        described = next(
            path.with_suffix(e) for e in (".DSC", ".dsc") if path.with_suffix(e).is_file()
        )
        text = described.read_text(encoding="latin-1")
        known = {line.split(None, 1)[0] for line in text.splitlines() if line.strip()}
        missing = "".join(f"{key}\t''\n" for key in ("XNAM", "XUNI") if key not in known)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            shutil.copyfile(path, copy)
            head, mark, rest = text.partition("XPTS")
            copy.with_suffix(".DSC").write_text(head + missing + mark + rest, encoding="latin-1")
            return eprpy.load(str(copy))


# ---------------------------------------------------------------- spectra


def _jcamp(path: Path, jcamp: Any) -> xr.Dataset:
    # What it finds wrong it prints.
    with contextlib.redirect_stdout(io.StringIO()) as said:
        found = jcamp.readfile(str(path))
        if str(found.get("data class", "")).upper() == "NTUPLES":
            return _pages_of_jcamp(path, jcamp)
    parts = [found, *found.get("children", [])]
    some = [part for part in parts if np.size(part.get("x", ()))]
    # Of several blocks the first spectrum, and a list of its peaks where there is no other.
    found = next((part for part in some if "peak table" not in part), [*some, found][0])
    x, y = (np.asarray(found.get(key, ()), float) for key in ("x", "y"))
    announced = found.get("npoints")
    if "peak table" not in found and x.size and announced not in (None, x.size):
        raise ValueError(f"it announces {announced} points and holds {x.size}")
    if not x.size or x.size != y.size:
        reason = (said.getvalue().strip().splitlines() or ["it holds no spectrum"])[-1]
        raise ValueError(reason)
    units = [str(found.get(key, "")).strip() for key in ("xunits", "yunits")]
    return xr.Dataset({"y": ("x", y, {"units": units[1]})}, {"x": ("x", x, {"units": units[0]})})


def _pages_of_jcamp(path: Path, jcamp: Any) -> xr.Dataset:
    """A table of pages, such as the parts of a free induction decay: each is read as a spectrum of its own."""
    heads: dict[str, list[str]] = {}
    pages: list[list[str]] = []
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("##"):
            key, _, value = line[2:].partition("=")
            key = key.strip().upper()
            if key == "DATA TABLE":
                pages.append([value])
            elif not key.startswith(("PAGE", "END")):
                heads[key] = [part.strip() for part in value.split("$$")[0].split(",")]
        elif pages and line.strip():
            pages[-1].append(line)
    symbols = heads["SYMBOL"]

    def of(key: str, symbol: str, default: str = "1") -> str:
        values = heads.get(key, [])
        return values[symbols.index(symbol)] if symbols.index(symbol) < len(values) else default

    parts: dict[str, np.ndarray] = {}
    x = np.zeros(0)
    for form, *body in pages:
        symbol = form.partition("++(")[2][:1]
        head = {f"{key}X": of(key, "X") for key in ("FIRST", "LAST", "FACTOR")}
        head = {"XFACTOR": head.pop("FACTORX"), **head, "YFACTOR": of("FACTOR", symbol)}
        head |= {"NPOINTS": of("VAR_DIM", symbol), "XYDATA": "(X++(Y..Y))"}
        found = jcamp.read([*(f"##{k}={v}\n" for k, v in head.items()), *body, "##END=\n"])
        x, parts[symbol] = np.asarray(found["x"], float), np.asarray(found["y"], float)
        if x.size != int(head["NPOINTS"]) or x.size != parts[symbol].size:
            raise ValueError(f"a page announces {head['NPOINTS']} points and holds {x.size}")
    if not parts:
        raise ValueError("it holds no spectrum")
    unit = of("UNITS", "X", "").lower()
    time = "time" in heads.get("VAR_NAME", [""])[0].lower() or unit.startswith("sec")
    if not time:
        return xr.Dataset({"y": ("x", [*parts.values()][0])}, {"x": ("x", x, {"units": unit})})
    data = parts["R"] + 1j * parts["I"] if {"R", "I"} <= parts.keys() else [*parts.values()][0]
    unit = "s" if unit.startswith("sec") else unit
    return xr.Dataset({"fid": ("time", data)}, {"time": ("time", x, {"units": unit})})


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
    if len(shape) > 3 and (strengths := _strengths(path, shape[3])) is not None:
        names[3] = "volume"
        coords["bval"] = ("volume", strengths, {"units": "s/mm2"})
    elif len(shape) > 3:
        unit = header.get_xyzt_units()[1]
        step = float(header.get_zooms()[3])
        coords["time"] = (
            "time",
            step * np.arange(shape[3]),
            {"units": {"sec": "s", "msec": "ms"}.get(unit, "")},
        )
    return xr.Dataset({"signal": (names, np.asarray(image.dataobj))}, coords)


def _strengths(path: Path, count: int) -> np.ndarray | None:
    """The strengths of diffusion gradients in a file of the same name that ends in .bval, one for each volume."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    beside = path.with_name(f"{stem}.bval")
    if not is_regular(beside) or beside.stat().st_size > 100 * (count + 1):
        return None
    values = np.array(beside.read_text(encoding="latin-1").split(), float)
    if values.size != count:
        raise ValueError(f"{beside.name} has {values.size} numbers for {count} volumes")
    return values


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


def _signals(path: Path, plugins: list[Any]) -> list[Any]:
    """What the first of some readers of RosettaSciIO finds that finds anything; what it logs is for programmers."""
    log, failed = logging.getLogger("rsciio"), None
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        for plugin in plugins:
            try:
                if found := importlib.import_module(plugin["api"]).file_reader(str(path)):
                    return found
            except Exception as error:  # of files of another kind with the same ending, any
                failed = failed or error
    finally:
        log.setLevel(level)
    if failed is not None:
        raise failed
    return []


def _rosetta(path: Path, rsciio: Any) -> xr.Dataset:
    ending = path.suffix[1:].lower()
    if ending == "wdf":
        _walk_wdf(path)
    plugins = [p for p in rsciio.IO_PLUGINS if ending in [e.lower() for e in p["file_extensions"]]]
    signals = _signals(path, plugins)
    arrays: dict[str, Any] = {}
    for i, signal in enumerate(signals):
        number, dims = "" if i == 0 else str(i + 1), []
        data = np.asarray(signal["data"])
        if data.dtype.kind not in "biufc":
            continue  # a picture in colours beside the spectra
        axes = sorted(signal["axes"], key=lambda a: a.get("index_in_array", 0) or 0)
        sizes = [np.size(axis["axis"]) if "axis" in axis else axis["size"] for axis in axes]
        if (*sizes,) != data.shape:
            axes = [axes[sizes.index(size)] for size in data.shape]
        for j, axis in enumerate(axes):
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
