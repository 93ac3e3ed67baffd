"""The reduced problem of right-hand sides that have different bases, as through a response with dispersion.

Those that have one basis make a reduced problem of their own, with one factorisation and what compresses
them; of all of these the residuals stand one after the other. Of each the search gets a triangle, [J_d r_d] =
Q_d R_d, however many samples there are, and one after the other is in memory.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int, PyTree

from .._problem.columns import Assembled
from .._problem.problem import Problem
from .._problem.side_groups import each_basis, scattered
from ..linalg import AbstractPinvSolver
from .abstract import AbstractReduced, Jacobian
from .common_basis import Reduced
from .coupled import Coupled
from .per_column import Columnwise, one_basis, with_coefficients as with_those_of_one


class Quality(NamedTuple):
    """The least rank and the largest condition number among the bases."""

    rank: Int[Array, ""]
    cond: Float[Array, ""]


class GroupPoint(eqx.Module):
    """What the Jacobian at the same alpha reuses: the `points` of every basis, by stack, `coef` of all
    right-hand sides, and the `squares` of each stack, without priors."""

    points: tuple[PyTree, ...]
    coef: Inexact[Array, "n k"]
    factor: Quality
    squares: Float[Array, ""]


class ByGroup(AbstractReduced):
    """The reduced problem of one data set whose right-hand sides are gathered by basis. `apart`: with
    right-hand sides one by one, whether or not they have a basis in common."""

    problem: Problem
    linear_solver: AbstractPinvSolver
    jacobian_kind: Jacobian = eqx.field(static=True)
    apart: bool = eqx.field(static=True, default=False)

    def of(self, members: Int[Array, " s"]) -> Reduced | Columnwise:
        """The reduced problem of right-hand sides that have one basis, without priors."""
        problem = self.problem.of(members)
        if isinstance(problem.columns, Assembled):
            columns = dataclasses.replace(problem.columns, priors=())
            problem = dataclasses.replace(problem, columns=columns)
        if self.apart:
            return Columnwise(problem, self.linear_solver, self.jacobian_kind)
        return one_basis(problem, self.linear_solver, self.jacobian_kind)

    def each(self, function, *args) -> list[PyTree]:
        """`function(reduced problem, members, *args)` of one basis after the other, by stack."""
        groups = self.problem.groups
        return each_basis(groups, lambda one, *rest: function(self.of(one), one, *rest), *args)

    def point(self, points: tuple[PyTree, ...], squares: Float[Array, ""]) -> GroupPoint:
        """The point of all from those of every basis."""
        groups, count = self.problem.groups, self.problem.y.shape[1]
        coef = scattered(groups, [at.coef for at in points], 1, count)
        found = [jax.vmap(lambda f: (f.rank, f.cond))(at.factor) for at in points]
        rank, cond = (jnp.concatenate(parts) for parts in zip(*found, strict=True))
        return GroupPoint(points, coef, Quality(jnp.min(rank), jnp.max(cond)), squares)

    def evaluate(self, alpha: Float[Array, " p"]) -> tuple[Float[Array, " M"], GroupPoint]:
        found = self.each(lambda one, members: one.evaluate(alpha))
        rows = jnp.concatenate([rows.reshape(-1) for rows, _ in found])
        point = self.point(tuple(at for _, at in found), jnp.sum(rows**2))
        return jnp.concatenate([rows, self._prior(alpha)]), point

    def jacobian(self, alpha: Float[Array, " p"], point: GroupPoint) -> Float[Array, "M p"]:
        found = self.each(lambda one, members, at: one.jacobian(alpha, at), point.points)
        return self._with_prior(alpha, [jax.lax.collapse(jac, 0, 2) for jac in found])

    def rotated(
        self, alpha: Float[Array, " p"], point: GroupPoint
    ) -> tuple[Float[Array, "N p"], Float[Array, " N"]]:
        def triangle(one, members, at):
            jac, rows = one.rotated(alpha, at)
            both = jnp.concatenate([jac, rows[:, None]], axis=1)
            return jnp.linalg.qr(both, mode="r") if both.shape[0] > both.shape[1] else both

        found = [jax.lax.collapse(both, 0, 2) for both in self.each(triangle, point.points)]
        jac = self._with_prior(alpha, [both[:, :-1] for both in found])
        return jac, jnp.concatenate([*(both[:, -1] for both in found), self._prior(alpha)])

    def cost(self, alpha: Float[Array, " p"], point: PyTree) -> Float[Array, ""]:
        return 0.5 * (point.squares + jnp.sum(self._prior(alpha) ** 2))

    def data_norm(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        found = self.each(lambda one, members: one.data_norm(alpha) ** 2)
        return jnp.sqrt(sum((jnp.sum(part) for part in found), jnp.zeros((), alpha.dtype)))

    def rounding_factor(self, alpha: Float[Array, " p"]) -> float | None:
        found = [self.of(members[0]).rounding_factor(alpha) for members in self.problem.groups]
        return max((factor for factor in found if factor is not None), default=None)

    def quality(self, point: GroupPoint) -> dict[str, Array]:
        return {"rank": point.factor.rank, "cond": point.factor.cond}

    def _prior(self, alpha: Float[Array, " p"]) -> Float[Array, " s"]:
        prior = self.problem.columns.prior(alpha)
        return jnp.zeros(0, alpha.dtype) if prior is None else prior

    def _with_prior(self, alpha: Float[Array, " p"], rows: list[Array]) -> Float[Array, "M p"]:
        if self.problem.columns.prior(alpha) is None:
            return jnp.concatenate(rows)
        return jnp.concatenate([*rows, jax.jacfwd(self.problem.columns.prior)(alpha)])


AnyReduced = Reduced | Columnwise | ByGroup | Coupled


def reduction(
    problem: Problem, linear_solver: AbstractPinvSolver, jacobian: Jacobian
) -> AnyReduced:
    """The reduced problem in the form that its bases and rules allow."""
    if problem.linear.areas is not None:
        return Coupled(problem, linear_solver, jacobian)
    kind = ByGroup if problem.groups else one_basis
    return kind(problem, linear_solver, jacobian)


def with_coefficients(
    reduced: AnyReduced, alpha: Float[Array, " p"], coef: Inexact[Array, "n k"]
) -> tuple[AnyReduced, PyTree]:
    """The reduced problem and its point at alpha with coefficients that are not those of its weights."""
    assert not isinstance(reduced, Coupled)  # weights that follow the model are refused
    if not isinstance(reduced, ByGroup):
        return with_those_of_one(reduced, alpha, coef)
    reduced = dataclasses.replace(reduced, apart=True)

    def one(mine, members):
        return with_those_of_one(mine, alpha, coef[:, members])[1]

    squares = 2.0 * reduced.problem.cost(alpha, coef) - jnp.sum(reduced._prior(alpha) ** 2)
    return reduced, reduced.point(tuple(reduced.each(one)), squares)
