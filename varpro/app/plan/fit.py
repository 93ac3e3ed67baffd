"""From a plan to a fit."""

from typing import Any

import numpy as np

import varpro as vp

from ..config.fit import EqualArea, Solver, Somewhere
from ..data.samples import Columns
from .locate_error import blamed
from .plan import Plan

_LINEAR = {
    "svd": vp.linalg.SVD(),
    "qr": vp.linalg.QR(),
    "pivoted_qr": vp.linalg.PivotedQR(),
}


# Those of optax take many small steps, each a pass over the data.
_STEPS = {"optax": 10_000, "optimistix": 256}


def _steps(solver: Solver) -> int:
    return _STEPS[solver.kind] if solver.steps is None else solver.steps


def build_solver(solver: Solver) -> Any:
    """The search that a section names."""
    if solver.kind == "lm":
        return vp.LevenbergMarquardt(ftol=solver.ftol, xtol=solver.xtol, gtol=solver.gtol)
    import optimistix as optx  # a run of our own solver need not know of it

    rtol = 1e-8 if solver.rtol is None else solver.rtol
    atol = 1e-8 if solver.atol is None else solver.atol
    assert solver.name is not None
    if solver.kind == "optax":
        import optax

        optimiser = getattr(optax, solver.name)(learning_rate=solver.learning_rate)
        return optx.OptaxMinimiser(optimiser, rtol, atol)
    if solver.name == "GradientDescent":
        assert solver.learning_rate is not None
        return optx.GradientDescent(solver.learning_rate, rtol, atol)
    return getattr(optx, solver.name)(rtol=rtol, atol=atol)


def fit_plan(
    plan: Plan, progress: bool = False, max_steps: int | None = None
) -> vp.FitResult | vp.GlobalFit:
    """The one call of `varpro.fit` that a plan stands for; its errors name file and line. `progress`: print each step
    of the search to stderr; `max_steps` instead of those of the plan."""
    config, rules = plan.config, plan.config.constraints
    solver = config.fit.solver
    # The keys of the section have the names of arguments.
    options: dict[str, Any] = {name: getattr(rules, name) for name in type(rules).model_fields}
    options["relations"] = {name: _relation(one) for name, one in rules.relations.items()}
    options["equal_areas"] = [_area(one) for one in rules.equal_areas]
    options |= {
        "progress": progress or None,
        "absolute_sigma": config.fit.absolute_sigma,
        "noise": config.fit.noise,
        "loss_scale": config.fit.loss_scale,
        "share": config.fit.share,
        "link": "all" if config.fit.link == ["all"] else config.fit.link,
        "scale": {name: _scale(one) for name, one in config.fit.scale.items()},
        "starts": config.fit.starts,
        "seed": config.fit.seed,
        "init": plan.listed,
        "bounds": {name: tuple(ends) for name, ends in rules.bounds.items()},
        "solver": build_solver(solver),
        "linear_solver": _LINEAR[solver.linear_solver],
        "jacobian": solver.jacobian,
        "max_steps": max_steps or (solver.max_steps if solver.kind == "lm" else _steps(solver)),
        "compress": config.fit.compress,
        "derived": config.derived or None,
    }
    weighing = ("sigma", "weights", "mask")
    try:
        if plan.several:
            sets = {n: (d.x, _values(plan, plan.models[n], d)) for n, d in plan.sets.items()}
            for what in weighing:
                some = {n: v for n, d in plan.sets.items() if (v := getattr(d, what)) is not None}
                options[what] = some or None
            return vp.fit(plan.models, sets, nan=_nan(plan), **options)
        data = plan.columns
        options |= {what: getattr(data, what) for what in weighing}
        return vp.fit(
            plan.model, data.x, _values(plan, plan.model, data), nan=_nan(plan), **options
        )
    except vp.InputError as error:
        raise blamed(plan, error) from error


def _scale(given: Any) -> Any:
    if isinstance(given, dict):
        return {name: one.param() for name, one in given.items()}
    return given.param()


def _relation(given: Any) -> Any:
    if not isinstance(given, Somewhere):
        return given
    return vp.Within([(low, high) for low, high in given.within], given.relation)


def _area(given: EqualArea) -> vp.EqualArea:
    own, other = (
        None if sides is None else [(low, high) for low, high in sides]
        for sides in (given.within, given.second_within)
    )
    return vp.EqualArea(given.first, given.second, given.weight, given.ratio, own, other)


def _values(plan: Plan, model: vp.basis.AbstractBasis, data: Columns) -> Any:
    """y, with the wavelengths of right-hand sides where a dispersion or a relation asks for them."""
    rules = plan.config.constraints
    inside = [isinstance(one, Somewhere) for one in rules.relations.values()]
    inside += [one.within is not None or one.second_within is not None for one in rules.equal_areas]
    asked = vp.basis.disperses(model) or any(inside)
    if not asked or data.y.ndim < 2:
        return data.y
    labels = data.y_names if data.labels is None else data.labels
    import xarray  # only what asks for labels needs to know of it

    name = data.labels_name or "wavelength"
    return xarray.DataArray(data.y, dims=("sample", name), coords={name: np.asarray(labels)})


def _nan(plan: Plan) -> Any:
    drops = any(section.nan == "drop" for section in plan.config.sections.values())
    return "drop" if drops else "raise"
