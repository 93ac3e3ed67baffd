"""Uncertainty of a fit, from the blocks of the variable projection.

With J the Kaufman Jacobian of the reduced residual, J^T J is the Schur complement of the normal
matrix of the full problem, so for unit noise, with G_j = Phi^+ (Phi' c_j - y'):

    cov(alpha) = (J^T J)^{-1}
    cov(c_i, c_j) = [i = j] (Phi^H Phi)^{-1} + G_i cov(alpha) G_j^H
    cov(c_j, alpha) = -G_j cov(alpha)

so that d c_j = -G_j d alpha + e_j with independent e_j: -G_j is the derivative of c_j
(`linalg.solution_derivative`) without its term of r_j, which Kaufman's J lacks, too. Of complex data e_j is circular: its real
and its imaginary part have this variance each. A Gaussian prior is one more row of J. See Golub and
LeVeque (1979) for many right-hand sides, O'Leary and Rust (2013) for one.

What the data do not determine (a column of J or of Phi that depends on others) has infinite
variance. A coordinate on a bound counts as fixed there, and its own error is withheld: NaN. So it is
with a coefficient on a bound; Phi is then that of the others, another for each right-hand side.
A penalty counts as data, as a prior does.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, Int, PyTree

from .._problem.linear_constraints import Linear
from .._problem.problem import Problem
from .._problem.side_groups import scattered
from .._reduced.by_group import AnyReduced, ByGroup, GroupPoint
from .._reduced.common_basis import Point, Reduced
from .._reduced.coupled import Coupled, CoupledPoint
from .._reduced.per_column import ColumnPoint, Columnwise
from ..linalg import SVD, Balanced, column_scale, in_blocks, solution_derivative

# A parameter of which more than this fraction (squared) lies outside the row space is undetermined.
_LOST = 1e-6


class ParameterCovariance(eqx.Module):
    """The covariance of alpha for unit noise, and what it does not tell: the share of alpha in
    `CovarianceBlocks`."""

    half: Float[Array, "s p"]
    null_alpha: Float[Array, "s p"]
    unit_alpha: Float[Array, " p"]
    lost_alpha: Bool[Array, " p"]
    on_bound: Bool[Array, " p"]
    cond_jac: Float[Array, ""]

    def value_variance(self, transform: Float[Array, "q p"]) -> Float[Array, " q"]:
        """Variances of parameter values whose derivative by alpha is `transform`."""
        variance = jnp.sum((self.half @ transform.T) ** 2, axis=0)
        variance = jnp.where((transform != 0) @ self.lost_alpha, jnp.inf, variance)
        return jnp.where((transform != 0) @ self.on_bound, jnp.nan, variance)

    def without_effect(
        self, changes: Float[np.ndarray, " p"], size: float
    ) -> Bool[np.ndarray, " p"]:
        """On the host: which coordinates move a curve of this size by no more than rounding when they change
        by so much, as a lifetime does that is far below the spacing of x."""
        seen = np.linalg.norm(np.asarray(self.half), axis=0) > 0
        unit = np.where(seen, np.asarray(self.unit_alpha), 1.0)
        moves = np.where(seen, np.abs(changes) / unit, 0.0)
        return ~np.asarray(self.on_bound) & (moves <= 100 * np.finfo(moves.dtype).eps * size)


class CoefficientCovariance(eqx.Module):
    """The share of the coefficients in `CovarianceBlocks`. The axis g has length 1 where all right-hand sides
    have the same basis, else k. `count`: how many coefficients the data determine, the trace of what
    makes the fitted curve of the data. `coupling`, where penalties couple right-hand sides: of two of them, i and j,
    coefficients have the covariance -W_i W_j^T beside what alpha brings; `gram_inv` of each has its own in it."""

    gram_inv: Inexact[Array, "g n n"]
    sensitivity: Inexact[Array, "k n p"]
    null_coef: Inexact[Array, "g n _"]
    unit_coef: Float[Array, "g n"]
    lost_coef: Bool[Array, "g n"]
    held_coef: Bool[Array, "g n"]
    rank: Int[Array, ""]
    cond: Float[Array, ""]
    count: Float[Array, ""]
    coupling: Float[Array, "k n l"] | None = eqx.field(default=None, kw_only=True)

    @classmethod
    def none(cls, p: int) -> "CoefficientCovariance":
        """That of no coefficient beside p coordinates."""
        zero, empty = np.zeros(()), np.zeros((1, 0, 0))
        flags = np.zeros((1, 0), bool)
        numbers = (empty, np.zeros((1, 0, p)), empty, np.zeros((1, 0)), flags, flags)
        return cls(*numbers, np.zeros((), int), zero + 1.0, zero)  # pyright: ignore


class CovarianceBlocks(ParameterCovariance, CoefficientCovariance):
    """CovarianceBlocks of the covariance for unit noise, all finite, and masks of what they do not tell.

    The gram matrix of `half` is cov(alpha), so no variance comes out negative. `null_alpha` (rows)
    and `null_coef` (columns) span the directions that the data leave open, in coordinates of which
    `unit_alpha` and `unit_coef` are the units; rounding noise where there are none.
    """

    def coef_variance(self) -> Float[Array, "n k"]:
        """Variances of all coefficients; of a complex one, of its distance from the mean."""
        spread = jnp.sum(
            jnp.abs(jnp.einsum("sp,knp->snk", self.half, self.sensitivity)) ** 2, axis=0
        )
        parts = 2.0 if jnp.iscomplexobj(self.sensitivity) else 1.0
        own = jnp.diagonal(self.gram_inv, axis1=1, axis2=2).real
        variance = jnp.where(self._coef_lost(), jnp.inf, parts * own + spread.T)
        return jnp.where(self.held_coef, jnp.nan, variance).T

    def _coef_lost(self) -> Bool[Array, "k n"]:
        # A coefficient that leans on an undetermined parameter is undetermined too.
        return self.lost_coef | ((self.sensitivity != 0) & self.lost_alpha).any(axis=-1)


def covariance_blocks(
    reduced: AnyReduced, alpha: Float[Array, " p"], point: PyTree, on_bound: Bool[Array, " p"]
) -> CovarianceBlocks:
    """The blocks at the solution, by rank-revealing factorisations of Phi and J.

    `point` is that of `reduced` at alpha; it is evaluated anew if its factor reveals no rank.
    """
    reduced, point = without_rounding_coefficients(reduced, alpha, point)
    jac = reduced.rotated(alpha, point)[0] if alpha.size else jnp.zeros((0, 0), alpha.dtype)
    return combine(
        parameter_covariance(jac, on_bound), coefficient_covariance(reduced, alpha, point, on_bound)
    )


def combine(spread: ParameterCovariance, coefficients: CoefficientCovariance) -> CovarianceBlocks:
    """The blocks from their two halves."""
    return CovarianceBlocks(**vars(spread), **vars(coefficients))


def without_rounding_coefficients(
    reduced: AnyReduced, alpha: Float[Array, " p"], point: PyTree
) -> tuple[AnyReduced, PyTree]:
    """The reduced problem with Kaufman's Jacobian and its point at alpha, without what is noise: a
    coefficient that is rounding says nothing about the parameters of its column."""
    if isinstance(reduced, ByGroup):
        clean = dataclasses.replace(reduced, linear_solver=SVD(), jacobian_kind="kaufman")
        assert isinstance(point, GroupPoint)
        found = reduced.each(
            lambda one, members, at: without_rounding_coefficients(one, alpha, at)[1], point.points
        )
        return clean, clean.point(tuple(found), point.squares)
    if isinstance(reduced, Coupled):
        # Penalties may hold what the data do not tell.
        reduced = Coupled(reduced.problem, SVD(), "kaufman")
        return reduced, reduced.evaluate(alpha)[1]
    problem, phi = reduced.problem, reduced.problem.phi(alpha)
    data_norm = problem.weighted_columns(problem.target(alpha))
    if isinstance(reduced, Columnwise):
        reduced = Columnwise(problem, reduced.linear_solver, "kaufman")
        size = jnp.linalg.norm(phi, axis=0)[:, None] * jnp.abs(point.coef)
        noise = 100 * jnp.finfo(size.dtype).eps * jnp.linalg.norm(data_norm, axis=0)
        coef = jnp.where(size > noise, point.coef, jnp.zeros_like(point.coef))
        return reduced, eqx.tree_at(lambda at: at.coef, point, coef)
    known = isinstance(reduced.linear_solver, SVD)
    reduced = Reduced(problem, SVD(), "kaufman")
    if not known:
        _, point = reduced.evaluate(alpha)
    size = jnp.linalg.norm(phi, axis=0) * jnp.linalg.norm(point.coef, axis=1)
    noise = 100 * jnp.finfo(size.dtype).eps * jnp.linalg.norm(data_norm)
    keep = (size > noise)[:, None]
    coef, rotated = (jnp.where(keep, c, jnp.zeros_like(c)) for c in (point.coef, point.rotated))
    return reduced, eqx.tree_at(lambda at: (at.coef, at.rotated), point, (coef, rotated))


def parameter_covariance(
    jac: Float[Array, "N p"], on_bound: Bool[Array, " p"]
) -> ParameterCovariance:
    """The covariance of alpha from the Jacobian of the residual; rows may be turned."""
    p = jac.shape[1]
    if p == 0:
        none = jnp.zeros((0,), jac.dtype)
        return ParameterCovariance(
            jac[:0], jac[:0], none, none > 0, none > 0, jnp.ones((), jac.dtype)
        )
    jac = jnp.where(on_bound, 0.0, jac)
    size = jnp.linalg.norm(jac, axis=0)
    scale = jnp.where(size > 0, size, jnp.ones_like(size))
    # A row of its own for each coordinate on a bound: its column is of norm one and normal to all
    # others, as if it were not there for rank and condition number.
    apart = jnp.diag(on_bound.astype(jac.dtype))
    factor = SVD().factor(jnp.linalg.qr(jnp.concatenate([jac / scale, apart]), mode="r"))
    eye = jnp.eye(p, dtype=jac.dtype)
    null = eye - factor.onto_rows(eye)
    lost = (jnp.diag(null) > _LOST) & ~on_bound
    unit = jnp.where(on_bound, 0.0, 1.0 / scale)
    half = jnp.where(on_bound, 0.0, factor.pinv_h(eye) / scale)
    return ParameterCovariance(half, null * unit, unit, lost, on_bound, factor.cond)


def coefficient_covariance(
    reduced: AnyReduced, alpha: Float[Array, " p"], point: PyTree, on_bound: Bool[Array, " p"]
) -> CoefficientCovariance:
    """How the coefficients follow alpha and what they spread besides; from what `without_rounding_coefficients` returns."""
    if isinstance(reduced, ByGroup):
        return _by_basis(reduced, alpha, point, on_bound)
    if isinstance(reduced, Columnwise):
        found = _one_by_one(reduced, alpha, point, on_bound)
    elif isinstance(reduced, Coupled):
        found = _coupled(reduced, alpha, point, on_bound)
    else:
        found = _together(reduced, alpha, point, on_bound)
    return _of_all(found, reduced.problem.linear)


def _coupled(
    reduced: Coupled, alpha: Float[Array, " p"], point: CoupledPoint, on_bound: Bool[Array, " p"]
) -> CoefficientCovariance:
    """For right-hand sides that penalties couple: from what they are without these."""
    n, k = point.coef.shape
    free = _together(reduced, alpha, point, on_bound)
    areas, bond = reduced.areas, point.bond
    half = bond.half
    sensitivity = free.sensitivity
    if alpha.size:
        moved, _ = bond.pulled(areas, jnp.moveaxis(sensitivity, 0, 1))
        sensitivity = jnp.moveaxis(moved, 1, 0)
    gram_inv = free.gram_inv - half @ half.swapaxes(1, 2)
    # The trace of P cov P^T is that of I - (I + T)^{-1}.
    inside = bond.gram.shape[0] - jnp.trace(jnp.linalg.inv(bond.gram))
    each = {
        key: jnp.broadcast_to(getattr(free, key), (k, *getattr(free, key).shape[1:]))
        for key in ("null_coef", "unit_coef", "lost_coef", "held_coef")
    }
    taken = jnp.sum(_taken_by_penalty(reduced.problem.linear, gram_inv))
    return CoefficientCovariance(
        gram_inv=gram_inv,
        sensitivity=sensitivity,
        **each,
        rank=free.rank,
        cond=free.cond,
        count=k * n - taken - inside,
        coupling=half,
    )


def _together(
    reduced: Reduced | Coupled,
    alpha: Float[Array, " p"],
    point: Point | CoupledPoint,
    on_bound: Bool[Array, " p"],
) -> CoefficientCovariance:
    """For right-hand sides that have one basis."""
    problem, factor, coef = reduced.problem, point.factor, point.coef
    n, k = coef.shape
    p = alpha.size
    eye = jnp.eye(n, dtype=coef.dtype)
    null = eye - factor.onto_rows(eye)
    unit = 1.0 / factor.scale
    sensitivity = jnp.zeros((k, n, p), coef.dtype)
    if p:
        # Of many right-hand sides by way of Phi^+ Phi' (n n) for each coordinate: nothing of the size
        # m k p is formed.
        some = coef if k <= n else eye
        sensitivity = coefficient_sensitivity(problem, factor, alpha, some)
        if k > n:
            sensitivity = jnp.einsum("inp,ik->knp", sensitivity, coef)
        tangent = problem.target_derivative(alpha)
        if tangent is not None:
            follows, _ = solution_derivative(factor, factor.head(tangent.astype(coef.dtype)))
            sensitivity = sensitivity - follows
        sensitivity = jnp.where(on_bound, jnp.zeros((), sensitivity.dtype), sensitivity)
    gram_inv = factor.gram_inv(eye) / factor.scale[:, None] / factor.scale
    return CoefficientCovariance(
        gram_inv[None],
        sensitivity,
        (null * unit[:, None])[None],
        unit[None],
        (jnp.diag(null).real > _LOST)[None],
        jnp.zeros((1, n), bool),
        factor.rank,
        factor.cond,
        k * (n - _taken_by_penalty(problem.linear, gram_inv[None])[0]),
    )


def coefficient_sensitivity(
    problem: Problem, factor: Balanced, alpha: Float[Array, " p"], coef: Inexact[Array, "n j"]
) -> Inexact[Array, "j n p"]:
    """`Phi^+ Phi' c` for each column c of `coef`: how coefficients c move against alpha."""
    v, _ = problem.apply_derivative(alpha, coef)
    n, j = coef.shape
    moved, _ = solution_derivative(factor, factor.head(v.reshape(-1, j * alpha.size)))
    return moved.reshape(n, j, alpha.size).transpose(1, 0, 2)


def _one_by_one(
    reduced: Columnwise, alpha: Float[Array, " p"], point: ColumnPoint, on_bound: Bool[Array, " p"]
) -> CoefficientCovariance:
    """For right-hand sides of which each has a basis of its own: the columns off their bounds."""
    rows, p = reduced.rows(alpha), alpha.size
    scale = jnp.where(jnp.isfinite(s := column_scale(rows.phi)), s, 1.0)
    n = point.coef.shape[0]
    eye = jnp.eye(n, dtype=rows.phi.dtype)

    def block(coef, free, weights=None):
        factor, head = reduced.measured(rows, coef, free, weights, p)

        def one(triangle, head, free):
            svd = SVD().factor(jnp.where(free, triangle / scale, 0.0))
            null = (eye - svd.onto_rows(eye)) * (free[:, None] & free)
            gram = svd.gram_inv(eye) / scale[:, None] / scale
            return gram, solution_derivative(svd, head)[0] / scale[:, None], null

        return jax.vmap(one, in_axes=-1, out_axes=-1)(factor.r, head, free)

    args = (point.coef, point.free) + (() if rows.weights is None else (rows.weights,))
    gram_inv, sensitivity, null = (
        jnp.moveaxis(a, -1, 0) for a in in_blocks(block, args, rows.lanes)
    )
    held = ~point.free.T
    sensitivity = jnp.where(on_bound, jnp.zeros((), sensitivity.dtype), sensitivity)
    used = jnp.sum(point.free, axis=0) - _taken_by_penalty(reduced.problem.linear, gram_inv)
    unit = jnp.broadcast_to(1.0 / scale, held.shape)
    return CoefficientCovariance(
        gram_inv,
        sensitivity,
        null * unit[:, :, None],
        unit,
        jnp.diagonal(null, axis1=1, axis2=2).real > _LOST,
        held,
        point.factor.rank,
        point.factor.cond,
        jnp.sum(used),
    )


def _by_basis(
    reduced: ByGroup, alpha: Float[Array, " p"], point: GroupPoint, on_bound: Bool[Array, " p"]
) -> CoefficientCovariance:
    """For right-hand sides that are gathered by basis."""
    groups, k = reduced.problem.groups, point.coef.shape[1]
    found = reduced.each(
        lambda one, members, at: coefficient_covariance(one, alpha, at, on_bound), point.points
    )
    of_each = ("gram_inv", "sensitivity", "null_coef", "unit_coef", "lost_coef", "held_coef")
    joined = {
        key: scattered(groups, [getattr(part, key) for part in found], 0, k) for key in of_each
    }
    count = jnp.sum(jnp.concatenate([part.count for part in found]))
    rank, cond = point.factor
    return CoefficientCovariance(**joined, rank=rank, cond=cond, count=count)


def _taken_by_penalty(linear: Linear, gram_inv: Inexact[Array, "g n n"]) -> Float[Array, " g"]:
    """How many coefficients a penalty determines in place of the data."""
    rows = linear.rows
    if rows is None:
        return jnp.zeros(gram_inv.shape[:1], gram_inv.real.dtype)
    return jnp.einsum("ln,gno,lo->g", rows, gram_inv, rows).real


def _of_all(found: CoefficientCovariance, linear: Linear) -> CoefficientCovariance:
    """Of all coefficients, those that follow others among them."""
    mix = linear.mix
    if mix is None:
        return found
    mix = jnp.asarray(mix)
    leans = mix != 0
    # What follows nothing is known, what follows held ones alone is held.
    follows = jnp.any(leans, axis=1)
    free = jnp.any(leans & ~found.held_coef[:, None], axis=-1)
    return CoefficientCovariance(
        jnp.einsum("Nn,gno,Oo->gNO", mix, found.gram_inv, mix),
        jnp.einsum("Nn,knp->kNp", mix, found.sensitivity),
        jnp.einsum("Nn,gno->gNo", mix, found.null_coef),
        jnp.einsum("Nn,gn->gN", jnp.abs(mix), found.unit_coef),
        jnp.any(leans & found.lost_coef[:, None], axis=-1),
        follows & ~free,
        found.rank,
        found.cond,
        found.count,
        coupling=None if found.coupling is None else jnp.einsum("Nn,knl->kNl", mix, found.coupling),
    )
