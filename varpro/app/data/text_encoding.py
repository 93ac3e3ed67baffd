"""From the bytes of a text file to its lines: UTF-8, UTF-16 and UTF-32 with and without a mark, and what
instruments wrote before them.

What is not UTF-8 is read as Windows-1252, which holds Latin-1: the letters of headers, such as µ and °, are
most of what is not ASCII in tables of numbers. Statistical guessers need more text than a header has. Any
other encoding is named by its owner.
"""

import codecs
import json
import re
from pathlib import Path

from varpro import InputError

from ..regular_files import disguised, read_whole
from .instruments import FORMATS

# Marks by which a text says what it is; that of UTF-32 begins as that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OLD = "cp1252"
_MARKUP = (b"<?xml", b"<!doctype", b"<html")
# Zero bytes at the end of lines that are no reason to refuse a text.
_PADDING = 512
# Control characters that text files have: tab, line ends, form feed, and the end that CP/M wrote.
_HARMLESS = {9, 10, 11, 12, 13, 26}


def read_data_text(path: str | Path, encoding: str | None = None) -> tuple[str, str]:
    """The text of a data file, its line ends `\\n`, and how its encoding was decided; nothing for UTF-8.

    **Raises:** `InputError` with the place of the first byte that is no text.
    """
    raw = read_whole(path, "data")
    if (other := disguised(raw)) is not None:
        raise InputError(f"{path}: data: is {other}.")
    if raw.lstrip()[:1] in (b"{", b"[") and _is_json(raw):
        raise InputError(f"{path}: data: is JSON; write its columns as CSV.")
    if (marked := raw.lstrip(codecs.BOM_UTF8).lstrip()[:64].lower()).startswith(_MARKUP):
        what = "a page of HTML" if b"html" in marked else "XML"
        raise InputError(f"{path}: data: is {what}; export its numbers as text or CSV.")
    name, decided = (encoding, "") if encoding is not None else _encoding_of(raw)
    if encoding is None and "16" not in name and "32" not in name:
        _refuse_binary(path, raw)
    try:
        text = raw.decode(name)
    except (UnicodeDecodeError, UnicodeError) as error:
        start = getattr(error, "start", 0)
        line, column = _place(raw, start)
        hint = (
            "Is it the right one?"
            if encoding
            else "Name its encoding under data, or save it as UTF-8."
        )
        raise InputError(
            f"{path}:{line}:{column} data: byte 0x{raw[start] if raw else 0:02x} is not {name}. {hint}"
        ) from None
    if decided == _OLD:
        first = next(i for i, byte in enumerate(raw) if byte > 127)
        bad = next((i for i, byte in enumerate(raw) if byte < 32 and byte not in _HARMLESS), None)
        line, column = _place(raw, first if bad is None else bad)
        if bad is not None:
            raise InputError(
                f"{path}:{line}:{column} data: byte 0x{raw[bad]:02x} is no text; this is not a text file."
            )
        decided = f"encoding: {_OLD} (line {line} is not UTF-8)"
    if encoding is None and name[:6] in ("utf-16", "utf-32"):
        _refuse_binary(path, text.encode("utf-8", "replace"))
    text = text.lstrip("\ufeff").rstrip("\x1a")
    if "\0" in text and text.strip("\0").count("\0") <= _PADDING:
        # A name of fixed length is filled up with zeros by programs that print it whole.
        parts = re.split("\0{4,}", text)
        if not any("\0" in a for a in parts) and all(b[:1] in ("\r", "\n", "") for b in parts[1:]):
            line = text[: text.index("\0")].count("\n") + 1
            text, decided = (
                "".join(parts),
                decided or f"zero bytes at the end of line {line} are left out",
            )
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}:{line} data: a zero byte; this is not a text file.")
    return text.replace("\r\n", "\n").replace("\r", "\n"), decided


def _refuse_binary(path: str | Path, raw: bytes) -> None:
    """Tell numbers in binary from a text with a letter that is none, of which the place is told.

    **Raises:** `InputError` that says what is read.
    """
    controls = sum(raw.count(byte) for byte in range(32) if byte not in _HARMLESS)
    if controls < max(8, len(raw) // 50):
        return
    names = (
        "Bruker, Varian" if one.key == "bruker" else one.name for one in FORMATS if one.package
    )
    listed = ", ".join(name.removeprefix("a ") for name in names if "Varian NMR" not in name)
    raise InputError(
        f"{path}: data: is binary and not text, and of no format that is known. Read are text, workbooks, NPY, NPZ, "
        f"HDF5, NetCDF, Zarr, MAT, TIFF, {listed}. Export it as one of these."
    )


def _is_json(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), dict | list)
    except (ValueError, RecursionError):
        return False


def _place(raw: bytes, index: int) -> tuple[int, int]:
    before = raw[:index]
    return before.count(b"\n") + 1, index - before.rfind(b"\n")


def _encoding_of(raw: bytes) -> tuple[str, str]:
    """The name of the encoding, and what decided it."""
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return name, "" if name == "utf-8-sig" else f"encoding: {name} (by its first bytes)"
    head = raw[:4096]
    # Digits and separators of UTF-16 have a zero as every second byte, and only there.
    even, odd = head[::2].count(0), head[1::2].count(0)
    for here, there, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if len(head) >= 4 and here >= 0.4 * (len(head) // 2) and there == 0:
            return name, f"encoding: {name} (every second byte is zero)"
    try:
        raw.decode("utf-8")
        return "utf-8", ""
    except UnicodeDecodeError:
        return _OLD, _OLD
