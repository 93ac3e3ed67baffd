"""Posteriors against sums over grids of dense normal distributions, and refusals."""

import arviz
import numpy as np
import pytest
import scipy.special
import scipy.stats

import varpro as vp
from varpro._statistics.posterior_density import density_of
from varpro._statistics.proper import check_proper

T = np.linspace(0.0, 2.0, 14)
MODEL = vp.Exp("e", tau=1.5) + vp.Constant("c")
BOUNDS = {"e.tau": (0.2, 3.0)}
SIGMA = 0.05
SD = 3.0
# 4 chains of 500 draws are some 350 independent ones. Standard errors of a median are 1.25 sd / sqrt(350), of a
# 2.5 % quantile of a normal distribution 2.7 sd / sqrt(350): 7 and 14 % of sd. Four of them:
CLOSE = {0.025: 0.56, 0.5: 0.28, 0.975: 0.56}


def columns(tau):
    return np.stack([np.exp(-T / tau), np.ones_like(T)], axis=1)


@pytest.fixture(scope="module")
def y():
    return columns(1.5) @ [1.0, 0.2] + SIGMA * np.random.default_rng(4).normal(size=T.size)


@pytest.fixture(scope="module")
def fit(y):
    return vp.fit(MODEL, T, y, bounds=BOUNDS)


@pytest.fixture(scope="module")
def drawn(fit):
    return fit.posterior(500)


def on_grid(y, density):
    """Quantiles of tau, and the integral, by the trapezoid rule over a grid."""
    tau = np.linspace(*BOUNDS["e.tau"], 2001)
    logs = np.array([density(y, columns(one)) for one in tau])
    weights = np.exp(logs - logs.max())
    weights[[0, -1]] *= 0.5
    step = tau[1] - tau[0]
    at = np.cumsum(weights) / weights.sum()
    return np.interp(list(CLOSE), at, tau), np.log(weights.sum() * step) + logs.max(), tau, weights


def flat_unknown(y, phi):
    """Coefficients with flat priors and sigma with Jeffreys' integrated out, up to a constant."""
    resid = y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]
    nu = len(y) - phi.shape[1]
    return -0.5 * np.linalg.slogdet(phi.T @ phi)[1] - 0.5 * nu * np.log(resid @ resid)


def proper_known(y, phi, sigma=SIGMA):
    covariance = sigma**2 * np.eye(len(y)) + SD**2 * phi @ phi.T
    return scipy.stats.multivariate_normal(np.zeros(len(y)), covariance).logpdf(y)


def test_draws_are_those_of_the_posterior_with_flat_priors_and_unknown_noise(fit, drawn, y):
    expected, _, tau, weights = on_grid(y, flat_unknown)
    found = np.quantile(drawn.samples("e.tau"), list(CLOSE))
    sd = np.std(drawn.samples("e.tau"))
    assert np.all(np.abs(found - expected) < sd * np.array(list(CLOSE.values())))
    # Near the bound and curved: the interval by covariance is another one.
    assert expected[2] > fit.ci()["e.tau"].upper + 0.5 and not drawn.divergent.any()
    # Given tau a coefficient has Student's t distribution; over all tau, a mixture of them.
    means, scales = [], []
    for one in tau[::20]:
        phi = columns(one)
        c = np.linalg.lstsq(phi, y, rcond=None)[0]
        rest = y - phi @ c
        means.append(c[0])
        scales.append(np.sqrt(rest @ rest / 12 * np.linalg.inv(phi.T @ phi)[0, 0]))
    share = weights[::20] / weights[::20].sum()
    coef = drawn.samples("e").ravel()
    for q in (0.05, 0.5, 0.95):
        limit = np.quantile(coef, q)
        mixed = share @ scipy.stats.t(12).cdf((limit - np.array(means)) / np.array(scales))
        # The share below a limit of some 350 independent draws: four standard errors.
        assert mixed == pytest.approx(q, abs=4 * np.sqrt(q * (1 - q) / 350))
    # sigma^2 is chi-square of the residual over a chi-square number.
    assert np.median(drawn.sigma) == pytest.approx(fit.sigma_resid, rel=0.15)


def test_draws_are_those_of_the_posterior_with_known_noise_and_proper_priors(y):
    fit = vp.fit(MODEL, T, y, bounds=BOUNDS, sigma=SIGMA, absolute_sigma=True)
    found = fit.posterior(500, coef_sd={"*": SD})
    expected, area, _, _ = on_grid(y, proper_known)
    at = np.quantile(found.samples("e.tau"), list(CLOSE))
    sd = np.std(found.samples("e.tau"))
    assert np.all(np.abs(at - expected) < sd * np.array(list(CLOSE.values())))
    assert np.all(found.sigma == 1.0)
    # The evidence: the mean of the likelihood over the box. Laplace's formula takes the posterior of a
    # transformed coordinate for normal, which it is not beside a bound: 0.18 is lost.
    width = np.log(BOUNDS["e.tau"][1] - BOUNDS["e.tau"][0])
    assert fit.log_evidence(coef_sd=SD) == pytest.approx(area - width, abs=0.3)
    # Of data that are known 20 times better it is normal to a part in a hundred.
    better = columns(1.5) @ [1.0, 0.2] + 0.05 * (y - columns(1.5) @ [1.0, 0.2])
    fit = vp.fit(MODEL, T, better, bounds=BOUNDS, sigma=0.05 * SIGMA, absolute_sigma=True)
    _, area, _, _ = on_grid(better, lambda y, phi: proper_known(y, phi, 0.05 * SIGMA))
    assert fit.log_evidence(coef_sd=SD) == pytest.approx(area - width, abs=0.02)


def test_r_hat_and_effective_sizes_are_those_of_arviz(drawn):
    data = drawn.to_inference_data()
    assert set(data.posterior.data_vars) == {"e.tau", "e", "c", "sigma"}
    assert data.observed_data["y"].shape == T.shape
    # Both follow Vehtari et al. (2021); they round ranks and lags differently.
    for name in ("e.tau", "e", "c"):
        assert drawn.rhat[name] == pytest.approx(float(arviz.rhat(data)[name]), abs=2e-3)
        assert drawn.ess[name] == pytest.approx(float(arviz.ess(data)[name]), rel=0.05)
        tail = float(arviz.ess(data, method="tail")[name])
        assert drawn.ess_tail[name] == pytest.approx(tail, rel=0.15)


def test_intervals_tables_and_keys(fit, drawn):
    inside = drawn.ci(0.5)
    assert inside.method == "posterior" and inside.names == ("e.tau", "e", "c")
    share = np.mean(
        (drawn.samples("e") > inside["e"].lower) & (drawn.samples("e") < inside["e"].upper)
    )
    assert share == pytest.approx(0.5, abs=1e-3)  # of 2000 draws
    assert "R-hat" in str(drawn) and "e.tau" in str(drawn)
    again = fit.posterior(500)
    assert np.array_equal(again.alpha, drawn.alpha) and np.array_equal(again.coef, drawn.coef)
    assert not np.array_equal(fit.posterior(500, key=1).alpha, drawn.alpha)


def test_interchangeable_components_keep_their_order_in_every_draw():
    t = np.linspace(0.0, 8.0, 40)
    clean = 2 * np.exp(-t / 0.8) + np.exp(-t / 3.0)
    y = clean + 0.01 * np.random.default_rng(0).normal(size=t.size)
    two = vp.Exp("a", tau=0.5) + vp.Exp("b", tau=5.0)
    bounds = {"*.tau": (0.1, 20.0)}
    fit = vp.fit(two, t, y, order=("a.tau", "b.tau"), bounds=bounds)
    found = fit.posterior(500, coef_sd=5.0)
    taus = found.samples(["a.tau", "b.tau"])
    assert np.all(taus[..., 0] < taus[..., 1])
    assert max(found.rhat.values()) < 1.05
    # The noise was sampled with them.
    assert np.median(found.sigma) == pytest.approx(0.01, rel=0.5)
    one = vp.fit(vp.Exp("a", tau=1.0), t, y, bounds=bounds)
    by = vp.compare(one, fit, names=["one", "two"], by="evidence", coef_sd=5.0)
    assert by.best == "two" and by.weights[1] > 0.999 and "greatest evidence" in str(by)
    assert by.log_evidence[1] - by.log_evidence[0] > 20


def test_a_posterior_without_an_end_is_refused_by_the_name_of_its_parameter(y):
    far = np.array([1e2, 1e4, 1e6])
    at = {one: flat_unknown(y, columns(one)) for one in (1.5, *far)}
    # By the dense formula the density at long lifetimes does not fall: its integral has no end.
    assert min(at[one] - at[1.5] for one in far) > -5
    fit = vp.fit(MODEL, T, y)
    with pytest.raises(vp.InputError, match="no posterior: towards large values of 'e.tau'"):
        fit.posterior()
    # Of data that exclude them one does not see whether there is an end.
    better = columns(1.5) @ [1.0, 0.2] + 0.02 * (y - columns(1.5) @ [1.0, 0.2])
    fit = vp.fit(MODEL, T, better)
    check_proper(fit, *density_of(fit, None, "posterior"))
    # A lifetime far shorter than the first sample: the column vanishes, and its coefficient has no end.
    late = np.linspace(1.0, 3.0, 14)
    short = vp.fit(MODEL, late, y, bounds={"e.tau": (0.0, 3.0)})
    with pytest.raises(vp.InputError, match="towards the lower bound of 'e.tau'"):
        check_proper(short, *density_of(short, None, "posterior"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nonnegative": True}, "have bounds (nonnegative= or bounds=)"),
        ({"fix": "e.tau"}, "no free nonlinear parameter"),
    ],
)
def test_what_has_no_such_posterior_is_refused(y, change, said):
    fit = vp.fit(MODEL, T, y, bounds=BOUNDS, **change)
    with pytest.raises(vp.InputError) as error:
        fit.posterior()
    assert said in str(error.value)


def test_wrong_arguments_are_refused_by_name(fit, y):
    for given, said in (
        ({"n": 0}, "n must be at least 4"),
        ({"chains": 1}, "chains must be at least 2"),
        ({"coef_sd": -1.0}, "coef_sd must be positive, not -1.0"),
        ({"coef_sd": {"z": 1.0}}, "coef_sd: no column 'z'"),
        ({"key": -1}, "key must be at least 0"),
    ):
        with pytest.raises(vp.InputError) as error:
            fit.posterior(**given)
        assert said in str(error.value)
    with pytest.raises(vp.InputError, match="proper prior of every coefficient"):
        fit.log_evidence()
    with pytest.raises(vp.InputError, match="by must be one of 'aicc', 'evidence'"):
        vp.compare(fit, fit, by="bayes")
