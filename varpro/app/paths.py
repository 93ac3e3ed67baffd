"""What users write where a path is meant: whether the system can take it, and how messages show it."""

import os
from pathlib import Path

from varpro import InputError


def as_path(text: str, what: str) -> Path:
    """A path that the system can look up, whether or not something is there.

    **Raises:** `InputError` that begins with `what` for an empty text, a zero byte, a name that is too
    long, or links that lead to one another.
    """
    reason = _fault(text)
    if reason is not None:
        raise InputError(f"{what}: '{shortened(text)}': {reason}")
    return Path(text)


def _fault(text: str) -> str | None:
    if not text:
        return "expected a path."
    if "\0" in text:
        return "a path cannot have a zero byte in it."
    try:
        os.lstat(text)
        os.stat(text)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except UnicodeError:
        return "a path of this system cannot have such letters."
    except OSError as error:  # too long, a loop of links
        return f"{(error.strerror or str(error)).lower()}."
    return None


def resolved(path: Path, what: str) -> Path:
    """The absolute path with all links followed.

    **Raises:** `InputError` for links that lead to one another.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{what}: {shortened(str(path))}: cannot be followed ({reason})."
        ) from error


def shortened(text: str, most: int = 100) -> str:
    """A long path as a message shows it: its end says more than its beginning."""
    return text if len(text) <= most else f"...{text[-most:]}"
