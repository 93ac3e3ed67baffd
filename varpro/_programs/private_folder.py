"""A folder that nobody but its owner can write to, for what is run when it is read: compiled programs.

Nothing here needs anything else of varpro.
"""

import os
import stat
from pathlib import Path


def private_folder(folder: Path) -> Path | None:
    """A folder with mode 700 and its own parent, made if need be; None where it cannot be had, belongs to
    somebody else, or others may write to one of the two.

    Whoever can write to the parent can put another folder in its place. What others could have written
    to is not put right, as they may have been there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        if not (_own(folder) and _own(folder.parent) and os.access(folder, os.W_OK)):
            return None
    except (OSError, ValueError):
        return None
    return folder


def _own(folder: Path) -> bool:
    status = folder.stat()
    if os.name == "nt":
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
