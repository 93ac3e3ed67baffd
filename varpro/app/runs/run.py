"""One run: check, fit, write everything, put it in place."""

import threading
from collections.abc import Sequence
from pathlib import Path

import varpro as vp

from ..atomic_files import refuse_inputs, replace_file
from ..config.document import dump
from ..data.parameter_table import parameters_text
from ..data.text_table import read_table
from ..paths import as_path, resolved
from ..plan.fit import fit_plan
from ..plan.make_plan import make_plan
from ..plan.outcome import BatchOutcome, Fit, Outcome
from ..plan.plan import Plan
from ..progress import stage
from ..report.figures import load_matplotlib, write_png
from ..report.html import write_report
from ..report.result_files import result, write_json, write_netcdf
from .dask_client import refuse_scheduler_without_effect
from .folder import RunFolder


def run(
    config: str,
    *,
    out: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
    changes: Sequence[str] = (),
    table: str | None = None,
    verbose: bool = False,
) -> Outcome | BatchOutcome:
    """Fit what a configuration says and write the run folder, which is whole or not there; where every
    curve is fitted for itself, see `varpro.app.runs.batch`.

    **Arguments:**

    - `config`: path of the configuration.
    - `out`: the run folder, instead of what the configuration says.
    - `overwrite`: replace an earlier run.
    - `progress`: show a spinner on a terminal.
    - `changes`: values that are put into the configuration, "section.key=value".
    - `table`: where the fitted parameters are written as a table, too.
    - `verbose`: print each step of the search to stderr; not of curves with parameters of their own.
    """
    plan = make_plan(config, changes)
    refuse_scheduler_without_effect(plan)
    target = Path(out) if out is not None else plan.folder / plan.config.output.dir
    if table is not None:
        _check_table(plan, as_path(table, "--write-params"), config, target)
    if plan.config.each:
        from .batch import run_batch

        return run_batch(plan, target, overwrite, progress)
    run_folder = RunFolder(target, overwrite)
    run_folder.spare(plan.inputs.paths.values())
    with run_folder.open() as folder:
        if plan.config.output.plots:
            threading.Thread(target=load_matplotlib, daemon=True).start()
        with stage("Fitting", progress and not verbose):
            fit = fit_plan(plan, verbose)
        with stage("Writing the results", progress):
            write_run(plan, fit, folder.work, folder.target)
        outcome = Outcome(plan, fit, folder.publish(fit.success))
    if table is not None:
        replace_file(Path(table), parameters_text(fit))
    return outcome


def _check_table(plan: Plan, path: Path, config: str, target: Path) -> None:
    """Stop before anything is fitted where the table of parameters cannot or must not be written."""
    if plan.config.each:
        raise vp.InputError("--write-params: curves with parameters of their own are maps.")
    # An older table is what this option is to replace.
    place = resolved(path, "--write-params")
    if place.is_relative_to(resolved(target, "the run folder")):
        raise vp.InputError(
            f"--write-params {path}: is the run folder or in it, which has its own parameters.csv. Give a "
            "place beside it."
        )
    inputs = [p for role, p in plan.inputs.paths.items() if role != "parameters"]
    refuse_inputs(path, [*inputs, Path(config)], "--write-params")
    if not path.absolute().parent.is_dir() or (path.exists() and not path.is_file()):
        raise vp.InputError(f"--write-params {path}: is no place for a file.")
    if path.exists():
        try:
            old = read_table(path)
        except vp.InputError:
            old = None
        if old is None or not {"name", "init"} <= set(old.names()):
            raise vp.InputError(
                f"--write-params {path}: exists and is no table of parameters, so it is not "
                "replaced. Give another name."
            )


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
