"""Names back on the numbers of a fit, on the host."""

from collections.abc import Callable

import numpy as np

from .._parameters.layout import Coordinates, Layout, Numbers
from .._parameters.param import Param
from .._problem.data import Data
from .._problem.linear_constraints import Linear
from .._statistics.joint_covariance import Optimum, Quantity, scaled, unit_covariance
from .._statistics.record import prior_chisq
from .._statistics.run_together import run_together
from .._statistics.solution import FitSolution
from ..basis import Model
from .fit_result import FitResult


def assemble(
    built: Model,
    layout: Layout,
    params: dict[str, Param],
    data: Data,
    numbers: Numbers,
    coordinates: Coordinates,
    solution: FitSolution,
    linear: Linear,
    pooled: tuple[float, int | float] | None = None,
    compressed: int | None = None,
    noise: str = "normal",
    spread: Callable[[float], float] | None = None,
) -> FitResult:
    """Names back on numbers, on the host. `numbers` and `coordinates` have the precision of the
    data; `pooled`, `compressed` and `noise`: see `FitResult`; `spread`: of degrees of freedom the
    variance of the noise for unit weights, where it is not that of the residual."""
    optimum, status = solution.optimum, solution.status
    assert optimum.fitted is not None  # made after the program where the data are large
    loose = {i for i, source in enumerate(layout.source) if source in layout.free}
    ends = optimum.values[None], optimum.coef[None]
    if status.converged and run_together(built, data.x, *ends, loose).any():
        status = status.as_merged
    order = list(built.order)
    parts = 2 if np.iscomplexobj(data.y) and not linear.real else 1
    # Compressed columns stand for more right-hand sides, each with as many coefficients.
    num_linear = parts * float(optimum.blocks.count) * data.num_rhs / data.y.shape[1]
    penalised = linear.penalty is not None or linear.areas is not None
    num_linear = num_linear if penalised else round(num_linear)
    free = [i for i in layout.free if not optimum.on_bound[i]]
    # A prior is one more observation, of a parameter that is free to follow it.
    prior = tuple(i for i, p in enumerate(params.values()) if p.prior is not None)
    observed = sum(layout.source[i] in layout.free for i in prior)
    dof = data.effective + observed - len(free) - num_linear
    chisq = float(optimum.chisq)
    total = chisq + prior_chisq(layout, params, optimum.values)
    scale = 1.0 if data.absolute else (total / dof if dof > 0 else np.nan)
    scale = scale if pooled is None else pooled[0]
    scale = scale if spread is None else spread(dof)
    fixed = [layout.source[i] not in layout.free for i in range(len(layout.names))]
    alpha_stderr = np.where(fixed, 0.0, _root(optimum.value_variance, scale))
    box = coordinates.lower, coordinates.upper
    joint = Optimum(optimum.alpha, *box, numbers, prior, optimum.transform, optimum.blocks)
    estimates = [Quantity(layout.names[i], i) for i in layout.free]
    for i in order:
        name = built.columns[i]
        if parts == 1:
            estimates.append(Quantity(name, i, 0))
        else:
            estimates += [Quantity(f"{name}.real", i, 0), Quantity(f"{name}.imag", i, 0, imag=True)]

    def shaped(a: np.ndarray) -> np.ndarray:
        return a[:, 0] if data.vector else a

    columns = tuple(built.columns[i] for i in order)
    return FitResult(
        names=layout.names,
        columns=columns,
        alpha=optimum.values,
        coef=shaped(optimum.coef[order]),
        x=data.x,
        y=shaped(data.values),
        fitted=shaped(optimum.fitted),
        weights=data.weights,
        success=status.converged,
        status=status.name,
        message=status.message,
        stop=status.stop,
        cost=float(solution.cost),
        start_costs=np.asarray(solution.start_costs),
        chisq=chisq,
        num_data=data.effective,
        num_free=len(layout.free),
        dof=dof,
        absolute_sigma=data.absolute,
        cov_names=tuple(quantity.label for quantity in estimates),
        covariance=scaled(unit_covariance(joint, estimates), scale),
        num_steps=int(status.num_steps),
        num_residuals=int(status.num_residuals),
        num_jacobians=int(status.num_jacobians),
        rank=int(optimum.blocks.rank),
        cond=float(optimum.blocks.cond),
        cond_jac=float(optimum.blocks.cond_jac),
        params=params,
        layout=layout,
        model=built,
        alpha_stderr=alpha_stderr,
        coef_stderr=shaped(_root(optimum.coef_variance[order], scale)),
        at_bound=np.asarray(optimum.on_bound),
        optimum=joint,
        num_linear=num_linear,
        coef_at_bound=shaped(optimum.coef_at_bound[order]),
        linear=linear,
        pooled=pooled,
        costs=status.history,
        spread=None if spread is None else float(scale),
        data_names=data.names,
        compressed=compressed,
        noise=noise,
        whitener=data.whitener,
    )


def _root(variance: np.ndarray, scale: float) -> np.ndarray:
    return np.sqrt(scaled(variance, scale))
