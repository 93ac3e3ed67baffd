"""Functions of pytrees as compiled programs: the one place where varpro compiles.

A program is of one function, one structure of its arguments with all that is not an array in it, and one
shape and type of every array. The most recent ones are kept in memory, for each holds hundreds of memory
maps, of which a process has 65,530; and on disk (`folder`), where other processes find them.
"""

import collections
import functools
import threading
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.core
import jax.extend.core
import numpy as np

from . import compiler, folder, identity

P = ParamSpec("P")
R = TypeVar("R")

# Programs of one process, those used last: each holds 13 MB and 280 maps, an optimised one more.
MOST = 24

_Key = tuple[Any, ...]

with jax.core.eval_context():
    _NOT_TRACING = jax.extend.core.get_opaque_trace_state()


class _Recent:
    """Programs by key, those used last; `made` counts all that there were."""

    def __init__(self) -> None:
        self.made = 0
        self._programs: collections.OrderedDict[_Key, _Program] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> "_Program | None":
        with self._lock:
            found = self._programs.get(key)
            if found is not None:
                self._programs.move_to_end(key)
            return found

    def put(self, key: _Key, program: "_Program") -> None:
        with self._lock:
            self._programs[key] = program
            self.made += 1
            while len(self._programs) > MOST:
                self._programs.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._programs.clear()

    def __len__(self) -> int:
        return len(self._programs)


RECENT = _Recent()


class _Program:
    """An executable of flat lists of arrays, and the structure of what it returns, with numbers in
    place of its arrays."""

    def __init__(self, executable: jax.stages.Compiled, skeleton: Any):
        self.executable = executable
        leaves, self._structure = jax.tree.flatten(skeleton, is_leaf=_is_place)
        self._others = [None if _is_place(leaf) else leaf for leaf in leaves]
        self._places = [(i, leaf.number) for i, leaf in enumerate(leaves) if _is_place(leaf)]

    def __call__(self, arrays: list[Any], host: bool = False) -> Any:
        found = self.executable(*arrays)
        if host:
            found = [np.asarray(array) for array in found]
        leaves = list(self._others)
        for i, number in self._places:
            leaves[i] = found[number]
        return jax.tree.unflatten(self._structure, leaves)


def _is_place(leaf: Any) -> bool:
    return isinstance(leaf, folder.Place)


class Jitted(Generic[P, R]):
    """A function that runs compiled; see `program`."""

    def __init__(self, function: Callable[P, R], entries: Callable[P, float] | None):
        functools.update_wrapper(self, function)
        self.function, self.entries = function, entries
        self.inside = eqx.filter_jit(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        assert not kwargs, "programs are called with arguments in their order"
        return self._result(args, False)

    def on_host(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What a call returns, as arrays of NumPy; not under transformations."""
        assert not kwargs, "programs are called with arguments in their order"
        return self._result(args, True)

    def _result(self, args: tuple[Any, ...], host: bool) -> Any:
        # A function among the arguments may hold numbers of a transformation that is under way.
        if jax.extend.core.get_opaque_trace_state() != _NOT_TRACING:
            return self.inside(*args)
        leaves, treedef = jax.tree.flatten(args)
        arrays, others, about = [], [], []
        for leaf in leaves:
            if isinstance(leaf, np.ndarray | np.generic):
                arrays.append(leaf)
                about.append((leaf.shape, leaf.dtype))
                others.append(_ARRAY)
            elif isinstance(leaf, jax.Array):
                if isinstance(leaf, jax.core.Tracer) or len(leaf.sharding.device_set) > 1:
                    return self.inside(*args)
                arrays.append(leaf)
                weak = getattr(leaf, "weak_type", False)  # random keys have none
                about.append((leaf.shape, leaf.dtype, weak, leaf.device))
                others.append(_ARRAY)
            else:
                others.append(leaf)
        full = compiler.asked_in_full()
        kinds = tuple(map(type, others))
        key = (self, treedef, tuple(others), kinds, tuple(about), identity.settings(), full)
        try:
            found = RECENT.get(key)
        except TypeError:  # something that has no hash: equinox says what
            return self.inside(*args)
        if found is None:
            found, result = self._made(args, arrays, treedef, others, full)
            RECENT.put(key, found)
            return jax.device_get(result) if host else result
        return found(arrays, host)

    def lower(self, *args: P.args, **kwargs: P.kwargs) -> jax.stages.Lowered:
        """The program of these arguments before it is compiled."""
        leaves, treedef = jax.tree.flatten(args)
        others = [_ARRAY if eqx.is_array(leaf) else leaf for leaf in leaves]
        arrays = [leaf for leaf in leaves if eqx.is_array(leaf)]
        return self._lowered(arrays, treedef, others)[0]

    def flat(self, treedef: Any, others: list[Any]) -> tuple[Callable[..., list[Any]], list[Any]]:
        """The function of arrays alone, and a list to which every trace of it adds the structure of
        the result."""
        skeletons: list[Any] = []

        def flat(*arrays: Any) -> list[Any]:
            given = iter(arrays)
            leaves = [next(given) if other is _ARRAY else other for other in others]
            result = self.function(*jax.tree.unflatten(treedef, leaves))
            dynamic, static = eqx.partition(result, eqx.is_array)
            found, structure = jax.tree.flatten(dynamic)
            places = jax.tree.unflatten(structure, map(folder.Place, range(len(found))))
            skeletons.append(eqx.combine(places, static, is_leaf=_is_place))
            return found

        flat.__name__ = flat.__qualname__ = self.function.__name__
        return flat, skeletons

    def _lowered(self, arrays, treedef, others) -> tuple[jax.stages.Lowered, Any]:
        flat, skeletons = self.flat(treedef, others)
        lowered = jax.jit(flat).lower(*arrays)
        return lowered, skeletons[0]

    def _made(self, args, arrays, treedef, others, full) -> tuple["_Program", Any]:
        """The program, and what it returns this time."""
        entries = _size(arrays) if self.entries is None else self.entries(*args)
        options = compiler.options(entries, full)
        kept = folder.in_use() if _on_one_cpu(arrays) else None
        name = None
        if kept is not None:
            name = identity.of_call(self.function, args, options)
            if name is not None and (ready := _found(kept, name, arrays)):
                return ready
        lowered, skeleton = self._lowered(arrays, treedef, others)
        text = "" if kept is None else lowered.as_text()
        if kept is not None and name is None:
            # A function of the user's: what it was traced to is what it is.
            name = identity.of_text(text, options)
            if name is not None and (ready := _found(kept, name, arrays, skeleton)):
                return ready
        executable = compiler.compiled(lowered, options)
        # What calls back into this process is for no other one.
        if kept is not None and name is not None and "callback" not in text:
            kept.put(name, executable, skeleton, "lapack" in text)
        program = _Program(executable, skeleton)
        return program, program(arrays)


def _found(
    kept: folder.ProgramFolder, name: str, arrays: list[Any], skeleton: Any = None
) -> tuple[_Program, Any] | None:
    """A kept program that runs, and what it returns; `skeleton` of the result, where that is known."""
    found = kept.get(name, len(arrays))
    if found is None:
        return None
    program = _Program(found[0], found[1] if skeleton is None else skeleton)
    try:
        # What was made for another machine may be read, and fail where it is run.
        return program, jax.block_until_ready(program(arrays))
    except Exception:
        kept.drop(name)
        return None


class _Array:
    """Stands where an array was."""


_ARRAY = _Array()


def _size(arrays: list[Any]) -> float:
    return float(sum(np.size(array) for array in arrays))


def _on_one_cpu(arrays: list[Any]) -> bool:
    if jax.default_backend() != "cpu" or jax.local_device_count() > 1:
        return False
    first = jax.local_devices(backend="cpu")[0]
    on = {a.device for a in arrays if isinstance(a, jax.Array)}
    return on <= {first} and jax.config.jax_default_device is None  # pyright: ignore


def program(
    function: Callable[..., Any] | None = None, *, entries: Callable[..., float] | None = None
) -> Any:
    """A decorator: `function` of pytrees, traced and compiled for all that is not an array in them.

    **Arguments:**

    - `entries`: from the arguments of `function`, how many numbers of columns, derivatives and data one
        evaluation makes, which decides what is optimised (`compiler`); the numbers in all arrays by
        default.

    Under transformations of JAX it is `equinox.filter_jit`.
    """
    if function is None:
        return lambda function: Jitted(function, entries)
    return Jitted(function, entries)


def clear() -> None:
    """Forget all programs of this process."""
    RECENT.clear()
