"""Parameters that follow others, against the same model with the tie written into it."""

import jax.numpy as jnp
import numpy as np
import pytest

import varpro as vp
from varpro._parameters.tie import resolved
from varpro._programs.program import RECENT

X = np.linspace(0.0, 10.0, 120)
PAIR = vp.Gaussian("a", center=3.2, width=0.5) + vp.Gaussian("b", center=7.0, width=0.9)
TIE = {"b.center": "2 * a.center + 0.7", "b.width": ("a.width", 1.5)}


def tied_by_hand(theta, x):
    def peak(c, w):
        return jnp.exp(-0.5 * ((x - c) / w) ** 2)

    c, w = theta["c"], theta["w"]
    return {"a": peak(c, w), "b": peak(2 * c + 0.7, 1.5 * w)}


def curve(rng, c=3.0, w=0.6):
    phi = [np.exp(-0.5 * ((X - m) / s) ** 2) for m, s in ((c, w), (2 * c + 0.7, 1.5 * w))]
    return 2.0 * phi[0] + 1.2 * phi[1] + 0.03 * rng.normal(size=X.size)


def same(found, expected, names):
    for mine, other, factor, shift in names:
        one, two = found[mine], expected[other]
        np.testing.assert_allclose(one.value, factor * two.value + shift, rtol=1e-7)
        np.testing.assert_allclose(one.stderr, abs(factor) * two.stderr, rtol=1e-5)


NAMES = [
    ("a.center", "c", 1.0, 0.0),
    ("b.center", "c", 2.0, 0.7),
    ("a.width", "w", 1.0, 0.0),
    ("b.width", "w", 1.5, 0.0),
    ("a", "a", 1.0, 0.0),
    ("b", "b", 1.0, 0.0),
]


def test_a_scaled_tie_is_the_model_with_it_written_in(rng):
    y = curve(rng)
    by_hand = vp.fit(tied_by_hand, X, y, init={"c": 3.2, "w": 0.5})
    for jacobian in ("kaufman", "full"):
        fit = vp.fit(PAIR, X, y, tie=TIE, jacobian=jacobian)
        assert fit.dof == by_hand.dof == X.size - 4
        same(fit, by_hand, NAMES)
    assert fit["b.center"].tied_to == "2 * a.center + 0.7"
    assert "tied to 1.5 * a.width" in str(fit)
    profile, expected = (
        one.ci(method="profile", names=[name])[name]
        for one, name in ((fit, "b.center"), (by_hand, "c"))
    )
    for end in ("lower", "upper"):
        np.testing.assert_allclose(
            getattr(profile, end), 2 * getattr(expected, end) + 0.7, rtol=1e-5
        )


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
    by_hand = vp.fit(tied_by_hand, X, y, init={"c": vp.Param(3.2, prior=(2.95, 0.0025)), "w": 0.5})
    np.testing.assert_allclose(fit["a.center"].value, by_hand["c"].value, rtol=1e-7)
    np.testing.assert_allclose(fit["b.center"].stderr, 2 * by_hand["c"].stderr, rtol=1e-5)


def test_several_data_sets_by_full_and_by_own_names(rng):
    runs = {"one": (X, curve(rng)), "two": (X[::2], curve(rng, c=3.1)[::2])}
    fit = vp.fit(PAIR, runs, share=["*.width"], tie=TIE)
    spelt = {
        "one.b.center": "2 * one.a.center + 0.7",
        "two.b.center": vp.Tie("two.a.center", 2.0, 0.7),
        "b.width": "1.5 * a.width",
    }
    again = vp.fit(PAIR, runs, share=["*.width"], tie=spelt)
    by_hand = vp.fit(tied_by_hand, runs, share=["w"], init={"c": 3.2, "w": 0.5})
    for found in (fit, again):
        for key in runs:
            same(
                found,
                by_hand,
                [
                    (f"{key}.a.center", f"{key}.c", 1.0, 0.0),
                    (f"{key}.b.center", f"{key}.c", 2.0, 0.7),
                    (f"{key}.b", f"{key}.b", 1.0, 0.0),
                ],
            )
        same(found, by_hand, [("b.width", "w", 1.5, 0.0)])
    halves = {"one": (X[:60], runs["one"][1][:60]), "two": (X[60:], runs["one"][1][60:])}
    peak = vp.Gaussian("p", width=0.6)
    across = vp.fit(
        peak,
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
    by_hand = vp.fit_many(tied_by_hand, X, y, init={"c": 3.2, "w": 0.5})
    same(fit, by_hand, NAMES)
    shared = vp.fit_many(PAIR, X, y, tie=TIE, share=["a.width"])
    other = vp.fit_many(tied_by_hand, X, y, init={"c": 3.2, "w": 0.5}, share=["w"])
    same(shared, other, NAMES[:4])


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


def three_by_hand(theta, x):
    def peak(c, w):
        return jnp.exp(-0.5 * ((x - c) / w) ** 2)

    p, q, v, w = theta["p"], theta["q"], theta["v"], theta["w"]
    third = peak(2 * q - p + 0.3 * (v + w), jnp.sqrt(v * w))
    return {"a": peak(p, v), "b": peak(q, w), "c": third}


def test_an_expression_of_several_is_the_model_with_it_written_in(rng):
    x, starts = X, {"p": 2.1, "q": 4.4, "v": 0.5, "w": 0.45}
    y = np.sum([np.exp(-0.5 * ((x - c) / 0.5) ** 2) for c in PLACES], axis=0)
    y = y + 0.02 * rng.normal(size=(3, x.size))
    by_hand = vp.fit(three_by_hand, x, y[0], init=starts)
    pairs = [("a.center", "p"), ("b.center", "q"), ("a.width", "v"), ("b.width", "w")]
    pairs += [(n, n) for n in "abc"]
    for jacobian in ("kaufman", "full"):
        fit = vp.fit(THREE, x, y[0], tie=FORMULAS, jacobian=jacobian)
        assert fit.success and fit.dof == by_hand.dof
        same(fit, by_hand, [(mine, other, 1.0, 0.0) for mine, other in pairs])
    p, q, v, w = (by_hand[name].value for name in "pqvw")
    cov = by_hand.covariance_of(list("pqvw"))
    slope = np.array([-1.0, 2.0, 0.3, 0.3])
    np.testing.assert_allclose(fit["c.center"].value, 2 * q - p + 0.3 * (v + w), rtol=1e-8)
    np.testing.assert_allclose(fit["c.center"].stderr, np.sqrt(slope @ cov @ slope), rtol=1e-5)
    slope = np.array([0, 0, 0.5 * np.sqrt(w / v), 0.5 * np.sqrt(v / w)])
    np.testing.assert_allclose(fit["c.width"].stderr, np.sqrt(slope @ cov @ slope), rtol=1e-5)
    assert fit["c.width"].tied_to == FORMULAS["c.width"] and "tied to sqrt(" in str(fit)
    # Through another tie, and with starts that are found: components of one kind, in their order.
    chain = FORMULAS | {"b.width": "1.0 * a.width"}
    once = vp.fit(THREE, x, y[0], tie=chain)
    np.testing.assert_allclose(once["c.width"].value, once["a.width"].value, rtol=1e-12)
    bare = vp.Gaussian("a") + vp.Gaussian("b") + vp.Gaussian("c")
    np.testing.assert_allclose(vp.fit(bare, x, y[0], tie=FORMULAS).alpha, fit.alpha, rtol=1e-6)
    many = vp.fit_many(THREE, x, y, tie=FORMULAS)
    np.testing.assert_allclose(many["c.center"].value[0], fit["c.center"].value, rtol=1e-7)
    np.testing.assert_allclose(many["c.center"].stderr[0], fit["c.center"].stderr, rtol=1e-3)
    runs = {"one": (x, y[0]), "two": (x, y[1])}
    both = vp.fit(THREE, runs, share=["*.width"], tie=FORMULAS)
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
