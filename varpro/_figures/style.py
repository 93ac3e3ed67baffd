"""What all figures have in common: colours that every eye tells apart, quiet axes, plain text."""

import io
import sys
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FuncFormatter

from .._errors import InputError

Canvas = Figure | SubFigure

# Okabe and Ito's palette and a wine of Tol's, told apart by all kinds of colour vision.
FIT = "#d55e00"
OTHERS = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#882255")
# Of pictures, which cannot follow the colours of a page: between black and white.
GREY = "#808890"
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
# Points from which on they are a picture inside the figure; as shapes they would make it large.
_MOST_VECTORS = 1500


class _Shown(Figure):
    """A figure that a notebook shows once, whether pyplot knows it or not."""

    def _ipython_display_(self) -> None:
        from IPython.display import display  # pyright: ignore[reportMissingImports]

        buffer = io.BytesIO()
        FigureCanvasAgg(self).print_png(buffer)
        display({"image/png": buffer.getvalue()}, raw=True)
        # At the end of the cell pyplot shows what it still knows.
        if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
            pyplot.close(self)


def _pyplot() -> Any:
    """pyplot where somebody looks at its figures: where it was imported, or in the kernel of a notebook."""
    if "matplotlib.pyplot" not in sys.modules and "ipykernel" in sys.modules:
        import matplotlib.pyplot  # noqa: F401
    return sys.modules.get("matplotlib.pyplot")


def canvas(fig: Canvas | None, width: float, height: float) -> Any:
    """The figure to draw in: the one that was given, or a new one of `width` x `height` inches, which
    `plt.show()` shows where pyplot is in use."""
    if fig is None:
        size, pyplot = (width, height), _pyplot()
        if pyplot is None:
            return _Shown(figsize=size, layout="constrained")
        return pyplot.figure(FigureClass=_Shown, figsize=size, layout="constrained")
    if not isinstance(fig, Figure | SubFigure):
        raise InputError(f"fig must be a matplotlib figure, not {type(fig).__name__}.")
    if isinstance(fig, Figure) and fig.get_layout_engine() is None:
        fig.set_layout_engine("constrained")
    return fig


def axes_of_ones_own(ax: Any, fig: Canvas | None) -> Axes:
    """The axes that were given, which alone say where to draw."""
    if fig is not None:
        raise InputError("fig and ax both say where to draw. Give one of them.", argument="ax")
    if not isinstance(ax, Axes):
        raise InputError(f"ax must be axes of matplotlib, not {type(ax).__name__}.", argument="ax")
    return ax


def ink() -> str:
    """The colour of text, which data points share."""
    return matplotlib.rcParams["text.color"]


def color(i: int) -> str:
    return OTHERS[i % len(OTHERS)]


def tidy(ax: Axes) -> None:
    """Two spines and a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(lw=0.5, alpha=0.5)
    ax.set_axisbelow(True)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Decades up to which what lies between powers of ten is labelled too.
_SHORT = 2.0


def logarithmic(ax: Axes, which: str) -> None:
    """A logarithmic axis, "x" or "y", whose labels are plain text: setting formulas takes longer than
    drawing the rest."""

    def power(value: float, _: object) -> str:
        exponent = round(float(np.log10(value)))
        return f"{value:g}" if -3 < exponent < 4 else f"10{str(exponent).translate(_RAISED)}"

    def between(value: float, _: object) -> str:
        low, high = axis.get_view_interval()
        if low <= 0 or np.log10(high / low) > _SHORT:
            return ""
        exponent = int(np.floor(np.log10(value)))
        if round(value / 10.0**exponent) not in (2, 5):
            return ""
        if -3 < exponent < 4:
            return f"{value:g}"
        return f"{round(value / 10.0**exponent)}×10{str(exponent).translate(_RAISED)}"

    if which == "x":
        ax.set_xscale("log", nonpositive="mask")
    else:
        ax.set_yscale("log", nonpositive="mask")
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_formatter(FuncFormatter(power))
    axis.set_minor_formatter(FuncFormatter(between))


def literal(text: str) -> str:
    """Text as it stands: between dollars it would be a formula."""
    return text.replace("$", r"\$")


def points(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    shade: str,
    label: str | None = None,
    alpha: float = 0.55,
) -> None:
    """Samples as dots, smaller the more there are."""
    size = 4.5 if len(x) <= 60 else 3.0 if len(x) <= 600 else 1.5
    many = len(x) > _MOST_VECTORS
    shade = GREY if many and shade == ink() else shade
    ax.plot(x, y, "o", ms=size, mew=0, color=shade, alpha=alpha, label=label, rasterized=many)


def legend(ax: Axes) -> None:
    """A legend above the axes: data and fit first, whatever was drawn on top of what."""
    first = {"data": 0, "fit": 1}
    entries = zip(*ax.get_legend_handles_labels(), strict=True)
    entries = sorted(entries, key=lambda entry: first.get(entry[1], 2))
    if not entries:
        return
    handles, labels = zip(*entries, strict=True)
    # As many beside each other as there is room for, at six tenths of a letter's height for each.
    fig: Any = ax.figure
    room = ax.get_position().width * fig.bbox.width / fig.dpi * 72
    letter = 0.6 * FontProperties(size=matplotlib.rcParams["legend.fontsize"]).get_size_in_points()
    max_columns = max(int(room / letter / (max(map(len, labels)) + 5)), 1)
    box = ax.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1.01),
        ncols=min(len(entries), max_columns),
        frameon=False,
        borderaxespad=0,
        handlelength=1.4,
        columnspacing=1.2,
    )
    for handle in box.get_lines():
        handle.set_markersize(5)  # that of many points would be a speck


def colorbar(fig: Canvas, image: Any, ax: Axes, label: str = "", **kwargs: Any) -> Any:
    """A colour bar without a frame."""
    bar = fig.colorbar(image, ax=ax, **kwargs)
    bar.outline.set_visible(False)
    if label:
        bar.set_label(literal(label))
    return bar


def subfigures(fig: Canvas, names: tuple[str, ...]) -> list[SubFigure]:
    """A part of the figure for each data set, with its name above; two beside each other."""
    columns = 1 if len(names) == 1 else 2
    parts = fig.subfigures(-(-len(names) // columns), columns, squeeze=False).ravel()
    for part, name in zip(parts, names, strict=False):
        part.suptitle(literal(name), fontsize="medium", fontweight="bold")
    return list(parts[: len(names)])
