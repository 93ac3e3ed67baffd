"""What a run says about its fit, as rows of text: the summary and the report show the same."""

from typing import NamedTuple

import numpy as np

import varpro as vp

from ..plan.plan import Plan


class Row(NamedTuple):
    name: str
    start: str
    value: str
    stderr: str
    unit: str
    note: str


def parameter_rows(plan: Plan, fit: vp.FitResult | vp.GlobalFit) -> list[Row]:
    """One row per parameter, nonlinear ones first; of several data sets coefficients by full name."""
    if isinstance(fit, vp.GlobalFit):
        columns = tuple(f"{key}.{c}" for key, one in fit.sets.items() for c in one.columns)
    else:
        columns = fit.columns
    rows = []
    for name in (*fit.names, *columns, *(fit.derived or ())):
        one = fit[name]
        assert isinstance(one, vp.Estimate)
        unit = plan.units.get(name, "")
        value, error = one.rounded
        note = ", ".join(one.notes)
        start = "" if one.init is None else f"{float(one.init):.5g}"
        rows.append(Row(name, start, value, "" if error == "inf" else error, unit, note))
    return rows


QUANTILES = ("parameter", "5 %", "median", "95 %", "std. error", "unit")


def quantile_rows(plan: Plan, fit: vp.BatchFit) -> list[tuple[str, ...]]:
    """What `QUANTILES` says of each parameter, over the curves that converged."""
    rows = []
    for name in (*fit.names, *fit.columns, *(fit.derived or ())):
        value, error = (np.asarray(a)[fit.success] for a in (fit[name].value, fit[name].stderr))
        known = error[np.isfinite(error)]
        shown, value = (f"|{name}|", np.abs(value)) if np.iscomplexobj(value) else (name, value)
        cells = [f"{q:.5g}" for q in np.percentile(value, (5, 50, 95))] if value.size else [""] * 3
        middle = f"{np.median(known):.2g}" if known.size else ""
        rows.append((shown, *cells, middle, plan.units.get(name, "")))
    return rows


def batch_statistics(fit: vp.BatchFit) -> list[tuple[str, str]]:
    """How many curves ended in which way, and the middle of what judges each."""
    good = fit.success
    redchi = fit.redchi[good]
    shape = " x ".join(map(str, fit.shape))
    counts = [(name.replace("_", " "), str(count)) for name, count in fit.counts.items()]
    return [
        ("curves", f"{good.size} ({shape})" if len(fit.shape) > 1 else str(good.size)),
        *counts,
        ("steps, mean", f"{fit.num_steps[good].mean():.1f}" if good.any() else ""),
        ("reduced chi-square, median", f"{np.median(redchi):.4g}" if good.any() else ""),
    ]


def batch_verdict(fit: vp.BatchFit) -> str:
    return fit.message or f"All {fit.success.size} curves converged."


def listed(names: tuple[str, ...], most: int = 6) -> str:
    """Names in a row, the middle ones left out when there are many."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:2])}, ..., {names[-1]} ({len(names)} columns)"


def statistics(plan: Plan, fit: vp.FitResult | vp.GlobalFit) -> list[tuple[str, str]]:
    """Labels and texts of the numbers that judge the fit as a whole."""
    rows = {name: (one.label, one.text) for name, one in fit.statistics.items()}
    label, points = rows["num_data"]
    each: list[tuple[str, str]] = []
    if isinstance(fit, vp.GlobalFit):
        points += f" in {len(fit.sets)} data sets"
        each = [
            (f"chi-square, {key}", one.statistics["chisq"].text) for key, one in fit.sets.items()
        ]
    else:
        points += f" ({plan.columns.dropped} rows dropped)" if plan.columns.dropped else ""
        if fit.weights is None and plan.columns.y_unit:
            title, text = rows["sigma_resid"]
            rows["sigma_resid"] = (title, f"{text} {plan.columns.y_unit}")
    last = ("redchi", "sigma_resid", "aicc", "bic", "num_steps", "cond")
    return [
        (label, points),
        ("parameters", f"{fit.num_free} nonlinear, {fit.num_params - fit.num_free} linear"),
        *(rows["dof"], rows["chisq"]),
        *each,
        *(rows[name] for name in last if name in rows),
    ]


_STOPS = {
    "ftol": "the sum of squares no longer decreases (ftol)",
    "xtol": "the parameters no longer change (xtol)",
    "gtol": "the gradient is zero (gtol)",
    "floor": "more digits are not to be had (rounding floor)",
    "fit": "the fit is perfect",
}


def verdict(fit: vp.FitResult | vp.GlobalFit) -> str:
    """The outcome in a sentence."""
    steps = f"{fit.num_steps} step" + ("" if fit.num_steps == 1 else "s")
    if not fit.success:
        return f"The fit failed after {steps}. {fit.message}".strip()
    why = f": {_STOPS[fit.stop]}" if fit.stop in _STOPS else ""
    return f"Converged after {steps}{why}."


def findings(fit: vp.FitResult | vp.GlobalFit) -> list[str]:
    """What a reader should know, in sentences; those of one of several data sets with its name."""
    if isinstance(fit, vp.GlobalFit):
        return [f"{key}: {f}" for key, one in fit.sets.items() for f in one.diagnostics]
    return [str(finding) for finding in fit.diagnostics]
