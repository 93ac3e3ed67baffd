"""`report.html`: one self-contained page about a run."""

from pathlib import Path

import jinja2

import varpro as vp

from .export import versions
from .plan import Plan
from .plot import svg
from .tables import findings, listed, parameter_rows, statistics, verdict

_MOST_FIGURES = 12


def write_report(plan: Plan, fit: vp.FitResult | vp.GlobalFit, config: str, path: Path) -> None:
    path.write_text(report_text(plan, fit, config), encoding="utf-8")


def report_text(plan: Plan, fit: vp.FitResult | vp.GlobalFit, config: str) -> str:
    """The page; `config` is the text of the resolved configuration."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("varpro.app", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    rows = parameter_rows(plan, fit)
    sets = fit.sets if isinstance(fit, vp.GlobalFit) else {"": fit}
    figures = []
    for number, (name, one) in enumerate(list(sets.items())[:_MOST_FIGURES]):
        if plan.config.output.plots:
            mine = plan.only(name)
            # Two sizes: letters that a desk reads well are too small on a phone.
            wide = svg(mine, one, 9.0, 5.6, f"w{number}-")
            narrow = svg(mine, one, 4.2, 5.0, f"n{number}-")
            figures.append((name, {"wide": wide, "narrow": narrow}))
    data = plan.columns
    sources = [Path(section.path).name for section in plan.config.sections.values()]
    return environment.get_template("report.html").render(
        title=plan.title,
        success=fit.success,
        verdict=verdict(fit),
        axes=f"{listed(data.y_names)} against {data.x_name}",
        source=listed(tuple(dict.fromkeys(sources))),
        rows=rows,
        nonlinear=set(fit.names),
        with_unit=any(row.unit for row in rows),
        with_note=any(row.note for row in rows),
        statistics=statistics(plan, fit),
        findings=findings(fit),
        figures=figures,
        config=config,
        versions=versions(),
    )
