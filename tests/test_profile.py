"""Profiles and their intervals: against refits with the quantity fixed, lmfit and R."""

import dataclasses

import jax
import jax.numpy as jnp
import lmfit
import numpy as np
import oracles
import pytest
import scipy.optimize
import scipy.stats
from dense_problem import dense
from published_models import NIST, PUROMYCIN, run
from test_bands import CLEAN, MODEL, SIGMA, T, Y, against_lmfit, curve, wave_and_decay

import varpro as vp
from varpro._reduced.common_basis import Reduced
from varpro._statistics.constrained_refit import constrained_refits
from varpro._statistics.penalised import Penalised
from varpro._statistics.quantities import quantities

TIGHT = vp.LevenbergMarquardt(ftol=0.0, xtol=0.0, gtol=0.0)
BOD_T = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
BOD = np.array([8.3, 10.3, 19.0, 16.0, 15.6, 19.8])  # Bates and Watts (1988), A1.4


def saturation(theta, t):
    return {"A": 1.0 - jnp.exp(-theta["k"] * t)}


@pytest.mark.parametrize("case", ["decays", "peaks"])
def test_profile_intervals_agree_with_lmfits_f_test(case, rng):
    fit, other, names = against_lmfit(case, rng)
    tight = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}
    mini = lmfit.Minimizer(
        lambda p: other.eval(p) - other.data, other.params, nan_policy="propagate"
    )
    best = mini.minimize(method="leastsq", **tight)
    limits = lmfit.conf_interval(mini, best, sigmas=[0.95])
    ours = fit.ci(0.95, method="profile")
    for theirs, name in names.items():
        (_, lower), _, (_, upper) = limits[theirs]
        assert ours[name].lower == pytest.approx(lower, rel=1e-5), name
        assert ours[name].upper == pytest.approx(upper, rel=1e-5), name
        assert ours[name].lower_note == ours[name].upper_note == ""


def test_puromycin_has_the_profile_intervals_of_r():
    fit = run(PUROMYCIN, problem := oracles.load("puromycin_treated"), problem.starts[0])
    ours = fit.ci(0.95, method="profile")
    # confint() of R, which interpolates between its refits: the fourth digit of K is not exact.
    limits = {"Vm": (197.30212848, 229.29006490), "K": (0.04692517, 0.08615995)}
    for name, (lower, upper) in limits.items():
        assert ours[name].lower == pytest.approx(lower, abs=1e-3 * fit[name].stderr)
        assert ours[name].upper == pytest.approx(upper, abs=1e-3 * fit[name].stderr)


def test_a_profile_as_steep_as_a_wall_has_its_limit():
    # MGH09 divides by a quadratic that nearly vanishes: tau rises four times faster there than at
    # the optimum, and springs give way more than the limit is asked for.
    problem = oracles.load("mgh09")
    fit = run(NIST["MGH09"], problem, problem.starts[1])
    found = fit.ci(method="profile", names="line")["line"]
    assert found.lower_note == found.upper_note == ""
    bound = 2 * fit.cost + fit.redchi * scipy.stats.f.ppf(0.95, 1, fit.dof)
    x = problem.x
    for value in (found.lower, found.upper):

        def resid(p, v=value):
            return (p[0] * x**2 + v * x) / (x**2 + p[1] * x + p[2]) - problem.y

        start = [fit["curve"].value, fit["b3"].value, fit["b4"].value]
        tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "x_scale": np.abs(start)}
        least = 2 * scipy.optimize.least_squares(resid, start, **tight).cost
        assert least == pytest.approx(bound, rel=1e-5)


def limit_by_refits(fit, name, side, refit):
    """Where the F test of refits reaches the level: `refit(v)` is chi-square with it held at v."""
    bound = 2 * fit.cost + fit.redchi * scipy.stats.f.ppf(0.95, 1, fit.dof)
    at, step = fit[name].value, side * fit[name].stderr
    return scipy.optimize.brentq(lambda v: refit(v) - bound, at + step, at + 4 * step, xtol=1e-13)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_limit_is_where_refits_with_the_parameter_fixed_put_it(side):
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA)
    ours = fit.ci(method="profile", names=["slow.tau", "slow"])

    def fixed(v):
        start = [fit[n].value for n in ("fast.tau", "fast", "slow", "bg")]
        return dense(lambda p: curve((p[0], v, *p[1:]), T), Y, start, 1 / SIGMA).chisq

    def without_slow(v):
        # With the coefficient at v its column is no longer linear: all others are searched.
        def resid(p):
            curve = p[1] * np.exp(-T / p[0]) + v * np.exp(-T / p[2]) + p[3]
            return (curve - Y) / SIGMA

        start = [fit[n].value for n in ("fast.tau", "fast", "slow.tau", "bg")]
        tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
        return 2 * scipy.optimize.least_squares(resid, start, **tight).cost

    for name, refit in {"slow.tau": fixed, "slow": without_slow}.items():
        found = ours[name].upper if side > 0 else ours[name].lower
        expected = limit_by_refits(fit, name, side, refit)
        assert found == pytest.approx(expected, abs=2e-6 * fit[name].stderr), name


def test_a_profile_is_the_least_chi_square_of_refits_and_carries_their_traces():
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA, absolute_sigma=True)
    profile = fit.profile("fast.tau", points=5, span=3.0)
    assert profile.ok.all() and np.all(np.diff(profile.value) > 0)
    for i, value in enumerate(profile.value):
        start = [fit[n].value for n in ("slow.tau", "fast", "slow", "bg")]
        held = dense(lambda p, v=value: curve((v, *p), T), Y, start, 1 / SIGMA)
        assert profile.chisq[i] == pytest.approx(held.chisq, rel=1e-9)
        np.testing.assert_allclose(profile.alpha[i], [value, held.z[0]], rtol=1e-6)
        np.testing.assert_allclose(profile.coef[i], held.z[1:], rtol=1e-5)
    rise = np.sqrt(np.maximum(profile.chisq - 2 * fit.cost, 0.0))
    # At the optimum both sums of squares are one but for rounding, of which this is the root.
    np.testing.assert_allclose(np.abs(profile.tau), rise, atol=1e-6)
    np.testing.assert_array_equal(np.sign(profile.tau), [-1, -1, 0, 1, 1])


def test_profiles_of_a_coefficient_of_one_of_many_right_hand_sides(rng):
    amplitudes = np.array([[3.0, 1.0, 2.0, 5.0], [2.0, 4.0, -1.0, 1.0], [0.5, 0.2, 0.1, 0.0]])
    decays = np.stack([np.exp(-T), np.exp(-T / 6.0), np.ones_like(T)], 1)
    data = decays @ amplitudes + 0.02 * rng.normal(size=(T.size, 4))
    fit = vp.fit(MODEL, T, data)
    # Held at v, its column moves to the left of the last right-hand side.
    profile = fit.profile("fast", rhs=3, points=3, span=2.0)
    for value, chisq, coef in zip(profile.value, profile.chisq, profile.coef, strict=True):

        def resid(p, v=value):
            phi = np.stack([np.exp(-T / p[0]), np.exp(-T / p[1]), np.ones_like(T)], 1)
            c = np.insert(p[2:], 3, v).reshape(3, 4)
            return (phi @ c - data).ravel()

        start = np.concatenate([fit.alpha, np.delete(fit.coef.ravel(), 3)])
        reference = scipy.optimize.least_squares(resid, start, ftol=1e-15, xtol=1e-15, gtol=1e-15)
        assert chisq == pytest.approx(2 * reference.cost, rel=1e-9)
        np.testing.assert_allclose(np.delete(coef.ravel(), 3), reference.x[2:], atol=1e-6)
        assert coef[0, 3] == pytest.approx(value, rel=1e-12)


def test_intervals_of_a_linear_model_are_the_same_by_profile_and_covariance(rng):
    # No curvature and complex coefficients: F and t agree to the last digit.
    t = np.linspace(0.0, 3.0, 40)

    def columns(theta, t):
        return {"a": jnp.exp((-0.5 + 4j) * t), "b": jnp.exp((-0.2 + 4.2j) * t)}

    noise = rng.normal(size=(2, t.size))
    data = (2 - 1j) * np.exp((-0.5 + 4j) * t) + np.exp((-0.2 + 4.2j) * t) + noise[0] + 1j * noise[1]
    fit = vp.fit(columns, t, data, init={})
    one, other = fit.ci(method="profile"), fit.ci(method="covariance")
    assert one.names == ("a.real", "a.imag", "b.real", "b.imag")
    error = np.sqrt(np.diag(fit.covariance))
    np.testing.assert_allclose((one.lower - other.lower) / error, 0.0, atol=2e-6)
    np.testing.assert_allclose((one.upper - other.upper) / error, 0.0, atol=2e-6)
    # Nor is the joint region of two of them anything but the ellipse of the covariance.
    contour = fit.contour("a.real", "b.imag", points=5, span=2.0)
    inverse = np.linalg.inv(fit.covariance_of(["a", "b"])[np.ix_([0, 3], [0, 3])])
    at = np.stack(np.meshgrid(contour.first, contour.second, indexing="ij"), -1)
    away = at - np.array([fit["a"].value.real, fit["b"].value.imag])
    squares = np.einsum("abi,ij,abj->ab", away, inverse, away)
    expected = scipy.stats.f.cdf(squares / 2, 2, fit.dof)
    np.testing.assert_allclose(contour.level, expected, atol=1e-6)
    assert contour.names == ("a.real", "b.imag")


def test_a_contour_is_the_least_chi_square_of_refits_with_both_fixed():
    fit = vp.fit(MODEL, T, Y)
    contour = fit.contour("fast.tau", "slow.tau", points=3, span=2.0)
    for i, first in enumerate(contour.first):
        for j, second in enumerate(contour.second):
            phi = np.stack([np.exp(-T / first), np.exp(-T / second), np.ones_like(T)], axis=1)
            held = float(np.linalg.lstsq(phi, Y, rcond=None)[1][0])
            assert contour.chisq[i, j] == pytest.approx(held, rel=1e-7)
            f = (held - fit.chisq) / 2 / fit.redchi
            assert contour.level[i, j] == pytest.approx(scipy.stats.f.cdf(f, 2, fit.dof), abs=1e-6)


def test_a_contour_of_a_parameter_and_a_coefficient_beside_a_term_without_one():
    model, _, data = wave_and_decay()
    fit = vp.fit(model, T, data)
    contour = fit.contour("wave.w", "decay", points=2, span=2.0)
    for i, w in enumerate(contour.first):
        for j, height in enumerate(contour.second):

            def resid(p, w=w, height=height):
                return np.sin(w * T) + height * np.exp(-T / p[0]) + p[1] - data

            start = [fit["decay.tau"].value, fit["bg"].value]
            tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
            reference = scipy.optimize.least_squares(resid, start, **tight)
            assert contour.chisq[i, j] == pytest.approx(2 * reference.cost, rel=1e-7)


def test_bounds_order_and_priors_hold_in_the_refits():
    data = CLEAN + 0.02 * np.random.default_rng(3).normal(size=T.size)
    box = {"fast.tau": (0.98, 1.3)}
    init = {"fast.tau": 1.1, "slow.tau": vp.Param(5.0, prior=(6.0, 0.05))}
    fit = vp.fit(MODEL, T, data, init=init, bounds=box, order=("fast.tau", "slow.tau"))
    profile = fit.profile("slow.tau", points=5, span=3.0)
    for value, chisq, alpha in zip(profile.value, profile.chisq, profile.alpha, strict=True):

        def left(fast, v=value):
            phi = np.stack([np.exp(-T / fast), np.exp(-T / v), np.ones_like(T)], axis=1)
            return float(np.linalg.lstsq(phi, data, rcond=None)[1][0])

        ends, close = box["fast.tau"], {"xatol": 1e-9}
        inside = scipy.optimize.minimize_scalar(left, bounds=ends, method="bounded", options=close)
        fast = min((inside.x, *ends), key=left)
        assert chisq == pytest.approx(left(fast) + ((value - 6.0) / 0.05) ** 2, rel=1e-8)
        assert alpha[0] == pytest.approx(fast, rel=1e-6)
    limits = fit.ci(method="profile", names="fast.tau")
    assert limits["fast.tau"].lower == pytest.approx(0.98, rel=1e-12)
    assert limits["fast.tau"].lower_note == "bound"
    assert "lower limit: a bound" in str(limits)


def test_tied_parameters_are_held_together(rng):
    x = np.linspace(0.0, 10.0, 60)
    data = 4 * np.exp(-0.5 * ((x - 3) / 0.6) ** 2) + 2 * np.exp(-0.5 * ((x - 6) / 0.6) ** 2)
    data += 0.05 * rng.normal(size=x.size)
    model = vp.Gaussian("one", center=2.8, width=0.5) + vp.Gaussian("two", center=6.2, width=0.5)
    fit = vp.fit(model, x, data, tie={"two.width": "one.width"})
    # The one that is tied stands for both.
    profile = fit.profile("two.width", points=2, span=2.0)
    for value, chisq, alpha in zip(profile.value, profile.chisq, profile.alpha, strict=True):

        def peaks(p, w=value):
            return sum(
                h * np.exp(-0.5 * ((x - c) / w) ** 2) for c, h in zip(p[:2], p[2:], strict=True)
            )

        held = dense(peaks, data, [2.8, 6.2, 4.0, 2.0])
        assert chisq == pytest.approx(held.chisq, rel=1e-9)
        np.testing.assert_allclose(alpha, [held.z[0], value, held.z[1], value], rtol=1e-6)


def test_the_jacobian_with_a_penalty_is_that_of_central_differences():
    model, _, data = wave_and_decay()
    fit = vp.fit(model, T, data)
    pair = quantities(fit, ["wave.w", "decay"])
    held = constrained_refits(fit, [pair])
    target = held.start + np.array([[2.0, -1.5]]) * held.unit
    with jax.enable_x64(True):
        problem = jax.tree.map(jnp.asarray, held.refit_problem.problem)
        springs = jax.tree.map(jnp.asarray, held.held(0, target[0]))
        # Far from the optimum the full Jacobian is the one of the residual.
        pulled = Penalised(Reduced(problem, vp.linalg.SVD(), "full"), springs)
        theta = jnp.asarray(fit.optimum.alpha * np.array([1.01, 1.2]))

        @jax.jit
        def evaluated(theta):
            resid, point = pulled.evaluate(theta)
            return resid, pulled.jacobian(theta, point), *pulled.rotated(theta, point)

        resid, jac, turned, head = map(np.asarray, evaluated(theta))
        steps = 1e-5 * np.diag(theta)
        rows = [
            np.asarray(evaluated(theta + h)[0] - evaluated(theta - h)[0]) / (2 * np.sum(h))
            for h in steps
        ]
    assert jac.shape == (T.size + 2, 2)
    scale = np.linalg.norm(jac, axis=0)
    np.testing.assert_allclose(jac / scale, np.stack(rows, 1) / scale, atol=1e-8)
    np.testing.assert_allclose(turned.T @ turned, jac.T @ jac, rtol=1e-10)
    np.testing.assert_allclose(turned.T @ head, jac.T @ resid, rtol=1e-8)


def test_a_limit_that_the_data_never_set_is_infinite_and_says_so():
    # Six points of oxygen demand: a rate of any size is within the 99 % region.
    fit = vp.fit(saturation, BOD_T, BOD, init={"k": 0.5}, bounds={"k": (0.01, np.inf)})
    intervals = fit.ci(0.99, method="profile", names="k")
    assert intervals["k"].upper == np.inf and intervals["k"].upper_note == "open"
    assert "the data never exclude" in str(intervals)
    assert np.isfinite(fit.ci(0.99, names="k")["k"].upper)
    frame = intervals.to_frame()
    assert frame.loc["k", "upper_note"] == "open"


def test_a_model_that_breaks_off_has_its_edge_as_limit():
    t = np.linspace(0.0, 1.0, 40)
    data = np.sqrt(1.1 - t) + 0.2 * np.random.default_rng(1).normal(size=t.size)

    def branch(theta, t):
        return {"c": jnp.sqrt(theta["a"] - t)}

    fit = vp.fit(branch, t, data, init={"a": 1.2})
    found = fit.ci(0.99, method="profile", names="a")["a"]
    assert found.lower == pytest.approx(1.0, abs=1e-5) and found.lower_note == "edge"
    assert found.upper > fit["a"].value and found.upper_note == ""


def test_a_saved_fit_has_the_same_profile_and_bootstrap(tmp_path):
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA)
    fit.save(tmp_path / "fit.nc")
    loaded = vp.load(tmp_path / "fit.nc")
    one, other = fit.ci(method="profile"), loaded.ci(method="profile")
    np.testing.assert_array_equal(one.lower, other.lower)
    np.testing.assert_array_equal(fit.bootstrap(5).alpha, loaded.bootstrap(5).alpha)


def test_a_lower_minimum_met_on_the_way_is_reported():
    # Two starts of one oscillation; the fit stays in the wrong trough of the cost.
    t = np.linspace(0.0, 10.0, 60)
    data = np.cos(2.0 * t) + 0.05 * np.random.default_rng(5).normal(size=t.size)

    def wave(theta, t):
        return {"c": jnp.cos(theta["w"] * t)}

    fit = vp.fit(wave, t, data, init={"w": 2.9})
    assert fit.success and abs(fit["w"].value - 2.0) > 0.3
    intervals = fit.ci(method="profile", names="w")
    assert intervals.better is not None
    better = vp.fit(wave, t, data, init=intervals.better)
    assert better.cost < fit.cost and "Fit again from there" in str(intervals)


def test_float32_has_the_same_limits_to_its_digits():
    wide = vp.fit(MODEL, T, Y, sigma=SIGMA)
    single = vp.fit(MODEL, *(a.astype(np.float32) for a in (T, Y)), sigma=SIGMA.astype(np.float32))
    one, other = wide.ci(method="profile"), single.ci(method="profile")
    assert single.alpha.dtype == np.float32 and set(other.lower_notes + other.upper_notes) == {""}
    error = np.sqrt(np.diag(wide.covariance))
    np.testing.assert_allclose((one.lower - other.lower) / error, 0.0, atol=5e-3)
    np.testing.assert_allclose((one.upper - other.upper) / error, 0.0, atol=5e-3)


def test_wrong_requests_are_refused():
    fit = vp.fit(MODEL, T, Y, init={"slow.tau": 6.0}, fix="slow.tau")
    with pytest.raises(vp.InputError, match=r"'slow\.tau' is fixed: it has no interval"):
        fit.ci(method="profile", names="slow.tau")
    with pytest.raises(vp.InputError, match="method must be one of"):
        fit.ci(method="jackknife")  # pyright: ignore
    with pytest.raises(vp.InputError, match="level must lie between 0 and 1"):
        fit.ci(95.0, method="profile")
    with pytest.raises(vp.InputError, match="2 or more"):
        fit.profile("fast.tau", points=1)
    with pytest.raises(vp.InputError, match="two different"):
        fit.contour("fast.tau", "fast.tau")
    stopped = dataclasses.replace(fit, success=False, message="It was stopped.")
    with pytest.raises(vp.InputError, match="this fit has none: It was stopped"):
        stopped.ci(method="profile")
    exact = dataclasses.replace(fit, chisq=0.0)
    with pytest.raises(vp.InputError, match="no estimate of the noise"):
        exact.profile("fast.tau")


def test_profiles_of_nonnegative_coefficients_are_least_chi_squares_with_them_held(rng):
    t = np.linspace(0.0, 8.0, 50)
    model = vp.Exp("a", tau=0.5) + vp.Exp("b", tau=3.0) + vp.Constant("c")
    y = 2 * np.exp(-t / 0.5) + np.exp(-t / 3.0) + 0.01 + 0.05 * rng.normal(size=50)
    fit = vp.fit(model, t, y, nonnegative=True)
    found = fit.ci(method="profile")
    threshold = scipy.stats.t.ppf(0.975, fit.dof) ** 2 * fit.redchi

    def least(j, value):
        def cost(log_taus):
            phi = np.stack([*np.exp(-t / np.exp(log_taus)[:, None]), np.ones(50)], axis=1)
            rest = [i for i in range(3) if i != j]
            return scipy.optimize.nnls(phi[:, rest], y - value * phi[:, j])[1] ** 2

        options = {"xatol": 1e-8, "fatol": 1e-12, "maxiter": 2000}
        begin = np.log(fit.alpha)
        return scipy.optimize.minimize(cost, begin, method="Nelder-Mead", options=options).fun

    for j, name in enumerate(("a", "b", "c")):
        for limit, note in (
            (found[name].lower, found[name].lower_note),
            (found[name].upper, found[name].upper_note),
        ):
            rise = least(j, limit) - fit.chisq
            if note == "bound":
                assert limit == 0.0 and rise < threshold
            else:
                assert note == "" and rise == pytest.approx(threshold, rel=1e-5)
    assert found["c"].lower_note == "bound" and found["c"].lower == 0.0
    with pytest.raises(vp.InputError, match="these have bounds"):
        fit.derive("a / (a + b)").ci(method="profile")


def test_a_limit_is_found_where_another_parameter_runs_off(rng):
    # A dose-response curve whose upper plateau is not reached: with a small Hill slope held, its middle
    # runs off to infinity, and chi-square to that of a power law.
    x = np.geomspace(0.01, 10.0, 16)
    y = 1 + 10 / (1 + (30 / x) ** 1.2) + 0.1 * np.random.default_rng(0).normal(size=16)

    def logistic(p, x):
        return {"bottom": jnp.ones_like(x), "span": 1 / (1 + (p["ec50"] / x) ** p["hill"])}

    start = {"ec50": vp.Param(10.0, lower=1e-6), "hill": vp.Param(1.0, lower=0.01)}
    fit = vp.fit(logistic, x, y, init=start)
    found = fit.ci(method="profile", names="hill")["hill"]
    threshold = scipy.stats.t.ppf(0.975, fit.dof) ** 2 * fit.redchi

    def excess(hill):
        def resid(u):  # u = -log(ec50): zero of its exponential is the plateau at infinity
            phi = np.stack([np.ones(16), x**hill / (1 + (x * np.exp(u[0])) ** hill)], axis=1)
            return y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]

        ends = [2 * scipy.optimize.least_squares(resid, [u]).cost for u in (-3.0, -40.0)]
        return min(ends) - fit.chisq - threshold

    right = scipy.optimize.brentq(excess, 0.8, 1.5)
    assert found.lower_note == "" and found.lower == pytest.approx(right, abs=1e-4)
    # Of two data sets with one plateau out of reach.
    sets = {"a": (x, y), "b": (x, 2 * y + 0.05 * np.random.default_rng(9).normal(size=16))}
    both = vp.fit(logistic, sets, init=start)
    found = both.ci(method="profile", names="hill")["hill"]
    threshold = scipy.stats.t.ppf(0.975, both.dof) ** 2 * both.chisq / both.dof

    def excess_of_both(hill):
        phi = np.stack([np.ones(16), x**hill], axis=1)  # the power law, where this limit lies
        left = [y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0] for _, y in sets.values()]
        return np.sum(np.square(left)) - both.chisq - threshold

    right = scipy.optimize.brentq(excess_of_both, 1.1, 1.2)
    assert found.lower_note == "" and found.lower == pytest.approx(right, abs=1e-4)
