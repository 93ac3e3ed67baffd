"""Penalties on areas of spectra, which couple right-hand sides, against dense problems of all parameters."""

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.stats

import varpro as vp

NM = np.array([400.0, 450.0, 500.0, 550.0, 600.0])
T = np.linspace(0.0, 20.0, 40)
RNG = np.random.default_rng(4)
TRUE = np.array([[2.0, 1.5, 1.0, 0.6, 0.4], [1.0, 0.75, 1.5, 2.0, 1.2]])
Y = np.exp(-T[:, None] / np.array([1.0, 2.0])) @ TRUE + 0.03 * RNG.normal(size=(40, 5))
LABELLED = pd.DataFrame(Y, columns=pd.Index(NM, name="wavelength"))
MODEL = vp.Exp("a", tau=0.8) + vp.Exp("b", tau=2.5)
NONE = np.zeros(5)
# Rows over all coefficients (2, 5): of a over all, of a within 400 to 500 less 1.5 times b within 450 to 600.
ALL = 3.0 * np.stack([np.ones(5), -np.ones(5)])
SOME = 2.0 * np.stack([np.r_[1.0, 1, 1, 0, 0], -1.5 * np.r_[0.0, 1, 1, 1, 1]])
AREAS = (
    vp.EqualArea("a", "b", 3.0),
    vp.EqualArea("a", "b", 2.0, ratio=1.5, within=(400, 500), second_within=(450, 600)),
)


def dense(rows, y=Y, sigma=1.0, extra=lambda c: [], start=1.0):
    """Least squares of lifetimes and all coefficients with the penalties as residuals: values, the inverse of the
    normal matrix, chi-square of the data, and how many parameters these determine."""
    k = y.shape[1]

    def resid(z):
        c = z[2:].reshape(2, k)
        data = (np.exp(-T[:, None] / z[:2]) @ c - y) / np.reshape(sigma, (-1, 1))
        return np.r_[data.ravel(), [np.sum(row * c) for row in rows], extra(c)]

    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 4000}
    first = np.r_[0.9, 2.2, np.full(2 * k, start)]
    end = scipy.optimize.least_squares(resid, first, x_scale="jac", jac="3-point", **tight)
    inverse = np.linalg.inv(end.jac.T @ end.jac)
    data = end.jac[: y.size]
    return end.x, inverse, np.sum(end.fun[: y.size] ** 2), np.trace(data @ inverse @ data.T)


def same(fit, rows, names, **how):
    z, inverse, chisq, _ = dense(rows, **how)
    np.testing.assert_allclose(fit.alpha, z[:2], rtol=1e-6)
    np.testing.assert_allclose(fit.coef.reshape(2, -1), z[2:].reshape(2, -1), rtol=1e-6)
    np.testing.assert_allclose(fit.chisq, chisq, rtol=1e-8)
    # As under a ridge: effective coefficients are those of the data for given lifetimes.
    phi = np.exp(-T[:, None] / z[:2]) / np.reshape(how.get("sigma", 1.0), (-1, 1))
    whole = np.kron(phi, np.eye(z.size // 2 - 1))
    below = np.stack([row.ravel() for row in rows])
    hat = whole @ np.linalg.inv(whole.T @ whole + below.T @ below) @ whole.T
    np.testing.assert_allclose(fit.num_linear, np.trace(hat), rtol=1e-6)
    scale = chisq / (len(whole) - 2 - np.trace(hat))
    found = fit.covariance_of(names, rhs=range(z.size // 2 - 1))
    np.testing.assert_allclose(
        found, scale * inverse, rtol=2e-4, atol=1e-6 * np.abs(scale * inverse).max()
    )
    return z, scale * inverse


def test_areas_are_the_joint_optimum_of_a_dense_fit_with_its_whole_covariance():
    fit = vp.fit(MODEL, T, LABELLED, equal_areas=AREAS[0])
    assert fit.success
    _, covariance = same(fit, [ALL], ["a.tau", "b.tau", "a", "b"])
    errors = np.sqrt(np.diagonal(covariance))
    np.testing.assert_allclose(fit.alpha_stderr, errors[:2], rtol=1e-4)
    np.testing.assert_allclose(fit.coef_stderr, errors[2:].reshape(2, 5), rtol=1e-4)
    free = dense([])[0][2:].reshape(2, 5)
    apart = [abs(np.sum(a - b)) for a, b in ((fit["a"].value, fit["b"].value), free)]
    assert apart[0] < 0.9 * apart[1]


def test_several_penalties_with_intervals_weights_and_a_relation_are_those_of_the_dense_fit():
    sigma = 0.02 + 0.002 * T
    fit = vp.fit(MODEL, T, LABELLED, sigma=sigma, equal_areas=AREAS)
    same(fit, [ALL, SOME], ["a.tau", "b.tau", "a", "b"], sigma=sigma)
    # c follows a: what its area adds is added to that of a.
    three = MODEL + vp.Exp("c", tau=vp.Param(7.0, fixed=True))
    area = vp.EqualArea("b", "c", 2.0)
    fit = vp.fit(three, T, LABELLED, relations={"c": {"a": 0.2}}, equal_areas=area)

    def resid(z):
        c = z[2:].reshape(2, 5)
        phi = np.exp(-T[:, None] / z[:2])
        phi[:, 0] += 0.2 * np.exp(-T / 7.0)
        return np.r_[(phi @ c - Y).ravel(), 2.0 * np.sum(c[1] - 0.2 * c[0])]

    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    first = 1.01 * np.r_[fit.alpha[:2], fit.coef[:2].ravel()]
    end = scipy.optimize.least_squares(resid, first, x_scale="jac", **tight)
    np.testing.assert_allclose(fit.alpha[:2], end.x[:2], rtol=1e-6)
    np.testing.assert_allclose(fit.coef[:2].ravel(), end.x[2:], rtol=1e-5)
    scale = fit.chisq / fit.dof
    whole = fit.covariance_of(["a.tau", "b.tau", "a", "b"], rhs=range(5)) / scale
    np.testing.assert_allclose(whole, np.linalg.inv(end.jac.T @ end.jac), rtol=1e-3, atol=1e-6)


def test_bands_and_profiles_of_lifetimes_are_those_of_the_dense_fit():
    fit = vp.fit(MODEL, T, LABELLED, equal_areas=AREAS[0])
    z, inverse, chisq, _ = dense([ALL])
    scale = chisq / fit.dof
    # The curve of the third right-hand side at t = 3 by all parameters.
    slope = np.zeros(12)
    at = 3.0
    for i in range(2):
        slope[i] = z[2 + 5 * i + 2] * np.exp(-at / z[i]) * at / z[i] ** 2
        slope[2 + 5 * i + 2] = np.exp(-at / z[i])
    band = fit.predict(np.array([at]), band=0.95)
    np.testing.assert_allclose(band.stderr[0, 2] ** 2, scale * slope @ inverse @ slope, rtol=1e-4)
    found = fit.ci(method="profile", names=["b.tau"])["b.tau"]
    reach = scipy.stats.t.ppf(0.975, fit.dof)

    def rise(tau):
        def resid(z):
            c = z[1:].reshape(2, 5)
            data = np.exp(-T[:, None] / np.array([z[0], tau])) @ c - Y
            return np.r_[data.ravel(), np.sum(ALL * c)]

        end = scipy.optimize.least_squares(resid, np.r_[z[0], z[2:]], x_scale="jac")
        return 2.0 * end.cost

    least = chisq + np.sum(ALL * z[2:].reshape(2, 5)) ** 2
    for side in (found.lower, found.upper):
        np.testing.assert_allclose(rise(side) - least, scale * reach**2, rtol=2e-3)


def test_each_of_several_data_sets_has_the_penalty_of_its_own_coefficients():
    sets = {"one": (T, LABELLED), "two": (T, LABELLED * 2.0)}
    fit = vp.fit(MODEL, sets, equal_areas=AREAS[0])

    def resid(z):
        c = z[2:].reshape(2, 10)
        data = np.exp(-T[:, None] / z[:2]) @ c - np.concatenate([Y, 2.0 * Y], axis=1)
        return np.r_[data.ravel(), np.sum(ALL * c[:, :5]), np.sum(ALL * c[:, 5:])]

    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    end = scipy.optimize.least_squares(resid, np.r_[0.9, 2.2, np.ones(20)], x_scale="jac", **tight)
    found = np.concatenate([fit["one"].coef, fit["two"].coef], axis=1)
    np.testing.assert_allclose(fit.alpha, end.x[:2], rtol=1e-6)
    np.testing.assert_allclose(found.ravel(), end.x[2:], rtol=1e-5)
    errors = np.sqrt(np.diagonal(np.linalg.inv(end.jac.T @ end.jac)) * fit.redchi)
    np.testing.assert_allclose(fit.alpha_stderr, errors[:2], rtol=1e-3)
    mine = np.concatenate([fit["one"].coef_stderr, fit["two"].coef_stderr], axis=1)
    np.testing.assert_allclose(mine.ravel(), errors[2:], rtol=1e-3)


def test_a_fit_with_equal_areas_is_saved_and_bootstrapped(tmp_path):
    fit = vp.fit(MODEL, T, LABELLED, equal_areas=AREAS[0])
    fit.save(tmp_path / "fit.nc")
    again = vp.load(tmp_path / "fit.nc")
    names = ["a", "b"]
    np.testing.assert_array_equal(
        again.covariance_of(names, rhs=[0, 3]), fit.covariance_of(names, rhs=[0, 3])
    )
    drawn = again.bootstrap(60, key=2, kind="residual")
    spread = np.nanstd(np.asarray(drawn.alpha)[:, :2], axis=0)
    assert np.all(np.abs(spread / fit.alpha_stderr - 1) < 0.4)


def test_penalties_that_cannot_be_are_refused_in_words():
    area = AREAS[0]
    wrong = [
        ({"equal_areas": vp.EqualArea("a", "c", 1.0)}, "no column 'c'"),
        ({"equal_areas": "a"}, "expected vp.EqualArea"),
        ({"equal_areas": area, "nonnegative": True}, "nonnegative"),
        ({"equal_areas": area, "noise": "huber"}, "huber"),
        ({"equal_areas": area, "ridge": "gcv"}, "gcv"),
        ({"equal_areas": area, "compress": True}, "couples"),
        ({"equal_areas": area, "sigma": np.abs(Y) + 1}, "weights or masks that differ"),
        ({"equal_areas": vp.EqualArea("a", "b", 1.0, within=(700, 800))}, "700"),
    ]
    for options, words in wrong:
        with pytest.raises(vp.InputError, match=words):
            vp.fit(MODEL, T, LABELLED, **options)
    with pytest.raises(vp.InputError, match="coupled"):
        fit = vp.fit(MODEL, T, LABELLED, equal_areas=area)
        fit.ci(method="profile", names=["a"])
    for arguments in (("a", "b", 0.0), ("a", "a", 1.0), ("a", 3, 1.0)):
        with pytest.raises(vp.InputError, match="EqualArea"):
            vp.EqualArea(*arguments)
