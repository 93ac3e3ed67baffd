"""What a fit of compressed right-hand sides returns: their shared parameters, and all coefficients
once the data have been read a second time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from .._errors import InputError
from .._figures.labels import Labels
from .._given.containers import numbers_of
from .._problem.columns import Assembled
from .._problem.compress import DataBlocks, column_blocks
from .._problem.linear_constraints import Linear
from .._problem.problem import Problem
from .._programs.program import program
from .._reduced.common_basis import Reduced
from .._statistics.covariance import ParameterCovariance, coefficient_covariance, combine
from .._statistics.diagnostics import Finding
from .._statistics.estimate import Estimate
from .._statistics.intervals import Intervals, Method
from .._statistics.joint_covariance import scaled
from .._statistics.quantities import noise_variance
from .._statistics.residual_tests import Spectrum
from .._text import bullet, indented, text_table
from .._types import ArrayIn, precision
from ..basis import without_names
from ..linalg import SVD
from .abstract import AbstractResult
from .dataset import axes_of, coordinates
from .fit_result import FitResult
from .netcdf import Contents, texts
from .report import PARAMETERS, aligned, outcome, parameter_row, summary

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray

# Findings that look at single residuals; those of mixtures of right-hand sides have other signs.
_OF_SIGNS = ("runs",)
_LEFT = (0, 6)


class Amplitudes(eqx.Module):
    """Coefficients of some right-hand sides: `coef` and `stderr` (n, k), and `chisq` (k,), the
    weighted sum of squares of each."""

    coef: np.ndarray
    stderr: np.ndarray
    chisq: np.ndarray


class CompressedFit(AbstractResult):
    """The outcome of `varpro.fit` for right-hand sides that were read block by block.

    **Fields:**

    - `core`: the fit of the compressed columns. What it says of the nonlinear parameters, of
        chi-square and degrees of freedom is exact for all data; its coefficients and curves are of
        mixtures of right-hand sides, and mean nothing by themselves.
    - `count`: k, how many right-hand sides there are.
    - `amplitudes`: coefficients of all of them, or None before the data have been read again.

    `fit["slow.tau"]` is a parameter, `fit["slow"]` a coefficient of all right-hand sides.
    """

    core: FitResult
    count: int
    amplitudes: Amplitudes | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the nonlinear parameters."""
        return self.core.names

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return self.core.columns

    @property
    def alpha(self) -> np.ndarray:
        """The nonlinear parameters (q,)."""
        return self.core.alpha

    @property
    def coef(self) -> np.ndarray:
        """Coefficients (n, k)."""
        return self._known().coef

    @property
    def coef_stderr(self) -> np.ndarray:
        """Their standard errors (n, k)."""
        return self._known().stderr

    @property
    def success(self) -> bool:
        """Whether the fit converged."""
        return self.core.success

    @property
    def message(self) -> str:
        """How it ended, in a sentence."""
        return self.core.message

    @property
    def chisq(self) -> float:
        """The weighted sum of squares of all data."""
        return self.core.chisq

    @property
    def redchi(self) -> float:
        """Chi-square for each degree of freedom."""
        return self.core.redchi

    @property
    def dof(self) -> int | float:
        """Degrees of freedom of all data."""
        return self.core.dof

    @property
    def diagnostics(self) -> tuple[Finding, ...]:
        """What a reader of this fit should know."""
        return tuple(f for f in self.core.diagnostics if f.code not in _OF_SIGNS)

    def __getitem__(self, name: str) -> Estimate:
        if name in self.columns:
            i, known = self.columns.index(name), self._known()
            return Estimate(name, "linear", known.coef[i], known.stderr[i])
        return self.core[name]

    def ci(
        self,
        level: float = 0.95,
        method: Method = "covariance",
        names: str | Sequence[str] | None = None,
    ) -> Intervals:
        """Confidence intervals of the nonlinear parameters, by "covariance" or "profile"; see
        `FitResult.ci`.

        **Raises:** `InputError` for other methods and for names of coefficients.
        """
        if method == "bootstrap":
            raise InputError("Compressed right-hand sides cannot be drawn anew. Use 'profile'.")
        if method == "posterior":
            raise InputError("Compressed right-hand sides have no posterior. Use 'profile'.")
        asked = [self.names[i] for i in self.core.layout.free] if names is None else names
        for name in [asked] if isinstance(asked, str) else asked:
            if name in self.columns:
                raise InputError(f"'{name}' is a coefficient; its standard error is in fit[...].")
        return self.core.ci(level, method, asked)

    def of(self, block: np.ndarray) -> Amplitudes:
        """Coefficients of right-hand sides (m, k_i), with errors in which all data have their say."""
        given = numbers_of("block", block).values
        if given.ndim != 2 or len(given) != len(self.core.y):
            raise InputError(
                f"A block has shape ({len(self.core.y)}, k_i) as the data, not {given.shape}.",
                argument="block",
            )
        return self._read([given], given.shape[1])

    def completed(self, blocks: DataBlocks | np.ndarray) -> "CompressedFit":
        """This fit with `amplitudes`, for which the data are read again; see `vp.compress`.

        **Raises:** `InputError` if they are not as many as were compressed.
        """
        found = self._read(column_blocks(blocks), self.count)
        if found.chisq.size != self.count:
            raise InputError(
                f"{self.count} right-hand sides were compressed, but {found.chisq.size} came in the "
                "second reading. Pass what can be read twice: an array, or a function that returns "
                "a new iterator."
            )
        return CompressedFit(self.core, self.count, found)

    def _read(self, blocks, k: int) -> Amplitudes:
        core = self.core
        order, scale, real = list(core.model.order), noise_variance(core), core.alpha.dtype
        coef = np.empty((len(order), k), core.coef.dtype)
        stderr, chisq, width, at = np.empty(coef.shape, real), np.empty(k, real), 0, 0
        numbers = jax.tree.map(lambda a: np.asarray(a, real), core.optimum.numbers)
        columns = Assembled(
            without_names(core.model), without_names(core.layout), numbers, core.x, ()
        )
        linear = jax.tree.map(lambda a: np.asarray(a, real), core.linear)
        for block in blocks:
            block = np.asarray(block, coef.dtype)
            b = block.shape[1]
            # One program for all blocks but wider ones; the last one is filled up.
            width = max(width, b)
            block = np.pad(block, [(0, 0), (0, width - b)])
            problem = Problem(columns, block, core.weights, linear, None, core.whitener)
            with precision(real):
                found = _amplitudes(problem, core.optimum.alpha, core.optimum.blocks)
                found = jax.device_get(found)
            if at + b > k:
                return Amplitudes(coef, stderr, np.empty(at + b))  # more than there should be
            part = slice(at, at + b)
            coef[:, part] = found[0][order, :b]
            stderr[:, part] = np.sqrt(scaled(found[1][order, :b], scale))
            chisq[part], at = found[2][:b], at + b
        return Amplitudes(coef[:, :at], stderr[:, :at], chisq[:at])

    def predict(self, rhs: int | slice | Sequence[int], x: PyTree = None) -> np.ndarray:
        """Fitted curves (m, ...) of some right-hand sides, at the positions of the data by default."""
        at, single = self.core.positions(x)
        phi, _ = self.core._evaluate(at)
        curves = phi @ self.coef[:, rhs]
        return curves[0] if single else curves

    def residual_spectrum(self, rank: int = 4) -> Spectrum:
        """The `rank` largest singular values and left vectors of the weighted residual of all data;
        see `FitResult.residual_spectrum`. The right vectors would take another reading."""
        found = self.core.residual_spectrum(rank)
        return Spectrum(found.left, found.values, None)

    def _known(self) -> Amplitudes:
        if self.amplitudes is None:
            raise InputError(
                "Coefficients take a second reading of the data: fit = fit.completed(blocks), or "
                "fit.of(block) for some of them."
            )
        return self.amplitudes

    def report(self) -> str:
        """The text that `print(fit)` shows."""
        core = self.core
        data = (
            f"{core.num_data} values ({len(core.y)} samples, {self.count} right-hand sides, searched "
            f"as {core.y.shape[1]})"
        )
        nonlinear, linear = f"{core.num_free} nonlinear", core.num_params - core.num_free
        lines = [f"varpro fit of compressed data: {outcome(core)}"]
        lines += [bullet(core.message)] if not core.success else []
        lines += [*aligned(summary(core, data, nonlinear, linear)), ""]
        known = self.names if self.amplitudes is None else (*self.names, *self.columns)
        rows = [parameter_row(self[name]) for name in known]
        lines.append(indented(text_table(PARAMETERS, rows, _LEFT)))
        said = [bullet(str(finding)) for finding in self.diagnostics]
        return "\n".join([*lines, *(["", "  findings", *said] if said else [])])

    def plot_corr(
        self,
        *,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Correlations of the nonlinear parameters; see `FitResult.plot_corr`."""
        return self.core.plot_corr(fig=fig)

    def plot_components(
        self,
        *,
        labels: Labels | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """The columns of the basis beside the coefficients; see `FitResult.plot_components`.

        **Raises:** `InputError` before the data have been read a second time.
        """
        from .._figures import components

        known = self._known()
        return components.beside(
            self.core, known.coef, known.stderr, labels or Labels.of(self.core.data_names), fig
        )  # pyright: ignore[reportReturnType]

    def plot_maps(
        self,
        shape: tuple[int, ...] | None = None,
        *,
        labels: Labels | None = None,
        fig: "matplotlib.figure.Figure | matplotlib.figure.SubFigure | None" = None,
    ) -> "matplotlib.figure.Figure":
        """Coefficients and their standard errors as maps; see `FitResult.plot_maps`.

        **Raises:** `InputError` before the data have been read a second time.
        """
        known = self._known()
        from .._figures.maps import maps_of_coefficients

        return maps_of_coefficients(self.columns, known.coef, known.stderr, shape, labels, fig)

    def to_dataset(self) -> "xarray.Dataset":
        """Parameters and coefficients under their names: `coef`, `coef_stderr` (coefficient, rhs),
        `chisq` (rhs), `value`, `stderr` (parameter) and `covariance` of the nonlinear ones."""
        core = self.core
        free = [core.names[i] for i in core.layout.free]
        _, rhs = axes_of(core)
        variables = {
            "value": ("parameter", core.alpha),
            "stderr": ("parameter", core.alpha_stderr),
            "covariance": (("estimate", "estimate_2"), core.covariance_of(free)),
        }
        if self.amplitudes is not None:
            variables["coef"] = (("coefficient", rhs), self.amplitudes.coef)
            variables["coef_stderr"] = (("coefficient", rhs), self.amplitudes.stderr)
            variables["chisq"] = (rhs, self.amplitudes.chisq)
        coords = {
            "parameter": texts(core.names),
            "coefficient": texts(core.columns),
            "estimate": texts(free),
            "estimate_2": texts(free),
        }
        return Contents(variables, coords | coordinates(core), {}).to_xarray()

    def _stored(self) -> tuple["CompressedFit", Contents]:
        return self, Contents({}, {}, {})

    def __repr__(self) -> str:
        how = self.core.stop if self.success else "not converged"
        return (
            f"<CompressedFit: {len(self.core.y)} x {self.count} data, {how or self.core.status}, "
            f"chi-square {self.chisq:.6g}, {self.dof} degrees of freedom>"
        )


@program
def _amplitudes(
    problem: Problem, alpha: Float[ArrayIn, " p"], known: ParameterCovariance
) -> tuple[Inexact[Array, "N k"], Float[Array, "N k"], Float[Array, " k"]]:
    """Coefficients of a block, their variances for unit noise, and sums of squares."""
    alpha = jnp.asarray(alpha)
    spread = ParameterCovariance(
        **{k: jnp.asarray(getattr(known, k)) for k in ParameterCovariance.__dataclass_fields__}
    )
    reduced = Reduced(problem, SVD(), "kaufman")
    _, point = reduced.evaluate(alpha)
    linear: Linear = problem.linear
    blocks = combine(spread, coefficient_covariance(reduced, alpha, point, spread.on_bound))
    resid = problem.weighted(problem.y - problem.curve(alpha, point.coef))
    return (
        jnp.asarray(linear.all_of(point.coef)),
        blocks.coef_variance(),
        jnp.sum(jnp.abs(resid) ** 2, axis=0),
    )
