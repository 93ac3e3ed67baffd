"""A saved fit back from its file."""

import os
from typing import Any, get_args

import numpy as np

from ._batch.batch_fit import BatchFit
from ._dmd.result import DmdResult
from ._errors import InputError
from ._global.global_fit import GlobalFit
from ._operator.operator_fit import OperatorFit
from ._problem.model_like import ModelLike
from ._results.compressed_fit import CompressedFit
from ._results.fit_result import FitResult
from ._results.store import ForeignCode, read
from .basis import AbstractBasis, Custom, at_wavelengths, build_model, counted_from

_Saved = FitResult | GlobalFit | BatchFit | CompressedFit | OperatorFit | DmdResult
_KINDS = {kind.__name__: kind for kind in get_args(_Saved)}


def load(
    path: str | os.PathLike[str], *, model: ModelLike | None = None, trust: bool = False
) -> Any:
    """The fit that its `save` wrote, equal in every bit; `predict` works at once.

    A file holds no code. A fit of varpro's own bases needs none. For one with a function or basis
    of yours either pass it again as `model`, or let it be imported under the name that it had.

    **Arguments:**

    - `path`: the NetCDF file, or the folder of a run, which holds one as `fit.nc`.
    - `model`: what was fitted, as it was passed to `varpro.fit`.
    - `trust`: import the modules that the file names, which runs them: for files of people whose
        programs you would run.

    **Returns:** what was saved: a `FitResult`, a `GlobalFit`, a `BatchFit`, a `CompressedFit`, an
    `OperatorFit` or a `DmdResult`.

    **Raises:** `InputError` naming the file, if it is missing, damaged or no saved fit, if it needs
    code and neither `model` nor `trust` gives it, or if that code no longer gives the saved curve.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path must be that of a file, not {path!r}.", argument="path")
    if os.path.isdir(path):
        path = os.path.join(path, "fit.nc")
    try:
        kind, fields = read(path, model=model is not None, trust=trust)
    except ForeignCode as error:
        module, _, name = error.path.partition(":")
        if trust or "<" in name:
            can = "cannot be imported. Pass the same function or basis as model="
        else:
            can = "is not imported unasked. Pass it as model=, or trust=True to import it"
        raise InputError(f"{path}: was fitted with '{name}' of {module}, which {can}.") from error
    if kind not in _KINDS:
        raise InputError(f"{path}: holds a {kind}, which this version of varpro does not know.")
    if model is not None:
        if "model" not in _KINDS[kind].__dataclass_fields__:
            raise InputError(f"{path}: a {kind} holds several models. Pass trust=True instead.")
        basis = model
        if not isinstance(basis, AbstractBasis):
            basis = Custom("", model, fields["params"])  # pyright: ignore[reportArgumentType]
        dtype, y = fields["alpha"].dtype, fields["y"]
        ready = basis.prepared(fields["x"], dtype)
        count = y.shape[1] if y.ndim > 1 else 1
        ready = at_wavelengths(ready, fields["data_names"].numbers, count, dtype)
        built = build_model(counted_from(ready, fields.pop("origins")))
        columns = tuple(built.columns[i] for i in built.order)
        if (built.names, columns) != (fields["names"], fields["columns"]):
            raise InputError(
                f"{path}: was fitted with the parameters {fields['names']} and the columns "
                f"{fields['columns']}, but model= has {built.names} and {columns}."
            )
        fields["model"] = built
    try:
        fit = _KINDS[kind](**fields)
    except TypeError as error:
        raise InputError(f"{path}: was written by another version of varpro ({error}).") from error
    if isinstance(fit, FitResult) and (model is not None or trust):
        _reproduces(fit, path)
    return fit


def _reproduces(fit: FitResult, path: str | os.PathLike[str]) -> None:
    """Refuse code that is no longer what was fitted: its predictions would be wrong in silence."""
    again = fit.predict(fit.x)
    used = fit.weights_of_all > 0
    size = np.max(np.abs(fit.fitted[used]))
    off = float(np.max(np.abs(again[used] - fit.fitted[used])))
    if np.isfinite(size) and not off <= float(np.finfo(fit.alpha.dtype).eps) ** 0.5 * size:
        raise InputError(
            f"{path}: the model gives other values than when it was fitted (by up to {off:.3g}). "
            "Pass the one that was fitted as model=."
        )
