"""The problem of a finished fit, of one data set or of several, made ready to be searched anew."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from .._errors import InputError
from .._problem.columns import Assembled
from .._problem.data import Data
from .._problem.padding import common_lengths, padded_length, problem_of
from .._problem.problem import Problem
from .._problem.side_groups import laid_out
from .._reduced.multi_dataset import Several, stacked
from .._search.minimise import Search, search
from .._types import ArrayIn
from ..basis import without_names
from .quantities import needs_record, noise_variance, picks_of
from .record import AbstractLeastSquares, Fitted

# Numbers that may be in memory for all searches at once, from which on there are fewer.
_MEMORY = 2**24


class RefitProblem(NamedTuple):
    """All that a search anew takes for the optimum of a fit; `limits` are None without bounds."""

    problem: Problem | Several
    limits: tuple[ArrayIn | None, ArrayIn | None]
    how: Search


def needs_optimum(fit: AbstractLeastSquares, what: str) -> None:
    """Refuse a fit that cannot be refitted, or that says nothing of its noise."""
    needs_record(fit)
    if isinstance(fit, Fitted) and fit.pooled is not None:
        raise InputError(
            f"A {what} refits all data, and this is one data set of a global fit. Ask the whole fit, "
            "or use intervals by covariance."
        )
    if any(one.spread is not None for one in fit.parts.values()):
        noise = next(iter(fit.parts.values())).noise
        raise InputError(
            f"A {what} refits with the weights of the fit, and those of noise={noise!r} follow the "
            "model. Use intervals by covariance, which know the loss."
        )
    if not fit.success:
        raise InputError(f"A {what} starts from a minimum, and this fit has none: {fit.message}")
    noise = noise_variance(fit)
    if not (np.isfinite(noise) and noise > 0):
        raise InputError(
            "The residual gives no estimate of the noise (no degrees of freedom, or a perfect fit), "
            f"so there is no {what}. Give sigma with absolute_sigma=True."
        )


def refit_problem(fit: AbstractLeastSquares) -> RefitProblem:
    """The problem of a fit and its default search, as host arrays of the precision of the fit."""
    return placed_problem(fit, filled=False)[0]


def placed_problem(
    fit: AbstractLeastSquares, *, filled: bool
) -> tuple[RefitProblem, list[tuple[int, int]]]:
    """The same, with `filled` at as many samples as its programs have; and of each data set its stack in
    the problem and its place there."""
    optimum, dtype = fit.optimum, fit.alpha.dtype
    how = jax.tree.map(lambda a: np.asarray(a, dtype) if isinstance(a, float) else a, search())
    bounded = bool(np.isfinite(optimum.lower).any() or np.isfinite(optimum.upper).any())
    limits = (optimum.lower, optimum.upper) if bounded else (None, None)
    if isinstance(fit, Fitted):
        length = padded_length(len(fit.y)) if filled else None
        return RefitProblem(_problem(fit, length, optimum.priors), limits, how), [(0, 0)]
    parts = list(fit.parts.values())
    lengths = common_lengths([len(one.y) for one in parts]) if filled else [None] * len(parts)
    problems = [_problem(one, length, ()) for one, length in zip(parts, lengths, strict=True)]
    stacks, members = stacked(problems, picks_of(fit), [one.layout.free for one in parts])
    several = Several(
        stacks,
        without_names(fit.layout),
        optimum.numbers,
        optimum.priors,
        how.linear_solver,
        how.jacobian,
    )
    at = {i: (s, j) for s, group in enumerate(members) for j, i in enumerate(group)}
    return RefitProblem(several, limits, how), [at[i] for i in range(len(parts))]


def _problem(fit: Fitted, length: int | None, priors: tuple[int, ...]) -> Problem:
    model, groups = laid_out(fit.model, fit.layout, fit.alpha)
    columns = Assembled(
        *(without_names(model), without_names(fit.layout), fit.optimum.numbers, fit.x, priors)
    )
    y, linear = fit.y_in_use.reshape(len(fit.y), -1), without_names(fit.linear)
    if length is None:
        differ = fit.weights is not None and fit.weights.ndim == 2
        weights, each = (None, fit.weights) if differ else (fit.weights, None)
        return Problem(columns, y, weights, linear, each, fit.whitener, groups)
    weights = fit.weights
    keep = np.ones(len(y), bool) if weights is None else weights > 0
    data = Data(fit.x, y, weights, keep, fit.absolute_sigma, vector=False, whitener=fit.whitener)
    problem = problem_of(columns, data, linear, length)
    return dataclasses.replace(problem, groups=groups) if groups else problem


def lanes(problem: Problem | Several, most: int) -> int:
    """How many searches may run at once: `most`, or fewer of large data."""
    alone = isinstance(problem, Problem)
    size = problem.y.size if alone else sum(stack.problem.y.size for stack in problem.stacks)
    return int(np.clip(_MEMORY // max(size * 4, 1), 1, most))
