"""From a plan to a fit."""

from typing import Any

import varpro as vp

from .locate_error import blamed
from .plan import Plan

_LINEAR = {
    "svd": vp.linalg.SVD(),
    "qr": vp.linalg.QR(),
    "pivoted_qr": vp.linalg.PivotedQR(),
}


def fit_plan(plan: Plan) -> vp.FitResult | vp.GlobalFit:
    """The one call of `varpro.fit` that a plan stands for; its errors name file and line."""
    config, rules = plan.config, plan.config.constraints
    solver = config.fit.solver
    # The keys of the section have the names of arguments.
    options: dict[str, Any] = {name: getattr(rules, name) for name in type(rules).model_fields}
    options |= {
        "absolute_sigma": config.fit.absolute_sigma,
        "noise": config.fit.noise,
        "loss_scale": config.fit.loss_scale,
        "share": config.fit.share,
        "starts": config.fit.starts,
        "seed": config.fit.seed,
        "init": plan.listed,
        "bounds": {name: tuple(ends) for name, ends in rules.bounds.items()},
        "solver": vp.LevenbergMarquardt(ftol=solver.ftol, xtol=solver.xtol, gtol=solver.gtol),
        "linear_solver": _LINEAR[solver.linear_solver],
        "jacobian": solver.jacobian,
        "max_steps": solver.max_steps,
        "compress": config.fit.compress,
    }
    weighing = ("sigma", "weights", "mask")
    try:
        if plan.several:
            sets = {name: (data.x, data.y) for name, data in plan.sets.items()}
            for what in weighing:
                some = {n: v for n, d in plan.sets.items() if (v := getattr(d, what)) is not None}
                options[what] = some or None
            return vp.fit(plan.models, sets, nan=_nan(plan), **options)
        data = plan.columns
        options |= {what: getattr(data, what) for what in weighing}
        return vp.fit(plan.model, data.x, data.y, nan=_nan(plan), **options)
    except vp.InputError as error:
        raise blamed(plan, error) from error


def _nan(plan: Plan) -> Any:
    drops = any(section.nan == "drop" for section in plan.config.sections.values())
    return "drop" if drops else "raise"
