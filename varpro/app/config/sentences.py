"""From what pydantic finds wrong in a configuration to a sentence with file, line and key."""

from typing import Any

from pydantic_core import ErrorDetails

from .document import Document
from .messages import complain, nearest, shown
from .model import COMPONENTS, RESPONSES

# Keys of other people's configurations, which must not decide this.
_ELSEWHERE: dict[tuple[str | int, ...], str] = {
    (
        "compute",
        "scheduler",
    ): "a scheduler sends code to run, so no configuration names one. Remove "
    "the key, and give the address with --scheduler or in VARPRO_SCHEDULER."
}

# Keys of a parameter, which stand beside its component by mistake.
_OF_PARAMETERS = frozenset(("init", "lower", "upper", "fixed", "prior"))


def sentence(
    document: Document, detail: ErrorDetails, tree: dict[str, Any], known: dict[int, list[str]]
) -> str:
    # A location also names the members of unions it went through; only what is in the file counts.
    key: list[str | int] = []
    node: Any = tree
    parent: Any = None
    part: Any
    for part in detail["loc"]:
        inside = isinstance(node, dict) and part in node
        if inside or (isinstance(node, list) and isinstance(part, int)):
            key.append(part)
            parent, node = node, node[part]
    kind, value = detail["type"], detail["input"]
    context = detail.get("ctx", {})
    if kind == "missing":
        key.append(detail["loc"][-1])
        message = "this key is required."
    elif kind == "extra_forbidden":
        # The output section may be there without having been written.
        given = document.tree if parent is tree else parent
        others = [name for name in known.get(id(parent), []) if name not in given]
        hint = nearest(str(key[-1]), others)
        if value is None and str(key[-1]).isdigit():
            hint = f"Was a decimal comma meant? A number has a point, such as 0.{key[-1]}."
        if key[0] == "model" and str(key[-1]) in _OF_PARAMETERS and "Did you" not in hint:
            name = next((n for n in given if n != "kind" and n != key[-1]), "tau")
            hint = f"It is said of a parameter: {name}: {{init: 1, {key[-1]}: ...}}."
        message = _ELSEWHERE.get(tuple(key), f"unknown key. {hint}")
    elif kind == "union_tag_not_found":
        message = f"needs a kind. Known: {', '.join(COMPONENTS)}."
    elif kind == "union_tag_invalid":
        kinds = RESPONSES if key[0] == "responses" else COMPONENTS
        key.append("kind")
        message = f"unknown kind '{context['tag']}'. {nearest(context['tag'], kinds)}"
    elif kind == "literal_error":
        message = f"expected {context['expected']}, not {shown(value)}."
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        message = f"expected keys below it, not {shown(value)}."
    elif kind == "list_type":
        message = f"expected a list, not {shown(value)}."
    elif kind in ("too_short", "too_long"):
        few = kind == "too_short"
        count = context["min_length" if few else "max_length"]
        bound = f"at {'least' if few else 'most'} {count}"
        message = f"expected {bound} entr{'y' if count == 1 else 'ies'}, found {len(value)}."
    else:
        message = detail["msg"].rstrip(".") + "."
    return complain(document, tuple(key), message)
