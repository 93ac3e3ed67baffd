"""The page of the formats of files, made of the tables by which they are read."""

from ..data.instruments import FORMATS

# What varpro reads with what it depends on, or with an extra, by what it is known; and the files of tests.
_OWN = (
    (
        "tables of text",
        "any other ending",
        "",
        "files written by the tests, with all that may stand around a table",
    ),
    (
        "workbooks (XLSX, XLSM, XLSB, XLS, ODS)",
        "ending and first bytes",
        "xlsx",
        "an XLSX file written by openpyxl",
    ),
    ("NPZ, NPY", "ending", "", "files written by NumPy"),
    ("NetCDF (3 and 4)", "ending", "", "files written by xarray"),
    ("HDF5", "ending", "", "files written by h5py"),
    ("MAT (5 and 7.3)", "ending", "", "files written by SciPy"),
    ("Zarr", "ending", "scale", "folders written by xarray"),
    ("TIFF", "ending", "scale", "files written by tifffile"),
    ("Time explicit, Wavelength explicit", "first lines", "", "files written by the tests"),
)


def formats_page() -> str:
    """The page as Markdown."""
    lines = [
        "# Formats of files",
        "",
        "What an extra is named for needs `pip install 'varpro[EXTRA]'`; `varpro[formats]` installs all that read",
        "instruments. A file is known by its first bytes where the format has some, whatever it is called. Another",
        "package adds a format by an entry point of the group `varpro.readers`, named after the ending.",
        "",
        "| format | known by | extra, and what reads it | tested on |",
        "|---|---|---|---|",
    ]
    for name, known, extra, tested in _OWN:
        lines.append(f"| {name} | {known} | {f'`{extra}`' if extra else ''} | {tested} |")
    for one in FORMATS:
        name = one.name.removeprefix("a ")
        endings = ", ".join(f"`{ending}`" for ending in one.endings)
        known = f"what is in it{f' ({endings})' if endings else ''}"
        reader = f"`{one.extra}`: {one.package}" if one.package else "none"
        lines.append(f"| {name} | {known} | {reader} | {one.tested} |")
    lines += [
        "",
        "RosettaSciIO is under the GPL; name the extras one by one where that matters.",
        "Of NMR the digital filter of Bruker is removed, and time is in seconds; of NIfTI the fourth axis is `time`.",
    ]
    return "\n".join(lines) + "\n"
