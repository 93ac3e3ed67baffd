"""Wrong input of every kind ends in one sentence and a documented code, never in a bug or a traceback."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

LONG, DEEP = "x" * 5000, "x/" * 3000


def in_config(old, new):
    def spoil():
        text = Path("decay.yaml").read_text()
        assert old in text
        Path("decay.yaml").write_text(text.replace(old, new))

    return spoil


def loop():
    os.symlink("b", "a")
    os.symlink("a", "b")


def with_data(name, content):
    def spoil():
        raw = content if isinstance(content, bytes) else content.encode()
        Path(name).write_bytes(raw)
        in_config("decay.csv", name)()

    return spoil


def arrays(**named):
    def spoil():
        np.savez("a.npz", **named)
        in_config("decay.csv", "a.npz")()

    return spoil


def nothing():
    pass


X = np.arange(20.0)
ROWS = "".join(f"{i},{i % 7}.5\n" for i in range(20))
RUN = ("run", "decay.yaml")

# What is done to the folder, the words of the command, and what must be said.
CASES = {
    "a zero byte in the configuration's name": (
        nothing,
        ("run", "a\0b.yaml"),
        "null byte|zero byte",
    ),
    "a zero byte in a new name": (nothing, ("new", "a\0b.yaml"), "zero byte"),
    "a zero byte in a run's name": (nothing, ("resume", "a\0"), "zero byte"),
    "a zero byte in a report's name": (nothing, ("report", "a\0"), "zero byte"),
    "a zero byte in --out": (nothing, (*RUN, "--out", "a\0"), "zero byte"),
    "a zero byte in --from": (nothing, ("new", "n.yaml", "--from", "a\0"), "zero byte"),
    "a zero byte in --write-params": (nothing, (*RUN, "--write-params", "a\0"), "zero byte"),
    "a zero byte in a path": (in_config("path: decay.csv", 'path: "a\\0"'), RUN, "zero byte"),
    "a long name": (nothing, ("new", "x" * 300), "too long"),
    "a long path": (nothing, ("run", LONG), "too long"),
    "a deep path": (nothing, ("check", DEEP), "too long"),
    "a long run": (nothing, ("resume", LONG), "too long"),
    "a long --out": (nothing, (*RUN, "--out", "x" * 300), "too long"),
    "a long folder": (in_config("dir: run", f"dir: {LONG}"), RUN, "too long"),
    "a long data file": (in_config("decay.csv", LONG), RUN, "too long"),
    "the root as --out": (nothing, (*RUN, "--out", "/"), "root of all folders"),
    "the root as folder": (in_config("dir: run", "dir: /"), RUN, "root of all folders"),
    "no --out": (nothing, (*RUN, "--out", ""), "decay.csv|expected a path"),
    "a loop as --out": (loop, (*RUN, "--out", "a"), "link"),
    "a loop above --out": (loop, (*RUN, "--out", "a/x"), "symbolic links|followed"),
    "a loop as configuration": (loop, ("run", "a"), "symbolic links"),
    "a loop as data": (lambda: (loop(), in_config("decay.csv", "a")()), RUN, "symbolic links"),
    "a loop as run": (loop, ("resume", "a"), "symbolic links"),
    "a loop as --from": (loop, ("new", "n.yaml", "--from", "a"), "symbolic links"),
    "a device that is full": (nothing, (*RUN, "--write-params", "/dev/full"), "no place"),
    "a folder of the kernel": (
        nothing,
        (*RUN, "--out", "/proc/x"),
        "cannot be written|not a folder",
    ),
    "a quoted field without end": (
        with_data("q.csv", 't,counts\n1,"' + "a" * 200_000 + '"\n'),
        RUN,
        r"q\.csv:2 data: cannot be cut",
    ),
    "a number of a megabyte": (
        with_data("q.csv", f"t,counts\n{ROWS}30,{'1' * 1_000_000}x\n"),
        RUN,
        r"q\.csv:22:.*is not a number",
    ),
    "an empty x": (arrays(t=X[:0], counts=X[:0]), RUN, "no samples"),
    "an empty y": (arrays(t=X, counts=np.zeros((20, 0))), RUN, "no samples"),
    "objects": (arrays(t=np.array([{}] * 20), counts=X), RUN, r"a\.npz.*(object|no array 't')"),
    "a NaN column for new": (
        with_data("n.csv", "t,counts\n" + "".join(f"{i},nan\n" for i in range(20))),
        ("new", "n.yaml", "--from", "n.csv"),
        "only 0 samples",
    ),
    "infinities for new": (
        with_data("n.csv", "t,counts\n" + "".join(f"{i},1e999\n" for i in range(20))),
        ("new", "n.yaml", "--from", "n.csv"),
        "only 0 samples",
    ),
    "an unknown folder of a function": (
        in_config("bg:", "f: {kind: custom, function: 'os:name', folder: /nowhere}\n  bg:"),
        RUN,
        "no function",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_one_sentence_and_code_2(here, varpro, case):
    spoil, words, message = CASES[case]
    spoil()
    before = sorted(p.name for p in here.iterdir())
    out = varpro(*words)
    assert out.exit_code == 2, (out.exit_code, out.output[-500:])
    assert re.search(message, out.stderr, re.IGNORECASE), out.stderr
    assert out.stderr.count("\n") == 1 and len(out.stderr) < 700
    assert out.stderr.isprintable() or out.stderr[:-1].isprintable()
    assert sorted(p.name for p in here.iterdir()) == before


def test_a_column_of_which_nothing_was_measured_is_no_y(here, varpro):
    x = np.linspace(200, 800, 60)
    y = 3 * np.exp(-(((x - 400) / 30) ** 2))
    np.savetxt("n.csv", np.c_[x, 0 * x + np.nan, y], delimiter=",", header="wl,a,b", comments="")
    out = varpro("new", "n.yaml", "--from", "n.csv")
    assert out.exit_code == 0, out.output
    assert "y is b" in out.output


PYTHON = [sys.executable, "-m", "varpro"]


def run_in_shell(command, folder):
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_an_output_that_is_closed_or_full_is_said(here):
    models = " ".join(PYTHON) + " models"
    full = run_in_shell(f"{models} > /dev/full", here)
    assert full.returncode == 2 and "standard output: cannot be written" in full.stderr
    assert full.stderr.count("\n") == 1
    closed = run_in_shell(f"{models} >&-", here)
    assert closed.returncode == 0 and closed.stderr == ""
    stopped = run_in_shell(f"set -o pipefail; {models} | head -1", here)
    assert stopped.returncode == 0 and stopped.stderr == ""


def test_streams_that_are_closed_take_no_file_along(here):
    # What is written to a closed stream must not end in the file that got its number.
    command = f"{' '.join(PYTHON)} run decay.yaml --set output.plots=[] --set output.report=none"
    for streams in (">&-", "<&- >&- 2>&-"):
        done = run_in_shell(f"{command} --overwrite {streams}", here)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert json.loads(Path("run/result.json").read_text())["status"]["success"]
    missing = run_in_shell(f"{' '.join(PYTHON)} check nothing.yaml 2>&-", here)
    assert (missing.returncode, missing.stdout) == (2, "")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("JAX_PLATFORMS=nonsense", "JAX does not start .* with .*JAX_PLATFORMS=nonsense"),
        ("JAX_ENABLE_X64=maybe", "JAX does not start .*maybe.* with .*JAX_ENABLE_X64=maybe"),
        ("VARPRO_MAX_BYTES=much", "VARPRO_MAX_BYTES is 'much'; expected a number of bytes"),
    ],
)
def test_a_wrong_setting_of_the_environment_is_named(here, setting, message):
    done = run_in_shell(f"{setting} {' '.join(PYTHON)} check decay.yaml", here)
    assert done.returncode == 2 and re.search(message, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


def test_letters_that_paths_cannot_have_are_named(here):
    Path("decay.yaml").write_text(
        Path("decay.yaml").read_text().replace("decay.csv", "zerf\u00e4lle.csv"), encoding="utf-8"
    )
    settings = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"
    done = run_in_shell(f"{settings} {' '.join(PYTHON)} check decay.yaml", here)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "PYTHONUTF8=1" in done.stderr or "no such file" in done.stderr  # where all may be


def test_no_backend_of_figures_is_imported_that_a_file_or_the_environment_names(here):
    Path("theirs.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    Path("matplotlibrc").write_text("backend: module://theirs\nlines.linewidth: thick\n")
    command = (
        f"PYTHONPATH=.:$PYTHONPATH MPLBACKEND=%s {' '.join(PYTHON)} run decay.yaml --overwrite"
    )
    bare = " --set output.report=none"
    for backend, words in (("module://theirs", ""), ("nonsense", bare)):
        done = run_in_shell(command % backend + words, here)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert Path("run/fit.png").exists() and not Path("ran").exists()


def test_a_folder_that_went_away_is_said(here):
    gone = run_in_shell(f"mkdir gone; cd gone; rmdir ../gone; {' '.join(PYTHON)} models", here)
    assert gone.returncode == 2 and gone.stderr.count("\n") == 1, gone.stderr
    assert "no longer there" in gone.stderr


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_libraries_are_imported_ends_as_at_any_other_time(here, kind, code):
    # The moments are those of one import, early to late; what was begun is what the code says.
    for wait in (0.15, 0.4, 0.8):
        process = subprocess.Popen(
            [*PYTHON, "check", "decay.yaml"],
            cwd=here,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(wait)
        process.send_signal(kind)
        _, said = process.communicate(timeout=300)
        # The default action of the system where Python had not yet begun, or the check was done.
        assert process.returncode in (code, -kind, 0), (process.returncode, said)
        if process.returncode == code:
            assert "Traceback" not in said or "site.py" in said or "frozen" in said
