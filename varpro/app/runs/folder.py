"""A run folder that is either whole or not there.

Everything is written into a hidden sibling, flushed to disk and renamed at the end. A run of many
curves is written in place, since what is finished must stay; the run that it replaces waits as a
hidden sibling until the new one is whole. A lock beside the folder keeps two runs out of each other's
way; it names its process, so that one left behind by a crash is recognised.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from varpro import InputError

from ..atomic_files import flush
from ..paths import as_path, resolved

_UNFINISHED = re.compile(r"\.(result|status|config|maps|report)(\.[^/]*)?\.tmp([-.][^/]*)?")
# What a run may have written: nothing else is ever replaced or deleted.
_OWN = re.compile(
    r"config\.yaml|result\.json|result(\.[^/]*)?\.nc|report\.html|parameters\.csv|fit\.nc|"
    r"(fit|components|residuals|spread|lags|corr|convergence)(\.[^/]*)?\.(png|svg|pdf)|"
    r"(maps|curves)(\.[^/]*)?\.(png|svg|pdf)|result\.zarr|status\.json|blocks|"
    # What a killed process was about to write.
    + _UNFINISHED.pattern
)


class RunFolder:
    """The place of one run: `work` is the hidden folder to write into, `publish` renames it."""

    def __init__(self, target: Path, overwrite: bool):
        target = as_path(str(target), "the run folder")
        if target.is_symlink():
            raise InputError(
                f"{target}: is a link, and no run is written through one. Give the folder that it leads "
                "to with --out."
            )
        self.target = resolved(target, "the run folder")
        if not self.target.name:
            raise InputError(f"{target}: is the root of all folders. Give one below it with --out.")
        self.overwrite = overwrite
        self.work = self._sibling(f"tmp-{os.getpid()}")

    @contextlib.contextmanager
    def open(self) -> Iterator["RunFolder"]:
        """Take the lock and make the hidden folder; leave nothing behind unless published."""
        self._refuse(self.target)
        new_parents = list(itertools.takewhile(lambda p: not p.exists(), self.target.parents))
        existing = self.target.parents[len(new_parents)]
        if not existing.is_dir():
            raise InputError(f"{self.target}: cannot be made, as {existing} is not a folder.")
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._tidy()
                self._refuse(self.target)
                self.work.mkdir()
                try:
                    yield self
                except InputError as error:
                    # Users know the folder by the name that it will have.
                    text = str(error).replace(str(self.work), str(self.target))
                    raise InputError(text) from error
                finally:
                    shutil.rmtree(self.work, ignore_errors=True)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{self.target}: cannot be written ({reason}).") from error
        finally:
            for parent in new_parents:  # the deepest comes first; one that holds something stays
                with contextlib.suppress(OSError):
                    parent.rmdir()

    @contextlib.contextmanager
    def in_place(self, again: bool = False) -> Iterator["RunFolder"]:
        """Take the lock and give the folder itself to write into: what is finished there stays,
        whatever happens. `again`: go on in the folder of an interrupted run.

        An earlier run is put aside, and back where this one ends with nothing kept.
        """
        if not again:
            self._refuse(self.target)
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._tidy()
                for path in self.target.glob(".*"):
                    if _UNFINISHED.fullmatch(path.name):
                        _remove(path)
                if again:
                    _refuse_links(self.target)
                else:
                    self._refuse(self.target)
                    self._put_aside()
                    self.target.mkdir()
                try:
                    yield self
                except BaseException as error:
                    self._put_back(refused=isinstance(error, InputError))
                    raise
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{self.target}: cannot be written ({reason}).") from error

    def spare(self, inputs: Iterable[Path]) -> None:
        """Stop where an input of the run lies in the folder that it would replace.

        **Raises:** `InputError` naming it.
        """
        for path in inputs:
            if path.resolve().is_relative_to(self.target):
                raise InputError(
                    f"{self.target}: holds {path.name}, which this run reads, so it is not replaced. "
                    "Give another folder with --out."
                )

    def _put_aside(self) -> None:
        """Move what stands in the target out of the way, but never over a run that is whole."""
        if _is_whole(self.target) or not self._earlier.exists():
            shutil.rmtree(self._earlier, ignore_errors=True)
            if self.target.exists():
                self.target.rename(self._earlier)
        else:
            shutil.rmtree(self.target)

    def _put_back(self, refused: bool) -> None:
        """What was put aside, where nothing of the new run is worth keeping."""
        if _has_blocks(self.target) or _is_whole(self.target):
            return
        if refused or self._earlier.exists():
            shutil.rmtree(self.target, ignore_errors=True)
        if self._earlier.exists():
            self._earlier.rename(self.target)

    def keep(self, success: bool) -> Path:
        """Let the run that was written in place stand, and say where that is; as with `publish` a
        failed one never replaces a good one."""
        target = self.target
        if not success and _succeeded(self._earlier):
            target = target.with_name(target.name + "-failed")
            self._refuse(target)
            shutil.rmtree(target, ignore_errors=True)
            self.target.rename(target)
            self._earlier.rename(self.target)
        flush(target.parent)
        shutil.rmtree(self._earlier, ignore_errors=True)
        return target

    def publish(self, success: bool) -> Path:
        """Move the finished folder into place and say where that is.

        A failed fit never replaces a good one: it goes to `NAME-failed` beside it.
        """
        target = self.target
        if not success and _succeeded(target):
            target = target.with_name(target.name + "-failed")
            self._refuse(target)
        for path in self.work.iterdir():
            flush(path)
        flush(self.work)
        earlier = self._sibling("old") if target.exists() else None
        if earlier is not None:
            target.rename(earlier)
        try:
            self.work.rename(target)
        except BaseException:
            if earlier is not None:
                earlier.rename(target)
            raise
        flush(target.parent)
        if earlier is not None:
            shutil.rmtree(earlier, ignore_errors=True)
        return target

    @property
    def _earlier(self) -> Path:
        """Where the run waits that this one replaces."""
        return self._sibling("earlier")

    def _sibling(self, suffix: str) -> Path:
        return self.target.with_name(f".{self.target.name}.{suffix}")

    def _refuse(self, target: Path) -> None:
        """Stop where something stands that must not be replaced."""
        if not target.exists():
            return
        if not target.is_dir():
            raise InputError(f"{target}: exists and is not a folder. Give another with --out.")
        _refuse_links(target)
        names = {path.name for path in target.iterdir()}
        foreign = sorted(name for name in names if not _OWN.fullmatch(name))
        if foreign:
            raise InputError(
                f"{target}: holds '{foreign[0]}', which varpro did not write, so it is not "
                "replaced. Give another folder with --out."
            )
        if names and not self.overwrite:
            if "blocks" in names:
                raise InputError(
                    f"{target}: holds a run that is not finished. Go on with it: 'varpro resume "
                    f"{target}'. Or add --overwrite to begin anew, or give another folder with --out."
                )
            raise InputError(
                f"{target}: holds an earlier run. Add --overwrite to replace it, or give another "
                "folder with --out."
            )

    def _tidy(self) -> None:
        """Put right what a killed run left; the lock is ours, so nobody is using it."""
        old = self._sibling("old")
        for aside in (old, self._earlier):
            if aside.exists() and not self.target.exists():
                aside.rename(self.target)
        if self._earlier.exists() and _is_whole(self.target):
            shutil.rmtree(self._earlier, ignore_errors=True)
        for path in self.target.parent.glob(f".{_literal(self.target.name)}.tmp-*"):
            _remove(path)
        shutil.rmtree(old, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock, pid = self._sibling("lock"), os.getpid()
        owner = {"pid": pid, "host": socket.gethostname(), "started": _started(pid)}
        if not _create(lock, json.dumps(owner)):
            self._break_stale(lock)
            if not _create(lock, json.dumps(owner)):
                raise InputError(f"{self.target}: in use by another run.")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)

    def _break_stale(self, lock: Path) -> None:
        """Remove the lock of a process that has ended; refuse when it may still be running."""
        try:
            text = _read_lock(lock)
            owner = json.loads(text)
            pid, host, started = int(owner["pid"]), str(owner["host"]), owner["started"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{lock}: not a lock of varpro. Delete it to go on.") from None
        if host != socket.gethostname():
            raise InputError(
                f"{self.target}: in use by process {pid} on {host}. If that has ended, delete "
                f"{lock}."
            )
        if _started(pid) == started:
            raise InputError(f"{self.target}: in use by another run (process {pid}).")
        # Two runs may both find it stale. Renaming is atomic, so one of them gets it; should that be
        # a fresh lock by now, it goes back.
        temporary = self._sibling(f"stale-{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            lock.rename(temporary)
            stolen = temporary.read_text()
            temporary.unlink()
            if stolen != text:
                _create(lock, stolen)


def _refuse_links(folder: Path) -> None:
    """What is written into a run folder stays there: nothing in it leads elsewhere."""
    for path in (*folder.iterdir(), *folder.glob("blocks/*")):
        if path.is_symlink():
            raise InputError(
                f"{path}: is a link, which varpro did not write, so nothing is written here. Remove it, "
                "or give another folder with --out."
            )


def _create(path: Path, text: str) -> bool:
    """Write a file that must not exist yet, and that appears whole or not at all; whether that went well."""
    part = path.with_name(f"{path.name.removesuffix('.lock')}.tmp-{uuid.uuid4().hex}")
    try:
        with part.open("x") as file:
            file.write(text)
        try:
            os.link(part, path)
        except (FileExistsError, FileNotFoundError):  # or whoever has the lock has tidied up
            return False
        except OSError:  # a file system without hard links
            if path.exists():
                return False
            part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return True


def _read_lock(lock: Path) -> str:
    """The text of a lock; its owner may be just about to write it."""
    for _ in range(20):
        if text := lock.read_text():
            return text
        time.sleep(0.05)
    return ""


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's words; None when there is no such process."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            return stat.read_text().rpartition(")")[2].split()[19]
        except OSError:
            return None
    if os.name == "nt":
        return "unknown"  # os.kill(pid, 0) would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


def _succeeded(folder: Path) -> bool:
    """Whether a fit converged, or of many curves one."""
    try:
        status = json.loads((folder / "result.json").read_text(encoding="utf-8"))["status"]
        return bool(status["success"] or status.get("converged"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _is_whole(folder: Path) -> bool:
    return (folder / "result.json").exists() and not (folder / "blocks").exists()


def _has_blocks(folder: Path) -> bool:
    return any((folder / "blocks").glob("*.npz"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _literal(name: str) -> str:
    """A name as a glob pattern for itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
