"""The numbers of a run as files: `result.json` for people and programs, `result.nc` with the data.

Neither holds a time or a machine, so that the same run writes the same bytes.
"""

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import varpro as vp

from .plan import Plan
from .tables import verdict

_PACKAGES = ("varpro", "jax", "jaxlib", "equinox", "lineax", "optimistix", "numpy")


def versions() -> dict[str, str]:
    """What the numbers were computed with."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def result(plan: Plan, fit: vp.FitResult) -> dict[str, Any]:
    """The content of `result.json`."""
    plain = fit.to_dict()
    parameters: dict[str, Any] = plain.pop("parameters")  # pyright: ignore[reportAssignmentType]
    for name, entry in parameters.items():
        entry["unit"] = plan.units.get(name, "")
    covariance = plain.pop("covariance")
    status = {key: plain.pop(key) for key in ("success", "status", "message", "stop")}
    data = plan.columns
    return {
        "schema": 1,
        "status": {**status, "sentence": verdict(fit)},
        "parameters": parameters,
        "statistics": plain,
        "covariance": covariance,
        "data": {
            "x": data.x_name,
            "y": list(data.y_names),
            "units": {"x": data.x_unit, "y": data.y_unit},
            "dropped": data.dropped,
        },
        "inputs": {role: {"sha256": digest} for role, digest in plan.digests().items()},
        "versions": versions(),
    }


def write_json(content: dict[str, Any], path: Path) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def dataset(plan: Plan, fit: vp.FitResult) -> xr.Dataset:
    """Parameters, coefficients, data, model and residual under their names."""
    data, many = plan.columns, np.ndim(fit.y) == 2
    samples = ("sample", "column") if many else ("sample",)
    linear = ("coefficient", "column") if many else ("coefficient",)
    nonlinear = [fit[name] for name in fit.names]
    stderr = np.array([fit[name].stderr for name in fit.columns])
    y_attrs = {"units": data.y_unit}
    variables: dict[str, Any] = {
        "data": (samples, fit.y, y_attrs),
        "fitted": (samples, fit.fitted, y_attrs),
        "residual": (samples, fit.resid, y_attrs),
        "value": ("parameter", fit.alpha),
        "stderr": ("parameter", np.array([one.stderr for one in nonlinear])),
        "init": ("parameter", np.array([np.nan if p.init is None else p.init for p in nonlinear])),
        "lower": ("parameter", np.array([one.lower for one in nonlinear])),
        "upper": ("parameter", np.array([one.upper for one in nonlinear])),
        "fixed": ("parameter", np.array([one.fixed for one in nonlinear])),
        "at_bound": ("parameter", np.array([one.at_bound for one in nonlinear])),
        "coef": (linear, fit.coef),
        "coef_stderr": (linear, stderr),
        "covariance": (("estimate", "estimate_2"), fit.covariance),
    }
    if fit.weights is not None:
        variables["weight"] = ("sample", fit.weights)
    coords: dict[str, Any] = {
        "x": ("sample", fit.x, {"units": data.x_unit, "long_name": data.x_name}),
        "parameter": _texts(fit.names),
        "parameter_unit": ("parameter", _texts(plan.units.get(n, "") for n in fit.names)),
        "coefficient": _texts(fit.columns),
        "coefficient_unit": ("coefficient", _texts(plan.units.get(n, "") for n in fit.columns)),
        "estimate": _texts(fit.cov_names),
        "estimate_2": _texts(fit.cov_names),
    }
    if many:
        coords["column"] = _texts(data.y_names)
    attrs = {
        "title": plan.document.file,
        "status": fit.status,
        "success": int(fit.success),
        "message": verdict(fit),
        "chisq": fit.chisq,
        "redchi": fit.redchi,
        "dof": fit.dof,
        "varpro_version": importlib.metadata.version("varpro"),
    }
    return xr.Dataset(variables, coords, attrs)


def write_netcdf(content: xr.Dataset, path: Path) -> None:
    content.to_netcdf(path, engine="h5netcdf")


def _texts(words: Any) -> np.ndarray:
    return np.array(list(words), dtype=object)
