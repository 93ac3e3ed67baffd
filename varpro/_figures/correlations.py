"""The correlations of the estimates as a heat map."""

import matplotlib
import numpy as np
from matplotlib.font_manager import FontProperties

from .._errors import InputError
from .style import DIVERGING, GREY, Canvas, canvas, colorbar, literal

# Numbers are written into fields of at least this size, in inches; names and colour bar take the rest.
_FIELD, _AROUND = 0.4, 1.8
# Points of the smallest letters, and the height of a line of them by theirs.
_SMALLEST, _LINE = 5.5, 1.25


def draw(names: tuple[str, ...], correlation: np.ndarray, onto: Canvas | None = None) -> Canvas:
    """Correlations (q, q); what is not known, as of a parameter on its bound, is grey."""
    if not names:
        raise InputError("There is no free parameter, so there are no correlations.")
    q = len(names)
    side = float(np.clip(0.55 * q + 1.8, 3.6, 9.0))
    fig = canvas(onto, side + 0.6, side)
    ax = fig.subplots()
    shades = matplotlib.colormaps[DIVERGING].with_extremes(bad=GREY)
    image = ax.imshow(correlation, cmap=shades, vmin=-1, vmax=1, interpolation="none")
    field = (min(fig.bbox.width, fig.bbox.height) / fig.dpi - _AROUND) / q
    # A name is no higher than its field; where that is too small to read, some fields are named.
    usual = FontProperties(size=matplotlib.rcParams["xtick.labelsize"]).get_size_in_points()
    room = max(72 * field / _LINE, 0.1)
    size = min(usual, max(room, _SMALLEST))
    named = range(0, q, max(int(np.ceil(_SMALLEST / room)), 1))
    texts = [literal(names[i]) for i in named]
    # At an angle names need half as much room again.
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(
        named, texts, fontsize=size, **(slanted if room >= 1.4 * usual else {"rotation": 90})
    )
    ax.set_yticks(named, texts, fontsize=size)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if field >= _FIELD:
        for i in range(q):
            for j in range(q):
                value = correlation[i, j]
                if i != j and np.isfinite(value):
                    # On deep red and blue white is read, on pale fields black.
                    shade = "white" if abs(value) > 0.6 else "black"
                    text = f"{value:+.2f}"
                    ax.text(j, i, text, ha="center", va="center", color=shade, fontsize="small")
    colorbar(fig, image, ax, "correlation", shrink=0.8)
    return fig
