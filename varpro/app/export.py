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
from .samples import Columns
from .tables import verdict

_PACKAGES = ("varpro", "jax", "jaxlib", "equinox", "lineax", "optimistix", "numpy")


def versions() -> dict[str, str]:
    """What the numbers were computed with."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def result(plan: Plan, fit: vp.FitResult | vp.GlobalFit) -> dict[str, Any]:
    """The content of `result.json`."""
    if isinstance(fit, vp.GlobalFit):
        return _result_of_several(plan, fit)
    plain = fit.to_dict()
    parameters: dict[str, Any] = plain.pop("parameters")  # pyright: ignore[reportAssignmentType]
    for name, entry in parameters.items():
        entry["unit"] = plan.units.get(name, "")
    covariance = plain.pop("covariance")
    return _head(fit, plain) | {
        "parameters": parameters,
        "statistics": plain,
        "covariance": covariance,
        "findings": _findings(fit),
        "data": _described(plan.columns),
        **_origin(plan),
    }


def _result_of_several(plan: Plan, fit: vp.GlobalFit) -> dict[str, Any]:
    plain = fit.to_dict()
    sets: dict[str, Any] = plain.pop("sets")  # pyright: ignore[reportAssignmentType]
    covariance = plain.pop("covariance")
    parameters = {}
    for name in fit.names:
        one = fit[name]
        assert isinstance(one, vp.Estimate)
        keys = ("value", "stderr", "init", "lower", "upper", "fixed", "at_bound", "tied_to")
        entry = {key: _plain(getattr(one, key)) for key in keys}
        parameters[name] = {"kind": "nonlinear", **entry, "unit": plan.units.get(name, "")}
    described = {}
    for name, one in sets.items():
        own = one.pop("parameters")
        described[name] = {
            "coefficients": {
                c: own[c] | {"unit": plan.units.get(c, "")} for c in fit.sets[name].columns
            },
            "statistics": {key: one[key] for key in ("chisq", "num_data", "rank", "cond")},
            "findings": _findings(fit.sets[name]),
            "data": _described(plan.sets[name]),
        }
    return _head(fit, plain) | {
        "parameters": parameters,
        "statistics": plain,
        "covariance": covariance,
        "datasets": described,
        **_origin(plan),
    }


def _head(fit: vp.FitResult | vp.GlobalFit, plain: dict[str, Any]) -> dict[str, Any]:
    status = {key: plain.pop(key) for key in ("success", "status", "message", "stop")}
    return {"schema": 1, "status": {**status, "sentence": verdict(fit)}}


def _findings(fit: vp.FitResult) -> list[dict[str, str]]:
    return [{"code": f.code, "message": f.message} for f in fit.diagnostics]


def _described(data: Columns) -> dict[str, Any]:
    return {
        "x": data.x_name,
        "y": list(data.y_names),
        "units": {"x": data.x_unit, "y": data.y_unit},
        "dropped": data.dropped,
    }


def _origin(plan: Plan) -> dict[str, Any]:
    digests = plan.digests().items()
    return {
        "inputs": {role: {"sha256": digest} for role, digest in digests},
        "versions": versions(),
    }


def _plain(value: object) -> object:
    """JSON has no NaN and no infinities."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def write_json(content: dict[str, Any], path: Path) -> None:
    path.write_text(to_json(content) + "\n", encoding="utf-8")


def dataset(plan: Plan, fit: vp.FitResult) -> xr.Dataset:
    """`FitResult.to_dataset` with the names and units of the file."""
    data = plan.columns
    out = fit.to_dataset().assign_coords(
        parameter_unit=("parameter", _texts(plan.units.get(n, "") for n in fit.names)),
        coefficient_unit=("coefficient", _texts(plan.units.get(n, "") for n in fit.columns)),
    )
    if "rhs" in out.dims and data.labels is not None:
        out = out.assign_coords(rhs=data.labels)
        out["rhs"].attrs["long_name"] = data.labels_name
    elif "rhs" in out.dims:
        out = out.assign_coords(rhs=_texts(data.y_names))
    for name in ("data", "fitted", "residual", "components"):
        out[name].attrs["units"] = data.y_unit
    out["x"].attrs.update(units=data.x_unit, long_name=data.x_name)
    version = importlib.metadata.version("varpro")
    return out.assign_attrs(title=plan.document.file, message=verdict(fit), varpro_version=version)


def write_netcdf(content: xr.Dataset, path: Path) -> None:
    # An axis of no length would be one without limit.
    empty = [name for name, size in content.sizes.items() if size == 0]
    content = content.drop_dims(empty)
    for name, variable in content.variables.items():
        if np.iscomplexobj(variable):
            parts = np.stack([np.real(variable.values), np.imag(variable.values)], axis=-1)
            pair = ((*variable.dims, "complex"), parts, {"complex": "real and imaginary part"})
            content = content.drop_vars([name]).assign({str(name): pair})
    content.to_netcdf(path, engine="h5netcdf")


def _texts(words: Any) -> np.ndarray:
    return np.array(list(words), dtype=object)
