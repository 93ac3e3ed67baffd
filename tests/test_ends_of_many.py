"""Where the searches of many curves end: lifetimes are sought by their inverses, past infinity and up to it, and none
that has run off is a success."""

import numpy as np
import pytest
import scipy.optimize

import varpro as vp
from varpro._status import CurveStatus

X = np.linspace(0.0, 20.0, 81)
DECAY = vp.Exp("e", tau=1.0) + vp.Constant("c")


def noise(seed, shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_waves_of_many_curves_that_do_not_decay_end_there():
    y = np.cos(2 * np.pi * 0.31 * X + 0.4) + 0.05 * noise(3, (16, X.size))
    fit = vp.fit_many(vp.Oscillation("o", freq=0.3, tau=10.0), X, y)

    def left(freq, y):
        phi = np.stack([np.cos(2 * np.pi * freq * X), np.sin(2 * np.pi * freq * X)], axis=1)
        return np.sum((y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]) ** 2)

    still = [scipy.optimize.minimize_scalar(left, (0.3, 0.31, 0.32), args=(one,)).fun for one in y]
    assert fit.success.all(), fit.counts
    tau = fit["o.tau"].value
    # In half of all draws growth would fit best, which a wave has not: it ends at 1e8 times its start.
    assert (tau > 0).all() and 3 < np.sum(tau > 1e8) < 13
    assert (fit.chisq <= np.array(still) * (1 + 1e-6)).all()

    def resid(theta, y):
        f, rate, a, b = theta
        return np.exp(-rate * X) * (a * np.cos(f * X) + b * np.sin(f * X)) - y

    for i in range(4):
        start, low = [2 * np.pi * 0.31, 0.01, 0.9, -0.4], [-np.inf, 0.0, -np.inf, -np.inf]
        box = (low, np.full(4, np.inf))
        tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
        known = scipy.optimize.least_squares(resid, start, args=(y[i],), bounds=box, **tight)
        np.testing.assert_allclose(fit.chisq[i], 2 * known.cost, rtol=1e-6)


@pytest.mark.parametrize("start", [1.0, 30.0])
def test_lifetimes_of_many_curves_pass_from_decay_to_growth(start):
    taus = np.array([-8.0, 4.0, -40.0, -3.0, 12.0])
    y = np.exp(-X / taus[:, None]) + 5.0 + 0.01 * noise(1, (5, X.size))
    fit = vp.fit_many(DECAY, X, y, init={"e.tau": start})
    assert fit.success.all(), fit.counts
    for i, tau in enumerate(taus):
        known, covariance = scipy.optimize.curve_fit(
            lambda x, tau, a, c: a * np.exp(-x / tau) + c, X, y[i], [tau, 1.0, 5.0], xtol=1e-14
        )
        error = covariance[0, 0] ** 0.5
        assert abs(fit["e.tau"].value[i] - known[0]) < 1e-3 * error
        np.testing.assert_allclose(fit["e.tau"].stderr[i], error, rtol=1e-3)


def test_lifetimes_that_curves_have_of_their_own_pass_from_decay_to_growth_beside_shared_ones():
    own = np.array([-8.0, 9.0, -30.0, 15.0])
    y = np.exp(-X / own[:, None]) + 2 * np.exp(-X / 0.8) + 0.002 * noise(2, (4, X.size))
    model = vp.Exp("fast", tau=1.0) + vp.Exp("own", tau=6.0)
    fit = vp.fit_many(model, X, y, share="fast.tau")
    assert fit.success.all(), fit.counts
    away = (fit["own.tau"].value - own) / fit["own.tau"].stderr
    assert (np.abs(away) < 5).all()


@pytest.mark.parametrize("bounds", [{}, {"e.tau": (0.0, np.inf)}])
def test_no_lifetime_that_has_run_off_is_a_success(bounds):
    # Beside a constant a decay of a million spans is a straight line, and what tells its lifetime is rounding.
    start = np.logspace(-2.5, 0.0, 1500)
    for tau in (1.2, 6.0):
        y = 4 * np.exp(-X / tau) + 0.5 + 0.03 * noise(4, X.size)
        both = np.broadcast_to(y, (start.size, X.size))
        fit = vp.fit_many(DECAY, X, both, init={"e.tau": start}, bounds=bounds)
        best = vp.fit(DECAY, X, y, init={"e.tau": tau}).chisq
        assert (fit.chisq[fit.success] <= best * (1 + 1e-6)).all()
        assert fit.success.mean() > 0.3
        lost = fit.status == CurveStatus.UNDETERMINED
        assert np.isinf(fit["e.tau"].stderr[lost]).all()


def test_bounds_of_many_curves_are_kept_exactly_where_lifetimes_are_sought_by_their_inverse(rng):
    # The inverse of an inverse is rounded.
    upper = np.array([b for b in rng.uniform(1.0, 2.0, 400) if 1 / (1 / b) != b][:8])
    lower = np.where(np.arange(8) < 4, 0.1, upper)
    y = np.broadcast_to(np.exp(-X / 4.0) + 0.1 + 1e-3 * noise(5, X.size), (8, X.size))
    fit = vp.fit_many(DECAY, X, y, init={"e.tau": 0.9}, bounds={"e.tau": (lower, upper)})
    # Four reach their bound, and four are held there.
    np.testing.assert_array_equal(fit["e.tau"].value, upper)
    assert np.isnan(fit["e.tau"].stderr[:4]).all() and fit.success.all()
