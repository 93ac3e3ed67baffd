"""Bands, joint covariances and leverage: against dense twins, lmfit and stored answers."""

import functools

import jax.numpy as jnp
import lmfit
import numpy as np
import oracles
import pytest
import scipy.stats
from test_published import assert_as_printed

import varpro as vp
from varpro._statistics.bands import leverage

T = np.linspace(0.0, 20.0, 80)
SIGMA = 0.02 * (1.0 + T / 20.0)
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("bg")
CLEAN = 3.0 * np.exp(-T) + 2.0 * np.exp(-T / 6.0) + 0.5
Y = CLEAN + SIGMA * np.random.default_rng(11).normal(size=T.size)
NEW = np.linspace(-0.5, 30.0, 13)
ORDER = ["fast.tau", "slow.tau", "fast", "slow", "bg"]


def curve(p, t):
    """The model of all five numbers in ORDER."""
    return p[2] * np.exp(-t / p[0]) + p[3] * np.exp(-t / p[1]) + p[4]


def dense(model, p, x, weights, scale):
    """Covariance of all parameters at once, by the Jacobian of the full model."""
    jac = slopes(model, p, x) * weights[:, None]
    return np.linalg.inv(jac.T @ jac) * scale


def slopes(model, p, x):
    """By steps along the imaginary axis, exact to the last digit for a formula of NumPy's functions."""
    return np.stack([model(p + 1e-30j * e, x).imag / 1e-30 for e in np.eye(p.size)], axis=1)


def spread(model, p, cov, x):
    jac = slopes(model, p, x)
    return np.sqrt(np.einsum("mi,ij,mj->m", jac, cov, jac))


@pytest.mark.parametrize("absolute", [False, True])
def test_the_band_is_that_of_the_full_covariance(absolute):
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA, absolute_sigma=absolute)
    p = np.array([fit[n].value for n in ORDER])
    cov = dense(curve, p, T, 1 / SIGMA, 1.0 if absolute else fit.redchi)
    band = fit.predict(NEW, band=0.9)
    stderr = spread(curve, p, cov, NEW)
    factor = scipy.stats.norm.ppf(0.95) if absolute else scipy.stats.t.ppf(0.95, fit.dof)
    np.testing.assert_allclose(band.value, curve(p, NEW), rtol=1e-12)
    np.testing.assert_allclose(band.stderr, stderr, rtol=1e-8)
    np.testing.assert_allclose(band.upper - band.value, factor * stderr, rtol=1e-8)
    np.testing.assert_allclose(band.value - band.lower, factor * stderr, rtol=1e-8)
    np.testing.assert_allclose(fit.covariance_of(ORDER), cov, rtol=1e-7, atol=1e-16)


def test_a_prediction_band_adds_the_noise_of_one_observation():
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA)
    curve_, sigma = fit.predict(band=0.9), 0.5 * SIGMA
    at_data = fit.predict(band=0.9, kind="prediction")
    np.testing.assert_allclose(
        at_data.stderr, np.sqrt(curve_.stderr**2 + SIGMA**2 * fit.redchi), rtol=1e-12
    )
    other = fit.predict(T, band=0.9, kind="prediction", sigma=sigma)
    np.testing.assert_allclose(
        other.stderr, np.sqrt(curve_.stderr**2 + sigma**2 * fit.redchi), rtol=1e-12
    )


def test_the_band_of_many_right_hand_sides_is_that_of_the_stacked_problem(rng):
    amplitudes = np.array([[3.0, 1.0, 2.0], [2.0, 4.0, -1.0], [0.5, 0.2, 0.1]])
    decays = np.stack([np.exp(-T), np.exp(-T / 6.0), np.ones_like(T)], 1)
    data = decays @ amplitudes + 0.02 * rng.normal(size=(T.size, 3))

    def stacked(p, t):
        phi = np.stack([np.exp(-t / p[0]), np.exp(-t / p[1]), np.ones_like(t)], 1)
        return (phi @ p[2:].reshape(3, 3)).ravel()

    fit = vp.fit(MODEL, T, data)
    p = np.concatenate([fit.alpha, fit.coef.ravel()])
    cov = dense(stacked, p, T, np.ones(data.size), fit.redchi)
    band = fit.predict(NEW, band=0.95)
    assert band.value.shape == (NEW.size, 3)
    np.testing.assert_allclose(band.stderr.ravel(), spread(stacked, p, cov, NEW), rtol=1e-8)
    np.testing.assert_allclose(
        fit.covariance_of(["*.tau", "fast", "slow", "bg"]), cov, rtol=1e-7, atol=1e-16
    )
    # One of them, by its number.
    picked = [0, 1, 2 + 1, 5 + 1]
    chosen = fit.covariance_of(["*.tau", "fast", "slow"], rhs=1)
    np.testing.assert_allclose(chosen, cov[np.ix_(picked, picked)], rtol=1e-7, atol=1e-16)
    hat = leverage(fit)
    jac = slopes(stacked, p, T)
    np.testing.assert_allclose(
        hat.ravel(), np.einsum("mi,ij,mj->m", jac, cov / fit.redchi, jac), rtol=1e-7
    )
    assert hat.sum() == pytest.approx(fit.num_params)


def test_the_band_of_complex_data_is_that_of_real_and_imaginary_parts(rng):
    t = np.linspace(0.0, 3.0, 60)

    def ring(theta, t):
        return {"a": jnp.exp((-theta["r"] + 1j * theta["w"]) * t), "b": jnp.ones_like(t) + 0j}

    def parts(p, t):
        # In real numbers: both parts are smooth functions, the complex one is of no complex p.
        cos, sin = np.exp(-p[0] * t) * np.cos(p[1] * t), np.exp(-p[0] * t) * np.sin(p[1] * t)
        return np.concatenate([p[2] * cos - p[3] * sin + p[4], p[2] * sin + p[3] * cos + p[5]])

    truth = np.array([0.5, 4.0, 2.0, -1.0, 0.3, 0.2])
    noise = rng.normal(size=(2, t.size))
    clean = parts(truth, t).reshape(2, -1)
    data = clean[0] + 1j * clean[1] + 0.05 * (noise[0] + 1j * noise[1])
    fit = vp.fit(ring, t, data, init={"r": 0.4, "w": 4.1})
    p = np.concatenate([fit.alpha, np.stack([fit.coef.real, fit.coef.imag], 1).ravel()])
    cov = dense(parts, p, t, np.ones(2 * t.size), fit.redchi)
    np.testing.assert_allclose(fit.covariance_of(), cov, rtol=1e-7, atol=1e-16)
    stderr = spread(parts, p, cov, NEW).reshape(2, -1)
    band = fit.predict(NEW, band=0.95)
    np.testing.assert_allclose(band.stderr, stderr[0] + 1j * stderr[1], rtol=1e-8)
    away = scipy.stats.t.ppf(0.975, fit.dof) * band.stderr
    np.testing.assert_allclose(band.upper - band.value, away, rtol=1e-8)
    assert leverage(fit).sum() * 2 == pytest.approx(fit.num_params)


def test_bands_of_components_are_those_of_their_terms():
    fit = vp.fit(MODEL, T, Y)
    p = np.array([fit[n].value for n in ORDER])
    cov = dense(curve, p, T, np.ones(T.size), fit.redchi)
    bands = fit.component_bands(NEW, band=0.9)
    terms = {
        "fast": lambda p, t: p[2] * np.exp(-t / p[0]),
        "slow": lambda p, t: p[3] * np.exp(-t / p[1]),
        "bg": lambda p, t: p[4] * np.ones_like(t),
    }
    assert list(bands) == list(terms)
    for name, term in terms.items():
        np.testing.assert_allclose(bands[name].value, fit.components(NEW)[name], rtol=1e-12)
        np.testing.assert_allclose(bands[name].stderr, spread(term, p, cov, NEW), rtol=1e-8)


@functools.cache
def wave_and_decay():
    """A sine without a coefficient, a decay and a constant: the model, the same of all four numbers
    (w, tau, decay, bg), and data."""
    wave = vp.Offset(vp.Custom("wave", lambda th, t: jnp.sin(th["w"] * t), {"w": 1.28}))

    def full(p, t):
        return np.sin(p[0] * t) + p[2] * np.exp(-t / p[1]) + p[3]

    data = full(np.array([1.3, 3.0, 2.0, 0.5]), T)
    data = data + 0.1 * np.random.default_rng(8).normal(size=T.size)
    return wave + vp.Exp("decay", tau=2.0) + vp.Constant("bg"), full, data


def test_bands_with_a_term_that_has_no_coefficient():
    model, full, data = wave_and_decay()
    fit = vp.fit(model, T, data)
    order = ["wave.w", "decay.tau", "decay", "bg"]
    p = np.array([fit[n].value for n in order])
    cov = dense(full, p, T, np.ones(T.size), fit.redchi)
    np.testing.assert_allclose(fit.covariance_of(order), cov, rtol=1e-7, atol=1e-16)
    np.testing.assert_allclose(
        fit.predict(NEW, band=0.9).stderr, spread(full, p, cov, NEW), rtol=1e-8
    )
    offset = fit.component_bands(NEW, band=0.9)["offset"]
    np.testing.assert_allclose(offset.value, np.sin(p[0] * NEW), rtol=1e-9, atol=1e-12)
    expected = spread(lambda p, t: np.sin(p[0] * t), p, cov, NEW)
    np.testing.assert_allclose(offset.stderr, expected, rtol=1e-8)


def test_a_parameter_on_its_bound_counts_as_fixed_in_the_band():
    bounded = vp.fit(MODEL, T, Y, bounds={"slow.tau": (1.0, 5.5)})
    fixed = vp.fit(MODEL, T, Y, init={"slow.tau": 5.5}, fix="slow.tau")
    assert bounded["slow.tau"].at_bound and bounded.dof == fixed.dof
    one, other = bounded.predict(NEW, band=0.95), fixed.predict(NEW, band=0.95)
    np.testing.assert_allclose(one.stderr, other.stderr, rtol=1e-6)
    # Nor does its column make the Jacobian singular: the other one stands alone.
    assert bounded.cond_jac == pytest.approx(fixed.cond_jac) == 1.0


def test_the_band_is_infinite_where_the_data_leave_the_curve_open():
    # Equal up to 2, where the data end; apart beyond.
    def ramps(theta, t):
        late = jnp.maximum(t - 2.0, 0.0)
        return {"a": 1.0 + theta["k"] * t, "b": 1.0 + theta["k"] * t + late}

    t = np.linspace(0.0, 2.0, 30)
    data = 2.0 + 3.0 * t + 0.01 * np.random.default_rng(2).normal(size=t.size)
    fit = vp.fit(ramps, t, data, init={"k": 1.0})
    band = fit.predict(np.array([1.0, 3.0]), band=0.95)
    assert np.isfinite(band.stderr[0]) and np.isinf(band.stderr[1])
    assert fit.rank == 1


def peaks_data(rng):
    x = np.linspace(0.0, 10.0, 150)
    clean = 4 * np.exp(-0.5 * ((x - 3) / 0.6) ** 2) + 2 * np.exp(-0.5 * ((x - 5) / 0.9) ** 2) + 0.5
    return x, clean + 0.05 * rng.normal(size=x.size)


def lmfit_decays(t, c1, tau1, c2, tau2, bg):
    return c1 * np.exp(-t / tau1) + c2 * np.exp(-t / tau2) + bg


def lmfit_peaks(x, h1, m1, w1, h2, m2, w2, bg):
    one = h1 * np.exp(-0.5 * ((x - m1) / w1) ** 2)
    return one + h2 * np.exp(-0.5 * ((x - m2) / w2) ** 2) + bg


def against_lmfit(case, rng):
    """Our fit, lmfit's, and our names by lmfit's, of "decays" or "peaks"."""
    if case == "decays":
        function, x, y, model = lmfit_decays, T, Y, MODEL
        names = {"c1": "fast", "tau1": "fast.tau", "c2": "slow", "tau2": "slow.tau", "bg": "bg"}
    else:
        function, (x, y) = lmfit_peaks, peaks_data(rng)
        one = vp.Gaussian("one", center=2.8, width=0.5)
        model = one + vp.Gaussian("two", center=5.3, width=1.0) + vp.Constant("bg")
        names = {"h1": "one", "m1": "one.center", "w1": "one.width"}
        names |= {"h2": "two", "m2": "two.center", "w2": "two.width", "bg": "bg"}
    fit = vp.fit(model, x, y)
    # From the optimum and by central differences: lmfit's defaults give four digits.
    start = {other: fit[name].value for other, name in names.items()}
    start |= {function.__code__.co_varnames[0]: x}
    how = {"method": "least_squares", "fit_kws": {"jac": "3-point"}}
    other = lmfit.Model(function).fit(y, **start, **how)
    return fit, other, names


@pytest.mark.parametrize("case", ["decays", "peaks"])
def test_covariance_and_bands_agree_with_lmfit(case, rng):
    fit, other, names = against_lmfit(case, rng)
    assert fit.success and [*other.params] == [*names]
    ours = [fit[name].value for name in names.values()]
    np.testing.assert_allclose(ours, [other.params[n].value for n in names], rtol=1e-6)
    assert fit.redchi == pytest.approx(other.redchi, rel=1e-9)
    errors = np.sqrt(np.diag(fit.covariance_of([*names.values()])))
    np.testing.assert_allclose(errors, [other.params[n].stderr for n in names], rtol=1e-5)
    x = {other.model.independent_vars[0]: NEW}
    theirs = other.eval_uncertainty(sigma=0.9, dscale=1e-3, **x)
    ours = fit.predict(NEW, band=0.9)
    np.testing.assert_allclose(ours.upper - ours.value, theirs, rtol=1e-5)
    ours = fit.predict(NEW, band=0.9, kind="prediction")
    np.testing.assert_allclose(ours.upper - ours.value, other.dely_predicted, rtol=1e-5)


def test_the_stored_covariance_and_band_of_a_double_exponential():
    problem = oracles.load("double_exponential")
    model = vp.Exp("a", tau=1.0) + vp.Exp("b", tau=7.0) + vp.Constant("c")
    fit = vp.fit(model, problem.x, problem.y)
    order = ["a", "b", "c", "a.tau", "b.tau"]
    found = np.array([fit[name].value for name in order])
    np.testing.assert_allclose(found, problem.certified, rtol=1e-6)
    assert fit.dof == problem.dof
    assert_as_printed(fit.redchi, problem.published["redchi"])
    # lmfit took its derivatives by differences: four digits.
    covariance = np.array(problem.published["covariance"], float).reshape(5, 5)
    np.testing.assert_allclose(fit.covariance_of(order), covariance, rtol=1.5e-4)
    band = fit.predict(problem.x[::25], band=float(problem.published["level"]))
    half = np.array(problem.published["half_width"], float)
    np.testing.assert_allclose((band.upper - band.lower) / 2, half, rtol=1.5e-4)


def test_the_standard_errors_of_r_s_timp_for_41_right_hand_sides():
    problem = oracles.load("timp_two_decays")
    start = dict(zip("ab", problem.starts[0], strict=True))
    fit = vp.fit(vp.Exp("a", rate=start["a"]) + vp.Exp("b", rate=start["b"]), problem.x, problem.y)
    assert fit.success and fit.dof == problem.dof
    assert_as_printed(fit.alpha, problem.published["values"])
    # Its derivatives are by differences: 4.464e-6 for what two independent Jacobians give as 4.4647e-6.
    np.testing.assert_allclose(fit.alpha_stderr, problem.certified_sd, rtol=2e-4)
    assert_as_printed(fit.sigma_resid, problem.published["rsd"])
    assert_as_printed(fit.correlation[0, 1], problem.published["correlation"])


def test_wrong_requests_are_refused():
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA)
    with pytest.raises(vp.InputError, match=r"band must lie between 0 and 1, such as 0\.95; 95.0"):
        fit.predict(NEW, band=95.0)
    with pytest.raises(vp.InputError, match="kind must be one of 'confidence', 'prediction'"):
        fit.predict(NEW, band=0.9, kind="both")  # pyright: ignore
    with pytest.raises(vp.InputError, match="noise at new positions is not known"):
        fit.predict(NEW, band=0.9, kind="prediction")
    with pytest.raises(vp.InputError, match=r"an array \(13,\) of them"):
        fit.predict(NEW, band=0.9, kind="prediction", sigma=np.ones(5))
    with pytest.raises(vp.InputError, match="rhs=1 is not one of the 1 right-hand sides"):
        fit.covariance_of("fast", rhs=1)
    with pytest.raises(vp.InputError, match=r"Did you mean 'slow\.tau'"):
        fit.covariance_of("slow.tua")
