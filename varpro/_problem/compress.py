"""Many right-hand sides in the place of as many as there are samples, without loss.

Where all right-hand sides have one basis and nothing tells their coefficients apart, only Y Y^H
counts: with Y^T = Q R (Q with orthonormal columns) the m columns of R^T have the cost, gradient and
Gauss-Newton matrix of all k, whatever alpha is. R is found block by block, never by way of Y Y^H,
which would lose half of the digits.

`[R; B^T]` has the triangle of what came before and of a block B: it is read once, triangles of parts
are joined in the same way, and memory is that of two triangles and a block.
"""

import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from .._errors import InputError
from .._given.arguments import whole
from .._given.containers import is_array, numbers_of, truth_of
from .._types import ArrayIn, precision

# Columns of one block of what can be sliced: some times as many as rows, so that what is done again
# for the triangle is little, but no more numbers than this.
_TIMES, _MEMORY = 4, 2**25

DataBlocks = Iterable[np.ndarray] | Callable[[], Iterator[np.ndarray]]


class Compressed(eqx.Module):
    """Right-hand sides Y (m, k) as `columns` (m, r), r <= m, with the same `Y Y^H`; `count` is k.

    Made by `vp.compress`; `vp.fit` takes it for y. Its columns are mixtures of those of Y: sums of
    squares are kept, single right-hand sides are not.
    """

    columns: np.ndarray
    count: int

    def __check_init__(self):
        columns = numbers_of("columns", self.columns).values
        if columns.ndim != 2 or whole("count", self.count) < 1:
            raise InputError(
                f"Compressed takes columns (m, r) and their count, not shape {np.shape(self.columns)} "
                f"and {self.count}."
            )


def compress(
    blocks: DataBlocks | np.ndarray | Compressed, *, mask: np.ndarray | None = None
) -> Compressed:
    """Read right-hand sides once and keep what a global fit needs of them: a triangle (m, m).

    **Arguments:**

    - `blocks`: data (m, k) that can be sliced by columns, such as a `numpy.memmap`, an array of zarr,
        h5py or dask; or a function without arguments that returns an iterator over blocks (m, k_i)
        of any widths; or any iterable of such blocks, of which some may be `Compressed` themselves.
    - `mask`: boolean (m,), True for samples to use. The others may hold anything.

    **Returns:** a `Compressed`. That of parts that were compressed elsewhere, `compress([a, b])`, is
    that of the whole.

    **Raises:** `InputError` for blocks that differ in their rows, are not numbers, or not finite.

    The cost is 2 m^2 k operations, that of some tens of evaluations of a fit: it pays for data that
    do not fit into memory, and for many fits of the same data.
    """
    r, count, first = None, 0, None
    mask = None if mask is None else truth_of("mask", mask).values
    for block in column_blocks(blocks):
        part = block.columns if isinstance(block, Compressed) else _checked(block, mask, count)
        if first is None:
            first = part
            r = np.zeros((0, len(part)), part.dtype)
        assert r is not None
        if len(part) != len(first):
            raise InputError(
                f"A block of right-hand sides has {len(part)} rows, the first one {len(first)}."
            )
        count += block.count if isinstance(block, Compressed) else part.shape[1]
        with precision(np.finfo(part.dtype).dtype):
            r = np.asarray(_joined(r, part))
    if r is None:
        raise InputError("There is no block of right-hand sides to compress.")
    return Compressed(np.ascontiguousarray(r.T), count)


def is_stream(y: object) -> bool:
    """Whether y is data that are to be read block by block and not to be had in memory."""
    if isinstance(y, np.ndarray):
        return isinstance(y, np.memmap) and y.ndim == 2
    if _sliceable(y):
        # An h5py dataset that lies in one piece has no chunks.
        lazy = getattr(y, "chunks", None) or type(y).__module__.startswith("h5py")
        return bool(lazy) and len(y.shape) == 2  # pyright: ignore[reportAttributeAccessIssue]
    if is_array(y) or isinstance(y, Compressed | Mapping):
        return False
    return callable(y) or isinstance(y, Iterable)


def column_blocks(source: Any) -> Iterator[Any]:
    """DataBlocks (m, k_i), one after the other, as floating numbers."""
    if isinstance(source, Compressed):
        yield source
        return
    if callable(source):
        try:
            blocks = source()
        except TypeError as error:
            raise InputError(
                f"A function as data is called without arguments and returns an iterator over blocks "
                f"(m, k_i), but {error}.",
                argument="y",
            ) from error
        if not isinstance(blocks, Iterable):
            raise InputError(
                "A function as data returns an iterator over blocks (m, k_i), not "
                f"{type(blocks).__name__}.",
                argument="y",
            )
    elif _sliceable(source):
        if len(source.shape) != 2:
            raise InputError(f"Right-hand sides have shape (m, k), not {tuple(source.shape)}.")
        m, k = source.shape
        width = int(np.clip(_TIMES * m, 1, max(_MEMORY // max(m, 1), 1)))
        # A labelled array by its positions, which its dimensions are in the order of.
        source = getattr(source, "variable", source)
        blocks = (source[:, first : first + width] for first in range(0, k, width))
    elif isinstance(source, list | tuple) and (not source or any(map(_is_block, source))):
        blocks = source
    elif is_array(source) and not isinstance(source, numbers.Number) and source is not None:
        blocks = [source]
    elif isinstance(source, Iterable):
        blocks = source
    else:
        raise InputError(
            f"Right-hand sides come as an array, as blocks (m, k_i), or as a function that returns an "
            f"iterator over them, not as {type(source).__name__}."
        )
    for block in blocks:
        if isinstance(block, Compressed):
            yield block
            continue
        array = numbers_of("y", block).values
        if array.ndim != 2:
            raise InputError(
                f"A block of right-hand sides must be numbers (m, k), not of shape {array.shape}."
            )
        yield array


def _is_block(value: Any) -> bool:
    return isinstance(value, Compressed) or hasattr(value, "shape")


def _sliceable(y: Any) -> bool:
    return all(hasattr(y, name) for name in ("shape", "dtype", "__getitem__"))


def _checked(block: np.ndarray, mask: np.ndarray | None, before: int) -> np.ndarray:
    """A block (m, k_i) with zeros where the mask leaves samples out, all of it finite."""
    if mask is not None:
        if mask.shape != block.shape[:1]:
            raise InputError(
                f"mask must be boolean of shape ({len(block)},), not of shape {mask.shape}.",
                argument="mask",
            )
        block = np.where(mask[:, None], block, np.zeros((), block.dtype))
    bad = ~np.isfinite(block)
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise InputError(
            f"y contains {int(bad.sum())} non-finite values in right-hand sides {before} to "
            f"{before + block.shape[1] - 1}, the first at ({i}, {before + j}). Leave samples out of all "
            "with mask=.",
            argument="y",
        )
    return block


@jax.jit
def _joined(r: Inexact[ArrayIn, "s m"], block: Inexact[ArrayIn, "m k"]) -> Inexact[Array, "r m"]:
    stack = jnp.concatenate([jnp.asarray(r), jnp.asarray(block).T])
    return jnp.linalg.qr(stack, mode="r")
