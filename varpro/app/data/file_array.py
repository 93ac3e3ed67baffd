"""An array in a file, of which parts are read without mapping it into memory.

A mapped file that another process truncates ends this one with a signal (SIGBUS), which nothing can
catch; a read that comes back short is an error like any other.
"""

import dataclasses
import io
import math
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..regular_files import refuse_large

# Bytes of an array of numpy in which its type and shape are told.
_HEAD = 2**16


@dataclasses.dataclass(frozen=True)
class FileArray:
    """Numbers that lie in one piece in a file, from byte `offset` on."""

    path: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    # Whether the first axis is the fastest.
    fortran: bool = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        """The part that an index of numbers, slices and arrays names, read box by box."""
        parts = list(index) if isinstance(index, tuple) else [index]
        if Ellipsis in [p for p in parts if not isinstance(p, np.ndarray)]:
            at = next(i for i, p in enumerate(parts) if p is Ellipsis)
            parts[at : at + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        parts += [slice(None)] * (self.ndim - len(parts))
        if self.fortran:
            other = dataclasses.replace(self, shape=self.shape[::-1], fortran=False)
            return other[tuple(reversed(parts))].T
        box, rest = [], []
        for part, size in zip(parts, self.shape, strict=True):
            if isinstance(part, slice) and part.step in (None, 1):
                first, last, _ = part.indices(size)
                box.append((first, max(first, last)))
                rest.append(slice(None))
                continue
            # Whatever else is chosen is chosen from the smallest box that holds it.
            chosen = np.arange(size)[part]
            first = int(chosen.min()) if chosen.size else 0
            box.append((first, int(chosen.max()) + 1 if chosen.size else 0))
            rest.append(chosen - first)
        sizes = [last - first for first, last in box]
        refuse_large(self.path, "data", math.prod(sizes) * self.dtype.itemsize)
        found = np.empty(sizes, self.dtype)
        if found.size:
            with self.path.open("rb") as file:
                self._read(file, self.offset, 0, box, found)
        return found[tuple(rest)]

    def _read(
        self, file: Any, offset: int, axis: int, box: list[tuple[int, int]], into: np.ndarray
    ) -> None:
        stride = self.dtype.itemsize * math.prod(self.shape[axis + 1 :])
        (first, last) = box[axis] if box else (0, 1)
        whole = all(
            b == (0, n) for b, n in zip(box[axis + 1 :], self.shape[axis + 1 :], strict=True)
        )
        if whole:
            file.seek(offset + first * stride)
            count = into.nbytes
            # `into` is a view of an array of its own, so it has no gaps here.
            if file.readinto(into.reshape(-1).view(np.uint8)) != count:
                raise OSError(f"the file ends within the array {self.shape} of {self.dtype}")
            return
        for i in range(first, last):
            self._read(file, offset + i * stride, axis + 1, box, into[i - first])


def head_of_npy(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether the first axis is the fastest, type, and where the numbers begin, of what stands
    in a stream, of which no more than a head is read.

    **Raises:** `ValueError` for what is no array of numpy, or one of objects.
    """
    head = io.BytesIO(stream.read(_HEAD))
    version = np.lib.format.read_magic(head)
    old = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(head)
    if dtype.hasobject:
        raise ValueError("it holds objects, not numbers")
    if any(n < 0 for n in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, fortran, dtype, head.tell()


def npy_array(path: Path) -> FileArray:
    """The array of a `.npy` file.

    **Raises:** `ValueError` for what is no such file, or holds objects.
    """
    with path.open("rb") as file:
        shape, fortran, dtype, offset = head_of_npy(file)
    size = path.stat().st_size - offset
    if size < dtype.itemsize * math.prod(shape):
        raise ValueError(f"{size} bytes of numbers where {shape} of {dtype} were announced")
    return FileArray(path, offset, dtype, shape, fortran)
