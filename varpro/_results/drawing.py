"""Pictures of one fit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._figures.labels import Labels
from .._statistics.diagnostics import many
from .._statistics.record import Fitted

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure


class Drawn(Fitted):
    """A fit that draws itself."""

    def plot(
        self,
        *,
        log: str = "",
        curves: bool = True,
        components: bool = True,
        residuals: bool = True,
        rhs: int | Sequence[int] | None = None,
        labels: Labels | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
        ax: "matplotlib.axes.Axes | None" = None,
    ) -> Any:
        """Data and fit with its components, and the residuals below.

        **Arguments:**

        - `log`: axes that are logarithmic, "x", "y" or "xy"; none by default.
        - `curves`, `components`, `residuals`: what is drawn, all by default; components where one
            right-hand side is shown.
        - `rhs`: which right-hand sides, counted from 0; all by default, of many six evenly spaced.
        - `labels`: a `varpro.Labels`, what the axes say.
        - `fig`: a figure or subfigure to draw in. A new one is shown by a notebook, and by
            `plt.show()` where pyplot was imported.
        - `ax`: axes of your own to draw in, instead of `fig`; the residuals are left out.

        **Returns:** the figure, or `ax`.

        **Raises:** `InputError` for another `log`, for right-hand sides that are not there, and for `fig`
        together with `ax`.
        """
        from .._figures.curves import draw
        from .._figures.style import axes_of_ones_own

        return draw(
            self,
            labels or Labels.of(self.data_names),
            log=log,
            curves=curves,
            components=components,
            residuals=residuals,
            rhs=rhs,
            onto=fig if ax is None else axes_of_ones_own(ax, fig),
        )

    def plot_residuals(
        self,
        *,
        panels: Sequence[str] = ("x", "spread", "lags"),
        labels: Labels | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Whether residuals are noise.

        **Arguments:**

        - `panels`: "x": residuals against x, a map for more than six right-hand sides; "spread":
            their distribution beside the normal one; "lags": their autocorrelation, with the limits
            within which 95 % of independent noise stays. All by default.
        - `labels`, `fig`: as in `plot`.

        **Raises:** `InputError` for other panels.
        """
        from .._figures import residuals

        return residuals.draw(self, labels or Labels.of(self.data_names), panels, fig)  # pyright: ignore[reportReturnType]

    def plot_components(
        self,
        *,
        labels: Labels | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """The components of the curve; for several right-hand sides the columns of the basis, each
        scaled to one, beside the coefficients with a standard error either way. `labels.at` says
        where right-hand sides stand. Arguments as in `plot`."""
        from .._figures import components

        return components.draw(self, labels or Labels.of(self.data_names), fig)  # pyright: ignore[reportReturnType]

    def plot_corr(
        self,
        *,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Correlations of the estimates; of several right-hand sides those of the nonlinear
        parameters, which they share.

        **Raises:** `InputError` without a free parameter.
        """
        from .._figures import correlations

        shown = self.num_free if many(self) else len(self.cov_names)
        return correlations.draw(self.cov_names[:shown], self.correlation[:shown, :shown], fig)  # pyright: ignore[reportReturnType]

    def plot_convergence(
        self,
        *,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """How far the cost was above the final one after each step, relative to it.

        **Raises:** `InputError` where costs were not kept: without a search, and for other solvers.
        """
        from .._figures import convergence

        return convergence.draw(self.costs, fig)  # pyright: ignore[reportReturnType]

    def plot_maps(
        self,
        shape: tuple[int, ...] | None = None,
        *,
        labels: Labels | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Coefficients and their standard errors as maps; `shape`, such as (rows, columns), is that
        of the image whose pixels are the right-hand sides, None for a single axis.

        **Raises:** `InputError` for one right-hand side, and for a shape that does not hold them all.
        """
        from .._figures.maps import maps_of_coefficients

        labels = labels or Labels.of(self.data_names)
        return maps_of_coefficients(self.columns, self.coef, self.coef_stderr, shape, labels, fig)
