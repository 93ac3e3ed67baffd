"""Parameters that follow others, against the dense problem with the tie written into it."""

import numpy as np
import pytest
import scipy.stats
from dense_problem import Dense, dense, slopes

import varpro as vp
from varpro._parameters.tie import resolved
from varpro._programs.program import RECENT

X = np.linspace(0.0, 10.0, 120)
PAIR = vp.Gaussian("a", center=3.2, width=0.5) + vp.Gaussian("b", center=7.0, width=0.9)
TIE = {"b.center": "2 * a.center + 0.7", "b.width": ("a.width", 1.5)}


def peak(x, c, w):
    return np.exp(-0.5 * ((x - c) / w) ** 2)


def tied_by_hand(z, x=X):
    """The curve of (c, w, a, b)."""
    c, w, a, b = z
    return a * peak(x, c, w) + b * peak(x, 2 * c + 0.7, 1.5 * w)


START = [3.2, 0.5, 1.0, 1.0]


def curve(rng, c=3.0, w=0.6):
    return tied_by_hand((c, w, 2.0, 1.2)) + 0.03 * rng.normal(size=X.size)


def same(found, expected, names, at=()):
    """Values and errors by name against the numbers of the dense problem, of curve `at` of many."""
    for mine, i, factor, shift in names:
        one = found[mine]
        value, stderr = (np.asarray(a)[at] for a in (one.value, one.stderr))
        np.testing.assert_allclose(value, factor * expected.z[i] + shift, rtol=1e-7)
        np.testing.assert_allclose(stderr, abs(factor) * expected.stderr[i], rtol=1e-5)


NAMES = [
    ("a.center", 0, 1.0, 0.0),
    ("b.center", 0, 2.0, 0.7),
    ("a.width", 1, 1.0, 0.0),
    ("b.width", 1, 1.5, 0.0),
    ("a", 2, 1.0, 0.0),
    ("b", 3, 1.0, 0.0),
]


def test_a_scaled_tie_is_the_model_with_it_written_in(rng):
    y = curve(rng)
    by_hand = dense(tied_by_hand, y, START)
    for jacobian in ("kaufman", "full"):
        fit = vp.fit(PAIR, X, y, tie=TIE, jacobian=jacobian)
        assert fit.dof == by_hand.dof == X.size - 4
        same(fit, by_hand, NAMES)
    assert fit["b.center"].tied_to == "2 * a.center + 0.7"
    assert "tied to 1.5 * a.width" in str(fit)
    found = fit.ci(method="profile", names=["b.center"])["b.center"]
    for limit in (found.lower, found.upper):
        # With the center held chi-square has risen by t^2 of the variance.
        held = dense(lambda z, c=(limit - 0.7) / 2: tied_by_hand((c, *z)), y, by_hand.z[1:])
        rise = (held.chisq - by_hand.chisq) / (by_hand.chisq / by_hand.dof)
        assert rise == pytest.approx(scipy.stats.t.ppf(0.975, by_hand.dof) ** 2, rel=1e-5)


def test_chains_of_ties_bounds_and_negative_scales(rng):
    y = curve(rng)
    # b.center follows a.center by way of nothing that has a column: -(-2 a.center) + 0.7.
    tie = {"b.center": "-1 * m.center + 0.7", "m.center": vp.Tie("a.center", -2.0), **TIE}
    tie["b.center"] = "0.7 - m.center"
    model = PAIR + vp.Gaussian("m", center=-6.4, width=vp.Param(1.0, fixed=True))
    fit = vp.fit(model, X, y, tie=tie)
    assert abs(fit["m.center"].value + 2 * fit["a.center"].value) < 1e-12
    assert abs(fit["b.center"].value - 2 * fit["a.center"].value - 0.7) < 1e-12
    held = vp.fit(PAIR, X, y, tie=TIE, init={"a.center": 2.8}, bounds={"b.center": (0.0, 6.5)})
    assert abs(held["b.center"].value - 6.5) < 1e-12 and abs(held["a.center"].value - 2.9) < 1e-12
    assert held["a.center"].at_bound
    with pytest.raises(vp.InputError, match="bounds of 'b.center' and of 'a.center' have nothing"):
        vp.fit(PAIR, X, y, tie=TIE, bounds={"b.center": (0.0, 4.0), "a.center": (2.0, 9.0)})


def test_starts_are_found_through_a_scaled_tie(rng):
    y = curve(rng)
    fit = vp.fit(PAIR, X, y, tie=TIE)
    found = vp.fit(vp.Gaussian("a") + vp.Gaussian("b"), X, y, tie=TIE)
    np.testing.assert_allclose(found.alpha, fit.alpha, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_a_prior_on_what_follows_pulls_what_it_follows(rng, k):
    y = np.stack([curve(rng) for _ in range(k)], axis=1)
    params = {"b.center": vp.Param(7.0, prior=(6.6, 0.005))}
    fit = vp.fit(PAIR, X, y, tie=TIE, init=params)

    def with_prior(z):
        curves = [tied_by_hand((*z[:2], *z[2 + 2 * i : 4 + 2 * i])) for i in range(k)]
        return np.concatenate([*curves, [2 * z[0] + 0.7]])

    wanted, weights = np.append(y.T, 6.6), np.append(np.ones(y.size), 1 / 0.005)
    by_hand = dense(with_prior, wanted, START[:2] + START[2:] * k, weights)
    np.testing.assert_allclose(fit["a.center"].value, by_hand.z[0], rtol=1e-7)
    np.testing.assert_allclose(fit["b.center"].stderr, 2 * by_hand.stderr[0], rtol=1e-5)


def test_several_data_sets_by_full_and_by_own_names(rng):
    runs = {"one": (X, curve(rng)), "two": (X[::2], curve(rng, c=3.1)[::2])}
    fit = vp.fit(PAIR, runs, share=["*.width"], tie=TIE)
    spelt = {
        "one.b.center": "2 * one.a.center + 0.7",
        "two.b.center": vp.Tie("two.a.center", 2.0, 0.7),
        "b.width": "1.5 * a.width",
    }
    again = vp.fit(PAIR, runs, share=["*.width"], tie=spelt)

    def both_by_hand(z):
        # One width, and (c, a, b) of each.
        parts = [tied_by_hand((z[i], z[0], *z[i + 1 : i + 3]), x) for i, x in ((1, X), (4, X[::2]))]
        return np.concatenate(parts)

    y = np.concatenate([y for _, y in runs.values()])
    by_hand = dense(both_by_hand, y, [0.5, *[3.2, 1.0, 1.0] * 2])
    for found in (fit, again):
        for key, i in zip(runs, (1, 4), strict=True):
            same(
                found,
                by_hand,
                [
                    (f"{key}.a.center", i, 1.0, 0.0),
                    (f"{key}.b.center", i, 2.0, 0.7),
                    (f"{key}.b", i + 2, 1.0, 0.0),
                ],
            )
        same(found, by_hand, [("b.width", 0, 1.5, 0.0)])
    halves = {"one": (X[:60], runs["one"][1][:60]), "two": (X[60:], runs["one"][1][60:])}
    across = vp.fit(
        vp.Gaussian("p", width=0.6),
        halves,
        share=["p.width"],
        init={"one.p.center": 3.0},
        tie={"two.p.center": "2 * one.p.center + 0.7"},
    )
    centers = across["one.p.center"], across["two.p.center"]
    assert abs(centers[1].value - 2 * centers[0].value - 0.7) < 1e-12
    assert centers[1].stderr == pytest.approx(2 * centers[0].stderr, rel=1e-12)


def test_many_curves(rng):
    y = np.stack([curve(rng, c) for c in (2.9, 3.0, 3.15)])
    fit = vp.fit_many(PAIR, X, y, tie=TIE)
    for i, one in enumerate(y):
        same(fit, dense(tied_by_hand, one, START), NAMES, i)
    shared = vp.fit_many(PAIR, X, y, tie=TIE, share=["a.width"])

    def all_by_hand(z):
        return np.stack([tied_by_hand((z[i], z[0], *z[i + 1 : i + 3])) for i in (1, 4, 7)])

    together = dense(all_by_hand, y, [0.5, *[3.2, 1.0, 1.0] * 3])
    jac = slopes(all_by_hand, together.z).reshape(3, X.size, 10)
    resid = all_by_hand(together.z) - y
    for i in range(3):
        own = jac[i][:, 1 + 3 * i : 4 + 3 * i]
        inverse = np.linalg.inv(own.T @ own)
        # The error of its own center is that of its own noise, and of the width that all share.
        follows = inverse @ own.T @ jac[i][:, 0]
        variance = inverse[0, 0] * np.sum(resid[i] ** 2) / (X.size - 3)
        error = np.sqrt(variance + (follows[0] * together.stderr[0]) ** 2)
        one = Dense(
            together.z[[1 + 3 * i, 0]], np.array([error, together.stderr[0]]), inverse, 0.0, 0
        )
        same(shared, one, NAMES[:4], i)


def test_other_numbers_need_no_other_program(rng):
    y = curve(rng)
    vp.fit(PAIR, X, y, tie=TIE)
    made = RECENT.made
    vp.fit(PAIR, X, y, tie={"b.center": "2.1 * a.center + 0.4", "b.width": "1.4 * a.width"})
    assert RECENT.made == made


GOOD = {
    "a.c": (1.0, 0.0),
    "2*a.c": (2.0, 0.0),
    "a.c * 2 - 1": (2.0, -1.0),
    "-a.c": (-1.0, 0.0),
    "(a.c + 3) / 4": (0.25, 0.75),
    "1e3 + a.c/2": (0.5, 1000.0),
    "2 * (a.c - 1) + a.c": (3.0, -2.0),
}


@pytest.mark.parametrize("text", GOOD)
def test_a_text_is_read_as_arithmetic(text):
    assert vp.Tie.parse(text, ["a.c", "a.cd", "aa.c"]) == ("a.c", *GOOD[text])
    again = vp.Tie.parse(vp.Tie("a.c", *GOOD[text]).text, ["a.c"])
    assert again == ("a.c", *GOOD[text])


def test_names_with_arrows_are_read_whole():
    names = ["s.A->B", "s.B->", "s.B->C"]
    assert vp.Tie.parse("2 * s.B-> + 1", names) == ("s.B->", 2.0, 1.0)
    assert vp.Tie.parse("s.B->C-1", names) == ("s.B->C", 1.0, -1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('ls')", "not linear|cannot be read|unknown"),
        ("a.c.real", "unknown parameter"),
        ("a.c ** 2", "not linear"),
        ("9**9**9", "names no parameter"),
        ("a.c * a.c", "not linear"),
        ("1 / a.c", "not linear"),
        ("a.c + b.c", "not linear"),
        ("a.c if a.c else a.c", "cannot be read"),
        ("[a.c for _ in a.c]", "cannot be read"),
        ("2 *", "cannot be read"),
        ("2 + 3", "names no parameter"),
        ("True * a.c", "cannot be read"),
        ("a.x * 2", "unknown parameter 'a.x'. Did you mean 'a.c'"),
        ("0 * a.c", "scale 0"),
        ("1e308 * 1e308 * a.c", "finite"),
        ("(" * 250 + "a.c" + ")" * 250, "too long"),
        ("(" * 95 + "a.c" + "(" * 95, "cannot be read"),
        ("a.c / 0", "not linear"),
    ],
)
def test_nothing_else_is_read(text, message):
    with pytest.raises(vp.InputError, match=message):
        vp.Tie.parse(text, ["a.c", "b.c"])


@pytest.mark.parametrize(
    ("tie", "message"),
    [
        ({"a": "2 * b", "b": "a"}, "tied to itself"),
        ({"a": "2 * a"}, "tied to itself"),
        ({"a": ("x", 2.0)}, "unknown parameter 'x'"),
        ({"x": "a"}, "unknown parameter 'x'"),
        ({"a": ("b", 0.0)}, "scale"),
        ({"a": 3.0}, r"\(name, scale, shift\)"),
    ],
)
def test_wrong_ties_are_refused(tie, message):
    with pytest.raises(vp.InputError, match=message):
        resolved(tie, ["a", "b"])


PLACES = (2.0, 4.5, 7.3)
THREE = vp.Gaussian("a", center=2.1, width=0.5) + vp.Gaussian("b", center=4.4, width=0.45)
THREE = THREE + vp.Gaussian("c", center=7.0, width=0.6)
FORMULAS = {
    "c.center": "2 * b.center - a.center + 0.3 * (a.width + b.width)",
    "c.width": "sqrt(a.width * b.width)",
}


def three_by_hand(z):
    """The curve of (p, q, v, w, a, b, c)."""
    p, q, v, w, a, b, c = z
    third = peak(X, 2 * q - p + 0.3 * (v + w), np.sqrt(v * w))
    return a * peak(X, p, v) + b * peak(X, q, w) + c * third


def test_an_expression_of_several_is_the_model_with_it_written_in(rng):
    x = X
    y = np.sum([np.exp(-0.5 * ((x - c) / 0.5) ** 2) for c in PLACES], axis=0)
    y = y + 0.02 * rng.normal(size=(3, x.size))
    by_hand = dense(three_by_hand, y[0], [2.1, 4.4, 0.5, 0.45, 1.0, 1.0, 1.0])
    names = ["a.center", "b.center", "a.width", "b.width", *"abc"]
    for jacobian in ("kaufman", "full"):
        fit = vp.fit(THREE, x, y[0], tie=FORMULAS, jacobian=jacobian)
        assert fit.success and fit.dof == by_hand.dof
        same(fit, by_hand, [(name, i, 1.0, 0.0) for i, name in enumerate(names)])
    p, q, v, w = by_hand.z[:4]
    cov = by_hand.covariance[:4, :4]
    slope = np.array([-1.0, 2.0, 0.3, 0.3])
    np.testing.assert_allclose(fit["c.center"].value, 2 * q - p + 0.3 * (v + w), rtol=1e-8)
    np.testing.assert_allclose(fit["c.center"].stderr, np.sqrt(slope @ cov @ slope), rtol=1e-5)
    slope = np.array([0, 0, 0.5 * np.sqrt(w / v), 0.5 * np.sqrt(v / w)])
    np.testing.assert_allclose(fit["c.width"].stderr, np.sqrt(slope @ cov @ slope), rtol=1e-5)
    assert fit["c.width"].tied_to == FORMULAS["c.width"] and "tied to sqrt(" in str(fit)
    # With starts that are found: components of one kind, in their order.
    bare = vp.Gaussian("a") + vp.Gaussian("b") + vp.Gaussian("c")
    np.testing.assert_allclose(vp.fit(bare, x, y[0], tie=FORMULAS).alpha, fit.alpha, rtol=1e-6)
    many = vp.fit_many(THREE, x, y, tie=FORMULAS)
    np.testing.assert_allclose(many["c.center"].value[0], fit["c.center"].value, rtol=1e-7)
    np.testing.assert_allclose(many["c.center"].stderr[0], fit["c.center"].stderr, rtol=1e-3)
    # Of several data sets, and through another tie.
    runs = {"one": (x, y[0]), "two": (x, y[1])}
    chain = FORMULAS | {"b.width": "1.0 * a.width"}
    both = vp.fit(THREE, runs, share=["*.width"], tie=chain)
    np.testing.assert_allclose(both["c.width"].value, both["a.width"].value, rtol=1e-12)
    for key in runs:
        a, b = (both[f"{key}.{n}.center"].value for n in "ab")
        expected = 2 * b - a + 0.3 * (both["a.width"].value + both["b.width"].value)
        np.testing.assert_allclose(both[f"{key}.c.center"].value, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("tie", "says"),
    [
        ({"a.center": "b.center * c.center", "b.center": "a.center ** 2"}, "through other ties"),
        ({"a.center": "a.center * c.center"}, "'a.center' is tied to itself"),
        ({"c.width": "log(a.width - 0.5)"}, "is -inf at the start"),
        ({"c.width": "foo(a.width)"}, "no function 'foo'"),
        ({"c.width": "exp(a.width, b.width)"}, "takes 1 number"),
        ({"c.width": "a.widht * b.width"}, "Did you mean 'a.width'"),
    ],
)
def test_expressions_that_cannot_be_are_refused(tie, says):
    with pytest.raises(vp.InputError, match=says):
        vp.fit(THREE, X, np.ones(X.size), tie=tie)
    if "log" in str(tie):
        with pytest.raises(vp.InputError, match="Bound the parameters that it follows"):
            vp.fit(THREE, X, X, tie=FORMULAS, bounds={"c.center": (1.0, 8.0)})
