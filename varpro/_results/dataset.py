"""A fit as a pandas table, and as named arrays and an xarray dataset of them; both packages are imported
on first use."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._errors import needed
from .._given.names import RHS, SAMPLE
from .._statistics.record import Fitted
from .netcdf import Contents, texts

if TYPE_CHECKING:
    import pandas
    import xarray


def to_frame(fit: Fitted) -> "pandas.DataFrame":
    """All parameters as a tidy table, one row for each number.

    Columns: `name`, `kind` ("nonlinear", "linear" or "derived"), `rhs` (only for data of shape (m, k): the
    right-hand side, -1 for the parameters that all share), `value`, `stderr`, `init`, `lower`,
    `upper`, `fixed`, `at_bound`, `tied_to`.

    **Raises:** `InputError` if pandas is not installed.
    """
    pandas = needed("pandas", "to_frame")
    frame = pandas.DataFrame(list(_records(fit)))
    return frame if fit.coef.ndim > 1 else frame.drop(columns="rhs")


def _records(fit: Fitted) -> Iterator[dict[str, object]]:
    for name in (*fit.names, *fit.columns, *(fit.derived or ())):
        estimate = fit[name]
        each = estimate.kind == "linear" or np.size(estimate.value) > 1
        values, errors = np.atleast_1d(estimate.value), np.atleast_1d(estimate.stderr)
        for j, (value, stderr) in enumerate(zip(values, errors, strict=True)):
            yield {
                "name": name,
                "kind": estimate.kind,
                "rhs": j if each else -1,
                **_label(fit, j if each else None),
                "value": value,
                "stderr": stderr,
                "init": np.nan if estimate.init is None else estimate.init,
                "lower": estimate.lower,
                "upper": estimate.upper,
                "fixed": estimate.fixed,
                "at_bound": bool(np.atleast_1d(estimate.at_bound)[j % np.size(estimate.at_bound)]),
                "tied_to": estimate.tied_to or "",
            }


def _label(fit: Fitted, j: int | None) -> dict[str, object]:
    """What the data call a right-hand side, under the name of their axis."""
    columns, name = fit.data_names.columns, fit.data_names.rhs
    if columns is None or fit.coef.ndim == 1:
        return {}
    name = name if name != RHS else "label"
    return {name: (np.nan if isinstance(columns, np.ndarray) else "") if j is None else columns[j]}


def to_dataset(fit: Fitted) -> "xarray.Dataset":
    """Data, model and parameters under their names, on named axes.

    Axes: `sample` (m), `rhs` (k, only for data of shape (m, k)), which have the names and coordinates
    of labelled data; `parameter` (q nonlinear ones),
    `coefficient` (n) and `estimate` (those of the covariance). Variables: `data`, `fitted`,
    `residual` (not weighted), `weight`, `components` (coefficient times column), `coef`,
    `coef_stderr`, `value`, `stderr`, `init`, `lower`, `upper`, `fixed`, `at_bound`, `tied_to`,
    `covariance`; `amplitude_at_x` (n), the x at which coefficients are amplitudes, where some are not
    those at 0; `derived_value` and `derived_stderr` (axis `derived`) of what the fit was asked to derive; `x` is a coordinate, and each array of an x of several is `x.<key>`. Attributes
    hold how the fit ended and its statistics.

    **Raises:** `InputError` if xarray is not installed.
    """
    return contents(fit).to_xarray()


def contents(fit: Fitted) -> Contents:
    """The contents of a fit as plain arrays."""
    parts = fit.components()
    offset = parts.pop("offset") if fit.model.offsets else None
    dims = ("coefficient", *axes_of(fit))
    contents = record(fit)
    contents.variables["components"] = (dims, np.stack(list(parts.values())))
    if offset is not None:
        contents.variables["offset"] = (dims[1:], offset)
    return contents


def record(fit: Fitted) -> Contents:
    """The contents of a fit without what takes an evaluation of the model."""
    sample, *rhs = axes_of(fit)
    nonlinear = [fit[name] for name in fit.names]
    variables: dict[str, Any] = {
        "data": ((sample, *rhs), fit.y),
        "fitted": ((sample, *rhs), fit.fitted),
        "residual": ((sample, *rhs), fit.resid),
        "value": ("parameter", fit.alpha),
        "stderr": ("parameter", fit.alpha_stderr),
        "init": ("parameter", _floats(estimate.init for estimate in nonlinear)),
        "lower": ("parameter", _floats(estimate.lower for estimate in nonlinear)),
        "upper": ("parameter", _floats(estimate.upper for estimate in nonlinear)),
        "fixed": ("parameter", np.array([estimate.fixed for estimate in nonlinear], bool)),
        "at_bound": ("parameter", np.array([estimate.at_bound for estimate in nonlinear], bool)),
        "tied_to": ("parameter", texts(estimate.tied_to or "" for estimate in nonlinear)),
        "coef": (("coefficient", *rhs), fit.coef),
        "coef_stderr": (("coefficient", *rhs), fit.coef_stderr),
        "covariance": (
            (*(rhs or ["rhs"]), "estimate", "estimate_2")[3 - fit.covariance.ndim :],
            fit.covariance,
        ),
    }
    if fit.model.origins:
        origins = np.array([fit.model.origins.get(name, 0.0) for name in fit.columns])
        variables["amplitude_at_x"] = ("coefficient", origins)
    if fit.derived is not None:
        dims = ("derived", *rhs)
        variables["derived_value"] = (dims, fit.derived.value)
        variables["derived_stderr"] = (dims, fit.derived.stderr)
    if fit.weights is not None:
        variables["weight"] = ((sample, *rhs)[: fit.weights.ndim], fit.weights)
    coords: dict[str, Any] = {
        "parameter": texts(fit.names),
        "coefficient": texts(fit.columns),
        "estimate": texts(fit.cov_names),
        "estimate_2": texts(fit.cov_names),
    }
    if fit.derived is not None:
        coords["derived"] = texts(fit.derived.names)
    names = fit.data_names
    for name, leaf in axes(fit.x):
        dims = (sample, *(f"{name}_{i}" for i in range(1, leaf.ndim)))
        said = {"units": names.x_unit, "long_name": names.x}
        said = {key: word for key, word in said.items() if word and name == "x"}
        entry = (dims, leaf, said) if said else (dims, leaf)
        (coords if leaf.ndim == 1 else variables)[name] = entry
    if names.samples is not None and sample not in coords:
        coords[sample] = (sample, _labels(names.samples), _unit(names.x_unit))
    coords |= coordinates(fit)
    if names.y_unit:
        for key in ("data", "fitted", "residual"):
            variables[key] = (*variables[key], _unit(names.y_unit))
    if names.y:
        variables["data"] = (*variables["data"][:2], _unit(names.y_unit) | {"long_name": names.y})
    return Contents(variables, coords, _attributes(fit))


# Names in a dataset, which no axis of the data can have.
_TAKEN = {
    *(
        "parameter",
        "coefficient",
        "estimate",
        "estimate_2",
        "data",
        "fitted",
        "residual",
        "value",
        "weight",
    ),
    *(
        "stderr",
        "init",
        "lower",
        "upper",
        "fixed",
        "at_bound",
        "tied_to",
        "coef",
        "coef_stderr",
        "components",
    ),
    *("derived", "derived_value", "derived_stderr"),
    *("covariance", "offset", "complex", "varpro_state", "parameter_unit", "coefficient_unit"),
}


def axes_of(fit: Fitted) -> list[str]:
    """What the axes of y are called: as in the data, where nothing else has that name."""
    names, found = fit.data_names, []
    for name, plain in ((names.sample, SAMPLE), (names.rhs, RHS))[: fit.y.ndim]:
        taken = name in _TAKEN or name.startswith(("x.", "state_")) or name in found or "/" in name
        # Several arrays of x are called after it.
        single = isinstance(fit.x, np.ndarray) and fit.x.ndim == 1
        taken = taken or name == "x" and not (single and plain == SAMPLE)
        found.append(plain if taken else name)
    return found


def coordinates(fit: Fitted) -> dict[str, Any]:
    """The labels of right-hand sides, as a coordinate of their axis."""
    labels = fit.data_names.columns
    if labels is None or fit.y.ndim == 1:
        return {}
    name = axes_of(fit)[1]
    return {name: (name, _labels(labels), _unit(fit.data_names.rhs_unit))}


def _labels(labels: np.ndarray | tuple[str, ...]) -> np.ndarray:
    return texts(labels) if isinstance(labels, tuple) else labels


def _unit(unit: str) -> dict[str, str]:
    return {"units": unit} if unit else {}


def axes(x: object) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of x under names: "x" of a single one, "x.t" of one in a dict."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        keys = (jax.tree_util.keystr((key,), simple=True) for key in path)
        yield ".".join(["x", *keys]).replace("/", "_"), leaf  # a slash would name a group


def _floats(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _attributes(fit: Fitted) -> dict[str, Any]:
    keys = ("status", "message", "stop", "chisq", "redchi", "cost", "dof", "num_data", "num_params")
    flags = {"success": int(fit.success), "absolute_sigma": int(fit.absolute_sigma)}
    return flags | {key: getattr(fit, key) for key in (*keys, "aic", "aicc", "bic")}
