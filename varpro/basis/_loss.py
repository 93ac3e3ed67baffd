"""Electrons that lost energy on their way out: the background that photoelectron peaks carry with them.

    y(E) = p(E) + int p(E') K(|E - E'|) dE'    over the E' from which one loses energy to arrive at E

The columns p of the peaks are known at the samples alone, so that the integral is their sum by the
trapezoidal rule; x must reach as far as the peaks do. As parameters of the model, and not as a curve
that is taken off the data first, the background has errors, and those of the peaks know of it.
"""

import abc
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._errors import InputError
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import POSITIVE, Domain, ParamField, Shared, parameter

TOWARDS = ("high", "low")


class AbstractLoss(Shared):
    """A background that peaks share, given to them as `loss=`."""

    towards: eqx.AbstractVar[str]

    @abc.abstractmethod
    def background(self, x: ArrayIn, columns: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """What columns (m, g) at x (m,) lose, (m, g)."""

    def scattered(self, x: ArrayIn, columns: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """The columns (m, g) with their background, at x (m,) in any order."""
        xp = np if all(isinstance(a, np.ndarray) for a in (x, columns, *values.values())) else jnp
        order = xp.argsort(x)
        order = order if self.towards == "high" else order[::-1]
        distance = xp.abs(x[order] - x[order][0])
        lost = self.background(distance, columns[order], values)
        return columns + lost[xp.argsort(order)]


def check_towards(loss: AbstractLoss) -> None:
    """Refuse another side. **Raises:** `InputError`."""
    if loss.towards not in TOWARDS:
        raise InputError(
            f"{type(loss).__name__} '{loss.name}': towards is 'high' on an axis of binding energies, 'low' "
            f"on one of kinetic energies, not {loss.towards!r}."
        )


def trapezoid(x: ArrayIn) -> ArrayIn:
    """Widths (m,) that samples at ascending x stand for."""
    xp = np if isinstance(x, np.ndarray) else jnp
    half = 0.5 * xp.diff(x)
    zero = xp.zeros_like(half[:1])
    return xp.concatenate([half, zero]) + xp.concatenate([zero, half])


def single(value: ArrayIn) -> ArrayIn:
    """One value of a shared parameter, which components that are evaluated together repeat."""
    return value.ravel()[0] if np.ndim(value) else value


class Shirley(AbstractLoss):
    """A step below each peak, in proportion to the part of the peak that has been passed:

        y(E) = p(E) + k int_{-inf}^{E} p(E') dE'

    Shirley, Phys. Rev. B 5, 4709 (1972); fitted along with the peaks ("active"), as Herrera-Gomez et al.,
    Surf. Interface Anal. 46, 897 (2014), advise.

    **Arguments:**

    - `name`: prefix of its parameter, `name.k`.
    - `k`: step over the area of the peak, per unit of x; not negative; starts at 0.01.
    - `towards`: "high" (default) where lost energy shows at larger x, as on an axis of binding energies;
        "low" on one of kinetic energies.
    """

    name: str
    k: ParamField = parameter(0.01)
    towards: str = eqx.field(static=True, default="high", kw_only=True)

    def __check_init__(self):
        check_towards(self)

    @property
    def domain(self) -> Domain:
        """No step is negative."""
        return {f"{self.name}.k": POSITIVE}

    def background(self, x: ArrayIn, columns: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """The integral up to each sample, by the trapezoidal rule."""
        xp = np if isinstance(x, np.ndarray) and isinstance(columns, np.ndarray) else jnp
        steps = 0.5 * xp.diff(x)[:, None] * (columns[1:] + columns[:-1])
        passed = xp.concatenate([xp.zeros_like(columns[:1]), xp.cumsum(steps, axis=0)])
        return single(values["k"]) * passed


class Tougaard(AbstractLoss):
    """The universal loss function of Tougaard, Surf. Interface Anal. 25, 137 (1997):

        y(E) = p(E) + int_{-inf}^{E} K(E - E') p(E') dE',    K(T) = B T / (C + T^2)^2

    **Arguments:**

    - `name`: prefix of its parameters, `name.b` and `name.c`.
    - `b`: the strength B, in units of x squared; starts at 2866 eV^2. Not negative.
    - `c`: C, in units of x squared; 1643 eV^2, and held unless a `Param` says otherwise.
    - `towards`: as in `Shirley`.
    """

    name: str
    b: ParamField = parameter(2866.0)
    c: ParamField = parameter(Param(1643.0, fixed=True))
    towards: str = eqx.field(static=True, default="high", kw_only=True)

    def __check_init__(self):
        check_towards(self)

    @property
    def domain(self) -> Domain:
        """Neither is negative."""
        return {f"{self.name}.b": POSITIVE, f"{self.name}.c": POSITIVE}

    def background(self, x: ArrayIn, columns: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """The integral for each sample, by the trapezoidal rule: a matrix (m, m) times the columns."""
        xp = np if isinstance(x, np.ndarray) and isinstance(columns, np.ndarray) else jnp
        t = xp.maximum(x[:, None] - x, 0.0)
        kernel = single(values["b"]) * t / (single(values["c"]) + t**2) ** 2
        return (kernel * trapezoid(x)) @ columns
