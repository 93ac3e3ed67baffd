"""Of a fit of one data set all that does not depend on the numbers in y: made once for a model and x.

A model, the options and the numbers in x are compared with those of the last fits; whoever fits one
curve after the other prepares nothing but data. Starts that are sought in the data are sought every time.
"""

import dataclasses
from typing import Any, NamedTuple, TypedDict

import jax
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._parameters.layout import Coordinates
from .._problem.checks import check_distinct, check_enough, check_positions
from .._problem.columns import Assembled
from .._problem.data import Data
from .._problem.frozen import Recalled
from .._problem.linear_constraints import Linear, as_typed
from .._problem.model_like import ModelLike
from .._problem.noise import AbstractNoise
from .._problem.options import Constraints
from .._problem.padding import longer_columns, longer_problem, may_grow, padded_length, padded_sides
from .._problem.problem import Problem
from .._problem.side_groups import Groups, laid_out
from .._search.levenberg_marquardt import LevenbergMarquardt
from .._search.minimise import Search, typed
from .._search.multistart import Multistart
from .._starts.declare import Declared, Setup, declare, set_up
from .._starts.guess import guess_starts
from .._statistics.solution import FitSolution
from ..basis import Model, sides_in, without_names

# Coordinates up to which bounds, infinite where there are none, cost no time that could be measured.
_ALWAYS_BOUNDED = 8


class Filled(NamedTuple):
    """Columns at more samples than there are data."""

    columns: Assembled
    length: int


@dataclasses.dataclass(frozen=True)
class Ready:
    """A fit that lacks its data.

    **Fields:** `declared`, the model, and `model`, its columns; `linear`, the rules for their coefficients; `setup`, parameters and
    their layout; `how` to search from `points`; and as the program takes them: `columns` at
    their x, and `filled` to the length of a program where that may be, `rules` and `coordinates` in the precision of the data; `moved`, the
    columns that must not be zero at the start; `mixed`, why right-hand sides cannot be compressed; `groups`,
    which of them have one basis.
    """

    declared: Declared
    model: Model
    linear: Linear
    setup: Setup
    how: Search
    points: np.ndarray
    columns: Assembled
    filled: Filled | None
    groups: Groups
    coordinates: Coordinates
    rules: Linear
    bounded: bool
    moved: np.ndarray
    mixed: str

    def as_given(self, data: Data, solution: FitSolution) -> "Ready | None":
        """The same fit, of the same program and from the optimum that was found, with amplitudes where the
        user wants them; None if they are there, or cannot be told there."""
        optimum = solution.optimum
        values = dict(zip(self.model.names, optimum.values, strict=True))
        again = self.declared.as_given(data.x, values)
        if again is None:
            return None
        made = _laid_out(again.model, self.setup, data)
        start = dataclasses.replace(self.coordinates, start=np.asarray(optimum.alpha, data.real))
        model, points = again.model, optimum.alpha[None]
        return dataclasses.replace(
            self, declared=again, model=model, points=points, coordinates=start, **made
        )

    def problem(self, data: Data, linear: Linear, more_sides: bool = True) -> Problem:
        """The problem with these data, and rules like those that were made ready; with `more_sides` filled
        up to the right-hand sides of a program."""
        rules = self.rules if linear is self.linear else as_typed(linear, data.real)
        if self.filled is None:
            given = data.column_weights, data.whitener, self.groups
            return Problem(self.columns, data.y, data.common, rules, *given)
        columns, length = self.filled
        more_sides = more_sides and not self.groups
        sides = padded_sides(data, rules) if more_sides else data.y.shape[1]
        problem = longer_problem(columns, data, rules, length, sides)
        return dataclasses.replace(problem, groups=self.groups) if self.groups else problem


@dataclasses.dataclass(frozen=True)
class _Kept:
    """What was made ready, and of what; that is held, so that nothing else takes its place."""

    of: tuple[Any, ...]
    x: list[np.ndarray]
    ready: Ready


_KEPT = Recalled(16)


def ready(
    model: ModelLike, data: Data, constraints: Constraints, search: Multistart, noise: AbstractNoise
) -> Ready:
    """The fit of a model to data of this x and shape."""
    of = model, constraints, search, noise
    kind = data.column_weights is None, data.whitener is None
    key = (*map(id, of), data.y.dtype, data.y.shape, data.num_rhs, *kind)
    places = data.names.numbers
    x = [*jax.tree.leaves(data.x), *([] if places is None else [places])]
    known: _Kept | None = _KEPT.get(key)
    if known is not None and _same(known.x, x):
        _check_determined(known.ready.setup, known.ready.model, known.ready.linear, data)
        return known.ready
    made, anew = _made(model, data, constraints, search, noise)
    if not anew:
        _KEPT.put(key, _Kept(of, [leaf.copy() for leaf in x], made))
    return made


def _same(old: list[np.ndarray], new: list[np.ndarray]) -> bool:
    pairs = zip(old, new, strict=False)
    return len(old) == len(new) and all(np.array_equal(a, b) for a, b in pairs)


def _check_determined(setup: Setup, built: Model, linear: Linear, data: Data) -> None:
    """Refuse fewer data than parameters."""
    nonlinear, columns = len(setup.layout.free), len(linear.sought or built.columns)
    check_enough(data, nonlinear, columns, linear)
    if not setup.priors:
        check_positions(data, built, nonlinear, columns, linear)


def _made(
    model: ModelLike, data: Data, constraints: Constraints, search: Multistart, noise: AbstractNoise
) -> tuple[Ready, bool]:
    """The fit made ready, and whether its starts are those of these data alone."""
    how = typed(search.local, data.real)
    declared = declare(model, data, constraints.init)
    built = declared.model
    constraints = constraints.split(built.names, built.columns)
    spec = constraints.coefficients

    def rules_of(built: Model) -> Linear:
        kind = np.iscomplexobj(data.y)
        return spec.rules(built.columns, data.num_rhs, built.order, kind, data.names.numbers)

    linear = rules_of(built)
    declared = declared.placed(data, linear)
    if declared.model is not built:
        built = declared.model
        linear = rules_of(built)
    check_areas(built, linear, data, noise)
    mixed = _why_not_compressed(built, linear, data, noise)
    if data.count is not None and mixed or search.compress and mixed:
        raise InputError(f"Right-hand sides cannot be compressed: {mixed}.", argument="compress")
    params = declared.params(constraints)
    setup = _set_up(declared, params, constraints, data, linear)
    free = setup.layout.free
    ours = isinstance(how.solver, LevenbergMarquardt)
    if not ours and setup.bounded:
        _refuse_bounds(how, setup)
    _check_determined(setup, built, linear, data)
    if search.starts == 1:
        check_distinct(built, setup.layout.source, setup.layout.free, setup.all_starts, data)
    made = Ready(
        declared=declared,
        model=built,
        linear=linear,
        setup=setup,
        how=how,
        points=search.points(setup.coordinates).astype(data.real),
        **_laid_out(built, setup, data),
        coordinates=setup.typed(data.real)[1],
        rules=as_typed(linear, data.real),
        bounded=setup.bounded or (ours and len(free) <= _ALWAYS_BOUNDED),
        # Of several starts another may do better.
        moved=built.moved_by(free) & (search.starts == 1),
        mixed=mixed,
    )
    return made, any(param.init is None for param in params.values())


def _refuse_bounds(how: Search, setup: Setup) -> None:
    """Say of which parameters a solver would not keep the bounds."""
    box, layout = setup.coordinates, setup.layout
    ends = zip(layout.free, np.asarray(box.lower), np.asarray(box.upper), strict=True)
    names = [
        f"'{layout.names[i]}' ({low:g} to {high:g})"
        for i, low, high in ends
        if np.isfinite(low) or np.isfinite(high)
    ]
    raise InputError(
        f"{type(how.solver).__name__} knows no bounds, and there are some of {', '.join(names)}: given ones, "
        "those of an order, or natural ones, as of widths. Use varpro.LevenbergMarquardt(), or hold these "
        "parameters with fix=.",
        argument="solver",
    )


class _LaidOut(TypedDict):
    columns: Assembled
    filled: Filled | None
    groups: Groups


def _laid_out(built: Model, setup: Setup, data: Data) -> _LaidOut:
    """The columns as the program takes them."""
    built, groups = laid_out(built, setup.layout, setup.starts)
    nameless = without_names(built), without_names(setup.layout)
    columns = Assembled(*nameless, setup.typed(data.real)[0], data.x, setup.priors)
    if not may_grow(data, columns):
        return {"columns": columns, "filled": None, "groups": groups}
    length = padded_length(len(data.y))
    filled = Filled(longer_columns(columns, data, length), length)
    return {"columns": columns, "filled": filled, "groups": groups}


def _set_up(
    declared: Declared, params: PyTree, constraints: Constraints, data: Data, linear: Linear
) -> Setup:
    return set_up(
        params,
        constraints,
        lambda params: guess_starts(declared.basis, params, data, constraints),
        # Rules for single coefficients tell components apart that are alike but for their names.
        () if linear.sought else declared.model.interchangeable,
        declared.lifetimes,
    )


def check_areas(built: Model, linear: Linear, data: Data, noise: AbstractNoise) -> None:
    """Refuse penalties that couple right-hand sides where these have no basis in common."""
    if linear.areas is None:
        return
    wrong = {
        "a response with dispersion": bool(sides_in(built)),
        "weights or masks that differ between right-hand sides": data.column_weights is not None,
        f"noise={noise.name!r}": noise.follows_model,
    }
    for what, met in wrong.items():
        if met:
            raise InputError(
                f"equal_areas= couples right-hand sides of one basis and does not go with {what}.",
                argument="equal_areas",
            )


def _why_not_compressed(built: Model, linear: Linear, data: Data, noise: AbstractNoise) -> str:
    """What keeps right-hand sides from being mixed; empty where nothing does."""
    if sides_in(built):
        return "their response has a dispersion, so that they have no basis in common"
    if data.column_weights is not None:
        return "their weights or masks differ, so that they have no basis in common"
    if linear.areas is not None:
        return "a penalty on their areas couples them"
    if linear.bounded:
        return "with bounds on coefficients each has its own set of active ones"
    if linear.real:
        return "real coefficients of complex data do not stay real in mixtures"
    if built.offsets or linear.constant is not None:
        return "a term without a coefficient is the same for all of them, not for their mixtures"
    if noise.follows_model:
        return f"noise={noise.name!r} weighs every value by itself"
    return ""
