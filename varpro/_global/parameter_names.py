"""Names in a fit of several data sets: which parameters are shared, what each name given by the user
stands for, and the rules of every data set."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .._errors import InputError, suggestion
from .._given.arguments import names as names_in, number
from .._parameters.expression import Expression, renamed
from .._parameters.inequality import Inequality
from .._parameters.param import Param
from .._parameters.tie import Tie, as_tie
from .._problem.data import Data
from .._problem.linear_constraints import CoefficientSpec, Linear
from .._problem.model_like import ModelLike
from .._problem.options import Constraints
from .._starts.declare import Declared
from .._starts.guess import guess_starts
from .global_fit import matching


def model_of(model: ModelLike | Mapping[str, ModelLike], key: str, sets: Mapping) -> ModelLike:
    if not isinstance(model, Mapping):
        return model
    wrong = [name for name in model if name not in sets]
    if wrong or key not in model:
        raise InputError(
            f"model has entries for {sorted(model)}, but the data sets are {sorted(sets)}. Give one "
            "model for all, or one for each."
        )
    return model[key]


def init_of(init: Mapping[str, Param | float], key: str) -> dict[str, Param | float]:
    """Starts by the names that a data set's own function knows."""
    return {name.removeprefix(f"{key}."): value for name, value in init.items()}


def shared_names(
    share: str | Sequence[str], declared: Mapping[str, Mapping[str, Param]]
) -> set[str]:
    """Own names of parameters of which there is one for all data sets."""
    known = dict.fromkeys(name for some in declared.values() for name in some)
    if share in ("all", "none"):
        return set(known) if share == "all" else set()
    return asked_names("share", "parameter", share, known)


def asked_names(
    what: str, kind: str, patterns: str | Sequence[str], known: Iterable[str]
) -> set[str]:
    """Names that match one of the patterns, which `what` gives for the names of this kind.

    **Raises:** `InputError` for a pattern that matches none.
    """
    known, found = list(known), set()
    for pattern in names_in(what, patterns):
        some = fnmatch.filter(known, pattern)
        if not some:
            raise InputError(
                f"{what}: no {kind} matches '{pattern}'. {suggestion(pattern, known)}",
                argument=what,
                name=pattern,
            )
        found.update(some)
    return found


def full_name(key: str, name: str, shared: set[str]) -> str:
    return name if name in shared else f"{key}.{name}"


def named(
    declared: Mapping[str, Mapping[str, Param]], shared: set[str], init: Mapping[str, Any]
) -> tuple[dict[str, Param], tuple[str, ...]]:
    """All parameters by full name, and the names that they have in their data set."""
    params: dict[str, Param] = {}
    own: dict[str, str] = {}
    for key, some in declared.items():
        for name, param in some.items():
            full = full_name(key, name, shared)
            if full in own and (own[full] != name or name not in shared):
                raise InputError(f"Two parameters have the name '{full}'. Rename a data set.")
            if full in params and params[full] != param:
                if not any(fnmatch.fnmatchcase(name, pattern) for pattern in init):
                    raise InputError(
                        f"'{name}' is shared, but '{key}' declares it differently from another data "
                        f"set. Say which holds: init={{'{name}': ...}}.",
                        argument="share",
                        name=name,
                    )
                continue
            params[full], own[full] = param, name
    return params, tuple(own.values())


def matched(pattern: str, names: tuple[str, ...], own: tuple[str, ...], where: str) -> list[int]:
    found = matching(pattern, names, own)
    if not found:
        known = dict.fromkeys((*names, *own))
        raise InputError(
            f"{where}: no parameter matches '{pattern}'. {suggestion(pattern, known)}",
            argument=where,
            name=pattern,
        )
    return found


def applied(
    params: dict[str, Param], own: tuple[str, ...], constraints: Constraints
) -> dict[str, Param]:
    """The parameters with starts and bounds on top of what the models say; a name means the
    parameter of that name in every data set, a full name one of them and wins."""
    names, params = tuple(params), dict(params)
    init, bounds = constraints.init, constraints.bounds
    for pattern in sorted(init, key=lambda p: p in names):
        value = init[pattern]
        for i in matched(pattern, names, own, "init"):
            old = params[names[i]]
            params[names[i]] = (
                value
                if isinstance(value, Param)
                else dataclasses.replace(old, init=number(f"init for {names[i]}", value, "init"))
            )
    for pattern in sorted(bounds, key=lambda p: p in names):
        lower, upper = bounds[pattern]
        for i in matched(pattern, names, own, "bounds"):
            old = params[names[i]]
            lower, upper = (number(f"bounds for {names[i]}", e, "bounds") for e in (lower, upper))
            params[names[i]] = dataclasses.replace(old, lower=lower, upper=upper)
    return params


def guessed(params, models, datas, picks, declared) -> dict[str, Param]:
    """Starts that are left out, found in one data set after the other: what an earlier one told of a
    shared parameter holds for the later ones."""
    names, params = tuple(params), dict(params)
    for key, some in declared.items():
        mine = {name: params[names[i]] for name, i in zip(some, picks[key], strict=True)}
        if any(param.init is None for param in mine.values()):
            found = guess_starts(models[key].basis, mine, datas[key])
            for name, i in zip(some, picks[key], strict=True):
                params[names[i]] = found[name]
    return params


def of_all(
    constraints: Constraints,
    names: tuple[str, ...],
    own: tuple[str, ...],
    datas: Mapping[str, Data],
) -> Constraints:
    """The constraints by full names."""
    tie = _ties(constraints.tie, names, own, datas)
    order = _orders(constraints.order, names, own, datas)
    fix = [names[i] for p in constraints.fix for i in matched(p, names, own, "fix")]
    rules = _inequalities(constraints.inequalities, names, own, datas)
    return dataclasses.replace(constraints, tie=tie, order=order, fix=fix, inequalities=rules)


def _inequalities(texts, names, own, datas) -> tuple[str, ...]:
    """Inequalities by full names; one of parameters of data sets holds in each of them."""
    out: list[str] = []
    known = tuple(dict.fromkeys((*names, *own)))
    for text in texts:
        spoken = {name for one in Inequality.parse(text, known) for name in one.slopes}
        if all(name in names for name in spoken):
            out.append(text)
            continue
        for key in datas:
            local = {n: f"{key}.{n}" if f"{key}.{n}" in names else n for n in spoken}
            if all(n in names for n in local.values()):
                out.append(renamed(text, local))
    return tuple(out)


def _ties(tie, names, own, datas) -> dict[str, Tie | Expression]:
    """Ties by full names; one between parameters of data sets holds in each of them."""
    out = {}
    for name, target in tie.items():
        if name in names or name not in own:
            out[name] = as_tie(target, names)
            continue
        target = as_tie(target, tuple(dict.fromkeys((*names, *own))))
        for key in datas:
            if f"{key}.{name}" in names:

                def here(one: str, key: str = key) -> str:
                    return f"{key}.{one}" if f"{key}.{one}" in names else one

                if isinstance(target, Tie):
                    local = target._replace(name=here(target.name))
                else:
                    local = target._replace(names=tuple(map(here, target.names)))
                out[f"{key}.{name}"] = local
    return out


def _orders(order, names, own, datas) -> list[list[str]]:
    """Chains by full names; one of parameters of data sets holds in each of them."""
    out = []
    for chain in order:
        if isinstance(chain, str) or not any(n in own and n not in names for n in chain):
            out.append(chain)
            continue
        for key in datas:
            local = [f"{key}.{n}" if f"{key}.{n}" in names else n for n in chain]
            if all(n in names for n in local):
                out.append(local)
    return out


def rules_of_all(
    spec: CoefficientSpec,
    every: tuple[str, ...],
    models: Mapping[str, Declared],
    datas: Mapping[str, Data],
) -> dict[str, Linear]:
    """The rules of each data set: those for columns that it has."""
    if spec.automatic:
        raise InputError(
            "A penalty of strength 'gcv' is for one data set. Give a number.", argument="ridge"
        )
    spec.check(every)
    return {
        key: spec.among(model.columns).rules(
            *(model.columns, datas[key].y.shape[1], model.order, np.iscomplexobj(datas[key].y)),
            datas[key].names.numbers,
        )
        for key, model in ((key, declared.model) for key, declared in models.items())
    }
