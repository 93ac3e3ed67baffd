"""Promises on bad input and odd data that no other file of tests shows: one table, a row for each."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import SIGMAS, assert_same_optimum

import varpro as vp

# As many that two samples more are still of one program.
T = np.linspace(0.0, 5.0, 38)
Y = 3 * np.exp(-T / 1.2) + 0.5 + 0.01 * np.cos(31 * T)
MODEL = vp.Exp("a", tau=1.0) + vp.Constant("bg")


def changed(values, index, value):
    out = np.array(values)
    out[index] = value
    return out


REFUSED = {
    "infinite data": (lambda: vp.fit(MODEL, T, changed(Y, 7, np.inf)), "1 non-finite value at"),
    "a weight that is no number": (
        lambda: vp.fit(MODEL, T, Y, weights=changed(np.ones(38), 3, np.nan)),
        r"weights contains non-finite values at index \[3\]",
    ),
    "one negative weight": (
        lambda: vp.fit(MODEL, T, Y, weights=changed(np.ones(38), 3, -1.0)),
        r"weights must be zero or more, but is not at index \[3\]",
    ),
    "fewer data than parameters": (
        lambda: vp.fit(MODEL, T[:2], Y[:2]),
        r"2 data points cannot determine 3 parameters \(1 nonlinear, 2 linear\)",
    ),
    "fewer data of weight than parameters": (
        lambda: vp.fit(MODEL, T, Y, weights=np.where(np.arange(38) < 2, 1.0, 0.0)),
        "2 data points cannot determine 3 parameters",
    ),
    "an overflow at the start": (
        lambda: vp.fit(MODEL, T, Y, init={"a.tau": -0.001}),
        r"Column 'a' is not finite at the start \(a\.tau = -0\.001\)",
    ),
    "bounds the wrong way round": (
        lambda: vp.fit(MODEL, T, Y, bounds={"a.tau": (5.0, 2.0)}),
        r"Bounds must satisfy lower < upper, but \[5, 2\]",
    ),
    "a bound that is no number": (
        lambda: vp.fit(MODEL, T, Y, bounds={"a.tau": (np.nan, 2.0)}),
        r"Bounds must satisfy lower < upper, but \[nan, 2\]",
    ),
    "a start outside its bounds": (
        lambda: vp.fit(MODEL, T, Y, bounds={"a.tau": (2.0, 5.0)}),
        r"init for a\.tau = 1 lies outside its bounds \[2, 5\]",
    ),
    "a response on steps of two sizes": (
        lambda: vp.MeasuredIRF("irf", np.array([0.0, 0.1, 0.3, 0.4]), np.ones(4)),
        r"needs x uniform and ascending, but x\[1\] = 0\.1 is followed by 0\.3",
    ),
}


@pytest.mark.parametrize(("call", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused_with_its_place(call, said):
    with pytest.raises(vp.InputError, match=said):
        call()


# Data to which the same model says the same: what is fitted, and by how much c and its error change.
SAME = {
    "descending": (T[::-1], Y[::-1], None, 1.0),
    "twice at half the weight": (np.r_[T, T], np.r_[Y, Y], np.full(76, 0.5**0.5), 1.0),
    "in other units": (T, 1e-6 * Y, None, 1e-6),
    "beside samples without weight": (
        np.r_[T, 1.0, 2.0],
        np.r_[Y, 9e9, -9e9],
        np.r_[np.ones(38), 0, 0],
        1.0,
    ),
}


@pytest.mark.parametrize(("x", "y", "weights", "factor"), SAME.values(), ids=SAME)
def test_the_same_data_in_another_form_give_the_same_fit(x, y, weights, factor):
    plain = vp.fit(MODEL, T, Y, absolute_sigma=True)
    other = vp.fit(MODEL, x, y, weights=weights, absolute_sigma=weights is not None)
    assert_same_optimum(other, plain, size=factor)
    if weights is not None:
        np.testing.assert_allclose(other.alpha_stderr, plain.alpha_stderr, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_units_of_x_change_nothing_but_the_lifetime(size):
    model = vp.Exp("a", tau=size) + vp.Constant("bg")
    fit, plain = vp.fit(model, size * T, Y), vp.fit(MODEL, T, Y)
    assert fit.success
    gap = (fit.alpha / size - plain.alpha) / plain.alpha_stderr
    np.testing.assert_allclose(gap, 0.0, atol=SIGMAS)
    np.testing.assert_allclose(fit.alpha_stderr, size * plain.alpha_stderr, rtol=1e-6)


def test_data_of_half_precision_are_fitted_as_their_copy_in_single_precision_or_more():
    half = Y.astype(np.float16)
    one = vp.fit(MODEL, T, half)
    two = vp.fit(MODEL, T, half.astype(one.alpha.dtype))
    assert one.alpha.dtype in (np.float32, np.float64)
    np.testing.assert_array_equal(one.alpha, two.alpha)


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_constant_data_determine_no_lifetime(level):
    fit = vp.fit(MODEL, T, np.full(38, level))
    assert not np.isfinite(fit["a.tau"].stderr)
    assert "undetermined" in [finding.code for finding in fit.diagnostics]
    np.testing.assert_allclose(fit.fitted, level, atol=1e-12)
    if level == 0:
        assert not np.any(fit.coef_stderr == 0)  # nothing is known to all its digits


def test_as_many_data_as_parameters_leave_no_errors():
    fit = vp.fit(MODEL, T[:3], Y[:3])
    assert fit.dof == 0
    assert np.isnan(fit.alpha_stderr).all() and np.isnan(fit.coef_stderr).all()


@pytest.mark.parametrize("end", ["lower", "upper"])
def test_a_start_on_its_bound_leaves_it(end):
    bounds = (1.0, 5.0) if end == "lower" else (0.1, 1.0)
    inside = bounds if end == "lower" else (1.0, 5.0)
    start = {"a.tau": vp.Param(1.0)} if end == "lower" else {"a.tau": vp.Param(5.0)}
    fit = vp.fit(MODEL, T, Y, bounds={"a.tau": inside}, init=start)
    np.testing.assert_allclose(fit.alpha, vp.fit(MODEL, T, Y).alpha, rtol=1e-7)
    assert np.isfinite(fit.alpha_stderr).all()


def test_an_optimum_on_a_bound_is_said_and_has_no_error():
    fit = vp.fit(MODEL, T, Y, bounds={"a.tau": (0.5, 1.0)})
    assert fit.success and fit["a.tau"].at_bound and fit["a.tau"].value == 1.0
    assert np.isnan(fit["a.tau"].stderr)


def test_a_third_component_of_two_is_told():
    y = 2 * np.exp(-T / 0.5) + np.exp(-T / 3) + 1e-3 * np.cos(57 * T)
    model = vp.Exp("a", tau=0.3) + vp.Exp("b", tau=1.0) + vp.Exp("c", tau=5.0)
    codes = {finding.code for finding in vp.fit(model, T, y).diagnostics}
    assert codes & {"cond", "undetermined", "vanishing", "correlated", "rank"}


def _decay(tau, t):
    return jnp.stack([jnp.exp(-t / tau), jnp.ones_like(t)], axis=1)


def test_double_precision_is_not_lost_in_silence():
    with jax.enable_x64(False):
        with pytest.warns(UserWarning, match="float64.*float32.*jax_enable_x64"):
            vp.solve(_decay, Y, 1.0, args=T.astype(np.float32))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            narrow = Y.astype(np.float32), np.float32(1.0)
            found = vp.solve(_decay, *narrow, args=T.astype(np.float32))
            # A fit computes in the precision of its data, whatever the setting is.
            fit = vp.fit(MODEL, T, Y)
    assert found.value.dtype == np.float32 and fit.alpha.dtype == np.float64
