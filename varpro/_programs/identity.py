"""The name of a program among those of other processes: a digest of all that it was made of.

That is the function, every object among its arguments by class and fields, the shapes of arrays, versions,
the compiler's options, the processor, and the settings of JAX that tracing looks at. An argument that
is not wholly made of what varpro and its own packages define, such as a function of the user's, has no such
text; then what it was traced to takes its place.
"""

import dataclasses
import functools
import hashlib
import os
import platform
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

_PACKAGES = ("jax", "jaxlib", "equinox", "lineax", "optimistix", "numpy")
_OURS = {"varpro", "builtins", *_PACKAGES}
_SETTINGS = (
    *("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion"),
    *("jax_numpy_rank_promotion", "jax_debug_nans", "jax_default_prng_impl", "jax_default_device"),
)


def settings() -> tuple[Any, ...]:
    """The settings of JAX on which a program depends."""
    config = jax.config
    return tuple([getattr(config, key, None) for key in _SETTINGS])


def of_call(function: Callable[..., Any], args: tuple[Any, ...], options: Any) -> str | None:
    """The name of the program of a call; None where something in it has no text."""
    try:
        text = [
            _versions(),
            _code(),
            str(options),
            str(settings()),
            _path(function),
            _described(args),
        ]
    except _Foreign:
        return None
    return _digest("\n".join(text))


def of_text(traced: str, options: Any) -> str | None:
    """The name of a traced program; None for one that calls back into this process."""
    return None if "callback" in traced else _digest("\n".join([_versions(), str(options), traced]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _versions() -> str:
    import importlib.metadata  # as long as a third of varpro

    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    flags = os.environ.get("XLA_FLAGS", "")
    return " ".join([*versions, platform.python_version(), _processor(), flags])


def _processor() -> str:
    """What tells processors apart: compiled code is for one set of instructions."""
    about = [platform.machine(), platform.processor()]
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            wanted = ("flags", "Features", "model name", "CPU implementer", "CPU part")
            for line in lines:
                if line.startswith(wanted):
                    about.append(line.strip())
                if not line.strip():
                    break  # the next processor
    except OSError:
        pass
    return _digest(" ".join(about))


@functools.cache
def _code() -> str:
    """The state of varpro's own files: a program of other code is another program."""
    root = Path(__file__).parents[1]
    files = sorted((path, path.stat()) for path in root.rglob("*.py") if path.parent.name != "app")
    text = "".join(f"{path.relative_to(root)} {s.st_size} {s.st_mtime_ns}\n" for path, s in files)
    return _digest(text)


class _Foreign(Exception):
    """A value that no text describes for good."""


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
