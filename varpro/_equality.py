"""Equality of whole objects, bit by bit: arrays have no single answer to `==`."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np


def same(a: object, b: object) -> bool:
    """Whether two values are of one type and equal in every field and entry; NaN equals NaN.

    Functions are equal if they are one object, for nobody can compare what they do.
    """
    if a is b:
        return True
    if isinstance(a, jax.Array | np.ndarray) and isinstance(b, jax.Array | np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        inexact = np.issubdtype(a.dtype, np.inexact)
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=inexact)
    a, b = (v.item() if isinstance(v, np.generic) else v for v in (a, b))
    if type(a) is not type(b):
        return False
    if dataclasses.is_dataclass(a):
        names = [field.name for field in dataclasses.fields(a) if field.compare]
        return all(same(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float | complex):
        return bool(a == b) or bool(a != a and b != b)
    return bool(a == b)
