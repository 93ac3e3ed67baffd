"""What one curve of a batch needs to be fitted by itself, with all that a single fit tells."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._parameters.param import Param
from .._problem.model_like import ModelLike
from .._problem.options import Constraints, Weighting
from .._results.fit_result import FitResult
from .._search.minimise import search
from .._search.multistart import Multistart
from .._single.fit_single import fit_one
from .curves import Rows, Weighing


class CurveSource:
    """The data of a batch, where they are kept, and its options in the words of the user.

    `bounds`: of each curve its own, (b,) each, by name or pattern; `held`: parameters that are held at a
    value of each curve's own. A copy of a `BatchFit` in another process has no source.
    """

    def __init__(
        self,
        model: ModelLike,
        x: PyTree,
        own_x: Rows | None,
        rows: Rows,
        weighing: Weighing,
        dtype: np.dtype,
        constraints: Constraints,
        bounds: Mapping[str, tuple[np.ndarray, np.ndarray]],
        held: Sequence[str],
        weighting: Weighting,
    ):
        self.model: ModelLike = model
        self.x, self.own_x, self.rows = x, own_x, rows
        self.weighing = weighing
        self.dtype, self.constraints, self.bounds = dtype, constraints, dict(bounds)
        self.held, self.weighting = tuple(held), weighting

    def __reduce__(self):
        return _nothing, ()

    def fit(self, number: int, values: Mapping[str, float], fixed: Sequence[str]) -> FitResult:
        """The fit of curve `number`, from these values of parameters, with some of them `fixed`."""
        y = self.rows.read(number, number + 1).astype(self.dtype)
        real = np.finfo(self.dtype).dtype
        weights = self.weighing.read(number, number + 1, real, y)
        x = self.x if self.own_x is None else self.own_x.read(number, number + 1)[0]
        if self.own_x is not None and not np.isfinite(x).all():
            weights = np.where(np.isfinite(x), 1.0 if weights is None else weights, 0.0)
        mask = None
        if weights is not None:
            weights = np.broadcast_to(weights, y.shape)[0]
            mask = weights > 0
        given = self.constraints
        init = {
            name: dataclasses.replace(one, init=values[name])
            if isinstance(one := given.init.get(name), Param)
            else values[name]
            for name in values
        }
        own = {
            name: tuple(float(end[number]) for end in ends) for name, ends in self.bounds.items()
        }
        constraints = dataclasses.replace(
            given,
            init=init,
            bounds=dict(given.bounds) | own,
            fix=[*given.fix, *self.held, *fixed],
        )
        weighting = Weighting(
            weights=weights,
            mask=mask,
            absolute_sigma=self.weighting.absolute_sigma,
            noise=self.weighting.noise,
        )
        how: Any = Multistart(search(None, None, None, None))
        return fit_one(self.model, x, y[0], constraints, weighting, how)


def _nothing() -> None:
    return None
