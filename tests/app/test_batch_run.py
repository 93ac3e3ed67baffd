"""Runs of many curves: blocks that are kept, and resumed runs."""

import json
import os
import resource
import signal

import numpy as np
import pytest
import xarray as xr

import varpro as vp
from varpro.app.plan.make_plan import make_plan
from varpro.app.runs import batch, dask_client
from varpro.app.runs.journal import Journal, ranges

FIELDS = ("alpha", "alpha_stderr", "coef", "coef_stderr", "chisq", "dof", "num_steps", "status")
CONFIG = """\
data: {path: cube.nc, variable: counts, x: time}
model:
  decay: {kind: exp, tau: 1.0}
  bg: {kind: constant}
fit: {share: none, noise: poisson, block: 16}
output: {dir: run}
"""


@pytest.fixture
def cube(cube_in_a_file, tmp_path):
    """The current folder, with `cube.nc` and `cube.yaml`."""
    (tmp_path / "cube.yaml").write_text(CONFIG)
    return cube_in_a_file


MODEL = vp.Exp("decay", tau=1.0) + vp.Constant("bg")
OPTIONS = {"dim": "time", "noise": "poisson", "max_steps": 256}


def direct(cube, block=16):
    return vp.fit_many(MODEL, None, cube, block=block, **OPTIONS)


def equal(a, b):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


@pytest.mark.parametrize(
    ("shape", "most"), [((8, 10), 16), ((8, 10), 25), ((3, 4, 5), 7), ((3, 4, 5), 20), ((7,), 3)]
)
def test_blocks_are_boxes_that_cover_all_curves_once(shape, most):
    found = ranges(shape, most)
    numbers = np.arange(np.prod(shape)).reshape(shape)
    assert [i for a, b in found for i in range(a, b)] == list(range(numbers.size))
    for first, last in found:
        assert 0 < last - first <= most
        at = np.unravel_index(np.arange(first, last), shape)
        assert last - first == np.prod([np.ptp(i) + 1 for i in at])


def test_a_run_writes_labelled_maps_and_exits_3_where_a_curve_failed(cube, varpro, plain):
    out = varpro("run", "cube.yaml")
    assert out.exit_code == 3, out.output
    assert "1 of 80 curves did not converge (1 bad_data); see fit.status." in out.output
    fit = vp.load("run/result.nc")
    equal(fit, direct(cube))
    maps = fit.to_dataset()
    assert maps["decay.tau"].dims == ("row", "col")
    np.testing.assert_array_equal(maps["row"], cube["row"])
    said = json.loads((open("run/result.json")).read())
    assert said["status"]["counts"] == fit.counts and said["shape"] == {"row": 8, "col": 10}
    assert said["parameters"]["decay.tau"]["unit"] == "ns"
    status = json.loads(open("run/status.json").read())
    assert status["state"] == "finished" and status["finished"] == 80 and status["failed"] == 1
    assert not os.path.exists("run/blocks")
    assert plain("cube.yaml").exit_code == 2
    assert plain("cube.yaml", "--overwrite", "-q").exit_code == 3
    # What stands in the folder reproduces the run.
    assert plain("run/config.yaml", "--out", "again", "-q").exit_code == 3
    assert vp.load("again/result.nc") == fit


def interrupted_after(monkeypatch, count, what):
    """Let a run be stopped once so many blocks are written; returns the blocks written so far."""
    written, stopped = [], []
    write = Journal.write

    def stopping(self, number, found):
        # Two threads may write at once: the number may be passed, never reached.
        if len(written) >= count and not stopped:
            stopped.append(number)
            raise what
        write(self, number, found)
        written.append(number)

    monkeypatch.setattr(Journal, "write", stopping)
    return written


def test_an_interrupted_run_is_resumed_to_the_same_result_without_repeating_a_block(
    cube, varpro, plain, monkeypatch
):
    with monkeypatch.context() as patch:
        first = interrupted_after(patch, 3, KeyboardInterrupt)
        out = plain("cube.yaml")
    assert out.exit_code == 130 and "varpro resume" in out.output
    status = json.loads(open("run/status.json").read())
    # Blocks in flight are finished.
    assert status["state"] == "interrupted" and 3 <= len(first) < 8
    assert plain("cube.yaml").exit_code == 2
    with monkeypatch.context() as patch:
        second = interrupted_after(patch, 99, KeyboardInterrupt)
        assert varpro("resume", "run").exit_code == 3
    assert sorted(first + second) == list(range(len(ranges((8, 10), 16))))
    equal(vp.load("run/result.nc"), direct(cube))
    out = varpro("resume", "run")
    assert out.exit_code == 2 and "finished" in out.output


def test_changed_data_or_configuration_do_not_resume(cube, varpro, plain, monkeypatch):
    with monkeypatch.context() as patch:
        interrupted_after(patch, 1, KeyboardInterrupt)
        plain("cube.yaml")
    text = open("run/config.yaml").read()
    open("run/config.yaml", "w").write(text.replace("init: 1.0", "init: 1.5"))
    out = varpro("resume", "run")
    assert out.exit_code == 2 and "not those with which this run began" in " ".join(
        out.output.split()
    )
    open("run/config.yaml", "w").write(text)
    (cube + 1).to_netcdf("new.nc", engine="h5netcdf")
    os.replace("new.nc", "cube.nc")
    assert varpro("resume", "run").exit_code == 2
    assert varpro("resume", "elsewhere").exit_code == 2


def test_a_full_disk_keeps_what_is_finished_and_leaves_no_half_block(tmp_path):
    journal = Journal(tmp_path, "key", ((0, 50), (50, 100)))
    journal.begin()
    found = {key: np.zeros((50, 2)) for key in FIELDS}
    journal.write(0, found)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        with pytest.raises(vp.InputError, match="Finished blocks are kept"):
            journal.write(1, found)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert journal.done() == {0} and len(list((tmp_path / "blocks").iterdir())) == 1
    journal.write(1, found)
    assert journal.gathered()["chisq"].shape == (100, 2)


def test_a_damaged_or_foreign_block_is_named(tmp_path):
    journal = Journal(tmp_path, "key", ((0, 5),))
    journal.begin()
    journal.write(0, {key: np.zeros((5, 2)) for key in FIELDS})
    with pytest.raises(vp.InputError, match="another run"):
        Journal(tmp_path, "other", ((0, 5),)).read(0)
    raw = bytearray(journal.path(0).read_bytes())
    raw[len(raw) // 2] ^= 255
    journal.path(0).write_bytes(raw)
    with pytest.raises(vp.InputError, match="damaged"):
        journal.read(0)


def test_no_damage_of_a_block_is_used_or_escapes_as_anything_but_a_sentence(tmp_path, rng):
    journal = Journal(tmp_path, "key", ((0, 5),))
    journal.begin()
    journal.write(0, {key: rng.normal(size=(5, 2)) for key in FIELDS})
    whole, raw = journal.read(0), journal.path(0).read_bytes()
    spoilt = [b"", b"PK", raw[:-1], raw[: len(raw) // 2], raw + raw, bytes(len(raw)), b"\n" * 100]
    # Every byte of the directory at the end, and some of the rest.
    for at in (*range(0, len(raw) - 700, 23), *range(len(raw) - 700, len(raw), 2)):
        spoilt.append(raw[:at] + bytes([raw[at] ^ (1 + 2 * at) % 255]) + raw[at + 1 :])
    for damaged in spoilt:
        journal.path(0).write_bytes(damaged)
        try:
            found = journal.read(0)
        except vp.InputError as error:
            assert "\n" not in str(error) and "Delete it" in str(error)
            assert "pickle" not in str(error)
        else:  # what was hit says nothing about the numbers
            assert all(np.array_equal(found[key], whole[key]) for key in FIELDS)


def test_columns_of_a_table_and_maps_in_zarr(tmp_path, monkeypatch, plain):
    monkeypatch.chdir(tmp_path)
    t = np.linspace(0, 5, 30)
    y = np.exp(-t / np.array([[1.0], [2.0], [3.0]])) + 0.001 * np.cos(17 * t)
    header = "t [ns],a [V],b [V],c [V]"
    np.savetxt("t.csv", np.c_[t, y.T], delimiter=",", header=header, comments="")
    config = "data: {path: t.csv, x: t, y: [a, b, c]}\nmodel: {d: {kind: exp, tau: 1.0}}\n"
    (tmp_path / "t.yaml").write_text(
        config + "fit: {share: none}\noutput: {dir: run, maps: zarr}\n"
    )
    assert plain("t.yaml").exit_code == 0
    maps = xr.open_zarr("run/result.zarr")
    assert list(maps["curve"].values) == ["a", "b", "c"]
    np.testing.assert_allclose(maps["d.tau"], [1, 2, 3], rtol=1e-2)
    assert maps["d.tau"].attrs["units"] == "ns" and maps["d"].attrs["units"] == "V"


def test_no_scheduler_at_an_address_is_said(cube, varpro, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_client, "PATIENCE", 1)
    open("far.yaml", "w").write(CONFIG + "compute: {engine: dask}\n")
    with monkeypatch.context() as patch:
        patch.setenv("VARPRO_SCHEDULER", "tcp://127.0.0.1:1")
        out = varpro("run", "far.yaml")
    assert out.exit_code == 2 and "no scheduler answers at tcp://127.0.0.1:1" in out.output
    # Without certificates there is no TLS, and how to give them is said.
    out = varpro("run", "far.yaml", "--scheduler", "tls://127.0.0.1:1", "--overwrite")
    assert out.exit_code == 2 and "no scheduler answers at tls:" in out.output
    assert "distributed.comm.tls.ca-file" in out.output


@pytest.mark.parametrize("words", [(), ("--set", "compute.scheduler=tcp://10.0.0.1:8786")])
def test_no_configuration_names_a_scheduler(cube, varpro, words):
    named = "" if words else ", scheduler: 'tcp://10.0.0.1:8786'"
    open("far.yaml", "w").write(CONFIG + f"compute: {{engine: dask{named}}}\n")
    out = varpro("run", "far.yaml", *words)
    assert out.exit_code == 2 and not os.path.exists("run")
    assert "compute.scheduler: a scheduler sends code to run" in out.output
    assert "give the address with --scheduler or in VARPRO_SCHEDULER" in out.output
    # An address that nothing would use is no less wrong.
    out = varpro("run", "cube.yaml", "--scheduler", "tcp://10.0.0.1:8786")
    assert out.exit_code == 2 and "does not say 'compute: {engine: dask}'" in out.output


def test_the_key_of_a_run_ignores_where_it_is_and_who_computes(cube, tmp_path):
    key = batch.run_key(make_plan("cube.yaml"))
    (tmp_path / "deep").mkdir()
    text = CONFIG.replace("cube.nc", "../cube.nc").replace("dir: run", "dir: x")
    (tmp_path / "deep" / "a.yaml").write_text(text + "compute: {workers: 3}\n")
    assert batch.run_key(make_plan("deep/a.yaml")) == key
    (tmp_path / "b.yaml").write_text(CONFIG.replace("poisson", "huber"))
    assert batch.run_key(make_plan("b.yaml")) != key


def with_maps(array):
    """The cube with maps beside it, one of them with its axes in another order."""
    tau = xr.DataArray(np.linspace(1.4, 2.6, 80).reshape(8, 10), dims=("row", "col"))
    rows = xr.DataArray(np.linspace(0.5, 0.7, 8), dims="row")
    return xr.Dataset({"counts": array, "tau0": tau.transpose("col", "row"), "least": rows})


@pytest.mark.parametrize(
    ("fit", "rules", "asked"),
    [
        ("share: [decay.tau]", "", {"share": ["decay.tau"]}),
        # With noise and blocks of the runs above, whose program these are.
        (
            "share: none, noise: poisson, block: 16, start: neighbours",
            "",
            {"start": "neighbours", "noise": "poisson", "block": 16},
        ),
        (
            "share: none, init: {decay.tau: tau0}",
            "constraints: {fix: [decay.tau]}",
            {"init": {"decay.tau": "tau0"}, "fix": ["decay.tau"]},
        ),
        (
            "share: none",
            "constraints: {bounds: {decay.tau: [least, 2.0]}}",
            {"bounds": {"decay.tau": ("least", 2.0)}},
        ),
    ],
    ids=["shared", "neighbours", "held at a map", "bounds of each"],
)
def test_what_python_says_of_each_curve_a_file_says_too(cube, plain, fit, rules, asked):
    maps = with_maps(cube)
    maps.transpose("time", ...).to_netcdf("maps.nc", engine="h5netcdf")
    text = CONFIG.replace("cube.nc", "maps.nc").replace(
        "fit: {share: none, noise: poisson, block: 16}", f"{rules}\nfit: {{{fit}}}"
    )
    with open("maps.yaml", "w") as file:
        file.write(text)
    done = plain("maps.yaml", "--quiet")
    assert done.exit_code == 3, done.output  # one curve is broken
    arrays = {
        "tau0": maps["tau0"].transpose("row", "col").values,
        "least": np.broadcast_to(maps["least"].values[:, None], (8, 10)),
    }
    for what in ("init", "bounds"):
        if what in asked:
            value = asked[what]["decay.tau"]
            pair = isinstance(value, tuple)
            value = tuple(arrays.get(v, v) for v in value) if pair else arrays[value]
            asked = {**asked, what: {"decay.tau": value}}
    said = {**OPTIONS, "noise": "normal", **asked}
    equal(vp.load("run/result.nc"), vp.fit_many(MODEL, None, cube, **said))
    again = plain("run/config.yaml", "--quiet", "--out", "again")
    assert again.exit_code == 3, again.output
    equal(vp.load("again/result.nc"), vp.load("run/result.nc"))
    if not {"init", "bounds"} & set(asked):
        status = json.loads(open("run/status.json").read())
        assert (status["state"], status["curves"], status["failed"]) == ("finished", 80, 1)


def test_an_interrupted_run_of_curves_that_share_begins_anew(cube, varpro, plain, monkeypatch):
    text = CONFIG.replace(
        "share: none, noise: poisson, block: 16", "share: [decay.tau], noise: normal"
    )
    with open("cube.yaml", "w") as file:
        file.write(text)
    with monkeypatch.context() as patch:
        patch.setattr(batch.vp, "fit_many", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
        assert plain("cube.yaml", "--quiet").exit_code == 143
    assert json.loads(open("run/status.json").read())["state"] == "interrupted"
    assert varpro("resume", "run", "--quiet").exit_code == 3
    said = {**OPTIONS, "noise": "normal", "share": ["decay.tau"]}
    equal(vp.load("run/result.nc"), vp.fit_many(MODEL, None, cube, **said))


@pytest.mark.parametrize(
    ("fit", "rules", "message"),
    [
        ("share: [decay.tua]", "", "fit.share.0: no parameter matches 'decay.tua'. Did you mean"),
        (
            "share: none, init: {decay.tua: counts}",
            "",
            "fit.init.decay.tua: no parameter is called",
        ),
        ("share: none, init: {decay.tau: nomap}", "", "fit.init.decay.tau: .*no array 'nomap'"),
        ("share: none, init: {decay.tau: counts}", "", "fit.init.decay.tau: 'counts' lies on"),
        (
            "share: none",
            "constraints: {bounds: {decay.tau: [1, nomap]}}",
            "constraints.bounds.decay.tau: .*no array 'nomap'",
        ),
        ("share: all, init: {decay.tau: counts}", "", "maps of 'decay.tau' are for curves with"),
        (
            "share: [decay.tau], start: neighbours",
            "",
            "neighbours is for curves that share nothing",
        ),
        (
            "share: [decay.tau]",
            "compute: {engine: dask}",
            "dask fits blocks of curves one by one, but these know of each other",
        ),
    ],
)
def test_what_is_wrong_with_maps_and_shares_is_said(cube, varpro, fit, rules, message):
    import re

    text = CONFIG.replace(
        "fit: {share: none, noise: poisson, block: 16}", f"{rules}\nfit: {{{fit}}}"
    )
    with open("cube.yaml", "w") as file:
        file.write(text)
    done = varpro("run", "cube.yaml")
    assert done.exit_code == 2
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.startswith("cube.yaml:") and done.stderr.count("\n") == 1
