"""An estimate with its standard error."""

from typing import Any, Literal

import equinox as eqx
import numpy as np

from .._errors import InputError
from .._text import rounded


class Estimate(eqx.Module):
    """One parameter of a fit.

    **Fields:** `value` and `stderr` (floats; arrays (k,) for a coefficient of k right-hand sides),
    `init`, `lower`, `upper`, `fixed`, `at_bound` (nonlinear parameters), `tied_to` what it follows,
    such as "a.center" or "2 * a.center + 3.1", and `kind`. A `stderr` is NaN on a bound, infinite where the data do
    not determine the parameter, and zero for a fixed one. `origin`: the x at which a coefficient is the
    amplitude, where its column counts from another one than 0.
    """

    name: str
    kind: Literal["nonlinear", "linear", "derived"]
    value: Any
    stderr: Any
    init: float | None = None
    lower: float = -np.inf
    upper: float = np.inf
    fixed: bool = False
    at_bound: bool | np.ndarray = False
    tied_to: str | None = None
    origin: float | None = None

    def __repr__(self) -> str:
        """As people write it: "slow.tau = 3.98 +/- 0.12", and what is special about it."""
        value, error = self.rounded
        text = f"{self.name} = {value}" + (f" +/- {error}" if error else "")
        return text + (f" ({', '.join(self.notes)})" if self.notes else "")

    def __float__(self) -> float:
        """The value, where it is one real number."""
        if np.size(self.value) != 1 or np.iscomplexobj(self.value):
            raise InputError(
                f"'{self.name}' is {np.size(self.value)} numbers, real or complex: take its .value."
            )
        return float(np.asarray(self.value).item())

    def __complex__(self) -> complex:
        """The value, where it is one number."""
        if np.size(self.value) != 1:
            raise InputError(f"'{self.name}' is {np.size(self.value)} numbers: take its .value.")
        return complex(np.asarray(self.value).item())

    @property
    def relative(self) -> float | np.ndarray:
        """The standard error as a fraction of the value."""
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.asarray(self.stderr) / np.abs(self.value)
        return out if out.ndim else float(out)

    @property
    def rounded(self) -> tuple[str, str]:
        """Value and standard error as text, both to the second digit of the error.

        Of k right-hand sides the value is a span, "2.1 ... 5.3", and the error is empty.
        """
        value, stderr = self.value, self.stderr
        if np.size(value) == 1:
            return rounded(np.asarray(value).item(), np.asarray(stderr).item())
        size = np.abs(value) if np.iscomplexobj(value) else np.asarray(value)
        mark = "|c| " if np.iscomplexobj(value) else ""
        return f"{mark}{size.min():.5g} ... {size.max():.5g}", ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is special about it, in words: "fixed", "on its upper bound", ..."""
        found = []
        if self.tied_to:
            found.append(f"tied to {self.tied_to}")
        elif self.fixed:
            found.append("fixed")
        if np.ndim(self.at_bound):
            held = int(np.sum(self.at_bound))
            found += [f"{held} on a bound"] if held else []
        elif self.at_bound:
            side = "lower " if self.value == self.lower else "upper "
            side = side if self.value in (self.lower, self.upper) else ""
            found.append(f"on its {side}bound")
        if self.origin is not None:
            found.append(f"at x = {self.origin:.10g}")
        if np.size(self.value) > 1:
            found.append(f"{np.size(self.value)} right-hand sides")
        lost = int(np.sum(np.isinf(self.stderr)))
        if lost:
            some = lost < np.size(self.value)
            found.append("not determined by the data" + (f" in {lost} of them" if some else ""))
        return tuple(found)


def nonlinear(fit: Any, name: str) -> Estimate:
    """A nonlinear parameter of a fit."""
    i = fit.names.index(name)
    param, source = fit.params[name], fit.layout.source[i]
    return Estimate(
        name,
        "nonlinear",
        float(fit.alpha[i]),
        float(fit.alpha_stderr[i]),
        None if param.init is None else float(param.init),
        float(param.lower),
        float(param.upper),
        source == i and i not in fit.layout.free,
        bool(fit.at_bound[i]),
        fit.layout.follows(i),
    )
