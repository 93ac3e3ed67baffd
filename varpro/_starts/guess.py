"""Starts for the parameters that have none, from the data, on the host.

Every basis that can offers candidates for what is left out (`AbstractBasis.candidates`), and
`Pursuit` chooses among them by the data, condensed to some rows. Here is what surrounds that: which
parameters lack a start, where bounds, ties and order let it be, and which component gets what.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import equinox as eqx
import numpy as np
from jaxtyping import PyTree

from .._errors import InputError
from .._parameters.layout import expand
from .._parameters.param import Param
from .._parameters.tie import Tie, followed
from .._problem.data import Data
from .._problem.options import NONE, Constraints
from .._types import ArrayIn
from ..basis import AbstractBasis, Constant, Offset, Polynomial, Sum, without_names
from .components import Box, Components, SoughtComponent, Values, on_host
from .dictionary import Pursuit
from .periodogram import Waves

# Samples are averaged into at most about this many rows, right-hand sides condensed into this many.
_ROWS, _SIDES = 600, 12

Chains = Sequence[Sequence[str]]


def guess_starts(
    basis: AbstractBasis,
    params: Mapping[str, Param],
    data: Data,
    constraints: Constraints = NONE,
) -> dict[str, Param]:
    """`params` with a start for each that had none, as far as the bases know how to find one.

    Starts lie inside bounds, increase along `order`, and differ for components that differ in their
    names alone. A parameter that is held, or one of a function of the user's, stays without.
    """
    params, order = dict(params), constraints.order
    try:
        source = followed(constraints.tie, tuple(params))
    except InputError:
        return params  # refused later
    missing = {one.name for one in source.values() if params[one.name].init is None}
    held = {name for pattern in constraints.fix for name in expand(pattern, tuple(params), "fix")}
    if not missing or any(params[name].fixed or name in held for name in missing):
        return params
    if not isinstance(data.x, np.ndarray) or data.x.ndim != 1 or np.iscomplexobj(data.x):
        return params
    boxes = _boxes(params, source, order)
    if any(lower > upper for lower, upper in boxes.values()):
        return params
    parts = basis.parts if isinstance(basis, Sum) else (basis,)
    wanting = [
        part
        for part in parts
        if part.finds_start
        and missing.intersection(source[part.parameter_name(k)].name for k in part.parameters)
    ]
    known = [
        part
        for part in parts
        if missing.isdisjoint(source[part.parameter_name(k)].name for k in part.parameters)
    ]
    rows = _Rows(data)
    if not wanting or np.unique(rows.x).size < 3:
        return params
    given = {n: _through(s, params[s.name].init) for n, s in source.items()}
    # First as if nothing were tied; then what components share is held at the middle of their wishes.
    for _ in range(2):
        slots = [
            SoughtComponent(
                part, {k: _box(source[part.parameter_name(k)], boxes) for k in part.parameters}
            )
            for part in wanting
        ]
        found = _in_order(slots, _solved(slots, known, given, data, rows), order)
        wishes: dict[str, list[float]] = {name: [] for name in missing}
        for slot, values in zip(slots, found, strict=True):
            for local, value in (values or {}).items():
                one = source[slot.part.parameter_name(local)]
                wishes.setdefault(one.name, []).append((value - one.shift) / one.scale)
        shared = [
            name for name in missing if len(wishes[name]) > 1 and boxes[name][0] < boxes[name][1]
        ]
        for name in shared:
            middle = float(np.clip(np.median(wishes[name]), *boxes[name]))
            boxes[name] = middle, middle
        if not shared:
            break
    starts = {name: wishes[name][0] for name in missing if wishes[name]}
    _increase(starts, params, boxes, order)
    for name, start in starts.items():
        old = params[name]
        params[name] = dataclasses.replace(old, init=start)
    return params


def _solved(
    slots: Sequence[SoughtComponent],
    known: Sequence[AbstractBasis],
    given: Mapping[str, float | None],
    data: Data,
    rows: "_Rows",
) -> list[Values | None]:
    """Values for every slot: decays and peaks first, then waves in what those leave, and the first
    once more without the waves."""
    found: list[Values | None] = [None] * len(slots)
    groups = [[i for i, s in enumerate(slots) if s.part.wave == wave] for wave in (False, True)]
    turns = [0, 1, 0] if all(groups) else [1] if groups[1] else [0]
    for turn in turns:
        mine = [slots[i] for i in groups[turn]]
        # An average over neighbours would leave nothing of a wave.
        seen = _Rows(data, data.x.size) if turn else rows
        parts, starts = list(known), dict(given)
        for i in groups[1 - turn]:
            if (values := found[i]) is not None:
                parts.append(slots[i].part)
                starts |= {slots[i].part.parameter_name(k): v for k, v in values.items()}
        fixed = _known_columns(parts, starts, data, seen)
        if turn:
            new = Waves(mine, seen.x, seen.scale, *fixed).solve()
        else:
            new = Pursuit(Components(mine, seen.x, seen.scale, *fixed)).solve()
        for i, values in zip(groups[turn], new, strict=True):
            found[i] = values
    return found


def _through(tie: Tie, value: float | None) -> float | None:
    """What follows from a value of the parameter that a tie names."""
    return None if value is None else tie.scale * value + tie.shift


def _box(tie: Tie, boxes: Mapping[str, Box]) -> Box:
    low, high = sorted(tie.scale * end + tie.shift for end in boxes[tie.name])
    return low, high


def _boxes(params: Mapping[str, Param], source: Mapping[str, Tie], order: Chains) -> dict[str, Box]:
    """Where each parameter may start: inside its bounds and those of what is tied to it, above and
    below its neighbours in a chain, and near the mean of its prior."""
    boxes = {}
    for name, param in params.items():
        tied = [(s, params[other]) for other, s in source.items() if s.name == name]
        ends = [
            sorted((float(end) - s.shift) / s.scale for end in (p.lower, p.upper)) for s, p in tied
        ]
        lower = max((low for low, _ in ends), default=-np.inf)
        upper = min((high for _, high in ends), default=np.inf)
        given = param.init
        if given is None and param.prior is not None:
            mean, sd = param.prior
            near = max(lower, mean - 2 * sd), min(upper, mean + 2 * sd)
            lower, upper = near if near[0] < near[1] else (lower, upper)
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
    """Samples in use, weighted; many neighbours are averaged into one row.

    An average over a bin is the projection on what is constant there: rows are weighted sums
    `sum w_i^2 a_i / sqrt(sum w_i^2)`. Bins hold equally many samples, but grow with the distance
    from the first where that makes them smaller, for what decays there.
    """

    def __init__(self, data: Data, most: int = _ROWS):
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
        if m > most:
            by_x = np.argsort(x, kind="stable")
            half = most // 2
            edges = np.r_[np.linspace(0, m, half + 1), np.geomspace(1, m, half)].astype(int)
            self.edges = np.unique(edges[edges < m])
            self.index, self.weights = keep[by_x], weights[by_x]
            square = np.add.reduceat(self.weights**2, self.edges)
            self.x = np.add.reduceat(self.weights**2 * x[by_x], self.edges) / square
            self.scale = np.sqrt(square)

    def of(self, a: np.ndarray) -> np.ndarray:
        """Full columns (m, n) as weighted rows."""
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
    """An orthonormal basis of the columns that have starts, and what they leave of Y."""
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
            columns = np.asarray(_evaluate(without_names(part), data.x, scalars))  # pyright: ignore[reportArgumentType]
        if isinstance(part, Offset):
            y = y - columns
        else:
            blocks.append(rows.of(columns))
    columns = np.concatenate(blocks, axis=1)
    size = np.linalg.norm(columns, axis=0)
    fine = np.isfinite(size) & (size > 0)
    q = np.linalg.qr(columns[:, fine] / size[fine])[0]
    y = rows.of(y)
    y = y / (np.abs(y).max() or 1.0)
    return q, _condensed(y - q @ (q.conj().T @ y))


@eqx.filter_jit
def _evaluate(part: AbstractBasis, x: PyTree, values: dict[str, ArrayIn]) -> PyTree:
    return part.evaluate(x, values)


def _condensed(y: np.ndarray) -> np.ndarray:
    """The leading left singular vectors of Y times their singular values, by random projection."""
    if y.shape[1] <= _SIDES:
        return y
    mix = y @ np.random.default_rng(0).normal(size=(y.shape[1], _SIDES + 4))
    q = np.linalg.qr(y @ (y.conj().T @ mix))[0]
    u, s, _ = np.linalg.svd(q.conj().T @ y, full_matrices=False)
    return (q @ u[:, :_SIDES]) * s[:_SIDES]


def _in_order(
    slots: Sequence[SoughtComponent], found: list[Values | None], order: Chains
) -> list[Values | None]:
    """The same values, dealt out among components of one formula so that they increase."""
    formulas: dict[object, list[int]] = {}
    for i, slot in enumerate(slots):
        if found[i]:
            formulas.setdefault(slot.formula, []).append(i)
    found = list(found)
    for members in formulas.values():
        alike: dict[object, list[int]] = {}
        for i in members:
            alike.setdefault(slots[i].kind, []).append(i)
        if not _deal(slots, found, members, order):
            for some in alike.values():
                _deal(slots, found, some, order)
    return found


def _deal(
    slots: Sequence[SoughtComponent], found: list[Values | None], members: list[int], order: Chains
) -> bool:
    """Deal the values of `members` in order, if that keeps them inside their boxes."""
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
            inside = [names[name] for name in chain if name in names]
            if len(inside) > 1:
                key, sign = local, 1.0
                places = sorted(sequence.index(i) for i in inside)
                for place, i in zip(places, inside, strict=True):
                    sequence[place] = i
    values = sorted((v for i in members if (v := found[i])), key=lambda v: sign * v[key])
    for i, value in zip(sequence, values, strict=True):
        if any(not lo <= value[k] <= hi for k, (lo, hi) in slots[i].box.items()):
            return False
    for i, value in zip(sequence, values, strict=True):
        found[i] = value
    return True


def _increase(
    starts: dict[str, float], params: Mapping[str, Param], boxes: Mapping[str, Box], order: Chains
) -> None:
    """Move starts that do not increase along a chain, as little as shows."""

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
