"""What a run must never do: destroy what it replaces, write over what it reads, mix two versions of its
data, or leave behind what blocks the next one."""

import hashlib
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import varpro as vp
from varpro.app import provenance
from varpro.app.runs import batch
from varpro.app.runs.folder import RunFolder
from varpro.app.runs.journal import Journal

BATCH = """\
data: {path: cube.nc, variable: counts, x: time}
model:
  decay: {kind: exp, tau: 1.0}
  bg: {kind: constant}
fit: {share: none, block: 4}
output: {dir: run, report: none, plots: []}
"""


def decays(seed=0):
    rng = np.random.default_rng(seed)
    t = (np.arange(32) + 0.5) * 0.25
    y = 200 * np.exp(-t / rng.uniform(1.5, 2.5, (3, 4, 1))) + 5 + rng.normal(size=(3, 4, 32))
    return xr.DataArray(y, dims=("row", "col", "time"), coords={"time": t}, name="counts")


@pytest.fixture
def image(tmp_path, monkeypatch):
    """The current folder: `cube.yaml` and `cube.nc`, 3 x 4 decays."""
    decays().to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    (tmp_path / "cube.yaml").write_text(BATCH)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def snapshot(folder):
    """Every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# What is refused only once the data have been read.
LATE = {
    "start beyond a bound": (
        "decay: {kind: exp, tau: 1.0}",
        "decay: {kind: exp, tau: {init: 1.0, upper: 2.0}}",
        "constraints: {bounds: {decay.tau: [3.0, 4.0]}}\n",
    ),
    "a map that is not there": ("block: 4", "block: 4, init: {decay.tau: nomap}", ""),
    "errors that are not there": ("x: time}", "x: time, sigma: nowhere}", ""),
}


@pytest.mark.parametrize("case", LATE)
@pytest.mark.parametrize("share", ["none", "[decay.tau]"])
def test_a_refused_overwrite_leaves_the_earlier_run_and_a_first_one_leaves_nothing(
    image, plain, case, share
):
    old, new, more = LATE[case]
    bad = more + BATCH.replace(old, new).replace("share: none, block: 4", f"share: {share}")
    if share != "none":
        bad = bad.replace(f"share: {share}", f"share: {share}" + new.partition("block: 4")[2])
    pathlib.Path("bad.yaml").write_text(bad)
    out = plain("bad.yaml")
    assert out.exit_code == 2, out.output
    assert not pathlib.Path("run").exists()
    (image / "run").mkdir()
    for name in ("result.json", "result.nc", "config.yaml"):
        (image / "run" / name).write_text("{}")
    before = snapshot(image)
    assert plain("bad.yaml", "--overwrite").exit_code == 2
    assert snapshot(image) == before


def make_run(folder, word, converged=1):
    folder.mkdir()
    status = {"success": bool(converged), "converged": converged}
    (folder / "result.json").write_text(json.dumps({"status": status, "word": word}))


def word_in(folder):
    return json.loads((folder / "result.json").read_text())["word"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_earlier_run_waits_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "run"
    make_run(target, "old")
    # A run that is killed once a block is there: both stay.
    with pytest.raises(KeyboardInterrupt), RunFolder(target, True).in_place():
        (target / "blocks").mkdir()
        (target / "blocks" / "000000.npz").write_bytes(b"block")
        raise KeyboardInterrupt
    assert names(target) == ["blocks"] and word_in(tmp_path / ".run.earlier") == "old"
    # Begun anew over it and interrupted before a block: the old one is back.
    with pytest.raises(KeyboardInterrupt), RunFolder(target, True).in_place():
        (target / "status.json").write_text("{}")
        raise KeyboardInterrupt
    assert word_in(target) == "old" and names(tmp_path) == ["run"]
    with RunFolder(target, True).in_place() as folder:
        (target / "result.json").write_text(json.dumps({"word": "new"}))
        assert folder.keep(True) == target
    assert word_in(target) == "new" and names(tmp_path) == ["run"]


def test_a_batch_of_which_nothing_converged_never_replaces_a_good_one(tmp_path):
    target = tmp_path / "run"
    make_run(target, "old")
    with RunFolder(target, True).in_place() as folder:
        (target / "result.json").write_text(json.dumps({"word": "bad"}))
        assert folder.keep(False) == tmp_path / "run-failed"
    assert (word_in(target), word_in(tmp_path / "run-failed")) == ("old", "bad")


def test_a_process_killed_at_any_rename_leaves_a_run_that_the_next_one_finds(tmp_path):
    target = tmp_path / "run"
    make_run(target, "old")
    target.rename(tmp_path / ".run.earlier")
    with pytest.raises(vp.InputError, match="Add --overwrite"), RunFolder(target, False).in_place():
        pass
    assert word_in(target) == "old" and names(tmp_path) == ["run"]
    # The new one was whole, and the old one not yet removed: the new one is put aside and back.
    target.rename(tmp_path / ".run.earlier")
    make_run(target, "new")
    with pytest.raises(KeyboardInterrupt), RunFolder(target, True).in_place():
        raise KeyboardInterrupt
    assert word_in(target) == "new" and names(tmp_path) == ["run"]


@pytest.mark.parametrize(
    "name", ["decay.csv", "decay.yaml", "./decay.csv", "link.csv", "other.csv", ".", "no/where.csv"]
)
def test_a_table_of_parameters_is_written_over_no_input_and_no_foreign_file(here, plain, name):
    (here / "link.csv").symlink_to("decay.csv")
    (here / "other.csv").write_text("a,b\n1,2\n")
    before = snapshot(here)
    out = plain("decay.yaml", "--write-params", name)
    assert out.exit_code == 2 and out.stderr.startswith("--write-params ")
    assert out.stderr.count("\n") == 1 and snapshot(here) == before


def test_a_configuration_is_written_over_no_data(here, varpro):
    before = snapshot(here)
    out = varpro("new", "decay.csv", "--from", "decay.csv", "--overwrite")
    assert out.exit_code == 2 and "is an input" in out.stderr and snapshot(here) == before


def test_a_run_folder_that_holds_the_data_is_not_replaced(here, plain):
    (here / "run").mkdir()
    shutil.copy("decay.csv", "run/parameters.csv")  # a name that varpro writes, too
    (here / "decay.yaml").write_text(
        (here / "decay.yaml").read_text().replace("decay.csv", "run/parameters.csv")
    )
    before = snapshot(here)
    out = plain("decay.yaml", "--overwrite")
    assert out.exit_code == 2 and "holds parameters.csv, which this run reads" in out.stderr
    assert snapshot(here) == before


def rewrite(path):
    raw = path.read_bytes()
    with path.open("r+b") as file:
        file.write(raw[:-8] + bytes(8))


def replace(path):
    new = path.with_name("new")
    shutil.copy2(path, new)
    os.replace(new, path)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("change", [rewrite, replace, truncate, os.unlink])
@pytest.mark.parametrize("kind", ["nc", "npy"])
def test_data_that_change_while_a_batch_runs_stop_it_and_are_never_mixed(
    image, varpro, plain, monkeypatch, change, kind
):
    data = image / f"cube.{kind}"
    if kind == "npy":
        np.save(data, decays().values)
        text = BATCH.replace(
            "cube.nc, variable: counts", "cube.npy, dims: [row, col, time], spacing: 0.25"
        )
        (image / "cube.yaml").write_text(text)
    raw = data.read_bytes()
    fit_rows, calls = vp.BatchJob.fit_rows, []

    def changing(self, first, last):
        calls.append(first)
        if len(calls) == 2:
            change(data)
        return fit_rows(self, first, last)

    with monkeypatch.context() as patch:
        patch.setattr(vp.BatchJob, "fit_rows", changing)
        out = plain("cube.yaml", "--set", "compute.workers=1")
    assert out.exit_code == 2, out.output
    assert "while it was read" in out.stderr and out.stderr.count("\n") == 1
    kept = sorted(path.name for path in (image / "run" / "blocks").iterdir())
    assert kept == ["000000.npz"] and not (image / "run" / "result.nc").exists()
    assert json.loads((image / "run" / "status.json").read_text())["state"] == "interrupted"
    # The blocks belong to the old data: they wait for those, and meet no others.
    if change is not replace:
        assert varpro("resume", "run").exit_code == 2
    data.write_bytes(raw)
    assert varpro("resume", "run", "--quiet").exit_code == 0
    digest = json.loads((image / "run" / "result.json").read_text())["inputs"]["data"]["sha256"]
    assert digest == hashlib.sha256(raw).hexdigest()


def test_data_that_change_while_one_fit_runs_leave_no_result(here, plain, monkeypatch):
    from varpro.app.runs import run

    fit_plan = run.fit_plan

    def changing(plan, progress):
        rewrite(here / "decay.csv")
        return fit_plan(plan, progress)

    monkeypatch.setattr(run, "fit_plan", changing)
    out = plain("decay.yaml")
    assert out.exit_code == 2 and "decay.csv: data: changed while it was read" in out.stderr
    assert not (here / "run").exists()


def test_a_folder_of_arrays_is_watched_file_by_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0").write_text("x")
    inputs = provenance.Inputs()
    inputs.note("data", tmp_path / "a")
    inputs.check()
    (tmp_path / "a" / "1").write_text("y")
    with pytest.raises(vp.InputError, match="changed while it was read"):
        inputs.check()


@pytest.mark.parametrize("damage", ["missing", "empty", "half", "deep", "list", "untrue"])
def test_a_lost_status_is_made_again_from_blocks_and_configuration(
    image, varpro, plain, monkeypatch, damage
):
    write, count = Journal.write, []

    def stopping(self, number, found):
        if len(count) == 2:
            raise KeyboardInterrupt
        write(self, number, found)
        count.append(number)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", stopping)
        assert plain("cube.yaml", "--set", "compute.workers=1").exit_code == 130
    status = image / "run" / "status.json"
    text = status.read_text()
    if damage == "missing":
        status.unlink()
    else:
        words = {"empty": "", "half": text[: len(text) // 2], "deep": "[" * 100_000, "list": "[1]"}
        words["untrue"] = text.replace('"interrupted"', '"finished"')
        status.write_text(words[damage])
    # What a killed process left of a result is in nobody's way.
    (image / "run" / ".result.nc.tmp-4711").write_text("half")
    (image / "run" / ".status.json.tmp-4711").write_text("half")
    assert varpro("resume", "run", "--quiet").exit_code == 0
    assert json.loads(status.read_text())["state"] == "finished"
    assert names(image / "run") == ["config.yaml", "result.json", "result.nc", "status.json"]
    assert plain("cube.yaml", "--overwrite", "-q").exit_code == 0
    # Blocks that another configuration made are never taken for one's own.
    fitted = vp.load(image / "run" / "result.nc")
    assert fitted.success.all()


def test_blocks_of_another_run_are_refused_without_a_status_too(image, varpro, plain, monkeypatch):
    def stopping(self, number, found):
        write(self, number, found)
        raise KeyboardInterrupt

    write = Journal.write
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", stopping)
        plain("cube.yaml", "--set", "compute.workers=1")
    config = image / "run" / "config.yaml"
    config.write_text(config.read_text().replace("init: 1.0", "init: 1.5"))
    (image / "run" / "status.json").unlink()
    out = varpro("resume", "run")
    assert out.exit_code == 2 and "belongs to another run" in out.stderr


def test_a_killed_result_is_in_nobodys_way(image, plain):
    make_run(image / "run", "old")
    for name in (".result.nc.tmp-12", ".status.json.tmp-3", ".maps.tmp.png", ".result.json.tmp-4"):
        (image / "run" / name).write_text("half")
    assert plain("cube.yaml", "--overwrite", "-q").exit_code == 0


FULL_DISK = """
import resource, signal, sys
from varpro.app import cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
sizes, sys.argv = sys.argv[1], ["varpro", *sys.argv[2:]]
for size in sizes.split(","):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), most))
    try:
        cli.main()
    except SystemExit as end:
        print(size, end.code, flush=True)
"""


def test_a_full_disk_is_one_sentence_and_no_crash(here):
    words = ["run", "decay.yaml", "--set", "output.plots=[]", "-q"]
    env = os.environ | {"VARPRO_CACHE": "off"}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, "3000,20000", *words],
        capture_output=True,
        text=True,
        env=env,
        cwd=here,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "3000 2\n20000 2\n"), done.stderr
    said = done.stderr.splitlines()
    assert len(said) == 2 and all("cannot be written" in line for line in said)
    assert names(here) == ["decay.csv", "decay.yaml"]


@pytest.mark.parametrize("room", [2000, 12_000])
def test_a_saved_fit_that_meets_a_full_disk_raises_and_keeps_the_older_one(tmp_path, room):
    x = np.linspace(0, 5, 200)
    fit = vp.fit(vp.Exp("e", tau=2.0), x, np.exp(-x) + 1e-3 * np.cos(9 * x))
    path = tmp_path / "fit.nc"
    fit.save(path)
    before, limit = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    assert len(before) > room
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
        with pytest.raises(vp.InputError, match="cannot be written"):
            fit.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before and names(tmp_path) == ["fit.nc"]
    assert batch.vp.load(path) == fit
