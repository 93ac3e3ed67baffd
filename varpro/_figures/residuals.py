"""Is what the fit leaves noise? Against x, its distribution, and its correlation with itself."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from .._errors import InputError
from .._statistics.record import Fitted
from .._statistics.residual_tests import ordered_residuals
from .curves import MOST_LINES, chosen, draw_residuals, positions, residual_label
from .labels import Labels
from .style import DIVERGING, FIT, Canvas, canvas, color, colorbar, ink, literal, tidy

_MOST_LAGS = 40


PANELS = ("x", "spread", "lags")


def draw(
    fit: Fitted, labels: Labels, panels: Sequence[str] = PANELS, onto: Canvas | None = None
) -> Canvas:
    """Three panels: residuals against x (of many right-hand sides as a map), their distribution
    beside the normal one, their autocorrelation with the limits of independent noise."""
    wrong = [name for name in panels if name not in PANELS]
    if wrong or not panels:
        raise InputError(f"panels must be among {PANELS}, not {wrong or panels}.")
    below = [name for name in PANELS[1:] if name in panels]
    above = ["x"] * max(len(below), 1) if "x" in panels else []
    rows = [row for row in (above, below) if row]
    fig = canvas(onto, 7.0 if "x" in panels else 3.5 * len(below), 2.7 * len(rows))
    axes = fig.subplot_mosaic(rows)
    if "x" in panels:
        along(axes["x"], fig, fit, labels)
    if "spread" in panels:
        spread(axes["spread"], fit)
    if "lags" in panels:
        lags(axes["lags"], fit)
    return fig


def along(ax: Axes, fig: Canvas, fit: Fitted, labels: Labels) -> None:
    """Residuals against x; a map of them for many right-hand sides."""
    x, named = positions(fit)
    if fit.y.ndim == 1 or fit.y.shape[1] <= MOST_LINES:
        draw_residuals(ax, fit, labels, chosen(fit, None))
        tidy(ax)
    else:
        field(ax, fig, fit, labels)
    ax.set_xlabel(literal(labels.x if named else "sample"))


def field(ax: Axes, fig: Canvas, fit: Fitted, labels: Labels) -> None:
    """Weighted residuals over x and right-hand side, white where there are none."""
    resid = np.real(fit.resid * fit.weights_of_all)  # NaN where no value is in use: white
    limit = float(np.nanpercentile(np.abs(resid), 99)) or 1.0
    image = heat(ax, fit, labels, resid, cmap=DIVERGING, vmin=-limit, vmax=limit)
    label = residual_label(fit) + (", real part" if np.iscomplexobj(fit.resid) else "")
    colorbar(fig, image, ax, label, extend="both")


def heat(ax: Axes, fit: Fitted, labels: Labels, values: np.ndarray, **settings):
    """Values (m, k) over x and right-hand side, as a picture."""
    x, _ = positions(fit)
    rhs_positions = labels.positions(values.shape[1])
    rows, columns = np.argsort(x, kind="stable"), np.argsort(rhs_positions, kind="stable")
    image = ax.pcolormesh(
        x[rows],
        rhs_positions[columns],
        values[np.ix_(rows, columns)].T,
        shading="nearest",
        rasterized=True,
        **settings,
    )
    ax.set_ylabel(literal(labels.rhs))
    return image


def standardised(fit: Fitted) -> np.ndarray:
    """Weighted residuals (m, k) over their standard deviation, in order of x, samples in use."""
    resid = ordered_residuals(fit)
    if resid is None:  # an exact fit
        resid = np.zeros((2, 1))
    size = np.sqrt(np.mean(resid**2))
    known = fit.absolute_sigma
    size = 1.0 if known else fit.sigma_resid if fit.dof > 0 else size
    return resid / size if size > 0 else resid


def spread(ax: Axes, fit: Fitted) -> None:
    """A histogram beside the normal distribution."""
    resid = standardised(fit).ravel()
    resid = resid[np.isfinite(resid)]
    reach = max(3.5, min(float(np.max(np.abs(resid), initial=0.0)), 8.0))
    count = int(np.clip(2 * resid.size ** (1 / 3), 7, 60))
    ax.hist(
        np.clip(resid, -reach, reach),
        bins=np.linspace(-reach, reach, count + 1).tolist(),
        density=True,
        color=color(0),
        alpha=0.55,
    )
    z = np.linspace(-reach, reach, 200)
    ax.plot(z, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), color=FIT, lw=1.5)
    ax.set_xlabel("residual / standard deviation")
    ax.set_ylabel("density")
    tidy(ax)


def autocorrelation(resid: np.ndarray, num_lags: int) -> np.ndarray:
    """Correlation of residuals (m, k) with those 1, 2, ... `most` samples further, of all columns
    together."""
    power = float(np.sum(resid**2))
    return np.array([np.sum(resid[lag:] * resid[:-lag]) for lag in range(1, num_lags + 1)]) / (
        power if power > 0 else 1.0
    )


def lags(ax: Axes, fit: Fitted) -> None:
    """Autocorrelation, with the limits within which 95 % of independent noise stays."""
    resid = standardised(fit)
    num_lags = max(1, min(_MOST_LAGS, len(resid) // 2))
    correlation = autocorrelation(resid, num_lags)
    lag = np.arange(1, num_lags + 1)
    limit = 1.96 / np.sqrt(resid.size)
    ax.axhspan(-limit, limit, color=color(0), alpha=0.15, lw=0)
    ax.axhline(0, color=ink(), lw=0.8)
    ax.vlines(lag, 0, correlation, color=color(0), lw=1.5)
    ax.plot(lag, correlation, "o", color=color(0), ms=3)
    reach = max(1.2 * float(np.max(np.abs(correlation))), 2 * limit)
    ax.set_ylim(-reach, reach)
    ax.set_xlabel("lag [samples]")
    ax.set_ylabel("autocorrelation")
    tidy(ax)
