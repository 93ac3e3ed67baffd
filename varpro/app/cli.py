"""The `varpro` command.

Only the standard library and typer are imported here, so that `--help` is quick; a command imports
what it needs when it runs.

Exit codes: 0 ok, 1 the fit failed, 2 bad input, 3 some of many curves failed; more in `guard`.
"""

import contextlib
import gc
import io
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from .guard import INTERRUPTED, closed_pipe_is_fine, guarded, set_up_jax
from .paths import as_path
from .terminal import echo

app = typer.Typer(
    help="Fit models that are linear in some parameters and nonlinear in others.",
    rich_markup_mode=None,  # plain help needs no rich, which takes as long as everything else
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=True,
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
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="The dask cluster for 'engine: dask', tcp://HOST:PORT or tls://HOST:PORT; its machines "
        "run code as you.",
    ),
]
NoCode = Annotated[
    bool,
    typer.Option(
        "--no-code",
        help="Import nothing that a configuration names (kind: custom), and no reader of other "
        "packages. VARPRO_NO_CODE=1 says the same.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that are there, with --out.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]


def _kinds(incomplete: str) -> list[str]:
    from .scaffold.completion import kinds

    return kinds(incomplete)


def _keys(incomplete: str) -> list[str]:
    from .scaffold.completion import keys

    return keys(incomplete)


def _show_version(wanted: bool) -> bool:
    if wanted:
        import importlib.metadata

        echo(f"varpro {importlib.metadata.version('varpro')}")
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
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Print each step of a search: chi-square, parameters."
        ),
    ] = False,
    scheduler: Scheduler = None,
    no_code: NoCode = False,
    debug: Debug = False,
) -> None:
    """Fit the data that each CONFIG names and write its run folder."""
    with guarded(debug, scheduler, no_code):
        with _loading(quiet):
            set_up_jax()
            from .runs.jobs import jobs_of, run_jobs
        jobs = jobs_of(configs, changes or [], sweep or [], out)
        if dry_run:
            _show_plans([(job.config, job.changes) for job in jobs])
            return
        code = run_jobs(
            jobs,
            overwrite=overwrite,
            quiet=quiet,
            as_json=as_json,
            table=write_params,
            shown=closed_pipe_is_fine,
            verbose=verbose,
        )
        if code:
            raise typer.Exit(code)


@app.command()
def resume(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="The run folder.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    scheduler: Scheduler = None,
    no_code: NoCode = False,
    debug: Debug = False,
) -> None:
    """Go on with a run of many curves that was interrupted: finished blocks are kept."""
    with guarded(debug, scheduler, no_code):
        with _loading(quiet):
            set_up_jax()
            from .runs.batch import resume as resume_run
        outcome = resume_run(as_path(folder, "resume"), not quiet)
        if quiet and outcome.fit.message:
            echo(f"{folder}: {outcome.fit.message}", err=True)
        if not quiet:
            from .report.console import print_batch

            with closed_pipe_is_fine():
                print_batch(outcome.plan, outcome.fit, _shown(outcome.folder))
        if outcome.code:
            raise typer.Exit(outcome.code)


@app.command()
def check(
    configs: ConfigPaths,
    changes: Changes = None,
    no_code: NoCode = False,
    debug: Debug = False,
) -> None:
    """Check each CONFIG and its data, and show what a run would fit."""
    with guarded(debug, no_code=no_code):
        set_up_jax()
        from .runs.jobs import jobs_of

        _show_plans(
            [(job.config, job.changes) for job in jobs_of(configs, changes or [], [], None)]
        )


def _show_plans(jobs: "list[tuple[str, tuple[str, ...]]]") -> None:
    from .plan.make_plan import make_plan
    from .report.console import print_plan

    for config, changes in jobs:
        plan = make_plan(config, changes)
        with closed_pipe_is_fine():
            if len(jobs) > 1:
                echo(f"{'' if config == jobs[0][0] else chr(10)}{' '.join((config, *changes))}")
            print_plan(plan)


@app.command()
def new(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="The file to write.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="DATA", help="Propose columns, model and starts for this file."
        ),
    ] = None,
    x: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column or array of x in DATA.")
    ] = None,
    y: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A column or array of y, or a pattern; again for more."),
    ] = None,
    noise: Annotated[
        str | None, typer.Option(metavar="KIND", help="poisson, for counts, or normal.")
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(metavar="STEP", help="The step of x from row to row, where no column is x."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older file.")] = False,
    no_code: NoCode = False,
    debug: Debug = False,
) -> None:
    """Write a commented configuration to start from."""
    with guarded(debug, no_code=no_code):
        set_up_jax()
        from .scaffold.starter import write_starter

        file = as_path(config, "new")
        if source is None:
            if y or any(word is not None for word in (x, noise, spacing)):
                from varpro import InputError

                raise InputError(
                    "--x, --y, --noise and --spacing say what is in a file; give it: --from DATA."
                )
            lines = write_starter(file, overwrite)
        else:
            from .propose.columns import asked
            from .propose.propose import write_proposal

            choices = asked(x, y or [], noise, spacing)
            lines = write_proposal(file, as_path(source, "--from"), overwrite, choices)
        for line in lines:
            echo(line)


@app.command()
def models(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help="One of them, with everything about it.", autocompletion=_kinds
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """List the kinds of component: equation, parameters, defaults."""
    with guarded(debug):
        from .scaffold.reference import print_models

        with closed_pipe_is_fine():
            print_models(kind)


@app.command()
def explain(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="Such as fit.solver.ftol, model.exp or data.",
            autocompletion=_keys,
        ),
    ] = "",
    debug: Debug = False,
) -> None:
    """Say what a key of a configuration takes and means."""
    with guarded(debug):
        from .scaffold.reference import explain as lines_of

        with closed_pipe_is_fine():
            for line in lines_of(key):
                echo(line)


@app.command()
def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="A page for people in place of JSON Schema.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Print what a configuration may say, as JSON Schema for editors."""
    with guarded(debug):
        from .scaffold.reference import json_schema, markdown_page

        with closed_pipe_is_fine():
            echo(markdown_page() if markdown else json_schema())


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders.")],
    no_code: NoCode = False,
    debug: Debug = False,
) -> None:
    """Compare the models of several runs of the same data: criteria, Akaike weights, F tests."""
    with guarded(debug, no_code=no_code):
        set_up_jax()
        from .runs.reopen import compare_runs

        with closed_pipe_is_fine():
            echo(compare_runs(runs))


@app.command()
def report(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Where to write it.")] = None,
    overwrite: Overwrite = False,
    no_code: NoCode = False,
    debug: Debug = False,
) -> None:
    """Write the report of a run again, in its folder or elsewhere."""
    with guarded(debug, no_code=no_code):
        set_up_jax()
        from .runs.reopen import report_again

        echo(f"Written to {_shown(report_again(as_path(folder, 'report'), out, overwrite))}")


@app.command()
def plot(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where to; the run folder by default.")
    ] = None,
    kind: Annotated[str, typer.Option("--format", help="png, svg or pdf.")] = "png",
    overwrite: Overwrite = False,
    no_code: NoCode = False,
    debug: Debug = False,
) -> None:
    """Draw the figures of a run again, as PNG, SVG or PDF."""
    with guarded(debug, no_code=no_code):
        set_up_jax()
        from .runs.reopen import plot_again

        for path in plot_again(as_path(folder, "plot"), out, kind, overwrite):
            echo(f"Written to {_shown(path)}")


@app.command()
def info(debug: Debug = False) -> None:
    """Show versions, devices, formats and folders: what to send along with a question."""
    with guarded(debug):
        set_up_jax()
        from .scaffold.reference import print_info

        with closed_pipe_is_fine():
            print_info()


def _shown(folder: Path) -> str:
    from .data.from_table import as_seen_from_here

    return str(as_seen_from_here(folder))


@contextlib.contextmanager
def _loading(quiet: bool) -> Iterator[None]:
    from .progress import stage

    with stage("Starting", not quiet):
        yield


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """A damaged NetCDF file, which was refused, must not complain once more when it goes."""
    if "h5netcdf" not in str(getattr(unraisable.object, "__module__", "")):
        sys.__unraisablehook__(unraisable)


def main() -> None:
    """The `varpro` command, called by `varpro.app.entry` with signals held back."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter gets a substitute, not a crash.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    sys.unraisablehook = _unraisable
    # Modules and compiled programs, most of what there is, live as long as the process: looking through
    # them for garbage takes a quarter of a short run. What runs for long enables it again.
    gc.disable()
    try:
        os.getcwd()
    except OSError:
        echo("the current folder is no longer there. Go to another one.", err=True)
        sys.exit(2)
    try:
        code = app(prog_name="varpro", standalone_mode=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        code = _usage(error)
    finally:
        gc.freeze()
    sys.exit(code)


def _usage(error: Exception) -> int:
    """Say what is wrong with a command line, whose words may be names of files."""
    show, text = getattr(error, "show", None), io.StringIO()
    if show is None:
        raise error
    show(file=text)
    echo(text.getvalue().rstrip("\n"), err=True)
    word = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if word.lower().endswith((".yaml", ".yml")):
        echo(f"A configuration is fitted by: varpro run {shlex.quote(word)}", err=True)
    return getattr(error, "exit_code", 2)
