"""Imports point down: a module of varpro uses only what stands in a row above its own here."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

import varpro

ROWS = [
    *(
        "_types",
        "_results _precision _small _programs _trust_region",
        "_optional",
        "_netcdf",
        "_ties",
        "_params _noise",
        "linalg basis _data _compress _rows",
        "_linear _sought",
    ),
    *("_problem _pursuit _waves", "_reduced _guess", "_columnwise", "_several _moments _levenberg"),
    "_lanes",
    "_solve _simulate _strength",
    *("_multistart _stats", "_joint _table _same", "_fitted", "_quantities _criteria _residuals"),
    *("_bands _held _intervals _diagnostics _frames", "_profile _bootstrap"),
    *(
        "_report _store _compare _figures",
        "_fit_result",
        "_assemble _fit_program _starts",
        "_single _global_fit _batch_fit _compressed_fit",
        "_set_names _batch_program _batch_data",
        "_global",
        "_batch_job _batch_own",
        "_batch_ready",
        "_batch_starts _batch_dask",
        "_mixed_curves",
        "_mixed",
        "_batch",
    ),
    *(
        "_dmd_columns _dmd_start",
        "_dmd_limits _dmd_bags _dmd_search",
        "_dmd_plot",
        "_dmd_dataset",
        "_dmd_result",
        "_dmd",
    ),
    *("_fit _load _find_starts", "__init__", "app", "__main__"),
]
RANK = {name: i for i, row in enumerate(ROWS) for name in row.split()}
ROOT = pathlib.Path(varpro.__file__).parent


def imported(path: pathlib.Path, root: pathlib.Path) -> Iterator[str]:
    """Names of the top-level modules of varpro that a file imports; "__init__" is the API."""
    package = ("varpro", *path.relative_to(root).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            base += tuple((node.module or "").split(".")) if node.module else ()
            # `from . import basis` names modules, `from varpro import fit` names of the API.
            names = [(*base, alias.name) for alias in node.names]
            found = names if base == ("varpro",) and node.level else [base]
        else:
            continue
        for full in found:
            if full[0] == "varpro":
                yield full[1] if len(full) > 1 else "__init__"


def violations(path: pathlib.Path, root: pathlib.Path) -> list[str]:
    """What is wrong with the imports of one file, in sentences."""
    me = path.relative_to(root).parts[0].removesuffix(".py")
    if me not in RANK:
        return [f"'{me}' has no row; give it one in ROWS of tests/test_layers.py."]
    wrong = []
    for other in imported(path, root):
        if other not in RANK:
            wrong.append(f"{me} imports '{other}', which has no row; give it one in ROWS.")
        elif other != me and RANK[other] >= RANK[me]:
            wrong.append(f"{me} must not import {other}: it does not stand above it in ROWS.")
        elif me == "app" and other not in ("app", "__init__"):
            wrong.append(f"app must not import {other}: it speaks the public API.")
    return wrong


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_imports_point_down(path):
    assert violations(path, ROOT) == []


@pytest.mark.parametrize(
    ("place", "line", "complaint"),
    [
        ("_params.py", "from ._fit import fit", "_params must not import _fit"),
        ("_params.py", "from . import _fit", "_params must not import _fit"),
        ("_params.py", "from varpro._fit import fit", "_params must not import _fit"),
        ("_params.py", "import varpro._fit", "_params must not import _fit"),
        ("_params.py", "import varpro", "_params must not import __init__"),
        ("_params.py", "from varpro import fit", "_params must not import __init__"),
        ("basis/_x.py", "from .._fit import fit", "basis must not import _fit"),
        ("basis/_x.py", "from ..linalg import QR", "basis must not import linalg"),
        ("basis/_x.py", "from .. import _fit", "basis must not import _fit"),
        ("_fit.py", "def f():\n    from .app import run", "_fit must not import app"),
        ("app/run.py", "from varpro._fit import fit", "app must not import _fit"),
        ("app/run.py", "from .._fit import fit", "app must not import _fit"),
        ("_new.py", "", "'_new' has no row"),
        ("_fit.py", "from ._new import thing", "imports '_new', which has no row"),
    ],
)
def test_the_checker_sees_a_wrong_import(tmp_path, place, line, complaint):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    (found,) = violations(path, tmp_path)
    assert complaint in found


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("_fit.py", "from ._params import Param\nimport jax\nfrom .basis import Exp"),
        ("basis/_x.py", "from . import _base\nfrom ._base import column\nfrom .._params import P"),
        ("app/run.py", "import varpro as vp\nfrom varpro import fit\nfrom .plan import make_plan"),
        ("__init__.py", "from . import basis, linalg\nfrom ._fit import fit"),
    ],
)
def test_the_checker_lets_a_right_import_pass(tmp_path, place, line):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    assert violations(path, tmp_path) == []
