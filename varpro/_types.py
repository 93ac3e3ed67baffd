"""Shape letters, the same everywhere.

m samples, n basis columns, p free nonlinear parameters, q all nonlinear parameters, k right-hand
sides. `phi` (m n), `alpha` (p), `y` (m k), `coef` (n k), `resid` (m k). A batch axis is never
written: batches go through `jax.vmap`.
"""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Array

# What compiled programs take: host arrays become JAX's on the way in. Type checkers see the latter
# alone, because that is what the code inside works on.
if TYPE_CHECKING:
    ArrayIn: TypeAlias = Array
else:
    ArrayIn = Array | np.ndarray
