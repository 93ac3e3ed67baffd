"""Which format a data file has, without importing what reads it: that takes as long as a small fit."""

import importlib.metadata
from pathlib import Path

from ..regular_files import is_regular
from .instruments import format_of

# Endings that `formats` and `cube` read.
OURS = (
    *("cdf", "h5", "hdf", "hdf5", "mat", "nc", "nc4", "netcdf", "npy", "npz", "tif", "tiff"),
    "zarr",
)
# Those of which a folder is one.
FOLDERS = ("zarr",)
# Packages name further ones, and what reads them, in this group of entry points.
GROUP = "varpro.readers"
# Lines by which the text format of the global-analysis community is known.
EXPLICIT = ("time explicit", "wavelength explicit")
_HEAD = 4096


def is_table(path: Path) -> bool:
    """Whether a file is to be read as a table of text: no known format, and no folder."""
    extension = ending(path)
    if path.is_dir() or extension in OURS or is_explicit(path):
        return False
    if format_of(path) is not None:
        return False
    return extension not in {entry.name.lower() for entry in plugins()}


def is_explicit(path: Path) -> bool:
    """Whether a file starts as "Time explicit" or "Wavelength explicit" ones do."""
    if not is_regular(path):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return False
    return any(line.strip().lower() in EXPLICIT for line in head.splitlines()[:6])


def may_be_data(path: Path) -> bool:
    """Whether a path is a file, or a folder of a format that has such: no other folder is looked through."""
    formats = {*FOLDERS, *(entry.name.lower() for entry in plugins())}
    return not path.is_dir() or ending(path) in formats or format_of(path) is not None


def ending(path: Path) -> str:
    return path.suffix.removeprefix(".").lower()


def plugins() -> importlib.metadata.EntryPoints:
    """Readers of installed packages, named after endings of files."""
    return importlib.metadata.entry_points(group=GROUP)
