"""The columns of a basis as functions of alpha, and the products with their derivative.

A basis that tells which column depends on which parameter gives a table of d derivative columns, and
nothing of the size m n p is formed; any other callable is differentiated along each coordinate.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from .._parameters.layout import Layout, Numbers
from .._places import summed_at, taken
from ..basis import Model
from ..basis._dependence import groups_of
from .linear_constraints import Linear


class AbstractColumns(eqx.Module):
    """`Phi` as a function of the free coordinates `alpha` (p,), in one of two forms."""

    @abc.abstractmethod
    def phi(self, alpha: Float[Array, " p"]) -> Inexact[Array, "m n"]:
        """The columns, before weighting."""

    @abc.abstractmethod
    def offset(self, alpha: Float[Array, " p"]) -> Inexact[Array, " m"] | None:
        """The term without coefficient, or None."""

    @abc.abstractmethod
    def apply_derivative(
        self,
        alpha: Float[Array, " p"],
        b: Inexact[Array, "n j"],
        r: Inexact[Array, "m j"] | None = None,
    ) -> tuple[Inexact[Array, "m j p"], Inexact[Array, "n j p"] | None]:
        """`Phi' B` and, where R is given, `Phi'^H R`, for every coordinate."""

    def tangents(
        self, alpha: Float[Array, " p"]
    ) -> tuple[Inexact[Array, "m d"], np.ndarray, np.ndarray]:
        """Derivatives of the columns one by one: values, and which column by which coordinate."""
        moved = jax.jacfwd(self.phi)(alpha)
        m, n, p = moved.shape
        return moved.reshape(m, n * p), np.repeat(np.arange(n), p), np.tile(np.arange(p), n)

    def second_derivatives(
        self, alpha: Float[Array, " p"], b: Inexact[Array, " n"], r: Inexact[Array, " m"]
    ) -> tuple[Float[Array, "p p"], Inexact[Array, "n p"]]:
        """Those of `Re r^H Phi b`, and `Phi'^H r`, for every coordinate."""

        def slope(alpha):
            return (r.conj() @ self.apply_derivative(alpha, b[:, None])[0][:, 0]).real

        backward = self.apply_derivative(alpha, b[:, None], r[:, None])[1]
        return jax.jacfwd(slope)(alpha), jnp.asarray(backward)[:, 0]

    @abc.abstractmethod
    def prior(self, alpha: Float[Array, " p"]) -> Float[Array, " s"] | None:
        """Extra residuals from priors, or None."""


class Opaque(AbstractColumns):
    """Any callable `basis(alpha, args) -> (m, n)` of a pytree `alpha`; `unravel` restores it."""

    basis: Callable[[PyTree, PyTree], Array]
    shift: Callable[[PyTree, PyTree], Array] | None
    args: PyTree
    unravel: Callable[[Array], PyTree] = eqx.field(static=True)

    def phi(self, alpha: Float[Array, " p"]) -> Inexact[Array, "m n"]:
        return _as_matrix(self.basis(self.unravel(alpha), self.args))

    def offset(self, alpha: Float[Array, " p"]) -> Inexact[Array, " m"] | None:
        return None if self.shift is None else self.shift(self.unravel(alpha), self.args)

    def apply_derivative(self, alpha, b, r=None):
        return _by_tangents(self.phi, alpha, b, r)

    def prior(self, alpha: Float[Array, " p"]) -> None:
        return None


class Assembled(AbstractColumns):
    """A model of named bases, with the layout of its parameters. `linear`: what the coefficients may do,
    where no `Problem` says so (`varpro._reduced.normal_equations`)."""

    model: Model
    layout: Layout
    numbers: Numbers
    x: PyTree
    priors: tuple[int, ...] = eqx.field(static=True)
    linear: Linear = Linear()

    def values(self, alpha: Float[Array, " p"]) -> Float[Array, " q"]:
        return self.layout.values(alpha, self.numbers)

    def phi(self, alpha: Float[Array, " p"]) -> Inexact[Array, "m n"]:
        return self.model.evaluate(self.x, self.values(alpha))

    def offset(self, alpha: Float[Array, " p"]) -> Inexact[Array, " m"] | None:
        return self.model.offset(self.x, self.values(alpha))

    def apply_derivative(self, alpha, b, r=None):
        table = self.table(alpha)
        if table is None:
            return _by_tangents(self.phi, alpha, b, r)
        return by_table(*table, b, r, alpha.size)

    def tangents(self, alpha):
        table = self.table(alpha)
        return super().tangents(alpha) if table is None else table

    def second_derivatives(self, alpha, b, r):
        """As above; coordinates of which no column has two take one derivative of the table together."""
        table = self.table(alpha)
        if table is None:
            return super().second_derivatives(alpha, b, r)
        _, column, coordinate = table
        p, n = alpha.size, b.shape[0]
        of_column = [set(coordinate[column == j].tolist()) for j in range(n)]
        groups = groups_of([sorted(own) for own in of_column], p)
        along = np.array([[i in group for i in range(p)] for group in groups], float)

        def both(v):
            return jax.jvp(lambda t: self.tangents(t)[0].conj().T @ r, (alpha,), (v,))

        first, moved = jax.vmap(both, out_axes=(None, 0))(jnp.asarray(along, alpha.dtype))
        mixed = summed_at(first, column * p + coordinate, n * p).reshape(n, p)
        moved = (moved * b[column].conj()).real
        # Entry d of the table moves with the one coordinate of each group that its column has.
        at = [
            (g, d, coordinate[d], i)
            for g, group in enumerate(groups)
            for d in range(column.size)
            for i in of_column[column[d]].intersection(group)
        ]
        group, entry, row, other = np.array(at, int).reshape(-1, 4).T
        second = summed_at(moved[group, entry], row * p + other, p * p).reshape(p, p)
        return second.astype(alpha.dtype), mixed

    def prior(self, alpha: Float[Array, " p"]) -> Float[Array, " s"] | None:
        if not self.priors:
            return None
        at = np.array(self.priors)
        return (self.values(alpha)[at] - self.numbers.prior_mean[at]) / self.numbers.prior_sd[at]

    def table(self, alpha):
        """Partials by free coordinate, or None where one value depends on several coordinates."""
        if self.layout.chained or self.layout.formulas:
            return None
        partials = self.model.partials(self.x, self.values(alpha))
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


def by_table(
    values: Inexact[Array, "m d"],
    column: np.ndarray,
    coordinate: np.ndarray,
    b: Inexact[Array, "n j"],
    r: Inexact[Array, "m j"] | None,
    p: int,
) -> tuple[Inexact[Array, "m j p"], Inexact[Array, "n j p"] | None]:
    """`Phi' B` and `Phi'^H R` from a table of derivatives of single columns."""
    forward = gather(values[:, None, :] * taken(b, column).T, coordinate, p)
    if r is None:
        return forward, None
    terms = values.conj().T @ r
    n, j = b.shape[0], r.shape[1]
    backward = summed_at(terms, column * p + coordinate, n * p).reshape(n, p, j)
    return forward, backward.swapaxes(1, 2)


def _by_tangents(phi: Callable[[Array], Array], alpha: Array, b: Array, r: Array | None):
    def both(t):
        columns = phi(t)
        # Of one vector the sums are fused with what makes the columns, which are then not stored.
        forward = jnp.sum(columns * b[:, 0], axis=1)[:, None] if b.shape[1] == 1 else columns @ b
        if r is None:
            return forward, None
        if r.shape[1] == 1:
            return forward, jnp.sum(columns * r.conj(), axis=0)[:, None]
        return forward, columns.T @ r.conj()

    forward, backward = jax.jacfwd(both)(alpha)
    return forward, None if r is None else backward.conj()


def _as_matrix(phi: Array) -> Array:
    phi = jnp.asarray(phi)
    return phi[:, None] if phi.ndim == 1 else phi


def gather(terms: Inexact[Array, "m j d"], coordinate: np.ndarray, p: int) -> Array:
    """Sum the terms of each coordinate: (m, j, d) -> (m, j, p)."""
    if coordinate.size == p and np.array_equal(np.sort(coordinate), np.arange(p)):
        where = np.argsort(coordinate)
        return terms if np.array_equal(where, np.arange(p)) else terms[..., where]
    # A product with a matrix of zeros and ones: scatter-add is slow on CPUs.
    chosen = np.zeros((coordinate.size, p))
    chosen[np.arange(coordinate.size), coordinate] = 1.0
    return terms @ jnp.asarray(chosen, terms.dtype)
