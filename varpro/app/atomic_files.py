"""Files that are written whole or not at all."""

import os
import re
from pathlib import Path

from varpro import InputError


def flush(path: Path) -> None:
    """Make sure that a file or folder has reached the disk."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def safe_name(text: str) -> str:
    """A name that stays inside its folder, whatever text it is made of."""
    name = re.sub(r"[^\w.,=+-]", "_", text).lstrip(".")
    return name[:120] or "_"


def replace_file(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all.

    **Raises:** `InputError` naming it.
    """
    part = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        flush(part)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from error
