"""The verbs of inference, which every fit has, of one data set or of several."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array

from .._errors import InputError
from .._statistics.bootstrap import Bootstrap, BootstrapKind, bootstrap
from .._statistics.covariance_intervals import covariance_intervals
from .._statistics.derivation import Derivation
from .._statistics.derived_profile import derived_from
from .._statistics.derived_result import Derived
from .._statistics.intervals import Intervals, Method
from .._statistics.profile import Contour, Profile, contour, profile, profile_intervals
from .._statistics.quantities import check_choice, covariance, quantities, single_quantity
from .._statistics.record import AbstractLeastSquares


class Inferred(AbstractLeastSquares):
    """A fit that tells how well its numbers are known."""

    @property
    def _whole(self) -> "Inferred":
        """The fit that its verbs are about: itself, but where that is a part of another."""
        return self

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
        return covariance(self._whole, quantities(self._whole, names, rhs))

    def derive(self, what: Derivation) -> Derived:
        """Numbers that follow from the fit, with standard errors and their joint covariance.

            fit.derive("a.area / (a.area + b.area)")
            fit.derive({"ratio": "a.area / b.area", "split": "b.center - a.center"})
            fit.derive(lambda p: jnp.log(p["a.tau"]))
            fit.derive(["*.area", "*.fwhm"])

        **Arguments:**

        - `what`: an expression of names, numbers, `+ - * / **`, parentheses and functions such as exp,
            log, sqrt and abs; or a function of a mapping of all numbers by name, written with `jax.numpy`,
            that returns one number or a dict of several; or a dict of these by the names that they are to
            have; or names and patterns of what components report.

        Names are those of parameters, of coefficients, and of what components report: of peaks `a.area`,
        `a.height`, `a.fwhm`; of decays `a.fraction`, `a.half_life`, ..., `lifetime.amplitude_mean`; of
        oscillations `a.amplitude`, `a.phase` (see each basis). Derivatives are exact. Of several right-hand
        sides there is a value for each. Of a fit of several data sets names are full ones, such as "fast.tau"
        and "run1.fast", and coefficients those of data sets with one right-hand side; of others take
        `fit.sets["run1"].derive`.

        **Returns:** a `Derived`; its `ci()` has intervals by the covariance, by profiles and by the bootstrap.

        **Raises:** `InputError` for unknown names, and for what is no real number.
        """
        return derived_from(self._whole, what)

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
            of `bootstrap()`, which has more choices. "posterior": credible intervals of `posterior()`, of
            one data set.
        - `names`, `rhs`: as in `covariance_of`.

        **Raises:** `InputError` for an unknown name, method or right-hand side, and where a method
        needs what the fit does not have: convergence, or an estimate of the noise.
        """
        check_choice(method, Method, "method")
        if method == "covariance":
            return covariance_intervals(self._whole, level, names, rhs)
        if method == "profile":
            return profile_intervals(
                self._whole, level, quantities(self._whole, names, rhs, moving=True)
            )
        if method == "posterior":
            return self._credible(level, names, rhs)
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
            "poisson": counts, for y in counts; weights stay those of the fit.
        - `key`: a seed, or a key of `jax.random`; the same key gives the same numbers.

        **Returns:** a `Bootstrap` with `ci()`, `stderr`, `covariance`, `bias` and the replicates.
        All start from the optimum of the fit. Those that fail are left out and counted.

        **Raises:** `InputError` for an unknown kind, n below 1, a fit without convergence or
        without residuals to draw from, and "poisson" of what are no counts.
        """
        check_choice(kind, BootstrapKind, "kind")
        return bootstrap(self._whole, n, kind, key)

    def profile(
        self, name: str, rhs: int | None = None, *, points: int = 25, span: float = 3.5
    ) -> Profile:
        """The profile of one parameter or coefficient, at `points` values over `span` standard
        errors either way, with the traces of all others."""
        return profile(self._whole, single_quantity(self._whole, name, rhs), points, span)

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
        pair = single_quantity(self._whole, first, rhs), single_quantity(self._whole, second, rhs)
        return contour(self._whole, pair, points, span)

    def _credible(
        self, level: float, names: str | Sequence[str] | None, rhs: int | Sequence[int] | None
    ) -> Intervals:
        raise InputError(
            "There is no posterior of several data sets. Use covariance, profile or bootstrap.",
            argument="method",
        )
