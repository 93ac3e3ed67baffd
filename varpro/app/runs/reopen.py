"""What can be had from a finished run: comparisons, and its report and figures once more."""

import os
from collections.abc import Sequence
from pathlib import Path

import varpro as vp

from ..atomic_files import refuse_inputs, replace_file
from ..config.document import read_text
from ..config.model import CustomComponent
from ..paths import as_path
from ..plan.make_plan import make_plan
from ..plan.outcome import Fit
from ..plan.plan import Plan
from ..report.figures import names_of_figures, write_all_figures
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


def _refuse_link(folder: Path) -> None:
    """**Raises:** `InputError` where what is written into a run folder would go elsewhere."""
    if folder.is_symlink():
        raise vp.InputError(
            f"{folder}: is a link, and nothing is written through one. Name the folder that it leads to, "
            "or give --out."
        )


def _refuse_file(path: Path, overwrite: bool) -> None:
    """**Raises:** `InputError` for a file that would be replaced though nobody said so."""
    if path.is_dir():
        raise vp.InputError(f"--out {path}: is a folder, not a file.")
    if os.path.lexists(path) and not overwrite:
        raise vp.InputError(
            f"--out {path}: exists. Add --overwrite to replace it, or give another name."
        )


def report_again(folder: Path, out: str | None, overwrite: bool = False) -> Path:
    """Write the report of a run in its folder, or into a file that is replaced if `overwrite` says so."""
    if out is None:
        _refuse_link(folder)
    else:
        _refuse_file(as_path(out, "--out"), overwrite)
    plan, fit = open_run(folder)
    path = Path(out) if out is not None else folder / "report.html"
    refuse_inputs(path, [*plan.inputs.paths.values(), *folder.glob("*.[cn][os]*")], "--out")
    config = read_text(folder / "config.yaml", "configuration")
    replace_file(path, report_text(plan, fit, config))
    return path.resolve()


def plot_again(folder: Path, out: str | None, kind: str, overwrite: bool = False) -> list[Path]:
    """Draw the figures of a run in its folder, or in another one, where they replace files of their names if
    `overwrite` says so."""
    if kind not in ("png", "svg", "pdf"):
        raise vp.InputError(f"--format {kind}: expected png, svg or pdf.")
    if out is None:
        _refuse_link(folder)
    target = as_path(out, "--out") if out is not None else folder
    if target.exists() and not target.is_dir():
        raise vp.InputError(f"--out {target}: is a file; figures go into a folder.")
    plan, fit = open_run(folder)
    if out is not None:
        for name in names_of_figures(plan, fit, kind):
            _refuse_file(target / name, overwrite)
    try:
        target.mkdir(parents=True, exist_ok=True)
        return [path.resolve() for path in write_all_figures(plan, fit, target, kind)]
    except OSError as error:
        raise vp.InputError(f"{target}: cannot be written ({error.strerror or error}).") from error
