"""Profile intervals of numbers that follow from a fit: how chi-square rises as a number is held away from
its value, everything else free to follow (`varpro._statistics.penalised` says how it is held)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._errors import InputError
from .._given.arguments import whole
from .._programs.program import program
from .._types import ArrayIn, precision
from .bootstrap import bootstrap
from .constrained_refit import SLACK, AbstractRefits, check_refits
from .derivation import Derivation, recipe
from .derived import derive, models_of
from .derived_result import Derived
from .intervals import Intervals
from .joint_covariance import Quantity, roots, unit_covariance
from .penalised import HeldNumber, Look, Numbered
from .profile import limits_of
from .quantities import noise_variance, optima, picks_of, values
from .record import AbstractLeastSquares, Fitted
from .refit_problem import RefitProblem, needs_optimum, placed_problem
from .student import check_level


class DerivedRefits(AbstractRefits):
    """Refits that hold derived numbers, one in each lane; coordinates are those of the fit and `taken`, the
    coefficients that some number takes."""

    fit: AbstractLeastSquares
    refit_problem: RefitProblem
    places: list[tuple[int, int]]
    labels: tuple[str, ...]
    numbers: Numbered
    taken: tuple[Quantity, ...]
    unit: np.ndarray
    noise: float
    start: np.ndarray
    ahead: np.ndarray
    gamma: np.ndarray

    @property
    def origin(self) -> np.ndarray:
        return np.concatenate([np.asarray(self.fit.optimum.alpha), self.gamma])

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        open_ = np.full(len(self.taken), np.inf)
        optimum = self.fit.optimum
        lower = np.concatenate([np.asarray(optimum.lower), -open_])
        return lower, np.concatenate([np.asarray(optimum.upper), open_])

    @property
    def sides(self) -> None:
        return None

    def within(self, which: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return target.astype(float), np.zeros(target.shape, bool)

    def beyond(self, which: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.zeros(len(which), bool)

    def held(self, group: int, target: np.ndarray) -> HeldNumber:
        dtype, r = self.fit.alpha.dtype, len(self.taken)
        parts, looks = list(self.fit.parts.values()), []
        for part in sorted({one.part for one in self.taken}):
            mine = parts[part]
            picks = np.zeros((r, len(mine.linear.sought or mine.columns)), mine.coef.dtype)
            for i, one in enumerate(self.taken):
                if one.part == part:
                    picks[i, one.index] = -1j if one.imag else 1.0
            stack, place = self.places[part]
            looks.append(Look(picks, np.array(place, np.int32), stack))
        slack = float(np.finfo(dtype).eps) ** SLACK * self.unit[group, 0]
        return HeldNumber(
            np.zeros((r, len(self.fit.names)), dtype),
            tuple(looks),
            np.array([one.rhs or 0 for one in self.taken], np.int32),
            np.asarray(target[0], dtype),
            np.asarray(slack**2 / self.noise, dtype),
            np.array(group, np.int32),
        )


class DerivedSource:
    """A fit and what is derived from it, for intervals that take refits. Pickled it is None: what a function
    of the user's does stays where it is."""

    def __init__(self, fit: AbstractLeastSquares, what: Derivation):
        self._fit, self._what = fit, what

    def profiles(self, level: float, rhs: int) -> Intervals:
        return derived_profiles(self._fit, self._what, level, rhs)

    def bootstrap(self, level: float) -> Intervals:
        return bootstrap(self._fit, 1000, "residual", 0).derive(self._what, level)

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _nothing, ()


def _nothing() -> None:
    return None


def derived_from(fit: AbstractLeastSquares, what: Derivation) -> Derived:
    """The quantities of a fit, which know it."""
    return dataclasses.replace(derive(fit, what), source=DerivedSource(fit, what))


def derived_profiles(
    fit: AbstractLeastSquares, what: Derivation, level: float, rhs: int = 0
) -> Intervals:
    """Profile intervals of the numbers that `FitResult.derive` would make of `what`, of right-hand side `rhs`.

    **Raises:** `InputError` where a profile needs what the fit does not have, and for numbers that take
    coefficients with bounds.
    """
    check_level(level)
    needs_optimum(fit, "profile")
    check_refits(fit)
    return limits_of(derived_refits(fit, what, rhs), level)


def derived_refits(fit: AbstractLeastSquares, what: Derivation, rhs: int = 0) -> DerivedRefits:
    """Make ready to refit with one of the numbers held at a time."""
    parts, dtype, noise = list(fit.parts.values()), fit.alpha.dtype, noise_variance(fit)
    sides = max(one.coef.size // max(len(one.columns), 1) for one in parts)
    if not 0 <= whole("rhs", rhs) < sides:
        raise InputError(f"rhs={rhs} is not one of the {sides} right-hand sides, counted from 0.")
    derived, models = derive(fit, what), models_of(fit)
    asked = recipe(what, models.names)
    every = [
        Quantity("", j, rhs, imag, s)
        for s, one in enumerate(parts)
        if models.columns[s] is not None
        for j in range(len(one.linear.sought or one.columns))
        for imag in ((False, True) if np.iscomplexobj(one.coef) else (False,))
    ]
    numbers = Numbered(models, asked, _mixes(parts, every), derived.names, _picks(fit))
    gamma = values(fit, _columns(parts, every)).astype(dtype)
    with precision(dtype):
        at, by_values, by_gamma = map(np.asarray, _slopes.on_host(numbers, fit.alpha, gamma))
        # What moves no number here may move it elsewhere: look at another place, too.
        other = gamma * (1.0 + 0.1 * np.cos(np.arange(gamma.size))).astype(dtype)
        elsewhere = np.asarray(_slopes.on_host(numbers, fit.alpha, other)[2])
    moving = np.any((by_gamma != 0) | (elsewhere != 0), axis=0)
    taken = [one for one, moves in zip(every, moving, strict=True) if moves]
    if any(parts[one.part].linear.bounded for one in taken):
        raise InputError(
            "A profile holds numbers of nonlinear parameters, and of coefficients without bounds; these have "
            "bounds. Use bootstrap, or intervals by covariance."
        )
    numbers = dataclasses.replace(numbers, mixes=_mixes(parts, taken))
    # The optimum moves along cov(coordinates, h) / var(h), h as it is near the fit.
    chosen = [*(Quantity(name, i) for i, name in enumerate(fit.names)), *_columns(parts, taken)]
    slopes = np.concatenate([by_values, by_gamma[:, moving]], axis=1).astype(float)
    joint = unit_covariance(fit.optimum, chosen, optima(fit))
    along = np.asarray(fit.optimum.blocks.half, float).T @ roots(fit.optimum, chosen, optima(fit)).T
    follow = np.where(np.isfinite(joint), joint, 0.0)[len(fit.names) :]
    spread = derived.covariance if derived.covariance.ndim == 2 else derived.covariance[rhs]
    variance = np.diagonal(spread)
    error = np.sqrt(variance)
    known = np.isfinite(error) & (error > 0)
    with np.errstate(all="ignore"):
        ahead = np.concatenate([along, follow]) @ slopes.T * (noise / variance)
    ahead = np.where(known & np.isfinite(ahead), ahead, 0.0)
    unit = np.where(known, error, 1e-3 * np.where(at == 0, 1.0, np.abs(at)))
    problem, places = placed_problem(fit, filled=True)
    return DerivedRefits(
        fit=fit,
        refit_problem=problem,
        places=places,
        labels=derived.names,
        numbers=numbers,
        taken=tuple(taken),
        unit=unit[:, None],
        noise=noise,
        start=at[:, None].astype(float),
        ahead=ahead.T[:, :, None],
        gamma=gamma[moving],
    )


def _picks(fit: AbstractLeastSquares) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, own)) for own in picks_of(fit))


def _mixes(
    parts: Sequence[Fitted], taken: Sequence[Quantity]
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Of each data set constant and matrix that make its coefficients of those that are taken, all others
    as the fit has them."""
    found = []
    for s, one in enumerate(parts):
        linear, size, dtype = one.linear, len(one.columns), one.coef.dtype
        mix = np.eye(size) if linear.mix is None else np.asarray(linear.mix)
        wide = np.zeros((size, len(taken)), dtype)
        for i, q in enumerate(taken):
            if q.part == s:
                wide[:, i] = mix[:, q.index] * (1j if q.imag else 1.0)
        rhs = taken[0].rhs if taken else 0
        coef = one.coef.reshape(size, -1)[np.argsort(one.model.order)]
        coef = coef[:, rhs if coef.shape[1] > 1 else 0]
        mine = [i for i, q in enumerate(taken) if q.part == s]
        at = [coef[_column(one, taken[i].index)] for i in mine]
        at = [np.imag(c) if taken[i].imag else np.real(c) for i, c in zip(mine, at, strict=True)]
        constant = coef - wide[:, mine] @ np.array(at, dtype)
        found.append((constant.astype(dtype), wide))
    return tuple(found)


def _column(fit: Fitted, sought: int) -> int:
    """Which column a coefficient is, as the model computes them."""
    return fit.linear.sought[sought] if fit.linear.sought else sought


def _columns(parts: Sequence[Fitted], taken: Sequence[Quantity]) -> list[Quantity]:
    """Sought coefficients as those of columns."""
    return [q._replace(index=_column(parts[q.part], q.index)) for q in taken]


@program
def _slopes(numbers: Numbered, values: ArrayIn, gamma: ArrayIn) -> tuple[Array, Array, Array]:
    """All numbers (R,), and their derivatives by parameter values (R, q) and coefficients (R, r)."""
    at = jnp.asarray(values), jnp.asarray(gamma)
    return numbers(*at), *jax.jacfwd(numbers, (0, 1))(*at)
