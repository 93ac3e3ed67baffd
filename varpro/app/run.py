"""One run: check, fit, write everything, put it in place."""

import io
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

import varpro as vp

from .export import dataset, result, write_json, write_netcdf
from .folder import RunFolder
from .plan import Plan, make_plan
from .plot import write_png
from .progress import stage
from .report import write_report


class Outcome(NamedTuple):
    plan: Plan
    fit: vp.FitResult
    folder: Path


def run(config: str, *, out: str | None, overwrite: bool, progress: bool) -> Outcome:
    """Fit what a configuration says and write the run folder, which is whole or not there.

    **Arguments:**

    - `config`: path of the configuration.
    - `out`: the run folder, instead of what the configuration says.
    - `overwrite`: replace an earlier run.
    - `progress`: show a spinner on a terminal.
    """
    plan = make_plan(config)
    target = Path(out) if out is not None else plan.folder / plan.config.output.dir
    with RunFolder(target, overwrite).open() as folder:
        with stage("Fitting", progress):
            fit = plan.fit()
        with stage("Writing the results", progress):
            _write(plan, fit, folder)
        return Outcome(plan, fit, folder.publish(fit.success))


def _write(plan: Plan, fit: vp.FitResult, folder: RunFolder) -> None:
    text = _yaml(plan.resolved(folder.target))
    (folder.work / "config.yaml").write_text(text, encoding="utf-8")
    write_json(result(plan, fit), folder.work / "result.json")
    write_netcdf(dataset(plan, fit), folder.work / "result.nc")
    if plan.config.output.plots:
        write_png(plan, fit, folder.work / "fit.png")
    if plan.config.output.report == "html":
        write_report(plan, fit, text, folder.work / "report.html")


def _yaml(tree: dict[str, Any]) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    yaml.allow_unicode = True
    yaml.width = 100
    buffer = io.StringIO()
    yaml.dump(tree, buffer)
    return buffer.getvalue()
