"""A fit as a pandas table, and as named arrays and an xarray dataset of them; both packages are imported
on first use."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._errors import needed
from .._statistics.record import Fitted
from .netcdf import Contents, texts

if TYPE_CHECKING:
    import pandas
    import xarray


def to_frame(fit: Fitted) -> "pandas.DataFrame":
    """All parameters as a tidy table, one row for each number.

    Columns: `name`, `kind` ("nonlinear" or "linear"), `rhs` (only for data of shape (m, k): the
    right-hand side, -1 for the parameters that all share), `value`, `stderr`, `init`, `lower`,
    `upper`, `fixed`, `at_bound`, `tied_to`.

    **Raises:** `InputError` if pandas is not installed.
    """
    pandas = needed("pandas", "to_frame")
    frame = pandas.DataFrame(list(_records(fit)))
    return frame if fit.coef.ndim > 1 else frame.drop(columns="rhs")


def _records(fit: Fitted) -> Iterator[dict[str, object]]:
    for name in (*fit.names, *fit.columns):
        estimate = fit[name]
        values, errors = np.atleast_1d(estimate.value), np.atleast_1d(estimate.stderr)
        for j, (value, stderr) in enumerate(zip(values, errors, strict=True)):
            yield {
                "name": name,
                "kind": estimate.kind,
                "rhs": j if estimate.kind == "linear" else -1,
                "value": value,
                "stderr": stderr,
                "init": np.nan if estimate.init is None else estimate.init,
                "lower": estimate.lower,
                "upper": estimate.upper,
                "fixed": estimate.fixed,
                "at_bound": estimate.at_bound,
                "tied_to": estimate.tied_to or "",
            }


def to_dataset(fit: Fitted) -> "xarray.Dataset":
    """Data, model and parameters under their names, on named axes.

    Axes: `sample` (m), `rhs` (k, only for data of shape (m, k)), `parameter` (q nonlinear ones),
    `coefficient` (n) and `estimate` (those of the covariance). Variables: `data`, `fitted`,
    `residual` (not weighted), `weight`, `components` (coefficient times column), `coef`,
    `coef_stderr`, `value`, `stderr`, `init`, `lower`, `upper`, `fixed`, `at_bound`, `tied_to`,
    `covariance`; `x` is a coordinate, and each array of an x of several is `x.<key>`. Attributes
    hold how the fit ended and its statistics.

    **Raises:** `InputError` if xarray is not installed.
    """
    return contents(fit).to_xarray()


def contents(fit: Fitted) -> Contents:
    """The same as plain arrays."""
    parts = fit.components()
    offset = parts.pop("offset") if fit.model.offsets else None
    dims = ("coefficient", "sample", *(("rhs",) if fit.y.ndim == 2 else ()))
    contents = record(fit)
    contents.variables["components"] = (dims, np.stack(list(parts.values())))
    if offset is not None:
        contents.variables["offset"] = (dims[1:], offset)
    return contents


def record(fit: Fitted) -> Contents:
    """The same without what takes an evaluation of the model."""
    rhs = ("rhs",) if fit.y.ndim == 2 else ()
    nonlinear = [fit[name] for name in fit.names]
    variables: dict[str, Any] = {
        "data": (("sample", *rhs), fit.y),
        "fitted": (("sample", *rhs), fit.fitted),
        "residual": (("sample", *rhs), fit.resid),
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
            ("rhs", "estimate", "estimate_2")[3 - fit.covariance.ndim :],
            fit.covariance,
        ),
    }
    if fit.weights is not None:
        variables["weight"] = (("sample", *rhs)[: fit.weights.ndim], fit.weights)
    coords: dict[str, Any] = {
        "parameter": texts(fit.names),
        "coefficient": texts(fit.columns),
        "estimate": texts(fit.cov_names),
        "estimate_2": texts(fit.cov_names),
    }
    for name, leaf in axes(fit.x):
        dims = ("sample", *(f"{name}_{i}" for i in range(1, leaf.ndim)))
        (coords if leaf.ndim == 1 else variables)[name] = (dims, leaf)
    return Contents(variables, coords, _attributes(fit))


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
