"""What fits of several data sets, and derived numbers, tell of their uncertainty: against scipy on one dense
problem of all parameters and coefficients."""

import functools

import numpy as np
import pytest
import scipy.stats
from scipy.optimize import least_squares

import varpro as vp
from varpro._errors import InputError

T1, T3 = np.linspace(0.0, 10.0, 60), np.linspace(0.0, 12.0, 40)
MODEL = vp.Exp("fast", tau=0.7) + vp.Exp("slow", tau=4.0)
TAUS = {"run1": (1.0, 4.0), "run2": (1.0, 4.5), "run3": (1.0, 6.0)}


def columns(fast, slow, t):
    return np.stack([np.exp(-t / fast), np.exp(-t / slow)], axis=1)


def noisy(t, taus, coef, seed):
    curve = columns(*taus, t) @ np.array(coef)
    return t, curve + 0.03 * np.random.default_rng(seed).normal(size=curve.shape)


SETS = {
    "run1": noisy(T1, TAUS["run1"], (2.0, 1.0), 1),
    "run2": noisy(T1, TAUS["run2"], (1.5, 2.0), 2),
    "run3": noisy(T3, TAUS["run3"], ((1.0, 2.5), (2.0, 0.5)), 3),
}
# All numbers of the dense problem: lifetimes, then coefficients of each data set, by rows.
NAMES = [
    *("fast.tau", "run1.slow.tau", "run2.slow.tau", "run3.slow.tau"),
    *("run1.fast", "run1.slow", "run2.fast", "run2.slow"),
    *("run3.fast[0]", "run3.fast[1]", "run3.slow[0]", "run3.slow[1]"),
]


def residual(z):
    out, at = [], 4
    for j, (t, y) in enumerate(SETS.values()):
        size = 2 * (1 if y.ndim == 1 else y.shape[1])
        coef = z[at : at + size].reshape(2, -1)
        out.append((y.reshape(len(t), -1) - columns(z[0], z[1 + j], t) @ coef).ravel())
        at += size
    return np.concatenate(out)


def minimum(free, start):
    """The least chi-square over `free(u)`, all numbers as a function of fewer."""
    best = least_squares(
        *(lambda u: residual(free(u)), start), method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    return 2 * best.cost, best


@functools.cache
def fitted():
    fit = vp.fit(MODEL, SETS, share=["fast.*"])
    chisq, best = minimum(lambda u: u, np.r_[[1.0, 4.0, 4.5, 6.0], np.ones(8)])
    dof = best.jac.shape[0] - best.jac.shape[1]
    return fit, best.x, chisq, dof, np.linalg.inv(best.jac.T @ best.jac) * chisq / dof


def without(i, value):
    """All numbers but number i, which is held."""
    return lambda u: np.insert(u, i, value)


def test_intervals_of_several_data_sets_are_those_of_the_dense_problem():
    fit, z, chisq, dof, cov = fitted()
    assert fit.names == tuple(NAMES[:4]) and fit.dof == dof
    asked = [*NAMES[:4], "run1.*", "run2.fast", "run3.fast"]
    labels = [*NAMES[:4], "run1.slow.tau", "run1.fast", "run1.slow", "run2.fast", *NAMES[8:10]]
    places = [NAMES.index(n) for n in dict.fromkeys(labels)]
    t = scipy.stats.t.ppf(0.975, dof)
    by_covariance = fit.ci(0.95, names=asked)
    assert by_covariance.names == tuple(NAMES[i] for i in places)
    half = t * np.sqrt(np.diag(cov)[places])
    np.testing.assert_allclose(by_covariance.upper - by_covariance.value, half, rtol=2e-3)
    joint = fit.covariance_of(asked)
    size = np.sqrt(np.diag(cov)[places])
    # Kaufman's covariance leaves out a term of the residual's size: a few thousandths here.
    np.testing.assert_allclose(
        joint / size / size[:, None], cov[np.ix_(places, places)] / size / size[:, None], atol=4e-3
    )
    ours = fit.ci(0.95, method="profile", names=asked)
    assert ours.names == by_covariance.names and set(ours.lower_notes + ours.upper_notes) == {""}
    for name, limits in zip(ours.names, zip(ours.lower, ours.upper, strict=True), strict=True):
        i = NAMES.index(name)
        for limit in limits:
            least, _ = minimum(without(i, limit), np.delete(z, i))
            # tau^2 has the slope 2 t per standard error, of which a limit is good to 1e-7.
            assert (least - chisq) / (chisq / dof) == pytest.approx(t**2, rel=1e-5), name
    # What no name is given for: free parameters, and the coefficients that are single numbers.
    assert set(fit.ci().names) == {*NAMES[:4], "run1.fast", "run1.slow", "run2.fast", "run2.slow"}
    with pytest.raises(InputError, match="No parameter|no parameter matches 'fast'"):
        fit.ci(names="fast")
    with pytest.raises(InputError, match="no posterior of several"):
        fit.ci(method="posterior")
    with pytest.raises(InputError, match="Ask the whole fit"):
        fit["run1"].ci(method="profile")


def test_a_contour_of_several_data_sets_joins_parameters_and_coefficients_of_different_ones():
    fit, z, chisq, dof, _ = fitted()
    found = fit.contour("run1.fast", "run2.slow", points=3, span=2.0)
    assert found.ok.all()
    i, j = NAMES.index("run1.fast"), NAMES.index("run2.slow")
    for a, b in ((0, 0), (2, 1), (0, 2)):
        pair = found.first[a], found.second[b]
        least, _ = minimum(
            lambda u, pair=pair: np.insert(np.insert(u, i, pair[0]), j, pair[1]),
            np.delete(z, [i, j]),
        )
        assert found.chisq[a, b] == pytest.approx(least, rel=1e-7)
        level = scipy.stats.f.cdf((least - chisq) / 2 / (chisq / dof), 2, dof)
        assert found.level[a, b] == pytest.approx(level, abs=1e-4)
    profile = fit.profile("fast.tau", points=3, span=2.0)
    least, best = minimum(without(0, profile.value[0]), z[1:])
    assert profile.chisq[0] == pytest.approx(least, rel=1e-8)
    np.testing.assert_allclose(profile.alpha[0], np.r_[profile.value[0], best.x[:3]], rtol=1e-5)
    np.testing.assert_allclose(profile.coef["run1"][0], best.x[3:5], rtol=1e-4)
    assert profile.coef["run3"].shape == (3, 2, 2)


def test_bands_of_several_data_sets_are_those_of_the_whole_jacobian():
    fit, z, _, dof, cov = fitted()
    t = np.linspace(0.5, 11.0, 7)
    bands = fit.predict(t, band=0.9)
    assert list(bands) == list(SETS)
    at = 4
    for j, (key, (_, y)) in enumerate(SETS.items()):
        k = 1 if y.ndim == 1 else y.shape[1]

        def curve(u, j=j, at=at, k=k):
            return (columns(u[0], u[1 + j], t) @ u[at : at + 2 * k].reshape(2, k)).ravel()

        steps = 1e-6 * np.diag(z)
        jac = np.stack([(curve(z + h) - curve(z - h)) / (2 * h.sum()) for h in steps], axis=1)
        error = np.sqrt(np.einsum("mi,ij,mj->m", jac, cov, jac)).reshape(bands[key].value.shape)
        np.testing.assert_allclose(bands[key].value.ravel(), curve(z), rtol=1e-5)
        np.testing.assert_allclose(bands[key].stderr, error, rtol=4e-3)
        half = scipy.stats.t.ppf(0.95, dof) * bands[key].stderr
        np.testing.assert_allclose(bands[key].upper - bands[key].value, half, rtol=1e-12)
        at += 2 * k
    some = fit.predict({"run3": t})
    np.testing.assert_array_equal(some["run3"], bands["run3"].value)
    assert list(some) == ["run3"]
    np.testing.assert_array_equal(fit.best_fit["run2"], fit["run2"].fitted)


def test_the_spread_of_replicates_of_several_data_sets_is_that_of_standard_errors():
    fit, _, _, _, _ = fitted()
    boot = fit.bootstrap(384, key=1)
    assert boot.failed == 0 and boot.alpha.shape == (384, 4)
    assert boot.coef["run1"].shape == (384, 2) and boot.coef["run3"].shape == (384, 2, 2)
    for name in fit:
        # A standard deviation of 384 draws is good to 3.6 %; four times that, and curvature adds some.
        ratio = np.asarray(boot.stderr[name]) / fit[name].stderr
        assert np.all((0.82 < ratio) & (ratio < 1.22)), (name, ratio)
    # Data sets are drawn apart: what they do not share does not vary together more than the fit says.
    drawn = np.corrcoef(boot.samples(["run1.slow.tau", "run2.slow.tau", "fast.tau"]), rowvar=False)
    told = fit.correlation[np.ix_([1, 2, 0], [1, 2, 0])]
    np.testing.assert_allclose(drawn, told, atol=4 / np.sqrt(384))
    ends = fit.ci(0.9, method="covariance", names="fast.tau")["fast.tau"]
    ours = boot.ci(0.9, "fast.tau")["fast.tau"]
    assert abs(ours.lower - ends.lower) < 0.4 * fit["fast.tau"].stderr
    same = boot.derive("run2.slow.tau / fast.tau")
    direct = boot.samples("run2.slow.tau")[:, 0] / boot.samples("fast.tau")[:, 0]
    assert same.lower[0] == pytest.approx(np.quantile(direct, 0.025), rel=1e-12)


def test_numbers_that_follow_from_several_data_sets_have_profile_intervals():
    fit, z, chisq, dof, _ = fitted()
    derived = fit.derive({"ratio": "run1.fast / run2.fast", "half": "log(2) * run2.slow.tau"})
    ours = derived.ci(0.95, method="profile")
    t = scipy.stats.t.ppf(0.975, dof)
    a, b = NAMES.index("run1.fast"), NAMES.index("run2.fast")
    for limit in (ours["ratio"].lower, ours["ratio"].upper):

        def held(u, limit=limit):
            full = np.insert(u, a, 0.0)
            full[a] = limit * full[b]
            return full

        least, _ = minimum(held, np.delete(z, a))
        assert (least - chisq) / (chisq / dof) == pytest.approx(t**2, rel=1e-5)
    # Of one parameter a profile is the parameter's own.
    own = fit.ci(method="profile", names="run2.slow.tau")["run2.slow.tau"]
    assert ours["half"].lower == pytest.approx(np.log(2) * own.lower, rel=1e-7)
    assert ours["half"].upper == pytest.approx(np.log(2) * own.upper, rel=1e-7)
    assert ours["ratio"].value == pytest.approx(z[a] / z[b], rel=1e-5)


def test_fits_of_several_data_sets_are_compared():
    fit, _, chisq, dof, _ = fitted()
    shared = vp.fit(MODEL, SETS, share="all")
    found = vp.compare(shared, fit, names=["one", "own"])
    assert found.best == "own"
    np.testing.assert_allclose(found.aicc, [shared.aicc, fit.aicc])
    # A shared lifetime is no lifetime of a data set by its name: the test is made when it is asked for.
    (test,) = vp.compare(shared, fit, names=["one", "own"], nested=True).tests
    f = (shared.chisq - chisq) / 2 / (chisq / dof)
    assert test.f == pytest.approx(f, rel=1e-6) and test.dof == (2, dof)
    with pytest.raises(InputError, match="data sets are run1, run2, run3, and one without a name"):
        vp.compare(fit, fit["run1"])
    with pytest.raises(InputError, match="no evidence of several data sets"):
        vp.compare(shared, fit, by="evidence")


@functools.cache
def peaks():
    x = np.linspace(-5.0, 5.0, 80)
    rng = np.random.default_rng(8)
    y = 2.0 * np.exp(-((x + 1) ** 2)) + 1.0 * np.exp(-((x - 1.2) ** 2) / 1.5)
    y = y + 0.08 * rng.normal(size=x.size)
    model = vp.Gaussian("a", center=-1.0, width=0.7) + vp.Gaussian("b", center=1.2, width=0.9)
    return x, y, vp.fit(model + vp.Constant("bg"), x, y)


def peak_columns(u, x):
    phi = [np.exp(-0.5 * ((x - u[i]) / u[i + 1]) ** 2) for i in (0, 2)]
    return np.stack([*phi, np.ones_like(x)], axis=1)


def test_ratios_of_areas_have_profile_intervals_at_which_a_refit_has_the_rise():
    x, y, fit = peaks()
    asked = {
        "ratio": lambda p: p["b.area"] / p["a.area"],
        "split": "b.center - a.center",
    }
    derived = fit.derive(asked)
    ours = derived.ci(0.9, method="profile")
    t = scipy.stats.t.ppf(0.95, fit.dof)

    def least(full, start):
        def resid(u):
            z = full(u)
            return y - peak_columns(z, x) @ z[4:]

        best = least_squares(resid, start, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
        return 2 * best.cost

    names = ("a.center", "a.width", "b.center", "b.width", "a", "b", "bg")
    z = np.array([fit[name].value for name in names])
    for limit in (ours["ratio"].lower, ours["ratio"].upper):

        def by_ratio(u, limit=limit):
            # area_b = limit area_a, areas being height times width: height b follows.
            return np.r_[u[:5], limit * u[4] * u[1] / u[3], u[5]]

        rise = (least(by_ratio, np.delete(z, 5)) - fit.chisq) / fit.redchi
        assert rise == pytest.approx(t**2, rel=1e-5)
    for limit in (ours["split"].lower, ours["split"].upper):
        rise = (
            least(lambda u, limit=limit: np.r_[u[:2], u[0] + limit, u[2:]], np.delete(z, 2))
            - fit.chisq
        ) / fit.redchi
        assert rise == pytest.approx(t**2, rel=1e-5)
    # The ratio is curved: its limits are not as far below as above, which the covariance cannot say.
    ratio = ours["ratio"]
    assert ratio.upper - ratio.value > 1.01 * (ratio.value - ratio.lower)


def test_a_number_of_one_of_several_right_hand_sides_has_a_profile():
    t, y = SETS["run3"]
    fit = vp.fit(MODEL, t, y)
    derived = fit.derive("fast / (fast + slow)")
    with pytest.raises(InputError, match="give rhs="):
        derived.ci(method="profile")
    ours = derived.ci(0.9, method="profile", rhs=1)
    t_ = scipy.stats.t.ppf(0.95, fit.dof)
    for limit in (ours.lower[0], ours.upper[0]):

        def resid(u, limit=limit):
            # The total of the second right-hand side is u[4], the first of its coefficients `limit` of it.
            coef = np.array([[u[2], limit * u[4]], [u[3], (1 - limit) * u[4]]])
            return (y - columns(u[0], u[1], t) @ coef).ravel()

        start = np.r_[fit.alpha, fit.coef[:, 0], fit.coef[:, 1].sum()]
        best = least_squares(resid, start, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
        rise = (2 * best.cost - fit.chisq) / fit.redchi
        assert rise == pytest.approx(t_**2, rel=1e-5)


def test_what_cannot_refit_says_so(tmp_path):
    _, _, fit = peaks()
    derived = fit.derive("b.area / a.area")
    with pytest.raises(InputError, match="method"):
        derived.ci(method="exact")
    import dataclasses
    import pickle

    assert pickle.loads(pickle.dumps(derived)).source is None
    whole = dataclasses.replace(fit, derived=derived)
    whole.save(tmp_path / "fit.nc")
    again = vp.load(tmp_path / "fit.nc")
    assert again == whole
    with pytest.raises(InputError, match="no fit behind them"):
        again.derived.ci(method="profile")


def test_files_keep_what_refits_of_several_data_sets_take(tmp_path):
    fit, *_ = fitted()
    fit.save(tmp_path / "fit.nc")
    again = vp.load(tmp_path / "fit.nc")
    assert again == fit
    np.testing.assert_array_equal(again.covariance_of(), fit.covariance_of())
