"""What only whoever calls varpro decides, by the command line or the environment, and no file.

A configuration may come from anybody. It must not choose a machine from which code is taken, allow
code to be imported, or raise the limits on what is read.
"""

import contextlib
import os
from collections.abc import Iterator

from varpro import InputError

SCHEDULER, NO_CODE, MAX_BYTES = "VARPRO_SCHEDULER", "VARPRO_NO_CODE", "VARPRO_MAX_BYTES"

# Bytes that an array may take that is read as a whole.
_MAX_BYTES = 2**31
_NO = ("", "0", "false", "no", "off")

# What the command line said; the environment counts where it said nothing.
_scheduler: str | None = None
_no_code = False


@contextlib.contextmanager
def called_with(scheduler: str | None = None, no_code: bool = False) -> Iterator[None]:
    """The options of a command line hold within."""
    global _scheduler, _no_code
    before = _scheduler, _no_code
    _scheduler, _no_code = scheduler, no_code
    try:
        yield
    finally:
        _scheduler, _no_code = before


def scheduler_option() -> str | None:
    """The address that the command line gave, which must then have an effect."""
    return _scheduler


def scheduler() -> str | None:
    """The address of the cluster; None for one of processes on this machine."""
    return _scheduler or os.environ.get(SCHEDULER) or None


def refuse_code(what: str) -> None:
    """Stop before code that a file asks for, or a package added, is imported, if that is forbidden.

    **Raises:** `InputError` with `what`, the beginning of a sentence.
    """
    if _no_code:
        raise InputError(f"{what}, which --no-code forbids.")
    if os.environ.get(NO_CODE, "").strip().lower() not in _NO:
        raise InputError(f"{what}, which the environment forbids ({NO_CODE}).")


def max_bytes() -> int:
    """Bytes that an array may take that is read as a whole.

    **Raises:** `InputError` for a limit that is no positive number.
    """
    text = os.environ.get(MAX_BYTES, "").strip()
    if not text:
        return _MAX_BYTES
    try:
        limit = int(float(text))
    except (ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise InputError(f"{MAX_BYTES} is '{text}'; expected a number of bytes, such as 8e9.")
    return limit
