"""Starts that are left out are found: close to the truth, inside bounds, cheap, the same each time."""

import jax.numpy as jnp
import numpy as np
import pytest

import varpro as vp
from varpro._problem.data import prepare_data
from varpro._problem.model_like import starts_of
from varpro._problem.options import Constraints, Weighting
from varpro._starts.guess import guess_starts

T = np.linspace(0.0, 10.0, 200)
X = np.linspace(0.0, 100.0, 400)


def summed(kind, count, start, **every):
    return sum((kind(f"c{i}", **every) for i in range(count)), start=start)


def started(kind, **values):
    """The same components with starts: `started(vp.Exp, tau=[1.0, 2.0])`."""
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return [kind(f"c{i}", **row) for i, row in enumerate(rows)]


def guess(model, x, y, init=(), bounds=(), **how):
    data = {k: how.pop(k) for k in ("sigma", "weights", "mask") if k in how}
    params = starts_of(model, dict(init), dict(bounds))
    return guess_starts(model, params, prepare_data(x, y, Weighting(**data)), Constraints(**how))


def values(found):
    return np.array([param.init for param in found.values()])


def reaches(fit, best):
    """Whether a fit ends no higher than the one that was started from the truth."""
    return fit.cost <= best.cost * (1 + 1e-6)


def decays(t, taus, amplitudes, level=0.0):
    return np.exp(-t[:, None] / np.array(taus)) @ np.array(amplitudes) + level


def peaks(x, centers, widths, heights, kind=vp.Gaussian):
    u = (x[:, None] - np.array(centers)) / np.array(widths)
    shape = np.exp(-0.5 * u**2) if kind is vp.Gaussian else 1 / (1 + u**2)
    return shape @ np.array(heights) + 0.2 - 0.003 * x


def two(noise, key="tau"):
    y = decays(T, [0.6, 4.0], [3.0, -2.0], 0.5) + 0.02 * noise.normal(size=T.size)
    model = summed(vp.Exp, 2, vp.Constant("bg"), **{key: vp.Param()})
    return model, y


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("snr", [50, 500])
def test_random_decays_end_where_the_fit_from_the_truth_ends(count, snr, rng):
    reached = 0
    for _ in range(10):
        taus = 0.15 * np.cumprod(rng.uniform(2.5, 4.0, count))
        amplitudes = rng.uniform(0.4, 1, count) * rng.choice([1, 1, -1], count)
        y = decays(T, taus, amplitudes, 0.3) + rng.normal(size=T.size) / snr
        best = vp.fit(sum(started(vp.Exp, tau=taus), start=vp.Constant("bg")), T, y)
        reached += reaches(vp.fit(summed(vp.Exp, count, vp.Constant("bg")), T, y), best)
    assert reached >= (10 if count < 3 else 9)


@pytest.mark.parametrize(
    ("kind", "count"), [(vp.Gaussian, 1), (vp.Lorentzian, 3), (vp.Gaussian, 6)]
)
def test_random_peaks_on_a_baseline_end_where_the_fit_from_the_truth_ends(kind, count, rng):
    reached = 0
    for _ in range(8):
        widths = rng.uniform(0.8, 3.0, count)
        centers = np.linspace(0, 100, count + 2)[1:-1] + rng.uniform(-2, 2, count)
        heights = rng.uniform(0.3, 1, count) * rng.choice([1, 1, -1], count)
        y = peaks(X, centers, widths, heights, kind) + 0.01 * rng.normal(size=X.size)
        baseline = vp.Polynomial("base", degree=1)
        true = sum(started(kind, center=centers, width=widths), start=baseline)
        reached += reaches(vp.fit(summed(kind, count, baseline), X, y), vp.fit(true, X, y))
    assert reached >= 7


def test_the_guess_alone_is_close_and_is_told_by_the_fit(rng):
    model, y = two(rng)
    fit = vp.fit(model, T, y)
    told = [fit[name].init for name in ("c0.tau", "c1.tau")]
    np.testing.assert_allclose(told, [0.6, 4.0], rtol=0.3)
    assert fit["c0.tau"].init != fit["c0.tau"].value
    assert vp.fit(model, T, y) == fit


def test_components_take_increasing_lifetimes_rates_decrease(rng):
    model, y = two(rng, "rate")
    assert np.all(np.diff(values(guess(two(rng)[0], T, y))) > 0)
    np.testing.assert_allclose(values(guess(model, T, y)), [1 / 0.6, 1 / 4.0], rtol=0.4)
    both = {"c0.tau": 4.0, "c1.tau": 0.6}
    turned = guess(two(rng)[0], T, y, order=[("c1.tau", "c0.tau")])
    np.testing.assert_allclose(values(turned), list(both.values()), rtol=0.4)
    rates = guess(model, T, y, order=[("c0.rate", "c1.rate")])
    np.testing.assert_allclose(values(rates), [1 / 4.0, 1 / 0.6], rtol=0.4)


def test_neither_form_nor_order_of_the_data_matters(rng):
    model, y = two(rng)
    plain = values(guess(model, T, y))
    keep = np.ones(T.size, bool)
    keep[[5, 50, 120]] = False
    spoilt = np.where(keep, y, 1e6)
    ways = {
        "descending": guess(model, T[::-1], y[::-1]),
        "in other units": guess(model, T, 1e-9 * y),
        "masked": guess(model, T, spoilt, mask=keep),
        "zero weight": guess(model, T, spoilt, weights=keep.astype(float)),
        "sigma": guess(model, T, np.where(keep, y, y + 5), sigma=np.where(keep, 0.02, 1e4)),
        "columns": guess(model, T, np.stack([y, 2 * y], axis=1)),
        "float32": guess(model, T.astype(np.float32), y.astype(np.float32)),
        "complex": guess(model, T, (1 - 2j) * y),
    }
    for way, found in ways.items():
        np.testing.assert_allclose(values(found), plain, rtol=0.1, err_msg=way)
    scaled = guess(model, 1e-9 * T, y)
    np.testing.assert_allclose(values(scaled), 1e-9 * plain, rtol=1e-6)


def test_samples_may_lie_anywhere(rng):
    t = np.geomspace(1e-3, 1e3, 120)
    y = decays(t, [0.02, 30.0], [1.0, 2.0]) + 0.01 * rng.normal(size=t.size)
    found = guess(summed(vp.Exp, 2, vp.Constant("bg")), t, y)
    np.testing.assert_allclose(values(found), [0.02, 30.0], rtol=0.4)


def test_many_samples_are_averaged_and_short_lifetimes_survive(rng):
    m = 20_000
    t = np.linspace(0, 10, m)
    y = decays(t, [0.004, 3.0], [1.0, 2.0], 0.1) + 0.01 * rng.normal(size=m)
    order = rng.permutation(m)
    found = guess(summed(vp.Exp, 2, vp.Constant("bg")), t[order], y[order])
    np.testing.assert_allclose(values(found), [0.004, 3.0], rtol=0.4)


def test_many_right_hand_sides_are_condensed(rng):
    amplitudes = rng.normal(size=(2, 300))
    y = np.exp(-T[:, None] / [0.6, 4.0]) @ amplitudes + 0.02 * rng.normal(size=(T.size, 300))
    found = guess(summed(vp.Exp, 2, vp.Constant("bg")), T, y)
    np.testing.assert_allclose(values(found), [0.6, 4.0], rtol=0.2)


def test_given_starts_and_known_columns_are_kept_and_used(rng):
    known = vp.Custom("u", lambda th, t: jnp.sin(th["w"] * t), {"w": 3.0})
    y = decays(T, [0.6, 4.0], [3.0, 2.0], 0.5) + 40 * np.sin(3.0 * T)
    y = y + 0.01 * rng.normal(size=T.size)
    model = vp.Exp("b") + known + vp.Exp("a", tau=0.6) + vp.Constant("bg")
    found = guess(model, T, y)
    assert found["a.tau"].init == 0.6 and found["u.w"].init == 3.0
    np.testing.assert_allclose(found["b.tau"].init, 4.0, rtol=0.2)
    offset = vp.Offset(vp.Custom("", lambda th, t: 40 * jnp.sin(th["w"] * t), {"w": 3.0}))
    found = guess(vp.Exp("b") + offset + vp.Exp("a", tau=0.6) + vp.Constant("bg"), T, y)
    np.testing.assert_allclose(found["b.tau"].init, 4.0, rtol=0.2)


@pytest.mark.parametrize("key", ["width", "fwhm"])
@pytest.mark.parametrize("kind", [vp.Gaussian, vp.Lorentzian])
def test_half_a_peak_may_be_given(kind, key, rng):
    scale = {"width": 1.0, "fwhm": 2.0 if kind is vp.Lorentzian else 2.3548}[key]
    y = peaks(X, [30.0, 60.0], [2.0, 5.0], [1.0, -0.7], kind) + 0.01 * rng.normal(size=X.size)
    baseline = vp.Polynomial("base", degree=1)
    model = kind("a", center=30.0, **{key: vp.Param(lower=0.1)}) + kind("b", **{key: 5.0 * scale})
    found = guess(model + baseline, X, y)
    assert found["a.center"].init == 30.0 and found[f"b.{key}"].init == 5.0 * scale
    np.testing.assert_allclose(found[f"a.{key}"].init, 2.0 * scale, rtol=0.3)
    np.testing.assert_allclose(found["b.center"].init, 60.0, atol=1.5)


@pytest.mark.parametrize("box", [(1e-3, 0.2), (0.5, 0.6), (100.0, 1e4), (-3.0, -1.0), (-1.0, 1.0)])
def test_a_guess_never_lies_outside_its_bounds(box, rng):
    _, y = two(rng)
    model = summed(vp.Exp, 2, vp.Constant("bg"), tau=vp.Param(lower=box[0], upper=box[1]))
    found = values(guess(model, T, y))
    assert np.all((box[0] <= found) & (found <= box[1])) and found[0] != found[1]
    centers = guess(vp.Gaussian("a") + vp.Gaussian("b"), T, y, bounds={"*.center": box})
    found = np.array([centers["a.center"].init, centers["b.center"].init])
    assert np.all((box[0] <= found) & (found <= box[1])) and found[0] != found[1]
    vp.fit(model, T, y)  # bounds are not broken later either, and no start is refused


def test_bounds_decide_which_component_is_which(rng):
    model, y = two(rng)
    found = guess(model, T, y, bounds={"c0.tau": (2.0, 50.0), "c1.tau": (0.0, 2.0)})
    np.testing.assert_allclose(values(found), [4.0, 0.6], rtol=0.3)


def test_order_holds_beside_a_given_neighbour(rng):
    model, y = two(rng)
    for given in (0.5, 5.0, 30.0):
        found = guess(model, T, y, init={"c0.tau": given}, order=[("c0.tau", "c1.tau")])
        assert found["c1.tau"].init > found["c0.tau"].init == given
    peak = summed(vp.Gaussian, 3, vp.Constant("bg"))
    y = peaks(X, [20.0, 50.0, 80.0], [4.0, 3.0, 2.0], [1.0, 1.0, 1.0])
    found = guess(peak, X, y, order=[("c0.center", "c1.center"), ("c0.width", "c1.width")])
    assert found["c0.center"].init < found["c1.center"].init
    assert found["c0.width"].init < found["c1.width"].init


def test_tied_widths_are_guessed_once_for_all(rng):
    y = peaks(X, [25.0, 50.0, 70.0], [2.5] * 3, [1.0, 0.5, 0.8]) + 0.01 * rng.normal(size=X.size)
    model = summed(vp.Gaussian, 3, vp.Polynomial("base", degree=1))
    tie = {"c1.width": "c0.width", "c2.width": "c1.width"}
    found = guess(model, X, y, tie=tie)
    np.testing.assert_allclose(found["c0.width"].init, 2.5, rtol=0.2)
    assert found["c1.width"].init is None
    fit = vp.fit(model, X, y, tie=tie)
    centers = [fit[f"c{i}.center"].value for i in range(3)]
    np.testing.assert_allclose(centers, [25.0, 50.0, 70.0], atol=0.2)


def test_a_prior_says_where_to_look(rng):
    _, y = two(rng)
    model = vp.Exp("a", tau=vp.Param(prior=(1.5, 0.1))) + vp.Constant("bg")
    assert 1.3 <= guess(model, T, y)["a.tau"].init <= 1.7


@pytest.mark.parametrize("y", [np.zeros(200), np.full(200, 2.0), np.r_[1.0, np.zeros(199)]])
def test_data_that_say_nothing_still_get_distinct_starts(y):
    for model in (summed(vp.Exp, 3, vp.Constant("bg")), summed(vp.Gaussian, 3, vp.Constant("bg"))):
        found = np.array(list(values(guess(model, T, y)))).reshape(3, -1)
        assert len({tuple(row) for row in found}) == 3
        assert np.isfinite(found).all()


def test_what_nobody_can_guess_is_asked_for():
    function = lambda th, t: jnp.sin(th["w"] * t)  # noqa: E731
    y = np.sin(T)
    with pytest.raises(vp.InputError, match="u.w has no start. Give one, such as init="):
        vp.fit(vp.Custom("u", function, {"w": vp.Param()}), T, y)
    with pytest.raises(vp.InputError, match="u.w has no start"):
        vp.fit(vp.Custom("u", function, {"w": vp.Param()}) + vp.Exp("a"), T, y)
    with pytest.raises(vp.InputError, match="a.tau has no start"):
        vp.fit(vp.Exp("a"), T, y, fix="a.tau")
    with pytest.raises(vp.InputError, match="a.tau has no start"):
        vp.fit(vp.Exp("a", tau=vp.Param(fixed=True)), T, y)
    with pytest.raises(vp.InputError, match="nothing in common"):
        box = {"a.tau": (0.0, 1.0), "b.tau": (2.0, 3.0)}
        vp.fit(vp.Exp("a") + vp.Exp("b"), T, y, bounds=box, tie={"b.tau": "a.tau"})
    with pytest.raises(vp.InputError, match="cannot determine"):
        vp.fit(summed(vp.Gaussian, 3, vp.Constant("bg")), T[:5], y[:5])


def test_other_starts_are_sought_around_a_guess(rng):
    model, y = two(rng)
    fit = vp.fit(model, T, y, starts=4)
    assert fit.start_costs.shape == (4,)
    np.testing.assert_allclose(fit["c1.tau"].value, 4.0, rtol=0.1)


def test_a_saved_fit_with_a_guess_reads_back(rng, tmp_path):
    pytest.importorskip("h5netcdf")
    model, y = two(rng)
    fit = vp.fit(model, T, y)
    fit.save(tmp_path / "fit.nc")
    assert vp.load(tmp_path / "fit.nc") == fit
