"""Every key of a configuration changes something, or is refused where it would not: a table that holds
all keys of the schema, so that a new one needs a line here."""

import pathlib

import numpy as np
import pydantic
import pytest
import xarray as xr

import varpro as vp
from varpro.app.config.config import Config, Output
from varpro.app.config.data import Data, Dataset, Units
from varpro.app.config.fit import Compute, Constraints, EqualArea, Fit, Solver, Somewhere
from varpro.app.config.model import COMPONENTS, RESPONSES, Parameter
from varpro.app.plan import fit as plan_fit
from varpro.app.plan.make_plan import make_plan
from varpro.app.runs import batch

T = np.linspace(0.1, 9.9, 40)
Y = 50 * np.exp(-T / 2) + 3 + np.cos(7 * T)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The current folder, with data of every kind."""
    monkeypatch.chdir(tmp_path)
    columns = np.c_[T, Y, Y[::-1], np.full(T.size, 0.5), np.arange(T.size) % 2]
    for name, comma in (("table.csv", ","), ("spaces.csv", " ")):
        np.savetxt(
            name, columns, delimiter=comma, header=comma.join("t a b s w".split()), comments=""
        )
    arrays = xr.Dataset(
        {
            "a": (("t", "p"), np.c_[Y, 2 * Y, 3 * Y]),
            "b": (("t", "p"), np.c_[Y, Y, Y] / 9),
            "s": (("t", "p"), np.ones((40, 3)) + np.arange(3)),
            "use": (("t", "p"), np.arange(120).reshape(40, 3) % 5 > 0),
            "tau0": ("p", [1.5, 2.5, 3.0]),
        },
        {"t": T, "p": [400.0, 500.0, 600.0]},
    )
    arrays.to_netcdf("arrays.nc", engine="h5netcdf")
    np.savez("bare.npz", cube=np.c_[Y, 2 * Y].T.reshape(2, 1, 40))
    c = 0.25 * 0.5 ** np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
    np.savetxt("noise.csv", c, delimiter=",")
    np.save("noise.npy", c)
    (tmp_path / "starts.csv").write_text("name,init\nd.tau,2.5\n")
    (tmp_path / "own.py").write_text("def f(x, k):\n    return x**k\n")
    return tmp_path


TABLE = "path: table.csv, x: t, y: a"
ARRAYS = "path: arrays.nc, x: t, y: a"
CUBE = "path: arrays.nc, x: t, variable: a"
BARE = "path: bare.npz, x: t, dims: [row, col, t], spacing: 0.25"
MODEL = "{d: {kind: exp, tau: 1.0}, c: {kind: constant}}"
EACH = "share: none"
AREA = "constraints: {equal_areas: [{first: c, second: d, weight: 3%s}]}"


def config(data=TABLE, fit="", model=MODEL, more=""):
    return f"data: {{{data}}}\nmodel: {model}\nfit: {{{fit}}}\n{more}\n"


class Caught(Exception):
    pass


def shown(value):
    """What a call was given, in words that differ where it differs."""
    if isinstance(value, dict):
        return {str(key): shown(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [shown(v) for v in value]
    if hasattr(value, "path") and hasattr(value, "shape"):  # a part of a file
        coords = {name: c.values.tolist() for name, c in value.coords.items()}
        return [value.name, value.imag, value.shape, value.dims, coords]
    if isinstance(value, np.ndarray | xr.DataArray):
        return [str(value.dtype), value.shape, np.asarray(value).tolist()]
    return repr(value)


def outcome(text, monkeypatch):
    """The call that a configuration comes down to, or its refusal."""
    pathlib.Path("c.yaml").write_text(text)
    caught = []

    def catch(*args, **options):
        caught.append(shown([args, options]))
        raise Caught

    try:
        plan = make_plan("c.yaml")
    except vp.InputError as error:
        return "refused", str(error)
    with monkeypatch.context() as patch:
        for module in (plan_fit, batch):
            for name in ("fit", "fit_many", "prepare_many"):
                patch.setattr(module.vp, name, catch)
        with pytest.raises(Caught):
            if not plan.config.each:
                plan_fit.fit_plan(plan)
            elif plan.config.at_once:
                batch._at_once(plan, pathlib.Path("."), "key", False)
            else:
                batch.make_job(plan)
    return "fitted", caught


TWO = """\
datasets:
  one: {%s, model: [d, c]}
  two: {path: table.csv, x: t, y: b, model: [d%s]}
model: {d: {kind: exp, tau: 1.0}, c: {kind: constant}}
"""
RESPONSE = "responses: {g: {center: {init: 1.0, fixed: true}, width: 0.2}}"

# By key: two configurations that are to differ in what they fit.
ADAM = "solver: {kind: optax, name: adam, learning_rate: %s}"
CHANGES = {
    "data.path": (config(), config(TABLE.replace("table", "spaces") + ", range: [1, 5]")),
    "data.x": (config(), config("path: table.csv, x: b, y: a")),
    "data.y": (config(), config("path: table.csv, x: t, y: b")),
    "data.imag": (config(), config(TABLE + ", imag: b")),
    "data.variable": (config(CUBE, EACH), config(CUBE.replace("variable: a", "variable: b"), EACH)),
    "data.dims": (config(BARE, EACH), config(BARE.replace("row, col", "y, x"), EACH)),
    "data.spacing": (config(BARE, EACH), config(BARE.replace("0.25", "0.5"), EACH)),
    "data.origin": (config(BARE, EACH), config(BARE + ", origin: 1", EACH)),
    "data.sigma": (config(), config(TABLE + ", sigma: s")),
    "data.covariance": (config(), config(TABLE + ", covariance: noise.csv")),
    "data.weights": (config(), config(TABLE + ", weights: w")),
    "data.delimiter": (
        config("path: spaces.csv, x: t, y: a, delimiter: comma"),
        config("path: spaces.csv, x: t, y: a"),
    ),
    "data.where": (config(), config(TABLE + ", where: {w: '0.000000000000000000e+00'}")),
    "data.select": (config(ARRAYS), config(ARRAYS + ", select: {p: [400, 500]}")),
    "data.mask": (config(ARRAYS), config(ARRAYS + ", mask: use")),
    "data.range": (config(), config(TABLE + ", range: [1, 5]")),
    "data.nan": (config(), config(TABLE + ", nan: drop")),
    "dataset.model": (TWO % (TABLE, ""), TWO % (TABLE, ", c")),
    "constraints.fix": (config(), config(more="constraints: {fix: [d.tau]}")),
    "constraints.tie": (
        config(model="{d: {kind: exp, tau: 1.0}, e: {kind: exp, tau: 3.0}}"),
        config(
            model="{d: {kind: exp, tau: 1.0}, e: {kind: exp, tau: 3.0}}",
            more="constraints: {tie: {e.tau: 2 * d.tau}}",
        ),
    ),
    "constraints.order": (
        config(model="{d: {kind: exp, tau: 1.0}, e: {kind: exp, tau: 3.0}}"),
        config(
            model="{d: {kind: exp, tau: 1.0}, e: {kind: exp, tau: 3.0}}",
            more="constraints: {order: [d.tau, e.tau]}",
        ),
    ),
    "constraints.inequalities": (
        config(model="{d: {kind: exp, tau: 1.0}, e: {kind: exp, tau: 3.0}}"),
        config(
            model="{d: {kind: exp, tau: 1.0}, e: {kind: exp, tau: 3.0}}",
            more="constraints: {inequalities: [e.tau >= 3 * d.tau]}",
        ),
    ),
    "constraints.nonnegative": (config(), config(more="constraints: {nonnegative: true}")),
    "constraints.bounds": (config(), config(more="constraints: {bounds: {d.tau: [0.5, 4]}}")),
    "constraints.real_coefficients": (
        config(TABLE + ", imag: b"),
        config(TABLE + ", imag: b", more="constraints: {real_coefficients: true}"),
    ),
    "constraints.relations": (config(), config(more="constraints: {relations: {c: {d: 0.5}}}")),
    "somewhere.within": (
        config(ARRAYS, more="constraints: {relations: {c: {within: [350, 450], relation: 1}}}"),
        config(ARRAYS, more="constraints: {relations: {c: {within: [350, 550], relation: 1}}}"),
    ),
    "somewhere.relation": (
        config(ARRAYS, more="constraints: {relations: {c: {within: [350, 450], relation: 1}}}"),
        config(ARRAYS, more="constraints: {relations: {c: {within: [350, 450], relation: d}}}"),
    ),
    "constraints.equal_areas": (config(ARRAYS), config(ARRAYS, more=AREA % "")),
    "equal_area.first": (config(ARRAYS), config(ARRAYS, more=AREA % "")),
    "equal_area.second": (config(ARRAYS), config(ARRAYS, more=AREA % "")),
    "equal_area.weight": (config(ARRAYS), config(ARRAYS, more=AREA % "")),
    "equal_area.ratio": (config(ARRAYS, more=AREA % ""), config(ARRAYS, more=AREA % ", ratio: 2")),
    "equal_area.within": (
        config(ARRAYS, more=AREA % ""),
        config(ARRAYS, more=AREA % ", within: [350, 450]"),
    ),
    "equal_area.second_within": (
        config(ARRAYS, more=AREA % ""),
        config(ARRAYS, more=AREA % ", second_within: [350, 450]"),
    ),
    "constraints.ridge": (config(), config(more="constraints: {ridge: 0.1}")),
    "constraints.smooth": (
        config(model="{d: {kind: bspline, count: 8}}"),
        config(model="{d: {kind: bspline, count: 8}}", more="constraints: {smooth: {'d.*': 0.1}}"),
    ),
    "fit.share": (config(ARRAYS), config(CUBE, EACH)),
    "fit.link": (TWO % (TABLE, ", c"), TWO % (TABLE, ", c") + "fit: {link: d}\n"),
    "fit.scale": (
        TWO % (TABLE, "") + "fit: {link: all}\n",
        TWO % (TABLE, "") + "fit: {link: all, scale: {two: 1.2}}\n",
    ),
    "fit.starts": (config(), config(fit="starts: 3")),
    "fit.seed": (config(fit="starts: 3"), config(fit="starts: 3, seed: 1")),
    "fit.start": (config(CUBE, EACH), config(CUBE, EACH + ", start: binned")),
    "fit.init": (config(CUBE, EACH), config(CUBE, EACH + ", init: {d.tau: tau0}")),
    "fit.binning": (
        config(CUBE, EACH + ", start: binned"),
        config(CUBE, EACH + ", start: binned, binning: 2"),
    ),
    "fit.block": (config(CUBE, EACH), config(CUBE, EACH + ", block: 2")),
    "fit.compress": (config(ARRAYS), config(ARRAYS, "compress: true")),
    "fit.absolute_sigma": (config(), config(fit="absolute_sigma: true")),
    "fit.noise": (config(), config(fit="noise: huber")),
    "fit.loss_scale": (config(fit="noise: huber"), config(fit="noise: huber, loss_scale: 2")),
    "solver.jacobian": (config(), config(fit="solver: {jacobian: full}")),
    "solver.linear_solver": (config(), config(fit="solver: {linear_solver: qr}")),
    "solver.ftol": (config(), config(fit="solver: {ftol: 1e-9}")),
    "solver.xtol": (config(), config(fit="solver: {xtol: 1e-9}")),
    "solver.gtol": (config(), config(fit="solver: {gtol: 1e-9}")),
    "solver.max_steps": (config(), config(fit="solver: {max_steps: 9}")),
    "solver.kind": (config(), config(fit="solver: {kind: optimistix, name: BFGS}")),
    "solver.name": (
        config(fit="solver: {kind: optimistix, name: BFGS}"),
        config(fit="solver: {kind: optimistix, name: DFP}"),
    ),
    "solver.learning_rate": (config(fit=ADAM % 0.1), config(fit=ADAM % 0.2)),
    "solver.steps": (
        config(fit=ADAM % 0.1),
        config(fit=ADAM.replace("name", "steps: 7, name") % 0.1),
    ),
    "solver.rtol": (
        config(fit=ADAM % 0.1),
        config(fit=ADAM.replace("name", "rtol: 1e-3, name") % 0.1),
    ),
    "solver.atol": (
        config(fit=ADAM % 0.1),
        config(fit=ADAM.replace("name", "atol: 1e-3, name") % 0.1),
    ),
    "config.datasets": (TWO % (TABLE, ""), TWO % ("path: table.csv, x: t, y: b", "")),
    "config.responses": (
        config(model="{d: {kind: exp, tau: 1.0, irf: g}}", more=RESPONSE),
        config(model="{d: {kind: exp, tau: 1.0, irf: g}}", more=RESPONSE.replace("0.2", "0.3")),
    ),
    "config.model": (config(), config(model="{d: {kind: exp, tau: 1.0}}")),
    "config.parameters": (config(), config(more="parameters: starts.csv")),
}
# What changes files that are written, words in them, or the machine: the tests that see it.
ELSEWHERE = {
    **{"units.x": "test_run", "units.y": "test_run", "config.title": "test_report"},
    **{"output.dir": "test_run", "output.report": "test_run", "output.plots": "test_report"},
    **{"output.interactive": "test_report"},
    **{"output.maps": "test_batch_run", "compute.engine": "test_batch_run"},
    **{"compute.workers": "test_nothing_lost", "compute.scheduler": "test_batch_run"},
    **{
        "config.derived": "test_derived_run",
        "data.skip": "test_tables",
        "data.comment": "test_tables",
    },
    **{"data.header": "test_tables", "data.units_row": "test_tables", "data.footer": "test_tables"},
    **{"data.decimal": "test_tables", "data.thousands": "test_tables", "data.sheet": "test_tables"},
    "data.transpose": "test_tables",
    **{"data.encoding": "test_tables"},
}
# Keys that hold others, of which there is but one, or of which the parts are in the table.
WHOLE = {
    "config.schema_version",
    "config.data",
    "config.constraints",
    "config.fit",
    "config.compute",
}
WHOLE |= {"config.output", "data.units", "fit.solver"}

SECTIONS = {
    **{"config": Config, "data": Data, "units": Units, "constraints": Constraints, "fit": Fit},
    **{"solver": Solver, "compute": Compute, "output": Output, "somewhere": Somewhere},
    "equal_area": EqualArea,
}


def test_the_table_has_every_key_of_the_schema():
    keys = {f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields}
    keys |= {f"dataset.{key}" for key in set(Dataset.model_fields) - set(Data.model_fields)}
    table = set(CHANGES) | set(ELSEWHERE) | WHOLE
    assert keys - table == set()
    # Nor has it more, but for keys of which another command line option took the place.
    assert table - keys <= {"compute.scheduler"}
    for file in ELSEWHERE.values():
        assert (pathlib.Path(__file__).parent / f"{file}.py").exists()


@pytest.mark.parametrize("key", CHANGES)
def test_every_key_changes_what_is_fitted(files, monkeypatch, key):
    without, with_it = (outcome(text, monkeypatch) for text in CHANGES[key])
    if key != "data.delimiter":  # there the wrong one is refused
        assert without[0] == "fitted", without[1]
    assert with_it[0] == "fitted", with_it[1]
    assert without != with_it


def test_a_covariance_of_the_file_is_that_of_the_rows_that_are_fitted(files):
    c = np.load("noise.npy")
    fits = []
    for file in ("noise.csv", "noise.npy"):
        pathlib.Path("c.yaml").write_text(config(f"{TABLE}, covariance: {file}, range: [1, 8]"))
        plan = make_plan("c.yaml")
        fits.append(plan_fit.fit_plan(plan))
        assert "data.covariance" in plan.inputs.paths
    used = (T >= 1) & (T <= 8)
    model = vp.Exp("d", tau=1.0) + vp.Constant("c")
    same = vp.fit(model, T[used], Y[used], sigma=c[np.ix_(used, used)])
    for fit in fits:
        np.testing.assert_allclose(fit.chisq, same.chisq, rtol=1e-10)
    for more, says in (
        (", covariance: noise.csv, sigma: s", "covariance says it all"),
        (", covariance: table.csv", r"is of shape \(40, 5\), but the table of data has 40 rows"),
        (", covariance: nothing.npy", "cannot be read"),
    ):
        pathlib.Path("c.yaml").write_text(config(TABLE + more))
        with pytest.raises(vp.InputError, match=says):
            make_plan("c.yaml")
    for data, fit in ((ARRAYS, ""), (CUBE, EACH)):
        pathlib.Path("c.yaml").write_text(config(data + ", covariance: noise.csv", fit))
        with pytest.raises(vp.InputError, match="covariance: is for"):
            make_plan("c.yaml")


def test_a_dispersion_reaches_the_fit_with_the_wavelengths_of_the_file(files, monkeypatch):
    pathlib.Path("chirp.csv").write_text("nm,t0\n390,0.1\n610,0.4\n")
    keys = (
        "center_dispersion: [0.2, {init: 0.1, fixed: true}], width_dispersion: 0.01, "
        "dispersion_center: 500, chirp: chirp.csv"
    )
    given = "responses: {g: {center: 1.0, width: 0.2, %s}}"
    model = "{d: {kind: exp, tau: 1.0, irf: g}, c: {kind: constant}}"
    pathlib.Path("c.yaml").write_text(config(ARRAYS, model=model, more=given % keys))
    plan = make_plan("c.yaml")
    assert "responses.g.chirp" in plan.inputs.paths
    assert plan.resolved(files / "runs")["responses"]["g"]["chirp"] == "../chirp.csv"
    assert plan.units["g.center_dispersion1"] == plan.units["g.center"]
    with monkeypatch.context() as patch:
        patch.setattr(plan_fit.vp, "fit", lambda *args, **options: (args, options))
        (basis, _, y), options = plan_fit.fit_plan(plan)
    irf = basis.parts[0].irf
    assert [one.init for one in irf.center_dispersion] == [0.2, 0.1]
    assert irf.center_dispersion[1].fixed and irf.width_dispersion[0].init == 0.01
    np.testing.assert_array_equal(irf.chirp, [[390.0, 610.0], [0.1, 0.4]])
    np.testing.assert_array_equal(y["p"], [400.0, 500.0, 600.0])
    pathlib.Path("chirp.csv").write_text("nm,t0,sd\n390,0.1,1\n610,0.4,1\n")
    with pytest.raises(vp.InputError, match="chirp.csv has 3 columns, not two"):
        make_plan("c.yaml")
    pathlib.Path("c.yaml").write_text(
        config(ARRAYS, model=model, more=given % "center_dispersion: 0.2")
    )
    with pytest.raises(vp.InputError, match="c.yaml:.*needs dispersion_center"):
        make_plan("c.yaml")


def test_rules_and_starts_reach_the_fit_of_curves(files, monkeypatch):
    plain = outcome(config(CUBE, EACH), monkeypatch)
    for fit, more in (
        (EACH + ", starts: 8", ""),
        (EACH, "constraints: {nonnegative: [c]}"),
        (EACH, "constraints: {bounds: {c: [0, 10]}}"),
        (EACH, "constraints: {ridge: 0.1}"),
        (EACH, "constraints: {relations: {c: {d: 0.5}}}"),
    ):
        ended = outcome(config(CUBE, fit, more=more), monkeypatch)
        assert ended[0] == "fitted" and ended != plain, ended


def settings_of():
    for family, kinds in (("model", COMPONENTS), ("response", RESPONSES)):
        for kind, section in kinds.items():
            for key in section.model_fields:
                if key != "kind" and kind not in ("custom", "measured"):
                    yield f"{family} {kind} {key}", section, key


@pytest.mark.parametrize(
    ("section", "key"), [row[1:] for row in settings_of()], ids=[row[0] for row in settings_of()]
)
def test_every_key_of_a_component_is_one_of_its_basis(section, key):
    assert key in section.basis.__dataclass_fields__


def test_every_key_of_a_parameter_changes_it():
    bare = {"init": 1.0}
    changes = {
        "init": 2.0,
        "lower": 0.5,
        "upper": 3.0,
        "fixed": True,
        "prior": [1.0, 0.1],
        "unit": "ns",
    }
    assert set(changes) == set(Parameter.model_fields)
    for key, value in changes.items():
        assert Parameter(**{**bare, key: value}) != Parameter(**bare)
        if key != "unit":  # a word of reports
            assert repr(Parameter(**{**bare, key: value}).param()) != repr(
                Parameter(**bare).param()
            )


IDLE = {
    "start": (config(fit="start: global"), "fit.start"),
    "binning": (config(fit="binning: 4"), "fit.binning"),
    "block": (config(fit="block: 16"), "fit.block"),
    "bins that nobody makes": (config(CUBE, EACH + ", binning: 4"), "fit.binning"),
    "equal areas of curves": (config(CUBE, EACH, more=AREA % ""), "constraints.equal_areas"),
    "workers": (config(more="compute: {workers: 2}"), "compute.workers"),
    "engine": (config(more="compute: {engine: dask}"), "compute.engine"),
    "maps": (config(more="output: {maps: zarr}"), "output.maps"),
    "jacobian of curves": (
        config(CUBE, EACH + ", solver: {jacobian: full}"),
        "fit.solver.jacobian",
    ),
    "solver of curves": (
        config(CUBE, EACH + ", solver: {linear_solver: qr}"),
        "fit.solver.linear_solver",
    ),
    "another solver of curves": (
        config(CUBE, EACH + ", solver: {kind: optimistix, name: BFGS}"),
        "fit.solver.kind",
    ),
    "xtol of curves": (config(CUBE, EACH + ", solver: {xtol: 1e-9}"), "fit.solver.xtol"),
    "gtol of curves": (config(CUBE, EACH + ", solver: {gtol: 1e-9}"), "fit.solver.gtol"),
    "compress of curves": (config(CUBE, EACH + ", compress: true"), "fit.compress"),
    "a loss of no loss": (config(fit="loss_scale: 2"), "fit.loss_scale"),
    "a loss of counts": (config(fit="noise: poisson, loss_scale: 2"), "fit.loss_scale"),
    "real coefficients of real data": (
        config(more="constraints: {real_coefficients: true}"),
        "constraints.real_coefficients",
    ),
    "a delimiter of arrays": (config(ARRAYS + ", delimiter: tab"), "data.delimiter"),
    "an origin without steps": (config(TABLE + ", origin: 2"), "data.origin"),
    "a response that nothing uses": (config(more=RESPONSE), "responses.g"),
    "a component in no data set": (
        (TWO % (TABLE, "")).replace("[d, c]", "[d]").replace("model: [d]}", "model: [d]}", 1),
        "model.c",
    ),
}


@pytest.mark.parametrize("case", IDLE)
def test_what_would_change_nothing_is_refused_with_line_and_key(files, monkeypatch, case):
    text, key = IDLE[case]
    ended, message = outcome(text, monkeypatch)
    assert ended == "refused", message
    first = message.splitlines()[0]
    assert first.startswith("c.yaml:") and f" {key}: has no effect: " in first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (config(BARE.replace("0.25", "0"), EACH), "spacing must be finite and not 0"),
        (config(BARE.replace("0.25", ".inf"), EACH), "spacing must be finite and not 0"),
        (config(BARE + ", origin: .nan", EACH), "origin"),
        (config(fit="noise: huber, loss_scale: 0"), "loss_scale must be positive"),
        (config(fit="starts: 100000000"), "expected a number from 1 to 100,000"),
        (config(fit="solver: {max_steps: 1e30}"), "expected a whole number"),
        (config(fit="seed: -1"), "expected 0 or more"),
        (config(fit=f"seed: 1{'0' * 5000}"), "expected a smaller number"),
        (config(model="{p: {kind: polynomial, degree: 1000000000}}"), "give at most 1000"),
        (config(model="{p: {kind: bspline, count: 100000000}}"), "give at most 1,000,000"),
        (config(model="{p: {kind: bspline, count: 99999, degree: 9999}}"), "give at most 50"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(files, monkeypatch, text, message):
    ended, said = outcome(text, monkeypatch)
    assert ended == "refused" and message in said and len(said) < 300


def test_a_value_put_in_brings_no_other_key(files):
    pathlib.Path("c.yaml").write_text(config())
    with pytest.raises(vp.InputError, match="holds another key"):
        make_plan("c.yaml", ["title=a\nfit: {starts: 3}"])


def test_two_columns_of_one_name_are_both_named(files):
    pathlib.Path("twice.csv").write_text("t [ns],t [us],a\n1,2,3\n2,3,4\n3,4,5\n4,5,6\n5,6,7\n")
    pathlib.Path("c.yaml").write_text(config("path: twice.csv, x: t, y: a"))
    with pytest.raises(vp.InputError, match=r"data\.x: twice\.csv: 2 columns are called 't'"):
        make_plan("c.yaml")


def test_pydantic_keeps_limits_beside_defaults():
    with pytest.raises(pydantic.ValidationError):
        Fit(starts=0)
    assert Fit().starts == 1 and Solver().max_steps == 256
