"""From a configuration file to one call of `varpro.fit`. Reads files and writes none."""

import dataclasses
import fnmatch
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import varpro as vp

from .columns import Columns, read_columns
from .config import BasisComponent, Component, Config, CustomComponent, complain, nearest, parse
from .functions import blaming, import_function
from .loader import Document, Key, load, read_bytes
from .units import coefficient_unit, parameter_unit


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that a run needs, checked."""

    document: Document
    config: Config
    columns: Columns
    model: vp.basis.AbstractBasis
    units: dict[str, str]
    inputs: dict[str, Path]

    @property
    def folder(self) -> Path:
        """The folder of the configuration file, from which its paths are read."""
        return Path(self.document.file).absolute().parent

    def fit(self) -> vp.FitResult:
        data, config = self.columns, self.config
        solver = config.fit.solver
        try:
            return vp.fit(
                self.model,
                data.x,
                data.y,
                sigma=data.sigma,
                weights=data.weights,
                absolute_sigma=config.fit.absolute_sigma,
                noise=config.fit.noise,
                loss_scale=config.fit.loss_scale,
                share=config.fit.share,
                fix=config.constraints.fix,
                tie=config.constraints.tie,
                order=config.constraints.order,
                solver=vp.LevenbergMarquardt(  # pyright: ignore[reportCallIssue]
                    ftol=solver.ftol, xtol=solver.xtol, gtol=solver.gtol
                ),
                jacobian=solver.jacobian,
                max_steps=solver.max_steps,
            )
        except vp.InputError as error:
            raise vp.InputError(f"{self.document.file}: {error}") from error

    def resolved(self, target: Path) -> dict[str, Any]:
        """The configuration with every default filled in, as it reproduces the run from `target`."""
        tree = self.config.model_dump(mode="json", by_alias=True, exclude_none=True)
        tree["data"]["path"] = _path_from(target, self.folder / self.config.data.path)
        tree["data"]["units"] = {"x": self.columns.x_unit, "y": self.columns.y_unit}
        tree["data"]["units"] = {k: v for k, v in tree["data"]["units"].items() if v}
        for section in tree["model"].values():
            if "folder" in section:
                section["folder"] = _path_from(target, self.folder / section["folder"])
        tree["output"]["dir"] = "."
        return tree

    def digests(self) -> dict[str, str]:
        """SHA-256 of every input file, by its role."""
        return {
            role: hashlib.sha256(read_bytes(path, role)).hexdigest()
            for role, path in self.inputs.items()
        }


def make_plan(path: str) -> Plan:
    """Read and check a configuration and its data; the model is evaluated for its shape only."""
    document = load(path)
    config = parse(document, default_dir=f"runs/{Path(path).stem}")
    folder = Path(path).absolute().parent
    columns = read_columns(document, config, folder)
    inputs = {"data": folder / config.data.path}
    problems: list[str] = []
    parts: list[vp.basis.AbstractBasis] = []
    units: dict[str, str] = {}
    responses: dict[str, vp.GaussianIRF] = {}
    for name, response in config.responses.items():
        try:
            responses[name] = response.build(name)
        except vp.InputError as error:
            problems.append(complain(document, ("responses", name), str(error)))
    if problems:
        raise vp.InputError("\n".join(problems))
    for name, component in config.model.items():
        try:
            part, source = _build(name, component, folder, columns.x, responses)
        except vp.InputError as error:
            lines = str(error).splitlines()
            problems += [complain(document, ("model", name), line) for line in lines]
            continue
        parts.append(part)
        units |= _units(config, component, part, columns)
        if source is not None:
            inputs[f"model.{name}.function"] = source
    # Names and counts can be judged once every component is known.
    for judge in (_without_start, _misnamed, _too_few):
        problems = problems or list(judge(document, config, parts, columns))
    if problems:
        raise vp.InputError("\n".join(problems))
    return Plan(document, config, columns, sum(parts[1:], parts[0]), units, inputs)


def _build(
    name: str,
    component: Component,
    folder: Path,
    x: np.ndarray,
    responses: dict[str, vp.GaussianIRF],
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
        part.parameter_name(local): given.get(local) or parameter_unit(bare, columns.x_unit)
        for local, bare in own.items()
    }
    for name in part.column_names:
        if isinstance(component, CustomComponent):
            units[name] = component.unit or ""
        else:
            units[name] = coefficient_unit(component.kind, name, columns.x_unit, columns.y_unit)
    return units


def _without_start(
    document: Document, config: Config, parts: list[vp.basis.AbstractBasis], columns: Columns
) -> Iterator[str]:
    for part, (name, component) in zip(parts, config.model.items(), strict=True):
        above = ("parameters",) if isinstance(component, CustomComponent) else ()
        for local, param in part.parameters.items():
            full, key = part.parameter_name(local), ("model", name, *above, local)
            if "." in local and not above:
                key = ("responses", *local.split("."))
            if param.init is not None or full in config.constraints.tie:
                continue
            if param.fixed or any(fnmatch.fnmatch(full, p) for p in config.constraints.fix):
                yield complain(document, key, "is fixed and has no value. Give it init.")
            elif not part.finds_start:
                yield complain(document, key, "has no start. Give it init.")


def _misnamed(
    document: Document, config: Config, parts: list[vp.basis.AbstractBasis], columns: Columns
) -> Iterator[str]:
    """Names in the constraints that no parameter has."""
    names = [part.parameter_name(local) for part in parts for local in part.parameters]
    chains, rules = config.constraints.order, config.constraints
    used: list[tuple[Key, str]] = [(("fix", i), name) for i, name in enumerate(rules.fix)]
    used += [(("tie", name), word) for name, other in rules.tie.items() for word in (name, other)]
    flat = len(chains) == 1
    for i, chain in enumerate(chains):
        used += [(("order", j) if flat else ("order", i, j), word) for j, word in enumerate(chain)]
    for key, word in used:
        if not fnmatch.filter(names, word) if key[0] == "fix" else word not in names:
            message = f"no parameter is called '{word}'. {nearest(word, names)}"
            yield complain(document, ("constraints", *key), message)


def _too_few(
    document: Document, config: Config, parts: list[vp.basis.AbstractBasis], columns: Columns
) -> Iterator[str]:
    params = {p.parameter_name(k): v for p in parts for k, v in p.parameters.items()}
    held = {name for pattern in config.constraints.fix for name in fnmatch.filter(params, pattern)}
    held |= {name for name, param in params.items() if param.fixed} | set(config.constraints.tie)
    linear = sum(len(part.column_names) for part in parts) * len(columns.y_names)
    free = len(params) - len(held)
    if columns.y.size < free + linear:
        yield complain(
            document,
            ("data",),
            f"{columns.y.size} data points cannot determine {free + linear} parameters "
            f"({free} nonlinear, {linear} linear). Give more data or a smaller model.",
        )


def _path_from(folder: Path, path: Path) -> str:
    """`path` seen from `folder`, or absolute when they have nothing but the root in common."""
    path = Path(os.path.normpath(path))
    common = os.path.commonpath([folder, path]) if folder.anchor == path.anchor else path.anchor
    if common == path.anchor:
        return path.as_posix()
    return Path(os.path.relpath(path, folder)).as_posix()
