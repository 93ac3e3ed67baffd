"""A run folder that is either whole or not there.

Everything is written into a hidden sibling, flushed to disk and renamed at the end. A lock beside the
folder keeps two runs out of each other's way; it names its process, so that one left behind by a
crash is recognised.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from varpro import InputError

from ..atomic_files import flush

# What a run may have written: nothing else is ever replaced or deleted.
_OWN = re.compile(
    r"config\.yaml|result\.json|result(\.[^/]*)?\.nc|report\.html|parameters\.csv|fit\.nc|"
    r"(fit|components|residuals|spread|lags|corr|convergence)(\.[^/]*)?\.(png|svg|pdf)|"
    r"(maps|curves)(\.[^/]*)?\.(png|svg|pdf)|result\.zarr|status\.json|blocks"
)


class RunFolder:
    """The place of one run: `work` is the hidden folder to write into, `publish` renames it."""

    def __init__(self, target: Path, overwrite: bool):
        self.target = target.resolve()
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
    def in_place(self, again: bool = False) -> Iterator[Path]:
        """Take the lock and give the folder itself to write into: what is finished there stays,
        whatever happens. `again`: go on in the folder of an earlier run."""
        if not again:
            self._refuse(self.target)
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._tidy()
                if not again:
                    self._refuse(self.target)
                    shutil.rmtree(self.target, ignore_errors=True)
                    self.target.mkdir()
                yield self.target
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{self.target}: cannot be written ({reason}).") from error

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

    def _sibling(self, suffix: str) -> Path:
        return self.target.with_name(f".{self.target.name}.{suffix}")

    def _refuse(self, target: Path) -> None:
        """Stop where something stands that must not be replaced."""
        if not target.exists():
            return
        if not target.is_dir():
            raise InputError(f"{target}: exists and is not a folder. Give another with --out.")
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
        earlier = self._sibling("old")
        if earlier.exists() and not self.target.exists():
            earlier.rename(self.target)
        for path in self.target.parent.glob(f".{_literal(self.target.name)}.tmp-*"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)

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


def _create(path: Path, text: str) -> bool:
    """Write a file that must not exist yet; whether that went well."""
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        return False
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
    try:
        return bool(json.loads((folder / "result.json").read_text())["status"]["success"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _literal(name: str) -> str:
    """A name as a glob pattern for itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
