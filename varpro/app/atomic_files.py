"""Files that are written whole or not at all."""

import contextlib
import os
import re
import stat
import uuid
from collections.abc import Iterable
from pathlib import Path

from varpro import InputError

from .paths import resolved


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


def refuse_inputs(path: Path, inputs: Iterable[Path], option: str) -> None:
    """Stop before a result is written over what it was made from.

    **Raises:** `InputError` if `path` is one of the inputs, or lies in a folder that is one.
    """
    place = resolved(path, option)
    for source in inputs:
        if place.is_relative_to(resolved(source, option)):
            raise InputError(f"{option} {path}: is an input of this run. Give another name.")


def refuse_special(path: Path) -> None:
    """Stop before a folder, a device or a pipe is replaced: whoever may do everything could.

    **Raises:** `InputError` naming it.
    """
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):  # nothing there, or nothing that can be
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        what = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise InputError(f"{path}: is {what}, not a file, so it is not replaced.")


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file that appears whole or not at all; a link in its place is replaced, not followed, and
    what is no file stays.

    **Raises:** `InputError` naming it.
    """
    refuse_special(path)
    part = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex}")
    try:
        with part.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        flush(part)
        part.replace(path)
        flush(path.parent)
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):
            part.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be written ({reason}).") from error
