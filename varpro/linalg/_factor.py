"""A factored matrix and its verbs: all that values and derivatives of a least-squares solve need.

Of the derivative (`_derivative.py`) a factor offers both lines as one verb, so that they share what can
be shared:

    x = A^+ b + (A^H A)^+ g + (I - A^+ A) z           b - A x = (I - A A^+) b - A^{+H} g

The derivative is linear in tangents, and JAX drops custom rules from what it is about to transpose.
So no second rule can tell how the factor depends on A: taking the factor as constant gives jvp(grad)
wrong values. `attached` makes `solve` a function of A in plain operations instead.
"""

import abc

import equinox as eqx
import jax
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
        """`x = A^+ b + (A^H A)^+ g + (I - A^+ A) z`, and what x leaves of b: `b - A x`.

        Of the minimisers of `1/2 ||A x - b||^2 - Re <g, x>` x is the one nearest to z. None means
        zero and costs nothing; z is not looked at where the columns are full.
        """

    @abc.abstractmethod
    def attached(self, a: Inexact[Array, "m n"]) -> "AbstractFactor":
        """This factor as a function of its matrix `a`, differentiable to any order.

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
