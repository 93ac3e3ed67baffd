"""A configuration file, read and checked with its data, as a plan."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import varpro as vp

from ..config.config import Config, parse
from ..config.data import Data, Dataset
from ..config.document import Document, Key, changed, load
from ..config.messages import complain, nearest
from ..config.model import BasisComponent, Component, CustomComponent
from ..data.from_table import as_seen_from_here, read_columns
from ..data.kinds import is_table, may_be_data
from ..data.parameter_table import read_parameters
from ..data.samples import Columns
from ..provenance import Inputs
from ..regular_files import instead
from .checks import problems_of
from .plan import Plan
from .responses import build_responses
from .units import coefficient_unit, parameter_unit
from .user_functions import blaming, import_function


def make_plan(path: str, changes: Sequence[str] = ()) -> Plan:
    """Read and check a configuration and its data; the model is evaluated for its shape only.

    `changes` such as "fit.solver.max_steps=50" are put into the configuration first.
    """
    document = changed(load(path), changes)
    config = parse(document, default_dir=f"runs/{Path(path).stem}")
    folder = Path(path).absolute().parent
    sets, inputs, cube = {}, Inputs(), None
    for name, section in config.sections.items():
        key = ("datasets", name) if name else ("data",)
        file = folder / section.path
        inputs.note(".".join(key), file, folders=may_be_data(file))
        if section.covariance is not None:
            if config.each:
                message = (
                    "is for one fit. Curves with parameters of their own take sigma or weights."
                )
                raise vp.InputError(complain(document, (*key, "covariance"), message))
            inputs.note(".".join((*key, "covariance")), folder / section.covariance)
        try:
            if config.each and not is_table(file):
                from ..data.from_cube import read_cube

                sets[name], cube = read_cube(document, section, file)
            else:
                _refuse_keys_of_cubes(document, section, key, is_table(file))
                sets[name] = read_columns(document, section, key, folder)
        except vp.InputError as error:
            if os.path.lexists(file) or ": data: no such file." not in str(error):
                raise
            message = f"{as_seen_from_here(file)}: data: no such file.{instead(section.path, file)}"
            raise vp.InputError(complain(document, (*key, "path"), message)) from None
    problems: list[str] = []
    parts: dict[str, vp.basis.AbstractBasis] = {}
    units: dict[str, str] = {}
    columns = next(iter(sets.values()))
    responses = build_responses(document, config, folder, inputs)
    for name, component in config.model.items():
        try:
            part, source = _build(name, component, folder, columns.x, responses)
        except vp.InputError as error:
            lines = str(error).splitlines()
            problems += [complain(document, ("model", name), line) for line in lines]
            continue
        parts[name] = part
        units |= _units(config, component, part, columns)
        if source is not None:
            inputs.note(f"model.{name}.function", source)
    # Names and counts can be judged once every component is known.
    models: dict[str, vp.basis.AbstractBasis] = {}
    for name, section in config.sections.items():
        wanted = section.model if isinstance(section, Dataset) and section.model else list(parts)
        for i, one in enumerate(wanted):
            if one not in config.model:
                message = f"no component is called '{one}'. {nearest(one, config.model)}"
                problems.append(complain(document, ("datasets", name, "model", i), message))
        mine = [parts[one] for one in wanted if one in parts]
        if mine:
            models[name] = sum(mine[1:], mine[0])
    listed: dict[str, vp.Param] = {}
    if config.parameters is not None:
        inputs.note("parameters", folder / config.parameters, folders=False)
        listed = read_parameters(as_seen_from_here(folder / config.parameters))
    plan = Plan(document, config, sets, models, units, inputs, listed, cube)
    problems = problems or list(problems_of(plan, parts))
    if problems:
        raise vp.InputError("\n".join(problems))
    if plan.several:
        plan.units.update(_of_sets(plan))
    return plan


def _refuse_keys_of_cubes(document: Document, data: Data, key: Key, table: bool) -> None:
    # Rows of a table may be evenly spaced, too.
    for word in ("variable", "dims") if table else ("variable", "dims", "spacing"):
        if getattr(data, word) is not None:
            message = "is for the arrays of 'fit: {share: none}'. Name columns or arrays with y."
            raise vp.InputError(complain(document, (*key, word), message))
    if not data.y:
        raise vp.InputError(complain(document, (*key, "y"), "this key is required."))


def _of_sets(plan: Plan) -> dict[str, str]:
    """Units by names that start with that of a data set."""
    return {
        f"{name}.{key}": unit
        for name in plan.sets
        for key, unit in plan.units.items()
        if not key.startswith(tuple(f"{n}." for n in plan.sets))
    }


def _build(
    name: str,
    component: Component,
    folder: Path,
    x: np.ndarray,
    responses: Mapping[str, vp.basis.Shared],
) -> tuple[vp.basis.AbstractBasis, Path | None]:
    """A term of the model, and the file of the function that it names."""
    if isinstance(component, BasisComponent):
        return component.build(name, responses), None
    assert isinstance(component, CustomComponent)
    function, source = import_function(component, folder)
    params = {key: parameter.param() for key, parameter in component.parameters.items()}
    columns = tuple(component.columns) if component.columns else None
    basis = vp.Custom(name, function, params, columns)
    with blaming(component.function, str(source.parent if source else folder)):
        return basis.prepared(x, np.dtype(float)), source


def _units(
    config: Config, component: Component, part: vp.basis.AbstractBasis, columns: Columns
) -> dict[str, str]:
    """Units by the full names of the parameters and coefficients of one term."""
    given = component.units()
    for name, response in config.responses.items():
        given |= {f"{name}.{key}": unit for key, unit in response.units().items()}
    own = {local: local.rpartition(".")[2].rstrip("123456789") for local in part.parameters}
    units = {
        part.parameter_name(local): given.get(local)
        or parameter_unit(component.kind, bare, columns.x_unit)
        for local, bare in own.items()
    }
    for name in part.column_names:
        if isinstance(component, CustomComponent):
            units[name] = component.unit or ""
        else:
            units[name] = coefficient_unit(component.kind, name, columns.x_unit, columns.y_unit)
    return units
