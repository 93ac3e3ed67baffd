"""A response that was measured, as counts or amplitudes on a uniform grid."""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from .._errors import InputError
from .._given.containers import real_numbers
from .._parameters.param import Param
from .._places import with_values
from .._programs.program import program
from .._types import ArrayIn
from ._base import ParamField, as_fixed_param, parameter
from ._dispersion import AbstractDispersed, Powers, polynomial, powers
from ._driven_systems import Decays, Scheme
from ._matrix_exponential import driven
from ._response import Causal, as_scalar, gauss_legendre, train

# Positions may be off an even grid by this part of its spacing: printed numbers are rounded.
_UNEVEN = 2e-3
# Quadrature over cells of the grid, and over the first one, where a function begins.
_CELL, _CELL_WEIGHTS = gauss_legendre(np.array([0.0, 1.0]), 8)
_FIRST, _FIRST_WEIGHTS = gauss_legendre(np.r_[0.0, 4.0 ** np.arange(-10.0, 1.0)], 12)


class _Grid(NamedTuple):
    """The spacing; the response as area per cell at all nodes, with a zero more at each end; positions
    of x, in cells from the first node; and the period in cells, or None."""

    step: Float[Array, ""]
    area: Float[Array, " r"]
    position: Float[Array, " m"]
    period: Float[Array, ""] | None


class MeasuredIRF(AbstractDispersed):
    """A measured instrument response of unit area, given to components as `irf=`.

        irf = vp.MeasuredIRF("irf", t, prompt, shift=0.0, background="estimate")
        model = vp.Exp("a", tau=0.5, irf=irf) + vp.Exp("b", tau=3.0, irf=irf) + vp.Constant("bg")
        vp.fit(model, t, counts, noise="poisson")

    Between its samples the response is the straight line, and zero beyond them. With that, decays and
    kinetic schemes are convolved exactly, for lifetimes far below the spacing of the grid, too: from
    sample to sample by a recursive filter, from there to any x in closed form. So `shift` moves the
    response by parts of a sample without smoothing it, its derivative is continuous, and x of the
    data may be any; most often it is the grid of the response. Other forms of decay are convolved by
    quadrature at spacings of the grid, and interpolated by cubics for x that are not one apart.

    **Arguments:**

    - `name`: prefix of its parameters.
    - `x`: where it was measured, uniform and ascending (r,).
    - `y`: counts or amplitudes measured there (r,).
    - `shift`: how far it is moved towards larger x, in units of x: a start; not moved by default.
    - `background`: what is subtracted from `y`: a number, 0 by default, or "estimate" for the mean of
        all samples that are not above it by more than 3 standard deviations.
    - `period`: time between excitations; held unless a `Param` says otherwise. What is left of all
        earlier ones is added, and what is shifted out at one end comes in at the other.
    - `shift_dispersion`: starts of the coefficients d1, d2, ... by which the shift follows the wavelength,
        `shift + d1 u + d2 u^2 + ...`, parameters `irf.shift_dispersion1` and so on; `dispersion_center`,
        `dispersion_in`, `chirp` and `wavelengths` as in `GaussianIRF`.

    **Raises:** `InputError` for x that is not uniform and ascending, for a response that is not
    finite or whose area is not positive, and for a period below the length of the response.
    """

    name: str
    x: Float[np.ndarray, " r"] = eqx.field(converter=lambda v: _array(v))
    y: Float[np.ndarray, " r"] = eqx.field(converter=lambda v: _array(v))
    shift: ParamField = parameter()
    background: Float[np.ndarray, ""] | str = eqx.field(
        default=0.0, converter=lambda v: v if isinstance(v, str) else _array(v), kw_only=True
    )
    period: Param | None = eqx.field(default=None, converter=as_fixed_param, kw_only=True)
    shift_dispersion: Powers = powers()

    def __post_init__(self):
        self.x, self.y = _array(self.x), _array(self.y)
        if isinstance(self.background, str) and self.background == "estimate":
            if self.y.ndim == 1 and self.y.size and np.isfinite(self.y).all():
                self.background = np.asarray(_background(self.y))

    def __check_init__(self):
        label = f"MeasuredIRF '{self.name}'"
        x, y = self.x, self.y
        if x.ndim != 1 or x.shape != y.shape or x.size < 3:
            raise InputError(
                f"{label} needs x and y of one length, three or more, not {x.shape} and {y.shape}."
            )
        gaps = np.diff(x)
        off = np.abs(x - np.linspace(x[0], x[-1], x.size)).max()
        if not (gaps > 0).all() or not off <= _UNEVEN * gaps.mean():
            i = int(np.argmax(np.abs(gaps - np.median(gaps))))
            raise InputError(
                f"{label} needs x uniform and ascending, but x[{i}] = {x[i]:g} is followed by "
                f"{x[i + 1]:g} where the spacing is {np.median(gaps):g} elsewhere."
            )
        if not np.isfinite(y).all():
            raise InputError(f"{label}: y has values that are not finite. Leave them out.")
        if isinstance(self.background, str):
            raise InputError(
                f'{label} needs background, a number or "estimate", not {self.background!r}.'
            )
        if np.ndim(self.background) != 0:
            raise InputError(
                f"{label} needs one number as background, not {self.background.shape}."
            )
        if not np.isfinite(self.background) or np.sum(y - self.background) <= 0:
            raise InputError(
                f"{label}: less the background {self.background:g} its area is not positive."
            )
        if self.period is not None and self.period.init is not None:
            if self.period.init < x[-1] - x[0]:
                raise InputError(
                    f"{label}: the period {self.period.init:g} is below the length of the response, "
                    f"{x[-1] - x[0]:g}."
                )

    @property
    def polynomials(self) -> dict[str, tuple[Param, ...]]:
        """Of the shift."""
        return {"shift_dispersion": self.shift_dispersion}

    def _grid(self, x: Array, values: Mapping[str, ArrayIn]) -> _Grid:
        """Convert the response, x (m,) and the period to cells."""
        assert not isinstance(self.background, str)
        y = jnp.asarray(self.y) - self.background
        step = jnp.asarray((self.x[-1] - self.x[0]) / (self.x.shape[0] - 1)).astype(x.dtype)
        position = (x - jnp.asarray(self.x[0]).astype(x.dtype)) / step + 1.0
        if "shift" in values:
            position = position - as_scalar(values["shift"]) / step
        place = self.place()
        if place is not None:
            v = {key: as_scalar(value) for key, value in values.items()}
            later = place.delay + polynomial(v, "shift_dispersion", place.distance)
            position = position - later / step
        period = as_scalar(values["period"]) / step if "period" in values else None
        position = position if period is None else jnp.mod(position, period)
        return _Grid(step, jnp.pad((y / jnp.sum(y)).astype(x.dtype), 1), position, period)

    def convolve_decay(self, x: ArrayIn, rate: ArrayIn, values: Mapping[str, ArrayIn]) -> Array:
        """Decays `exp(-rate v)` convolved with the response (m, g), at x (m, 1) for rates (g,)."""
        grid = self._grid(jnp.asarray(x)[:, 0], values)
        return _convolve(grid, Decays(jnp.ravel(jnp.asarray(rate)) * grid.step))

    def differences(self, x: ArrayIn, values: Mapping[str, ArrayIn], order: int) -> Array:
        """The response, one at its maximum, and its central differences from sample to sample (m, order), at
        x (m,)."""
        grid = self._grid(jnp.asarray(x), values)
        columns = [grid.area / jnp.max(grid.area)]
        while len(columns) < order:
            columns.append(jnp.asarray(jnp.gradient(columns[-1])))
        nodes = jnp.arange(grid.area.size, dtype=grid.position.dtype)
        return jnp.stack(
            [jnp.interp(grid.position, nodes, c, left=0.0, right=0.0) for c in columns], axis=1
        )

    def convolve_states(
        self,
        x: Float[ArrayIn, " m"],
        k: Inexact[Array, "n n"],
        start: Inexact[Array, " n"],
        values: Mapping[str, ArrayIn],
        known: Bool[np.ndarray, " n"],
    ) -> Inexact[Array, "m n"]:
        """States `exp(K v) start` convolved with the response (m, n)."""
        grid = self._grid(jnp.asarray(x), values)
        return _convolve(grid, Scheme(k * grid.step, start, tuple(known.tolist())))

    def convolve_function(
        self, x: Float[ArrayIn, " m"], function: Causal, values: Mapping[str, ArrayIn]
    ) -> Inexact[Array, "m g"]:
        """Columns `function(v)` convolved with the response (m, g), by quadrature over cells."""
        # Values and slopes at the nodes plus what the first x is beyond one: on the grid of the
        # response these are all x, and what follows is exact but for quadrature.
        step, area, position, period = self._grid(jnp.asarray(x), values)
        nodes = area.size
        phase = position[0] - jnp.floor(position[0])
        lags = np.arange(-nodes if period is not None else 0, 2 * nodes)
        zero = int(np.flatnonzero(lags == 0)[0])
        decay = function if period is None else train(function, period * step)

        def moments(v, s, weights):
            """Integrals over cells of the decay at v times `1 - s` and s, the place in the cell."""
            f = decay((step * v).reshape(-1, 1)).reshape(*v.shape, -1) * weights[..., None]
            return jnp.sum(f * (1.0 - s)[..., None], axis=1), jnp.sum(f * s[..., None], axis=1)

        # The cell of lag j has v = past + j - 1 + s. One holds v = 0, where the decay begins.
        cast = lambda a: jnp.asarray(a, step.dtype)  # noqa: E731
        cell_position, cell_weight, first_position, first_weight = map(
            cast, (_CELL, _CELL_WEIGHTS, _FIRST, _FIRST_WEIGHTS)
        )
        v = phase + cast(lags[:, None] - 1.0) + cell_position
        if period is not None:
            # Before it begins what is seen is what began a period earlier.
            v = jnp.where(v < 0, v + period, v)
        early, late = moments(jnp.maximum(v, 0.0), cell_position, cell_weight)
        begin = moments(
            (phase * first_position)[None],
            (1.0 - phase * (1.0 - first_position))[None],
            phase * first_weight,
        )
        after = moments((phase + first_position)[None], first_position[None], first_weight)
        if period is not None:
            remainder = jnp.maximum(period - (1.0 - phase) * (1.0 - cell_position), 0.0)[None]
            earlier = moments(
                remainder, ((1.0 - phase) * cell_position)[None], (1.0 - phase) * cell_weight
            )
            begin = begin[0] + earlier[0], begin[1] + earlier[1]
        here = [zero, zero + 1]
        early = with_values(early, here, jnp.concatenate([begin[0][:1], after[0][:1]]))
        late = with_values(late, here, jnp.concatenate([begin[1][:1], after[1][:1]]))

        # It sees the response of the nodes i - j + 1 and i - j, at node i.
        def at_nodes(first, second):
            kernel = jnp.pad(first, ((0, 1), (0, 0))) + jnp.pad(second, ((1, 0), (0, 0)))
            size = nodes + kernel.shape[0]
            product = jnp.fft.rfft(kernel, size, axis=0) * jnp.fft.rfft(area, size)[:, None]
            return jnp.fft.irfft(product, size, axis=0)[zero + 1 : zero + 1 + 2 * nodes]

        value, slope = at_nodes(early, late), at_nodes(early + late, -early - late)
        return _hermite(value, slope, position - phase)


@program
def _convolve(grid: _Grid, system: Decays | Scheme) -> Inexact[Array, "m n"]:
    """States at `grid.position`: from node to node by a recursive filter, and from there over part of a
    cell. Compiled as one, for starts are sought with it outside of any other program."""
    _, area, positions, period = grid
    drive = jnp.stack([area, jnp.diff(area, append=area[-1:])], axis=1)
    inflow = system.inflow(drive[:-1])
    inflow = jnp.concatenate([jnp.zeros_like(inflow[:1]), inflow])
    last = area.size - 1

    def between(at_nodes, positions):
        cell = jnp.clip(jnp.floor(positions).astype(int), 0, last)
        states = system.cell(at_nodes[cell], drive[cell], jnp.maximum(positions - cell, 0.0))
        return jnp.where((positions < 0)[:, None], 0.0, states)

    current = driven(inflow, system.along)
    if period is None:
        return between(current, positions)
    # The excitation before may still last; those before that one are over.
    remainder = system.left(current[-1], period, jnp.maximum(2.0 * period - last, 0.0))
    with_earlier = driven(with_values(inflow, [0], remainder[None]), system.along)
    return between(current, positions + period) + between(with_earlier, positions)


def _hermite(
    value: Float[Array, "r g"], slope: Float[Array, "r g"], positions: Float[Array, " m"]
) -> Float[Array, "m g"]:
    """Cubic Hermite interpolation (m, g) at `positions` of values and slopes (r, g) at 0, 1, 2, ...;
    zero before, NaN beyond."""
    cell = jnp.clip(jnp.floor(positions).astype(int), 0, value.shape[0] - 2)
    u = (positions - cell)[:, None]
    v0, v1, s0, s1 = value[cell], value[cell + 1], slope[cell], slope[cell + 1]
    bend = 3.0 * (v1 - v0) - 2.0 * s0 - s1
    cubic = v0 + u * (s0 + u * (bend + u * (2.0 * (v0 - v1) + s0 + s1)))
    return jnp.where(u > 1, jnp.nan, jnp.where(u < 0, 0.0, cubic))


def _array(value: object) -> np.ndarray:
    """Convert to an array of real numbers."""
    return real_numbers("A measured response", value).astype(float)


def _background(y: np.ndarray) -> float:
    """Mean of the samples in the background: those more than 3 standard deviations above the mean are
    left out, until none is."""
    keep = np.ones(y.size, bool)
    while True:
        mean, sd = y[keep].mean(), y[keep].std()
        background = y <= mean + 3.0 * sd
        if (background | ~keep).all():
            return float(mean)
        keep &= background
