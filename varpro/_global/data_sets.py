"""Data sets of one fit, checked and made ready."""

import dataclasses
from collections.abc import Mapping, Sequence

import equinox as eqx
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError, suggestion
from .._given.arguments import axes_in
from .._given.containers import is_labelled
from .._parameters.layout import Layout
from .._problem.checks import check_distinct, check_squares
from .._problem.data import Data, prepare_data
from .._problem.linear_constraints import Linear
from .._problem.model_like import ModelLike, takes_vectors
from .._problem.noise import check_noise
from .._problem.options import Weighting
from ..basis import Model


class DataSet(eqx.Module):
    """One data set made ready: `picks` are the places of its parameters among all; `held` has the values of
    those that do not move."""

    name: str
    data: Data
    model: Model
    own: tuple[str, ...]
    picks: np.ndarray
    linear: Linear
    held: np.ndarray


def data_of_all(
    sets: Mapping[str, tuple[PyTree, np.ndarray]],
    weighting: Weighting,
    dim: str | None,
    model: ModelLike | Mapping[str, ModelLike],
) -> dict[str, Data]:
    """All data sets checked, and brought to one floating type."""
    if not sets:
        raise InputError("No data set was given. Expected {'name': (x, y), ...}.")
    arrays = weighting.arrays
    for what, value in arrays.items():
        if isinstance(value, Mapping):
            for key in value:
                if key not in sets:
                    raise InputError(
                        f"{what}: no data set '{key}'. {suggestion(key, sets)}",
                        argument=what,
                        name=key,
                    )
            without = [key for key in sets if key not in value]
            if without and what != "mask":
                raise InputError(
                    f"{what} is given for some data sets, but not for {without}.", argument=what
                )
        elif axes_in(value) > 0:
            raise InputError(
                f"{what} is one array, but there are {len(sets)} data sets. Give one for each: "
                f"{what}={{'{next(iter(sets))}': ...}}.",
                argument=what,
            )
    found = {}
    for key, pair in sets.items():
        if not isinstance(key, str) or not key:
            raise InputError(f"Data sets have names; {key!r} is none.")
        pair = (None, pair) if is_labelled(pair) else pair
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"Data set '{key}' must be a pair (x, y).", name=key)
        one = model.get(key) if isinstance(model, Mapping) else model
        mine = {
            what: value.get(key) if isinstance(value, Mapping) else value
            for what, value in arrays.items()
        }
        try:
            found[key] = prepare_data(
                *pair, dataclasses.replace(weighting, **mine), dim=dim, flat=takes_vectors(one)
            )
            check_noise(weighting.noise, found[key].y, found[key].keep)
            check_squares(found[key])
        except InputError as error:
            raise InputError(
                f"Data set '{key}': {error}", argument=error.argument, name=key
            ) from error
    kinds = {key: data.real for key, data in found.items()}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"'{key}' {kind}" for key, kind in kinds.items())
        raise InputError(f"Data sets differ in their floating type: {listed}. Convert them to one.")
    return found


def check_enough(ready: Sequence[DataSet], nonlinear: int) -> None:
    total, linear = 0, 0
    for one in ready:
        parts = 2 if np.iscomplexobj(one.data.y) and not one.linear.real else 1
        mine = len(one.linear.sought or one.model.columns) * one.data.y.shape[1] * parts
        mine = 0 if one.linear.penalty is not None else mine
        if one.data.effective < mine:
            raise InputError(
                f"Data set '{one.name}' has {one.data.effective} data points, which cannot "
                f"determine {mine} coefficients. Give more data or a smaller model.",
                argument="data",
                name=one.name,
            )
        total, linear = total + one.data.effective, linear + mine
    if total < nonlinear + linear:
        raise InputError(
            f"{total} data points cannot determine {nonlinear + linear} parameters ({nonlinear} "
            f"nonlinear, {linear} linear). Give more data or a smaller model.",
            argument="data",
        )


def local_free(one: DataSet, layout: Layout) -> tuple[int, ...]:
    """Which of a data set's values move with alpha."""
    free = set(layout.free)
    return tuple(i for i, j in enumerate(one.picks) if layout.source[j] in free)


def check_distinct_starts(one: DataSet, layout: Layout, starts: np.ndarray) -> None:
    """Refuse equal starts of components within a data set, of all `starts` (q,)."""
    source = [layout.source[j] for j in one.picks]
    first = [source.index(j) for j in source]
    free = [i for i in local_free(one, layout) if first[i] == i]
    check_distinct(one.model, first, free, starts[one.picks], one.data)
