"""B-splines against scipy's."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate

import varpro as vp
from varpro.basis import build_model

X = np.linspace(-1.0, 4.0, 83)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5])
def test_columns_are_scipys(degree):
    knots = np.array([-1.0, -0.2, 0.3, 2.0, 4.0])
    basis = vp.BSpline("s", knots=knots, degree=degree)
    t = np.r_[[knots[0]] * degree, knots, [knots[-1]] * degree]
    expected = interpolate.BSpline.design_matrix(X, t, degree).toarray()
    evaluate = eqx.filter_jit(build_model(basis).evaluate)
    found = evaluate(jnp.asarray(X), jnp.zeros(0))
    np.testing.assert_allclose(found, expected, atol=1e-14)
    assert len(basis.column_names) == expected.shape[1]
    np.testing.assert_allclose(basis.evaluate(X, {}), expected, atol=1e-14)
    outside = np.concatenate([[-1.1, 4.1], X[2:]])
    assert not np.any(evaluate(jnp.asarray(outside), jnp.zeros(0))[:2])


def test_a_count_puts_evenly_spaced_knots_under_the_data(rng):
    y = np.sin(2 * X) + 3 * np.exp(-0.5 * ((X - 1.5) / 0.1) ** 2) + 0.01 * rng.normal(size=X.size)
    model = vp.BSpline("base", count=9) + vp.Gaussian("peak", center=1.4, width=0.15)
    fit = vp.fit(model, X, y)
    t = np.r_[[-1.0] * 3, np.linspace(-1.0, 4.0, 7), [4.0] * 3]
    base = interpolate.BSpline.design_matrix(X, t, 3).toarray() @ [
        fit[f"base.{i}"].value for i in range(9)
    ]
    np.testing.assert_allclose(fit.components()["peak"] + base, fit.fitted, atol=1e-12)
    assert abs(fit["peak.center"].value - 1.5) < 4 * fit["peak.center"].stderr


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "either knots or count"),
        ({"knots": [0.0, 1.0], "count": 5}, "either knots or count"),
        ({"count": 3}, "4 columns or more, not 3"),
        ({"knots": [0.0, 0.0]}, "ascending knots"),
        ({"knots": [0.0]}, "two knots or more"),
        ({"count": 3, "degree": -1}, "degree >= 0"),
    ],
)
def test_what_makes_no_sense_is_refused(keys, message):
    keys = keys | ({"knots": np.array(keys["knots"])} if "knots" in keys else {})
    with pytest.raises(vp.InputError, match=message):
        vp.BSpline("s", **keys)
