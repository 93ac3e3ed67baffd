"""One factorisation, five verbs, and how a factor depends on its matrix.

A factor writes A = U T V^H with orthonormal columns in U and V (either may be the identity) and a
small nonsingular T. All verbs are products with U and V and solves with T.

Derivatives of any order need to know how U, T and V move with A. They are not unique: only
U U^H, V V^H and U T V^H are. So the simplest motion is chosen, the one that does not turn U and V
within their own ranges. With ' for tangents, at constant rank:

    T' = U^H A' V,    U' = (I - U U^H) A' V T^{-1},    V' = (I - V V^H) A'^H U T^{-H}

T' is a full matrix although T may be a triangle or a diagonal, so nothing here divides by a
difference of singular values, and no derivative passes through a QR or an SVD of JAX. A first
derivative of a solve never uses these motions (see `_pinv_solve`); they make the second and higher
ones right, where a factor held constant would lose terms.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int


class AbstractFactor(eqx.Module):
    """A factored `A` (m, n) of numerical rank r. One rank decision serves all five verbs."""

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
    def attached(self, a: Inexact[Array, "m n"]) -> "AbstractFactor":
        """The same factor as a differentiable function of its matrix `a`.

        Also in the form that is cheapest when many vectors follow.
        """


class AbstractPinvSolver(eqx.Module):
    """How to factor a matrix. A solver holds configuration alone."""

    @abc.abstractmethod
    def factor(self, a: Inexact[Array, "m n"]) -> AbstractFactor:
        """Factor `a` once, for any number of verbs. Not to be differentiated as it stands."""


def adjoint(a: Inexact[Array, "m n"]) -> Inexact[Array, "n m"]:
    """`A^H`."""
    return a.conj().T


def adjoint_times(t_a: Inexact[Array, "m n"], r: Inexact[Array, "m k"]) -> Inexact[Array, "n k"]:
    """`A'^H r`.

    Under vmap over many A' a matrix product first transposes each of them in memory; for few
    columns a sum over their rows reads them once, as they lie.
    """
    if r.shape[1] > 2:
        return adjoint(t_a) @ r
    return jnp.stack([jnp.sum(t_a.conj() * column[:, None], axis=0) for column in r.T], axis=1)


def small_solve(
    t: Inexact[Array, "r r"], b: Inexact[Array, "r k"], solve: Callable, *, h: bool = False
) -> Inexact[Array, "r k"]:
    """`T^{-1} b` or `T^{-H} b`, where `solve(t, b, trans)` does it for trans "N", "T" and "C".

    Differentiable in `t` as a full matrix, whatever structure `solve` makes use of.
    """
    frozen = jax.lax.stop_gradient(t)
    if not h:
        return jax.lax.custom_linear_solve(
            lambda x: t @ x,
            b,
            lambda _, y: solve(frozen, y, "N"),
            lambda _, y: solve(frozen, y, "T"),
        )
    return jax.lax.custom_linear_solve(
        lambda x: adjoint(t) @ x,
        b,
        lambda _, y: solve(frozen, y, "C"),
        lambda _, y: solve(frozen, y.conj(), "N").conj(),
    )


def triangular(lower: bool) -> Callable:
    """The `solve` of `small_solve` for a triangle."""

    def solve(t: Array, b: Array, trans: str) -> Array:
        return jax.scipy.linalg.solve_triangular(t, b, lower=lower, trans=trans)

    return solve
