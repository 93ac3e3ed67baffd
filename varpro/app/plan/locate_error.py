"""Which key of a configuration an error of `varpro.fit` is about.

The library names its arguments, parameters and columns; the key that said them has a line in the file.
"""

import re

import varpro as vp

from ..config.document import Key
from ..config.messages import complain
from .plan import Plan

_RULES = (
    "tie",
    "order",
    "inequalities",
    "fix",
    "relations",
    "smooth",
    "ridge",
    "equal_areas",
    "nonnegative",
    "bounds",
)
_FIT = ("noise", "loss_scale", "starts", "seed", "compress", "share", "link", "scale")
_DATA = ("data", "sigma", "weights", "mask", "x", "y", "nan")


def blamed(plan: Plan, error: vp.InputError) -> vp.InputError:
    """An error of the library with file and line of the key that it is about."""
    cause, message = error.__cause__, str(error)
    if isinstance(cause, vp.InputError) and error.name in plan.config.datasets:
        message = str(cause)  # the line says which data set it is
    key = _key(plan, error, message)
    if key is None:
        return vp.InputError(f"{plan.document.file}: {message}")
    return vp.InputError(complain(plan.document, key, message))


def _key(plan: Plan, error: vp.InputError, message: str) -> Key | None:
    argument, name = error.argument, error.name
    if argument in _DATA:
        section: Key = ("datasets",) if plan.several else ("data",)
        section = (*section, name) if name in plan.config.datasets else section
        return section if argument == "data" else (*section, argument)
    if argument in _FIT:
        return ("fit", argument)
    if argument == "derived":
        return ("derived", *_entry(argument, plan.config.derived, name))
    if argument in _RULES:
        rule = getattr(plan.config.constraints, argument)
        if argument == "tie" and not rule:
            return None
        return ("constraints", argument, *_entry(argument, rule, name))
    return _part(plan, message)


def _entry(argument: str, rule: object, name: str | None) -> Key:
    """The entry of a rule, a key or a chain of `order`, in which the name stands."""
    if isinstance(rule, dict):
        return (name,) if name is not None and name in rule else ()
    if argument == "order" and isinstance(rule, list) and len(rule) > 1:
        return next(((i,) for i, chain in enumerate(rule) if name in chain), ())
    if argument == "inequalities" and isinstance(rule, list):
        return next(((i,) for i, text in enumerate(rule) if text == name), ())
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
