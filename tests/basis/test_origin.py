"""Formulas that begin at an x: data far from 0 give what the same data at 0 do."""

import numpy as np
import pytest

import varpro as vp

X = np.linspace(0.0, 10.0, 81)
NOISE = 1e-3 * np.random.default_rng(5).normal(size=X.size)
Y = 3.0 * np.exp(-X / 2.0) + 0.5 + NOISE
OFFSETS = (100.0, 300.0, 1000.0, 2000.0, 56210.0, 1.7e9, -800.0)
GIVEN = vp.Exp("e", tau=1.0) + vp.Constant("c")
# An origin is an array of its program, wherever it is: with one at 0, data at 0 and far away share programs.
FROM_ZERO = vp.Exp("e", tau=1.0, origin=0.0) + vp.Constant("c")
FREE = vp.Exp("e") + vp.Constant("c")
HELD = vp.Exp("e", tau=vp.Param(2.0, fixed=True)) + vp.Constant("c")


def rounding(off):
    """What the rounding of x does: a unit in its last place over a lifetime, with room for the condition."""
    return 1e-9 + 100 * np.spacing(abs(off))


@pytest.fixture(scope="module")
def at_zero():
    return {model: vp.fit(model, X, Y) for model in (GIVEN, FREE, HELD)}


@pytest.mark.parametrize("off", OFFSETS)
@pytest.mark.parametrize("model", [GIVEN, FREE, HELD], ids=["given", "free", "held"])
def test_a_decay_far_from_zero_is_that_at_zero(at_zero, model, off):
    here, there = at_zero[model], vp.fit(model, X + off, Y)
    tol = rounding(off)
    assert there.success, there.message
    np.testing.assert_allclose(there.alpha, here.alpha, rtol=tol)
    np.testing.assert_allclose(there.alpha_stderr, here.alpha_stderr, rtol=100 * tol)
    # The residual is a thousandth of the curve, and x at 1.7e9 is known to 2e-7.
    np.testing.assert_allclose(there.chisq, here.chisq, rtol=1e3 * tol)
    np.testing.assert_allclose(there.fitted, here.fitted, atol=10 * tol)
    np.testing.assert_allclose(there["c"].value, here["c"].value, rtol=10 * tol)
    np.testing.assert_allclose(there.predict(X + off), there.fitted, rtol=1e-12)
    # The amplitude is that at 0, and where that is out of proportion the one at the first x.
    origin = there["e"].origin
    assert origin == (None if abs(off) <= 300 else off)
    size = np.log(there["e"].value) - np.log(here["e"].value)
    expected = 0.0 if origin else off / here["e.tau"].value
    np.testing.assert_allclose(size, expected, atol=off * tol if off > 0 else tol, rtol=10 * tol)


def test_an_origin_is_where_the_coefficient_is_the_amplitude(at_zero):
    here = at_zero[GIVEN]
    model = vp.Exp("e", tau=1.0, origin=300.0) + vp.Constant("c")
    there = vp.fit(model, X + 300.0, Y)
    np.testing.assert_allclose(there.coef, here.coef, rtol=1e-9)
    np.testing.assert_allclose(there.coef_stderr, here.coef_stderr, rtol=1e-7)
    assert "at x = 300" in there.report()
    # Beside the data, a lifetime before them.
    early = vp.fit(vp.Exp("e", tau=1.0, origin=-2.0) + vp.Constant("c"), X, Y)
    factor = np.exp(2.0 / here["e.tau"].value)
    np.testing.assert_allclose(early["e"].value, factor * here["e"].value, rtol=1e-9)


def test_units_weights_and_several_data_sets_far_from_zero(at_zero):
    here = at_zero[GIVEN]
    scaled = vp.fit(GIVEN, X + 2000.0, 1e12 * Y, sigma=np.full(X.size, 1e9))
    np.testing.assert_allclose(scaled["e.tau"].value, here["e.tau"].value, rtol=1e-9)
    np.testing.assert_allclose(scaled.coef, 1e12 * here.coef, rtol=1e-9)
    sets = {"far": (X + 2000.0, Y), "near": (X, 2 * Y), "some": (X + 100.0, Y)}
    fit = vp.fit(GIVEN, sets)
    assert fit.success
    np.testing.assert_allclose(fit["e.tau"].value, here["e.tau"].value, rtol=1e-9)
    np.testing.assert_allclose(fit["far.e"].value, here["e"].value, rtol=1e-9)
    np.testing.assert_allclose(fit["near.e"].value, 2 * here["e"].value, rtol=1e-9)
    amplitude = np.exp(100.0 / here["e.tau"].value) * here["e"].value
    np.testing.assert_allclose(fit["some.e"].value, amplitude, rtol=1e-6)
    assert "at x = 2000" in fit.report()


def test_many_curves_far_from_zero():
    y = np.stack([Y, 2 * Y, 3 * np.exp(-X / 3) + 0.1])
    here = vp.fit_many(FROM_ZERO, X, y)
    for off in (100.0, 2000.0):
        there = vp.fit_many(GIVEN, X + off, y)
        assert there.success.all(), there.counts
        np.testing.assert_allclose(there.alpha, here.alpha, rtol=1e-7)
        np.testing.assert_allclose(there["c"].value, here["c"].value, rtol=1e-6)
        np.testing.assert_allclose(there.predict(), here.predict(), atol=1e-6)
        single = vp.fit(GIVEN, X + off, Y)
        np.testing.assert_allclose(there["e"].value[0], single["e"].value, rtol=1e-5)
        np.testing.assert_allclose(there["e"].stderr[0], single["e"].stderr, rtol=1e-5)
        assert there["e"].origin == single["e"].origin
    assert "at x = 2000" in there.report()
    assert there.to_dataset()["e"].attrs["amplitude_at_x"] == 2000.0


DECAYS = {
    "stretched": (
        lambda **o: vp.StretchedExp("s", tau=1.5, beta=0.9, **o),
        [np.exp(-((X / 2.0) ** 0.8))],
    ),
    "kinetics": (
        lambda **o: vp.Kinetics("s", {"A->B": 2.0, "B->": 0.3}, **o),
        [np.exp(-1.5 * X), 1.5 / 1.1 * (np.exp(-0.4 * X) - np.exp(-1.5 * X))],
    ),
    "oscillation": (
        lambda **o: vp.Oscillation("s", freq=0.51, tau=3.0, **o),
        [f(np.pi * X) * np.exp(-X / 2.0) for f in (np.cos, np.sin)],
    ),
    "gaussian": (
        lambda **o: vp.Oscillation("s", freq=0.51, tau=3.0, envelope="gaussian", **o),
        [f(np.pi * X) * np.exp(-0.5 * (X / 2.0) ** 2) for f in (np.cos, np.sin)],
    ),
}


@pytest.mark.parametrize("name", DECAYS)
def test_everything_that_decays_may_begin_far_from_zero(name):
    make, columns = DECAYS[name]
    model = make() + vp.Constant("c")
    y = 2.0 * columns[0] - (columns[1] if len(columns) > 1 else 1.0)
    y = y + (0.5 if len(columns) > 1 else 0.0) + NOISE
    here = vp.fit(make(origin=0.0) + vp.Constant("c"), X, y)
    assert here.success
    for off in (1000.0, 56210.0, -800.0):
        left = vp.fit(model, X + off, y)
        told = vp.fit(make(origin=off) + vp.Constant("c"), X + off, y)
        for there in (left, told):
            assert there.success, there.message
            np.testing.assert_allclose(there.alpha, here.alpha, rtol=1e-6)
            np.testing.assert_allclose(there.chisq, here.chisq, rtol=1e-6)
            np.testing.assert_allclose(there.coef, here.coef, rtol=1e-6)
        assert f"at x = {off:g}" in left.report()


def test_data_without_noise_far_from_zero():
    y = 3.0 * np.exp(-X / 2.0) + 0.5
    for off in (0.0, 100.0, 300.0, 2000.0):
        fit = vp.fit(FREE, X + off, y)
        many = vp.fit_many(GIVEN if off else FROM_ZERO, X + off, np.stack([y] * 3))
        assert fit.success and many.success.all(), many.counts
        np.testing.assert_allclose([*fit.alpha, fit["c"].value], [2.0, 0.5], rtol=1e-9)
        amplitude = 3.0 if off > 300 else 3.0 * np.exp(off / 2)
        for one in (fit["e"].value, *many["e"].value):
            np.testing.assert_allclose(one, amplitude, rtol=1e-7)


@pytest.mark.parametrize("gaussian", [None, 0.1])
def test_complex_waves_far_from_zero_keep_frequency_and_decay(gaussian):
    def start(**o):
        return vp.ComplexExp("w", freq=0.41, rate=0.25, gaussian=gaussian, **o)

    z = (2 - 1j) * np.exp((2j * np.pi * 0.4 - 0.3) * X) + NOISE * (1 + 1j)
    here = vp.fit(start(origin=0.0), X, z)
    for off in (1000.0, -800.0):
        for model in (start(), vp.ComplexExp("w", gaussian=gaussian, rate=vp.Param())):
            there = vp.fit(model, X + off, z)
            assert there.success
            np.testing.assert_allclose(there.alpha, here.alpha, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(there.chisq, here.chisq, rtol=1e-6)
            np.testing.assert_allclose(there.coef, here.coef, rtol=1e-4)


def test_waves_without_starts_far_from_zero():
    y = np.exp(-X / 4.0) * np.cos(2 * np.pi * 0.7 * X + 0.4) + 0.2 + NOISE

    def wave(**o):
        return vp.Oscillation("o", tau=vp.Param(), **o) + vp.Constant("c")

    here = vp.fit(wave(origin=0.0), X, y)
    for off in (2000.0, 1.7e9):
        there = vp.fit(wave(), X + off, y)
        np.testing.assert_allclose(there.alpha, here.alpha, rtol=1e-6)
        np.testing.assert_allclose(there.chisq, here.chisq, rtol=1e-3)


def test_growth_and_two_decays_far_from_zero():
    def decays(**o):
        return vp.Exp("a", tau=0.5, **o) + vp.Exp("b", tau=4.0, **o) + vp.Constant("c")

    y = np.exp(-X / 0.7) + 2 * np.exp(-X / 3.0) + 0.1 + NOISE
    here, there = vp.fit(decays(origin=0.0), X, y), vp.fit(decays(), X + 5000.0, y)
    np.testing.assert_allclose(there.alpha, here.alpha, rtol=1e-7)
    np.testing.assert_allclose(there.coef, here.coef, rtol=1e-7)

    def grown(**o):
        return vp.Exp("e", rate=-0.2, **o) + vp.Constant("c")

    y = np.exp(X / 3.0) + 5.0 + NOISE
    here, there = vp.fit(grown(origin=0.0), X, y), vp.fit(grown(), X - 5000.0, y)
    np.testing.assert_allclose(there.alpha, here.alpha, rtol=1e-9)
    np.testing.assert_allclose(there.coef, here.coef, rtol=1e-9)


def test_rules_for_coefficients_hold_where_the_user_said(at_zero):
    # An amplitude at 0 of at most 4e21 is below the best one, 1.56e22.
    fit = vp.fit(FROM_ZERO, X + 100.0, Y, init={"e.tau": 2.1}, bounds={"e": (0.0, 4e21)})
    assert fit["e"].value == pytest.approx(4e21)
    # A sign says the same everywhere.
    fit = vp.fit(GIVEN, X + 2000.0, Y, nonnegative="e")
    np.testing.assert_allclose(fit["e.tau"].value, at_zero[GIVEN]["e.tau"].value, rtol=1e-9)


def test_an_offset_counts_from_its_own_origin():
    known = vp.Offset(vp.Exp("k", tau=vp.Param(50.0, fixed=True)))
    y = np.exp(-(X + 100.0) / 50.0) + Y
    fit = vp.fit(known + GIVEN, X + 100.0, y)
    np.testing.assert_allclose(fit["e.tau"].value, 2.0, rtol=1e-3)
    np.testing.assert_allclose(fit["c"].value, 0.5, rtol=1e-2)


def test_origins_are_saved(tmp_path, at_zero):
    fit = vp.fit(GIVEN, X + 2000.0, Y)
    fit.save(tmp_path / "fit.nc")
    for again in (vp.load(tmp_path / "fit.nc"), vp.load(tmp_path / "fit.nc", model=GIVEN)):
        assert again["e"].origin == 2000.0
        np.testing.assert_array_equal(again.predict(X + 2001.0), fit.predict(X + 2001.0))
    assert fit.to_dataset()["amplitude_at_x"].values.tolist() == [2000.0, 0.0]
    assert fit.to_dict()["parameters"]["e"]["origin"] == 2000.0


@pytest.mark.parametrize("origin", [np.nan, np.inf, "far", [1.0, 2.0]])
def test_an_origin_is_a_finite_number(origin):
    with pytest.raises(vp.InputError, match="origin must be a finite number"):
        vp.Exp("e", tau=1.0, origin=origin)


def test_a_response_has_no_origin_beside_it():
    irf = vp.GaussianIRF("irf", center=0.3, width=0.1)
    for make in (vp.Exp, vp.StretchedExp):
        with pytest.raises(vp.InputError, match="either origin or irf"):
            make("e", tau=1.0, irf=irf, origin=3.0)


def test_x_before_an_origin_is_refused_where_the_formula_begins_there():
    with pytest.raises(vp.InputError, match="needs x >= 2, but x goes down to 0"):
        vp.fit(vp.StretchedExp("s", tau=1.0, origin=2.0), X, Y)
