"""Data and model above, residuals below."""

from collections.abc import Iterable, Sequence

import jax
import numpy as np
from matplotlib.axes import Axes

from .._errors import InputError
from .._given.arguments import whole
from .._statistics.record import Fitted
from .labels import Labels
from .style import FIT, Canvas, canvas, color, ink, legend, literal, logarithmic, points, tidy

MOST_LINES = 6
LOGS = ("", "x", "y", "xy")
# Decades of a logarithmic axis below the largest value: components fall to nothing.
_DECADES = 1e-9


def draw(
    fit: Fitted,
    labels: Labels,
    *,
    log: str = "",
    components: bool = True,
    residuals: bool = True,
    curves: bool = True,
    rhs: int | Sequence[int] | None = None,
    onto: Canvas | Axes | None = None,
) -> Canvas | Axes:
    """The panels of one data set: curves with components, and residuals below them; onto axes the curves
    alone, or the residuals where there are none. Return what was drawn onto."""
    if not isinstance(log, str) or log not in LOGS:
        raise InputError(f"log must be one of {', '.join(map(repr, LOGS))}, not {log!r}.")
    above = curves or components
    if isinstance(onto, Axes):
        fig, axes, residuals = onto, [onto], residuals and not above
    else:
        fig = canvas(onto, 7.0, 5.4)
        heights = [3, 1] if above and residuals else [1]
        axes = fig.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)
        axes = list(axes[:, 0])
    shown = chosen(fit, rhs)
    if above:
        _draw_fit(axes[0], fit, labels, shown, curves, components, log)
        legend(axes[0])
    if residuals or not above:
        draw_residuals(axes[-1], fit, labels, shown)
    x, named = positions(fit)
    if "x" in log and np.any(x > 0):
        logarithmic(axes[-1], "x")
    axes[-1].set_xlabel(literal(labels.x if named else "sample"))
    for ax in axes:
        tidy(ax)
    if not isinstance(fig, Axes):
        fig.align_ylabels(axes)
    return fig


def positions(fit: Fitted) -> tuple[np.ndarray, bool]:
    """Where the samples stand, and whether that is x: a model may have several axes."""
    leaves = jax.tree.leaves(fit.x)
    if len(leaves) == 1 and np.ndim(leaves[0]) == 1:
        return np.asarray(leaves[0]), True
    return np.arange(fit.y.shape[0]), False


def chosen(fit: Fitted, rhs: int | Sequence[int] | None) -> list[int]:
    """The right-hand sides to draw: those asked for, all, or a few evenly spaced ones."""
    count = 1 if fit.y.ndim == 1 else fit.y.shape[1]
    if rhs is None:
        spaced = np.linspace(0, count - 1, min(count, MOST_LINES)).round().astype(int)
        return list(dict.fromkeys(spaced.tolist()))
    asked = [whole("rhs", j) for j in (rhs if isinstance(rhs, Iterable) else [rhs])]
    wrong = [j for j in asked if not 0 <= j < count]
    if wrong or not asked:
        raise InputError(f"rhs must be among 0 to {count - 1}, not {wrong or asked}.")
    return asked


def column(values: np.ndarray, j: int) -> np.ndarray:
    return values if values.ndim == 1 else values[:, j]


def parts_of(values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A complex curve is two."""
    if np.iscomplexobj(values):
        return [("real", np.real(values)), ("imag", np.imag(values))]
    return [("", values)]


def grid(fit: Fitted) -> np.ndarray | None:
    """Where to draw lines: a fine grid that holds the samples, or the samples alone (None).

    A function of the user's may need the grid that it was fitted on; then the finer one gives other
    values at the samples, and is not used.
    """
    x, named = positions(fit)
    if not named or not isinstance(fit.x, np.ndarray):
        return None
    samples = np.unique(x)
    if len(samples) >= 400 or len(samples) < 2:
        return samples
    fine = np.unique(np.concatenate([samples, np.linspace(samples[0], samples[-1], 400)]))
    fine = fine.astype(samples.dtype)
    try:
        again = fit.predict(fine)[np.searchsorted(fine, x)]
    except Exception:
        return samples
    scale = float(np.max(np.abs(fit.fitted)))
    tolerance = 1e-6 if fit.alpha.dtype == np.float64 else 1e-3
    same = np.allclose(again, fit.fitted, rtol=tolerance, atol=1e-9 * scale, equal_nan=True)
    return fine if same else samples


def _draw_fit(
    ax: Axes,
    fit: Fitted,
    labels: Labels,
    shown: list[int],
    curves: bool,
    components: bool,
    log: str,
) -> None:
    x, _ = positions(fit)
    grid_x = grid(fit)
    order = np.argsort(x, kind="stable")
    line_x = x[order] if grid_x is None else grid_x
    alone = len(shown) == 1

    def lines(values: np.ndarray) -> np.ndarray:
        return values[order] if grid_x is None else values

    if components and alone:
        parts = fit.components(grid_x)
        few = len(parts) <= MOST_LINES
        # Of complex ones the real part, in colours that are not those of the data's two.
        first, suffix = (2, ", real") if np.iscomplexobj(fit.y) else (0, "")
        for i, (name, values) in enumerate(parts.items() if len(parts) > 1 else ()):
            line = np.real(lines(column(values, shown[0])))
            # No legend shows a label that begins so; figures that people look into have room for it.
            label = f"{'' if few else '_'}{literal(name + suffix)}"
            ax.plot(line_x, line, color=color(first + i), lw=1, label=label)
    if curves:
        model = fit.fitted if grid_x is None else fit.predict(grid_x)
        several = len(shown) > 1 or np.iscomplexobj(fit.y)
        i = 0
        for j in shown:
            pairs = zip(parts_of(column(fit.y, j)), parts_of(column(model, j)), strict=True)
            for (part, y), (_, line) in pairs:
                name = " ".join(filter(None, ("" if alone else labels.name(j), part)))
                shade = color(i) if several else FIT
                used = column(fit.weights_of_all, j) > 0
                dots = shade if several else ink()
                points(ax, x[used], y[used], dots, None if several else "data")
                label = literal(name) if several else "fit"
                width = 1.2 if several else 1.8
                ax.plot(line_x, lines(line), color=shade, lw=width, label=label)
                i += 1
    if "y" in log:
        _log_limits(ax, fit, shown)
    ax.set_ylabel(literal(labels.y))


def _log_limits(ax: Axes, fit: Fitted, shown: list[int]) -> None:
    """A logarithmic axis over the positive data."""
    values = np.concatenate([part for j in shown for _, part in parts_of(column(fit.y_in_use, j))])
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return
    top = float(values.max())
    logarithmic(ax, "y")
    ax.set_ylim(max(float(values.min()), top * _DECADES) / 1.5, top * 1.5)


def residual_label(fit: Fitted) -> str:
    """What the residual is called, by what weighs it."""
    return "residual" if fit.weights is None else "weighted residual"


def draw_residuals(ax: Axes, fit: Fitted, labels: Labels, shown: list[int]) -> None:
    x, _ = positions(fit)
    # In two lines: below curves the axis is short.
    ax.set_ylabel(residual_label(fit).replace(" ", "\n"))
    ax.axhline(0, color=ink(), lw=0.8)
    several = len(shown) > 1 or np.iscomplexobj(fit.y)
    largest, i = 0.0, 0
    for j in shown:
        used = column(fit.weights_of_all, j) > 0
        weighted = column(fit.resid, j)[used] * column(fit.weights_of_all, j)[used]
        for _, part in parts_of(weighted):
            points(ax, x[used], part, color(i) if several else ink())
            largest = max(largest, float(np.max(np.abs(part), initial=0.0)))
            i += 1
    if 0 < largest < np.inf:
        ax.set_ylim(-1.15 * largest, 1.15 * largest)
