"""The `varpro` command.

Only the standard library and typer are imported here, so that `--help` is quick; a command imports
what it needs when it runs.

Exit codes: 0 ok, 1 the fit failed, 2 bad input, 3 some of many curves failed, 70 a bug of ours,
130 interrupted, 143 terminated.
"""

import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

BUG, INTERRUPTED, TERMINATED = 70, 130, 143

app = typer.Typer(
    help="Fit models that are linear in some parameters and nonlinear in others.",
    rich_markup_mode=None,  # plain help needs no rich, which takes as long as everything else
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigPaths = Annotated[
    list[str],
    typer.Argument(metavar="CONFIG...", help="Configurations, YAML files; patterns are expanded."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Put a value in, fit.solver.max_steps=50."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]


def _show_version(wanted: bool) -> bool:
    if wanted:
        import importlib.metadata

        typer.echo(f"varpro {importlib.metadata.version('varpro')}")
        raise typer.Exit
    return wanted


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def run(
    configs: ConfigPaths,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The run folder; of several runs the folder above them."),
    ] = None,
    changes: Changes = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=A,B,...",
            help="A run for each value of a key, or of combinations if given several times.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and show the plan, and fit nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print result.json in place of the summary.")
    ] = False,
    write_params: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write the fitted parameters as a table, also over an older one."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    debug: Debug = False,
) -> None:
    """Fit the data that each CONFIG names and write its run folder."""
    with _guarded(debug):
        with _loading(quiet):
            kept_programs = _set_up_jax()
            from .runs.jobs import jobs_of, run_jobs
        jobs = jobs_of(configs, changes or [], sweep or [], out)
        if dry_run:
            _show_plans([(job.config, job.changes) for job in jobs])
            return
        with kept_programs():
            code = run_jobs(
                jobs,
                overwrite=overwrite,
                quiet=quiet,
                as_json=as_json,
                table=write_params,
                shown=_closed_pipe_is_fine,
            )
        if code:
            raise typer.Exit(code)


@app.command()
def resume(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="The run folder.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    debug: Debug = False,
) -> None:
    """Go on with a run of many curves that was interrupted: finished blocks are kept."""
    with _guarded(debug):
        with _loading(quiet):
            _set_up_jax()
            from .runs.batch import resume as resume_run
        outcome = resume_run(Path(folder), not quiet)
        if quiet and outcome.fit.message:
            typer.echo(f"{folder}: {outcome.fit.message}", err=True)
        if not quiet:
            from .report.console import print_batch

            with _closed_pipe_is_fine():
                print_batch(outcome.plan, outcome.fit, _shown(outcome.folder))
        if outcome.code:
            raise typer.Exit(outcome.code)


@app.command()
def check(configs: ConfigPaths, changes: Changes = None, debug: Debug = False) -> None:
    """Check each CONFIG and its data, and show what a run would fit."""
    with _guarded(debug):
        _set_up_jax()
        from .runs.jobs import jobs_of

        _show_plans(
            [(job.config, job.changes) for job in jobs_of(configs, changes or [], [], None)]
        )


def _show_plans(jobs: "list[tuple[str, tuple[str, ...]]]") -> None:
    from .plan.make_plan import make_plan
    from .report.console import print_plan

    for config, changes in jobs:
        plan = make_plan(config, changes)
        with _closed_pipe_is_fine():
            if len(jobs) > 1:
                typer.echo(
                    f"{'' if config == jobs[0][0] else chr(10)}{' '.join((config, *changes))}"
                )
            print_plan(plan)


@app.command()
def new(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="The file to write.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="DATA", help="Guess columns, model and starts from this file."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older file.")] = False,
    debug: Debug = False,
) -> None:
    """Write a commented configuration to start from."""
    with _guarded(debug):
        _set_up_jax()
        from .scaffold.starter import write_starter

        for line in write_starter(
            Path(config), None if source is None else Path(source), overwrite
        ):
            typer.echo(line)


@app.command()
def models(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="One of them, with everything about it.")
    ] = None,
    debug: Debug = False,
) -> None:
    """List the kinds of component: equation, parameters, defaults."""
    with _guarded(debug):
        from .scaffold.reference import print_models

        with _closed_pipe_is_fine():
            print_models(kind)


@app.command()
def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="A page for people in place of JSON Schema.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Print what a configuration may say, as JSON Schema for editors."""
    with _guarded(debug):
        from .scaffold.reference import json_schema, markdown_page

        with _closed_pipe_is_fine():
            typer.echo(markdown_page() if markdown else json_schema())


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders.")],
    debug: Debug = False,
) -> None:
    """Compare the models of several runs of the same data: criteria, Akaike weights, F tests."""
    with _guarded(debug):
        _set_up_jax()
        from .runs.reopen import compare_runs

        with _closed_pipe_is_fine():
            typer.echo(compare_runs(runs))


@app.command()
def report(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Where to write it.")] = None,
    debug: Debug = False,
) -> None:
    """Write the report of a run again, in its folder or elsewhere."""
    with _guarded(debug):
        _set_up_jax()
        from .runs.reopen import report_again

        typer.echo(f"Written to {_shown(report_again(Path(folder), out))}")


@app.command()
def plot(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where to; the run folder by default.")
    ] = None,
    kind: Annotated[str, typer.Option("--format", help="png, svg or pdf.")] = "png",
    debug: Debug = False,
) -> None:
    """Draw the figures of a run again, as PNG, SVG or PDF."""
    with _guarded(debug):
        _set_up_jax()
        from .runs.reopen import plot_again

        for path in plot_again(Path(folder), out, kind):
            typer.echo(f"Written to {_shown(path)}")


@app.command()
def info(debug: Debug = False) -> None:
    """Show versions, devices, formats and folders: what to send along with a question."""
    with _guarded(debug):
        _set_up_jax()
        from .scaffold.reference import print_info

        with _closed_pipe_is_fine():
            print_info()


def _shown(folder: Path) -> str:
    from .data.from_table import as_seen_from_here

    return str(as_seen_from_here(folder))


@contextlib.contextmanager
def _loading(quiet: bool) -> Iterator[None]:
    from .progress import stage

    with stage("Starting", not quiet):
        yield


@contextlib.contextmanager
def _closed_pipe_is_fine() -> Iterator[None]:
    """Whoever reads our output may stop early, as `head` does."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Terminated(BaseException):
    pass


@contextlib.contextmanager
def _guarded(debug: bool) -> Iterator[None]:
    """Turn what went wrong into one line on stderr and an exit code."""

    def terminate(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        typer.echo(
            "Interrupted. What a run of many curves finished is kept: varpro resume.", err=True
        )
        raise typer.Exit(INTERRUPTED) from None
    except _Terminated:
        typer.echo("Terminated.", err=True)
        raise typer.Exit(TERMINATED) from None
    except Exception as error:
        from varpro import InputError

        if debug:
            traceback.print_exc()
        if isinstance(error, InputError):
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None
        first = (str(error).strip().splitlines() or [""])[0]
        typer.echo(
            f"varpro met a bug: {type(error).__name__}: {first} Please report it with the output "
            "of the same command and --debug.",
            err=True,
        )
        raise typer.Exit(BUG) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _set_up_jax() -> Callable[[], AbstractContextManager[None]]:
    """Double precision, and compiled programs kept for the next run where that is possible; returns
    the context in which traced ones are kept too."""
    import jax
    import platformdirs

    jax.config.update("jax_enable_x64", True)
    try:
        cache = platformdirs.user_cache_path("varpro") / "jax"
        cache.mkdir(parents=True, exist_ok=True)
        if not os.access(cache, os.W_OK):
            return contextlib.nullcontext
    except OSError:
        return contextlib.nullcontext
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

    def kept_programs() -> AbstractContextManager[None]:
        from .program_cache import kept_programs

        return kept_programs(cache.parent)

    return kept_programs


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """A damaged NetCDF file, which was refused, must not complain once more when it goes."""
    if "h5netcdf" not in str(getattr(unraisable.object, "__module__", "")):
        sys.__unraisablehook__(unraisable)


def main() -> None:
    """Entry point of the `varpro` command."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter gets a substitute, not a crash.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    sys.unraisablehook = _unraisable
    # Modules and compiled programs, most of what there is, live as long as the process: looking through
    # them for garbage takes a quarter of a short run. What runs for long enables it again.
    gc.disable()
    try:
        app(prog_name="varpro")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        gc.freeze()
