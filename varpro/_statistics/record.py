"""The record of a fit: arrays under names, frozen. The verbs on it stand in `FitResult`."""

import abc
from collections.abc import Mapping

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PyTree

from .._errors import InputError, suggestion
from .._export_cache import cached_jit
from .._parameters.layout import Layout
from .._parameters.param import Param
from .._problem.linear_constraints import Linear
from .._types import ArrayIn, precision
from ..basis import Model
from .estimate import Estimate, nonlinear
from .information_criteria import aic, aicc, bic
from .joint_covariance import Optimum
from .summary import Statistic, statistics


class AbstractLeastSquares(eqx.Module):
    """A minimum of a sum of squares: the numbers that follow from chi-square, degrees of freedom and
    covariance."""

    alpha: eqx.AbstractVar[np.ndarray]
    chisq: eqx.AbstractVar[float]
    num_data: eqx.AbstractVar[int]
    num_free: eqx.AbstractVar[int]
    dof: eqx.AbstractVar[int | float]
    absolute_sigma: eqx.AbstractVar[bool]
    covariance: eqx.AbstractVar[np.ndarray]
    params: eqx.AbstractVar[dict[str, Param]]
    layout: eqx.AbstractVar[Layout]

    @property
    @abc.abstractmethod
    def num_params(self) -> int | float:
        """Parameters that were fitted: free nonlinear ones and coefficients."""

    @property
    def redchi(self) -> float:
        """Reduced chi-square, that of data and priors over `dof`; NaN without degrees of freedom."""
        total = self.chisq + prior_chisq(self.layout, self.params, self.alpha)
        return total / self.dof if self.dof > 0 else float("nan")

    @property
    def aic(self) -> float:
        """Akaike's information criterion, as lmfit defines it; formulas in `information_criteria`."""
        return aic(self)

    @property
    def aicc(self) -> float:
        """The same corrected for few data; infinite where there are too few for it."""
        return aicc(self)

    @property
    def bic(self) -> float:
        """Schwarz' (Bayesian) information criterion."""
        return bic(self)

    @property
    def statistics(self) -> dict[str, Statistic]:
        """The numbers that judge the whole fit, by name, each with `value`, `label` and `text`."""
        return statistics(self)

    @property
    def correlation(self) -> np.ndarray:
        """Correlation matrix in the order of `cov_names`."""
        sd = np.sqrt(np.diag(self.covariance))
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.covariance / sd[:, None] / sd


class Fitted(AbstractLeastSquares):
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

    @abc.abstractmethod
    def predict(self, x: PyTree = None) -> np.ndarray:
        """The fitted model (m,) or (m, k) at positions `x`, those of the data by default."""

    def _curve(self, x: PyTree) -> np.ndarray:
        phi, offset = self._evaluate(x)
        curve = phi @ self.coef
        if offset is None:
            return curve
        return curve + (offset if curve.ndim == 1 else offset[:, None])

    def _evaluate(
        self, x: PyTree, alpha: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        dtype = self.alpha.dtype
        alpha = self.alpha if alpha is None else alpha.astype(dtype)
        with precision(dtype):
            x = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), x)
            phi, offset = _columns(self.model, x, alpha)
        phi = np.asarray(phi)[:, list(self.model.order)]
        return phi, None if offset is None else np.asarray(offset)


def prior_chisq(layout: Layout, params: Mapping[str, Param], alpha: np.ndarray) -> float:
    """The squares that priors add to the sum, those of parameters that are free to follow them."""
    total = 0.0
    for i, param in enumerate(params.values()):
        if param.prior is not None and layout.source[i] in layout.free:
            mean, sd = param.prior
            total += ((float(alpha[i]) - mean) / sd) ** 2
    return total


@cached_jit
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
