"""Names back on the numbers of a fit, on the host."""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import PyTree

from .._parameters.layout import Coordinates, Layout, Numbers
from .._parameters.param import Param
from .._problem.data import Data
from .._problem.linear_constraints import Linear
from .._search.levenberg_marquardt import STOP, STOP_NAMES
from .._statistics.joint_covariance import Optimum, Quantity, scaled, unit_covariance
from .._statistics.record import prior_chisq
from .._status import RESULT_NAMES, RESULTS, explained
from ..basis import Model
from .fit_result import FitResult


def assemble(
    built: Model,
    layout: Layout,
    params: dict[str, Param],
    data: Data,
    numbers: Numbers,
    coordinates: Coordinates,
    out: dict[str, PyTree],
    linear: Linear,
    pooled: tuple[float, int | float] | None = None,
) -> FitResult:
    """Names back on numbers, on the host. `pooled`: see `FitResult`."""
    order = list(built.order)
    parts = 2 if np.iscomplexobj(data.y) and not linear.real else 1
    # Compressed columns stand for more right-hand sides, each with as many coefficients.
    num_linear = parts * float(out["num_linear"]) * data.num_rhs / data.y.shape[1]
    num_linear = num_linear if linear.penalty is not None else round(num_linear)
    free = [i for i in layout.free if not out["on_bound"][i]]
    # A prior is one more observation, of a parameter that is free to follow it.
    prior = tuple(i for i, p in enumerate(params.values()) if p.prior is not None)
    observed = sum(layout.source[i] in layout.free for i in prior)
    dof = data.effective + observed - len(free) - num_linear
    chisq = float(out["chisq"])
    total = chisq + prior_chisq(layout, params, out["values"])
    scale = 1.0 if data.absolute else (total / dof if dof > 0 else np.nan)
    scale = scale if pooled is None else pooled[0]
    fixed = [layout.source[i] not in layout.free for i in range(len(layout.names))]
    alpha_stderr = np.where(fixed, 0.0, _root(out["value_variance"], scale))
    real = data.real
    optimum = Optimum(
        out["alpha"],
        coordinates.lower.astype(real),
        coordinates.upper.astype(real),
        jax.tree.map(lambda a: a.astype(real), numbers),
        prior,
        out["transform"],
        out["blocks"],
    )
    joint = [Quantity(layout.names[i], i) for i in layout.free]
    for i in order:
        name = built.columns[i]
        if parts == 1:
            joint.append(Quantity(name, i, 0))
        else:
            joint += [Quantity(f"{name}.real", i, 0), Quantity(f"{name}.imag", i, 0, imag=True)]
    status, stop = RESULT_NAMES[out["status"]], STOP_NAMES[out["stop"]]
    stats = out["stats"]

    def shaped(a: np.ndarray) -> np.ndarray:
        return a[:, 0] if data.vector else a

    columns = tuple(built.columns[i] for i in order)
    return FitResult(
        names=layout.names,
        columns=columns,
        alpha=out["values"],
        coef=shaped(out["coef"][order]),
        x=data.x,
        y=shaped(data.y),
        fitted=shaped(out["fitted"]),
        weights=data.weights,
        success=status == "successful",
        status=status,
        message=message(status, stop, int(stats["num_steps"])),
        stop=stop,
        cost=float(out["cost"]),
        start_costs=out["start_costs"],
        chisq=chisq,
        num_data=data.effective,
        num_free=len(layout.free),
        dof=dof,
        absolute_sigma=data.absolute,
        cov_names=tuple(one.label for one in joint),
        covariance=scaled(unit_covariance(optimum, joint), scale),
        num_steps=int(stats["num_steps"]),
        num_residuals=int(stats.get("num_residuals", -1)),
        num_jacobians=int(stats.get("num_jacobians", -1)),
        rank=int(out["rank"]),
        cond=float(out["cond"]),
        cond_jac=float(out["cond_jac"]),
        params=params,
        layout=layout,
        model=built,
        alpha_stderr=alpha_stderr,
        coef_stderr=shaped(_root(out["coef_variance"][order], scale)),
        at_bound=np.asarray(out["on_bound"]),
        optimum=optimum,
        num_linear=num_linear,
        coef_at_bound=shaped(out["coef_at_bound"][order]),
        linear=linear,
        pooled=pooled,
        costs=history(stats),
    )


def history(stats: Mapping[str, np.ndarray]) -> np.ndarray:
    """The costs of the steps that were done."""
    costs = stats.get("costs", np.zeros(0))
    return np.asarray(costs[: int(stats["num_steps"])])


def _root(variance: np.ndarray, scale: float) -> np.ndarray:
    return np.sqrt(scaled(variance, scale))


def message(status: str, stop: str, steps: int) -> str:
    """One sentence on how the run ended."""
    if status == "nonlinear_max_steps_reached":
        return (
            f"The limit of {steps} steps came before any test was met. Give better starts or a "
            "larger max_steps."
        )
    if stop:
        return explained(STOP, stop)
    return "" if status == "failed" else explained(RESULTS, status)
