"""From the numbers of several data sets that were fitted together to a result with names."""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax
import numpy as np

from .._parameters.layout import Coordinates
from .._problem.noise import AbstractNoise
from .._reduced.multi_dataset import local_layout
from .._results.assemble import assemble
from .._results.fit_result import FitResult
from .._starts.declare import Setup
from .._statistics.covariance import CoefficientCovariance, combine
from .._statistics.joint_covariance import Optimum, scaled
from .._statistics.record import prior_chisq
from .._statistics.solution import DatasetOptimum, FitSolution
from .data_sets import DataSet
from .global_fit import GlobalFit
from .program import GlobalSolution


def assemble_sets(
    ready: Sequence[DataSet],
    free: Sequence[tuple[int, ...]],
    parts: Sequence[DatasetOptimum],
    setup: Setup,
    solution: GlobalSolution,
    noise: AbstractNoise | None,
) -> GlobalFit:
    """Names back on numbers, on the host."""
    params, layout = setup.params, setup.layout
    numbers_of_all, coordinates = setup.typed(solution.alpha.dtype)
    moving = [i for i in layout.free if not solution.on_bound[i]]
    observed = sum(layout.source[i] in layout.free for i in setup.priors)
    effective = sum(one.data.effective for one in ready)
    linear = sum(
        float(part.blocks.count) * (2 if np.iscomplexobj(one.data.y) and not one.linear.real else 1)
        for one, part in zip(ready, parts, strict=True)
    )
    linear = linear if any(one.linear.penalty is not None for one in ready) else round(linear)
    dof = effective + observed - len(moving) - linear
    chisq = float(sum(part.chisq for part in parts))
    total = chisq + prior_chisq(layout, params, solution.values)
    absolute = ready[0].data.absolute
    variance = 1.0 if absolute else (total / dof if dof > 0 else np.nan)
    spread = None
    if noise is not None and noise.robust:
        variance = _spread(noise, ready, parts, dof)
        spread = lambda _: variance  # noqa: E731
    status = solution.status
    # The costs of the steps are those of all data together.
    without_costs = dataclasses.replace(status, costs=None)
    sets: dict[str, FitResult] = {}
    weights = solution.weights or [one.data.weights for one in ready]
    for one, local, part, last in zip(ready, free, parts, weights, strict=True):
        mine, numbers = local_layout(one.own, local)
        numbers = jax.tree.map(lambda a: a.astype(one.data.real), numbers)  # noqa: B023
        nowhere = np.full(len(local), np.inf, one.data.real)
        box = Coordinates(part.alpha, -nowhere, nowhere)
        numbers = eqx.tree_at(lambda n: n.start, numbers, part.values)
        taken = dict(zip(one.own, [params[layout.names[j]] for j in one.picks], strict=True))
        sets[one.name] = assemble(
            one.model,
            mine,
            taken,
            dataclasses.replace(one.data, weights=last),
            numbers,
            box,
            FitSolution(part, without_costs, 0.5 * part.chisq, solution.start_costs),
            one.linear,
            pooled=(float(variance), dof),
            noise="normal" if noise is None else noise.name,
            spread=spread,
        )
    if status.converged and any(one.stop == "merged" for one in sets.values()):
        status = status.as_merged
    whole = solution.covariance
    size = float(np.linalg.norm([part.size for part in parts]))
    blind = whole.without_effect(setup.changes(solution.alpha), size)
    if status.converged and status.stop != "fit" and np.any(blind):
        status = status.as_vanished
    rows = whole.half @ solution.transform[list(layout.free)].T
    covariance = rows.T @ rows
    lost = (solution.transform[list(layout.free)] != 0) @ whole.lost_alpha
    covariance[np.diag_indices(len(covariance))] = np.where(lost, np.inf, np.diag(covariance))
    held = solution.on_bound[list(layout.free)]
    covariance[held] = covariance[:, held] = np.nan
    fixed = [layout.source[i] not in layout.free for i in range(len(layout.names))]
    return GlobalFit(
        sets=sets,
        names=layout.names,
        alpha=solution.values,
        alpha_stderr=np.where(fixed, 0.0, np.sqrt(scaled(solution.value_variance, variance))),
        at_bound=solution.on_bound,
        cov_names=tuple(layout.names[i] for i in layout.free),
        covariance=scaled(covariance, variance),
        success=status.converged,
        status=status.name,
        message=status.message,
        stop=status.stop,
        cost=float(solution.cost),
        start_costs=solution.start_costs,
        chisq=chisq,
        num_data=effective,
        num_free=len(layout.free),
        dof=dof,
        absolute_sigma=absolute,
        num_steps=int(status.num_steps),
        num_residuals=int(status.num_residuals),
        num_jacobians=int(status.num_jacobians),
        cond_jac=float(whole.cond_jac),
        params=params,
        layout=layout,
        costs=status.history,
        noise="normal" if noise is None else noise.name,
        optimum=Optimum(
            *(solution.alpha, coordinates.lower, coordinates.upper, numbers_of_all, setup.priors),
            *(solution.transform, combine(whole, CoefficientCovariance.none(len(layout.free)))),
        ),
    )


def _spread(
    noise: AbstractNoise, ready: Sequence[DataSet], parts: Sequence[DatasetOptimum], dof: float
) -> float:
    """The variance of the noise of all data sets under a robust loss (`AbstractNoise.spread`)."""
    fitted = np.concatenate([np.asarray(part.fitted).ravel() for part in parts])
    y = np.concatenate([one.data.y.ravel() for one in ready])
    given = []
    for one in ready:
        weights = np.ones(len(one.data.y)) if one.data.weights is None else one.data.weights
        wide = np.broadcast_to(weights.reshape(len(weights), -1), one.data.y.shape)
        given.append(wide.ravel().astype(one.data.real))
    one = np.ones((), given[0].dtype)
    return float(noise.spread(fitted, y, np.concatenate(given), one, dof))
