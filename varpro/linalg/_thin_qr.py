"""QR of few columns without LAPACK, for densities that are evaluated many thousand times in lanes.

LAPACK is called once for each matrix of a batch, and so are its triangular solves, which for few columns costs many times
the arithmetic. Here every step is elementwise or a sum, which XLA joins and vectorises, derivatives included.
"""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular as _solve
from jaxtyping import Array, Inexact

_FEW = 8


def thin_qr(
    a: Inexact[Array, "m n"],
) -> tuple[Inexact[Array, "m r"], Inexact[Array, "r n"]]:
    """Q and R, the diagonal of R real and not negative up to eight columns: by Gram-Schmidt, every column twice (Giraud,
    Langou and Rozloznik, Comput. Math. Appl. 50, 2005). There a column that is nothing but rounding beside those before
    it is zero in Q, and so is its place on the diagonal."""
    m, n = a.shape
    if not 0 < n <= min(_FEW, m):
        q, r = jnp.linalg.qr(a)
        return q, r
    # Squares neither overflow nor underflow after this.
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(a), axis=0))
    size = jnp.where((size > 0) & jnp.isfinite(size), size, jnp.ones_like(size))
    scaled, least = a / size, 8 * m * float(jnp.finfo(a.dtype).eps)
    q, columns = a[:, :0], []
    for j in range(n):
        v, above = scaled[:, j], jnp.zeros(j, a.dtype)
        whole = jnp.sum(jnp.abs(v) ** 2)
        for _ in range(2 if j else 0):
            part = jnp.sum(q.conj() * v[:, None], axis=0)
            v, above = v - jnp.sum(q * part, axis=1), above + part
        left = jnp.sum(jnp.abs(v) ** 2)
        kept = ~(left <= least**2 * whole)  # NaN is kept
        norm = jnp.sqrt(jnp.where(kept, left, jnp.ones_like(left)))
        q = jnp.concatenate([q, jnp.where(kept, v / norm, jnp.zeros_like(v))[:, None]], axis=1)
        end = jnp.where(kept, norm, jnp.zeros_like(norm)).astype(a.dtype)[None]
        columns.append(jnp.concatenate([above, end, jnp.zeros(n - j - 1, a.dtype)]))
    return q, jnp.stack(columns, axis=1) * size.astype(a.dtype)


def solve_upper(r: Inexact[Array, "n n"], b: Inexact[Array, "n k"]) -> Inexact[Array, "n k"]:
    """`R^-1 b`, of an upper triangle."""
    n = r.shape[0]
    if not 0 < n <= _FEW:
        return _solve(r, b)
    found: list[Array] = []
    for i in reversed(range(n)):
        known = sum((r[i, i + 1 + j] * x for j, x in enumerate(found)), jnp.zeros_like(b[i]))
        found.insert(0, (b[i] - known) / r[i, i])
    return jnp.stack(found)
