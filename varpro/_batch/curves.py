"""Curves of a cube by number, whatever holds the cube: an array in memory, or one that is read.

A cube has batch axes and one axis of samples. Its curves are numbered along the batch axes, the last
of them fastest, and some in a row are read as boxes, so that a file is never read as a whole.
"""

import dataclasses
import math
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

    def some(self) -> np.ndarray:
        """Curves that stand for all: all of them, or runs of neighbours all over the cube."""
        if self.count <= _SOME:
            return self.read(0, self.count)
        firsts = np.linspace(0, self.count - _RUN, _SOME // _RUN).astype(int)
        return np.concatenate([self.read(int(i), int(i) + _RUN) for i in firsts])


@dataclasses.dataclass(frozen=True)
class Weighing:
    """Weights from sigma, weights and mask, each one row (m,) for all curves, or rows, or None."""

    sigma: np.ndarray | Rows | None
    weights: np.ndarray | Rows | None
    mask: np.ndarray | Rows | None

    @property
    def own(self) -> bool:
        """Whether curves differ in their weights."""
        return any(isinstance(a, Rows) for a in (self.sigma, self.weights, self.mask))

    def read(self, first: int, last: int, real: np.dtype) -> np.ndarray | None:
        """Weights (b, m), or (m,) where curves do not differ; not finite where they are wrong."""

        def part(value: np.ndarray | Rows | None) -> np.ndarray | None:
            return value.read(first, last) if isinstance(value, Rows) else value

        found, sigma = part(self.weights), part(self.sigma)
        if sigma is not None:
            with np.errstate(divide="ignore"):
                found = np.where(sigma > 0, 1.0 / sigma.astype(real), np.nan)
        mask = part(self.mask)
        if mask is not None:
            found = np.where(mask, 1.0 if found is None else found, 0.0)
        if found is None:
            return None
        found = found.astype(real)
        return np.where(found >= 0, found, np.nan)
