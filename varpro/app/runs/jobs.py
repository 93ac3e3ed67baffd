"""Several runs in one call: configurations, patterns of files, and sweeps over values."""

import gc
import glob
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import typer

import varpro as vp

from ..atomic_files import replace_file, safe_name
from ..data.from_table import as_seen_from_here
from ..data.parameter_table import parameters_text
from ..plan.outcome import BatchOutcome, Outcome
from ..report.result_files import result, to_json
from .run import run

# Exit code where some curves of a batch failed.
SOME_FAILED = 3


class Job(NamedTuple):
    """One run: its configuration, the values put into it, and its folder if that is not its own."""

    config: str
    changes: tuple[str, ...]
    out: str | None


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
            paths.append(config)
    paths = list(dict.fromkeys(paths))
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
) -> int:
    """Run one after the other; of several a bad one does not keep the others from being fitted.

    Returns the exit code: 0, 1 if a fit failed (or, of several runs, one was refused), 2 if the only
    one was refused, 3 if nothing worse happened than that some curves of a batch failed.
    """
    if table is not None and len(jobs) > 1:
        raise vp.InputError("--write-params is for one run.")
    if len(jobs) > 1:
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
            )
        except vp.InputError as error:
            if len(jobs) == 1:
                raise
            typer.echo(str(error), err=True)
            failed.append(title)
            continue
        if table is not None and isinstance(outcome, BatchOutcome):
            raise vp.InputError("--write-params: curves with parameters of their own are maps.")
        if table is not None and not isinstance(outcome, BatchOutcome):
            replace_file(Path(table), parameters_text(outcome.fit))
        with shown():
            _show(outcome, title if len(jobs) > 1 else "", number, quiet, as_json)
        if isinstance(outcome, BatchOutcome):
            failing = outcome.code
            some_curves |= failing == SOME_FAILED
            if failing and quiet:
                typer.echo(f"{job.config}: {outcome.fit.message}", err=True)
            if failing == 1:
                failed.append(title)
        elif not outcome.fit.success:
            # The summary has said why.
            reason = f" {outcome.fit.message}" if quiet else ""
            typer.echo(f"{job.config}: the fit failed.{reason}", err=True)
            failed.append(title)
    if len(jobs) > 1 and failed:
        listing = ", ".join(failed[:6]) + (", ..." if len(failed) > 6 else "")
        typer.echo(f"{len(failed)} of {len(jobs)} runs failed: {listing}.", err=True)
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
        typer.echo(to_json(content))
    elif not quiet:
        from ..report.console import print_batch, print_summary

        if title:
            typer.echo(f"{chr(10) if number else ''}{title}")
        if isinstance(outcome, BatchOutcome):
            print_batch(outcome.plan, outcome.fit, short)
        else:
            print_summary(outcome.plan, outcome.fit, short)
