"""What a figure shows, read from its axes as a figure of plotly, whose script lets people zoom into it, read values
and switch curves.

The script is that of the installed package, 4.8 MB that a page carries once; where scripts do not run, and on
paper, the picture that was read stands there.
"""

import base64
import dataclasses
import functools
import hashlib
import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from .svg import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Numbers up to which a figure is one that can be looked into: more would make it slow.
_MOST = 60_000
# Pixels that the panels of a column share, and that each has at least.
_HEIGHT, _LEAST = 400, 150
# Pixels above panels, between those over one x and others, below them for ticks and title, and of a line of names.
_ABOVE, _NEAR, _FAR, _BELOW, _LINE = 44, 14, 84, 58, 25
# Pixels beside a name in the legend and of its letters, and of a line on a desk and on a phone.
_MARK, _LETTER, _DESK, _PHONE = 46, 7, 760, 260
# Pixels of what stands over a panel.
_TITLE = 16
# Part of the width between columns.
_BESIDE = 0.09
# From which ratio of the largest to the smallest positive number on a logarithmic axis is offered.
_WIDE_X, _WIDE_Y = 20.0, 5.0
# Decades that a logarithmic axis shows at most.
_DECADES = 9.0
# Data and fit are named first.
_RANKS = {"data": 1, "fit": 2}


@dataclasses.dataclass(frozen=True)
class Script:
    """A script of the page, and the hash by which its policy allows that one."""

    text: str

    @functools.cached_property
    def hash(self) -> str:
        digest = hashlib.sha256(self.text.encode("utf-8")).digest()
        return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@functools.cache
def scripts() -> tuple[Script, ...]:
    """That of plotly, and what draws our figures with it; none where plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return ()
    own = resources.files("varpro.app").joinpath("templates", "figures.js")
    # As browsers read it: the ends of lines are part of what is hashed.
    texts = (get_plotlyjs(), own.read_text(encoding="utf-8"))
    return tuple(Script(text.replace("\r\n", "\n")) for text in texts)


def data_of(fig: "Figure") -> str | None:
    """What the panels of a figure show, as JSON that may stand in a page: `data` and `layout` of plotly, and the
    layout `stacked` of a page that is too narrow for panels side by side. None where they hold more than curves
    and points, or too many of them."""
    axes = [ax for ax in fig.axes if ax.get_visible()]
    if not axes or any(ax.images or ax.patches for ax in axes):
        return None
    panels = [_traces(ax) for ax in axes]
    if not all(panels):
        return None
    traces = [one for panel in panels for one in panel]
    if not 0 < sum(len(one["y"]) for one in traces) <= _MOST:
        return None
    shared = _shared(axes)
    for i, panel in enumerate(panels):
        for one in panel:
            one |= {"xaxis": _axis("x", shared[i]), "yaxis": _axis("y", i)}
    _group(traces)
    for ax, panel in zip(axes, panels, strict=True):
        for one in panel:
            one["name"] = one["name"] or _plain(ax.get_ylabel())
    shown = {
        "data": traces,
        "layout": _layout(axes, panels, shared, _columns(axes), _lines(traces, _DESK)),
        # Fingers that move over it move the page.
        "stacked": _layout(axes, panels, shared, 1, _lines(traces, _PHONE)) | {"dragmode": False},
    }
    # No text of a name may end the element.
    text = json.dumps(shown, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _traces(ax: "Axes") -> list[dict[str, Any]]:
    """Bands, curves and points of one panel, none where it holds anything else."""
    found: list[dict[str, Any]] = []
    for collection in ax.collections:
        edges = _edges(collection)
        if edges is None:
            return []
        x, low, high = edges
        shade = _colour(collection.get_facecolor()[0])
        edge = {"mode": "lines", "line": {"color": shade, "width": 0}, "hoverinfo": "skip"}
        found.append(_trace(x, high, shade, "") | edge)
        # From this edge to the one before.
        fill = {"fill": "tonexty", "fillcolor": f"{shade}40"}
        found.append(_trace(x, low, shade, "") | edge | fill)
    for line in ax.lines:
        if line.get_transform() != ax.transData:
            continue  # a line through all of the panel
        x, y = (np.asarray(a, float) for a in line.get_data())
        whole, shade = np.isfinite(x), _colour(line.get_color())
        if line.get_linestyle() in ("None", "none", " ", ""):
            size = round(max(float(line.get_markersize()) * 1.33, 2.5), 2)
            marker = {"color": shade, "size": size, "opacity": 0.6, "line": {"width": 0}}
            kind = {"mode": "markers", "marker": marker}
        else:
            width = round(float(line.get_linewidth()) * 1.33, 2)
            kind = {"mode": "lines", "line": {"color": shade, "width": width}}
        found.append(_trace(x[whole], y[whole], shade, _label(line)) | kind)
    return found


def _trace(x: np.ndarray, y: np.ndarray, shade: str, name: str) -> dict[str, Any]:
    one = {"type": "scatter", "x": _numbers(x, 12), "y": _numbers(y, 6)}
    return one | {"name": name, "legendgroup": name or shade, "legendrank": _RANKS.get(name, 3)}


def _group(traces: list[dict[str, Any]]) -> None:
    """What has one name comes and goes together, and stands once in the legend. What has none belongs to the curve
    of its colour; what is black is data of many curves, or residuals."""
    names = {_shade(one): one["name"] for one in traces if one["name"] and one["mode"] == "lines"}
    seen = {""}
    for one in traces:
        shade = _shade(one)
        if not one["name"] and shade != "var(--ink)":
            one["legendgroup"] = names.get(shade, shade)
        one["showlegend"] = one["name"] not in seen
        seen.add(one["name"])


def _shade(trace: dict[str, Any]) -> str:
    return trace["marker" if trace["mode"] == "markers" else "line"]["color"]


def _axis(letter: str, i: int) -> str:
    """The name by which plotly knows an axis of the panel `i`."""
    return f"{letter}{i + 1 if i else ''}"


def _shared(axes: "Sequence[Axes]") -> list[int]:
    """The panel whose x axis each has: that of the first over the same x, if one stands below the other."""
    if _columns(axes) > 1:
        return list(range(len(axes)))
    joined = axes[0].get_shared_x_axes()
    return [
        next(k for k, one in enumerate(axes) if one is ax or joined.joined(one, ax)) for ax in axes
    ]


def _columns(axes: "Sequence[Axes]") -> int:
    """How many panels stand beside each other."""
    places = [ax.get_subplotspec() for ax in axes]
    return max((place.get_gridspec().ncols for place in places if place is not None), default=1)


def _height(ax: "Axes") -> int:
    place = ax.get_subplotspec()
    if place is None:
        return _HEIGHT
    grid = place.get_gridspec()
    ratios = np.asarray(grid.get_height_ratios() or np.ones(grid.nrows), float)
    share = ratios[place.rowspan.start : place.rowspan.stop].sum() / ratios.sum()
    whole = _HEIGHT if grid.nrows > 1 else 0.7 * _HEIGHT
    return max(round(whole * share), _LEAST)


def _lines(traces: list[dict[str, Any]], width: int) -> int:
    """About how many lines of so many pixels the legend has, whose names are as wide as the longest."""
    names = [len(one["name"]) for one in traces if one["showlegend"]]
    if not names:
        return 0
    beside = max(width // (_MARK + _LETTER * max(names)), 1)
    return -(-len(names) // beside)


def _layout(
    axes: "Sequence[Axes]",
    panels: list[list[dict[str, Any]]],
    shared: list[int],
    columns: int,
    lines: int,
) -> dict[str, Any]:
    """Axes, buttons and a legend of some lines, of panels in so many columns."""
    rows = [range(i, min(i + columns, len(axes))) for i in range(0, len(axes), columns)]
    heights = [max(_height(axes[i]) for i in row) for row in rows]
    gaps = [
        _NEAR if shared[above[0]] == shared[below[0]] else _FAR
        for above, below in zip(rows, rows[1:], strict=False)
    ]
    whole, below = sum(heights) + sum(gaps), _BELOW + _LINE * lines
    titles = _TITLE if any(ax.get_title() for ax in axes) else 0
    font = {"family": "system-ui, sans-serif", "size": 12, "color": "var(--ink)"}
    layout: dict[str, Any] = {
        "height": whole + _ABOVE + titles + below,
        "margin": {"l": 64, "r": 12, "t": _ABOVE + titles, "b": below},
        "font": font,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "var(--page)",
        "hovermode": "x unified",
        "hoversubplots": "axis",
        "hoverlabel": {"bgcolor": "var(--card)", "bordercolor": "var(--faint)", "font": font},
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": "var(--soft)",
            "activecolor": "var(--ink)",
        },
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        "annotations": [],
        "uirevision": "same",  # what was zoomed and switched stays when colours change
    }
    top = 0
    for row, height, gap in zip(rows, heights, [*gaps, 0], strict=True):
        ends = [1 - (top + height) / whole, 1 - top / whole]
        top += height + gap
        for column, i in enumerate(row):
            wide = (1 - _BESIDE * (columns - 1)) / columns
            left = column * (wide + _BESIDE)
            side = [round(left, 6), round(left + wide, 6)]
            layout |= _axes(axes, shared, i, side, [round(max(end, 0.0), 6) for end in ends])
            if title := axes[i].get_title():
                layout["annotations"].append(_title(title, i, font))
    layout["updatemenus"] = _buttons(panels, shared, titles)
    return layout


def _axes(
    axes: "Sequence[Axes]", shared: list[int], i: int, side: list[float], ends: list[float]
) -> dict[str, Any]:
    """Both axes of a panel, between the parts `side` of the width and `ends` of the height."""
    ax, zero = axes[i], any(one.get_transform() != axes[i].transData for one in axes[i].lines)
    axis = {
        "gridcolor": "var(--faint)",
        "gridwidth": 0.5,
        "linecolor": "var(--soft)",
        "showline": True,
        "ticks": "outside",
        "tickcolor": "var(--faint)",
        "hoverformat": ".5~g",
        "exponentformat": "power",
        "minorloglabels": "none",
    }
    x: dict[str, Any] = axis | {
        "domain": side,
        "anchor": _axis("y", i),
        "title": {"text": _plain(ax.get_xlabel()), "standoff": 8},
        "zeroline": False,
        "spikecolor": "var(--soft)",
        "spikethickness": 1,
    }
    if i and shared[i] == i and axes[0].get_shared_x_axes().joined(axes[0], ax):
        x["matches"] = "x"
    y = axis | {
        "domain": ends,
        "anchor": _axis("x", shared[i]),
        "title": {"text": _plain(ax.get_ylabel())},
        "zeroline": zero,
        "zerolinecolor": "var(--ink)",
        "zerolinewidth": 1,
    }
    return {_key("x", shared[i]): x, _key("y", i): y}


def _key(letter: str, i: int) -> str:
    return f"{letter}axis{i + 1 if i else ''}"


def _title(text: str, i: int, font: dict[str, Any]) -> dict[str, Any]:
    """What stands over a panel."""
    place = {"x": 0.5, "y": 1, "xref": f"{_axis('x', i)} domain", "yref": f"{_axis('y', i)} domain"}
    more = {
        "xanchor": "center",
        "yanchor": "bottom",
        "showarrow": False,
        "font": font | {"size": 11},
    }
    return place | more | {"text": _plain(text)}


def _buttons(
    panels: list[list[dict[str, Any]]], shared: list[int], above: int
) -> list[dict[str, Any]]:
    """Those that make axes logarithmic, where their data span some range, and linear again; so many pixels above what
    stands over the panels."""
    x: dict[str, Any] = {}
    y: dict[str, Any] = {}
    for i, panel in enumerate(panels):
        points = [one for one in panel if one["mode"] == "markers"] or panel
        at = np.concatenate([np.asarray(one["x"], float) for one in panel])
        values = np.concatenate([np.asarray(one["y"], float) for one in points])
        if _spreads(at, _WIDE_X):
            x[_key("x", shared[i])] = None
        if _spreads(values, _WIDE_Y):
            positive = values[values > 0]
            least = max(positive.min(), positive.max() * 10**-_DECADES) / 1.5
            y[_key("y", i)] = float(f"{least:.6g}")
    found: list[dict[str, Any]] = []
    for letter, axes in (("x", x), ("y", y)):
        if not axes:
            continue
        log: dict[str, Any] = {}
        linear: dict[str, Any] = {}
        for key, least in axes.items():
            # A curve that falls to nothing would have the axis go there.
            clip = f"{key}.autorangeoptions.clipmin"
            log |= {f"{key}.type": "log", clip: least, f"{key}.autorange": True}
            linear |= {f"{key}.type": "linear", clip: None, f"{key}.autorange": True}
        button = {"label": f"log {letter}", "method": "relayout", "args": [log], "args2": [linear]}
        found.append(
            {
                "type": "buttons",
                "buttons": [button],
                "active": -1,
                "showactive": True,
                **{"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"},
                "pad": {"l": 64 * len(found), "b": 10 + above, "t": 0, "r": 0},
                **{"bgcolor": "var(--card)", "bordercolor": "var(--faint)"},
            }
        )
    return found


def _spreads(values: np.ndarray, ratio: float) -> bool:
    """Whether most numbers are positive, and over some range."""
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size < 2 or positive.size < 0.6 * values.size:
        return False
    return bool(positive.max() > ratio * positive.min())


def _numbers(values: np.ndarray, digits: int) -> list[float | None]:
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values.tolist()]


def _edges(collection: "Collection") -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """x (n,) and both edges of a band, as `fill_between` makes one: there along one edge, and back along the other."""
    paths = collection.get_paths()
    corners = np.asarray(paths[0].vertices, float) if len(paths) == 1 else np.empty((0, 2))
    if len(corners) < 5 or len(corners) % 2 == 0:
        return None
    n = (len(corners) - 3) // 2
    there, back = corners[1 : n + 1], corners[n + 2 : 2 * n + 2][::-1]
    if len(there) != len(back) or not np.array_equal(there[:, 0], back[:, 0]):
        return None
    first, second = there[:, 1], back[:, 1]
    return there[:, 0], np.minimum(first, second), np.maximum(first, second)


def _label(line: "Line2D") -> str:
    """The name of a curve, also where the legend of the picture has no room for it."""
    text = str(line.get_label())
    return "" if text.startswith("_child") else _plain(text.removeprefix("_"))


def _plain(text: str) -> str:
    """As plotly takes texts, which it reads as HTML."""
    return html.escape(text.replace(r"\$", "$").replace("\n", " "), quote=False)


def _colour(color: Any) -> str:
    """A colour by the variable of the page that has it, or as it is."""
    from matplotlib.colors import to_hex

    shade = to_hex(color)
    return f"var(--{COLOURS[shade]})" if shade in COLOURS else shade
