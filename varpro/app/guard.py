"""How a command ends: what went wrong as a line on stderr and an exit code, and signals as ends of their own.

Exit codes: 2 bad input, 70 a bug of ours, 130 interrupted, 143 terminated.
"""

import contextlib
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator

import typer

from .caller import called_with
from .signals import Terminated, ending
from .terminal import echo

# Problems of a file that are told at once.
_MOST_LINES = 20
BUG, INTERRUPTED, TERMINATED = 70, 130, 143


@contextlib.contextmanager
def closed_pipe_is_fine() -> Iterator[None]:
    """Whoever reads our output may stop early, as `head` does."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
    except OSError as error:
        if error.filename is not None:  # of a file, not of what is shown
            raise
        _give_up_stdout()
        from varpro import InputError

        reason = error.strerror or str(error)
        raise InputError(
            f"standard output: cannot be written ({reason}). What was fitted is in the run folder."
        ) from error


def _give_up_stdout() -> None:
    """The interpreter flushes once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _libraries_silent(debug: bool) -> Iterator[None]:
    """What libraries tell programmers, users do not need: what went wrong is a sentence of ours."""
    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _of_system(error: Exception) -> str | None:
    """What the system refused, wherever it did: a full disk, a folder that went away, no memory."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the system'}: {error.strerror}."
    if isinstance(error, UnicodeEncodeError):
        letter = error.object[error.start : error.start + 1]
        return (
            f"paths of this system cannot have the letter '{letter}' ({error.encoding}). Set PYTHONUTF8=1 or "
            "LC_ALL=C.UTF-8."
        )
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({str(error).rstrip('.') or 'none is left'})."
    return None


def _cut(line: str, most: int = 600) -> str:
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"


@contextlib.contextmanager
def guarded(debug: bool, scheduler: str | None = None, no_code: bool = False) -> Iterator[None]:
    """Turn what went wrong into one line on stderr and an exit code."""
    if scheduler is not None and not scheduler.strip():
        echo("--scheduler '': expected an address, such as tcp://HOST:8786.", err=True)
        raise typer.Exit(2)
    signals = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
    try:
        with ending(signals), called_with(scheduler, no_code), _libraries_silent(debug):
            yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        echo("Interrupted. What a run of many curves finished is kept: varpro resume.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except Terminated:
        echo("Terminated.", err=True)
        raise typer.Exit(TERMINATED) from None
    except Exception as error:
        from varpro import InputError

        if debug:
            echo(traceback.format_exc(), err=True)
        if isinstance(error, InputError):
            lines = str(error).split("\n")
            if (more := len(lines) - _MOST_LINES) > 1:
                lines = [*lines[:_MOST_LINES], f"... and {more} more."]
            echo("\n".join(_cut(line) for line in lines), err=True)
            raise typer.Exit(2) from None
        if (sentence := _of_system(error)) is not None:
            echo(_cut(sentence), err=True)
            raise typer.Exit(2) from None
        first = (str(error).strip().splitlines() or [""])[0]
        echo(
            f"varpro met a bug: {type(error).__name__}: {first} Please report it with the output "
            "of the same command and --debug.",
            err=True,
        )
        raise typer.Exit(BUG) from None


def set_up_jax() -> None:
    """Double precision.

    **Raises:** `InputError` where JAX cannot begin, as with a platform of the environment that is not here.
    """
    try:
        import jax

        if "JAX_PLATFORMS" in os.environ:
            jax.devices()  # whether they are there
    except Exception as error:
        from varpro import InputError

        named = [f"{key}={text}" for key, text in os.environ.items() if key.startswith("JAX_")]
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"JAX does not start ({reason})" + (f" with {', '.join(named)}" if named else "") + "."
        ) from error
    jax.config.update("jax_enable_x64", True)
