"""Likelihoods and robust losses of data that share nonlinear parameters, held against scipy and numpy."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special

import varpro as vp

T = (np.arange(48) + 0.5) * 0.15
MODEL = vp.Exp("e", tau=1.5) + vp.Constant("b")
TRUTH = {"a": (2.0, 90.0, 3.0), "b": (2.0, 25.0, 1.0), "c": (2.0, 8.0, 0.5)}
SCALE = 0.05


def curve(tau, a, b):
    return a * np.exp(-T / tau) + b


def sets_of(noise, rng):
    """Three data sets with one lifetime, each with counts or with outliers of its own."""
    sets = {}
    for key, (tau, a, b) in TRUTH.items():
        mu = curve(tau, a, b)
        if noise == "poisson":
            sets[key] = (T, rng.poisson(mu).astype(float))
        else:
            wild = rng.random(T.size) < 0.1
            sets[key] = (T, mu / 20 + SCALE * rng.normal(size=T.size) * np.where(wild, 15, 1))
    return sets


LOSSES = {
    "huber": lambda z: np.where(z < 1, z**2, 2 * z - 1),
    "cauchy": lambda z: np.log1p(z**2),
}
WEIGHTS = {
    "huber": lambda z: 1 / np.maximum(z, 1),
    "cauchy": lambda z: 1 / (1 + z**2),
}


def cost_and_slope(noise, mu, y):
    """The cost of some values and its derivative by the model."""
    if noise == "poisson":
        return np.sum(mu - scipy.special.xlogy(y, mu)), 1 - y / mu
    z = np.abs(y - mu) / SCALE
    return 0.5 * SCALE**2 * np.sum(LOSSES[noise](z)), -WEIGHTS[noise](z) * (y - mu)


def whole_cost(noise, sets):
    """The cost of all sets and its gradient, by the lifetime and two coefficients of each."""

    def cost(theta):
        total, gradient = 0.0, np.zeros(theta.size)
        for i, (_, y) in enumerate(sets.values()):
            tau, a, b = theta[0], theta[1 + 2 * i], theta[2 + 2 * i]
            mu = curve(tau, a, b)
            if noise == "poisson" and mu.min() <= 0:
                return np.inf, gradient
            one, slope = cost_and_slope(noise, mu, y)
            e = np.exp(-T / tau)
            total += one
            gradient[0] += slope @ (a * e * T / tau**2)
            gradient[1 + 2 * i], gradient[2 + 2 * i] = slope @ e, slope.sum()
        return total, gradient

    return cost


# Of the losses the one with a corner and the one that bends back; all by themselves: tests/test_noise.py.
@pytest.mark.parametrize("noise", ["poisson", "cauchy", "huber"])
def test_data_sets_with_one_lifetime_reach_the_minimum_of_their_whole_cost(noise, rng):
    sets = sets_of(noise, rng)
    fit = vp.fit(MODEL, sets, noise=noise, loss_scale=SCALE, init={"e.tau": 1.5})
    assert fit.success and fit.noise == noise
    theta = np.array([fit["e.tau"].value, *(c for one in fit.sets.values() for c in one.coef)])
    cost = whole_cost(noise, sets)
    # Scaled by what theta is: BFGS then ends where its gradient is rounding.
    best = scipy.optimize.minimize(
        lambda u: (lambda f, g: (f, g * theta))(*cost(u * theta)),
        np.full(theta.size, 1.01),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-9, "maxiter": 2000},
    )
    np.testing.assert_allclose(theta, best.x * theta, rtol=1e-6)
    assert cost(theta)[0] <= best.fun + 1e-10 * abs(best.fun)
    # Errors of the lifetime, from the numbers of all sets.
    rows = []
    for one in fit.sets.values():
        tau, (a, b) = fit["e.tau"].value, one.coef
        mu, e = curve(tau, a, b), np.exp(-T / tau)
        w = 1 / np.sqrt(mu) if noise == "poisson" else np.ones_like(mu)
        i = len(rows)
        jac = np.zeros((T.size, 7))
        jac[:, 0], jac[:, 1 + 2 * i], jac[:, 2 + 2 * i] = a * e * T / tau**2, e, 1
        rows.append(w[:, None] * jac)
        assert one.noise == noise and one.fitted == pytest.approx(mu)
    jac = np.concatenate(rows)
    unit = np.sqrt(np.linalg.inv(jac.T @ jac)[0, 0])
    if noise == "poisson":
        assert fit["e.tau"].stderr == pytest.approx(unit, rel=1e-6)
        with np.errstate(divide="ignore", invalid="ignore"):
            deviance = sum(
                2 * np.sum(scipy.special.xlogy(y, y / one.fitted) - y + one.fitted)
                for (_, y), one in zip(sets.values(), fit.sets.values(), strict=True)
            )
        assert fit.aic == pytest.approx(deviance + 2 * 7, rel=1e-9)
    else:
        # Huber (1981), 7.6, of all residuals together.
        z = np.concatenate(
            [y - one.fitted for (_, y), one in zip(sets.values(), fit.sets.values(), strict=True)]
        )
        z = np.abs(z) / SCALE
        psi = SCALE * WEIGHTS[noise](z) * z
        step = 1e-6
        bend = [(WEIGHTS[noise](s) * s) for s in (z + step, z - step)]
        bend = (bend[0] - bend[1]) / (2 * step)
        n = z.size
        factor = (1 + 7 / n * np.var(bend) / np.mean(bend) ** 2) / np.mean(bend)
        error = unit * factor * np.sqrt(np.sum(psi**2) / (n - 7))
        # A difference across the corner of huber's loss is half of it.
        assert fit["e.tau"].stderr == pytest.approx(error, rel=1e-4)


def likeliest_by_column(tau, y, c):
    """The coefficients (k, 2) of least Poisson cost for one lifetime, by Newton's method."""
    phi = np.stack([np.exp(-T / tau), np.ones_like(T)], axis=1)
    for _ in range(50):
        mu = c @ phi.T
        slope = (1 - y / mu) @ phi
        bend = np.einsum("km,mi,mj->kij", y / mu**2, phi, phi)
        step = -np.linalg.solve(bend, slope[..., None])[..., 0]
        down = np.where(step @ phi.T < 0, -mu / (step @ phi.T), np.inf).min(axis=1)
        c = c + np.minimum(1.0, 0.9 * down)[:, None] * step
        if np.abs(np.sum(slope * step, axis=1)).max() < 1e-14:
            break
    return c


def test_a_thousand_columns_with_one_lifetime_reach_the_minimum_of_their_likelihood(rng):
    a, b = rng.uniform(5.0, 60.0, 1000), rng.uniform(1.0, 4.0, 1000)
    y = rng.poisson(a * np.exp(-T[:, None] / 2.0) + b).astype(float)
    fit = vp.fit(MODEL, T, y, noise="poisson")
    assert fit.success and fit.coef.shape == (2, 1000)

    def slope(tau):
        c = likeliest_by_column(tau, y.T, np.stack([a, b], axis=1))
        e = np.exp(-T / tau)
        mu = c @ np.stack([e, np.ones_like(T)])
        return np.sum((1 - y.T / mu) * (c[:, :1] * e * T / tau**2))

    tau = scipy.optimize.brentq(slope, 1.8, 2.2, xtol=1e-12)
    assert fit["e.tau"].value == pytest.approx(tau, rel=1e-6)
    best = likeliest_by_column(tau, y.T, np.stack([a, b], axis=1))
    np.testing.assert_allclose(fit.coef.T, best, rtol=1e-5)
    # The error from the Schur complement of all columns.
    e = np.exp(-T / tau)
    information = 0.0
    for c in best:
        w = 1 / np.sqrt(c[0] * e + c[1])
        rest = w * c[0] * e * T / tau**2
        phi = w[:, None] * np.stack([e, np.ones_like(T)], axis=1)
        rest = rest - phi @ np.linalg.lstsq(phi, rest, rcond=None)[0]
        information += rest @ rest
    assert fit["e.tau"].stderr == pytest.approx(information**-0.5, rel=1e-4)
    # A dead column harms nobody.
    y[:, 7] = 0.0
    dead = vp.fit(MODEL, T, y, noise="poisson")
    assert dead.success and np.abs(dead.coef[:, 7]).max() < 1e-6
    assert dead["e.tau"].value == pytest.approx(tau, rel=0.01)
    assert dead["e.tau"].stderr == pytest.approx(information**-0.5, rel=0.01)
    # As many data sets with one column each say the same.
    few = vp.fit(MODEL, {str(i): (T, y[:, i]) for i in range(3)}, noise="poisson")
    some = vp.fit(MODEL, T, y[:, :3], noise="poisson", nonnegative=True)
    assert few.success and some.success
    assert few["e.tau"].value == pytest.approx(some["e.tau"].value, rel=1e-6)
    assert few["e.tau"].stderr == pytest.approx(some["e.tau"].stderr, rel=1e-5)
    for i, one in enumerate(few.sets.values()):
        np.testing.assert_allclose(one.coef, some.coef[:, i], rtol=1e-5)
        np.testing.assert_allclose(one.coef_stderr, some.coef_stderr[:, i], rtol=1e-5)
