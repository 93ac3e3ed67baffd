"""One separable problem as the solver sees it: weighted `Phi(alpha)`, its derivative, the data.

minimise over alpha, C   1/2 || W (Y - phi0(alpha) - Phi(alpha) C) ||_F^2 + 1/2 || prior ||^2
                         + 1/2 || penalty C ||^2
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Int

from .._errors import InputError
from .._types import ArrayIn
from ..basis import at_side
from ..linalg import column_scale
from .columns import AbstractColumns
from .linear_constraints import Linear
from .side_groups import Groups, each_basis, scattered

# Numbers of data from which on nothing of their size is made beside them.
LARGE = 2**22


class Problem(eqx.Module):
    """Columns, data and rules; weights absorbed on the way out.

    `y` (m, k); `weights` (m,) or None; `linear`: what the coefficients may do. `column_weights` (m, k) are
    weights that differ between right-hand sides, which are absorbed nowhere here but in `cost`. `whitener`
    (m, m) multiplies what is weighted, where noise is correlated. `groups`: which right-hand sides have one
    basis, where a dispersion gives them different ones; `phi` and what is made of it are those of one (`of`).

    A penalty adds l rows to Phi, and zeros to the data: M = m + l. Where the coefficients of complex
    data are real (`linear.real`), there are a row for the real and one for the imaginary part of
    each sample: M = 2 m + l.
    """

    columns: AbstractColumns
    y: Inexact[ArrayIn, "m k"]
    weights: Float[ArrayIn, " m"] | None
    linear: Linear = Linear()
    column_weights: Float[ArrayIn, "m k"] | None = None
    whitener: Float[ArrayIn, "m m"] | None = None
    groups: Groups = ()

    def of(self, members: Int[ArrayIn, " s"]) -> "Problem":
        """The problem of right-hand sides that have one basis, those with these numbers."""

        def cut(a: ArrayIn | None) -> Array | None:
            return None if a is None else jnp.asarray(a)[:, jnp.asarray(members)]

        linear = self.linear
        if linear.lower is not None and linear.upper is not None:
            low, high = (b if b.shape[1] == 1 else cut(b) for b in (linear.lower, linear.upper))
            linear = dataclasses.replace(linear, lower=low, upper=high)
        weights, column_weights = self.weights, cut(self.column_weights)
        if column_weights is not None and members.shape[0] == 1:
            weights, column_weights = column_weights[:, 0], None
        return dataclasses.replace(
            self,
            columns=at_side(self.columns, members[0]),
            y=cut(self.y),
            weights=weights,
            column_weights=column_weights,
            linear=linear,
            groups=(),
        )

    def column_size(
        self, alpha: Float[Array, " p"]
    ) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        """Of each weighted column the norm, and the largest entry, 0 where that counts as zero; of different
        bases the most."""
        if self.groups:
            found = each_basis(self.groups, lambda members: self.of(members).column_size(alpha))
            each = [jnp.concatenate(parts) for parts in zip(*found, strict=True)]
            return jnp.max(each[0], axis=0), jnp.max(each[1], axis=0)
        phi = self.weighted(self.columns.phi(alpha))
        seen = column_scale(phi) < jnp.inf
        return jnp.linalg.norm(phi, axis=0), jnp.where(seen, jnp.max(jnp.abs(phi), axis=0), 0.0)

    @property
    def large(self) -> bool:
        """Whether nothing of the size of the data is to be made beside them."""
        return self.y.size > LARGE

    def weighted(self, a: ArrayIn) -> Array:
        """Row i of `a` times weight i, and then whitened; a sample of weight zero may hold anything, even
        NaN."""
        a = self._scaled(a)
        if self.whitener is None:
            return a
        return jnp.tensordot(jnp.asarray(self.whitener).astype(a.dtype), a, 1)

    def _scaled(self, a: ArrayIn) -> Array:
        if self.weights is None:
            return jnp.asarray(a)
        weights = self.weights.reshape(-1, *([1] * (a.ndim - 1)))
        return jnp.where(weights > 0, a * weights, jnp.zeros((), a.dtype))

    def _weighted_back(self, a: Inexact[Array, "m j"]) -> Inexact[Array, "m j"]:
        """What `weighted` does, transposed."""
        if self.whitener is None:
            return self._scaled(a)
        return self._scaled(jnp.asarray(self.whitener).astype(a.dtype).T @ a)

    def weighted_columns(self, a: Inexact[Array, "r k"]) -> Inexact[Array, "r k"]:
        """This problem with weights that differ between right-hand sides; of the m rows of the data, or of
        all M."""
        if self.column_weights is None:
            return a
        weights = self.all_column_weights()[: a.shape[0]]
        return jnp.where(weights > 0, a * weights, jnp.zeros((), a.dtype))

    def all_column_weights(self) -> Float[Array, "M k"]:
        """`column_weights`, with ones for the rows of a penalty."""
        assert self.column_weights is not None
        weights, rows = jnp.asarray(self.column_weights), self.linear.rows
        weights = jnp.concatenate([weights, weights]) if self.linear.real else weights
        if rows is None:
            return weights
        return jnp.concatenate(
            [weights, jnp.ones((rows.shape[0], weights.shape[1]), weights.dtype)]
        )

    def phi(self, alpha: Float[Array, " p"]) -> Inexact[Array, "M n"]:
        """Weighted `Phi`, free of denormal numbers."""
        phi = self._split(_flush(self.weighted(self.columns.phi(alpha))))
        if self.linear.mix is not None:
            phi = phi @ self.linear.mix
        rows = self.linear.rows
        return phi if rows is None else jnp.concatenate([phi, rows.astype(phi.dtype)])

    def offset(self, alpha: Float[Array, " p"]) -> Inexact[Array, " m"] | None:
        """What the model adds without a coefficient that is sought, or None."""
        offset = self.columns.offset(alpha)
        if self.linear.constant is None:
            return offset
        held = self.columns.phi(alpha) @ self.linear.constant
        return held if offset is None else held + offset

    def target(self, alpha: Float[Array, " p"]) -> Inexact[Array, "M k"]:
        """Weighted `Y - phi0(alpha)`: what the columns have to explain."""
        offset = self.offset(alpha)
        y = self.y if offset is None else self.y - offset[:, None]
        return self._with_zeros(self._split(self.weighted(y)))

    def target_derivative(self, alpha: Float[Array, " p"]) -> Inexact[Array, "M p"] | None:
        """Derivative of every column of `target`, or None without an offset."""
        if self.linear.constant is None and self.columns.offset(alpha) is None:
            return None
        moved = self.weighted(jax.jacfwd(self.offset)(alpha))
        return self._with_zeros(-self._split(moved))

    def _split(self, a: Array) -> Array:
        """Real parts, then imaginary parts, where coefficients of complex data are real."""
        if not self.linear.real:
            return a
        a = jnp.asarray(a)
        return jnp.concatenate([a.real, a.imag if jnp.iscomplexobj(a) else jnp.zeros_like(a)])

    def _with_zeros(self, a: Array) -> Array:
        if self.linear.penalty is None:
            return a
        zeros = jnp.zeros((self.linear.penalty.shape[0], *a.shape[1:]), a.dtype)
        return jnp.concatenate([jnp.asarray(a), zeros])

    def curve(
        self, alpha: Float[Array, " p"], coef: Inexact[Array, "n k"]
    ) -> Inexact[Array, "m k"]:
        """The model for these coefficients, unweighted."""
        if self.groups:

            def one(members):
                return self.of(members).curve(alpha, coef[:, members])

            return scattered(self.groups, each_basis(self.groups, one), 1, coef.shape[1])
        curve = self.columns.phi(alpha) @ self.linear.all_of(coef)
        offset = self.columns.offset(alpha)
        return curve if offset is None else curve + offset[:, None]

    def chisq(self, alpha: Float[Array, " p"], coef: Inexact[Array, "n k"]) -> Float[Array, ""]:
        """The weighted sum of squares of the residual of the data alone."""
        if self.groups:

            def of_one(members):
                return self.of(members).chisq(alpha, coef[:, members])

            return sum(jnp.sum(part) for part in each_basis(self.groups, of_one))  # pyright: ignore
        k = self.y.shape[1]
        width = max(LARGE // self.y.shape[0], 1)

        def some(first, problem, coef):
            # The last block begins early enough to be full, and leaves out what was counted.
            resid = problem.y - problem.curve(alpha, coef)
            resid = problem.weighted_columns(problem._split(problem.weighted(resid)))
            each = jnp.sum(jnp.abs(resid) ** 2, axis=0)
            return jnp.sum(jnp.where(jnp.arange(each.size) >= first, each, 0.0))

        if width >= k:
            return some(0, self, coef)

        def block(total, i):
            start = jnp.minimum(i * width, k - width)

            def cut(a):
                return None if a is None else jax.lax.dynamic_slice_in_dim(a, start, width, axis=1)

            mine = dataclasses.replace(self, y=cut(self.y), column_weights=cut(self.column_weights))
            return total + some(i * width - start, mine, cut(coef)), None

        zero = jnp.zeros((), jnp.zeros((), coef.dtype).real.dtype)
        return jax.lax.scan(block, zero, jnp.arange(-(-k // width)))[0]

    def cost(self, alpha: Float[Array, " p"], coef: Inexact[Array, "n k"]) -> Float[Array, ""]:
        """`1/2 || residual ||^2` with these coefficients, with priors and penalties."""
        cost = 0.5 * self.chisq(alpha, coef)
        if (rows := self.linear.rows) is not None:
            cost = cost + 0.5 * jnp.sum(jnp.abs(rows @ coef) ** 2)
        prior = self.columns.prior(alpha)
        return cost if prior is None else cost + 0.5 * jnp.sum(prior**2)

    def apply_derivative(self, alpha, b, r=None):
        """Weighted `Phi' B` (M, j, p) and, where R is given, `Phi'^H R` (n, j, p)."""
        mix = self.linear.mix
        m, real = self.y.shape[0], self.linear.real
        if r is not None:
            r = self._weighted_back(r[:m] + 1j * r[m : 2 * m] if real else r[:m])
        b = b if mix is None else mix @ b
        forward, backward = self.columns.apply_derivative(alpha, b, r)
        backward = backward.real if real and backward is not None else backward
        if backward is not None and mix is not None:
            backward = jnp.einsum("Nn,Njp->njp", mix, backward)
        return self._with_zeros(self._split(self.weighted(forward))), backward

    def tangents(
        self, alpha: Float[Array, " p"]
    ) -> tuple[Inexact[Array, "M d"], np.ndarray, np.ndarray]:
        """Weighted derivatives of columns: `values[:, i]` is that of `column[i]`, one of all N, by
        `coordinate[i]`; the last two are static."""
        values, column, coordinate = self.columns.tangents(alpha)
        return self._with_zeros(self._split(self.weighted(values))), column, coordinate


def _flush(phi: Inexact[Array, "m n"]) -> Inexact[Array, "m n"]:
    # Tails of peaks and decays underflow into denormal numbers, on which LAPACK runs ten times
    # slower. Far below the rounding of their column they change nothing. The largest of some rows is
    # no more than that of all, and XLA can work out the rest in the one pass that makes the columns.
    if not jnp.issubdtype(phi.dtype, jnp.inexact):
        raise InputError(
            f"The model returns columns of {phi.dtype}, not of floats. Write it with jax.numpy (jnp), and "
            "numbers as 1.0, not 1."
        )
    some = phi[:: max(1, phi.shape[0] // 64)]
    floor = jnp.finfo(phi.dtype).tiny ** 0.39 * jnp.max(jnp.abs(some), axis=0, initial=0.0)
    # Written so that NaN stays NaN.
    return jnp.where(jnp.abs(phi) < floor, jnp.zeros((), phi.dtype), phi)
