"""Single curves of a batch: those that stand for the rest, or those asked for."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .._errors import InputError
from .curves import LOGS, parts_of
from .labels import Labels
from .style import FIT, Canvas, canvas, color, ink, literal, logarithmic, points, tidy

_MOST = 12
_STAND_FOR_ALL = (5, 50, 95)


def draw(
    batch: Any,
    y: Any,
    index: int | tuple[int, ...] | Sequence[int | tuple[int, ...]] | None,
    log: str,
    labels: Labels,
    onto: Canvas | None,
) -> Any:
    """A panel for each curve; `batch` is a `BatchFit`."""
    if log not in LOGS:
        raise InputError(f"log must be one of {', '.join(map(repr, LOGS))}, not {log!r}.")
    indices = _typical(batch) if index is None else _check_indices(batch, index)
    leaves = jax.tree.leaves(batch.x)
    own = batch.own_positions
    named = own is not None or len(leaves) == 1 and np.ndim(leaves[0]) == 1
    m = len(leaves[0]) if own is None else own.shape[-1]
    if y is not None:
        y = y if hasattr(y, "shape") else np.asarray(y)
        if tuple(y.shape) != (*batch.shape, m):
            raise InputError(f"y has shape {y.shape}, but {(*batch.shape, m)} was fitted.")
    fig = canvas(onto, 3.4 * min(len(indices), 3), 3.0 * -(-len(indices) // 3))
    axes = fig.subplots(
        -(-len(indices) // 3), min(len(indices), 3), squeeze=False, sharex=True
    ).ravel()
    for ax, curve in zip(axes, indices, strict=False):
        x = np.asarray(leaves[0] if own is None else own[curve]) if named else np.arange(m)
        order = np.argsort(x, kind="stable")
        fitted = batch.predict(curve)
        lines = parts_of(fitted)
        shades = [(ink(), FIT)] if len(lines) == 1 else [(color(i), color(i)) for i in range(2)]
        if y is not None:
            data_parts = parts_of(y[curve] + np.zeros_like(fitted))
            for (_, data), (shade, _) in zip(data_parts, shades, strict=True):
                points(ax, x, data, shade)
        for (part, line), (_, shade) in zip(lines, shades, strict=True):
            wide = 1.2 if part else 1.8
            ax.plot(x[order], line[order], color=shade, lw=wide, label=part or None)
        index_text = ", ".join(map(str, curve))
        ax.set_title(f"[{index_text}]  red. chi-square {batch.redchi[curve]:.3g}", fontsize="small")
        ax.set_xlabel(literal(labels.x if named else "sample"))
        if "x" in log:
            logarithmic(ax, "x")
        if "y" in log:
            logarithmic(ax, "y")
        tidy(ax)
    for ax in axes[len(indices) :]:
        ax.set_visible(False)
    axes[0].set_ylabel(literal(labels.y))
    if len(axes[0].get_legend_handles_labels()[1]):
        axes[0].legend(fontsize="small")
    return fig


def _typical(batch: Any) -> list[tuple[int, ...]]:
    """Curves with a good, a median and a bad reduced chi-square."""
    redchi = np.where(batch.success, batch.redchi, np.nan).ravel()
    known = np.flatnonzero(np.isfinite(redchi))
    if not known.size:
        raise InputError("No curve converged. Name those to draw with index=.")
    ranked = known[np.argsort(redchi[known], kind="stable")]
    chosen = [ranked[round(p / 100 * (len(ranked) - 1))] for p in _STAND_FOR_ALL]
    return [_unravel(i, batch.shape) for i in dict.fromkeys(chosen)]


def _check_indices(
    batch: Any, index: int | tuple[int, ...] | Sequence[int | tuple[int, ...]]
) -> list[tuple[int, ...]]:
    single = isinstance(index, int | np.integer | tuple)
    requested: list[Any] = [index] if single else list(index)
    if not 1 <= len(requested) <= _MOST:
        raise InputError(f"index must name 1 to {_MOST} curves, not {len(requested)}.")
    indices = [tuple(i) if isinstance(i, tuple) else (int(i),) for i in requested]
    for single_index in indices:
        inside = len(single_index) == len(batch.shape)
        if not inside or any(
            not 0 <= i < n for i, n in zip(single_index, batch.shape, strict=False)
        ):
            raise InputError(f"index {single_index} is not in a batch of shape {batch.shape}.")
    return indices


def _unravel(i: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(j) for j in np.unravel_index(i, shape))
