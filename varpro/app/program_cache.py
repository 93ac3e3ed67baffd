"""Traced programs in the user's cache, so that the second run of a model and shape begins at once.

A file is a digest and what it is of: what was damaged, cut short, or is not ours is as good as not
there. A folder that others may write to is not used, as what is read is run.
"""

import contextlib
import hashlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import varpro as vp

# Programs that are kept, each some hundred kilobytes; the oldest make room.
_MOST = 200
_MAGIC = b"varpro program 1\n"


class ProgramFolder:
    """A folder of programs by name; without `folder` nothing is kept."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def get(self, name: str) -> bytes | None:
        if self.folder is None:
            return None
        try:
            content = (self.folder / name).read_bytes()
        except OSError:
            return None
        head = len(_MAGIC) + 32
        whole, body = content[len(_MAGIC) : head], content[head:]
        if content[: len(_MAGIC)] != _MAGIC or _digest(name, body) != whole:
            return None
        with contextlib.suppress(OSError):
            os.utime(self.folder / name)
        return body

    def put(self, name: str, content: bytes) -> None:
        if self.folder is None:
            return
        temporary = self.folder / f".{name}.{uuid.uuid4().hex}"
        with contextlib.suppress(OSError):
            try:
                temporary.write_bytes(_MAGIC + _digest(name, content) + content)
                temporary.replace(self.folder / name)
                self._make_room()
            finally:
                temporary.unlink(missing_ok=True)

    def _make_room(self) -> None:
        assert self.folder is not None
        entries = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in entries[_MOST:]:
            path.unlink(missing_ok=True)


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


def program_folder(cache: Path) -> ProgramFolder:
    """The folder of programs in a cache, made if need be and if nobody else may write to it."""
    folder = cache / "programs"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError:
        return ProgramFolder(None)
    if os.name != "nt":
        others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if others or status.st_uid != os.getuid():
            return ProgramFolder(None)
    return ProgramFolder(folder)


def work_tree() -> str:
    """The state of varpro's own files: a program of other code is another program."""
    root = Path(vp.__file__).parent
    files = sorted((path, path.stat()) for path in root.rglob("*.py") if path.parent.name != "app")
    text = "".join(f"{path.relative_to(root)} {s.st_size} {s.st_mtime_ns}\n" for path, s in files)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def kept_programs(cache: Path) -> Iterator[None]:
    """Fits within look for their programs in a folder of the cache."""
    with vp.keep_programs(program_folder(cache), work_tree()):
        yield
