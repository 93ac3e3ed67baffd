"""The record of a fit: arrays under names, frozen. The verbs on it stand in `FitResult`."""

import abc
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from .._errors import InputError, suggestion
from .._given.containers import as_positions, numbers_of
from .._given.names import NAMELESS, Names
from .._parameters.layout import Layout
from .._parameters.param import Param
from .._problem.linear_constraints import Linear
from .._problem.padding import filled_positions
from .._problem.side_groups import laid_out, middle
from .._programs.program import program
from .._types import ArrayIn, precision
from ..basis import Model, at_side, without_names
from .derived_result import Derived
from .estimate import Estimate, nonlinear
from .information_criteria import aic, aicc, bic
from .joint_covariance import Optimum
from .named import AbstractNamed
from .summary import Statistic, statistics


class AbstractJudged(eqx.Module):
    """The numbers that follow from chi-square, degrees of freedom and covariance."""

    alpha: eqx.AbstractVar[np.ndarray]
    chisq: eqx.AbstractVar[float]
    num_data: eqx.AbstractVar[int]
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
        """Akaike's information criterion. Without `absolute_sigma` it is lmfit's; with it sigma is known,
        and chi-square takes the place of its logarithm. Of counts it is made of their deviance.
        Formulas in `information_criteria`."""
        return aic(self)

    @property
    def aicc(self) -> float:
        """The criterion of Akaike corrected for few data; infinite where there are too few for it."""
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


class AbstractLeastSquares(AbstractJudged):
    """A minimum of a sum of squares, of one data set or of several."""

    names: eqx.AbstractVar[tuple[str, ...]]
    optimum: eqx.AbstractVar[Any]
    success: eqx.AbstractVar[bool]
    message: eqx.AbstractVar[str]
    cost: eqx.AbstractVar[float]
    num_free: eqx.AbstractVar[int]

    @property
    @abc.abstractmethod
    def parts(self) -> "Mapping[str, Fitted]":
        """The fit of each data set, by what stands before the names of its coefficients."""


class Fitted(AbstractNamed, AbstractLeastSquares):
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
    spread: float | None = None
    data_names: Names = NAMELESS
    whitener: np.ndarray | None = None
    derived: Derived | None = None

    @property
    def resid(self) -> np.ndarray:
        """Unweighted residual, `y - fitted`; NaN where a value is not in use."""
        resid = self.y - self.fitted
        if self.weights is None:
            return resid
        return np.where(self.weights_of_all > 0, resid, np.full((), np.nan, resid.dtype))

    @property
    def y_in_use(self) -> np.ndarray:
        """`y`, with zeros for values that are not in use."""
        if self.weights is None:
            return self.y
        return np.where(self.weights_of_all > 0, self.y, np.zeros((), self.y.dtype))

    @property
    def weighted_resid(self) -> np.ndarray:
        """The weighted residual, white where noise is correlated; zero where a value is not in use."""
        return self.whitened((self.y_in_use - self.fitted) * self.weights_of_all)

    def whitened(self, weighted: np.ndarray) -> np.ndarray:
        """What is weighted (m, ...), without the correlations of the noise."""
        return weighted if self.whitener is None else np.tensordot(self.whitener, weighted, 1)

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
    def parts(self) -> "Mapping[str, Fitted]":
        """This fit, of a single data set, under no name."""
        return {"": self}

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
            origin = self.model.origins.get(name)
            return Estimate(name, "linear", value, error, at_bound=held, origin=origin)
        if self.derived is not None and name in self.derived:
            return self.derived[name]
        known = (*self.names, *self.columns, *(self.derived or ()))
        raise InputError(f"No parameter '{name}' in this fit. {suggestion(name, known)}")

    def components(self, x: PyTree = None) -> dict[str, np.ndarray]:
        """The contribution of each column, coefficient times basis, (m,) or (m, k) by name."""
        x, single = self.positions(x)
        phi, offset = self._of_all(x)
        parts = {
            name: phi[:, i] * self.coef.reshape(len(self.columns), -1)[i]
            for i, name in enumerate(self.columns)
        }
        if offset is not None:
            k = self.y.reshape(len(self.y), -1).shape[1]
            parts["offset"] = np.broadcast_to(offset, (len(offset), k)).copy()
        parts = {k: v[:, 0] if self.coef.ndim == 1 else v for k, v in parts.items()}
        return {k: v[0] for k, v in parts.items()} if single else parts

    def positions(self, x: PyTree = None) -> tuple[PyTree, bool]:
        """New positions like those of the data, which they are by default; and whether it is a single
        one, a plain number.

        **Raises:** `InputError` for what is not like them.
        """
        if x is None or x is self.x:
            return self.x, False
        return positions_like(x, self.x)

    @abc.abstractmethod
    def predict(self, x: PyTree = None) -> np.ndarray:
        """The fitted model (m,) or (m, k) at positions `x`, those of the data by default."""

    def _curve(self, x: PyTree) -> np.ndarray:
        x, single = self.positions(x)
        phi, offset = self._of_all(x)
        if phi.shape[2] > 1:
            curve = np.einsum("mnk,nk->mk", phi, self.coef.reshape(len(self.columns), -1))
            curve = curve if offset is None else curve + offset
            curve = curve[:, 0] if self.coef.ndim == 1 else curve
        else:
            curve = phi[:, :, 0] @ self.coef
            if offset is not None:
                curve = curve + (offset[:, 0] if curve.ndim == 1 else offset)
        return curve[0] if single else curve

    def _evaluate(
        self, x: PyTree, alpha: np.ndarray | None = None, rhs: int | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Columns (m, n) and offset (m,) in the order of the user; where right-hand sides have different
        ones those of `rhs`, by default of that in the middle."""
        dtype = self.alpha.dtype
        alpha = self.alpha if alpha is None else alpha.astype(dtype)
        model = middle(self.model) if rhs is None else at_side(self.model, rhs)
        with precision(dtype):
            x, m = filled_positions(model, x)
            phi, offset = _columns.on_host(without_names(model), x, alpha)
        return phi[:m, list(model.order)], None if offset is None else offset[:m]

    def _of_all(self, x: PyTree) -> tuple[np.ndarray, np.ndarray | None]:
        """Columns (m, n, k) and offset (m, k) of all right-hand sides; k = 1 where they have the same."""
        model, groups = laid_out(self.model, self.layout, self.alpha)
        if not groups:
            phi, offset = self._evaluate(x)
            return phi[:, :, None], None if offset is None else offset[:, None]
        members = [row for stack in groups for row in stack]
        with precision(self.alpha.dtype):
            x, m = filled_positions(model, x)
            first = np.array([row[0] for row in members], np.int32)
            phi, offset = _columns_of_each.on_host(without_names(model), x, self.alpha, first)
        places = np.zeros(sum(map(len, members)), int)
        for i, row in enumerate(members):
            places[row] = i
        phi = np.moveaxis(phi, 0, -1)[:m, list(model.order)][:, :, places]
        return phi, None if offset is None else offset.T[:m, places]


def positions_like(x: PyTree, like: PyTree) -> tuple[PyTree, bool]:
    """Positions x like those of a fit; and whether it is a single one, a plain number.

    **Raises:** `InputError` for what is not like them.
    """
    mine, tree = jax.tree.flatten(like)
    leaves, other = jax.tree.flatten(as_positions("x", x))
    if tree != other:
        raise InputError(
            f"x must be given as in the fit, as {_structure(tree)}, not as {_structure(other)}.",
            argument="x",
        )
    found, single = [], False
    for leaf, old in zip(leaves, mine, strict=True):
        array = numbers_of("x", leaf).values
        if array.ndim == 0 and old.ndim == 1:
            array, single = array[None], True
        if array.ndim == 2 and old.ndim == 1 and array.shape[1] == 1:
            array = array[:, 0]
        if np.iscomplexobj(array) and not np.iscomplexobj(old):
            raise InputError(f"x must be real, but has dtype {array.dtype}.", argument="x")
        if array.ndim != old.ndim or array.shape[1:] != old.shape[1:]:
            expected = ("m", *map(str, old.shape[1:]))
            raise InputError(
                f"x has shape {array.shape}; expected ({', '.join(expected)}) as in the fit.",
                argument="x",
            )
        found.append(array.astype(old.dtype))
    if len({len(array) for array in found}) > 1:
        raise InputError("The arrays of x differ in their lengths.", argument="x")
    return jax.tree.unflatten(tree, found), single


def _structure(tree: Any) -> str:
    return "one array" if jax.tree.structure(0) == tree else str(tree).replace("PyTreeDef", "")


def prior_chisq(layout: Layout, params: Mapping[str, Param], alpha: np.ndarray) -> float:
    """The squares that priors add to the sum, those of parameters that are free to follow them."""
    total = 0.0
    for i, param in enumerate(params.values()):
        if param.prior is not None and layout.source[i] in layout.free:
            mean, sd = param.prior
            total += ((float(alpha[i]) - mean) / sd) ** 2
    return total


@program
def _columns(model: Model, x: PyTree, values: Float[ArrayIn, " q"]):
    return model.evaluate(x, values), model.offset(x, values)


@program
def _columns_of_each(
    model: Model, x: PyTree, values: Float[ArrayIn, " q"], rhs: Int[ArrayIn, " g"]
):
    """Columns (g, m, n) and offset (g, m) of some right-hand sides."""

    def one(j):
        mine = at_side(model, j)
        return mine.evaluate(x, values), mine.offset(x, values)

    return jax.lax.map(one, jnp.asarray(rhs))
