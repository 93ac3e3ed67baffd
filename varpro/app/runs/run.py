"""One run: check, fit, write everything, put it in place."""

import threading
from collections.abc import Sequence
from pathlib import Path

import varpro as vp

from ..config.document import dump
from ..data.parameter_table import parameters_text
from ..plan.fit import fit_plan
from ..plan.make_plan import make_plan
from ..plan.outcome import BatchOutcome, Fit, Outcome
from ..plan.plan import Plan
from ..progress import stage
from ..report.figures import load_matplotlib, write_png
from ..report.html import write_report
from ..report.result_files import result, write_json, write_netcdf
from .folder import RunFolder


def run(
    config: str,
    *,
    out: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
    changes: Sequence[str] = (),
) -> Outcome | BatchOutcome:
    """Fit what a configuration says and write the run folder, which is whole or not there; where every
    curve is fitted for itself, see `varpro.app.runs.batch`.

    **Arguments:**

    - `config`: path of the configuration.
    - `out`: the run folder, instead of what the configuration says.
    - `overwrite`: replace an earlier run.
    - `progress`: show a spinner on a terminal.
    - `changes`: values that are put into the configuration, "section.key=value".
    """
    plan = make_plan(config, changes)
    target = Path(out) if out is not None else plan.folder / plan.config.output.dir
    if plan.config.each:
        from .batch import run_batch

        return run_batch(plan, target, overwrite, progress)
    with RunFolder(target, overwrite).open() as folder:
        if plan.config.output.plots:
            threading.Thread(target=load_matplotlib, daemon=True).start()
        with stage("Fitting", progress):
            fit = fit_plan(plan)
        with stage("Writing the results", progress):
            write_run(plan, fit, folder.work, folder.target)
        return Outcome(plan, fit, folder.publish(fit.success))


def write_run(plan: Plan, fit: Fit, folder: Path, target: Path) -> None:
    """All files of a run into `folder`, which will be called `target`."""
    text = dump(plan.resolved(target))
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    write_json(result(plan, fit), folder / "result.json")
    (folder / "parameters.csv").write_text(parameters_text(fit), encoding="utf-8")
    fit.save(folder / "fit.nc")
    if isinstance(fit, vp.GlobalFit):
        for name, set_fit in fit.sets.items():
            write_netcdf(plan.only(name), set_fit, folder / f"result.{name}.nc")
    else:
        write_netcdf(plan, fit, folder / "result.nc")
    write_figures(plan, fit, folder, "png")
    if plan.config.output.report == "html":
        write_report(plan, fit, text, folder / "report.html")


def write_figures(plan: Plan, fit: Fit, folder: Path, kind: str) -> list[Path]:
    """One picture for each data set, `fit.png` or `fit.NAME.png`."""
    if not plan.config.output.plots:
        return []
    sets = fit.sets if isinstance(fit, vp.GlobalFit) else {"": fit}
    written = []
    for name, set_fit in sets.items():
        path = folder / (f"fit.{name}.{kind}" if name else f"fit.{kind}")
        write_png(plan.only(name), set_fit, path)
        written.append(path)
    return written
