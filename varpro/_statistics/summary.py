"""The numbers that judge a whole fit, listed once: print, reports, JSON and datasets draw from here."""

from typing import Any, NamedTuple

# What a report calls each number, and the format in which it writes it; those without a label are
# for programs. In the order of JSON.
STATISTICS = {
    **dict.fromkeys(("success", "status", "message", "stop", "cost"), ("", "")),
    "chisq": ("chi-square", ".8g"),
    "redchi": ("reduced chi-square", ".6g"),
    "dof": ("degrees of freedom", ""),
    "num_data": ("data points", ""),
    "num_free": ("", ""),
    "num_steps": ("steps", ""),
    **dict.fromkeys(("num_residuals", "num_jacobians", "rank"), ("", "")),
    "cond": ("condition of the basis", ".3g"),
    **dict.fromkeys(("cond_jac", "absolute_sigma"), ("", "")),
    "aic": ("AIC", ".6g"),
    "aicc": ("AICc", ".6g"),
    "bic": ("BIC", ".6g"),
    "sigma_resid": ("weighted residual, s.d.", ".5g"),
}
# What two of them are called where no weights make them dimensionless.
_UNWEIGHTED = {"chisq": "sum of squares", "sigma_resid": "residual, s.d."}


class Statistic(NamedTuple):
    """One number about a fit: its value, what it is called, and how people read it."""

    value: Any
    label: str
    text: str


def statistics(fit: Any) -> dict[str, Statistic]:
    """The numbers of `STATISTICS` that a fit has, by the name of the attribute."""
    labels: dict[str, str] = _UNWEIGHTED if getattr(fit, "weights", True) is None else {}
    values = {name: getattr(fit, name) for name in STATISTICS if hasattr(fit, name)}
    return {
        name: Statistic(value, labels[name] if name in labels else label, format(value, form))
        for name, value in values.items()
        for label, form in (STATISTICS[name],)
    }
