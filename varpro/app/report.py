"""`report.html`: one self-contained page about a run."""

from pathlib import Path

import jinja2

import varpro as vp

from .export import versions
from .plan import Plan
from .plot import svg
from .tables import listed, parameter_rows, statistics, verdict


def write_report(plan: Plan, fit: vp.FitResult, config: str, path: Path) -> None:
    """Render the page; `config` is the text of the resolved configuration."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("varpro.app", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    rows = parameter_rows(plan, fit)
    figures = {}
    if plan.config.output.plots:
        # Two sizes: letters that a desk reads well are too small on a phone.
        figures = {"wide": svg(plan, fit, 9.0, 5.6, "w-"), "narrow": svg(plan, fit, 4.2, 5.0, "n-")}
    data = plan.columns
    text = environment.get_template("report.html").render(
        title=Path(plan.document.file).stem,
        success=fit.success,
        verdict=verdict(fit),
        axes=f"{listed(data.y_names)} against {data.x_name}",
        source=plan.config.data.path,
        rows=rows,
        nonlinear=set(fit.names),
        with_unit=any(row.unit for row in rows),
        with_note=any(row.note for row in rows),
        statistics=statistics(plan, fit),
        findings=[str(finding) for finding in fit.diagnostics],
        figures=figures,
        config=config,
        versions=versions(),
    )
    path.write_text(text, encoding="utf-8")
