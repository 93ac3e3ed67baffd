"""Decays of an image as phasors, in the plane of their first Fourier coefficient."""

import matplotlib
import numpy as np

from .style import SEQUENTIAL, Canvas, canvas, colorbar, ink, tidy


def draw(phasors: np.ndarray, frequency: float, unit: str, onto: Canvas | None = None) -> Canvas:
    """How often there is which phasor g + i s, over the semicircle on which single lifetimes lie; ticks on it
    are lifetimes in the `unit` of x."""
    fig = canvas(onto, 6.0, 4.2)
    ax = fig.subplots()
    g, s = np.real(phasors), np.imag(phasors)
    low, high = (np.nanpercentile(a, [0.5, 99.5]) for a in (g, s))
    ends = [[min(-0.05, low[0]), max(1.05, low[1])], [min(-0.05, high[0]), max(0.6, high[1])]]
    counts, *edges = np.histogram2d(g, s, bins=(160, 95), range=ends)
    shown = np.ma.masked_equal(counts.T, 0)
    image = ax.pcolormesh(*edges, shown, cmap=matplotlib.colormaps[SEQUENTIAL])
    angle = np.linspace(0.0, np.pi, 200)
    ax.plot(0.5 + 0.5 * np.cos(angle), 0.5 * np.sin(angle), color=ink(), lw=1)
    turn = 2.0 * np.pi * frequency
    for product in (0.2, 0.5, 1.0, 2.0, 5.0):
        tau = float(f"{product / turn:.1g}")
        at = 1.0 / (1.0 - 1j * turn * tau)
        ax.plot(at.real, at.imag, "o", ms=3, color=ink())
        out = 0.5 + (at - 0.5) * 1.1
        text = f"{tau:g} {unit}".strip()
        ax.annotate(text, (out.real, out.imag), ha="center", va="center", fontsize="small")
    ax.set(xlabel="g", ylabel="s", xlim=ends[0], ylim=ends[1], aspect="equal")
    tidy(ax)
    colorbar(fig, image, ax, "curves")
    return fig
