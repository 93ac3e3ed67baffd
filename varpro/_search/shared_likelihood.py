"""The minimum of a noise model's own cost where many right-hand sides share the nonlinear parameters.

Variable projection with another cost than squares: for given alpha every right-hand side finds its own
coefficients, which leaves a function of alpha alone,

    F(alpha) = sum_j min_c f_j(alpha, c)

whose derivatives are those of f_j where its coefficients are best, with g = (g_a, g_c), g_c = 0, and
second derivatives in blocks,

    F' = sum_j g_a,        F'' = sum_j (H_aa - H_ac H_cc^{-1} H_ca)

the Schur complement (Ruhe and Wedin, SIAM Review 22, 1980, 318). Coefficients on a bound take no part.
Nothing of the size of all coefficients squared is formed.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, Int, PyTree

from .._problem.columns import AbstractColumns, Assembled
from .._problem.linear_constraints import Linear
from .._problem.noise import AbstractNoise
from .._problem.problem import Problem
from .._problem.side_groups import each_basis, scattered
from .._reduced.multi_dataset import Several
from ..linalg._cholesky import positive, solve
from .likelihood import Box, Sample, derivatives, likeliest
from .newton import Point, curvature, minimum, newton_step, off_bounds

# Right-hand sides that are searched side by side: all wait for the slowest of them.
_LANES = 128


class Eliminated(NamedTuple):
    """F at alpha and its derivatives; `sure`, `whole`, `scale` and `size` as in `likelihood.Derivatives`;
    the coefficients, and whether those of all right-hand sides are the best ones."""

    cost: Float[Array, ""]
    size: Float[Array, ""]
    gradient: Float[Array, " p"]
    sure: Float[Array, "p p"]
    whole: Float[Array, "p p"]
    scale: Float[Array, " p"]
    coef: PyTree
    settled: Bool[Array, ""]
    steps: Int[Array, ""]

    def moved_by(self, transform: Float[Array, "p a"]) -> "Eliminated":
        """The same by other coordinates, which alpha follows with this derivative."""
        return self._replace(
            gradient=transform.T @ self.gradient,
            sure=transform.T @ self.sure @ transform,
            whole=transform.T @ self.whole @ transform,
            scale=(transform**2).T @ self.scale,
        )


class SharedLikeliest(NamedTuple):
    """Where the cost is least: parameters, coefficients, the cost, whether it is stationary there by
    all of them, and how many trial points there were."""

    alpha: Float[Array, " p"]
    coef: PyTree
    cost: Float[Array, ""]
    converged: Bool[Array, ""]
    steps: Int[Array, ""]


class _Held(AbstractColumns):
    """Columns at one alpha."""

    at: Inexact[Array, "m n"]
    shift: Inexact[Array, " m"] | None

    def phi(self, alpha):
        return self.at

    def offset(self, alpha):
        return self.shift

    def apply_derivative(self, alpha, b, r=None):
        none = jnp.zeros((self.at.shape[0], b.shape[1], 0), self.at.dtype)
        return none, None if r is None else jnp.zeros((*b.shape, 0), self.at.dtype)

    def prior(self, alpha):
        return None


def eliminated(
    problem: Problem,
    noise: AbstractNoise,
    alpha: Float[Array, " p"],
    coef: Inexact[Array, "n k"],
) -> Eliminated:
    """F at alpha, without priors, from coefficients near the best ones. The weights of the problem are the
    given ones."""
    if problem.groups:
        return _of_every_basis(problem, noise, alpha, coef)
    columns, linear, p = _without_priors(problem.columns), problem.linear, alpha.size
    y = jnp.asarray(problem.y)
    unit = jnp.ones((), alpha.dtype)
    held = _Held(columns.phi(alpha), columns.offset(alpha))
    bounds = {"lower": linear.lower, "upper": linear.upper}
    n, k = coef.shape
    ends = [
        jnp.broadcast_to(jnp.full((), none) if b is None else jnp.asarray(b), (n, k)).astype(
            alpha.dtype
        )
        for b, none in zip(bounds.values(), (-jnp.inf, jnp.inf), strict=True)
    ]
    plain: Linear = dataclasses.replace(linear, lower=None, upper=None)
    slack = jnp.asarray(noise.slack(alpha.dtype), alpha.dtype)

    def one(args):
        y, given, lower, upper, c = args
        sample, box = Sample(y, given, unit, noise), Box(None, None, lower, upper)
        end = likeliest(held, plain, sample, box, alpha[:0], c, lanes=True)
        seen = derivatives(columns, plain, sample, alpha, end.coef, slack)
        free = jnp.ones((seen.gradient.size - p,), bool)
        if linear.bounded:
            free = off_bounds(end.coef.real, seen.gradient[p : p + n], lower, upper)
            free = jnp.concatenate([free, free]) if seen.gradient.size > p + n else free

        def among(matrix):
            both = free[:, None] & free
            return jnp.where(both, matrix[p:, p:], jnp.diag(jnp.where(free, 0.0, 1.0)))

        def schur(matrix):
            across, own = jnp.where(free, matrix[:p, p:], 0.0), among(matrix)
            back = jax.vmap(lambda row: solve(own, row))(across)
            return matrix[:p, :p] - across @ back.T

        whole = jnp.where(positive(among(seen.whole)), seen.whole, seen.sure)
        found = (seen.cost, seen.size, seen.gradient[:p], schur(seen.sure), schur(whole))
        return found, seen.scale[:p], end.coef, end.converged, end.steps

    given = _given(problem, y.shape, alpha.dtype)
    if noise.slack(alpha.dtype):
        # Where nothing was counted the best coefficients are those of least squares: zero.
        given = jnp.where(jnp.any((y != 0) & (given > 0), axis=0), given, 0.0)
    args = (y.T, given.T, ends[0].T, ends[1].T, coef.T)
    found, scale, coef, settled, steps = _of_each(one, args, min(_LANES, k))
    cost, size, gradient, sure, whole = (jnp.sum(a, axis=0) for a in found)
    total = (cost, size, gradient, sure, whole, jnp.sum(scale, axis=0))
    return Eliminated(*total, coef.T, jnp.all(settled), jnp.max(steps))


def _of_each(one: Callable[[Any], Any], args: tuple[Array, ...], lanes: int) -> Any:
    """`one` of each row of `args`. What has no numbers, as the gradient without a parameter, `lax.map` cannot
    put together again."""
    structure: list[Any] = []

    def with_numbers(row):
        leaves, tree = jax.tree.flatten(one(row))
        structure[:] = tree, [(leaf.size > 0, leaf.shape, leaf.dtype) for leaf in leaves]
        return [leaf for leaf in leaves if leaf.size]

    found = iter(jax.lax.map(with_numbers, args, batch_size=lanes))
    tree, kinds = structure
    every = [
        next(found) if some else jnp.zeros((len(args[0]), *shape), dtype)
        for some, shape, dtype in kinds
    ]
    return jax.tree.unflatten(tree, every)


def _of_every_basis(
    problem: Problem,
    noise: AbstractNoise,
    alpha: Float[Array, " p"],
    coef: Inexact[Array, "n k"],
) -> Eliminated:
    """The same of right-hand sides that are gathered by basis."""

    def one(members):
        return eliminated(problem.of(members), noise, alpha, coef[:, members])

    found = each_basis(problem.groups, one)
    sums = [
        jnp.sum(jnp.concatenate([getattr(part, key) for part in found]), axis=0)
        for key in ("cost", "size", "gradient", "sure", "whole", "scale")
    ]
    every = scattered(problem.groups, [part.coef for part in found], 1, coef.shape[1])
    settled = jnp.all(jnp.concatenate([part.settled for part in found]))
    steps = jnp.max(jnp.concatenate([part.steps for part in found]))
    return Eliminated(*sums, every, settled, steps)


def eliminated_of_sets(
    several: Several, noise: AbstractNoise, alpha: Float[Array, " p"], coef: tuple[Array, ...]
) -> Eliminated:
    """The same of all data sets together; coefficients (d, n, k) by stack."""
    full, transform = several.values(alpha), jax.jacfwd(several.values)(alpha)
    stacks = []
    for stack, start in zip(several.stacks, coef, strict=True):

        def one(problem, picks, start, stack=stack):
            mine, local = several.restricted(stack, problem, full[picks])
            found = eliminated(mine.problem, noise, local, start)
            return found.moved_by(transform[picks[np.array(stack.free, int)]])

        stacks.append(stack.each(one, jnp.asarray(stack.picks), start))
    sums = [
        jnp.sum(jnp.concatenate([getattr(each, key) for each in stacks]), axis=0)
        for key in ("cost", "size", "gradient", "sure", "whole", "scale")
    ]
    settled = jnp.all(jnp.concatenate([each.settled for each in stacks]))
    steps = jnp.max(jnp.concatenate([each.steps for each in stacks]))
    return Eliminated(*sums, tuple(each.coef for each in stacks), settled, steps)


def likeliest_of_all(
    evaluate: Callable[[Array, PyTree], Eliminated],
    prior: Callable[[Array], Float[Array, " s"]] | None,
    limits: tuple[Array | None, Array | None],
    alpha: Float[Array, " p"],
    coef: PyTree,
    told: Callable[[Array, Array, Array, Array], Bool[Array, ""]] | None = None,
) -> SharedLikeliest:
    """The minimum of F that begins near `alpha`, with `evaluate(alpha, coef)` and residuals of priors;
    `told` as in `newton.minimum`."""
    none = jnp.full_like(alpha, jnp.inf)
    lower = -none if limits[0] is None else jnp.asarray(limits[0])
    upper = none if limits[1] is None else jnp.asarray(limits[1])

    def point(theta, slack, more):
        seen: Any = evaluate(theta, more[0])
        cost, size, gradient = seen.cost, seen.size, seen.gradient
        sure, whole, scale = seen.sure, seen.whole, seen.scale
        if prior is not None:
            value, rows = prior(theta), jax.jacfwd(prior)(theta)
            half, gram = 0.5 * jnp.sum(value**2), rows.T @ rows
            cost, size, gradient = cost + half, size + half, gradient + rows.T @ value
            sure, whole, scale = sure + gram, whole + gram, scale + jnp.diagonal(gram)
        free = off_bounds(theta, gradient, lower, upper)
        hessian = curvature(sure, whole, free)
        everywhere = jnp.full((), jnp.inf, theta.dtype)
        more = seen.coef, seen.settled, seen.steps
        at = Point(theta, cost, size, gradient, hessian, scale, cost, everywhere, more)
        _, promise = newton_step(at, lower, upper, 0.0)
        return at._replace(promise=promise)

    # The cost is known as well as the searches for coefficients end.
    rounding = float(jnp.finfo(alpha.dtype).eps) ** 0.75
    begin = coef, jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    found = minimum(point, alpha, lower, upper, begin, rounding=rounding, told=told)
    coef, settled, _ = found.at.more
    return SharedLikeliest(
        found.at.theta, coef, found.at.cost, found.converged & settled, found.steps
    )


def weighted_by(
    problem: Problem, noise: AbstractNoise, alpha: Float[Array, " p"], coef: Inexact[Array, "n k"]
) -> Problem:
    """The problem with the weights of its values that belong to a model, from its given ones."""
    y = jnp.asarray(problem.y)
    unit = jnp.ones((), alpha.dtype)

    def one(model, y, given):
        # Where nothing was counted no mean tells of a weight, and one column must not harm the others.
        some = jnp.any((y != 0) & (given > 0))
        return jnp.where(some, noise.weights(model, y, given, unit), given)

    weights = jax.vmap(one, 1, 1)(
        problem.curve(alpha, coef), y, _given(problem, y.shape, alpha.dtype)
    )
    if y.shape[1] == 1:
        return dataclasses.replace(problem, weights=weights[:, 0], column_weights=None)
    return dataclasses.replace(problem, weights=None, column_weights=weights)


def _without_priors(columns: AbstractColumns) -> AbstractColumns:
    return dataclasses.replace(columns, priors=()) if isinstance(columns, Assembled) else columns


def _given(problem: Problem, shape: tuple[int, ...], dtype: Any) -> Float[Array, "m k"]:
    if problem.column_weights is not None:
        return jnp.asarray(problem.column_weights)
    weights = problem.weights
    weights = jnp.ones(shape[0], dtype) if weights is None else jnp.asarray(weights)
    return jnp.broadcast_to(weights[:, None], shape)
