"""Bases: formulas, their grouping, and their table of partial derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varpro as vp
from varpro.basis import build_model

X = np.linspace(0.1, 5.0, 40)


def evaluate(basis, values):
    model = build_model(basis.prepared(X, np.dtype(float)))
    phi = eqx.filter_jit(model.evaluate)(X, jnp.asarray(values))
    return np.asarray(phi)[:, list(model.order)]


def test_exp_by_lifetime_and_by_rate_agree():
    np.testing.assert_allclose(
        evaluate(vp.Exp("a", tau=1.0), [2.5]), evaluate(vp.Exp("a", rate=1.0), [0.4]), rtol=1e-14
    )


def test_gaussian_fwhm_is_the_full_width_at_half_maximum():
    basis = build_model(vp.Gaussian("g", center=0.0, fwhm=1.0))
    half = basis.evaluate(np.array([-0.7, 0.7]), jnp.array([0.0, 1.4]))
    np.testing.assert_allclose(half, 0.5, rtol=1e-14)


def test_lorentzian_width_is_the_half_width_at_half_maximum():
    basis = build_model(vp.Lorentzian("l", center=0.0, width=1.0))
    half = basis.evaluate(np.array([1.0 - 0.7, 1.0 + 0.7]), jnp.array([1.0, 0.7]))
    np.testing.assert_allclose(half, 0.5, rtol=1e-14)


def test_polynomial_columns_are_powers_named_by_degree():
    basis = vp.Polynomial("p", degree=2)
    assert basis.column_names == ("p.0", "p.1", "p.2")
    np.testing.assert_allclose(evaluate(basis, []), np.stack([X**0, X, X**2], 1), rtol=1e-14)


def test_columns_come_in_the_order_of_the_user_whatever_the_grouping():
    basis = (
        vp.Gaussian("g", center=1.0, width=0.3)
        + vp.Exp("a", tau=2.0)
        + vp.Constant("bg")
        + vp.Gaussian("h", center=3.0, width=0.6)
        + vp.Exp("b", tau=4.0)
    )
    values = [p.init for p in basis.parameters.values()]
    expected = [
        np.exp(-0.5 * ((X - 1) / 0.3) ** 2),
        np.exp(-X / 2),
        np.ones_like(X),
        np.exp(-0.5 * ((X - 3) / 0.6) ** 2),
        np.exp(-X / 4),
    ]
    np.testing.assert_allclose(evaluate(basis, values), np.stack(expected, 1), rtol=1e-14)


def test_fifty_peaks_are_one_group():
    def program(count):
        peaks = [vp.Gaussian(f"g{i}", center=float(i), width=1.0) for i in range(count)]
        model = build_model(sum(peaks, start=vp.Constant("bg")))
        return len(jax.make_jaxpr(lambda v: model.evaluate(X, v))(np.ones(2 * count)).eqns)

    assert program(50) == program(2)


MIXED = (
    vp.Exp("a", tau=2.0)
    + vp.Exp("r", rate=0.3)
    + vp.Gaussian("g", center=1.0, width=0.3)
    + vp.Gaussian("h", center=3.0, width=0.6)
    + vp.Lorentzian("l", center=2.0, fwhm=0.6)
    + vp.Polynomial("p", degree=1)
    + vp.Custom("u", lambda th, x: (jnp.sin(th["w"] * x), x ** th["k"]), {"w": 2.0, "k": 0.5})
)


def test_partials_table_is_the_derivative_of_phi():
    basis = MIXED.prepared(X, np.dtype(float))
    model = build_model(basis)
    values = jnp.array([p.init for p in basis.parameters.values()])
    table, evaluate = eqx.filter_jit(model.partials)(X, values), eqx.filter_jit(model.evaluate)
    n, q = len(model.columns), len(model.names)
    dense = np.zeros((X.size, n, q))
    for i, (column, parameter) in enumerate(zip(table.column, table.parameter, strict=True)):
        dense[:, column, parameter] += np.asarray(table.values[:, i])
    step = 1e-6
    for j in range(q):
        up, down = (evaluate(X, values.at[j].add(s)) for s in (step, -step))
        np.testing.assert_allclose(dense[:, :, j], (up - down) / (2 * step), atol=2e-8)


@pytest.mark.parametrize("out", ["dict", "tuple", "array"])
def test_custom_function_may_return_dict_tuple_or_array(out):
    def function(theta, x):
        a, b = jnp.exp(-x / theta["T"]), jnp.ones_like(x)
        return {"dict": {"a": a, "b": b}, "tuple": (a, b), "array": jnp.stack([a, b], 1)}[out]

    basis = vp.Custom("f", function, {"T": 2.0}).prepared(X, np.dtype(float))
    assert basis.column_names == (("f.a", "f.b") if out == "dict" else ("f.c0", "f.c1"))
    np.testing.assert_allclose(evaluate(basis, [2.0])[:, 0], np.exp(-X / 2), rtol=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vp.Exp("a", tau=1.0, rate=1.0), "Exp 'a' needs either tau or rate, not both"),
        (lambda: vp.Gaussian("g", width=1.0, fwhm=1.0), "Gaussian 'g' needs either width or fwhm"),
        (lambda: vp.Polynomial("p", degree=-1), "needs degree >= 0, not -1"),
        (lambda: vp.Param(1.0, lower=2.0, upper=1.0), "lower < upper"),
        (lambda: vp.Param(float("nan")), "A start must be finite"),
        (lambda: build_model(vp.Constant("a") + vp.Constant("a")), "the name 'a'"),
    ],
)
def test_wrong_bases_are_refused_by_name(make, message):
    with pytest.raises(vp.InputError, match=message):
        make()


def test_columns_of_a_dict_keep_their_own_order():
    x = np.linspace(0.0, 2.0, 30)
    function = lambda th, x: {"z": x, "a": jnp.exp(-th["r"] * x)}  # noqa: E731
    fit = vp.fit(function, x, 2.0 * x + 5.0 * np.exp(-3.0 * x), init={"r": 2.5})
    assert fit.columns == ("z", "a")
    np.testing.assert_allclose([fit["z"].value, fit["a"].value], [2.0, 5.0], rtol=1e-6)
