"""`report.html`: one self-contained page about a run, whose only scripts are those of figures to look into."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import varpro as vp

from ..plan.plan import Plan
from ..provenance import versions
from ..terminal import echo
from .figures import (
    Curves,
    Picture,
    is_pattern,
    labels_in,
    pictures,
    pictures_of_all,
    pictures_of_batch,
)
from .interactive import data_of, scripts
from .svg import element
from .tables import (
    QUANTILES,
    batch_statistics,
    batch_verdict,
    findings,
    listed,
    parameter_rows,
    quantile_rows,
    statistics,
    verdict,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_SETS = 12
_MAIN = ("fit", "components")
# Figures to look into, where `output.interactive` asks for it.
_LIVE = (*_MAIN, "curves")
# Steps up to which nobody asks how a search that converged went.
_QUICK = 12
# Figures of single axes whose labels are short.
_PLAIN = ("spread", "lags", "convergence")
# Inches, for a desk and for a phone: letters that a desk reads well are too small on a phone.
_SIZES = {
    "fit": ((9.0, 5.6), (4.2, 5.0)),
    "components": ((9.0, 3.8), (4.2, 6.4)),
    "residuals": ((9.0, 3.6), (4.2, 3.2)),
    "spread": ((4.3, 3.0), None),
    "lags": ((4.3, 3.0), None),
    "corr": ((4.3, 3.6), None),
    "convergence": ((4.3, 3.0), None),
    "maps": ((9.0, 9.0), (4.2, 6.0)),
    "curves": ((9.0, 3.2), (4.2, 7.0)),
}


# Columns of tables that stand there even where they say nothing.
_ALWAYS = ("parameter", "value", "std. error", *QUANTILES[:5])


def write_report(plan: Plan, fit: Any, config: str, path: Path) -> None:
    path.write_text(report_text(plan, fit, config), encoding="utf-8")


def report_text(plan: Plan, fit: vp.FitResult | vp.GlobalFit | vp.BatchFit, config: str) -> str:
    """The page; `config` is the text of the resolved configuration. Where figures to look into are wanted and plotly
    is not installed, they are pictures, and a line on stderr says so."""
    output = plan.config.output
    if output.interactive and output.plots and not scripts():
        echo(
            "output.interactive: needs plotly, so the figures of the report are pictures. Install it with "
            "'pip install varpro[interactive]'; varpro report RUN then writes the report again.",
            err=True,
        )
    if isinstance(fit, vp.BatchFit):
        shown: dict[str, Any] = _batch(plan, fit)
    else:
        shown = _single(plan, fit)
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("varpro.app", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found = [one for _, group in (*shown["main"], *shown["details"]) for one in group]
    live = any(one["data"] for one in found)
    sources = [Path(section.path).name for section in plan.config.sections.values()]
    return environment.get_template("report.html").render(
        title=plan.title,
        axes=_axes(plan),
        source=listed(tuple(dict.fromkeys(sources))),
        nonlinear=len(fit.names),
        config=config,
        inputs=plan.inputs.digests(),
        versions=versions(),
        scripts=scripts() if live else (),
        **shown,
    )


def _single(plan: Plan, fit: vp.FitResult | vp.GlobalFit) -> dict[str, Any]:
    main, details = _sections(plan, fit)
    header = ("parameter", "start", "value", "std. error", "unit", "note")
    rows = [(r.name, r.start, r.value, r.stderr, r.unit, r.note) for r in parameter_rows(plan, fit)]
    return {
        "success": fit.success,
        "verdict": verdict(fit),
        "statistics": statistics(plan, fit),
        "findings": findings(fit),
        "main": main,
        "details": details,
        "table": _table(header, rows),
    }


def _batch(plan: Plan, fit: vp.BatchFit) -> dict[str, Any]:
    dims = fit.dims or ()
    labels = labels_in(plan)
    if len(dims) == 1:
        at = fit.coords.get(dims[0], ((), None))[1]
        numbers = at is not None and at.dtype.kind in "iuf"
        labels = dataclasses.replace(labels, rhs=dims[0], at=at if numbers else None)
    numbers = itertools.count()
    found: list[Section] = []
    if plan.config.output.plots:
        pictures = pictures_of_batch(fit, Curves(plan, fit), labels)
        # Maps need more room the more parameters there are.
        rows = {"maps": len(fit.names) + len(fit.columns) + 1}
        live = plan.config.output.interactive and bool(scripts())
        found = [("", [_figure(one, numbers, live, rows.get(one.name, 0)) for one in pictures])]
    return {
        "success": not fit.message,
        "verdict": batch_verdict(fit),
        "statistics": batch_statistics(fit),
        "findings": [],
        "main": found,
        "details": [],
        "table": _table(QUANTILES, quantile_rows(plan, fit)),
    }


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> dict[str, Any]:
    """A table without the columns in which nothing stands, and how each column is set."""
    kept = [i for i in range(len(header)) if header[i] in _ALWAYS or any(row[i] for row in rows)]
    kinds = {"parameter": "name", "unit": "", "note": "note"}
    return {
        "header": [(header[i], kinds.get(header[i], "number")) for i in kept],
        "rows": [[row[i] for i in kept] for row in rows],
    }


def _axes(plan: Plan) -> str:
    """What was fitted against what."""
    name, data = next(iter(plan.sets.items()))
    what = listed(data.y_names)
    if data.labels is not None:
        given = listed(tuple(plan.config.sections[name].y))
        given = "columns" if is_pattern(given) else given
        where = f"{len(data.labels)} values of {data.labels_name}"
        what = f"{given} at {where}"
        if given == "columns" and data.labels_name.startswith("column"):
            what = f"{len(data.labels)} columns"
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
        found = pictures(one, labels_in(plan.only(name)), panels)
        # Spectra are what a global analysis is made for, no detail of it.
        first = [picture for picture in found if picture.name in _MAIN]
        rest = [picture for picture in found if picture.name not in _MAIN]
        rest += [] if name else _of_all(fit)
        live = plan.config.output.interactive and bool(scripts())
        main.append((name, [_figure(picture, numbers, live) for picture in first]))
        details.append((name, [_figure(picture, numbers) for picture in rest]))
    if "" not in sets:
        details.append(("All data sets", [_figure(picture, numbers) for picture in _of_all(fit)]))
    return main, details


def _of_all(fit: vp.FitResult | vp.GlobalFit) -> list[Picture]:
    """Those of the whole fit that say something: how a quick search went does not."""
    quick = fit.success and fit.num_steps <= _QUICK
    return [one for one in pictures_of_all(fit) if one.name != "convergence" or not quick]


def _figure(
    picture: Picture, numbers: Iterator[int], live: bool = False, rows: int = 0
) -> dict[str, Any]:
    """A figure in its sizes and scales, as the template needs it, and if it is `live` with what it shows; `rows` of
    maps if it has some."""
    number = next(numbers)
    wide, narrow = _SIZES[picture.name]
    if picture.name == "corr" and picture.width == "full":
        wide, narrow = (9.0, 8.0), (4.2, 4.2)
    if rows:
        wide, narrow = (9.0, 2.4 * rows), (4.2, 1.5 * rows)
    read: list[str | None] = []

    def drawn(fig: "Figure") -> None:
        picture.draw(fig)
        if live and picture.name in _LIVE and not read:
            read.append(data_of(fig))

    scales = {"linear": drawn} | ({"logarithmic": picture.log} if picture.log else {})
    shown, plain = [], picture.name in _PLAIN
    for scale, draw in scales.items():
        # One scale is drawn anew for phones; the other is there to look closely.
        narrow = narrow if scale == "linear" else None
        images = [
            ("wide" if narrow else "any", element(draw, *wide, f"f{number}{scale[:3]}-", plain))
        ]
        if narrow:
            images.append(("narrow", element(draw, *narrow, f"n{number}{scale[:3]}-")))
        shown.append((scale, images))
    return {
        "title": picture.title,
        "width": picture.width,
        "number": number,
        "scales": shown,
        "data": read[0] if read else None,
    }
