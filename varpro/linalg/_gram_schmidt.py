"""Few columns, many matrices: an orthogonalisation without LAPACK, for `vmap` over lanes.

LAPACK is called once per matrix, which for n <= 8 costs more than the arithmetic. Here every step
is elementwise or a sum, unrolled over the columns, so that XLA vectorises it over the batch.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact

from ._factor import AbstractFactor, AbstractPinvSolver, constant
from ._orthogonal import AbstractCore, Frame, TwoSided, cutoff, decide_rank

_LIMIT = 8


class Small(AbstractPinvSolver):
    """Pivoted Gram-Schmidt with reorthogonalisation, unrolled, for at most 8 columns: every rank.

    A complete orthogonal decomposition `A = U L V^H` as in `PivotedQR`. Made for `vmap` over many
    small problems; for a single matrix `QR` is as good.

    **Arguments:**

    - `rcond`: columns whose part outside the span of the earlier ones is at or below `rcond` times
        the largest column count as zero; `max(m, n) * eps` by default.

    **Raises:** `ValueError` for more than 8 columns.

    Reference: Giraud, Langou & Rozloznik (2005), on why reorthogonalising once is enough.
    """

    rcond: float | None = eqx.field(static=True, default=None)

    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        m, n = a.shape
        if n > _LIMIT:
            raise ValueError(
                f"Small() takes at most {_LIMIT} columns, but the matrix has shape {a.shape}. "
                "Use QR(), PivotedQR() or SVD()."
            )
        a = constant(a)
        # Squares neither overflow nor underflow after this.
        scale = jnp.max(jnp.abs(a), initial=0.0)
        scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, jnp.ones_like(scale))
        scaled = a / scale.astype(a.dtype)
        u, sizes = _pivoted_columns(scaled, min(m, n), cutoff(scale.dtype, a.shape, self.rcond))
        mask, rank, cond = decide_rank(sizes, a.shape, self.rcond)
        rows = [_dot(scaled, q) for q in u]  # row i of U^H A, conjugated
        v = []
        for i, row in enumerate(rows):
            for _ in range(2):
                for q in v:
                    row = row - q * jnp.sum(q.conj() * row)
            v.append(_unit(row, jnp.sqrt(jnp.sum(jnp.abs(row) ** 2)), mask[i]))
        lower = [
            [scale * jnp.sum(row.conj() * q) for q in v[: i + 1]] for i, row in enumerate(rows)
        ]
        for i, line in enumerate(lower):
            line[i] = jnp.where(mask[i], line[i], jnp.ones_like(line[i]))
        left, right = Frame(jnp.stack(u, axis=1)), Frame(jnp.stack(v, axis=1))
        return TwoSided(u=left, core=Unrolled(lower), v=right, rank=rank, cond=cond)


class Unrolled(AbstractCore):
    """T = L, a lower triangle as a list of lines, solved with by substitution."""

    lines: list[list[Inexact[Array, ""]]]

    def matrix(self) -> Array:
        zero = jnp.zeros_like(self.lines[0][0])
        r = len(self.lines)
        return jnp.stack([jnp.stack(x + [zero] * (r - len(x))) for x in self.lines])

    def inv(self, t: Array) -> Array:
        x = []
        for i, line in enumerate(self.lines):
            done = sum(
                (entry * xj for entry, xj in zip(line, x, strict=False)), jnp.zeros_like(t[i])
            )
            x.append((t[i] - done) / line[i])
        return jnp.stack(x)

    def inv_h(self, t: Array) -> Array:
        r = len(self.lines)
        x = [t[i] for i in range(r)]
        for i in reversed(range(r)):
            x[i] = x[i] / self.lines[i][i].conj()
            for j in range(i):
                x[j] = x[j] - self.lines[i][j].conj() * x[i]
        return jnp.stack(x)


def _pivoted_columns(
    a: Inexact[Array, "m n"], steps: int, rcond: float
) -> tuple[list[Inexact[Array, " m"]], Float[Array, " r"]]:
    """Orthonormal columns that span the range of `a`, largest first, zero beyond its rank."""
    found, sizes, rest = [], [], a
    for _ in range(steps):
        pick = jnp.argmax(jnp.sum(jnp.abs(rest) ** 2, axis=0))
        q = jnp.sum(jnp.where(jnp.arange(a.shape[1]) == pick, rest, jnp.zeros_like(rest)), axis=1)
        for earlier in found:
            q = q - earlier * jnp.sum(earlier.conj() * q)
        size = jnp.sqrt(jnp.sum(jnp.abs(q) ** 2))
        sizes.append(size)
        q = _unit(q, size, ~(size <= rcond * sizes[0]))
        rest = rest - q[:, None] * _dot(rest, q).conj()
        found.append(q)
    return found, jnp.stack(sizes)


def _dot(a: Inexact[Array, "m n"], q: Inexact[Array, " m"]) -> Inexact[Array, " n"]:
    """`A^H q`."""
    return jnp.sum(a.conj() * q[:, None], axis=0)


def _unit(q: Array, size: Float[Array, ""], keep: Bool[Array, ""]) -> Array:
    safe = jnp.where(keep, size, jnp.ones_like(size)).astype(q.dtype)
    return jnp.where(keep, q / safe, jnp.zeros_like(q))
