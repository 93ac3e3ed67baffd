"""The reduced problem where right-hand sides differ in more than their data.

With bounds on the coefficients every right-hand side has its own set F of coefficients off their
bounds, and with weights of its own its own basis. There is no common projection, so the derivative

    r_j' = -(I - P_F)(Phi' c_j) - Phi_F^{+H} Phi_F'^H r_j          P_F = Phi_F Phi_F^+

is taken right-hand side by right-hand side, many at a time, and of [J_j r_j] the triangle of all is
kept: nothing of the size m k p exists. Under common weights all of it happens within the span of
Phi and its derivatives, in whose coordinates there are as many rows as those have columns.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, PyTree

from .._places import summed_at
from .._problem.columns import gather
from .._problem.problem import Problem
from .._types import ArrayIn
from ..linalg import (
    LANES,
    SVD,
    AbstractPinvSolver,
    Balanced,
    Masked,
    balanced,
    bounded_solve,
    column_scale,
    in_blocks,
    masked,
    solution_derivative,
)
from . import own_weights
from .abstract import AbstractReduced, Jacobian, real_rows
from .common_basis import Reduced

# Numbers of one block of right-hand sides with a basis of their own.
_MEMORY = 2**20


class ColumnPoint(eqx.Module):
    """What the Jacobian at the same alpha reuses. `factor` of the basis without weights of single
    right-hand sides; `free`: which coefficients are off their bounds."""

    factor: Balanced
    coef: Inexact[Array, "n k"]
    free: Bool[Array, "n k"]
    block: Inexact[Array, "M k"]  # the residual


class Rows(NamedTuple):
    """The problem in coordinates with as few rows as possible: `phi` (s, n), derivatives of single
    columns (s, d), that of the target (s, p) or None, the target (s, k), weights (s, k) or None."""

    phi: Inexact[Array, "s n"]
    tangents: Inexact[Array, "s d"]
    column: np.ndarray
    coordinate: np.ndarray
    moved: Inexact[Array, "s p"] | None
    target: Inexact[Array, "s k"]
    weights: Float[Array, "s k"] | None

    @property
    def lanes(self) -> int:
        """How many right-hand sides to have in work at a time."""
        width = self.phi.shape[1] + self.tangents.shape[1]
        return int(np.clip(_MEMORY // max(self.phi.shape[0] * width, 1), 8, LANES))

    def basis(self, weights: Array | None) -> Inexact[Array, "s n #l"]:
        """The basis of each lane."""
        a = self.phi[:, :, None]
        return a if weights is None else _times(a, weights[:, None])

    def moving(
        self, coef: Inexact[ArrayIn, "N l"], weights: Array | None, p: int
    ) -> Inexact[Array, "s p l"]:
        """`Phi' c` less the derivative of the target, in each lane."""
        terms = self.tangents[:, None, :] * coef[self.column].T
        out = jnp.swapaxes(gather(terms, self.coordinate, p), 1, 2)
        if self.moved is not None:
            out = out - self.moved[:, :, None]
        return out if weights is None else _times(out, weights[:, None])


class Columnwise(AbstractReduced):
    """The reduced problem of one data set with bounds or weights for single right-hand sides."""

    problem: Problem
    linear_solver: AbstractPinvSolver
    jacobian_kind: Jacobian = eqx.field(static=True)

    def evaluate(self, alpha: Float[Array, " p"]) -> tuple[Float[Array, " M"], ColumnPoint]:
        problem = self.problem
        phi, target = problem.phi(alpha), problem.target(alpha)
        target = target.astype(jnp.result_type(phi, target))
        scale = column_scale(phi)
        scale = jnp.where(jnp.isfinite(scale), scale, 1.0)
        a, top = phi / scale, target
        tall = a.shape[0] > a.shape[1]
        if tall and problem.column_weights is None:
            q, a = jnp.linalg.qr(a)
            top = q.conj().T @ target
        factor = balanced(SVD(), a if tall and problem.column_weights is None else phi)
        n, k = a.shape[1], target.shape[1]
        linear = problem.linear
        lower, upper = (
            jnp.broadcast_to(jnp.full((), end) if b is None else b * scale[:, None], (n, k))
            for b, end in ((linear.lower, -jnp.inf), (linear.upper, jnp.inf))
        )
        lower, upper = lower.astype(scale.dtype), upper.astype(scale.dtype)
        weights = None if problem.column_weights is None else problem.all_column_weights()

        def solve(top, lower, upper, weights=None):
            triangle, t = a[:, :, None], top
            every = jnp.ones(lower.shape, bool)
            if weights is not None:
                each = masked(_times(triangle, weights[:, None]), every)
                t = each.taken(_times(top, weights)[:, None])[0][:, 0]
                triangle = each.r
            if linear.bounded:
                return bounded_solve(triangle, t, lower, upper, linear.sides)
            each = masked(triangle, every) if weights is None else each
            return each.back(t[:, None])[:, 0], every

        args = (top, lower, upper) + (() if weights is None else (weights,))
        size = LANES if weights is None else int(np.clip(_MEMORY // max(a.size, 1), 8, LANES))
        if self._by_products(a):
            near, sound = own_weights.coefficients(a, top, jnp.asarray(weights))
            coef, free = jax.lax.cond(
                sound,
                lambda: (near, jnp.ones(lower.shape, bool)),
                lambda: in_blocks(solve, args, size),
            )
        else:
            coef, free = in_blocks(solve, args, size)
        coef = coef / scale[:, None]
        if linear.bounded:
            # What is held is not free, also where no sample sees its column.
            free = free & (lower < upper)
            # Exactly on the bound, whatever the scaling has made of it.
            for bound, side in ((linear.lower, lower), (linear.upper, upper)):
                on = ~free & (coef * scale[:, None] == side)
                coef = jnp.where(on & jnp.isfinite(side), jnp.asarray(bound), coef)
        resid = problem.weighted_columns(target - phi @ coef)
        prior = problem.columns.prior(alpha)
        rows = [real_rows(resid.reshape(-1)), *([] if prior is None else [prior])]
        return jnp.concatenate(rows), ColumnPoint(factor, coef, free, resid)

    def jacobian(self, alpha: Float[Array, " p"], point: ColumnPoint) -> Float[Array, "M p"]:
        rows, p = self.rows(alpha, compress=False), alpha.size

        def one(coef, free, target, weights=None):
            return self._derivative(rows, coef, free, target, weights, p)[0]

        moved = in_blocks(one, self._lanes(rows, point), rows.lanes)
        jac = real_rows(jax.lax.collapse(jnp.swapaxes(moved, 1, 2), 0, 2))
        return self._with_prior(alpha, jac)

    def rotated(
        self, alpha: Float[Array, " p"], point: ColumnPoint
    ) -> tuple[Float[Array, "N p"], Float[Array, " N"]]:
        rows, p = self.rows(alpha), alpha.size
        one_by_one = lambda: self._triangle(rows, point, p)  # noqa: E731
        if rows.weights is not None and self._by_products(rows.phi, rows.tangents.shape[1] + p):
            jac, head, sound = self._triangle_by_products(rows, point, p)
            jac, head = jax.lax.cond(sound, lambda: (jac, head), one_by_one)
        else:
            jac, head = one_by_one()
        prior = self.problem.columns.prior(alpha)
        return self._with_prior(alpha, jac), jnp.concatenate(
            [head, *([] if prior is None else [prior])]
        )

    def _by_products(self, phi: Array, derivatives: int = 0) -> bool:
        """Whether all right-hand sides are handled at once (`varpro._reduced.own_weights`)."""
        weights = self.problem.column_weights
        if weights is None or self.problem.linear.bounded or jnp.iscomplexobj(self.problem.y):
            return False
        return own_weights.serves(phi, jnp.asarray(weights), derivatives)

    def _triangle_by_products(self, rows: Rows, point: ColumnPoint, p: int):
        linear, coef = self.problem.linear, point.coef
        assert rows.weights is not None
        d, k = len(rows.column), coef.shape[1]
        moving, coordinate = rows.tangents, rows.coordinate
        size = linear.all_of(coef)[rows.column]
        if rows.moved is not None:
            moving = jnp.concatenate([moving, rows.moved], axis=1)
            coordinate = np.concatenate([coordinate, np.arange(p)])
            size = jnp.concatenate([size, jnp.full((p, k), -1.0, size.dtype)])

        def back(seen):
            return self._within(rows, seen[:d], p)

        return own_weights.triangle(
            *(rows.phi, moving, coordinate, size, rows.target - rows.phi @ coef, rows.weights, p),
            None if self.jacobian_kind == "kaufman" else back,
        )

    def _within(self, rows: Rows, terms: Inexact[Array, "d l"], p: int) -> Inexact[Array, "n p l"]:
        """`Phi'^H r` of some right-hand sides, by the derivatives of single columns times r."""
        mix = self.problem.linear.mix
        wide = rows.phi.shape[1] if mix is None else len(mix)
        w = summed_at(terms, rows.column * p + rows.coordinate, wide * p).reshape(wide, p, -1)
        return w if mix is None else jnp.einsum("Nn,Npl->npl", mix, w)

    def _triangle(
        self, rows: Rows, point: ColumnPoint, p: int
    ) -> tuple[Float[Array, "p+1 p"], Float[Array, " p+1"]]:
        size = rows.lanes
        args = self._lanes(rows, point)
        k = point.coef.shape[1]
        blocks = -(-k // size)
        real = jnp.zeros((), point.block.dtype).real.dtype

        def triangle(start, args):
            used, coef, free, target, *weights = args
            v, r = self._derivative(rows, coef, free, target, *(weights or [None]), p)
            both = jnp.concatenate([v, r[:, None]], axis=1)
            both = jnp.where(used, both, 0.0).transpose(0, 2, 1).reshape(-1, p + 1)
            stack = jnp.concatenate([start, real_rows(both)])
            return jnp.linalg.qr(stack, mode="r"), None

        start = jnp.zeros((p + 1, p + 1), real)
        if blocks == 1:
            found, _ = triangle(start, (jnp.ones((k,), bool), *args))
        else:

            def column_weights(a):
                a = jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, blocks * size - k)])
                return jnp.moveaxis(a.reshape(*a.shape[:-1], blocks, size), -2, 0)

            found, _ = jax.lax.scan(
                triangle, start, jax.tree.map(column_weights, (jnp.ones((k,), bool), *args))
            )
        return found[:, :p], found[:, p]

    def rows(self, alpha: Float[Array, " p"], compress: bool = True) -> Rows:
        """The problem, under common weights in the coordinates of what its columns span."""
        problem = self.problem
        phi, target = problem.phi(alpha), problem.target(alpha)
        values, column, coordinate = problem.tangents(alpha)
        moved = problem.target_derivative(alpha)
        parts = [phi, values, *([] if moved is None else [moved])]
        dtype = jnp.result_type(*parts, target)
        n, d = phi.shape[1], values.shape[1]
        width = sum(part.shape[1] for part in parts)
        if problem.column_weights is not None:
            weights = problem.all_column_weights()
            return Rows(phi, values, column, coordinate, moved, target.astype(dtype), weights)
        if compress and 2 * width < phi.shape[0]:
            q, r = jnp.linalg.qr(jnp.concatenate([part.astype(dtype) for part in parts], axis=1))
            phi, values = r[:, :n], r[:, n : n + d]
            moved = None if moved is None else r[:, n + d :]
            target = q.conj().T @ target
        return Rows(phi, values, column, coordinate, moved, target.astype(dtype), None)

    def _lanes(self, rows: Rows, point: ColumnPoint) -> tuple[Array, ...]:
        weights = () if rows.weights is None else (rows.weights,)
        return (point.coef, point.free, rows.target, *weights)

    def _derivative(self, rows: Rows, coef, free, target, weights, p: int) -> tuple[Array, Array]:
        """`r'` (s, p, l) and r (s, l) of some right-hand sides."""
        linear = self.problem.linear
        a = rows.basis(weights)
        factor = masked(a, free)
        r = target if weights is None else _times(target, weights)
        r = r - jnp.einsum("snl,nl->sl", jnp.broadcast_to(a, (*a.shape[:2], coef.shape[1])), coef)
        v, w = -rows.moving(linear.all_of(coef), weights, p), None
        if self.jacobian_kind != "kaufman":
            back = r if weights is None else _times(r, weights)
            terms = rows.tangents.conj().T @ back
            w = self._within(rows, terms, p)
        _, t_resid = solution_derivative(factor, v, w)
        return t_resid, r

    def measured(
        self, rows: Rows, coef: Array, free: Array, weights: Array | None, p: int
    ) -> tuple[Masked, Inexact[Array, "n p l"]]:
        """The factor of some right-hand sides, and `Q^H (Phi' c - y')`."""
        factor = masked(rows.basis(weights), free)
        moving = rows.moving(self.problem.linear.all_of(coef), weights, p)
        return factor, factor.taken(moving)[0]

    def _with_prior(self, alpha: Array, jac: Array) -> Float[Array, "M p"]:
        if self.problem.columns.prior(alpha) is None:
            return jac
        return jnp.concatenate([jac, jax.jacfwd(self.problem.columns.prior)(alpha)])

    def cost(self, alpha: Float[Array, " p"], point: PyTree) -> Float[Array, ""]:
        return self.problem.cost(alpha, point.coef)

    def data_norm(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        return jnp.linalg.norm(self.problem.weighted_columns(self.problem.target(alpha)))

    def rounding_factor(self, alpha: Float[Array, " p"]) -> None:
        return None

    def quality(self, point: ColumnPoint) -> dict[str, Array]:
        return {"rank": point.factor.rank, "cond": point.factor.cond}


def one_basis(
    problem: Problem, linear_solver: AbstractPinvSolver, jacobian: Jacobian
) -> Reduced | Columnwise:
    """The reduced problem of right-hand sides of one basis, in the form that its rules allow."""
    if problem.column_weights is not None or problem.linear.bounded:
        return Columnwise(problem, linear_solver, jacobian)
    return Reduced(problem, linear_solver, jacobian)


def with_coefficients(
    reduced: Reduced | Columnwise, alpha: Float[Array, " p"], coef: Inexact[Array, "n k"]
) -> tuple[Reduced | Columnwise, PyTree]:
    """The reduced problem and its point at alpha with coefficients that are not those of its weights."""
    if isinstance(reduced, Reduced) and coef.shape[1] > 1:
        # Many have their residuals compressed by the coefficients of least squares.
        reduced = Columnwise(reduced.problem, reduced.linear_solver, reduced.jacobian_kind)
    _, point = reduced.evaluate(alpha)
    if not isinstance(point, ColumnPoint):
        return reduced, dataclasses.replace(point, coef=coef, rotated=coef)
    free, linear = jnp.ones(coef.shape, bool), reduced.problem.linear
    if linear.lower is not None and linear.upper is not None:
        free = (coef > jnp.asarray(linear.lower)) & (coef < jnp.asarray(linear.upper))
    return reduced, dataclasses.replace(point, coef=coef, free=free)


def _times(a: Array, weights: Array) -> Array:
    # A sample of weight zero may hold anything, even NaN.
    return jnp.where(weights > 0, a * weights, jnp.zeros((), a.dtype))
