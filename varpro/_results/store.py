"""A fit as a NetCDF file that reads back bit by bit, and that other programs read too.

The file holds the dataset of `varpro._results.dataset.record`, every further array, and one text, `varpro_state`:
all fields as JSON, in which an array is the name of a variable and an object is its class and
fields. Nothing is pickled and no code is stored: a class of varpro is a word of `class_names`, and
what a function or class of the user's is called is written down as `module:name`, to be imported only
on request. A digest over all of it tells a damaged file from a whole one.
"""

import dataclasses
import hashlib
import importlib
import json
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._errors import InputError, needed
from .class_names import class_of, is_ours, word_of
from .dataset import axes, record
from .format_1 import as_format_2
from .netcdf import Contents

FORMAT = 2
_STATE = "varpro_state"
# Fields that are variables of the dataset under a name that says more.
_NAMES = {
    **{"alpha": "value", "alpha_stderr": "stderr", "y": "data", "weights": "weight"},
    **{name: name for name in ("coef", "coef_stderr", "fitted", "covariance")},
}


class ForeignCode(Exception):
    """A saved fit needs code that is not varpro's; `path` says which."""

    def __init__(self, path: str):
        super().__init__(path)
        self.path = path


def save(fit: Any, path: str | os.PathLike[str], content: Contents | None = None) -> None:
    """Write a fit; the file appears whole or not at all.

    `content` is that by which other programs know it, `record(fit)` if it is not given.
    """
    known = dict(_NAMES) if content is None else {}
    content, arrays = record(fit) if content is None else content, {}
    state: dict[str, object] = {}
    for field in dataclasses.fields(fit):
        value = getattr(fit, field.name)
        if field.name == "x":
            arrays |= dict(axes(value))
            leaves = iter([{"$array": name} for name, _ in axes(value)])
            value = jax.tree.map(lambda _, it=leaves: _Coded(next(it)), value)
        state[field.name] = _encode(value, arrays, known.get(field.name, f"state_{field.name}"))
    described = {name: [str(a.dtype), list(a.shape)] for name, a in arrays.items()}
    kind = type(fit).__name__
    whole = {"format": FORMAT, "kind": kind, "fields": state, "arrays": described}
    text = json.dumps(whole, ensure_ascii=False)
    for name, array in arrays.items():
        if name not in content.variables and name not in content.coords:
            dims = tuple(f"{name}_{i}" for i in range(array.ndim))
            content.variables[name] = (dims, array)
    content.variables[_STATE] = ((), np.array(text, dtype=object))
    import importlib.metadata

    content.attrs["varpro_version"] = importlib.metadata.version("varpro")
    content.attrs["varpro_digest"] = _digest(text, arrays)
    content.write(path)


def read(path: str | os.PathLike[str], *, model: bool, trust: bool) -> tuple[str, dict[str, Any]]:
    """The class of a saved fit by name, and its fields; where the caller has his own model (`model=True`),
    `origins` in place of that, from which columns count, by name.

    **Raises:** `InputError` for what is no whole saved fit; `ForeignCode`.
    """
    text, arrays = _read(Path(path))
    try:
        state = json.loads(text)
        if state["format"] == 1:
            state = as_format_2(state)
        fields = state["fields"]
        origins = _origins(fields.get("model"), arrays)
        if model:
            fields = {key: value for key, value in fields.items() if key != "model"}
        values = {key: _decode(value, arrays, trust) for key, value in fields.items()}
        values |= {"origins": origins} if model else {}
        return state["kind"], values
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: was not written by this version of varpro ({error!r})."
        ) from error


def _origins(code: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The origins of the columns of a stored model that have one, by name."""
    origins, first = {}, 0
    for group in code["fields"]["groups"]["$tuple"] if code else ():
        group = group["fields"]
        origin = group["formula"]["fields"].get("origin")
        names = code["fields"]["columns"]["$tuple"][first : first + group["width"]]
        if isinstance(origin, dict) and "$array" in origin:
            origins |= dict.fromkeys(names, arrays[origin["$array"]])
        first += group["width"]
    return origins


class _Coded:
    """JSON that stands for a value already."""

    def __init__(self, code: object):
        self.code = code


def _encode(value: object, arrays: dict[str, np.ndarray], name: str) -> object:
    """A value as JSON; its arrays go to `arrays`, under `name` or one made from it."""
    if isinstance(value, _Coded):
        return value.code
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, complex):
        return {"$complex": [value.real, value.imag]}
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        key = name if name not in arrays else f"{name}_{len(arrays)}"
        arrays[key] = array
        return {"$array": key}
    if isinstance(value, np.dtype):
        return {"$dtype": str(value)}
    if isinstance(value, Mapping):
        pairs = [[str(k), _encode(v, arrays, f"{name}_{k}")] for k, v in value.items()]
        return {"$dict": pairs}
    if isinstance(value, tuple | list):
        kind = "$tuple" if isinstance(value, tuple) else "$list"
        return {kind: [_encode(v, arrays, name) for v in value]}
    if isinstance(value, eqx.Module):
        # What does not count in comparisons belongs to the running program.
        some = [f.name for f in dataclasses.fields(value) if f.compare]
        fields = {name: getattr(value, name) for name in some}
        coded = {key: _encode(v, arrays, f"{name}_{key}") for key, v in fields.items()}
        return {"$object": _name_of(type(value)), "fields": coded}
    if callable(value):
        return {"$function": _path_of(value)}
    raise InputError(
        f"save cannot store '{name}', of type {type(value).__name__}. Keep numbers, texts, arrays, "
        "functions and equinox modules in a basis."
    )


def _path_of(value: object) -> str:
    """`module:name` of a class or function."""
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{getattr(value, '__module__', '?')}:{name}"


def _name_of(kind: type[Any]) -> str:
    """The word of a class of varpro, `module:name` of a class of the user's."""
    path = _path_of(kind)
    if not is_ours(path):
        return path
    word = word_of(kind)
    if word is None:
        raise InputError(f"save cannot store a {kind.__name__} of varpro: it has no name in files.")
    return word


def _decode(code: Any, arrays: Mapping[str, np.ndarray], trust: bool) -> Any:
    if not isinstance(code, dict):
        return code
    if "$array" in code:
        return arrays[code["$array"]]
    if "$complex" in code:
        return complex(*code["$complex"])
    if "$dtype" in code:
        return np.dtype(code["$dtype"])
    if "$dict" in code:
        return {key: _decode(value, arrays, trust) for key, value in code["$dict"]}
    if "$tuple" in code:
        return tuple(_decode(value, arrays, trust) for value in code["$tuple"])
    if "$list" in code:
        return [_decode(value, arrays, trust) for value in code["$list"]]
    if "$function" in code:
        return _import(code["$function"], trust)
    kind = _class(code["$object"], trust)
    fields = {key: _decode(value, arrays, trust) for key, value in code["fields"].items()}
    # A field that came after the file was written has the value that stood for all before it was there.
    for field in dataclasses.fields(kind):
        if field.name in fields:
            continue
        if field.default is not dataclasses.MISSING:
            fields[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            fields[field.name] = field.default_factory()
    if set(fields) != {f.name for f in dataclasses.fields(kind)}:
        raise ValueError(f"{kind.__name__} with the fields {sorted(fields)}")
    # As unpickling does: what was valid when it was made needs no checks, and no code runs.
    instance = object.__new__(kind)
    for key, value in fields.items():
        object.__setattr__(instance, key, value)
    return instance


def _class(path: str, trust: bool) -> type[Any]:
    """A class of varpro, or of the user where that is trusted; always a module of equinox."""
    if ":" in path and is_ours(path):
        raise ValueError(f"no class {path}")
    kind = _import(path, trust) if ":" in path else class_of(path)
    if not (isinstance(kind, type) and issubclass(kind, eqx.Module)):
        raise ValueError(f"{path} is no basis")
    return kind


def _import(path: str, trust: bool) -> Any:
    if not trust:
        raise ForeignCode(path)
    module, _, name = path.partition(":")
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise ForeignCode(path) from error


def _read(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """The text and the arrays of a file, if they are what was written."""
    h5py = needed("h5py", "load")
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    try:
        with h5py.File(path, "r") as file:
            if _STATE not in file:
                raise InputError(f"{path}: not a saved fit; 'fit.save' writes those.")
            text = _own(h5py, file, _STATE).asstr()[()]
            state = json.loads(text)
            if state["format"] not in range(1, FORMAT + 1):
                raise InputError(
                    f"{path}: has format {state['format']}, but this varpro reads 1 to {FORMAT}."
                )
            arrays = {}
            for name, (dtype, shape) in state["arrays"].items():
                arrays[name] = _array(h5py, file, name, np.dtype(dtype), tuple(shape))
            digest = file.attrs["varpro_digest"]
    except InputError:
        raise
    except Exception as error:  # whatever HDF5 makes of a damaged file
        raise InputError(f"{path}: damaged, or no saved fit ({error}).") from error
    if digest != _digest(text, arrays):
        raise InputError(f"{path}: damaged: its numbers are not those that were saved.")
    return text, arrays


def _own(h5py: Any, file: Any, name: str) -> Any:
    """An array of which every number stands in this file, as `save` writes them: HDF5 can keep it in any
    other file, and can announce gigabytes that are not there."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"'{name}' is a link")
    array = file[name]
    if array.external or array.is_virtual:
        raise ValueError(f"'{name}' is kept in another file")
    if array.id.get_storage_size() < array.size * array.dtype.itemsize:
        raise ValueError(f"'{name}' is not stored in full")
    return array


def _array(h5py: Any, file: Any, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if 0 in shape:
        return np.zeros(shape, dtype)
    stored = _own(h5py, file, name)
    raw = stored.asstr()[()] if dtype.kind in "US" else stored[()]
    if dtype.kind == "c":
        # A sum with an imaginary unit would lose negative zeros and infinities.
        pair = raw
        raw = np.empty(pair.shape[:-1], np.result_type(pair, np.complex64))
        raw.real, raw.imag = pair[..., 0], pair[..., 1]
    return np.ascontiguousarray(raw).astype(dtype).reshape(shape)


def _digest(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
