"""Fits of several models to the same data, side by side."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np

from .._equality import same
from .._errors import InputError, needed
from .._problem.noise import noise_model
from .._text import html_table, indented, text_table
from .information_criteria import aic, aicc, bic
from .record import Fitted

if TYPE_CHECKING:
    import pandas

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
    F tests of models that contain each other.
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

    def __str__(self) -> str:
        lines = [indented(text_table(_HEADER, self._rows(), (0,))), "  * least AICc"]
        if self.tests:
            lines += ["", *(f"  {test}" for test in self.tests)]
        if any(test.by_names for test in self.tests):
            lines.append("  (one contains the other, judging by their names and columns)")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = html_table(_HEADER, self._rows(), (0,))
        tests = [(str(test),) for test in self.tests]
        return table + (html_table(("F tests",), tests, (0,)) if tests else "")

    def to_frame(self) -> "pandas.DataFrame":
        """The table as a `pandas.DataFrame`, one row per model."""
        pandas = needed("pandas", "to_frame")
        keys = (*("num_params", "chisq", "redchi", "aic", "aicc", "bic"), "delta", "weights")
        table = {key: getattr(self, key) for key in keys}
        return pandas.DataFrame(table, index=pandas.Index(self.names, name="model"))

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                f"{name} *" if name == self.best else name,
                str(self.num_params[i]),
                f"{self.chisq[i]:.6g}",
                f"{self.redchi[i]:.6g}",
                *(f"{a[i]:.2f}" for a in (self.aic, self.aicc, self.bic, self.delta)),
                f"{self.weights[i]:.3g}",
            )
            for i, name in enumerate(self.names)
        ]


def compare(
    *fits: Fitted, names: Sequence[str] | None = None, nested: bool | None = None
) -> Comparison:
    """Compare fits of different models to the same data and weights.

    **Arguments:**

    - `fits`: two or more results of `varpro.fit`.
    - `names`: what to call them; "1", "2", ... by default.
    - `nested`: True says that each model is contained in the next larger one, which then are tested
        one against the other; False makes no tests. By default those are tested of which one
        contains the other by the names of their columns and free parameters, with equal formulas,
        ties and fixed values.

    **Returns:** a `Comparison`; print it, or take `.best`, `.weights`, `.tests`.

    **Raises:** `InputError` if the fits are fewer than two, of different data, or not nested by count
    though `nested=True` says so.
    """
    labels = tuple(str(i + 1) for i in range(len(fits))) if names is None else tuple(names)
    _comparable(fits, labels)
    aiccs = np.array([aicc(fit) for fit in fits])
    known = np.where(np.isnan(aiccs), np.inf, aiccs)
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
    )


def _comparable(fits: Sequence[Fitted], labels: Sequence[str]) -> None:
    if len(fits) < 2:
        raise InputError(f"compare needs at least two fits, but {len(fits)} was given.")
    for fit in fits:
        if not isinstance(fit, Fitted):
            raise InputError(f"compare takes results of varpro.fit, not {type(fit).__name__}.")
    if len(labels) != len(fits) or len(set(labels)) != len(labels):
        raise InputError(f"names must be {len(fits)} different ones, but {labels} was given.")
    one = fits[0]
    for fit, label in zip(fits[1:], labels[1:], strict=True):
        where = f"Fits '{labels[0]}' and '{label}' cannot be compared"
        if one.y.shape != fit.y.shape:
            raise InputError(
                f"{where}: their data y have the shapes {one.y.shape} and {fit.y.shape}."
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
        if not same(seen(_weights(one)), seen(_weights(fit))):
            raise InputError(f"{where}: their weights, sigma or masks differ.")
        if not np.array_equal(one.y, fit.y):
            count = int(np.sum(one.y != fit.y))
            raise InputError(f"{where}: their data y differ in {count} of {fit.y.size} values.")
        if one.absolute_sigma != fit.absolute_sigma:
            raise InputError(f"{where}: absolute_sigma is true for one alone.")


def _weights(fit: Fitted) -> np.ndarray:
    return fit.weights_of_all


def _tests(fits: Sequence[Fitted], labels: Sequence[str], nested: bool | None) -> list[FTest]:
    """Each fit against the largest one that it contains."""
    if nested is False or noise_model(fits[0].noise).follows_model:
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


def _f_test(one: Fitted, two: Fitted, name: str, other: str, by_names: bool) -> FTest:
    from scipy.special import fdtrc

    more, left = two.num_params - one.num_params, two.num_data - two.num_params
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, rest = np.float64(one.chisq - two.chisq) / more, np.float64(two.chisq)
        f = float(sensitivity / (rest / left)) if left > 0 else math.nan
    # A larger model that fits worse has not found its optimum: F below zero says nothing for it.
    p = float(fdtrc(more, left, max(f, 0.0))) if math.isfinite(f) else (0.0 if f > 0 else math.nan)
    return FTest(name, other, f, (more, left), p, by_names)


def _contains(large: Fitted, small: Fitted) -> bool:
    """Whether `small` is `large` without some columns or with some parameters held or tied."""
    if not set(small.columns) <= set(large.columns) or not set(small.names) <= set(large.names):
        return False
    if not _free(small) <= _free(large):
        return False
    for name in small.names:
        a, b = small[name], large[name]
        held = b.fixed and not (a.fixed and a.value == b.value)
        if held or (b.tied_to and b.tied_to != a.tied_to):
            return False
    return _reproduces(large, small)


def _free(fit: Fitted) -> set[str]:
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
