"""Signals that end a process, delivered where an exception reaches whoever waits for it.

Python runs a handler between any two instructions. One that raises inside the import system does so
while a lock is held, or in a callback that swallows exceptions: the process then hangs, or goes on as if
nothing had come. So a signal waits until no import is going on.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

_IMPORTS = "<frozen importlib._bootstrap"
# Seconds between looks, and after which a signal is delivered whatever goes on: a module that is imported may
# never end.
_GLANCE, _PATIENCE = 0.02, 10.0


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTS):
            return True
        frame = frame.f_back
    return False


class Terminated(BaseException):
    """SIGTERM, as `KeyboardInterrupt` is SIGINT."""


@contextlib.contextmanager
def ending(raises: Mapping[signal.Signals, Callable[[], BaseException]]) -> Iterator[None]:
    """Within, each of these signals raises what is given, once no import is going on."""
    came: dict[int, float] = {}

    def look(_: int, frame: FrameType | None) -> None:
        number, since = next(iter(came.items()))
        if _importing(frame) and time.monotonic() - since < _PATIENCE:
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, _GLANCE)
                return
        came.clear()
        raise raises[signal.Signals(number)]()

    def arrive(number: int, frame: FrameType | None) -> None:
        came.setdefault(number, time.monotonic())
        look(number, frame)

    # What the caller of this process ignores, as for jobs in the background, stays ignored.
    heard = [number for number in raises if signal.getsignal(number) != signal.SIG_IGN]
    handlers: dict[int, Callable[[int, FrameType | None], None]] = dict.fromkeys(heard, arrive)
    if hasattr(signal, "SIGALRM"):
        handlers[signal.SIGALRM] = lambda number, frame: look(number, frame) if came else None
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:  # at the last moment
        raise raises[signal.Signals(next(iter(came)))]()
