"""What a fit returns whose matrix is an operator."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError, suggestion
from .._parameters.layout import Layout, expand
from .._parameters.param import Param
from .._results.abstract import AbstractResult
from .._results.netcdf import Contents, texts
from .._results.report import CRITERIA, PARAMETERS, aligned, outcome, parameter_row
from .._statistics.diagnostics import CORRELATED, Finding
from .._statistics.estimate import Estimate, nonlinear
from .._statistics.intervals import Intervals
from .._statistics.record import AbstractJudged
from .._statistics.student import student
from .._text import bullet, indented, listed, plain, text_table

if TYPE_CHECKING:
    import pandas

_LEFT = (0, 6)


class OperatorFit(AbstractJudged, AbstractResult):
    """The outcome of `varpro.fit` for a model whose matrix is an operator.

    **Fields:**

    - `names`, `alpha`, `alpha_stderr`: the q nonlinear parameters with standard errors, in which the
        coefficients follow, and the penalty counts as data.
    - `coef`: the coefficients, what the operator takes. They have no standard errors of their own.
    - `y`, `fitted`, `weighted_resid`, `weights`: pytrees like y; weights None for none.
    - `success`, `status`, `message`, `stop`: whether it converged, the `RESULTS` member by name, a sentence,
        and the test that ended the run.
    - `cost`: half of everything that is minimised, penalty and priors included; `chisq`: the weighted sum
        of squares of the data alone; `start_costs`: where each of several starts ended.
    - `num_data`, `num_free`, `num_coefficients`: real observations of positive weight, free nonlinear
        parameters, all coefficients; `num_linear`: how many of these the data determine, a fraction under
        a penalty: exact up to 64 coefficients, else estimated by random signs; `dof`: degrees of freedom.
    - `strength`: of the penalty, None without one; `strength_by`: "gcv" or "discrepancy" where it was sought;
        `gap`: under `vp.L1` how much the cost is at most above its least at this alpha, else None.
    - `cov_names`, `covariance`: of the free parameters; `cond_jac`, the condition number of their Jacobian.
    - `num_steps`, `num_residuals`, `num_jacobians`: of the search; `inner_steps`: of the inner
        solves that led to the coefficients.

    `fit["shift"]` is one parameter as an `Estimate`. `fit == other` means `fit.equals(other)`.
    """

    names: tuple[str, ...]
    alpha: np.ndarray
    alpha_stderr: np.ndarray
    cov_names: tuple[str, ...]
    covariance: np.ndarray
    at_bound: np.ndarray
    coef: PyTree
    y: PyTree
    fitted: PyTree
    weighted_resid: PyTree
    weights: PyTree | None
    success: bool
    status: str
    message: str
    stop: str
    cost: float
    start_costs: np.ndarray
    chisq: float
    num_data: int
    num_free: int
    num_coefficients: int
    num_linear: float
    dof: float
    absolute_sigma: bool
    gap: float | None
    strength: float | None
    strength_by: str | None
    num_steps: int
    num_residuals: int
    num_jacobians: int
    inner_steps: int
    cond_jac: float
    params: dict[str, Param]
    layout: Layout

    @property
    def num_params(self) -> float:
        """Free nonlinear parameters and coefficients that the data determine."""
        return self.num_free + self.num_linear

    @property
    def resid(self) -> PyTree:
        """Unweighted residual, `y - fitted`; NaN where a value is not in use."""
        resid = jax.tree.map(np.subtract, self.y, self.fitted)
        if self.weights is None:
            return resid
        return jax.tree.map(
            lambda r, w: np.where(w > 0, r, np.full((), np.nan, r.dtype)), resid, self.weights
        )

    @property
    def stderr(self) -> dict[str, float]:
        """Standard errors of all parameters by name."""
        return dict(zip(self.names, map(float, self.alpha_stderr), strict=True))

    @property
    def best_values(self) -> dict[str, float]:
        """The values of all parameters by name, as lmfit calls them."""
        return dict(zip(self.names, map(float, self.alpha), strict=True))

    def __getitem__(self, name: str) -> Estimate:
        if name not in self.names:
            raise InputError(f"No parameter '{name}' in this fit. {suggestion(name, self.names)}")
        return nonlinear(self, name)

    def __iter__(self) -> Iterator[str]:
        """The names of all parameters."""
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def ci(self, level: float = 0.95, names: str | Sequence[str] | None = None) -> Intervals:
        """Confidence intervals by the covariance: value plus and minus a quantile times the standard error,
        Student's t with `dof`, or the normal if `absolute_sigma`.

        **Arguments:** `level`, the confidence; `names`, a name, pattern or several, the free parameters by
        default.

        **Raises:** `InputError` for an unknown name, and a level outside 0 to 1.
        """
        asked = [names] if isinstance(names, str) else names
        chosen = [self.names[i] for i in self.layout.free]
        if asked is not None:
            chosen = list(
                dict.fromkeys(n for one in asked for n in expand(one, self.names, "names"))
            )
        at = [self.names.index(name) for name in chosen]
        value, error = self.alpha[at], self.alpha_stderr[at]
        half = student(np.inf if self.absolute_sigma else self.dof, level) * error
        notes = tuple("bound" if np.isnan(h) and self.dof > 0 else "" for h in half)
        ends = value - half, value + half
        return Intervals(tuple(chosen), value, *ends, level, "covariance", notes, notes)

    @property
    def diagnostics(self) -> tuple[Finding, ...]:
        """What a reader of this fit should know, each a `Finding`; empty for a good fit."""
        found = []
        if self.dof <= 0 and not self.absolute_sigma:
            found.append(
                Finding(
                    "no-dof",
                    f"The data determine as many numbers as they are ({self.num_data}), so the noise is "
                    "unknown and no standard error can be given. Give sigma, or a stronger penalty.",
                )
            )
        held = tuple(name for name, on in zip(self.names, self.at_bound, strict=True) if on)
        if held:
            message = f"{listed(held)} lie on a bound: no standard error is given (NaN), and those of the "
            found.append(Finding("bound", message + "others hold it fixed there.", held))
        lost = tuple(name for name, e in self.stderr.items() if np.isinf(e))
        if lost:
            message = f"The data do not determine {listed(lost)}: other values fit as well. Fix or remove "
            found.append(Finding("undetermined", message + "what is not needed.", lost))
        with np.errstate(invalid="ignore"):
            r = np.abs(np.tril(np.nan_to_num(self.correlation), -1))
        for i, j in np.argwhere(r > CORRELATED):
            pair = self.cov_names[j], self.cov_names[i]
            message = f"{pair[0]} and {pair[1]} are correlated by {self.correlation[i, j]:+.4f}."
            found.append(Finding("correlated", message, pair))
        return tuple(found)

    def report(self) -> str:
        """The text that `print(fit)` shows."""
        shapes = jax.tree.map(lambda a: "x".join(map(str, a.shape)) or "1", self.y)
        data = f"{self.num_data} values ({_inline(shapes)})"
        if self.weights is not None:
            unused = sum(int(np.sum(~(w > 0))) for w in jax.tree.leaves(self.weights))
            data += f", {unused} of weight zero left out" if unused else ""
            data += ", absolute sigma" if self.absolute_sigma else ", weighted"
        held = len(self.names) - self.num_free
        free = f"{self.num_free} nonlinear" + (f" ({held} more fixed or tied)" if held else "")
        linear = f"{self.num_linear:.1f} of {self.num_coefficients} linear"
        lines = [f"varpro fit of an operator: {outcome(self)}"]
        lines += [bullet(self.message)] if not self.success else []
        criteria = [f"{self.statistics[name].label} {getattr(self, name):.8g}" for name in CRITERIA]
        rows = [
            ("data", data),
            ("variables", f"{free}, {linear}; {self.dof:.1f} degrees of freedom"),
            ("chi-square", f"{self.chisq:.6g}, reduced {self.redchi:.6g}"),
            ("criteria", ", ".join(criteria)),
        ]
        if self.strength is not None:
            by = f", by {self.strength_by}" if self.strength_by else ""
            left = (
                "" if self.gap is None else f", duality gap {self.gap / self.cost:.1e} of the cost"
            )
            rows.append(("penalty", f"strength {self.strength:.6g}{by}{left}"))
        lines += [*aligned(rows), ""]
        table = [parameter_row(self[name]) for name in self.names]
        lines.append(indented(text_table(PARAMETERS, table, _LEFT)))
        said = [bullet(str(finding)) for finding in self.diagnostics]
        return "\n".join([*lines, *(["", "  findings", *said] if said else [])])

    def to_frame(self) -> "pandas.DataFrame":
        """The parameters as a table with their names as index."""
        import pandas

        rows = [self[name] for name in self.names]
        fields = ("value", "stderr", "init", "lower", "upper", "fixed", "at_bound", "tied_to")
        columns = {field: [getattr(one, field) for one in rows] for field in fields}
        return pandas.DataFrame(columns, index=pandas.Index(self.names, name="name"))

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, lists and strings, ready for JSON; neither data nor coefficients."""
        fields = ("value", "stderr", "init", "lower", "upper", "fixed", "at_bound", "tied_to")
        numbers = {name: plain(one.value) for name, one in self.statistics.items()}
        more = ("num_coefficients", "num_linear", "gap", "strength", "strength_by", "inner_steps")
        numbers |= {name: plain(getattr(self, name)) for name in more}
        numbers["parameters"] = {
            name: {key: plain(getattr(self[name], key)) for key in fields} for name in self.names
        }
        matrix = {"names": list(self.cov_names), "matrix": plain(self.covariance)}
        return numbers | {"covariance": matrix}

    def _stored(self) -> tuple["OperatorFit", Contents]:
        variables = {
            "value": ("parameter", self.alpha),
            "stderr": ("parameter", self.alpha_stderr),
        }
        return self, Contents(variables, {"parameter": texts(self.names)}, {})

    def __repr__(self) -> str:
        how = self.stop if self.success else "not converged"
        return (
            f"<OperatorFit: {self.num_coefficients} coefficients on {self.num_data} data, "
            f"{how or self.status}, chi-square {self.chisq:.6g}, {self.dof:.1f} degrees of freedom>"
        )


def _inline(shapes: PyTree) -> str:
    """Shapes in words: "64x64", or by part."""
    if isinstance(shapes, str):
        return shapes
    if isinstance(shapes, dict):
        return ", ".join(f"{key}: {_inline(one)}" for key, one in shapes.items())
    return ", ".join(map(_inline, shapes))
