"""Data at the door: shapes are forgiven here and nowhere else.

A vector y becomes one column, integers become floats, sigma becomes a weight, masked samples get
weight zero and a zero in y. What cannot be right is refused, with what came and what was expected.
"""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .options import Weighting


class Data(eqx.Module):
    """Checked data, host arrays: `y` (m, k); `weights` (m,), or (m, k) where right-hand sides differ
    in them, or None; `keep`, of the same shape or (m,), marks what is in use. `count`: how many
    right-hand sides the columns of y stand for, where those are compressed."""

    x: PyTree
    y: np.ndarray
    weights: np.ndarray | None
    keep: np.ndarray
    absolute: bool
    vector: bool
    count: int | None = None

    @property
    def real(self) -> np.dtype:
        """The floating type of everything real in the fit."""
        return _real_dtype(self.y)

    @property
    def effective(self) -> int:
        """The number of real observations that carry weight, over all columns."""
        parts = 2 if np.iscomplexobj(self.y) else 1
        columns = 1 if self.keep.ndim == 2 else self.num_rhs
        return int(self.keep.sum()) * columns * parts

    @property
    def num_rhs(self) -> int:
        """How many right-hand sides there are."""
        return self.y.shape[1] if self.count is None else self.count

    @property
    def common(self) -> np.ndarray | None:
        """Weights (m,) that all right-hand sides have in common."""
        return None if self.column_weights is not None else self.weights

    @property
    def column_weights(self) -> np.ndarray | None:
        """Weights (m, k), where they are not the same for all."""
        return self.weights if self.weights is not None and self.weights.ndim == 2 else None


def prepare_data(x: PyTree, y: np.ndarray, weighting: Weighting) -> Data:
    """Check data and bring it into the form of the core."""
    y = _matrix(y)
    vector, (m, k) = np.ndim(y) == 1, (len(y), int(np.prod(y.shape[1:])))
    y = y.reshape(m, -1)
    real = _real_dtype(y)
    x = jax.tree.map(lambda leaf: _axis(leaf, m, y.shape, real), x)

    keep = _mask(weighting.mask, m, k)
    scale = _weights(weighting.sigma, weighting.weights, m, k, real)
    bad = ~np.isfinite(y)
    # Nearly all data are finite: then nothing of their size is looked at again.
    bad = bad if bad.any() else np.zeros((m, 1), bool)
    bad_rows = np.zeros(m, bool)
    for leaf in jax.tree.leaves(x):
        if leaf.ndim and leaf.shape[0] == m:
            bad_rows |= ~np.isfinite(leaf.reshape(m, -1)).all(axis=1)
    if weighting.nan == "raise":
        wanted = _two(keep)
        _refuse("x", bad_rows & wanted.any(axis=1))
        bad_y = bad & wanted
        _refuse("y", bad_y[:, 0] if vector else bad_y)
    elif weighting.nan != "drop":
        raise InputError(f"nan must be 'raise' or 'drop', not {weighting.nan!r}.", argument="nan")
    # Where all right-hand sides miss the same samples, one set of weights serves them all.
    missing = bad | bad_rows[:, None]
    if not (missing == missing[:, :1]).all():
        keep = keep & ~missing if keep.ndim == 2 else keep[:, None] & ~missing
    else:
        keep = keep & ~(missing if keep.ndim == 2 else missing[:, 0])
    if scale is not None:
        keep = _two(keep) & (_two(scale) > 0) if keep.ndim != scale.ndim else keep & (scale > 0)
    if keep.ndim == 2 and (keep == keep[:, :1]).all() and (scale is None or scale.ndim == 1):
        keep = keep[:, 0]
    if not keep.any():
        raise InputError(
            "No sample carries weight: all are masked, dropped or of zero weight.", argument="data"
        )
    if not keep.all():
        # Bases still see every x, for some need a whole grid: a bad x becomes a good one of weight 0.
        good = int(np.argmax(_two(keep).any(axis=1) & ~bad_rows))
        x = jax.tree.map(lambda leaf: _fill(leaf, good), x)
        y = np.where(_two(keep), y, np.zeros((), y.dtype))
        scale = np.ones((), real) if scale is None else scale
        scale = _two(scale) if keep.ndim == 2 and scale.ndim == 1 else scale
        scale = np.where(keep, scale, 0.0).astype(real)
    return Data(x, y, scale, keep, weighting.variance_known, vector)


def _matrix(y: object) -> np.ndarray:
    """y as numbers (m,) or (m, k)."""
    if isinstance(y, list | tuple):
        lengths = [len(one) for one in y if hasattr(one, "__len__")]
        if len(set(lengths)) > 1:
            raise InputError(
                f"y is ragged: its parts have the lengths {sorted(set(lengths))}, but right-hand sides "
                "that share x have one. Give several data sets, {'name': (x, y), ...}.",
                argument="y",
            )
    array = _floating("y", y)
    if array.ndim not in (1, 2):
        raise InputError(
            f"y must have shape (m,) or (m, k), but has shape {array.shape}.", argument="y"
        )
    if array.size == 0:
        raise InputError(
            f"y is empty (shape {array.shape}). Give at least one sample.", argument="y"
        )
    return array


def _two(a: np.ndarray) -> np.ndarray:
    """(m,) as (m, 1)."""
    return a[:, None] if a.ndim == 1 else a


def _floating(name: str, value: object) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype == bool or not np.issubdtype(array.dtype, np.number):
        raise InputError(f"{name} must be numeric, but has dtype {array.dtype}.", argument=name)
    if np.issubdtype(array.dtype, np.inexact) and array.dtype not in (np.float16,):
        wide = array.dtype in (np.longdouble, np.clongdouble)
        return array.astype(complex if np.iscomplexobj(array) else float) if wide else array
    return array.astype(np.float64)


def _real_dtype(y: np.ndarray) -> np.dtype:
    return np.finfo(y.dtype).dtype


def _axis(leaf: object, m: int, shape: tuple[int, ...], real: np.dtype) -> np.ndarray:
    array = _floating("x", leaf)
    if array.ndim == 0 or array.shape[0] != m:
        if (
            array.ndim == 1
            and shape[1] == m != shape[0]
            or array.ndim == 1
            and array.shape[0] == shape[1]
        ):
            raise InputError(
                f"x has {array.shape[0]} points but y has shape {shape}, with {m} along the same "
                "axis. y must be (m, k): transpose it.",
                argument="x",
            )
        points = array.shape[0] if array.ndim else "no"
        raise InputError(f"x has {points} points but y has {m} along the same axis.", argument="x")
    return array.astype(np.result_type(array.dtype, real) if np.iscomplexobj(array) else real)


def _weights(
    sigma: np.ndarray | float | None, weights: np.ndarray | None, m: int, k: int, real: np.dtype
) -> np.ndarray | None:
    """The factor on the residual, 1/sigma or `weights`: (m,), (m, k) or None."""
    if sigma is not None and weights is not None:
        raise InputError("Give either sigma (standard deviations) or weights (1/sigma), not both.")
    if sigma is None and weights is None:
        return None
    name, given = ("sigma", sigma) if weights is None else ("weights", weights)
    array = _floating(name, given)
    if np.iscomplexobj(array):
        raise InputError(f"{name} must be real, but has dtype {array.dtype}.", argument=name)
    if array.shape not in ((), (m,), (m, k)):
        more = f", or ({m}, {k}), one per value" if k > 1 else ""
        raise InputError(
            f"{name} has shape {array.shape}; expected ({m},), one per sample of y{more}.",
            argument=name,
        )
    if array.ndim == 2 and (array == array[:, :1]).all():
        array = array[:, 0]
    array = np.broadcast_to(array, (m,)) if array.ndim < 2 else array
    if not np.isfinite(array).all():
        raise InputError(
            f"{name} contains non-finite values at {_where(~np.isfinite(array))}.", argument=name
        )
    low = array <= 0 if name == "sigma" else array < 0
    if low.any():
        rule = "greater than zero" if name == "sigma" else "zero or more"
        raise InputError(f"{name} must be {rule}, but is not at {_where(low)}.", argument=name)
    return (1.0 / array if name == "sigma" else array).astype(real)


def _mask(mask: np.ndarray | None, m: int, k: int) -> np.ndarray:
    if mask is None:
        return np.ones(m, dtype=bool)
    array = np.asarray(mask)
    if array.dtype != bool or array.shape not in ((m,), (m, k)):
        more = f" or ({m}, {k})" if k > 1 else ""
        raise InputError(
            f"mask must be a boolean array of shape ({m},){more}, True for samples to use; it has "
            f"dtype {array.dtype} and shape {array.shape}.",
            argument="mask",
        )
    return array.copy()


def _refuse(name: str, bad: np.ndarray) -> None:
    if count := int(bad.sum()):
        noun = "value" if count == 1 else "values"
        raise InputError(
            f'{name} contains {count} non-finite {noun} at {_where(bad)}. Pass mask= or nan="drop".',
            argument=name,
        )


def _where(bad: np.ndarray) -> str:
    found = np.argwhere(bad)
    shown = [int(i[0]) if bad.ndim == 1 else tuple(map(int, i)) for i in found[:8]]
    more = ", ..." if len(found) > 8 else ""
    word = "index" if len(found) == 1 else "indices"
    return f"{word} [{', '.join(map(str, shown))}{more}]"


def _fill(leaf: np.ndarray, good: int) -> np.ndarray:
    finite = np.isfinite(leaf.reshape(leaf.shape[0], -1)).all(axis=1)
    return np.where(finite.reshape(-1, *([1] * (leaf.ndim - 1))), leaf, leaf[good])
