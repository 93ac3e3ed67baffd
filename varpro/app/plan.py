"""From a configuration file to one call of `varpro.fit`. Reads files and writes none."""

import contextlib
import dataclasses
import fnmatch
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import varpro as vp

from .config import Config, CustomComponent, complain, nearest, parse
from .loader import Document, Key, load, read_bytes
from .readers import Table, read_table
from .units import coefficient_unit, parameter_unit


@dataclasses.dataclass(frozen=True)
class Columns:
    """The samples that are fitted: `x` (m,), `y` (m,) or (m, k), and what weighs them."""

    x: np.ndarray
    y: np.ndarray
    sigma: np.ndarray | float | None
    weights: np.ndarray | None
    x_name: str
    y_names: tuple[str, ...]
    x_unit: str
    y_unit: str
    dropped: int


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
    problems: list[str] = []
    columns = _read_columns(document, config, folder)
    parts: list[vp.basis.AbstractBasis] = []
    units: dict[str, str] = {}
    inputs = {"data": folder / config.data.path}
    for name, component in config.model.items():
        key = ("model", name)
        try:
            if isinstance(component, CustomComponent):
                function, source = _import(component, folder)
                if source is not None:
                    inputs[f"model.{name}.function"] = source
                params = {k: p.param() for k, p in component.parameters.items()}
                basis = vp.Custom(
                    name, function, params, tuple(component.columns) if component.columns else None
                )
                with _blaming(component.function, str(source.parent if source else folder)):
                    part = basis.prepared(columns.x, np.dtype(float))
            else:
                part = component.build(name)  # pyright: ignore[reportAttributeAccessIssue]
        except vp.InputError as error:
            problems += [complain(document, key, line) for line in str(error).splitlines()]
            continue
        parts.append(part)
        given = component.units()
        for local, param in part.parameters.items():
            full = part.parameter_name(local)
            if param.init is None and full not in config.constraints.tie:
                here = ("parameters", local) if component.kind == "custom" else (local,)
                problems.append(complain(document, (*key, *here), "has no start. Give it init."))
            units[full] = given.get(local) or parameter_unit(local, columns.x_unit)
        for column in part.column_names:
            if isinstance(component, CustomComponent):
                units[column] = component.unit or ""
            else:
                units[column] = coefficient_unit(
                    component.kind, column, columns.x_unit, columns.y_unit
                )
    if not problems:
        names = [p.parameter_name(k) for p in parts for k in p.parameters]
        problems = list(_misnamed(document, config, names))
    if not problems:
        problems = list(_too_few(document, config, parts, columns))
    if problems:
        raise vp.InputError("\n".join(problems))
    return Plan(document, config, columns, sum(parts[1:], parts[0]), units, inputs)


def _misnamed(document: Document, config: Config, names: list[str]) -> Iterator[str]:
    """Names in the constraints that no parameter has."""
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


def _read_columns(document: Document, config: Config, folder: Path) -> Columns:
    data = config.data
    path = folder / data.path
    table = read_table(_as_seen_from_here(path), data.delimiter)

    def column(name: str, *key: str | int) -> int:
        index = table.find(name)
        if index is None:
            message = f"{table.file} has no column '{name}'. {nearest(name, table.names())}"
            raise vp.InputError(complain(document, ("data", *key), message))
        return index

    for name, wanted in data.where.items():
        index = column(name, "where", name)
        kept = [i for i, row in enumerate(table.rows) if row[index] == wanted]
        if not kept:
            seen = sorted({row[index] for row in table.rows})
            message = f"no row of column '{name}' is '{wanted}'. {nearest(wanted, seen)}"
            raise vp.InputError(complain(document, ("data", "where", name), message))
        table = table.take(kept)

    x_index = column(data.x, "x")
    y_indices: list[int] = []
    for i, name in enumerate(data.y):
        if any(sign in name for sign in "*?[") and table.find(name) is None:
            found = [j for j, head in enumerate(table.names()) if fnmatch.fnmatch(head, name)]
            found = [j for j in found if j != x_index]
            if not found:
                message = f"no column matches '{name}'. {nearest(name, table.names())}"
                raise vp.InputError(complain(document, ("data", "y", i), message))
        else:
            found = [column(name, "y", i)]
        y_indices += [j for j in found if j not in y_indices]

    _equally_long(table, x_index, y_indices)
    whole = len(table.rows)
    table = _finite(table, [x_index], data.nan)
    if data.range is not None:
        x = table.numbers(x_index)
        kept = np.flatnonzero((x >= data.range[0]) & (x <= data.range[1]))
        if not kept.size:
            message = f"no {data.x} lies between {data.range[0]:g} and {data.range[1]:g}."
            raise vp.InputError(complain(document, ("data", "range"), message))
        whole -= len(table.rows) - len(kept)
        table = table.take(kept.tolist())

    weigh: dict[str, int] = {}
    if isinstance(data.sigma, str) and data.sigma != "poisson":
        weigh["sigma"] = column(data.sigma, "sigma")
    if data.weights is not None:
        weigh["weights"] = column(data.weights, "weights")
    table = _finite(table, [*y_indices, *weigh.values()], data.nan)
    if not table.rows:
        raise vp.InputError(complain(document, ("data",), "no row is left to fit."))

    y = np.stack([table.numbers(j) for j in y_indices], axis=1)
    sigma: np.ndarray | float | None = data.sigma if isinstance(data.sigma, float) else None
    if data.sigma == "poisson":
        if y.shape[1] > 1:
            message = "poisson needs a single y column."
            raise vp.InputError(complain(document, ("data", "sigma"), message))
        _refuse(table, y_indices[0], y[:, 0] < 0, "is negative, so it is no Poisson count")
        sigma = np.sqrt(np.maximum(y[:, 0], 1.0))
    elif "sigma" in weigh:
        sigma = table.numbers(weigh["sigma"])
        _refuse(table, weigh["sigma"], sigma <= 0, "is no standard deviation; it must be positive")
    weights = None
    if "weights" in weigh:
        weights = table.numbers(weigh["weights"])
        _refuse(table, weigh["weights"], weights < 0, "is no weight; it must be zero or more")

    names = table.names()
    return Columns(
        x=table.numbers(x_index),
        y=y[:, 0] if y.shape[1] == 1 else y,
        sigma=sigma,
        weights=weights,
        x_name=names[x_index],
        y_names=tuple(names[j] for j in y_indices),
        x_unit=data.units.x or table.unit(x_index),
        y_unit=data.units.y or table.unit(y_indices[0]),
        dropped=whole - len(table.rows),
    )


def _as_seen_from_here(path: Path) -> Path:
    """A path as short as the user would write it, for messages."""
    path, here = Path(os.path.normpath(path)), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _equally_long(table: Table, x_index: int, y_indices: list[int]) -> None:
    """Columns of different length show as empty fields at the end."""
    filled = {j: [i for i, row in enumerate(table.rows) if row[j]] for j in (x_index, *y_indices)}
    lengths = {j: rows[-1] + 1 if rows else 0 for j, rows in filled.items()}
    for j in y_indices:
        if lengths[j] != lengths[x_index]:
            short = min(lengths[j], lengths[x_index])
            raise vp.InputError(
                f"{table.file}:{table.lines[short]} x ('{table.header[x_index]}') has "
                f"{lengths[x_index]} points but y ('{table.header[j]}') has {lengths[j]}."
            )


def _finite(table: Table, indices: list[int], nan: str) -> Table:
    """The rows whose numbers are finite; others are an error unless they may be dropped."""
    bad = np.stack([~np.isfinite(table.numbers(j)) for j in indices])
    if not bad.any():
        return table
    if nan == "drop":
        return table.take(np.flatnonzero(~bad.any(axis=0)).tolist())
    row = int(np.argmax(bad.any(axis=0)))
    index = indices[int(np.argmax(bad[:, row]))]
    text = table.rows[row][index]
    what = f"'{text}' is not finite" if text else "the value is missing"
    more = int(bad.sum()) - 1
    also = f" ({more} more like it)" if more else ""
    raise vp.InputError(
        f"{table.at(row, index)} column '{table.header[index]}': {what}{also}. "
        "Mend it, or set 'nan: drop' under data."
    )


def _refuse(table: Table, index: int, bad: np.ndarray, why: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise vp.InputError(
            f"{table.at(row, index)} column '{table.header[index]}': "
            f"{table.rows[row][index]} {why}."
        )


def _path_from(folder: Path, path: Path) -> str:
    """`path` seen from `folder`, or absolute when they have nothing but the root in common."""
    path = Path(os.path.normpath(path))
    common = os.path.commonpath([folder, path]) if folder.anchor == path.anchor else path.anchor
    if common == path.anchor:
        return path.as_posix()
    return Path(os.path.relpath(path, folder)).as_posix()


def _import(component: CustomComponent, folder: Path) -> tuple[Callable[..., Any], Path | None]:
    """The function that a custom component names, and the file it stands in."""
    module_name, _, name = component.function.partition(":")
    root = os.path.normpath(folder / component.folder)
    with _blaming(component.function, root), _first_on_path(root):
        module = _module_in(root, module_name) or _installed(module_name, root)
    function = getattr(module, name, None)
    source = getattr(module, "__file__", None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise vp.InputError(
            f"{source or module_name} has no function '{name}'. {nearest(name, known)}"
        )
    return function, Path(source) if source else None


def _module_in(root: str, name: str) -> Any:
    """A module file of the folder, whatever else of that name is already imported."""
    importlib.invalidate_caches()
    found = None if "." in name else importlib.machinery.PathFinder.find_spec(name, [root])
    if found is None or found.origin is None:
        return None
    # Dataclasses look their module up in `sys.modules`, where its own name may be taken.
    private = f"varpro_user_{name}"
    spec = importlib.util.spec_from_file_location(private, found.origin)
    if spec is None or spec.loader is None:
        return None
    module = sys.modules[private] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _installed(name: str, root: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        raise vp.InputError(f"no module '{name}' in {root}, nor installed.") from None


@contextlib.contextmanager
def _first_on_path(root: str) -> Iterator[None]:
    """Imports see a folder first; afterwards last, where it hides nothing of anybody else's."""
    # A run must not leave __pycache__ beside the user's files.
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
        sys.dont_write_bytecode = written
        if root not in sys.path:
            sys.path.append(root)


@contextlib.contextmanager
def _blaming(function: str, root: str) -> Iterator[None]:
    """Whatever the user's own code raises is said in one line with the place it came from."""
    try:
        yield
    except vp.InputError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [(f.filename, f.lineno) for f in frames if f.filename.startswith(root + os.sep)]
        if isinstance(error, SyntaxError):
            own = [(error.filename, error.lineno)]
        at = f" at {own[-1][0]}:{own[-1][1]}" if own else ""
        first = (str(error).strip().splitlines() or ["no message."])[0]
        raise vp.InputError(f"{function} raised {type(error).__name__}{at}: {first}") from error
