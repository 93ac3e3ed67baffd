"""Which key of a configuration an error of `varpro.fit` is about.

The library names its arguments, parameters and columns; the key that said them has a line in the file.
"""

import re

import varpro as vp

from ..config.document import Key
from ..config.messages import complain
from .plan import Plan

_DATA, _RULES, _FIT = ("data",), ("constraints",), ("fit",)
# How messages begin, or what stands in them, and the key that it is about.
_ABOUT: tuple[tuple[str, Key], ...] = (
    (r"(tie|order|fix|relations|smooth|ridge|nonnegative|bounds)\b:?", _RULES),
    (r".*\bnonnegative\b", (*_RULES, "nonnegative")),
    (r".*relations=", (*_RULES, "relations")),
    (r".*'gcv'|.*[Aa] penalty", (*_RULES, "ridge")),
    (r"(noise|loss_scale|starts|seed|compress)\b", _FIT),
    (r".*noise=", (*_FIT, "noise")),
    (r".*cannot be compressed", (*_FIT, "compress")),
    (r"share\b|.*is shared, but|.*share=", (*_FIT, "share")),
    (r"(sigma|weights|mask|x|y|nan)\b", _DATA),
)


def blamed(plan: Plan, error: vp.InputError) -> vp.InputError:
    """The same error, a line for each of its own, with file and line of the key that it is about."""
    lines = (_with_place(plan, line) for line in str(error).splitlines())
    return vp.InputError("\n".join(lines))


def _with_place(plan: Plan, message: str) -> str:
    key, message = _key(plan, message)
    if key is None:
        return f"{plan.document.file}: {message}"
    return complain(plan.document, key, message)


def _key(plan: Plan, message: str) -> tuple[Key | None, str]:
    section: Key = _DATA
    found = re.match(r"Data set '([^']+)'(?:: | )", message)
    if found and found[1] in plan.config.datasets:
        section = ("datasets", found[1])
        if found[0].endswith(": "):
            message = message[found.end() :]
    elif plan.several:
        section = ("datasets",)
    if re.match(
        r"(Data set '[^']+' has )?\d+ data points cannot|No sample|Right-hand side \d", message
    ):
        return section, message
    for pattern, key in _ABOUT:
        if matched := re.match(pattern, message):
            word = matched[1] if matched.re.groups else None
            key = section if key == _DATA else key
            if word is None:
                return key, message
            if word == "tie" and not plan.config.constraints.tie:
                return None, message
            named = _among(plan, message, (*key, word))
            return (*key, word, *named), message
    return _part(plan, message), message


def _among(plan: Plan, message: str, key: Key) -> Key:
    """The entry of a rule that a message names."""
    rule = getattr(plan.config.constraints, str(key[-1]), None) if key[0] == "constraints" else None
    quoted = set(re.findall(r"'([^']+)'", message))
    if isinstance(rule, dict):
        return next(((name,) for name in rule if name in quoted), ())
    if key[-1] == "order" and isinstance(rule, list) and len(rule) > 1:
        return next(((i,) for i, chain in enumerate(rule) if quoted & set(chain)), ())
    return ()


def _part(plan: Plan, message: str) -> Key | None:
    """The parameter or component that a message names first."""
    places: dict[str, Key] = {}
    responses, rules = plan.config.responses, plan.config.constraints
    for name in plan.config.model:
        places[name] = ("model", name)
    for model in plan.models.values():
        for part in model.parts if isinstance(model, vp.basis.Sum) else (model,):
            for local in part.parameters:
                owner, _, rest = local.partition(".")
                inside = ("responses", owner, rest) if owner in responses else None
                places[part.parameter_name(local)] = inside or ("model", part.name, local)
            for column in part.column_names:
                places.setdefault(column, ("model", part.name))
    for key in plan.config.datasets:
        places |= {f"{key}.{name}": place for name, place in list(places.items())}
    bounds = {name: ("constraints", "bounds", name) for name in rules.bounds}
    if "bounds" in message:
        places |= bounds
    at = {name: _first(name, message) for name in places}
    named = [name for name in places if at[name] >= 0]
    # Of names that begin at one place the longest is meant.
    best = min(named, key=lambda name: (at[name], -len(name)), default=None)
    return None if best is None else places[best]


def _first(name: str, message: str) -> int:
    found = re.search(rf"(?<![\w.]){re.escape(name)}(?![\w]|\.\w)", message)
    return -1 if found is None else found.start()
