"""What a fit returns: a frozen record of its numbers, and the verbs on it, a line or two each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._given.arguments import whole
from .._statistics.bands import Band, BandKind, band as _band, component_bands
from .._statistics.diagnostics import Finding, diagnose
from .._statistics.estimate import Estimate as Estimate
from .._statistics.evidence import log_evidence
from .._statistics.intervals import Intervals
from .._statistics.posterior import Posterior, posterior
from .._statistics.quantities import check_choice, complex_covariance
from .._statistics.residual_tests import Spectrum, spectrum
from .._text import plain
from .abstract import AbstractResult
from .dataset import contents, to_dataset, to_frame
from .drawing import Drawn
from .inference import Inferred
from .netcdf import Contents
from .report import CORRELATION, ROWS, html_report, line, report

if TYPE_CHECKING:
    import pandas
    import xarray


class FitResult(Drawn, Inferred, AbstractResult):
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
    - `whitener`: of correlated noise the matrix (m, m) that makes weighted residuals white, else None;
        `weights` are then one over the standard deviations.
    - `noise`: which noise the weights stand for, as it was given. `spread`: of a robust loss, the
        variance of the noise for unit weights from which standard errors come; else None.
    - `derived`: the quantities that `varpro.fit` was asked to derive, else None.
    - `costs`: the cost after each step, that of the start first; of the first 512 steps. Empty for
        solvers of others, and for noise whose weights follow the model.

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
            return self._curve(x)
        check_choice(kind, BandKind, "kind")
        return _band(self, x, level=band, kind=kind, sigma=sigma)

    def eval(self, x: PyTree = None) -> np.ndarray:
        """`predict(x)`, as lmfit calls it."""
        return self.predict(x)

    @property
    def best_fit(self) -> np.ndarray:
        """`fitted`, as lmfit calls it."""
        return self.fitted

    @property
    def best_values(self) -> dict[str, float | complex | np.ndarray]:
        """The values of all parameters and coefficients by name, as lmfit calls them."""
        return {name: self[name].value for name in self}

    def component_bands(self, x: PyTree = None, *, band: float = 0.95) -> dict[str, Band]:
        """What `components` returns, each as a `Band` at this level."""
        return component_bands(self, x, level=band)

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

    def _credible(
        self, level: float, names: str | Sequence[str] | None, rhs: int | Sequence[int] | None
    ) -> Intervals:
        return self.posterior().ci(level, names, rhs)

    def posterior(
        self,
        n: int = 1000,
        *,
        chains: int = 4,
        warmup: int = 500,
        coef_sd: float | Mapping[str, float] | None = None,
        key: int | Array = 0,
    ) -> Posterior:
        """Draws of the posterior distribution of parameters, coefficients and noise.

        The coefficients are integrated out exactly, so that the sampler (NUTS of blackjax, extra `bayes`) walks
        among the nonlinear parameters alone; given those they are drawn from their normal distribution.
        Priors: normal where a parameter has one (`vp.Param(prior=...)`), else flat between its bounds; noise known
        with `absolute_sigma`, else Jeffreys' d sigma / sigma.

        **Arguments:**

        - `n`: draws of each chain.
        - `chains`, `warmup`: how many chains (2 or more), and steps of each that adapt the sampler and are forgotten.
        - `coef_sd`: standard deviation of a normal prior of the coefficients about zero, a number or
            `{pattern: number}`; flat where there is none. A `ridge` or `smooth` of the fit is such a prior already.
        - `key`: a seed, or a key of `jax.random`; the same key gives the same numbers.

        **Returns:** a `Posterior` with `ci()`, `rhat`, `ess`, `samples()`, `findings` and `to_inference_data()`.

        **Raises:** `InputError` without blackjax, for bounded coefficients, noise other than normal, right-hand
        sides with weights of their own, a fit without convergence or without a free parameter, and a density
        that does not fall away from the optimum: a flat prior without an end.
        """
        return posterior(self, n, chains, warmup, coef_sd, key)

    def log_evidence(self, coef_sd: float | Mapping[str, float] | None = None) -> float:
        """The logarithm of the evidence, the density of the data with everything integrated out: coefficients
        exactly, nonlinear parameters by Laplace's formula. For `varpro.compare(..., by="evidence")`.

        **Arguments:** `coef_sd` as in `posterior`, here for every coefficient; a ridge of the fit will do as well.

        **Returns:** the natural logarithm, NaN where the posterior has no normal top. Without `absolute_sigma` up
        to a constant that all models of the same data share.

        **Raises:** `InputError` as `posterior`, and for priors that are not proper: every free parameter needs
        finite bounds, or a prior.
        """
        return log_evidence(self, coef_sd)

    def residual_spectrum(self, rank: int = 4) -> Spectrum:
        """The singular value decomposition of the weighted residual (m, k), its `rank` largest values.

        What the model lacks stands out of the noise as a value larger than the rest, with vectors
        that show how it depends on x and on the right-hand sides.

        **Raises:** `InputError` for one right-hand side, or a rank below 1.
        """
        if self.y.ndim < 2:
            raise InputError("One right-hand side has no residual spectrum. See fit.diagnostics.")
        whole("rank", rank, 1)
        return spectrum(self.weighted_resid, min(rank, *self.y.shape))

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, lists and strings, ready for JSON; no data."""
        fields = ("value", "stderr", "init", "lower", "upper", "fixed", "at_bound", "tied_to")
        parameters = {}
        for name in (*self.names, *self.columns):
            one = self[name]
            keys = fields if one.kind == "nonlinear" else (*fields[:2], "at_bound")
            keys = keys if one.origin is None else (*keys, "origin")
            parameters[name] = {"kind": one.kind} | {k: plain(getattr(one, k)) for k in keys}
        numbers = {name: plain(one.value) for name, one in self.statistics.items()}
        del numbers["sigma_resid"]  # the root of redchi
        covariance = {"names": list(self.cov_names), "matrix": plain(self.covariance)}
        found = numbers | {"parameters": parameters, "covariance": covariance}
        return found if self.derived is None else found | {"derived": self.derived.to_dict()}

    def __repr__(self) -> str:
        return line(self)

    def _repr_html_(self) -> str:
        return html_report(self)
