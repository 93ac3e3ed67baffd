"""The differentiable projection onto the complement of the range: variable projection in one function.

`lambda alpha: project_out(phi(alpha), y)[0]` is the residual that a search makes small. `varpro.fit`
computes it and its Jacobian by the same functions, for tables of derivatives and many data at once.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Inexact, Num

from ._derivative import solve
from ._factor import AbstractPinvSolver
from ._pinv_solve import prepared
from ._qr import QR


def project_out(
    a: Num[ArrayLike, "..."],
    y: Num[ArrayLike, "..."],
    solver: AbstractPinvSolver | None = None,
    jacobian: Literal["full", "kaufman"] = "full",
) -> tuple[Inexact[Array, "m *k"], Inexact[Array, "n *k"]]:
    """`r = (I - A A^+) y` and `c = A^+ y`.

    `r' = (I - A A^+)(y' - A' c) - A^{+H} A'^H r`; Kaufman (1975) drops the last term, which is
    small with the residual, from the derivative of r. The derivative of c is always exact.

    **Arguments:**

    - `a`: matrix (m, n), real or complex. For a batch of matrices use `jax.vmap`.
    - `y`: data (m,) or several columns (m, k).
    - `solver`: `QR()` by default.
    - `jacobian`: "full" (exact, default) or "kaufman".

    **Returns:** the residual, of the shape of y, and the coefficients (n,) or (n, k). NaN in gives
    NaN out.

    **Raises:** `ValueError` if the shapes do not fit or `jacobian` is neither of the two.

    Reference: Golub & Pereyra (1973); Kaufman (1975), A variable projection method for solving
    separable nonlinear least squares problems.
    """
    if jacobian not in ("full", "kaufman"):
        raise ValueError(f"jacobian must be 'full' or 'kaufman', but is {jacobian!r}.")
    a, columns = prepared(a, y)
    factor = (QR() if solver is None else solver).factor(jax.lax.stop_gradient(a))
    coef, resid = solve(factor, a, columns, kaufman=jacobian == "kaufman")
    return (resid[:, 0], coef[:, 0]) if jnp.ndim(y) == 1 else (resid, coef)
