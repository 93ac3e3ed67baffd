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
        "findings": [{"code": f.code, "message": f.message} for f in fit.diagnostics],
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
    """`FitResult.to_dataset` with the names and units of the file."""
    data = plan.columns
    out = fit.to_dataset().assign_coords(
        parameter_unit=("parameter", _texts(plan.units.get(n, "") for n in fit.names)),
        coefficient_unit=("coefficient", _texts(plan.units.get(n, "") for n in fit.columns)),
    )
    if "rhs" in out.dims:
        out = out.assign_coords(rhs=_texts(data.y_names))
    for name in ("data", "fitted", "residual", "components"):
        out[name].attrs["units"] = data.y_unit
    out["x"].attrs.update(units=data.x_unit, long_name=data.x_name)
    version = importlib.metadata.version("varpro")
    return out.assign_attrs(title=plan.document.file, message=verdict(fit), varpro_version=version)


def write_netcdf(content: xr.Dataset, path: Path) -> None:
    # An axis of no length would be one without limit.
    empty = [name for name, size in content.sizes.items() if size == 0]
    content.drop_dims(empty).to_netcdf(path, engine="h5netcdf")


def _texts(words: Any) -> np.ndarray:
    return np.array(list(words), dtype=object)
