"""Imports point down: a room uses only rooms in the rows above its own, and files form no circle.

The rooms of a row stand side by side and know nothing of one another. A room is a folder, or a file
beside the folders. A new file in a room needs nothing here, nor does one in `basis` or `linalg`, whose
rows are of files; a new room needs a place in a row.
"""

import ast
import pathlib
from collections.abc import Iterator

import pytest

import varpro

ROWS = {
    "varpro": [
        "_errors _status _types _text _equality _programs",
        "_places",
        "_given linalg",
        "_parameters",
        "basis",
        "_problem",
        "_reduced _starts",
        "_search",
        "_statistics",
        "_figures",
        "_results",
        "_single _global _dmd _operator",
        "_batch _linked",
        "_fit _load",
        "_prepare",
        "__init__",
        "app",
        "__main__",
    ],
    "varpro.app": [
        "caller paths signals terminal",
        "atomic_files guard progress provenance regular_files",
        "config",
        "data",
        "plan scaffold",
        "propose report",
        "runs",
        "cli",
        "entry",
        "__init__",
    ],
    "varpro.linalg": [
        "_factor _masked_qr _cholesky _operator _block_tridiagonal",
        "_derivative _householder _full_rank _iterative",
        "_orthogonal _projected",
        "_qr _pivoted_qr _svd _normal _gram_schmidt",
        "_pinv_solve _lineax _column_scaling _active_set",
        "_project_out _bounded_lstsq _bounded_normal",
        "__init__",
    ],
    "varpro.basis": [
        "_faddeeva _matrix_exponential _start_grids _dependence _reported",
        "_base _driven_systems",
        "_loss",
        "_response _peak _polynomial _spline _complex_exp _custom _ode",
        "_decay _oscillation _kinetics _voigt _asymmetric _step _gaussian_irf _measured_irf _model",
        "_coherent_artifact _stretched",
        "__init__",
    ],
}
HOUSES_OF_FILES = {"varpro.basis", "varpro.linalg"}
ROOT = pathlib.Path(varpro.__file__).parent


def module_of(path: pathlib.Path, root: pathlib.Path) -> str:
    """The dotted name of a file; the file of a package is `package.__init__`."""
    return ".".join(("varpro", *path.relative_to(root).with_suffix("").parts))


def modules_of(root: pathlib.Path) -> dict[str, pathlib.Path]:
    return {module_of(path, root): path for path in sorted(root.rglob("*.py"))}


def imported(path: pathlib.Path, root: pathlib.Path) -> Iterator[str]:
    """The modules of varpro that a file imports, anywhere in it; a package is its `__init__`."""

    def whole(parts: tuple[str, ...]) -> str:
        place = root.joinpath(*parts[1:])
        inside = (*parts, "__init__") if place.is_dir() or len(parts) == 1 else parts
        return ".".join(inside)

    package = ("varpro", *path.relative_to(root).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
            yield from (whole(name) for name in names if name[0] == "varpro")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            base += tuple((node.module or "").split(".")) if node.module else ()
            if base[:1] != ("varpro",):
                continue
            for alias in node.names:
                place = root.joinpath(*base[1:], alias.name)
                is_module = place.is_dir() or place.with_suffix(".py").is_file()
                # `from .. import basis` names a module, `from varpro import fit` a name of the API.
                yield whole((*base, alias.name) if is_module else base)


def misplaced(importer: str, other: str) -> str | None:
    """What is wrong with an import, in a sentence; None if nothing is."""
    mine, theirs = importer.split("."), other.split(".")
    depth = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), None)
    if depth is None:
        return None
    house, me, room = ".".join(mine[:depth]), mine[depth], theirs[depth]
    if house == "varpro" and me == "app":
        public = room == "__init__" or (room in ("basis", "linalg") and theirs[-1] == "__init__")
        return None if public else f"{importer} must not import {other}: app speaks the public API."
    if house not in ROWS:
        return None
    rank = {name: i for i, row in enumerate(ROWS[house]) for name in row.split()}
    if not {me, room} <= {*rank} or rank[room] < rank[me]:
        return None  # what has no row is named once, by `violations`
    where = "beside" if rank[room] == rank[me] else "below"
    return f"{importer} must not import {other}: {room} stands {where} {me} in ROWS."


def violations(path: pathlib.Path, root: pathlib.Path) -> list[str]:
    """What is wrong with the imports of one file, in sentences."""
    me = module_of(path, root)
    parts = me.split(".")
    wrong = []
    for depth in (1, 2):
        house = ".".join(parts[:depth])
        if house in ROWS.keys() - HOUSES_OF_FILES:
            if parts[depth] not in " ".join(ROWS[house]).split():
                wrong.append(f"{house} has no row for '{parts[depth]}'; give it one in ROWS.")
    misplacements = (misplaced(me, other) for other in imported(path, root) if other != me)
    return wrong + [sentence for sentence in misplacements if sentence]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle of imports, in order; empty if there is none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done or module not in graph:
            return []
        for other in sorted(graph[module]):
            if found := visit(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def graph_of(root: pathlib.Path) -> dict[str, set[str]]:
    return {name: {*imported(path, root)} - {name} for name, path in modules_of(root).items()}


@pytest.mark.parametrize("name", modules_of(ROOT))
def test_imports_point_down(name):
    assert violations(modules_of(ROOT)[name], ROOT) == []


def test_files_form_no_circle():
    assert circle(graph_of(ROOT)) == []


def house(tmp_path: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    for name in ("_parameters/param", "_single/program", "_batch/program", "_fit", "__init__"):
        files.setdefault(f"{name}.py", "")
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "line", "complaint"),
    [
        ("_parameters/x.py", "from .._fit import fit", "must not import varpro._fit"),
        ("_parameters/x.py", "from .. import _fit", "must not import varpro._fit"),
        ("_parameters/x.py", "from varpro._fit import fit", "_fit stands below _parameters"),
        ("_parameters/x.py", "import varpro._fit", "_fit stands below _parameters"),
        ("_parameters/x.py", "import varpro", "__init__ stands below _parameters"),
        ("_parameters/x.py", "from varpro import fit", "__init__ stands below _parameters"),
        ("_parameters/x.py", "def f():\n    from .._fit import fit", "_fit stands below"),
        ("_global/x.py", "from .._single.program import y", "_single stands beside _global"),
        ("basis/_peak.py", "from .._fit import fit", "_fit stands below basis"),
        ("basis/_peak.py", "from ._model import build_model", "_model stands below _peak"),
        ("basis/_peak.py", "from ._spline import BSpline", "_spline stands beside _peak"),
        ("linalg/_qr.py", "from .._fit import fit", "_fit stands below linalg"),
        ("linalg/_qr.py", "from ._pinv_solve import pinv_solve", "_pinv_solve stands below _qr"),
        ("app/runs/run.py", "from varpro._fit import fit", "app speaks the public API"),
        ("app/cli.py", "from .._fit import fit", "app speaks the public API"),
        ("app/config/x.py", "from ..runs.run import run", "runs stands below config"),
        ("app/plan/x.py", "from ..scaffold.y import z", "scaffold stands beside plan"),
        ("_new.py", "", "no row for '_new'"),
        ("app/new/x.py", "", "no row for 'new'"),
    ],
)
def test_the_checker_sees_a_wrong_import(tmp_path, place, line, complaint):
    others = (
        "basis/_model",
        "basis/_spline",
        "linalg/_pinv_solve",
        "app/runs/run",
        "app/scaffold/y",
    )
    root = house(tmp_path, {f"{name}.py": "" for name in others} | {place: line})
    (found,) = violations(root / place, root)
    assert complaint in found


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("_fit.py", "from ._parameters.param import Param\nimport jax\nfrom .basis import Exp"),
        ("_parameters/new.py", "from .param import Param\nfrom .._errors import InputError"),
        ("basis/_peak.py", "from . import _base\nfrom .._parameters.param import Param"),
        ("basis/_new.py", "from ._base import AbstractBasis"),
        ("app/runs/run.py", "import varpro as vp\nfrom varpro import fit\nfrom ..plan.x import y"),
        ("app/plan/x.py", "import varpro.basis\nfrom .y import z"),
        ("__init__.py", "from . import basis, linalg\nfrom ._fit import fit"),
    ],
)
def test_the_checker_lets_a_right_import_pass(tmp_path, place, line):
    others = ("basis/_base", "linalg/_qr", "app/plan/y", "_errors")
    root = house(tmp_path, {f"{name}.py": "" for name in others} | {place: line})
    assert violations(root / place, root) == []


def test_the_checker_sees_a_circle_within_a_room(tmp_path):
    files = {"_single/a.py": "from .b import x", "_single/b.py": "def f():\n    from . import c"}
    root = house(tmp_path, files | {"_single/c.py": "from .a import y"})
    assert circle(graph_of(root)) == [f"varpro._single.{name}" for name in "abc"]
