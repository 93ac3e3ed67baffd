"""Peaks between Gaussians and Lorentzians against scipy and their own limits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import varpro as vp
from varpro.basis import build_model

X = np.concatenate([np.linspace(-6.0, 8.0, 141), [-300.0, 1e4]])


def column(basis, values, x=X):
    return eqx.filter_jit(build_model(basis).evaluate)(jnp.asarray(x), jnp.asarray(values))[:, 0]


@jax.jit
def voigt_slopes(values):
    return jax.jacfwd(lambda v: column(vp.Voigt("v", center=0.7, sigma=1.0, gamma=1.0), v))(values)


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 2.0])
@pytest.mark.parametrize("gamma", [0.0, 1e-4, 0.5, 10.0])
def test_voigt_is_scipys_at_unit_height_also_in_derivatives(sigma, gamma):
    basis = vp.Voigt("v", center=0.7, sigma=1.0, gamma=1.0)
    scale = special.voigt_profile(0.0, sigma, gamma)
    found = column(basis, [0.7, sigma, gamma])
    np.testing.assert_allclose(
        found, special.voigt_profile(X - 0.7, sigma, gamma) / scale, atol=1e-12
    )
    host = basis.evaluate(
        X, {"center": np.array([0.7]), "sigma": np.array([sigma]), "gamma": np.array([gamma])}
    )
    assert isinstance(host, np.ndarray)
    np.testing.assert_allclose(host[:, 0], found, atol=1e-12)

    def height(c, s, g):
        return special.voigt_profile(X - c, s, g) / special.voigt_profile(0.0, s, g)

    if gamma == 0.0:
        return
    jac = voigt_slopes(jnp.array([0.7, sigma, gamma]))
    at = np.array([0.7, sigma, gamma])
    for j, step in enumerate(1e-5 * np.array([sigma + gamma, sigma, gamma])):
        move = step * np.eye(3)[j]
        central = (height(*(at + move)) - height(*(at - move))) / (2 * step)
        size = np.abs(central).max()
        np.testing.assert_allclose(jac[:, j], central, atol=max(1e-6 * size, 1e-14 / step))


def test_signs_of_widths_do_not_matter():
    basis = vp.Voigt("v", center=0.7, sigma=1.0, gamma=1.0)
    np.testing.assert_array_equal(column(basis, [0.7, 0.4, 0.2]), column(basis, [0.7, -0.4, -0.2]))


def test_limits_are_gaussians_and_lorentzians():
    gaussian = np.exp(-np.log(2) * ((X - 0.7) / 0.9) ** 2)
    lorentzian = 1 / (1 + ((X - 0.7) / 0.9) ** 2)
    pseudo = vp.PseudoVoigt("p", center=0.7, width=0.9)
    pearson = vp.Pearson7("q", center=0.7, width=0.9)
    np.testing.assert_allclose(column(pseudo, [0.7, 0.9, 0.0]), gaussian, atol=1e-15)
    np.testing.assert_allclose(column(pseudo, [0.7, 0.9, 1.0]), lorentzian, rtol=1e-14)
    np.testing.assert_allclose(column(pearson, [0.7, 0.9, 1.0]), lorentzian, rtol=1e-13)
    np.testing.assert_allclose(column(pearson, [0.7, 0.9, 1e9]), gaussian, atol=1e-8)
    halves = np.array([0.7 - 0.9, 0.7 + 0.9])
    for basis, values in (
        (vp.Pearson7("q", fwhm=1.8), [0.7, 1.8, 3.0]),
        (vp.PseudoVoigt("p", fwhm=1.8), [0.7, 1.8, 0.3]),
    ):
        np.testing.assert_allclose(column(basis, values, halves), 0.5, rtol=1e-13)


@pytest.mark.parametrize(
    ("kind", "truth"),
    [
        (vp.Voigt, {"sigma": 0.3, "gamma": 0.2}),
        (vp.PseudoVoigt, {"width": 0.5, "eta": 0.3}),
        (vp.Pearson7, {"width": 0.5, "shape": 1.7}),
    ],
)
def test_two_peaks_are_found_without_starts(rng, kind, truth):
    x = np.linspace(0.0, 20.0, 300)
    peaks = [
        kind("a").evaluate(x, {k: np.array([v]) for k, v in ({"center": c} | truth).items()})
        for c in (6.0, 11.0)
    ]
    y = np.concatenate(peaks, axis=1) @ [3.0, 2.0] + 0.4 + 0.01 * rng.normal(size=x.size)
    fit = vp.fit(kind("a") + kind("b") + vp.Constant("bg"), x, y)
    for name, value in (("a.center", 6.0), ("b.center", 11.0), ("a", 3.0), ("b", 2.0)):
        assert abs(fit[name].value - value) < 4 * fit[name].stderr
    for key, value in truth.items():
        assert abs(abs(fit[f"a.{key}"].value) - value) < 4 * fit[f"a.{key}"].stderr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vp.PseudoVoigt("p", width=1.0, fwhm=2.0), "PseudoVoigt 'p' needs either"),
        (lambda: vp.Pearson7("p", width=1.0, fwhm=2.0), "Pearson7 'p' needs either"),
        (lambda: vp.Pearson7("p", shape=vp.Param(-1.0, upper=0.0)), "positive shape"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(vp.InputError, match=message):
        make()
