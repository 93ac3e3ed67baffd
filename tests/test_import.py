"""Importing varpro and every public name is quiet, light, and leaves JAX as it was."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

import varpro

# Public names are imported on first use: to import varpro alone would show little.
EVERYTHING = "import varpro\nfor name in varpro.__all__: getattr(varpro, name)\n"

PROBE = f"""
import json, sys, warnings
import jax
# Values that JAX fills in by itself on first use would look like changes: read twice.
before = dict(jax.config.values)
# Deprecations of other packages are theirs: imported first, they are not ours.
import equinox, lineax, optimistix
warnings.simplefilter("error")
{EVERYTHING}
warnings.simplefilter("default")
after = dict(jax.config.values)
print(json.dumps({{
    "changed": sorted(k for k in {{*before, *after}} if before.get(k) != after.get(k)),
    "modules": sorted({{name.split(".")[0] for name in sys.modules}}),
}}))
"""
HEAVY = {"matplotlib", "xarray", "pydantic", "typer", "rich", "pandas", "ruamel", "jinja2", "scipy"}


@pytest.fixture(scope="module")
def imported() -> subprocess.CompletedProcess[str]:
    """A process that imports everything."""
    return subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False
    )


def test_import_prints_nothing_and_warns_nothing(imported):
    assert (imported.returncode, imported.stderr) == (0, "")
    assert imported.stdout.count("\n") == 1  # what the probe says


def test_import_changes_no_setting_of_jax_and_loads_nothing_heavy(imported):
    assert imported.returncode == 0, imported.stderr
    seen = json.loads(imported.stdout)
    assert seen["changed"] == []
    assert not HEAVY & set(seen["modules"])


def test_public_names_for_type_checkers_are_the_ones_at_run_time():
    stub = pathlib.Path(varpro.__file__).with_suffix(".pyi")
    shown = [
        alias
        for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    # A checker takes for public what a stub imports under its own name.
    assert all(alias.asname == alias.name for alias in shown)
    assert sorted(alias.name for alias in shown) == sorted(varpro.__all__) == dir(varpro)
    assert all(getattr(varpro, alias.name) is not None for alias in shown)
