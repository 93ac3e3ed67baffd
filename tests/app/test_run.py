"""`varpro run` from a configuration to files, and what it leaves behind when it fails."""

import errno
import html
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from varpro.app.config.document import load
from varpro.app.runs import run as run_module

PLAIN = ["config.yaml", "fit.nc", "parameters.csv", "result.json", "result.nc"]
FILES = sorted([*PLAIN, "fit.png", "report.html"])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def change(old, new):
    with open("decay.yaml", encoding="utf-8") as file:
        text = file.read()
    assert old in text
    with open("decay.yaml", "w", encoding="utf-8") as file:
        file.write(text.replace(old, new))


def test_a_run_writes_everything_and_says_what_it_found(here, varpro):
    done = varpro("run", "decay.yaml")
    assert (done.exit_code, done.stderr) == (0, "")
    assert names(here / "run") == FILES
    assert names(here) == ["decay.csv", "decay.yaml", "run"]

    found = json.loads((here / "run" / "result.json").read_text())
    tau, bg = found["parameters"]["decay.tau"], found["parameters"]["bg"]
    assert found["status"]["success"] is True
    assert abs(tau["value"] - 2) < 4 * tau["stderr"]
    assert 0.005 < tau["stderr"] < 0.1
    assert (tau["unit"], bg["unit"]) == ("ns", "kcps")
    assert tau["lower"] == 0.01 and tau["init"] == 0.7
    assert found["statistics"]["dof"] == 37
    assert set(found["versions"]) >= {"varpro", "jax", "numpy", "python"}

    row = next(line for line in done.stdout.splitlines() if line.startswith("decay.tau"))
    assert row.split() == ["decay.tau", f"{tau['value']:.3f}", f"{tau['stderr']:.3f}", "ns"]
    assert done.stdout.startswith("Converged after ")
    assert done.stdout.rstrip().endswith("Written to run")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("without", ["{kind: exp}", "{kind: exp, tau: {lower: 0.01}}"])
def test_starts_that_are_left_out_are_found(here, varpro, plain, without):
    change("{kind: exp, tau: {init: 0.7, lower: 0.01}}", without)
    check, done = varpro("check", "decay.yaml"), plain("decay.yaml")
    row = next(line for line in check.stdout.splitlines() if line.startswith("decay.tau"))
    assert "from data" in row
    assert (done.exit_code, done.stderr) == (0, "")
    tau = json.loads((here / "run" / "result.json").read_text())["parameters"]["decay.tau"]
    assert abs(tau["value"] - 2) < 4 * tau["stderr"]
    assert 1 < tau["init"] < 4


def test_noise_that_is_not_normal(here, varpro, plain):
    text = (here / "decay.csv").read_text().splitlines()
    text[30] = text[30].split(",")[0] + ",9.0"
    (here / "decay.csv").write_text("\n".join(text) + "\n")
    change("output:", "fit: {noise: cauchy, loss_scale: 0.1}\noutput:")
    assert plain("decay.yaml").exit_code == 0
    tau = json.loads((here / "run" / "result.json").read_text())["parameters"]["decay.tau"]
    assert abs(tau["value"] - 2) < 4 * tau["stderr"]
    change("noise: cauchy", "noise: cauchi")
    assert "decay.yaml:6 fit.noise: expected" in varpro("check", "decay.yaml").stderr


def test_a_response_is_shared_by_the_components_that_name_it(here, varpro, plain):
    change(
        "model:\n  decay: {kind: exp, tau: {init: 0.7, lower: 0.01}}",
        "responses:\n  irf: {center: {init: -1, fixed: true}, width: 0.1, period: 100}\n"
        "constraints: {fix: [irf.width]}\nmodel:\n  decay: {kind: exp, tau: 0.7, irf: irf}",
    )
    check, done = varpro("check", "decay.yaml"), plain("decay.yaml")
    assert "irf.center" in check.stdout
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads((here / "run" / "result.json").read_text())["parameters"]
    assert found["irf.width"]["fixed"] and found["irf.period"]["fixed"]
    assert found["irf.center"]["unit"] == found["irf.period"]["unit"] == "ns"
    assert abs(found["decay.tau"]["value"] - 2) < 4 * found["decay.tau"]["stderr"]
    change("irf: irf}", "irf: ifr}")
    wrong = varpro("check", "decay.yaml")
    assert wrong.exit_code == 2
    assert "decay.yaml:7 model.decay: irf: no response 'ifr'. Did you mean 'irf'?" in wrong.stderr
    change("irf: ifr}", "irf: irf}")
    change("center: {init: -1, fixed: true}, ", "")
    lacking = varpro("check", "decay.yaml")
    assert "decay.yaml:4 responses.irf: GaussianIRF 'irf' needs center" in lacking.stderr


def test_a_tie_may_scale_and_shift(here, varpro, plain):
    change(
        "  bg: {kind: constant}",
        "  bg: {kind: constant}\n  more: {kind: exp, tau: 9}\n"
        "constraints: {tie: {more.tau: 3 * decay.tau + 0.5}}",
    )
    done = plain("decay.yaml")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads((here / "run" / "result.json").read_text())["parameters"]
    tau, more = found["decay.tau"], found["more.tau"]
    assert abs(more["value"] - 3 * tau["value"] - 0.5) < 1e-12
    assert abs(more["stderr"] - 3 * tau["stderr"]) < 1e-12 * more["stderr"]
    change("3 * decay.tau", "3 * dcay.tau")
    wrong = varpro("check", "decay.yaml")
    assert "decay.yaml:7 constraints.tie.more.tau: tie: unknown parameter 'dcay.tau'. Did you" in (
        wrong.stderr
    )


def test_a_measured_response_is_read_from_a_file(here, varpro, plain):
    t = 0.25 * np.arange(-10, 11)
    rows = "".join(f"{a},{b}\n" for a, b in zip(t, np.where(t == 0, 9, 1), strict=True))
    (here / "prompt.csv").write_text("t,counts\n" + rows)
    change(
        "model:\n  decay: {kind: exp, tau: {init: 0.7, lower: 0.01}}",
        "responses:\n  irf: {kind: measured, path: prompt.csv, x: t, y: counts, background: 1}\n"
        "model:\n  decay: {kind: exp, tau: 0.7, irf: irf}",
    )
    done = plain("decay.yaml")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads((here / "run" / "result.json").read_text())
    tau = found["parameters"]["decay.tau"]
    assert abs(tau["value"] - 2) < 4 * tau["stderr"]
    again = plain("run/config.yaml", "--quiet", "--out", "again")
    assert (again.exit_code, again.stderr) == (0, "")
    change("background: 1", "background: estimate, shift: {init: 0.0, fixed: true}, period: 60")
    assert "irf.shift" in varpro("check", "decay.yaml").stdout
    for old, new, message in (
        ("y: counts, background", "y: count, background", "prompt.csv has no column 'count'."),
        ("kind: measured", "kind: measurd", "responses.irf.kind: unknown kind 'measurd'. Did you"),
        ("period: 60", "period: 1", "decay.yaml:4 responses.irf: MeasuredIRF 'irf': the period 1"),
        ("background: estimate", "background: min", "responses.irf.background: "),
    ):
        change(old, new)
        assert message in varpro("check", "decay.yaml").stderr
        change(new, old)


def test_a_kinetic_scheme_is_a_mapping_of_transfers(here, varpro, plain):
    change(
        "model:\n  decay: {kind: exp, tau: {init: 0.7, lower: 0.01}}",
        "model:\n  s:\n    kind: kinetics\n    initial: {A: 2}\n    transfers:\n"
        "      A->B: {init: 9, fixed: true, unit: GHz}\n      B->: 0.4",
    )
    check, done = varpro("check", "decay.yaml"), plain("decay.yaml")
    assert "s.A->B" in check.stdout
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads((here / "run" / "result.json").read_text())
    assert found["parameters"]["s.A->B"]["unit"] == "GHz"
    rate = found["parameters"]["s.B->"]
    assert rate["unit"] == "1/ns" and abs(rate["value"] - 0.5) < 4 * rate["stderr"]
    change("B->: 0.4", "B->: {lower: 0}")
    wrong = varpro("check", "decay.yaml")
    assert "decay.yaml:9 model.s.transfers.B->: has no start. Give it init." in wrong.stderr
    change("B->: {lower: 0}", "B: 0.4")
    assert "Kinetics 's': the transfer 'B' must read" in varpro("check", "decay.yaml").stderr
    again = plain("run/config.yaml", "--quiet", "--out", "again")
    assert (again.exit_code, again.stderr) == (0, "")


def test_the_netcdf_file_holds_data_model_and_units(here, plain):
    plain("decay.yaml", "--quiet")
    found = json.loads((here / "run" / "result.json").read_text())
    with xr.open_dataset(here / "run" / "result.nc", engine="h5netcdf") as file:
        assert (
            file["value"].sel(parameter="decay.tau").item()
            == (found["parameters"]["decay.tau"]["value"])
        )
        assert file["coef"].sel(coefficient="bg").item() == found["parameters"]["bg"]["value"]
        np.testing.assert_array_equal(file["data"] - file["fitted"], file["residual"])
        t = file["x"].to_numpy()
        tau = file["value"].item()
        model = file["coef"].to_numpy() @ np.stack([np.exp(-t / tau), np.ones_like(t)])
        np.testing.assert_allclose(file["fitted"], model, rtol=1e-12)
        assert file["x"].attrs == {"units": "ns", "long_name": "t"}
        assert file["data"].attrs["units"] == "kcps"
        assert file["parameter_unit"].sel(parameter="decay.tau").item() == "ns"
        assert file.attrs["success"] == 1


def test_the_report_is_one_page_that_needs_nothing_else(here, varpro):
    change("decay:", '"<b>decay<b>":')
    assert varpro("run", "decay.yaml").exit_code == 0
    page = (here / "run" / "report.html").read_text(encoding="utf-8")
    assert "Converged after" in page
    # Data and fit in two sizes, and three figures that judge it; for one decade no second scale, and
    # of a quick search no figure.
    assert page.count("<svg") == 5
    assert "&lt;b&gt;decay&lt;b&gt;.tau" in page
    assert "<b>decay" not in page
    for outside in ("<link", "@import", "src="):
        assert outside not in page
    # Figures to look into need a script, and are there where they are asked for.
    assert "<script" not in page
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_findings_are_said_everywhere(here, varpro, plain):
    change("  bg: {kind: constant}\n", "")
    done = varpro("run", "decay.yaml", "--set", "output.plots=[]")
    found = json.loads((here / "run" / "result.json").read_text())["findings"]
    assert [one["code"] for one in found] == ["runs", "autocorrelation"]
    page = (here / "run" / "report.html").read_text(encoding="utf-8")
    for one in found:
        assert one["message"] in " ".join(done.stdout.split())
        assert html.escape(one["message"]) in page
    change("tau: {init: 0.7, lower: 0.01}", "tau: {init: 0.7, lower: 0.01, upper: 1.5}")
    plain("decay.yaml", "--overwrite")
    found = json.loads((here / "run" / "result.json").read_text())["findings"]
    assert "bound" in [one["code"] for one in found]


def test_the_same_run_twice_writes_the_same_bytes(here, varpro):
    varpro("run", "decay.yaml", "--out", "a/run")
    varpro("run", "decay.yaml", "--out", "b/run")
    for name in ("result.json", "config.yaml", "report.html", "fit.png"):
        assert (here / "a/run" / name).read_bytes() == (here / "b/run" / name).read_bytes(), name


def test_a_run_folder_reproduces_itself(here, plain):
    plain("decay.yaml")
    again = plain("run/config.yaml", "--out", "elsewhere/deep")
    assert again.exit_code == 0
    assert (here / "elsewhere/deep/result.json").read_bytes() == (
        (here / "run/result.json").read_bytes()
    )
    refused = plain("run/config.yaml")
    assert refused.exit_code == 2
    before = (here / "run/config.yaml").read_bytes()
    assert plain("run/config.yaml", "--overwrite").exit_code == 0
    assert (here / "run/config.yaml").read_bytes() == before


def test_the_resolved_configuration_states_every_default(here, plain):
    plain("decay.yaml", "-q")
    tree = load("run/config.yaml").tree
    assert tree["data"]["path"] == "../decay.csv"
    assert tree["data"]["units"] == {"x": "ns", "y": "kcps"}
    assert float(tree["fit"]["solver"]["ftol"]) > 0
    assert tree["fit"]["solver"]["jacobian"] == "auto"


def test_verbose_prints_every_step_of_the_search(here, plain):
    done = plain("decay.yaml", "-v")
    assert done.exit_code == 0
    lines = done.stderr.splitlines()
    assert lines[0].startswith("search 1, step 1: chi-square") and "decay.tau 0.7" in lines[0]
    found = json.loads((here / "run" / "result.json").read_text())
    assert f"decay.tau {found['parameters']['decay.tau']['value']:.6g}" in lines[-1]


def test_quiet_prints_nothing(here, varpro):
    done = varpro("run", "decay.yaml", "--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_outputs_that_are_not_wanted_are_not_written(here, varpro):
    change("{dir: run}", "{dir: run, report: none, plots: []}")
    assert varpro("run", "decay.yaml").exit_code == 0
    assert names(here / "run") == PLAIN


def test_an_earlier_run_is_kept_without_overwrite(here, plain):
    plain("decay.yaml")
    before = (here / "run" / "result.json").read_bytes()
    change("init: 0.7", "init: 0.8")
    refused = plain("decay.yaml")
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1 and "Add --overwrite" in refused.stderr
    assert (here / "run" / "result.json").read_bytes() == before
    assert plain("decay.yaml", "--overwrite").exit_code == 0
    assert (here / "run" / "result.json").read_bytes() != before
    assert names(here) == ["decay.csv", "decay.yaml", "run"]


FAILURES = {
    "a bug": (RuntimeError("oops"), 70, "varpro met a bug: RuntimeError: oops Please report"),
    "disk full": (
        OSError(errno.ENOSPC, "No space left on device"),
        2,
        r".*run: cannot be written \(No space left on device\)\.$",
    ),
    "interrupt": (KeyboardInterrupt(), 130, "Interrupted."),
}


@pytest.mark.parametrize(("error", "code", "said"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_while_writing_leaves_nothing_half_written(
    here, varpro, monkeypatch, error, code, said
):
    def fail(*args):
        raise error

    # The report is written last, and figures would only take their time before.
    run = ("run", "decay.yaml", "--set", "output.plots=[]")
    monkeypatch.setattr(run_module, "write_report", fail)
    done = varpro(*run)
    assert done.exit_code == code
    assert re.match(said, done.stderr) and done.stderr.count("\n") == 1
    assert names(here) == ["decay.csv", "decay.yaml"]

    monkeypatch.undo()
    os.chdir(here)
    assert varpro(*run).exit_code == 0
    before = (here / "run" / "result.json").read_bytes()
    monkeypatch.setattr(run_module, "write_report", fail)
    assert varpro(*run, "--overwrite").exit_code == code
    assert (here / "run" / "result.json").read_bytes() == before
    assert names(here / "run") == sorted([*PLAIN, "report.html"])


def test_debug_shows_where_a_bug_is(here, varpro, monkeypatch):
    def fail(*args):
        raise RuntimeError("oops")

    monkeypatch.setattr(run_module, "write_report", fail)
    done = varpro("run", "decay.yaml", "--debug", "--set", "output.plots=[]")
    assert done.exit_code == 70
    assert done.stderr.startswith("Traceback") and "in fail" in done.stderr


def test_a_fit_that_fails_is_written_marked_and_exits_1(here, varpro):
    change("output:", "fit: {solver: {max_steps: 1}}\noutput:")
    done = varpro("run", "decay.yaml")
    assert done.exit_code == 1
    assert done.stderr == "decay.yaml: the fit failed.\n"
    assert done.stdout.startswith("The fit failed after 1 step. ")
    assert names(here / "run") == FILES
    found = json.loads((here / "run" / "result.json").read_text())
    assert found["status"]["success"] is False
    assert 'class="verdict bad"' in (here / "run" / "report.html").read_text(encoding="utf-8")


def test_a_fit_that_fails_does_not_replace_a_good_one(here, plain):
    plain("decay.yaml")
    before = (here / "run" / "result.json").read_bytes()
    change("output:", "fit: {solver: {max_steps: 1}}\noutput:")
    done = plain("decay.yaml", "--overwrite")
    assert done.exit_code == 1
    assert "Written to run-failed" in done.stdout
    assert (here / "run" / "result.json").read_bytes() == before
    assert names(here) == ["decay.csv", "decay.yaml", "run", "run-failed"]


def spoil_config(text):
    return lambda: change("tau:", text)


def spoil_data(old, new):
    def spoil():
        with open("decay.csv", encoding="utf-8") as file:
            lines = file.read().splitlines()
        lines[5] = lines[5].replace(old, new) if old else new
        with open("decay.csv", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    return spoil


BAD = {
    "unknown key": (spoil_config("tao:"), "decay.yaml:4 model.decay.tao: unknown key. Did you"),
    "missing data": (
        lambda: os.remove("decay.csv"),
        "decay.yaml:2 data.path: decay.csv: data: no such file.",
    ),
    "missing configuration": (
        lambda: os.remove("decay.yaml"),
        "decay.yaml: configuration: no such file.",
    ),
    "NaN": (spoil_data(",", ",nan #"), "decay.csv:6:"),
    "ragged": (spoil_data("", "1,2,3"), "decay.csv:6:5 found 3 fields where the header has 2."),
    "start that overflows": (
        lambda: change("init: 0.7, lower: 0.01", "init: -1e-3, lower: -1"),
        "decay.yaml:4 model.decay: Column 'decay' is not finite at the start",
    ),
    "output below a file": (
        lambda: change("dir: run", "dir: decay.csv/run"),
        r".*run: cannot be made, as .*decay\.csv is not a folder\.$",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_exit_code_2(here, varpro, spoil, said):
    spoil()
    before = names(here)
    done = varpro("run", "decay.yaml")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert re.match(said, done.stderr) and done.stderr.count("\n") == 1
    assert names(here) == before


def test_check_shows_the_plan_and_writes_nothing(here, varpro):
    done = varpro("check", "decay.yaml")
    assert done.exit_code == 0
    assert "40 values of counts against t" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("decay.tau"))
    assert row.split() == ["decay.tau", "0.7", "0.01", "inf", "ns"]
    assert names(here) == ["decay.csv", "decay.yaml"]
    change("tau:", "tao:")
    assert varpro("check", "decay.yaml").exit_code == 2


def test_wrong_usage_exits_2(varpro):
    assert varpro("run").exit_code == 2
    assert varpro("run", "a.yaml", "--nonsense").exit_code == 2
    assert varpro("rnu").exit_code == 2
    assert varpro("--version").stdout.startswith("varpro ")


def test_as_a_program_with_its_cache_and_without_colour(here):
    env = {**os.environ, "XDG_CACHE_HOME": str(here / "cache"), "FORCE_COLOR": "", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "varpro", "run", "decay.yaml"],
        env=env,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "decay.tau" in done.stdout and "\x1b" not in done.stdout
    assert names(here / "run") == FILES
    assert any((here / "cache" / "varpro" / "programs").iterdir())
