"""A sign of life on stderr for stages that take longer than a second."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

AFTER_SECONDS = 1.0


@contextlib.contextmanager
def stage(text: str, enabled: bool) -> Iterator[None]:
    """Show a spinner with the elapsed time, once the stage has taken a second.

    Nothing is shown where stderr is not a terminal.
    """
    if not enabled or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    progress.add_task(text, total=None)
    timer = threading.Timer(AFTER_SECONDS, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        progress.stop()


class Counter:
    """How many curves are done, how many of them failed, and how many are done a second."""

    def __init__(self, total: int):
        self.total, self.done, self.failed = total, 0, 0
        self._before, self._begun = 0, time.monotonic()

    def add(self, done: int, failed: int) -> None:
        self.done += done
        self.failed += failed

    def begin(self) -> None:
        """From here on the clock runs: what was done before took no time now."""
        self._before, self._begun = self.done, time.monotonic()

    @property
    def rate(self) -> float:
        """Curves a second."""
        return (self.done - self._before) / max(time.monotonic() - self._begun, 1e-9)

    def __str__(self) -> str:
        left = (self.total - self.done) / self.rate if self.rate > 0 else None
        wait = "" if left is None else f", {_clock(left)} left"
        return f"{self.done} of {self.total} curves, {self.rate:,.0f}/s, {self.failed} failed{wait}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextlib.contextmanager
def counting(text: str, counter: Counter, enabled: bool) -> Iterator[None]:
    """A bar with rate and failures on stderr, where that is a terminal."""
    if not enabled or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(text, total=counter.total, state="")
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.2):
                progress.update(task, completed=counter.done, state=str(counter))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
