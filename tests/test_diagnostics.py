"""Findings: each case is called by its name, and a good fit is quiet."""

import math
import time

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import varpro as vp
from varpro._statistics.residual_tests import chisq_tail, lag_test, runs_test

T = np.linspace(0.0, 20.0, 120)
NOISE = np.random.default_rng(7).normal(size=(T.size, 4))
CLEAN = 3.0 * np.exp(-T / 1.0) + 2.0 * np.exp(-T / 6.0) + 0.5
Y = CLEAN + 0.02 * NOISE[:, 0]
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("bg")
ONE = vp.Exp("fast", tau=0.5) + vp.Constant("bg")


def codes(fit):
    return [finding.code for finding in fit.diagnostics]


def one(fit, code):
    (found,) = [finding for finding in fit.diagnostics if finding.code == code]
    assert isinstance(found, vp.Finding) and str(found) == found.message
    assert found.message in " ".join(str(fit).replace("\n  - ", "\n").split())
    return found


def test_a_good_fit_is_quiet():
    assert vp.fit(MODEL, T, Y).diagnostics == ()
    assert "findings" not in str(vp.fit(MODEL, T, Y))
    data = np.stack([CLEAN, 2 * CLEAN, CLEAN + 1], axis=1) + 0.02 * NOISE[:, :3]
    assert vp.fit(MODEL, T, data, sigma=0.02, absolute_sigma=True).diagnostics == ()
    # Exact data leave rounding errors behind, which are not random and mean nothing.
    assert vp.fit(MODEL, T, CLEAN).diagnostics == ()


def test_dependent_columns_are_named():
    def bases(theta, t):
        decay = jnp.exp(-t / theta["tau"])
        return {"a": decay, "b": 1 + 0 * t, "both": decay + 2, "line": t}

    fit = vp.fit(bases, T, Y, init={"tau": 2.0})
    found = one(fit, "rank")
    assert found.names == ("a", "b", "both") and "rank 3 of 4" in found.message
    assert set(one(fit, "undetermined").names) == {"a", "b", "both"}


def test_a_column_of_zeros_is_named():
    fit = vp.fit(lambda th, t: {"z": 0 * t, "o": 1 + 0 * t}, T, Y)
    assert one(fit, "zero-column").names == ("z",) and "rank" not in codes(fit)


def test_nearly_dependent_columns_are_named():
    def bases(theta, t):
        return {"line": t, "one": 1 + 0 * t, "near": t + 1 + 1e-9 * jnp.sin(t)}

    found = one(vp.fit(bases, T, Y), "cond")
    assert set(found.names) == {"line", "one", "near"}
    found = one(vp.fit(MODEL, T, Y, init={"fast.tau": 5.0, "slow.tau": 5.2}, fix="*"), "parallel")
    assert found.names == ("fast", "slow")


def test_a_parameter_on_its_bound_has_its_error_withheld_in_words():
    fit = vp.fit(MODEL, T, Y, bounds={"slow.tau": (1.0, 5.5)})
    found = one(fit, "bound")
    assert found.names == ("slow.tau",)
    assert "slow.tau lies on its upper bound, 5.5: its standard error is withheld" in found.message


def test_an_undetermined_parameter_is_named():
    fit = vp.fit(vp.Exp("a", tau=3.0) + vp.Constant("bg"), T, np.full(T.size, 2.0))
    names = {name for finding in fit.diagnostics for name in finding.names}
    assert {"a.tau"} <= names


def test_correlated_pairs_are_named():
    # Far from the origin a slope and an intercept are one thing, and nobody takes them one by one.
    x = 1000.0 + T
    fit = vp.fit(vp.Polynomial("p", degree=1), x, 2 * x + 0.1 * NOISE[:, 0])
    assert "correlated" not in codes(fit)
    y = np.exp(-T / 2.0) + np.exp(-T / 2.8) + 1e-3 * NOISE[:, 0]
    fit = vp.fit(vp.Exp("a", tau=2.0) + vp.Exp("b", tau=2.8), T, y)
    found = one(fit, "correlated")
    r = fit.correlation
    assert len(found.names) >= 2 and np.abs(r - np.eye(len(r))).max() > 0.95


def test_as_many_parameters_as_data_are_said():
    fit = vp.fit(MODEL, T[::24], Y[::24])
    assert fit.dof == 0 and "no-dof" in codes(fit)


def test_a_component_lost_in_the_noise_is_named():
    model = vp.Gaussian("real", center=5.0, width=1.0) + vp.Gaussian("none", center=15.0, width=1.0)
    y = np.exp(-0.5 * (T - 5.0) ** 2) + 0.02 * NOISE[:, 1]
    fit = vp.fit(model, T, y, fix="none.width", bounds={"none.center": (13.0, 17.0)})
    found = one(fit, "vanishing")
    assert found.names == ("none",) and "+/-" in found.message
    # A coefficient of a column without free parameters may well be zero: a background often is.
    flat = vp.fit(vp.Gaussian("real", center=5.0, width=1.0) + vp.Constant("bg"), T, y)
    assert flat.diagnostics == ()


def test_contributions_that_cancel_are_named():
    def bases(theta, t):
        return {"a": jnp.exp(-t / 5.0), "b": jnp.exp(-t / 5.0001), "c": 1 + 0 * t}

    # Their difference alone, t exp(-t / 5) times a small number, is in the data.
    y = T * np.exp(-T / 5.0) + 0.01 * NOISE[:, 0]
    found = one(vp.fit(bases, T, y), "cancelling")
    assert found.names == ("a", "b")


def test_a_model_that_misses_a_feature_is_found_out():
    fit = vp.fit(ONE, T, Y)
    assert codes(fit) == ["runs", "autocorrelation"]
    # In order of x, whatever the order of the rows.
    order = np.random.default_rng(3).permutation(T.size)
    assert codes(vp.fit(ONE, T[order], Y[order])) == ["runs", "autocorrelation"]
    message = one(vp.fit(ONE, T[order], Y[order]), "runs").message
    assert message == one(fit, "runs").message


def test_rows_left_out_are_not_judged():
    keep = np.ones(T.size, bool)
    keep[10:40] = False
    holes = np.where(keep, Y, 50.0 + T)
    assert vp.fit(MODEL, T, holes, mask=keep).diagnostics == ()
    assert codes(vp.fit(MODEL, T, holes)) != []


def test_every_column_and_both_parts_of_complex_data_are_judged():
    weak = np.stack([CLEAN + 0.25 * NOISE[:, j] for j in range(4)], axis=1)
    alone = vp.fit(vp.Exp("a", tau=1.0) + vp.Constant("bg"), T, weak[:, 0])
    together = vp.fit(vp.Exp("a", tau=1.0) + vp.Constant("bg"), T, weak)
    p = [min((float(f.message.split("p = ")[1].split(")")[0]) for f in fit.diagnostics), default=1)
         for fit in (alone, together)]  # fmt: skip
    assert p[1] < p[0]
    y = 0.01 * (NOISE[:, 0] + 1j * (NOISE[:, 1] + 2 * np.sin(T / 3)))
    assert "runs" in codes(vp.fit(vp.Constant("c"), T, y))


def test_sigma_that_is_wrong_by_a_factor_is_told_if_it_is_absolute():
    for sigma, word in ((0.01, "too small"), (0.04, "too large")):
        fit = vp.fit(MODEL, T, Y, sigma=sigma, absolute_sigma=True)
        assert codes(fit) == ["chisq"] and word in fit.diagnostics[0].message
        assert vp.fit(MODEL, T, Y, sigma=sigma).diagnostics == ()


def test_a_failed_fit_without_numbers_has_no_findings():
    broken = lambda th, t: {"a": jnp.where(th["b"] > 1.0, jnp.nan, jnp.exp(-t * th["b"]))}  # noqa: E731
    assert isinstance(vp.fit(broken, T, Y, init={"b": 0.999}, max_steps=2).diagnostics, tuple)


@pytest.mark.parametrize("n", [20, 60, 200])
def test_few_runs_are_as_improbable_as_counting_says(n, rng):
    signs = np.where(rng.permutation(n) < n // 2, 1.0, -1.0)
    # Exact: of n1 and n2 signs, the distribution of the number of runs by combinations.
    n1 = n2 = n // 2

    def ways(r):
        k = r // 2
        if r % 2 == 0:
            return 2 * math.comb(n1 - 1, k - 1) * math.comb(n2 - 1, k - 1)
        return math.comb(n1 - 1, k) * math.comb(n2 - 1, k - 1) + math.comb(n1 - 1, k - 1) * (
            math.comb(n2 - 1, k)
        )

    for shift in range(0, n // 2, 5):
        found = runs_test(np.sort(signs)[np.r_[0:n]] if shift == 0 else np.roll(signs, shift))
        exact = sum(ways(r) for r in range(2, found.runs + 1)) / math.comb(n, n1)
        assert found.p == pytest.approx(exact, abs=0.015)
        assert (found.p < 1e-3) == (exact < 1e-3)


def test_false_alarms_are_no_more_than_the_level():
    """10000 good linear fits of 5 parameters: both tests at once, at their level of 1 in 1000."""
    rng = np.random.default_rng(11)
    x = np.linspace(0, 1, 60)
    q, _ = np.linalg.qr(np.vander(x, 5))
    noise = rng.normal(size=(60, 10_000))
    resid = noise - q @ (q.T @ noise)
    tests = [(runs_test(r), lag_test(r)) for r in resid.T[:, :, None]]
    for level, most in ((1e-3, 25), (0.05, 550)):
        assert sum(r.p < level for r, _ in tests) <= most
        assert sum(lag.p < level for _, lag in tests) <= most
    # And they are not asleep: half of their level is reached without any fit.
    plain = [(runs_test(r), lag_test(r)) for r in noise.T[:, :, None]]
    assert sum(r.p < 0.05 for r, _ in plain) > 250 and sum(t.p < 0.05 for _, t in plain) > 250


def test_false_alarms_of_whole_reports_are_rare():
    """Every finding counts, over 200 good fits of two decays."""
    rng = np.random.default_rng(12)
    loud = 0
    for _ in range(200):
        loud += bool(vp.fit(MODEL, T, CLEAN + 0.02 * rng.normal(size=T.size)).diagnostics)
    assert loud <= 2


def test_the_lag_test_is_durbin_watson():
    rng = np.random.default_rng(5)
    e = rng.normal(size=(500, 1))
    for i in range(1, 500):
        e[i] += 0.5 * e[i - 1]
    found = lag_test(e)
    np.testing.assert_allclose(found.durbin_watson, np.sum(np.diff(e[:, 0]) ** 2) / np.sum(e**2))
    assert abs(found.correlation - 0.5) < 0.1 and found.p < 1e-10
    assert abs(found.durbin_watson - 2 * (1 - found.correlation)) < 0.02


def test_the_chi_square_tail_is_that_of_scipy():
    for dof in (5, 50, 500):
        for factor in (0.5, 1.0, 1.5, 2.0):
            exact = scipy.stats.chi2.sf(factor * dof, dof)
            assert chisq_tail(factor * dof, dof) == pytest.approx(exact, rel=0.1, abs=1e-4)


def test_diagnostics_take_no_time():
    t = np.linspace(0.0, 20.0, 1000)
    y = 3.0 * np.exp(-t) + 2.0 * np.exp(-t / 6.0) + 0.5
    fit = vp.fit(MODEL, t, y + 0.02 * np.random.default_rng(0).normal(size=t.size))
    _ = fit.diagnostics
    times = []
    for _ in range(20):
        start = time.perf_counter()
        _ = fit.diagnostics
        times.append(time.perf_counter() - start)
    assert min(times) < 0.01  # 0.6 ms on an idle machine, without type checks


def test_an_error_that_is_withheld_beside_a_large_one_stops_nobody(rng):
    x = np.linspace(-5.0, 5.0, 100)
    y = np.exp(-(x**2) / 2) + 0.2 * rng.normal(size=x.size)
    model = vp.Gaussian("g", center=0.3, width=vp.Param(0.5, upper=0.7))
    moved = x - vp.fit(model, x, y)["g.center"].value
    fit = vp.fit(model, moved, y)
    assert fit["g.width"].at_bound and abs(fit["g.center"].value) < fit["g.center"].stderr
    assert [d.code for d in fit.diagnostics if d.code in ("bound", "undetermined")] == ["bound"]


def test_a_parameter_whose_change_the_data_do_not_mind_is_named(rng):
    t = np.linspace(0.0, 10.0, 100)
    flat = vp.fit(vp.Exp("a", tau=3.0), t, 1.0 + 0.01 * rng.normal(size=t.size))
    # A lifetime that may be infinite, or grow: its inverse is known, and the error says how little that is.
    assert flat["a.tau"].stderr > 0.1 * abs(flat["a.tau"].value) > 10.0
    assert {d.code for d in flat.diagnostics} <= {"undetermined"}
    # An error larger than the value says nothing where the value is about zero.
    x = t - 5.0
    y = np.exp(-(x**2) / 2) + 0.2 * rng.normal(size=x.size)
    peak = vp.fit(vp.Gaussian("g", center=0.3, width=0.8), x, y)
    moved = vp.fit(vp.Gaussian("g", center=0.3, width=0.8), x - peak["g.center"].value, y)
    assert abs(moved["g.center"].value) < moved["g.center"].stderr
    assert not [d for d in moved.diagnostics if d.code == "undetermined"]


def test_findings_do_not_mislead(rng):
    t = np.linspace(0.0, 10.0, 60)
    # A strong wave in phase with the cosine: its sine is within an error of zero, the wave is not.
    wave = 2 * np.cos(np.pi * t) * np.exp(-t / 5) + 0.05 * rng.normal(size=60)
    fit = vp.fit(vp.Oscillation("o", freq=0.5, tau=5.0), t, wave)
    sine = fit["o.sin"]
    assert abs(sine.value) < 3 * sine.stderr and not fit.diagnostics
    # Powers of x far from zero are of almost one shape, and cancel each other, which nobody has to be told.
    x = np.linspace(595.0, 615.0, 60)
    peak = 3 * np.exp(-0.5 * ((x - 604) / 1.2) ** 2) + 2 + 0.01 * (x - 600)
    cubic = vp.Gaussian("g", center=603.0, width=1.0) + vp.Polynomial("bg", degree=3)
    several = peak + 0.02 * rng.normal(size=(3, 60))
    assert not vp.fit(cubic, x, several[0]).diagnostics
    assert not vp.fit_many(cubic, x, several).diagnostics
    # What follows by the user's own relation is correlated by it.
    two = vp.Exp("a", tau=0.5) + vp.Exp("b", tau=3.0)
    y = 2 * np.exp(-t / 0.5) + np.exp(-t / 3) + 0.02 * rng.normal(size=60)
    related = vp.fit(two, t, y, relations={"a": {"b": 2.0}})
    assert abs(related.correlation[2, 3]) == pytest.approx(1.0)
    assert not [f for f in related.diagnostics if f.code == "correlated"]
    sets = {"u": (t, y), "v": (t, y + 0.02 * rng.normal(size=60))}
    tied = vp.fit(two, sets, tie={"b.tau": "6 * a.tau"})
    assert not [f for f in tied.diagnostics if f.code == "correlated"]
    # Chi-square of counts near zero has another distribution.
    counts = rng.poisson(5 * np.exp(-t) + 0.02)
    few = vp.fit(vp.Exp("a", tau=1.5) + vp.Constant("c"), t, counts, noise="poisson")
    assert not [f for f in few.diagnostics if f.code == "chisq"]


def test_fits_of_several_data_sets_and_of_many_curves_have_findings(rng):
    t = np.linspace(0.0, 10.0, 60)
    two = vp.Exp("a", tau=0.5) + vp.Exp("b", tau=2.0)
    y = 2 * np.exp(-t / 0.5) + np.exp(-t / 3) + 0.02 * rng.normal(size=(6, 60))
    bounds = {"b.tau": (1.0, 2.5)}
    whole = vp.fit(two, {"u": (t, y[0]), "v": (t, y[1])}, bounds=bounds)
    (bound,) = [f for f in whole.diagnostics if f.code == "bound"]
    assert bound.names == ("b.tau",) and str(bound).startswith("u, v: b.tau lies on its upper")
    assert str(bound) in whole.report()
    batch = vp.fit_many(two, t, y, bounds=bounds)
    (bound,) = [f for f in batch.diagnostics if f.code == "bound"]
    assert "b.tau lies on a bound in 100 % of the 6 curves" in str(bound)
    assert str(bound) in batch.report()
    # Two lifetimes that are almost one: huge amplitudes of opposite sign.
    apart = vp.fit_many(two, t, y, fix=["*.tau"], init={"a.tau": 2.0, "b.tau": 2.0001})
    assert [f.names for f in apart.diagnostics if f.code == "cancelling"] == [("a", "b")]
