"""The record of many independent fits: arrays over the batch axes under names, frozen."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError, suggestion
from .._given.names import NAMELESS, Names
from .._parameters.layout import Layout, Numbers
from .._parameters.param import Param
from .._statistics.derived_result import Derived
from .._statistics.estimate import Estimate
from .._statistics.named import AbstractNamed
from .._status import CurveStatus
from ..basis import Model
from .curve_source import CurveSource


class BatchRecord(AbstractNamed):
    """The fields of many fits and what follows from them at once; described in `BatchFit`."""

    names: tuple[str, ...]
    columns: tuple[str, ...]
    alpha: np.ndarray
    alpha_stderr: np.ndarray
    coef: np.ndarray
    coef_stderr: np.ndarray
    chisq: np.ndarray
    dof: np.ndarray
    num_steps: np.ndarray
    status: np.ndarray
    x: PyTree
    absolute_sigma: bool
    params: dict[str, Param]
    layout: Layout
    model: Model
    shared: tuple[str, ...] = ()
    dims: tuple[str, ...] | None = None
    coords: dict[str, tuple[Any, ...]] = eqx.field(default_factory=dict)
    data_names: Names = NAMELESS
    numbers: Numbers | None = None
    ruled: bool = False
    derived: Derived | None = None
    source: CurveSource | None = eqx.field(static=True, default=None, compare=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch axes."""
        return self.status.shape

    @property
    def success(self) -> np.ndarray:
        """Which curves converged."""
        return CurveStatus.converged(self.status)

    @property
    def redchi(self) -> np.ndarray:
        """Reduced chi-square of each curve."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.dof > 0, self.chisq / self.dof, np.nan)

    @property
    def counts(self) -> dict[str, int]:
        """How many curves ended in which way, those that occur."""
        codes, counts = np.unique(self.status, return_counts=True)
        return {CurveStatus.NAMES[c]: int(k) for c, k in zip(codes, counts, strict=True)}

    @property
    def message(self) -> str:
        """A sentence on how many curves failed, and of what; empty if none did."""
        failed = {k: v for k, v in self.counts.items() if k not in ("successful", "floor")}
        if not failed:
            return ""
        why = ", ".join(f"{count} {name}" for name, count in failed.items())
        return (
            f"{sum(failed.values())} of {self.status.size} curves did not converge ({why}); see "
            "fit.status."
        )

    def estimate(self, name: str) -> Estimate:
        """A parameter, coefficient or derived quantity, as an `Estimate` of arrays.

        **Raises:** `InputError` for an unknown name.
        """
        if name in self.names:
            i = self.names.index(name)
            param, source = self.params[name], self.layout.source[i]
            return Estimate(
                name,
                "nonlinear",
                self.alpha[..., i],
                self.alpha_stderr[..., i],
                None if param.init is None else float(param.init),
                float(param.lower),
                float(param.upper),
                source == i and i not in self.layout.free,
                False,
                self.layout.follows(i),
            )
        if name in self.columns:
            i = self.columns.index(name)
            value, error = self.coef[..., i], self.coef_stderr[..., i]
            return Estimate(name, "linear", value, error, origin=self.model.origins.get(name))
        if self.derived is not None and name in self.derived:
            return self.derived[name]
        known = (*self.names, *self.columns, *(self.derived or ()))
        raise InputError(f"No parameter '{name}' in this fit. {suggestion(name, known)}")

    @property
    def own_positions(self) -> np.ndarray | None:
        """Positions (..., m), where curves have their own."""
        shaped = isinstance(self.x, np.ndarray) and self.x.ndim == len(self.shape) + 1 > 1
        return self.x if shaped and self.x.shape[:-1] == self.shape else None
