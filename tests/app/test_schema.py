"""The schema by which editors complete and check: it takes whatever varpro takes, and what it refuses is
refused by varpro too."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from ruamel.yaml import YAML

from varpro.app.config.model import COMPONENTS
from varpro.app.scaffold.reference import SCHEMA_FILE, json_schema

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(json.loads(json_schema()))


def faults(text):
    tree = YAML(typ="safe", pure=True).load(text)
    return [f"{list(e.path)}: {e.message}" for e in VALIDATOR.iter_errors(tree)]


def blocks():
    """Every configuration on the pages and in the README."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for i, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S)):
            if "model:" in block and ("data:" in block or "datasets:" in block):
                yield pytest.param(block, id=f"{page.name}-{i}")


def test_the_schema_itself_is_one():
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)


def test_the_schema_in_the_package_is_that_of_the_models():
    """Otherwise: varpro schema > varpro/app/scaffold/schema.json"""
    assert SCHEMA_FILE.read_text(encoding="utf-8").rstrip("\n") == json_schema()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configurations_are_taken(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize("text", list(blocks()))
def test_configurations_on_the_pages_are_taken(text):
    assert faults(text) == []


X = np.linspace(0.1, 10, 60)
STARTERS = {
    "nothing": None,
    "a decay": np.c_[X, 3 * np.exp(-X / 2) + 0.5],
    "counts": np.c_[X, np.round(300 * np.exp(-X / 2) + 5)],
    "a peak": np.c_[X, 2 * np.exp(-((X - 4) ** 2)) + 0.1],
    "several": np.c_[X, np.exp(-X), 2 * np.exp(-X), np.exp(-X / 3), 3 * np.exp(-X)],
}


@pytest.mark.parametrize("case", STARTERS)
def test_what_new_writes_is_taken_and_names_the_schema(here, varpro, case):
    words = ["new", "n.yaml"]
    if STARTERS[case] is not None:
        header = ",".join(["t", *map(str, range(400, 399 + STARTERS[case].shape[1]))])
        np.savetxt("n.csv", STARTERS[case], delimiter=",", header=header, comments="")
        words += ["--from", "n.csv"]
    done = varpro(*words)
    assert done.exit_code == 0, done.output
    text = Path("n.yaml").read_text()
    assert faults(text) == []
    first = text.splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_FILE.as_uri()}"
    # Nor is anything wrong with what stands there to be uncommented.
    keys = re.findall(r"^ *#  *(\w+): ", text, re.M)
    assert {"sigma", "range", "starts"} <= set(keys)


BASE = "data: {path: a.csv, x: t, y: b}\nmodel: {d: {kind: exp, tau: 1}}\n"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (BASE.replace("path", "paht"), "paht"),
        (BASE.replace("exp", "expo"), "expo"),
        (BASE.replace("tau: 1", "tau: fast"), "fast"),
        (BASE + "fit: {starts: 0}\n", "minimum"),
        (BASE + "fit: {noise: pink}\n", "pink"),
        (BASE + "fit: {solver: {ftol: small}}\n", "small"),
        (BASE + "constraints: {tie: 3}\n", "3"),
        ("data: {path: a.csv}\nmodel: {d: {kind: exp}}\n", "data"),
        (BASE.replace("kind: exp, tau: 1", "tau: 1"), "d"),
        (BASE + "output: {dir: a, plots: [maps]}\n", "maps"),
    ],
)
def test_what_cannot_be_meant_is_marked(text, word):
    said = faults(text)
    assert said and any(word in line for line in said), said


def test_every_key_of_every_kind_has_a_text_to_hover_over():
    parts = VALIDATOR.schema["$defs"]
    silent = {
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part.get("properties", {}).items()
        if "description" not in value and key != "kind"
    }
    # Of second and third Gaussians of a response the first are told.
    assert all(re.search(r"[23]$", name) for name in silent), silent
    assert len([name for name in parts if name.endswith("Component")]) == len(COMPONENTS)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "schema"),
        ("fit", "starts"),
        ("fit.solver.ftol", "1e-16 by default"),
        ("model", "kinds: exp"),
        ("model.exp", "the lifetime"),
        ("model.exp.tau.lower", "Lower bound"),
        ("responses.gaussian", "center"),
        ("data.nan", "raise or drop"),
        ("datasets.model", "Components of the model"),
        ("output", "report"),
        ("ftol", "fit.solver.ftol: "),
        ("exp.tau", "model.exp.tau: the lifetime"),
    ],
)
def test_a_key_is_explained(varpro, key, said):
    done = varpro("explain", key)
    assert done.exit_code == 0 and said in done.stdout, done.output


@pytest.mark.parametrize(
    "key", ["fti", "centre", "fit.slover", "model.expo", "model.exp.tua", "data.x.y"]
)
def test_an_unknown_key_is_told_with_the_nearest(varpro, key):
    done = varpro("explain", key)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert "no ke" in done.stderr or "no kind" in done.stderr


def test_a_key_that_stands_in_several_places_is_told_with_them(varpro):
    done = varpro("explain", "tau")
    assert done.exit_code == 2
    assert "no key 'tau'. There is model.exp.tau, model.stretched_exp.tau" in done.stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("models vo", {"voigt"}),
        ("explain fit.solver.f", {"fit.solver.ftol"}),
        ("explain model.exp.", {"model.exp.tau", "model.exp.rate"}),
    ],
)
def test_a_shell_completes_kinds_and_keys_without_jax(words, completed):
    env = os.environ | {"_VARPRO_COMPLETE": "complete_bash", "COMP_WORDS": f"varpro {words}"}
    code = "import sys; from varpro.app.cli import app; sys.argv[0] = 'varpro'\ntry: app(prog_name='varpro')\n"
    code += "finally: print('jax' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env | {"COMP_CWORD": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed <= set(done.stdout.split()), done
    assert all(word.startswith(words.split()[1]) for word in done.stdout.split())
    assert done.stderr.strip() == "False"
