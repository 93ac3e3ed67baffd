"""Data at the door: shapes are forgiven here and nowhere else.

A vector y becomes one column, sigma becomes a weight, masked samples get weight zero and a zero in y,
and labelled arrays are joined by their labels. What cannot be right is refused, with what came and what
was expected. Containers and types of numbers are the matter of `_given`.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._given.containers import (
    Axis,
    Given,
    as_positions,
    axes_of,
    is_labelled,
    is_table,
    numbers_of,
    one_variable,
    read,
    truth_of,
)
from .._given.names import NAMELESS, Names, aligned, names_of, transposed
from .noise_covariance import covariance_of, deviations, whitener_of
from .options import Weighting


class Data(eqx.Module):
    """Checked data, host arrays: `y` (m, k), zero where no value is in use; `weights` (m,), or (m, k)
    where right-hand sides differ in them, or None; `keep`, of the same shape or (m,), marks what is in
    use. `whitener` (m, m), by which residuals in units of their standard deviations are multiplied where noise
    is correlated. `given`: y as it was given, None where that is the same; `names`: what it is called. `count`:
    how many right-hand sides the columns of y stand for, where those are compressed."""

    x: PyTree
    y: np.ndarray
    weights: np.ndarray | None
    keep: np.ndarray
    absolute: bool
    vector: bool
    count: int | None = None
    given: np.ndarray | None = None
    names: Names = NAMELESS
    whitener: np.ndarray | None = None

    @property
    def real(self) -> np.dtype:
        """The floating type of everything real in the fit."""
        return _real_dtype(self.y)

    @property
    def values(self) -> np.ndarray:
        """y (m, k) as it was given."""
        return self.y if self.given is None else self.given

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


def prepare_data(
    x: PyTree, y: Any, weighting: Weighting, *, dim: str | None = None, flat: bool = True
) -> Data:
    """Check data and bring it into the form of the core.

    `dim`: the axis of samples of a labelled y. `flat`: x of shape (m, 1) is one axis, which it is for
    all but functions that take it as it is.
    """
    x, y = separated(x, y, dim)
    given = transposed(_matrix(y), _sample_dim(x, y, dim), "y")
    y, absent = given.values, given.missing
    vector, (m, k) = y.ndim == 1, (len(y), int(np.prod(y.shape[1:])))
    y = y.reshape(m, -1)
    real = _real_dtype(y)
    x = as_positions("x", x, m)
    if isinstance(x, dict) and not x or isinstance(x, tuple | list) and not x:
        raise InputError(f"x has no points but y has {m} along the same axis.", argument="x")
    x_given = x
    leaves, tree = jax.tree.flatten(x)
    named = [_axis(leaf, m, y.shape, real, given, flat) for leaf in leaves]
    x = jax.tree.unflatten(tree, [leaf.values for leaf in named])
    if flat and (len(named) != 1 or named[0].values.ndim != 1 or leaves[0] is not x_given):
        shapes = ", ".join(str(leaf.values.shape) for leaf in named)
        raise InputError(
            f"x must be one array ({m},), but has {len(named)} of shape {shapes}. Only functions of your "
            "own take other positions.",
            argument="x",
        )
    names = names_of(given, named[0] if len(named) == 1 else None)

    keep = _mask(weighting.mask, m, k, given)
    if absent is not None:
        absent = absent.reshape(m, -1)
        absent = absent[:, 0] if (absent == absent[:, :1]).all() else absent
        keep = keep & ~absent if keep.ndim == absent.ndim else _two(keep) & ~_two(absent)
    bad = ~np.isfinite(y)
    # Nearly all data are finite: then nothing of their size is looked at again.
    bad = bad if bad.any() else np.zeros((m, 1), bool)
    bad_rows, missing_rows = np.zeros(m, bool), np.zeros(m, bool)
    for leaf in named:
        if leaf.values.ndim and leaf.values.shape[0] == m:
            bad_rows |= ~np.isfinite(leaf.values.reshape(m, -1)).all(axis=1)
            if leaf.missing is not None:
                missing_rows |= leaf.missing.reshape(m, -1).any(axis=1)
    if weighting.nan == "raise":
        wanted = _two(keep) & ~missing_rows[:, None]
        _refuse("x", bad_rows & wanted.any(axis=1))
        bad_y = bad & wanted
        _refuse("y", bad_y[:, 0] if vector else bad_y)
    # Where all right-hand sides miss the same samples, one set of weights serves them all.
    missing = bad | bad_rows[:, None]
    if not (missing == missing[:, :1]).all():
        keep = keep & ~missing if keep.ndim == 2 else keep[:, None] & ~missing
    else:
        keep = keep & ~(missing if keep.ndim == 2 else missing[:, 0])
    covariance = None
    if weighting.sigma is not None and weighting.weights is None:
        covariance = covariance_of(weighting.sigma, m, k)
    if covariance is not None:
        if weighting.noise.follows_model:
            raise InputError(
                f"noise={weighting.noise.name!r} weighs every value by itself, so that it cannot be correlated: "
                "give sigma as standard deviations, or leave noise= out.",
                argument="sigma",
            )
        weighting = dataclasses.replace(weighting, sigma=deviations(covariance, keep))
    scale, known = _weights(weighting, m, k, real, given, keep)
    if known is not None:
        keep = keep & known if keep.ndim == known.ndim else _two(keep) & _two(known)
    if scale is not None:
        keep = _two(keep) & (_two(scale) > 0) if keep.ndim != scale.ndim else keep & (scale > 0)
    if keep.ndim == 2 and (keep == keep[:, :1]).all() and (scale is None or scale.ndim == 1):
        keep = keep[:, 0]
    if not keep.any():
        raise InputError(
            "No sample carries weight: all are masked, dropped or of zero weight.", argument="data"
        )
    whitener = None if covariance is None else whitener_of(covariance, keep)
    whitener = None if whitener is None else whitener.astype(real)
    before = None
    if not keep.all():
        # Bases still see every x, for some need a whole grid: a bad x becomes a good one of weight 0.
        good = int(np.argmax(_two(keep).any(axis=1) & ~bad_rows))
        x = jax.tree.map(lambda leaf: _fill(leaf, good), x)
        before, y = y, np.where(_two(keep), y, np.zeros((), y.dtype))
        scale = np.ones((), real) if scale is None else scale
        scale = _two(scale) if keep.ndim == 2 and scale.ndim == 1 else scale
        scale = np.where(keep, scale, 0.0).astype(real)
    known_of_noise = weighting.variance_known
    return Data(x, y, scale, keep, known_of_noise, vector, None, before, names, whitener)


def separated(x: PyTree, y: Any, dim: str | None = None) -> tuple[PyTree, Any]:
    """Positions and data, where labelled data hold both: y without x has the coordinate along `dim`, or
    the index of its rows, or the column `dim` of its table."""
    y = one_variable("y", y)
    if x is None and y is not None and is_labelled(y):
        if is_table(y) and dim is not None and dim in list(y.columns):
            rest = y.drop(columns=dim) if hasattr(y, "iloc") else y.drop(dim)
            return y[dim], rest
        axes = axes_of(y) if hasattr(y, "dims") else read("y", y).axes
        if len(axes) > 1 and dim is None and not is_table(y):
            raise InputError(
                f"Say along which dimension the samples lie: dim=, one of {tuple(a.name for a in axes)}.",
                argument="dim",
            )
        axis = next((a for a in axes if dim is not None and a.name == dim), None)
        if dim is not None and axis is None:
            raise InputError(
                f"dim='{dim}' is no dimension of the data; those are {tuple(a.name for a in axes)}.",
                argument="dim",
            )
        axis = axis or (axes[0] if axes else Axis())
        if axis.labels is None or axis.counted:
            what = f"coordinate '{axis.name}'" if axis.name else "coordinate"
            columns = (
                f", or dim=, the column that is x: one of {list(y.columns)}" if is_table(y) else ""
            )
            raise InputError(f"The data have no {what} along their samples: give x{columns}.")
        labels = axis.labels
        x = Given(labels, None, (), axis.name, axis.unit)
        return _Positions(x), y
    if x is None:
        raise InputError("x is missing.", argument="x")
    return one_variable("x", x), y


def in_blocks(x: PyTree, y: Any, dim: str | None) -> tuple[PyTree, Any, Names]:
    """The same of data that are not in memory: labelled ones with their samples first."""
    x, y = separated(x, y, dim)
    first = _sample_dim(x, y, dim)
    if first is not None and hasattr(y, "transpose") and hasattr(y, "dims"):
        y = y.transpose(first, ...)
    own = x.given if isinstance(x, _Positions) else None
    names = NAMELESS
    if hasattr(y, "dims"):
        name, unit = str(getattr(y, "name", None) or ""), str(y.attrs.get("units", ""))
        names = names_of(Given(np.zeros(0), None, axes_of(y), name, unit), own)
    return x if own is None else own.values, getattr(y, "variable", y), names


def columns_apart(
    x: PyTree, y: Any, weighting: Weighting, dim: str | None
) -> tuple[PyTree, np.ma.MaskedArray, Weighting, Axis, Names]:
    """Data (m, k) as curves (k, m), with what goes with them turned in the same way, and the axis along
    which the curves stand, and all names."""
    x, y = separated(x, y, dim)
    given = transposed(_matrix(y), _sample_dim(x, y, dim), "y")
    if given.values.ndim != 2:
        raise InputError(
            "share= of one data set fits the columns of Y (m, k), each with parameters of its own, but y "
            f"has shape {given.values.shape}.",
            argument="share",
        )
    parts: dict[str, Any] = {}
    for what, value in weighting.arrays.items():
        if value is None:
            parts[what] = None
            continue
        matrix = what == "sigma" and covariance_of(value, *given.values.shape) is not None
        if matrix:
            raise InputError(
                "A covariance of samples is for columns that share parameters, or for a fit of one. Fit each "
                "column by vp.fit, or give sigma as standard deviations.",
                argument="sigma",
            )
        part = truth_of(what, value) if what == "mask" else numbers_of(what, value)
        part = aligned(what, part, given, given.values.shape)
        array = part.values
        if array.shape == (len(given.values), 1):
            array = array[:, 0]
        parts[what] = array.T if array.ndim == 2 else array
    x = x.given.values if isinstance(x, _Positions) else x
    turned = np.ma.MaskedArray(given.values.T, False if given.missing is None else given.missing.T)
    axis = given.axes[1] if given.axes else Axis()
    return x, turned, dataclasses.replace(weighting, **parts), axis, names_of(given, None)


class _Positions:
    """Positions that labelled data have along an axis."""

    def __init__(self, given: Given):
        self.given = given


def _sample_dim(x: PyTree, y: Any, dim: str | None) -> str | None:
    """The name of the axis of samples: the one asked for, or that of labelled positions."""
    if is_table(y):
        return None
    if dim is not None:
        return dim
    name = x.given.name if isinstance(x, _Positions) else None
    known = [axis.name for axis in axes_of(y)] if hasattr(y, "dims") else []
    if name is None and len(getattr(x, "dims", ())) == 1:
        name = axes_of(x)[0].name
    return name if name and name in known else None


def _matrix(y: object) -> Given:
    """y as numbers (m,) or (m, k)."""
    if isinstance(y, list | tuple):
        lengths = [
            len(one) for one in y if hasattr(one, "__len__") and not isinstance(one, str | bytes)
        ]
        if len(set(lengths)) > 1:
            raise InputError(
                f"y is ragged: its parts have the lengths {sorted(set(lengths))}, but right-hand sides "
                "that share x have one. Give several data sets, {'name': (x, y), ...}.",
                argument="y",
            )
    given = numbers_of("y", y)
    array = given.values
    if array.ndim not in (1, 2):
        raise InputError(
            f"y must have shape (m,) or (m, k), but has shape {array.shape}.", argument="y"
        )
    if array.size == 0:
        raise InputError(
            f"y is empty (shape {array.shape}). Give at least one sample.", argument="y"
        )
    return given


def _two(a: np.ndarray) -> np.ndarray:
    """(m,) as (m, 1)."""
    return a[:, None] if a.ndim == 1 else a


def _real_dtype(y: np.ndarray) -> np.dtype:
    return np.finfo(y.dtype).dtype


def _axis(
    leaf: object, m: int, shape: tuple[int, ...], real: np.dtype, like: Given, flat: bool
) -> Given:
    given = numbers_of("x", leaf.given.values if isinstance(leaf, _Positions) else leaf)
    if isinstance(leaf, _Positions):
        given = given._replace(name=leaf.given.name, unit=leaf.given.unit)
    elif given.axes and like.axes:
        strange = given.by_name and given.axes[0].name not in {a.name for a in like.axes}
        if not strange:
            given = aligned("x", given, like, shape)
    array = given.values
    if flat and array.shape == (m, 1):
        array = array[:, 0]
        given = given._replace(
            missing=None if given.missing is None else given.missing[:, 0],
            name=given.name or (given.axes[1].name if len(given.axes) > 1 else ""),
        )
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
    if flat and np.iscomplexobj(array):
        raise InputError(
            f"x must be real, but has dtype {array.dtype}. Give np.real(x) if that is what you mean.",
            argument="x",
        )
    kind = np.result_type(array.dtype, real) if np.iscomplexobj(array) else real
    return given._replace(values=array.astype(kind))


def _weights(
    weighting: Weighting, m: int, k: int, real: np.dtype, like: Given, keep: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The factor on the residual, 1/sigma or `weights`: (m,), (m, k) or None; and where it is known,
    None for everywhere. What `keep` leaves out may hold anything."""
    sigma, weights = weighting.sigma, weighting.weights
    if sigma is not None and weights is not None:
        raise InputError("Give either sigma (standard deviations) or weights (1/sigma), not both.")
    if sigma is None and weights is None:
        return None, None
    name, value = ("sigma", sigma) if weights is None else ("weights", weights)
    given = aligned(name, numbers_of(name, value), like, (m, k))
    if like.unit and given.unit and name == "sigma" and given.unit != like.unit:
        raise InputError(
            f"sigma is in {given.unit}, but y in {like.unit}. Convert one of them.", argument=name
        )
    array = given.values
    if np.iscomplexobj(array):
        raise InputError(f"{name} must be real, but has dtype {array.dtype}.", argument=name)
    if array.shape not in ((), (m,), (m, 1), (m, k)):
        more = f", or ({m}, {k}), one per value" if k > 1 else ""
        matrix = f", or ({m}, {m}), their covariance" if name == "sigma" else ""
        raise InputError(
            f"{name} has shape {array.shape}; expected ({m},), one per sample of y{more}{matrix}.",
            argument=name,
        )
    array = array[:, 0] if array.shape == (m, 1) else array
    array = np.broadcast_to(array, (m,)) if array.ndim < 2 else array
    known = np.ones((), bool)
    if given.missing is not None:
        known = ~given.missing.reshape(array.shape if given.missing.size > 1 else ())
    if weighting.nan == "drop":
        known = known & np.isfinite(array)
    asked = known & (keep if keep.ndim == array.ndim else _two(keep))
    asked = asked if asked.ndim == array.ndim else asked.any(axis=1)
    wrong = asked & ~np.isfinite(array)
    if wrong.any():
        raise InputError(f"{name} contains non-finite values at {_where(wrong)}.", argument=name)
    wrong = asked & (array <= 0 if name == "sigma" else array < 0)
    if wrong.any():
        rule = "greater than zero" if name == "sigma" else "zero or more"
        raise InputError(f"{name} must be {rule}, but is not at {_where(wrong)}.", argument=name)
    array = np.where(asked, array, np.ones((), array.dtype))
    if array.ndim == 2 and (array == array[:, :1]).all():
        array = array[:, 0]
    scale = (1.0 / array if name == "sigma" else array).astype(real)
    return scale, None if known.all() else np.broadcast_to(known, known.shape or (m,))


def _mask(mask: Any, m: int, k: int, like: Given) -> np.ndarray:
    if mask is None:
        return np.ones(m, dtype=bool)
    array = aligned("mask", truth_of("mask", mask), like, (m, k)).values
    if array.shape == (m, 1):
        array = array[:, 0]
    if array.shape not in ((m,), (m, k)):
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
