"""What tells whether the inputs of a run are still those that were read."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from varpro import InputError

# Bytes that are read at once.
_CHUNK = 2**22


class State(NamedTuple):
    """What changes when a file does, without reading it: a rewrite in place, another file renamed over
    it, a truncation."""

    size: int
    modified: int
    changed: int
    inode: int


def state_of(path: Path) -> tuple[State, ...]:
    """The state of a file, or of all files of a folder; nothing where there is none."""
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        stats = [file.stat() for file in files]
    except (OSError, ValueError):  # also letters that paths of this system cannot have
        return ()
    return tuple(State(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in stats)


class Inputs:
    """The files and folders that a run reads, by their role; each is noted before it is read.

    What is noted travels to other machines, whose clocks and numbers of files are their own:
    `check(elsewhere=True)` compares sizes and times of change alone.
    """

    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}
        self._states: dict[str, tuple[State, ...]] = {}
        self._digests: dict[str, str] | None = None

    def note(self, role: str, path: Path, folders: bool = True) -> None:
        """Take down the state of a file that is about to be read. `folders`: whether a folder may be data, and
        is looked through; any other is refused by whoever reads, and may be the root of all."""
        if not folders and path.is_dir():
            return
        self.paths[role], self._states[role] = path, state_of(path)

    def __or__(self, other: "Inputs") -> "Inputs":
        both = Inputs()
        both.paths, both._states = self.paths | other.paths, self._states | other._states
        return both

    def check(self, elsewhere: bool = False) -> None:
        """See that nothing has changed since it was noted.

        **Raises:** `InputError` naming the file that has.
        """
        for role, path in self.paths.items():
            before, now = self._states[role], state_of(path)
            if elsewhere:
                before, now = [s[:2] for s in before], [s[:2] for s in now]
            if before != now:
                what = "changed" if now else "was removed"
                raise InputError(
                    f"{path}: {role}: {what} while it was read, so results would be of two files "
                    "mixed. Put it back or wait until it is whole, and run again."
                )

    def digests(self) -> Mapping[str, str]:
        """SHA-256 of every input, by its role: of what was read.

        **Raises:** `InputError` naming a file that has changed since.
        """
        if self._digests is None:
            self._digests = {role: digest(path, role) for role, path in self.paths.items()}
            self.check()
        return self._digests


def digest(path: Path, role: str) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        try:
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{file}: {role}: cannot be read ({reason}).") from error
    return digest.hexdigest()


_PACKAGES = ("varpro", "jax", "jaxlib", "equinox", "lineax", "optimistix", "numpy")


def versions() -> dict[str, str]:
    """What the numbers were computed with."""
    versions_by_name = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **versions_by_name}
