"""Spectral peaks of unit height, or of unit area.

What is left out of a centre and a width (no `center` at all, or `center=vp.Param(lower=0)`) is found
in the data, by a search among centres all over x and widths from its spacing, or 1/400 of its span,
to a third of its span; without `fwhm` a width is a `width`. Peaks of one kind that differ in their
names alone get increasing centres in the order in which they stand in the model.
"""

import abc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np

from .._errors import InputError
from .._given.arguments import number
from .._parameters.param import Param
from .._types import ArrayIn
from ._base import FWHM_PER_SIGMA, AbstractBasis, ParamField, backend, parameter
from ._loss import AbstractLoss
from ._reported import Reported
from ._start_grids import Box, line_grid, log_grid

# Widths that are tried: neighbours this factor apart, not below this part of the span of x. Centres:
# this many widths apart.
_RATIO, _MOST, _WIDTHS, _STEP = 2.0, 400, 12, 1.0
_COEFFICIENTS = ("height", "area")

Lines = Sequence[Sequence[float]] | None
"""Lines of one component: pairs of a place and a ratio to the first."""

# Standard deviations from its centre at which a Gaussian is 1e-18 of its height.
_REACH = 9.11


def as_lines(value: Any) -> Lines:
    """Convert a list of pairs to tuples of numbers. **Raises:** `InputError` for anything else."""
    if value is None:
        return None
    try:
        pairs = [tuple(pair) for pair in value]
        if not pairs or any(len(pair) != 2 for pair in pairs):
            raise TypeError
    except TypeError:
        raise InputError(
            f"lines are pairs of a place and a ratio, such as [(0.0, 1.0), (1.18, 0.5)], not {value!r}."
        ) from None
    numbers = tuple((number("lines", a), number("lines", b)) for a, b in pairs)
    if not all(math.isfinite(one) for pair in numbers for one in pair) or numbers[0][1] == 0:
        raise InputError(
            f"lines must be finite, and the first of a ratio that is not 0: {value!r}."
        )
    return numbers


def lines_field() -> Any:
    """A field for the lines of a component: they have a part in the structure of a program."""
    return eqx.field(default=None, converter=as_lines, static=True, kw_only=True)


def coefficient_field() -> Any:
    """A field that says what the coefficient of a peak is."""
    return eqx.field(default="height", static=True, kw_only=True)


def loss_field() -> Any:
    """A field for the background that a peak carries with it."""
    return eqx.field(default=None, kw_only=True)


class AbstractPeak(AbstractBasis):
    """A peak of one line, or of several that have one shape.

    All peaks have these **arguments:**

    - `coefficient`: what the coefficient is: "height" (default) or "area". Relations of coefficients are
        then those of areas: of a spin-orbit doublet of which each line has a width of its own,
        `relations={"p12": {"p32": 0.5}}`.
    - `lines`: pairs (shift, ratio), such as `[(0, 1), (1.18, 0.5)]`: a multiplet of known splitting and
        ratio, in one component. Its centre, and its height, are those of the first line (times its
        ratio); its area is that of all lines.
    - `wavelengths`: the same for diffraction with x the angle 2 theta in degrees: pairs (wavelength,
        ratio), such as `[(1.540593, 1), (1.544427, 0.5)]` for K-alpha of copper. The centre is that of
        the first one, the others stand where Bragg's law puts them.
    - `loss`: a `Shirley` or `Tougaard` that several peaks share.

    `fit.derive` knows `name.height`, `name.area` and `name.fwhm` (of one line) of every peak.
    """

    coefficient: eqx.AbstractVar[str]
    lines: eqx.AbstractVar[Lines]
    wavelengths: eqx.AbstractVar[Lines]
    loss: eqx.AbstractVar[AbstractLoss | None]
    elementwise: ClassVar[bool] = True
    # Whether there is an area: not where the flanks fall as 1 / |x| or slower.
    integrable: ClassVar[bool] = True

    @abc.abstractmethod
    def profile(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """One line of unit height (m, g) at x (m, 1)."""

    @abc.abstractmethod
    def unit_area(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """The area of one line of unit height."""

    @abc.abstractmethod
    def full_width(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Full width at half maximum of one line; never on the host."""

    def evaluate(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Columns (m, g) at x (m,) for g values of each parameter."""
        xp, rows = backend(x, values)
        columns = None
        for center, ratio in self._places(xp, values):
            line = self.profile(rows, {**values, "center": center})
            line = line if ratio == 1.0 else ratio * line
            columns = line if columns is None else columns + line
        assert columns is not None
        if self.coefficient == "area":
            columns = columns / self._area(values)
        if self.loss is not None:
            columns = self.loss.scattered(rows[:, 0], columns, self.loss.local_values(values))
        return columns

    def reported(self, values: Mapping[str, ArrayIn], coef: Sequence[ArrayIn]) -> Reported:
        """Height of the first line, area of all, full width at half maximum of one."""
        (c,) = coef
        own: dict[str, Any] = {"fwhm": self.full_width(values)}
        first = (self.lines or self.wavelengths or ((0.0, 1.0),))[0][1]
        if not self.integrable:
            return Reported(own | {"height": first * c})
        area = self._area(values)
        height, area = (c / area, c) if self.coefficient == "area" else (c, c * area)
        return Reported({"height": first * height, "area": area} | own)

    @property
    def rowwise(self) -> bool:
        """Whether each row is made of its own x alone: not with what other samples lose."""
        return self.loss is None

    @property
    def finds_start(self) -> bool:
        """Whether starts may be left out: of a loss all must be given."""
        return self.loss is None or all(p.init is not None for p in self.loss.parameters.values())

    def _area(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        ratios = [ratio for _, ratio in self.lines or self.wavelengths or ((0.0, 1.0),)]
        return self.unit_area(values) * sum(ratios)

    def _places(self, xp: Any, values: Mapping[str, ArrayIn]) -> Iterable[tuple[ArrayIn, float]]:
        """Centres and ratios of the lines."""
        center = values["center"]
        if self.wavelengths is not None:
            first, degree = self.wavelengths[0][0], math.pi / 180
            sine = xp.sin(0.5 * degree * center) / first
            for i, (wavelength, ratio) in enumerate(self.wavelengths):
                place = 2.0 / degree * xp.arcsin(sine * wavelength) if i else center
                yield place, ratio
            return
        for shift, ratio in self.lines or ((0.0, 1.0),):
            yield center if shift == 0.0 else center + shift, ratio


def check_peak(peak: Any) -> None:
    """Refuse what no peak can have. **Raises:** `InputError`."""
    kind = type(peak).__name__
    if getattr(peak, "width", None) is not None and getattr(peak, "fwhm", None) is not None:
        raise InputError(f"{kind} '{peak.name}' needs either width or fwhm, not both.")
    if peak.coefficient not in _COEFFICIENTS:
        raise InputError(
            f"{kind} '{peak.name}': coefficient is 'height' or 'area', not {peak.coefficient!r}."
        )
    if peak.coefficient == "area" and not peak.integrable:
        raise InputError(
            f"{kind} '{peak.name}' has no area: its flank falls too slowly. Its coefficient is the height."
        )
    if peak.lines is not None and peak.wavelengths is not None:
        raise InputError(f"{kind} '{peak.name}' takes lines or wavelengths, not both.")
    if peak.wavelengths is not None and any(wave <= 0 for wave, _ in peak.wavelengths):
        raise InputError(f"{kind} '{peak.name}': wavelengths are positive.")
    if peak.loss is not None and not isinstance(peak.loss, AbstractLoss):
        raise InputError(
            f"{kind} '{peak.name}': loss is a vp.Shirley or vp.Tougaard, not {peak.loss!r}."
        )


class AbstractWidthPeak(AbstractPeak):
    """A peak of a centre and one width, `width` or `fwhm`, and of parameters of its shape, if any."""

    name: str
    center: ParamField = parameter()
    width: ParamField = parameter()
    fwhm: ParamField = parameter()
    coefficient: str = coefficient_field()
    lines: Lines = lines_field()
    wavelengths: Lines = lines_field()
    loss: AbstractLoss | None = loss_field()
    positive: ClassVar[tuple[str, ...]] = ("width", "fwhm")
    # The full width at half maximum over `width`.
    fwhm_per_width: ClassVar[float] = 2.0
    # What stands for a parameter of the shape that is left out.
    usual: ClassVar[Mapping[str, Param]] = {}

    def __post_init__(self):
        if self.center is None:
            self.center = Param()
        if self.width is None and self.fwhm is None:
            self.width = Param()
        for key, param in self.usual.items():
            if getattr(self, key) is None:
                setattr(self, key, param)

    def __check_init__(self):
        check_peak(self)

    def candidates(self, x: np.ndarray, box: Mapping[str, Box]) -> dict[str, np.ndarray]:
        """Centres and widths (g,) inside `box`, centres ascending, the shape as it usually is."""
        grid = candidates(
            x,
            {key: ends for key, ends in box.items() if key not in self.usual},
            self.fwhm_per_width,
        )
        count = grid["center"].size
        shape = {
            key: np.full(count, np.clip(np.asarray(param.init, float), *box[key]))
            for key, param in self.usual.items()
        }
        return grid | shape


class Gaussian(AbstractWidthPeak):
    """A Gaussian peak of unit height, `exp(-(x - center)^2 / (2 width^2))`.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `width`: standard deviation, in units of x; or
    - `fwhm`: full width at half maximum, `2 sqrt(2 ln 2)` standard deviations.
    - `coefficient`: what it is, "height" (default) or "area".
    - `lines`, `wavelengths`: several lines of one shape, as pairs of a shift, or a wavelength, and a ratio
        (`varpro.basis.AbstractPeak`).
    - `loss`: a `Shirley` or `Tougaard`, the background that it shares with other peaks.

    Each start may be left out; it is then found in the data, together with those of the other peaks.
    """

    fwhm_per_width: ClassVar[float] = FWHM_PER_SIGMA

    def profile(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """One line of unit height (m, g) at x (m, 1)."""
        xp = np if isinstance(x, np.ndarray) else jnp
        width = values["width"] if "width" in values else values["fwhm"] / FWHM_PER_SIGMA
        return xp.exp(-0.5 * ((x - values["center"]) / width) ** 2)

    def support(self, values: Mapping[str, ArrayIn]) -> tuple[ArrayIn, ArrayIn] | None:
        """Nine standard deviations to either side, where a Gaussian is 1e-18; None for several lines, and
        with a background, which has no end."""
        if self.lines is not None or self.wavelengths is not None or self.loss is not None:
            return None
        width = values["width"] if "width" in values else values["fwhm"] / FWHM_PER_SIGMA
        reach = _REACH * abs(width)
        return values["center"] - reach, values["center"] + reach

    def unit_area(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """`sqrt(2 pi)` standard deviations."""
        return math.sqrt(2.0 * math.pi) / FWHM_PER_SIGMA * self.full_width(values)

    def full_width(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """`2 sqrt(2 ln 2)` standard deviations."""
        return FWHM_PER_SIGMA * values["width"] if "width" in values else values["fwhm"]


class Lorentzian(AbstractWidthPeak):
    """A Lorentzian peak of unit height, `1 / (1 + ((x - center) / width)^2)`.

    **Arguments:**

    - `name`: of the component and its coefficient, which is the height.
    - `center`: position, in units of x.
    - `width`: half width at half maximum, in units of x; or
    - `fwhm`: full width at half maximum, twice that.
    - `coefficient`: what it is, "height" (default) or "area".
    - `lines`, `wavelengths`: several lines of one shape, as pairs of a shift, or a wavelength, and a ratio
        (`varpro.basis.AbstractPeak`).
    - `loss`: a `Shirley` or `Tougaard`, the background that it shares with other peaks.

    Each start may be left out; it is then found in the data, together with those of the other peaks.
    """

    def profile(self, x: ArrayIn, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """One line of unit height (m, g) at x (m, 1)."""
        return 1.0 / (1.0 + ((x - values["center"]) / half_width(values)) ** 2)

    def unit_area(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """`pi` half widths."""
        return math.pi * half_width(values)

    def full_width(self, values: Mapping[str, ArrayIn]) -> ArrayIn:
        """Two half widths."""
        return 2.0 * half_width(values)


def half_width(values: Mapping[str, ArrayIn]) -> ArrayIn:
    """Half width at half maximum, from `width` or half of `fwhm`."""
    return values["width"] if "width" in values else 0.5 * values["fwhm"]


def log_gamma(value: ArrayIn) -> ArrayIn:
    """`log Gamma(value)`, on the host for what is there."""
    if isinstance(value, np.ndarray):
        from scipy.special import gammaln

        return gammaln(value)
    return jax.scipy.special.gammaln(value)


def root(function: Callable[[Any], Any], start: ArrayIn, steps: int = 5) -> Any:
    """Where `function` is zero, by Newton's method from `start`. Its derivatives by what the function
    holds are those of the implicit function: a last step of which only the value is differentiated."""
    u = jax.lax.stop_gradient(jnp.asarray(start))
    for _ in range(steps):
        value, slope = jax.jvp(function, (u,), (jnp.ones_like(u),))
        u = jax.lax.stop_gradient(u - value / slope)
    value, slope = jax.jvp(function, (u,), (jnp.ones_like(u),))
    return u - value / jax.lax.stop_gradient(slope)


def candidates(
    x: np.ndarray, box: Mapping[str, Box], fwhm_per_width: float
) -> dict[str, np.ndarray]:
    """Centres and widths (g,) inside `box`, the centres of every width that width apart; what has another
    name, or a dot in it, is held at its lowest value.

    `fwhm_per_width` is the full width at half maximum over `width`.
    """
    key, size = ("width", 1.0) if "width" in box else ("fwhm", fwhm_per_width)
    span = x[-1] - x[0]
    narrowest = max(span / _MOST, float(np.median(np.diff(x))))
    widths = log_grid(size * narrowest, size * span / 3, box[key], _RATIO, _WIDTHS)
    centers = [
        line_grid(x[0], x[-1], box["center"], max(_STEP * abs(width) / size, span / _MOST))
        for width in widths
    ]
    grid = {
        "center": np.concatenate(centers),
        key: np.repeat(widths, [len(c) for c in centers]),
    }
    order = np.argsort(grid["center"], kind="stable")
    shared = {k: np.full(order.size, low) for k, (low, _) in box.items() if "." in k}
    return {name: values[order] for name, values in grid.items()} | shared
