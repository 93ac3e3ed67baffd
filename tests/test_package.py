"""What stands in several places says the same: versions, requirements, commands."""

import pathlib
import re
import runpy
import shutil
import subprocess
import tomllib

import pytest
import ruamel.yaml

import varpro

ROOT = pathlib.Path(__file__).parents[1]
# What conda calls a package otherwise.
CONDA = {"matplotlib": "matplotlib-base", "flatbuffers": "python-flatbuffers"}


def yaml(name: str):
    return ruamel.yaml.YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))


def test_the_recipe_of_conda_asks_for_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = yaml("conda/recipe.yaml")
    parts = [re.fullmatch(r"([\w.-]+)(>=[\d.]+)", text) for text in project["dependencies"]]
    wanted = [f"{CONDA.get(one[1], one[1])} {one[2]}" for one in parts if one]
    wanted.insert(0, f"python {project['requires-python']}")
    assert recipe["requirements"]["run"] == wanted
    assert recipe["context"]["version"] == varpro.__version__
    commands = [f"{name} = {place}" for name, place in project["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == commands


def test_versions_are_one():
    assert str(yaml("CITATION.cff")["version"]) == varpro.__version__
    assert f"## {varpro.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_manual_page_says_what_the_commands_say():
    written = (ROOT / "docs" / "varpro.1").read_text(encoding="utf-8")
    assert written == runpy.run_path(str(ROOT / "scripts" / "man_page.py"))["page"](), (
        "python scripts/man_page.py writes it anew"
    )


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not here")
def test_the_manual_page_is_roff():
    page = ROOT / "docs" / "varpro.1"
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", str(page)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Put a value in, fit.solver.max_steps=50." in " ".join(done.stdout.split())
