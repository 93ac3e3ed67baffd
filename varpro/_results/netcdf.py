"""Named arrays on named axes, and their NetCDF file, with h5netcdf alone: xarray and pandas, which read
it, take as long to import as JAX does.

Conventions are those by which xarray decodes a file: coordinates are listed in attributes, truth
values are bytes that say so, and texts are of any length.
"""

import contextlib
import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._errors import InputError, needed

Axes = str | tuple[str, ...]


class Contents(NamedTuple):
    """What `xarray.Dataset(*contents)` takes: `(axes, array)` or `(axes, array, attributes)` by name,
    coordinates alike, and attributes of the whole."""

    variables: dict[str, Any]
    coords: dict[str, Any]
    attrs: dict[str, Any]

    def to_xarray(self) -> Any:
        """These contents as an `xarray.Dataset`.

        **Raises:** `InputError` if xarray is not installed.
        """
        return needed("xarray", "A dataset").Dataset(*self)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a NetCDF file, which appears whole or not at all.

        Complex numbers become pairs on a last axis, and arrays of no length are left out.

        **Raises:** `InputError` if it cannot be written.
        """
        h5netcdf, h5py = needed("h5netcdf", "write"), needed("h5py", "write")
        path = Path(path)
        # HDF5 that meets a full disk can take the process along, so it writes into memory.
        image = io.BytesIO()
        with h5netcdf.File(image, "w") as file:
            self._into(file, h5py.string_dtype())
        temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(image.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: cannot be written ({reason}).") from error
        finally:
            with contextlib.suppress(OSError, ValueError):
                temporary.unlink(missing_ok=True)

    def _into(self, file: Any, text: Any) -> None:
        stored = {
            **{name: _stored(name, value) for name, value in self.coords.items()},
            **{name: _stored(name, value) for name, value in self.variables.items()},
        }
        stored = {name: entry for name, entry in stored.items() if entry[1].size}
        sizes: dict[str, int] = {}
        for axes, array, _ in stored.values():
            sizes |= dict(zip(axes, array.shape, strict=True))
        file.dimensions = sizes
        # A coordinate that is not called after its axis is named where it belongs.
        auxiliary = {name for name in self.coords if name in stored and stored[name][0] != (name,)}
        named: set[str] = set()
        for name, (axes, array, attrs) in stored.items():
            kind = text if array.dtype.kind in "OUS" else array.dtype
            data = array.astype(object) if array.dtype.kind in "US" else array
            variable = file.create_variable(name, axes, dtype=kind, data=data)
            coordinates = [
                c for c in sorted(auxiliary) if set(stored[c][0]) <= set(axes) and c != name
            ]
            if coordinates and name not in self.coords:
                named |= set(coordinates)
                attrs = attrs | {"coordinates": " ".join(coordinates)}
            for key, value in attrs.items():
                variable.attrs[key] = value
        for key, value in self.attrs.items():
            file.attrs[key] = value
        if auxiliary - named:
            file.attrs["coordinates"] = " ".join(sorted(auxiliary - named))


def _stored(name: str, value: Any) -> tuple[tuple[str, ...], np.ndarray, dict[str, Any]]:
    """Axes, array and attributes, as a file of NetCDF can have them."""
    if isinstance(value, tuple):
        axes, array, *attributes = value
    else:
        axes, array, attributes = name, value, []
    axes = (axes,) if isinstance(axes, str) else tuple(axes)
    array, attrs = np.asarray(array), dict(attributes[0]) if attributes else {}
    if array.dtype.kind == "c":
        array = np.stack([np.real(array), np.imag(array)], axis=-1)
        return (*axes, "complex"), array, attrs | {"complex": "real and imaginary part"}
    if array.dtype.kind in "mM":
        since = "nanoseconds since 1970-01-01" if array.dtype.kind == "M" else "nanoseconds"
        array = array.astype(f"{array.dtype.kind}8[ns]").astype(np.int64)
        return axes, array, attrs | {"units": since}
    if array.dtype.kind == "b":
        return axes, array.astype(np.int8), attrs | {"dtype": "bool"}
    return axes, array, attrs


def texts(words: Any) -> np.ndarray:
    return np.array(list(words), dtype=object)
