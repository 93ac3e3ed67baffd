"""Files that are looked at before they are read: of what kind they are, and how large.

A device such as /dev/zero never ends, a pipe without a writer never begins, and a text takes many times
its size in memory. `os.stat` tells all of them apart without opening one.
"""

import contextlib
import difflib
import itertools
import os
import re
import stat
from pathlib import Path

from varpro import InputError

from .caller import MAX_BYTES, max_bytes

# A table of text takes about so many times its size while it is read.
_SPREAD = 32

_KINDS = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


_HDF5, _NETCDF = ("h5", "hdf5", "hdf"), ("nc", "nc4", "cdf", "netcdf")
_QUOTES = "\u201c\u201d\u201e\u2018\u2019'\""
# How files begin that are often given as others: what they are, and the endings for which that is right.
_BEGINNINGS: dict[bytes, tuple[str, tuple[str, ...]]] = {
    b"version https://git-lfs": (
        "a pointer of Git LFS, not the data; 'git lfs pull' gets them",
        (),
    ),
    b"\x1f\x8b": ("packed by gzip; unpack it first", ()),
    b"BZh91AY&SY": ("packed by bzip2; unpack it first", ()),
    b"\xfd7zXZ\0": ("packed by xz; unpack it first", ()),
    b"\x28\xb5\x2f\xfd": ("packed by zstd; unpack it first", ()),
    b"7z\xbc\xaf": ("packed by 7-Zip; unpack it first", ()),
    b"PK\x03\x04": ("an archive, as spreadsheets are; save the sheet as CSV", ("npz", "zarr")),
    b"\xd0\xcf\x11\xe0": ("a file of an office program; save the sheet as CSV", ()),
    b"%PDF-": ("a PDF", ()),
    b"SQLite format 3\0": ("a database; write a table of it as CSV", ()),
    b"PAR1\x15": ("a Parquet file; write it as CSV or NetCDF", ()),
    b"{\\rtf": ("a text with fonts; save it as plain text", ()),
    b"\x89PNG": ("a picture", ()),
    b"\xff\xd8\xff": ("a picture", ()),
    b"\x89HDF": ("an HDF5 file; its name must end in .h5, .nc or .mat", (*_HDF5, *_NETCDF, "mat")),
    b"CDF\1": ("a NetCDF file; its name must end in .nc", _NETCDF),
    b"CDF\2": ("a NetCDF file; its name must end in .nc", _NETCDF),
    b"\x93NUMPY": ("an array of numpy; its name must end in .npy", ("npy",)),
    b"MATLAB 5.0 MAT-file": ("a MAT file; its name must end in .mat", ("mat",)),
    b"MATLAB 7.3 MAT-file": ("a MAT file; its name must end in .mat", ("mat",)),
    b"II*\0": ("a TIFF file; its name must end in .tif", ("tif", "tiff")),
    b"MM\0*": ("a TIFF file; its name must end in .tif", ("tif", "tiff")),
    b"<!doctype html": ("a page of the web, not the data; its address may need a login", ()),
    b"<html": ("a page of the web, not the data; its address may need a login", ()),
}


def disguised(head: bytes, ending: str = "") -> str | None:
    """What a file is by its first bytes, where these are not what its ending (without the dot) promises."""
    text = head.lstrip()[:20].lower()
    for beginning, (what, right) in _BEGINNINGS.items():
        begins = head.startswith(beginning) or (
            beginning[:1] == b"<" and text.startswith(beginning)
        )
        if begins and ending not in right:
            return what
    return None


def instead(text: str, path: Path) -> str:
    """What may have been meant by a path at which nothing is, as the end of a message. `text`: as it was
    written; `path`: where that is."""
    if re.match(r"[a-z][a-z0-9+.-]+:/", text, re.IGNORECASE):
        return " Files are read from disk alone; download it first."
    if text.startswith("~"):
        return " '~' is not read as the home folder; write it out."
    slashes = path.parent / path.name.replace("\\", "/")
    if "\\" in text and slashes.exists():
        return f" Did you mean '{text.replace(chr(92), '/')}'?"
    if text.strip(_QUOTES) != text:
        return f" The quotation marks are part of the name; write '{text.strip(_QUOTES)}'."
    if not path.parent.is_dir():
        return f" There is no folder '{path.parent}'."
    with contextlib.suppress(OSError):
        names = itertools.islice((entry.name for entry in os.scandir(path.parent)), 10_000)
        alike = sorted(name for name in names if Path(name).suffix.lower() == path.suffix.lower())
        close = [name for name in alike if name.lower() == path.name.lower()]
        close = close or difflib.get_close_matches(path.name, alike, n=1, cutoff=0.75)
        if close:
            return f" Did you mean '{Path(text).with_name(close[0]).as_posix()}'?"
    return ""


def refuse_disguised(path: Path, ending: str) -> None:
    """Stop before a library is given what it cannot read, and says so in its own words.

    **Raises:** `InputError` that says what the file is.
    """
    with contextlib.suppress(OSError):  # a folder, or gone: others say so
        with path.open("rb") as file:
            other = disguised(file.read(64), ending)
        if other is not None:
            raise InputError(f"{path}: data: is {other}.")


def size_of(path: str | Path, what: str) -> int:
    """Bytes of a regular file, or one sentence on why it is none; `what` says what it is for."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        reason = f"no such file.{instead(str(path), Path(path))}"
    except PermissionError:
        reason = "no permission to read it."
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})."
    except UnicodeEncodeError as error:
        letter = error.object[error.start : error.start + 1]
        reason = f"paths of this system cannot have the letter '{letter}'. Set PYTHONUTF8=1 or LC_ALL=C.UTF-8."
    except ValueError as error:  # a zero byte in the path
        reason = f"cannot be read ({error})."
    else:
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        if stat.S_ISDIR(status.st_mode):
            reason = "is a folder, not a file."
        else:
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "nothing that lies on a disk")
            reason = f"is {kind}, not a file. Write what it gives into a file first."
    raise InputError(f"{path}: {what}: {reason}")


def is_regular(path: Path) -> bool:
    """Whether a path is a file, or a link to one, that may be opened and ends."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_whole(path: str | Path, what: str, most: int | None = None) -> bytes:
    """The content of a file of at most `most` bytes; by default what a table of text may have.

    **Raises:** `InputError` in one sentence where it cannot be had.
    """
    size, limit = size_of(path, what), max_bytes() // _SPREAD if most is None else most
    try:
        # It may have grown meanwhile, and files of /proc have no size.
        with Path(path).open("rb") as file:
            content = b"" if size > limit else file.read(limit + 1)
    except PermissionError:
        raise InputError(f"{path}: {what}: no permission to read it.") from None
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: {what}: cannot be read ({reason}).") from error
    if max(size, len(content)) > limit:
        raise InputError(
            f"{path}: {what}: {max(size, len(content))} bytes; at most {limit} are read."
            + (f" {larger(size * _SPREAD)}" if most is None else "")
        )
    return content


def refuse_large(path: str | Path, name: str, size: int) -> None:
    """Stop before an array is read that takes more memory than it may.

    **Raises:** `InputError` that says how to allow it.
    """
    if size > max_bytes():
        raise InputError(
            f"{path}: data: '{name}' would take {size} bytes; at most {max_bytes()} are read. "
            + larger(size)
        )


def larger(size: int) -> str:
    """How to allow so many bytes: the next round number."""
    digits = max(len(str(size)) - 1, 0)
    return f"If that is meant, set {MAX_BYTES}={size // 10**digits + 1}e{digits}."
