"""What the README and the pages in docs/ show is what happens.

Of each page the blocks run in their order, in one namespace and an empty folder: `python` is executed,
and a `text` block right behind it is what that prints; a `yaml` block whose first line is a comment
with a file name becomes that file; lines of `sh` blocks that begin with `varpro` are run. Blocks marked
`py` need a package that is not here and are only compiled; their pages say so.
"""

import ast
import contextlib
import importlib.metadata
import io
import pathlib
import re
import shlex
import shutil

import pytest
from typer.testing import CliRunner

import varpro as vp
from varpro.app import cli

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
BUILT = {"_build", "gallery"}
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if not BUILT & {*path.relative_to(ROOT).parts}
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
RUNS = {"python", "yaml", "py"}


def blocks(page: pathlib.Path) -> list[tuple[str, str]]:
    """Language and content of each block of code. What follows right behind another is `output`."""
    text, end, found = page.read_text(encoding="utf-8"), 0, []
    for match in BLOCK.finditer(text):
        language, content = match.groups()
        behind = found and not text[end : match.start()].strip()
        found.append(("output" if language == "text" and behind else language, content))
        end = match.end()
    return found


def lines(text: str) -> list[str]:
    # How many steps it takes may differ between machines by rounding.
    return [
        re.sub(r"after \d+ steps, \d+", "after some", line.rstrip()) for line in text.splitlines()
    ]


def command(line: str) -> str:
    done = CliRunner().invoke(cli.app, shlex.split(line)[1:])
    assert done.exit_code == 0, f"{line}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=str(p.relative_to(ROOT)))
        for p in PAGES
        if RUNS & {b[0] for b in blocks(p)}
    ],
)
def test_the_blocks_of_a_page_run_and_print_what_is_shown(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # JAX is set up already; how a command does it as a program is for tests/app/test_run.py.
    monkeypatch.setattr(cli, "set_up_jax", lambda: contextlib.nullcontext)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "examples" / "data")
    namespace: dict = {"__name__": "__main__"}
    printed = ""
    for language, content in blocks(page):
        if language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(content, str(page), "exec"), namespace)
            printed = out.getvalue()
        elif language == "py":
            ast.parse(content)
        elif language == "yaml":
            named = re.match(r"# (\w+\.ya?ml)\n", content)
            if named:
                pathlib.Path(named[1]).write_text(content)
        elif language == "sh":
            printed = "".join(
                command(line) for line in content.splitlines() if line.startswith("varpro ")
            )
        elif language == "output":
            assert lines(printed) == lines(content)


def test_the_readme_shows_the_file_it_names():
    (shown,) = (content for language, content in blocks(README) if language == "yaml")
    kept = (ROOT / "configs" / "gauss1.yaml").read_text(encoding="utf-8").splitlines()
    assert shown.splitlines() == [line for line in kept if not line.startswith("#")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"(?:scripts|configs|tests|examples)/[\w./]*\w|[A-Z]{3,}\.md|constraints\.txt", text
    )
    assert [name for name in named if not (ROOT / name).exists()] == []
    tests = re.findall(r"(tests/[\w/]+\.py)::(\w+)", text)
    assert [
        f"{path}::{name}"
        for path, name in tests
        if f"\ndef {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ] == []
    linked = re.findall(r"\]\(([^)#:]+?\.(?:md|rst))(?:#[\w-]+)?\)", text)
    # The gallery and the reference of configurations are written when the pages are built.
    missing = [
        name
        for name in linked
        if "gallery/" not in name
        and pathlib.Path(name).name not in ("configuration.md", "formats.md")
        and not (page.parent / name).exists()
    ]
    assert missing == []
    examples = re.findall(r"gallery/(\d\d_\w+)\.", text)
    assert [name for name in examples if not (ROOT / "examples" / f"{name}.py").exists()] == []


def named_in_the_reference() -> list[str]:
    """Full names, in the order of the pages."""
    names = []
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        module = "varpro"
        for word, name in re.findall(
            r"^\.\. (currentmodule|auto\w+):: (\S+)$",
            page.read_text(encoding="utf-8"),
            re.MULTILINE,
        ):
            if word == "currentmodule":
                module = name
            else:
                names.append(name if name.startswith("varpro.") else f"{module}.{name}")
    return names


def test_every_public_name_has_a_docstring_and_the_reference_names_no_other():
    assert [name for name in vp.__all__ if not (getattr(vp, name).__doc__ or "").strip()] == []
    reference = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert ".. public-names::" in reference  # writes down what is not named one by one
    named = named_in_the_reference()
    assert [name for name in named if "._" in name] == []
    assert {name for name in named if name.count(".") == 1} <= {f"varpro.{n}" for n in vp.__all__}


def test_the_picture_of_the_house_shows_the_rooms_in_their_rows():
    picture = (ROOT / "docs" / "_static" / "house.svg").read_text(encoding="utf-8")
    shown = re.findall(r'y="([\d.]+)"[^>]*font-weight="bold"[^>]*>(\w+)<', picture)
    rows: dict[float, list[str]] = {}
    for y, room in shown:
        rows.setdefault(float(y), []).append(room)
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    wanted = next(
        ast.literal_eval(node.value)["varpro"]
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROWS"
    )
    # The first row stands at the bottom: whoever builds on it stands above.
    assert [" ".join(rows[y]) for y in sorted(rows, reverse=True)] == wanted, (
        "scripts/draw_house.py"
    )


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert importlib.metadata.version("varpro") == vp.__version__
    assert f"version: {vp.__version__}\n" in citation
    assert f"## {vp.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_no_name_stands_twice_in_the_reference():
    named = named_in_the_reference()
    assert len(named) == len(set(named)) > 30
