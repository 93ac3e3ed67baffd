"""What many independent fits return."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from .._errors import InputError, suggestion
from .._figures.labels import Labels
from .._parameters.layout import Layout
from .._parameters.param import Param
from .._results.abstract import AbstractResult
from .._results.netcdf import Contents
from .._statistics.estimate import Estimate
from .._status import CurveStatus
from .._text import indented, text_table
from .._types import ArrayIn, precision
from ..basis import Model

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray


class BatchFit(AbstractResult):
    """The outcome of many fits of one model, each with nonlinear parameters of its own.

    **Fields:** arrays over the batch axes of the data, `shape`, with what one fit has behind them.

    - `names`, `alpha` (..., q), `alpha_stderr`: nonlinear parameters.
    - `columns`, `coef` (..., n), `coef_stderr`: linear coefficients.
    - `chisq`, `dof`, `num_steps`, and `status`, codes of `CurveStatus`: "successful"; "floor", as good as
        rounding allows; "stuck"; "nonfinite"; "max_steps"; "bad_data" for data that are not finite;
        "no_data" for fewer samples of positive weight than parameters. Parameters are NaN for the
        last two. A standard error is NaN on a bound and infinite where the data tell nothing.
    - `x`, `absolute_sigma`, `params`, `layout`, `model`: what was fitted.
    - `shared`: parameters that all curves have in common.
    - `dims`, `coords`: names and coordinates of the batch axes, where the data had them.

    `fit["slow.tau"]` is an `Estimate` of arrays.
    """

    names: tuple[str, ...]
    columns: tuple[str, ...]
    alpha: np.ndarray
    alpha_stderr: np.ndarray
    coef: np.ndarray
    coef_stderr: np.ndarray
    chisq: np.ndarray
    dof: np.ndarray
    num_steps: np.ndarray
    status: np.ndarray
    x: PyTree
    absolute_sigma: bool
    params: dict[str, Param]
    layout: Layout
    model: Model
    shared: tuple[str, ...] = ()
    dims: tuple[str, ...] | None = None
    coords: dict[str, tuple[tuple[str, ...], np.ndarray]] = eqx.field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch axes."""
        return self.status.shape

    @property
    def success(self) -> np.ndarray:
        """Which curves converged."""
        return CurveStatus.converged(self.status)

    @property
    def redchi(self) -> np.ndarray:
        """Reduced chi-square of each curve."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.dof > 0, self.chisq / self.dof, np.nan)

    @property
    def counts(self) -> dict[str, int]:
        """How many curves ended in which way, those that occur."""
        codes, counts = np.unique(self.status, return_counts=True)
        return {CurveStatus.NAMES[c]: int(k) for c, k in zip(codes, counts, strict=True)}

    @property
    def message(self) -> str:
        """A sentence on how many curves failed, and of what; empty if none did."""
        failed = {k: v for k, v in self.counts.items() if k not in ("successful", "floor")}
        if not failed:
            return ""
        why = ", ".join(f"{count} {name}" for name, count in failed.items())
        return (
            f"{sum(failed.values())} of {self.status.size} curves did not converge ({why}); see "
            "fit.status."
        )

    def __getitem__(self, name: str) -> Estimate:
        if name in self.names:
            i = self.names.index(name)
            param, source = self.params[name], self.layout.source[i]
            return Estimate(
                name,
                "nonlinear",
                self.alpha[..., i],
                self.alpha_stderr[..., i],
                None if param.init is None else float(param.init),
                float(param.lower),
                float(param.upper),
                source == i and i not in self.layout.free,
                False,
                self.layout.follows(i),
            )
        if name in self.columns:
            i = self.columns.index(name)
            return Estimate(name, "linear", self.coef[..., i], self.coef_stderr[..., i])
        known = (*self.names, *self.columns)
        raise InputError(f"No parameter '{name}' in this fit. {suggestion(name, known)}")

    def predict(self, index: int | tuple[int, ...] | None = None) -> np.ndarray:
        """The fitted curves (..., m), or those at `index`. All take as much memory as the data."""
        pick: Any = ... if index is None else index
        alpha, coef = self.alpha[pick], self.coef[pick]
        order = np.argsort(self.model.order)
        with precision(alpha.dtype):
            flat = alpha.reshape(-1, len(self.names)), coef.reshape(-1, len(self.columns))[:, order]
            out = np.asarray(_curves(self.model, self.x, *flat))
        return out.reshape(*alpha.shape[:-1], -1)

    def report(self) -> str:
        """The text that `print(fit)` shows: medians and spread of the curves that converged."""
        good = self.success
        steps = self.num_steps[good].mean() if good.any() else float("nan")
        shape = " x ".join(map(str, self.shape))
        lines = [
            f"varpro batch fit: {int(good.sum())} of {good.size} curves ({shape}) converged, "
            f"{steps:.1f} steps on average"
        ]
        if self.message:
            lines.append(f"  {self.message}")
        rows = []
        for name in (*self.names, *self.columns):
            one = self[name]
            value, error = np.asarray(one.value)[good], np.asarray(one.stderr)[good]
            if np.iscomplexobj(value):
                name, value = f"|{name}|", np.abs(value)
            quarter = np.nanpercentile(value, (5, 50, 95)) if value.size else [np.nan] * 3
            known = error[np.isfinite(error)]
            middle = f"{np.median(known):.2g}" if known.size else ""
            rows.append(
                (name, *(f"{q:.5g}" for q in quarter), middle, one.notes[0] if one.fixed else "")
            )
        header = ("parameter", "5 %", "median", "95 %", "std. error", "note")
        redchi = self.redchi[good]
        if redchi.size:
            lines.append(f"  reduced chi-square: median {np.nanmedian(redchi):.4g}")
        return "\n".join([*lines, "", indented(text_table(header, rows, (0, 5)))])

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return f"<BatchFit: {shape} curves, {int(self.success.sum())} converged>"

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

        return batch.draw(self, y, index, log, labels or Labels(), fig)

    def plot_maps(
        self,
        names: Sequence[str] | None = None,
        *,
        labels: Labels | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Parameters and their standard errors over one or two batch axes, the reduced chi-square, and
        how each fit ended. Of complex coefficients there are size and phase.

        **Arguments:** `names` of parameters and coefficients, all by default; `labels` and `fig` as
        in `FitResult.plot`. Curves that did not converge are left out, grey in maps.

        **Raises:** `InputError` for unknown names, and for more than two batch axes.
        """
        from .._figures import maps

        good = self.success
        values, extra = {}, {}
        for name in (*self.names, *self.columns) if names is None else names:
            value, error = (
                np.where(good, a, np.nan) for a in (self[name].value, self[name].stderr)
            )
            if np.iscomplexobj(value):
                values[f"|{name}|"], extra[f"{name}, phase"] = (
                    (np.abs(value), error),
                    np.angle(value),
                )
            else:
                values[name] = value, error
        extra["reduced chi-square"] = np.where(good, self.redchi, np.nan)
        return maps.draw(
            values, extra, self.status, CurveStatus.NAMES, labels or Labels(rhs="curve"), fig
        )  # pyright: ignore[reportReturnType]

    def to_dataset(self, dims: tuple[str, ...] | None = None) -> "xarray.Dataset":
        """Maps by name over the batch axes: `slow.tau`, `slow.tau_stderr`, ..., `chisq`, `redchi`,
        `status` and `num_steps`. Axes have the names and coordinates of the data, or those of `dims`,
        by default "axis_0", ..."""
        return self._contents(dims).to_xarray()

    def _contents(self, dims: tuple[str, ...] | None) -> Contents:
        coords = self.coords if dims in (None, self.dims) else {}
        dims = dims or self.dims or tuple(f"axis_{i}" for i in range(len(self.shape)))
        if len(dims) != len(self.shape):
            raise InputError(f"dims has {len(dims)} names, but there are {len(self.shape)} axes.")
        maps: dict[str, Any] = {}
        for name in (*self.names, *self.columns):
            maps[name] = (dims, self[name].value)
            maps[f"{name}_stderr"] = (dims, self[name].stderr)
        for key in ("chisq", "redchi", "num_steps"):
            maps[key] = (dims, getattr(self, key))
        meanings = " ".join(CurveStatus.NAMES)
        flags = {
            "flag_values": np.arange(len(CurveStatus.NAMES), dtype=np.int8),
            "flag_meanings": meanings,
        }
        maps["status"] = (dims, self.status, flags)
        return Contents(maps, dict(coords), {})

    def _stored(self) -> tuple["BatchFit", Contents]:
        return self, self._contents(self.dims)


@eqx.filter_jit
def _curves(
    model: Model, x: PyTree, alpha: Float[ArrayIn, "b q"], coef: Inexact[ArrayIn, "b n"]
) -> Inexact[Array, "b m"]:
    def one(values, c):
        offset = model.offset(x, values)
        fitted = model.evaluate(x, values) @ c
        return fitted if offset is None else fitted + offset

    return jax.vmap(one)(jnp.asarray(alpha), jnp.asarray(coef))
