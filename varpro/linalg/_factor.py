"""One factorisation, five verbs, and the one derivative rule that all of them share.

The rule is that of `solve`, which does the work of all five verbs at once:

    x = A^+ b + (A^H A)^+ g + (I - A^+ A) z        and its image        A x = A A^+ b + A^{+H} g

With ' for tangents, at constant rank, and s = b - A x:

    x' = solve(b' - A' x,  g' + A'^H s + A^+ A' (I - A^+ A) g,  z' + A'^H A^{+H} (x - z))
    (A x)' = A' x + image of the same solve

So the derivative of a solve is a solve with the same factor, to any order. The factor is held
constant, which is right only because A itself travels along: s and A^{+H} (x - z) are functions of
A that the next order differentiates again. See docs/theory/derivatives.md for the derivation.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Inexact, Int

Columns = Inexact[Array, "_ k"]

# Up to here products of tangents with few columns are written as a multiplied sum.
_FEW_COLUMNS = 8


class AbstractFactor(eqx.Module):
    """A factored `A` (m, n) of numerical rank r. One rank decision serves all verbs.

    `rank` is the numerical rank and `cond` the estimated condition number, infinite below full
    rank, NaN where unknown. The verbs are linear functions of plain arrays; they are
    differentiable in their argument and not in A. `varpro.linalg.pinv_solve` and `project_out`
    are differentiable in both.
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
        self, b: Columns | None, g: Columns | None = None, z: Columns | None = None
    ) -> tuple[Inexact[Array, "n k"], Inexact[Array, "m k"]]:
        """`x = A^+ b + (A^H A)^+ g + (I - A^+ A) z` and `A x`, sharing all that can be shared.

        Of the minimisers of `1/2 ||A x - b||^2 - Re <g, x>` it is the one nearest to z, where g
        is first projected onto the row space. None means zero and costs nothing; b and g are
        not both None.
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
def solve(
    factor: AbstractFactor, a: Array, b: Array | None, g: Array | None, z: Array | None
) -> tuple[Array, Array]:
    """`factor.solve(b, g, z)`, differentiable in a, b, g and z to any order."""
    return factor.solve(b, g, z)


@solve.def_jvp
def _solve_jvp(primals, tangents):
    factor, a, b, g, z = primals
    _, t_a, t_b, t_g, t_z = tangents
    x, image = solve(factor, a, b, g, z)
    if t_a is None:
        if t_b is None and t_g is None:
            t_b = jnp.zeros_like(image)
        return (x, image), solve(factor, a, t_b, t_g, t_z)
    moved = t_a @ x
    t_b = _plus(t_b, -moved)
    if not (factor.full_rows and g is None):
        # s = b - A x, and it vanishes when A A^+ = I.
        s = -(a @ x) if b is None else b - a @ x
        t_g = _plus(t_g, _adjoint_times(t_a, s))
    if not factor.full_columns:
        # I - A^+ A = 0 otherwise.
        lifted = solve(factor, a, None, x if z is None else x - z, None)[1]
        t_z = _plus(t_z, _adjoint_times(t_a, lifted))
        if g is not None:
            outside = solve(factor, a, jnp.zeros_like(image), None, g)[0]
            t_g = _plus(t_g, solve(factor, a, t_a @ outside, None, None)[0])
    t_x, t_image = solve(factor, a, t_b, t_g, t_z)
    return (x, image), (t_x, moved + t_image)


def _plus(x: Array | None, y: Array) -> Array:
    return y if x is None else x + y


def _adjoint_times(t_a: Inexact[Array, "m n"], s: Inexact[Array, "m k"]) -> Inexact[Array, "n k"]:
    """`A'^H s`.

    Under vmap over many A' a matrix product would first transpose each of them in memory, which
    takes ten times longer than this reduction over their rows.
    """
    if s.shape[1] > _FEW_COLUMNS:
        return adjoint(t_a) @ s
    return jnp.sum(t_a.conj()[:, :, None] * s[:, None, :], axis=0)
