"""What a single value of a configuration may be: a number, a word, a list that may be written short.

Scalars of a file are text (`Plain` where they have no quotes); the type that a key has decides what is
meant. Each `to_...` stands before the type's own check and says what is wrong in our words.
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .document import Plain
from .messages import shown, wrong

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)")


def _number(value: object) -> object:
    if isinstance(value, Plain) and _FLOAT.fullmatch(value):
        return float(value.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise wrong(f"expected a number, not {shown(value)}.")


def to_whole(value: object) -> object:
    if isinstance(value, Plain) and _INTEGER.fullmatch(value):
        # Python reads 4300 digits, and whatever takes a number here much fewer.
        if len(value.lstrip("+-0")) > 18:
            raise wrong(f"expected a smaller number, not {shown(value)}.")
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise wrong(f"expected a whole number, not {shown(value)}.")


def to_count(most: int) -> BeforeValidator:
    """A number of things, from 1 to `most`."""

    def count(value: object) -> object:
        number = to_whole(value)
        if not (isinstance(number, int) and 1 <= number <= most):
            raise wrong(f"expected a number from 1 to {most:,}, not {shown(value)}.")
        return number

    return BeforeValidator(count, json_schema_input_type=Annotated[int, Field(ge=1, le=most)])


def _lines(value: object) -> object:
    number = None if value is None else to_whole(value)
    if isinstance(number, int) and not 0 <= number <= 1_000_000:
        raise wrong(f"expected a number of lines, 0 or more, not {shown(value)}.")
    return number


def to_loss_scale(value: object) -> object:
    number = _number(value)
    if not (isinstance(number, float) and 0 < number < math.inf):
        raise wrong(f"loss_scale must be positive and finite, not {shown(value)}.")
    return number


def _seed(value: object) -> object:
    number = to_whole(value)
    if isinstance(number, int) and number < 0:
        raise wrong(f"expected 0 or more, not {shown(value)}.")
    return number


def _truth(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, Plain) and value in ("true", "True", "false", "False"):
        return value in ("true", "True")
    raise wrong(f"expected true or false, not {shown(value)}.")


def to_word(value: object) -> object:
    if isinstance(value, str) and value.strip():
        return str(value)
    raise wrong(f"expected a word, not {shown(value)}.")


def to_words(value: object) -> object:
    return [value] if isinstance(value, str) else value


def to_word_or_number(value: object) -> object:
    if isinstance(value, Plain) and _FLOAT.fullmatch(value):
        return _number(value)
    return to_word(value) if isinstance(value, str) else _number(value)


def to_chains(value: object) -> object:
    flat = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    return [value] if flat else value


def to_share(value: object) -> object:
    if isinstance(value, str) and value in ("all", "none"):
        return str(value)
    if isinstance(value, str):
        return [to_word(value)]
    return value


def to_truth_or_words(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, Plain) and value.lower() in ("true", "false")):
        return _truth(value)
    return [to_word(item) for item in value] if isinstance(value, list) else [to_word(value)]


def to_intervals(value: object) -> object:
    """Pairs of numbers, from one pair or several."""
    if not isinstance(value, list):
        raise wrong(f"expected [low, high], or several of these, not {shown(value)}.")
    pairs = value if value and all(isinstance(pair, list) for pair in value) else [value]
    if any(len(pair) != 2 for pair in pairs):
        raise wrong("expected [low, high], or several of these.")
    return pairs


def to_relation(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _number(factor) for name, factor in value.items()}
    return to_word_or_number(value)


def to_words_or_texts(value: object) -> object:
    """A list of words, one word, or texts by name."""
    if isinstance(value, dict):
        return {str(name): to_word(text) for name, text in value.items()}
    return [to_word(item) for item in value] if isinstance(value, list) else [to_word(value)]


def to_strength(value: object) -> object:
    if value == "gcv":
        return "gcv"
    number = _number(value)
    if not (isinstance(number, float) and 0 < number < math.inf):
        raise wrong(f"expected a positive number or gcv, not {shown(value)}.")
    return number


def to_strengths(value: object) -> object:
    if isinstance(value, dict):
        return {str(pattern): to_strength(item) for pattern, item in value.items()}
    return None if value is None else to_strength(value)


Number = Annotated[float, BeforeValidator(_number, json_schema_input_type=float)]
Whole = Annotated[int, BeforeValidator(to_whole, json_schema_input_type=int)]
Seed = Annotated[int, BeforeValidator(_seed, json_schema_input_type=Annotated[int, Field(ge=0)])]
NumberOrWord = Annotated[
    float | str, BeforeValidator(to_word_or_number, json_schema_input_type=float | str)
]
Truth = Annotated[bool, BeforeValidator(_truth, json_schema_input_type=bool)]
Lines = BeforeValidator(
    _lines,
    json_schema_input_type=Annotated[int, Field(ge=0, le=1_000_000)] | None,  # pyright: ignore[reportOperatorIssue]
)
# What a file writes as a number or a truth value may be a word: a column that is called 400.
_Word = str | float | bool
Word = Annotated[str, BeforeValidator(to_word, json_schema_input_type=_Word)]
OneOrMore = BeforeValidator(to_words, json_schema_input_type=_Word | list[_Word])
Words = Annotated[list[Word], OneOrMore, Field(min_length=1)]
Delimiter = Literal["auto", "comma", "semicolon", "tab", "space"]
SCALARS: dict[object, Any] = {float: Number, int: Whole, bool: Truth, str: Word}
