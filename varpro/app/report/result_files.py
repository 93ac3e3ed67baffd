"""The numbers of a run as files: `result.json` for people and programs, `result.nc` with the data.

Neither holds a time or a machine, so that the same run writes the same bytes.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np

import varpro as vp

from ..data.samples import Columns
from ..plan.plan import Plan
from ..provenance import versions
from .tables import verdict


def result(plan: Plan, fit: vp.FitResult | vp.GlobalFit) -> dict[str, Any]:
    """The content of `result.json`."""
    if isinstance(fit, vp.GlobalFit):
        return _result_of_several(plan, fit)
    plain = fit.to_dict()
    parameters: dict[str, Any] = plain.pop("parameters")  # pyright: ignore[reportAssignmentType]
    for name, entry in parameters.items():
        entry["unit"] = plan.units.get(name, "")
    covariance = plain.pop("covariance")
    derived = _derived(plain)
    return _head(fit, plain) | {
        "parameters": parameters,
        **derived,
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
    derived = _derived(plain)
    return _head(fit, plain) | {
        "parameters": parameters,
        **derived,
        "statistics": plain,
        "covariance": covariance,
        "datasets": described,
        **_origin(plan),
    }


def _derived(plain: dict[str, Any]) -> dict[str, Any]:
    """What was derived, taken out of the numbers, where anything was."""
    return {"derived": plain.pop("derived")} if "derived" in plain else {}


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
    digests = plan.inputs.digests().items()
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


def write_netcdf(plan: Plan, fit: vp.FitResult, path: Path) -> None:
    """What the fit holds, with the names and units of the file."""
    data, found = plan.columns, fit.contents()
    units = plan.units
    found.coords["parameter_unit"] = ("parameter", _texts(units.get(n, "") for n in fit.names))
    found.coords["coefficient_unit"] = (
        "coefficient",
        _texts(units.get(n, "") for n in fit.columns),
    )
    if fit.y.ndim == 2:
        if data.labels is not None:
            found.coords["rhs"] = ("rhs", data.labels, {"long_name": data.labels_name})
        else:
            found.coords["rhs"] = ("rhs", _texts(data.y_names))
    for name in ("data", "fitted", "residual", "components"):
        found.variables[name] = (*found.variables[name][:2], {"units": data.y_unit})
    found.coords["x"] = (*found.coords["x"][:2], {"units": data.x_unit, "long_name": data.x_name})
    version = importlib.metadata.version("varpro")
    found.attrs.update(title=plan.document.file, message=verdict(fit), varpro_version=version)
    found.write(path)


def _texts(words: Any) -> np.ndarray:
    return np.array(list(words), dtype=object)
