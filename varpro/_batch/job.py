"""A batch that is checked and ready: any of its curves can be fitted, in any order and anywhere."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._parameters.layout import Coordinates, Layout
from .._parameters.param import Param
from .._problem.columns import Assembled
from .._reduced.normal_equations import Curve
from .._search.batched_levenberg import Limits
from .._status import CurveStatus
from .._types import precision
from ..basis import Model
from .batch_fit import BatchFit
from .curves import Rows, Weighing
from .program import run_block

# Lanes that are searched side by side, and curves in one call of the compiled program.
_LANES, _BLOCK = 128, 4096
# Numbers of data in one block.
_MEMORY = 2**23
# Damping of first steps from starts of unknown worth, and from those that fits gave.
WARY, BOLD = 1.0, 0.1
# What is known of each curve, and what it is where the curve was not fitted.
FIELDS = ("alpha", "alpha_stderr", "coef", "coef_stderr", "chisq", "dof", "num_steps", "status")


@dataclasses.dataclass(frozen=True)
class BatchJob:
    """Many fits of one model, checked, with nothing left to decide; see `varpro.prepare_many`.

    `shape` are the batch axes, `count` how many curves there are and `size` how many the compiled
    program takes at once. `fit_rows` fits some of them, `gather` makes the `BatchFit` of all.
    A job can be pickled if its data and the functions of its model can.
    """

    rows: Rows
    weighing: Weighing
    common: np.ndarray | None
    start: np.ndarray
    box: tuple[np.ndarray, np.ndarray] | None
    columns: Assembled
    limits: Limits
    layout: Layout
    coordinates: Coordinates
    params: dict[str, Param]
    model: Model
    x: PyTree
    dims: tuple[str, ...] | None
    coords: dict[str, tuple[tuple[str, ...], np.ndarray]]
    absolute_sigma: bool
    dtype: np.dtype  # of the data, in the precision in which all is computed
    block: int | None
    lanes: int = 1
    size: int = 1

    def with_starts(self, start: np.ndarray) -> "BatchJob":
        """The same job from starts (b, p) that fits gave, moved to where curves may go."""
        start = start if self.box is None else np.clip(start, *self.box)
        damping = np.asarray(BOLD, self.real)
        return dataclasses.replace(
            self,
            start=start.astype(self.real),
            limits=dataclasses.replace(self.limits, damping=damping),
        )

    @property
    def real(self) -> np.dtype:
        """The type of all that is real."""
        return np.finfo(self.dtype).dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape

    @property
    def count(self) -> int:
        return self.rows.count

    @property
    def names(self) -> tuple[str, ...]:
        """The nonlinear parameters."""
        return self.layout.names

    @property
    def devices(self) -> int:
        """Devices of this machine that share the curves of a block."""
        here = range(jax.local_device_count(), 0, -1)
        return next(n for n in here if self.size % (self.lanes * n) == 0)

    def sized(self) -> "BatchJob":
        """The same job with a compiled program that suits the number of curves and devices."""
        room = max(_MEMORY // max(self.rows.samples, 1), 1)
        most, total = min(self.block or room, self.block or _BLOCK), self.count
        lanes = min(*(1 << max(n - 1, 0).bit_length() for n in (most, total)), _LANES)
        unit = lanes * min(jax.local_device_count(), max(1, total // _LANES))
        size = min(-(-most // unit) * unit, -(-total // unit) * unit)
        return dataclasses.replace(self, lanes=lanes, size=size)

    def fit_rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Fit the curves from `first` up to `last`: arrays by the names of `FIELDS`, a row each, and
        "cost", what was minimised."""
        parts = [self._block(i, min(i + self.size, last)) for i in range(first, last, self.size)]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _block(self, first: int, last: int) -> dict[str, np.ndarray]:
        curves, start, counted, status = self.block_inputs(first, last)
        with precision(self.real):
            found = run_block(
                *(self.columns, curves, start, counted, self.limits, self.variance_known),
                *(self.lanes, self.devices),
            )
            found = jax.device_get(found)
        return self.finalise(found, status)

    @property
    def variance_known(self) -> bool:
        """Whether no residual scales the errors."""
        return self.absolute_sigma or self.limits.noise.variance_known

    def block_inputs(self, first: int, last: int) -> tuple[Curve, Any, Any, np.ndarray]:
        """Curves as the compiled program takes them, filled up to `size`: curves, starts, how many
        real numbers each has, and the status of those, `last - first` of them, that need no search."""
        y = self.rows.read(first, last).astype(self.dtype)
        b, m = y.shape
        weights = self.common
        if self.weighing.own:
            weights = self.weighing.read(first, last, self.real)
            assert weights is not None
            weights = np.broadcast_to(weights, y.shape)
        used = np.broadcast_to(True if weights is None else weights > 0, y.shape)
        parts = 2 if self.dtype.kind == "c" else 1
        counted = parts * used.sum(axis=1)
        bad = (~np.isfinite(y) & used).any(axis=1)
        if self.weighing.own and weights is not None:
            bad |= ~np.isfinite(weights).all(axis=1)
        bad |= (self.limits.noise.impossible(y) & used).any(axis=1)
        each = 1 if self.columns.real else parts
        free = len(self.layout.free) + each * len(self.model.columns)
        if self.box is not None:
            held = (self.box[0] == self.box[1]).sum(axis=-1)
            free = free - (held[first:last] if np.ndim(held) else held)
        status = np.where(
            bad, CurveStatus.BAD_DATA, np.where(counted < free, CurveStatus.NO_DATA, 0)
        )
        y = np.where(used & (status == 0)[:, None], y, 0.0)
        # Squares neither overflow nor underflow; a term without coefficient keeps its size.
        largest = np.abs(y).max(axis=1)
        plain = (largest == 0) | bool(self.model.offsets)
        unit = np.exp2(np.round(np.log2(np.where(plain, 1.0, largest))))
        y = y / unit[:, None]

        def filled(a: np.ndarray, dtype: Any = self.real) -> Any:
            return np.concatenate([a, np.repeat(a[:1], self.size - b, axis=0)]).astype(dtype)

        def own(a: np.ndarray) -> Any:
            return filled(a[first:last] if len(a) > 1 else np.repeat(a, b, axis=0))

        box: Any = self.box or (None, None)
        rows: Any = filled(weights) if weights is not None and weights.ndim == 2 else weights
        curves = Curve(
            filled(y, self.dtype),
            rows,
            filled(unit),
            *(own(a) if a is not None and a.ndim == 2 else a for a in box),
        )
        return curves, own(self.start), filled(counted, np.int32), status

    def finalise(self, found: Mapping[str, Any], status: np.ndarray) -> dict[str, np.ndarray]:
        """The rows that were asked for, their columns in the order of the model, and nothing where
        there was nothing to fit."""
        b, good = len(status), status == 0
        order = list(self.model.order)
        out: dict[str, np.ndarray] = {
            "status": np.where(good, found["status"][:b], status).astype(np.int8),
            "num_steps": np.where(good, found["steps"][:b], 0).astype(np.int32),
            "dof": np.where(good, found["dof"][:b], 0).astype(np.int64),
            "chisq": np.where(good, found["chisq"][:b], np.nan),
            "cost": np.where(good, found["cost"][:b], np.nan),
        }
        for name in ("alpha", "alpha_stderr"):
            out[name] = np.where(good[:, None], found[name][:b], np.nan)
        for name in ("coef", "coef_stderr"):
            out[name] = np.where(good[:, None], found[name][:b, order], np.nan)
        return out

    def gather(self, found: Mapping[str, np.ndarray], shared: tuple[str, ...] = ()) -> BatchFit:
        """The result of all curves from arrays by the names of `FIELDS`, a row each."""

        def shaped(a: np.ndarray) -> np.ndarray:
            return np.asarray(a).reshape((*self.shape, *np.shape(a)[1:]))

        return BatchFit(
            names=self.layout.names,
            columns=tuple(self.model.columns[i] for i in self.model.order),
            **{key: shaped(found[key]) for key in FIELDS},
            x=self.x,
            absolute_sigma=self.absolute_sigma,
            params=self.params,
            layout=self.layout,
            model=self.model,
            shared=shared,
            dims=self.dims,
            coords=self.coords,
        )
