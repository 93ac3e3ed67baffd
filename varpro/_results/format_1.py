"""Format 1 of saved fits, which varpro 0.1.0 wrote, as format 2.

Format 1 named a class by the module that defined it then, `varpro._params:Param`, and some fields had
other names.
"""

from typing import Any

# What that version called a class: the word of `class_names`. Bases had their public names.
_CLASSES = {
    "varpro._params:Param": "Param",
    "varpro._params:Layout": "Layout",
    "varpro._params:Numbers": "Numbers",
    "varpro.basis._compose:_Group": "Group",
    "varpro._linear:Linear": "Linear",
    "varpro._compress:Compressed": "Compressed",
    "varpro._stats:Blocks": "CovarianceBlocks",
    "varpro._joint:Optimum": "Optimum",
    "varpro._fit_result:FitResult": "FitResult",
    "varpro._compressed_fit:Amplitudes": "Amplitudes",
    "varpro._dmd_columns:Spectrum": "DmdSpectrum",
    "varpro._dmd_result:Errors": "DmdErrors",
    "varpro._dmd_bags:DmdBags": "DmdBags",
}
# Fields that have another name today, by the word of their class.
_FIELDS = {
    "CovarianceBlocks": {
        "gain": "sensitivity",
        "null_theta": "null_alpha",
        "unit_theta": "unit_alpha",
        "lost_theta": "lost_alpha",
    },
    "Optimum": {"theta": "alpha"},
    "DmdResult": {"theta": "alpha"},
}


def as_format_2(state: dict[str, Any]) -> dict[str, Any]:
    """What `store.save` would write today for the same fit."""
    kind = state.get("kind", "FitResult")
    return state | {"kind": kind, "fields": _renamed(kind, _classes(state["fields"]))}


def _classes(code: Any) -> Any:
    if isinstance(code, list):
        return [_classes(part) for part in code]
    if not isinstance(code, dict):
        return code
    code = {key: _classes(value) for key, value in code.items()}
    if "$object" not in code:
        return code
    path = str(code["$object"])
    word = _CLASSES[path] if path in _CLASSES else path.removeprefix("varpro.basis:")
    return code | {"$object": word, "fields": _renamed(word, code["fields"])}


def _renamed(word: str, fields: dict[str, Any]) -> dict[str, Any]:
    names = _FIELDS.get(word, {})
    return {names.get(key, key): value for key, value in fields.items()}
