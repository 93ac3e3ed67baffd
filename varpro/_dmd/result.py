"""What an optimised dynamic mode decomposition returns."""

import dataclasses
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np

from .._errors import InputError, needed
from .._given.containers import as_positions, real_numbers
from .._problem.compress import Compressed, is_stream
from .._results.abstract import AbstractResult
from .._results.netcdf import Contents
from .._results.report import outcome
from .._statistics.diagnostics import LEVEL
from .._statistics.residual_tests import lag_test
from .._text import indented, rounded, text_table
from .bagging import DmdBags
from .exponentials import Spectrum

if TYPE_CHECKING:
    import pandas
    import xarray
    from matplotlib.figure import Figure
from .plot import Drawn

_ROWS = 24


class Errors(eqx.Module):
    """What standard errors are made of, for unit noise, in coordinates alpha (p,) and coefficients
    of the n columns: the gram matrix of `half` (s, p) is the covariance of alpha; `gram_inv` (n, n)
    that of the independent part of coefficients; these move by `-turn c` (n, n, p); `on_bound` and
    `lost` (p,) mark what has no error; `inner` (n, n) are the products of the rows of coefficients."""

    half: np.ndarray
    gram_inv: np.ndarray
    turn: np.ndarray
    on_bound: np.ndarray
    lost: np.ndarray
    inner: np.ndarray


class DmdResult(AbstractResult):
    """The outcome of `varpro.dmd`: `X ~ sum_i amplitudes[i] modes[..., i] exp(eigenvalues[i] (t - t0))`.

    **Fields:**

    - `eigenvalues` (r,), `amplitudes` (r,) at `t0`, the earliest time, in decreasing order; `modes`
        (..., r), of norm one (None if X came compressed: see `modes_of`).
    - `X`, `t`, `weights`: the data as given, with `rows` of them. `real`: whether eigenvalues are conjugate pairs or real.
    - `success`, `status`, `message`, `stop`, `num_steps`, `num_residuals`: how the search ended, as in
        `FitResult`.
    - `chisq`, `dof`: the weighted sum of squares and the degrees of freedom, in real numbers.
    - `rank`, `cond`: of the weighted matrix of exponentials; a rank below r means that some of them
        cannot be told apart.
    - `bags`: a `DmdBags`, or None.
    - `spectrum`, `alpha`, `order`, `projector`, `errors`: what the verbs below are made from.
    """

    eigenvalues: np.ndarray
    amplitudes: np.ndarray
    modes: np.ndarray | None
    t: np.ndarray
    t0: float
    X: Any
    rows: int
    real: bool
    success: bool
    status: str
    message: str
    stop: str
    chisq: float
    dof: int
    weights: np.ndarray | None
    num_steps: int
    num_residuals: int
    rank: int
    cond: float
    order: np.ndarray
    spectrum: Spectrum
    alpha: np.ndarray
    projector: np.ndarray
    errors: Errors
    bags: DmdBags | None = None

    @property
    def frequency(self) -> np.ndarray:
        """`im(lambda) / 2 pi` (r,), cycles per unit of t."""
        return np.imag(self.eigenvalues) / (2 * np.pi)

    @property
    def growth(self) -> np.ndarray:
        """`re(lambda)` (r,): negative for what decays."""
        return np.real(self.eigenvalues)

    @property
    def noise(self) -> float:
        """Standard deviation of the noise for unit weights, of real and of imaginary part each; NaN
        without degrees of freedom."""
        return float(np.sqrt(self.chisq / self.dof)) if self.dof > 0 else float("nan")

    @property
    def covariance(self) -> np.ndarray:
        """Joint covariance (2 r, 2 r) of all real, then all imaginary parts of the eigenvalues: NaN
        for what is on a bound, infinite variance of what the data do not determine."""
        turn = self.spectrum.derivative()[:, self.order].reshape(2 * len(self.order), -1)
        rows = turn @ self.errors.half.T * self.noise
        out = rows @ rows.T
        lost, bound = (turn != 0) @ self.errors.lost, (turn != 0) @ self.errors.on_bound
        out[np.diag_indices(len(out))] = np.where(lost, np.inf, np.diag(out))
        out[bound] = out[:, bound] = np.nan
        return out

    @property
    def stderr(self) -> np.ndarray:
        """Standard errors of the eigenvalues (r,), of the real part as real part, of the imaginary as
        imaginary part, from the covariance. Those of bags are `bags.stderr`."""
        real, imag = np.sqrt(np.diag(self.covariance)).reshape(2, -1)
        return real + 1j * imag

    @property
    def amplitude_stderr(self) -> np.ndarray:
        """Standard errors of the amplitudes (r,)."""
        e, n = self.errors, self.spectrum.count
        out = np.zeros(n)
        for i, members in enumerate(self._columns()):
            # amp^2 = share * sum of |c_u|^2 over its columns u, and d c_u = -(turn c)_u + noise.
            share = 1.0 / len(members) ** 2
            amp = np.sqrt(share * sum(e.inner[u, u].real for u in members))
            if not amp > 0:
                out[i] = np.nan
                continue
            moved = sum(np.einsum("ip,i->p", e.turn[u], e.inner[:, u]) for u in members)
            own = sum((e.gram_inv[u, v] * e.inner[v, u]).real for u in members for v in members)
            along = e.half @ np.real(moved)
            out[i] = np.sqrt(share**2 * (np.sum(along**2) + max(own, 0.0))) / amp
        return self.noise * out[self.order]

    @property
    def mode_stderr(self) -> np.ndarray:
        """Standard errors of the entries of the modes, of their distance in the complex plane, in
        units of the amplitude; of the shape of `modes`."""
        coef = self._column_coefficients()
        e, parts = self.errors, 1.0 if self.real else 2.0
        turned = np.einsum("sp,nip->sni", e.half, e.turn)
        gram = np.einsum("sni,snj->nij", turned.conj(), turned)
        spread = np.einsum("ik,nij,jk->nk", coef.conj(), gram, coef, optimize=True).real
        variance = np.maximum(spread, 0.0) + parts * np.real(np.diag(e.gram_inv))[:, None]
        variance = self.spectrum.variances(variance)[self.order]
        with np.errstate(divide="ignore", invalid="ignore"):
            out = self.noise * np.sqrt(variance) / self.amplitudes[:, None]
        assert self.modes is not None
        return out.T.reshape(self.modes.shape)

    def predict(self, t: np.ndarray | None = None) -> np.ndarray:
        """The model (..., len(t)) at times `t`, those of the data by default."""
        modes = self._known_modes()
        out = (modes * self.amplitudes) @ self._dynamics(t)
        return np.real(out) if self.real else out

    def component(self, i: int | list[int], t: np.ndarray | None = None) -> np.ndarray:
        """The share (..., len(t)) of mode i, or of several; with conjugate pairs that of both."""
        modes = self._known_modes()
        chosen = {int(j) for j in np.atleast_1d(i)}
        if self.real:
            gap = np.abs(self.eigenvalues[:, None] - self.eigenvalues.conj())
            chosen |= {int(np.argmin(gap[j])) for j in chosen}
        at = sorted(chosen)
        out = (modes[..., at] * self.amplitudes[at]) @ self._dynamics(t)[at]
        return np.real(out) if self.real else out

    def forecast(self, t: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (..., len(t)) over bags of what each predicts.

        The deviation is that of single bags; times `bags.factor` it is a standard error of `predict`.

        **Raises:** `InputError` without bags, or if X came compressed.
        """
        modes, data, bags = self._known_modes(), self._data(), self._known_bags()
        x = np.asarray(self.t if t is None else t) - self.t0
        first, second, count = 0.0, 0.0, 0
        for values, projector in zip(
            bags.eigenvalues[bags.ok], bags.projector[bags.ok], strict=True
        ):
            one = (projector @ data).T @ np.exp(np.outer(values, x))
            one, count = one.real if self.real else one, count + 1
            gap = one - first
            first = first + gap / count
            second = second + (gap * np.conj(one - first)).real
        std = np.sqrt(second / count)
        shape = (*modes.shape[:-1], len(x))
        return np.asarray(first).reshape(shape), np.asarray(std).reshape(shape)

    @property
    def mode_std(self) -> np.ndarray:
        """Standard deviations over bags of the entries of the modes, of their distance in the complex
        plane, in units of the amplitude; of the shape of `modes`."""
        modes, bags = self._known_modes(), self._known_bags()
        _, std = bags.spread(self._data())
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.abs(std) / self.amplitudes[:, None]
        return out.T.reshape(modes.shape)

    def modes_of(self, rows: np.ndarray) -> np.ndarray:
        """Modes times amplitudes (k_i, r) of rows of data (k_i, m), such as those of one block."""
        return self.spectrum.coefficients(self.projector @ np.asarray(rows).T)[self.order].T

    @property
    def findings(self) -> tuple[str, ...]:
        """What a reader should know, in sentences; empty if all is well."""
        found, n = [], len(self.eigenvalues)
        if self.rank < n:
            found.append(
                f"The exponentials have rank {self.rank} of {n}: some cannot be told apart. Give a "
                "smaller r."
            )
        held = int(np.sum(np.isnan(np.real(self.stderr)) | np.isnan(np.imag(self.stderr))))
        if held and self.dof > 0 and self.chisq > 0:
            found.append(f"{held} eigenvalues are on a bound, and their errors there withheld.")
        with np.errstate(invalid="ignore"):
            weak = int(np.sum(self.amplitudes < 2 * self.amplitude_stderr))
        if weak:
            found.append(f"{weak} amplitudes are no larger than two standard errors.")
        if self.real and self.spectrum.waves:
            _, _, im = self.spectrum.split(self.alpha)
            slow = int(np.sum(np.abs(im) * np.ptp(self.t) < 1e-2))
            if slow and not self.spectrum.singles:
                found.append(
                    f"{slow} conjugate pairs have no frequency to speak of: two real eigenvalues may be "
                    "meant. Give init= with these."
                )
        found += self._left_over()
        if self.bags is not None and self.bags.failed:
            found.append(f"{self.bags.failed} of {len(self.bags.status)} bags did not converge.")
        return tuple(found)

    def _left_over(self) -> list[str]:
        """Whether what the modes leave of the data is more than noise."""
        if is_stream(self.X) or isinstance(self.X, Compressed):
            return []
        order = np.argsort(self.t, kind="stable")
        y = np.asarray(self.X).reshape(-1, len(self.t))[:, order].T
        resid = y - np.asarray(self.predict()).reshape(-1, len(self.t))[:, order].T
        if self.weights is not None:
            used = np.asarray(self.weights)[order]
            y, resid = y[used > 0], resid[used > 0] * used[used > 0, None]
            y = y * used[used > 0, None]
        if np.iscomplexobj(resid):
            y, resid = (np.concatenate([np.real(a), np.imag(a)], axis=1) for a in (y, resid))
        size, rest = np.linalg.norm(y), np.linalg.norm(resid)
        test = lag_test(resid) if rest > 1e-8 * size else None
        if test is None or not test.p < LEVEL:
            return []
        return [
            f"The modes leave {100 * (rest / size) ** 2:.2g} % of the squares of the data, and what they "
            f"leave is not random: neighbours in time are correlated by {test.correlation:.2f}. A larger r "
            "may find more."
        ]

    def report(self) -> str:
        """The text that `print` shows."""
        n, m = len(self.eigenvalues), len(self.t)
        kind = "real" if self.real else "complex"
        lines = [f"varpro dmd: {outcome(self)}"]
        if not self.success:
            lines.append(f"  {self.message}")
        lines += [
            f"  data        {m} snapshots of {self.rows} rows, {kind}",
            f"  noise       {self.noise:.5g} from {self.dof} degrees of freedom",
            "",
        ]
        error, amplitude = self.stderr, self.amplitude_stderr
        table = []
        for i in range(min(n, _ROWS)):
            f, g = (
                rounded(float(self.frequency[i]), float(error[i].imag / (2 * np.pi))),
                rounded(float(self.growth[i]), float(error[i].real)),
            )
            a = rounded(float(self.amplitudes[i]), float(amplitude[i]))
            table.append((str(i), *f, *g, *a))
        header = ("", "frequency", "std. error", "growth", "std. error", "amplitude", "std. error")
        lines.append(indented(text_table(header, table, (0,))))
        lines += [f"  and {n - _ROWS} more"] if n > _ROWS else []
        lines += [""] * bool(self.findings) + [f"  - {one}" for one in self.findings]
        return "\n".join(lines)

    def to_frame(self) -> "pandas.DataFrame":
        """One line for each eigenvalue: frequency, growth, amplitude and their standard errors."""
        pandas = needed("pandas", "to_frame")
        error = self.stderr
        columns = {
            "frequency": self.frequency,
            "frequency_stderr": np.imag(error) / (2 * np.pi),
            "growth": self.growth,
            "growth_stderr": np.real(error),
            "amplitude": self.amplitudes,
            "amplitude_stderr": self.amplitude_stderr,
        }
        if self.bags is not None:
            columns["frequency_bags"] = np.imag(self.bags.stderr) / (2 * np.pi)
            columns["growth_bags"] = np.real(self.bags.stderr)
        return pandas.DataFrame(columns)

    def to_dataset(self) -> "xarray.Dataset":
        """Everything under its name, on the axes `mode` (r), `time` (m) and those of a snapshot,
        `axis_0`, ...: frequency, growth and amplitude with standard errors, those of `bags`, `modes`
        and `data`.

        **Raises:** `InputError` if xarray is not installed.
        """
        variables, coords = variables_of(self)
        return Contents(variables | fields_of(self), coords, {}).to_xarray()

    def _stored(self) -> tuple["DmdResult", Contents]:
        variables, coords = variables_of(self)
        X = None if is_stream(self.X) else self.X
        X = X if X is None or isinstance(X, Compressed) else np.asarray(X)
        return dataclasses.replace(self, X=X), Contents(variables, coords, {})

    def plot(self, modes: int = 4) -> "Figure":
        """Eigenvalues with their errors, the leading `modes`, and the row of most variance with the
        model, as a figure of matplotlib."""
        from .plot import figure

        return figure(self, modes)

    def __repr__(self) -> str:
        return f"<DmdResult: {len(self.eigenvalues)} eigenvalues, {outcome(self)}>"

    def _dynamics(self, t: np.ndarray | None) -> np.ndarray:
        x = self.t if t is None else real_numbers("t", as_positions("t", t))
        return np.exp(np.outer(self.eigenvalues, x - self.t0))

    def _columns(self) -> list[tuple[int, ...]]:
        """The columns behind each eigenvalue, in the order of the spectrum."""
        s = self.spectrum
        if not s.paired:
            return [(i,) for i in range(s.count)]
        pairs = [(i, s.waves + i) for i in range(s.waves)]
        return [*pairs, *pairs, *((2 * s.waves + i,) for i in range(s.singles))]

    def _column_coefficients(self) -> np.ndarray:
        modes = self._known_modes()
        back = np.empty(len(self.order), int)
        back[self.order] = np.arange(len(self.order))
        c = (modes.reshape(-1, len(back)) * self.amplitudes).T[back]
        if not self.real:
            return c
        w = self.spectrum.waves
        return np.concatenate([2 * np.real(c[:w]), -2 * np.imag(c[:w]), np.real(c[2 * w :])])

    def _known_modes(self) -> np.ndarray:
        if self.modes is None:
            raise InputError(
                "X came compressed, so that the modes of its rows take another reading: "
                "result.modes_of(rows) for blocks of them (k_i, m)."
            )
        return self.modes

    def _known_bags(self) -> DmdBags:
        if self.bags is None:
            raise InputError("There are no bags. Ask for them: varpro.dmd(..., num_bags=100).")
        return self.bags

    def _data(self) -> np.ndarray:
        self._known_modes()
        if self.X is None:
            raise InputError(
                "The data were not in memory when this was saved, and are not in the file. Set them "
                "again: dataclasses.replace(result, X=...)."
            )
        data = np.asarray(self.X)
        return data.reshape(-1, data.shape[-1]).T


def variables_of(result: Drawn) -> tuple[dict[str, Any], dict[str, Any]]:
    """One number for each eigenvalue, by name; and the coordinates."""
    error, mode = result.stderr, ("mode",)
    found: dict[str, Any] = {
        "frequency": (mode, result.frequency),
        "frequency_stderr": (mode, np.imag(error) / (2 * np.pi)),
        "growth": (mode, result.growth),
        "growth_stderr": (mode, np.real(error)),
        "amplitude": (mode, result.amplitudes),
        "amplitude_stderr": (mode, result.amplitude_stderr),
    }
    if result.bags is not None:
        found["frequency_bags"] = (("bag", "mode"), np.imag(result.bags.eigenvalues) / (2 * np.pi))
        found["growth_bags"] = (("bag", "mode"), np.real(result.bags.eigenvalues))
    return found, {"time": ("time", result.t)}


def fields_of(result: Drawn) -> dict[str, Any]:
    """Modes and data, where they are known, over the axes of a snapshot."""
    found: dict[str, Any] = {}
    modes = result.modes
    if modes is None:
        return found
    axes = tuple(f"axis_{i}" for i in range(modes.ndim - 1))
    found["modes"] = ((*axes, "mode"), modes)
    if isinstance(result.X, np.ndarray):
        found["data"] = ((*axes, "time"), result.X)
    return found
