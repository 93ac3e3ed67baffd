"""Arrays of a file that are known by shape and type, and read when somebody wants their numbers."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from varpro import InputError

from ..config.document import in_one_line
from ..regular_files import refuse_large

# Types of numbers, by their letters in numpy.
NUMBERS = "iufcb"


class LazyArray(BackendArray):
    """An array in a file. `read(index)` reads a part, `index` a tuple of numbers and slices."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, read: Callable[[Any], np.ndarray]):
        self.shape, self.dtype, self._read = tuple(shape), np.dtype(dtype), read

    @classmethod
    def whole(
        cls,
        path: Path,
        name: str,
        shape: tuple[int, ...],
        dtype: Any,
        read: Callable[[], np.ndarray],
    ) -> "LazyArray":
        """An array of which no part can be read alone: `read()` reads it, once, if it may be so large."""
        kept: list[np.ndarray] = []
        size = math.prod(shape) * np.dtype(dtype).itemsize

        def part(index: Any) -> np.ndarray:
            if not kept:
                refuse_large(path, name, size)
                kept.append(read())
            return kept[0][index]

        return cls(shape, dtype, part)

    @property
    def T(self) -> "LazyArray":
        """This array with its axes in reverse."""

        def part(index: Any) -> np.ndarray:
            return self._read(tuple(reversed(index))).T

        return LazyArray(self.shape[::-1], self.dtype, part)

    def flat(self) -> "LazyArray":
        """A matrix of one row or one column as a vector."""
        along = int(np.argmax(self.shape))

        def part(index: Any) -> np.ndarray:
            inside: list[Any] = [0, 0]
            inside[along] = index[0]
            return self._read(tuple(inside))

        return LazyArray((max(self.shape),), self.dtype, part)

    def __getitem__(self, key: Any) -> np.ndarray:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )


# Where a dataset keeps what else its file holds, by name: "text", "one value".
OTHERS = "varpro_others"


def named(arrays: dict[str, LazyArray], others: Mapping[str, str] | None = None) -> xr.Dataset:
    """Arrays without named axes: axes of one length are taken to be the same one if a vector has
    that length, and are called after it. `others`: what is there and no such array, in words."""
    vectors: dict[int, str] = {}
    for name, array in arrays.items():
        if len(array.shape) == 1:
            vectors.setdefault(array.shape[0], name)
    variables: dict[str, Any] = {}
    for name, array in arrays.items():
        dims: list[str] = []
        for i, size in enumerate(array.shape):
            axis = f"{vectors[size]}_axis" if size in vectors else f"{name}_{i}"
            axis = axis if axis not in dims else f"{name}_{i}"
            # An array that is called after its axis would be read at once, for an index.
            dims.append(axis if axis not in arrays else f"{axis}_")
        variables[name] = (tuple(dims), indexing.LazilyIndexedArray(array))
    return xr.Dataset(variables, attrs={OTHERS: dict(others or {})})


def in_words(shape: tuple[int, ...] | None, dtype: np.dtype) -> str:
    """Why an array of a file is none of numbers along an axis."""
    if dtype.kind in "SUT":
        return "text"
    if dtype.kind in NUMBERS and not shape:
        return "one value, without an axis" if shape == () else "nothing"
    if dtype.names:
        return f"records of {', '.join(dtype.names[:6])}; write each as an array of its own"
    return {"M": "dates", "m": "spans of time"}.get(dtype.kind, f"{dtype}, no numbers")


def values_of(dataset: xr.Dataset, name: str, path: Path) -> np.ndarray:
    """The numbers of an array, or of what is selected of it, if it may be so large."""
    variable = dataset[name]
    refuse_large(path, name, variable.size * variable.dtype.itemsize)
    with readable(path, name):
        return np.asarray(variable.values)


def reason_of(error: BaseException) -> str:
    """What a library says of a file, for a sentence; numpy advises to unpickle whatever it does not know."""
    reason = " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())
    return "it is no array of numbers" if "pickle" in reason else reason.rstrip(".")


@contextlib.contextmanager
def readable(path: Path, name: str) -> Iterator[None]:
    """Whatever a library makes of numbers that are damaged, or packed in a way that it does not know, is said.

    **Raises:** `InputError` naming file and array.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        reason = reason_of(error)
        advice = "Is the file whole?"
        if "filter" in reason or "plugin" in reason:
            advice = (
                "It is packed by a filter of HDF5 that is not installed; 'pip install hdf5plugin'."
            )
        raise InputError(
            f"{path}: data: '{in_one_line(name)}' cannot be read ({reason}). {advice}"
        ) from error
