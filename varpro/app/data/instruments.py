"""Formats of instruments, each read by a package that others keep well, and known by its first bytes.

`FORMATS` is the one table: the docs list it, `varpro info` says what is installed, and a file of a format
whose package is missing is refused with the name of both. Nothing that reads is imported here.
"""

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

from ..regular_files import is_regular

_HEAD = 512


@dataclasses.dataclass(frozen=True)
class Format:
    """A format: a key, its name in a sentence, the endings of its files, how its first bytes (or its folder)
    are known, the package that reads it and the extra of varpro that installs that, and what it was tested
    on. Without a package it is known and refused."""

    key: str
    name: str
    endings: tuple[str, ...]
    known: Callable[[Path, bytes], bool]
    package: str
    extra: str
    tested: str


def format_of(path: Path) -> Format | None:
    """The format of a file or folder by what is in it; None for any other."""
    head = b""
    if is_regular(path):
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except OSError:
            return None
    elif not path.is_dir():
        return None
    return next((one for one in FORMATS if one.known(path, head)), None)


def _is_pipe(path: Path, head: bytes) -> bool:
    # Its third number tells the order of bytes, and nothing else has it there.
    return len(head) >= 12 and 2.345 in (
        round(struct.unpack("<f", head[8:12])[0], 4),
        round(struct.unpack(">f", head[8:12])[0], 4),
    )


def _is_epr(path: Path, head: bytes) -> bool:
    if path.suffix.lower() != ".dta":
        return False
    return any(path.with_suffix(ending).is_file() for ending in (".DSC", ".dsc"))


def _is_nifti(path: Path, head: bytes) -> bool:
    if path.name.lower().endswith(".nii.gz"):
        return head[:2] == b"\x1f\x8b"
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


# Endings of RosettaSciIO that are not another format of ours, with first bytes where they have some.
_ROSETTA = {
    "wdf": b"WDF1",
    "img": b"IM",
    "dm3": b"\0\0\0\3",
    "dm4": b"\0\0\0\4",
    "emi": b"JK",
    "ser": b"II",
    "msa": b"#FORMAT",
    "ems": b"#FORMAT",
    "tvf": b"<XmlMain",
    "sur": b"DIGITAL SURF",
    "pro": b"DIGITAL SURF",
    "blo": b"IMGBLO",
    # These are XML, and known by their first tag.
    "xml": b"<LSX_Data>",
    "spx": b"<TRTSpectrum>",
}


def _is_rosetta(path: Path, head: bytes) -> bool:
    begins = _ROSETTA.get(path.suffix[1:].lower())
    if begins is None or not path.is_file():
        return False
    if begins.startswith(b"<"):
        return begins in head
    return head.lstrip().startswith(begins)


def _begins(*words: bytes) -> Callable[[Path, bytes], bool]:
    return lambda path, head: head.startswith(words)


def _is_spc(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".spc" and head[1:2] in (b"\x4b", b"\x4c", b"\x4d")


FORMATS: tuple[Format, ...] = (
    Format(
        "bruker",
        "a folder of Bruker NMR data",
        (),
        lambda path, head: path.is_dir() and (path / "acqus").is_file(),
        "nmrglue",
        "nmr",
        "a folder made by hand, by its description",
    ),
    Format(
        "varian",
        "a folder of Varian NMR data",
        (".fid",),
        lambda path, head: path.is_dir() and (path / "procpar").is_file(),
        "nmrglue",
        "nmr",
        "a folder written by nmrglue",
    ),
    Format(
        "pipe",
        "NMRPipe data",
        (".fid", ".ft"),
        _is_pipe,
        "nmrglue",
        "nmr",
        "a file written by nmrglue",
    ),
    Format(
        "epr",
        "Bruker EPR data (BES3T)",
        (".DTA",),
        _is_epr,
        "eprpy",
        "epr",
        "a pair made by hand, by its description",
    ),
    Format(
        "jcamp",
        "JCAMP-DX",
        (".jdx", ".dx"),
        _begins(b"##TITLE", b"##title"),
        "jcamp",
        "jcamp",
        "files made by hand, by the published format",
    ),
    Format(
        "opus",
        "a Bruker OPUS file",
        (".0",),
        _begins(b"\x0a\x0a\xfe\xfe"),
        "brukeropus",
        "opus",
        "its first bytes alone",
    ),
    Format("spc", "a GRAMS SPC file", (".spc",), _is_spc, "", "", "its first bytes; it is refused"),
    Format(
        "sdt",
        "a Becker & Hickl SDT file",
        (".sdt",),
        lambda path, head: head[32:34] == b"UU" or path.suffix.lower() == ".sdt",
        "sdtfile",
        "flim",
        "its first bytes alone",
    ),
    Format(
        "ptu",
        "a PicoQuant PTU file",
        (".ptu",),
        lambda path, head: head.startswith(b"PQTTTR") or path.suffix.lower() == ".ptu",
        "ptufile",
        "flim",
        "an image written by ptufile",
    ),
    Format(
        "nifti",
        "a NIfTI image",
        (".nii", ".nii.gz"),
        _is_nifti,
        "nibabel",
        "nifti",
        "an image written by nibabel",
    ),
    Format(
        "rosetta",
        "a file of a microscope or spectrometer",
        tuple(f".{ending}" for ending in _ROSETTA),
        _is_rosetta,
        "rsciio",
        "rosetta",
        "an MSA spectrum written by RosettaSciIO",
    ),
)
