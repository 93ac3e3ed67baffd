"""`report.html`: one self-contained page about a run, without scripts."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

import varpro as vp

from .export import versions
from .plan import Plan
from .plot import Picture, labels_in, pictures, pictures_of_all
from .svg import element
from .tables import findings, listed, parameter_rows, statistics, verdict

_MOST_SETS = 12
# Inches, for a desk and for a phone: letters that a desk reads well are too small on a phone.
_SIZES = {
    "fit": ((9.0, 5.6), (4.2, 5.0)),
    "components": ((9.0, 3.8), (4.2, 6.4)),
    "residuals": ((9.0, 3.6), (4.2, 3.2)),
    "spread": ((4.3, 3.0), None),
    "lags": ((4.3, 3.0), None),
    "corr": ((4.3, 3.6), None),
    "convergence": ((4.3, 3.0), None),
    "maps": ((9.0, 11.0), (4.2, 5.2)),
    "curves": ((9.0, 3.2), (4.2, 7.0)),
}


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
    main, details = _sections(plan, fit)
    sources = [Path(section.path).name for section in plan.config.sections.values()]
    return environment.get_template("report.html").render(
        title=plan.title,
        success=fit.success,
        verdict=verdict(fit),
        axes=_axes(plan),
        source=listed(tuple(dict.fromkeys(sources))),
        rows=rows,
        nonlinear=set(fit.names),
        with_unit=any(row.unit for row in rows),
        with_note=any(row.note for row in rows),
        statistics=statistics(plan, fit),
        findings=findings(fit),
        main=main,
        details=details,
        config=config,
        inputs=plan.digests(),
        versions=versions(),
    )


def _axes(plan: Plan) -> str:
    """What was fitted against what."""
    name, data = next(iter(plan.sets.items()))
    what = listed(data.y_names)
    if data.labels is not None:
        given = listed(tuple(plan.config.sections[name].y))
        what = f"{given} at {len(data.labels)} values of {data.labels_name}"
    return f"{what} against {data.x_name}"


Section = tuple[str, list[dict[str, Any]]]


def _sections(plan: Plan, fit: vp.FitResult | vp.GlobalFit) -> tuple[list[Section], list[Section]]:
    """Figures under the names of their data sets: data and fit, and what judges it."""
    panels = plan.config.output.plots
    main: list[Section] = []
    details: list[Section] = []
    if not panels:
        return main, details
    sets = fit.sets if isinstance(fit, vp.GlobalFit) else {"": fit}
    numbers = itertools.count()
    for name, one in list(sets.items())[:_MOST_SETS]:
        first, *rest = pictures(one, labels_in(plan.only(name)), panels)
        rest += [] if name else pictures_of_all(fit)
        main.append((name, [_figure(first, numbers)]))
        details.append((name, [_figure(picture, numbers) for picture in rest]))
    if "" not in sets:
        details.append(
            ("All data sets", [_figure(picture, numbers) for picture in pictures_of_all(fit)])
        )
    return main, details


def _figure(picture: Picture, numbers: Iterator[int]) -> dict[str, Any]:
    """A figure in its sizes and scales, as the template needs it."""
    number = next(numbers)
    wide, narrow = _SIZES[picture.name]
    scales = {"linear": picture.draw} | ({"logarithmic": picture.log} if picture.log else {})
    shown = []
    for scale, draw in scales.items():
        images = [("wide" if narrow else "any", element(draw, *wide, f"f{number}{scale[:3]}-"))]
        if narrow:
            images.append(("narrow", element(draw, *narrow, f"n{number}{scale[:3]}-")))
        shown.append((scale, images))
    return {"title": picture.title, "width": picture.width, "number": number, "scales": shown}
