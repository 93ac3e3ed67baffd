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

from ..atomic_files import flush
from ..config.document import Key, dump, read_text
from ..config.fit import Solver
from ..config.messages import complain
from ..plan.locate_error import blamed
from ..plan.make_plan import make_plan
from ..plan.outcome import BatchOutcome
from ..plan.plan import Plan
from ..progress import Counter, counting, stage
from ..provenance import versions
from ..report.result_files import write_json
from .dask_cluster import run_on_cluster
from .folder import RunFolder
from .journal import Journal, ranges, read_status, write_status

# Codes of `BatchFit.status` that mean success.
_GOOD = (1, 2)


def make_job(plan: Plan) -> vp.BatchJob:
    """Everything checked and starts decided, for the curves of the plan's data."""
    y, options = _asked(plan)
    try:
        return vp.prepare_many(plan.model, None, y, **options)
    except vp.InputError as error:
        raise blamed(plan, error) from error


def _asked(plan: Plan) -> tuple[Any, dict[str, Any]]:
    """The data, and the arguments of `varpro.fit_many` but for what only that has."""
    config, data = plan.config, plan.columns
    section, rules = config.sections[""], config.constraints
    for word in ("nonnegative", "relations", "ridge", "smooth"):
        if getattr(rules, word):
            message = "curves with parameters of their own have no rules for coefficients."
            raise vp.InputError(complain(plan.document, ("constraints", word), message))
    y, weights, mask = plan.source, data.weights, data.mask
    sigma: Any = data.sigma
    if y is None:
        # The columns of a table.
        values = data.y.T if data.y.ndim == 2 else data.y[None]
        coords = {"curve": list(data.y_names), data.x_name: data.x}
        y = xr.DataArray(values, dims=("curve", data.x_name), coords=coords)
    else:
        parts = {"sigma": section.sigma, "weights": section.weights, "mask": section.mask}
        found = {k: y.moved(v) if isinstance(v, str) else v for k, v in parts.items()}
        sigma, weights, mask = found["sigma"], found["weights"], found["mask"]
    solver = config.fit.solver
    bounds = {
        name: tuple(_of_each(plan, end, ("constraints", "bounds", name)) for end in ends)
        for name, ends in rules.bounds.items()
    }
    starts = {
        name: _of_each(plan, array, ("fit", "init", name))
        for name, array in config.fit.init.items()
    }
    options = {
        "dim": data.x_name,
        "sigma": sigma,
        "weights": weights,
        "mask": mask,
        "absolute_sigma": config.fit.absolute_sigma,
        "noise": config.fit.noise,
        "loss_scale": config.fit.loss_scale,
        "init": {**plan.listed, **starts},
        "bounds": bounds,
        "fix": rules.fix,
        "tie": rules.tie,
        "order": rules.order,
        "real_coefficients": rules.real_coefficients,
        "start": config.fit.start,
        "binning": config.fit.binning,
        # What is the default of one curve is not that of many.
        "ftol": None if solver.ftol == Solver().ftol else solver.ftol,
        "max_steps": solver.max_steps,
        "block": config.fit.block,
    }
    return y, options


def _of_each(plan: Plan, value: float | str, key: Key) -> Any:
    """A number, or what an array of the data file says of each curve, over the axes of the curves."""
    if not isinstance(value, str):
        return value
    source, x = plan.source, plan.columns.x_name

    def wrong(message: str) -> vp.InputError:
        return vp.InputError(complain(plan.document, key, message))

    if source is None:
        raise wrong(f"'{value}' is a map, which columns of a table have none of. Give a number.")
    try:
        found = source.moved(value)
    except vp.InputError as error:
        raise wrong(str(error)) from error
    axes = [d for d in source.dims if d != x]
    if not set(found.dims) <= set(axes):
        raise wrong(f"'{value}' lies on {found.dims}, but the curves are on {tuple(axes)}.")
    array = np.asarray(found[(slice(None),) * len(found.dims)], float)
    array = array.transpose([found.dims.index(d) for d in axes if d in found.dims])
    at = iter(array.shape)
    array = array.reshape([next(at) if d in found.dims else 1 for d in axes])
    return np.broadcast_to(
        array, [n for d, n in zip(source.dims, source.shape, strict=True) if d != x]
    )


def run_batch(plan: Plan, target: Path, overwrite: bool, progress: bool) -> BatchOutcome:
    """Fit all curves into a run folder, from the beginning."""
    with RunFolder(target, overwrite).in_place() as folder:
        text = dump(plan.resolved(folder))
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        flush(folder / "config.yaml")
        return _go_on(plan, folder, progress)


def resume(target: Path, progress: bool) -> BatchOutcome:
    """Go on with a run that was interrupted, from its own configuration.

    **Raises:** `InputError` where there is nothing to resume, or configuration or data have changed.
    """
    if not target.is_dir():
        raise vp.InputError(f"{target}: no such run folder.")
    status = read_status(target)
    if status["state"] == "finished":
        # Whoever was killed while tidying up left blocks whose content stands in the result.
        Journal(target, status["key"], ()).discard()
        raise vp.InputError(f"{target}: this run is finished; there is nothing to resume.")
    plan = make_plan(str(target / "config.yaml"))
    if run_key(plan) != status["key"]:
        raise vp.InputError(
            f"{target}: configuration, data, or the version of varpro are not those with which this "
            "run began, so its blocks would not fit together. Start it anew with 'varpro run'."
        )
    with RunFolder(target, False).in_place(again=True) as folder:
        return _go_on(plan, folder, progress)


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
    content = {"config": tree, "inputs": plan.digests(), "varpro": vp.__version__}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _go_on(plan: Plan, folder: Path, progress: bool) -> BatchOutcome:
    gc.enable()
    key = run_key(plan)
    if plan.config.at_once:
        return _at_once(plan, folder, key, progress)
    with stage("Looking for starts", progress):
        job = make_job(plan)
    journal = Journal(folder, key, tuple(ranges(job.shape, plan.config.fit.block or job.size)))
    journal.begin()
    finished = journal.done()
    counter = Counter(job.count)
    for number in finished:
        _count(counter, journal.read(number))
    counter.begin()
    waiting = [n for n in range(len(journal.blocks)) if n not in finished]
    status = {"schema": 1, "state": "running", "key": key, "curves": job.count}
    status |= {"blocks": len(journal.blocks)}

    def say(state: str) -> None:
        now = {"state": state, "finished": counter.done, "failed": counter.failed}
        write_status(folder, status | now)

    def done(number: int) -> None:
        _count(counter, journal.read(number))
        say("running")

    say("running")
    compute = plan.config.compute
    try:
        with counting("Fitting", counter, progress):
            if compute.engine == "dask":
                run_on_cluster(*(job, journal, waiting, compute.scheduler, compute.workers, done))
            else:
                run_here(job, journal, waiting, compute.workers, done)
    except BaseException:
        say("interrupted")
        raise
    with stage("Writing the results", progress):
        fit = job.gather(journal.gathered())
        _write(plan, fit, folder)
        say("finished")
        journal.discard()
    return BatchOutcome(plan, fit, folder)


def _at_once(plan: Plan, folder: Path, key: str, progress: bool) -> BatchOutcome:
    """Curves that know of each other: nothing is finished before all are, and a run that was
    interrupted begins anew."""
    y, options = _asked(plan)
    share = [] if plan.config.fit.share == "none" else plan.config.fit.share
    status = {"schema": 1, "key": key, "state": "running"}
    write_status(folder, status)
    try:
        with stage("Fitting", progress):
            fit = vp.fit_many(
                plan.model, None, y, share=share, workers=plan.config.compute.workers, **options
            )
    except vp.InputError as error:
        raise blamed(plan, error) from error
    except BaseException:
        write_status(folder, status | {"state": "interrupted"})
        raise
    with stage("Writing the results", progress):
        _write(plan, fit, folder)
        done = {"curves": int(fit.success.size), "failed": int((~fit.success).sum())}
        write_status(folder, status | done | {"state": "finished"})
    return BatchOutcome(plan, fit, folder)


def _count(counter: Counter, found: dict[str, np.ndarray]) -> None:
    counter.add(len(found["status"]), int((~np.isin(found["status"], _GOOD)).sum()))


def run_here(
    job: vp.BatchJob,
    journal: Journal,
    waiting: list[int],
    workers: int | None,
    done: Callable[[int], None],
) -> None:
    """Blocks on threads of this process; the first alone, so that one of them compiles."""
    stop = threading.Event()

    def one(number: int) -> int | None:
        if stop.is_set():
            return None
        journal.write(number, job.fit_rows(*journal.blocks[number]))
        return number

    if not waiting:
        return
    one(waiting[0])
    done(waiting[0])
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        futures = [pool.submit(one, number) for number in waiting[1:]]
        try:
            for future in concurrent.futures.as_completed(futures):
                number = future.result()
                if number is not None:
                    done(number)
        except BaseException:
            stop.set()  # blocks in flight are finished and kept, the others never begin
            raise


def _write(plan: Plan, fit: vp.BatchFit, folder: Path) -> None:
    from ..report.figures import write_maps
    from ..report.html import write_report

    units = plan.units
    if plan.config.output.maps == "zarr":
        maps = fit.to_dataset()
        for name in (*fit.names, *fit.columns):
            for key in (name, f"{name}_stderr"):
                maps[key].attrs["units"] = units.get(name, "")
        with _replacing(folder / "result.zarr") as aside:
            _to_zarr(maps, aside)
    else:
        fit.save(folder / "result.nc")
    if plan.config.output.plots and len(fit.shape) <= 2:
        _placed(folder / "maps.png", lambda path: write_maps(plan, fit, path))
    if plan.config.output.report == "html":
        text = read_text(folder / "config.yaml", "configuration")
        _placed(folder / "report.html", lambda path: write_report(plan, fit, text, path))
    write_json(result(plan, fit), folder / ".result.json")
    flush(folder / ".result.json")
    (folder / ".result.json").replace(folder / "result.json")
    flush(folder)


def _placed(path: Path, write: Callable[[Path], None]) -> None:
    """A file that appears whole."""
    aside = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        write(aside)
        flush(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _to_zarr(maps: xr.Dataset, path: Path) -> None:
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise vp.InputError(
            f"output.maps: zarr needs the extra 'scale': pip install varpro[scale] ({error})."
        ) from error
    maps.to_zarr(path, mode="w", consolidated=True)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A hidden sibling that takes the place of a folder once it is whole."""
    import shutil

    aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        yield aside
        shutil.rmtree(path, ignore_errors=True)
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def result(plan: Plan, fit: vp.BatchFit) -> dict[str, Any]:
    """The content of `result.json`."""
    good = fit.success
    parameters = {}
    for name in (*fit.names, *fit.columns):
        one = fit[name]
        value, error = np.asarray(one.value)[good], np.asarray(one.stderr)[good]
        # Of complex ones their size.
        value = np.abs(value) if np.iscomplexobj(value) else value
        quantiles = np.percentile(value, (5, 50, 95)).tolist() if value.size else [None] * 3
        known = error[np.isfinite(error)]
        parameters[name] = {
            "kind": one.kind,
            "quantiles": dict(zip(("5", "50", "95"), quantiles, strict=True)),
            "stderr_median": float(np.median(known)) if known.size else None,
            "unit": plan.units.get(name, ""),
        }
    return {
        "schema": 1,
        "status": {
            "success": bool(good.all()),
            "message": fit.message,
            "counts": fit.counts,
            "curves": int(good.size),
            "converged": int(good.sum()),
        },
        "shape": dict(zip(fit.dims or (), fit.shape, strict=False)),
        "parameters": parameters,
        "statistics": {
            "steps_mean": float(fit.num_steps[good].mean()) if good.any() else None,
            "redchi_median": float(np.median(fit.redchi[good])) if good.any() else None,
        },
        "inputs": {role: {"sha256": digest} for role, digest in plan.digests().items()},
        "versions": versions(),
    }
