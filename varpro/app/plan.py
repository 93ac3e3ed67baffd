"""From a configuration file to one call of `varpro.fit`. Reads files and writes none."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import varpro as vp

from .blame import blamed
from .checks import problems_of
from .columns import as_seen_from_here, read_columns
from .config import Config, parse
from .data_keys import Data, Dataset
from .digest import digest
from .functions import blaming, import_function
from .kinds import is_table
from .loader import Document, Key, changed, load
from .messages import complain, nearest
from .model_keys import BasisComponent, Component, CustomComponent
from .parameters import read_parameters
from .responses import build_responses
from .samples import Columns
from .units import coefficient_unit, parameter_unit

if TYPE_CHECKING:
    from .cube import Source


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that a run needs, checked. A single data set has the empty name."""

    document: Document
    config: Config
    sets: dict[str, Columns]
    models: dict[str, vp.basis.AbstractBasis]
    units: dict[str, str]
    inputs: dict[str, Path]
    listed: dict[str, vp.Param]
    source: "Source | None" = None  # the cube, where every curve is fitted for itself

    @property
    def folder(self) -> Path:
        """The folder of the configuration file, from which its paths are read."""
        return Path(self.document.file).absolute().parent

    @property
    def title(self) -> str:
        """What the run is about: the title given, or the name of the file."""
        return self.config.title or Path(self.document.file).stem

    @property
    def several(self) -> bool:
        """Whether there are data sets with names."""
        return self.config.data is None

    @property
    def columns(self) -> Columns:
        """The samples of the only data set, or of the first."""
        return next(iter(self.sets.values()))

    @property
    def model(self) -> vp.basis.AbstractBasis:
        """The model of the only data set, or of the first."""
        return next(iter(self.models.values()))

    def only(self, name: str) -> "Plan":
        """The same for one of the data sets."""
        return dataclasses.replace(
            self, sets={name: self.sets[name]}, models={name: self.models[name]}
        )

    @property
    def parameters(self) -> dict[str, vp.Param]:
        """All nonlinear parameters as the models declare them, by their names there."""
        found: dict[str, vp.Param] = {}
        for model in self.models.values():
            parts = model.parts if isinstance(model, vp.basis.Sum) else (model,)
            found |= {p.parameter_name(k): v for p in parts for k, v in p.parameters.items()}
        return found

    def fit(self) -> vp.FitResult | vp.GlobalFit:
        config, rules = self.config, self.config.constraints
        solver = config.fit.solver
        options: dict[str, Any] = {
            "absolute_sigma": config.fit.absolute_sigma,
            "noise": config.fit.noise,
            "loss_scale": config.fit.loss_scale,
            "share": config.fit.share,
            "starts": config.fit.starts,
            "seed": config.fit.seed,
            "init": self.listed,
            "fix": rules.fix,
            "tie": rules.tie,
            "order": rules.order,
            "nonnegative": rules.nonnegative,
            "bounds": {name: tuple(ends) for name, ends in rules.bounds.items()},
            "relations": rules.relations,
            "real_coefficients": rules.real_coefficients,
            "ridge": rules.ridge,
            "smooth": rules.smooth,
            "solver": vp.LevenbergMarquardt(  # pyright: ignore[reportCallIssue]
                ftol=solver.ftol, xtol=solver.xtol, gtol=solver.gtol
            ),
            "linear_solver": _LINEAR[solver.linear_solver],
            "jacobian": solver.jacobian,
            "max_steps": solver.max_steps,
            "compress": config.fit.compress,
        }
        weighing = ("sigma", "weights", "mask")
        try:
            if self.several:
                sets = {name: (data.x, data.y) for name, data in self.sets.items()}
                for what in weighing:
                    some = {
                        n: v for n, d in self.sets.items() if (v := getattr(d, what)) is not None
                    }
                    options[what] = some or None
                return vp.fit(self.models, sets, nan=self._nan, **options)
            data = self.columns
            options |= {what: getattr(data, what) for what in weighing}
            return vp.fit(self.model, data.x, data.y, nan=self._nan, **options)
        except vp.InputError as error:
            raise blamed(self, error) from error

    @property
    def _nan(self) -> Any:
        drops = any(section.nan == "drop" for section in self.config.sections.values())
        return "drop" if drops else "raise"

    def resolved(self, target: Path) -> dict[str, Any]:
        """The configuration with every default filled in, as it reproduces the run from `target`."""
        tree = self.config.model_dump(mode="json", by_alias=True, exclude_none=True)
        # In the same place whether it was given or not, so that a run of the result writes the same.
        tree = {"schema": tree["schema"], "title": self.title} | tree
        sections = tree["datasets"] if self.several else {"": tree["data"]}
        for name, section in sections.items():
            data = self.sets[name]
            given = self.config.sections[name].path
            section["path"] = _path_from(target, self.folder / given)
            if not section["y"]:
                del section["y"]
            units = {"x": data.x_unit, "y": data.y_unit}
            section["units"] = {k: v for k, v in units.items() if v}
        if self.config.parameters is not None:
            tree["parameters"] = _path_from(target, self.folder / self.config.parameters)
        for section in tree.get("responses", {}).values():
            if "path" in section:
                section["path"] = _path_from(target, self.folder / section["path"])
        for section in tree["model"].values():
            if "folder" in section:
                section["folder"] = _path_from(target, self.folder / section["folder"])
        tree["output"]["dir"] = "."
        return tree

    def digests(self) -> dict[str, str]:
        """SHA-256 of every input file or folder, by its role."""
        return {role: digest(path, role) for role, path in self.inputs.items()}


_LINEAR = {
    "svd": vp.linalg.SVD(),  # pyright: ignore[reportCallIssue]
    "qr": vp.linalg.QR(),  # pyright: ignore[reportCallIssue]
    "pivoted_qr": vp.linalg.PivotedQR(),  # pyright: ignore[reportCallIssue]
}


def make_plan(path: str, changes: Sequence[str] = ()) -> Plan:
    """Read and check a configuration and its data; the model is evaluated for its shape only.

    `changes` such as "fit.solver.max_steps=50" are put into the configuration first.
    """
    document = changed(load(path), changes)
    config = parse(document, default_dir=f"runs/{Path(path).stem}")
    folder = Path(path).absolute().parent
    sets, inputs, cube = {}, {}, None
    for name, section in config.sections.items():
        key = ("datasets", name) if name else ("data",)
        if config.each and not is_table(folder / section.path):
            from .cube import read_cube

            sets[name], cube = read_cube(document, section, folder / section.path)
        else:
            _refuse_keys_of_cubes(document, section, key)
            sets[name] = read_columns(document, section, key, folder)
        inputs[".".join(key)] = folder / section.path
    problems: list[str] = []
    parts: dict[str, vp.basis.AbstractBasis] = {}
    units: dict[str, str] = {}
    columns = next(iter(sets.values()))
    responses, files = build_responses(document, config, folder)
    inputs |= files
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
            inputs[f"model.{name}.function"] = source
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
        inputs["parameters"] = folder / config.parameters
        listed = read_parameters(as_seen_from_here(inputs["parameters"]))
    plan = Plan(document, config, sets, models, units, inputs, listed, cube)
    problems = problems or list(problems_of(plan, parts))
    if problems:
        raise vp.InputError("\n".join(problems))
    if plan.several:
        plan.units.update(_of_sets(plan))
    return plan


def _refuse_keys_of_cubes(document: Document, data: Data, key: Key) -> None:
    for word in ("variable", "dims", "spacing"):
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
    basis = vp.Custom(name, function, params, columns)  # pyright: ignore[reportArgumentType]
    with blaming(component.function, str(source.parent if source else folder)):
        return basis.prepared(x, np.dtype(float)), source


def _units(
    config: Config, component: Component, part: vp.basis.AbstractBasis, columns: Columns
) -> dict[str, str]:
    """Units by the full names of the parameters and coefficients of one term."""
    given = component.units()
    for name, response in config.responses.items():
        given |= {f"{name}.{key}": unit for key, unit in response.units().items()}
    own = {local: local.rpartition(".")[2].rstrip("23") for local in part.parameters}
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


def _path_from(folder: Path, path: Path) -> str:
    """`path` seen from `folder`, or absolute when they have nothing but the root in common."""
    path = Path(os.path.normpath(path))
    common = os.path.commonpath([folder, path]) if folder.anchor == path.anchor else path.anchor
    if common == path.anchor:
        return path.as_posix()
    return Path(os.path.relpath(path, folder)).as_posix()
