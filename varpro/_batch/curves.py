"""Curves of a cube by number, whatever holds the cube: an array in memory, or one that is read.

A cube has batch axes and one axis of samples. Its curves are numbered along the batch axes, the last
of them fastest, and some in a row are read as boxes, so that a file is never read as a whole.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

# Curves of a large cube that stand for all of them, and how many of them in a row.
_SOME, _RUN = 4096, 128


@dataclasses.dataclass(frozen=True)
class Rows:
    """The curves of `data`: whatever has a shape, a dtype, and can be indexed with a tuple of slices
    and numbers. `axis` is the axis of samples."""

    data: Any
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch axes."""
        return tuple(n for i, n in enumerate(self.data.shape) if i != self.axis)

    @property
    def samples(self) -> int:
        return self.data.shape[self.axis]

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def read(self, first: int, last: int) -> np.ndarray:
        """The curves from `first` up to `last`, (last - first, m)."""
        return self._read((), first, last)

    def _read(self, at: tuple[int, ...], first: int, last: int) -> np.ndarray:
        """Curves of the part of the cube with the leading numbers `at`."""
        rest = self.shape[len(at) :]
        if not rest:
            return self._box(at)
        inner = math.prod(rest[1:])
        low, high = first // inner, -(-last // inner)
        if first == low * inner and last == high * inner:
            return self._box((*at, slice(low, high)))
        # What is no whole box is read in parts: the end of one line, whole ones, and the begin of one.
        parts = []
        while first < last:
            low = first // inner
            whole = last // inner if first == low * inner else low
            if whole > low:
                parts.append(self._box((*at, slice(low, whole))))
                first = whole * inner
                continue
            stop = min(last, (low + 1) * inner)
            parts.append(self._read((*at, low), first - low * inner, stop - low * inner))
            first = stop
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _box(self, at: tuple[int | slice, ...]) -> np.ndarray:
        index = [*at, *[slice(None)] * (len(self.shape) - len(at))]
        index.insert(self.axis, slice(None))
        # Numbers drop their axis, so that the samples' moves forward by those before it.
        place = self.axis - sum(isinstance(i, int) for i in index[: self.axis])
        found = np.moveaxis(np.asarray(self.data[tuple(index)]), place, -1)
        return found.reshape(-1, self.samples)

    def some(self) -> list[tuple[int, int]]:
        """Runs of curves that stand for all: all of them, or neighbours all over the cube."""
        if self.count <= _SOME:
            return [(0, self.count)]
        firsts = np.linspace(0, self.count - _RUN, _SOME // _RUN).astype(int)
        return [(int(i), int(i) + _RUN) for i in firsts]


@dataclasses.dataclass(frozen=True)
class Weighing:
    """Weights from sigma, weights and mask, each one row (m,) for all curves, or rows, or None.

    `absent`, where values are covered by a mask of the data; `drop`, whether values that are not finite
    are left out; `positions` (m,), which samples have a position."""

    sigma: np.ndarray | Rows | None
    weights: np.ndarray | Rows | None
    mask: np.ndarray | Rows | None
    absent: Rows | None = None
    drop: bool = False
    positions: np.ndarray | None = None

    @property
    def own(self) -> bool:
        """Whether curves differ in their weights."""
        parts = (self.sigma, self.weights, self.mask, self.absent)
        return self.drop or any(isinstance(a, Rows) for a in parts)

    def read(
        self, first: int, last: int, real: np.dtype, y: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Weights (b, m), or (m,) where curves do not differ; not finite where they are wrong. `y` are
        the curves, where `drop` leaves out what is not finite."""

        def part(value: np.ndarray | Rows | None) -> np.ndarray | None:
            return value.read(first, last) if isinstance(value, Rows) else value

        found, sigma = part(self.weights), part(self.sigma)
        if sigma is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                found = np.where(sigma > 0, 1.0 / sigma.astype(real), np.nan)
        if found is not None:
            with np.errstate(over="ignore"):
                found = found.astype(real)
            found = np.where(found >= 0, found, np.nan)
        # What is left out may have any weight.
        for used in self._used(part, sigma, y):
            found = np.where(
                used, np.ones((), real) if found is None else found, np.zeros((), real)
            )
        return found

    def _used(self, part: Any, sigma: np.ndarray | None, y: np.ndarray | None) -> Iterator[Any]:
        for mask in (part(self.mask), self.positions):
            if mask is not None:
                yield mask.astype(bool)
        if self.absent is not None:
            yield ~part(self.absent)
        if self.drop:
            for values in (sigma, part(self.weights), y):
                if values is not None:
                    yield np.isfinite(values)
