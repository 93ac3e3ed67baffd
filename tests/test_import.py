"""Importing varpro and every public name is quiet, light, and leaves JAX as it was."""

import ast
import json
import pathlib
import subprocess
import sys

import varpro

# Public names are imported on first use: to import varpro alone would show little.
EVERYTHING = "import varpro\nfor name in varpro.__all__: getattr(varpro, name)\n"

PROBE = f"""
import json, sys
import jax
# Values that JAX fills in by itself on first use would look like changes: read twice.
before = dict(jax.config.values)
{EVERYTHING}
after = dict(jax.config.values)
print(json.dumps({{
    "changed": sorted(k for k in {{*before, *after}} if before.get(k) != after.get(k)),
    "modules": sorted({{name.split(".")[0] for name in sys.modules}}),
}}))
"""
HEAVY = {"matplotlib", "xarray", "pydantic", "typer", "rich", "pandas", "ruamel", "jinja2", "scipy"}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_import_prints_nothing_and_warns_nothing():
    # Deprecations of other packages are theirs; jax comes first, so that they are not ours.
    code = "import equinox, jax, lineax, optimistix, warnings\nwarnings.simplefilter('error')\n"
    done = python(code + EVERYTHING)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_import_changes_no_setting_of_jax_and_loads_nothing_heavy():
    done = python(PROBE)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
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
