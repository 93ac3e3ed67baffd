"""`varpro new`: a commented configuration to start from."""

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import varpro as vp

from ..atomic_files import refuse_special, replace_file
from ..config.config import Output
from ..config.data import Data
from ..config.fit import Constraints, Fit, Solver
from ..paths import as_path
from .reference import SCHEMA_FILE, keys_of


@dataclasses.dataclass(frozen=True)
class Starter:
    """What a configuration to start from says: words for its sections. `each`: of every curve for itself."""

    title: str
    data: dict[str, str]
    responses: list[str]
    model: list[str]
    noise: str | None = None
    each: bool = False


def quoted(name: str) -> str:
    """A name as YAML takes it for a word."""
    plain = re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", name)
    plain = plain and name.lower() not in ("true", "false", "null", "yes", "no", "on", "off")
    return name if plain else json.dumps(name, ensure_ascii=False)


def refuse_place(config: Path, overwrite: bool) -> None:
    """Stop before anything is read where the file cannot be written, or must not be.

    **Raises:** `InputError`.
    """
    refuse_special(config)
    if config.exists() and not overwrite:
        raise vp.InputError(
            f"{config}: exists. Add --overwrite to replace it, or give another name."
        )
    if not config.parent.is_dir():
        raise vp.InputError(f"{config}: cannot be written; there is no folder {config.parent}.")


def write_starter(config: Path, overwrite: bool) -> list[str]:
    """Write the file; returns what to tell the user.

    **Raises:** `InputError` if the file exists.
    """
    as_path(str(config), "new")
    refuse_place(config, overwrite)
    data = {"path": "data.csv", "x": "time", "y": "[counts]"}
    model = ["decay: {kind: exp, tau: 1.0}", "background: {kind: constant}"]
    replace_file(config, starter_text(Starter(config.stem, data, [], model)))
    return [written_to(config)]


def written_to(config: Path) -> str:
    """What was written, and the command that comes next, as a shell takes it."""
    return f"Written to {config}. Next: varpro check {shlex.quote(str(config))}"


def starter_text(starter: Starter) -> str:
    """The file, every key that is not in use as a comment."""
    return "\n".join(_lines(starter)) + "\n"


def _lines(starter: Starter) -> Iterator[str]:
    # Editors complete and check by the schema that this line names.
    yield f"# yaml-language-server: $schema={SCHEMA_FILE.as_uri()}"
    yield f"# {starter.title}: a fit with varpro. `varpro check` shows what it would do, `varpro run` does it."
    yield "# What begins with # is not in use; remove that to use it."
    yield "schema: 1"
    yield ""
    yield "data:"
    for key, value in starter.data.items():
        yield f"  {key}: {value}"
    yield from _commented(Data, "  ", set(starter.data))
    yield ""
    if starter.responses:
        yield "responses:"
        yield from (f"  {line}" for line in starter.responses)
        yield ""
    yield "# `varpro models` lists all kinds. A number is a start; or {init: 1.0, lower: 0, fixed: true}."
    yield "model:"
    yield from (f"  {line}" for line in starter.model)
    yield ""
    yield "# constraints:"
    yield from _commented(Constraints, "#   ", set())
    yield ""
    used = {}
    if starter.noise:
        used["noise"] = (
            f"{starter.noise}  # the likelihood of counts; weights taken from them are biased"
        )
    if starter.each:
        used["share"] = "none  # every curve has parameters of its own"
    if used:
        yield "fit:"
        yield from (f"  {key}: {value}" for key, value in used.items())
    else:
        yield "# fit:"
    mark = "  # " if used else "#   "
    yield from _commented(Fit, mark, {"solver", *used})
    yield f"{mark}solver:"
    yield from _commented(Solver, f"{mark}  ", set())
    yield ""
    yield "output:"
    yield f"  dir: {quoted(f'runs/{starter.title}')}"
    yield from _commented(Output, "  ", {"dir"})


def _commented(section: Any, indent: str, without: set[str]) -> Iterator[str]:
    """The keys of a section with their defaults and what they mean, as comments."""
    texts = section.texts()
    for key, takes, default in keys_of(section):
        if key in without:
            continue
        name = next(n for n, f in section.model_fields.items() if (f.alias or n) == key)
        text = texts.get(name, "")
        mark = indent if "#" in indent else f"{indent}# "
        value = default if default not in ("", "required", "see below") else f"<{takes}>"
        yield f"{mark}{key}: {value}  # {text}"
