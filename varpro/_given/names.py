"""What labelled data call their axes, and arrays joined by these labels and not by their position."""

import dataclasses

import equinox as eqx
import numpy as np

from .._errors import InputError
from .containers import Axis, Given

SAMPLE, RHS = "sample", "rhs"


class Names(eqx.Module):
    """What the data of a fit are called, as far as they said.

    **Fields:** `sample` and `rhs`, the axes of samples and of right-hand sides; `x` and `y`, the positions
    and the values; their units; `samples` (m,) and `columns` (k,), the labels along the axes, None
    without.
    """

    sample: str = SAMPLE
    rhs: str = RHS
    x: str = ""
    y: str = ""
    x_unit: str = ""
    y_unit: str = ""
    rhs_unit: str = ""
    samples: np.ndarray | tuple[str, ...] | None = None
    columns: np.ndarray | tuple[str, ...] | None = None

    def column(self, j: int) -> str:
        """What right-hand side j is called: its label, or its number."""
        return str(j) if self.columns is None else text_of(self.columns[j])

    @property
    def numbers(self) -> np.ndarray | None:
        """The labels of right-hand sides where they are numbers, or texts that say numbers."""
        if self.columns is None or self.positions is not None:
            return self.positions
        try:
            return np.array([float(text) for text in self.columns])
        except ValueError:
            return None

    @property
    def positions(self) -> np.ndarray | None:
        """The labels of right-hand sides where they are numbers."""
        at = self.columns
        return at.astype(float) if isinstance(at, np.ndarray) else None


NAMELESS = Names()


def text_of(label: object) -> str:
    """A label as it is written in a table."""
    if isinstance(label, float | np.floating):
        return f"{label:.10g}"
    return str(label)


def with_unit(name: str, unit: str) -> str:
    """The title of an axis: `time [ns]`."""
    return f"{name} [{unit}]" if unit else name


def names_of(y: Given, x: Given | None) -> Names:
    """The names of data whose samples are the first axis of y; those of positions from x."""
    first = y.axes[0] if y.axes else Axis()
    second = y.axes[1] if len(y.axes) > 1 else Axis()
    own = x if x is not None and x.values.ndim == 1 else None
    return Names(
        sample=first.name or SAMPLE,
        rhs=second.name or RHS,
        x=(own.name if own is not None else "") or first.name,
        y=y.name,
        x_unit=(own.unit if own is not None else "") or first.unit,
        y_unit=y.unit,
        rhs_unit=second.unit,
        samples=_worth_keeping(first),
        columns=_worth_keeping(second),
    )


def _worth_keeping(axis: Axis) -> np.ndarray | tuple[str, ...] | None:
    """Labels as numbers, or else as texts."""
    if axis.labels is None or axis.counted:
        return None
    labels = axis.labels
    return labels if labels.dtype.kind in "iuf" else tuple(map(str, labels.tolist()))


def transposed(given: Given, dim: str | None, what: str) -> Given:
    """Labelled data with the axis `dim` first; as they are without `dim`."""
    if dim is None:
        return given
    known = tuple(axis.name for axis in given.axes)
    if dim not in known:
        raise InputError(
            f"dim='{dim}' is no dimension of {what}; those are {known}."
            if any(known)
            else "dim= is for labelled data (xarray, pandas); of a plain array it is the first axis.",
            argument="dim",
        )
    order = [known.index(dim), *(i for i, name in enumerate(known) if name != dim)]
    return _in_order(given, order)


def _in_order(given: Given, order: list[int]) -> Given:
    def turned(a: np.ndarray | None) -> np.ndarray | None:
        return None if a is None else a.transpose(order)

    return given._replace(
        values=given.values.transpose(order),
        missing=turned(given.missing),
        axes=tuple(given.axes[i] for i in order),
    )


def aligned(what: str, given: Given, like: Given, whole: tuple[int, ...]) -> Given:
    """An array for data `like` it, which have the shape `whole`, brought into their order by its labels.

    Axes that both name are the same; others go by their position. Labels that both have must be the
    same ones, in any order. An axis that is lacking is filled up, but for that of right-hand sides.

    **Raises:** `InputError` with the first label that differs.
    """
    if not given.axes or not like.axes:
        return given
    mine, theirs = [a.name for a in given.axes], [a.name for a in like.axes]
    if given.by_name and like.by_name:
        for name in mine:
            if name not in theirs:
                raise InputError(
                    f"{what}: '{name}' is no dimension of the data {tuple(theirs)}.", argument=what
                )
        order = sorted(range(len(mine)), key=lambda i: theirs.index(mine[i]))
        given = _in_order(given, order)
        places = [theirs.index(axis.name) for axis in given.axes]
    else:
        places = list(range(min(len(mine), len(theirs))))
    for axis, place in enumerate(places):
        if axis > 0 and given.values.shape[axis] == 1:
            continue  # a table of one column is that column, whatever it is called
        taken = places_of(what, given.axes[axis], like.axes[place])
        if taken is not None:
            given = _taken(given, taken, axis)
    if places and places != list(range(len(places))) and len(whole) == 2:
        # Only an axis of right-hand sides: the same for every sample.
        shape = (1, *given.values.shape)
        if shape[1] == whole[1]:
            given = given._replace(
                values=np.broadcast_to(given.values.reshape(shape), whole),
                missing=None
                if given.missing is None
                else np.broadcast_to(given.missing.reshape(shape), whole),
                axes=like.axes,
            )
    return given


def _taken(given: Given, places: np.ndarray, axis: int) -> Given:
    axes = list(given.axes)
    labels = axes[axis].labels
    axes[axis] = dataclasses.replace(axes[axis], labels=None if labels is None else labels[places])
    return given._replace(
        values=given.values.take(places, axis=axis),
        missing=None if given.missing is None else given.missing.take(places, axis=axis),
        axes=tuple(axes),
    )


def places_of(what: str, mine: Axis, theirs: Axis) -> np.ndarray | None:
    """Where the labels of the data stand among those of an array that goes with them; None where they
    are the same in the same order, or where one of both has none."""
    a, b = mine.labels, theirs.labels
    if a is None or b is None or _equal(a, b):
        return None
    first, second = a.tolist(), b.tolist()
    index = {label: i for i, label in enumerate(first)}
    unique = len(index) == len(first)
    lacking = [label for label in second if label not in index]
    if unique and not lacking:
        return np.array([index[label] for label in second], int)
    if mine.counted or theirs.counted:
        return None
    axis = f" along '{theirs.name}'" if theirs.name else ""
    if lacking:
        told = f"the data have {text_of(lacking[0])!r}, which {what} has not"
    else:
        told = f"labels of {what} repeat"
    raise InputError(
        f"{what} and the data have different labels{axis}: {told}. Give both the same labels, or plain "
        "arrays, which go by their position.",
        argument=what.partition(" ")[0],
    )


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "iuf" and b.dtype.kind in "iuf":
        return bool(np.allclose(a, b, rtol=1e-9, atol=0.0, equal_nan=True))
    return bool(np.array_equal(a, b))
