"""What files of others may not do: have code imported, steer a terminal, send a run elsewhere, or plant
programs; and what a report may do in a browser."""

import ast
import html.parser
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import varpro.app
from varpro._programs.private_folder import private_folder
from varpro.app.plan.fit import fit_plan
from varpro.app.plan.make_plan import make_plan
from varpro.app.report.figures import write_png
from varpro.app.report.html import report_text
from varpro.app.report.interactive import scripts
from varpro.app.terminal import printable

# Code.


def custom(here):
    """The configuration of the current folder with a function that leaves a trace when it is imported."""
    (here / "mine.py").write_text(
        "import pathlib\npathlib.Path('ran').touch()\nimport jax.numpy as jnp\n"
        "def f(th, t):\n    return {'a': jnp.exp(-t / th['tau'])}\n"
    )
    text = (here / "decay.yaml").read_text()
    model = "decay: {kind: custom, function: 'mine:f', parameters: {tau: 1.0}}"
    (here / "decay.yaml").write_text(
        re.sub(r"decay: \{kind: exp.*\}\}", model.replace("\\", ""), text)
    )


def plugin(here, monkeypatch):
    """A package whose reader, for files that end in .dm3, leaves a trace when it is loaded."""

    class Entry:
        name, value = "dm3", "theirs:read"

        def load(self):
            Path("ran").touch()
            raise ImportError

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Entry()])
    (here / "decay.dm3").write_bytes(b"\0")
    text = (here / "decay.yaml").read_text().replace("decay.csv", "decay.dm3")
    (here / "decay.yaml").write_text(text)


WORDS = [("run", "decay.yaml"), ("check", "decay.yaml"), ("run", "decay.yaml", "--dry-run")]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
@pytest.mark.parametrize("how", ["option", "environment", "any word"])
@pytest.mark.parametrize("door", ["custom", "plugin"])
def test_no_code_is_imported_where_that_is_forbidden(here, varpro, monkeypatch, words, how, door):
    custom(here) if door == "custom" else plugin(here, monkeypatch)
    if how != "option":
        # Whoever sets it to a word that we do not know means it.
        monkeypatch.setenv("VARPRO_NO_CODE", "1" if how == "environment" else "sure")
    done = varpro(*words, *(["--no-code"] if how == "option" else []))
    assert done.exit_code == 2 and not Path("ran").exists()
    by = "--no-code forbids" if how == "option" else r"environment forbids \(VARPRO_NO_CODE\)"
    what = "imports and runs 'mine:f'" if door == "custom" else "read by an installed package"
    assert re.search(f"{what}.*{by}", done.stderr) and done.stderr.count("\n") == 1
    assert not Path("run").exists()


def test_new_from_data_loads_no_plugin_either(here, varpro, monkeypatch):
    plugin(here, monkeypatch)
    done = varpro("new", "x.yaml", "--from", "decay.dm3", "--no-code")
    assert done.exit_code == 2 and not Path("ran").exists() and not Path("x.yaml").exists()


def test_code_is_imported_where_nobody_forbids_it(here, varpro, monkeypatch):
    custom(here)
    for word in ("", "0", "false", "No"):
        monkeypatch.setenv("VARPRO_NO_CODE", word)
        assert varpro("check", "decay.yaml").exit_code == 0
    assert Path("ran").exists()
    # One call forbids nothing to the next.
    assert varpro("check", "decay.yaml", "--no-code").exit_code == 2
    assert varpro("check", "decay.yaml").exit_code == 0


def test_runs_of_others_are_opened_without_their_code(here, varpro, plain):
    custom(here)
    assert plain("decay.yaml", "--quiet").exit_code == 0
    Path("ran").unlink()
    for words in (("report", "run"), ("plot", "run"), ("compare", "run", "run")):
        done = varpro(*words, "--no-code")
        assert done.exit_code == 2 and "--no-code forbids" in done.stderr
    assert not Path("ran").exists()


# The terminal.

STEERING = {
    "escape": "\x1b[2J",
    "title of the window": "\x1b]0;x\x07",
    "one-byte escape": "\x9b2J",
    "backspace": "a\x08b",
    "carriage return": "a\rb",
    "delete": "\x7f",
    "right to left": "\u202ecod.exe",
    "isolate": "\u2067a\u2069",
    "mark": "a\u200fb",
    "half a letter": "\udc9b",
    "line separator": "\u2028",
    "tag": "\U000e0041",
}
HARMLESS = ["plain", "a\tb\nc", "τ = 1 ± 0.1 µs", "न्\u200dय", "日本", "👩\u200d🔬", "é"]


@pytest.mark.parametrize("text", STEERING.values(), ids=STEERING)
def test_what_steers_a_terminal_is_shown_as_its_escape(text):
    shown = printable(text)
    assert shown.isprintable() and "\\u" in shown or "\\b" in shown or "\\r" in shown
    # Nothing is lost, and the text of a JSON stays one.
    assert json.loads(f'"{shown}"') == text
    assert json.loads(printable(json.dumps({"a": text}, ensure_ascii=False))) == {"a": text}


@pytest.mark.parametrize("text", HARMLESS)
def test_letters_of_every_script_stay(text):
    assert printable(text) == text


def test_everything_that_is_shown_goes_through_one_place():
    root = Path(varpro.app.__file__).parent
    calls = {}
    for path in root.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        calls[path.relative_to(root).as_posix()] = called

    def modules_that(say):
        """The modules of the application in which a call is made that `say` names."""
        return {path for path, called in calls.items() if called & say}

    assert modules_that({"typer.echo", "click.echo", "typer.secho"}) == {"terminal.py"}
    assert modules_that(
        {"print", "sys.stdout.write", "sys.stderr.write", "traceback.print_exc"}
    ) == (set())
    # rich has tables alone, whose cells are made by one function, and progress without any word of a file.
    assert modules_that({"Text"}) == {"report/console.py"}
    assert modules_that({"Console", "_Console"}) == {"report/console.py", "progress.py"}


@pytest.fixture
def hostile(here):
    """A problem in whose names and texts there is a bit of everything."""
    # A name of a component has no bracket in it; the terminal is reset without one.
    bad = "\x1bc" + "".join(STEERING[key] for key in ("one-byte escape", "isolate", "delete"))
    quoted = json.dumps(bad)[1:-1]
    csv = (here / "decay.csv").read_text().replace("counts", f"counts{bad}")
    (here / f"d{bad}.csv").write_text(csv)
    text = (here / "decay.yaml").read_text()
    text = text.replace(
        "path: decay.csv, x: t, y: counts", f'path: "d{quoted}.csv", x: t, y: "counts{quoted}"'
    )
    text = text.replace("  decay: {", f'  "decay{quoted}": {{') + f'title: "title{quoted}"\n'
    (here / "decay.yaml").write_text(text)
    return bad


def clean(output):
    return all(letter == "\n" or letter.isprintable() for letter in output)


def test_names_of_files_headers_and_components_do_not_steer(here, varpro, plain, hostile):
    shown = varpro("check", "decay.yaml")
    assert shown.exit_code == 0, shown.output
    assert clean(shown.output) and "decay\\u001bc" in shown.output
    done = plain("decay.yaml")
    assert done.exit_code == 0 and clean(done.output)
    printed = plain("decay.yaml", "--overwrite", "--json")
    assert clean(printed.output)
    assert f"decay{hostile}.tau" in json.loads(printed.stdout)["parameters"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("path: decay.csv", 'path: "\\e[2J.csv"'),
        ("kind: exp", 'kind: "e\\e[31mxp"'),
        ("schema: 1", 'schema: "\\x9b"'),
        ("x: t", 'x: "\\u202e"'),
        ("dir: run", 'dir: run, "\\e[2J": 1'),
    ],
)
def test_messages_do_not_steer(here, varpro, old, new):
    text = (here / "decay.yaml").read_text()
    assert old in text
    (here / "decay.yaml").write_text(text.replace(old, new, 1))
    for words in (("run", "decay.yaml"), ("run", "decay.yaml", "--debug")):
        done = varpro(*words)
        assert done.exit_code == 2 and clean(done.output) and "\\u" in done.output


def test_words_of_a_command_line_may_be_names_of_files():
    words = ["report", "a", "b\x1b[2J", "c\u202e"]
    command = [sys.executable, "-m", "varpro", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and clean(done.stderr) and "[2J" in done.stderr


# Where a run writes.


def test_a_run_folder_that_is_a_link_is_not_written_through(here, plain):
    target = here / "elsewhere"
    target.mkdir()
    (here / "run").symlink_to(target)
    for words in ((), ("--overwrite",)):
        done = plain("decay.yaml", *words)
        assert (
            done.exit_code == 2 and "run: is a link, and no run is written through" in done.stderr
        )
    assert list(target.iterdir()) == [] and (here / "run").is_symlink()


@pytest.mark.parametrize("inside", ["result.nc", "status.json", ".result.json", "blocks"])
def test_links_in_a_run_folder_lead_no_writing_elsewhere(here, plain, inside):
    assert plain("decay.yaml", "-q").exit_code == 0
    outside = here / "outside"
    outside.write_text("mine")
    (here / "run" / inside).unlink(missing_ok=True)
    (here / "run" / inside).symlink_to(outside)
    done = plain("decay.yaml", "--overwrite")
    assert done.exit_code == 2 and f"{inside}: is a link" in done.stderr
    assert outside.read_text() == "mine" and (here / "run" / inside).is_symlink()


def test_reports_and_figures_are_written_again_through_no_link(here, varpro, plain):
    assert plain("decay.yaml", "-q").exit_code == 0
    outside = here / "outside"
    outside.write_text("mine")
    (here / "alias").symlink_to(here / "run")
    for words in (("report", "alias"), ("plot", "alias")):
        done = varpro(*words)
        assert done.exit_code == 2 and "alias: is a link" in done.stderr
    # A link in the place of a file is replaced.
    for name, words in (("report.html", ("report", "run")), ("fit.png", ("plot", "run"))):
        (here / "run" / name).unlink(missing_ok=True)
        (here / "run" / name).symlink_to(outside)
        assert varpro(*words).exit_code == 0 and not (here / "run" / name).is_symlink()
    assert outside.read_text() == "mine"


def test_a_planted_link_under_the_name_of_a_temporary_file_is_not_followed(here, varpro):
    victim = here / "victim"
    victim.write_text("mine")
    for name in (".new.yaml.tmp", f".new.yaml.tmp-{os.getpid()}"):
        (here / name).symlink_to(victim)
    assert varpro("new", "new.yaml").exit_code == 0
    assert victim.read_text() == "mine" and not (here / "new.yaml").is_symlink()


# Programs that are kept.


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
@pytest.mark.parametrize("which", ["folder", "parent"])
def test_a_cache_that_others_may_write_to_is_not_used(tmp_path, mode, which):
    folder = tmp_path / "varpro" / "jax"
    assert private_folder(folder) == folder
    for made in (folder, folder.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    (folder if which == "folder" else folder.parent).chmod(mode)
    assert private_folder(folder) is None
    # Nor is it put right: who knows what others left there.
    assert stat.S_IMODE((folder if which == "folder" else folder.parent).stat().st_mode) == mode


def test_a_cache_of_somebody_else_is_not_used(tmp_path, monkeypatch):
    private_folder(tmp_path / "varpro" / "jax")
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert private_folder(tmp_path / "varpro" / "jax") is None


# The report.


def test_no_figure_is_set_by_tex_whatever_the_settings_beside_the_data_say(here, hostile):
    import matplotlib

    plan = make_plan("decay.yaml")
    fit = fit_plan(plan)
    with matplotlib.rc_context(
        {"text.usetex": True, "text.latex.preamble": r"\\input{/etc/passwd}"}
    ):
        write_png(plan, fit, here / "fit.png")
        page = report_text(plan, fit, "")
    assert (here / "fit.png").read_bytes()[:4] == b"\x89PNG" and "root:" not in page


class Page(html.parser.HTMLParser):
    """The policy of a page, and everything that a policy could forbid."""

    def __init__(self, text):
        super().__init__()
        self.policy, self.before, self.tags, self.links, self.handlers = "", [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        elif not self.policy:
            self.before.append(tag)
        self.tags.add(tag)
        self.links += [v for k, v in attrs if k in ("href", "xlink:href", "src", "action", "data")]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]


def test_a_report_has_a_policy_that_allows_what_it_shows_and_nothing_else(here, hostile):
    plan = make_plan("decay.yaml", ["output.interactive=true"])
    text = report_text(plan, fit_plan(plan), "title: <script>alert(1)</script>")
    # The library is text of a package, and no part of the page that a file could change.
    page = Page(text.replace(scripts()[0].text, ""))
    rules = dict(rule.split(maxsplit=1) for rule in page.policy.split("; "))
    # Those of the figures, which no name and no text of a file is part of; the other is data.
    assert rules.pop("script-src") == " ".join(one.hash for one in scripts())
    found = re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL)
    assert [kind for kind, _ in found] == [' type="application/json"', "", ""]
    assert [body for _, body in found[1:]] == [one.text for one in scripts()]
    assert rules == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # A policy holds from where it stands: nothing that loads anything comes before.
    assert set(page.before) <= {"html", "head", "meta"}
    # What is in the page is what the policy allows: styles, pictures in it, and links within it.
    assert not page.tags & {"iframe", "object", "embed", "form", "link", "base"}
    assert page.links and all(link.startswith(("#", "data:image/")) for link in page.links)
    assert not page.handlers and {"style", "svg"} <= page.tags
