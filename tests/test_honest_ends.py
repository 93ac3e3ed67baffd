"""No success that is none: random robust, Poisson, bounded and shared problems, judged by numpy and scipy.

A few cases in the tests; `VARPRO_TEST_CASES=3000` runs as many of each kind. Shapes and models are few, so
that all cases share the programs of a handful.
"""

import os

import numpy as np
import pytest
import scipy.optimize

import varpro as vp

CASES = int(os.environ.get("VARPRO_TEST_CASES", "40"))
T = np.linspace(0.0, 8.0, 40)
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=3.0) + vp.Constant("bg")
# What an undamped step may still promise to take off the cost, relative: a thousandth of a standard
# error for some forty data. The searches stop far below.
PROMISE = 1e-7

# rho'(z) / (2 z) and the weighted cost of each loss, from the definitions of scipy.optimize.least_squares.
LOSSES = {
    "huber": (lambda z: 1 / np.maximum(z, 1), lambda z: np.where(z <= 1, z**2, 2 * z - 1)),
    "cauchy": (lambda z: 1 / (1 + z**2), lambda z: np.log1p(z**2)),
}


def model(theta):
    """The curve (40,) and its derivative (40, 5) by both lifetimes and the coefficients."""
    taus, c = theta[:2], theta[2:]
    phi = np.stack([np.exp(-T / taus[0]), np.exp(-T / taus[1]), np.ones_like(T)], axis=1)
    moved = phi[:, :2] * (T[:, None] / taus**2) * c[:2]
    return phi @ c, np.concatenate([moved, phi], axis=1)


def slope_and_weight(noise, mu, y, scale):
    """The derivative of the cost by the curve, the square of the weight that goes with it, and the cost."""
    if noise == "poisson":
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.where(y > 0, y * np.log(np.where(y > 0, y, 1.0) / mu), 0.0)
            return 1 - y / mu, 1 / np.maximum(mu, 1e-12), np.sum(mu - y + log)
    if noise == "normal":
        return mu - y, np.ones_like(y), 0.5 * np.sum((y - mu) ** 2)
    weight, loss = LOSSES[noise]
    z = np.abs(y - mu) / scale
    return weight(z) * (mu - y), weight(z), 0.5 * scale**2 * np.sum(loss(z))


def promised(gradient, matrix, free):
    """What a Newton step of the free parameters takes off the cost."""
    unit = np.sqrt(np.diag(matrix))
    unit = np.where(unit > 0, unit, 1.0)
    g = (gradient / unit)[free]
    values, vectors = np.linalg.eigh((matrix / unit / unit[:, None])[np.ix_(free, free)])
    # Directions that the data do not see are no descent of this size.
    seen = values > 1e-10
    return 0.5 * np.sum((vectors[:, seen].T @ g) ** 2 / values[seen])


def refuted(theta, lower, upper, noise, y, scale):
    """Why this is no minimum inside its bounds; empty if it is."""
    if (theta < lower).any() or (theta > upper).any():
        return "outside its bounds"
    mu, jac = model(theta)
    if noise == "poisson" and mu.min() < 0:
        return "a mean below zero"
    slope, weight, cost = slope_and_weight(noise, mu, y, scale)
    gradient = jac.T @ slope
    held = (theta <= lower) & (gradient > 0) | (theta >= upper) & (gradient < 0)
    matrix = jac.T @ (weight[:, None] * jac)
    left = promised(gradient, matrix, ~held)
    size = cost + (0.5 * y.size if noise == "poisson" else 1e-16 * np.sum(y**2))
    # Of counts a share of 1.5e-8 of the mean keeps every mean above zero, where a bound would be.
    most = 1e-6 if noise == "poisson" else PROMISE
    if left <= most * size:
        return ""
    if noise == "poisson" and mu.min() < 1e-6 * y.mean():
        # A mean that is zero outweighs all that is known of the rest, and one step of this kind tells nothing.
        left = gained(theta, np.sqrt(np.diag(matrix)), lower, upper, y, cost)
    return "" if left <= most * size else f"a step promises {left / size:.1e} of the cost"


def gained(theta, unit, lower, upper, y, cost):
    """What scipy's SLSQP takes off the deviance from here with no mean below zero, and from beside it."""

    def of(u):
        return slope_and_weight("poisson", model(u / unit)[0], y, 1.0)[2]

    def slope(u):
        mu, jac = model(u / unit)
        return jac.T @ (1 - y / mu) / unit

    inside = {"type": "ineq", "fun": lambda u: model(u / unit)[0] - 1e-9}
    bounds = list(zip(lower * unit, upper * unit, strict=True))
    least = cost
    for beside in (0.0, 1e-4, 1e-2):
        start = np.clip(theta * (1 + beside), lower, upper)
        start[4] += max(0.0, 1e-8 - model(start)[0].min())
        found = scipy.optimize.minimize(
            *(of, start * unit),
            jac=slope,
            method="SLSQP",
            bounds=bounds,
            constraints=inside,
            options={"ftol": 1e-12, "maxiter": 500},
        )
        if model(found.x / unit)[0].min() > 0:
            least = min(least, found.fun)
    return cost - least


def drawn(noise, rng):
    """Data, bounds (5,) and starts of a problem, and the scale of its loss."""
    taus = np.sort(np.exp(rng.uniform(np.log(0.2), np.log(6.0), 2)))
    c = np.array([*rng.uniform(0.2, 3.0, 2), rng.choice([0.0, 0.1, 1.0])])
    unit = 10.0 ** rng.integers(-6, 7) if noise != "poisson" else rng.uniform(2.0, 200.0)
    mu = model(np.concatenate([taus, c]))[0] * unit
    sigma = unit * 10.0 ** rng.uniform(-3.0, -1.0)
    if noise == "poisson":
        y = rng.poisson(mu).astype(float)
    else:
        y = mu + sigma * rng.normal(size=T.size)
        y += (rng.random(T.size) < 0.1) * sigma * rng.normal(size=T.size) * rng.uniform(0.0, 30.0)
    low, high = taus * rng.uniform(0.05, 1.2, 2), taus * rng.uniform(0.9, 20.0, 2)
    low, high = np.minimum(low, high * 0.9), high
    start = np.clip(taus * 10.0 ** rng.uniform(-0.4, 0.4, 2), low, high)
    if start[0] == start[1]:
        start[1] = 0.5 * (low[1] + high[1])
    none = np.full(3, np.inf)
    return y, np.concatenate([low, -none]), np.concatenate([high, none]), start, sigma


# Of the losses the one of which a cost has several minima; all by themselves: tests/test_noise.py.
@pytest.mark.parametrize("noise", ["normal", "poisson", "huber", "cauchy"])
def test_no_success_of_a_bounded_fit_is_refuted(noise, rng):
    good, wrong = 0, []
    for case in range(CASES):
        y, lower, upper, start, sigma = drawn(noise, rng)
        lower = np.where(np.arange(5) < 2, lower, 0.0)
        fit = vp.fit(
            *(MODEL, T, y),
            init={"fast.tau": start[0], "slow.tau": start[1]},
            bounds={"fast.tau": (lower[0], upper[0]), "slow.tau": (lower[1], upper[1])},
            nonnegative=True,
            noise=noise,
            loss_scale=sigma,
        )
        good += fit.success
        theta = np.concatenate([fit.alpha, fit.coef])
        why = refuted(theta, lower, upper, noise, y, sigma) if fit.success else ""
        wrong += [(case, why, theta)] if why else []
    assert not wrong, wrong[:5]
    # Of two decays one of which vanishes, or that run together, none is said to be found.
    assert good >= 0.7 * CASES


@pytest.mark.parametrize("noise", ["normal", "poisson", "cauchy"])
def test_no_success_of_many_curves_is_refuted(noise, rng):
    problems = [drawn(noise, rng) for _ in range(CASES)]
    y = np.stack([p[0] for p in problems])
    scale = 1.0 if noise != "cauchy" else 0.05
    if noise == "cauchy":
        y = y / np.abs(y).max(axis=1, keepdims=True)
    lower, upper, start = (np.stack([p[i] for p in problems]) for i in (1, 2, 3))
    names = ("fast.tau", "slow.tau")
    batch = vp.fit_many(
        *(MODEL, T, y),
        init={name: start[:, i] for i, name in enumerate(names)},
        bounds={name: (lower[:, i], upper[:, i]) for i, name in enumerate(names)},
        noise=noise,
        loss_scale=scale,
        # As near as the searches of one curve come.
        ftol=1e-12,
    )
    low = np.concatenate([lower[:, :2], np.full((CASES, 3), -np.inf)], axis=1)
    theta = np.concatenate([batch.alpha, batch.coef], axis=1)
    good = np.flatnonzero(batch.success)
    found = {i: refuted(theta[i], low[i], upper[i], noise, y[i], scale) for i in good}
    assert not (wrong := {i: (why, theta[i]) for i, why in found.items() if why}), wrong
    assert len(good) >= 0.85 * CASES, batch.counts


@pytest.mark.parametrize("lowest", [-np.inf, 0.0])
def test_no_success_from_a_wild_start_is_refuted(lowest, rng):
    taus = np.sort(np.exp(rng.uniform(np.log(0.2), np.log(6.0), (CASES, 2))), axis=1)
    c = rng.uniform(0.2, 3.0, (CASES, 3))
    truth = np.concatenate([taus, c], axis=1)
    y = np.stack([model(one)[0] for one in truth]) + 0.01 * rng.normal(size=(CASES, T.size))
    names, far = ("fast.tau", "slow.tau"), taus * 10.0 ** rng.uniform(-4.0, 4.0, taus.shape)
    ends = {name: (np.full(CASES, lowest), np.full(CASES, np.inf)) for name in names}

    def found(starts):
        init = {name: starts[:, i] for i, name in enumerate(names)}
        return vp.fit_many(MODEL, T, y, init=init, bounds=ends, ftol=1e-12)

    def cost(rates, y):
        phi = np.stack([np.exp(-T * rates[0]), np.exp(-T * rates[1]), np.ones_like(T)], axis=1)
        with np.errstate(all="ignore"):
            resid = y - phi @ np.linalg.lstsq(phi, y)[0] if np.isfinite(phi).all() else y
        return np.sum(resid**2) + (1e6 if lowest == 0 and np.min(rates) < 0 else 0.0)

    batch, known = found(far), found(taus)
    good = batch.success & (batch.chisq > known.chisq * (1 + 1e-6))
    # What is not the minimum beside the truth must be one of its own.
    for i in np.flatnonzero(good):
        at = 1 / batch.alpha[i]
        simplex = at + 0.01 * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        beside = scipy.optimize.minimize(
            *(cost, at, (y[i],)),
            method="Nelder-Mead",
            options={"initial_simplex": simplex, "xatol": 1e-9, "fatol": 0.0, "maxiter": 2000},
        )
        assert batch.chisq[i] <= beside.fun * (1 + 1e-6), (i, batch.alpha[i])
    # Two that are close are not told apart, and one that would grow has no best value above 0.
    assert batch.success.mean() > 0.2 and known.success.mean() > 0.7


def test_no_success_of_curves_that_share_a_lifetime_is_refuted(rng):
    good = 0
    for _ in range(max(CASES // 10, 3)):
        b, slow = 6, rng.uniform(1.5, 5.0)
        truth = [
            np.array([rng.uniform(0.2, 1.0), slow, *rng.uniform(0.3, 3.0, 2), 0.2])
            for _ in range(b)
        ]
        y = np.stack([model(theta)[0] for theta in truth])
        y += 10.0 ** rng.uniform(-3.0, -1.3) * rng.normal(size=y.shape)
        upper = slow * rng.choice([0.8, 3.0])
        fit = vp.fit_many(
            *(MODEL, T, y),
            init={"fast.tau": 0.5, "slow.tau": min(3.0, upper)},
            bounds={"slow.tau": (0.1, upper)},
            share="slow.tau",
            ftol=1e-12,
        )
        assert (fit["slow.tau"].value <= upper).all()
        if not fit.success.all():
            continue
        good += 1
        # The whole of it at once: one shared lifetime, then four parameters of each curve.
        size = 1 + 4 * b
        gradient, matrix, cost = np.zeros(size), np.zeros((size, size)), 0.0
        for i in range(b):
            mu, jac = model(np.concatenate([fit.alpha[i], fit.coef[i]]))
            place = np.array([1 + 4 * i, 0, *range(2 + 4 * i, 5 + 4 * i)])
            gradient[place] += jac.T @ (mu - y[i])
            matrix[np.ix_(place, place)] += jac.T @ jac
            cost += 0.5 * np.sum((mu - y[i]) ** 2)
        held = np.arange(size) == (0 if fit.alpha[0, 1] >= upper and gradient[0] < 0 else -1)
        # The search of what is shared ends at 1e-4 of a standard error.
        assert promised(gradient, matrix, ~held) <= PROMISE * cost
    assert good >= 0.8 * max(CASES // 10, 3)


@pytest.mark.parametrize("noise", ["normal", "poisson", "cauchy"])
def test_no_success_of_data_sets_that_share_a_lifetime_is_refuted(noise, rng):
    good, cases, keys = 0, max(CASES // 10, 5), ("a", "b", "c")
    for case in range(cases):
        slow = rng.uniform(1.5, 5.0)
        unit = 1.0 if noise != "poisson" else rng.uniform(2.0, 100.0)
        sigma = 10.0 ** rng.uniform(-3.0, -1.3)
        sets = {}
        for key in keys:
            c = unit * np.array([*rng.uniform(0.3, 3.0, 2), rng.choice([0.0, 0.2])])
            mu = model(np.array([rng.uniform(0.2, 1.0), slow, *c]))[0]
            y = rng.poisson(mu) if noise == "poisson" else mu + sigma * rng.normal(size=T.size)
            wild = (rng.random(T.size) < 0.1) * sigma * rng.uniform(0.0, 30.0, T.size)
            sets[key] = (T, y + (wild if noise == "cauchy" else 0.0))
        upper = slow * rng.choice([0.8, 3.0])
        fit = vp.fit(
            *(MODEL, sets),
            share="slow.tau",
            init={"fast.tau": 0.5, "slow.tau": min(3.0, upper)},
            bounds={"slow.tau": (0.1, upper), "fast.tau": (0.02, 1.4)},
            nonnegative=True,
            noise=noise,
            loss_scale=sigma,
        )
        if not fit.success:
            continue
        good += 1
        # The shared lifetime, then four parameters of each data set.
        size = 1 + 4 * len(keys)
        gradient, matrix, cost = np.zeros(size), np.zeros((size, size)), 0.0
        theta, low, high = np.zeros(size), np.zeros(size), np.full(size, np.inf)
        low[0], high[0] = 0.1, upper
        for i, key in enumerate(keys):
            mine = np.concatenate([fit[key].alpha, fit[key].coef])
            mu, jac = model(mine)
            assert noise != "poisson" or mu.min() >= 0
            slope, weight, one = slope_and_weight(noise, mu, np.asarray(sets[key][1]), sigma)
            place = np.array([1 + 4 * i, 0, *range(2 + 4 * i, 5 + 4 * i)])
            theta[place], low[place[0]], high[place[0]] = mine, 0.02, 1.4
            gradient[place] += jac.T @ slope
            matrix[np.ix_(place, place)] += jac.T @ (weight[:, None] * jac)
            cost += one
        assert (theta >= low).all() and (theta <= high).all()
        held = (theta <= low) & (gradient > 0) | (theta >= high) & (gradient < 0)
        size = cost + (0.5 * 3 * T.size if noise == "poisson" else 0.0)
        most = 1e-6 if noise == "poisson" else PROMISE
        assert promised(gradient, matrix, ~held) <= most * size, (case, theta)
    assert good >= 0.7 * cases, good


def test_a_lifetime_that_reaches_its_bound_is_exactly_on_it(rng):
    # It is sought by its inverse, and the inverse of an inverse is rounded.
    bounds = [b for b in rng.uniform(1.0, 2.0, 400) if 1 / (1 / b) != b][:8]
    y = model(np.array([0.3, 4.0, 2.0, 1.0, 0.1]))[0] + 1e-3 * rng.normal(size=T.size)
    assert len(bounds) == 8
    for upper in bounds:
        fit = vp.fit(
            *(MODEL, T, y),
            init={"fast.tau": 0.2, "slow.tau": 0.9},
            bounds={"fast.tau": (0.01, 0.8), "slow.tau": (0.5, upper)},
            nonnegative=True,
        )
        slow = fit["slow.tau"]
        assert slow.value == upper and slow.at_bound and np.isnan(slow.stderr)
