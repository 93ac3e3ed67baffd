"""The bootstrap: replicates against fits of the same data, errors against sandwich formulas."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_bands import CLEAN, MODEL, ORDER, SIGMA, T, Y, curve, slopes

import varpro as vp
from varpro._statistics import bootstrap as _bootstrap
from varpro._statistics.refit_problem import refit_problem

KINDS = ["residual", "wild", "case"]
COUNTS = np.random.default_rng(4).poisson(200 * CLEAN).astype(float)


draw = eqx.filter_jit(_bootstrap.draw)


def drawn(fit, kind, number, key=0):
    """The data and weights of one replicate."""
    source, problem = _bootstrap._source(fit, kind), refit_problem(fit).problem
    key = jax.random.fold_in(jax.random.key(key), number)
    y, weights = draw(problem, source, key, kind)
    return np.asarray(y), None if weights is None else np.asarray(weights)


@eqx.filter_jit
def _draws(problem, source, keys, kind):
    return jax.vmap(lambda key: _bootstrap.draw(problem, source, key, kind))(keys)


def all_drawn(fit, kind, count):
    """The weights (count, m) of the first replicates."""
    source, problem = _bootstrap._source(fit, kind), refit_problem(fit).problem
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(np.arange(count))
    return np.asarray(_draws(problem, source, keys, kind)[1])


@pytest.mark.parametrize("kind", [*KINDS, "poisson"])
def test_a_replicate_is_the_fit_of_its_data(kind):
    if kind == "poisson":
        fit = vp.fit(MODEL, T, COUNTS, sigma=np.sqrt(np.maximum(COUNTS, 1.0)))
    else:
        fit = vp.fit(MODEL, T, Y, sigma=SIGMA)
    boot = fit.bootstrap(70, kind, key=3)
    assert boot.ok.all() and boot.alpha.shape == (70, 2) and boot.coef.shape == (70, 3)
    for number in (0, 69):
        y, weights = drawn(fit, kind, number, key=3)
        assert not np.array_equal(y[:, 0] * weights, fit.y * fit.weights)
        again_ = vp.fit(MODEL, T, y[:, 0], weights=weights)
        for name in ("alpha", "coef"):
            gap = getattr(boot, name)[number] - getattr(again_, name)
            np.testing.assert_allclose(gap / getattr(again_, f"{name}_stderr"), 0.0, atol=1e-5)
        assert boot.cost[number] == pytest.approx(again_.cost, rel=1e-9)


def test_what_is_drawn_is_what_the_names_say():
    used = SIGMA < 0.035
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA, mask=used)
    e = (fit.resid * fit.weights)[used]
    y, weights = drawn(fit, "residual", 0)
    new = ((y[:, 0] - fit.fitted) * weights)[used]
    source = _bootstrap._source(fit, "residual").resid[:, 0]
    # Each is one of them but for rounding: new = (fitted + drawn / w - fitted) w loses the digits that
    # the curve has more than its residual, some 1e-14 here.
    gap = np.abs(new[:, None] - source[used])
    assert gap.min(axis=1).max() < 1e-11
    assert len(set(gap.argmin(axis=1))) < used.sum()  # some are drawn twice
    # The residuals drawn from have the variance of the noise, not the smaller one of residuals.
    assert np.mean(source[used] ** 2) == pytest.approx(fit.redchi, rel=0.02)
    assert np.mean(e**2) < 0.95 * fit.redchi
    y, _ = drawn(fit, "wild", 0)
    new = ((y[:, 0] - fit.fitted) * weights)[used]
    wild = _bootstrap._source(fit, "wild").resid[used, 0]
    np.testing.assert_allclose(np.abs(new), np.abs(wild), atol=1e-11)
    assert 0.2 < np.mean(new * e > 0) < 0.8
    y, weights = drawn(fit, "case", 0)
    counts = (weights / np.where(used, fit.weights, 1.0)) ** 2
    assert np.array_equal(y[used, 0], fit.y[used]) and counts.sum() == pytest.approx(used.sum())
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
    assert not counts[~used].any()


def test_the_same_key_gives_the_same_numbers_whatever_the_lanes(monkeypatch):
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA)
    one = fit.bootstrap(20, key=1)
    monkeypatch.setattr(_bootstrap, "_LANES", 7)
    other = fit.bootstrap(20, key=jax.random.key(1))
    # Another number of lanes is another program: the same optima, in standard errors of the fit.
    np.testing.assert_allclose((other.alpha - one.alpha) / fit.alpha_stderr, 0.0, atol=1e-5)
    assert not np.array_equal(fit.bootstrap(20, key=2).alpha, other.alpha)
    np.testing.assert_array_equal(fit.bootstrap(9, key=1).alpha, other.alpha[:9])


def sandwich(fit, weights, meat):
    """`(J^T J)^{-1} J^T diag(meat) J (J^T J)^{-1}` of all parameters in ORDER."""
    p = np.array([fit[n].value for n in ORDER])
    jac = slopes(curve, p, T) * weights[:, None]
    bread = np.linalg.inv(jac.T @ jac)
    hat = np.einsum("mi,ij,mj->m", jac, bread, jac)
    return np.sqrt(np.diag(bread @ (jac.T * meat(hat)) @ jac @ bread))


def test_residual_errors_are_those_of_the_covariance_for_even_noise():
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA)
    boot = fit.bootstrap(2000)
    found = np.array([boot.stderr[n] for n in ORDER])
    # 2000 replicates know a standard deviation to 1.6 %; the rest is curvature of the model.
    np.testing.assert_allclose(found, [fit[n].stderr for n in ORDER], rtol=0.08)
    np.testing.assert_allclose(np.sqrt(np.diag(boot.covariance)), found, rtol=1e-12)
    assert np.all(np.abs([boot.bias[n] / fit[n].stderr for n in ORDER]) < 0.2)


@pytest.mark.parametrize("kind", ["wild", "case"])
def test_wild_and_case_errors_hold_for_noise_that_nobody_told_of(kind, rng):
    # All noise is in the tail: even noise would blame the fast decay for it.
    noise = np.where(T > 8.0, 0.02, 0.001)
    fit = vp.fit(MODEL, T, CLEAN + noise * rng.normal(size=T.size), sigma=np.ones(T.size))
    resid = fit.resid
    expected = sandwich(fit, np.ones(T.size), lambda hat: resid**2 / (1 - hat))
    boot = fit.bootstrap(2000, kind)
    found = np.array([boot.stderr[n] for n in ORDER])
    # Cases: few samples see the fast decay, and how many is drawn too.
    np.testing.assert_allclose(found, expected, rtol=0.08 if kind == "wild" else 0.35)
    assert fit["fast"].stderr > 1.1 * boot.stderr["fast"]


def test_poisson_errors_are_those_of_weighted_counts():
    sigma = np.sqrt(200 * CLEAN)
    fit = vp.fit(MODEL, T, COUNTS, sigma=sigma, absolute_sigma=True)
    boot = fit.bootstrap(2000, "poisson")
    found = np.array([boot.stderr[n] for n in ORDER])
    np.testing.assert_allclose(found, [fit[n].stderr for n in ORDER], rtol=0.15)


def test_a_prior_is_drawn_as_the_observation_that_it_is():
    init = {"slow.tau": vp.Param(5.0, prior=(6.0, 0.05))}
    fit = vp.fit(MODEL, T, Y, init=init, sigma=SIGMA, absolute_sigma=True)
    assert fit["slow.tau"].stderr < 0.06
    found = fit.bootstrap(2000).stderr["slow.tau"]
    assert found == pytest.approx(fit["slow.tau"].stderr, rel=0.08)


def test_many_complex_right_hand_sides_keep_their_shapes(rng):
    t = np.linspace(0.0, 3.0, 50)

    def ring(theta, t):
        return {"a": jnp.exp((-theta["r"] + 1j * theta["w"]) * t), "b": jnp.ones_like(t) + 0j}

    noise = rng.normal(size=(2, t.size, 3))
    phi = np.stack([np.exp((-0.5 + 4j) * t), np.ones_like(t)], 1)
    data = phi @ np.array([[2, 1j, -1], [0.3, 0.2j, 1]]) + 0.05 * (noise[0] + 1j * noise[1])
    fit = vp.fit(ring, t, data, init={"r": 0.4, "w": 4.1})
    boot = fit.bootstrap(600)
    assert boot.coef.shape == (600, 2, 3) and boot.coef.dtype == fit.coef.dtype
    assert boot.covariance.shape == fit.covariance.shape
    for name in (*fit.names, *fit.columns):
        np.testing.assert_allclose(boot.stderr[name], fit[name].stderr, rtol=0.15)
    intervals = boot.ci(names=["w", "a"], rhs=1)
    assert intervals.names == ("w", "a[1].real", "a[1].imag")
    np.testing.assert_allclose(
        intervals.upper - intervals.lower,
        2 * 1.96 * np.sqrt(np.diag(fit.covariance_of(["w", "a"], rhs=1))),
        rtol=0.2,
    )


def test_intervals_are_quantiles_and_say_what_was_left_out():
    t, y = T[::8], Y[::8]
    fit = vp.fit(MODEL, t, y)
    boot = fit.bootstrap(300, "case")
    # Of ten samples some draws hold fewer than five distinct ones, or none of the fast decay.
    assert 0 < boot.failed < 100
    few = np.count_nonzero(all_drawn(fit, "case", 300), axis=1) < 5
    assert few.any() and np.all(boot.status[few] == "singular")
    # Of the others those may be singular whose columns are: how nearly, rounding decides.
    assert np.sum(boot.status[~few] == "singular") <= 3
    drawn_ = boot.samples("slow.tau")[:, 0]
    assert drawn_.size == 300 - boot.failed
    one = boot.ci(0.9, "slow.tau")
    # Quantiles lie between two values, at a place that rounding of the level moves by a bit.
    ends = one.lower[0], one.upper[0]
    np.testing.assert_allclose(ends, np.quantile(drawn_, [0.05, 0.95]), rtol=1e-12)
    assert one.failed == boot.failed
    assert f"{boot.failed} replicates did not converge and are left out" in str(one)
    assert f"{boot.failed} of them left out" in str(boot)
    mirrored = boot.ci(0.9, "slow.tau", kind="basic")
    at = fit["slow.tau"].value
    ends = mirrored.upper[0], mirrored.lower[0]
    np.testing.assert_allclose(ends, 2 * at - np.array([one.lower[0], one.upper[0]]), rtol=1e-12)


def test_replicates_stay_within_bounds_and_ci_asks_for_a_thousand():
    fit = vp.fit(MODEL, T, Y, bounds={"slow.tau": (1.0, 5.9)})
    intervals = fit.ci(method="bootstrap", names="slow.tau")
    assert intervals.method == "bootstrap" and intervals.upper[0] <= 5.9
    boot = fit.bootstrap()
    assert len(boot.ok) == 1000 and boot.alpha[:, 1].max() == 5.9
    assert boot.ci(names="slow.tau").lower[0] == intervals.lower[0]


def test_a_model_without_free_parameters_has_a_bootstrap_in_float32_too():
    t, y = T.astype(np.float32), Y.astype(np.float32)
    fit = vp.fit(MODEL, t, y, init={"fast.tau": 1.0, "slow.tau": 6.0}, fix="*.tau")
    boot = fit.bootstrap(500)
    assert boot.coef.dtype == np.float32 and boot.stderr["fast.tau"] == 0.0
    for name in fit.columns:
        assert boot.stderr[name] == pytest.approx(fit[name].stderr, rel=0.15)


def test_wrong_requests_are_refused():
    fit = vp.fit(MODEL, T, Y, sigma=SIGMA)
    with pytest.raises(vp.InputError, match="kind must be one of 'residual', 'wild', 'case'"):
        fit.bootstrap(kind="jackknife")  # pyright: ignore[reportArgumentType]
    with pytest.raises(vp.InputError, match="n=0 replicates were asked for"):
        fit.bootstrap(0)
    with pytest.raises(vp.InputError, match="y holds other numbers than 0, 1, 2"):
        fit.bootstrap(kind="poisson")
    with pytest.raises(vp.InputError, match="this fit has none"):
        eqx.tree_at(lambda f: f.success, fit, False).bootstrap()
    with pytest.raises(vp.InputError, match=r"Did you mean 'slow\.tau'"):
        fit.bootstrap(5).ci(names="slow.tua")
    with pytest.raises(vp.InputError, match="too few are left"):
        fit.bootstrap(1).ci()
