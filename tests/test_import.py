"""`import varpro` is quiet, light, and leaves JAX as it was."""

import json
import subprocess
import sys

PROBE = """
import json, sys
import jax
# Values that JAX fills in by itself on first use would look like changes: read twice.
before = dict(jax.config.values)
import varpro
after = dict(jax.config.values)
print(json.dumps({
    "changed": sorted(k for k in {*before, *after} if before.get(k) != after.get(k)),
    "modules": sorted({name.split(".")[0] for name in sys.modules}),
}))
"""
HEAVY = {"matplotlib", "xarray", "pydantic", "typer", "rich", "pandas", "ruamel", "jinja2", "scipy"}


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=False
    )


def test_import_prints_nothing_and_warns_nothing():
    # Deprecations of other packages are theirs; jax comes first, so that they are not ours.
    code = "import equinox, jax, lineax, optimistix, warnings\nwarnings.simplefilter('error')\n"
    done = python(code + "import varpro")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_import_changes_no_setting_of_jax_and_loads_nothing_heavy():
    done = python(PROBE)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["changed"] == []
    assert not HEAVY & set(seen["modules"])


def test_public_names_for_type_checkers_are_the_ones_at_run_time():
    import ast
    import pathlib

    import varpro

    tree = ast.parse(pathlib.Path(varpro.__file__).read_text(encoding="utf-8"))
    shown = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert shown == set(varpro.__all__)
    assert all(getattr(varpro, name) is not None for name in shown)
