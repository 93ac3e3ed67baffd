"""Fits of several models to the same data, side by side."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import numpy as np

from .._equality import same
from .._errors import InputError, needed, suggestion
from .._given.arguments import names as names_in
from .._problem.noise import noise_model
from .._text import html_table, indented, text_table
from .estimate import nonlinear
from .evidence import log_evidence
from .information_criteria import aic, aicc, bic
from .quantities import check_choice
from .record import AbstractLeastSquares, Fitted

if TYPE_CHECKING:
    import pandas

Criterion = Literal["aicc", "evidence"]
_HEADER = ("model", "variables", "chi-square", "reduced", "AIC", "AICc", "BIC", "delta", "weight")


class FTest(eqx.Module):
    """An F test of a smaller model against one that contains it.

    `F = ((S1 - S2) / (K2 - K1)) / (S2 / (N - K2))` with the chi-squares S and numbers of parameters
    K of both; `p` is the probability of an F this large if the smaller model is right. That is exact
    for linear models, and only a guide for nonlinear ones: above all where a whole component is
    added, whose nonlinear parameters mean nothing without it (Davies 1977).
    """

    smaller: str
    larger: str
    f: float
    dof: tuple[int | float, int | float]
    p: float
    by_names: bool

    def __str__(self) -> str:
        return (
            f"F test of {self.smaller} in {self.larger}: F({self.dof[0]}, {self.dof[1]}) = "
            f"{self.f:.4g}, p = {self.p:.2g}"
        )


class Comparison(eqx.Module):
    """What `varpro.compare` found; one entry per fit, in the order in which they were given.

    **Fields:** `names`, `num_params`, `chisq`, `redchi`, `aic`, `aicc`, `bic`; `delta`, AICc less the
    least one; `weights`, the evidence for each model among these, `exp(-delta / 2)` over the sum of
    all (Burnham and Anderson 2002, section 2.9); `best`, the name of the fit of least AICc; `tests`,
    F tests of models that contain each other; `log_evidence`, None where it was not asked for. `by` says
    what the models were judged by; by "evidence" `delta` is twice the greatest logarithm less each, `weights`
    are the probabilities of models that were equally probable before, and `best` has the greatest evidence.
    """

    names: tuple[str, ...]
    num_params: np.ndarray
    chisq: np.ndarray
    redchi: np.ndarray
    aic: np.ndarray
    aicc: np.ndarray
    bic: np.ndarray
    delta: np.ndarray
    weights: np.ndarray
    best: str
    tests: tuple[FTest, ...]
    log_evidence: np.ndarray | None = None
    by: Criterion = "aicc"

    def __str__(self) -> str:
        best = "least AICc" if self.by == "aicc" else "greatest evidence"
        lines = [indented(text_table(self._header, self._rows(), (0,))), f"  * {best}"]
        if self.tests:
            lines += ["", *(f"  {test}" for test in self.tests)]
        if any(test.by_names for test in self.tests):
            lines.append("  (one contains the other, judging by their names and columns)")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = html_table(self._header, self._rows(), (0,))
        tests = [(str(test),) for test in self.tests]
        return table + (html_table(("F tests",), tests, (0,)) if tests else "")

    def to_frame(self) -> "pandas.DataFrame":
        """The table as a `pandas.DataFrame`, one row per model."""
        pandas = needed("pandas", "to_frame")
        keys = (*("num_params", "chisq", "redchi", "aic", "aicc", "bic"), "delta", "weights")
        keys = (*keys, "log_evidence") if self.log_evidence is not None else keys
        table = {key: getattr(self, key) for key in keys}
        return pandas.DataFrame(table, index=pandas.Index(self.names, name="model"))

    @property
    def _header(self) -> tuple[str, ...]:
        if self.log_evidence is None:
            return _HEADER
        return (*_HEADER[:-2], "log evidence", *_HEADER[-2:])

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                f"{name} *" if name == self.best else name,
                str(self.num_params[i]),
                f"{self.chisq[i]:.6g}",
                f"{self.redchi[i]:.6g}",
                *(f"{a[i]:.2f}" for a in (self.aic, self.aicc, self.bic)),
                *(() if self.log_evidence is None else (f"{self.log_evidence[i]:.2f}",)),
                f"{self.delta[i]:.2f}",
                f"{self.weights[i]:.3g}",
            )
            for i, name in enumerate(self.names)
        ]


def compare(
    *fits: AbstractLeastSquares,
    names: Sequence[str] | None = None,
    nested: bool | None = None,
    by: Criterion = "aicc",
    coef_sd: float | Mapping[str, float] | None = None,
) -> Comparison:
    """Compare fits of different models to the same data and weights.

    **Arguments:**

    - `fits`: two or more results of `varpro.fit`, of one data set or all of the same data sets.
    - `names`: what to call them; "1", "2", ... by default.
    - `nested`: True says that each model is contained in the next larger one, which then are tested
        one against the other; False makes no tests. By default those are tested of which one
        contains the other by the names of their columns and free parameters, with equal formulas,
        ties and fixed values.
    - `by`: "aicc" (default), or "evidence": the density of the data under each model, which weighs what its priors
        allow as well as what it reaches (`FitResult.log_evidence`). Every free parameter then needs finite
        bounds or a prior, and the coefficients
    - `coef_sd`: a standard deviation about zero, a number or `{pattern: number}`.

    **Returns:** a `Comparison`; print it, or take `.best`, `.weights`, `.tests`.

    **Raises:** `InputError` if the fits are fewer than two, of different data, or not nested by count
    though `nested=True` says so.
    """
    labels = (
        tuple(str(i + 1) for i in range(len(fits))) if names is None else names_in("names", names)
    )
    _comparable(fits, labels)
    check_choice(by, Criterion, "by")
    aiccs = np.array([aicc(fit) for fit in fits])
    evidences = None
    if by == "evidence":
        alone = [fit for fit in fits if isinstance(fit, Fitted)]
        if len(alone) < len(fits):
            raise InputError("There is no evidence of several data sets. Compare by='aicc'.")
        evidences = np.array([log_evidence(fit, _among(coef_sd, alone, fit)) for fit in alone])
    elif coef_sd is not None:
        raise InputError("coef_sd is for by='evidence'.", argument="coef_sd")
    judged = aiccs if evidences is None else -2 * evidences
    known = np.where(np.isnan(judged), np.inf, judged)
    least = known.min()
    # Equal infinities differ by nothing: several perfect fits share the evidence.
    delta = np.array([0.0 if value == least else value - least for value in known])
    evidence = np.exp(-delta / 2)
    return Comparison(
        labels,
        np.array([fit.num_params for fit in fits]),
        np.array([fit.chisq for fit in fits]),
        np.array([fit.redchi for fit in fits]),
        np.array([aic(fit) for fit in fits]),
        aiccs,
        np.array([bic(fit) for fit in fits]),
        delta,
        evidence / evidence.sum(),
        labels[int(np.argmin(known))],
        tuple(_tests(fits, labels, nested)),
        evidences,
        by,
    )


def _among(coef_sd: Any, fits: Sequence[Fitted], fit: Fitted) -> Any:
    """The patterns of `coef_sd` that name a column of this fit; all must name one of some."""
    if not isinstance(coef_sd, Mapping):
        return coef_sd
    every = [name for one in fits for name in one.columns]
    for pattern in coef_sd:
        if not fnmatch.filter(every, pattern):
            raise InputError(
                f"coef_sd: no column '{pattern}'. {suggestion(pattern, every)}", argument="coef_sd"
            )
    return {p: sd for p, sd in coef_sd.items() if fnmatch.filter(fit.columns, p)}


def _comparable(fits: Sequence[AbstractLeastSquares], labels: Sequence[str]) -> None:
    if len(fits) < 2:
        raise InputError(f"compare needs at least two fits, but {len(fits)} was given.")
    for fit in fits:
        if not isinstance(fit, AbstractLeastSquares):
            raise InputError(f"compare takes results of varpro.fit, not {type(fit).__name__}.")
    if len(labels) != len(fits) or len(set(labels)) != len(labels):
        raise InputError(f"names must be {len(fits)} different ones, but {labels} was given.")
    one = fits[0]
    for fit, label in zip(fits[1:], labels[1:], strict=True):
        where = f"Fits '{labels[0]}' and '{label}' cannot be compared"
        if set(one.parts) != set(fit.parts):
            mine, other = (
                ", ".join(key.removesuffix(".") or "one without a name" for key in each.parts)
                for each in (one, fit)
            )
            raise InputError(f"{where}: their data sets are {mine}, and {other}.")
        for key, part in one.parts.items():
            of_set = f" of data set '{key.removesuffix('.')}'" if key else ""
            _same_data(part, fit.parts[key], where, of_set)


def _same_data(one: Fitted, fit: Fitted, where: str, of_set: str) -> None:
    """Refuse fits of one data set that differ in data or weights."""
    if one.y.shape != fit.y.shape:
        raise InputError(
            f"{where}: their data y{of_set} have the shapes {one.y.shape} and {fit.y.shape}."
        )
    if one.noise != fit.noise:
        raise InputError(
            f"{where}: one was fitted with noise={one.noise!r}, the other with {fit.noise!r}."
        )
    noise = noise_model(one.noise)
    if noise.incomparable:
        raise InputError(f"{where}: noise={one.noise!r} {noise.incomparable}")
    # Of weights that follow the model, which are left out does not.
    seen = np.sign if noise.follows_model else np.asarray
    correlated = [one.whitener, fit.whitener]
    alike = all(w is None for w in correlated) or (
        all(w is not None for w in correlated) and same(*correlated)
    )
    if not (alike and same(seen(_weights(one)), seen(_weights(fit)))):
        raise InputError(f"{where}: their weights, sigma or masks{of_set} differ.")
    # What lies where nothing is used is nobody's matter.
    if not np.array_equal(one.y_in_use, fit.y_in_use):
        count = int(np.sum(one.y_in_use != fit.y_in_use))
        raise InputError(f"{where}: their data y{of_set} differ in {count} of {fit.y.size} values.")
    if one.absolute_sigma != fit.absolute_sigma:
        raise InputError(f"{where}: absolute_sigma is true for one alone.")


def _weights(fit: Fitted) -> np.ndarray:
    return fit.weights_of_all


def _tests(
    fits: Sequence[AbstractLeastSquares], labels: Sequence[str], nested: bool | None
) -> list[FTest]:
    """Each fit against the largest one that it contains."""
    noise = next(iter(fits[0].parts.values())).noise
    if nested is False or noise_model(noise).follows_model:
        return []  # the F test is one of sums of squares with common weights
    order = sorted(range(len(fits)), key=lambda i: fits[i].num_params)
    found = []
    for position, j in enumerate(order):
        for i in reversed(order[:position]):
            if fits[i].num_params == fits[j].num_params:
                if nested:
                    raise InputError(
                        f"nested=True, but '{labels[i]}' and '{labels[j]}' have "
                        f"{fits[i].num_params} parameters both."
                    )
                continue
            if nested or _contains(fits[j], fits[i]):
                found.append(_f_test(fits[i], fits[j], labels[i], labels[j], not nested))
                break
    return found


def _f_test(
    one: AbstractLeastSquares, two: AbstractLeastSquares, name: str, other: str, by_names: bool
) -> FTest:
    from scipy.special import fdtrc

    more, left = two.num_params - one.num_params, two.num_data - two.num_params
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, rest = np.float64(one.chisq - two.chisq) / more, np.float64(two.chisq)
        f = float(sensitivity / (rest / left)) if left > 0 else math.nan
    # A larger model that fits worse has not found its optimum: F below zero says nothing for it.
    p = float(fdtrc(more, left, max(f, 0.0))) if math.isfinite(f) else (0.0 if f > 0 else math.nan)
    return FTest(name, other, f, (more, left), p, by_names)


def _contains(large: AbstractLeastSquares, small: AbstractLeastSquares) -> bool:
    """Whether `small` is `large` without some columns or with some parameters held or tied."""
    if not set(small.names) <= set(large.names) or not _free(small) <= _free(large):
        return False
    for name in small.names:
        a, b = nonlinear(small, name), nonlinear(large, name)
        held = b.fixed and not (a.fixed and a.value == b.value)
        if held or (b.tied_to and b.tied_to != a.tied_to):
            return False
    pairs = [(large.parts[key], part) for key, part in small.parts.items()]
    return all(
        set(b.columns) <= set(a.columns) and set(b.names) <= set(a.names) for a, b in pairs
    ) and all(_reproduces(a, b) for a, b in pairs)


def _free(fit: AbstractLeastSquares) -> set[str]:
    return {fit.names[i] for i in fit.layout.free}


def _reproduces(large: Fitted, small: Fitted) -> bool:
    """Whether the columns of `small` are those of `large` at the same values: one formula."""
    values = large.alpha.copy()
    for name, value in zip(small.names, small.alpha, strict=True):
        values[large.names.index(name)] = value
    try:
        one, shift = small._evaluate(small.x)
        two, other = eqx.tree_at(lambda fit: fit.alpha, large, values)._evaluate(small.x)
    except Exception:  # functions of the user's may need an x of their own
        return False
    one = one if shift is None else np.column_stack([one, shift])
    two = two[:, [large.columns.index(name) for name in small.columns]]
    two = two if other is None else np.column_stack([two, other])
    if one.shape != two.shape:
        return False
    size = np.max(np.abs(one), axis=0, initial=0.0)
    return bool(np.all(np.abs(one - two) <= float(np.finfo(values.dtype).eps) ** 0.5 * size))
