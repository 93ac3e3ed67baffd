"""Noise that is correlated between samples, against scipy's `curve_fit(sigma=C)` and by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.stats

import varpro as vp

M = 40
MODEL = vp.Exp("a", tau=1.0) + vp.Constant("c")
T = np.linspace(0.0, 6.0, M)


def curve(t, tau, a, c):
    return a * np.exp(-t / tau) + c


def slopes(t, tau, a, c):
    fall = np.exp(-t / tau)
    return np.stack([a * fall * t / tau**2, fall, np.ones_like(t)], axis=1)


def covariance(rho=0.8):
    """An autoregressive process whose size grows with the first half of the samples."""
    sd = np.linspace(0.02, 0.05, M)
    return sd[:, None] * sd * rho ** np.abs(np.subtract.outer(np.arange(M), np.arange(M)))


@pytest.fixture
def data(rng):
    c = covariance()
    return curve(T, 1.4, 2.0, 0.3) + np.linalg.cholesky(c) @ rng.standard_normal(M), c


def scipy_fit(t, y, c, absolute):
    popt, pcov = scipy.optimize.curve_fit(
        *(curve, t, y, [1.4, 2.0, 0.3], c, absolute), jac=slopes, xtol=1e-15, ftol=1e-15
    )
    r = scipy.linalg.solve_triangular(np.linalg.cholesky(c), y - curve(t, *popt), lower=True)
    return popt, np.sqrt(np.diag(pcov)), r


def numbers(fit):
    names = ("a.tau", "a", "c")
    return np.array([[fit[n].value, fit[n].stderr] for n in names], float).T


@pytest.mark.parametrize("absolute", [True, False])
def test_values_and_errors_are_those_of_curve_fit(data, absolute):
    y, c = data
    fit = vp.fit(MODEL, T, y, sigma=c, absolute_sigma=absolute)
    popt, perr, white = scipy_fit(T, y, c, absolute)
    assert fit.success
    np.testing.assert_allclose(numbers(fit)[0], popt, rtol=1e-8)
    np.testing.assert_allclose(numbers(fit)[1], perr, rtol=1e-8)
    # Chi-square is that of white residuals; residual and curve stay in the units of the data.
    np.testing.assert_allclose(fit.chisq, white @ white, rtol=1e-9)
    np.testing.assert_allclose(np.sum(fit.weighted_resid**2), fit.chisq, rtol=1e-12)
    np.testing.assert_allclose(fit.resid, y - curve(T, *popt), atol=1e-9)
    np.testing.assert_allclose(fit.predict(), curve(T, *popt), atol=1e-9)
    assert "noise correlated" in fit.report()


def test_what_is_left_out_is_left_out_of_the_covariance(data):
    y, c = data
    y = y.copy()
    y[[3, 20]] = np.nan
    used = np.isfinite(y) & (T < 5.0)
    fit = vp.fit(MODEL, T, y, sigma=c, absolute_sigma=True, mask=T < 5.0, nan="drop")
    popt, perr, white = scipy_fit(T[used], y[used], c[np.ix_(used, used)], True)
    np.testing.assert_allclose(numbers(fit)[0], popt, rtol=1e-8)
    np.testing.assert_allclose(numbers(fit)[1], perr, rtol=1e-8)
    np.testing.assert_allclose(fit.chisq, white @ white, rtol=1e-9)
    assert fit.num_data == used.sum()


def test_other_forms_of_the_matrix_give_the_same_fit(data):
    y, c = data
    fit = vp.fit(MODEL, T, y, sigma=c)
    forms = [
        scipy.stats.Covariance.from_cholesky(np.linalg.cholesky(c)),
        scipy.stats.Covariance.from_precision(np.linalg.inv(c), c),
        scipy.sparse.csr_array(c),
        c.tolist(),
        4.0 * c,  # up to a factor
    ]
    for form in forms:
        np.testing.assert_allclose(
            numbers(vp.fit(MODEL, T, y, sigma=form)), numbers(fit), rtol=1e-7
        )
    plain = vp.fit(MODEL, T, y, sigma=np.sqrt(np.diag(c)))
    diagonal = vp.fit(MODEL, T, y, sigma=np.diag(np.diag(c)))
    np.testing.assert_array_equal(numbers(plain), numbers(diagonal))


def test_right_hand_sides_constraints_and_intervals_know_the_covariance(data, tmp_path):
    y, c = data
    factor = np.linalg.cholesky(c)
    both = np.stack([y, 0.5 * y + 0.1], axis=1)
    fit = vp.fit(MODEL, T, both, sigma=c, absolute_sigma=True, nonnegative=True)

    def white(theta):
        model = np.stack([curve(T, theta[0], *theta[1:3]), curve(T, theta[0], *theta[3:])], axis=1)
        return scipy.linalg.solve_triangular(factor, both - model, lower=True).ravel()

    least = scipy.optimize.least_squares(white, [1.4, 2.0, 0.3, 1.0, 0.2], xtol=1e-15, ftol=1e-15)
    np.testing.assert_allclose(fit["a.tau"].value, least.x[0], rtol=1e-7)
    np.testing.assert_allclose(fit.chisq, 2 * least.cost, rtol=1e-10)
    error = np.sqrt(np.linalg.inv(least.jac.T @ least.jac)[0, 0])
    np.testing.assert_allclose(fit["a.tau"].stderr, error, rtol=1e-5)
    # Of one curve, the profile: chi-square rises by one at its ends.
    one = vp.fit(MODEL, T, y, sigma=c, absolute_sigma=True)
    ends = one.ci(0.6826894921370859, "profile")["a.tau"]
    for end in (ends.lower, ends.upper):
        best = np.linalg.lstsq(
            np.linalg.solve(factor, np.stack([np.exp(-T / end), np.ones(M)], axis=1)),
            np.linalg.solve(factor, y),
            rcond=None,
        )[1][0]
        np.testing.assert_allclose(best - one.chisq, 1.0, rtol=1e-3)
    with pytest.raises(vp.InputError, match="no bootstrap of correlated noise"):
        one.bootstrap(8)
    one.save(tmp_path / "fit.nc")
    again = vp.load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.weighted_resid, one.weighted_resid)
    apart = vp.fit(MODEL, T, y, sigma=np.sqrt(np.diag(c)), absolute_sigma=True)
    with pytest.raises(vp.InputError, match="weights, sigma or masks differ"):
        vp.compare(one, apart)
    # Neighbours are correlated, and white residuals are not: the tests of randomness look at those.
    assert {"runs", "autocorrelation"}.isdisjoint(finding.code for finding in again.diagnostics)


def test_data_sets_have_covariances_of_their_own(data):
    y, c = data
    other = covariance(0.3)
    sets = {"one": (T, y), "two": (T, 0.5 * y + 0.1)}
    fit = vp.fit(MODEL, sets, sigma={"one": c, "two": other}, absolute_sigma=True)
    factors = [np.linalg.cholesky(c), np.linalg.cholesky(other)]

    def white(theta):
        rest = y - curve(T, *theta[:3]), sets["two"][1] - curve(T, theta[0], *theta[3:])
        pairs = zip(factors, rest, strict=True)
        return np.concatenate([scipy.linalg.solve_triangular(f, r, lower=True) for f, r in pairs])

    least = scipy.optimize.least_squares(white, [1.4, 2.0, 0.3, 1.0, 0.2], xtol=1e-15, ftol=1e-15)
    np.testing.assert_allclose(fit["a.tau"].value, least.x[0], rtol=1e-7)
    np.testing.assert_allclose(fit.chisq, 2 * least.cost, rtol=1e-10)


def test_solve_is_differentiable_in_the_covariance(data):
    y, c = data
    columns = lambda alpha, t: jnp.stack([jnp.exp(-t / alpha), jnp.ones_like(t)], axis=1)  # noqa: E731

    @jax.jit
    def tau(c, y):
        return vp.solve(columns, y, 1.0, T, sigma=c).value

    fit = vp.fit(MODEL, T, y, sigma=c)
    np.testing.assert_allclose(tau(c, y), fit["a.tau"].value, rtol=1e-8)
    # Along a change that keeps the matrix symmetric; differences of a search that ends 1e-10 from the optimum.
    by_c, by_y = jax.jit(jax.grad(tau, argnums=(0, 1)))(c, y)
    step = np.outer(T, T) * 1e-5
    change = (tau(c + step, y) - tau(c - step, y)) / 2
    np.testing.assert_allclose(np.sum(by_c * step), change, rtol=1e-4)
    step = 1e-3 * np.cos(T)
    np.testing.assert_allclose(by_y @ step, (tau(c, y + step) - tau(c, y - step)) / 2, rtol=1e-4)
    bad = jax.jit(lambda c: vp.solve(columns, y, 1.0, T, sigma=c))(c - 0.01 * np.eye(M))
    assert not bool(bad.result == vp.RESULTS.successful)


def test_what_is_no_covariance_is_refused(data):
    y, c = data
    skew, indefinite, hole = c.copy(), c - 0.0003 * np.eye(M), c.copy()
    skew[0, 1] *= 1.1
    hole[2, 5] = np.nan
    wrong: Any
    for wrong, says in (
        (skew, r"entry \(0, 1\)"),
        (indefinite, "not positive definite"),
        (hole, r"non-finite covariance at \(2, 5\)"),
        (-c, "variance of sample 0 is -0.0004"),
        (c[:-1, :-1], r"expected \(40,\).*\(40, 40\), their covariance"),
        (c + 1j, "real"),
        (scipy.sparse.csr_array(c[:5, :5]), "expected"),
    ):
        with pytest.raises(vp.InputError, match=says):
            vp.fit(MODEL, T, y, sigma=wrong)
    for noise in ("poisson", "huber"):
        with pytest.raises(vp.InputError, match="cannot be correlated"):
            vp.fit(MODEL, T, np.abs(np.round(y)), sigma=c, noise=noise)
    square = np.tile(y[:, None], (1, M))
    with pytest.raises(vp.InputError, match="covariance of samples or the standard deviation"):
        vp.fit(MODEL, T, square, sigma=c)
    apart = np.ones((M, 2), bool)
    apart[3, 1] = False
    with pytest.raises(vp.InputError, match="use the same samples"):
        vp.fit(MODEL, T, square[:, :2], sigma=c, mask=apart)
    with pytest.raises(vp.InputError, match="covariance"):
        vp.fit(MODEL, T, square[:, :3], sigma=c, share="none")
    with pytest.raises(vp.InputError, match="covariance"):
        vp.fit_many(MODEL, T, square[:3], sigma=c)
    with pytest.raises(vp.InputError, match="not both"):
        vp.solve(MODEL, y, None, T, weights=np.ones(M), sigma=c)
