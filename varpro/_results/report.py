"""A fit as people read it: text for `print`, HTML for notebooks, one line for `repr`."""

import html
import math
from typing import Protocol, runtime_checkable

import numpy as np

from .._given.arguments import number, whole
from .._given.names import RHS
from .._statistics.diagnostics import diagnose, many, strong_pairs
from .._statistics.estimate import Estimate
from .._statistics.record import AbstractLeastSquares, Fitted
from .._text import bullet, html_table, indented, listed, percent, text_table

PARAMETERS = ("parameter", "value", "std. error", "relative", "start", "bounds", "note")
_LEFT = (0, 6)
# What the report lists unasked: pairs correlated by more than this, and so many parameters.
CORRELATION, ROWS = 0.9, 24
CRITERIA = ("aic", "aicc", "bic")
_MOST_PAIRS, _MOST_FINDINGS = 8, 12


@runtime_checkable
class Ended(Protocol):
    """What tells how a fit ended."""

    @property
    def success(self) -> bool: ...
    @property
    def status(self) -> str: ...
    @property
    def stop(self) -> str: ...
    @property
    def num_steps(self) -> int: ...
    @property
    def num_residuals(self) -> int: ...


def report(fit: Fitted, *, correlation: float = CORRELATION, rows: int = ROWS) -> str:
    """The report that `print(fit)` shows.

    **Arguments:**

    - `correlation`: list pairs correlated by more than this.
    - `rows`: parameters, and coefficients, to list at most.
    """
    number("correlation", correlation)
    whole("rows", rows, 0)
    lines = [f"varpro fit: {outcome(fit)}"]
    if not fit.success:
        lines.append(bullet(fit.message))
    lines += aligned(_statistics(fit))
    lines += ["", indented(text_table(*_parameters(fit, rows), _LEFT))]
    title, cells, more = _correlations(fit, correlation)
    if cells:
        lines += ["", f"  {title}", indented(text_table(("", "", ""), cells, (0, 1)).lstrip("\n"))]
        lines += [f"  {more}"] if more else []
    said = _findings(fit)
    if said:
        lines += ["", "  findings", *map(bullet, said)]
    return "\n".join(lines)


def html_report(fit: Fitted) -> str:
    """The report of a fit as HTML without scripts or style sheets, in the colours of the page."""
    out = [f"<p><b>varpro fit: {html.escape(outcome(fit))}</b></p>"]
    if not fit.success:
        out.append(f"<p>{html.escape(fit.message)}</p>")
    out.append(html_table(("statistic", ""), _statistics(fit), (0, 1)))
    out.append(html_table(*_parameters(fit, ROWS), _LEFT))
    title, cells, more = _correlations(fit, CORRELATION)
    if cells:
        out.append(_paragraph(title) + html_table((" ", " ", " "), cells, (0, 1)))
        out.append(_paragraph(more))
    said = _findings(fit)
    if said:
        items = "".join(f"<li>{html.escape(s)}</li>" for s in said)
        out.append(f"<p>findings</p><ul>{items}</ul>")
    return f'<div style="overflow-x:auto">{"".join(out)}</div>'


def line(fit: Fitted) -> str:
    """A fit in one line."""
    shape = " x ".join(map(str, fit.y.shape))
    how = fit.stop if fit.success else "not converged"
    return (
        f"<FitResult: {_model(fit)} on {shape} data, {how or fit.status}, chi-square "
        f"{fit.chisq:.6g}, {fit.dof} degrees of freedom>"
    )


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text else ""


def outcome(fit: Ended) -> str:
    why = fit.stop or ("" if fit.success else fit.status)
    head = ("converged" if fit.success else "NOT CONVERGED") + (f" ({why})" if why else "")
    steps = f"{fit.num_steps} step" + ("" if fit.num_steps == 1 else "s")
    counted = f", {fit.num_residuals} evaluations" if fit.num_residuals >= 0 else ""
    return f"{head} after {steps}{counted}"


def _model(fit: Fitted) -> str:
    """The bases and their columns: "Exp (fast, slow) + Constant (background)"."""
    terms, first = [], 0
    for group in fit.model.groups:
        columns = fit.model.columns[first : first + group.width]
        function = getattr(group.formula, "function", None)
        kind = type(group.formula).__name__ if function is None else None
        terms.append(f"{kind or getattr(function, '__name__', 'function')} ({listed(columns, 4)})")
        first += group.width
    terms += ["offset"] * bool(fit.model.offsets)
    return listed(terms, 8).replace("), ", ") + ").replace("), offset", ") + offset")


def _along(fit: Fitted) -> str:
    """Where right-hand sides stand, as far as the data said: `, wavelength 335 to 780 nm`."""
    names, at = fit.data_names, fit.data_names.positions
    if at is None:
        return ""
    name = names.rhs if names.rhs != RHS else "at"
    return f", {name} {at.min():.6g} to {at.max():.6g} {names.rhs_unit}".rstrip()


def _statistics(fit: Fitted) -> list[tuple[str, str]]:
    m, k = fit.y.shape[0], fit.y.size // fit.y.shape[0]
    data = f"{fit.num_data} values"
    if k > 1:
        as_many = f" searched as {fit.compressed}" if fit.compressed else ""
        data += f" ({m} samples, {k} right-hand sides{_along(fit)}{as_many})"
    if np.iscomplexobj(fit.y):
        data += ", real and imaginary parts counted"
    if fit.weights is not None:
        unused = int(np.sum(~(fit.weights > 0)))
        what = "values" if fit.weights.ndim == 2 else "samples"
        data += f", {unused} {what} of weight zero left out" if unused else ""
        data += ", absolute sigma" if fit.absolute_sigma else ", weighted"
        data += ", noise correlated" if fit.whitener is not None else ""
    held = len(fit.names) - fit.num_free
    nonlinear = f"{fit.num_free} nonlinear" + (f" ({held} more fixed or tied)" if held else "")
    linear = fit.num_params - fit.num_free
    return [("model", _model(fit)), *summary(fit, data, nonlinear, linear)]


def summary(
    fit: AbstractLeastSquares, data: str, nonlinear: str, linear: float
) -> list[tuple[str, str]]:
    """Labels and texts that the print of every fit has: its data, how many parameters are `nonlinear`
    and `linear`, chi-square and criteria."""
    count = f"{fit.num_params}: {nonlinear}, {linear} linear; {fit.dof} degrees of freedom"
    criteria = [f"{fit.statistics[name].label} {_short(getattr(fit, name))}" for name in CRITERIA]
    return [
        ("data", data),
        ("variables", count),
        ("chi-square", f"{fit.chisq:.6g}, reduced {fit.redchi:.6g}"),
        ("criteria", ", ".join(criteria)),
    ]


def aligned(pairs: list[tuple[str, str]]) -> list[str]:
    """Labels and texts as lines."""
    width = max(len(label) for label, _ in pairs)
    return [f"  {label:<{width}}  {text}" for label, text in pairs]


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1e6 else f"{value:.8g}"


def _parameters(fit: Fitted, most: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of one table: nonlinear parameters, a heading, the coefficients."""
    blocks = []
    for names in (fit.names, fit.columns):
        shown = names[:most] if len(names) > most + 2 else names
        block, left = [parameter_row(fit[name]) for name in shown], len(names) - len(shown)
        if left:
            block.append((f"and {left} more, see to_frame()", *[""] * (len(PARAMETERS) - 1)))
        blocks.append(block)
    empty = [""] * (len(PARAMETERS) - 1)
    further = [("derived", *empty)] if fit.derived is not None else []
    further += [parameter_row(fit[name]) for name in fit.derived or ()]
    if not fit.names:
        return ("coefficient", *PARAMETERS[1:]), [*blocks[1], *further]
    return PARAMETERS, [*blocks[0], ("coefficient", *empty), *blocks[1], *further]


def parameter_row(one: Estimate) -> tuple[str, ...]:
    value, stderr = one.rounded
    relative = "" if np.size(one.value) > 1 else percent(np.asarray(one.relative).item())
    start = "" if one.init is None else f"{one.init:.6g}"
    return (one.name, value, stderr, relative, start, _bounds(one), ", ".join(one.notes))


def _bounds(one: Estimate) -> str:
    low, high = math.isfinite(one.lower), math.isfinite(one.upper)
    if low and high:
        return f"{one.lower:.6g} to {one.upper:.6g}"
    if low:
        return f">= {one.lower:.6g}"
    return f"<= {one.upper:.6g}" if high else ""


def _correlations(fit: Fitted, above: float) -> tuple[str, list[tuple[str, str, str]], str]:
    pairs = strong_pairs(fit, above)
    rows = [(a, b, f"{r:+.4f}") for a, b, r in pairs[:_MOST_PAIRS]]
    left = len(pairs) - len(rows)
    of = "of the nonlinear parameters, " if many(fit) else ""
    more = f"and {left} more pairs; all are in fit.correlation" if left else ""
    return f"correlations {of}above {above:g}", rows, more


def _findings(fit: Fitted) -> list[str]:
    return [str(finding) for finding in diagnose(fit)][:_MOST_FINDINGS]
