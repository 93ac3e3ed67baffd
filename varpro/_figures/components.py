"""What the model is made of: curves over x, and how much of each is in every right-hand side."""

import numpy as np
from matplotlib.axes import Axes

from .._errors import InputError
from .._statistics.record import Fitted
from .curves import MOST_LINES, grid, positions
from .labels import Labels
from .style import Canvas, canvas, color, ink, legend, literal, tidy


def draw(fit: Fitted, labels: Labels, onto: Canvas | None = None) -> Canvas:
    """For one right-hand side the contribution of each component; for several the columns of the
    basis, each scaled to a largest value of one, beside the coefficients with their errors."""
    if fit.coef.size == len(fit.columns) and fit.y.ndim == 1:
        fig = canvas(onto, 7.0, 4.2)
        ax = fig.subplots()
        _contributions(ax, fit, labels)
        return fig
    return beside(fit, fit.coef, fit.coef_stderr, labels, onto)


def beside(
    fit: Fitted, coef: np.ndarray, stderr: np.ndarray, labels: Labels, onto: Canvas | None
) -> Canvas:
    """Columns of the basis, and coefficients (n, k) of it."""
    fig = canvas(onto, 8.4, 4.2)
    wide = fig.bbox.width >= 5 * fig.dpi
    left, right = fig.subplots(1, 2) if wide else fig.subplots(2, 1)
    shapes(left, fit, labels)
    coefficients(right, fit.columns, coef, stderr, labels)
    return fig


def _contributions(ax: Axes, fit: Fitted, labels: Labels) -> None:
    x, named = positions(fit)
    grid_x = grid(fit)
    order = np.argsort(x, kind="stable")
    for i, (name, values) in enumerate(fit.components(grid_x).items()):
        line = np.real(values[order] if grid_x is None else values)
        ax.plot(
            x[order] if grid_x is None else grid_x,
            line,
            color=color(i),
            lw=1.5,
            label=literal(name),
        )
    ax.set_xlabel(literal(labels.x if named else "sample"))
    ax.set_ylabel(literal(labels.y))
    tidy(ax)
    legend(ax)


def shapes(ax: Axes, fit: Fitted, labels: Labels) -> None:
    """The columns of the basis over x, each with a largest value of one."""
    x, named = positions(fit)
    grid_x = grid(fit)
    phi, _ = fit._evaluate(fit.x if grid_x is None else grid_x)
    order = np.argsort(x, kind="stable")
    if grid_x is None:
        phi, grid_x = phi[order], x[order]
    for i, name in enumerate(fit.columns):
        values = np.real(phi[:, i])
        size = np.max(np.abs(values), initial=0.0)
        few = len(fit.columns) <= 2 * MOST_LINES
        label = literal(name) if few else f"_{literal(name)}"
        ax.plot(grid_x, values / (size or 1.0), color=color(i), lw=1.5, label=label)
    ax.set_xlabel(literal(labels.x if named else "sample"))
    ax.set_ylabel("component, scaled to one")
    tidy(ax)
    legend(ax)


def coefficients(
    ax: Axes, names: tuple[str, ...], coef: np.ndarray, stderr: np.ndarray, labels: Labels
) -> None:
    """Coefficients (n, k) over the right-hand sides, with one standard error either way."""
    if coef.ndim == 1:
        coef, stderr = coef[:, None], stderr[:, None]
    rhs_positions = labels.positions(coef.shape[1])
    if rhs_positions.shape != (coef.shape[1],):
        raise InputError(
            f"labels.at has {len(rhs_positions)} positions for {coef.shape[1]} right-hand sides."
        )
    order = np.argsort(rhs_positions, kind="stable")
    rhs_positions = rhs_positions[order]
    style = "-" if len(rhs_positions) > 12 else "o-"
    ax.axhline(0, color=ink(), lw=0.8)
    for i, name in enumerate(names):
        value = np.abs(coef[i]) if np.iscomplexobj(coef) else coef[i]
        error = np.where(np.isfinite(stderr[i]), stderr[i], 0.0)[order]
        value = value[order]
        ax.fill_between(
            rhs_positions, value - error, value + error, color=color(i), alpha=0.25, lw=0
        )
        ax.plot(rhs_positions, value, style, color=color(i), lw=1.5, ms=3, label=literal(name))
    ax.set_xlabel(literal(labels.rhs))
    ax.set_ylabel("coefficient" if not np.iscomplexobj(coef) else "|coefficient|")
    tidy(ax)
