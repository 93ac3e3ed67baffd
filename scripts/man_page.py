"""Write docs/varpro.1, the manual page, from the commands as typer knows them.

    python scripts/man_page.py

The package installs it; tests/test_package.py holds it to the commands.
"""

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import typer.main

import varpro
from varpro.app.cli import app
from varpro.app.guard import BUG, INTERRUPTED, TERMINATED

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "varpro.1"
EXITS = {
    0: "done",
    1: "the fit failed",
    2: "bad configuration or data",
    3: "some of many curves failed",
    BUG: "a bug of varpro",
    INTERRUPTED: "interrupted",
    TERMINATED: "terminated",
}
ENVIRONMENT = {
    "VARPRO_CACHE": "the folder of compiled programs; off keeps none",
    "VARPRO_MAX_BYTES": "the largest array that is read, 2 GiB without it",
    "VARPRO_NO_CODE": "1 is --no-code of every command",
    "VARPRO_SCHEDULER": "the dask cluster, as --scheduler names it",
}


def escaped(text: str) -> str:
    """Text as roff takes it for text."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def entries(pairs: Iterator[tuple[str, str]]) -> Iterator[str]:
    for term, text in pairs:
        yield from (".TP", f"\\fB{escaped(term)}\\fR", escaped(" ".join(text.split())))


def described(command: Any) -> Iterator[tuple[str, str]]:
    """Arguments and options of a command, each with what it does."""
    for one in command.params:
        if one.param_type_name == "argument":
            yield one.metavar, one.help
        else:
            short_first = sorted((*one.opts, *one.secondary_opts), key=len)
            yield ", ".join(short_first) + (f" {one.metavar}" if one.metavar else ""), one.help


def page() -> str:
    """The page as roff."""
    group: Any = typer.main.get_command(app)
    lines = [
        f'.TH VARPRO 1 "" "varpro {varpro.__version__}" "User Commands"',
        ".SH NAME",
        "varpro \\- separable nonlinear least squares by variable projection",
        ".SH SYNOPSIS",
        ".B varpro",
        ".I COMMAND",
        "[arguments]",
        ".SH DESCRIPTION",
        escaped(group.help),
        "A configuration, a YAML file, names data, model and rules;",
        ".B varpro new",
        "writes one to start from, and",
        ".B varpro explain",
        "says what its keys take.",
        ".SH COMMANDS",
    ]
    for name, command in group.commands.items():
        arguments = [one.metavar for one in command.params if one.param_type_name == "argument"]
        lines += [f".SS {escaped(' '.join((name, *arguments)))}", escaped(command.help)]
        lines += entries(described(command))
    lines += [".SH EXIT STATUS", *entries((str(code), text) for code, text in EXITS.items())]
    lines += [".SH ENVIRONMENT", *entries(iter(ENVIRONMENT.items()))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE} has {page().count('.SS ')} commands", file=sys.stderr)
