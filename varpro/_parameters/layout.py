"""Nonlinear parameters: starts, bounds, fixed values, ties, order and priors.

A solver sees `alpha` (p,), the free coordinates alone. `Layout.values` turns them into all q
parameter values. Which parameters are free, tied or ordered is static; every number is an array, so
that new starts, bounds or fixed values never compile anew.
"""

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._errors import InputError, suggestion
from .._places import taken, with_values
from .._types import ArrayIn
from .expression import Tree, evaluated, names_in
from .inequality import Pivot, rows_of, triangular
from .param import Param
from .tie import TieLike, resolved


class Layout(eqx.Module):
    """How the free coordinates become all parameter values. All but the names is static.

    **Fields:**

    - `names`: the q parameter names.
    - `free`: indices of the p parameters that have a coordinate in `alpha`.
    - `source`: for each parameter, the index of the one whose value it takes (itself, if not tied; of
        several one that is free, if any is).
    - `formulas`: pairs of a parameter and the tree of the expression that it follows, in which
        the names are indices of parameters that are not tied.
    - `above`: for each parameter the index of the one it must not fall below, or -1; sorted so
        that `order` lists them parents first.
    - `has_ceiling`: whether an ordered parameter has a finite upper bound.
    - `ties`: for each parameter what it follows, as text; "" if it is not tied.
    - `pivots`: the fields of a `Pivot` each, for files know no others: parameters whose interval depends on others by inequalities, in the order in which their values
        are found; `inequalities`: what was asked, as text.
    - `exchange`: what `sorted_components` sorts: per chain of interchangeable components a row of positions
        in `alpha` for each of their parameters, the ordered one first.
    """

    names: tuple[str, ...]
    free: tuple[int, ...] = eqx.field(static=True)
    source: tuple[int, ...] = eqx.field(static=True)
    above: tuple[tuple[int, int], ...] = eqx.field(static=True)
    has_ceiling: tuple[bool, ...] = eqx.field(static=True)
    exchange: tuple[tuple[tuple[int, ...], ...], ...] = eqx.field(static=True, default=())
    ties: tuple[str, ...] = ()
    formulas: tuple[tuple[int, Tree], ...] = eqx.field(static=True, default=())
    pivots: tuple[tuple[Any, ...], ...] = eqx.field(static=True, default=())
    inequalities: tuple[str, ...] = ()

    def sorted_components(self, alpha: Float[Array, " p"]) -> Float[Array, " p"]:
        """`alpha` with interchangeable components in the order that was asked for."""
        for chain in self.exchange:
            block = np.array(chain)
            alpha = alpha.at[block].set(alpha[block][:, jnp.argsort(alpha[block[0]])])
        return alpha

    @property
    def selects(self) -> bool:
        """Whether every value is a coordinate or a constant, with no tie and no order."""
        return not self.chained and not self.tied

    @property
    def chained(self) -> bool:
        """Whether the interval of any value depends on another one, by order or by an inequality."""
        return bool(self.above or self.pivots)

    @property
    def dependents(self) -> set[int]:
        """The parameters whose coordinate is no value of theirs."""
        return {child for child, _ in self.above} | {Pivot(*pivot).index for pivot in self.pivots}

    @property
    def tied(self) -> bool:
        """Whether any value follows another."""
        return self.source != tuple(range(len(self.names)))

    def follows(self, i: int) -> str | None:
        """What parameter i is tied to, in words."""
        if self.source[i] == i:
            return None
        return self.ties[i] if self.ties else self.names[self.source[i]]

    def roots(self, i: int) -> set[int]:
        """The parameters from which parameter i takes its value."""
        return next((names_in(tree) for j, tree in self.formulas if j == i), {self.source[i]})

    def free_of(self, rows: Sequence[Collection[int]]) -> list[frozenset[int]]:
        """The free parameters from which each of these sets of parameters takes its values."""
        roots, free = [self.roots(i) for i in range(len(self.names))], frozenset(self.free)
        return [free & {root for i in row for root in roots[i]} for row in rows]

    def values(self, alpha: Float[Array, " p"], numbers: "Numbers") -> Float[Array, " q"]:
        """All q values for the free coordinates `alpha`.

        An ordered parameter b >= a has the coordinate d >= 0 in b = base + d, where base is a or
        b's own lower bound if that is higher; with a finite upper bound u it is the fraction d in
        [0, 1] of b = base + d (u - base). Likewise one whose ends inequalities give (`Pivot`).
        """
        full = jnp.asarray(numbers.start)
        full = with_values(full, self.free, alpha)
        for (upper, lower), ceiling in zip(self.above, self.has_ceiling, strict=True):
            base = jnp.maximum(full[lower], numbers.lower[upper])
            width = numbers.upper[upper] - base if ceiling else 1.0
            full = with_values(full, [upper], (base + full[upper] * width)[None])
        for pivot in (Pivot(*fields) for fields in self.pivots):
            full = with_values(full, [pivot.index], _between(pivot, full, numbers)[None])
        if not self.tied:
            return full
        full = taken(full, self.source) * numbers.scale + numbers.shift
        for i, tree in self.formulas:
            full = with_values(full, [i], jnp.asarray(evaluated(tree, full))[None])
        return full


class Numbers(eqx.Module):
    """The numbers of the q parameters that go with a `Layout`; a tied one has the value of its source
    times `scale` plus `shift`."""

    start: Float[ArrayIn, " q"]
    lower: Float[ArrayIn, " q"]
    upper: Float[ArrayIn, " q"]
    prior_mean: Float[ArrayIn, " q"]
    prior_sd: Float[ArrayIn, " q"]  # infinite: no prior
    scale: Float[ArrayIn, " q"]
    shift: Float[ArrayIn, " q"]
    slopes: Float[ArrayIn, "l q"] | None = None
    limits: Float[ArrayIn, " l"] | None = None


def _ends(pivot: Pivot, full: Array, numbers: "Numbers") -> tuple[Array, Array]:
    """The interval of a parameter, given those that are found before it."""
    low, high = jnp.asarray(numbers.lower)[pivot.index], jnp.asarray(numbers.upper)[pivot.index]
    if numbers.slopes is not None and numbers.limits is not None:
        forms = jnp.asarray(numbers.slopes) @ full + numbers.limits
        for i in pivot.floors:
            low = jnp.maximum(low, forms[i])
        for i in pivot.ceilings:
            high = jnp.minimum(high, forms[i])
    return low, high


def _between(pivot: Pivot, full: Array, numbers: "Numbers") -> Array:
    """The value of a parameter from its coordinate, which stands in its place."""
    low, high = _ends(pivot, full, numbers)
    d = full[pivot.index]
    if pivot.low and pivot.high:
        # From the nearer end, so that the other one is met exactly.
        return jnp.where(d < 0.5, low + d * (high - low), high - (1.0 - d) * (high - low))
    return high - d if pivot.high else low + d


class Coordinates(eqx.Module):
    """Start and bounds of the free coordinates `alpha`, as host arrays (p,)."""

    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def expand(pattern: str, names: Sequence[str], where: str) -> list[str]:
    """The names that a pattern such as `*.tau` stands for; at least one, or an error."""
    matches = [pattern] if pattern in names else fnmatch.filter(names, pattern)
    if not matches:
        # Patterns of the same form that do match are nearer to a mistyped one than whole names are.
        alternatives = {_like(pattern, name) for name in names} - {pattern}
        alternatives = alternatives if set(pattern) & set("*?[") and alternatives else names
        raise InputError(
            f"{where}: no parameter matches '{pattern}'. {suggestion(pattern, alternatives)}",
            argument=where,
            name=pattern,
        )
    return matches


def _like(pattern: str, name: str) -> str:
    """`name` with the wildcards of a pattern where it has them: "slow.*" for "slw.*"."""
    parts, words = pattern.split("."), name.split(".")
    if len(parts) != len(words):
        return name
    wild = [bool(set(part) & set("*?[")) for part in parts]
    return ".".join(p if w else word for p, w, word in zip(parts, wild, words, strict=True))


def build_layout(
    params: Mapping[str, Param],
    *,
    fix: Sequence[str] = (),
    tie: Mapping[str, TieLike] | None = None,
    order: Sequence[Sequence[str]] = (),
    inequalities: Sequence[str] = (),
    interchangeable: Sequence[Sequence[Sequence[int]]] = (),
) -> tuple[Layout, Numbers, Coordinates]:
    """Check the parameters and the constraints on them, and lay them out.

    `interchangeable` holds, for each formula of several components, a row of parameter indices for each of
    its parameters, one index per component.
    """
    names = tuple(params)
    index = {name: i for i, name in enumerate(names)}

    def locate(name: str, where: str) -> int:
        if name not in index:
            raise InputError(
                f"{where}: unknown parameter '{name}'. {suggestion(name, names)}",
                argument=where,
                name=name,
            )
        return index[name]

    fixed = {name for name, param in params.items() if param.fixed}
    for pattern in fix:
        fixed.update(expand(pattern, names, "fix"))

    ties, formulas, texts = resolved(tie or {}, names)
    trees = {index[name]: tree for name, tree in formulas.items()}
    source = [index[ties[name].name] for name in names]
    scale = np.array([ties[name].scale for name in names], dtype=float)
    shift = np.array([ties[name].shift for name in names], dtype=float)

    start = np.array([np.nan if p.init is None else float(p.init) for p in params.values()])
    lower = np.array([float(p.lower) for p in params.values()])
    upper = np.array([float(p.upper) for p in params.values()])
    for i, tree in trees.items():
        _check_formula(names[i], texts[names[i]], params[names[i]])
        roots = sorted(names_in(tree))
        source[i] = next((j for j in roots if names[j] not in fixed), roots[0])
    shared: dict[int, list[str]] = {}
    for i, j in enumerate(source):
        if i in trees:
            continue
        if i != j:
            # What a tied parameter must not leave, the one that it follows must not leave either.
            low, high = sorted((np.array([lower[i], upper[i]]) - shift[i]) / scale[i])
            lower[j], upper[j] = max(low, lower[j]), min(high, upper[j])
            shared.setdefault(j, []).append(names[i])
            if lower[j] > upper[j]:
                raise InputError(
                    f"tie: the bounds of '{names[i]}' and of '{names[j]}' have nothing in common.",
                    argument="tie",
                    name=names[i],
                )
    for i, name in enumerate(names):
        if source[i] != i:
            continue
        if np.isnan(start[i]):
            raise InputError(f"{name} has no start. Give one, such as init={{'{name}': 1.0}}.")
        if not lower[i] <= start[i] <= upper[i]:
            others = f" and those of {', '.join(shared[i])}" if i in shared else ""
            raise InputError(
                f"init for {name} = {start[i]:g} lies outside its bounds{others} "
                f"[{lower[i]:g}, {upper[i]:g}]."
            )
    start = np.where(np.isnan(start), start[source] * scale + shift, start)
    for i, tree in trees.items():
        with np.errstate(all="ignore"):
            start[i] = evaluated(tree, start, np)
        if not np.isfinite(start[i]):
            raise InputError(
                f"tie: '{names[i]}' = {texts[names[i]]} is {start[i]:g} at the start.",
                argument="tie",
                name=names[i],
            )

    above = _order_pairs(order, locate, names, start, source, fixed)
    free = [i for i, name in enumerate(names) if source[i] == i and name not in fixed]
    rows = rows_of(inequalities, names, (source, scale, shift), trees, free, start)
    named = set().union(*map(names_in, trees.values()))
    named |= {j for slopes, _ in rows for j in np.flatnonzero(slopes).tolist()}
    plain = {
        i
        for i in free
        if source.count(i) == 1 and i not in named and params[names[i]].prior is None
    }
    chains = [[index[name] for name in chain] for chain in order]
    exchange = _interchangeable(
        chains, interchangeable, plain, list(zip(lower, upper, strict=True))
    )
    above = [pair for pair in above if not any(pair[0] in block[0] for block in exchange)]
    slopes = limits = None
    pivots: tuple[Pivot, ...] = ()
    if rows:
        # What is ordered is an inequality, too: of both there is one system.
        for child, parent in above:
            row = np.zeros(len(names))
            moving = parent in free
            row[child] = -1.0
            if moving:
                row[parent] = 1.0
            rows.append((row, 0.0 if moving else -start[parent]))
        above = []
        pivots, slopes, limits, lower, upper = triangular(rows, lower, upper, start)
        for i in free:
            gap = 1e-12 * max(1.0, abs(start[i]))
            if not lower[i] - gap <= start[i] <= upper[i] + gap:
                raise InputError(
                    f"inequalities: with the bounds they leave [{lower[i]:g}, {upper[i]:g}] for "
                    f"'{names[i]}', whose start is {start[i]:g}.",
                    argument="inequalities",
                    name=names[i],
                )
            start[i] = np.clip(start[i], lower[i], upper[i])
    for child, parent in above:
        upper[parent] = min(upper[parent], upper[child])
        lower[child] = max(lower[child], lower[parent])
    coordinate, low, high = start.copy(), lower.copy(), upper.copy()
    ceiling = []
    for pivot in pivots:
        assert slopes is not None and limits is not None
        i, forms = pivot.index, slopes @ start + limits
        bottom = max([lower[i], *forms[list(pivot.floors)]])
        top = min([upper[i], *forms[list(pivot.ceilings)]])
        low[i], high[i] = 0.0, np.inf
        if pivot.low and pivot.high:
            high[i] = 1.0
            coordinate[i] = (start[i] - bottom) / (top - bottom) if top > bottom else 0.0
        else:
            coordinate[i] = start[i] - bottom if pivot.low else top - start[i]
        coordinate[i] = np.clip(coordinate[i], low[i], high[i])
    for child, parent in above:
        base = max(start[parent], lower[child])
        finite = bool(np.isfinite(upper[child]))
        width = upper[child] - base if finite else 1.0
        coordinate[child] = (start[child] - base) / width if width > 0 else 0.0
        low[child], high[child] = 0.0, 1.0 if finite else np.inf
        ceiling.append(finite)

    priors = [p.prior or (0.0, np.inf) for p in params.values()]
    places = tuple(tuple(tuple(map(free.index, row)) for row in block) for block in exchange)
    follows = tuple(
        "" if source[i] == i else texts.get(name) or ties[name].text for i, name in enumerate(names)
    )
    layout = Layout(
        *(names, tuple(free), tuple(source), tuple(above), tuple(ceiling), places, follows),
        *(tuple(trees.items()), tuple(map(tuple, pivots)), tuple(inequalities)),
    )
    numbers = Numbers(
        coordinate,
        lower,
        upper,
        np.array([mean for mean, _ in priors], dtype=float),
        np.array([sd for _, sd in priors], dtype=float),
        *(scale, shift, slopes, limits),
    )
    return layout, numbers, Coordinates(coordinate[free], low[free], high[free])


def _check_formula(name: str, text: str, param: Param) -> None:
    """Refuse bounds of what follows an expression, but for that of what has no sign."""
    if param.lower not in (-np.inf, 0.0) or param.upper not in (np.inf, 0.0):
        raise InputError(
            f"tie: '{name}' follows {text} and has the bounds [{param.lower:g}, {param.upper:g}], which "
            "cannot be kept. Bound the parameters that it follows.",
            argument="tie",
            name=name,
        )


def _interchangeable(
    chains: Sequence[Sequence[int]],
    interchangeable: Sequence[Sequence[Sequence[int]]],
    plain: set[int],
    box: Sequence[tuple[float, float]],
) -> list[list[list[int]]]:
    """For each chain of components that differ by nothing but their names: the indices of all their
    parameters, a row for each, the ordered one first.

    Such a chain is sorted once the optimum is found. As a constraint it would hold the search where
    two components meet: by symmetry no gradient leads away from there.
    """
    blocks = []
    for chain in chains:
        others = {i for other in chains if other is not chain for i in other}
        for rows in interchangeable:
            for first in rows:
                if not set(chain) <= set(first):
                    continue
                members = [list(first).index(i) for i in chain]
                rest = [row for row in rows if row is not first]
                block = [[row[j] for j in members] for row in (first, *rest)]
                if all(
                    plain.issuperset(row) and not others.intersection(row) for row in block
                ) and all(len({box[i] for i in row}) == 1 for row in block):
                    blocks.append(block)
    return blocks


def _order_pairs(order, locate, names, start, source, fixed) -> list[tuple[int, int]]:
    """(higher, lower) index pairs of chains such as ("fast.tau", "slow.tau"), parents first."""
    above: dict[int, int] = {}
    for chain in order:
        if isinstance(chain, str) or len(chain) < 2:
            raise InputError(
                f"order: expected a chain of at least two names, but got {chain!r}.",
                argument="order",
            )
        for small, large in zip(chain[:-1], chain[1:], strict=True):
            parent, child = locate(small, "order"), locate(large, "order")
            for i in (parent, child):
                if source[i] != i:
                    raise InputError(
                        f"order: '{names[i]}' is tied and cannot be ordered too.",
                        argument="order",
                        name=names[i],
                    )
            if names[child] in fixed:
                raise InputError(
                    f"order: '{names[child]}' is fixed. Put an upper bound on '{names[parent]}'.",
                    argument="order",
                    name=names[child],
                )
            if child in above:
                raise InputError(
                    f"order: '{names[child]}' stands above two parameters.",
                    argument="order",
                    name=names[child],
                )
            if start[child] <= start[parent]:
                raise InputError(
                    f"order: the start of '{names[parent]}' ({start[parent]:g}) must be below "
                    f"that of '{names[child]}' ({start[child]:g}).",
                    argument="order",
                    name=names[child],
                )
            above[child] = parent
    pairs, placed = [], set()
    while len(pairs) < len(above):
        for child, parent in above.items():
            if child not in placed and (parent not in above or parent in placed):
                placed.add(child)
                pairs.append((child, parent))
                break
    return pairs
