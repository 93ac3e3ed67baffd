"""A run in which every curve has parameters of its own: blocks, kept as they are finished.

The run folder holds `blocks/` and `status.json` while the run goes on, and `result.nc` (or
`result.zarr`) and `result.json` once it is done. `varpro resume` goes on with what is missing.
"""

import concurrent.futures
import contextlib
import gc
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import varpro as vp

from ..atomic_files import flush, replace_file
from ..caller import scheduler
from ..config.document import Key, dump, read_text
from ..config.fit import Solver
from ..config.messages import complain
from ..plan.locate_error import blamed
from ..plan.make_plan import make_plan
from ..plan.outcome import BatchOutcome
from ..plan.plan import Plan
from ..progress import Counter, counting, stage
from ..provenance import versions
from ..report.result_files import to_json
from .dask_client import refuse_scheduler_without_effect
from .dask_cluster import run_on_cluster
from .folder import RunFolder
from .journal import Journal, ranges, read_status, write_status

# Codes of `BatchFit.status` that mean success.
_GOOD = (1, 2)


def make_job(plan: Plan) -> vp.BatchJob:
    """Everything checked and starts decided, for the curves of the plan's data."""
    y, options = _data_and_options(plan)
    try:
        return vp.prepare_many(plan.model, None, y, **options)
    except vp.InputError as error:
        raise blamed(plan, error) from error


def _data_and_options(plan: Plan) -> tuple[Any, dict[str, Any]]:
    """The data, and the arguments of `varpro.fit_many` but for what only that has."""
    config, data = plan.config, plan.columns
    section, rules = config.sections[""], config.constraints
    y, weights, mask = plan.source, data.weights, data.mask
    sigma: Any = data.sigma
    if y is None:
        # The columns of a table.
        values = data.y.T if data.y.ndim == 2 else data.y[None]
        coords = {"curve": list(data.y_names), data.x_name: data.x}
        y = xr.DataArray(values, dims=("curve", data.x_name), coords=coords)
    else:
        parts = {"sigma": section.sigma, "weights": section.weights, "mask": section.mask}
        weighting = {}
        for key, part in parts.items():
            read = y.mask if key == "mask" else y.moved
            try:
                weighting[key] = read(part) if isinstance(part, str) else part
            except vp.InputError as error:
                message = complain(plan.document, ("data", key), str(error))
                raise vp.InputError(message) from error
        sigma, weights, mask = weighting["sigma"], weighting["weights"], weighting["mask"]
    solver = config.fit.solver
    bounds = {
        name: tuple(_map_of(plan, end, ("constraints", "bounds", name)) for end in ends)
        for name, ends in rules.bounds.items()
    }
    starts = {
        name: _map_of(plan, array, ("fit", "init", name)) for name, array in config.fit.init.items()
    }
    options = {
        "dim": data.x_name,
        "sigma": sigma,
        "weights": weights,
        "mask": mask,
        "nan": section.nan,
        "absolute_sigma": config.fit.absolute_sigma,
        "noise": config.fit.noise,
        "loss_scale": config.fit.loss_scale,
        "init": {**plan.listed, **starts},
        "bounds": bounds,
        "fix": rules.fix,
        "tie": rules.tie,
        "order": rules.order,
        "inequalities": rules.inequalities,
        **{
            word: getattr(rules, word)
            for word in ("nonnegative", "relations", "ridge", "smooth", "real_coefficients")
        },
        "start": config.fit.start,
        "binning": config.fit.binning,
        # What is the default of one curve is not that of many.
        "ftol": None if solver.ftol == Solver().ftol else solver.ftol,
        "max_steps": solver.max_steps,
        "block": config.fit.block,
        "starts": config.fit.starts,
        "seed": config.fit.seed,
    }
    return y, options


def _map_of(plan: Plan, value: float | str, key: Key) -> Any:
    """A number, or what an array of the data file says of each curve, over the axes of the curves."""
    if not isinstance(value, str):
        return value
    source, x = plan.source, plan.columns.x_name

    def wrong(message: str) -> vp.InputError:
        return vp.InputError(complain(plan.document, key, message))

    if source is None:
        raise wrong(f"'{value}' is a map, which columns of a table have none of. Give a number.")
    try:
        source_map = source.moved(value)
    except vp.InputError as error:
        raise wrong(str(error)) from error
    axes = [d for d in source.dims if d != x]
    if not set(source_map.dims) <= set(axes):
        raise wrong(f"'{value}' lies on {source_map.dims}, but the curves are on {tuple(axes)}.")
    array = np.asarray(source_map[(slice(None),) * len(source_map.dims)], float)
    array = array.transpose([source_map.dims.index(d) for d in axes if d in source_map.dims])
    lengths = iter(array.shape)
    array = array.reshape([next(lengths) if d in source_map.dims else 1 for d in axes])
    return np.broadcast_to(
        array, [n for d, n in zip(source.dims, source.shape, strict=True) if d != x]
    )


def run_batch(plan: Plan, target: Path, overwrite: bool, progress: bool) -> BatchOutcome:
    """Fit all curves into a run folder, from the beginning."""
    # Whatever is refused is refused before a folder is touched.
    job = None if plan.config.at_once else _checked_job(plan, progress)
    run_folder = RunFolder(target, overwrite)
    run_folder.spare(plan.inputs.paths.values())
    with run_folder.in_place():
        replace_file(run_folder.target / "config.yaml", dump(plan.resolved(run_folder.target)))
        return _continue(plan, job, run_folder, progress)


def resume(target: Path, progress: bool) -> BatchOutcome:
    """Go on with a run that was interrupted, from its own configuration.

    **Raises:** `InputError` where there is nothing to resume, or configuration or data have changed.
    """
    if not target.is_dir():
        raise vp.InputError(f"{target}: no such run folder.")
    status = read_status(target)
    # A status that says so where there is no result is not believed: the blocks are what there is.
    if status is not None and status["state"] == "finished" and (target / "result.json").exists():
        # Whoever was killed while tidying up left blocks whose content stands in the result.
        Journal(target, status["key"], ()).discard()
        raise vp.InputError(f"{target}: this run is finished; there is nothing to resume.")
    plan = make_plan(str(target / "config.yaml"))
    if status is not None and run_key(plan) != status["key"]:
        raise vp.InputError(
            f"{target}: configuration, data, or the version of varpro are not those with which this "
            "run began, so its blocks would not fit together. Start it anew with 'varpro run'."
        )
    refuse_scheduler_without_effect(plan)
    job = None if plan.config.at_once else _checked_job(plan, progress)
    with RunFolder(target, False).in_place(again=True) as run_folder:
        return _continue(plan, job, run_folder, progress)


def _checked_job(plan: Plan, progress: bool) -> vp.BatchJob:
    gc.enable()
    with stage("Looking for starts", progress):
        return make_job(plan)


def run_key(plan: Plan) -> str:
    """What the result depends on: the configuration without paths and machines, and all inputs."""
    tree = plan.resolved(plan.folder)
    for key in ("title", "output", "compute", "parameters"):
        tree.pop(key, None)
    sections = [tree["data"], *tree["model"].values(), *tree.get("responses", {}).values()]
    for section in sections:
        # What stands there is among the inputs.
        for key in ("path", "folder"):
            section.pop(key, None)
    content = {"config": tree, "inputs": plan.inputs.digests(), "varpro": vp.__version__}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _continue(
    plan: Plan, job: vp.BatchJob | None, run_folder: RunFolder, progress: bool
) -> BatchOutcome:
    key, folder = run_key(plan), run_folder.target
    if job is None:
        fit = _at_once(plan, folder, key, progress)
        return BatchOutcome(plan, fit, run_folder.keep(bool(fit.success.any())))
    blocks = tuple(ranges(job.shape, plan.config.fit.block or job.size))
    journal = Journal(folder, key, blocks, plan.inputs)
    journal.begin()
    finished = journal.done()
    counter = Counter(job.count)
    for number in finished:
        _count(counter, journal.read(number))
    counter.begin()
    waiting = [n for n in range(len(journal.blocks)) if n not in finished]
    status = {"schema": 1, "state": "running", "key": key, "curves": job.count}
    status |= {"blocks": len(journal.blocks)}

    def write_state(state: str) -> None:
        progress_fields = {"state": state, "finished": counter.done, "failed": counter.failed}
        write_status(folder, status | progress_fields)

    def block_done(number: int) -> None:
        _count(counter, journal.read(number))
        write_state("running")

    write_state("running")
    compute = plan.config.compute
    try:
        with counting("Fitting", counter, progress):
            if compute.engine == "dask":
                run_on_cluster(*(job, journal, waiting, scheduler(), compute.workers, block_done))
            else:
                run_here(job, journal, waiting, compute.workers, block_done)
    except BaseException as error:
        write_state("interrupted")
        if isinstance(error, Exception):
            plan.inputs.check()  # what a changed file leads to says less than that it changed
        raise
    with stage("Writing the results", progress):
        plan.inputs.check()
        fit = job.gather(journal.gathered())
        _write(plan, fit, folder)
        write_state("finished")
        journal.discard()
    return BatchOutcome(plan, fit, run_folder.keep(bool(fit.success.any())))


def _at_once(plan: Plan, folder: Path, key: str, progress: bool) -> vp.BatchFit:
    """Curves that know of each other: nothing is finished before all are, and a run that was
    interrupted begins anew."""
    y, options = _data_and_options(plan)
    share = [] if plan.config.fit.share == "none" else plan.config.fit.share
    status = {"schema": 1, "key": key, "state": "running"}
    write_status(folder, status)
    try:
        with stage("Fitting", progress):
            fit = vp.fit_many(
                plan.model, None, y, share=share, workers=plan.config.compute.workers, **options
            )
        plan.inputs.check()
    except vp.InputError as error:
        plan.inputs.check()
        raise blamed(plan, error) from error
    except BaseException:
        write_status(folder, status | {"state": "interrupted"})
        raise
    with stage("Writing the results", progress):
        _write(plan, fit, folder)
        counts = {"curves": int(fit.success.size), "failed": int((~fit.success).sum())}
        write_status(folder, status | counts | {"state": "finished"})
    return fit


def _count(counter: Counter, block_result: dict[str, np.ndarray]) -> None:
    counter.add(len(block_result["status"]), int((~np.isin(block_result["status"], _GOOD)).sum()))


def run_here(
    job: vp.BatchJob,
    journal: Journal,
    waiting: list[int],
    workers: int | None,
    block_done: Callable[[int], None],
) -> None:
    """Blocks on threads of this process; the first alone, so that one of them compiles."""
    stop = threading.Event()

    def fit_number(number: int) -> int | None:
        if stop.is_set():
            return None
        journal.write(number, job.fit_rows(*journal.blocks[number]))
        return number

    if not waiting:
        return
    fit_number(waiting[0])
    block_done(waiting[0])
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        futures = [pool.submit(fit_number, number) for number in waiting[1:]]
        try:
            for future in concurrent.futures.as_completed(futures):
                number = future.result()
                if number is not None:
                    block_done(number)
        except BaseException:
            stop.set()  # blocks in flight are finished and kept, the others never begin
            raise


def _write(plan: Plan, fit: vp.BatchFit, folder: Path) -> None:
    from ..report.figures import write_maps
    from ..report.html import write_report

    units = plan.units
    if plan.config.derived:
        fit = _with_derived(plan, fit)
    if plan.config.output.maps == "zarr":
        maps = fit.to_dataset()
        for name in (*fit.names, *fit.columns, *(fit.derived or ())):
            for key in (name, f"{name}_stderr"):
                maps[key].attrs["units"] = units.get(name, "")
        with _replacement(folder / "result.zarr") as temporary:
            _to_zarr(maps, temporary)
    else:
        fit.save(folder / "result.nc")
    if plan.config.output.plots and len(fit.shape) <= 2:
        _write_whole(folder / "maps.png", lambda path: write_maps(plan, fit, path))
    if plan.config.output.report == "html":
        text = read_text(folder / "config.yaml", "configuration")
        _write_whole(folder / "report.html", lambda path: write_report(plan, fit, text, path))
    replace_file(folder / "result.json", to_json(result(plan, fit)) + "\n")


def _with_derived(plan: Plan, fit: vp.BatchFit) -> vp.BatchFit:
    """The fit with what the configuration derives, for the weights with which it was made."""
    config, (_, options) = plan.config, _data_and_options(plan)
    sigma, weights, mask = (options[key] for key in ("sigma", "weights", "mask"))
    if config.fit.noise == "poisson":
        sigma = np.sqrt(np.maximum(fit.predict(), np.finfo(float).tiny))
    if sigma is not None:
        weights = 1.0 / np.asarray(sigma, float)
    if mask is not None:
        weights = np.where(mask, 1.0 if weights is None else weights, 0.0)
    return fit.with_derived(config.derived, weights=weights)


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """A file that appears whole."""
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        write(temporary)
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _to_zarr(maps: xr.Dataset, path: Path) -> None:
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise vp.InputError(
            f"output.maps: zarr needs the extra 'scale': pip install varpro[scale] ({error})."
        ) from error
    maps.to_zarr(path, mode="w", consolidated=True)


@contextlib.contextmanager
def _replacement(path: Path) -> Iterator[Path]:
    """A hidden sibling that takes the place of a folder once it is whole."""
    import shutil

    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def result(plan: Plan, fit: vp.BatchFit) -> dict[str, Any]:
    """The content of `result.json`."""
    converged = fit.success
    parameters = {}
    for name in (*fit.names, *fit.columns):
        estimate = fit[name]
        value, error = np.asarray(estimate.value)[converged], np.asarray(estimate.stderr)[converged]
        # Of complex ones their size.
        value = np.abs(value) if np.iscomplexobj(value) else value
        quantiles = np.percentile(value, (5, 50, 95)).tolist() if value.size else [None] * 3
        finite_error = error[np.isfinite(error)]
        parameters[name] = {
            "kind": estimate.kind,
            "quantiles": dict(zip(("5", "50", "95"), quantiles, strict=True)),
            "stderr_median": float(np.median(finite_error)) if finite_error.size else None,
            "unit": plan.units.get(name, ""),
        }
    return {
        "schema": 1,
        "status": {
            "success": bool(converged.all()),
            "message": fit.message,
            "counts": fit.counts,
            "curves": int(converged.size),
            "converged": int(converged.sum()),
        },
        "shape": dict(zip(fit.dims or (), fit.shape, strict=False)),
        "parameters": parameters,
        "statistics": {
            "steps_mean": float(fit.num_steps[converged].mean()) if converged.any() else None,
            "redchi_median": float(np.median(fit.redchi[converged])) if converged.any() else None,
        },
        "inputs": {role: {"sha256": digest} for role, digest in plan.inputs.digests().items()},
        "versions": versions(),
    }
