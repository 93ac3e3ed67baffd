"""Complex data whose coefficients are complex, or real with phases as parameters."""

import functools

import numpy as np
import pytest
from dense_problem import dense
from scipy.optimize import least_squares

import varpro as vp

T = np.arange(128) * 4e-3
DELAY = 1e-3


def signal(seed=0, noise=0.05):
    rng = np.random.default_rng(seed)
    a = 3.0 * np.exp((2j * np.pi * 10.0 - 20.0) * (T + DELAY))
    b = 1.5 * np.exp((2j * np.pi * -40.0 - 30.0) * (T + DELAY))
    return np.exp(0.5j) * (a + b) + noise * (rng.normal(size=T.size) + 1j * rng.normal(size=T.size))


def lines(**more):
    receiver = vp.Receiver("rx", phase=0.2, delay=DELAY)
    return vp.ComplexExp("a", freq=11.0, rate=18.0, receiver=receiver) + vp.ComplexExp(
        "b", freq=-39.0, rate=25.0, receiver=receiver, **more
    )


def curve(v):
    """The model of `lines` by hand: frequencies, rates, phase, amplitudes."""
    f1, r1, phase, f2, r2, a, b = v
    x = T + DELAY
    one, two = (np.exp((2j * np.pi * f - r) * x) for f, r in ((f1, r1), (f2, r2)))
    return np.exp(1j * phase) * (a * one + b * two)


def parts(y):
    return np.concatenate([y.real, y.imag])


@functools.cache
def of_two(weighted):
    """Of two right-hand sides frequencies, rates, phase and amplitudes (2, 2) by one dense problem in real
    numbers; the data (m, 2), and weights that both have."""
    y = np.stack([signal(), signal(seed=1)], axis=1)
    w = np.random.default_rng(3).uniform(0.5, 2.0, T.size) if weighted else np.ones(T.size)
    x = T + DELAY

    def both(z):
        f, r, phase, amplitudes = z[:2], z[2:4], z[4], z[5:].reshape(2, 2)
        angle = 2 * np.pi * f * x[:, None] + phase
        falls = np.exp(-r * x[:, None])
        return np.concatenate(
            [(falls * np.cos(angle)) @ amplitudes, falls * np.sin(angle) @ amplitudes]
        )

    start = [10.0, -40.0, 20.0, 30.0, 0.5, 3.0, 3.0, 1.5, 1.5]
    return y, w, dense(both, parts(y), start, np.concatenate([w, w])[:, None])


@pytest.mark.parametrize("weighted", [False, True])
def test_real_amplitudes_are_those_of_a_fit_of_all_parameters(weighted):
    y = signal()
    w = np.random.default_rng(2).uniform(0.5, 2.0, T.size) if weighted else np.ones(T.size)
    fit = vp.fit(lines(), T, y, real_coefficients=True, weights=w if weighted else None)
    assert fit.names == ("a.freq", "a.rate", "rx.phase", "rx.delay", "b.freq", "b.rate")
    start = [10.0, 20.0, 0.5, -40.0, 30.0, 3.0, 1.5]
    found = least_squares(
        lambda v: parts(w * (curve(v) - y)),
        start,
        x_scale="jac",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    ours = np.concatenate([fit.alpha[[0, 1, 2, 4, 5]], fit.coef])
    np.testing.assert_allclose(ours, found.x, rtol=1e-6)
    assert fit.coef.dtype == np.float64 and fit.fitted.dtype == np.complex128
    assert fit.chisq == pytest.approx(2 * found.cost, rel=1e-9)
    assert fit.num_linear == 2 and fit.dof == 2 * T.size - 7
    cov = np.linalg.inv(found.jac.T @ found.jac) * fit.redchi
    error = np.sqrt(np.diag(cov))
    np.testing.assert_allclose(fit.alpha_stderr[[0, 1, 2, 4, 5]], error[:5], rtol=1e-4)
    np.testing.assert_allclose(fit.coef_stderr, error[5:], rtol=1e-4)
    # The band of each part by the delta method, by hand.
    h = 1e-5 * np.diag(np.abs(found.x))
    moved = [(curve(found.x + d) - curve(found.x - d)) / (2 * d.sum()) for d in h]
    for part in (np.real, np.imag):
        jac = part(np.stack(moved, axis=1))
        wanted = np.sqrt(np.einsum("mi,ij,mj->m", jac, cov, jac))
        np.testing.assert_allclose(part(fit.predict(band=0.95).stderr), wanted, rtol=1e-3)


def test_amplitudes_obey_bounds_and_relations():
    y, model = signal(), lines()
    free = vp.fit(model, T, y, real_coefficients=True)
    same = vp.fit(model, T, y, real_coefficients=True, nonnegative=True)
    np.testing.assert_allclose(same.alpha, free.alpha, rtol=1e-6)
    held = vp.fit(
        model, T, y, real_coefficients=True, bounds={"a": (0.0, np.inf), "b": (2.0, np.inf)}
    )
    assert held["b"].value == 2.0 and held.chisq > free.chisq
    half = vp.fit(model, T, y, real_coefficients=True, relations={"b": {"a": 0.5}})
    assert half["b"].value == pytest.approx(0.5 * half["a"].value, rel=1e-12)
    assert half.dof == free.dof + 1


def test_weights_of_single_values_and_many_right_hand_sides():
    two, common, plain = of_two(True)
    # The same weights for each, but told apart by a hair.
    each = np.stack([common, common * (1 + 1e-9)], axis=1)
    apart = vp.fit(lines(), T, two, real_coefficients=True, weights=each)
    found = [apart[n].value for n in ("a.freq", "b.freq", "a.rate", "b.rate", "rx.phase")]
    np.testing.assert_allclose(found, plain.z[:5], rtol=1e-6)
    np.testing.assert_allclose(apart.coef, plain.z[5:].reshape(2, 2), rtol=1e-6)
    np.testing.assert_allclose(apart.coef_stderr, plain.stderr[5:].reshape(2, 2), rtol=1e-5)
    assert apart.chisq == pytest.approx(plain.chisq, rel=1e-6) and apart.dof == plain.dof


def test_profile_and_bootstrap_agree_with_the_covariance():
    fit = vp.fit(lines(), T, signal(), real_coefficients=True)
    found = fit.ci(method="profile", names=["a.freq", "rx.phase"])
    for name in ("a.freq", "rx.phase"):
        half = 0.5 * (found[name].upper - found[name].lower)
        assert half == pytest.approx(1.97 * fit[name].stderr, rel=0.03)
    drawn = fit.bootstrap(100)
    assert drawn.stderr["a"] == pytest.approx(fit["a"].stderr, rel=0.35)
    assert drawn.stderr["rx.phase"] == pytest.approx(fit["rx.phase"].stderr, rel=0.35)


def test_several_data_sets_with_real_amplitudes():
    sets = {"one": (T, signal()), "two": (T, signal(seed=1))}
    fit = vp.fit(lines(), sets, real_coefficients=True)
    _, _, both = of_two(False)
    np.testing.assert_allclose(fit["one"].coef, both.z[[5, 7]], rtol=1e-6)
    assert fit.dof == both.dof and fit["one"]["a.freq"].value == pytest.approx(both.z[0])


WIDTHS = vp.ComplexExp("a", freq=11.0, tau=0.05) + vp.ComplexExp("b", freq=-39.0, fwhm=9.0)


def test_complex_coefficients_carry_the_phase():
    fit = vp.fit(WIDTHS, T, signal())
    real = vp.fit(lines(), T, signal(), real_coefficients=True)
    # At the pulse, and as the width of a Lorentzian line.
    phase = np.angle(fit["a"].value) - 2 * np.pi * fit["a.freq"].value * DELAY
    assert phase == pytest.approx(real["rx.phase"].value, abs=0.05)
    assert fit["b.fwhm"].value * np.pi == pytest.approx(real["b.rate"].value, rel=0.1)
    assert 1 / fit["a.tau"].value == pytest.approx(real["a.rate"].value, rel=0.05)
    np.testing.assert_array_equal(fit.cov_names[-4:], ["a.real", "a.imag", "b.real", "b.imag"])


def test_a_gaussian_line_has_the_width_that_it_says():
    t = np.arange(4096) * 1e-3
    wave = vp.ComplexExp("g", freq=30.0, gaussian=8.0)
    y = np.asarray(wave.evaluate(t, {"freq": np.array(30.0), "gaussian": np.array(8.0)}))[:, 0]
    y[0] *= 0.5
    f = np.arange(0.0, 60.0, 0.01)
    line = np.real(np.fft.fft(y, 100_000)[: f.size])
    above = f[line > 0.5 * line.max()]
    assert above[-1] - above[0] == pytest.approx(8.0, abs=0.03)
    assert f[np.argmax(line)] == pytest.approx(30.0, abs=0.02)


def test_the_complex_covariance_is_the_spread_over_repeated_data():
    model = vp.ComplexExp("a", freq=10.0, rate=20.0) + vp.ComplexExp("b", freq=-40.0, rate=30.0)
    rng = np.random.default_rng(11)
    clean = signal(noise=0.0)
    noise = rng.normal(size=(4000, T.size)) + 1j * rng.normal(size=(4000, T.size))
    drawn = vp.fit_many(model, T, clean + 0.05 * noise, fix="*.rate")
    assert drawn.success.all()
    d = drawn.coef - drawn.coef.mean(axis=0)
    spread, relation = d.T @ d.conj() / len(d), d.T @ d / len(d)
    known = {"sigma": 0.05, "absolute_sigma": True}
    fit = vp.fit(model, T, clean + 0.05 * noise[0], fix="*.rate", **known)
    found, seen = fit.complex_covariance()
    scale = np.sqrt(np.outer(np.diag(spread).real, np.diag(spread).real))
    # Of 4000 draws a correlation is known to 0.016.
    assert np.abs((found - spread) / scale).max() < 0.07
    assert np.abs((seen - relation) / scale).max() < 0.07
    # The frequency turns the phase, so that errors are by no means circular.
    assert np.abs(np.diag(seen)).max() > 0.2 * np.diag(found).real.max()
    np.testing.assert_allclose(np.sqrt(np.diag(found).real), fit.coef_stderr, rtol=1e-12)
    parts = fit.covariance_of(["a", "b"])
    np.testing.assert_allclose(np.real(found + seen) / 2, parts[::2, ::2], atol=1e-12)
    np.testing.assert_allclose(np.imag(seen - found) / 2, parts[::2, 1::2], atol=1e-12)
    # Where rates are free too the model is an analytic function of complex parameters.
    free = vp.fit(WIDTHS, T, clean + 0.05 * noise[0], **known)
    assert np.abs(free.complex_covariance("a")[1]).max() < 1e-9 * free["a"].stderr ** 2
    with pytest.raises(vp.InputError, match="The coefficients are real"):
        vp.fit(lines(), T, signal(), real_coefficients=True).complex_covariance()


def test_what_cannot_be_is_refused():
    with pytest.raises(vp.InputError, match="the model is complex|The model is complex"):
        vp.fit(vp.ComplexExp("a", freq=10.0, rate=20.0), T, signal().real)
    with pytest.raises(vp.InputError, match="real_coefficients=True"):
        vp.fit(lines(), T, signal(), nonnegative=True)
    with pytest.raises(vp.InputError, match="one of rate, tau and fwhm"):
        vp.ComplexExp("a", freq=1.0, rate=1.0, tau=1.0)
    with pytest.raises(vp.InputError, match="do not stay real"):
        vp.fit(lines(), T, np.stack([signal()] * 3, axis=1), real_coefficients=True, compress=True)
