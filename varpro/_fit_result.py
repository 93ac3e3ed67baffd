"""What a fit returns: arrays under names, frozen, with everything a report needs."""

import contextlib
from typing import Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PyTree

from ._params import Layout, Param
from ._results import InputError, suggestion
from ._types import ArrayIn
from .basis import Model

_ALMOST_ONE = 0.99


class Estimate(eqx.Module):
    """One parameter of a fit.

    **Fields:** `value` and `stderr` (floats; arrays (k,) for a coefficient of k right-hand sides),
    `init`, `lower`, `upper`, `fixed`, `at_bound` (nonlinear parameters), `tied_to` the name of the
    parameter that it copies, and `kind`. A `stderr` is NaN on a bound, infinite where the data do
    not determine the parameter, and zero for a fixed one.
    """

    name: str
    kind: Literal["nonlinear", "linear"]
    value: float | complex | np.ndarray
    stderr: float | np.ndarray
    init: float | None = None
    lower: float = -np.inf
    upper: float = np.inf
    fixed: bool = False
    at_bound: bool = False
    tied_to: str | None = None


class FitResult(eqx.Module):
    """The outcome of `varpro.fit`.

    **Fields:**

    - `names`, `alpha`: the q nonlinear parameters.
    - `columns`, `coef`: the n linear coefficients, (n,) or (n, k).
    - `x`, `y`, `fitted`, `weights`: data and model, unweighted, of the shape of y.
    - `success`, `status`, `message`, `stop`: whether it converged, the `RESULTS` member by name, a
        sentence, and the test that ended the run.
    - `cost`: half the weighted sum of squares, priors included; `chisq`: the sum of squares;
        `start_costs`: where each of several starts ended.
    - `num_data`, `num_free`, `dof`: real observations of positive weight, free nonlinear parameters,
        and degrees of freedom (data less free nonlinear less linear parameters).
    - `cov_names`, `covariance`: joint covariance of free parameters and coefficients (those of the
        first right-hand side), in that order.
    - `num_steps`, `num_residuals`, `num_jacobians`; `rank` and `cond` of the weighted basis,
        `cond_jac` of the column-scaled Jacobian.
    """

    names: tuple[str, ...]
    columns: tuple[str, ...]
    alpha: np.ndarray
    coef: np.ndarray
    x: PyTree
    y: np.ndarray
    fitted: np.ndarray
    weights: np.ndarray | None
    success: bool
    status: str
    message: str
    stop: str
    cost: float
    start_costs: np.ndarray
    chisq: float
    num_data: int
    num_free: int
    dof: int
    absolute_sigma: bool
    cov_names: tuple[str, ...]
    covariance: np.ndarray
    num_steps: int
    num_residuals: int
    num_jacobians: int
    rank: int
    cond: float
    cond_jac: float
    params: dict[str, Param]
    layout: Layout
    model: Model
    alpha_stderr: np.ndarray
    coef_stderr: np.ndarray
    at_bound: np.ndarray

    @property
    def resid(self) -> np.ndarray:
        """Unweighted residual, `y - fitted`."""
        return self.y - self.fitted

    @property
    def redchi(self) -> float:
        """Reduced chi-square, `chisq / dof`; NaN without degrees of freedom."""
        return self.chisq / self.dof if self.dof > 0 else float("nan")

    @property
    def sigma_resid(self) -> float:
        """Standard deviation of the (weighted) residual, the root of `redchi`."""
        return float(np.sqrt(self.redchi))

    @property
    def stderr(self) -> dict[str, float | np.ndarray]:
        """Standard errors of all parameters by name."""
        return {name: self[name].stderr for name in (*self.names, *self.columns)}

    @property
    def correlation(self) -> np.ndarray:
        """Correlation matrix in the order of `cov_names`."""
        sd = np.sqrt(np.diag(self.covariance))
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.covariance / sd[:, None] / sd

    def __getitem__(self, name: str) -> Estimate:
        if name in self.names:
            i = self.names.index(name)
            param = self.params[name]
            source = self.layout.source[i]
            return Estimate(
                name,
                "nonlinear",
                float(self.alpha[i]),
                float(self.alpha_stderr[i]),
                None if param.init is None else float(param.init),
                float(param.lower),
                float(param.upper),
                source == i and i not in self.layout.free,
                bool(self.at_bound[i]),
                self.names[source] if source != i else None,
            )
        if name in self.columns:
            i = self.columns.index(name)
            value, error = self.coef[i], self.coef_stderr[i]
            if self.coef.ndim == 1:
                value, error = value.item(), error.item()
            return Estimate(name, "linear", value, error)
        known = (*self.names, *self.columns)
        raise InputError(f"No parameter '{name}' in this fit. {suggestion(name, known)}")

    def components(self, x: PyTree = None) -> dict[str, np.ndarray]:
        """The contribution of each column, coefficient times basis, (m,) or (m, k) by name."""
        phi, offset = self._evaluate(self.x if x is None else x)
        parts = {
            name: phi[:, [i]] * self.coef.reshape(len(self.columns), -1)[i]
            for i, name in enumerate(self.columns)
        }
        if offset is not None:
            parts["offset"] = np.repeat(
                offset[:, None], self.y.reshape(len(phi), -1).shape[1], axis=1
            )
        return {k: v[:, 0] if self.coef.ndim == 1 else v for k, v in parts.items()}

    def predict(self, x: PyTree) -> np.ndarray:
        """The fitted model at new positions `x`, (m,) or (m, k)."""
        phi, offset = self._evaluate(x)
        out = phi @ self.coef
        if offset is None:
            return out
        return out + (offset if out.ndim == 1 else offset[:, None])

    def _evaluate(self, x: PyTree) -> tuple[np.ndarray, np.ndarray | None]:
        dtype = self.alpha.dtype
        wide = jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()
        with wide:
            x = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), x)
            phi, offset = _columns(self.model, x, self.alpha)  # pyright: ignore[reportArgumentType]
        phi = np.asarray(phi)[:, list(self.model.order)]
        return phi, None if offset is None else np.asarray(offset)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, lists and strings, ready for JSON; no data."""
        fields = ("value", "stderr", "init", "lower", "upper", "fixed", "at_bound", "tied_to")
        parameters = {}
        for name in (*self.names, *self.columns):
            one = self[name]
            keys = fields if one.kind == "nonlinear" else fields[:2]
            parameters[name] = {"kind": one.kind} | {k: _plain(getattr(one, k)) for k in keys}
        keys = (
            *("success", "status", "message", "stop", "cost", "chisq", "redchi", "dof"),
            *("num_data", "num_free", "num_steps", "num_residuals", "num_jacobians"),
            *("rank", "cond", "cond_jac", "absolute_sigma"),
        )
        out = {key: _plain(getattr(self, key)) for key in keys}
        out["parameters"] = parameters
        out["covariance"] = {"names": list(self.cov_names), "matrix": _plain(self.covariance)}
        return out

    def __str__(self) -> str:
        return _text(self)


@eqx.filter_jit
def _columns(model: Model, x: PyTree, values: Float[ArrayIn, " q"]):
    return model.evaluate(x, values), model.offset(x, values)


def _plain(value: object) -> object:
    """JSON has no complex numbers and no NaN: pairs of lists, and None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, complex):
        return {"real": _plain(value.real), "imag": _plain(value.imag)}
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _text(fit: FitResult) -> str:
    """The report that `print(fit)` shows."""
    head = "converged" if fit.success else "NOT CONVERGED"
    shape = " x ".join(str(s) for s in fit.y.shape)
    lines = [
        f"varpro fit: {head} ({fit.stop or fit.status}) after {fit.num_steps} steps",
        f"  data {shape}, {len(fit.names)} nonlinear ({fit.num_free} free) and "
        f"{fit.coef.size} linear parameters, {fit.dof} degrees of freedom",
        f"  chi-square {fit.chisq:.6g}, reduced {fit.redchi:.6g}",
    ]
    if not fit.success:
        lines.append(f"  {fit.message}")
    rows = [("parameter", "value", "std. error", "")]
    for name in (*fit.names, *fit.columns):
        one = fit[name]
        if np.ndim(one.value):
            values = np.real(one.value)
            span = f"{values.min():.5g} ... {values.max():.5g}"
            rows.append((name, span, "", f"{values.size} right-hand sides"))
            continue
        note = "fixed" if one.fixed else "on its bound" if one.at_bound else ""
        if one.tied_to:
            note = f"= {one.tied_to}"
        if not one.fixed and np.isinf(one.stderr):
            note = "not determined by the data"
        rows.append((name, *_rounded(one.value, one.stderr), note))  # pyright: ignore[reportArgumentType]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines.append("")
    for name, value, error, note in rows:
        line = f"  {name:<{widths[0]}}  {value:>{widths[1]}}  {error:>{widths[2]}}  {note}"
        lines.append(line.rstrip())
    pairs = _strong_pairs(fit)
    if pairs:
        lines.append("")
        lines += [f"  correlation({a}, {b}) = {r:+.4f}" for a, b, r in pairs[:8]]
    return "\n".join(lines)


def _rounded(value: float | complex, error: float) -> tuple[str, str]:
    """Value and error, both to two significant digits of the error."""
    if isinstance(value, complex) or not np.isfinite(error) or error <= 0:
        shown = f"{value:.6g}"
        return shown, "" if error == 0 or np.isnan(error) else f"{error:.2g}"
    digits = 1 - int(np.floor(np.log10(error)))
    size = max(abs(value), error)
    if 1e-4 <= size < 1e7 and digits <= 9:
        digits = max(digits, 0)
        return f"{value:.{digits}f}", f"{error:.{digits}f}"
    exponent = int(np.floor(np.log10(size)))
    return f"{value:.{max(exponent + digits, 1)}e}", f"{error:.1e}"


def _strong_pairs(fit: FitResult) -> list[tuple[str, str, float]]:
    if fit.coef.ndim != 1:
        return []
    r = fit.correlation
    found = [
        (fit.cov_names[i], fit.cov_names[j], float(r[i, j]))
        for i in range(len(r))
        for j in range(i)
        if abs(r[i, j]) > _ALMOST_ONE
    ]
    return sorted(found, key=lambda pair: -abs(pair[2]))
