"""What is said about a wrong configuration: one line per problem, with file, line and key."""

import sys
import textwrap
import time

import numpy as np
import pytest

from varpro import InputError
from varpro.app.config.config import parse
from varpro.app.config.document import load
from varpro.app.plan.make_plan import make_plan

GOOD = """\
schema: 1
data: {path: decay.csv, x: t, y: counts}
model:
  fast: {kind: exp, tau: {init: 0.5, lower: 0.05}}
  slow: {kind: exp, tau: 5.0}
  bg: {kind: constant}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with data, from which relative paths are read."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    t = np.linspace(0, 10, 12)
    y = 2 * np.exp(-t / 0.6) + np.exp(-t / 4) + 0.1
    rows = "\n".join(f"{a!r},{b!r},1.0" for a, b in zip(t.tolist(), y.tolist(), strict=True))
    (tmp_path / "decay.csv").write_text(f"t [ns],counts,err\n{rows}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(text):
    with open("decay.yaml", "w", encoding="utf-8") as file:
        file.write(textwrap.dedent(text))
    return make_plan("decay.yaml")


def replaced(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


WRONG = {
    "misspelt parameter": (
        replaced("slow: {kind: exp, tau: 5.0}", "slow: {kind: exp, tao: 5.0}"),
        "decay.yaml:5 model.slow.tao: unknown key. Did you mean 'tau'?",
    ),
    "misspelt section": (
        GOOD + "constraint: {fix: [fast.tau]}\n",
        "decay.yaml:7 constraint: unknown key. Did you mean 'constraints'?",
    ),
    "misspelt key of a parameter": (
        replaced("lower", "lowr"),
        "decay.yaml:4 model.fast.tau.lowr: unknown key. Did you mean 'lower'?",
    ),
    "unknown key like no other": (
        replaced("init: 0.5", "init: 0.5, zzz: 1"),
        "decay.yaml:4 model.fast.tau.zzz: unknown key. Known: upper, fixed, prior, unit.",
    ),
    "misspelt kind": (
        replaced("kind: constant", "kind: constnt"),
        "decay.yaml:6 model.bg.kind: unknown kind 'constnt'. Did you mean 'constant'?",
    ),
    "no kind": (
        replaced("{kind: constant}", "{}"),
        "decay.yaml:6 model.bg: needs a kind. Known: ",
    ),
    "missing section": (
        replaced("data: {path: decay.csv, x: t, y: counts}", "fit: {}"),
        "decay.yaml: give either data, for one data set, or datasets, for several by name.",
    ),
    "missing key": (
        replaced(", y: counts", ""),
        "decay.yaml:2 data.y: this key is required.",
    ),
    "a word for a number": (
        replaced("tau: 5.0", "tau: five"),
        "decay.yaml:5 model.slow.tau: expected a number, not 'five'.",
    ),
    "a quoted number": (
        replaced("tau: 5.0", 'tau: "5.0"'),
        "decay.yaml:5 model.slow.tau: expected a number, not '5.0'.",
    ),
    "a time for a number": (
        replaced("tau: 5.0", "tau: 12:30:00"),
        "decay.yaml:5 model.slow.tau: expected a number, not '12:30:00'.",
    ),
    "fixed at nothing": (
        replaced("init: 0.5", "fixed: true"),
        "decay.yaml:4 model.fast.tau: is fixed and has no value. Give it init.",
    ),
    "fixed elsewhere at nothing": (
        replaced("init: 0.5, ", "") + "constraints: {fix: ['fast.*']}\n",
        "decay.yaml:4 model.fast.tau: is fixed and has no value. Give it init.",
    ),
    "yes for true": (
        replaced("lower: 0.05", "fixed: yes"),
        "decay.yaml:4 model.fast.tau.fixed: expected true or false, not 'yes'.",
    ),
    "another schema": (
        replaced("schema: 1", "schema: 2"),
        "decay.yaml:1 schema: expected 1, not '2'.",
    ),
    "a list for keys": (
        replaced("{kind: constant}", "[constant]"),
        "decay.yaml:6 model.bg: expected keys below it, not a list.",
    ),
    "bounds the wrong way round": (
        replaced("lower: 0.05", "lower: 3, upper: 1"),
        "decay.yaml:4 model.fast.tau: lower = 3 must be below upper = 1.",
    ),
    "no component": (
        "data: {path: decay.csv, x: t, y: counts}\nmodel: {}\n",
        "decay.yaml:2 model: expected at least 1 entry, found 0.",
    ),
    "three numbers for a range": (
        replaced("y: counts", "y: counts, range: [1, 2, 3]"),
        "decay.yaml:2 data.range: expected at most 2 entries, found 3.",
    ),
    "a tolerance below zero": (
        GOOD + "fit: {solver: {ftol: -1}}\n",
        "decay.yaml:7 fit.solver: ftol must lie between 0 and 1, not be -1.",
    ),
    "start outside bounds": (
        replaced("tau: 5.0", "tau: {init: 80, lower: 1, upper: 50}"),
        "decay.yaml:5 model.slow.tau: init = 80 lies outside its bounds [1, 50].",
    ),
    "both forms of a parameter": (
        replaced("tau: 5.0", "tau: 5.0, rate: 0.2"),
        "decay.yaml:5 model.slow: Exp 'slow' needs either tau or rate, not both.",
    ),
    "unknown parameter in fix": (
        GOOD + "constraints:\n  fix: [slow.tua]\n",
        "decay.yaml:8 constraints.fix.0: no parameter is called 'slow.tua'. "
        "Did you mean 'slow.tau'?",
    ),
    "unknown parameter in tie": (
        GOOD + "constraints:\n  tie: {fast.tau: slw.tau}\n",
        "decay.yaml:8 constraints.tie.fast.tau: no parameter is called 'slw.tau'. "
        "Did you mean 'slow.tau'?",
    ),
    "unknown parameter in order": (
        GOOD + "constraints:\n  order: [fast.tau, slow]\n",
        "decay.yaml:8 constraints.order.1: no parameter is called 'slow'. Did you mean 'slow.tau'?",
    ),
    "unknown column": (
        replaced("y: counts", "y: cuonts"),
        "decay.yaml:2 data.y.0: decay.csv has no column 'cuonts'. Did you mean 'counts'?",
    ),
    "unknown column for sigma": (
        replaced("y: counts", "y: counts, sigma: error"),
        "decay.yaml:2 data.sigma: decay.csv has no column 'error'. Did you mean 'err'?",
    ),
    "sigma and weights": (
        replaced("y: counts", "y: counts, sigma: err, weights: err"),
        "decay.yaml:2 data: give sigma or weights, not both.",
    ),
    "no such file": (
        replaced("decay.csv", "decoy.csv"),
        "decay.yaml:2 data.path: decoy.csv: data: no such file. Did you mean 'decay.csv'?",
    ),
    "nothing in the range": (
        replaced("y: counts", "y: counts, range: [20, 30]"),
        "decay.yaml:2 data.range: no t lies between 20 and 30.",
    ),
    "fewer points than parameters": (
        replaced("y: counts", "y: counts, range: [0, 3]"),
        "decay.yaml:2 data: 4 data points cannot determine 5 parameters (2 nonlinear, 3 linear). "
        "Give more data or a smaller model.",
    ),
    "a function that is not there": (
        replaced("{kind: constant}", "{kind: custom, function: nowhere:f}"),
        "decay.yaml:6 model.bg: no module 'nowhere' in ",
    ),
    "code for a function": (
        replaced("{kind: constant}", '{kind: custom, function: "__import__(os):system"}'),
        "decay.yaml:6 model.bg.function: expected module:function, such as my_module:damped, "
        "not '__import__(os):system'.",
    ),
    "a name with a dot": (
        replaced("bg:", "b.g:"),
        "decay.yaml:3 model: the name 'b.g' has a dot, a blank, or one of * ? [ ] / \\ in it.",
    ),
    "not YAML": (
        replaced("tau: 5.0}", "tau: 5.0"),
        "decay.yaml:6:5 not valid YAML: ",
    ),
    "the same key twice": (
        replaced("bg:", "fast:"),
        "decay.yaml:6 model.fast: this key is already on line 4.",
    ),
    "an object tag": (
        replaced("tau: 5.0", "tau: !!python/object/apply:os.system [ls]"),
        "decay.yaml:5 the tag '!!python/object/apply:os.system' is not allowed; write a plain "
        "value.",
    ),
    "an alias": (
        replaced("tau: 5.0", "tau: &a 5.0"),
        "decay.yaml:5 anchors (&) and aliases (*) are not allowed; write the value out.",
    ),
    "two documents": (GOOD + "---\na: 1\n", "decay.yaml:7 a second document starts here; "),
    "empty": ("# nothing\n", "decay.yaml: the configuration is empty."),
    "not keys": ("- 1\n", "decay.yaml:1 expected keys such as 'data:' and 'model:' at the top."),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_one_line_says_what_is_wrong_and_where(here, text, message):
    with pytest.raises(InputError) as caught:
        plan(text)
    said = str(caught.value)
    assert said.startswith(message)
    assert "\n" not in said
    assert message[-1] != "." or said == message


def test_every_problem_is_reported_in_one_go(here):
    with pytest.raises(InputError) as caught:
        plan(replaced("tau: 5.0", "tao: 5.0").replace("lower", "lowr").replace("x: t, ", ""))
    assert [line.split()[0] for line in str(caught.value).splitlines()] == [
        "decay.yaml:2",
        "decay.yaml:4",
        "decay.yaml:5",
    ]


def test_missing_configuration_and_folder(here):
    with pytest.raises(InputError, match=r"^nothing\.yaml: configuration: no such file\.$"):
        make_plan("nothing.yaml")
    with pytest.raises(InputError, match=r"^\.: configuration: is a folder, not a file\.$"):
        make_plan(".")


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 5000,
        "a: " + "{b: " * 5000,
        "a: [" + "1, " * 200_000 + "1]",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        "a: " + "x" * 2_000_000,
    ],
    ids=["nested lists", "nested keys", "many values", "aliases", "large"],
)
def test_hostile_files_are_refused_quickly(here, text):
    (here / "decay.yaml").write_text(text)
    began = time.perf_counter()
    with pytest.raises(InputError):
        load("decay.yaml")
    assert time.perf_counter() - began < 10  # a generous bound: expansion would take minutes


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), (".5e3", 500.0), ("010", 10.0), ("-2", -2.0), ("+1.", 1.0)]
)
def test_numbers_are_read_as_people_mean_them(here, text, value):
    config = plan(replaced("tau: 5.0", f"tau: {text}")).config
    assert config.model["slow"].tau.init == value


def test_words_that_yaml_takes_for_something_else_stay_words(here):
    text = (here / "decay.csv").read_text().replace("t [ns]", "no").replace("counts", "1e3")
    (here / "decay.csv").write_text(text)
    columns = plan(replaced("x: t, y: counts", "x: no, y: 1e3")).columns
    assert (columns.x_name, columns.y_names) == ("no", ("1e3",))


def test_units_follow_from_the_axes(here):
    made = plan(
        """\
        schema: 1
        data: {path: decay.csv, x: t, y: counts, units: {y: counts/s}}
        model:
          decay: {kind: exp, rate: 0.5}
          line: {kind: gaussian, center: {init: 3, unit: nm}, fwhm: 1}
          base: {kind: polynomial, degree: 2}
        """
    )
    assert made.units == {
        "decay.rate": "1/ns",
        "decay": "counts/s",
        "line.center": "nm",
        "line.fwhm": "ns",
        "line": "counts/s",
        "base.0": "counts/s",
        "base.1": "counts/s/ns",
        "base.2": "counts/s/ns^2",
    }


def test_missing_values_are_refused_with_their_place_or_dropped(here):
    lines = (here / "decay.csv").read_text().splitlines()
    lines[4] = lines[4].split(",")[0] + ",nan,1.0"
    lines[6] = lines[6].split(",")[0] + ",,1.0"
    (here / "decay.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError) as caught:
        plan(GOOD)
    column = len(lines[4].split(",")[0]) + 2
    assert str(caught.value) == (
        f"decay.csv:5:{column} column 'counts': 'nan' is not finite (1 more like it). "
        "Mend it, or set 'nan: drop' under data."
    )
    columns = plan(replaced("y: counts", "y: counts, nan: drop")).columns
    assert columns.dropped == 2
    assert columns.x.shape == columns.y.shape == (10,)


def test_columns_of_different_length_are_told_apart_from_gaps(here):
    lines = (here / "decay.csv").read_text().splitlines()
    lines[-1] = lines[-1].split(",")[0] + ",,"
    (here / "decay.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError) as caught:
        plan(GOOD)
    assert str(caught.value) == ("decay.csv:13 x ('t [ns]') has 12 points but y ('counts') has 11.")


def test_rows_are_chosen_by_range_and_by_text(here):
    (here / "decay.csv").write_text(
        "t,counts,who\n" + "".join(f"{i},{i * i},{'ab'[i % 2]}\n" for i in range(20))
    )
    columns = plan(replaced("y: counts", "y: counts, where: {who: b}, range: [3, 12]")).columns
    np.testing.assert_array_equal(columns.x, [3, 5, 7, 9, 11])
    with pytest.raises(InputError, match=r"data\.where\.who: no row of column 'who' is 'c'\. "):
        plan(replaced("y: counts", "y: counts, where: {who: c}"))


@pytest.mark.parametrize(
    ("sigma", "expected"), [("err", 1.0), ("0.5", 0.5), ("poisson", None)], ids=str
)
def test_ways_to_give_sigma(here, sigma, expected):
    columns = plan(replaced("y: counts", f"y: counts, sigma: {sigma}")).columns
    if expected is None:
        expected = np.sqrt(np.maximum(columns.y, 1.0))
    np.testing.assert_array_equal(np.broadcast_to(columns.sigma, columns.y.shape), expected)


def test_many_columns_by_pattern(here):
    (here / "decay.csv").write_text(
        "t,w500,w510,other\n" + "".join(f"{i},{i},{2 * i},7\n" for i in range(9))
    )
    columns = plan(replaced("y: counts", "y: 'w*'")).columns
    assert columns.y_names == ("w500", "w510")
    assert columns.y.shape == (9, 2)


def test_a_failing_function_of_the_user_is_named_with_its_line(here):
    (here / "mine.py").write_text("def f(theta, x):\n    return x / undefined\n")
    text = replaced("{kind: constant}", "{kind: custom, function: mine:f}")
    with pytest.raises(InputError) as caught:
        plan(text)
    said = str(caught.value)
    assert said.startswith("decay.yaml:6 model.bg: mine:f raised NameError at ")
    assert "mine.py:2: name 'undefined' is not defined" in said
    assert not (here / "__pycache__").exists()


def test_a_module_of_the_user_may_hold_dataclasses_and_import_its_neighbours_late(here):
    (here / "shapes.py").write_text(
        "import dataclasses\n\n\n@dataclasses.dataclass\nclass One:\n    value: 'float' = 1.0\n\n\n"
        "def f(theta, x):\n    import neighbour\n\n    return {'c': 0 * x + neighbour.ONE}\n"
    )
    (here / "neighbour.py").write_text("import shapes\n\nONE = shapes.One().value\n")
    made = plan(replaced("{kind: constant}", "{kind: custom, function: shapes:f}"))
    assert made.model.column_names == ("fast", "slow", "bg.c")


def test_a_function_beside_the_file_wins_over_an_imported_module(here):
    (here / "json.py").write_text("def f(theta, x):\n    return {'one': 0 * x + 1}\n")
    made = plan(replaced("{kind: constant}", "{kind: custom, function: json:f}"))
    assert made.model.column_names == ("fast", "slow", "bg.one")


def test_the_resolved_configuration_reads_back_as_itself(here):
    from varpro.app.config.document import dump

    made = plan(GOOD + "constraints: {order: [fast.tau, slow.tau], fix: ['s*']}\n")
    (here / "runs").mkdir()
    text = dump(made.resolved(here / "runs"))
    (here / "runs" / "config.yaml").write_text(text)
    again = make_plan("runs/config.yaml")
    assert dump(again.resolved(here / "runs")) == text
    assert again.config.model == made.config.model
    assert again.config.fit == made.config.fit
    assert again.config.constraints == made.config.constraints
    np.testing.assert_array_equal(again.columns.y, made.columns.y)


def test_an_origin_is_read(here):
    made = plan(replaced("slow: {kind: exp, tau: 5.0}", "slow: {kind: exp, tau: 5.0, origin: 4}"))
    assert made.model.parts[1].origin == 4.0


def test_defaults_do_not_depend_on_the_file(here):
    document = load_text("data: {path: a, x: b, y: c}\nmodel: {bg: {kind: constant}}\n")
    config = parse(document, default_dir="runs/decay")
    assert config.schema_version == 1
    assert config.output.dir == "runs/decay"


def load_text(text):
    with open("decay.yaml", "w", encoding="utf-8") as file:
        file.write(text)
    return load("decay.yaml")
