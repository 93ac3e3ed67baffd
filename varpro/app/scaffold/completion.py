"""Words that a shell completes with Tab, from the schema file: what knows them otherwise takes JAX a second to import."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SCHEMA = Path(__file__).with_name("schema.json")


def kinds(incomplete: str) -> list[str]:
    """The kinds of component that begin so."""
    found = [kind for name, kind in _kinds() if name.endswith("Component")]
    return sorted(kind for kind in found if kind.startswith(incomplete))


def keys(incomplete: str) -> list[str]:
    """The keys, by their paths, that begin so: one part more than there is."""
    depth = incomplete.count(".")
    found = {".".join(path.split(".")[: depth + 1]) for path in _paths()}
    return sorted(path for path in found if path.startswith(incomplete))


def _read() -> dict[str, Any]:
    return json.loads(_SCHEMA.read_text(encoding="utf-8"))


def _kinds() -> Iterator[tuple[str, str]]:
    """The name of each part of the schema that has a kind, and that."""
    for name, part in _read()["$defs"].items():
        kind = part.get("properties", {}).get("kind", {}).get("const")
        if kind is not None:
            yield name, kind


def _paths() -> Iterator[str]:
    schema = _read()
    parts = schema["$defs"]

    def below(part: dict[str, Any], path: str) -> Iterator[str]:
        for key, value in part.get("properties", {}).items():
            yield path + key
            if "$ref" in value:
                yield from below(parts[value["$ref"].rpartition("/")[2]], f"{path}{key}.")

    yield from below(schema, "")
    for name, kind in _kinds():
        where = "model" if name.endswith("Component") else "responses"
        yield from (f"{where}.{kind}.{key}" for key in parts[name]["properties"] if key != "kind")
