"""How a search went."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from .._errors import InputError
from .style import Canvas, canvas, color, logarithmic, tidy


def draw(costs: np.ndarray, onto: Canvas | None = None) -> Canvas:
    """The cost above the last one after each step, relative to it, until rounding hides it."""
    if costs.size < 2:
        raise InputError("No costs of single steps were kept of this fit.")
    fig = canvas(onto, 5.0, 3.2)
    ax = fig.subplots()
    lowest = float(np.nanmin(costs))
    step = np.arange(costs.size)
    if lowest > 0:
        excess = costs / lowest - 1
        visible = excess > 4 * np.finfo(costs.dtype).eps
        ax.set_ylabel("cost / final cost - 1")
    else:
        excess, visible = costs, costs > 0
        ax.set_ylabel("cost")
    ax.plot(step[visible], excess[visible], "o-", color=color(0), ms=4, lw=1.2)
    if visible.any():
        logarithmic(ax, "y")
    ax.set_xlim(0, costs.size - 1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("step")
    tidy(ax)
    return fig
