"""One separable problem as the solver sees it: weighted `Phi(theta)`, its derivative, the data.

minimise over theta, C   1/2 || W (Y - phi0(theta) - Phi(theta) C) ||_F^2 + 1/2 || prior ||^2
                         + 1/2 || penalty C ||^2
"""

import abc
import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from ._linear import Linear
from ._params import Layout, Numbers
from ._types import ArrayIn
from .basis import Model

# Numbers of data from which on nothing of their size is made beside them.
LARGE = 2**22


class AbstractColumns(eqx.Module):
    """`Phi` as a function of the free coordinates `theta` (p,), in one of two forms."""

    @abc.abstractmethod
    def phi(self, theta: Float[Array, " p"]) -> Inexact[Array, "m n"]:
        """The columns, before weighting."""

    @abc.abstractmethod
    def offset(self, theta: Float[Array, " p"]) -> Inexact[Array, " m"] | None:
        """The term without coefficient, or None."""

    @abc.abstractmethod
    def apply_derivative(
        self,
        theta: Float[Array, " p"],
        b: Inexact[Array, "n j"],
        r: Inexact[Array, "m j"] | None = None,
    ) -> tuple[Inexact[Array, "m j p"], Inexact[Array, "n j p"] | None]:
        """`Phi' B` and, where R is given, `Phi'^H R`, for every coordinate."""

    def tangents(
        self, theta: Float[Array, " p"]
    ) -> tuple[Inexact[Array, "m d"], np.ndarray, np.ndarray]:
        """Derivatives of the columns one by one: values, and which column by which coordinate."""
        moved = jax.jacfwd(self.phi)(theta)
        m, n, p = moved.shape
        return moved.reshape(m, n * p), np.repeat(np.arange(n), p), np.tile(np.arange(p), n)

    @abc.abstractmethod
    def prior(self, theta: Float[Array, " p"]) -> Float[Array, " s"] | None:
        """Extra residuals from priors, or None."""


class Opaque(AbstractColumns):
    """Any callable `basis(alpha, args) -> (m, n)` of a pytree `alpha`; `unravel` restores it."""

    basis: Callable[[PyTree, PyTree], Array]
    shift: Callable[[PyTree, PyTree], Array] | None
    args: PyTree
    unravel: Callable[[Array], PyTree] = eqx.field(static=True)

    def phi(self, theta: Float[Array, " p"]) -> Inexact[Array, "m n"]:
        return _as_matrix(self.basis(self.unravel(theta), self.args))

    def offset(self, theta: Float[Array, " p"]) -> Inexact[Array, " m"] | None:
        return None if self.shift is None else self.shift(self.unravel(theta), self.args)

    def apply_derivative(self, theta, b, r=None):
        return _by_tangents(self.phi, theta, b, r)

    def prior(self, theta: Float[Array, " p"]) -> None:
        return None


class Assembled(AbstractColumns):
    """A model of named bases, with the layout of its parameters. `real`: coefficients of complex data
    are real, where no `Problem` says so (`varpro._moments`)."""

    model: Model
    layout: Layout
    numbers: Numbers
    x: PyTree
    priors: tuple[int, ...] = eqx.field(static=True)
    real: bool = eqx.field(static=True, default=False)

    def values(self, theta: Float[Array, " p"]) -> Float[Array, " q"]:
        return self.layout.values(theta, self.numbers)

    def phi(self, theta: Float[Array, " p"]) -> Inexact[Array, "m n"]:
        return self.model.evaluate(self.x, self.values(theta))

    def offset(self, theta: Float[Array, " p"]) -> Inexact[Array, " m"] | None:
        return self.model.offset(self.x, self.values(theta))

    def apply_derivative(self, theta, b, r=None):
        table = self.table(theta)
        if table is None:
            return _by_tangents(self.phi, theta, b, r)
        return by_table(*table, b, r, theta.size)

    def tangents(self, theta):
        table = self.table(theta)
        return super().tangents(theta) if table is None else table

    def prior(self, theta: Float[Array, " p"]) -> Float[Array, " s"] | None:
        if not self.priors:
            return None
        at = np.array(self.priors)
        return (self.values(theta)[at] - self.numbers.prior_mean[at]) / self.numbers.prior_sd[at]

    def table(self, theta):
        """Partials by free coordinate, or None where one value depends on several coordinates."""
        if self.layout.above:
            return None
        partials = self.model.partials(self.x, self.values(theta))
        if partials is None:
            return None
        slopes = partials.values
        if self.layout.tied:
            slopes = slopes * self.numbers.scale[partials.parameter]
        position = {index: i for i, index in enumerate(self.layout.free)}
        source = np.array(self.layout.source)[partials.parameter]
        coordinate = np.array([position.get(i, -1) for i in source])
        moving = np.flatnonzero(coordinate >= 0)
        if moving.size == coordinate.size:
            return slopes, partials.column, coordinate
        return slopes[:, moving], partials.column[moving], coordinate[moving]


class Problem(eqx.Module):
    """Columns, data and rules; weights absorbed on the way out.

    `y` (m, k); `weights` (m,) or None; `linear`: what the coefficients may do. `apart` (m, k) are
    weights that differ between right-hand sides, which are absorbed nowhere here but in `cost`.

    A penalty adds l rows to Phi, and zeros to the data: M = m + l. Where the coefficients of complex
    data are real (`linear.real`), there are a row for the real and one for the imaginary part of
    each sample: M = 2 m + l.
    """

    columns: AbstractColumns
    y: Inexact[ArrayIn, "m k"]
    weights: Float[ArrayIn, " m"] | None
    linear: Linear = Linear()
    apart: Float[ArrayIn, "m k"] | None = None

    @property
    def large(self) -> bool:
        """Whether nothing of the size of the data is to be made beside them."""
        return self.y.size > LARGE

    def weighted(self, a: ArrayIn) -> Array:
        """Row i of `a` times weight i; a sample of weight zero may hold anything, even NaN."""
        if self.weights is None:
            return jnp.asarray(a)
        weights = self.weights.reshape(-1, *([1] * (a.ndim - 1)))
        return jnp.where(weights > 0, a * weights, jnp.zeros((), a.dtype))

    def weighted_apart(self, a: Inexact[Array, "r k"]) -> Inexact[Array, "r k"]:
        """The same with weights that differ between right-hand sides; of the m rows of the data, or of
        all M."""
        if self.apart is None:
            return a
        weights = self.lanes_of_weights()[: a.shape[0]]
        return jnp.where(weights > 0, a * weights, jnp.zeros((), a.dtype))

    def lanes_of_weights(self) -> Float[Array, "M k"]:
        """`apart`, with ones for the rows of a penalty."""
        assert self.apart is not None
        weights, rows = jnp.asarray(self.apart), self.linear.rows
        weights = jnp.concatenate([weights, weights]) if self.linear.real else weights
        if rows is None:
            return weights
        return jnp.concatenate(
            [weights, jnp.ones((rows.shape[0], weights.shape[1]), weights.dtype)]
        )

    def phi(self, theta: Float[Array, " p"]) -> Inexact[Array, "M n"]:
        """Weighted `Phi`, free of denormal numbers."""
        phi = self._split(_flush(self.weighted(self.columns.phi(theta))))
        if self.linear.mix is not None:
            phi = phi @ self.linear.mix
        rows = self.linear.rows
        return phi if rows is None else jnp.concatenate([phi, rows.astype(phi.dtype)])

    def offset(self, theta: Float[Array, " p"]) -> Inexact[Array, " m"] | None:
        """What the model adds without a coefficient that is sought, or None."""
        offset = self.columns.offset(theta)
        if self.linear.constant is None:
            return offset
        held = self.columns.phi(theta) @ self.linear.constant
        return held if offset is None else held + offset

    def target(self, theta: Float[Array, " p"]) -> Inexact[Array, "M k"]:
        """Weighted `Y - phi0(theta)`: what the columns have to explain."""
        offset = self.offset(theta)
        y = self.y if offset is None else self.y - offset[:, None]
        return self._with_zeros(self._split(self.weighted(y)))

    def target_derivative(self, theta: Float[Array, " p"]) -> Inexact[Array, "M p"] | None:
        """Derivative of every column of `target`, or None without an offset."""
        if self.linear.constant is None and self.columns.offset(theta) is None:
            return None
        moved = self.weighted(jax.jacfwd(self.offset)(theta))
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
        self, theta: Float[Array, " p"], coef: Inexact[Array, "n k"]
    ) -> Inexact[Array, "m k"]:
        """The model for these coefficients, unweighted."""
        curve = self.columns.phi(theta) @ self.linear.all_of(coef)
        offset = self.columns.offset(theta)
        return curve if offset is None else curve + offset[:, None]

    def chisq(self, theta: Float[Array, " p"], coef: Inexact[Array, "n k"]) -> Float[Array, ""]:
        """The weighted sum of squares of the residual of the data alone."""
        k = self.y.shape[1]
        width = max(LARGE // self.y.shape[0], 1)

        def some(first, problem, coef):
            # The last block begins early enough to be full, and leaves out what was counted.
            resid = problem.y - problem.curve(theta, coef)
            resid = problem.weighted_apart(problem._split(problem.weighted(resid)))
            each = jnp.sum(jnp.abs(resid) ** 2, axis=0)
            return jnp.sum(jnp.where(jnp.arange(each.size) >= first, each, 0.0))

        if width >= k:
            return some(0, self, coef)

        def block(total, i):
            start = jnp.minimum(i * width, k - width)

            def cut(a):
                return None if a is None else jax.lax.dynamic_slice_in_dim(a, start, width, axis=1)

            mine = dataclasses.replace(self, y=cut(self.y), apart=cut(self.apart))
            return total + some(i * width - start, mine, cut(coef)), None

        zero = jnp.zeros((), jnp.zeros((), coef.dtype).real.dtype)
        return jax.lax.scan(block, zero, jnp.arange(-(-k // width)))[0]

    def cost(self, theta: Float[Array, " p"], coef: Inexact[Array, "n k"]) -> Float[Array, ""]:
        """`1/2 || residual ||^2` with these coefficients, with priors and penalties."""
        cost = 0.5 * self.chisq(theta, coef)
        if (rows := self.linear.rows) is not None:
            cost = cost + 0.5 * jnp.sum(jnp.abs(rows @ coef) ** 2)
        prior = self.columns.prior(theta)
        return cost if prior is None else cost + 0.5 * jnp.sum(prior**2)

    def apply_derivative(self, theta, b, r=None):
        """Weighted `Phi' B` (M, j, p) and, where R is given, `Phi'^H R` (n, j, p)."""
        mix = self.linear.mix
        m, real = self.y.shape[0], self.linear.real
        if r is not None:
            r = self.weighted(r[:m] + 1j * r[m : 2 * m] if real else r[:m])
        b = b if mix is None else mix @ b
        forward, backward = self.columns.apply_derivative(theta, b, r)
        backward = backward.real if real and backward is not None else backward
        if backward is not None and mix is not None:
            backward = jnp.einsum("Nn,Njp->njp", mix, backward)
        return self._with_zeros(self._split(self.weighted(forward))), backward

    def tangents(
        self, theta: Float[Array, " p"]
    ) -> tuple[Inexact[Array, "M d"], np.ndarray, np.ndarray]:
        """Weighted derivatives of columns: `values[:, i]` is that of `column[i]`, one of all N, by
        `coordinate[i]`; the last two are static."""
        values, column, coordinate = self.columns.tangents(theta)
        return self._with_zeros(self._split(self.weighted(values))), column, coordinate


def by_table(
    values: Inexact[Array, "m d"],
    column: np.ndarray,
    coordinate: np.ndarray,
    b: Inexact[Array, "n j"],
    r: Inexact[Array, "m j"] | None,
    p: int,
) -> tuple[Inexact[Array, "m j p"], Inexact[Array, "n j p"] | None]:
    """`Phi' B` and `Phi'^H R` from a table of derivatives of single columns."""
    forward = gather(values[:, None, :] * b[column].T, coordinate, p)
    if r is None:
        return forward, None
    terms = values.conj().T @ r
    shape = (b.shape[0], r.shape[1], p)
    return forward, jnp.zeros(shape, terms.dtype).at[column, :, coordinate].add(terms)


def _by_tangents(phi: Callable[[Array], Array], theta: Array, b: Array, r: Array | None):
    def both(t):
        columns = phi(t)
        # Of one vector the sums are fused with what makes the columns, which are then not stored.
        forward = jnp.sum(columns * b[:, 0], axis=1)[:, None] if b.shape[1] == 1 else columns @ b
        if r is None:
            return forward, None
        if r.shape[1] == 1:
            return forward, jnp.sum(columns * r.conj(), axis=0)[:, None]
        return forward, columns.T @ r.conj()

    forward, backward = jax.jacfwd(both)(theta)
    return forward, None if r is None else backward.conj()


def _as_matrix(phi: Array) -> Array:
    phi = jnp.asarray(phi)
    return phi[:, None] if phi.ndim == 1 else phi


def _flush(phi: Inexact[Array, "m n"]) -> Inexact[Array, "m n"]:
    # Tails of peaks and decays underflow into denormal numbers, on which LAPACK runs ten times
    # slower. Far below the rounding of their column they change nothing. The largest of some rows is
    # no more than that of all, and XLA can work out the rest in the one pass that makes the columns.
    some = phi[:: max(1, phi.shape[0] // 64)]
    floor = jnp.finfo(phi.dtype).tiny ** 0.39 * jnp.max(jnp.abs(some), axis=0, initial=0.0)
    # Written so that NaN stays NaN.
    return jnp.where(jnp.abs(phi) < floor, jnp.zeros((), phi.dtype), phi)


def gather(terms: Inexact[Array, "m j d"], coordinate: np.ndarray, p: int) -> Array:
    """Sum the terms of each coordinate: (m, j, d) -> (m, j, p)."""
    if coordinate.size == p and np.array_equal(np.sort(coordinate), np.arange(p)):
        where = np.argsort(coordinate)
        return terms if np.array_equal(where, np.arange(p)) else terms[..., where]
    # A product with a matrix of zeros and ones: scatter-add is slow on CPUs.
    chosen = np.zeros((coordinate.size, p))
    chosen[np.arange(coordinate.size), coordinate] = 1.0
    return terms @ jnp.asarray(chosen, terms.dtype)
