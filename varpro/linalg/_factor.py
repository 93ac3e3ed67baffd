"""One factorisation, five verbs, and the one derivative rule that all solvers share.

The rule needs the five verbs in one combination, which a factor offers as `solve`:

    x = A^+ b + (A^H A)^+ g + (I - A^+ A) z        and its image        A x = A A^+ b + A^{+H} g

With ' for tangents, at constant rank, and c = A^+ b, r = b - A c (docs/theory/derivatives.md):

    c' = x and (A c)' = A' c + A x   for   x = solve(b' - A' c, A'^H r, A'^H A^{+H} c)

The rule is linear in tangents, and JAX drops custom rules from what it is about to transpose. So
in `x` no second rule can tell how the factor depends on A: taking the factor as constant gives
jvp(grad) wrong values. `attached` makes `solve` a function of A in plain operations instead.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Inexact, Int


class AbstractFactor(eqx.Module):
    """A factored `A` (m, n) of numerical rank r. One rank decision serves all verbs.

    `rank` is the numerical rank and `cond` the estimated condition number, infinite below full
    rank, NaN where unknown. The verbs are for values: `varpro.linalg.pinv_solve` and `project_out`
    are what to differentiate.
    """

    rank: eqx.AbstractVar[Int[Array, ""]]
    cond: eqx.AbstractVar[Float[Array, ""]]
    # Known from the shape and from what the solver assumes: A^+ A = I, and A A^+ = I.
    full_columns: eqx.AbstractVar[bool]
    full_rows: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def pinv(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "n k"]:
        """`A^+ b`: the least-squares, minimum-norm solution."""

    @abc.abstractmethod
    def pinv_h(self, c: Inexact[Array, "n k"]) -> Inexact[Array, "m k"]:
        """`A^{+H} c`."""

    @abc.abstractmethod
    def gram_inv(self, c: Inexact[Array, "n k"]) -> Inexact[Array, "n k"]:
        """`(A^H A)^+ c`."""

    @abc.abstractmethod
    def onto_range(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "m k"]:
        """`A A^+ b`: the orthogonal projection onto the range of A."""

    @abc.abstractmethod
    def onto_rows(self, c: Inexact[Array, "n k"]) -> Inexact[Array, "n k"]:
        """`A^+ A c`: the orthogonal projection onto the row space of A."""

    @abc.abstractmethod
    def solve(
        self,
        b: Inexact[Array, "m k"],
        g: Inexact[Array, "n k"] | None = None,
        z: Inexact[Array, "n k"] | None = None,
    ) -> tuple[Inexact[Array, "n k"], Inexact[Array, "m k"]]:
        """`x = A^+ b + (A^H A)^+ g + (I - A^+ A) z` and `A x`, sharing all that can be shared.

        Of the minimisers of `1/2 ||A x - b||^2 - Re <g, x>` it is the one nearest to z. None means
        zero and costs nothing; g is None where the rows are full, z where the columns are.
        """

    @abc.abstractmethod
    def attached(self, a: Inexact[Array, "m n"]) -> "AbstractFactor":
        """The same factor as a function of its matrix `a`, differentiable to any order.

        Its verbs can be transposed, too: derivatives in either mode are made of them.
        """


class AbstractPinvSolver(eqx.Module):
    """How to factor a matrix. A solver holds configuration alone."""

    @abc.abstractmethod
    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        """Factor `a` once, for any number of verbs."""


def adjoint(a: Inexact[Array, "m n"]) -> Inexact[Array, "n m"]:
    """`A^H`."""
    return a.conj().T


@jax.custom_jvp
def constant(a: Array) -> Array:
    """`a`, with an error where a factorisation itself would be differentiated."""
    return a


@constant.defjvp
def _constant_jvp(primals, tangents):
    raise TypeError(
        "A factorisation was differentiated by its matrix. Differentiate varpro.linalg.pinv_solve "
        "or varpro.linalg.project_out, or factor jax.lax.stop_gradient(a)."
    )


@eqx.filter_custom_jvp
def solve(factor: AbstractFactor, a: Array, b: Array) -> tuple[Array, Array]:
    """`A^+ b` and `A A^+ b`, differentiable in a and b to any order."""
    return factor.solve(b)


@solve.def_jvp
def _solve_jvp(primals, tangents):
    factor, a, b = primals
    _, t_a, t_b = tangents
    c, image = solve(factor, a, b)
    moving = factor.attached(a)
    if t_a is None:
        return (c, image), moving.solve(t_b)
    moved = t_a @ c
    v = -moved if t_b is None else t_b - moved
    # r vanishes when A A^+ = I, and the term of z when A^+ A = I.
    g = None if factor.full_rows else _adjoint_times(t_a, b - a @ c)
    z = None if factor.full_columns else _adjoint_times(t_a, moving.pinv_h(c))
    t_c, t_image = moving.solve(v, g, z)
    return (c, image), (t_c, moved + t_image)


def _adjoint_times(t_a: Inexact[Array, "m n"], s: Inexact[Array, "m k"]) -> Inexact[Array, "n k"]:
    """`A'^H s`.

    Under `vmap` over many A' and one s, a plain product first transposes every A' in memory, which
    takes ten times as long as the product. With a copy of s for each A' nothing is transposed, but
    JAX transposes no function that has its own batching rule. As the solution y of the linear
    system `(e, y - s^T e) = (A'^*, 0)` the product has that rule, a transpose and a derivative.
    """

    def system(ey):
        e, y = ey
        return e, y - s.T @ e

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
