"""What a function of scalars and x depends on, read off its program without running it.

Two questions, asked of the jaxpr of `columns(theta, x) -> (m, n)`: which column depends on which
parameter, so that parameters that share no column have one derivative between them; and whether row i
of the columns is made of row i of x alone, so that samples may be added. What the walk does not
understand depends on everything, and goes by no rows: an answer may be poor, but it is not wrong.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as core
import numpy as np

_ELEMENTWISE = set(
    """abs acos acosh add and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp conj
    convert_element_type copy cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag
    integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not or pow real
    reduce_precision rem round rsqrt select_n sign sin sinh sqrt square stop_gradient sub tan tanh xor
    complex regularized_incomplete_beta igamma igammac polygamma zeta""".split()
)
_REDUCING = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_or", "reduce_and"}
_RUNNING = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"}
# Of these the numbers of rows and of entries are the axis of rows, or there is none.
_NONE, _MIXED = -1, -2

# Entries of a table of dependences beyond which nothing is read.
_MOST = 2**22


class Dependence(NamedTuple):
    """`parameters[j]`: the indices of those on which column j depends; `rows`: whether each row is made of
    its own row of x."""

    parameters: tuple[tuple[int, ...], ...]
    rows: bool


class _Seen(NamedTuple):
    """Of an array: on which of the q parameters each entry depends, (q, ...) with ones along axes where
    all are alike, and the axis of rows, or none, or rows that are mixed."""

    on: np.ndarray
    rows: int


def dependence(
    columns: Callable[[Sequence[Any], Any], Any], count: int, x: Any, dtype: np.dtype
) -> Dependence | None:
    """How `columns(theta, x)`, an array (m, n), depends on `count` scalars and on the rows of x, arrays
    (m, ...); None where it cannot be read."""
    theta = [jax.ShapeDtypeStruct((), dtype)] * count
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(x)}
    if len(lengths) != 1 or 0 in lengths:
        return None
    (m,) = lengths
    closed = jax.make_jaxpr(columns)(theta, x)
    shape = closed.out_avals[0].shape
    if len(closed.out_avals) != 1 or len(shape) != 2 or count * shape[1] > _MOST:
        return None
    try:
        return _read(closed, columns, theta, x, m)
    except (KeyError, ValueError, IndexError, TypeError, NotImplementedError):
        return None  # a primitive with other parameters than it is known to have


def _read(closed: core.ClosedJaxpr, columns: Any, theta: Any, x: Any, m: int) -> Dependence:
    count, shape = len(theta), closed.out_avals[0].shape
    none = np.zeros(count, bool)
    seen = [_Seen(_only(none, i), _NONE) for i in range(count)]
    seen += [_Seen(none, 0) for _ in jax.tree.leaves(x)]
    (found,) = _walk(closed.jaxpr, [_Seen(none, _NONE)] * len(closed.consts), seen, none, m)
    table = np.broadcast_to(_full(found.on, 2), (count, *shape))
    parameters = tuple(tuple(map(int, np.flatnonzero(row))) for row in _any(table, 1).T)
    rows = found.rows == 0 and _grows(columns, theta, closed, x, m)
    return Dependence(parameters, rows)


def _only(none: np.ndarray, i: int) -> np.ndarray:
    one = none.copy()
    one[i] = True
    return one


def _grows(columns: Any, theta: Any, closed: core.ClosedJaxpr, x: Any, m: int) -> bool:
    """Whether the program at more samples is the same but for their number: no other number in it may
    follow from that."""
    if any(np.ndim(const) for const in closed.consts):
        return False  # an array of the function's own, which has its own length
    more = 2 * m + 1
    grown = jax.tree.map(lambda a: jax.ShapeDtypeStruct((more, *a.shape[1:]), a.dtype), x)
    try:
        other = jax.make_jaxpr(columns)(theta, grown)
    except Exception:  # whatever a function makes of another length
        return False
    return _lengths(str(closed), m) == _lengths(str(other), more)


def _lengths(text: str, length: int) -> str:
    """The text of a program with its lengths named: in shapes, which stand in brackets, and in tuples of
    a shape; a literal is a number with a type, and stays."""
    return re.sub(rf"(?<=[\[,( ]){length}(?=[\],)])", "m", text)


def _walk(
    jaxpr: core.Jaxpr, consts: Sequence[_Seen], inputs: Sequence[_Seen], none: np.ndarray, m: int
) -> list[_Seen]:
    known: dict[Any, _Seen] = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def look(atom: Any) -> _Seen:
        return _Seen(none, _NONE) if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        known |= zip(eqn.outvars, _step(eqn, [look(a) for a in eqn.invars], none, m), strict=True)
    return [look(atom) for atom in jaxpr.outvars]


def _step(eqn: Any, inputs: list[_Seen], none: np.ndarray, m: int) -> list[_Seen]:
    name, params = eqn.primitive.name, eqn.params
    inner = _inner(params)
    if inner is not None and len(inner.jaxpr.invars) == len(inputs):
        consts = [_Seen(none, _NONE)] * len(inner.consts)
        return _walk(inner.jaxpr, consts, inputs, none, m)
    ranks = [len(a.aval.shape) for a in eqn.invars]
    rank = len(eqn.outvars[0].aval.shape)
    first = inputs[0] if inputs else _Seen(none, _NONE)
    if name in _ELEMENTWISE:
        on = _union([_full(s.on, rank) for s in inputs])
        return [_Seen(on, _agreed([s.rows for s in inputs]))]
    if name == "broadcast_in_dim" and len(inputs) == 1:
        axes = params["broadcast_dimensions"]
        on = _full(first.on, ranks[0])
        shape = [1] * rank
        for i, axis in enumerate(axes):
            shape[axis] = on.shape[1 + i]
        rows = first.rows if first.rows < 0 else axes[first.rows]
        new = [i for i in range(rank) if i not in axes or _on_one(eqn, axes, i)]
        return [_Seen(on.reshape(-1, *shape), _agreed([rows, *_of_length(eqn, new, m)]))]
    if name in ("squeeze", "expand_dims") or name == "reshape" and params.get("dimensions") is None:
        return [_reshaped(first, eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape)]
    if name == "transpose":
        order = params["permutation"]
        on = _full(first.on, rank).transpose(0, *(1 + np.array(order, int)))
        return [_Seen(on, first.rows if first.rows < 0 else list(order).index(first.rows))]
    if name in ("concatenate", "stack"):
        axis = params["dimension"] if name == "concatenate" else params["axis"]
        if name == "stack":
            inputs = [_with_axis(s, r, axis) for s, r in zip(inputs, ranks, strict=True)]
            sizes = [1] * len(inputs)
        else:
            sizes = [a.aval.shape[axis] for a in eqn.invars]
        on = _joined([_full(s.on, rank) for s in inputs], sizes, axis)
        rows = _agreed([s.rows for s in inputs])
        return [_Seen(on, _MIXED if rows == axis else rows)]
    if name == "slice":
        starts, ends = params["start_indices"], params["limit_indices"]
        steps = params["strides"] or (1,) * rank
        on = _full(first.on, rank)
        cut = tuple(
            slice(None) if n == 1 else slice(a, b, s)
            for n, a, b, s in zip(on.shape[1:], starts, ends, steps, strict=True)
        )
        whole = eqn.invars[0].aval.shape == eqn.outvars[0].aval.shape
        return [_Seen(on[(slice(None), *cut)], _cut(first.rows, eqn) if not whole else first.rows)]
    if name in _REDUCING and len(inputs) == 1:
        axes = tuple(params["axes"])
        on = _any(_full(first.on, ranks[0]), *(1 + a for a in axes))
        if first.rows in axes:
            return [_Seen(on, _MIXED)]
        rows = first.rows if first.rows < 0 else first.rows - sum(a < first.rows for a in axes)
        return [_Seen(on, rows)]
    if name in _RUNNING:
        axis = params["axis"]
        on = np.expand_dims(_any(_full(first.on, rank), 1 + axis), 1 + axis)
        return [_Seen(on, _MIXED if first.rows == axis else first.rows)]
    if name == "iota":
        return [_Seen(none, _agreed(_of_length(eqn, range(rank), m)))]
    on = _union([_any(s.on.reshape(len(none), -1), 1) for s in inputs] or [none])
    alone = all(s.rows == _NONE for s in inputs)
    return [
        _Seen(on, _NONE if alone and m not in var.aval.shape else _MIXED) for var in eqn.outvars
    ]


def _on_one(eqn: Any, axes: Sequence[int], axis: int) -> bool:
    """Whether an axis of the result repeats one of length one."""
    return eqn.invars[0].aval.shape[list(axes).index(axis)] == 1


def _of_length(eqn: Any, axes: Sequence[int], m: int) -> list[int]:
    """Those of the axes that are as long as x: what is made along them counts as made of its rows, for
    the sum of so many ones is a number of samples."""
    return [i for i in axes if eqn.outvars[0].aval.shape[i] == m]


def _inner(params: dict[str, Any]) -> core.ClosedJaxpr | None:
    """The program of a primitive that does nothing but call it."""
    if {"branches", "cond_jaxpr", "body_jaxpr", "linear", "num_carry", "length"} & params.keys():
        return None
    found = [v for k, v in params.items() if k in ("jaxpr", "call_jaxpr", "fun_jaxpr")]
    if len(found) != 1:
        return None
    (inner,) = found
    return core.ClosedJaxpr(inner, ()) if isinstance(inner, core.Jaxpr) else inner


def _any(on: np.ndarray, *axes: int) -> np.ndarray:
    return np.asarray(np.any(on, axis=axes))


def _full(on: np.ndarray, rank: int) -> np.ndarray:
    """With an axis for each of the array: one that depends as a whole has had none."""
    return on.reshape(len(on), *([1] * rank)) if on.ndim == 1 else on


def _union(parts: Sequence[np.ndarray]) -> np.ndarray:
    out = parts[0]
    for part in parts[1:]:
        out = out | part
    return out


def _joined(parts: Sequence[np.ndarray], sizes: Sequence[int], axis: int) -> np.ndarray:
    shape = np.broadcast_shapes(*(p.shape[: 1 + axis] + (1,) + p.shape[2 + axis :] for p in parts))
    full = [
        np.broadcast_to(p, (*shape[: 1 + axis], size, *shape[2 + axis :]))
        for p, size in zip(parts, sizes, strict=True)
    ]
    return np.concatenate(full, axis=1 + axis)


def _with_axis(seen: _Seen, rank: int, axis: int) -> _Seen:
    rows = seen.rows if seen.rows < axis else seen.rows + 1
    return _Seen(np.expand_dims(_full(seen.on, rank), 1 + axis), rows)


def _reshaped(seen: _Seen, old: tuple[int, ...], new: tuple[int, ...]) -> _Seen:
    """Axes of length one come and go; any other reshape mixes all."""
    kept_old = [i for i, n in enumerate(old) if n != 1]
    kept_new = [i for i, n in enumerate(new) if n != 1]
    if [old[i] for i in kept_old] != [new[i] for i in kept_new]:
        on = _any(seen.on.reshape(len(seen.on), -1), 1)
        return _Seen(on, seen.rows if seen.rows == _NONE else _MIXED)
    on = _full(seen.on, len(old))
    shape = [1] * len(new)
    for i, j in zip(kept_old, kept_new, strict=True):
        shape[j] = on.shape[1 + i]
    rows = seen.rows
    if rows >= 0:
        rows = kept_new[kept_old.index(rows)] if rows in kept_old else _MIXED
    return _Seen(on.reshape(-1, *shape), rows)


def _agreed(rows: Sequence[int]) -> int:
    """The axis of rows of what is made of arrays with these."""
    found = {r for r in rows if r != _NONE}
    return _NONE if not found else found.pop() if len(found) == 1 else _MIXED


def _cut(rows: int, eqn: Any) -> int:
    if rows < 0:
        return rows
    same = eqn.invars[0].aval.shape[rows] == eqn.outvars[0].aval.shape[rows]
    return rows if same else _MIXED


def groups_of(parameters: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Parameters in groups of which no column depends on two: each group needs one derivative."""
    columns_of = [{j for j, row in enumerate(parameters) if i in row} for i in range(count)]
    groups: list[list[int]] = []
    taken: list[set[int]] = []
    for i, columns in enumerate(columns_of):
        for group, used in zip(groups, taken, strict=True):
            if not used & columns:
                group.append(i)
                used |= columns
                break
        else:
            groups.append([i])
            taken.append(set(columns))
    return groups
