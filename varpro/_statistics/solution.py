"""The record that a compiled program returns of a fit: the optimum of a data set, errors for unit noise,
and how the search ended."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from .._problem.problem import Problem
from .._status import Status
from .covariance import CovarianceBlocks

# jax arrays in a program, numpy arrays on the host: which of them no checker can tell.
Either = Any


class DatasetOptimum(eqx.Module):
    """The optimum of one data set of m samples, k right-hand sides, q parameter values that follow p
    coordinates alpha, and N coefficients, of which n are sought.

    **Fields:** `start` and `values`, the parameters at the start and here; `start_size`, the largest
    entry of each weighted column at the start, 0 for one that counts as zero; `transform`, the derivative
    of `values` by alpha; `on_bound`, which values lie on a bound; `fitted`, None where the data are too
    large for a second copy; `value_variance` and `coef_variance` for unit noise; `share`, the largest norm of
    each weighted column times a coefficient, over that of all residuals.
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
    share: Float[Either, " N"]

    @classmethod
    def at(
        cls,
        problem: Problem,
        alpha: Float[Array, " p"],
        coef: Inexact[Array, "n k"],
        blocks: CovarianceBlocks,
        *,
        start: Float[Array, " q"],
        start_size: Float[Array, " N"],
        values: Float[Array, " q"],
        transform: Float[Array, "q p"],
        on_bound: Bool[Array, " q"],
        fitted: bool,
    ) -> "DatasetOptimum":
        """The record of `problem` at alpha, with the sought coefficients `coef` and the covariance
        `blocks`; `fitted` says whether the curve is wanted."""
        chisq, every = problem.chisq(alpha, coef), problem.linear.all_of(coef)
        size, _ = problem.column_size(alpha)
        largest = jnp.max(jnp.abs(every), axis=1, initial=0.0)
        return cls(
            start=start,
            start_size=start_size,
            alpha=alpha,
            values=values,
            transform=transform,
            on_bound=on_bound,
            coef=every,
            coef_at_bound=jnp.broadcast_to(blocks.held_coef, blocks.sensitivity.shape[:2]).T,
            fitted=problem.curve(alpha, coef) if fitted else None,
            chisq=chisq,
            value_variance=blocks.value_variance(transform),
            coef_variance=blocks.coef_variance(),
            blocks=blocks,
            share=largest * size / jnp.sqrt(jnp.where(chisq > 0, chisq, 1.0)),
        )

    @property
    def size(self) -> float:
        """On the host: the weighted size of the data, or of the largest component of the curve."""
        left = float(np.sqrt(self.chisq))
        return max(left, (left if left > 0 else 1.0) * float(np.max(self.share, initial=0.0)))

    def of_data(self, m: int, k: int) -> "DatasetOptimum":
        """The record of the first m samples and k right-hand sides; the others were filled up."""
        sides = self.coef.shape[1]
        blocks = self.blocks
        if sides > k:
            each = {"sensitivity": blocks.sensitivity[:k], "count": blocks.count * (k / sides)}
            blocks = dataclasses.replace(blocks, **each)
        return dataclasses.replace(
            self,
            coef=self.coef[:, :k],
            coef_at_bound=self.coef_at_bound[:, :k],
            coef_variance=self.coef_variance[:, :k],
            fitted=None if self.fitted is None else self.fitted[:m, :k],
            blocks=blocks,
        )


class FitSolution(eqx.Module):
    """The optimum of a fit and the search for it: the cost there, where each of s starts ended, and the
    `strength` of a penalty that cross-validation prefers, NaN where none is sought; and the `weights` (m,)
    of noise whose weights follow the model, else None."""

    optimum: DatasetOptimum
    status: Status
    cost: Float[Either, ""]
    start_costs: Float[Either, " s"]
    strength: Float[Either, ""] | None = None
    weights: Float[Either, " m"] | None = None
