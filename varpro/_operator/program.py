"""The compiled program of a fit whose matrix is an operator, one per shape."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from .._errors import InputError
from .._parameters.layout import Coordinates, Layout, Numbers
from .._programs.program import program
from .._reduced.operator_basis import OperatorPoint
from .._reduced.sparse_operator import SparsePoint
from .._search.operator_optimum import OperatorSearch, operator_optimum, reduced_of
from .._search.operator_solve import operator_problem
from .._statistics.covariance import ParameterCovariance
from .._statistics.operator_errors import determined_coefficients, operator_covariance
from .._status import Status


class Matrix(eqx.Module):
    """The user's function of parameters by name as one of the coordinates alpha (p,)."""

    function: Callable[[dict[str, Array], PyTree], Any] = eqx.field(static=True)
    keys: tuple[str, ...] = eqx.field(static=True)
    layout: Layout
    numbers: Numbers

    def values(self, alpha: Float[Array, " p"]) -> Float[Array, " q"]:
        """All parameters."""
        return self.layout.values(alpha, self.numbers)

    def __call__(self, alpha: Float[Array, " p"], x: PyTree) -> Any:
        return self.function(dict(zip(self.keys, self.values(alpha), strict=True)), x)


class Priors(eqx.Module):
    """Residuals of the parameters that have a prior, at `places`."""

    layout: Layout
    numbers: Numbers
    places: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, alpha: Float[Array, " p"]) -> Float[Array, " s"]:
        at, numbers = np.array(self.places), self.numbers
        values = self.layout.values(alpha, numbers)[at]
        return (values - numbers.prior_mean[at]) / numbers.prior_sd[at]


class OperatorOptimum(eqx.Module):
    """The optimum and what is known there; `coef`, `resid` (weighted) and `fitted` as pytrees, `size` how many
    coefficients there are, `determined` how many of them the data tell, complex ones counted twice."""

    alpha: Float[Array, " p"]
    values: Float[Array, " q"]
    coef: PyTree
    resid: PyTree
    fitted: PyTree
    cost: Float[Array, ""]
    chisq: Float[Array, ""]
    strength: Float[Array, ""]
    gap: Float[Array, ""] | None
    spread: ParameterCovariance
    transform: Float[Array, "q p"]
    on_bound: Bool[Array, " p"]
    value_on_bound: Bool[Array, " q"]
    determined: Float[Array, ""]
    inner_steps: Array
    status: Status


@program
def run(
    matrix: Matrix,
    x: PyTree,
    y: PyTree,
    weights: PyTree | None,
    priors: Priors | None,
    coordinates: Coordinates,
    bounded: bool,
    large: OperatorSearch,
) -> OperatorOptimum:
    """All that is computed for a fit."""
    start, lower, upper = (jnp.asarray(a) for a in vars(coordinates).values())
    limits = (lower, upper) if bounded else (None, None)
    example = eqx.filter_eval_shape(matrix, start, x)
    problem, how = operator_problem(example, matrix, y, start, x, weights, None, large, _itself)
    _check_enough(problem.coefficients.size, start.size, problem.data.size, large)
    problem = dataclasses.replace(problem, priors=priors)
    alpha, coef, strength, end = operator_optimum(problem, limits, start, how=how)
    problem = dataclasses.replace(problem, strength=strength)
    resid = problem.resid(alpha, coef)
    reduced = reduced_of(problem, how.inner, "kaufman")
    steps, good, gap = (end.stats.get(key) for key in ("inner_steps", "inner_converged", "gap"))
    point: OperatorPoint | SparsePoint = OperatorPoint(coef, resid, steps, good)
    if gap is not None:
        split, balance = end.stats["split"], end.stats["balance"]
        point = SparsePoint(*vars(point).values(), gap, split, split, balance)
    on_bound = (alpha <= lower) | (alpha >= upper)
    values = matrix.values(alpha)
    transform = (
        jax.jacfwd(matrix.values)(alpha) if alpha.size else jnp.zeros((values.size, 0), alpha.dtype)
    )
    return OperatorOptimum(
        alpha=alpha,
        values=values,
        coef=problem.coefficients.unravel(coef),
        resid=problem.data.unravel(resid[0]),
        fitted=problem.data.unravel(problem.products(alpha).forward(coef).astype(problem.y.dtype)),
        cost=problem.cost(alpha, coef),
        chisq=jnp.sum(jnp.abs(resid[0]) ** 2),
        strength=strength,
        gap=gap,
        spread=operator_covariance(reduced, alpha, point, on_bound),
        transform=transform,
        on_bound=on_bound,
        value_on_bound=(transform != 0) @ on_bound,
        determined=determined_coefficients(reduced, alpha, point),
        inner_steps=steps,
        status=Status.of(end.result, end.stats),
    )


def _itself(alpha: Array) -> Array:
    return alpha


def _check_enough(columns: int, nonlinear: int, data: int, how: OperatorSearch) -> None:
    if how.penalty is None and data < columns + nonlinear:
        raise InputError(
            f"{data} data points cannot determine {columns + nonlinear} parameters ({nonlinear} nonlinear, "
            f"{columns} linear). Give penalty=vp.Tikhonov(...), which says what coefficients are like.",
            argument="penalty",
        )
