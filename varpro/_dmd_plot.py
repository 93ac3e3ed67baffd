"""The picture of a dynamic mode decomposition."""

from typing import TYPE_CHECKING

import numpy as np

from ._frames import needed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ._dmd_result import DmdResult

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#c8641b", "#8a8a8a"


def figure(result: "DmdResult", modes: int) -> "Figure":
    """Described in `DmdResult.plot`."""
    needed("matplotlib", "plot")
    from matplotlib.figure import Figure

    shown = _leading(result, modes)
    fig = Figure(figsize=(10.0, 3.4 + 1.7 * (len(shown) > 0) * -(-len(shown) // 2)))
    parts = fig.add_gridspec(
        1 + -(-len(shown) // 2), 2, height_ratios=[2.0] + [1.0] * -(-len(shown) // 2)
    )
    _eigenvalues(fig.add_subplot(parts[0, 0]), result)
    _row(fig.add_subplot(parts[0, 1]), result)
    for place, i in enumerate(shown):
        _mode(fig.add_subplot(parts[1 + place // 2, place % 2]), result, i)
    fig.set_layout_engine("constrained")
    return fig


def _leading(result: "DmdResult", modes: int) -> list[int]:
    """The modes to show: of a conjugate pair the one of positive frequency."""
    if result.modes is None:
        return []
    wanted = [i for i, f in enumerate(result.frequency) if f >= 0 or not result.real]
    return wanted[: max(modes, 0)]


def _eigenvalues(ax: "Axes", result: "DmdResult") -> None:
    error = result.stderr
    ax.axvline(0.0, color=_GREY, lw=0.8)
    across = np.nan_to_num(error.real, nan=0.0, posinf=0.0)
    up = np.nan_to_num(error.imag / (2 * np.pi), nan=0.0, posinf=0.0)
    if result.bags is not None:
        drawn = result.bags.eigenvalues[result.bags.ok].ravel()
        ax.plot(
            drawn.real, drawn.imag / (2 * np.pi), ".", ms=2, color=_GREY, alpha=0.5, label="bags"
        )
    size = result.amplitudes / max(result.amplitudes.max(), 1e-300)
    ax.errorbar(result.growth, result.frequency, up, across, "none", ecolor=_BLUE, elinewidth=1.2)
    ax.scatter(result.growth, result.frequency, 12 + 60 * size, color=_BLUE, zorder=3)
    ax.set(xlabel="growth rate", ylabel="frequency", title="eigenvalues (area: amplitude)")
    ax.margins(0.15)
    if result.bags is not None:
        ax.legend(loc="best", frameon=False)


def _row(ax: "Axes", result: "DmdResult") -> None:
    if result.modes is None:
        ax.set_axis_off()
        return
    flat = result.modes.reshape(-1, result.modes.shape[-1])
    strength = np.abs(flat) ** 2 @ result.amplitudes**2
    at = int(np.argmax(strength))
    where = np.unravel_index(at, result.modes.shape[:-1]) if result.modes.ndim > 1 else ()
    data = np.asarray(result.X[where] if where else result.X)
    t = np.linspace(result.t.min(), result.t.max(), 800)
    model = (flat[at] * result.amplitudes) @ np.exp(np.outer(result.eigenvalues, t - result.t0))
    ax.plot(
        result.t, data.real, ".", ms=4, color=_BLUE, label="data" if result.real else "real part"
    )
    ax.plot(t, model.real, lw=1.2, color=_BLUE)
    if not result.real:
        ax.plot(result.t, data.imag, ".", ms=4, color=_ORANGE, label="imaginary part")
        ax.plot(t, model.imag, lw=1.2, color=_ORANGE)
    place = ", ".join(map(str, where))
    ax.set(xlabel="t", title=f"row {place}: data and model" if place else "data and model")
    ax.legend(loc="best", frameon=False)


def _mode(ax: "Axes", result: "DmdResult", i: int) -> None:
    assert result.modes is not None
    mode = result.modes[..., i]
    title = f"mode {i}: frequency {result.frequency[i]:.4g}, growth {result.growth[i]:.3g}"
    if mode.ndim == 2 and min(mode.shape) > 2:
        top = np.abs(mode.real).max()
        ax.imshow(mode.real, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto")
        ax.set(title=title + " (real part)")
        return
    flat = mode.reshape(-1)
    style = {"lw": 1.2} if flat.size > 60 else {"lw": 1.2, "marker": ".", "ms": 4}
    ax.plot(np.abs(flat), color=_GREY, label="magnitude", **style)
    ax.plot(flat.real, color=_BLUE, label="real", **style)
    ax.plot(flat.imag, color=_ORANGE, label="imaginary", **style)
    ax.set(title=title, xlabel="row")
    ax.legend(loc="best", frameon=False, ncols=3, fontsize="small")
