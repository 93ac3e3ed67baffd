"""What tells whether the inputs of a run are still those that were fitted."""

import hashlib
import importlib.metadata
import platform
from pathlib import Path

from varpro import InputError

# Bytes that are read at once.
_CHUNK = 2**22


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
