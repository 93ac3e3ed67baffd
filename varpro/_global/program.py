"""The compiled program of a fit of several data sets, and the record that it returns."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from .._parameters.inverses import Inverses
from .._parameters.layout import Coordinates
from .._problem.columns import Assembled
from .._problem.noise import AbstractNoise
from .._problem.problem import Problem
from .._programs.program import program
from .._reduced.by_group import with_coefficients
from .._reduced.multi_dataset import Several
from .._search.minimise import Search
from .._search.multistart import best_of
from .._search.progress import newton_teller
from .._search.shared_likelihood import eliminated_of_sets, likeliest_of_all, weighted_by
from .._statistics.covariance import (
    ParameterCovariance,
    coefficient_covariance,
    combine,
    parameter_covariance,
    without_rounding_coefficients,
)
from .._statistics.solution import DatasetOptimum, Either
from .._status import Status
from .._types import ArrayIn


class GlobalSolution(eqx.Module):
    """The record that the compiled program returns: the optima of data sets in stacks of one shape, and
    of all q parameters what `DatasetOptimum` has of those of one. `weights`, of noise whose weights follow
    the model: by stack, on the host those of each data set."""

    sets: list[DatasetOptimum]
    alpha: Float[Either, " p"]
    values: Float[Either, " q"]
    transform: Float[Either, "q p"]
    on_bound: Bool[Either, " q"]
    value_variance: Float[Either, " q"]
    covariance: ParameterCovariance
    status: Status
    cost: Float[Either, ""]
    start_costs: Float[Either, " s"]
    weights: list[Either] | None = None


def _entries(several: Several, coordinates: Coordinates, points: ArrayIn, *others: object) -> float:
    """Numbers that one evaluation makes: columns, derivatives by the coordinates of each, residuals."""
    total = 0.0
    for stack in several.stacks:
        _, m, k = stack.problem.y.shape
        columns = stack.problem.columns
        assert isinstance(columns, Assembled)
        width = sum(group.width for group in columns.model.groups)
        total += len(stack.picks) * m * (width + len(stack.free) + k)
    return total * len(points)


@program(entries=_entries)
def run_program(
    several: Several,
    coordinates: Coordinates,
    points: ArrayIn,
    how: Search,
    bounded: bool,
    inverses: Inverses,
    noise: AbstractNoise | None,
) -> GlobalSolution:
    """Everything that is computed for a fit of several data sets, one program per set of shapes."""
    lower, upper = jnp.asarray(coordinates.lower), jnp.asarray(coordinates.upper)
    limits = (lower, upper) if bounded else (None, None)
    start = several.values(jnp.asarray(coordinates.start))
    given = several, jnp.asarray(points), limits, how, inverses, several.values
    alpha, found, point, start_costs = best_of(*given)
    status, weighted = Status.of(found.result, found.stats), several
    if noise is not None:
        told = newton_teller(how.watch, several.values)
        given = several, limits, alpha, point, status, noise, told
        alpha, coef, weighted, status = _likeliest(*given)
        several = dataclasses.replace(several if noise.robust else weighted, apart=True)
        point = _with_coefficients(several, weighted, alpha, coef)
    on_bound = (alpha <= lower) | (alpha >= upper)
    values, transform = several.values(alpha), jax.jacfwd(several.values)(alpha)

    def clean(reduced, local, at):
        reduced, at = without_rounding_coefficients(reduced, local, at)
        jac = reduced.rotated(local, at)[0]
        return jnp.linalg.qr(jac, mode="r") if jac.shape[0] > jac.shape[1] else jac

    prior = jax.jacfwd(lambda alpha: several.prior(several.values(alpha)))(alpha)
    jac = jnp.concatenate([*several.blocks(alpha, point, clean), prior])
    whole = parameter_covariance(jac, on_bound)

    def parts(stack, shown, points):
        free = np.array(stack.free, int)

        def one(problem, picks, at, shown):
            reduced, local = several.restricted(stack, problem, values[picks])
            own = _restrict(whole, transform[picks[free]])
            reduced, at = without_rounding_coefficients(reduced, local, at)
            blocks = combine(own, coefficient_covariance(reduced, local, at, own.on_bound))
            places = jnp.eye(picks.size, dtype=local.dtype)[:, free]
            first, begin = several.restricted(stack, problem, start[picks])
            shown = several.restricted(stack, shown, values[picks])[0].problem
            return DatasetOptimum.at(
                shown,
                local,
                at.coef,
                blocks,
                start=start[picks],
                start_size=first.problem.column_size(begin)[1],
                values=values[picks],
                transform=places,
                on_bound=(transform[picks] != 0) @ on_bound,
                fitted=True,
            )

        return stack.each(one, jnp.asarray(stack.picks), points, shown.problem)

    pairs = zip(several.stacks, weighted.stacks, point, strict=True)
    return GlobalSolution(
        sets=[parts(stack, shown, at) for stack, shown, (at, _) in pairs],
        alpha=alpha,
        values=values,
        transform=transform,
        on_bound=(transform != 0) @ on_bound,
        value_variance=whole.value_variance(transform),
        covariance=whole,
        status=status,
        cost=several.cost(alpha, point),
        start_costs=start_costs,
        weights=None if noise is None else [_last_weights(s.problem) for s in weighted.stacks],
    )


def _likeliest(
    several: Several,
    limits: tuple[Array | None, Array | None],
    alpha: Array,
    point: PyTree,
    status: Status,
    noise: AbstractNoise,
    told: Callable[..., Array] | None,
) -> tuple[Array, tuple[Array, ...], Several, Status]:
    """The minimum of the cost of `noise` near that of least squares with the given weights: alpha,
    coefficients by stack, the data sets with the weights that belong to it, and the status of both
    searches together."""
    prior = None
    if several.priors and alpha.size:
        prior = lambda alpha: several.prior(several.values(alpha))  # noqa: E731

    def evaluate(alpha, coef):
        return eliminated_of_sets(several, noise, alpha, coef)

    coef = tuple(at.coef for at, _ in point)
    end = likeliest_of_all(evaluate, prior, limits, alpha, coef, told)
    values, stacks = several.values(end.alpha), []
    for stack, coef in zip(several.stacks, end.coef, strict=True):

        def one(problem, picks, coef, stack=stack):
            mine, local = several.restricted(stack, problem, values[picks])
            return weighted_by(mine.problem, noise, local, coef)

        problem = stack.each(one, jnp.asarray(stack.picks), coef)
        stacks.append(dataclasses.replace(stack, problem=problem))
    status = status.followed_by(end.converged, jnp.isfinite(end.cost), end.steps)
    return end.alpha, end.coef, dataclasses.replace(several, stacks=tuple(stacks)), status


def _with_coefficients(
    several: Several, weighted: Several, alpha: Array, coef: tuple[Array, ...]
) -> PyTree:
    """The point of `several` at alpha with coefficients that are not those of its weights, and costs with
    the last weights."""
    values, found = several.values(alpha), []
    for stack, shown, some in zip(several.stacks, weighted.stacks, coef, strict=True):

        def one(problem, picks, some, shown, stack=stack):
            mine, local = several.restricted(stack, problem, values[picks])
            shown = several.restricted(stack, shown, values[picks])[0].problem
            return with_coefficients(mine, local, some)[1], shown.cost(local, some)

        found.append(stack.each(one, jnp.asarray(stack.picks), some, shown.problem))
    return tuple(found)


def _last_weights(problem: Problem) -> Either:
    return problem.weights if problem.column_weights is None else problem.column_weights


def _restrict(whole: ParameterCovariance, transform: Array) -> ParameterCovariance:
    """The covariance of alpha as that of the values (f,) that one data set takes from it."""
    moves = transform != 0
    return ParameterCovariance(
        whole.half @ transform.T,
        whole.null_alpha @ transform.T,
        jnp.sqrt(jnp.sum((transform * whole.unit_alpha) ** 2, axis=1)),
        moves @ whole.lost_alpha,
        moves @ whole.on_bound,
        whole.cond_jac,
    )
