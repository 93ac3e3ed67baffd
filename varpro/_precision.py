"""The precision of a computation, as a local setting."""

import contextlib

import jax
import numpy as np


def precision(dtype: np.dtype) -> contextlib.AbstractContextManager:
    """A context in which JAX computes with numbers of this real type.

    float64 data are computed in float64 whatever JAX's global setting is, and nobody else's setting
    changes.
    """
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()
