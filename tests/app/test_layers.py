"""The application floor speaks the public API, and the core does not need it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import varpro as vp
import varpro.app

APP = Path(varpro.app.__file__).parent
HEAVY = {"matplotlib", "xarray", "pandas", "pydantic", "typer", "rich", "jinja2", "ruamel"}


@pytest.mark.parametrize("path", sorted(APP.rglob("*.py")), ids=lambda path: path.name)
def test_app_imports_only_public_names(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"line {node.lineno}: outside app"
            if node.level == 0 and (node.module or "").split(".")[0] == "varpro":
                assert node.module == "varpro"
                assert all(hasattr(vp, name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            assert not any(name.name.startswith("varpro.") for name in node.names)
        elif isinstance(node, ast.Attribute):
            assert not (node.attr.startswith("_") and ast.unparse(node.value).startswith("vp"))


def test_the_library_and_the_help_need_none_of_the_application_packages():
    code = f"""
import sys
import varpro
assert not {HEAVY!r} & set(sys.modules), {HEAVY!r} & set(sys.modules)
import varpro.app.cli
assert not ({HEAVY!r} - {{"typer"}}) & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
