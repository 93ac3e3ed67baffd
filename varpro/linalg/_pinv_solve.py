"""The differentiable pseudoinverse solve."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Inexact, Num

from ._derivative import solve
from ._factor import AbstractPinvSolver
from ._qr import QR


def pinv_solve(
    a: Num[ArrayLike, "..."], b: Num[ArrayLike, "..."], solver: AbstractPinvSolver | None = None
) -> Inexact[Array, "n *k"]:
    """`c = A^+ b`, the least-squares solution of least norm, differentiable to any order.

    `c' = A^+ (b' - A' c) + (A^H A)^+ A'^H r + (I - A^+ A) A'^H A^{+H} c` with `r = b - A c`, at
    constant rank. Value and derivatives of every order share one factorisation.

    **Arguments:**

    - `a`: matrix (m, n), real or complex. For a batch of matrices use `jax.vmap`.
    - `b`: right-hand side (m,) or several (m, k).
    - `solver`: `QR()` by default.

    **Returns:** the solution (n,) or (n, k). NaN in gives NaN out.

    **Raises:** `ValueError` if the shapes do not fit.

    Reference: Golub & Pereyra (1973), The differentiation of pseudo-inverses and nonlinear least
    squares problems whose variables separate.
    """
    a, columns = prepared(a, b)
    factor = (QR() if solver is None else solver).factor(jax.lax.stop_gradient(a))
    coef, _ = solve(factor, a, columns)
    return coef[:, 0] if jnp.ndim(b) == 1 else coef


def prepared(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Both in one inexact dtype, b with columns."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.ndim != 2 or b.ndim not in (1, 2) or b.shape[0] != a.shape[0]:
        raise ValueError(
            "Expected a matrix (m, n) and a right-hand side (m,) or (m, k), but got shapes "
            f"{a.shape} and {b.shape}."
        )
    dtype = jnp.result_type(a, b)
    if not jnp.issubdtype(dtype, jnp.inexact):
        dtype = jnp.result_type(float)
    return a.astype(dtype), (b[:, None] if b.ndim == 1 else b).astype(dtype)
