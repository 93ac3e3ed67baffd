"""A figure as an SVG element of a page, whose style sheet sets its colours and whose fonts it takes.

What matplotlib writes is made smaller: samples, each a marker with a style of its own, become one
path of round dots, and coordinates keep a hundredth of a point.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that no figure has of itself stand for those of the page.
INK, FAINT = "#010203", "#c0c1c2"
# Those of varpro's figures, by the name of the page's variable.
COLOURS = {
    INK: "ink",
    FAINT: "faint",
    "#d55e00": "fit",
    "#0072b2": "part0",
    "#009e73": "part1",
    "#cc79a7": "part2",
    "#56b4e9": "part3",
    "#e69f00": "part4",
    "#882255": "part5",
}
_MARKERS = re.compile(
    r'<g clip-path="(?P<clip>[^"]*)">\s*'
    r'(?P<uses>(?:<use xlink:href="#(?P<id>m\w+)" x="[^"]*" y="[^"]*" style="(?P<style>[^"]*)"/>\s*){2,})</g>'
)
_PLACE = re.compile(r'x="([^"]*)" y="([^"]*)"')


@contextlib.contextmanager
def settings(more: Any) -> Iterator[None]:
    """Settings of matplotlib for a figure of ours. Names of others are never set by TeX, which reads files
    and which a `matplotlibrc` beside the data can ask for."""
    import matplotlib

    with matplotlib.rc_context({"text.usetex": False} | more), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; the run has nothing to say about that.
        warnings.filterwarnings("ignore", message="Glyph")
        yield


# Inches beside single axes for ticks and titles, left, bottom, right and top.
_MARGINS = (0.75, 0.5, 0.1, 0.1)


def element(
    draw: Callable[["Figure"], object],
    width: float,
    height: float,
    prefix: str,
    plain: bool = False,
) -> str:
    """What `draw` draws on a figure of this size in inches, as one `<svg>` element.

    `prefix` keeps the ids of figures on one page apart. A `plain` figure, of single axes with short
    labels, has margins of fixed widths: to measure texts takes as long as to draw them.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import PlaceHolderLayoutEngine

    buffer = io.StringIO()
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    # Without a fixed salt and with a date no two runs would write the same report.
    fixed = {"svg.hashsalt": "varpro", "svg.fonttype": "none", "font.size": 10.5}
    # Pictures inside the figure are shown on screens that have two pixels where others have one.
    more = {"grid.color": FAINT, "savefig.dpi": 144, "axes.facecolor": "none"}
    with settings({**fixed, **more, **dict.fromkeys(ink, INK)}):
        fig = Figure(figsize=(width, height), layout="constrained")
        if plain:
            left, bottom, right, top = _MARGINS
            fig.set_layout_engine(PlaceHolderLayoutEngine(True, True))
            fig.subplots_adjust(
                *(left / width, bottom / height, 1 - right / width, 1 - top / height)
            )
        draw(fig)
        fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), text)
    text = _MARKERS.sub(lambda match: _dots(match, text), text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", text)
    for color, name in COLOURS.items():
        text = text.replace(color, f"var(--{name})")
    # The page decides how wide it is.
    return re.sub(r' (width|height)="[^"]*pt"', "", text, count=2)


def _dots(match: re.Match[str], text: str) -> str:
    """Markers of one style as a path: lines of no length have round ends."""
    shape = re.search(rf'<path id="{match["id"]}" d="M 0 ([\d.]+)', text)
    styles = set(re.findall(r'style="([^"]*)"', match["uses"]))
    if shape is None or float(shape[1]) == 0 or len(styles) > 1:
        return match[0]
    shade = re.search(r"fill: (#\w+)", match["style"])
    opacity = re.search(r"(?:^|[ ;])(?:fill-)?opacity: ([\d.]+)", match["style"])
    if shade is None:
        return match[0]
    path = "".join(f"M{x} {y}h0" for x, y in _PLACE.findall(match["uses"]))
    style = f"fill: none; stroke: {shade[1]}; stroke-width: {2 * float(shape[1]):.2f}; "
    style += f"stroke-linecap: round; stroke-opacity: {opacity[1] if opacity else 1}"
    return f'<path clip-path="{match["clip"]}" d="{path}" style="{style}"/>'
