"""The commands around a run: new, models, schema, compare, report, plot, info, sweeps, several sets."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import varpro as vp
from varpro.app.config.config import Config, parse
from varpro.app.config.document import load
from varpro.app.config.model import COMPONENTS
from varpro.app.plan.fit import fit_plan
from varpro.app.plan.make_plan import make_plan
from varpro.app.scaffold.reference import markdown_page, sections

TWO = """\
datasets:
  one: {path: one.csv, x: t, y: y}
  two: {path: two.csv, x: t, y: y, model: [decay]}
model:
  decay: {kind: exp, tau: 1.0}
  bg: {kind: constant}
fit: {share: ["*.tau"]}
output: {dir: runs/two}
"""


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two data sets with one lifetime of 2, the second without background."""
    for name, size, background in (("one", 30, 0.7), ("two", 25, 0.0)):
        t = np.linspace(0.0, 8.0, size)
        noise = np.random.default_rng(size).normal(size=size)
        y = 3 * np.exp(-t / 2) + background + 0.02 * noise
        rows = "\n".join(f"{a!r},{b!r}" for a, b in zip(t.tolist(), y.tolist(), strict=True))
        (tmp_path / f"{name}.csv").write_text(f"t [ns],y\n{rows}\n")
    (tmp_path / "two.yaml").write_text(TWO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_several_data_sets_share_what_the_configuration_says(two, varpro, plain):
    done = varpro("run", "two.yaml")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "decay.tau" in done.stdout and "one.bg" in done.stdout and "two.bg" not in done.stdout
    folder = two / "runs" / "two"
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["config.yaml", "fit.nc", "fit.one.png", "fit.two.png", "parameters.csv", "report.html"]
        + ["result.json", "result.one.nc", "result.two.nc"]
    )
    found = json.loads((folder / "result.json").read_text())
    fit = vp.load(folder)
    assert isinstance(fit, vp.GlobalFit)
    assert found["parameters"]["decay.tau"]["value"] == fit["decay.tau"].value
    assert abs(fit["decay.tau"].value - 2) < 5 * fit["decay.tau"].stderr
    assert found["parameters"]["decay.tau"]["unit"] == "ns"
    assert set(found["datasets"]["two"]["coefficients"]) == {"decay"}
    again = plain(folder / "config.yaml", "--out", "again")
    assert again.exit_code == 0, again.output
    assert vp.load("again")["decay.tau"].value == fit["decay.tau"].value


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[decay]}",
            "[decai]}",
            "two.yaml:3 datasets.two.model.0: no component is called 'decai'. Did",
        ),
        ('["*.tau"]', '["*.rate"]', "fit.share.0: no parameter matches '*.rate'"),
        ("path: two.csv", "path: tow.csv", "tow.csv: data: no such file."),
        ("datasets:", "data: {path: one.csv, x: t, y: y}\ndatasets:", "give either data, for one"),
        ("  two:", "  t.o:", "datasets: the name 't.o' has a dot"),
        ("x: t, y: y, model", "x: q, y: y, model", "datasets.two.x: two.csv has no column 'q'"),
    ],
)
def test_what_is_wrong_with_several_data_sets_is_said(two, varpro, old, new, message):
    (two / "two.yaml").write_text(TWO.replace(old, new))
    done = varpro("check", "two.yaml")
    assert done.exit_code == 2 and message in done.stderr and "Traceback" not in done.output


def test_a_table_of_parameters_holds_whatever_the_model_says(here, plain):
    (here / "params.csv").write_text("name,init,lower,upper,remark\ndecay.tau,1.5,0.5,4,mine\n")
    text = (here / "decay.yaml").read_text()
    (here / "decay.yaml").write_text(text + "parameters: params.csv\n")
    assert plain("decay.yaml", "--write-params", "fitted.csv").exit_code == 0
    tau = json.loads((here / "run" / "result.json").read_text())["parameters"]["decay.tau"]
    assert (tau["init"], tau["lower"], tau["upper"]) == (1.5, 0.5, 4.0)
    # What was fitted is a table of starts itself.
    (here / "decay.yaml").write_text(text + "parameters: fitted.csv\n")
    again = plain("decay.yaml", "--overwrite", "--json")
    found = json.loads(again.stdout)["parameters"]["decay.tau"]
    assert found["init"] == tau["value"] and found["value"] == pytest.approx(tau["value"], rel=1e-9)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "name,init\ndecay.tao,1\n",
            "params.csv: no parameter is called 'decay.tao'. Did you mean",
        ),
        (
            "nam,init\ndecay.tau,1\n",
            "params.csv: parameters: needs a column 'name'; found nam, init",
        ),
        ("name,init\ndecay.tau,one\n", "params.csv:2:11 column 'init': 'one' is not a number"),
        ("name,init,fixed\ndecay.tau,1,maybe\n", "expected true or false, not 'maybe'"),
        (
            "name,init,lower\ndecay.tau,1,2\n",
            "params.csv:2:1 parameters: init = 1 of 'decay.tau' lies outside",
        ),
        (
            "name,init\ndecay.tau,1\ndecay.tau,2\n",
            "params.csv:3:1 parameters: 'decay.tau' is there",
        ),
    ],
)
def test_what_is_wrong_with_a_table_of_parameters_is_said(here, varpro, table, message):
    (here / "params.csv").write_text(table)
    text = (here / "decay.yaml").read_text()
    (here / "decay.yaml").write_text(text + "parameters: params.csv\n")
    done = varpro("check", "decay.yaml")
    assert done.exit_code == 2 and message in done.stderr


def test_rules_for_coefficients_are_those_of_the_api(here, varpro):
    rules = "constraints: {nonnegative: [decay], bounds: {bg: [0, 0.5]}, ridge: 1e-3}\n"
    text = (here / "decay.yaml").read_text()
    (here / "decay.yaml").write_text(text + rules + "fit: {starts: 3, seed: 1}\n")
    found = fit_plan(make_plan("decay.yaml"))
    data = make_plan("decay.yaml").columns
    model = vp.Exp("decay", tau=vp.Param(0.7, lower=0.01)) + vp.Constant("bg")
    options = {"nonnegative": ["decay"], "bounds": {"bg": (0, 0.5)}, "ridge": 1e-3}
    expected = vp.fit(model, data.x, data.y, starts=3, seed=1, **options)
    assert found["bg"].value == 0.5 == expected["bg"].value
    np.testing.assert_array_equal(found.alpha, expected.alpha)
    np.testing.assert_array_equal(found.start_costs, expected.start_costs)


def test_values_are_set_from_the_command_line(here, plain):
    done = plain("decay.yaml", "--set", "model.decay.tau.fixed=true", "--json")
    tau = json.loads(done.stdout)["parameters"]["decay.tau"]
    assert tau["fixed"] is True and tau["value"] == 0.7
    again = load(here / "run" / "config.yaml").tree
    assert again["model"]["decay"]["tau"]["fixed"] == "true"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "fit.solver.max_stps=5",
            "decay.yaml: --set fit.solver.max_stps: unknown key. Did you mean",
        ),
        ("fit.solver.max_steps=many", "--set fit.solver.max_steps: expected a whole number"),
        ("fit.solver", "--set fit.solver: expected KEY=VALUE"),
        ("data.y.7=z", "--set data.y.7=z: there is no"),
        ("data.path=[1", "not valid YAML"),
        ("data.path=!!python/name:os.system x", "the tag '!!python/name:os.system' is not allowed"),
    ],
)
def test_what_is_wrong_with_a_change_is_said(here, varpro, change, message):
    done = varpro("run", "decay.yaml", "--set", change)
    assert done.exit_code == 2 and message in done.stderr
    assert not (here / "run").exists()


def test_a_sweep_makes_a_run_for_each_value(here, plain):
    done = plain("decay.yaml", "--sweep", "model.decay.tau.init=0.5,3.0", "--out", "all")
    assert done.exit_code == 0
    folders = sorted(p.name for p in (here / "all").iterdir())
    assert folders == ["model.decay.tau.init=0.5", "model.decay.tau.init=3.0"]
    starts = [vp.load(here / "all" / name)["decay.tau"].init for name in folders]
    assert starts == [0.5, 3.0]


def test_one_bad_configuration_does_not_keep_others_from_being_fitted(here, varpro):
    text = (here / "decay.yaml").read_text()
    (here / "bad.yaml").write_text(text.replace("tau:", "tao:"))
    done = varpro("run", "*.yaml", "--out", "all", "--quiet")
    assert done.exit_code == 1 and (here / "all" / "decay" / "report.html").exists()
    assert (
        "bad.yaml:4 model.decay.tao" in done.stderr
        and "1 of 2 runs failed: bad.yaml" in done.stderr
    )
    assert not (here / "all" / "bad").exists()
    assert "no file matches" in varpro("run", "nothing*.yaml").stderr


def test_a_dry_run_writes_nothing(here, varpro):
    done = varpro("run", "decay.yaml", "--dry-run")
    assert done.exit_code == 0 and "decay.tau" in done.stdout and not (here / "run").exists()


def test_runs_are_compared_reported_and_drawn_again(here, varpro, plain):
    assert varpro("run", "decay.yaml").exit_code == 0
    text = (here / "decay.yaml").read_text().replace("  bg: {kind: constant}\n", "")
    (here / "plain.yaml").write_text(text)
    assert plain("plain.yaml", "--out", "plain").exit_code == 0
    done = varpro("compare", "run", "plain")
    fits = [vp.load("run"), vp.load("plain")]
    assert done.stdout.rstrip("\n") == str(vp.compare(*fits, names=["run", "plain"]))
    before = (here / "run" / "report.html").read_text()
    (here / "run" / "report.html").unlink()
    assert varpro("report", "run").exit_code == 0
    assert (here / "run" / "report.html").read_text() == before
    assert varpro("plot", "run", "--format", "svg", "--out", "pictures").exit_code == 0
    assert (here / "pictures" / "fit.svg").read_text().startswith("<?xml")
    for words, message in [
        (("compare", "run"), "two runs or more"),
        (("compare", "run", "nowhere"), "nowhere: is no run folder"),
        (("report", "."), "is no run folder"),
        (("plot", "run", "--format", "gif"), "expected png, svg or pdf"),
    ]:
        done = varpro(*words)
        assert done.exit_code == 2 and message in done.stderr


def test_a_starter_is_a_valid_configuration(tmp_path, monkeypatch, varpro):
    monkeypatch.chdir(tmp_path)
    assert varpro("new", "first.yaml").exit_code == 0
    assert parse(load("first.yaml"), "runs/first").model["decay"].kind == "exp"
    assert "exists. Add --overwrite" in varpro("new", "first.yaml").stderr
    # Every key that is commented out is one that the models know.
    text = (tmp_path / "first.yaml").read_text()
    known = {f.alias or n for _, s in sections() for n, f in s.model_fields.items()}
    commented = re.findall(r"^ *# +(\w+): .*  # ", text, re.M)
    assert len(commented) > 25 and set(commented) <= known
    assert {"nonnegative", "max_steps", "share", "sigma"} <= set(commented)


def test_a_starter_guesses_decays_and_peaks(here, varpro, plain):
    done = varpro("new", "guess.yaml", "--from", "decay.csv")
    assert "one decay" in done.stdout
    # The numbers of a guess are starts that `run` takes as they are.
    assert plain("guess.yaml").exit_code == 0
    x = np.linspace(0.0, 10.0, 120)
    y = 2 * np.exp(-0.5 * ((x - 3) / 0.5) ** 2) + np.exp(-0.5 * ((x - 7) / 0.8) ** 2) + 0.3
    y += 0.02 * np.random.default_rng(0).normal(size=x.size)
    np.savetxt("peaks.txt", np.stack([x, y], axis=1), header="energy signal", comments="")
    assert "two Gaussian peaks" in varpro("new", "peaks.yaml", "--from", "peaks.txt").stdout
    model = make_plan("peaks.yaml").parameters
    centers = sorted(p.init for n, p in model.items() if n.endswith("center"))
    np.testing.assert_allclose(centers, [3, 7], atol=0.1)


def test_starter_schema_and_reference_come_from_the_same_models(varpro):
    schema = json.loads(varpro("schema").stdout)
    page = varpro("schema", "--markdown").stdout
    assert page.rstrip("\n") == markdown_page().rstrip("\n")
    definitions = {"Config": schema} | schema["$defs"]
    for _, section in sections():
        keys = {f.alias or n for n, f in section.model_fields.items()}
        assert set(definitions[section.__name__]["properties"]) == keys
        assert all(f"`{key}`" in page for key in keys)
        undocumented = set(section.model_fields) - set(section.texts())
        assert not undocumented, section.__name__
        told = definitions[section.__name__]["properties"].values()
        assert {key["description"] for key in told} == set(section.texts().values())
    for kind in COMPONENTS:
        assert f"### {kind}" in page
    assert Config.model_fields.keys() >= {"data", "datasets", "responses", "model"}


def test_models_are_listed_with_what_they_take(varpro):
    done = varpro("models")
    assert all(kind in done.stdout for kind in COMPONENTS)
    one = varpro("models", "oscillation").stdout
    assert "cos(2 pi freq x)" in one and re.search(r"tau .*lifetime", one)
    assert "Did you mean 'gaussian'" in varpro("models", "gausian").stderr
    info = varpro("info").stdout
    assert "varpro" in info and "devices" in info and "npz" in info


def test_a_starter_of_counts_fits_their_likelihood(here, varpro):
    t = np.linspace(0.0, 20.0, 120)
    counts = np.random.default_rng(7).poisson(400 * np.exp(-t / 2.0) + 8)
    table = np.stack([t, counts], axis=1)
    np.savetxt("photons.csv", table, delimiter=",", header="t,counts", comments="")
    assert "noise: poisson" in varpro("new", "photons.yaml", "--from", "photons.csv").stdout
    plan = make_plan("photons.yaml")
    assert plan.config.fit.noise == "poisson" and plan.config.data.sigma is None


ROOT = Path(__file__).parents[2]


def test_a_starter_finds_the_model_of_a_reference_problem(tmp_path, monkeypatch, varpro):
    """Of NIST's Gauss1 two peaks on a decay, though its noise has a third maximum."""
    monkeypatch.chdir(tmp_path)
    done = varpro("new", "a.yaml", "--from", str(ROOT / "configs/data/gauss1.csv"))
    assert "two Gaussian peaks on a decaying background" in done.stdout
    found = load("a.yaml").tree["model"]
    assert found.keys() == {"background", "peak1", "peak2"}
    # The published centres, of which a start is not far.
    assert abs(float(found["peak1"]["center"]) - 67.48) < 1
    assert abs(float(found["peak2"]["center"]) - 178.998) < 1


def test_a_starter_knows_mixed_peaks_and_asks_where_nothing_is_sound(tmp_path, monkeypatch, varpro):
    monkeypatch.chdir(tmp_path)
    x = np.linspace(0.0, 20.0, 200)
    noise = np.random.default_rng(4).normal(size=x.size)
    u = (x - 9.0) / 1.4
    peak = 10 * (0.6 / (1 + u**2) + 0.4 * 2.0 ** -(u**2)) + 0.02 * noise
    np.savetxt("peak.csv", np.c_[x, peak], delimiter=",", header="x,y", comments="# ")
    assert "one pseudo-Voigt peak" in varpro("new", "p.yaml", "--from", "peak.csv").stdout
    eta = load("p.yaml").tree["model"]["peak1"]["eta"]
    assert abs(float(eta["init"]) - 0.6) < 0.1 and eta["upper"] == "1"
    assert varpro("check", "p.yaml").exit_code == 0
    np.savetxt("noise.csv", np.c_[x, noise], delimiter=",", header="x,y", comments="")
    done = varpro("new", "n.yaml", "--from", "noise.csv")
    assert done.exit_code == 2 and "is not told from noise around its mean" in done.stderr
    assert "--x NAME, --y NAME, --noise" in done.stderr and not Path("n.yaml").exists()
