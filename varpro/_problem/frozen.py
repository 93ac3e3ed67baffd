"""Arguments as something that tells equal ones: what was made ready for them need not be made again."""

import collections
import copy
import dataclasses
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np

# Bytes of an array up to which its numbers are compared.
_MOST = 4096


T = TypeVar("T")


class Recalled:
    """The results of the last `most` calls that differ."""

    def __init__(self, most: int):
        self.most = most
        self._known: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """What was put under the key, or None."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value in place of the one that was used least recently."""
        with self._lock:
            self._known[key] = value
            while len(self._known) > self.most:
                self._known.popitem(last=False)


def recall(calls: Recalled, function: Callable[..., T], *args: Any) -> T:
    """`function(*args)`, the same object for arguments that hold the same."""
    try:
        key = tuple(map(frozen, args))
    except Unlike:
        return function(*args)
    found = calls.get(key)
    if found is None:
        # Of copies: what a caller changes later is not what was asked for.
        found = function(*copy.deepcopy(args))
        calls.put(key, found)
    return found


class Unlike(Exception):
    """A value that cannot be compared by what it holds."""


def frozen(value: Any) -> Any:
    """A hashable stand-in that equal values have in common, and only those.

    Numbers, texts, small arrays, and tuples, mappings and configuration made of them.

    **Raises:** `Unlike` for anything else, such as a function.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return type(value), value if value == value else "nan"
    if isinstance(value, Mapping):
        return "mapping", tuple((frozen(k), frozen(v)) for k, v in value.items())
    if isinstance(value, tuple | list):
        return type(value), tuple(map(frozen, value))
    if isinstance(value, np.ndarray | np.generic) and value.nbytes <= _MOST:
        if value.dtype.hasobject:
            raise Unlike
        return value.shape, value.dtype, value.tobytes()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = vars(value)
        return type(value), tuple((name, frozen(one)) for name, one in held.items())
    raise Unlike
