"""A fit of a model whose matrix is an operator: names, bounds and statistics around one compiled program."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._given.arguments import shown
from .._parameters.layout import Coordinates
from .._problem.l1 import L1
from .._problem.model_like import ModelLike, as_basis, starts_of
from .._problem.operator_model import plain_positions
from .._problem.options import Constraints, Weighting
from .._problem.tikhonov import Tikhonov
from .._search.minimise import typed
from .._search.multistart import Multistart
from .._search.operator_optimum import OperatorSearch
from .._search.operator_solve import OPERATOR_SOLVER
from .._starts.declare import Setup, set_up
from .._statistics.joint_covariance import scaled
from .._statistics.record import prior_chisq
from .._types import precision
from ..basis import Custom, without_names
from ..linalg import AbstractIterative, ConjugateGradients, ProjectedGradients
from .data import OperatorData, operator_data
from .operator_fit import OperatorFit
from .program import Matrix, OperatorOptimum, Priors, run


def fit_operator(
    model: ModelLike,
    x: PyTree,
    y: Any,
    constraints: Constraints,
    weighting: Weighting,
    search: Multistart,
    penalty: Tikhonov | L1 | None,
    inner: AbstractIterative | None,
    solver_given: bool,
) -> OperatorFit:
    """What `varpro.fit` does with a model that returns an operator.

    **Raises:** `InputError` for options that need coefficients with names, and for structures that do not
    fit.
    """
    penalty = _penalty(constraints, weighting, search, penalty)
    inner = ConjugateGradients() if inner is None else inner
    if constraints.coefficients.nonnegative is True and not isinstance(inner, ProjectedGradients):
        if not isinstance(inner, ConjugateGradients):
            raise InputError(
                "Nonnegative coefficients take vp.linalg.ConjugateGradients(...).",
                argument="linear_solver",
            )
        inner = ProjectedGradients(inner)
    basis = as_basis(model, constraints.init)
    assert isinstance(basis, Custom)
    data = operator_data(y, weighting, _parts(basis, x))
    params = starts_of(basis, constraints.init, constraints.bounds)
    setup = set_up(params, constraints, _no_starts)
    with precision(data.real):
        how = search.local
        if not solver_given:
            how = dataclasses.replace(how, solver=OPERATOR_SOLVER)
        large = OperatorSearch(typed(how, data.real), inner, penalty)
        numbers, coordinates = setup.typed(data.real)
        layout = without_names(setup.layout)
        matrix = Matrix(basis.function, tuple(basis.parameters), layout, numbers)
        priors = Priors(layout, numbers, setup.priors) if setup.priors else None

        def found(start: np.ndarray) -> OperatorOptimum:
            at = Coordinates(start, coordinates.lower, coordinates.upper)
            given = matrix, plain_positions(x), data.y, data.weights, priors
            return run.on_host(*given, at, setup.bounded, large)

        points = search.points(setup.coordinates).astype(data.real)
        optima = [found(point) for point in points]
    costs = np.array([one.cost for one in optima])
    costs = np.where(np.isfinite(costs), costs, np.inf)
    failed = np.array([not one.status.converged for one in optima])
    best = int(np.argmin(costs * (1.0 + 1e-6 * failed)))
    return _assembled(setup, data, optima[best], costs, penalty)


def _parts(basis: Custom, x: PyTree) -> type | None:
    """List or tuple, where the operator returns one."""
    made = []

    def called(theta, x):
        operator = basis.function(theta, x)
        made.append(operator.out_structure() if hasattr(operator, "out_structure") else None)

    with precision(np.dtype(float)):
        theta = {key: jax.ShapeDtypeStruct((), np.float64) for key in basis.parameters}
        try:
            jax.eval_shape(called, theta, plain_positions(x))
        except KeyError as error:
            raise InputError(
                f"The model asked for the parameter {error}, which has no start. Give one in init=; known: "
                f"{', '.join(basis.parameters) or 'none'}.",
                argument="init",
            ) from error
    return type(made[0]) if type(made[0]) in (list, tuple) else None


def _no_starts(params: Mapping[str, Any]) -> Mapping[str, Any]:
    missing = [name for name, param in params.items() if param.init is None]
    raise InputError(
        f"{missing[0]} has no start, and none is sought in the data of an operator. Give one, such as "
        f"init={{'{missing[0]}': 1.0}}.",
        argument="init",
        name=missing[0],
    )


def _penalty(
    constraints: Constraints,
    weighting: Weighting,
    search: Multistart,
    penalty: Tikhonov | L1 | None,
) -> Tikhonov | L1 | None:
    """The penalty, after a look at options that are for coefficients with names."""
    rules = constraints.coefficients
    asked = {
        "relations": rules.relations,
        "smooth": rules.smooth,
        "equal_areas": rules.areas,
        "real_coefficients": rules.real,
        "noise": weighting.noise.name != "normal",
        "compress": search.compress,
    }
    for what, given in asked.items():
        if given:
            raise InputError(
                f"{what}= is for a model of columns; this one returns an operator. See vp.Tikhonov for what "
                "its coefficients may be like.",
                argument=what,
            )
    if rules.nonnegative not in (True, False):
        raise InputError(
            "The coefficients of an operator have no names: give nonnegative=True for all of them.",
            argument="nonnegative",
        )
    ridge = rules.ridge
    if ridge is not None and penalty is not None:
        raise InputError("Give either penalty= or ridge=, not both.", argument="ridge")
    if isinstance(ridge, Mapping):
        raise InputError(
            "The coefficients of an operator have no names: give ridge= one number, or penalty=.",
            argument="ridge",
        )
    if penalty is not None and not isinstance(penalty, Tikhonov | L1):
        raise InputError(
            f"penalty must be vp.Tikhonov(...) or vp.L1(...), not {shown(penalty)}.",
            argument="penalty",
        )
    penalty = penalty if ridge is None else Tikhonov(ridge)
    if search.starts > 1 and penalty is not None and penalty.automatic:
        raise InputError(
            f"Costs of several starts compare at one strength, but that of the penalty is "
            f"{penalty.strength!r}. Give a number.",
            argument="starts",
        )
    return penalty


def _assembled(
    setup: Setup,
    data: OperatorData,
    optimum: OperatorOptimum,
    costs: np.ndarray,
    penalty: Tikhonov | L1 | None,
) -> OperatorFit:
    """Names back on numbers."""
    layout, params, status = setup.layout, setup.params, optimum.status
    free = [i for place, i in enumerate(layout.free) if not optimum.on_bound[place]]
    observed = sum(layout.source[i] in layout.free for i in setup.priors)
    determined = float(optimum.determined)
    dof = data.count + observed - len(free) - determined
    chisq = float(optimum.chisq)
    total = chisq + prior_chisq(layout, params, np.asarray(optimum.values))
    scale = 1.0 if data.absolute else (total / dof if dof > 0 else np.nan)
    spread, transform = optimum.spread, np.asarray(optimum.transform)
    half = np.asarray(spread.half, float) @ transform.T
    joint = half.T @ half
    moves = transform != 0
    joint[np.diag_indices(len(joint))] = np.where(
        moves @ np.asarray(spread.lost_alpha), np.inf, np.diag(joint)
    )
    bound = moves @ np.asarray(spread.on_bound)
    joint[bound] = joint[:, bound] = np.nan
    joint = scaled(joint, scale)
    fixed = [layout.source[i] not in layout.free for i in range(len(layout.names))]
    at = list(layout.free)
    return OperatorFit(
        names=layout.names,
        alpha=np.asarray(optimum.values),
        alpha_stderr=np.where(fixed, 0.0, np.sqrt(np.diag(joint))),
        cov_names=tuple(layout.names[i] for i in at),
        covariance=joint[np.ix_(at, at)],
        at_bound=np.asarray(optimum.value_on_bound),
        coef=optimum.coef,
        y=data.y,
        fitted=optimum.fitted,
        weighted_resid=optimum.resid,
        weights=data.weights,
        success=status.converged,
        status=status.name,
        message=status.message,
        stop=status.stop,
        cost=float(optimum.cost),
        start_costs=costs,
        chisq=chisq,
        num_data=data.count,
        num_free=len(layout.free),
        num_coefficients=int(sum(leaf.size for leaf in jax.tree.leaves(optimum.coef))),
        num_linear=determined,
        dof=dof,
        absolute_sigma=data.absolute,
        gap=None if optimum.gap is None else float(optimum.gap),
        strength=float(optimum.strength) if penalty is not None else None,
        strength_by=None if penalty is None or not penalty.automatic else str(penalty.strength),
        num_steps=int(status.num_steps),
        num_residuals=int(status.num_residuals),
        num_jacobians=int(status.num_jacobians),
        inner_steps=int(optimum.inner_steps),
        cond_jac=float(spread.cond_jac),
        params=params,
        layout=layout,
    )
