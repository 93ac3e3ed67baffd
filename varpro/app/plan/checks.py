"""What is wrong with a configuration once its components are known: names, starts, counts."""

import fnmatch
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

import varpro as vp

from ..config.document import Key
from ..config.fit import Somewhere
from ..config.messages import complain, nearest
from .effects import without_effect

if TYPE_CHECKING:
    from .plan import Plan

Parts = Mapping[str, vp.basis.AbstractBasis]


def problems_of(plan: "Plan", parts: Parts) -> Iterator[str]:
    """Every problem of the first kind that has any, a line each."""
    for judge in (_misnamed, _idle, _complex, _without_start, _too_few):
        found = list(judge(plan, parts))
        yield from found
        if found:
            return


def _idle(plan: "Plan", parts: Parts) -> Iterator[str]:
    return without_effect(plan)


def _complex(plan: "Plan", parts: Parts) -> Iterator[str]:
    """Waves of complex data where the data are real."""
    given = (plan.source or data.y for data in plan.sets.values())
    if any(np.dtype(one.dtype).kind == "c" for one in given):
        return
    for name, component in plan.config.model.items():
        if component.kind == "complex_exp":
            message = (
                "is for complex data, but y is real. Its imaginary part is named by data.imag."
            )
            yield complain(plan.document, ("model", name), message)


def _without_start(plan: "Plan", parts: Parts) -> Iterator[str]:
    document, rules = plan.document, plan.config.constraints
    listed = {name for name, param in plan.listed.items() if param.init is not None}
    listed |= {
        n for pattern in plan.config.fit.init for n in fnmatch.filter(plan.parameters, pattern)
    }
    for name, component in plan.config.model.items():
        part = parts[name]
        above = (component.below,) if component.below else ()
        for local, param in part.parameters.items():
            full, key = part.parameter_name(local), ("model", name, *above, local)
            if local.partition(".")[0] in plan.config.responses:
                key = ("responses", *local.split("."))
            if param.init is not None or full in rules.tie or _means(full, listed, plan):
                continue
            if param.fixed or any(fnmatch.fnmatch(full, p) for p in rules.fix):
                yield complain(document, key, "is fixed and has no value. Give it init.")
            elif not part.finds_start:
                yield complain(document, key, "has no start. Give it init.")


def _misnamed(plan: "Plan", parts: Parts) -> Iterator[str]:
    """Names in the constraints that no parameter or coefficient has."""
    names = list(dict.fromkeys(p.parameter_name(k) for p in parts.values() for k in p.parameters))
    columns = [column for part in parts.values() for column in part.column_names]
    of_sets = [f"{key}.{name}" for key in plan.sets if key for name in names]
    rules, chains = plan.config.constraints, plan.config.constraints.order
    used: list[tuple[Key, str, bool]] = [
        (("fix", i), name, True) for i, name in enumerate(rules.fix)
    ]
    for name, other in rules.tie.items():
        used.append((("tie", name), name, False))
        if not set(other) & set("+-*/( "):
            used.append((("tie", name), other, False))
            continue
        try:
            found = vp.Expression.parse(other, [*names, *of_sets], "tie")
            if not found.names or found.linear() is not None:
                vp.Tie.parse(
                    other, [*names, *of_sets]
                )  # what is linear follows one, and by a number
        except vp.InputError as error:
            yield complain(plan.document, ("constraints", "tie", name), str(error))
    for i, text in enumerate(rules.inequalities):
        try:
            vp.Inequality.parse(text, [*names, *of_sets])
        except vp.InputError as error:
            message = str(error).removeprefix("inequalities: ")
            yield complain(plan.document, ("constraints", "inequalities", i), message)
    flat = len(chains) == 1
    for i, chain in enumerate(chains):
        for j, word in enumerate(chain):
            used.append((("order", j) if flat else ("order", i, j), word, False))
    for key, word, pattern in used:
        known = [*names, *of_sets]
        if not (fnmatch.filter(known, word) if pattern else word in known):
            message = f"no parameter is called '{word}'. {nearest(word, known)}"
            yield complain(plan.document, ("constraints", *key), message)
    for name in rules.bounds:
        if not fnmatch.filter([*names, *of_sets, *columns], name):
            message = (
                f"no parameter or column is called '{name}'. {nearest(name, [*names, *columns])}"
            )
            yield complain(plan.document, ("constraints", "bounds", name), message)
    yield from _underivable(plan)
    of_columns: list[tuple[Key, str]] = []
    if isinstance(rules.nonnegative, list):
        of_columns += [(("nonnegative", i), name) for i, name in enumerate(rules.nonnegative)]
    of_columns += [(("relations", name), name) for name in rules.relations]
    of_columns += [(("smooth", name), name) for name in rules.smooth]
    for i, area in enumerate(rules.equal_areas):
        named = {"first": area.first, "second": area.second}
        for end, name in named.items():
            if name not in columns:
                message = f"no column is called '{name}'. {nearest(name, columns)}"
                yield complain(plan.document, ("constraints", "equal_areas", i, end), message)
    if isinstance(rules.ridge, dict):
        of_columns += [(("ridge", name), name) for name in rules.ridge]
    for key, word in of_columns:
        if not fnmatch.filter(columns, word):
            message = f"no column is called '{word}'. {nearest(word, columns)}"
            yield complain(plan.document, ("constraints", *key), message)
    if isinstance(plan.config.fit.share, list):
        for i, word in enumerate(plan.config.fit.share):
            if not fnmatch.filter(names, word):
                message = f"no parameter matches '{word}'. {nearest(word, names)}"
                yield complain(plan.document, ("fit", "share", i), message)
    for name in plan.config.fit.init:
        if not fnmatch.filter(names, name):
            message = f"no parameter is called '{name}'. {nearest(name, names)}"
            yield complain(plan.document, ("fit", "init", name), message)
    for name in plan.listed:
        if name not in names and name not in of_sets:
            yield (
                f"{plan.config.parameters}: no parameter is called '{name}'. "
                f"{nearest(name, [*names, *of_sets])}"
            )


def _underivable(plan: "Plan") -> Iterator[str]:
    """What `derived` asks for that no number has."""
    asked, known = plan.config.derived, []
    for key, model in plan.models.items():
        known += (n if not key else f"{key}.{n}" for n in vp.basis.build_model(model).number_names)
    known += plan.parameters
    for i, (name, text) in enumerate(
        asked.items() if isinstance(asked, dict) else ((None, text) for text in asked)
    ):
        key = ("derived", i if name is None else name)
        if name in known:
            yield complain(
                plan.document, key, f"'{name}' is a number of the model. Choose another name."
            )
        try:
            if name is not None or not fnmatch.filter(known, text):
                vp.Expression.parse(text, known, "derived")
        except vp.InputError as error:
            yield complain(plan.document, key, str(error).removeprefix("derived: "))
        if name is not None:
            known.append(name)  # those that come later may take it
    section = plan.config.sections.get("")
    if asked and plan.config.each and section is not None and plan.source is not None:
        for word in ("sigma", "weights", "mask"):
            if isinstance(getattr(section, word), str):
                message = f"is not for a cube with {word} of its own. Use fit_many and derive."
                yield complain(plan.document, ("derived",), message)


def _means(full: str, listed: set[str], plan: "Plan") -> bool:
    """Whether a table of parameters gives this one, in every data set."""
    every = [f"{key}.{full}" for key in plan.sets if key]
    return full in listed or (bool(every) and all(name in listed for name in every))


def _too_few(plan: "Plan", parts: Parts) -> Iterator[str]:
    rules = plan.config.constraints
    if rules.ridge is not None or rules.smooth or plan.several:
        return  # the fit itself knows better
    data, params = plan.columns, plan.parameters
    if not data.y.size:
        yield complain(plan.document, ("data",), "there are no samples to fit.")
        return
    held = {name for pattern in rules.fix for name in fnmatch.filter(params, pattern)}
    held |= {name for name, param in params.items() if param.fixed} | set(rules.tie)
    everywhere = [one for one in rules.relations.values() if not isinstance(one, Somewhere)]
    linear = len(plan.model.column_names) - len(everywhere)
    linear *= data.y.size // len(data.y)
    each = 2 if np.iscomplexobj(data.y) else 1
    linear *= 1 if rules.real_coefficients else each
    free, size = len(params) - len(held), each * data.y.size
    if size < free + linear:
        yield complain(
            plan.document,
            ("data",),
            f"{size} data points cannot determine {free + linear} parameters "
            f"({free} nonlinear, {linear} linear). Give more data or a smaller model.",
        )
