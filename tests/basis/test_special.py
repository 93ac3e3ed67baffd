"""Functions of the error function's family against scipy, quadrature and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from varpro.basis import _faddeeva

erfcx, faddeeva, filtered_decay = map(
    jax.jit, (_faddeeva.erfcx, _faddeeva.faddeeva, _faddeeva.filtered_decay)
)

Z = np.concatenate([np.linspace(0.0, 30.0, 601), np.geomspace(1e-12, 1e30, 400)])


def test_erfcx_has_all_its_digits_everywhere():
    np.testing.assert_allclose(erfcx(jnp.asarray(Z)), special.erfcx(Z), rtol=3e-15)
    assert erfcx(jnp.asarray(np.inf)) < 1e-100


def test_erfcx_in_single_precision():
    z = Z.astype(np.float32)
    found = np.asarray(erfcx(jnp.asarray(z)))
    assert found.dtype == np.float32
    keep = z < 1e14  # what is beyond is below 1e-14
    np.testing.assert_allclose(found[keep], special.erfcx(z.astype(float))[keep], rtol=3e-6)


def derivatives_of_erfcx(z):
    """The first three, by 2 z f - 2/sqrt(pi) where that has its digits and by a series elsewhere."""
    k = np.arange(12)
    # erfcx = sum a_k z^-(2k+1) with a_k = (-1)^k (2k-1)!! / 2^k / sqrt(pi)
    a = (-0.5) ** k * special.factorial2(np.maximum(2 * k - 1, 1), exact=False) / np.sqrt(np.pi)
    out, factor = [], a
    for order in range(1, 4):
        factor = -factor * (2 * k + order)
        far = np.sum(factor * z[:, None] ** (-2.0 * k - 1 - order), axis=1)
        out.append(far)
    f = special.erfcx(z)
    f1 = 2 * z * f - 2 / np.sqrt(np.pi)
    f2 = 2 * f + 2 * z * f1
    f3 = 4 * f1 + 2 * z * f2
    return [np.where(z > 8, far, near) for far, near in zip(out, (f1, f2, f3), strict=True)]


def test_derivatives_of_erfcx_of_every_order_have_their_digits():
    z = np.concatenate([np.linspace(0.01, 2.0, 40), np.geomspace(20.0, 1e8, 40)])
    function = lambda v: erfcx(v)  # noqa: E731
    for expected, rtol in zip(derivatives_of_erfcx(z), (1e-13, 1e-12, 1e-10), strict=True):
        function = jax.grad(function)
        np.testing.assert_allclose(jax.jit(jax.vmap(function))(jnp.asarray(z)), expected, rtol=rtol)


def test_faddeeva_has_its_digits_in_the_upper_half_plane():
    x = np.concatenate([np.linspace(0, 20, 200), np.geomspace(1e-3, 1e8, 100)])
    y = np.concatenate([[0.0], np.geomspace(1e-10, 1e8, 60)])
    z = (np.concatenate([-x, x])[:, None] + 1j * y).ravel()
    found, expected = np.asarray(faddeeva(jnp.asarray(z))), special.wofz(z)
    np.testing.assert_array_less(np.abs(found - expected), 6e-14 * np.abs(expected))


def test_derivative_of_faddeeva_is_right_near_and_far():
    x, y = np.meshgrid(np.linspace(-12, 12, 49), [0.0, 0.01, 1.0, 5.0])
    z = (x + 1j * y).ravel()
    _, found = jax.jvp(faddeeva, (jnp.asarray(z),), (jnp.ones(z.shape, complex),))
    expected = -2 * z * special.wofz(z) + 2j / np.sqrt(np.pi)
    np.testing.assert_allclose(found, expected, atol=3e-13)
    far = np.array([1e3, 1e6 + 1e6j, 3e9j])
    _, found = jax.jvp(faddeeva, (jnp.asarray(far),), (jnp.ones(3, complex),))
    np.testing.assert_allclose(found, -1j / np.sqrt(np.pi) / far**2, rtol=3e-6)
    np.testing.assert_allclose(found[1:], (-1j / np.sqrt(np.pi) / far**2)[1:], rtol=1e-11)


def by_quadrature(t, rate, width):
    """The convolution as an integral over the Gaussian, in its own units; over the decay where that
    is much the shorter one."""
    if rate * width > 1e4:
        at, weight = np.polynomial.laguerre.laggauss(12)
        bell = np.exp(-0.5 * ((t - at / rate) / width) ** 2) / width / np.sqrt(2 * np.pi)
        return weight @ bell / rate

    def integrand(v):
        return np.exp(-rate * (t - width * v) - 0.5 * v * v) / np.sqrt(2 * np.pi)

    upper = min(t / width, 40.0)
    # The decay falls off below the upper end within 1 / (rate width); look there closely.
    edges = upper - np.array([0.0, 1.0, 5.0, 40.0]) / abs(rate * width)
    edges = np.unique(np.clip(np.r_[edges, np.linspace(-40.0, upper, 9)], -40.0, upper))
    parts = [
        integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-13, limit=200)[0]
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]
    return sum(parts)


@pytest.mark.parametrize("product", [1e-6, 1e-3, 0.1, 1.0, 10.0, 1e3, 1e6])
def test_a_decay_after_a_gaussian_is_the_convolution(product):
    t = np.array([-8.0, -3.0, -0.5, 0.0, 0.4, 1.0, 3.0, 6.0, 20.0])
    found = filtered_decay(jnp.asarray(t), jnp.asarray(product), jnp.asarray(1.0))
    expected = np.array([by_quadrature(v, product, 1.0) for v in t])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14 * expected.max())


def test_a_complex_rate_is_a_decaying_oscillation():
    t = np.linspace(-4.0, 10.0, 57)
    # Ten widths beyond the last t; Simpson's rule with these steps is off by 1e-12.
    s = np.linspace(0, 16, 32001)
    rate, width = 0.3 + 4.0j, 0.6
    found = filtered_decay(t, jnp.asarray(rate), jnp.asarray(width))
    bell = np.exp(-0.5 * ((t[:, None] - s) / width) ** 2) / width / np.sqrt(2 * np.pi)
    expected = integrate.simpson(np.exp(-rate * s) * bell, x=s, axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-11)
    real = filtered_decay(t, jnp.asarray(0.3 + 0j), jnp.asarray(width))
    np.testing.assert_allclose(real, filtered_decay(t, jnp.asarray(0.3), jnp.asarray(width)), 1e-12)


EITHER = jax.jacfwd, jax.jacrev


@pytest.mark.parametrize("width", [0.0, 1e-300, 1e-20])
def test_without_width_a_decay_begins_with_a_step(width):
    t = jnp.array([-1.0, -1e-3, 0.0, 1e-3, 1.0, 10.0])
    expected = np.where(t > 0, np.exp(-0.7 * t), np.where(t == 0, 0.5, 0.0))
    point = (jnp.asarray(0.7), jnp.asarray(width))
    np.testing.assert_allclose(filtered_decay(t, *point), expected, rtol=1e-14)
    for d in EITHER:
        by_rate, by_width = jax.jit(d(lambda k, s: filtered_decay(t, k, s), (0, 1)))(*point)
        np.testing.assert_allclose(by_rate, -t * np.where(t > 0, expected, 0.0), atol=1e-14)
        np.testing.assert_array_equal(by_width, 0.0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_rate_or_width_overflows_also_in_derivatives(dtype):
    t = jnp.asarray(np.array([-1e4, -1.0, 0.0, 1e-3, 1.0, 1e4], dtype))
    slopes = [jax.jit(d(lambda k, s: filtered_decay(t, k, s), (0, 1))) for d in EITHER]
    for rate in (1e-8, 1.0, 1e8):
        for width in (1e-8, 1.0, 1e6):
            point = jnp.asarray(rate, dtype), jnp.asarray(width, dtype)
            value = filtered_decay(t, *point)
            assert value.dtype == dtype
            assert np.isfinite(value).all() and (value >= 0).all() and (value <= 1).all()
            for jacobian in slopes:
                for slope in jacobian(*point):
                    assert np.isfinite(slope).all()


@pytest.mark.parametrize("product", [1e-4, 0.3, 3.0, 1e3, 1e6])
def test_derivatives_of_a_filtered_decay_keep_their_digits(product):
    # f' + rate f = Gaussian holds for the derivative by t; by rate there is the integral of s f.
    t, rate, width = jnp.linspace(-3.0, 5.0, 33), jnp.asarray(product), jnp.asarray(1.0)
    f = lambda t, k, s: filtered_decay(t, k, s)  # noqa: E731
    value = f(t, rate, width)
    _, by_t = jax.jvp(lambda v: f(v, rate, width), (t,), (jnp.ones_like(t),))
    bell = np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(by_t + rate * value, bell, rtol=1e-12, atol=1e-14)
    _, by_rate = jax.jvp(lambda v: f(t, v, width), (rate,), (jnp.asarray(1.0),))
    step = 1e-3 * rate  # a stencil of fourth order
    shifted = [f(t, rate + i * step, width) for i in (-2, -1, 1, 2)]
    slope = (shifted[0] - 8 * shifted[1] + 8 * shifted[2] - shifted[3]) / (12 * step)
    np.testing.assert_allclose(by_rate * rate, slope * rate, rtol=2e-10, atol=1e-11 * value.max())
