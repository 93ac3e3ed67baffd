"""What is in an HDF5 file, by its headers: no number is read, and none of another file.

HDF5 can keep an array in any other file: external storage, virtual data sets, external links. So a
file of somebody's could show a secret of yours as data.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from varpro import InputError

from ..config.document import in_one_line
from ..regular_files import refuse_large

# Objects of a file: what nobody makes by hand.
_MOST = 100_000


def look(path: Path) -> dict[str, tuple[tuple[int, ...] | None, np.dtype]]:
    """Shape and type of every array, by its name in the file; the shape of an empty one is None.

    **Raises:** `InputError` where the file refers to others.
    """
    found: dict[str, tuple[tuple[int, ...] | None, np.dtype]] = {}
    with h5py.File(path, "r") as file:
        seen = {_address(file)}
        # A stack, as groups can be nested deeper than calls may be.
        waiting: list[tuple[str, Any]] = [("", file)]
        while waiting:
            name, item = waiting.pop()
            if isinstance(item, h5py.Group):
                inside = [(f"{name}/{key}".lstrip("/"), key) for key in item]
                for below, key in sorted(inside, reverse=True):
                    link = item.get(key, getlink=True)
                    if isinstance(link, h5py.ExternalLink):
                        raise _elsewhere(path, below, link.filename)
                    if isinstance(link, h5py.SoftLink):
                        continue  # to somewhere else in this file, where it is found
                    child = item[key]
                    if isinstance(child, h5py.Group):
                        if _address(child) in seen:
                            continue
                        seen.add(_address(child))
                    waiting.append((below, child))
                if len(seen) + len(waiting) + len(found) > _MOST:
                    raise InputError(f"{path}: data: more than {_MOST} arrays and groups.")
            elif isinstance(item, h5py.Dataset):
                if item.external:
                    raise _elsewhere(path, name, item.external[0][0])
                if item.is_virtual:
                    sources = [source.file_name for source in item.virtual_sources()]
                    raise _elsewhere(path, name, next((s for s in sources if s != "."), "itself"))
                found[name] = (item.shape, item.dtype)
    return found


def refuse_large_positions(path: Path) -> None:
    """Look at a file before a library opens it that reads vectors, positions along axes, at once."""
    for name, (shape, dtype) in look(path).items():
        if shape is not None and len(shape) == 1:
            refuse_large(path, name, shape[0] * dtype.itemsize)


def in_words(dtype: np.dtype) -> str | None:
    """What objects of HDF5 are, as numpy does not know them; None for what it knows."""
    if h5py.check_string_dtype(dtype) is not None:
        return "text"
    if h5py.check_vlen_dtype(dtype) is not None:
        return "rows of different lengths"
    return "references to other parts of the file" if dtype.kind == "O" else None


def _address(item: Any) -> int:
    return h5py.h5o.get_info(item.id).addr  # pyright: ignore[reportAttributeAccessIssue]


def _elsewhere(path: Path, name: str, other: str) -> InputError:
    return InputError(
        f"{path}: data: '{in_one_line(name)}' is kept in another file ('{in_one_line(other)}'), and no file is read that the "
        "configuration does not name. Copy the numbers into one file."
    )
