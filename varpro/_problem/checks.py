"""The refusal of starts and data that determine nothing."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from .._errors import InputError
from .._parameters.expression import evaluated
from .._parameters.layout import Layout, Numbers
from .._parameters.param import Param
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


def _which(data: Data, j: int) -> str:
    if data.names.columns is None:
        return f"Right-hand side {j} (counted from 0)"
    return f"Right-hand side {j} (counted from 0), '{data.names.column(j)}',"


def check_distinct(
    built: Model, layout: Layout, numbers: Numbers, params: Mapping[str, Param], data: Data
) -> None:
    """Refuse starts from which two components would stay the same for ever.

    Equal columns have equal derivatives, so no step tells their parameters apart if all are free.
    """
    inits = [param.init for param in params.values()]
    values = np.array([inits[source] for source in layout.source], dtype=float)
    values = values * np.asarray(numbers.scale) + np.asarray(numbers.shift)
    for i, tree in layout.formulas:
        values[i] = evaluated(tree, values, np)
    for first, second, index in built.identical_columns(values):
        column_weights = [(layout.source[i], layout.source[j]) for i, j in index]
        free = [len({i, j}.intersection(layout.free)) for i, j in column_weights if i != j]
        if 1 in free or 2 not in free:
            continue
        phi = np.asarray(at_side(built, 0).evaluate(data.x, jnp.asarray(values, data.real)))
        size = np.linalg.norm(phi, axis=0)
        rank = np.linalg.matrix_rank(phi / np.where(size > 0, size, 1.0))
        at = ", ".join(f"{layout.names[i].rpartition('.')[2]} = {values[i]:g}" for i, _ in index)
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
