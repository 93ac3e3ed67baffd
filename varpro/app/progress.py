"""A sign of life on stderr for stages that take longer than a second."""

import contextlib
import sys
import threading
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
