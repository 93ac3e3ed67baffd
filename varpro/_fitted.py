"""What a fit found: arrays under names, frozen. The verbs on it stand in `_fit_result`."""

from collections.abc import Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PyTree

from ._joint import Optimum
from ._linear import Linear
from ._params import Layout, Param
from ._precision import precision
from ._programs import kept
from ._results import InputError, suggestion
from ._table import rounded
from ._types import ArrayIn
from .basis import Model


class Estimate(eqx.Module):
    """One parameter of a fit.

    **Fields:** `value` and `stderr` (floats; arrays (k,) for a coefficient of k right-hand sides),
    `init`, `lower`, `upper`, `fixed`, `at_bound` (nonlinear parameters), `tied_to` what it follows,
    such as "a.center" or "2 * a.center + 3.1", and `kind`. A `stderr` is NaN on a bound, infinite where the data do
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
    at_bound: bool | np.ndarray = False
    tied_to: str | None = None

    @property
    def relative(self) -> float | np.ndarray:
        """The standard error as a fraction of the value."""
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.asarray(self.stderr) / np.abs(self.value)
        return out if out.ndim else float(out)

    @property
    def rounded(self) -> tuple[str, str]:
        """Value and standard error as text, both to the second digit of the error.

        Of k right-hand sides the value is a span, "2.1 ... 5.3", and the error is empty.
        """
        value, stderr = self.value, self.stderr
        if np.size(value) == 1:
            return rounded(np.asarray(value).item(), np.asarray(stderr).item())
        size = np.abs(value) if np.iscomplexobj(value) else np.asarray(value)
        mark = "|c| " if np.iscomplexobj(value) else ""
        return f"{mark}{size.min():.5g} ... {size.max():.5g}", ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is special about it, in words: "fixed", "on its upper bound", ..."""
        found = []
        if self.tied_to:
            found.append(f"tied to {self.tied_to}")
        elif self.fixed:
            found.append("fixed")
        if np.ndim(self.at_bound):
            held = int(np.sum(self.at_bound))
            found += [f"{held} on a bound"] if held else []
        elif self.at_bound:
            side = "lower " if self.value == self.lower else "upper "
            side = side if self.value in (self.lower, self.upper) else ""
            found.append(f"on its {side}bound")
        if np.size(self.value) > 1:
            found.append(f"{np.size(self.value)} right-hand sides")
        lost = int(np.sum(np.isinf(self.stderr)))
        if lost:
            some = lost < np.size(self.value)
            found.append("not determined by the data" + (f" in {lost} of them" if some else ""))
        return tuple(found)


class Fitted(eqx.Module):
    """The fields of a fit and what follows from them at once; described in `FitResult`."""

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
    dof: int | float
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
    optimum: Optimum
    num_linear: int | float
    coef_at_bound: np.ndarray
    linear: Linear
    pooled: tuple[float, int | float] | None = None
    compressed: int | None = None
    costs: np.ndarray = eqx.field(default_factory=lambda: np.zeros(0))
    noise: str = "normal"

    @property
    def resid(self) -> np.ndarray:
        """Unweighted residual, `y - fitted`."""
        return self.y - self.fitted

    @property
    def redchi(self) -> float:
        """Reduced chi-square, that of data and priors over `dof`; NaN without degrees of freedom."""
        total = self.chisq + prior_chisq(self.layout, self.params, self.alpha)
        return total / self.dof if self.dof > 0 else float("nan")

    @property
    def weights_of_all(self) -> np.ndarray:
        """The weight of every value, of the shape of y: ones without weights."""
        weights = np.ones((), self.alpha.dtype) if self.weights is None else self.weights
        if weights.ndim == 1 and self.y.ndim == 2:
            weights = weights[:, None]
        return np.broadcast_to(weights, self.y.shape)

    @property
    def sigma_resid(self) -> float:
        """Standard deviation of the (weighted) residual, the root of `redchi`."""
        return float(np.sqrt(self.redchi))

    @property
    def num_params(self) -> int | float:
        """Parameters that were fitted: free nonlinear ones and `num_linear`."""
        return self.num_free + self.num_linear

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
            return nonlinear(self, name)
        if name in self.columns:
            i = self.columns.index(name)
            value, error, held = self.coef[i], self.coef_stderr[i], self.coef_at_bound[i]
            if self.coef.ndim == 1:
                value, error, held = value.item(), error.item(), bool(held)
            return Estimate(name, "linear", value, error, at_bound=held)
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

    def _evaluate(
        self, x: PyTree, alpha: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        dtype = self.alpha.dtype
        alpha = self.alpha if alpha is None else alpha.astype(dtype)
        with precision(dtype):
            x = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), x)
            phi, offset = _columns(self.model, x, alpha)  # pyright: ignore[reportArgumentType]
        phi = np.asarray(phi)[:, list(self.model.order)]
        return phi, None if offset is None else np.asarray(offset)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, lists and strings, ready for JSON; no data."""
        fields = ("value", "stderr", "init", "lower", "upper", "fixed", "at_bound", "tied_to")
        parameters = {}
        for name in (*self.names, *self.columns):
            one = self[name]
            keys = fields if one.kind == "nonlinear" else (*fields[:2], "at_bound")
            parameters[name] = {"kind": one.kind} | {k: plain(getattr(one, k)) for k in keys}
        keys = (
            *("success", "status", "message", "stop", "cost", "chisq", "redchi", "dof"),
            *("num_data", "num_free", "num_steps", "num_residuals", "num_jacobians"),
            *("rank", "cond", "cond_jac", "absolute_sigma"),
        )
        out = {key: plain(getattr(self, key)) for key in keys}
        out["parameters"] = parameters
        out["covariance"] = {"names": list(self.cov_names), "matrix": plain(self.covariance)}
        return out


def nonlinear(fit: Any, name: str) -> Estimate:
    """A nonlinear parameter of a fit."""
    i = fit.names.index(name)
    param, source = fit.params[name], fit.layout.source[i]
    return Estimate(
        name,
        "nonlinear",
        float(fit.alpha[i]),
        float(fit.alpha_stderr[i]),
        None if param.init is None else float(param.init),
        float(param.lower),
        float(param.upper),
        source == i and i not in fit.layout.free,
        bool(fit.at_bound[i]),
        fit.layout.follows(i),
    )


def prior_chisq(layout: Layout, params: Mapping[str, Param], alpha: np.ndarray) -> float:
    """The squares that priors add to the sum, those of parameters that are free to follow them."""
    total = 0.0
    for i, param in enumerate(params.values()):
        if param.prior is not None and layout.source[i] in layout.free:
            mean, sd = param.prior
            total += ((float(alpha[i]) - mean) / sd) ** 2
    return total


@kept
def _columns(model: Model, x: PyTree, values: Float[ArrayIn, " q"]):
    return model.evaluate(x, values), model.offset(x, values)


def plain(value: object) -> object:
    """JSON has no complex numbers and no NaN: pairs of lists, and None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, complex):
        return {"real": plain(value.real), "imag": plain(value.imag)}
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
