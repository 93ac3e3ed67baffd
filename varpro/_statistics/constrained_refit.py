"""Refits with one or two quantities of a fit held at given values, or a derived number: what profiles are
made of. How they are held says `varpro._statistics.penalised`.

Where coefficients have bounds, c is no linear function of the data and there is no K0. A coefficient is
then held by equal bounds of its own, among the bounds that the others have: exact as well.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._errors import InputError
from .._problem.linear_constraints import Linear
from .._problem.problem import Problem
from .._programs.program import program
from .._reduced.by_group import reduction
from .._reduced.multi_dataset import Several
from .._search.minimise import SearchEnd, locate
from .._status import RESULTS, STOP
from .._types import ArrayIn, precision
from ..basis import sides_in
from ..linalg import BoundedSides
from .joint_covariance import Quantity, roots, unit_covariance
from .penalised import Held, HeldNumber, Look, Numbered, Penalised, PenalisedNumber, values_of
from .quantities import noise_variance, optima, values
from .record import AbstractLeastSquares, Fitted
from .refit_problem import RefitProblem, lanes, placed_problem

# The slack of a spring that holds a quantity, in standard errors: this power of the precision, 1e-4
# in float64. The search sees one residual as much steeper than all others.
SLACK = 0.25
# Refits in one call of the compiled program: all wait for the slowest of them.
LANES = 16
# The part of chi-square by which it may still fall over half of all steps where it is at its limit.
_STILL = 1e-9
# How many times its start a parameter is that has run off.
_FAR = 1e6


class Refits(NamedTuple):
    """Profile points, arrays over lanes: where the quantities are (L, r), the chi-square with
    priors, the coordinates (L, p), the parameter values (L, q), coefficients (L, n, k) of each data
    set in the order of the user, whether the search converged to numbers, whether not at infinity, and whether a quantity would have been
    held beyond a bound of its own (L,)."""

    held: np.ndarray
    chisq: np.ndarray
    alpha: np.ndarray
    values: np.ndarray
    coefs: list[np.ndarray]
    ok: np.ndarray
    ended: np.ndarray
    beyond: np.ndarray


class AbstractRefits(eqx.Module):
    """Refits of a fit with something held in each lane, one of several things."""

    fit: eqx.AbstractVar[AbstractLeastSquares]
    refit_problem: eqx.AbstractVar[RefitProblem]
    places: eqx.AbstractVar[list[tuple[int, int]]]
    labels: eqx.AbstractVar[tuple[str, ...]]
    numbers: eqx.AbstractVar[Numbered | None]
    unit: eqx.AbstractVar[np.ndarray]
    start: eqx.AbstractVar[np.ndarray]
    ahead: eqx.AbstractVar[np.ndarray]

    @property
    @abc.abstractmethod
    def origin(self) -> np.ndarray:
        """The coordinates (p,) at the optimum of the fit."""

    @property
    @abc.abstractmethod
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The bounds of the coordinates, (p,) each."""

    @abc.abstractmethod
    def held(self, group: int, target: np.ndarray) -> Held | HeldNumber:
        """What is held in a lane, at `target` (r,)."""

    @property
    @abc.abstractmethod
    def sides(self) -> tuple[BoundedSides | None, ...] | None:
        """For each stack of data sets which coefficients have bounds in some lane; None where all are held by
        penalty."""

    @abc.abstractmethod
    def within(self, which: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Targets moved inside the bounds of coefficients, and which of them are held by bounds."""

    @abc.abstractmethod
    def beyond(self, which: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Which lanes hold a coefficient on its bound."""

    def refit(self, which: np.ndarray, target: np.ndarray, alpha: np.ndarray | None) -> Refits:
        """Refit lanes `which` (L,) with their quantities at `target` (L, r), from `alpha` (L, p) or
        from where the covariance says that the optimum is."""
        dtype = self.fit.alpha.dtype
        step = np.einsum("lpr,lr->lp", self.ahead[which], target - self.start[which])
        begin = self.origin + step if alpha is None else alpha
        lower, upper = self.limits
        first = np.clip(begin, lower, upper).astype(dtype)
        problem, limits, how = self.refit_problem
        limits = limits if limits[0] is None else (lower.astype(dtype), upper.astype(dtype))
        given = RefitProblem(problem, limits, how)
        width = lanes(problem, LANES)
        target, by_bounds = self.within(which, target)
        held = [self.held(g, t) for g, t in zip(which.tolist(), target, strict=True)]
        found = []
        with precision(dtype):
            for i in range(0, len(held), width):
                some = list(range(i, min(i + width, len(held))))
                some += some[:1] * (width - len(some))  # the program has one shape
                stack = jax.tree.map(lambda *a: np.stack(a), *(held[j] for j in some))
                found.append(
                    jax.device_get(_refit(given, stack, first[some], self.sides, self.numbers))
                )
        joined = jax.tree.map(lambda *a: np.concatenate(a)[: len(held)], *found)
        at, chisq, best, values, coefs, ok, ended = joined
        at, chisq = np.where(by_bounds, target, at).astype(float), chisq.astype(float)
        several = isinstance(problem, Several)
        parts = list(self.fit.parts.values())
        coefs = [
            (coefs[s][:, j] if several else coefs[s])[:, list(one.model.order)]
            for (s, j), one in zip(self.places, parts, strict=True)
        ]
        return Refits(at, chisq, best, values, coefs, ok, ended, self.beyond(which, target))


class ConstrainedRefits(AbstractRefits):
    """Refits of `fit` that hold quantities; each lane holds one of `groups` of them."""

    fit: AbstractLeastSquares
    refit_problem: RefitProblem
    places: list[tuple[int, int]]
    groups: tuple[tuple[Quantity, ...], ...]
    unit: np.ndarray  # (groups, r), a standard error of each or what stands for it
    noise: float
    start: np.ndarray  # (groups, r), their values in the fit
    ahead: np.ndarray  # (groups, p, r), how alpha moves with them

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(group[0].label for group in self.groups)

    @property
    def origin(self) -> np.ndarray:
        return np.asarray(self.fit.optimum.alpha)

    @property
    def numbers(self) -> None:
        return None

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.fit.optimum.lower), np.asarray(self.fit.optimum.upper)

    def _linear(self, one: Quantity) -> Linear:
        return self._parts[one.part].linear

    @property
    def _parts(self) -> list[Fitted]:
        return list(self.fit.parts.values())

    def _bound(self, one: Quantity) -> tuple[int, float, float] | None:
        """The sought coefficient whose bounds hold this one, and scale and shift from that to this; None
        where it is held otherwise."""
        linear = self._linear(one)
        if one.rhs is None or not (linear.sought or sides_in(self._parts[one.part].model)):
            return None
        if not linear.sought:  # of different bases no coefficient is held by penalty
            return one.index, 1.0, 0.0
        if one.index in linear.sought:
            return linear.sought.index(one.index), 1.0, 0.0
        assert linear.mix is not None
        row = np.asarray(linear.mix)[one.index]
        (j,) = np.flatnonzero(row)
        shift = 0.0 if linear.constant is None else float(np.asarray(linear.constant)[one.index])
        return int(j), float(row[j]), shift

    def _ends(self, one: Quantity) -> tuple[float, float]:
        """The bounds of a quantity that is held by bounds, else none."""
        place, linear = self._bound(one), self._linear(one)
        if place is None or linear.lower is None or linear.upper is None:
            return -np.inf, np.inf
        j, scale, shift = place
        ends = [np.asarray(b)[j] for b in (linear.lower, linear.upper)]
        ends = [scale * float(b[one.rhs if len(b) > 1 else 0]) + shift for b in ends]
        return min(ends), max(ends)

    def within(self, which: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        target, by_bounds = target.astype(float), np.zeros(target.shape, bool)
        for lane, g in enumerate(which.tolist()):
            for i, one in enumerate(self.groups[g]):
                by_bounds[lane, i] = self._bound(one) is not None
                target[lane, i] = np.clip(target[lane, i], *self._ends(one))
        return target, by_bounds

    def beyond(self, which: np.ndarray, target: np.ndarray) -> np.ndarray:
        found = np.zeros(len(which), bool)
        for lane, g in enumerate(which.tolist()):
            for i, one in enumerate(self.groups[g]):
                found[lane] |= target[lane, i] in self._ends(one)
        return found

    @property
    def _stacks(self) -> list[list[int]]:
        """The data sets of each stack, in the order in which they stand there."""
        count = 1 + max(s for s, _ in self.places)
        found: list[list[int]] = [[] for _ in range(count)]
        for part in sorted(range(len(self.places)), key=lambda i: self.places[i]):
            found[self.places[part][0]].append(part)
        return found

    @property
    def sides(self) -> tuple[BoundedSides | None, ...] | None:
        held: dict[int, set[int]] = {}
        for one in (one for group in self.groups for one in group):
            place = self._bound(one)
            if place is not None:
                held.setdefault(self.places[one.part][0], set()).add(place[0])
        if not held:
            return None
        found: list[BoundedSides | None] = []
        for s, members in enumerate(self._stacks):
            part, mine = self._parts[members[0]], held.get(s)
            if mine is None:
                found.append(None)
                continue
            given = part.linear.sides
            given = given or ((False, False),) * len(part.linear.sought or part.columns)
            found.append(
                tuple((j in mine or low, j in mine or high) for j, (low, high) in enumerate(given))
            )
        return tuple(found)

    def held(self, group: int, target: np.ndarray) -> Held:
        chosen, dtype = self.groups[group], self.fit.alpha.dtype
        parts, q = self._parts, len(self.fit.names)
        rows = np.zeros((len(chosen), q), dtype)
        target, sides = target.astype(float).copy(), self.sides
        ends = None if sides is None else [self._free_ends(s, own) for s, own in enumerate(sides)]
        picks: dict[int, np.ndarray] = {}
        for i, one in enumerate(chosen):
            place = self._bound(one)
            if one.rhs is None:
                rows[i, one.index] = 1.0
            elif place is not None and ends is not None:
                (s, at), (j, scale, shift) = self.places[one.part], place
                several = isinstance(self.refit_problem.problem, Several)
                for end in ends[s] or ():
                    (end[at] if several else end)[j, one.rhs] = (target[i] - shift) / scale
                target[i] = 0.0
            else:
                part = parts[one.part]
                none = np.zeros(
                    (len(chosen), len(part.linear.sought or part.columns)), part.coef.dtype
                )
                mine = picks.setdefault(one.part, none)
                mine[i, one.index] = -1j if one.imag else 1.0
        rhs = np.array([one.rhs or 0 for one in chosen], np.int32)
        slack = float(np.finfo(dtype).eps) ** SLACK * self.unit[group]
        slack = (slack**2 / self.noise).astype(dtype)
        bounds = None
        if ends is not None:
            bounds = tuple(None if e is None else tuple(a.astype(dtype) for a in e) for e in ends)
        looks = self._looks(picks, len(chosen))
        return Held(rows, looks, rhs, target.astype(dtype), slack, bounds)  # pyright: ignore

    def _looks(self, picks: dict[int, np.ndarray], r: int) -> tuple[Look, ...]:
        """Looks at what is picked, as many at each stack as any lane needs: programs have one shape."""
        most: dict[int, int] = {}
        for group in self.groups:
            some = {one.part for one in group if one.rhs is not None and self._bound(one) is None}
            for s in {self.places[part][0] for part in some}:
                here = sum(self.places[part][0] == s for part in some)
                most[s] = max(most.get(s, 0), here)
        found = []
        for s, count in sorted(most.items()):
            mine = [part for part in picks if self.places[part][0] == s]
            for i in range(count):
                if i < len(mine):
                    place, chosen = self.places[mine[i]][1], picks[mine[i]]
                else:
                    one = self._parts[self._stacks[s][0]]
                    place = 0
                    chosen = np.zeros((r, len(one.linear.sought or one.columns)), one.coef.dtype)
                found.append(Look(chosen, np.array(place, np.int32), s))
        return tuple(found)

    def _free_ends(self, s: int, sides: BoundedSides | None) -> list[np.ndarray] | None:
        """Bounds of all coefficients of the data sets of a stack, (n, k) or (d, n, k)."""
        if sides is None:
            return None
        found = []
        for which, end in (("lower", -np.inf), ("upper", np.inf)):
            each = []
            for part in self._stacks[s]:
                one = self._parts[part]
                k = one.coef.reshape(len(one.columns), -1).shape[1]
                b = getattr(one.linear, which)
                shape = (len(one.linear.sought or one.columns), k)
                each.append(np.broadcast_to(np.full((), end) if b is None else b, shape).copy())
            several = isinstance(self.refit_problem.problem, Several)
            found.append(np.stack(each) if several else each[0])
        return found


def constrained_refits(
    fit: AbstractLeastSquares, groups: Sequence[Sequence[Quantity]]
) -> ConstrainedRefits:
    """Make ready to refit `fit` with one group of quantities held at a time, all of one size."""
    optimum, parts = fit.optimum, optima(fit)
    for one in (one for group in groups for one in group):
        _check_held(list(fit.parts.values())[one.part], one)
    check_refits(fit)
    unit, start, ahead = [], [], []
    noise = noise_variance(fit)
    for group in groups:
        variance = unit_covariance(optimum, group, parts)
        error, at = np.sqrt(np.diag(variance) * noise), values(fit, group)
        known = np.isfinite(error) & (error > 0)
        instead = [_unit(fit, one, value, noise) for one, value in zip(group, at, strict=True)]
        unit.append(np.where(known, error, instead))
        start.append(at)
        # The optimum moves along cov(alpha, g) cov(g)^{-1}.
        along = np.asarray(optimum.blocks.half, float).T @ roots(optimum, group, parts).T
        if np.all(known):
            ahead.append(along @ np.linalg.pinv(variance))
        else:
            ahead.append(np.zeros_like(along))
    return ConstrainedRefits(
        fit,
        *placed_problem(fit, filled=True),
        tuple(tuple(g) for g in groups),
        np.array(unit),
        noise,
        np.array(start),
        np.array(ahead).reshape(len(groups), optimum.alpha.size, len(groups[0])),
    )


def check_refits(fit: AbstractLeastSquares) -> None:
    """Refuse what no profile is made of."""
    if any(one.weights is not None and one.weights.ndim == 2 for one in fit.parts.values()):
        raise InputError(
            "There is no profile of a fit whose right-hand sides have weights of their own. Use "
            "intervals by covariance."
        )


def _check_held(fit: Fitted, one: Quantity) -> None:
    """Refuse a coefficient that no bounds can hold."""
    linear = fit.linear
    if one.rhs is not None and linear.areas is not None:
        raise InputError(
            "Right-hand sides of this fit are coupled by equal_areas, so a profile can hold nonlinear parameters "
            "alone. Use intervals by covariance or bootstrap for coefficients."
        )
    if one.rhs is None or not (linear.sought or sides_in(fit.model)):
        return
    if np.iscomplexobj(fit.coef):
        raise InputError(
            "The coefficients of this fit are complex and have relations, penalties or different bases, so a "
            "profile can hold nonlinear parameters alone. Use intervals by covariance or bootstrap for "
            "coefficients."
        )
    if not linear.sought:
        return
    if linear.mix is not None and np.count_nonzero(np.asarray(linear.mix)[one.index]) != 1:
        raise InputError(
            f"'{one.label}' follows no or several coefficients, so a profile cannot hold it. Use "
            "intervals by covariance or bootstrap."
        )


def _unit(fit: AbstractLeastSquares, one: Quantity, value: float, noise: float) -> float:
    """What stands for a standard error that is withheld: of a coefficient the one that it would have
    alone."""
    if one.rhs is not None:
        part = list(fit.parts.values())[one.part]
        column = part._evaluate(part.x, rhs=one.rhs)[0][:, list(part.model.order).index(one.index)]
        weights = 1.0 if part.weights is None else part.weights
        norm = float(np.linalg.norm(part.whitened(np.where(weights > 0, column * weights, 0.0))))
        if 0.0 < norm < np.inf:
            return noise**0.5 / norm
    return 1e-3 * (abs(value) or 1.0)


def _runs_off(
    found: SearchEnd, begin: Float[Array, " p"], end: Float[Array, " p"]
) -> Bool[Array, ""]:
    """Whether a parameter runs off to infinity while chi-square no longer falls: the least chi-square is
    its limit there, as of a saturating curve whose plateau is open. The search itself has no end then, or it is
    stuck where rounding is all that is left of its steps."""
    if "costs" not in found.stats:  # nothing was searched for
        return jnp.zeros((), bool)
    costs = found.stats["costs"]
    steps = found.stats["num_steps"]
    last, half = costs[jnp.maximum(steps - 1, 0)], costs[steps // 2]
    far = jnp.any(jnp.abs(end) > _FAR * jnp.abs(begin))
    stuck = (found.stats["stop"] == STOP.stuck) & far
    unended = (found.result == RESULTS.nonlinear_max_steps_reached) | stuck
    return (unended & (half - last <= _STILL * last)) | (found.stats["stop"] == STOP.vanished)


@program
def _refit(
    refit_problem: RefitProblem,
    held: Held | HeldNumber,
    alpha: Float[ArrayIn, "l p"],
    sides: tuple[BoundedSides | None, ...] | None,
    numbers: Numbered | None,
) -> tuple[Any, ...]:
    """One program for every lane of every profile of a fit: nothing here but shapes is static."""
    problem, limits, how = refit_problem

    def one(held, alpha):
        at = problem
        if sides is not None and isinstance(held, Held) and held.bounds is not None:
            at = _with_bounds(problem, held.bounds, sides)
        reduced = at if isinstance(at, Several) else reduction(at, how.linear_solver, how.jacobian)
        if isinstance(held, Held):
            pulled = Penalised(reduced, held)
        else:
            assert numbers is not None
            pulled = PenalisedNumber(reduced, held, numbers)
        begin = alpha
        alpha, found, point = locate(pulled, limits, begin, how, how.max_steps)
        inner = pulled.inner(alpha)
        at, chisq, coefs = pulled.answer(alpha, point)
        # A search that begins where there is no number has accepted no point: all it knows is zero.
        some = [jnp.any(leaf != 0) for leaf in jax.tree.leaves(point) if leaf.dtype.kind in "fc"]
        chisq = jnp.where(jnp.any(jnp.stack(some)), chisq, jnp.nan)
        ended = found.result == RESULTS.successful
        ok = (
            (ended | _runs_off(found, begin, alpha))
            & jnp.isfinite(chisq)
            & jnp.all(jnp.isfinite(at))
        )
        return (
            at,
            chisq,
            alpha,
            values_of(reduced)(inner),
            all_coefficients(problem, coefs),
            ok,
            ended,
        )

    return jax.vmap(one)(held, jnp.asarray(alpha))


def all_coefficients(problem: Problem | Several, coefs: Sequence[Array]) -> list[Array]:
    """Of each stack all coefficients from those that are sought."""
    if isinstance(problem, Problem):
        return [jnp.asarray(problem.linear.all_of(coefs[0]))]
    found = []
    for stack, coef in zip(problem.stacks, coefs, strict=True):
        linear = jax.tree.map(jnp.asarray, stack.problem.linear)
        found.append(jax.vmap(lambda linear, c: jnp.asarray(linear.all_of(c)))(linear, coef))
    return found


def _with_bounds(problem: Any, bounds: Sequence[Any], sides: Sequence[BoundedSides | None]) -> Any:
    """The problem with other bounds of coefficients, of the stacks that have any."""

    def bounded(at: Problem, ends: Any, own: Any) -> Problem:
        if ends is None:
            return at
        linear = dataclasses.replace(at.linear, lower=ends[0], upper=ends[1], sides=own)
        return dataclasses.replace(at, linear=linear)

    if isinstance(problem, Problem):
        return bounded(problem, bounds[0], sides[0])
    stacks = [
        dataclasses.replace(stack, problem=bounded(stack.problem, ends, own))
        for stack, ends, own in zip(problem.stacks, bounds, sides, strict=True)
    ]
    return dataclasses.replace(problem, stacks=tuple(stacks))
