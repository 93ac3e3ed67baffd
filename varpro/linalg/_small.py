"""Factors of narrow matrices in unrolled arithmetic, for batches of small problems.

LAPACK is called once for each matrix of a batch; for a handful of columns the call costs more than
its work. Here every step is elementwise or a sum, so `vmap` runs the whole batch in each step.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact

from ._factor import AbstractFactor, AbstractPinvSolver, adjoint
from ._frames import TwoSided, cutoff, rank_and_cond

_LIMIT = 8


class Small(AbstractPinvSolver):
    """Gram-Schmidt with reorthogonalisation, unrolled, for at most 8 columns (or rows, if wide).

    `A = Q R` by columns, then `R^H = Z S` from the last column to the first, so that
    `A = Q S^H Z^H` with a triangular S^H. At full column rank R is a triangle already and Z comes
    out diagonal, exactly: the result then does not depend on the units of the columns.

    **Arguments:**

    - `rcond`: a column counts as dependent on those before it if what is left of it is at or below
        `rcond` times the norm of that column; `max(m, n) * eps` by default.

    **Raises:** `ValueError` in `factor`, if both sides of the matrix exceed 8.

    Reference: Giraud, Langou and Rozloznik (2005), on orthogonalising twice.
    """

    rcond: float | None = None

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        m, n = a.shape
        if min(m, n) > _LIMIT:
            raise ValueError(
                f"Small() takes at most {_LIMIT} columns, or rows if the matrix is wide, but got "
                f"a matrix with min(m, n) = {min(m, n)}, n = {n}. Use QR() or SVD()."
            )
        tall = a if m >= n else adjoint(a)
        q, r, mask = _gram_schmidt(tall, cutoff(a, self.rcond), backward=False)
        sizes = jnp.abs(jnp.diagonal(r))
        z, s, _ = _gram_schmidt(adjoint(jnp.where(mask[:, None], r, 0)), 0.0, backward=True)
        rank, cond = rank_and_cond(sizes, mask)
        if m >= n:
            return TwoSided(q, adjoint(s), z, rank, cond, _upper)
        return TwoSided(z, s, q, rank, cond, _lower)


def _gram_schmidt(
    a: Inexact[Array, "m n"], rcond: float, *, backward: bool
) -> tuple[Inexact[Array, "m n"], Inexact[Array, "n n"], Bool[Array, " n"]]:
    """`A = Q R` and which columns are independent; of the others Q is zero and R_jj is one.

    R is upper triangular, or lower triangular if the columns are taken backward.
    """
    n = a.shape[1]
    q: dict[int, Array] = {}
    r = [[jnp.zeros((), a.dtype)] * n for _ in range(n)]
    mask = [jnp.array(False)] * n
    for j in reversed(range(n)) if backward else range(n):
        # Powers of a unit would overflow in the norm; a column of zeros is left alone.
        unit = jnp.max(jnp.abs(a[:, j]))
        unit = jnp.where(unit == 0, 1, unit)
        v = a[:, j] / unit
        before = _norm(v)
        # Once leaves a nearly dependent column far from orthogonal; twice is enough.
        for _ in range(2):
            for i, qi in q.items():
                part = jnp.sum(qi.conj() * v)
                v = v - part * qi
                r[i][j] = r[i][j] + part * unit
        after = _norm(v)
        mask[j] = ~(after <= rcond * before)
        q[j] = jnp.where(mask[j], v / jnp.where(mask[j], after, 1), 0)
        r[j][j] = jnp.where(mask[j], after * unit, 1).astype(a.dtype)
    if n == 0:
        return a, jnp.zeros((0, 0), a.dtype), jnp.zeros(0, bool)
    columns = jnp.stack([q[j] for j in range(n)], axis=1)
    return columns, jnp.stack([jnp.stack(row) for row in r]), jnp.stack(mask)


def _norm(v: Inexact[Array, " m"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum((v * v.conj()).real))


def _substitute(t: Array, b: Array, trans: str, *, lower: bool) -> Array:
    t = {"N": t, "T": t.T, "C": adjoint(t)}[trans]
    lower ^= trans != "N"
    x: dict[int, Array] = {}
    for i in range(len(t)) if lower else reversed(range(len(t))):
        x[i] = (b[i] - sum((t[i, j] * x[j] for j in x), jnp.zeros_like(b[i]))) / t[i, i]
    return jnp.stack([x[i] for i in range(len(t))]) if x else b


def _upper(t: Array, b: Array, trans: str) -> Array:
    return _substitute(t, b, trans, lower=False)


def _lower(t: Array, b: Array, trans: str) -> Array:
    return _substitute(t, b, trans, lower=True)
