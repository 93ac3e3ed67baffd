"""What is in a Zarr folder, by its metadata, before a library opens it.

Metadata name the codecs that unpack the numbers; one of them unpickles, which runs code, and others
are looked up among installed packages. Links in the folder could show other files as data.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from varpro import InputError

from ..regular_files import read_whole, refuse_large

_METADATA = (".zarray", "zarr.json")
_MAX_METADATA = 10_000_000
# Codecs that turn bytes into bytes or numbers, and nothing else.
_CODECS = {
    *("blosc", "zlib", "gzip", "zstd", "lz4", "lzma", "bz2", "shuffle", "bytes", "transpose"),
    *("delta", "fixedscaleoffset", "quantize", "packbits", "astype", "bitround", "endian"),
    *("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3", "sharding_indexed"),
    *("vlen-utf8", "vlen-bytes", "fixed_length_utf32", "scale_offset", "cast_value"),
}


def look(path: Path) -> None:
    """Refuse what is no folder of numbers alone.

    **Raises:** `InputError` for links and pipes in it, for codecs that are not varpro's to trust, and
    for vectors, which are read at once, that are too large.
    """
    root, folders = os.path.realpath(path), [str(path)]
    while folders:
        folder = folders.pop()
        for entry in os.scandir(folder):
            if entry.is_symlink() and not _within(root, entry):
                raise InputError(f"{entry.path}: data: is a link that leads out of the folder.")
            if entry.is_dir():
                folders.append(entry.path)
            elif not entry.is_file():
                raise InputError(f"{entry.path}: data: is neither a file nor a folder.")
            elif entry.name in _METADATA:
                text = read_whole(entry.path, "data", _MAX_METADATA)
                _look_at(path, os.path.relpath(folder, path), json.loads(text))


def _look_at(path: Path, name: str, metadata: Any) -> None:
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: data: the metadata of '{name}' are none.")
    for codec in _codecs(metadata):
        if codec.removeprefix("numcodecs.") not in _CODECS:
            raise InputError(
                f"{path}: data: '{name}' is packed with '{codec}', which is not read: only codecs "
                "that make numbers of bytes are."
            )
    shape = metadata.get("shape")
    if isinstance(shape, list) and len(shape) == 1:
        refuse_large(path, name, math.prod(map(int, shape)) * _itemsize(metadata))


def _itemsize(metadata: dict[str, Any]) -> int:
    try:
        return np.dtype(metadata.get("dtype") or metadata.get("data_type")).itemsize
    except (TypeError, ValueError):
        return 8


def _codecs(node: Any, inside: bool = False) -> Iterator[str]:
    """The names of all codecs, also of those within others."""
    if isinstance(node, list):
        for item in node:
            yield from _codecs(item, inside)
    elif inside and isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        if inside:
            yield str(node.get("id", node.get("name")))
        for key, value in node.items():
            if key in ("codecs", "index_codecs", "filters", "compressor", "compressors"):
                yield from _codecs(value, True)
            elif key in ("configuration", "object_codec_id"):
                yield from _codecs(value, key == "object_codec_id")


def _within(root: str, entry: os.DirEntry[str]) -> bool:
    """Whether a link leads to a file of the same folder."""
    return entry.is_file() and os.path.realpath(entry.path).startswith(root + os.sep)
