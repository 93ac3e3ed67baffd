"""A bar on the terminal for those who ask `progress=True`; otherwise nothing here prints."""

from collections.abc import Callable
from typing import Any

from .._errors import InputError, needed

Progress = Callable[[int, int], None]


class Bar:
    """Shows how many curves are done, until `close`."""

    def __init__(self) -> None:
        progress = needed("rich.progress", "progress=True")
        console = needed("rich.console", "progress=True").Console(stderr=True)
        self._bar = progress.Progress(*progress.Progress.get_default_columns(), console=console)
        self._task: Any = None

    def __call__(self, done: int, total: int) -> None:
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("Fitting", total=total)
        self._bar.update(self._task, completed=done)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._task is not None:
            self._bar.stop()


def progress_of(given: Progress | bool | None) -> Progress | None:
    """What is called after each block: nothing, a function of the caller's, or a bar."""
    if given is True:
        return Bar()
    if given is None or given is False:
        return None
    if not callable(given):
        raise InputError(
            f"progress must be True for a bar, or a function progress(done, total), not {given!r}.",
            argument="progress",
        )
    return given
