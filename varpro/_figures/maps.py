"""Parameters of many fits: as maps over two axes, as curves over one."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap

from .._errors import InputError
from .labels import Labels
from .style import GREY, OTHERS, SEQUENTIAL, Canvas, canvas, color, colorbar, ink, literal, tidy

Values = Mapping[str, tuple[np.ndarray, np.ndarray]]


def draw(
    values: Values,
    extra: Mapping[str, np.ndarray],
    status: np.ndarray | None,
    meanings: Sequence[str],
    labels: Labels,
    onto: Canvas | None = None,
    light: np.ndarray | None = None,
) -> Canvas:
    """A row for each parameter: its value and its standard error; then maps of `extra`, which have
    no error, and of how each fit ended (`status`, codes of `meanings`).

    All arrays have the shape of the batch; one axis gives curves, two give maps. Colours run from
    the 2nd to the 98th percentile; what is not known is grey. `light`, of that shape, dims maps of values.
    """
    shapes = [value.shape for value, _ in values.values()]
    shape = (shapes if status is None else [*shapes, status.shape])[0]
    if len(shape) not in (1, 2):
        raise InputError(
            f"Maps have one or two axes, but there are {len(shape)}. Draw a part of them: "
            "fit['name'].value has all axes."
        )
    rest: list[tuple[str, np.ndarray]] = list(extra.items())
    panels = rest + ([] if status is None else [("status", status)])
    rows = len(values) + -(-len(panels) // 2)
    height = 1.7 if len(shape) == 1 else float(np.clip(3.0 * shape[0] / shape[1], 1.6, 4.0))
    fig = canvas(onto, 7.4, height * rows + 0.4)
    if len(shape) == 1:
        axes = fig.subplots(len(values) + len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for i, (ax, (name, (value, error))) in enumerate(zip(axes, values.items(), strict=False)):
            _curve(ax, name, value, error, labels, color(i))
        for ax, (name, value) in zip(axes[len(values) :], panels, strict=True):
            if name == "status":
                _codes_curve(ax, value, meanings, labels)
            else:
                _curve(ax, name, value, None, labels, ink())
        axes[-1].set_xlabel(literal(labels.rhs))
        return fig
    axes = fig.subplots(rows, 2, squeeze=False, sharex=True, sharey=True)
    for row, (name, (value, error)) in zip(axes, values.items(), strict=False):
        _map(row[0], fig, value, name, light)
        _map(row[1], fig, error, f"{name}, std. error")
    free = axes[len(values) :].ravel()
    for ax, (name, value) in zip(free, panels, strict=False):
        if name == "status":
            _codes(ax, fig, value, meanings)
        else:
            _map(ax, fig, value, name)
    for ax in free[len(panels) :]:
        ax.set_visible(False)
    return fig


def _named(seen: np.ndarray, meanings: Sequence[str]) -> list[str]:
    return [str(meanings[code]) for code in seen]


def draw_histograms(
    values: Mapping[str, np.ndarray],
    weight: np.ndarray | None,
    weight_name: str,
    bins: int,
    onto: Canvas | None = None,
) -> Any:
    """A histogram of each array (b,), of values between two percentiles; each counts by `weight` (b,)."""
    across = min(len(values), 3)
    down = -(-len(values) // across)
    fig = canvas(onto, 3.2 * across, 2.4 * down)
    axes = fig.subplots(down, across, squeeze=False).ravel()
    for i, (ax, (name, value)) in enumerate(zip(axes, values.items(), strict=False)):
        good = np.isfinite(value)
        low, high = np.percentile(value[good], (1, 99)) if good.any() else (0.0, 1.0)
        if not low < high:
            low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
        mine = None if weight is None else np.nan_to_num(weight[good])
        ax.hist(value[good], bins=bins, range=(low, high), weights=mine, color=color(i))
        ax.set_xlabel(literal(name))
        ax.set_ylabel("curves" if weight is None else f"curves, by {literal(weight_name)}")
        tidy(ax)
    for ax in axes[len(values) :]:
        ax.set_visible(False)
    return fig


def _map(
    ax: Axes, fig: Canvas, values: np.ndarray, name: str, light: np.ndarray | None = None
) -> None:
    values = np.abs(values) if np.iscomplexobj(values) else np.asarray(values, float)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (2, 98)) if finite.size else (0.0, 1.0)
    if not low < high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    shades = matplotlib.colormaps[SEQUENTIAL].with_extremes(bad=GREY)
    finite_values = np.where(np.isfinite(values), values, np.nan)
    image = ax.imshow(finite_values, cmap=shades, vmin=low, vmax=high, interpolation="none")
    if light is not None:
        # The colour bar keeps the colours of the map without dimming.
        known = light[np.isfinite(light)]
        top = np.percentile(known, 98) if known.size else 1.0
        share = np.clip(np.nan_to_num(light) / (top if top > 0 else 1.0), 0.0, 1.0)
        colours = np.array(image.cmap(image.norm(finite_values)))
        colours[..., :3] *= np.where(np.isfinite(light), share, 1.0)[..., None]
        ax.imshow(colours, interpolation="none")
    beyond = (bool(np.any(finite < low)), bool(np.any(finite > high)))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond)
    colorbar(fig, image, ax, extend=extend or "neither")
    _bare(ax, name)


def _codes(ax: Axes, fig: Canvas, codes: np.ndarray, meanings: Sequence[str]) -> None:
    """How each fit ended, with the names of the endings that occur."""
    occurring = np.unique(codes)
    # The last colour is the first one's neighbour; good endings come first and are quiet.
    shades = ListedColormap([("#c9d2dc", *OTHERS, "#000000")[i % 8] for i in range(len(occurring))])
    image = ax.imshow(
        np.searchsorted(occurring, codes),
        cmap=shades,
        norm=BoundaryNorm(np.arange(len(occurring) + 1) - 0.5, len(occurring)),
        interpolation="none",
    )
    bar = colorbar(fig, image, ax, ticks=range(len(occurring)))
    bar.ax.set_yticklabels(_named(occurring, meanings))
    bar.ax.tick_params(length=0)
    _bare(ax, "status")


def _bare(ax: Axes, name: str) -> None:
    ax.set_title(literal(name), fontsize="medium", loc="left")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def _curve(
    ax: Axes, name: str, value: np.ndarray, error: np.ndarray | None, labels: Labels, shade: str
) -> None:
    value = np.abs(value) if np.iscomplexobj(value) else value
    positions = labels.positions(value.size)
    ax.plot(positions, value, "o" if value.size <= 60 else ".", ms=3, color=shade)
    if error is not None:
        finite_error = np.where(np.isfinite(error), error, 0.0)
        ax.vlines(
            positions, value - finite_error, value + finite_error, color=shade, lw=0.8, alpha=0.6
        )
    finite = value[np.isfinite(value)]
    if finite.size:
        low, high = np.percentile(finite, (2, 98))
        room = 0.5 * (high - low) or 0.5 * abs(high) or 1.0
        ax.set_ylim(low - room, high + room)
    ax.set_ylabel(literal(name))
    tidy(ax)


def _codes_curve(ax: Axes, codes: np.ndarray, meanings: Sequence[str], labels: Labels) -> None:
    occurring = np.unique(codes)
    ax.plot(labels.positions(codes.size), np.searchsorted(occurring, codes), "|", color=ink(), ms=8)
    ax.set_yticks(range(len(occurring)), _named(occurring, meanings))
    ax.set_ylim(len(occurring) - 0.5, -0.5)
    tidy(ax)


def maps_of_coefficients(
    names: tuple[str, ...],
    coef: np.ndarray,
    stderr: np.ndarray,
    shape: tuple[int, ...] | None,
    labels: Labels | None,
    fig: Any,
) -> Any:
    """Maps of coefficients (n, k) whose k right-hand sides are pixels of an image of this shape."""
    if coef.ndim == 1:
        raise InputError("One right-hand side makes no map. See fit.plot().")
    k = coef.shape[1]
    shape = (k,) if shape is None else tuple(shape)
    if np.prod(shape) != k:
        raise InputError(
            f"shape = {shape} has {int(np.prod(shape))} pixels for {k} right-hand sides."
        )
    values = {
        name: (coef[i].reshape(shape), stderr[i].reshape(shape)) for i, name in enumerate(names)
    }
    return draw(values, {}, None, (), labels or Labels(), fig)
