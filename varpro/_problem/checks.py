"""The refusal of starts and data that determine nothing."""

from collections.abc import Collection, Sequence

import jax.numpy as jnp
import numpy as np

from .._errors import InputError
from ..basis import Model, at_side
from .data import Data
from .linear_constraints import Linear


class ZeroColumnError(InputError):
    """No sample sees a component from the start."""


def check_enough(data: Data, nonlinear: int, columns: int, linear: Linear) -> None:
    if linear.penalty is not None:
        return
    parts = 2 if np.iscomplexobj(data.y) and not linear.real else 1
    if data.keep.ndim == 2:
        used = data.keep.sum(axis=0)
        least = int(np.argmin(used))
        if used[least] < columns:
            raise InputError(
                f"{_which(data, least)} has {used[least]} values in use, which "
                f"cannot determine {columns} coefficients. Leave it out, or use a smaller model.",
                argument="data",
            )
    count = columns * data.num_rhs * parts
    if data.effective < nonlinear + count:
        raise InputError(
            f"{data.effective} data points cannot determine {nonlinear + count} parameters "
            f"({nonlinear} nonlinear, {count} linear). Give more data or a smaller model.",
            argument="data",
        )


def check_positions(data: Data, model: Model, nonlinear: int, columns: int, linear: Linear) -> None:
    """Refuse fewer different x than parameters: samples at one x, however many, say one thing of a curve."""
    x, keep = data.x, data.keep
    one_axis = isinstance(x, np.ndarray) and x.ndim == 1 and keep.ndim == 1
    # Where right-hand sides have labels that are numbers, a curve can differ from one to the next.
    alike = data.num_rhs == 1 or data.names.numbers is None
    if not one_axis or not alike or not model.rowwise or linear.penalty is not None:
        return
    wanted = columns + nonlinear / data.num_rhs
    # The first few samples are nearly always enough.
    for few in (slice(64), slice(None)):
        different = np.unique(x[few][keep[few]]).size
        if different >= wanted:
            return
    raise InputError(
        f"x has {different} different values, at which a curve is known, but the model has {columns} linear and "
        f"{nonlinear} nonlinear parameters. Give data at more x, a smaller model, or hold parameters.",
        argument="x",
    )


def check_squares(data: Data) -> None:
    """Refuse data of which chi-square, a sum of squares, is no number of their precision.

    Small residuals count as well: those of sqrt(eps) times the largest value must have squares.
    """
    if not np.iscomplexobj(data.y):
        largest = max(float(data.y.max()), -float(data.y.min()))
    else:
        largest = float(np.abs(data.y).max())
    weights = np.ones(1) if data.weights is None else data.weights
    info = np.finfo(data.real)
    highest = (float(info.max) / data.y.size) ** 0.5
    lowest = (float(info.tiny) / float(info.eps)) ** 0.5
    # A bound for the largest product is nearly always enough.
    weighted = largest * float(weights.max())
    if weighted > highest or float(weights.max()) > highest:
        wide = weights.astype(float).reshape(len(weights), -1)
        with np.errstate(over="ignore"):
            weighted = float((np.abs(data.y).astype(float) * wide).max())
        weighted = max(weighted, float(wide.max()))
    if lowest <= weighted <= highest or weighted == 0.0:
        return
    size = "large" if weighted > highest else "small"
    over = (
        "" if data.weights is None else f", and {weighted:.3g} times its weight or over its error"
    )
    how = "" if data.real == np.float64 else " or as float64"
    raise InputError(
        f"y is so {size} ({largest:.3g}{over}) that its squares are no numbers of {data.real}. Give it in "
        f"another unit{how}.",
        argument="y",
    )


def _which(data: Data, j: int) -> str:
    if data.names.columns is None:
        return f"Right-hand side {j} (counted from 0)"
    return f"Right-hand side {j} (counted from 0), '{data.names.column(j)}',"


def check_distinct(
    built: Model, source: Sequence[int], free: Collection[int], values: np.ndarray, data: Data
) -> None:
    """Refuse starts from which two components would stay the same for ever.

    Equal columns have equal derivatives, so no step tells their parameters apart if all are free.

    **Arguments:** `source`, for each parameter of the model the one whose value it takes; `free`, those that
    have a coordinate; `values`, where all begin.
    """
    for first, second, index in built.identical_columns(values):
        pairs = [(source[i], source[j]) for i, j in index]
        moving = [len({i, j}.intersection(free)) for i, j in pairs if i != j]
        if 1 in moving or 2 not in moving:
            continue
        phi = np.asarray(at_side(built, 0).evaluate(data.x, jnp.asarray(values, data.real)))
        size = np.linalg.norm(phi, axis=0)
        rank = np.linalg.matrix_rank(phi / np.where(size > 0, size, 1.0))
        at = ", ".join(f"{built.names[i].rpartition('.')[2]} = {values[i]:g}" for i, _ in index)
        raise InputError(
            f"Phi has rank {rank} of {phi.shape[1]} at the starting point: columns '{first}' and "
            f"'{second}' are identical ({at}). Give distinct starts."
        )


def check_columns(
    built: Model,
    start_size: np.ndarray,
    start: np.ndarray,
    moved: np.ndarray,
    names: Sequence[str],
    where: str = "",
) -> None:
    """Refuse columns that are not finite at the start, and those among `moved` that no sample sees
    from there: such a component never moves."""
    finite = np.isfinite(start_size)
    good = finite & ((start_size > 0) | ~moved)
    if not np.all(good):
        column = built.columns[int(np.argmin(good))]
        what = "zero at every sample" if np.all(finite) else "not finite"
        values = dict(zip(names, np.asarray(start).tolist(), strict=True))
        at = ", ".join(f"{name} = {value:g}" for name, value in values.items())
        kind = ZeroColumnError if np.all(finite) else InputError
        raise kind(f"Column '{column}' is {what} at the start{where} ({at}). Give other starts.")
