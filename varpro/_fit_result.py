"""What a fit returns: a frozen record of its numbers, and the verbs on it, a line or two each."""

import os
from typing import TYPE_CHECKING

from ._criteria import aic, aicc, bic
from ._diagnostics import Finding, diagnose
from ._fitted import Estimate as Estimate, Fitted, plain
from ._frames import to_dataset, to_frame
from ._report import CORRELATION, ROWS, html_report, line, report
from ._same import same
from ._store import save

if TYPE_CHECKING:
    import pandas
    import xarray


class FitResult(Fitted):
    """The outcome of `varpro.fit`.

    **Fields:**

    - `names`, `alpha`: the q nonlinear parameters.
    - `columns`, `coef`: the n linear coefficients, (n,) or (n, k).
    - `x`, `y`, `fitted`, `weights`: data and model, unweighted, of the shape of y.
    - `success`, `status`, `message`, `stop`: whether it converged, the `RESULTS` member by name, a
        sentence, and the test that ended the run.
    - `cost`: half the weighted sum of squares, priors included; `chisq`: the sum of squares;
        `start_costs`: where each of several starts ended.
    - `num_data`, `num_free`, `dof`: real observations of positive weight, free nonlinear parameters,
        and degrees of freedom (data less free nonlinear less linear parameters).
    - `cov_names`, `covariance`: joint covariance of free parameters and coefficients (those of the
        first right-hand side), in that order.
    - `num_steps`, `num_residuals`, `num_jacobians`; `rank` and `cond` of the weighted basis,
        `cond_jac` of the column-scaled Jacobian.

    `fit["slow.tau"]` is one parameter as an `Estimate`. `fit == other` means `fit.equals(other)`.
    """

    @property
    def aic(self) -> float:
        """Akaike's information criterion, as lmfit defines it; formulas in `varpro._criteria`."""
        return aic(self)

    @property
    def aicc(self) -> float:
        """The same corrected for few data; infinite where there are too few for it."""
        return aicc(self)

    @property
    def bic(self) -> float:
        """Schwarz' (Bayesian) information criterion."""
        return bic(self)

    @property
    def diagnostics(self) -> tuple[Finding, ...]:
        """What a reader of this fit should know, each a `Finding`; empty for a good fit."""
        return diagnose(self)

    def report(self, *, correlation: float = CORRELATION, rows: int = ROWS) -> str:
        """The text that `print(fit)` shows, with pairs correlated by more than `correlation` (0.9)
        and at most `rows` parameters and as many coefficients (24)."""
        return report(self, correlation=correlation, rows=rows)

    def to_frame(self) -> "pandas.DataFrame":
        """All parameters as a table; see `varpro._frames.to_frame`."""
        return to_frame(self)

    def to_dataset(self) -> "xarray.Dataset":
        """Data, model, components and parameters with named axes, as an `xarray.Dataset`."""
        return to_dataset(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a NetCDF file that `varpro.load` reads back, bit by bit.

        The file appears whole or not at all, and also opens with `xarray.open_dataset`. The model
        is stored as data; of a function of your own the import path is stored and no code.

        **Raises:** `InputError` if the file cannot be written.
        """
        save(self, path)

    def equals(self, other: object) -> bool:
        """Whether every field of the other result is the same, bit by bit; NaN equals NaN."""
        return same(self, other)

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __hash__(self) -> int:
        return hash((self.names, self.columns, self.status, self.num_steps))

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, lists and strings, ready for JSON; no data."""
        out = super().to_dict()
        return out | {"aic": plain(self.aic), "aicc": plain(self.aicc), "bic": plain(self.bic)}

    def __str__(self) -> str:
        return report(self)

    def __repr__(self) -> str:
        return line(self)

    def _repr_html_(self) -> str:
        return html_report(self)
