"""What a fit returns: a frozen record of its numbers, and the verbs on it, a line or two each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._figures.labels import Labels
from .._statistics.bands import Band, BandKind, band as _band, component_bands
from .._statistics.bootstrap import Bootstrap, BootstrapKind, bootstrap
from .._statistics.diagnostics import Finding, diagnose, many
from .._statistics.estimate import Estimate as Estimate
from .._statistics.intervals import Intervals, Method, covariance_intervals
from .._statistics.joint_covariance import Quantity
from .._statistics.profile import Contour, Profile, contour, profile, profile_intervals
from .._statistics.quantities import check_choice, complex_covariance, covariance, quantities
from .._statistics.record import Fitted, plain
from .._statistics.residual_tests import Spectrum, spectrum
from .abstract import AbstractResult
from .dataset import contents, to_dataset, to_frame
from .netcdf import Contents
from .report import CORRELATION, ROWS, html_report, line, report

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas
    import xarray


class FitResult(Fitted, AbstractResult):
    """The outcome of `varpro.fit`.

    **Fields:**

    - `names`, `alpha`: the q nonlinear parameters.
    - `columns`, `coef`: the n linear coefficients, (n,) or (n, k).
    - `x`, `y`, `fitted`, `weights`: data and model, unweighted, of the shape of y; the weights (m,),
        or (m, k) where they differ between right-hand sides, or None.
    - `coef_at_bound`: which coefficients lie on a bound, of the shape of `coef`; their standard
        errors are withheld (NaN). `linear`: the rules for the coefficients.
    - `success`, `status`, `message`, `stop`: whether it converged, the `RESULTS` member by name, a
        sentence, and the test that ended the run.
    - `cost`: half the weighted sum of squares, priors included; `chisq`: the sum of squares;
        `start_costs`: where each of several starts ended.
    - `num_data`, `num_free`, `num_linear`, `dof`: real observations of positive weight, free nonlinear
        parameters, coefficients (complex: two) that are off their bounds and follow no other, and
        degrees of freedom, the first less the others. Under a penalty, `num_linear` is the effective
        number of coefficients, a fraction.
    - `cov_names`, `covariance`: joint covariance of free parameters and coefficients (those of the
        first right-hand side), in that order.
    - `num_steps`, `num_residuals`, `num_jacobians`; `rank` and `cond` of the weighted basis,
        `cond_jac` of the column-scaled Jacobian.
    - `pooled`: for one data set of a `GlobalFit`, the variance of the noise for unit weights and the
        degrees of freedom of the whole fit, from which errors come; else None.
    - `compressed`: as how many columns the right-hand sides were searched, None for as they are.
    - `noise`: which noise the weights stand for, as it was given.
    - `costs`: the cost after each step, that of the start first; of the first 512 steps, and of the
        last run where several followed each other. Empty for solvers of others.

    `fit["slow.tau"]` is one parameter as an `Estimate`. `fit == other` means `fit.equals(other)`.
    """

    @property
    def diagnostics(self) -> tuple[Finding, ...]:
        """What a reader of this fit should know, each a `Finding`; empty for a good fit."""
        return diagnose(self)

    def report(self, *, correlation: float = CORRELATION, rows: int = ROWS) -> str:
        """The text that `print(fit)` shows, with pairs correlated by more than `correlation` (0.9)
        and at most `rows` parameters and as many coefficients (24)."""
        return report(self, correlation=correlation, rows=rows)

    def to_frame(self) -> "pandas.DataFrame":
        """All parameters as a table; see `varpro._results.dataset.to_frame`."""
        return to_frame(self)

    def to_dataset(self) -> "xarray.Dataset":
        """Data, model, components and parameters with named axes, as an `xarray.Dataset`."""
        return to_dataset(self)

    def contents(self) -> Contents:
        """What `to_dataset` holds, as plain arrays with the names of their axes: `variables`, `coords`
        and `attrs`. `contents().write(path)` is a NetCDF file, without xarray."""
        return contents(self)

    def _stored(self) -> tuple["FitResult", None]:
        return self, None

    @overload
    def predict(self, x: PyTree = None, *, band: None = None) -> np.ndarray: ...

    @overload
    def predict(
        self,
        x: PyTree = None,
        *,
        band: float,
        kind: BandKind = "confidence",
        sigma: np.ndarray | float | None = None,
    ) -> Band: ...

    def predict(
        self,
        x: PyTree = None,
        *,
        band: float | None = None,
        kind: BandKind = "confidence",
        sigma: np.ndarray | float | None = None,
    ) -> np.ndarray | Band:
        """The fitted model at positions `x`, those of the data by default; (m,) or (m, k).

        **Arguments:**

        - `band`: a level such as 0.95. Then a `Band` comes back, with the limits within which the
            curve lies at each x with this confidence, by the delta method with the covariance of
            all parameters; Student's t with `dof`, or the normal distribution if `absolute_sigma`.
        - `kind`: "confidence" for the curve, "prediction" for one new observation.
        - `sigma`: for "prediction" of data with weights at new x: standard deviations there, a
            number or (m,), in the units of those of the fit.

        A parameter on a bound counts as fixed there. Where the data do not determine the curve the
        band is infinite.

        **Raises:** `InputError` for a level outside 0 to 1, an unknown kind, or `sigma` missing.
        """
        if band is None:
            return self._curve(self.x if x is None else x)
        check_choice(kind, BandKind, "kind")
        return _band(self, x, level=band, kind=kind, sigma=sigma)

    def component_bands(self, x: PyTree = None, *, band: float = 0.95) -> dict[str, Band]:
        """What `components` returns, each as a `Band` at this level."""
        return component_bands(self, x, level=band)

    def covariance_of(
        self, names: str | Sequence[str] | None = None, rhs: int | Sequence[int] | None = None
    ) -> np.ndarray:
        """Joint covariance (r, r) of chosen parameters and coefficients.

        **Arguments:**

        - `names`: a name, pattern ("*.tau") or several; by default the free parameters and, for one
            right-hand side or with `rhs`, all coefficients.
        - `rhs`: which right-hand sides the coefficients belong to, counted from 0; all by default.

        Rows are in the order of the names; a coefficient has one row for each right-hand side, a
        complex one two, its real and its imaginary part. The scale is that of `covariance`.

        **Raises:** `InputError` for unknown names or right-hand sides.
        """
        return covariance(self, quantities(self, names, rhs))

    def complex_covariance(
        self, names: str | Sequence[str] | None = None, rhs: int | Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Covariance `C = E[d d^H]` and relation `P = E[d d^T]` (r, r) of complex coefficients, d their
        deviations.

        The diagonal of C holds the squares of `stderr`. P, also called the pseudo-covariance, is zero
        for circular errors: those of lines whose frequencies and rates are both free are, for the
        model is then an analytic function of complex parameters; others need not be. Real and
        imaginary parts have the covariances Re(C + P) / 2 and Re(C - P) / 2, and Im(P - C) / 2 with
        each other, as `covariance_of` gives them (Picinbono, IEEE Trans. Signal Process. 44, 2637
        (1996)).

        **Arguments:** `names` of coefficients, or patterns, all by default; `rhs` as in
        `covariance_of`. Scale and order are those of it.

        **Raises:** `InputError` for real coefficients, unknown names or right-hand sides.
        """
        return complex_covariance(self, names, rhs)

    def ci(
        self,
        level: float = 0.95,
        method: Method = "covariance",
        names: str | Sequence[str] | None = None,
        rhs: int | Sequence[int] | None = None,
    ) -> Intervals:
        """Confidence intervals.

        **Arguments:**

        - `level`: the confidence, 0.95 by default.
        - `method`: "covariance": value plus and minus a quantile times the standard error, Student's
            t with `dof`, or the normal if `absolute_sigma`. "profile": the profile likelihood, which
            holds for curved models too; limits to 1e-6 of a standard error. "bootstrap": percentiles
            of `bootstrap()`, which has more choices.
        - `names`, `rhs`: as in `covariance_of`.

        **Raises:** `InputError` for an unknown name, method or right-hand side, and where a method
        needs what the fit does not have: convergence, or an estimate of the noise.
        """
        check_choice(method, Method, "method")
        if method == "covariance":
            return covariance_intervals(self, level, names, rhs)
        if method == "profile":
            return profile_intervals(self, level, quantities(self, names, rhs, moving=True))
        return self.bootstrap().ci(level, names, rhs)

    def bootstrap(
        self, n: int = 1000, kind: BootstrapKind = "residual", key: int | Array = 0
    ) -> Bootstrap:
        """Fits of `n` sets of data drawn anew, whose spread shows how well parameters are known.

        **Arguments:**

        - `n`: how many; 1000 for intervals of 95 %, 100 for standard errors.
        - `kind`: what is drawn. "residual" (default): the residuals over all samples, for noise of
            one distribution (after weighting). "wild": the sign of each residual, for noise that
            differs from sample to sample in unknown ways. "case": the samples, with nothing assumed.
            "poisson": counts, for y in counts; weights stay those of the fit. Formulas in
            `varpro._statistics.bootstrap`.
        - `key`: a seed, or a key of `jax.random`; the same key gives the same numbers.

        **Returns:** a `Bootstrap` with `ci()`, `stderr`, `covariance`, `bias` and the replicates.
        All start from the optimum of the fit. Those that fail are left out and counted.

        **Raises:** `InputError` for an unknown kind, n below 1, a fit without convergence or
        without residuals to draw from, and "poisson" of what are no counts.
        """
        check_choice(kind, BootstrapKind, "kind")
        return bootstrap(self, n, kind, key)

    def profile(
        self, name: str, rhs: int | None = None, *, points: int = 25, span: float = 3.5
    ) -> Profile:
        """The profile of one parameter or coefficient, at `points` values over `span` standard
        errors either way, with the traces of all others."""
        (one,) = self._single(name, rhs)
        return profile(self, one, points, span)

    def contour(
        self,
        first: str,
        second: str,
        rhs: int | None = None,
        *,
        points: int = 25,
        span: float = 3.5,
    ) -> Contour:
        """The profile of two parameters or coefficients together, on a grid of `points` x `points`
        over `span` standard errors either way, as chi-square and as joint confidence."""
        return contour(self, (*self._single(first, rhs), *self._single(second, rhs)), points, span)

    def residual_spectrum(self, rank: int = 4) -> Spectrum:
        """The singular value decomposition of the weighted residual (m, k), its `rank` largest values.

        What the model lacks stands out of the noise as a value larger than the rest, with vectors
        that show how it depends on x and on the right-hand sides.

        **Raises:** `InputError` for one right-hand side, or a rank below 1.
        """
        if self.y.ndim < 2:
            raise InputError("One right-hand side has no residual spectrum. See fit.diagnostics.")
        if rank < 1:
            raise InputError(f"rank must be at least 1, not {rank}.")
        return spectrum(self.resid * self.weights_of_all, min(rank, *self.y.shape))

    def _single(self, name: str, rhs: int | None) -> tuple[Quantity]:
        found = quantities(self, name.removesuffix(".real").removesuffix(".imag"), rhs, moving=True)
        if len(found) == 2 and name.endswith((".real", ".imag")):
            found = found[:1] if name.endswith(".real") else found[1:]
        if len(found) != 1:
            raise InputError(
                f"'{name}' is {len(found)} numbers ({', '.join(q.label for q in found[:4])}). Name "
                "one, with rhs= for a right-hand side and .real or .imag for a part."
            )
        return (found[0],)

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
    ) -> "matplotlib.figure.Figure":
        """Data and fit with its components, and the residuals below.

        **Arguments:**

        - `log`: axes that are logarithmic, "x", "y" or "xy"; none by default.
        - `curves`, `components`, `residuals`: what is drawn, all by default; components where one
            right-hand side is shown.
        - `rhs`: which right-hand sides, counted from 0; all by default, of many six evenly spaced.
        - `labels`: a `varpro.Labels`, what the axes say.
        - `fig`: a figure or subfigure to draw in. A new one is shown by a notebook and has
            `savefig`; for a window of pyplot pass `fig=plt.figure()`.

        **Returns:** the figure.

        **Raises:** `InputError` for another `log` and for right-hand sides that are not there.
        """
        from .._figures.curves import draw

        return draw(
            self,
            labels or Labels(),
            log=log,
            curves=curves,
            components=components,
            residuals=residuals,
            rhs=rhs,
            onto=fig,
        )  # pyright: ignore[reportReturnType]

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

        return residuals.draw(self, labels or Labels(), panels, fig)  # pyright: ignore[reportReturnType]

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

        return components.draw(self, labels or Labels(), fig)  # pyright: ignore[reportReturnType]

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

        return maps_of_coefficients(self.columns, self.coef, self.coef_stderr, shape, labels, fig)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, lists and strings, ready for JSON; no data."""
        fields = ("value", "stderr", "init", "lower", "upper", "fixed", "at_bound", "tied_to")
        parameters = {}
        for name in (*self.names, *self.columns):
            one = self[name]
            keys = fields if one.kind == "nonlinear" else (*fields[:2], "at_bound")
            parameters[name] = {"kind": one.kind} | {k: plain(getattr(one, k)) for k in keys}
        numbers = {name: plain(one.value) for name, one in self.statistics.items()}
        del numbers["sigma_resid"]  # the root of redchi
        covariance = {"names": list(self.cov_names), "matrix": plain(self.covariance)}
        return numbers | {"parameters": parameters, "covariance": covariance}

    def __repr__(self) -> str:
        return line(self)

    def _repr_html_(self) -> str:
        return html_report(self)
