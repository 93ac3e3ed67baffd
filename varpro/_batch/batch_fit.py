"""What many independent fits return, and the verbs on it."""

import dataclasses
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from .._errors import InputError, needed
from .._given.arguments import shown
from .._programs.program import program
from .._results.abstract import AbstractResult
from .._results.fit_result import FitResult
from .._results.netcdf import Contents
from .._statistics.derivation import Derivation
from .._statistics.derived_result import Derived
from .._statistics.diagnostics import Finding
from .._statistics.estimate import Estimate
from .._statistics.record import positions_like
from .._statistics.student import check_level
from .._status import CurveStatus
from .._types import ArrayIn, precision
from ..basis import Model
from .batch_drawing import DrawnBatch
from .batch_findings import findings
from .batch_report import html_report, report

if TYPE_CHECKING:
    import pandas
    import xarray


class MapInterval(NamedTuple):
    """Confidence intervals of one parameter in every curve: arrays of the batch's shape."""

    name: str
    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


class BatchFit(DrawnBatch, AbstractResult):
    """The outcome of many fits of one model, each with nonlinear parameters of its own.

    **Fields:** arrays over the batch axes of the data, `shape`, with what one fit has behind them.

    - `names`, `alpha` (..., q), `alpha_stderr`: nonlinear parameters.
    - `columns`, `coef` (..., n), `coef_stderr`: linear coefficients.
    - `chisq`, `dof`, `num_steps`, and `status`, codes of `CurveStatus`: "successful"; "floor", as good as
        rounding allows; "stuck"; "nonfinite"; "max_steps"; "bad_data" for data that are not finite;
        "no_data" for fewer samples of positive weight than parameters; "undetermined" where a
        parameter moves nothing, as in a curve that is zero or constant: its standard error is
        infinite. Parameters are NaN for "bad_data" and "no_data". A standard error is NaN on a bound and infinite where the data tell nothing.
    - `x` (m,), or (..., m) where curves have positions of their own, `absolute_sigma`, `params`, `layout`, `model`: what was fitted.
    - `shared`: parameters that all curves have in common.
    - `ruled`: whether coefficients have relations or penalties.
    - `numbers`: those of ties. `derived`: the quantities that the fit was asked to derive, else None.
    - `dims`, `coords`: names and coordinates of the batch axes, where the data had them.

    `fit["slow.tau"]` is an `Estimate` of arrays; `fit[3, 5]` is the fit of one curve by itself, a
    `FitResult` with all its verbs (see `curve`).
    """

    @overload
    def __getitem__(self, name: str) -> Estimate: ...

    @overload
    def __getitem__(self, name: int | tuple[int, ...]) -> FitResult: ...

    def __getitem__(self, name: str | int | tuple[int, ...]) -> Estimate | FitResult:
        return self.estimate(name) if isinstance(name, str) else self.curve(name)

    def curve(self, index: int | tuple[int, ...]) -> FitResult:
        """The fit of one curve by itself, from where it ended, with the options of the batch: covariance,
        bands, profiles, diagnostics and plots of it. Parameters that all curves share are held.

        **Raises:** `InputError` for no curve of the batch, for one that could not be fitted, and for a result
        that was read from a file or came from another process, which has no data.
        """
        if self.source is None:
            raise InputError(
                "This result has no data: it was read from a file, or came from another process. Fit the "
                "curve by vp.fit, from fit['name'].value at its index."
            )
        where = index if isinstance(index, tuple) else (index,)
        numbers = np.arange(self.status.size).reshape(self.shape)
        try:
            number = numbers[tuple(map(operator.index, where))]
        except (IndexError, TypeError) as error:
            raise InputError(
                f"[{shown(index)}] is no curve of a batch of shape {self.shape}; give a number for each axis, or "
                "the name of a parameter."
            ) from error
        if np.ndim(number):
            raise InputError(
                f"[{shown(index)}] stands for {number.size} curves of a batch of shape {self.shape}; give a number "
                "for each axis."
            )
        values = self.alpha.reshape(-1, len(self.names))[number]
        if not np.isfinite(values).all():
            how = CurveStatus.NAMES[int(self.status.ravel()[number])]
            raise InputError(f"Curve {shown(index)} has no fit: its status is '{how}'.")
        sources = self.layout.source
        starts = {name: float(values[i]) for i, name in enumerate(self.names) if sources[i] == i}
        return self.source.fit(int(number), starts, self.shared)

    def ci(
        self,
        level: float = 0.95,
        names: Sequence[str] | None = None,
        *,
        method: Literal["covariance", "profile"] = "covariance",
        curves: Sequence[int | tuple[int, ...]] | None = None,
    ) -> "dict[str, MapInterval]":
        """Confidence intervals of parameters and coefficients, by name: `value`, `lower` and `upper` of the
        batch's shape.

        **Arguments:**

        - `level`: the confidence, 0.95 by default.
        - `names`: all by default; of profiles all that each curve has to itself.
        - `method`: "covariance": plus and minus a quantile times the standard error, Student's t with
            the curve's `dof`, or the normal where sigma is known. "profile": by refits, as `fit[i, j].ci`, of
            `curves` alone.
        - `curves`: the indices of some curves; the others are NaN. All by default, but for profiles, which take
            about a second each.

        **Raises:** `InputError` for unknown names, levels outside of 0 to 1, profiles of curves that are not
        named, and whatever keeps one of these from having a profile.
        """
        if method == "profile":
            return self._profiles(level, names, curves)
        if method != "covariance":
            raise InputError(
                f"method must be 'covariance' or 'profile', not {method!r}.", argument="method"
            )
        from scipy.special import ndtri, stdtrit  # takes a while to import

        check_level(level)
        tail = 0.5 * (1.0 + level)
        if self.absolute_sigma:
            reach: Any = ndtri(tail)
        else:
            dof = self.dof.sum() if self.shared else self.dof
            with np.errstate(invalid="ignore"):
                reach = np.where(dof > 0, stdtrit(np.maximum(dof, 1), tail), np.nan)
        found = {}
        known = (*self.names, *self.columns, *(self.derived or ()))
        for name in known if names is None else names:
            one = self[name]
            value, error = np.asarray(one.value), np.asarray(one.stderr)
            if np.iscomplexobj(value):
                raise InputError(
                    f"'{name}' is complex; its standard error is that of its distance.",
                    argument="names",
                )
            with np.errstate(invalid="ignore"):
                half = reach * error
                found[name] = MapInterval(name, value, value - half, value + half)
        return found if curves is None else self._only(found, curves)

    def _only(
        self, found: dict[str, MapInterval], curves: Sequence[int | tuple[int, ...]]
    ) -> dict[str, MapInterval]:
        """These intervals in some curves, NaN in all others."""
        chosen = np.zeros(self.shape, bool)
        for index in curves:
            chosen[index] = True
        return {
            name: MapInterval(name, *(np.where(chosen, a, np.nan) for a in one[1:]))
            for name, one in found.items()
        }

    def _profiles(
        self,
        level: float,
        names: Sequence[str] | None,
        curves: Sequence[int | tuple[int, ...]] | None,
    ) -> dict[str, MapInterval]:
        check_level(level)
        if curves is None:
            raise InputError(
                "A profile takes refits of each curve: say of which, curves=[(0, 0), (3, 5)].",
                argument="curves",
            )
        free = [self.names[i] for i in self.layout.free if self.names[i] not in self.shared]
        wanted = [*free, *self.columns] if names is None else list(names)
        ends = {name: np.full((3, *self.shape), np.nan) for name in wanted}
        for index in curves:
            found = self.curve(index).ci(level, "profile", wanted)
            for name in wanted:
                one = found[name]
                ends[name][(slice(None), *np.atleast_1d(index))] = one.value, one.lower, one.upper
        return {name: MapInterval(name, *three) for name, three in ends.items()}

    def to_frame(self) -> "pandas.DataFrame":
        """A row for each curve, by the axes and coordinates of the batch: values and standard errors of all
        parameters and coefficients, chi-square, degrees of freedom, steps, and how it ended in a word.

        **Raises:** `InputError` if pandas is not installed.
        """
        pandas = needed("pandas", "to_frame")
        dims = self.dims or tuple(f"axis_{i}" for i in range(len(self.shape)))
        labels = []
        for dim, count in zip(dims, self.shape, strict=True):
            coordinate = self.coords.get(dim)
            plain = coordinate is not None and tuple(coordinate[0]) == (dim,)
            labels.append(np.asarray(coordinate[1]) if plain else np.arange(count))  # pyright: ignore
        index = pandas.MultiIndex.from_product(labels, names=dims) if dims else None
        columns: dict[str, Any] = {}
        for name in (*self.names, *self.columns, *(self.derived or ())):
            one = self[name]
            columns[name] = np.asarray(one.value).ravel()
            columns[f"{name}_stderr"] = np.asarray(one.stderr).ravel()
        for key in ("chisq", "redchi", "dof", "num_steps"):
            columns[key] = getattr(self, key).ravel()
        columns["status"] = [CurveStatus.NAMES[code] for code in self.status.ravel()]
        return pandas.DataFrame(columns, index=index)

    def derive(self, what: Derivation, *, sigma: Any = None, weights: Any = None) -> Derived:
        """Numbers that follow from each fit, with standard errors: maps of areas, fractions, mean
        lifetimes, or of any expression, as in `FitResult.derive`.

        **Arguments:**

        - `what`: as in `FitResult.derive`.
        - `sigma` or `weights`: as they were given to the fit where samples differ in them, a number, (m,) or
            (..., m); of Poisson noise `np.sqrt(fit.predict())`. Without, samples count alike.

        **Returns:** a `Derived` with `value` and `stderr` (r, ...) and `covariance` (..., r, r); NaN for
        curves that did not converge. Where curves share parameters the errors know what all of them say.

        **Raises:** `InputError` as there, and where the errors of the fit are those of other weights.
        """
        from .derived import derive_each

        return derive_each(self, self.numbers, what, sigma, weights)

    def with_derived(
        self, what: Derivation, *, sigma: Any = None, weights: Any = None
    ) -> "BatchFit":
        """This fit with quantities that `derive` makes among its maps, tables and files."""
        made = self.derive(what, sigma=sigma, weights=weights)
        return dataclasses.replace(self, derived=made)

    @property
    def best_fit(self) -> np.ndarray:
        """The fitted curves (..., m), as lmfit calls them: `predict()`."""
        return self.predict()

    @property
    def best_values(self) -> dict[str, np.ndarray]:
        """Parameters and coefficients (...) by name, as lmfit calls them."""
        return {name: np.asarray(self[name].value) for name in (*self.names, *self.columns)}

    def eval(self, x: PyTree = None) -> np.ndarray:
        """`predict(x=x)`, as lmfit calls it."""
        return self.predict(x=x)

    def predict(self, index: int | tuple[int, ...] | None = None, x: PyTree = None) -> np.ndarray:
        """The fitted curves (..., m), or those at `index`, at the positions of the data or at `x` (s,), the same
        for all curves. All take as much memory as the data.

        **Raises:** `InputError` for positions that the model cannot have.
        """
        pick: Any = ... if index is None else index
        alpha, coef = self.alpha[pick], self.coef[pick]
        order = np.argsort(self.model.order)
        with precision(alpha.dtype):
            flat = alpha.reshape(-1, len(self.names)), coef.reshape(-1, len(self.columns))[:, order]
            own = self.own_positions if x is None else None
            if x is not None:
                one = self.x if self.own_positions is None else self.x[(0,) * len(self.shape)]
                x = jax.tree.map(lambda a: a.astype(alpha.dtype), positions_like(x, one)[0])
            else:
                x = self.x if own is None else own[pick].reshape(-1, own.shape[-1])
            out = np.asarray(_curves(self.model, x, *flat, own is not None))
        return out.reshape(*alpha.shape[:-1], -1)

    @property
    def diagnostics(self) -> tuple[Finding, ...]:
        """What a reader of these fits should know, each a `Finding`; empty if all is well. `code`:
        "failed", curves that did not converge; "bound", parameters that lie on a bound in more than a
        hundredth of the curves; "undetermined", infinite errors in as many; "cancelling", of up to 256
        curves that are looked at, those whose contributions are a thousand times their sum."""
        return findings(self)

    def report(self) -> str:
        """The text that `print(fit)` shows: medians and spread of the curves that converged."""
        return report(self)

    def _repr_html_(self) -> str:
        """The report in notebooks."""
        return html_report(self)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return f"<BatchFit: {shape} curves, {int(self.success.sum())} converged>"

    def to_dataset(self, dims: tuple[str, ...] | None = None) -> "xarray.Dataset":
        """Maps by name over the batch axes: `slow.tau`, `slow.tau_stderr`, ..., `chisq`, `redchi`,
        `status` and `num_steps`. Axes have the names and coordinates of the data, or those of `dims`,
        by default "axis_0", ..."""
        return self._contents(dims).to_xarray()

    def _contents(self, dims: tuple[str, ...] | None) -> Contents:
        coords = self.coords if dims in (None, self.dims) else {}
        dims = dims or self.dims or tuple(f"axis_{i}" for i in range(len(self.shape)))
        if len(dims) != len(self.shape):
            raise InputError(f"dims has {len(dims)} names, but there are {len(self.shape)} axes.")
        maps: dict[str, Any] = {}
        for name in (*self.names, *self.columns, *(self.derived or ())):
            one = self[name]
            attrs = {} if one.origin is None else {"amplitude_at_x": one.origin}
            maps[name] = (dims, one.value, attrs)
            maps[f"{name}_stderr"] = (dims, one.stderr)
        for key in ("chisq", "redchi", "num_steps"):
            maps[key] = (dims, getattr(self, key))
        meanings = " ".join(CurveStatus.NAMES)
        flags = {
            "flag_values": np.arange(len(CurveStatus.NAMES), dtype=np.int8),
            "flag_meanings": meanings,
        }
        maps["status"] = (dims, self.status, flags)
        return Contents(maps, dict(coords), {})

    def _stored(self) -> tuple["BatchFit", Contents]:
        return dataclasses.replace(self, source=None), self._contents(self.dims)


@program
def _curves(
    model: Model,
    x: PyTree,
    alpha: Float[ArrayIn, "b q"],
    coef: Inexact[ArrayIn, "b n"],
    own: bool,
) -> Inexact[Array, "b m"]:
    def one(values, c, x):
        offset = model.offset(x, values)
        fitted = model.evaluate(x, values) @ c
        return fitted if offset is None else fitted + offset

    x = jax.tree.map(jnp.asarray, x)
    axes = (0, 0, 0 if own else None)
    return jax.vmap(one, in_axes=axes)(jnp.asarray(alpha), jnp.asarray(coef), x)
