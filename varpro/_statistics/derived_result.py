"""Derived quantities by name, with their errors: what `derive` returns."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import equinox as eqx
import numpy as np

from .._errors import InputError, suggestion
from .._given.arguments import choice
from .._text import plain, text_table
from .estimate import Estimate
from .intervals import Intervals
from .student import check_level, student

if TYPE_CHECKING:
    import pandas


DerivedMethod = Literal["covariance", "profile", "bootstrap"]


@runtime_checkable
class Source(Protocol):
    """What can refit: the fit that quantities come from, and what was asked of it."""

    def profiles(self, level: float, rhs: int) -> Intervals: ...

    def bootstrap(self, level: float) -> Intervals: ...


class Derived(eqx.Module):
    """Derived quantities by name, each with its error.

    **Fields:**

    - `names`: of the r quantities.
    - `value`, `stderr`: (r,); (r, k) for k right-hand sides, (r, ...) for a batch of curves.
    - `covariance`: joint covariance (r, r), (k, r, r) or (..., r, r), with the scale of that of the fit.
    - `dof`: degrees of freedom of the noise, infinite where sigma is known; of a batch NaN.
    - `common`: which quantities are the same for all right-hand sides, of parameters alone.
    - `source`: the fit behind them, for intervals by refits; None in what was read from a file.

    `derived["ratio"]` is an `Estimate`, `float(derived)` the value of a single one.
    """

    names: tuple[str, ...]
    value: np.ndarray
    covariance: np.ndarray
    dof: float
    common: tuple[bool, ...] = ()
    source: Source | None = eqx.field(static=True, default=None, compare=False)

    @property
    def stderr(self) -> np.ndarray:
        """Standard errors, of the shape of `value`."""
        with np.errstate(invalid="ignore"):
            errors = np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))
        return errors if self.value.ndim == 1 else np.moveaxis(errors, -1, 0)

    @property
    def correlation(self) -> np.ndarray:
        """Correlations, of the shape of `covariance`."""
        sd = np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.covariance / sd[..., :, None] / sd[..., None, :]

    def __getitem__(self, name: str) -> Estimate:
        if name not in self.names:
            raise InputError(f"Nothing derived is called '{name}'. {suggestion(name, self.names)}")
        i = self.names.index(name)
        value, error = self.value[i], self.stderr[i]
        if self.value.ndim == 1:
            value, error = value.item(), error.item()
        elif self.common and self.common[i]:
            value, error = value[0].item(), error[0].item()
        return Estimate(name, "derived", value, error)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __float__(self) -> float:
        if len(self.names) != 1:
            raise InputError(f"These are {len(self.names)} quantities: take one by its name.")
        return float(self[self.names[0]])

    def ci(
        self,
        level: float = 0.95,
        method: DerivedMethod = "covariance",
        rhs: int | None = None,
    ) -> Intervals:
        """Confidence intervals.

        **Arguments:**

        - `level`: the confidence, 0.95 by default.
        - `method`: "covariance": `value +/- quantile * stderr`, Student's t with `dof`. "profile": how far each
            quantity can be held from its value, all parameters and coefficients refitted, before chi-square
            rises by what the level allows; it holds for ratios of badly known numbers too. "bootstrap":
            percentiles of the quantity over the replicates of `fit.bootstrap()`.
        - `rhs`: the right-hand side, counted from 0; needed where there are several.

        **Raises:** `InputError` for a level outside 0 to 1, for several right-hand sides without `rhs`, for
        quantities that were read from a file or are those of many curves ("profile" and "bootstrap"), where the
        fit has no minimum or no noise, and for "profile" of coefficients with bounds.
        """
        check_level(level)
        choice("method", method, ("covariance", "profile", "bootstrap"))
        if self.value.ndim > 1 and (rhs is None or method == "bootstrap"):
            raise InputError(
                "Intervals are of one right-hand side: give rhs=, counted from 0, with covariance or profile. "
                "Or take .value and .stderr.",
                argument="rhs",
            )
        if method == "covariance":
            value, error = self.value, self.stderr
            if rhs is not None and value.ndim > 1:
                if not 0 <= rhs < value.shape[1]:
                    raise InputError(
                        f"rhs={rhs} is not one of the {value.shape[1]} right-hand sides, counted from 0."
                    )
                value, error = value[:, rhs], error[:, rhs]
            half = student(self.dof, level) * error
            none = ("",) * len(self.names)
            return Intervals(
                self.names, value, value - half, value + half, level, "covariance", none, none
            )
        if self.source is None:
            raise InputError(
                f"These quantities have no fit behind them, which {method} refits: they were read from a file, "
                "or are those of many curves. Take fit.derive(...) of a fit.",
                argument="method",
            )
        if method == "profile":
            return self.source.profiles(level, rhs or 0)
        return self.source.bootstrap(level)

    def to_frame(self) -> "pandas.DataFrame":
        """A table with the columns `name`, `value`, `stderr`, and `rhs` of several right-hand sides."""
        import pandas

        rows = []
        for name in self.names:
            one = self[name]
            pairs = zip(np.ravel(one.value), np.ravel(one.stderr), strict=True)
            for j, (value, error) in enumerate(pairs):
                at = {"rhs": j if np.size(one.value) > 1 else -1} if self.value.ndim > 1 else {}
                rows.append({"name": name, **at, "value": value, "stderr": error})
        return pandas.DataFrame(rows)

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Value and standard error by name, as plain numbers or lists."""
        found = {}
        for name in self.names:
            one = self[name]
            found[name] = {"value": plain(one.value), "stderr": plain(one.stderr)}
        return found

    def __str__(self) -> str:
        rows = []
        for name in self.names:
            one = self[name]
            rows.append((name, *one.rounded, ", ".join(one.notes)))
        return text_table(("derived", "value", "std. error", "note"), rows, (0, 3))
