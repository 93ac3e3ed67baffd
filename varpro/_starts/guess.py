"""Starts for the parameters that have none, from the data, on the host.

Every basis that can offers candidates for what is left out (`AbstractBasis.candidates`), and
`DictionarySearch` chooses among them by the data, condensed to some rows. Here is what surrounds that:
which parameters lack a start, their intervals by bounds, ties and order, and which component gets what.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._parameters.layout import expand
from .._parameters.param import Param
from .._parameters.tie import Tie, resolved
from .._problem.data import Data
from .._problem.options import NONE, Constraints
from .._programs.program import program
from .._types import ArrayIn
from ..basis import (
    AbstractBasis,
    Constant,
    Offset,
    Polynomial,
    Sum,
    at_side,
    sides_in,
    without_names,
)
from .components import Box, Components, SoughtComponent, Values, on_host
from .dictionary import DictionarySearch
from .periodogram import WaveSearch

# Samples are averaged into at most about this many rows, right-hand sides condensed into this many.
_ROWS, _COLUMNS = 600, 12
# What growth must leave of the sum of squares that decays leave.
_MUCH_LESS = 0.8

Chains = Sequence[Sequence[str]]


# Candidates may lie anywhere; those whose columns are not finite are dropped.
@np.errstate(all="ignore")
def guess_starts(
    basis: AbstractBasis,
    params: Mapping[str, Param],
    data: Data,
    constraints: Constraints = NONE,
) -> dict[str, Param]:
    """Return `params` with a start for each that had none, as far as the bases know how to find one.

    Starts lie inside bounds, increase along `order`, and differ for components that differ in their
    names alone. `params` come back as they are if one without a start is held or belongs to a function
    of the user's, and if ties cannot be followed, which is refused later.
    """
    params, order = dict(params), constraints.order
    if sides_in(basis):
        basis, data = _without_dispersion(basis, params, data)
    try:
        targets = resolved(constraints.tie, tuple(params)).ties
    except InputError:
        return params  # refused later
    missing = {target.name for target in targets.values() if params[target.name].init is None}
    held = {name for pattern in constraints.fix for name in expand(pattern, tuple(params), "fix")}
    if not missing or any(params[name].fixed or name in held for name in missing):
        return params
    if not isinstance(data.x, np.ndarray) or data.x.ndim != 1 or np.iscomplexobj(data.x):
        return params
    boxes = _boxes(params, targets, order)
    allowed = dict(boxes)
    if any(lower > upper for lower, upper in boxes.values()):
        return params
    parts = _parts_of(basis)
    sought = [
        part
        for part in parts
        if part.finds_start
        and missing.intersection(targets[part.parameter_name(k)].name for k in part.parameters)
    ]
    known = [
        part
        for part in parts
        if missing.isdisjoint(targets[part.parameter_name(k)].name for k in part.parameters)
    ]
    rows = _Rows(data)
    if not sought or np.unique(rows.x).size < 3:
        return params
    known_values = {n: _tied_value(s, params[s.name].init) for n, s in targets.items()}
    # First as if nothing were tied; then what components share is held at the median of their candidates.
    for _ in range(2):
        slots = [
            SoughtComponent(
                part,
                {k: _tied_box(targets[part.parameter_name(k)], boxes) for k in part.parameters},
            )
            for part in sought
        ]
        estimate = _sorted_estimate(
            slots, _sought_values(slots, known, known_values, data, rows), order
        )
        candidates: dict[str, list[float]] = {name: [] for name in missing}
        for slot, values in zip(slots, estimate, strict=True):
            for local, value in (values or {}).items():
                target = targets[slot.part.parameter_name(local)]
                candidates.setdefault(target.name, []).append((value - target.shift) / target.scale)
        shared = [
            name
            for name in missing
            if len(candidates[name]) > 1 and boxes[name][0] < boxes[name][1]
        ]
        for name in shared:
            middle = float(np.clip(np.median(candidates[name]), *boxes[name]))
            boxes[name] = middle, middle
        if not shared:
            break
    starts = {name: candidates[name][0] for name in missing if candidates[name]}
    _set_apart(starts, allowed)
    _increase(starts, params, boxes, order)
    for name, start in starts.items():
        param = params[name]
        params[name] = dataclasses.replace(param, init=start)
    return params


def _without_dispersion(
    basis: AbstractBasis, params: Mapping[str, Param], data: Data
) -> tuple[AbstractBasis, Data]:
    """The basis of the right-hand side in the middle of a dispersion, and data with the time zero of all of
    them moved to its."""
    part = next(one for one in _parts_of(basis) if sides_in(one))
    (sides, *_) = sides_in(part)
    later = np.asarray(sides.delay, float).copy()
    for key in part.parameters:
        name, _, power = key.rpartition(".")[2].rpartition("_dispersion")
        if name in ("center", "shift") and power.isdigit():
            start = params[part.parameter_name(key)].init or 0.0
            later += start * np.asarray(sides.distance, float) ** int(power)
    middle = int(np.argmin(np.abs(later - np.median(later))))
    if isinstance(data.x, np.ndarray) and data.x.ndim == 1 and not np.iscomplexobj(data.x):
        order = np.argsort(data.x, kind="stable")
        x, y = data.x[order], data.y[order]
        moved = [
            np.interp(data.x + delay - later[middle], x, y[:, j]) for j, delay in enumerate(later)
        ]
        data = dataclasses.replace(data, y=np.stack(moved, axis=1).astype(data.y.dtype))
    return at_side(basis, middle), data


def _parts_of(basis: AbstractBasis) -> tuple[AbstractBasis, ...]:
    return basis.parts if isinstance(basis, Sum) else (basis,)


def _set_apart(starts: dict[str, float], boxes: Mapping[str, tuple[float, float]]) -> None:
    """Components that would start on one spot, such as two whose best values lie beyond one bound, begin
    beside each other: from there no search could part them."""
    components: dict[str, dict[str, float]] = {}
    for name, start in starts.items():
        component, _, local = name.rpartition(".")
        components.setdefault(component, {})[local] = start
    seen: list[dict[str, float]] = []
    for component, values in components.items():
        if "center" in values:  # peaks are where they are, as wide as they may be
            values = {"center": values["center"]}
        while values in seen:
            local = next(iter(values))
            low, high = boxes[f"{component}.{local}"]
            value = values[local]
            below, above = value - 0.1 * abs(value), value + 0.1 * abs(value)
            moved = below if below >= low else above if above <= high else 0.5 * (low + high)
            if not np.isfinite(moved) or moved == value:
                break
            values[local] = starts[f"{component}.{local}"] = moved
        seen.append(dict(values))


def _sought_values(
    slots: Sequence[SoughtComponent],
    known: Sequence[AbstractBasis],
    given: Mapping[str, float | None],
    data: Data,
    rows: "_Rows",
) -> list[Values | None]:
    """Seek values for every slot: decays and peaks first, then waves in what those leave, and decays
    and peaks once more without the waves."""
    estimate: list[Values | None] = [None] * len(slots)
    groups = [[i for i, s in enumerate(slots) if s.part.wave == wave] for wave in (False, True)]
    sequence = [0, 1, 0] if all(groups) else [1] if groups[1] else [0]
    for group in sequence:
        group_slots = [slots[i] for i in groups[group]]
        # An average over neighbours would leave nothing of a wave.
        group_rows = _Rows(data, data.x.size) if group else rows
        parts, starts = list(known), dict(given)
        for i in groups[1 - group]:
            if (values := estimate[i]) is not None:
                parts.append(slots[i].part)
                starts |= {slots[i].part.parameter_name(k): v for k, v in values.items()}
        known_part = _known_columns(parts, starts, data, group_rows)
        if group:
            new = WaveSearch(group_slots, group_rows.x, group_rows.scale, *known_part).solve()
        else:
            new = _chosen(group_slots, group_rows, *known_part)
        for i, values in zip(groups[group], new, strict=True):
            estimate[i] = values
    return estimate


def _chosen(
    slots: Sequence[SoughtComponent], rows: "_Rows", q: np.ndarray, y: np.ndarray
) -> list[Values | None]:
    """Values for every slot from candidates that decay or are peaks, and with those that grow where that
    leaves much less."""
    components = Components(slots, rows.x, rows.scale, q, y)
    search = DictionarySearch(components)
    new = search.solve()
    if not (search.open and components.may_grow):
        return new
    growth = DictionarySearch(Components(slots, rows.x, rows.scale, q, y, growth=True))
    other = growth.solve()
    return other if growth.cost < _MUCH_LESS * search.cost else new


def _tied_value(tie: Tie, value: float | None) -> float | None:
    """Value of a tied parameter, `scale * value + shift`, from the one that the tie names."""
    return None if value is None else tie.scale * value + tie.shift


def _tied_box(tie: Tie, boxes: Mapping[str, Box]) -> Box:
    """Interval of a tied parameter, from that of the one that the tie names."""
    low, high = sorted(tie.scale * end + tie.shift for end in boxes[tie.name])
    return low, high


def _boxes(
    params: Mapping[str, Param], targets: Mapping[str, Tie], order: Chains
) -> dict[str, Box]:
    """Interval of the start of each parameter: inside its bounds and those of the parameters tied to
    it, above and below its neighbours in a chain, and within two deviations of its prior's mean."""
    boxes = {}
    for name, param in params.items():
        tied = [(s, params[other]) for other, s in targets.items() if s.name == name]
        ends = [
            sorted((float(end) - s.shift) / s.scale for end in (p.lower, p.upper)) for s, p in tied
        ]
        lower = max((low for low, _ in ends), default=-np.inf)
        upper = min((high for _, high in ends), default=np.inf)
        given = param.init
        if given is None and param.prior is not None:
            mean, sd = param.prior
            interval = max(lower, mean - 2 * sd), min(upper, mean + 2 * sd)
            lower, upper = interval if interval[0] < interval[1] else (lower, upper)
        boxes[name] = (lower, upper) if given is None else (float(given), float(given))
    for chain in order:
        known = [name for name in chain if name in boxes]
        for names, end in ((known, 0), (known[::-1], 1)):
            for before, name in zip(names[:-1], names[1:], strict=True):
                box = list(boxes[name])
                limit = (max, min)[end](box[end], boxes[before][end])
                if boxes[name][0] < boxes[name][1] and (limit < box[1], limit > box[0])[end]:
                    box[end] = limit
                    boxes[name] = (box[0], box[1])
    return boxes


class _Rows:
    """Samples in use, weighted, as at most about `num_rows` rows, averages over neighbours.

    An average over a bin is the projection on what is constant there: rows are weighted sums
    `sum w_i^2 a_i / sqrt(sum w_i^2)`. Bins hold equally many samples, but grow with the distance
    from the first where that makes them smaller, for what decays there.
    """

    def __init__(self, data: Data, num_rows: int = _ROWS):
        keep = np.flatnonzero(data.keep if data.keep.ndim == 1 else data.keep.any(axis=1))
        x = data.x[keep].astype(float)
        m = keep.size
        weights = np.ones(m)
        if data.weights is not None:
            # Where right-hand sides differ in them, their root mean square will do.
            squares = data.weights[keep].reshape(m, -1).astype(float) ** 2
            weights = np.sqrt(squares.mean(axis=1))
        self.index, self.edges = keep, None
        self.x, self.weights, self.scale = x, weights, weights
        if m > num_rows:
            by_x = np.argsort(x, kind="stable")
            half = num_rows // 2
            edges = np.r_[np.linspace(0, m, half + 1), np.geomspace(1, m, half)].astype(int)
            self.edges = np.unique(edges[edges < m])
            self.index, self.weights = keep[by_x], weights[by_x]
            square = np.add.reduceat(self.weights**2, self.edges)
            self.x = np.add.reduceat(self.weights**2 * x[by_x], self.edges) / square
            self.scale = np.sqrt(square)

    def average(self, a: np.ndarray) -> np.ndarray:
        """Average columns of all samples (m, n) into weighted rows (rows, n)."""
        a = a[self.index]
        if self.edges is None:
            return a * self.weights[:, None]
        total = np.add.reduceat(a * self.weights[:, None] ** 2, self.edges, axis=0)
        return total / self.scale[:, None]


def _known_columns(
    known: Sequence[AbstractBasis],
    starts: Mapping[str, float | None],
    data: Data,
    rows: _Rows,
) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal basis (rows, l) of the columns of components that have starts, and the data
    (rows, at most 12) with these projected out; offsets are subtracted from the data."""
    y = data.y.astype(np.result_type(data.y, float))
    blocks = [np.zeros((rows.x.size, 0))]
    for part in known:
        values = {k: np.array([starts[part.parameter_name(k)]], float) for k in part.parameters}
        if part.elementwise:
            with np.errstate(all="ignore"):
                blocks.append(on_host(part, rows.x, values) * rows.scale[:, None])
            continue
        if isinstance(part, Constant | Polynomial):
            columns = on_host(part, data.x, values)
        else:
            scalars = {k: v[0].astype(data.real) for k, v in values.items()}
            columns = np.asarray(_evaluate(without_names(part), data.x, scalars))
        if isinstance(part, Offset):
            y = y - columns
        else:
            blocks.append(rows.average(columns))
    columns = np.concatenate(blocks, axis=1)
    size = np.linalg.norm(columns, axis=0)
    usable = np.isfinite(size) & (size > 0)
    q = np.linalg.qr(columns[:, usable] / size[usable])[0]
    y = rows.average(y)
    y = y / (np.abs(y).max() or 1.0)
    return q, _condensed(y - q @ (q.conj().T @ y))


@program
def _evaluate(part: AbstractBasis, x: PyTree, values: dict[str, ArrayIn]) -> PyTree:
    """Evaluate a component under jit: columns (m, n) for one value of each parameter."""
    return part.evaluate(x, values)


def _condensed(y: np.ndarray) -> np.ndarray:
    """Leading left singular vectors of Y times their singular values, (m, at most 12), by random
    projection with one power iteration (Halko, Martinsson and Tropp 2011)."""
    if y.shape[1] <= _COLUMNS:
        return y
    sketch = y @ np.random.default_rng(0).normal(size=(y.shape[1], _COLUMNS + 4))
    q = np.linalg.qr(y @ (y.conj().T @ sketch))[0]
    u, s, _ = np.linalg.svd(q.conj().T @ y, full_matrices=False)
    return (q @ u[:, :_COLUMNS]) * s[:_COLUMNS]


def _sorted_estimate(
    slots: Sequence[SoughtComponent], estimate: list[Values | None], order: Chains
) -> list[Values | None]:
    """Deal the values out among components of one formula so that they increase.

    Where a box forbids that, they are dealt out only among components whose boxes are equal.
    """
    formulas: dict[object, list[int]] = {}
    for i, slot in enumerate(slots):
        if estimate[i]:
            formulas.setdefault(slot.formula, []).append(i)
    estimate = list(estimate)
    for members in formulas.values():
        kinds: dict[object, list[int]] = {}
        for i in members:
            kinds.setdefault(slots[i].kind, []).append(i)
        if not _deal(slots, estimate, members, order):
            for kind_members in kinds.values():
                _deal(slots, estimate, kind_members, order)
    return estimate


def _deal(
    slots: Sequence[SoughtComponent],
    estimate: list[Values | None],
    members: list[int],
    order: Chains,
) -> bool:
    """Deal the values of `members` in order, in place; return False, and change nothing, if one would
    leave its box."""
    first = slots[members[0]]
    key, sign = next(iter(first.box)), 1.0
    if not first.part.wave:
        grid = first.part.candidates(
            np.linspace(1.0, 2.0, 9), dict.fromkeys(first.box, (-np.inf, np.inf))
        )
        sign = 1.0 if grid[key][0] <= grid[key][-1] else -1.0
    sequence = list(members)
    for chain in order:
        for local in first.box:
            names = {slots[i].part.parameter_name(local): i for i in members}
            chain_slots = [names[name] for name in chain if name in names]
            if len(chain_slots) > 1:
                key, sign = local, 1.0
                positions = sorted(sequence.index(i) for i in chain_slots)
                for position, i in zip(positions, chain_slots, strict=True):
                    sequence[position] = i
    values = sorted((v for i in members if (v := estimate[i])), key=lambda v: sign * v[key])
    for i, value in zip(sequence, values, strict=True):
        if any(not lo <= value[k] <= hi for k, (lo, hi) in slots[i].box.items()):
            return False
    for i, value in zip(sequence, values, strict=True):
        estimate[i] = value
    return True


def _increase(
    starts: dict[str, float], params: Mapping[str, Param], boxes: Mapping[str, Box], order: Chains
) -> None:
    """Move starts that do not increase along a chain, in place: by a tenth, inside their boxes."""
    known = {name: param.init for name, param in params.items() if param.init is not None}
    for chain in order:
        for small, large in zip(chain[:-1], chain[1:], strict=True):
            a, b = ({**known, **starts}.get(name) for name in (small, large))
            if a is None or b is None or a < b:
                continue
            if large in starts:
                b = float(np.clip(a + 0.1 * abs(a) + 1e-3 * (a == 0), *boxes[large]))
                starts[large] = b
            if small in starts and not a < b:
                starts[small] = float(np.clip(b - 0.1 * abs(b) - 1e-3 * (b == 0), *boxes[small]))
