"""The `varpro` command.

Only the standard library and typer are imported here, so that `--help` is quick; a command imports
what it needs when it runs.

Exit codes: 0 ok, 1 the fit failed, 2 bad input, 70 a bug of ours, 130 interrupted, 143 terminated.
"""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
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

ConfigPath = Annotated[
    str, typer.Argument(metavar="CONFIG", help="The configuration, a YAML file.")
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
    config: ConfigPath,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="The run folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    debug: Debug = False,
) -> None:
    """Fit the data that CONFIG names and write a run folder."""
    with _guarded(debug):
        with _loading(quiet):
            _set_up_jax()
            from .run import run as run_config
        outcome = run_config(config, out=out, overwrite=overwrite, progress=not quiet)
        if not quiet:
            from .summary import print_summary

            with _closed_pipe_is_fine():
                print_summary(outcome.plan, outcome.fit, _shown(outcome.folder))
        if not outcome.fit.success:
            # The summary has said why.
            why = f" {outcome.fit.message}" if quiet else ""
            typer.echo(f"{config}: the fit failed.{why}", err=True)
            raise typer.Exit(1)


@app.command()
def check(config: ConfigPath, debug: Debug = False) -> None:
    """Check CONFIG and its data, and show what a run would fit."""
    with _guarded(debug):
        _set_up_jax()
        from .plan import make_plan
        from .summary import print_plan

        plan = make_plan(config)
        with _closed_pipe_is_fine():
            print_plan(plan)


def _shown(folder: Path) -> str:
    """A folder as the user would write it: relative where that leads down from here."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


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
        typer.echo("Interrupted.", err=True)
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


def _set_up_jax() -> None:
    """Double precision, and compiled programs kept for the next run where that is possible."""
    import jax
    import platformdirs

    jax.config.update("jax_enable_x64", True)
    try:
        cache = platformdirs.user_cache_path("varpro") / "jax"
        cache.mkdir(parents=True, exist_ok=True)
        if not os.access(cache, os.W_OK):
            return
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def main() -> None:
    """Entry point of the `varpro` command."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter gets a substitute, not a crash.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        app(prog_name="varpro")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
