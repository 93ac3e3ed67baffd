"""The figure of a fit: data and model above, residuals below."""

import io
import re
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import varpro as vp

from .plan import Plan

# Okabe and Ito's palette, told apart by all kinds of colour vision.
FIT = "#d55e00"
OTHERS = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6bb1")
INK, FAINT = "#010203", "#c0c1c2"
_MOST_LINES = 6
_MOST_VECTORS = 4000


def figure(plan: Plan, fit: vp.FitResult, width: float, height: float) -> Figure:
    """Draw the panels that the configuration asks for, `width` by `height` inches."""
    panels = plan.config.output.plots
    main = "fit" in panels or "components" in panels
    below = "residuals" in panels
    fig = Figure(figsize=(width, height), layout="constrained")
    ratios = [3, 1] if main and below else [1]
    axes = list(fig.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0])
    order = np.argsort(fit.x, kind="stable")
    shown = _shown_columns(plan)
    data, wide = plan.columns, width >= 5

    if main:
        ax = axes[0]
        grid = _grid(fit)
        if "components" in panels and len(shown) == 1:
            parts = fit.components(grid)
            few = 1 < len(parts) <= _MOST_LINES
            for i, (name, values) in enumerate(parts.items() if len(parts) > 1 else ()):
                color = OTHERS[i % len(OTHERS)]
                y = values if values.ndim == 1 else values[:, 0]
                ax.plot(grid, y, color=color, lw=1, label=name if few else None)
        if "fit" in panels:
            model = fit.predict(grid)
            for i, j in enumerate(shown):
                y, line = _column(fit.y, j), _column(model, j)
                color = INK if len(shown) == 1 else OTHERS[i]
                label = "data" if len(shown) == 1 else data.y_names[j]
                _points(ax, fit.x, y, color, label)
                alone = len(shown) == 1
                ax.plot(grid, line, color=FIT if alone else color, lw=1.8, label="fit" if alone else None)
        ax.set_ylabel(_axis(data.y_names[0] if len(data.y_names) == 1 else "y", data.y_unit))
        if ax.get_legend_handles_labels()[1]:
            # Data and fit first, whatever was drawn on top of what.
            entries = zip(*ax.get_legend_handles_labels(), strict=True)
            first = {"data": 0, "fit": 1}
            entries = sorted(entries, key=lambda entry: first.get(entry[1], 2))
            ax.legend(
                *zip(*entries, strict=True),
                loc="lower left",
                bbox_to_anchor=(0, 1.01),
                ncols=min(len(entries), 8 if wide else 3),
                frameon=False,
                borderaxespad=0,
                handlelength=1.4,
                columnspacing=1.2,
            )
    if below:
        ax = axes[-1]
        scale = 1.0 if fit.weights is None else fit.weights
        ax.axhline(0, color=INK, lw=0.8)
        for i, j in enumerate(shown):
            color = INK if len(shown) == 1 else OTHERS[i]
            resid = _column(fit.resid, j) * scale
            _points(ax, fit.x[order], resid[order], color, None)
        label = {"sigma": "residual / sigma", "weights": "residual x weight"}
        key = "weights" if data.weights is not None else "sigma"
        plain = _axis("residual", data.y_unit)
        ax.set_ylabel(plain if fit.weights is None else label[key])
        largest = max(float(np.max(np.abs(_column(fit.resid, j) * scale))) for j in shown)
        if np.isfinite(largest) and largest > 0:
            ax.set_ylim(-1.15 * largest, 1.15 * largest)
    axes[-1].set_xlabel(_axis(data.x_name, data.x_unit))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color=FAINT, lw=0.5, alpha=0.5)
        ax.set_axisbelow(True)
    if len(axes) == 2:
        fig.align_ylabels(axes)
    return fig


def write_png(plan: Plan, fit: vp.FitResult, path: Path) -> None:
    """`fit.png`, on white."""
    with matplotlib.rc_context({"font.size": 11}):
        figure(plan, fit, 7, 5.4).savefig(path, dpi=160, facecolor="white")


def svg(plan: Plan, fit: vp.FitResult, width: float, height: float, prefix: str) -> str:
    """The figure as an SVG element for a page whose style sets the colours.

    `prefix` keeps the ids of two figures on one page apart.
    """
    buffer = io.StringIO()
    # Without a fixed salt and with a date no two runs would write the same report.
    style = {"svg.hashsalt": "varpro", "svg.fonttype": "path", "font.size": 10.5}
    with matplotlib.rc_context(style):
        ink = {key: INK for key in ("text.color", "axes.edgecolor", "axes.labelcolor")}
        ink |= {"xtick.color": INK, "ytick.color": INK}
        with matplotlib.rc_context(ink):
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
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1)


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


def _points(ax, x: np.ndarray, y: np.ndarray, color: str, label: str | None) -> None:
    size = 4.5 if len(x) <= 60 else 3.0 if len(x) <= 600 else 1.5
    ax.plot(
        x, y, "o", ms=size, mew=0, color=color, alpha=0.55, label=label,
        rasterized=len(x) > _MOST_VECTORS,
    )  # fmt: skip


def _axis(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name
