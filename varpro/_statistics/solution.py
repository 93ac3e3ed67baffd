"""The record that a compiled program returns of a fit: the optimum of a data set, errors for unit noise,
and how the search ended."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact

from .._problem.problem import Problem
from .._status import Status
from ..linalg import column_scale
from .covariance import CovarianceBlocks

# jax arrays in a program, numpy arrays on the host: which of them no checker can tell.
Either = Any


class DatasetOptimum(eqx.Module):
    """The optimum of one data set of m samples, k right-hand sides, q parameter values that follow p
    coordinates alpha, and N coefficients, of which n are sought.

    **Fields:** `start` and `values`, the parameters at the start and here; `start_size`, the largest
    entry of each weighted column at the start, 0 for one that counts as zero; `transform`, the derivative
    of `values` by alpha; `on_bound`, which values lie on a bound; `fitted`, None where the data are too
    large for a second copy; `value_variance` and `coef_variance` for unit noise.
    """

    start: Float[Either, " q"]
    start_size: Float[Either, " N"]
    alpha: Float[Either, " p"]
    values: Float[Either, " q"]
    transform: Float[Either, "q p"]
    on_bound: Bool[Either, " q"]
    coef: Inexact[Either, "N k"]
    coef_at_bound: Bool[Either, "N k"]
    fitted: Inexact[Either, "m k"] | None
    chisq: Float[Either, ""]
    value_variance: Float[Either, " q"]
    coef_variance: Float[Either, "N k"]
    blocks: CovarianceBlocks

    @classmethod
    def at(
        cls,
        problem: Problem,
        alpha: Float[Array, " p"],
        coef: Inexact[Array, "n k"],
        blocks: CovarianceBlocks,
        *,
        start: Float[Array, " q"],
        start_columns: Inexact[Array, "m N"],
        values: Float[Array, " q"],
        transform: Float[Array, "q p"],
        on_bound: Bool[Array, " q"],
        fitted: bool,
    ) -> "DatasetOptimum":
        """The record of `problem` at alpha, with the sought coefficients `coef` and the covariance
        `blocks`; `start_columns` are weighted, and `fitted` says whether the curve is wanted."""
        seen = column_scale(start_columns) < jnp.inf
        return cls(
            start=start,
            start_size=jnp.where(seen, jnp.max(jnp.abs(start_columns), axis=0), 0.0),
            alpha=alpha,
            values=values,
            transform=transform,
            on_bound=on_bound,
            coef=problem.linear.all_of(coef),
            coef_at_bound=jnp.broadcast_to(blocks.held_coef, blocks.sensitivity.shape[:2]).T,
            fitted=problem.curve(alpha, coef) if fitted else None,
            chisq=problem.chisq(alpha, coef),
            value_variance=blocks.value_variance(transform),
            coef_variance=blocks.coef_variance(),
            blocks=blocks,
        )


class FitSolution(eqx.Module):
    """The optimum of a fit and the search for it: the cost there, where each of s starts ended, and the
    `strength` of a penalty that cross-validation prefers, NaN where none is sought."""

    optimum: DatasetOptimum
    status: Status
    cost: Float[Either, ""]
    start_costs: Float[Either, " s"]
    strength: Float[Either, ""] | None = None
