"""Several data sets, with rows and right-hand sides of their own, that share nonlinear parameters.

Of data set d with parameter values v_d the residual is r_d(v_d), each with its own coefficients
eliminated. All values are functions of the free coordinates alpha, so that the Jacobian is made of
blocks J_d (dv_d / dtheta). Of each block the triangle alone is kept: [J_d r_d] = Q_d R_d has as many
rows as data set d has parameters, plus one, however many samples it has.
"""

import functools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from .._parameters.layout import Layout, Numbers
from .._problem.problem import Problem
from .._types import ArrayIn
from ..linalg import AbstractPinvSolver
from .abstract import AbstractReduced, Jacobian
from .by_group import AnyReduced, ByGroup, reduction
from .per_column import Columnwise


class Stack(eqx.Module):
    """Data sets of one shape and model: every array has a leading axis, one entry for each.

    `picks`: which of all parameter values each data set takes; `free`: those of its own q values
    that are coordinates of its reduced problem, the same for all.
    """

    problem: Problem
    picks: Int[ArrayIn, "d q"]
    free: tuple[int, ...] = eqx.field(static=True)

    def each(self, function: Callable[..., PyTree], *args: PyTree) -> PyTree:
        """`function(problem, *args)` for one data set after the other, results stacked."""
        arrays, static = eqx.partition((self.problem, *args), eqx.is_array)

        def one(arrays):
            problem, *rest = eqx.combine(arrays, static)
            return function(problem, *rest)

        if len(self.picks) > 1:
            return jax.lax.map(one, arrays)
        alone = one(jax.tree.map(lambda a: a[0], arrays))
        return jax.tree.map(lambda a: a[None], alone)


class Several(AbstractReduced):
    """The reduced problems of all data sets as one. `apart`: with right-hand sides one by one, whether or
    not they have a basis in common."""

    stacks: tuple[Stack, ...]
    layout: Layout
    numbers: Numbers
    priors: tuple[int, ...] = eqx.field(static=True)
    linear_solver: AbstractPinvSolver
    jacobian_kind: Jacobian = eqx.field(static=True)
    apart: bool = eqx.field(static=True, default=False)

    def values(self, alpha: Float[Array, " p"]) -> Float[Array, " q"]:
        """All parameter values."""
        return self.layout.values(alpha, self.numbers)

    def restricted(
        self, stack: Stack, problem: Problem, v: Float[Array, " q"]
    ) -> tuple[AnyReduced, Float[Array, " f"]]:
        """The reduced problem of one data set, and its coordinates where its values are v."""
        at = eqx.tree_at(lambda it: it.columns.numbers.start, problem, v)
        how = self.linear_solver, self.jacobian_kind
        if self.apart:
            kind = ByGroup(at, *how, apart=True) if at.groups else Columnwise(at, *how)
        else:
            kind = reduction(at, *how)
        return kind, v[np.array(stack.free, int)]

    def evaluate(
        self, alpha: Float[Array, " p"]
    ) -> tuple[Float[Array, " M"], tuple[tuple[PyTree, Float[Array, " d"]], ...]]:
        full = self.values(alpha)
        parts, points = [], []
        for stack in self.stacks:

            def one(problem, v, stack=stack):
                mine, local = self.restricted(stack, problem, v)
                rows, point = mine.evaluate(local)
                return rows, (point, 0.5 * jnp.sum(rows**2))

            rows, point = stack.each(one, full[stack.picks])
            parts.append(rows.reshape(-1))
            points.append(point)
        return jnp.concatenate([*parts, self.prior(full)]), tuple(points)

    def jacobian(self, alpha: Float[Array, " p"], point: PyTree) -> Float[Array, "M p"]:
        def whole(mine, local, point):
            return mine.jacobian(local, point)

        return jnp.concatenate([*self.blocks(alpha, point, whole), self._prior_rows(alpha)])

    def rotated(
        self, alpha: Float[Array, " p"], point: PyTree
    ) -> tuple[Float[Array, "N p"], Float[Array, " N"]]:
        def triangle(mine, local, point):
            jac, rows = mine.rotated(local, point)
            both = jnp.concatenate([jac, rows[:, None]], axis=1)
            return jnp.linalg.qr(both, mode="r") if both.shape[0] > both.shape[1] else both

        found = self.blocks(alpha, point, triangle, extra=1)
        jac = jnp.concatenate([block[:, :-1] for block in found])
        rows = jnp.concatenate([block[:, -1] for block in found])
        return (
            jnp.concatenate([jac, self._prior_rows(alpha)]),
            jnp.concatenate([rows, self.prior(self.values(alpha))]),
        )

    def blocks(
        self,
        alpha: Float[Array, " p"],
        point: PyTree,
        function: Callable[[AbstractReduced, Array, PyTree], Float[Array, "s f"]],
        extra: int = 0,
    ) -> list[Array]:
        """Derivatives by the coordinates of each data set turned into derivatives by alpha; what
        `function` returns in its `extra` last columns stays as it is."""
        full, transform = self.values(alpha), jax.jacfwd(self.values)(alpha)
        found = []
        for stack, (points, _) in zip(self.stacks, point, strict=True):

            def one(problem, picks, point, stack=stack):
                mine, local = self.restricted(stack, problem, full[picks])
                block = function(mine, local, point)
                inner = block[:, : block.shape[1] - extra]
                moved = inner @ transform[picks[np.array(stack.free, int)]]
                return jnp.concatenate([moved, block[:, block.shape[1] - extra :]], axis=1)

            each = stack.each(one, jnp.asarray(stack.picks), points)
            found.append(jax.lax.collapse(each, 0, each.ndim - 1))
        return found

    def data_norm(self, alpha: Float[Array, " p"]) -> Float[Array, ""]:
        full = self.values(alpha)
        squares = jnp.zeros((), alpha.dtype)
        for stack in self.stacks:

            def one(problem, v, stack=stack):
                mine, local = self.restricted(stack, problem, v)
                return mine.data_norm(local) ** 2

            squares = squares + jnp.sum(stack.each(one, full[stack.picks]))
        return jnp.sqrt(squares)

    def rounding_factor(self, alpha: Float[Array, " p"]) -> float | None:
        found = []
        for stack in self.stacks:
            problem = jax.tree.map(lambda a: a[0] if eqx.is_array(a) else a, stack.problem)
            mine, local = self.restricted(stack, problem, self.values(alpha)[stack.picks[0]])
            found.append(mine.rounding_factor(local))
        return max((b for b in found if b is not None), default=None)

    def quality(self, point: PyTree) -> dict[str, Array]:
        """Rank and condition number of the basis of each data set, in the order of the stacks."""
        found = [at.factor for at, _ in point]
        rank = [jax.vmap(lambda f: f.rank)(factor) for factor in found]
        cond = [jax.vmap(lambda f: f.cond)(factor) for factor in found]
        return {"rank": jnp.concatenate(rank), "cond": jnp.concatenate(cond)}

    def cost(self, alpha: Float[Array, " p"], point: PyTree) -> Float[Array, ""]:
        total = 0.5 * jnp.sum(self.prior(self.values(alpha)) ** 2)
        return total + sum(jnp.sum(costs) for _, costs in point)

    def prior(self, values: Float[Array, " q"]) -> Float[Array, " s"]:
        """The residuals of priors on the parameter values."""
        at = np.array(self.priors, int)
        return (values[at] - self.numbers.prior_mean[at]) / self.numbers.prior_sd[at]

    def _prior_rows(self, alpha: Float[Array, " p"]) -> Float[Array, "s p"]:
        return jax.jacfwd(lambda alpha: self.prior(self.values(alpha)))(alpha)


def stacked(
    problems: Sequence[Problem], picks: Sequence[np.ndarray], free: Sequence[tuple[int, ...]]
) -> tuple[tuple[Stack, ...], tuple[tuple[int, ...], ...]]:
    """Data sets gathered by shape, and the indices of those in each stack."""
    members: dict[object, list[int]] = {}
    for i, problem in enumerate(problems):
        leaves, structure = jax.tree.flatten(problem)
        shapes = tuple(
            (np.shape(leaf), str(leaf.dtype))
            if eqx.is_array_like(leaf) and hasattr(leaf, "dtype")
            else leaf
            for leaf in leaves
        )
        members.setdefault((structure, shapes, free[i]), []).append(i)
    stacks = []
    for group in members.values():
        problem = jax.tree.map(
            lambda *a: np.stack(a) if hasattr(a[0], "dtype") else a[0],
            *(problems[i] for i in group),
        )
        stacks.append(Stack(problem, np.stack([picks[i] for i in group]), free[group[0]]))
    return tuple(stacks), tuple(tuple(group) for group in members.values())


@functools.lru_cache(maxsize=256)
def local_layout(names: tuple[str, ...], free: tuple[int, ...]) -> tuple[Layout, Numbers]:
    """The layout of one data set in which its free values are the coordinates."""
    q = len(names)
    layout = Layout(names, free, tuple(range(q)), (), ())
    none, every = np.zeros(q), np.full(q, np.inf)
    return layout, Numbers(none, -every, every, none, every, none + 1.0, none)
