"""Pictures of many fits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._errors import InputError
from .._figures.labels import Labels
from .._given.arguments import number, shown, whole
from .._status import CurveStatus
from .batch_record import BatchRecord

if TYPE_CHECKING:
    import matplotlib.figure

# Curves whose data are in memory at a time.
_BLOCK = 4096


class DrawnBatch(BatchRecord):
    """Many fits that draw themselves."""

    def plot(
        self,
        y: Any = None,
        index: int | tuple[int, ...] | Sequence[int | tuple[int, ...]] | None = None,
        *,
        log: str = "",
        labels: Labels | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Fitted curves, with their data if those are passed as `y` (..., m).

        **Arguments:**

        - `y`: the data that were fitted, which the result does not hold: an array, or anything with a
            shape of which `y[index]` reads one curve.
        - `index`: which curves; by default three of those that converged, with a good, a median and a
            bad reduced chi-square (5th, 50th and 95th percentile).
        - `log`, `labels`, `fig`: as in `FitResult.plot`.

        **Raises:** `InputError` if no curve converged and none is named, and for data of another shape.
        """
        from .._figures import batch

        return batch.draw(self, y, index, log, labels or Labels.of(self.data_names), fig)

    def plot_maps(
        self,
        names: Sequence[str] | None = None,
        *,
        page: int | tuple[int, ...] = (),
        weight: str | None = None,
        labels: Labels | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Parameters and their standard errors over one or two batch axes, the reduced chi-square, and
        how each fit ended. Of complex coefficients there are size and phase.

        **Arguments:**

        - `names` of parameters and coefficients, all by default.
        - `page`: of more than two batch axes the place along the first ones, such as a slice of a stack or a
            time of a film; the first by default.
        - `weight`: a parameter or coefficient, such as the amplitude of a lifetime, by whose size
            maps of values are dimmed: dark where there is nothing to see.
        - `labels` and `fig` as in `FitResult.plot`.

        Curves that did not converge are left out, grey in maps.

        **Raises:** `InputError` for unknown names, and for a page that is not there.
        """
        from .._figures import maps

        at = self._page(page)
        good = self.success[at]
        values, extra = {}, {}
        light = None
        if weight is not None:
            light = np.where(good, np.abs(np.asarray(self.estimate(weight).value)[at]), np.nan)
        for name in (*self.names, *self.columns) if names is None else names:
            value, error = (
                np.where(good, np.asarray(a)[at], np.nan)
                for a in (self.estimate(name).value, self.estimate(name).stderr)
            )
            if np.iscomplexobj(value):
                values[f"|{name}|"], extra[f"{name}, phase"] = (
                    (np.abs(value), error),
                    np.angle(value),
                )
            else:
                values[name] = value, error
        extra["reduced chi-square"] = np.where(good, self.redchi[at], np.nan)
        told = labels or self._labels()
        return maps.draw(values, extra, self.status[at], CurveStatus.NAMES, told, fig, light)  # pyright: ignore[reportReturnType]

    def _page(self, page: int | tuple[int, ...]) -> tuple[int, ...]:
        """The place along all batch axes but the last two."""
        more = max(len(self.shape) - 2, 0)
        given = page if isinstance(page, tuple) else (page,)
        at = given if given else (0,) * more
        whole = all(isinstance(i, int | np.integer) for i in at)
        sizes = self.shape[:more]
        if (
            len(at) != more
            or not whole
            or any(not -n <= i < n for i, n in zip(at, sizes, strict=True))
        ):
            raise InputError(
                f"page must be a place along the first {more} of the axes {self.shape}, a number for each, not "
                f"{shown(page)}.",
                argument="page",
            )
        return tuple(map(int, at))

    def plot_histograms(
        self,
        names: Sequence[str] | None = None,
        *,
        weight: str | None = None,
        bins: int = 60,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """How parameters are spread over the curves that converged, from the 1st to the 99th percentile.

        **Arguments:**

        - `names` of parameters and coefficients, all by default; of complex ones the size.
        - `weight`: a parameter or coefficient, such as the amplitude of a lifetime, by whose size each
            curve counts; each counts once by default.
        - `bins`: how many.
        - `fig`: as in `FitResult.plot`.

        **Raises:** `InputError` for unknown names, and where no curve converged.
        """
        from .._figures import maps

        good = self.success
        if not good.any():
            raise InputError(f"There is nothing to draw: {self.message}")
        whole("bins", bins, 1)
        heavy = None if weight is None else np.abs(np.asarray(self.estimate(weight).value)[good])
        values = {}
        for name in (*self.names, *self.columns) if names is None else names:
            value = np.asarray(self.estimate(name).value)[good]
            values[f"|{name}|" if np.iscomplexobj(value) else name] = (
                np.abs(value) if np.iscomplexobj(value) else value
            )
        return maps.draw_histograms(values, heavy, weight or "", bins, fig)

    def phasors(self, frequency: float, background: str | None = None) -> np.ndarray:
        """The phasor g + i s of every curve (...), complex: `sum y exp(2 pi i f x) / sum y` of the data themselves,
        whatever was fitted.

        **Arguments:**

        - `frequency`: f, in the inverse unit of x; of counts after pulses that of the pulses, or a multiple.
        - `background`: the coefficient of a constant, such as dark counts, which is taken from the data first.

        A curve with one lifetime lies on the semicircle `1 / (1 - 2 pi i f tau)`, one with several within it, if
        its record reaches from pulse to pulse, or to where nothing is left, and its x from time zero. A response of
        the instrument turns and shrinks all phasors alike. Samples that are not finite count for nothing, nor do
        masks.

        **Raises:** `InputError` for a result without its data, for curves with positions of their own or of
        complex data, and for an unknown background.
        """
        source, x = self.source, self.x
        if source is None:
            raise InputError(
                "This result has no data: it was read from a file, or came from another process."
            )
        if not isinstance(x, np.ndarray) or x.ndim != 1 or source.dtype.kind == "c":
            raise InputError(
                "Phasors are of real curves with positions (m,), the same for all.", argument="x"
            )
        rate = number("frequency", frequency)
        if not rate > 0:
            raise InputError(
                f"frequency must be positive, not {frequency!r}.", argument="frequency"
            )
        below = None if background is None else np.asarray(self.estimate(background).value).ravel()
        wave = np.exp(2j * np.pi * rate * x)
        found = np.full(self.status.size, np.nan, complex)
        for first in range(0, found.size, _BLOCK):
            last = min(first + _BLOCK, found.size)
            y = source.rows.read(first, last).astype(float)
            y = y if below is None else y - below[first:last, None]
            used = np.isfinite(y)
            y = np.where(used, y, 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                found[first:last] = y @ wave / y.sum(axis=1)
        return found.reshape(self.shape)

    def plot_phasors(
        self,
        frequency: float,
        background: str | None = None,
        *,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """How often there is which phasor, over the semicircle of single lifetimes; `frequency`, `background`
        and what is raised are those of `phasors`, `fig` as in `FitResult.plot`."""
        from .._figures import phasors

        found = self.phasors(frequency, background).ravel()
        found = found[np.isfinite(found)]
        if not found.size:
            raise InputError("There is nothing to draw: no curve has a phasor.")
        unit = self.data_names.x_unit or ""
        return phasors.draw(found, float(frequency), unit, fig)  # pyright: ignore[reportReturnType]

    def _labels(self) -> Labels:
        """What the axis of curves says, where there is one."""
        if self.dims is None or len(self.shape) != 1:
            return Labels(rhs="curve")
        return Labels.of(self.data_names)
