"""What a fit of several data sets returns."""

import fnmatch
import html
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, overload

import equinox as eqx
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError, suggestion
from .._figures.labels import Labels
from .._parameters.layout import Layout
from .._parameters.param import Param
from .._results.abstract import AbstractResult
from .._results.fit_result import FitResult
from .._results.inference import Inferred
from .._results.netcdf import Contents
from .._results.report import CRITERIA, PARAMETERS, aligned, outcome, parameter_row, summary
from .._statistics.bands import Band, BandKind
from .._statistics.derived_result import Derived
from .._statistics.diagnostics import Finding, diagnose, inequalities_met
from .._statistics.estimate import Estimate, nonlinear
from .._statistics.joint_covariance import Optimum
from .._text import html_table, indented, listed, plain, text_table

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas

_LEFT = (0, 6)


class GlobalFit(Inferred, AbstractResult):
    """The outcome of `varpro.fit` for several data sets that share nonlinear parameters.

    **Fields:**

    - `sets`: the fit of each data set by name, a `FitResult` with its own coefficients, residuals
        and findings. Its errors and bands are those of the whole fit.
    - `names`, `alpha`, `alpha_stderr`, `at_bound`: all nonlinear parameters; a shared one has its
        own name, "fast.tau", one of a single data set has that before it, "run1.fast.tau".
    - `cov_names`, `covariance`: of the free nonlinear parameters.
    - `success`, `status`, `message`, `stop`, `cost`, `start_costs`, `chisq`, `num_data`, `num_free`,
        `dof`, `absolute_sigma`, `num_steps`, `num_residuals`, `num_jacobians`, `cond_jac`, `costs`, `noise`: as
        in `FitResult`, of all data together.
    - `derived`: the quantities that `varpro.fit` was asked to derive, else None.
    - `joint`: where coefficients are linked, the fit of all data sets one below the other; else None.
    - `optimum`: what intervals by refits start from; None in a file of version 1.0.

    Its verbs, `ci`, `profile`, `contour`, `bootstrap`, `covariance_of`, `derive` and `predict`, are those of
    `FitResult`, of all data sets together and by the names that numbers have here.

    `fit["run1"]` is a data set, `fit["fast.tau"]` and `fit["run1.fast.tau"]` are parameters, and
    `fit["run1.fast"]` is a coefficient.
    """

    sets: dict[str, FitResult]
    names: tuple[str, ...]
    alpha: np.ndarray
    alpha_stderr: np.ndarray
    at_bound: np.ndarray
    cov_names: tuple[str, ...]
    covariance: np.ndarray
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
    num_steps: int
    num_residuals: int
    num_jacobians: int
    cond_jac: float
    params: dict[str, Param]
    layout: Layout
    costs: np.ndarray = eqx.field(default_factory=lambda: np.zeros(0))
    noise: str = "normal"
    derived: Derived | None = None
    optimum: Optimum | None = None
    joint: FitResult | None = None

    @property
    def _whole(self) -> Inferred:
        return self if self.joint is None else self.joint

    @property
    def parts(self) -> Mapping[str, FitResult]:
        """The fit of each data set, by what stands before the names of its coefficients."""
        return {f"{key}.": one for key, one in self.sets.items()}

    @property
    def num_params(self) -> int | float:
        """Parameters that were fitted: free nonlinear ones and coefficients."""
        if self.joint is not None:
            return self.joint.num_params
        return self.num_free + sum(one.num_linear for one in self.sets.values())

    def __iter__(self) -> Iterator[str]:
        """The names of all parameters and of the coefficients of every data set."""
        yield from self.names
        for key, one in self.sets.items():
            yield from (f"{key}.{column}" for column in one.columns)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __getitem__(self, name: str) -> Any:
        found = self._find(str(name))
        if found is not None:
            return found
        of_sets = (f"{key}.{c}" for key, one in self.sets.items() for c in one.columns)
        known = (*self.names, *self.sets, *of_sets)
        raise InputError(f"No parameter or data set '{name}' here. {suggestion(name, known)}")

    def _find(self, name: str) -> "Estimate | FitResult | None":
        if name in self.names:
            return nonlinear(self, name)
        if name in self.sets:
            return self.sets[name]
        if self.derived is not None and name in self.derived:
            return self.derived[name]
        for key, one in self.sets.items():
            rest = name.removeprefix(f"{key}.")
            if rest != name and rest in (*one.columns, *one.names):
                return one[rest]
        return None

    @property
    def stderr(self) -> dict[str, float | np.ndarray]:
        """Standard errors of all parameters and coefficients by name."""
        return {name: self[name].stderr for name in self}

    @property
    def best_values(self) -> dict[str, float | complex | np.ndarray]:
        """The values of all parameters and coefficients by name, as lmfit calls them."""
        return {name: self[name].value for name in self}

    @property
    def best_fit(self) -> dict[str, np.ndarray]:
        """The fitted curves of all data sets, as lmfit calls them."""
        return {key: one.fitted for key, one in self.sets.items()}

    @overload
    def predict(self, x: PyTree = None, *, band: None = None) -> dict[str, np.ndarray]: ...

    @overload
    def predict(
        self,
        x: PyTree = None,
        *,
        band: float,
        kind: BandKind = "confidence",
        sigma: Any = None,
    ) -> dict[str, Band]: ...

    def predict(
        self,
        x: PyTree = None,
        *,
        band: float | None = None,
        kind: BandKind = "confidence",
        sigma: Any = None,
    ) -> Any:
        """The fitted model of every data set by its name, at positions `x`: those of its data by default, the
        same for all, or `{"run1": x}` for some or all of them. `band`, `kind` and `sigma` as in
        `FitResult.predict`, `sigma` for all or by data set; bands are those of the whole fit.

        **Raises:** `InputError` as there.
        """
        known = self.sets
        by_name = isinstance(x, Mapping) and bool(x) and all(key in known for key in x)
        found = {}
        for key in x if by_name else known:
            at = x[key] if by_name else x
            if band is None:
                found[key] = known[key].predict(at)
                continue
            mine = sigma.get(key) if isinstance(sigma, Mapping) else sigma
            try:
                found[key] = known[key].predict(at, band=band, kind=kind, sigma=mine)
            except InputError as error:
                raise InputError(f"Data set '{key}': {error}", argument=error.argument) from error
        return found

    def eval(self, x: PyTree = None) -> dict[str, np.ndarray]:
        """`predict(x)`, as lmfit calls it."""
        return self.predict(x)

    def report(self) -> str:
        """The text that `print(fit)` shows."""
        lines = [f"varpro global fit: {outcome(self)}"]
        if not self.success:
            lines.append(f"  {self.message}")
        lines += aligned(self._statistics())
        if self.names:
            rows = [parameter_row(self[name]) for name in self.names]
            lines += ["", indented(text_table(PARAMETERS, rows, _LEFT))]
        lines += ["", indented(text_table(*self._table(), (0,)))]
        for key, one in self.sets.items():
            rows = [parameter_row(one[c]) for c in one.columns]
            header = (f"coefficients of {key}", *PARAMETERS[1:])
            lines += ["", indented(text_table(header, rows, _LEFT))]
        if self.derived is not None:
            rows = [parameter_row(self.derived[name]) for name in self.derived]
            header = ("derived", *PARAMETERS[1:])
            lines += ["", indented(text_table(header, rows, _LEFT))]
        found = [f"  {finding}" for finding in self.diagnostics]
        return "\n".join([*lines, *(["", "  findings", *found] if found else [])])

    @property
    def diagnostics(self) -> tuple[Finding, ...]:
        """What a reader of this fit should know, each a `Finding`; empty for a good fit. A sentence of
        several data sets stands once, with their names before it; parameters have their full names."""
        said: dict[tuple[str, str], tuple[list[str], tuple[str, ...]]] = {}
        sources = zip(self.names, self.layout.source, strict=True)
        followers = {name for name, i in sources if self.names[i] != name}
        for key, one in self.sets.items():
            mine = [n for n in one.names if n in followers or f"{key}.{n}" in followers]
            for finding in diagnose(one, mine):
                names = tuple(n if n in self.names else f"{key}.{n}" for n in finding.names)
                keys, before = said.setdefault((finding.code, finding.message), ([], ()))
                keys.append(key)
                said[finding.code, finding.message] = keys, tuple(dict.fromkeys(before + names))
        of_sets = (
            Finding(code, f"{listed(keys)}: {message}", names)
            for (code, message), (keys, names) in said.items()
        )
        return *inequalities_met(self, ()), *of_sets

    def _statistics(self) -> list[tuple[str, str]]:
        linear = round(self.num_params - self.num_free, 2)
        data = f"{self.num_data} values in {len(self.sets)} data sets"
        return summary(self, data, f"{self.num_free} nonlinear", linear)

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        header = ("data set", "shape", "chi-square", "per value", "rank", "cond")
        rows = [
            (
                key,
                " x ".join(map(str, one.y.shape)),
                f"{one.chisq:.6g}",
                f"{one.chisq / one.num_data:.4g}",
                f"{one.rank} of {len(one.columns)}",
                f"{one.cond:.3g}",
            )
            for key, one in self.sets.items()
        ]
        return header, rows

    def __repr__(self) -> str:
        how = self.stop if self.success else "not converged"
        return (
            f"<GlobalFit: {len(self.sets)} data sets, {how or self.status}, chi-square "
            f"{self.chisq:.6g}, {self.dof} degrees of freedom>"
        )

    def _repr_html_(self) -> str:
        rows = [parameter_row(self[name]) for name in self.names]
        parts = [
            f"<p><b>varpro global fit: {html.escape(outcome(self))}</b></p>",
            html_table(("statistic", ""), self._statistics(), (0, 1)),
            html_table(PARAMETERS, rows, _LEFT) if rows else "",
            html_table(*self._table(), (0,)),
        ]
        if self.derived is not None:
            rows = [parameter_row(self.derived[name]) for name in self.derived]
            parts.append(html_table(("derived", *PARAMETERS[1:]), rows, _LEFT))
        return f'<div style="overflow-x:auto">{"".join(parts)}</div>'

    def to_frame(self) -> "pandas.DataFrame":
        """All parameters as one table, those of a data set under its name in `dataset`.

        The columns are those of `FitResult.to_frame`; shared parameters stand in every data set.
        """
        import pandas

        frames: list[Any] = [one.to_frame().assign(dataset=key) for key, one in self.sets.items()]
        if self.derived is not None:
            frames.append(self.derived.to_frame().assign(kind="derived", dataset=""))
        return pandas.concat(frames, ignore_index=True)

    def plot(
        self,
        *,
        log: str = "",
        components: bool = True,
        residuals: bool = True,
        labels: Labels | Mapping[str, Labels] | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Data, fit and residuals of every data set, as `FitResult.plot` draws them. `labels` may be
        those of all, or of each by its name."""
        return self._beside(
            "plot", labels, fig, log=log, components=components, residuals=residuals
        )

    def plot_residuals(
        self,
        *,
        labels: Labels | Mapping[str, Labels] | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Whether the residuals of each data set are noise, see `FitResult.plot_residuals`."""
        return self._beside("plot_residuals", labels, fig)

    def plot_components(
        self,
        *,
        labels: Labels | Mapping[str, Labels] | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """What the model of each data set is made of, see `FitResult.plot_components`."""
        return self._beside("plot_components", labels, fig)

    def plot_corr(
        self,
        *,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Correlations of the nonlinear parameters.

        **Raises:** `InputError` without a free parameter.
        """
        from .._figures import correlations

        return correlations.draw(self.cov_names, self.correlation, fig)  # pyright: ignore[reportReturnType]

    def plot_convergence(
        self,
        *,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """How far the cost was above the final one after each step, relative to it.

        **Raises:** `InputError` where costs were not kept: without a search, and for other solvers.
        """
        from .._figures import convergence

        return convergence.draw(self.costs, fig)  # pyright: ignore[reportReturnType]

    def _beside(
        self, verb: str, labels: Labels | Mapping[str, Labels] | None, fig: Any, **settings: Any
    ) -> Any:
        """Every data set in a part of one figure."""
        from .._figures import style

        rows = -(-len(self.sets) // 2)
        width, height = (7.0, 5.4) if len(self.sets) == 1 else (11.0, 4.2 * rows)
        fig = style.canvas(fig, width, height)
        for part, (name, one) in zip(
            style.subfigures(fig, tuple(self.sets)), self.sets.items(), strict=True
        ):
            own = labels.get(name) if isinstance(labels, Mapping) else labels
            getattr(one, verb)(labels=own, fig=part, **settings)
        return fig

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, lists and strings, ready for JSON; no data."""
        numbers = {name: plain(one.value) for name, one in self.statistics.items()}
        return {name: number for name, number in numbers.items() if name not in CRITERIA} | {
            "sets": {key: one.to_dict() for key, one in self.sets.items()},
            "covariance": {"names": list(self.cov_names), "matrix": plain(self.covariance)},
            **({} if self.derived is None else {"derived": self.derived.to_dict()}),
        }

    def _stored(self) -> tuple["GlobalFit", Contents]:
        return self, Contents({}, {}, {})


def matching(pattern: str, names: tuple[str, ...], own: tuple[str, ...]) -> list[int]:
    """Indices of the parameters that a pattern means, by their full name or by the name that they
    have in their data set."""
    return [
        i
        for i, pair in enumerate(zip(names, own, strict=True))
        if any(name == pattern or fnmatch.fnmatchcase(name, pattern) for name in pair)
    ]
