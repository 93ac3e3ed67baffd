"""Ties: parameters that follow others, `value = scale * other + shift`, or by an expression."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from .._errors import InputError, suggestion
from .._given.arguments import number
from .expression import MOST_PARTS, Expression, Tree, size, substituted

_SAYS = "Write a parameter, or number * parameter + number, such as '2 * a.center + 3.1'."


class Tie(NamedTuple):
    """A parameter that follows another: `scale * name + shift`.

    **Arguments:** `name` of the other, `scale` (not zero), 1 by default, and `shift`, 0 by default.
    """

    name: str
    scale: float = 1.0
    shift: float = 0.0

    @classmethod
    def parse(cls, text: str, names: Sequence[str]) -> "Tie":
        """What a text such as "2 * a.center + 3.1" says about one of `names`.

        Numbers, one parameter, + - * / and parentheses; nothing is evaluated as Python.

        **Raises:** `InputError` for anything else, for unknown names, and for what is not linear in one.
        """
        found = as_tie(text, names)
        if not isinstance(found, cls):
            raise InputError(
                f"tie: '{text}' is not linear in one parameter. {_SAYS}", argument="tie"
            )
        return found

    @property
    def text(self) -> str:
        """This relation in words: "2 * a.center + 3.1"."""
        scaled = self.name if self.scale == 1.0 else f"{self.scale:.6g} * {self.name}"
        if self.shift == 0.0:
            return scaled
        return f"{scaled} {'-' if self.shift < 0 else '+'} {abs(self.shift):.6g}"


TieLike: TypeAlias = str | Tie | Expression | tuple[str, float] | tuple[str, float, float]


def as_tie(value: TieLike, names: Sequence[str]) -> Tie | Expression:
    """A tie to one of `names` from a text, a `Tie`, or a tuple of name, scale and shift; an `Expression` of
    what is not linear in one of them."""
    if isinstance(value, str):
        found = Expression.parse(value, names, "tie")
        linear = found.linear()
        if not found.names or linear is not None and linear[0] is None:
            raise InputError(
                f"tie: '{value}' names no parameter. {_SAYS} To hold one, use fix=.", argument="tie"
            )
        if linear is None:
            return found
        return _checked(Tie(*linear), value)  # pyright: ignore[reportArgumentType]
    if isinstance(value, Expression):
        unknown = [name for name in value.names if name not in names]
    elif isinstance(value, tuple) and 1 <= len(value) <= 3 and isinstance(value[0], str):
        unknown = [value[0]] if value[0] not in names else []
    else:
        raise InputError(
            f"tie: expected a name, or (name, scale, shift), not {value!r}.", argument="tie"
        )
    if unknown:
        raise InputError(
            f"tie: unknown parameter '{unknown[0]}'. {suggestion(unknown[0], names)}",
            argument="tie",
        )
    if isinstance(value, Expression):
        return value
    return _checked(Tie(value[0], *(number("A number of tie", v, "tie") for v in value[1:])), value)


class Resolved(NamedTuple):
    """What every parameter follows in the end: `ties` by name, to one that itself follows none (to itself,
    for what is not tied, or by a formula); `formulas` by name, trees of the numbers of such parameters;
    `texts` of those."""

    ties: dict[str, Tie]
    formulas: dict[str, Tree]
    texts: dict[str, str]


def resolved(tie: Mapping[str, TieLike], names: Sequence[str]) -> Resolved:
    """For every name the ones that it follows in the end, which themselves follow none.

    **Raises:** `InputError` for unknown names, and for a parameter that is tied to itself.
    """
    direct: dict[str, Tie | Expression] = {name: Tie(name) for name in names}
    for name, value in tie.items():
        if name not in direct:
            raise InputError(
                f"tie: unknown parameter '{name}'. {suggestion(name, names)}",
                argument="tie",
                name=name,
            )
        direct[name] = as_tie(value, names)
    place = {name: i for i, name in enumerate(names)}
    trees: dict[str, Tree] = {}

    def tree_of(name: str, above: tuple[str, ...]) -> Tree:
        if name in above:
            through = " through other ties" if len(above) > 1 else ""
            raise InputError(
                f"tie: '{name}' is tied to itself{through}.", argument="tie", name=name
            )
        if name not in trees:
            step = direct[name]
            if step == Tie(name):
                trees[name] = ("name", place[name])
            elif isinstance(step, Tie):
                other = ("*", ("number", step.scale), tree_of(step.name, (*above, name)))
                trees[name] = ("+", other, ("number", step.shift))
            else:
                parts = [tree_of(one, (*above, name)) for one in step.names]
                trees[name] = substituted(step.tree, parts.__getitem__)
            if size(trees[name]) > MOST_PARTS:
                raise InputError(
                    f"tie: what '{name}' follows has more than {MOST_PARTS} parts.",
                    argument="tie",
                    name=name,
                )
        return trees[name]

    ties, formulas, texts = {}, {}, {}
    for name in names:
        tree = tree_of(name, ())
        linear = Expression("", tuple(names), tree).linear()
        if linear is None:
            ties[name], formulas[name], texts[name] = Tie(name), tree, direct[name].text
        else:
            ties[name] = _checked(Tie(*linear), name)  # pyright: ignore[reportArgumentType]
    return Resolved(ties, formulas, texts)


def _checked(tie: Tie, given: object) -> Tie:
    if not (math.isfinite(tie.scale) and math.isfinite(tie.shift)) or tie.scale == 0:
        raise InputError(
            f"tie: {given!r} has the scale {tie.scale:g} and the shift {tie.shift:g}; they must be "
            "finite, and the scale not zero.",
            argument="tie",
        )
    return tie
