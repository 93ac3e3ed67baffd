"""Many fits as text and as HTML: medians and spread of the curves that converged."""

import html

import numpy as np

from .._text import html_table, indented, text_table
from .batch_findings import findings
from .batch_record import BatchRecord

_HEADER = ("parameter", "5 %", "median", "95 %", "std. error", "note")


def report(fit: BatchRecord) -> str:
    """The text that `print(fit)` shows."""
    lines = [f"varpro batch fit: {_outcome(fit)}"]
    if fit.message:
        lines.append(f"  {fit.message}")
    redchi = fit.redchi[fit.success]
    if redchi.size:
        lines.append(f"  reduced chi-square: median {np.nanmedian(redchi):.4g}")
    lines += ["", indented(text_table(_HEADER, _rows(fit), (0, 5)))]
    said = [f"  {one}" for one in findings(fit) if one.code != "failed"]
    return "\n".join([*lines, *(["", "  findings", *said] if said else [])])


def html_report(fit: BatchRecord) -> str:
    """The report in notebooks."""
    out = [f"<p><b>varpro batch fit: {html.escape(_outcome(fit))}</b></p>"]
    out.append(html_table(_HEADER, _rows(fit), (0, 5)))
    redchi = fit.redchi[fit.success]
    said = [f"reduced chi-square: median {np.nanmedian(redchi):.4g}"] if redchi.size else []
    said += [str(one) for one in findings(fit)]
    out.append(f"<ul>{''.join(f'<li>{html.escape(one)}</li>' for one in said)}</ul>")
    return f'<div style="overflow-x:auto">{"".join(out)}</div>'


def _outcome(fit: BatchRecord) -> str:
    good = fit.success
    steps = fit.num_steps[good].mean() if good.any() else float("nan")
    shape = " x ".join(map(str, fit.shape))
    return (
        f"{int(good.sum())} of {good.size} curves ({shape}) converged, {steps:.1f} steps on average"
    )


def _rows(fit: BatchRecord) -> list[tuple[str, ...]]:
    """Of each parameter its name, three percentiles, the median standard error and a note."""
    good, rows = fit.success, []
    for name in (*fit.names, *fit.columns, *(fit.derived or ())):
        one = fit.estimate(name)
        value, error = np.asarray(one.value)[good], np.asarray(one.stderr)[good]
        if np.iscomplexobj(value):
            name, value = f"|{name}|", np.abs(value)
        quarter = np.nanpercentile(value, (5, 50, 95)) if value.size else [np.nan] * 3
        known = error[np.isfinite(error)]
        middle = f"{np.median(known):.2g}" if known.size else ""
        note = "" if one.origin is None else f"at x = {one.origin:.10g}"
        note = one.notes[0] if one.fixed else note
        rows.append((name, *(f"{q:.5g}" for q in quarter), middle, note))
    return rows
