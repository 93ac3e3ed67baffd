"""Programs that another process traced: a fit of the same model and shape need not be traced again.

To trace and lower the program of a fit takes longer than everything else in it. `keep_programs` names
a store of bytes in which they are kept between processes; without one nothing here has an effect.

A program is found by a text that names all that it was traced from: the function, every object among
its arguments by class and fields, the shapes of arrays, versions, and the settings of JAX that tracing
looks at. An argument that is not wholly made of what varpro and its own packages define, such as a
function of the user's, has no such text, and the program is traced as ever. What a store returns is
data: a module of StableHLO (`jax.export`) and the structure of the result as JSON. No pickle is read,
and whatever cannot be read is traced anew.
"""

import contextlib
import contextvars
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import operator
import types
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.core
import numpy as np

_OURS = {"varpro", "jax", "jaxlib", "equinox", "lineax", "optimistix", "numpy", "builtins"}
_PACKAGES = ("varpro", "jax", "jaxlib", "equinox", "lineax", "optimistix", "numpy")
_SETTINGS = (
    *("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion"),
    *("jax_numpy_rank_promotion", "jax_debug_nans", "jax_default_prng_impl"),
)
# Kernels of jaxlib without a promise across its versions: ours are read by the version that wrote them.
_KERNELS = [
    f"lapack_{letter}{name}_ffi"
    for letter in "sdcz"
    for name in ("ormqr", "unmqr", "geqp3", "gtsv", "sysv")
]


@runtime_checkable
class Store(Protocol):
    """Where programs are kept, by name: what `get` returns is what `put` was given, or None."""

    def get(self, name: str) -> bytes | None: ...

    def put(self, name: str, content: bytes) -> None: ...


@dataclasses.dataclass(frozen=True)
class _Shelf:
    """A store, what names this installation in it, and the programs of this process."""

    store: Store
    about: str
    loaded: dict[str, Any]


_SHELF: contextvars.ContextVar[_Shelf | None] = contextvars.ContextVar("varpro", default=None)


@contextlib.contextmanager
def keep_programs(store: Store, about: str = "") -> Iterator[None]:
    """Within this context, fits look for their programs in a store and leave new ones there.

    **Arguments:**

    - `store`: has `get(name) -> bytes | None` and `put(name, content)`. It vouches for what it
      returns: a program is code.
    - `about`: what else tells programs apart, such as the state of a work tree.
    """
    if importlib.util.find_spec("flatbuffers") is None:  # jax.export writes with it
        yield
        return
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    token = _SHELF.set(_Shelf(store, " ".join([*versions, about]), {}))
    try:
        yield
    finally:
        _SHELF.reset(token)


def cached_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """`eqx.filter_jit`, for functions whose programs are worth keeping."""
    jitted = eqx.filter_jit(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        shelf = _SHELF.get()
        if shelf is None or jax.default_backend() != "cpu":
            return jitted(*args)
        dynamic, static = eqx.partition(args, eqx.is_array)
        leaves, treedef = jax.tree.flatten(dynamic)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return jitted(*args)
        try:
            text = "\n".join([shelf.about, _settings(), _path(function), _described(args)])
        except _Foreign:
            return jitted(*args)
        name = hashlib.sha256(text.encode()).hexdigest()
        program = shelf.loaded.get(name) or _found(shelf.store, name)
        if program is None:
            program = _traced(function, leaves, treedef, static)
            if program is None:
                return jitted(*args)
            shelf.store.put(name, program.content())
        shelf.loaded[name] = program
        return program(leaves)

    call.jitted = jitted  # pyright: ignore[reportAttributeAccessIssue]
    return call


class _Program:
    """A function of arrays, and the structure of what it returns."""

    def __init__(self, exported: Any, structure: Any):
        self.exported, self.structure = exported, structure
        self.jitted = jax.jit(exported.call)

    def __call__(self, leaves: list[Any]) -> Any:
        return _rebuilt(self.structure, list(self.jitted(*leaves)))

    def content(self) -> bytes:
        return json.dumps(self.structure).encode() + b"\n" + bytes(self.exported.serialize())


def _traced(function: Any, leaves: list[Any], treedef: Any, static: Any) -> _Program | None:
    """The program of a function, and None where it cannot be exported."""
    import jax.export

    structures: list[Any] = []

    def flat(*leaves: Any) -> list[Any]:
        result = function(*eqx.combine(jax.tree.unflatten(treedef, leaves), static))
        arrays: list[Any] = []
        structures.append(_structure(result, arrays))
        return arrays

    checks = [jax.export.DisabledSafetyCheck.custom_call(name) for name in _KERNELS]
    try:
        export = jax.export.export(jax.jit(flat), platforms=["cpu"], disabled_checks=checks)
        exported = export(*leaves)
        exported.serialize()
    except (_Foreign, ValueError, NotImplementedError, ImportError):
        return None
    return _Program(exported, structures[0])


def _found(store: Store, name: str) -> _Program | None:
    content = store.get(name)
    if content is None:
        return None
    import jax.export

    try:
        head, _, body = content.partition(b"\n")
        return _Program(jax.export.deserialize(bytearray(body)), json.loads(head))
    except Exception:  # whatever the reader makes of foreign bytes
        return None


class _Foreign(Exception):
    """A value that no text describes for good."""


def _settings() -> str:
    return " ".join(f"{key}={getattr(jax.config, key, None)}" for key in _SETTINGS)


def _path(value: Any) -> str:
    """`module:name` of a class or function that the versions of our packages determine."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if str(module).partition(".")[0] not in _OURS or not name or "<" in name:
        raise _Foreign
    return f"{module}:{name}"


def _described(value: Any) -> str:
    """All that a program may depend on of an argument; of arrays type and shape."""
    if value is None or isinstance(value, bool | int | float | complex | str | np.dtype):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        weak = getattr(value, "weak_type", False)
        return f"{'weak ' if weak else ''}array {value.dtype} {value.shape}"
    if isinstance(value, dict):
        pairs = (f"{_described(k)}: {_described(v)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, tuple | list | frozenset):
        parts = [_described(v) for v in value]
        parts = sorted(parts) if isinstance(value, frozenset) else parts
        return f"{_path(type(value))}[{', '.join(parts)}]"
    if isinstance(value, functools.partial):
        return f"partial[{_described((value.func, value.args, value.keywords))}]"
    if isinstance(value, type):
        return _path(value)
    if isinstance(value, eqx.Module):
        # Whoever takes a class of ours as a base can change everything.
        fields = [(f.name, _given(value, f.name)) for f in dataclasses.fields(value)]
        field_text = ", ".join(f"{key}={text}" for key, text in fields)
        return f"{_path(type(value))}({field_text})"
    if isinstance(value, types.FunctionType) and value.__closure__ is None:
        return _path(value)
    raise _Foreign


def _given(value: Any, name: str) -> str:
    return _described(getattr(value, name)) if hasattr(value, name) else "unset"


def _structure(value: Any, arrays: list[Any]) -> Any:
    """A result as JSON, with its arrays by number."""
    if eqx.is_array(value):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    if type(value) is dict:
        return {"dict": [[key, _structure(v, arrays)] for key, v in value.items()]}
    if type(value) in (tuple, list):
        return {type(value).__name__: [_structure(v, arrays) for v in value]}
    if isinstance(value, eqx.Module) and _path(type(value)).startswith("varpro."):
        fields = [f.name for f in dataclasses.fields(value) if hasattr(value, f.name)]
        parts = [[name, _structure(getattr(value, name), arrays)] for name in fields]
        return {"module": _path(type(value)), "fields": parts}
    raise _Foreign


def _rebuilt(code: Any, arrays: list[Any]) -> Any:
    if "array" in code:
        return arrays[code["array"]]
    if "value" in code:
        return code["value"]
    if "dict" in code:
        return {key: _rebuilt(v, arrays) for key, v in code["dict"]}
    for kind in (tuple, list):
        if kind.__name__ in code:
            return kind(_rebuilt(v, arrays) for v in code[kind.__name__])
    module, _, name = code["module"].partition(":")
    result_class = None
    if module.startswith("varpro._"):
        result_class = operator.attrgetter(name)(importlib.import_module(module))
    if not (isinstance(result_class, type) and issubclass(result_class, eqx.Module)):
        raise ValueError(f"{code['module']} is no result of ours")
    instance = object.__new__(result_class)
    for key, value in code["fields"]:
        object.__setattr__(instance, key, _rebuilt(value, arrays))
    return instance
