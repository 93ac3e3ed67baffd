"""Wrong arguments are met by an `InputError` that names them, before anything is compiled."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import optimistix as optx
import pytest

import varpro as vp

X = np.linspace(0, 10, 101)
Y = 3 * np.exp(-X / 2) + 0.5
Y2, CUBE = np.stack([Y, 2 * Y], axis=1), np.stack([Y, 2 * Y, Y, Y])
MODEL = vp.Exp("e", tau=1.0) + vp.Constant("c")
SETS = {"r": (X, Y), "s": (X, Y)}


class Reached(Exception):
    """What would have been compiled."""


@pytest.fixture
def nothing_compiles(monkeypatch):
    def reached(*_, **__):
        raise Reached

    for place in (
        *("varpro._single.fit_single.run_program", "varpro._global.fit_global.run_program"),
        *("varpro._dmd.dmd.optimise", "varpro._search.solve._solve"),
        "varpro._batch.job.BatchJob.fit_rows",
    ):
        monkeypatch.setattr(place, reached)


# What is wrong in every door that has the option.
NAMES = [3, 1.5, [1], b"x", object(), {"e.tau": 1}, [None], np.array(1.0)]
MAPPINGS = ["e.tau", 3, [1], ["e.tau"], {1: 2}, object(), (0, 10), ("e.tau", 1.0)]
NUMBERS = ["1", -1.0, 0.0, np.nan, np.inf, 1j, [1.0, 2.0], True, {}, object()]
COUNTS = ["4", 0, -1, 1.5, np.nan, True, [1], {}, object()]
FLAGS = ["yes", 1, 0.0, None, [True], object()]
WORDS = ["other", 3, [], {}, object(), ["normal"]]
ARRAYS = [
    "x",
    object(),
    {1.0},
    np.ones(3),
    np.full(101, np.nan),
    np.full(101, 1j),
    np.array(["a"] * 101),
]
STARTS = [
    {"e.tau": v} for v in ("x", None, (0, 10), {}, [1, 2, 3], np.nan, np.inf, 1j, True, object())
]
BOUNDS = [
    {"e.tau": v} for v in (3, "ab", (1,), (1, 2, 3), ("a", "b"), (2, 1), (np.nan, 1), {0: 1}, None)
]
TIES = [{"e.tau": v} for v in (3, None, (), ("q",), ("e.tau", "x"), "q + 1", ["e.tau"], object())]
ORDERS = [3, 1.5, object(), [1, 2], [["e.tau", 1]], ["q", "e.tau"], [3, "e.tau"]]
RELATIONS = [
    {"e": v} for v in ("q", None, {"c": "x"}, {"c": None}, {1: 1.0}, np.nan, [1], object())
]
PENALTIES = ["x", -1.0, 0.0, np.nan, [1, 2], {1: 2}, {"q": 1.0}, {"e": "x"}, {"e": -1.0}, object()]
WRONG = {
    "init": MAPPINGS + STARTS,
    "bounds": MAPPINGS + BOUNDS,
    "fix": [*NAMES, "q", ["q.*"]],
    "tie": MAPPINGS + TIES,
    "order": ORDERS,
    "nonnegative": [*NAMES, "q"],
    "relations": MAPPINGS + RELATIONS,
    "ridge": PENALTIES,
    "smooth": [*MAPPINGS, {"e": 1.0}, {"*": 1.0}],
    "real_coefficients": FLAGS,
    "sigma": [*ARRAYS, -1.0, 0.0],
    "weights": [*ARRAYS, -np.ones(101)],
    "mask": [*ARRAYS, np.ones(101), np.zeros(101, bool), [0, 1]],
    "absolute_sigma": FLAGS,
    "noise": [*WORDS, None],
    "loss_scale": [*NUMBERS, None],
    "nan": [*WORDS, None],
    "share": [*NAMES, "q.*"],
    "solver": ["lm", 3, vp.LevenbergMarquardt, optax.adam(1e-2), optx.Newton(1e-3, 1e-3), lx.QR()],
    "linear_solver": ["qr", 3, vp.linalg.QR, lx.CG(1e-3, 1e-3), vp.LevenbergMarquardt()],
    "jacobian": WORDS,
    "compress": ["yes", 1, [True], object()],
    "max_steps": COUNTS,
    "starts": [*COUNTS, None],
    "seed": ["x", -1, 1.5, None, True, [1]],
    "throw": FLAGS,
    "dim": ["q", 3, object(), ["t"]],
    "start": [*WORDS, None],
    "binning": [*COUNTS, None],
    "ftol": NUMBERS[:4] + NUMBERS[5:],
    "block": COUNTS,
    "workers": COUNTS,
    "progress": ["yes", 3, [print], object()],
    "key": [],
}
FIT = [
    name
    for name in WRONG
    if name not in ("start", "binning", "ftol", "block", "workers", "progress")
]
MANY = (
    "init bounds fix tie order nonnegative relations ridge smooth real_coefficients sigma weights mask "
    "absolute_sigma noise loss_scale nan dim start binning ftol max_steps block starts seed"
).split()
DOORS = {
    "fit": (lambda **o: vp.fit(MODEL, X, Y, **o), FIT),
    "fit of sets": (
        lambda **o: vp.fit(MODEL, SETS, **o),
        [
            n
            for n in FIT
            if n not in ("noise", "loss_scale", "compress", "dim", "sigma", "weights", "mask")
        ],
    ),
    "fit_many": (
        lambda **o: vp.fit_many(MODEL, X, CUBE, **o),
        [*MANY, "workers", "progress", "share"],
    ),
    "prepare_many": (lambda **o: vp.prepare_many(MODEL, X, CUBE, **o), MANY),
    "find_starts": (
        lambda **o: vp.find_starts(vp.Exp("e") + vp.Constant("c"), X, Y, **o),
        "init bounds order sigma weights mask nan dim".split(),
    ),
}
# Words that stand for something else in one of the doors.
FINE = {("find_starts", "order"): [["q", "e.tau"]], ("fit_many", "share"): []}
TABLE = [
    (door, option, value)
    for door, (_, options) in DOORS.items()
    for option in options
    for value in WRONG[option]
    if not any(value is fine or str(value) == str(fine) for fine in FINE.get((door, option), ()))
]


def test_the_table_is_long():
    assert len(TABLE) > 300


@pytest.mark.parametrize(("door", "option"), dict.fromkeys((d, o) for d, o, _ in TABLE))
def test_wrong_values_of_an_option_are_refused_by_name(door, option, nothing_compiles):
    call, _ = DOORS[door]
    for value in [v for d, o, v in TABLE if (d, o) == (door, option)]:
        try:
            call(**{option: value})
        except vp.InputError as error:
            said = f"{error} {error.argument} {error.name}".lower()
            known = (
                option,
                option.replace("_", " "),
                "tau",
                "column",
                "penalt",
                "coefficient",
                "matches",
            )
            assert any(word in said for word in known), (door, option, value, str(error))
        else:
            raise AssertionError(f"{door}({option}={value!r}) was taken")


ANYTHING = [
    *(
        None,
        "4",
        b"x",
        4,
        -1,
        0.5,
        np.nan,
        True,
        [],
        {},
        (),
        [1, 2],
        ["a"],
        [None],
        {"a": 1},
        {1: 2},
    ),
    *(
        (0, 10),
        object(),
        len,
        lambda: None,
        np.ones(3),
        np.zeros((101, 3, 2)),
        np.full(101, np.nan),
    ),
    *(
        np.array("x"),
        np.array([None] * 101),
        1j,
        {1},
        range(3),
        vp.Exp,
        vp.Param(1.0),
        type,
        slice(2),
    ),
    *(
        [[1], [1, 2]],
        np.datetime64("2020"),
        iter([1]),
        vp.Exp("q"),
        np.zeros((0,)),
        np.zeros((101, 0)),
    ),
]
POSITIONS = {
    "model": lambda v: vp.fit(v, X, Y),
    "x": lambda v: vp.fit(MODEL, v, Y),
    "y": lambda v: vp.fit(MODEL, X, v),
    "sets": lambda v: vp.fit(MODEL, v),
    "a set": lambda v: vp.fit(MODEL, {"r": v}),
    "x of a set": lambda v: vp.fit(MODEL, {"r": (v, Y)}),
    "y of a set": lambda v: vp.fit(MODEL, {"r": (X, v)}),
    "models of sets": lambda v: vp.fit({"r": v}, {"r": (X, Y)}),
    "x of columns": lambda v: vp.fit(MODEL, v, Y2, share="none"),
    "y of columns": lambda v: vp.fit(MODEL, X, v, share="none"),
    "model of many": lambda v: vp.fit_many(v, X, CUBE),
    "x of many": lambda v: vp.fit_many(MODEL, v, CUBE),
    "y of many": lambda v: vp.fit_many(MODEL, X, v),
    "model of starts": lambda v: vp.find_starts(v, X, Y),
    "y of starts": lambda v: vp.find_starts(MODEL, X, v),
    "snapshots": lambda v: vp.dmd(v, X, 1),
    "times": lambda v: vp.dmd(CUBE, v, 1),
    "rank": lambda v: vp.dmd(CUBE, X, v),
    "blocks": lambda v: vp.compress(v),
    "mask of blocks": lambda v: vp.compress(Y2, mask=v),
    "basis of solve": lambda v: vp.solve(v, Y, {"a": 1.0}, X),
    "y of solve": lambda v: vp.solve(MODEL, v, None, X),
    "start of solve": lambda v: vp.solve(MODEL, Y, v, X),
    "x of solve": lambda v: vp.solve(MODEL, Y, None, v),
    "what a function returns": lambda v: vp.fit(lambda theta, x: v, X, Y, init={"a": 1.0}),
    "compared": lambda v: vp.compare(v, v),
    "a start": lambda v: vp.Param(v),
    "a bound": lambda v: vp.Param(1.0, lower=v),
    "a prior": lambda v: vp.Param(1.0, prior=v),
    "a tolerance": lambda v: vp.LevenbergMarquardt(ftol=v),
    "a lifetime": lambda v: vp.fit(vp.Exp("e", tau=v) + vp.Constant("c"), X, Y),
    "a name": lambda v: vp.fit(vp.Exp(v, tau=1.0) + vp.Constant("c"), X, Y),
    "a degree": lambda v: vp.Polynomial("p", v),
    "knots": lambda v: vp.BSpline("p", knots=v),
    "a response": lambda v: vp.MeasuredIRF("i", X, v),
    "a scheme": lambda v: vp.Kinetics("k", v),
    "parameters": lambda v: vp.Custom("f", len, v),
    "a term": lambda v: MODEL + v,
    "a file": lambda v: vp.load(v) if v not in ("4", b"x") else vp.load("no such file"),
}


@pytest.mark.parametrize("where", POSITIONS)
def test_nothing_but_an_input_error_leaves_a_door(where, nothing_compiles):
    for value in ANYTHING:
        if where == "a file" and isinstance(value, np.ndarray | list):
            continue
        try:
            POSITIONS[where](value)
        except (vp.InputError, Reached):
            pass


# ---------------------------------------------------------------- what an error says


def own(body):
    return lambda: vp.fit(body, X, Y, init={"tau": 1.0})


def branching(theta, x):
    return jnp.exp(-x) if theta["tau"] > 1 else x


SAID = {
    "numpy": (own(lambda th, x: np.exp(-x / th["tau"])), "jnp.exp of jax.numpy"),
    "if": (own(branching), r"jnp.where\(condition"),
    "float": (own(lambda th, x: x * float(th["tau"])), "no float"),
    "none": (own(lambda th, x: None), "returned None.*jnp.stack.*'return' missing"),
    "integers": (own(lambda th, x: jnp.arange(101)), "jnp.asarray"),
    "swapped": (own(lambda x, th: jnp.exp(-x / th["tau"])), r"function\(theta, x\)"),
    "optax": (lambda: vp.fit(MODEL, X, Y, solver=optax.adam(1e-2)), "OptaxMinimiser"),
    "a class": (
        lambda: vp.fit(MODEL, X, Y, solver=vp.LevenbergMarquardt),
        r"LevenbergMarquardt\(\.\.\.\)",
    ),
    "a class of bases": (lambda: vp.fit(vp.Exp, X, Y), r"vp.Exp\('name'\)"),
    "jit": (lambda: jax.jit(lambda y: vp.fit(MODEL, X, y).alpha)(Y), "vp.solve"),
    "grad": (lambda: jax.grad(lambda y: vp.fit(MODEL, X, y).chisq)(jnp.asarray(Y)), "vp.solve"),
    "vmap": (lambda: jax.vmap(lambda y: vp.fit(MODEL, X, y).alpha)(CUBE), "vp.solve"),
    "Param": (lambda: vp.Param("x"), "'x'"),
    "bounds": (lambda: vp.fit(MODEL, X, Y, bounds=(0, 10)), "bounds must be a dict"),
    "tuple": (lambda: vp.fit(MODEL, X, Y, init={"e.tau": (1, 0, 10)}), "init for e.tau"),
    "added": (lambda: MODEL + len, "vp.Custom"),
}


@pytest.mark.parametrize("name", SAID)
def test_an_error_says_what_to_do(name, nothing_compiles):
    call, message = SAID[name]
    with pytest.raises(vp.InputError, match=message):
        call()


# ---------------------------------------------------------------- what is taken

FIT_OF_MODEL = []


@pytest.fixture
def fit():
    if not FIT_OF_MODEL:
        FIT_OF_MODEL.append(vp.fit(MODEL, X, Y + 0.01 * np.cos(40 * X)))
    return FIT_OF_MODEL[0]


def test_open_ends_and_numbers_of_any_kind_are_taken(fit):
    for options in (
        {"bounds": {"e.tau": (0, None)}},
        {"bounds": {"e.tau": [None, np.float32(50)]}},
        {"bounds": {"e.tau": np.array([0.0, 50.0])}},
    ):
        again = vp.fit(MODEL, X, fit.y, **options)
        assert float(again["e.tau"]) == pytest.approx(float(fit["e.tau"]), rel=1e-8)
    for options in (
        {"init": {"e.tau": np.int64(1)}},
        {"init": {"e.tau": jnp.asarray(1.0)}},
        {"init": {"e.tau": np.array([1.0])}},
        {"fix": (), "tie": None, "order": None},
        {"max_steps": 256.0, "starts": np.int32(1), "seed": np.uint8(0)},
    ):
        assert vp.fit(MODEL, X, fit.y, **options).chisq == pytest.approx(fit.chisq, rel=1e-12)


def test_solvers_of_lineax_are_those_of_the_house(fit):
    assert vp.fit(MODEL, X, fit.y, linear_solver=lx.SVD()).chisq == pytest.approx(
        fit.chisq, rel=1e-12
    )


def test_a_model_predicts_at_what_is_a_position(fit):
    at = fit.predict(np.array([1.0, 3.0]))
    for x in ([1, 3], (1.0, 3.0), np.array([[1.0], [3.0]]), np.array([1, 3], ">f4")):
        np.testing.assert_allclose(fit.predict(x), at, rtol=1e-12)
    assert fit.predict(3.0) == pytest.approx(at[1], rel=1e-12) and np.ndim(fit.predict(3.0)) == 0
    assert fit.predict(3.0, band=0.9).lower < at[1] < fit.predict(3, band=0.9).upper
    assert sum(fit.components(3.0).values()) == pytest.approx(at[1], rel=1e-12)
    for wrong in ("x", {"t": X}, np.ones((2, 2)), 1j, [[1, 2], [3]], ["a"], object()):
        with pytest.raises(vp.InputError, match="x "):
            fit.predict(wrong)


def test_a_fit_is_a_collection_of_names(fit):
    assert list(fit) == ["e.tau", "e", "c"] and len(fit) == 3
    assert "e.tau" in fit and "q" not in fit and 3 not in fit
    assert float(fit["e.tau"]) == fit["e.tau"].value == fit.alpha[0]
    assert complex(fit["e"]) == fit.coef[0]
    for wrong in ("q", 3, None, ("e", "tau")):
        with pytest.raises(vp.InputError, match="No parameter"):
            fit[wrong]
    assert bool(fit)


def test_verbs_of_a_fit_refuse_by_name(fit):
    calls = [
        *(lambda v=v: fit.ci(v) for v in ("x", None, 2, [0.9])),
        *(lambda v=v: fit.ci(names=v) for v in (3, [1], "q", {"e": 1})),
        *(lambda v=v: fit.ci(method=v) for v in ("x", 3, None)),
        *(lambda v=v: fit.covariance_of(v) for v in (3, [1], "q")),
        *(lambda v=v: fit.covariance_of(rhs=v) for v in ("x", 3, 1.5, [None])),
        *(lambda v=v: fit.predict(band=v) for v in ("x", 2, [0.9])),
        *(lambda v=v: fit.predict(band=0.9, kind=v) for v in ("x", 3, None)),
        *(
            lambda v=v: fit.predict(band=0.9, kind="prediction", sigma=v)
            for v in ("x", -1, np.ones(3))
        ),
        *(lambda v=v: fit.bootstrap(v) for v in ("x", 0, 1.5, None)),
        *(lambda v=v: fit.bootstrap(10, v) for v in ("x", 3, None)),
        *(lambda v=v: fit.bootstrap(10, key=v) for v in ("x", None, 1.5)),
        *(lambda v=v: fit.profile(v) for v in ("q", 3, None)),
        *(lambda v=v: fit.profile("e.tau", points=v) for v in ("x", 0, None)),
        *(lambda v=v: fit.profile("e.tau", span=v) for v in ("x", -1, None)),
        *(lambda v=v: fit.plot(log=v) for v in ("z", 3, None)),
        *(lambda v=v: fit.plot(rhs=v) for v in (3, "x", [], [1.5])),
        *(lambda v=v: fit.report(correlation=v) for v in ("x", None)),
        *(lambda v=v: fit.report(rows=v) for v in ("x", None, 1.5)),
        *(lambda v=v: fit.save(v) for v in (None, 3)),
        *(lambda v=v: vp.compare(fit, v) for v in (3, None, "x")),
        *(lambda v=v: vp.compare(fit, fit, names=v) for v in (3, ["a"], [1, 2])),
        lambda: fit.residual_spectrum("x"),
    ]
    leaks = []
    for i, call in enumerate(calls):
        try:
            call()
        except vp.InputError:
            continue
        except Exception as error:
            leaks.append((i, type(error).__name__, str(error)[:80]))
        else:
            leaks.append((i, "was taken", ""))
    assert not leaks


def test_solve_takes_a_model_of_bases(fit):
    found = vp.solve(MODEL, fit.y, args=X)
    assert found.value["e.tau"] == pytest.approx(float(fit["e.tau"]), rel=1e-6)
    np.testing.assert_allclose(found.coef, fit.coef, rtol=1e-6)


def test_progress_true_shows_a_bar(capsys):
    vp.fit_many(MODEL, X, CUBE, progress=True)
    assert "Fitting" in capsys.readouterr().err
    vp.fit_many(MODEL, X, CUBE, progress=False)
    assert capsys.readouterr().err == ""
