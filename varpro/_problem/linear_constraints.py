"""What the linear coefficients may do: bounds, relations among them, penalties.

Of all N coefficients n are sought, c_all = constant + mix c. Penalties are further rows of the least
squares, `|| penalty c ||^2` on top of chi-square; bounds hold for c.

A relation that holds for some right-hand sides alone, c_b = f c_a there, is the same mixture for all of them,
c_b = f c_a + d, with d in place of c_b among those that are sought: held at zero where the relation holds, and
free elsewhere.
"""

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Inexact

from .._errors import InputError, suggestion
from .._given import arguments
from .._given.containers import real_numbers
from .._types import ArrayIn
from ..linalg import BoundedSides, bounded_sides_of
from .coefficient_bounds import Somewhere, held_within, refuse_bounds, through
from .equal_area import EqualArea, area_rows, as_equal_areas
from .within import Within

Strength = float | str


Penalties = Strength | Mapping[str, Strength]


Relation = float | str | Mapping[str, float] | Within


class Linear(eqx.Module):
    """Rules for the coefficients, arrays on the host; None where there is none.

    **Fields:** `mix` (N, n) and `constant` (N,) in the order in which the model computes its columns;
    `penalty` (l, n), its rows times the root of `strength`; `lower` and `upper`, (n, 1) or (n, k),
    with `sides` telling which coefficients have which; `sought`: indices of the n columns, of which one with a
    relation for some right-hand sides stands for what is added to that;
    `automatic`: whether the data tell the strength; `real`: whether coefficients of complex data are
    real; `areas` (l, n, k): what multiplies the coefficients in the residuals of penalties that couple
    right-hand sides.
    """

    mix: Float[ArrayIn, "N n"] | None = None
    constant: Float[ArrayIn, " N"] | None = None
    penalty: Float[ArrayIn, "l n"] | None = None
    strength: Float[ArrayIn, ""] | None = None
    lower: Float[ArrayIn, "n _"] | None = None
    upper: Float[ArrayIn, "n _"] | None = None
    sides: BoundedSides = eqx.field(static=True, default=())
    sought: tuple[int, ...] = eqx.field(static=True, default=())
    automatic: bool = eqx.field(static=True, default=False)
    real: bool = eqx.field(static=True, default=False)
    areas: Float[ArrayIn, "l n k"] | None = None

    def width(self, columns: int) -> int:
        """How many coefficients of that many columns are sought."""
        return columns if self.mix is None else self.mix.shape[1]

    def sought_of(self, coef: Inexact[np.ndarray, "N *k"]) -> Inexact[np.ndarray, "n *k"]:
        """Those that are sought from all, on the host."""
        if self.mix is None:
            return coef
        at = list(self.sought)
        inner, found = np.asarray(self.mix)[at], coef[at]
        # Relations for some right-hand sides alone make this no identity; no one follows another that follows.
        return found - (inner - np.eye(len(at), dtype=inner.dtype)) @ found

    @property
    def bounded(self) -> bool:
        """Whether any coefficient has a bound."""
        return self.lower is not None

    @property
    def rows(self) -> Float[ArrayIn, "l n"] | None:
        """The penalty as rows of the basis."""
        if self.penalty is None or self.strength is None:
            return None
        return self.penalty * self.strength**0.5

    def all_of(self, coef: Inexact[ArrayIn, "n *k"]) -> Inexact[ArrayIn, "N *k"]:
        """All coefficients from those that are sought."""
        if self.mix is None:
            return coef
        whole = self.mix @ coef
        if self.constant is None:
            return whole
        return whole + self.constant.reshape(-1, *([1] * (coef.ndim - 1)))


@dataclasses.dataclass(frozen=True)
class CoefficientSpec:
    """The rules in the words of the user, by names and patterns of columns."""

    nonnegative: bool | str | Sequence[str] = False
    bounds: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    relations: Mapping[str, Relation] = dataclasses.field(default_factory=dict)
    ridge: Penalties | None = None
    smooth: Mapping[str, Strength] | None = None
    real: bool = False
    areas: Sequence[EqualArea] = ()

    def __post_init__(self):
        asked = self.nonnegative
        asked = (
            bool(asked)
            if isinstance(asked, bool | np.bool_)
            else arguments.names("nonnegative", asked)
        )
        object.__setattr__(self, "nonnegative", asked)  # frozen
        object.__setattr__(self, "areas", as_equal_areas(self.areas))
        arguments.mapping("relations", self.relations, "{'b': {'a': 0.5}}")
        arguments.mapping("smooth", self.smooth, "{'e*': 1e-3}")
        if isinstance(self.ridge, Mapping):
            arguments.mapping("ridge", self.ridge, "{'e*': 1e-3}")
        for what, given in (("ridge", self.ridge), ("smooth", self.smooth)):
            for one in given.values() if isinstance(given, Mapping) else [given]:
                if isinstance(one, str) and one != "gcv":
                    message = f"{what}: expected a number or 'gcv', not {one!r}."
                    raise InputError(message, argument=what)
                if one is not None and not isinstance(one, str):
                    arguments.number(what, one)
        for name, relation in self.relations.items():
            relation = relation.relation if isinstance(relation, Within) else relation
            if isinstance(relation, str):
                continue
            parts = relation.values() if isinstance(relation, Mapping) else [relation]
            for part in parts:
                arguments.number(f"relations of '{name}'", part, "relations")
        arguments.flag("real_coefficients", self.real)

    @property
    def any(self) -> bool:
        """Whether anything is asked."""
        given = (self.nonnegative, self.bounds, self.relations, self.smooth, self.areas)
        return any(bool(one) for one in given) or self.ridge is not None

    @property
    def automatic(self) -> bool:
        """Whether the strength of the penalties is to be found in the data."""
        return "gcv" in self._strengths()

    def _strengths(self) -> list[Strength]:
        smooth = list((self.smooth or {}).values())
        if isinstance(self.ridge, Mapping):
            return [*self.ridge.values(), *smooth]
        return smooth if self.ridge is None else [self.ridge, *smooth]

    def rules(
        self,
        names: Sequence[str],
        k: int,
        order: Sequence[int],
        complex_: bool,
        labels: np.ndarray | None = None,
    ) -> Linear:
        """Checked, as arrays. `names` of the columns as the model computes them, `order` such that
        `names[order]` is the order of the user, k right-hand sides with numbers for `labels`."""
        real = self.real and complex_
        if not self.any:
            return Linear(real=real)
        numbers = self._numbers(names)
        if len(numbers) == len(names) and not (complex_ and not real):
            # What holds all of them leaves none to be found: each is one between equal bounds.
            box = self._box(names, k)
            for name, number, *given in zip(numbers, numbers.values(), *box, strict=True):
                if not (
                    np.isfinite(number) and np.all((given[0] <= number) & (number <= given[1]))
                ):
                    raise InputError(
                        f"relations: '{name}' is held at {number:g}, which is not finite, or not within its bounds.",
                        argument="relations",
                        name=name,
                    )
            ends = {name: (number, number) for name, number in numbers.items()}
            held = dataclasses.replace(self, nonnegative=False, bounds=ends, relations={})
            return held.rules(names, k, order, complex_)
        mix, constant, sought = self._mixed(names)
        lower, upper = self._box(names, k)
        somewhere = self._somewhere(names, k, labels)
        if somewhere and complex_ and not real:
            raise InputError(
                "relations: vp.Within is for real coefficients, and these are complex. Ask for real ones by "
                "real_coefficients=True, or fit those right-hand sides as a data set of their own.",
                argument="relations",
            )
        refuse_bounds(names, somewhere, lower, upper)
        lower, upper = through(lower, upper, mix, constant, sought, names)
        lower, upper = held_within(lower, upper, somewhere, sought)
        if np.isneginf(lower).all() and np.isposinf(upper).all():
            lower = upper = None
        elif complex_ and not real:
            raise InputError(
                "The coefficients are complex, and complex numbers have no order: leave nonnegative= "
                "and bounds of coefficients out, or ask for real ones by real_coefficients=True.",
                argument="nonnegative",
            )
        plain = len(sought) == len(names) and not np.any(mix - np.eye(len(names)))
        penalty = self._penalty(names, order)
        if penalty is not None and not plain:
            if constant.any() and (penalty @ constant).any():
                raise InputError(
                    "relations= to a number and a penalty cannot meet in one column.",
                    argument="relations",
                )
            penalty = penalty @ mix
        areas = area_rows(self.areas, names, k, labels)
        if areas is not None:
            self._check_areas(complex_, lower is not None)
            if (np.tensordot(areas, constant, ([1], [0])) != 0).any():
                raise InputError(
                    "relations= to a number and equal_areas= cannot meet in one column.",
                    argument="equal_areas",
                )
            areas = areas if plain else np.einsum("lNk,Nn->lnk", areas, mix)
        return Linear(
            None if plain else mix,
            constant if constant.any() else None,
            penalty,
            None if penalty is None else np.ones(()),
            lower,
            upper,
            () if lower is None else bounded_sides_of(lower, upper),  # pyright: ignore[reportArgumentType]
            tuple(sought),
            self.automatic,
            real,
            areas,
        )

    def _check_areas(self, complex_: bool, bounded: bool) -> None:
        """Refuse penalties that couple right-hand sides beside what takes each by itself."""
        wrong = {
            "coefficients that are complex": complex_,
            "bounds of coefficients, nonnegative=, and relations within wavelengths": bounded,
            "a penalty of strength 'gcv'": self.automatic,
        }
        for what, met in wrong.items():
            if met:
                raise InputError(
                    f"equal_areas= couples right-hand sides and does not go with {what}.",
                    argument="equal_areas",
                )

    def check(self, names: Sequence[str]) -> None:
        """Refuse patterns that match none of these columns."""
        for where, given in self._patterns():
            for pattern in given:
                columns(pattern, names, where)

    def among(self, names: Sequence[str]) -> "CoefficientSpec":
        """What concerns these columns."""
        kept = {
            where: [p for p in given if fnmatch.filter(names, p)]
            for where, given in self._patterns()
        }

        def some(where: str, given: Mapping) -> dict:
            return {p: given[p] for p in kept[where]}

        ridge = some("ridge", self.ridge) or None if isinstance(self.ridge, Mapping) else self.ridge
        asked = self.nonnegative if isinstance(self.nonnegative, bool) else kept["nonnegative"]
        return CoefficientSpec(
            asked,
            some("bounds", self.bounds),
            some("relations", self.relations),
            ridge,
            some("smooth", self.smooth or {}),
            self.real,
            tuple(a for a in self.areas if a.first in names and a.second in names),
        )

    def _patterns(self) -> list[tuple[str, list[str]]]:
        asked = self.nonnegative
        asked = (
            [] if isinstance(asked, bool) else [asked] if isinstance(asked, str) else list(asked)
        )
        ridge = list(self.ridge) if isinstance(self.ridge, Mapping) else []
        return [
            ("nonnegative", asked),
            ("bounds", list(self.bounds)),
            ("relations", list(self.relations)),
            ("ridge", ridge),
            ("smooth", list(self.smooth or {})),
            ("equal_areas", [name for a in self.areas for name in (a.first, a.second)]),
        ]

    def _numbers(self, names: Sequence[str]) -> dict[str, float]:
        """The coefficients that relations hold at a number."""
        found = {
            i: float(relation)
            for pattern, relation in self.relations.items()
            if not isinstance(relation, str | Mapping | Within)
            for i in columns(pattern, names, "relations")
        }
        return {names[i]: found[i] for i in sorted(found)}

    def _mixed(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Relations as `c_all = constant + mix c`."""
        wanted: dict[int, dict[str, float]] = {}
        within: set[int] = set()
        constant = np.zeros(len(names))
        for pattern, relation in self.relations.items():
            for i in columns(pattern, names, "relations"):
                if i in wanted:
                    raise InputError(
                        f"relations: '{names[i]}' has two.", argument="relations", name=names[i]
                    )
                if isinstance(relation, Within):
                    within.add(i)
                    relation = relation.relation
                    relation = relation if isinstance(relation, str | Mapping) else {}
                if isinstance(relation, str):
                    wanted[i] = {relation: 1.0}
                elif isinstance(relation, Mapping):
                    wanted[i] = {str(name): float(f) for name, f in relation.items()}
                else:
                    wanted[i], constant[i] = {}, float(relation)
                if not np.isfinite([constant[i], *wanted[i].values()]).all():
                    raise InputError(
                        f"relations: the numbers of '{names[i]}' must be finite.",
                        argument="relations",
                        name=names[i],
                    )
        sought = [i for i in range(len(names)) if i not in wanted or i in within]
        if not sought:
            raise InputError(
                "relations: no coefficient is left to be found. Numbers for all of them are for real "
                "coefficients: real_coefficients=True, or data that are real.",
                argument="relations",
            )
        mix = np.zeros((len(names), len(sought)))
        mix[sought, np.arange(len(sought))] = 1.0
        for i, parts in wanted.items():
            for name, factor in parts.items():
                (j,) = columns(name, names, "relations", one=True)
                if wanted.get(j) or (j in wanted and j not in within):
                    raise InputError(
                        f"relations: '{names[i]}' follows '{names[j]}', which follows others itself. "
                        "Name those instead.",
                        argument="relations",
                        name=names[i],
                    )
                mix[i, sought.index(j)] += factor
        return mix, constant, sought

    def _box(self, names: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (N, 1) or (N, k) of all coefficients."""
        width = 1
        for bound in self.bounds.values():
            width = k if any(arguments.axes_in(side) for side in bound) else width
        lower, upper = (np.full((len(names), width), side) for side in (-np.inf, np.inf))
        if self.nonnegative is not False:
            asked = ["*"] if self.nonnegative is True else self.nonnegative
            for pattern in [asked] if isinstance(asked, str) else asked:
                lower[columns(pattern, names, "nonnegative")] = 0.0
        for pattern, (low, high) in self.bounds.items():
            for i in columns(pattern, names, "bounds"):
                try:
                    low, high = (
                        np.broadcast_to(real_numbers("bounds", side).astype(float), (width,))
                        for side in (low, high)
                    )
                except InputError:
                    raise
                except ValueError as error:
                    raise InputError(
                        f"bounds of '{names[i]}': expected a number or {k} of them, one for each "
                        f"right-hand side; {error}.",
                        argument="bounds",
                        name=names[i],
                    ) from error
                if not np.all(low <= high) or np.any(low == np.inf) or np.any(high == -np.inf):
                    raise InputError(
                        f"Bounds must satisfy lower <= upper, but those of the coefficient "
                        f"'{names[i]}' do not."
                    )
                lower[i], upper[i] = np.maximum(lower[i], low), high
                if not np.all(lower[i] <= upper[i]):
                    raise InputError(
                        f"'{names[i]}' is asked to be nonnegative, but its upper bound is below zero.",
                        argument="nonnegative",
                    )
        return lower, upper

    def _somewhere(self, names: Sequence[str], k: int, labels: np.ndarray | None) -> Somewhere:
        found: Somewhere = {}
        for pattern, relation in self.relations.items():
            if not isinstance(relation, Within):
                continue
            inner = relation.relation
            number = None if isinstance(inner, str | Mapping) else float(inner)
            for i in columns(pattern, names, "relations"):
                if number is not None and not np.isfinite(number):
                    raise InputError(
                        f"relations: the numbers of '{names[i]}' must be finite.",
                        argument="relations",
                        name=names[i],
                    )
                found[i] = relation.chosen(names[i], k, labels), number
        return found

    def _penalty(self, names: Sequence[str], order: Sequence[int]) -> np.ndarray | None:
        """Rows (l, N) for a strength of one."""
        rows, n = [], len(names)
        ridge = self.ridge
        if ridge is not None and not isinstance(ridge, Mapping):
            ridge = {"*": ridge}
        for pattern, strength in (ridge or {}).items():
            for i in columns(pattern, names, "ridge"):
                rows.append(_root(strength, "ridge") * np.eye(n)[i])
        for pattern, strength in (self.smooth or {}).items():
            # Neighbours as the user has them.
            found = set(columns(pattern, names, "smooth"))
            inside = [i for i in order if i in found]
            if len(inside) < 3:
                raise InputError(
                    f"smooth: '{pattern}' stands for {len(inside)} columns, but a second difference "
                    "takes three.",
                    argument="smooth",
                    name=pattern,
                )
            for before, at, after in zip(inside, inside[1:], inside[2:], strict=False):
                row = np.zeros(n)
                row[[before, at, after]] = 1.0, -2.0, 1.0
                rows.append(_root(strength, "smooth") * row)
        if "gcv" in (given := self._strengths()) and any(s != "gcv" for s in given):
            raise InputError(
                "Either all penalties are given or all are 'gcv': one strength is found for all.",
                argument="ridge",
            )
        return np.stack(rows) if rows else None


def columns(pattern: str, names: Sequence[str], where: str, one: bool = False) -> list[int]:
    """Indices of the columns that a pattern means; at least one, or an error."""
    wanted = [pattern] if pattern in names else fnmatch.filter(names, pattern)
    if not wanted and pattern.endswith(".area"):
        stem = pattern.removesuffix(".area")
        raise InputError(
            f"{where}: '{pattern}' is no coefficient. Give the peak coefficient='area': '{stem}' is then its "
            "area, and relations are those of areas.",
            argument=where,
            name=pattern,
        )
    if not wanted or (one and len(wanted) != 1):
        raise InputError(
            f"{where}: no column '{pattern}'. {suggestion(pattern, names)}",
            argument=where,
            name=pattern,
        )
    return [names.index(name) for name in wanted]


def _root(strength: Strength, what: str) -> float:
    if strength == "gcv":
        return 1.0
    if isinstance(strength, str) or not 0.0 < strength < np.inf:
        raise InputError(
            f"{what} must be a positive number or 'gcv', not {strength!r}.", argument=what
        )
    return float(strength) ** 0.5


def as_typed(linear: Linear, real: np.dtype) -> Linear:
    """Rules as arrays in the precision of the data."""
    return jax.tree.map(lambda a: np.asarray(a, real), linear)
