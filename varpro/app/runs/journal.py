"""The journal of a batch: finished blocks of curves, each a file that is whole or not there.

A block is written into a hidden sibling, flushed to the disk and renamed, so that neither Ctrl-C nor
kill -9, a full disk or a power cut leaves a half of one. The files are the journal: what is there is
done. `status.json` beside them says the same to people.
"""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from varpro import InputError

from ..atomic_files import flush, replace_file
from ..config.document import MAX_BYTES, read_text
from ..provenance import Inputs

# A file that holds what a block found, by its number.
_NAME = "{:06d}.npz"
_FIELDS = ("alpha", "alpha_stderr", "coef", "coef_stderr", "chisq", "dof", "num_steps", "status")


def ranges(shape: tuple[int, ...], max_curves: int) -> list[tuple[int, int]]:
    """Blocks of at most `most` curves, each a box of the cube: whole lines where they fit."""
    total, inner = math.prod(shape), 1
    box = 1
    for n in reversed(shape):
        if inner * n > max_curves:
            # As many of this axis as fit; a block does not reach over its end.
            box = max(1, max_curves // inner)
            axis_size = inner * n
            starts = [
                a + b for a in range(0, total, axis_size) for b in range(0, axis_size, inner * box)
            ]
            ends = [min(s + inner * box, (s // axis_size + 1) * axis_size) for s in starts]
            return list(zip(starts, ends, strict=True))
        inner *= n
    return [(0, total)] if total else []


@dataclasses.dataclass(frozen=True)
class Journal:
    """Finished blocks in `folder`. `key` names what they belong to: no others are ever read. A block is
    kept only if the `inputs` are still those that the key was made of."""

    folder: Path
    key: str
    blocks: tuple[tuple[int, int], ...]
    inputs: Inputs = dataclasses.field(default_factory=Inputs)
    # Whether this is another machine than that which began the run.
    elsewhere: bool = False

    @property
    def store(self) -> Path:
        return self.folder / "blocks"

    def begin(self) -> None:
        """Make the folder, and remove what a killed process did not finish."""
        self.store.mkdir(exist_ok=True)
        for path in self.store.glob(".*.tmp-*"):
            path.unlink(missing_ok=True)

    def path(self, number: int) -> Path:
        return self.store / _NAME.format(number)

    def done(self) -> set[int]:
        """Numbers of blocks that are finished."""
        numbers = set()
        for number in range(len(self.blocks)):
            if self.path(number).exists():
                numbers.add(number)
        return numbers

    def write(self, number: int, block_result: dict[str, np.ndarray]) -> None:
        """Keep what a block found, for good.

        **Raises:** `InputError` if an input changed meanwhile, or the block cannot be written.
        """
        self.inputs.check(self.elsewhere)
        first, last = self.blocks[number]
        content = {key: block_result[key] for key in _FIELDS}
        assert all(len(value) == last - first for value in content.values())
        head = np.array(json.dumps({"key": self.key, "rows": [first, last]}))
        # Two machines may have processes of one number.
        temporary = self.store / f".{number:06d}.tmp-{uuid.uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                np.savez(file, head=head, **content)  # pyright: ignore[reportArgumentType]
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path(number))
            flush(self.store)
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be written ({error.strerror or error}). Finished blocks are "
                f"kept; make room, then 'varpro resume {self.folder}'."
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def read(self, number: int) -> dict[str, np.ndarray]:
        """What a block found.

        **Raises:** `InputError` where the file is damaged, or of another run.
        """
        path = self.path(number)
        try:
            with np.load(path, allow_pickle=False) as file:
                head = json.loads(str(file["head"]))
                block_result = {key: file[key] for key in _FIELDS}
        except Exception as error:  # whatever the readers of archives make of damage
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            # numpy advises to unpickle whatever it does not know.
            reason = "it is no archive of numbers" if "pickle" in reason else reason
            raise InputError(
                f"{path}: damaged ({reason}). Delete it, then 'varpro resume'."
            ) from error
        if head != {"key": self.key, "rows": list(self.blocks[number])}:
            raise InputError(f"{path}: belongs to another run. Delete it, then 'varpro resume'.")
        return block_result

    def gathered(self) -> dict[str, np.ndarray]:
        """All curves, in their order."""
        total = self.blocks[-1][1]
        curves: dict[str, np.ndarray] = {}
        for number, (first, last) in enumerate(self.blocks):
            for key, value in self.read(number).items():
                curves.setdefault(key, np.empty((total, *value.shape[1:]), value.dtype))
                curves[key][first:last] = value
        return curves

    def discard(self) -> None:
        """Remove the blocks, once their content stands elsewhere."""
        # Also of what a lost worker did not finish.
        shutil.rmtree(self.store, ignore_errors=True)


def write_status(folder: Path, content: dict[str, Any]) -> None:
    """`status.json`, whole or as before; on a full disk as before."""
    with contextlib.suppress(InputError):
        replace_file(folder / "status.json", json.dumps(content, indent=2) + "\n")


def read_status(folder: Path) -> dict[str, Any] | None:
    """What `status.json` says, or None where it was lost or is damaged: the blocks are the journal, and
    the configuration says which they are.

    **Raises:** `InputError` where there is no run of many curves.
    """
    path = folder / "status.json"
    try:
        content = json.loads(read_text(path, "status", MAX_BYTES))
        if isinstance(content, dict) and {"key", "state"} <= content.keys():
            return content
    except (InputError, ValueError, RecursionError):
        pass
    if not path.exists() and not (folder / "blocks").is_dir():
        raise InputError(
            f"{folder}: no run of a batch that could be resumed: there are no status.json and no "
            "blocks."
        )
    return None
