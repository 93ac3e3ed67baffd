"""The figure of a fit: data and model above, residuals below."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import varpro as vp

from .plan import Plan

# Okabe and Ito's palette, told apart by all kinds of colour vision.
FIT = "#d55e00"
OTHERS = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6bb1")
INK, FAINT, GREY = "#010203", "#c0c1c2", "#808890"
_MOST_LINES = 6
_MOST_VECTORS = 4000


def figure(plan: Plan, fit: vp.FitResult, width: float, height: float) -> Figure:
    """Draw the panels that the configuration asks for, `width` by `height` inches."""
    panels, data = plan.config.output.plots, plan.columns
    fig = Figure(figsize=(width, height), layout="constrained")
    above, below = "fit" in panels or "components" in panels, "residuals" in panels
    heights = [3, 1] if above and below else [1]
    axes = fig.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    if above:
        _draw_fit(axes[0], plan, fit)
        _legend(axes[0], most=8 if width >= 5 else 3)
    if below:
        # Below the fit the axis is short, and the unit stands above.
        _draw_residuals(axes[-1], plan, fit, "" if above else data.y_unit)
    axes[-1].set_xlabel(_axis(data.x_name, data.x_unit))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color=FAINT, lw=0.5, alpha=0.5)
        ax.set_axisbelow(True)
    fig.align_ylabels(axes)
    return fig


def _draw_fit(ax: Axes, plan: Plan, fit: vp.FitResult) -> None:
    panels, names = plan.config.output.plots, plan.columns.y_names
    shown = _shown_columns(plan)
    grid = _grid(fit)
    if len(names) == 1:
        parts = fit.components(grid) if "components" in panels else {}
        few = len(parts) <= _MOST_LINES
        for i, (name, values) in enumerate(parts.items() if len(parts) > 1 else ()):
            line = _column(values, 0)
            ax.plot(grid, line, color=_color(i), lw=1, label=_literal(name) if few else None)
    if "fit" in panels:
        model = fit.predict(grid)
        for i, j in enumerate(shown):
            alone = len(names) == 1
            color = FIT if alone else _color(i)
            _points(
                ax, fit.x, _column(fit.y, j), INK if alone else color, "data" if alone else None
            )
            label = "fit" if alone else _literal(names[j])
            ax.plot(grid, _column(model, j), color=color, lw=1.8 if alone else 1.2, label=label)
    ax.set_ylabel(_axis(names[0] if len(names) == 1 else "y", plan.columns.y_unit))


def _draw_residuals(ax: Axes, plan: Plan, fit: vp.FitResult, unit: str) -> None:
    label = _axis("residual", unit)
    if fit.weights is not None:
        label = "residual / sigma" if plan.columns.weights is None else "residual x weight"
    ax.set_ylabel(label)
    ax.axhline(0, color=INK, lw=0.8)
    largest = 0.0
    for i, j in enumerate(_shown_columns(plan)):
        resid = _column(fit.resid * fit.weights_of_all, j)
        _points(ax, fit.x, resid, INK if np.ndim(fit.y) == 1 else _color(i), None)
        largest = max(largest, float(np.max(np.abs(resid))))
    if 0 < largest < np.inf:
        ax.set_ylim(-1.15 * largest, 1.15 * largest)


def _legend(ax: Axes, most: int) -> None:
    """A legend above the axes: data and fit first, whatever was drawn on top of what."""
    first = {"data": 0, "fit": 1}
    entries = zip(*ax.get_legend_handles_labels(), strict=True)
    entries = sorted(entries, key=lambda entry: first.get(entry[1], 2))
    if entries:
        handles, labels = zip(*entries, strict=True)
        legend = ax.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0, 1.01),
            ncols=min(len(entries), most),
            frameon=False,
            borderaxespad=0,
            handlelength=1.4,
            columnspacing=1.2,
        )
        for handle in legend.get_lines():
            handle.set_markersize(5)  # that of many points would be a speck


def _color(i: int) -> str:
    return OTHERS[i % len(OTHERS)]


def write_png(plan: Plan, fit: vp.FitResult, path: Path) -> None:
    """`fit.png`, on white."""
    with _style({"font.size": 11}):
        figure(plan, fit, 7.0, 5.4).savefig(path, dpi=160, facecolor="white")


@contextlib.contextmanager
def _style(settings: Any) -> Iterator[None]:
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; the run has nothing to say about that.
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def svg(plan: Plan, fit: vp.FitResult, width: float, height: float, prefix: str) -> str:
    """The figure as an SVG element for a page whose style sets the colours.

    `prefix` keeps the ids of two figures on one page apart.
    """
    buffer = io.StringIO()
    ink = {"text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"}
    # Without a fixed salt and with a date no two runs would write the same report.
    fixed = {"svg.hashsalt": "varpro", "svg.fonttype": "path", "font.size": 10.5}
    with _style({**fixed, **dict.fromkeys(ink, INK)}):
        fig = figure(plan, fit, width, height)
        fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", text)
    names = {INK: "ink", FAINT: "faint", FIT: "fit"}
    names |= {color: f"part{i}" for i, color in enumerate(OTHERS)}
    for color, name in names.items():
        text = text.replace(color, f"var(--{name})")
    # The page decides how wide it is.
    return re.sub(r' (width|height)="[^"]*pt"', "", text, count=2)


def _grid(fit: vp.FitResult) -> np.ndarray:
    """Where to draw lines: a fine grid that holds the samples, or the samples alone.

    A function of the user's may need the grid that it was fitted on; then the finer one gives other
    values at the samples, and is not used.
    """
    samples = np.unique(fit.x)
    if len(samples) >= 400 or len(samples) < 2:
        return samples
    fine = np.unique(np.concatenate([samples, np.linspace(samples[0], samples[-1], 400)]))
    try:
        again = fit.predict(fine)[np.searchsorted(fine, fit.x)]
    except Exception:
        return samples
    scale = float(np.max(np.abs(fit.fitted)))
    same = np.allclose(again, fit.fitted, rtol=1e-6, atol=1e-9 * scale, equal_nan=True)
    return fine if same else samples


def _shown_columns(plan: Plan) -> list[int]:
    """The y columns to draw: all, or a few evenly spaced ones."""
    count = len(plan.columns.y_names)
    chosen = np.linspace(0, count - 1, min(count, _MOST_LINES)).round().astype(int)
    return [int(i) for i in dict.fromkeys(chosen.tolist())]


def _column(values: np.ndarray, j: int) -> np.ndarray:
    return values if values.ndim == 1 else values[:, j]


def _points(ax: Axes, x: np.ndarray, y: np.ndarray, color: str, label: str | None) -> None:
    size = 4.5 if len(x) <= 60 else 3.0 if len(x) <= 600 else 1.5
    # Very many points become a picture inside the figure, whose ink cannot follow the page's.
    many = len(x) > _MOST_VECTORS
    color = GREY if many and color == INK else color
    ax.plot(x, y, "o", ms=size, mew=0, color=color, alpha=0.55, label=label, rasterized=many)


def _axis(name: str, unit: str) -> str:
    return _literal(f"{name} [{unit}]" if unit else name)


def _literal(text: str) -> str:
    """Text as it stands: between dollars it would be a formula."""
    return text.replace("$", r"\$")
