"""Stretched exponentials and oscillations against their formulas, at the edges too."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varpro as vp
from varpro.basis import build_model

X = np.linspace(0.0, 8.0, 41)


def derivatives_agree(basis, x, values, rtol=1e-6):
    """The table of partials against central differences of the columns."""
    model = build_model(basis.prepared(x, np.dtype(float)))
    values = jnp.asarray(values)
    table, evaluate = eqx.filter_jit(model.partials)(x, values), eqx.filter_jit(model.evaluate)
    dense = np.zeros((x.size, len(model.columns), len(model.names)))
    for i, (column, parameter) in enumerate(zip(table.column, table.parameter, strict=True)):
        dense[:, column, parameter] += np.asarray(table.values[:, i])
    assert np.isfinite(dense).all()
    for j in range(len(model.names)):
        step = 1e-5 * max(1.0, abs(float(values[j])))
        up, down = (evaluate(x, values.at[j].add(s)) for s in (step, -step))
        np.testing.assert_allclose(dense[:, :, j], (up - down) / (2 * step), rtol=rtol, atol=1e-8)


def test_stretched_exponential_is_its_formula():
    basis = build_model(vp.StretchedExp("a", tau=2.0, beta=0.6))
    found = basis.evaluate(X, jnp.array([2.0, 0.6]))[:, 0]
    np.testing.assert_allclose(found, np.exp(-((X / 2.0) ** 0.6)), rtol=1e-14)


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.5])
def test_stretched_exponential_has_finite_derivatives_also_at_zero(beta):
    derivatives_agree(vp.StretchedExp("a", tau=2.0, beta=beta), X, [2.0, beta])


@pytest.mark.parametrize(("dtype", "large"), [(np.float64, 1e60), (np.float32, 1e9)])
def test_stretched_exponential_neither_overflows_nor_divides_by_zero(dtype, large):
    x = np.array([0.0, 1 / large, 1.0, large], dtype)
    model = build_model(vp.StretchedExp("a", tau=1.0, beta=1.0))
    evaluate = jax.jit(lambda v: model.evaluate(x, v))
    slopes = jax.jit(jax.jacrev(lambda v: model.evaluate(x, v)))
    for beta in (1e-3, 1.0, 50.0):
        for tau in (1 / large, 1.0, large):
            values = jnp.asarray([tau, beta], dtype)
            phi = np.asarray(evaluate(values))
            assert phi.dtype == dtype
            assert np.isfinite(phi).all() and (phi >= 0).all() and (phi <= 1).all()
            scaled = np.asarray(slopes(values)) * np.asarray(values)
            assert np.isfinite(scaled).all()


def test_stretched_exponential_refuses_negative_x():
    with pytest.raises(vp.InputError, match="'a' needs x >= 0, but x goes down to -1"):
        vp.fit(vp.StretchedExp("a", tau=1.0), X - 1.0, X)


def test_a_stretched_decay_is_found(rng):
    x = np.linspace(0.0, 10.0, 200)
    y = 3.0 * np.exp(-((x / 1.7) ** 0.55)) + 0.4
    model = vp.StretchedExp("a", tau=1.0) + vp.Constant("bg")
    fit = vp.fit(model, x, y)
    assert fit.success
    np.testing.assert_allclose(fit.alpha, [1.7, 0.55], rtol=1e-6)
    noisy = vp.fit(model, x, y + 0.01 * rng.normal(size=x.size))
    pull = (noisy["a.beta"].value - 0.55) / noisy["a.beta"].stderr
    assert abs(pull) < 4


@pytest.mark.parametrize(
    ("given", "envelope"),
    [
        ({"tau": 3.0}, lambda x: np.exp(-x / 3)),
        ({"rate": 0.25}, lambda x: np.exp(-x / 4)),
        ({}, np.ones_like),
        ({"tau": 3.0, "envelope": "gaussian"}, lambda x: np.exp(-(x**2) / 18)),
    ],
)
def test_oscillation_is_its_formula_and_its_derivative(given, envelope):
    basis = vp.Oscillation("o", freq=0.7, **given)
    assert basis.column_names == ("o.cos", "o.sin")
    values = [p.init for p in basis.parameters.values()]
    found = build_model(basis).evaluate(X, jnp.asarray(values))
    wave = np.stack([np.cos(1.4 * np.pi * X), np.sin(1.4 * np.pi * X)], 1)
    np.testing.assert_allclose(found, envelope(X)[:, None] * wave, atol=1e-14)
    derivatives_agree(basis, X, values)


def test_an_oscillation_of_any_phase_is_found():
    x = np.linspace(0.0, 10.0, 300)
    y = 2.0 * np.exp(-x / 4) * np.cos(2 * np.pi * 1.3 * x + 0.8) + np.exp(-x / 1.5)
    model = vp.Oscillation("o", freq=1.25, tau=3.0) + vp.Exp("d", tau=1.0)
    fit = vp.fit(model, x, y)
    assert fit.success
    np.testing.assert_allclose([fit["o.freq"].value, fit["o.tau"].value], [1.3, 4.0], rtol=1e-7)
    a, b = fit["o.cos"].value, fit["o.sin"].value
    np.testing.assert_allclose([np.hypot(a, b), np.arctan2(-b, a)], [2.0, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tau": 1.0, "rate": 1.0}, "Oscillation 'o' needs either tau or rate, not both"),
        ({"envelope": "square"}, "Oscillation 'o' needs envelope .* not 'square'"),
    ],
)
def test_wrong_oscillations_are_refused(given, message):
    with pytest.raises(vp.InputError, match=message):
        vp.Oscillation("o", freq=1.0, **given)
