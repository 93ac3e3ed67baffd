"""A separable problem whose matrix is too large to write down, as the search sees it.

minimise over alpha, c   1/2 || W (y - phi0(alpha) - A(alpha) c) ||^2 + 1/2 strength || L c ||^2

and, where alpha has priors, 1/2 || priors(alpha) ||^2; or with the penalty strength || L c ||_1. A, L and W are known by their products with vectors; y, c and what they map to are pytrees of arrays,
here as vectors of all their numbers.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Inexact, PyTree

from ..linalg import Flat, Products, Rows, as_operator


class SparsePenalty(eqx.Module):
    """That the penalty is the norm L1: the duality gap at which coefficients are found, relative to the cost,
    and whether L is the identity, so that coefficients can be exactly zero."""

    gap: Float[Array, ""]
    direct: bool = eqx.field(static=True)


class OperatorProblem(eqx.Module):
    """`y` (m,) and `weights` (m,) or None; `penalty`: L, or None; `sparse`: None for
    its squares.

    Residuals and what is like them are pairs: of the data (m,), and of the penalty (l,), which is empty
    without one.
    """

    basis: Callable[[PyTree, PyTree], PyTree]
    shift: Callable[[PyTree, PyTree], PyTree] | None
    args: PyTree
    y: Inexact[Array, " m"]
    weights: Float[Array, " m"] | None
    strength: Float[Array, ""]
    penalty: Products | None
    data: Flat
    coefficients: Flat
    sides: int | None = eqx.field(static=True)
    unravel: Callable[[Array], PyTree] = eqx.field(static=True)
    priors: Callable[[Array], Float[Array, " s"]] | None = None
    sparse: SparsePenalty | None = None

    def operator(self, alpha: Float[Array, " p"]) -> lx.AbstractLinearOperator:
        """A(alpha)."""
        return as_operator(self.basis(self.unravel(alpha), self.args), self.sides)

    def products(self, alpha: Float[Array, " p"]) -> Products:
        """A(alpha), without weights."""
        return Products.of(self.operator(alpha))

    def weighted(self, a: Inexact[Array, " m"]) -> Inexact[Array, " m"]:
        """W a; a sample of weight zero may hold anything, even NaN."""
        if self.weights is None:
            return a
        return jnp.where(self.weights > 0, a * self.weights, jnp.zeros((), a.dtype))

    def rows(self, products: Products, strength: Float[Array, ""] | None = None) -> Rows:
        """B = [W A; sqrt(strength) L], for the A of `products`."""
        root = jnp.sqrt(self.strength if strength is None else strength)
        penalty = self.penalty

        def ahead(c):
            data = self.weighted(products.forward(c)).astype(self.y.dtype)
            if penalty is None:
                return data, jnp.zeros(0, c.dtype)
            return data, root * penalty.forward(c)

        def back(pair):
            data, smooth = pair
            found = products.adjoint(self.weighted(data))
            return found if penalty is None else found + root * penalty.adjoint(smooth)

        return Rows(ahead, back)

    def empty(self, dtype: jnp.dtype) -> tuple[Array, Array]:
        """A pair of zeros."""
        size = 0 if self.penalty is None else self.penalty.output.size
        kind = dtype if self.penalty is None else jnp.result_type(dtype, self.penalty.output.dtype)
        return jnp.zeros(self.y.shape, self.y.dtype), jnp.zeros(size, kind)

    def target(self, alpha: Float[Array, " p"]) -> tuple[Array, Array]:
        """What B c has to explain: W (y - phi0(alpha)), and zeros."""
        y = self.y
        if self.shift is not None:
            y = y - self.data.ravel(self.shift(self.unravel(alpha), self.args)).astype(y.dtype)
        return self.weighted(y), self.empty(self.coefficients.dtype)[1]

    def moving(self, alpha: Float[Array, " p"], c: Inexact[Array, " n"]) -> Inexact[Array, "p m"]:
        """Derivative of `W (y - phi0 - A c)` by each coordinate, at constant c."""

        def resid(alpha):
            return self.target(alpha)[0] - self.weighted(self.products(alpha).forward(c))

        return _along(resid, alpha)

    def back_moving(self, alpha: Float[Array, " p"], r: Array) -> Inexact[Array, "p n"]:
        """`(W A)'^H r` for each coordinate."""
        return _along(lambda alpha: self.products(alpha).adjoint(self.weighted(r)), alpha)

    def cost(self, alpha: Float[Array, " p"], c: Inexact[Array, " n"]) -> Float[Array, ""]:
        """`1/2 || residual ||^2` with these coefficients, with the penalty."""
        data, smooth = self.resid(alpha, c)
        cost = 0.5 * jnp.sum(jnp.abs(data) ** 2) + 0.5 * jnp.sum(jnp.abs(smooth) ** 2)
        return cost if self.priors is None else cost + 0.5 * jnp.sum(self.priors(alpha) ** 2)

    def beside(self, alpha: Float[Array, " p"]) -> Float[Array, " s"]:
        """Residuals of alpha alone: those of priors."""
        return jnp.zeros(0, alpha.dtype) if self.priors is None else self.priors(alpha)

    def resid(self, alpha: Float[Array, " p"], c: Inexact[Array, " n"]) -> tuple[Array, Array]:
        """What B c leaves of the target."""
        if self.sparse is not None:
            assert self.penalty is not None
            data = self.target(alpha)[0] - self.weighted(self.products(alpha).forward(c))
            return data, self.kink(self.penalty.forward(c))
        ahead = self.rows(self.products(alpha)).ahead(c)
        return jax.tree.map(jnp.subtract, self.target(alpha), ahead)

    def kink(self, steps: Inexact[Array, " l"]) -> Float[Array, " l"]:
        """What has half of its squares equal to `strength || L c ||_1`, from L c."""
        return jnp.sqrt(2.0 * self.strength * jnp.abs(steps))

    @property
    def count(self) -> Float[Array, ""]:
        """How many real numbers of weight above zero there are among the data."""
        parts = 2.0 if jnp.iscomplexobj(self.y) else 1.0
        real = jnp.finfo(self.y.dtype).dtype
        if self.weights is None:
            return jnp.asarray(parts * self.y.size, real)
        return (parts * jnp.sum(self.weights > 0)).astype(real)


def _along(function: Callable[[Array], Array], alpha: Array) -> Array:
    """The derivative by each coordinate, coordinates first."""
    eye = jnp.eye(alpha.size, dtype=alpha.dtype)
    return jax.vmap(lambda e: jax.jvp(function, (alpha,), (e,))[1])(eye)
