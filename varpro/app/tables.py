"""What a run says about its fit, as rows of text: the summary and the report show the same."""

import math
from typing import NamedTuple

import numpy as np

import varpro as vp

from .plan import Plan


class Row(NamedTuple):
    name: str
    value: str
    stderr: str
    unit: str
    note: str


def parameter_rows(plan: Plan, fit: vp.FitResult) -> list[Row]:
    """One row per parameter, nonlinear ones first."""
    rows = []
    for name in (*fit.names, *fit.columns):
        one, unit = fit[name], plan.units.get(name, "")
        if np.ndim(one.value):
            values = np.asarray(one.value)
            span = f"{values.min():.5g} to {values.max():.5g}"
            rows.append(Row(name, span, "", unit, f"{values.size} columns"))
            continue
        stderr = float(one.stderr)
        notes = []
        if one.fixed:
            notes.append("fixed")
        if one.tied_to:
            notes.append(f"same as {one.tied_to}")
        if one.at_bound:
            notes.append("on its bound")
        if math.isinf(stderr):
            notes.append("not determined by the data")
        value, error = rounded(float(np.real(one.value)), stderr)
        rows.append(Row(name, value, error, unit, ", ".join(notes)))
    return rows


def listed(names: tuple[str, ...], most: int = 6) -> str:
    """Names in a row, the middle ones left out when there are many."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:2])}, ..., {names[-1]} ({len(names)} columns)"


def rounded(value: float, stderr: float) -> tuple[str, str]:
    """A value and its standard error, both to the second digit of the error."""
    if not math.isfinite(value) or not math.isfinite(stderr) or stderr <= 0:
        return f"{value:.6g}", ""
    # Rounded first, as rounding may carry: 0.0996 is 0.10, whose second digit is one place higher.
    places = 1 - math.floor(math.log10(float(f"{stderr:.1e}")))
    largest = max(abs(value), stderr)
    if 1e-4 <= largest < 1e7 and places <= 9:
        shown = max(places, 0)
        return f"{value:.{shown}f}", f"{stderr:.{shown}f}"
    top = math.floor(math.log10(largest))
    digits = min(max(top + places, 0), 15)
    return f"{value / 10.0**top:.{digits}f}e{top:+03d}", f"{stderr:.1e}"


def statistics(plan: Plan, fit: vp.FitResult) -> list[tuple[str, str]]:
    """Numbers that judge the fit as a whole, with their labels."""
    linear = int(np.size(fit.coef))
    weighted = fit.weights is not None
    unit = "" if weighted or not plan.columns.y_unit else f" {plan.columns.y_unit}"
    points = str(fit.num_data)
    if plan.columns.dropped:
        points += f" ({plan.columns.dropped} rows dropped)"
    return [
        ("data points", points),
        ("parameters", f"{fit.num_free} nonlinear, {linear} linear"),
        ("degrees of freedom", str(fit.dof)),
        ("chi-square" if weighted else "sum of squares", f"{fit.chisq:.8g}"),
        ("reduced chi-square", f"{fit.redchi:.6g}"),
        (
            "weighted residual, s.d." if weighted else "residual, s.d.",
            f"{fit.sigma_resid:.5g}{unit}",
        ),
        ("steps", str(fit.num_steps)),
        ("condition of the basis", f"{fit.cond:.3g}"),
    ]


_STOPS = {
    "ftol": "the sum of squares no longer decreases (ftol)",
    "xtol": "the parameters no longer change (xtol)",
    "gtol": "the gradient is zero (gtol)",
    "floor": "more digits are not to be had (rounding floor)",
    "fit": "the fit is perfect",
}


def verdict(fit: vp.FitResult) -> str:
    """The outcome in a sentence."""
    steps = f"{fit.num_steps} step" + ("" if fit.num_steps == 1 else "s")
    if not fit.success:
        return f"The fit failed after {steps}. {fit.message}".strip()
    why = f": {_STOPS[fit.stop]}" if fit.stop in _STOPS else ""
    return f"Converged after {steps}{why}."
