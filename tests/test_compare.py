"""`compare`: criteria and weights by their formulas, F tests against scipy and by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import varpro as vp

T = np.linspace(0.0, 20.0, 120)
NOISE = np.random.default_rng(7).normal(size=T.size)
Y = 3.0 * np.exp(-T / 1.0) + 2.0 * np.exp(-T / 6.0) + 0.5 + 0.02 * NOISE
ONE = vp.Exp("fast", tau=0.5) + vp.Constant("bg")
TWO = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("bg")


def test_the_f_test_of_two_polynomials_is_that_of_the_books():
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    y = np.array([1.1, 3.9, 9.2, 15.8, 25.3, 35.9, 49.1])
    fits = [vp.fit(vp.Polynomial("p", degree=d), x, y) for d in (1, 2)]
    s1, s2 = (np.sum((y - np.polyval(np.polyfit(x, y, d), x)) ** 2) for d in (1, 2))
    f = (s1 - s2) / (s2 / (7 - 3))
    for found in (vp.compare(*fits), vp.compare(*fits[::-1], nested=True)):
        (test,) = found.tests
        np.testing.assert_allclose(test.f, f, rtol=1e-8)
        np.testing.assert_allclose(test.p, scipy.stats.f.sf(f, 1, 4), rtol=1e-8)
        assert test.dof == (1, 4)
    assert vp.compare(*fits, nested=False).tests == ()


def test_delta_and_weights_are_those_of_burnham_and_anderson():
    fits = [vp.fit(m, T, Y) for m in (ONE, TWO, TWO + vp.Polynomial("p", degree=1))[:2]]
    fits.append(vp.fit(TWO, T, Y, fix="fast.tau"))
    found = vp.compare(*fits, names=["one", "two", "held"])
    aicc = np.array([fit.aicc for fit in fits])
    weights = np.exp(-(aicc - aicc.min()) / 2)
    np.testing.assert_allclose(found.delta, aicc - aicc.min())
    np.testing.assert_allclose(found.weights, weights / weights.sum())
    assert found.best == "two" and found.names == ("one", "two", "held")
    np.testing.assert_array_equal(found.num_params, [3, 5, 4])
    np.testing.assert_array_equal(found.bic, [fit.bic for fit in fits])


def test_evidence_is_shared_where_nothing_tells_models_apart():
    fit = vp.fit(TWO, T, Y)
    np.testing.assert_allclose(vp.compare(fit, fit).weights, [0.5, 0.5])
    perfect = vp.fit(vp.Constant("c"), T, np.zeros(T.size))
    line = vp.fit(vp.Polynomial("p", degree=1), T, np.zeros(T.size))
    np.testing.assert_allclose(vp.compare(perfect, line).weights, [0.5, 0.5])


def test_nesting_is_seen_by_names_and_formulas():
    one, two = vp.fit(ONE, T, Y), vp.fit(TWO, T, Y)
    held = vp.fit(TWO, T, Y, fix="fast.tau")
    (test,) = vp.compare(two, one).tests
    assert (test.smaller, test.larger, test.by_names) == ("2", "1", True)
    # `one` frees what `held` holds, so neither contains the other; `two` contains both.
    tests = vp.compare(one, held, two, names=list("ohb")).tests
    assert [(t.smaller, t.larger) for t in tests] == [("h", "b")]
    tied = vp.fit(TWO, T, Y, tie={"slow.tau": "fast.tau"}, init={"fast.tau": 2.0})
    assert [t.smaller for t in vp.compare(tied, two).tests] == ["1"]
    # The same names with another formula are another model.
    peak = vp.Gaussian("fast", center=0.0, width=1.0) + vp.Constant("bg")
    assert vp.compare(vp.fit(peak, T, Y, fix="fast.center"), two).tests == ()
    peak = vp.fit(
        lambda th, t: {"fast": jnp.exp(-t * th["fast.tau"])}, T, Y, init={"fast.tau": 1.0}
    )
    assert vp.compare(peak, two).tests == ()
    rate = vp.fit(vp.Exp("fast", rate=1.0) + vp.Constant("bg"), T, Y)
    assert vp.compare(rate, two).tests == ()


def test_other_functions_are_nested_if_the_caller_says_so():
    def small(theta, t):
        return {"decay": jnp.exp(-t / theta["tau"])}

    def large(theta, t):
        return {"a": jnp.exp(-t / theta["tau"]), "b": jnp.ones_like(t)}

    fits = [vp.fit(f, T, Y, init={"tau": 3.0}) for f in (small, large)]
    assert vp.compare(*fits).tests == ()
    (test,) = vp.compare(*fits, nested=True).tests
    assert not test.by_names and test.dof == (1, 117)
    assert "judging" not in str(vp.compare(*fits, nested=True))
    with pytest.raises(vp.InputError, match="have 2 parameters both"):
        vp.compare(fits[0], fits[0], nested=True)


def test_the_f_test_holds_its_level():
    """A line fitted with a line and a parabola: p is uniform."""
    rng = np.random.default_rng(3)
    x = np.linspace(0, 1, 30)
    p = []
    for _ in range(200):
        y = 1 + x + 0.1 * rng.normal(size=x.size)
        fits = [vp.fit(vp.Polynomial("p", degree=d), x, y) for d in (1, 2)]
        p.append(vp.compare(*fits).tests[0].p)
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3


BAD = [
    (lambda: vp.fit(ONE, T, Y + 1e-9), "data y differ in 120 of 120 values"),
    (
        lambda: dataclasses.replace(vp.fit(ONE, T, Y), y=Y[:-1]),
        r"shapes \(120,\) and \(119,\)",
    ),
    (lambda: vp.fit(ONE, T, Y, sigma=0.1), "weights, sigma or masks differ"),
    (lambda: vp.fit(ONE, T, Y, mask=T > 1), "weights, sigma or masks differ"),
    (lambda: vp.fit(ONE, T, Y, absolute_sigma=True), "absolute_sigma"),
]


@pytest.mark.parametrize(("other", "said"), BAD)
def test_fits_of_different_data_are_refused_by_name(other, said):
    with pytest.raises(vp.InputError, match=f"'two' and 'other' cannot be compared.*{said}"):
        vp.compare(vp.fit(TWO, T, Y), other(), names=["two", "other"])


def test_wrong_use_says_what_is_wrong():
    fit = vp.fit(ONE, T, Y)
    for call, said in [
        (lambda: vp.compare(fit), "at least two fits"),
        (lambda: vp.compare(fit, fit, names=["a"]), "names must be 2 different ones"),
        (lambda: vp.compare(fit, fit, names=["a", "a"]), "names must be 2 different ones"),
    ]:
        with pytest.raises(vp.InputError, match=said):
            call()


def test_it_prints_aligned_and_gives_html_and_a_frame():
    found = vp.compare(vp.fit(ONE, T, Y), vp.fit(TWO, T, Y), names=["<one>", "two"])
    lines = str(found).splitlines()
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[2].split()[:3] == ["two", "*", "5"] and "F test of <one> in two" in str(found)
    page = found._repr_html_()
    assert "&lt;one&gt;" in page and "<one>" not in page and "F(2, 115)" in page
    frame = found.to_frame()
    assert list(frame.index) == ["<one>", "two"]
    np.testing.assert_array_equal(frame["aicc"], found.aicc)
    assert str(found) == str(
        vp.compare(*[vp.fit(m, T, Y) for m in (ONE, TWO)], names=["<one>", "two"])
    )


def test_models_of_counts_are_weighed_by_their_likelihood():
    t = T / 2.0
    counts = np.random.default_rng(5).poisson(60 * np.exp(-t / 2.0) + 3).astype(float)
    one, two = ONE, vp.Exp("fast", tau=0.5)
    fits = [vp.fit(m, t, counts, noise="poisson") for m in (one, two)]
    found = vp.compare(*fits, names=["with", "without"])
    exact = []
    for fit, count in zip(fits, (3, 2), strict=True):
        log = scipy.stats.poisson.logpmf(counts, fit.fitted).sum()
        exact.append(-2 * log + 2 * count)
    np.testing.assert_allclose(found.aic[0] - found.aic[1], exact[0] - exact[1], rtol=1e-8)
    assert found.best == "with" and found.tests == ()
    with pytest.raises(vp.InputError, match="noise='poisson', the other with 'normal'"):
        vp.compare(fits[0], vp.fit(one, t, counts))
    robust = vp.fit(one, t, counts, noise="huber")
    with pytest.raises(vp.InputError, match="noise='huber' forgives outliers"):
        vp.compare(robust, robust)
    masked = vp.fit(one, t, counts, noise="poisson", mask=t > 1)
    with pytest.raises(vp.InputError, match="masks differ"):
        vp.compare(fits[0], masked)
