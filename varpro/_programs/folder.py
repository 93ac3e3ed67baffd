"""Programs in the user's cache folder, so that no process waits for what another has compiled.

A file is a digest and what it is of: what was damaged, cut short, or is not ours is as good as not
there. What is read is run, so a folder that others may write to is not used. Whatever fails here, such
as a home that is missing or cannot be written, means that nothing is kept.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import threading
import uuid
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax

from .private_folder import private_folder

# Programs that are kept and their bytes, a third of a megabyte for most; the oldest make room.
_MOST, _MOST_BYTES = 400, 200 * 2**20
_MAGIC = b"varpro program 2\n"
_OFF = {"off", "0", "no", "false", "none", ""}


class Place(NamedTuple):
    """Where an array of this number stands in a result."""

    number: int


class ProgramFolder:
    """A folder of programs by name."""

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, name: str, count: int) -> tuple[jax.stages.Compiled, Any] | None:
        """The executable of that name, of `count` arrays, and the structure of what it returns."""
        content = self.read(name)
        if content is None:
            return None
        from jax.experimental import serialize_executable

        try:
            executable, skeleton, returned, lapack = pickle.loads(zlib.decompress(content))
            if lapack:
                _find_lapack()
            loaded = serialize_executable.deserialize_and_load(
                executable,
                jax.tree.structure(((0,) * count, {})),
                jax.tree.structure([0] * returned),
                execution_devices=jax.local_devices(backend="cpu")[:1],
            )
        except Exception:  # whatever the reader makes of foreign bytes
            return None
        return loaded, skeleton

    def put(
        self, name: str, executable: jax.stages.Compiled, skeleton: Any, lapack: bool = True
    ) -> None:
        """Keep an executable under a name, where it can be written; `lapack`: whether it calls that."""
        from jax.experimental import serialize_executable

        try:
            content, _, returned = serialize_executable.serialize(executable)
            content = pickle.dumps((content, skeleton, returned.num_leaves, lapack))
            content = zlib.compress(content, 1)
        except Exception:  # of a class that differs between versions
            return
        self.write(name, content)

    def read(self, name: str) -> bytes | None:
        """What was written under a name, if nothing has happened to it."""
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

    def write(self, name: str, content: bytes) -> None:
        """Write bytes under a name, at once or not at all."""
        temporary = self.folder / f".{name}.{uuid.uuid4().hex}"
        with contextlib.suppress(OSError):
            try:
                temporary.write_bytes(_MAGIC + _digest(name, content) + content)
                temporary.replace(self.folder / name)
                self._make_room()
            finally:
                temporary.unlink(missing_ok=True)

    def drop(self, name: str) -> None:
        """Take a file away."""
        with contextlib.suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)

    def _make_room(self) -> None:
        entries = [(path, path.stat()) for path in self.folder.iterdir()]
        entries.sort(key=lambda entry: entry[1].st_mtime, reverse=True)
        total = 0
        for number, (path, status) in enumerate(entries):
            total += status.st_size
            if number >= _MOST or total > _MOST_BYTES:
                path.unlink(missing_ok=True)


@functools.cache
def _find_lapack() -> None:
    """jaxlib looks for LAPACK when a call of it is lowered, and an executable that calls it before that
    ends the process."""
    jax.jit(jax.lax.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), "float32"))


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


def program_folder(cache: Path) -> ProgramFolder | None:
    """The folder of programs in a cache, made if need be; None where others may write to it."""
    folder = private_folder(cache / "programs")
    return None if folder is None else ProgramFolder(folder)


class _Choice:
    """Where programs are kept: what the user said, and the folder that follows, looked at once."""

    def __init__(self) -> None:
        self.said: bool | Path = True
        self.looked = False
        self.folder: ProgramFolder | None = None
        self.lock = threading.Lock()


_CHOICE = _Choice()


def keep_programs(where: bool | str | os.PathLike = True) -> None:
    """Say where compiled programs are kept between processes.

    By default that is the user's cache folder (`~/.cache/varpro/programs` on Linux), in which the first fit
    of a process finds what another has compiled. The environment variable `VARPRO_CACHE` says the same as
    `where`, as "off" or a folder; this function overrides it.

    **Arguments:**

    - `where`: False keeps nothing, True means the default, and a path is a folder of your own, which nobody
        else may write to: what is read from there is run.
    """
    with _CHOICE.lock:
        _CHOICE.said = where if isinstance(where, bool) else Path(where)
        _CHOICE.looked = False


def kept_programs() -> Path | None:
    """The folder in which compiled programs are kept, made if need be; None where nothing is kept, as in a
    folder that others may write to. See `keep_programs`."""
    found = in_use()
    return None if found is None else found.folder


def in_use() -> ProgramFolder | None:
    """The folder in which programs are kept; None where they are not, as where JAX keeps its own: what that
    has read from its cache cannot be written once more."""
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return None
    with _CHOICE.lock:
        if not _CHOICE.looked:
            cache = _cache(_CHOICE.said)
            _CHOICE.folder = None if cache is None else program_folder(cache)
            _CHOICE.looked = True
        return _CHOICE.folder


def _cache(said: bool | Path) -> Path | None:
    if said is False:
        return None
    if isinstance(said, Path):
        return said
    named = os.environ.get("VARPRO_CACHE")
    if named is not None:
        return None if named.strip().lower() in _OFF else Path(named)
    import platformdirs

    try:
        return platformdirs.user_cache_path("varpro")
    except (OSError, RuntimeError, KeyError):  # no home
        return None
