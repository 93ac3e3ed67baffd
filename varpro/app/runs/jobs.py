"""Several runs in one call: configurations, patterns of files, and sweeps over values."""

import gc
import glob
import itertools
import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import varpro as vp

from ..atomic_files import safe_name
from ..config.document import changed, in_one_line, load
from ..data.from_table import as_seen_from_here
from ..paths import resolved
from ..plan.outcome import BatchOutcome, Outcome
from ..report.result_files import result, to_json
from ..terminal import echo
from .run import run

# Exit code where some curves of a batch failed.
SOME_FAILED = 3


class Job(NamedTuple):
    """One run: its configuration, the values put into it, and its folder if that is not its own."""

    config: str
    changes: tuple[str, ...]
    out: str | None


# Endings that files of data have and configurations have not.
_OF_DATA = frozenset(
    ".csv .tsv .dat .asc .xlsx .xls .ods .npz .npy .h5 .hdf5 .nc .mat .zarr .tif .tiff .json".split()
)


def _refuse_no_configuration(config: str) -> None:
    """Say what to do with a run folder, or with data, where a configuration was asked for."""
    path = Path(config)
    if path.is_dir() and (path / "config.yaml").is_file():
        raise vp.InputError(
            f"{config}: is a run folder; its configuration is {path / 'config.yaml'}. 'varpro report', 'plot' "
            "and 'compare' take the folder."
        )
    if path.suffix.lower() in _OF_DATA and path.is_file():
        raise vp.InputError(
            f"{config}: is a file of data. A configuration for it is written by: varpro new fit.yaml --from "
            f"{shlex.quote(config)}"
        )


def jobs_of(
    configs: Sequence[str], changes: Sequence[str], sweeps: Sequence[str], out: str | None
) -> list[Job]:
    """All runs that a command line asks for.

    **Raises:** `InputError` for a pattern that no file matches, or a sweep without values.
    """
    paths: list[str] = []
    for config in configs:
        # A file whose name has such a letter in it is that file.
        if glob.has_magic(config) and not Path(config).exists():
            matches = sorted(glob.glob(config))
            if not matches:
                raise vp.InputError(f"{config}: configuration: no file matches.")
            paths += matches
        else:
            _refuse_no_configuration(config)
            paths.append(config)
    paths = list(dict.fromkeys(paths))
    _refuse_folder_twice([*changes, *sweeps], bool(sweeps), out)
    _refuse_key_twice(changes, sweeps)
    axes: list[list[str]] = []
    for sweep in sweeps:
        key, equals, values = sweep.partition("=")
        words = [value.strip() for value in _split(values)]
        if not equals or not key.strip() or not all(words):
            raise vp.InputError(f"--sweep {sweep}: expected KEY=A,B,..., such as fit.seed=1,2,3.")
        axes.append([f"{key.strip()}={value}" for value in words])
    jobs = []
    for path in paths:
        for chosen in itertools.product(*axes):
            folder = out
            if len(paths) > 1 and out is not None:
                folder = str(Path(out) / Path(path).stem)
            if chosen:
                parent = Path(folder) if folder else Path(path).parent / "runs" / Path(path).stem
                folder = str(parent / safe_name(",".join(chosen)))
            jobs.append(Job(path, (*changes, *chosen), folder))
    return jobs


def _refuse_folder_twice(words: Sequence[str], swept: bool, out: str | None) -> None:
    """**Raises:** `InputError` for a run folder put into a configuration where the command line has another."""
    if any(word.partition("=")[0].strip() == "output.dir" for word in words):
        if out is not None:
            raise vp.InputError(
                "output.dir: has no effect: --out gives the run folder. Give one of them."
            )
        if swept:
            raise vp.InputError(
                "output.dir: has no effect: each run of a sweep has a folder of its own. Give the folder "
                "above them with --out."
            )


def _refuse_key_twice(changes: Sequence[str], sweeps: Sequence[str]) -> None:
    """**Raises:** `InputError` for a value that a later one of the same key, or of keys above it, takes away."""
    words = [("--set", change) for change in changes] + [("--sweep", sweep) for sweep in sweeps]
    keys = [word.partition("=")[0].strip() for _, word in words]
    for i, key in enumerate(keys):
        for later in range(i + 1, len(keys)):
            if f"{key}.".startswith(f"{keys[later]}."):
                raise vp.InputError(
                    f"{words[i][0]} {in_one_line(words[i][1])}: has no effect: {words[later][0]} "
                    f"{in_one_line(words[later][1])} comes later. Give one of them."
                )


def _refuse_one_folder_for_two(jobs: Sequence[Job]) -> None:
    """Stop before anything is fitted where a run would meet, or replace, what another of the same call wrote.

    **Raises:** `InputError` naming the folder and both.
    """
    owners: dict[Path, str] = {}
    for job in jobs:
        title = " ".join((job.config, *job.changes))
        try:
            place = Path(job.out) if job.out is not None else _folder_of(job)
            place = resolved(place, "the run folder")
        except vp.InputError:
            continue  # the run will say so
        if place in owners:
            raise vp.InputError(
                f"{as_seen_from_here(place)}: is the run folder of two runs: {owners[place]} and {title}. "
                "Give each configuration another name, or output.dir, or run them one by one."
            )
        owners[place] = title


def _folder_of(job: Job) -> Path:
    """The run folder that a configuration names, right or wrong."""
    output = changed(load(job.config), job.changes).tree.get("output")
    name = output.get("dir") if isinstance(output, dict) else None
    path = Path(job.config)
    return path.absolute().parent / (name if isinstance(name, str) else f"runs/{path.stem}")


def _split(values: str) -> list[str]:
    """At commas that are in no brackets."""
    parts, depth = [""], 0
    for letter in values:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def run_jobs(
    jobs: Sequence[Job],
    *,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    table: str | None,
    shown: Callable[[], AbstractContextManager[None]],
    verbose: bool = False,
) -> int:
    """Run one after the other; of several a bad one does not keep the others from being fitted.

    Returns the exit code: 0, 1 if a fit failed (or, of several runs, one was refused), 2 if the only
    one was refused, 3 if nothing worse happened than that some curves of a batch failed.
    """
    if table is not None and len(jobs) > 1:
        raise vp.InputError("--write-params is for one run.")
    if len(jobs) > 1:
        _refuse_one_folder_for_two(jobs)
        gc.enable()
    failed: list[str] = []
    some_curves = False
    for number, job in enumerate(jobs):
        title = " ".join((job.config, *job.changes))
        try:
            outcome = run(
                job.config,
                out=job.out,
                overwrite=overwrite,
                progress=not quiet,
                changes=job.changes,
                table=table,
                verbose=verbose,
            )
        except (vp.InputError, OSError) as error:
            if len(jobs) == 1:
                raise
            system = isinstance(error, OSError)
            echo(f"{title}: {error.strerror or error}." if system else str(error), err=True)
            failed.append(title)
            continue
        with shown():
            _show(outcome, title if len(jobs) > 1 else "", number, quiet, as_json)
        if isinstance(outcome, BatchOutcome):
            failing = outcome.code
            some_curves |= failing == SOME_FAILED
            if failing and quiet:
                echo(f"{job.config}: {outcome.fit.message}", err=True)
            if failing == 1:
                failed.append(title)
        elif not outcome.fit.success:
            # The summary has said why.
            reason = f" {outcome.fit.message}" if quiet else ""
            echo(f"{job.config}: the fit failed.{reason}", err=True)
            failed.append(title)
    if len(jobs) > 1 and failed:
        listing = ", ".join(failed[:6]) + (", ..." if len(failed) > 6 else "")
        echo(f"{len(failed)} of {len(jobs)} runs failed: {listing}.", err=True)
    return 1 if failed else SOME_FAILED if some_curves else 0


def _show(
    outcome: Outcome | BatchOutcome, title: str, number: int, quiet: bool, as_json: bool
) -> None:
    short = str(as_seen_from_here(outcome.folder))
    if as_json:
        if isinstance(outcome, BatchOutcome):
            from .batch import result as batch_result

            content = batch_result(*outcome[:2])
        else:
            content = result(*outcome[:2])
        echo(to_json(content))
    elif not quiet:
        from ..report.console import print_batch, print_summary

        if title:
            echo(f"{chr(10) if number else ''}{title}")
        if isinstance(outcome, BatchOutcome):
            print_batch(outcome.plan, outcome.fit, short)
        else:
            print_summary(outcome.plan, outcome.fit, short)
