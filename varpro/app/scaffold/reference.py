"""What a configuration may say, told in three ways from the one set of models in `config`: the kinds
of component, a JSON Schema, and a page of reference. And what is installed."""

import inspect
import json
import os
import platform
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic

import varpro as vp
from varpro import InputError

from ..config.config import Config, Output
from ..config.messages import nearest
from ..config.model import COMPONENTS, RESPONSES, BasisComponent, Component, Parameter
from ..config.section import Section
from ..data.formats import readers
from ..data.instruments import FORMATS
from ..terminal import echo

# What `json_schema` returns, where an editor finds it. Written by `varpro schema > FILE`; a test compares.
SCHEMA_FILE = Path(__file__).with_name("schema.json")


def json_schema() -> str:
    """The JSON Schema of a configuration, for editors that complete and check YAML."""
    schema: dict[str, Any] = Config.model_json_schema(by_alias=True)
    parts = schema["$defs"]
    for section in [*dict(sections()).values(), *COMPONENTS.values(), *RESPONSES.values()]:
        part = schema if section is Config else parts.get(section.__name__, {})
        for key, text in _texts(section).items():
            part["properties"][key]["description"] = text
        if issubclass(section, Component):
            part["description"] = described(section)[0]
    # A file need not say where the run folder is.
    schema["required"].remove("output")
    parts["Output"].pop("required")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "varpro configuration"
    return json.dumps(schema, indent=1, ensure_ascii=False)


def _texts(section: type[Section]) -> dict[str, str]:
    """What is said of each key that a section knows."""
    texts = {section.model_fields[n].alias or n: text for n, text in section.texts().items()}
    if issubclass(section, Component):
        keys = [key for key, _, _ in keys_of(section)]
        texts = {k: v for k, v in (texts | described(section)[1]).items() if k in keys}
    return texts


def explain(key: str) -> Iterator[str]:
    """What one key takes and means, such as `fit.solver.ftol`, `model.exp.tau` or `responses.gaussian`; the end of
    a path will do where only one key has it.

    **Raises:** `InputError` with the keys that there are.
    """
    elsewhere = [path for path in _paths() if path.endswith(f".{key}")]
    if key and key.partition(".")[0] not in dict.fromkeys(row[0] for row in keys_of(Config)):
        if len(elsewhere) == 1:
            yield from explain(elsewhere[0])
            return
        if elsewhere:
            listed = ", ".join(elsewhere[:6]) + (", ..." if len(elsewhere) > 6 else "")
            raise InputError(f"no key '{key}'. There is {listed}.")
    section: type[Section] | None = Config
    text, row = "A whole configuration file.", None
    parts = [part for part in key.split(".") if part]
    for i, part in enumerate(parts):
        where = "".join(f"{part}." for part in parts[:i]).removesuffix(".")
        where = f"{where}: " if where else ""
        kinds = {"model": COMPONENTS, "responses": RESPONSES}.get(parts[0]) if i == 1 else None
        if kinds is not None:
            if part not in kinds:
                raise InputError(f"{where}no kind '{part}'. {nearest(part, kinds)}")
            section, row, text = kinds[part], None, described(kinds[part])[0]
            continue
        rows = {} if section is None else {row[0]: row for row in keys_of(section)}
        if part not in rows:
            hint = nearest(part, rows) if rows else "It has no keys below it."
            if not i and "Did you mean" not in hint:  # the name of a key further down, misspelt
                leaves = {path.rpartition(".")[2]: path for path in reversed([*_paths()])}
                below = nearest(part, leaves)
                if "Did you mean" in below:
                    hint = f"Did you mean '{leaves[below.split(chr(39))[1]]}'?"
            if elsewhere := [path for path in _paths() if path.rpartition(".")[2] == part]:
                hint = (
                    f"There is {', '.join(elsewhere[:6])}{', ...' if len(elsewhere) > 6 else ''}."
                )
            raise InputError(f"{where}no key '{part}'. {hint}")
        assert section is not None
        row, text = rows[part], _texts(section).get(part, "")
        name = next(n for n, f in section.model_fields.items() if (f.alias or n) == part)
        inner = [s for s in _inside(section.model_fields[name].annotation) if s is not Component]
        section = inner[0] if len(inner) == 1 else None
    yield f"{key or 'configuration'}: {text}".rstrip()
    if row is not None:
        yield f"takes {row[1]}" + (
            f"; {row[2]} by default" if row[2] not in ("", "required") else ""
        )
        if row[2] == "required":
            yield "required"
    if parts in (["model"], ["responses"]):
        known = COMPONENTS if parts == ["model"] else RESPONSES
        yield f"kinds: {', '.join(known)}; 'varpro explain {parts[0]}.KIND' shows one"
    elif section is not None:
        texts, rows = _texts(section), list(keys_of(section))
        width = max(len(row[0]) for row in rows)
        yield ""
        yield from (f"  {row[0]:<{width}}  {texts.get(row[0], '')}".rstrip() for row in rows)


def _paths() -> Iterator[str]:
    """Every key by its path, as `explain` takes it."""

    def below(section: type[Section], path: str) -> Iterator[str]:
        for name, field in section.model_fields.items():
            key = path + (field.alias or name)
            yield key
            inner = [one for one in _inside(field.annotation) if not issubclass(one, Component)]
            if len(inner) == 1 and key not in ("model", "responses"):
                yield from below(inner[0], f"{key}.")

    yield from below(Config, "")
    for where, kinds in (("model", COMPONENTS), ("responses", RESPONSES)):
        for kind, component in kinds.items():
            yield f"{where}.{kind}"
            yield from (f"{where}.{kind}.{key}" for key, _, _ in keys_of(component))


def described(component: type[Component]) -> tuple[str, dict[str, str]]:
    """The first paragraph about a kind, and what its docstring says of each argument."""
    basis = component.basis if issubclass(component, BasisComponent) else component
    text = inspect.getdoc(basis) or ""
    head = " ".join(text.split("\n\n")[0].split())
    arguments: dict[str, str] = {}
    for match in re.finditer(
        r"^- (`\w+`(?:,? (?:and )?`\w+`)*)(?: \([^)]*\))?: (.*?)(?=^- |^\S|\Z)", text, re.M | re.S
    ):
        description = " ".join(match[2].split())
        for name in re.findall(r"`(\w+)`", match[1]):
            arguments[name] = description
    return head, arguments


def print_models(kind: str | None) -> None:
    """All kinds with their equations, or one of them whole."""
    if kind is None:
        width = max(map(len, COMPONENTS))
        for name, component in COMPONENTS.items():
            echo(f"{name:<{width}}  {described(component)[0]}")
        echo("\nvarpro models KIND shows one with its parameters.")
        return
    if kind not in COMPONENTS:
        raise InputError(f"no kind '{kind}'. {nearest(kind, COMPONENTS)}")
    component = COMPONENTS[kind]
    head, arguments = described(component)
    echo(f"{kind}: {head}\n")
    rows = list(keys_of(component))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        description = arguments.get(row[0], "")
        echo(
            "  ".join(
                (*(t.ljust(w) for t, w in zip(row, widths, strict=True)), description)
            ).rstrip()
        )


def keys_of(section: type[pydantic.BaseModel]) -> Iterator[tuple[str, str, str]]:
    """Key, what it takes, and its default, of everything that a section knows."""
    for name, field in section.model_fields.items():
        if (
            name == "kind"
            and issubclass(section, Component)
            and len(typing.get_args(field.annotation)) == 1
        ):
            continue
        key = field.alias or name
        default = (
            "runs/NAME"
            if section is Output and name == "dir"  # which a file may leave out
            else "required"
            if field.is_required()
            else _default(field.get_default(call_default_factory=True))
        )
        yield key, _type(field.annotation), default


def _default(value: object) -> str:
    if value is None or value == {} or value == []:
        return ""
    if isinstance(value, pydantic.BaseModel):
        return "see below"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value)


_WORDS = {float: "number", int: "whole number", bool: "true or false", str: "text", Any: "see text"}


def _type(hint: Any) -> str:
    """A type in words."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _type(args[0])
    if origin is typing.Literal:
        return " or ".join(map(str, args))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(a) for a in args if a is not type(None)))
    if origin is list:
        return f"list of {_type(args[0])}"
    if origin is dict:
        return f"keys with {_type(args[1])}"
    if isinstance(hint, type) and issubclass(hint, pydantic.BaseModel):
        return "a component" if issubclass(hint, Component) else f"{hint.__name__.lower()}"
    return _WORDS.get(hint, str(hint))


def markdown_page() -> str:
    """The reference of configurations as a page of Markdown."""
    lines = [
        "# Configuration reference",
        "",
        "Generated by `varpro schema --markdown` from the models that check a configuration.",
    ]
    for name, section in sections():
        doc, texts = inspect.cleandoc(section.__doc__ or ""), section.texts()
        lines += ["", f"## {name}", "", doc, "", "| key | takes | default | |", "|---|---|---|---|"]
        for key, takes, default in keys_of(section):
            name = next(n for n, f in section.model_fields.items() if (f.alias or n) == key)
            description = texts.get(name, "")
            lines.append(f"| `{key}` | {takes} | {_code(default)} | {description} |")
    lines += ["", "## Kinds of component", ""]
    lines.append("Every parameter is a number, its start, or the keys of `parameter` above.")
    responses = [(f"responses, kind {kind}", section) for kind, section in RESPONSES.items()]
    for kind, component in [*COMPONENTS.items(), *responses]:
        (head, arguments), texts = described(component), component.texts()
        lines += [
            "",
            f"### {kind}",
            "",
            head,
            "",
            "| key | takes | default | |",
            "|---|---|---|---|",
        ]
        for key, takes, default in keys_of(component):
            description = arguments.get(key) or texts.get(key, "")
            lines.append(f"| `{key}` | {takes} | {_code(default)} | {description} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _code(default: str) -> str:
    return default if default in ("", "required", "see below") else f"`{default}`"


def sections() -> list[tuple[str, type[Section]]]:
    """The sections of a configuration by name, from the top down, components left out."""
    sections_by_name: dict[str, type[Section]] = {"The top": Config}

    def visit(section: type[Section]) -> None:
        for name, field in section.model_fields.items():
            for inner in _inside(field.annotation):
                if not issubclass(inner, Component) and inner not in sections_by_name.values():
                    sections_by_name[name if inner.__name__ != "Parameter" else "parameter"] = inner
                    visit(inner)

    visit(Config)
    sections_by_name.setdefault("parameter", Parameter)
    return list(sections_by_name.items())


def _inside(hint: Any) -> Iterator[type[Section]]:
    if isinstance(hint, type) and issubclass(hint, Section):
        yield hint
    for arg in typing.get_args(hint):
        yield from _inside(arg)


def _endings() -> set[str]:
    """Endings of files of instruments."""
    return {ending.strip(".").lower() for one in FORMATS for ending in one.endings if one.package}


def print_info() -> None:
    """What to send along with a question."""
    import jax

    from ..provenance import versions

    for name, version in versions().items():
        echo(f"{name:<12} {version}")
    echo(f"{'platform':<12} {platform.platform()}, {os.cpu_count()} cores")
    echo(f"{'devices':<12} {', '.join(str(d) for d in jax.devices())}")
    echo(f"{'executable':<12} {sys.executable}")
    kept = vp.kept_programs()
    echo(f"{'cache':<12} {'none (off, or others may write to it)' if kept is None else kept}")
    echo(f"{'formats':<12} text, {', '.join(sorted({*readers(), *_endings()}))}")
    missing = []
    readers_of = dict.fromkeys(one.package for one in FORMATS if one.package)
    optional = ("zarr", "tifffile", "dask", "diffrax", "blackjax", "arviz", "python_calamine")
    for package in (*optional, *readers_of):
        try:
            __import__(package)
        except ImportError:
            missing.append(package)
    if missing:
        echo(f"{'without':<12} {', '.join(missing)}")
