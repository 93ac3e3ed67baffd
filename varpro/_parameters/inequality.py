"""Linear inequalities between parameters, read from text, and coordinates in which they are bounds.

A system `A v <= b` with boxes for each v is made triangular by elimination (Fourier and Motzkin): what it
says of one parameter v_j, given the others, is an interval

    max(l_j, ..., (a . v + b)) <= v_j <= min(u_j, ..., (a' . v + b'))

and that this interval is not empty is a system without v_j, which is treated likewise until only boxes are
left. So v_j has a coordinate d of its own, the distance from the one end that there is, or the fraction in
[0, 1] from the lower to the upper one, and every inequality that holds as an equality is a coordinate on its
bound. Every point of the polyhedron has coordinates, and none outside has (Schrijver, Theory of Linear and
Integer Programming, 1986, section 12.2).
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .._errors import InputError
from .expression import Expression, Tree, linear_form

# Inequalities that elimination may make: it squares their number at worst.
_MOST = 200
_SAYS = "Write one such as 'a.tau + b.tau <= 10' or '1 <= b.center - a.center <= 5'."


class Inequality(NamedTuple):
    """A linear inequality between parameters, `slopes . v <= limit`.

    **Fields:** `text` as it was written, `slopes` by name of the parameter, and `limit`.
    """

    text: str
    slopes: Mapping[str, float]
    limit: float

    @classmethod
    def parse(cls, text: str, names: Sequence[str]) -> "list[Inequality]":
        """What a text says about `names`: one inequality, or two, `a <= b <= c`.

        **Raises:** `InputError` for what is no linear inequality, and for unknown names.
        """
        if not isinstance(text, str):
            raise _wrong(f"expected a text, not {text!r}. {_SAYS}")
        # Names may have arrows in them: what stands in a name is no sign.
        words = {f"\x00{i}\x00": n for i, n in enumerate(sorted(names, key=len, reverse=True))}
        hidden = text
        for word, name in words.items():
            if re.search("[<>=]", name):
                hidden = hidden.replace(name, word)
        parts = re.split(r"(<=|>=|==|=|<|>)", hidden)
        signs = parts[1::2]
        if any(sign in ("=", "==") for sign in signs):
            raise _wrong(f"'{text}' is an equation. Write it as a tie, tie={{name: ...}}.", text)
        if len(signs) not in (1, 2) or len({sign[0] for sign in signs}) != 1:
            raise _wrong(f"'{text}' is no inequality. {_SAYS}", text)
        sides = []
        for part in parts[::2]:
            for word, name in words.items():
                part = part.replace(word, name)
            found = Expression.parse(part.strip(), names, "inequalities")
            form = linear_form(found.tree)
            if form is None:
                raise _wrong(f"'{part.strip()}' is not linear in its parameters. {_SAYS}", text)
            sides.append(({found.names[i]: v for i, v in form[0].items()}, form[1]))
        out = []
        for sign, one, two in zip(signs, sides[:-1], sides[1:], strict=True):
            (a, first), (b, second) = (one, two) if sign[0] == "<" else (two, one)
            slopes = {n: a.get(n, 0.0) - b.get(n, 0.0) for n in dict.fromkeys((*a, *b))}
            slopes = {n: v for n, v in slopes.items() if v}
            limit = second - first
            if not slopes or not np.isfinite([limit, *slopes.values()]).all():
                raise _wrong(f"'{text}' says nothing about a parameter. {_SAYS}", text)
            out.append(cls(text, slopes, limit))
        return out


class Pivot(NamedTuple):
    """Parameter `index`, whose value lies between the largest of the forms `floors`, and of its own lower bound,
    and the smallest of the forms `ceilings`, and of its own upper bound; `low` and `high`: whether there is such
    an end."""

    index: int
    floors: tuple[int, ...]
    ceilings: tuple[int, ...]
    low: bool
    high: bool


class Triangle(NamedTuple):
    """Pivots in the order in which their values are found, their forms `slopes` (l, q) and `limits` (l,), and
    the boxes `lower` and `upper` (q,) of all parameters."""

    pivots: tuple[Pivot, ...]
    slopes: np.ndarray
    limits: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def _wrong(message: str, text: str | None = None) -> InputError:
    return InputError(f"inequalities: {message}", argument="inequalities", name=text)


def rows_of(
    inequalities: Sequence[str],
    names: tuple[str, ...],
    ties: tuple[Sequence[int], np.ndarray, np.ndarray],
    trees: Mapping[int, Tree],
    free: Sequence[int],
    start: np.ndarray,
) -> list[tuple[np.ndarray, float]]:
    """Inequalities as slopes (q,) and limits of what is free.

    **Raises:** `InputError` for one that is not linear, holds fixed parameters alone or does not hold at the
    start.
    """
    source, scale, shift = ties
    rows = []
    for one in (one for text in inequalities for one in Inequality.parse(text, names)):
        slopes, limit = np.zeros(len(names)), one.limit
        for name, factor in one.slopes.items():
            i = names.index(name)
            form = linear_form(trees[i]) if i in trees else ({source[i]: scale[i]}, shift[i])
            if form is None:
                raise _wrong(
                    f"'{one.text}' speaks of '{name}', which follows others by an expression that "
                    "is not linear. Bound those.",
                    one.text,
                )
            for j, part in form[0].items():
                slopes[j] += factor * part
            limit -= factor * form[1]
        _check_start(one, names, start)
        held = [j for j in np.flatnonzero(slopes).tolist() if j not in free]
        limit -= float(slopes[held] @ start[held])
        slopes[held] = 0.0
        if not np.any(slopes):
            raise _wrong(
                f"'{one.text}' speaks of fixed parameters alone.",
                one.text,
            )
        rows.append((slopes, limit))
    return rows


def _check_start(one: Inequality, names: tuple[str, ...], start: np.ndarray) -> None:
    parts = [factor * start[names.index(name)] for name, factor in one.slopes.items()]
    size = max(abs(one.limit), *(abs(part) for part in parts))
    if sum(parts) > one.limit + 1e-12 * size:
        at = ", ".join(f"{name} = {start[names.index(name)]:g}" for name in one.slopes)
        raise _wrong(
            f"'{one.text}' does not hold at the start, {at}. Give a start that keeps it.",
            one.text,
        )


def triangular(
    rows: Sequence[tuple[np.ndarray, float]],
    lower: np.ndarray,
    upper: np.ndarray,
    start: np.ndarray,
) -> Triangle:
    """The triangular form of `slopes . v <= limit` for `rows` of slopes (q,) and limit, with boxes.

    **Raises:** `InputError` where no values keep all of them.
    """
    lower, upper = lower.copy(), upper.copy()
    left: list[tuple[np.ndarray, float]] = []

    def add(slopes: np.ndarray, limit: float) -> None:
        size = np.max(np.abs(slopes), initial=0.0)
        slopes = np.where(np.abs(slopes) <= 1e-13 * size, 0.0, slopes)
        (places,) = np.nonzero(slopes)
        if not places.size:
            if limit < -1e-12 * max(1.0, abs(limit)):
                raise _wrong("no values keep all of them, and the bounds.")
        elif places.size == 1:
            j, end = int(places[0]), limit / slopes[places[0]]
            if slopes[j] > 0:
                upper[j] = min(upper[j], end)
            else:
                lower[j] = max(lower[j], end)
        else:
            left.append((slopes, limit))
            if len(left) > _MOST:
                raise _wrong("too many that hang together. Leave some out, or use bounds.")

    for slopes, limit in rows:
        add(np.asarray(slopes, float), float(limit))
    made: list[tuple[int, list, list]] = []
    while left:
        j = _next(left, lower, upper)
        mine = [row for row in left if row[0][j]]
        left[:] = [row for row in left if not row[0][j]]
        # v_j is at most, or at least, (limit - slopes . v) / slopes_j for the others.
        forms = [(-a / a[j], b / a[j], a[j] > 0) for a, b in mine]
        for a, _, _ in forms:
            a[j] = 0.0
        ceilings = [(a, b) for a, b, above in forms if above]
        floors = [(a, b) for a, b, above in forms if not above]
        made.append((j, floors, ceilings))
        zero = np.zeros_like(start)
        tops = [*ceilings, *([(zero, upper[j])] if np.isfinite(upper[j]) else [])]
        bottoms = [*floors, *([(zero, lower[j])] if np.isfinite(lower[j]) else [])]
        for a, b in bottoms:
            for c, d in tops:
                add(a - c, d - b)
    if np.any(lower > upper):
        raise _wrong("no values keep all of them, and the bounds.")
    pivots, slopes, limits = [], [], []
    for j, floors, ceilings in reversed(made):
        first = len(slopes)
        for a, b in (*floors, *ceilings):
            slopes.append(a)
            limits.append(b)
        middle = first + len(floors)
        pivots.append(
            Pivot(
                j,
                tuple(range(first, middle)),
                tuple(range(middle, middle + len(ceilings))),
                bool(floors) or bool(np.isfinite(lower[j])),
                bool(ceilings) or bool(np.isfinite(upper[j])),
            )
        )
    return Triangle(tuple(pivots), np.array(slopes), np.array(limits), lower, upper)


def _next(left: Sequence[tuple[np.ndarray, float]], lower: np.ndarray, upper: np.ndarray) -> int:
    """Which parameter to eliminate: the one that leaves fewest inequalities, and of these one with a single
    end, whose coordinate is linear in the others."""

    def cost(j: int) -> tuple[int, bool, int]:
        above = sum(a[j] > 0 for a, _ in left) + bool(np.isfinite(upper[j]))
        below = sum(a[j] < 0 for a, _ in left) + bool(np.isfinite(lower[j]))
        return above * below, above > 0 and below > 0, -j

    return min({int(j) for a, _ in left for j in np.flatnonzero(a)}, key=cost)
