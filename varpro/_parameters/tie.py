"""Ties: parameters that follow others, `value = scale * other + shift`."""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from .._errors import InputError, suggestion

# Longer texts are refused, so that no text costs anything to read.
_LONGEST = 200
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

        **Raises:** `InputError` for anything else, for unknown names, and for what is not linear.
        """
        if text in names:
            return cls(text)
        if len(text) > _LONGEST:
            raise InputError(
                f"tie: a text of {len(text)} characters is too long. {_SAYS}", argument="tie"
            )
        # Names have dots and arrows in them: each stands as one word while the rest is read.
        escaped = [re.escape(name) for name in sorted(names, key=len, reverse=True)]
        pattern = rf"(?<![\w.])(?:{'|'.join(escaped)})(?![\w.>])" if escaped else r"(?!)"
        names_in_text = list(dict.fromkeys(re.findall(pattern, text)))
        words = {name: f"parameter_{i}" for i, name in enumerate(names_in_text)}
        try:
            expression_text = re.sub(pattern, lambda match: words[match[0]], text)
            tree = ast.parse(expression_text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise InputError(f"tie: '{text}' cannot be read. {_SAYS}", argument="tie") from None
        name, scale, shift = _linear(tree, {v: k for k, v in words.items()}, text, names)
        if name is None:
            raise InputError(
                f"tie: '{text}' names no parameter. {_SAYS} To hold one, use fix=.", argument="tie"
            )
        return _checked(cls(name, scale, shift), text)

    @property
    def text(self) -> str:
        """The same in words: "2 * a.center + 3.1"."""
        scaled = self.name if self.scale == 1.0 else f"{self.scale:.6g} * {self.name}"
        if self.shift == 0.0:
            return scaled
        return f"{scaled} {'-' if self.shift < 0 else '+'} {abs(self.shift):.6g}"


TieLike: TypeAlias = str | Tie | tuple[str, float] | tuple[str, float, float]


def as_tie(value: TieLike, names: Sequence[str]) -> Tie:
    """A tie to one of `names` from a text, a `Tie`, or a tuple of name, scale and shift."""
    if isinstance(value, str):
        return Tie.parse(value, names)
    if not isinstance(value, tuple) or not 1 <= len(value) <= 3 or not isinstance(value[0], str):
        raise InputError(
            f"tie: expected a name, or (name, scale, shift), not {value!r}.", argument="tie"
        )
    if value[0] not in names:
        raise InputError(
            f"tie: unknown parameter '{value[0]}'. {suggestion(value[0], names)}", argument="tie"
        )
    return _checked(Tie(value[0], *(float(v) for v in value[1:])), value)


def followed(tie: Mapping[str, TieLike], names: Sequence[str]) -> dict[str, Tie]:
    """For every name the one that it follows in the end, which itself follows none.

    **Raises:** `InputError` for unknown names, and for a parameter that is tied to itself.
    """
    direct = {name: Tie(name) for name in names}
    for name, value in tie.items():
        if name not in direct:
            raise InputError(
                f"tie: unknown parameter '{name}'. {suggestion(name, names)}",
                argument="tie",
                name=name,
            )
        direct[name] = as_tie(value, names)
    sources = {}
    for name in names:
        source, visited = Tie(name), {name}
        while direct[source.name].name != source.name:
            step = direct[source.name]
            source = Tie(
                step.name, source.scale * step.scale, source.scale * step.shift + source.shift
            )
            if source.name in visited:
                raise InputError(
                    f"tie: '{name}' is tied to itself through other ties.",
                    argument="tie",
                    name=name,
                )
            visited.add(source.name)
        if direct[source.name] != Tie(source.name):
            raise InputError(
                f"tie: '{source.name}' is tied to itself.", argument="tie", name=source.name
            )
        sources[name] = source
    return sources


def _checked(tie: Tie, given: object) -> Tie:
    if not (math.isfinite(tie.scale) and math.isfinite(tie.shift)) or tie.scale == 0:
        raise InputError(
            f"tie: {given!r} has the scale {tie.scale:g} and the shift {tie.shift:g}; they must be "
            "finite, and the scale not zero.",
            argument="tie",
        )
    return tie


def _linear(
    node: ast.expr, words: Mapping[str, str], text: str, names: Sequence[str]
) -> tuple[str | None, float, float]:
    """(name, scale, shift) of an expression; of a number the name is None and the scale 0."""
    wrong = InputError(f"tie: '{text}' is not linear in one parameter. {_SAYS}", argument="tie")
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return None, 0.0, float(node.value)  # pyright: ignore[reportArgumentType]
    if isinstance(node, ast.Name) and node.id in words:
        return words[node.id], 1.0, 0.0
    if isinstance(node, ast.Name | ast.Attribute):
        word = ast.unparse(node)
        raise InputError(
            f"tie: unknown parameter '{word}'. {suggestion(word, names)}", argument="tie"
        )
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        name, scale, shift = _linear(node.operand, words, text, names)
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        return name, sign * scale, sign * shift
    if not isinstance(node, ast.BinOp):
        raise wrong
    a, b = (_linear(side, words, text, names) for side in (node.left, node.right))
    if isinstance(node.op, ast.Add | ast.Sub):
        sign = 1.0 if isinstance(node.op, ast.Add) else -1.0
        if a[0] is not None and b[0] not in (None, a[0]):
            raise wrong
        return a[0] or b[0], a[1] + sign * b[1], a[2] + sign * b[2]
    if isinstance(node.op, ast.Mult) and (a[0] is None or b[0] is None):
        factor, other = (a[2], b) if a[0] is None else (b[2], a)
        return other[0], factor * other[1], factor * other[2]
    if isinstance(node.op, ast.Div) and b[0] is None and b[2] != 0:
        return a[0], a[1] / b[2], a[2] / b[2]
    raise wrong
