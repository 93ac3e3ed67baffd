"""Expressions of named numbers, read from text; nothing is evaluated as Python.

The grammar: numbers, names, `+ - * / **`, parentheses, `pi`, and the functions of `FUNCTIONS`. Ties and
derived quantities are written in it.
"""

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._errors import InputError, suggestion

# Longer texts are refused, so that no text costs anything to read; what ties make of ties may be larger.
_LONGEST, MOST_PARTS = 400, 2000
FUNCTIONS = ("exp", "log", "log10", "sqrt", "abs", "sin", "cos", "tan", "arctan", "hypot")
_TWO = ("hypot",)
_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}

Tree = tuple[Any, ...]
"""A parsed expression: ("number", v), ("name", i), (operator or function, tree, ...)."""


class Expression(NamedTuple):
    """A formula of named numbers, such as "a.area / (a.area + b.area)".

    **Fields:** `text` as it was written, `names` that stand in it, `tree`: nested tuples in which the
    number i stands for `names[i]`.
    """

    text: str
    names: tuple[str, ...]
    tree: Tree

    @classmethod
    def parse(cls, text: str, known: Sequence[str], where: str = "derived") -> "Expression":
        """What a text says about `known` names; `where` it stands goes into messages.

        **Raises:** `InputError` for what is no expression, and for unknown names.
        """
        if not isinstance(text, str):
            raise InputError(f"{where}: expected a text, not {text!r}.", argument=where)
        if text in known:
            return cls(text, (text,), ("name", 0))
        if len(text) > _LONGEST:
            raise InputError(
                f"{where}: a text of {len(text)} characters is too long.", argument=where
            )
        # Names have dots and arrows in them: each stands as one word while the rest is read.
        pattern = _any_of(known)
        found = tuple(dict.fromkeys(re.findall(pattern, text)))
        words = {name: f"parameter_{i}" for i, name in enumerate(found)}
        try:
            body = ast.parse(
                re.sub(pattern, lambda match: words[match[0]], text).strip(), mode="eval"
            ).body
            tree = _tree(body, {v: i for i, v in enumerate(words.values())}, text, known, where)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{where}: '{text}' cannot be read. Write names, numbers, + - * / **, parentheses and "
                f"{', '.join(FUNCTIONS)}.",
                argument=where,
            ) from None
        return cls(text, found, tree)

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The number for these values, of jax arrays or of numbers."""
        return evaluated(self.tree, [values[name] for name in self.names])

    def linear(self) -> tuple[str | None, float, float] | None:
        """(name, scale, shift) of what is linear in one name, (None, 0, number) of a number; None of
        anything else."""
        found = _linear(self.tree)
        if found is None:
            return None
        i, scale, shift = found
        return (None if i is None else self.names[i]), scale, shift


def _any_of(names: Iterable[str]) -> str:
    """The pattern of names as whole words, the longest first."""
    escaped = [re.escape(name) for name in sorted(names, key=len, reverse=True) if name]
    return rf"(?<![\w.])(?:{'|'.join(escaped)})(?![\w.>]|\s*\()" if escaped else r"(?!)"


def renamed(text: str, names: Mapping[str, str]) -> str:
    """A text with other names in the place of those that stand in it."""
    return re.sub(_any_of(names), lambda match: names[match[0]], text)


def _tree(
    node: ast.expr, words: Mapping[str, int], text: str, known: Sequence[str], where: str
) -> Tree:
    def inside(part: ast.expr) -> Tree:
        return _tree(part, words, text, known, where)

    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        number = float(node.value)  # pyright: ignore[reportArgumentType]
        return ("number", number)
    if isinstance(node, ast.Name) and node.id in words:
        return ("name", words[node.id])
    if isinstance(node, ast.Name) and node.id == "pi":
        return ("number", math.pi)
    if isinstance(node, ast.Name | ast.Attribute):
        word = ast.unparse(node)
        raise InputError(
            f"{where}: unknown parameter '{word}'. {suggestion(word, known)}",
            argument=where,
            name=word,
        )
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return ("-", ("number", 0.0), inside(node.operand))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd):
        return inside(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return (_OPERATORS[type(node.op)], inside(node.left), inside(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        name, wanted = node.func.id, 2 if node.func.id in _TWO else 1
        if name in FUNCTIONS and len(node.args) == wanted:
            return (name, *(inside(part) for part in node.args))
        if name in FUNCTIONS:
            raise InputError(
                f"{where}: {name} in '{text}' takes {wanted} number{'s' * (wanted > 1)}.",
                argument=where,
            )
        raise InputError(
            f"{where}: no function '{name}' in '{text}'. {suggestion(name, FUNCTIONS)}",
            argument=where,
        )
    raise ValueError


def evaluated(tree: Tree, values: Any, xp: Any = jnp) -> Any:
    """The number of a tree for values by number; `xp` is numpy on the host."""
    kind, *parts = tree
    if kind == "number":
        return parts[0]
    if kind == "name":
        return values[parts[0]]
    numbers = [evaluated(part, values, xp) for part in parts]
    if kind in FUNCTIONS:
        return getattr(xp, kind)(*numbers)
    a, b = numbers
    if kind == "+":
        return a + b
    if kind == "-":
        return a - b
    if kind == "*":
        return a * b
    if kind == "/":
        return xp.divide(a, b)
    whole = parts[1][0] == "number" and abs(b) <= 64 and float(b).is_integer()
    if whole and parts[0][0] != "number":
        return a ** int(b)  # of a negative number, too
    return xp.power(a, b)


def substituted(tree: Tree, places: Callable[[int], Tree]) -> Tree:
    """The tree with another one in the place of each name."""
    kind, *parts = tree
    if kind == "number":
        return tree
    if kind == "name":
        return places(parts[0])
    return (kind, *(substituted(part, places) for part in parts))


def size(tree: Tree) -> int:
    """How many parts a tree has."""
    return 1 + sum(size(part) for part in tree[1:] if isinstance(part, tuple))


def names_in(tree: Tree) -> set[int]:
    """The numbers of the names that stand in a tree."""
    if tree[0] == "name":
        return {tree[1]}
    return set().union(*(names_in(part) for part in tree[1:] if isinstance(part, tuple)))


def linear_form(tree: Tree) -> tuple[dict[int, float], float] | None:
    """Factors of the names and the constant of what is linear in them; None of anything else."""
    kind, *parts = tree
    if kind == "number":
        return {}, parts[0]
    if kind == "name":
        return {parts[0]: 1.0}, 0.0
    found = [linear_form(part) for part in parts]
    if any(one is None for one in found):
        return None
    forms = [one for one in found if one is not None]
    if not any(names for names, _ in forms):
        with np.errstate(all="ignore"):
            numbers = [("number", constant) for _, constant in forms]
            return {}, float(evaluated((kind, *numbers), (), np))
    if kind in FUNCTIONS or len(forms) != 2:
        return None
    (a, one), (b, two) = forms
    if kind in "+-":
        sign = 1.0 if kind == "+" else -1.0
        return {i: a.get(i, 0.0) + sign * b.get(i, 0.0) for i in {**a, **b}}, one + sign * two
    if kind == "*" and not (a and b):
        factor, names, other = (one, b, two) if not a else (two, a, one)
        return {i: factor * v for i, v in names.items()}, factor * other
    if kind == "/" and not b and two != 0:
        return {i: v / two for i, v in a.items()}, one / two
    return None


def _linear(tree: Tree) -> tuple[int | None, float, float] | None:
    found = linear_form(tree)
    if found is None or len(found[0]) > 1:
        return None
    names, constant = found
    return next(((i, factor, constant) for i, factor in names.items()), (None, 0.0, constant))
