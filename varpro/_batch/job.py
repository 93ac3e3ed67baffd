"""A batch that is checked and ready: any of its curves can be fitted, in any order and anywhere."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._given.names import NAMELESS, Names
from .._parameters.layout import Coordinates, Layout
from .._parameters.param import Param
from .._problem.columns import Assembled
from .._reduced.normal_equations import Curve
from .._search.batched_levenberg import Limits
from .._starts.declare import Declared
from .._statistics.run_together import run_together
from .._status import CurveStatus
from .._types import precision
from ..basis import Model, without_names
from .batch_fit import BatchFit
from .best_starts import best_starts
from .curve_source import CurveSource
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
    declared: Declared
    x: PyTree
    dims: tuple[str, ...] | None
    coords: dict[str, tuple[Any, ...]]
    absolute_sigma: bool
    dtype: np.dtype  # of the data, in the precision in which all is computed
    block: int | None
    # Bounds of coefficients that are sought, (n,) of all curves or (b, n), in the order of the program.
    coef_box: tuple[np.ndarray, np.ndarray] | None = None
    # Starts (s, p) among which each curve takes the best, None where each has one.
    points: np.ndarray | None = None
    source: CurveSource | None = None
    own_x: Rows | None = None
    data_names: Names = NAMELESS
    lanes: int = 1
    size: int = 1

    def with_starts(self, start: np.ndarray) -> "BatchJob":
        """This job from starts (b, p) that fits gave, moved to where curves may go."""
        start = start if self.box is None else np.clip(start, *self.box)
        damping = np.asarray(BOLD, self.real)
        return dataclasses.replace(
            self,
            start=start.astype(self.real),
            points=None,
            limits=dataclasses.replace(self.limits, damping=damping),
        )

    @property
    def model(self) -> Model:
        """What computes the columns."""
        return self.declared.model

    def as_given(self, found: Mapping[str, np.ndarray]) -> "BatchJob | None":
        """The same job from where its curves ended, with amplitudes where the user wants them, if those
        of all curves can be told there, and if they do not count from there already."""
        good = CurveStatus.converged(found["status"])
        if self.declared.given is None or self.layout.chained or not good.any():
            return None
        values = dict(zip(self.layout.names, found["alpha"][good].T, strict=True))
        again = self.declared.as_given(self.x, values)
        if again is None:
            return None
        start = found["alpha"][:, list(self.layout.free)]
        start = np.where(good[:, None], start, np.median(start[good], axis=0))
        columns = dataclasses.replace(self.columns, model=without_names(again.model))
        job = dataclasses.replace(self, declared=again, columns=columns)
        return job.with_starts(start) if self.layout.free else job

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
        """This job with a compiled program that suits the number of curves and devices."""
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

        def fitted(start):
            found = run_block(
                *(self.columns, curves, start, counted, self.limits),
                *(np.asarray(self.variance_known), self.lanes, self.devices),
            )
            return self.finalise(jax.device_get(found), status)

        with precision(self.real):
            if self.points is None:
                return fitted(start)
            best = np.asarray(best_starts(self.columns, curves, self.points))
            chosen = self.points[best]
            if curves.lower is not None and curves.upper is not None:
                chosen = np.clip(chosen, curves.lower, curves.upper)
            return fitted(chosen.astype(self.real))

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
            weights = self.weighing.read(first, last, self.real, y)
            assert weights is not None
            weights = np.broadcast_to(weights, y.shape)
        x = None
        if self.own_x is not None:
            x = self.own_x.read(first, last)
            good = np.isfinite(x)
            if not good.all():
                # A sample without a position is none; it gets that of another one.
                weights = np.where(good, 1.0 if weights is None else weights, 0.0)
                first_good = np.take_along_axis(x, np.argmax(good, axis=1)[:, None], axis=1)
                x = np.where(good, x, np.where(np.isfinite(first_good), first_good, 0.0))
            elif weights is not None:
                weights = np.broadcast_to(weights, y.shape)
        used = np.broadcast_to(True if weights is None else weights > 0, y.shape)
        parts = 2 if self.dtype.kind == "c" else 1
        counted = parts * used.sum(axis=1)
        bad = (~np.isfinite(y) & used).any(axis=1)
        if self.weighing.own and weights is not None:
            bad |= ~np.isfinite(weights).all(axis=1)
        bad |= (self.limits.noise.impossible(y) & used).any(axis=1)
        linear = self.columns.linear
        each = 0 if linear.rows is not None else 1 if linear.real else parts
        free = len(self.layout.free) + each * linear.width(len(self.model.columns))
        if self.box is not None:
            held = (self.box[0] == self.box[1]).sum(axis=-1)
            free = free - (held[first:last] if np.ndim(held) else held)
        # What is zero everywhere tells of no shape; a prior, or a term without coefficient, may.
        offsets = bool(self.model.offsets) or linear.constant is not None
        plain = not offsets and not self.columns.priors and self._may_vanish
        plain &= bool(self.layout.free) or not self.absolute_sigma
        dead = ~((y != 0) & used).any(axis=1) & plain
        status = np.where(dead, CurveStatus.UNDETERMINED, 0)
        status = np.where(counted < free, CurveStatus.NO_DATA, status)
        status = np.where(bad, CurveStatus.BAD_DATA, status)
        y = np.where(used & (status == 0)[:, None], y, 0.0)
        # Squares neither overflow nor underflow; a term without coefficient keeps its size.
        largest = np.abs(y).max(axis=1)
        plain = (largest == 0) | offsets
        unit = np.exp2(np.round(np.log2(np.where(plain, 1.0, largest))))
        y = y / unit[:, None]

        def filled(a: np.ndarray, dtype: Any = self.real) -> Any:
            return np.concatenate([a, np.repeat(a[:1], self.size - b, axis=0)]).astype(dtype)

        def own(a: np.ndarray) -> Any:
            return filled(a[first:last] if len(a) > 1 else np.repeat(a, b, axis=0))

        box: Any = (*(self.box or (None, None)), *(self.coef_box or (None, None)))
        rows: Any = filled(weights) if weights is not None and weights.ndim == 2 else weights
        curves = Curve(
            filled(y, self.dtype),
            rows,
            filled(unit),
            *(own(a) if a is not None and a.ndim == 2 else a for a in box),
            None if x is None else filled(x),
        )
        return curves, own(self.start), filled(counted, np.int32), status

    @property
    def _may_vanish(self) -> bool:
        """Whether all coefficients may be zero."""
        box = self.coef_box
        return box is None or bool((box[0] <= 0).all() and (box[1] >= 0).all())

    def finalise(self, found: Mapping[str, Any], status: np.ndarray) -> dict[str, np.ndarray]:
        """The rows that were asked for, their columns in the order of the model, and nothing where
        there was nothing to fit."""
        dead = status == CurveStatus.UNDETERMINED
        b, good = len(status), (status == 0) | dead
        order = list(self.model.order)
        free = {i for i, source in enumerate(self.layout.source) if source in self.layout.free}
        ends = found["alpha"][:b], found["coef"][:b, :, None]
        # Of curves with positions of their own, at those of one that stands for all.
        merged = run_together(self.model, self.x, *map(np.asarray, ends), free)
        merged &= CurveStatus.converged(found["status"][:b])
        ended = np.where(merged, CurveStatus.STUCK, found["status"][:b])
        # A penalty determines parts of coefficients.
        count = np.int64 if self.columns.linear.rows is None else np.float64
        out: dict[str, np.ndarray] = {
            "status": np.where(status == 0, ended, status).astype(np.int8),
            "num_steps": np.where(good, found["steps"][:b], 0).astype(np.int32),
            "dof": np.where(good, found["dof"][:b], 0).astype(count),
            "chisq": np.where(good, found["chisq"][:b], np.nan),
            "cost": np.where(good, found["cost"][:b], np.nan),
        }
        for name in ("alpha", "alpha_stderr"):
            out[name] = np.where(good[:, None], found[name][:b], np.nan)
        for name in ("coef", "coef_stderr"):
            out[name] = np.where(good[:, None], found[name][:b, order], np.nan)
        if dead.any():
            # Every lifetime fits as well, with coefficients of zero.
            free = [
                self.layout.source[i] in self.layout.free for i in range(len(self.layout.names))
            ]
            out["alpha_stderr"][np.ix_(dead, free)] = np.inf
            out["coef"][dead], out["coef_stderr"][dead] = 0.0, np.inf
            out["chisq"][dead] = out["cost"][dead] = 0.0
        return out

    def gather(self, found: Mapping[str, np.ndarray], shared: tuple[str, ...] = ()) -> BatchFit:
        """The result of all curves from arrays by the names of `FIELDS`, a row each."""

        def shaped(a: np.ndarray) -> np.ndarray:
            return np.asarray(a).reshape((*self.shape, *np.shape(a)[1:]))

        return BatchFit(
            names=self.layout.names,
            columns=tuple(self.model.columns[i] for i in self.model.order),
            **{key: shaped(found[key]) for key in FIELDS},  # pyright: ignore[reportArgumentType]
            x=self.x if self.own_x is None else np.asarray(self.own_x.data, self.real),
            absolute_sigma=self.absolute_sigma,
            params=self.params,
            layout=self.layout,
            model=self.model,
            shared=shared,
            dims=self.dims,
            coords=self.coords,
            data_names=self.data_names,
            source=self.source,
            numbers=self.columns.numbers,
            ruled=self.columns.linear.mix is not None or self.columns.linear.rows is not None,
        )
