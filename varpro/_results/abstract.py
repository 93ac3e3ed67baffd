"""The verbs that every result has: to print itself, to be compared bit by bit, and to be saved."""

import abc
import os

import equinox as eqx

from .._equality import same
from .._errors import InputError
from .netcdf import Contents
from .store import save


class AbstractResult(eqx.Module):
    """A frozen result. `print(result)` shows `result.report()`, and `result == other` means
    `result.equals(other)`."""

    @abc.abstractmethod
    def report(self) -> str:
        """The text that `print` shows."""

    @abc.abstractmethod
    def __repr__(self) -> str:
        """The result in one line."""

    @abc.abstractmethod
    def _stored(self) -> tuple["AbstractResult", Contents | None]:
        """The result that a file holds, and the dataset by which other programs know it, None for
        `dataset.record`."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a NetCDF file that `varpro.load` reads back, bit by bit.

        The file appears whole or not at all, and also opens with `xarray.open_dataset`. Models are
        stored as data; of a function of your own the import path is stored and no code. Data of
        `varpro.dmd` that are not in memory, such as a `numpy.memmap`, are not copied: the result that
        is read back has no X, and neither `forecast` nor `mode_std`, which take it.

        **Raises:** `InputError` if the file cannot be written.
        """
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"path must be that of a file, not {path!r}.", argument="path")
        result, content = self._stored()
        save(result, path, content)

    def equals(self, other: object) -> bool:
        """Whether every field of the other result is the same, bit by bit; NaN equals NaN."""
        return same(self, other)

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __hash__(self) -> int:
        return hash(repr(self))  # equal results have one line

    def __str__(self) -> str:
        return self.report()
