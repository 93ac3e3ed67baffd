"""What can be had from a finished run: comparisons, and its report and figures once more."""

from collections.abc import Sequence
from pathlib import Path

import varpro as vp

from ..atomic_files import replace_file
from ..config.document import read_text
from ..config.model import CustomComponent
from ..plan.make_plan import make_plan
from ..plan.outcome import Fit
from ..plan.plan import Plan
from ..report.figures import write_all_figures
from ..report.html import report_text


def open_run(folder: Path) -> tuple[Plan, Fit]:
    """The plan and the fit of a run folder.

    **Raises:** `InputError` for what is none, or whose data are no longer those that were fitted.
    """
    if not (folder / "config.yaml").is_file() or not (folder / "fit.nc").is_file():
        raise vp.InputError(f"{folder}: is no run folder (it has no config.yaml and fit.nc).")
    plan = make_plan(str(folder / "config.yaml"))
    has_custom = any(
        isinstance(component, CustomComponent) for component in plan.config.model.values()
    )
    fit = vp.load(folder, model=plan.model if has_custom and not plan.several else None)
    assert isinstance(fit, vp.FitResult | vp.GlobalFit)
    return plan, fit


def compare_runs(folders: Sequence[str]) -> str:
    """The table of `vp.compare` for runs of the same data."""
    if len(folders) < 2:
        raise vp.InputError("compare takes two runs or more.")
    fits = {}
    for folder in folders:
        name = Path(folder).name if folder not in (".", "") else Path.cwd().name
        name = name if name not in fits else folder
        _, fit = open_run(Path(folder))
        if isinstance(fit, vp.GlobalFit):
            raise vp.InputError(f"{folder}: has several data sets; compare is for single ones.")
        fits[name] = fit
    return str(vp.compare(*fits.values(), names=list(fits)))


def report_again(folder: Path, out: str | None) -> Path:
    plan, fit = open_run(folder)
    path = Path(out) if out is not None else folder / "report.html"
    config = read_text(folder / "config.yaml", "configuration")
    replace_file(path, report_text(plan, fit, config))
    return path.resolve()


def plot_again(folder: Path, out: str | None, kind: str) -> list[Path]:
    if kind not in ("png", "svg", "pdf"):
        raise vp.InputError(f"--format {kind}: expected png, svg or pdf.")
    plan, fit = open_run(folder)
    target = Path(out) if out is not None else folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        return [path.resolve() for path in write_all_figures(plan, fit, target, kind)]
    except OSError as error:
        raise vp.InputError(f"{target}: cannot be written ({error.strerror or error}).") from error
