"""Where the `varpro` command begins: what is imported first is imported with signals held back, or Ctrl-C
would show where in an import it came."""

import os
import signal
import sys

_HELD = {signal.SIGINT, signal.SIGTERM}


def _fill_closed_streams() -> None:
    """Open what the caller closed (`>&-`) on nothing: the next file that is opened would take its number, and
    get what libraries write to it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))


def main() -> None:
    """Entry point of the `varpro` command."""
    _fill_closed_streams()
    # Figures go into files; a backend of the environment, or of a file beside the data, is not imported.
    os.environ["MPLBACKEND"] = "agg"
    if not hasattr(signal, "pthread_sigmask"):
        from .cli import main as command

        command()
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    from .cli import main as command
    from .guard import INTERRUPTED

    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        command()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
