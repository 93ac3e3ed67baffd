"""The derivative of `c = A^+ y` and of `r = (I - A A^+) y`: this file states it for all of varpro.

With ' for tangents, at constant rank (Golub & Pereyra 1973; docs/theory/derivatives.md):

    c' = A^+ v + (A^H A)^+ w + (I - A^+ A) z
    r' = (I - A A^+) v - A^{+H} w                                     Kaufman (1975) drops A^{+H} w

    v = y' - A' c,    w = A'^H r,    z = A'^H A^{+H} c

w vanishes at full row rank, where r = 0, and the term of z at full column rank. The two lines are the
solution of the system that gives c and r, with other right-hand sides (A of full column rank):

    [ I    A ] [ r ]   [ y ]        [ I    A ] [ r' ]   [  v ]
    [ A^H  0 ] [ c ] = [ 0 ]        [ A^H  0 ] [ c' ] = [ -w ]

So a factor needs one verb, `solve`, for values and for derivatives of both. Callers contract A' with c
and r as it suits its shape (dense, a table of single columns, lanes), in any coordinates that are
unitary to those of A. The rule of automatic differentiation below and the Jacobian of a search differ
in that alone.
"""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Inexact

from ._factor import AbstractFactor

# The name of the derivative in traced programs.
SCOPE = "varpro.solution_derivative"


@runtime_checkable
class Factored(Protocol):
    """What the derivative needs of a factored A: an `AbstractFactor`, `Balanced` or `Masked`."""

    def solve(
        self, b: Array, g: Array | None = None, z: Array | None = None
    ) -> tuple[Array, Array]:
        """`x = A^+ b + (A^H A)^+ g + (I - A^+ A) z` and `b - A x = (I - A A^+) b - A^{+H} g`."""
        ...


def solution_derivative(
    factor: Factored,
    v: Inexact[Array, "..."],
    w: Inexact[Array, "..."] | None = None,
    z: Inexact[Array, "..."] | None = None,
    *,
    kaufman: bool = False,
) -> tuple[Inexact[Array, "..."], Inexact[Array, "..."]]:
    """`c'` and `r'` for any number of tangents, side by side as columns.

    **Arguments:**

    - `factor`: A, factored.
    - `v`: `y' - A' c`.
    - `w`: `A'^H r`. None drops its two terms: right for c' and r' where r = 0, and all that
        Kaufman's r' needs.
    - `z`: `A'^H A^{+H} c`. None drops its term: right at full column rank.
    - `kaufman`: drop the term of w from r', not from c'.

    **Returns:** c' and r', in the coordinates of the factor.
    """
    with jax.named_scope(SCOPE):
        t_coef, t_resid = factor.solve(v, w, z)
        if kaufman and w is not None:
            _, t_resid = factor.solve(v)
    return t_coef, t_resid


@eqx.filter_custom_jvp
def solve(
    factor: AbstractFactor, a: Array, y: Array, *, kaufman: bool = False
) -> tuple[Array, Array]:
    """`c = A^+ y` and `r = y - A c`, differentiable in a and y to any order.

    With `kaufman` the derivative of r is Kaufman's.
    """
    return factor.solve(y)


@solve.def_jvp
def _solve_jvp(primals, tangents, *, kaufman: bool = False):
    factor, a, y = primals
    _, t_a, t_y = tangents
    coef, resid = solve(factor, a, y, kaufman=kaufman)
    attached = factor.attached(a)
    if t_a is None:
        return (coef, resid), solution_derivative(attached, t_y)
    moved = t_a @ coef
    v = -moved if t_y is None else t_y - moved
    w = None if factor.full_rows else _adjoint_times(t_a, y - a @ coef)
    z = None if factor.full_columns else _adjoint_times(t_a, attached.pinv_h(coef))
    return (coef, resid), solution_derivative(attached, v, w, z, kaufman=kaufman)


def _adjoint_times(t_a: Inexact[Array, "m n"], s: Inexact[Array, "m k"]) -> Inexact[Array, "n k"]:
    """`A'^H s`.

    Under `vmap` over many A' and one s, a plain product first transposes every A' in memory, which
    takes ten times as long as the product. With a copy of s for each A' nothing is transposed, but
    JAX transposes no function that has its own batching rule. As the solution y of the linear
    system `(e, y - s^T e) = (A'^*, 0)` the product has that rule, a transpose and a derivative.
    """

    # Zero, but a function of s: where s alone moves, the right-hand side of the derivative must be
    # linear in that in both of its parts.
    nothing = jnp.sum(s[:0])

    def system(ey):
        e, y = ey
        return e + nothing, y - s.T @ e

    def forward(_, right):
        e, y = right
        return e, y + _rows_times(s, e)

    def backward(_, right):
        e, y = right
        return e + s @ y, y

    e = t_a.conj()
    # Zeros that are linear in the tangent: nothing else can stand in a transposed system.
    zeros = jnp.broadcast_to(jnp.sum(e[:0], axis=0), (s.shape[1], e.shape[1]))
    return jax.lax.custom_linear_solve(system, (e, zeros), forward, backward)[1].T


@custom_vmap
def _rows_times(s: Inexact[Array, "m k"], e: Inexact[Array, "m n"]) -> Inexact[Array, "k n"]:
    """`s^T e`."""
    return (s[:, 0] @ e)[None] if s.shape[1] == 1 else s.T @ e


@_rows_times.def_vmap
def _rows_times_vmap(size, batched, s, e):
    s, e = (
        x if flag else jnp.broadcast_to(x, (size, *x.shape))
        for x, flag in zip((s, e), batched, strict=True)
    )
    if s.shape[2] == 1:
        return jax.vmap(jnp.matmul)(s[:, :, 0], e)[:, None], True
    return jax.vmap(lambda s, e: s.T @ e)(s, e), True
