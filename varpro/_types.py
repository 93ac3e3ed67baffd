"""Shape letters, the same everywhere.

m samples, n basis columns, p free nonlinear parameters, q all nonlinear parameters, k right-hand
sides. `phi` (m n), `alpha` (p), `y` (m k), `coef` (n k), `resid` (m k). A batch axis is never
written: batches go through `jax.vmap`.
"""

import contextlib
from typing import TypeAlias

import jax
import numpy as np
from jaxtyping import Array

# What compiled programs take: host arrays become JAX's on the way in.
ArrayIn: TypeAlias = Array | np.ndarray


def precision(dtype: np.dtype) -> contextlib.AbstractContextManager:
    """A context in which JAX computes with numbers of this real type.

    float64 data are computed in float64 whatever JAX's global setting is, and nobody else's setting
    changes.
    """
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()
