"""States of differential equations as columns."""

import importlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import varpro as vp

X = np.linspace(0.0, 6.0, 30)


def dimer(x, y, theta):
    pair = theta["k2"] * y[0] ** 2
    return jnp.array([-2 * pair, pair - theta["k1"] * y[1]])


def reference(k2, k1, x=X):
    def field(_, y):
        return [-2 * k2 * y[0] ** 2, k2 * y[0] ** 2 - k1 * y[1]]

    found = solve_ivp(field, (0, x.max()), [1.0, 0.0], "DOP853", x, rtol=1e-12, atol=1e-14)
    return found.y.T


def model(k2=0.8, k1=0.3, **options):
    return vp.ODE("s", dimer, {"A": 1.0, "B": 0.0}, {"k2": k2, "k1": k1}, max_steps=1000, **options)


@eqx.filter_jit
def evaluated(basis, x, values):
    return basis.evaluate(x, values)


def columns(basis, k2, k1, x=X):
    return evaluated(basis, jnp.asarray(x), {"k2": jnp.asarray(k2), "k1": jnp.asarray(k1)})


@pytest.mark.parametrize("stiff", [False, True])
def test_states_are_those_of_scipy_in_any_order_of_x(rng, stiff):
    mixed = rng.permutation(X)
    found = columns(model(stiff=stiff), 1.1, 0.2, mixed)
    expected = reference(1.1, 0.2)[np.searchsorted(X, mixed)]
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_derivatives_are_those_by_differences():
    basis, h = model(), 1e-4
    at = (1.1, 0.2)
    along = jax.jit(lambda at, step: jax.jvp(lambda *k: columns(basis, *k), at, step)[1])
    for direction in ((1.0, 0.0), (0.0, 1.0)):
        slope = along(*(tuple(map(jnp.asarray, v)) for v in (at, direction)))
        plus, minus = (reference(*(a + s * h * d for a, d in zip(at, direction, strict=True)))
                       for s in (1, -1))  # fmt: skip
        np.testing.assert_allclose(slope, (plus - minus) / (2 * h), atol=1e-6)


def test_a_linear_equation_is_a_kinetic_scheme():
    def field(x, y, theta):
        return jnp.array([-theta["k"] * y[0], theta["k"] * y[0] - theta["loss"] * y[1]])

    ode = vp.ODE("s", field, {"A": 1.0, "B": 0.0}, {"k": 2.0, "loss": 0.4})
    scheme = vp.Kinetics("s", {"A->B": 2.0, "B->": 0.4})
    values = [jnp.asarray(2.0), jnp.asarray(0.4)]
    found = evaluated(ode, jnp.asarray(X), dict(zip(("k", "loss"), values, strict=True)))
    expected = evaluated(scheme, jnp.asarray(X), dict(zip(("A->B", "B->"), values, strict=True)))
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_a_fit_finds_rates_and_signals(rng):
    y = reference(1.1, 0.2) @ [2.0, 3.0] + 1e-3 * rng.standard_normal(X.size)
    fit = vp.fit(model(), X, y)
    assert fit.success and fit.columns == ("s.A", "s.B")
    for name, truth in (("s.k2", 1.1), ("s.k1", 0.2), ("s.A", 2.0), ("s.B", 3.0)):
        assert abs(fit[name].value - truth) < 5 * fit[name].stderr < 0.1


def test_a_solver_that_fails_is_nan_and_a_start_like_that_is_refused():
    # What pairs with a negative rate grows beyond all bounds before x = 1, and steps come to an end.
    assert np.isnan(columns(model(), -1.0, 0.3)).all()
    with pytest.raises(vp.InputError, match="Column 's.A' is not finite at the start"):
        vp.fit(model(), X, np.ones(X.size), init={"s.k2": -1.0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vp.fit(model(), X - 1.0, X), "starts at x0 = 0, but x goes down to -1"),
        (lambda: vp.ODE("s", dimer, {"A": np.nan}), "finite start values"),
        (
            lambda: vp.fit(vp.ODE("s", dimer, [1.0, 0.0], {"k2": 1.0}), X, X),
            "asked for the parameter 'k1', which has no start; known: k2",
        ),
        (
            lambda: vp.fit(vp.ODE("s", lambda x, y, theta: y[:1], [1.0, 0.0]), X, X),
            r"returned \(1,\) for 2 states",
        ),
    ],
)
def test_what_cannot_be_right_is_refused(make, message):
    with pytest.raises(vp.InputError, match=message):
        make()


def test_without_diffrax_it_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def missing(name, *rest):
        if name == "diffrax":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(vp.InputError, match=r"pip install varpro\[ode\]"):
        model()
