"""The picture of a dynamic mode decomposition."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from .._errors import needed
from .bagging import DmdBags

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_BLUE, _ORANGE, _GREY = "#1f5fa8", "#c8641b", "#8a8a8a"


@runtime_checkable
class Drawn(Protocol):
    """Fields of a `DmdResult` that a picture or a dataset needs."""

    @property
    def eigenvalues(self) -> np.ndarray: ...
    @property
    def amplitudes(self) -> np.ndarray: ...
    @property
    def modes(self) -> np.ndarray | None: ...
    @property
    def t(self) -> np.ndarray: ...
    @property
    def t0(self) -> float: ...
    @property
    def X(self) -> Any: ...
    @property
    def real(self) -> bool: ...
    @property
    def bags(self) -> DmdBags | None: ...
    @property
    def frequency(self) -> np.ndarray: ...
    @property
    def growth(self) -> np.ndarray: ...
    @property
    def stderr(self) -> np.ndarray: ...
    @property
    def amplitude_stderr(self) -> np.ndarray: ...


def figure(result: Drawn, modes: int) -> "Figure":
    """Draw the eigenvalues, the row of most variance and the leading `modes`; for `DmdResult.plot`."""
    needed("matplotlib", "plot")
    from matplotlib.figure import Figure

    modes_shown = _leading(result, modes)
    fig = Figure(figsize=(10.0, 3.4 + 1.7 * (len(modes_shown) > 0) * -(-len(modes_shown) // 2)))
    parts = fig.add_gridspec(
        1 + -(-len(modes_shown) // 2), 2, height_ratios=[2.0] + [1.0] * -(-len(modes_shown) // 2)
    )
    _eigenvalues(fig.add_subplot(parts[0, 0]), result)
    _row(fig.add_subplot(parts[0, 1]), result)
    for position, i in enumerate(modes_shown):
        _mode(fig.add_subplot(parts[1 + position // 2, position % 2]), result, i)
    fig.set_layout_engine("constrained")
    return fig


def _leading(result: Drawn, modes: int) -> list[int]:
    """Indices of the modes to show: of a conjugate pair the one of positive frequency."""
    if result.modes is None:
        return []
    candidates = [i for i, f in enumerate(result.frequency) if f >= 0 or not result.real]
    return candidates[: max(modes, 0)]


def _eigenvalues(ax: "Axes", result: Drawn) -> None:
    """Draw frequency over growth rate, with standard errors and the eigenvalues of bags."""
    error = result.stderr
    ax.axvline(0.0, color=_GREY, lw=0.8)
    growth_error = np.nan_to_num(np.real(error), nan=0.0, posinf=0.0)
    frequency_error = np.nan_to_num(np.imag(error) / (2 * np.pi), nan=0.0, posinf=0.0)
    if result.bags is not None:
        bag_values = result.bags.eigenvalues[result.bags.ok].ravel()
        ax.plot(
            np.real(bag_values),
            np.imag(bag_values) / (2 * np.pi),
            ".",
            ms=2,
            color=_GREY,
            alpha=0.5,
            label="bags",
        )
    size = result.amplitudes / max(result.amplitudes.max(), 1e-300)
    ax.errorbar(
        result.growth,
        result.frequency,
        frequency_error,
        growth_error,
        "none",
        ecolor=_BLUE,
        elinewidth=1.2,
    )
    ax.scatter(result.growth, result.frequency, 12 + 60 * size, color=_BLUE, zorder=3)
    ax.set(xlabel="growth rate", ylabel="frequency", title="eigenvalues (area: amplitude)")
    ax.margins(0.15)
    if result.bags is not None:
        ax.legend(loc="best", frameon=False)


def _row(ax: "Axes", result: Drawn) -> None:
    """Draw data and model of the row of most variance."""
    if result.modes is None:
        ax.set_axis_off()
        return
    flat = result.modes.reshape(-1, result.modes.shape[-1])
    strength = np.abs(flat) ** 2 @ result.amplitudes**2
    row = int(np.argmax(strength))
    index = np.unravel_index(row, result.modes.shape[:-1]) if result.modes.ndim > 1 else ()
    t = np.linspace(result.t.min(), result.t.max(), 800)
    model = (flat[row] * result.amplitudes) @ np.exp(np.outer(result.eigenvalues, t - result.t0))
    data = None if result.X is None else np.asarray(result.X[index] if index else result.X)
    parts = [("data", np.real, _BLUE)]
    if not result.real:
        parts = [("real part", np.real, _BLUE), ("imaginary part", np.imag, _ORANGE)]
    for label, part, color in parts:
        if data is not None:
            ax.plot(result.t, part(data), ".", ms=4, color=color, label=label)
        ax.plot(t, part(model), lw=1.2, color=color)
    row_name = ", ".join(map(str, index))
    ax.set(xlabel="t", title=f"row {row_name}: data and model" if row_name else "data and model")
    if data is not None:
        ax.legend(loc="best", frameon=False)


def _mode(ax: "Axes", result: Drawn, i: int) -> None:
    """Draw a mode: as an image if snapshots are images, else as curves over the rows."""
    assert result.modes is not None
    mode = result.modes[..., i]
    title = f"mode {i}: frequency {result.frequency[i]:.4g}, growth {result.growth[i]:.3g}"
    if mode.ndim == 2 and min(mode.shape) > 2:
        top = np.abs(np.real(mode)).max()
        ax.imshow(np.real(mode), cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto")
        ax.set(title=title + " (real part)")
        return
    flat = mode.reshape(-1)
    marker = "" if flat.size > 60 else "."
    ax.plot(np.abs(flat), color=_GREY, label="magnitude", lw=1.2, marker=marker, ms=4)
    ax.plot(np.real(flat), color=_BLUE, label="real", lw=1.2, marker=marker, ms=4)
    ax.plot(np.imag(flat), color=_ORANGE, label="imaginary", lw=1.2, marker=marker, ms=4)
    ax.set(title=title, xlabel="row")
    ax.legend(loc="best", frameon=False, ncols=3, fontsize="small")
