"""Where searches end: at the natural ends of widths and rates, past infinity, and never on a false claim."""

import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.optimize
from published_models import NIST, lre, published, run

import varpro as vp

X = np.linspace(0.0, 20.0, 81)


def noise(seed, size=X.size):
    return np.random.default_rng(seed).normal(size=size)


def least_of_one_line(y, gaussian):
    """Chi-square of one Gaussian or Lorentzian over a constant, by scipy from the truth."""

    def parts(theta):
        u = (X - theta[0]) / theta[1]
        bell = np.exp(-0.5 * u**2) if gaussian else 1 / (1 + u**2)
        return u, bell, theta[2] * bell + theta[3]

    def jac(theta):
        u, bell, _ = parts(theta)
        slope = theta[2] * (u * bell if gaussian else 2 * u * bell**2) / theta[1]
        return np.stack([slope, slope * u, bell, np.ones_like(X)], axis=1)

    tight = {"xtol": 1e-13, "ftol": 1e-14, "gtol": 1e-14}
    best = scipy.optimize.least_squares(
        lambda theta: parts(theta)[2] - y, [9.0, 1.5, 3.0, 0.5], jac, method="lm", **tight
    )
    return 2 * best.cost


@pytest.mark.parametrize("kind", [vp.Gaussian, vp.Lorentzian])
def test_a_voigt_peak_may_end_as_one_of_its_halves(kind):
    u = (X - 9.0) / 1.5
    clean = 3.0 * (np.exp(-0.5 * u**2) if kind is vp.Gaussian else 1 / (1 + u**2)) + 0.5
    ends = 0
    for seed in range(8):
        y = clean + 0.03 * noise(seed)
        fit = vp.fit(vp.Voigt("v") + vp.Constant("c"), X, y)
        half = least_of_one_line(y, kind is vp.Gaussian)
        assert fit.success, fit.message
        assert fit.chisq <= half * (1 + 1e-9)
        widths = fit["v.sigma"].value, fit["v.gamma"].value
        assert min(widths) >= 0
        ends += min(widths) == 0
    # The best value lies beyond the end in half of all draws.
    assert ends > 0


def test_voigt_peaks_of_many_curves_may_end_as_one_of_their_halves():
    u = (X - 9.0) / 1.5
    rng = np.random.default_rng(7)
    for kind, shape in ((vp.Gaussian, np.exp(-0.5 * u**2)), (vp.Lorentzian, 1 / (1 + u**2))):
        y = 3.0 * shape + 0.5 + 0.03 * rng.normal(size=(100, X.size))
        fit = vp.fit_many(vp.Voigt("v") + vp.Constant("c"), X, y)
        half = np.array([least_of_one_line(one, kind is vp.Gaussian) for one in y])
        assert fit.success.all(), fit.counts
        assert (fit.chisq <= half * (1 + 1e-8)).all()
        width = fit["v.gamma" if kind is vp.Gaussian else "v.sigma"].value
        assert (width >= 0).all() and 20 < np.sum(width == 0) < 80


def test_a_peak_of_type_seven_may_end_as_a_gaussian():
    # Its shape is then infinite, and the best one beyond that in half of all draws.
    clean = 3.0 * np.exp(-0.5 * ((X - 9.0) / 1.5) ** 2) + 0.5
    for seed in range(8):
        y = clean + 0.03 * noise(seed)
        fit = vp.fit(vp.Pearson7("p") + vp.Constant("c"), X, y)
        assert fit.success, fit.message
        assert fit.chisq <= least_of_one_line(y, True) * (1 + 1e-6)


def test_no_width_is_negative():
    y = np.exp(-0.5 * ((X - 9.0) / 1.5) ** 2) + 0.1 + 0.02 * noise(1)
    rng = np.random.default_rng(2)
    best = vp.fit(vp.Gaussian("g", center=9.0, width=1.5) + vp.Constant("c"), X, y).cost
    found = 0
    for _ in range(20):
        center, width = rng.uniform(2.0, 18.0), 10 ** rng.uniform(-0.7, 1.2)
        fit = vp.fit(vp.Gaussian("g", center=center, width=width) + vp.Constant("c"), X, y)
        assert fit["g.width"].value >= 0
        found += fit.success and fit.cost <= best * (1 + 1e-6)
    assert found > 10
    with pytest.raises(vp.InputError, match="outside .0, inf., where it has a meaning"):
        vp.fit(vp.Gaussian("g", center=9.0, width=-1.5) + vp.Constant("c"), X, y)


def least_of_a_wave(y):
    """Chi-square of a wave that does not decay, of the best frequency beside the true one."""

    def left(freq):
        phi = np.stack([np.cos(2 * np.pi * freq * X), np.sin(2 * np.pi * freq * X)], axis=1)
        return np.sum((y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]) ** 2)

    return scipy.optimize.minimize_scalar(left, (0.3, 0.31, 0.32), options={"xtol": 1e-10}).fun


def test_a_wave_that_does_not_decay_ends_there():
    ends = set()
    for decay in ({"tau": 10.0}, {"rate": 0.1}):
        for seed in (3, 6):
            y = np.cos(2 * np.pi * 0.31 * X + 0.4) + 0.05 * noise(seed)
            fit = vp.fit(vp.Oscillation("o", freq=0.3, **decay), X, y)
            still = least_of_a_wave(y)
            assert fit.success, fit.message
            (name,) = decay
            assert fit[f"o.{name}"].value >= 0
            # A lifetime of one sign ends at 1e8 times its start, a rate at 0.
            assert fit.chisq <= still * (1 + 1e-6)
            ends.add(bool(fit[f"o.{name}"].at_bound))
    # With the noise of seed 6 growth would fit best.
    assert ends == {False, True}


@pytest.mark.parametrize("start", [None, 1.0, 30.0, -1.0])
def test_a_lifetime_passes_from_decay_to_growth(start):
    model = vp.Exp("e", tau=start) + vp.Constant("c")
    for tau in (-8.0, 4.0, -40.0):
        fit = vp.fit(model, X, np.exp(-X / tau) + 5.0)
        assert fit.success, fit.message
        # A curve that is nearly straight tells its lifetime to fewer digits.
        np.testing.assert_allclose([*fit.alpha, *fit.coef], [tau, 1.0, 5.0], rtol=1e-7)


def test_bounds_keep_the_sign_of_a_lifetime():
    y = np.exp(X / 8.0) + 5.0
    fit = vp.fit(vp.Exp("e", tau=vp.Param(1.0, lower=0.1)) + vp.Constant("c"), X, y)
    assert fit["e.tau"].value > 0
    rate = vp.fit(vp.Exp("e", rate=0.5) + vp.Constant("c"), X, y)
    np.testing.assert_allclose(rate["e.rate"].value, -1 / 8.0, rtol=1e-8)


def test_starts_of_stretched_and_saturating_curves():
    for tau, beta in ((4.0, 0.6), (0.8, 0.4), (9.0, 1.6)):
        y = 4 * np.exp(-((X / tau) ** beta)) + 1 + 0.01 * noise(5)
        found = vp.fit(vp.StretchedExp("s") + vp.Constant("c"), X, y)
        known = vp.StretchedExp("s", tau=tau, beta=beta) + vp.Constant("c")
        assert found.cost <= vp.fit(known, X, y).cost * (1 + 1e-6)
        several = vp.fit(vp.StretchedExp("s") + vp.Constant("c"), X, y, starts=4)
        assert several.cost <= found.cost * (1 + 1e-6)
    fit = vp.fit(vp.Exp("e") + vp.Constant("c"), X, 5 * (1 - np.exp(-X / 6)))
    np.testing.assert_allclose([*fit.alpha, *fit.coef], [6.0, -5.0, 5.0], rtol=1e-9)


CENTER, WIDTH = (37.6, 47.7, 58.0, 68.0), (3.5, 3.4, 4.2, 3.7)
WIDE = np.linspace(0.0, 100.0, 480)


def four_peaks(seed):
    shapes = np.exp(-0.5 * ((WIDE[:, None] - CENTER) / np.array(WIDTH)) ** 2)
    clean = shapes @ np.array([1, 0.6, 0.5, 0.45]) + 0.5
    return clean + 0.02 * clean.max() * noise(seed, WIDE.size)


def of_peaks(starts):
    parts = [vp.Gaussian(f"g{i}", center=c, width=w) for i, (c, w) in enumerate(starts)]
    return sum(parts, vp.Constant("c"))


@pytest.mark.parametrize("seed", range(0, 20, 2))
def test_overlapping_peaks_are_found_without_starts(seed):
    y = four_peaks(seed)
    fit = vp.fit(of_peaks([(None, None)] * 4), WIDE, y)
    known = vp.fit(of_peaks(zip(CENTER, WIDTH, strict=True)), WIDE, y)
    assert fit.success
    assert fit.chisq <= known.chisq * (1 + 1e-6)


def test_peaks_that_run_together_are_no_success():
    model = of_peaks([(37.2, 3.3), (52.4, 6.5), (53.0, 3.3), (68.1, 3.8)])
    y = four_peaks(0)
    fit = vp.fit(model, WIDE, y)
    assert (fit.success, fit.stop) == (False, "merged")
    assert "run together" in fit.message
    fit = vp.fit(model, {"a": (WIDE, y), "b": (WIDE, 2 * y)})
    assert (fit.success, fit.stop) == (False, "merged")
    single = vp.fit(model, WIDE.astype(np.float32), y.astype(np.float32))
    assert not single.success
    # Two peaks that are there, one the opposite of the other, are a success.
    apart = np.exp(-0.5 * ((WIDE - 40) / 5) ** 2) - np.exp(-0.5 * ((WIDE - 44) / 5) ** 2)
    y = apart + 0.001 * noise(1, WIDE.size)
    fit = vp.fit(
        vp.Gaussian("a", center=39.0, width=5.0) + vp.Gaussian("b", center=45.0, width=5.0), WIDE, y
    )
    assert fit.success


# From 68 a search goes downhill to one broad peak over all four, and from 47.7 to the one that is there.
@pytest.mark.parametrize(("center", "far"), [(47.7, 12.0), (68.0, 25.0)])
def test_a_fit_of_one_peak_among_several_stays_where_its_start_leads(center, far):
    # The width strays, and the other peaks are left: but no start explains them with one peak, so that a larger
    # one elsewhere is no answer.
    model = vp.Gaussian("g", center=center, width=9.0) + vp.Constant("c")
    for width in (0.5, 9.0):
        fit = vp.fit(model, WIDE, four_peaks(0), init={"g.width": width})
        near = vp.fit(model, WIDE, four_peaks(0), init={"g.width": fit["g.width"].value})
        assert fit["g.center"].value == pytest.approx(near["g.center"].value, rel=1e-6)
        assert abs(fit["g.center"].value - center) < far


def test_a_decay_under_peaks_in_few_samples():
    x = np.linspace(0.0, 60.0, 65)
    for seed in (8, 19):
        rng = np.random.default_rng(seed)
        center = np.array([14.0, 27.0, 42.0]) + rng.uniform(-3, 3, 3)
        width, height = rng.uniform(2.0, 3.5, 3), rng.uniform(0.6, 1.2, 3)
        y = 2 * np.exp(-x / 12) + np.exp(-0.5 * ((x[:, None] - center) / width) ** 2) @ height
        y = y + 0.02 * rng.normal(size=x.size)
        free = sum([vp.Gaussian(f"g{i}") for i in range(3)], vp.Exp("e"))
        starts = zip(center, width, strict=True)
        parts = [vp.Gaussian(f"g{i}", center=c, width=w) for i, (c, w) in enumerate(starts)]
        known = vp.fit(sum(parts, vp.Exp("e", tau=12.0)), x, y)
        assert vp.fit(free, x, y).chisq <= known.chisq * (1 + 1e-6)


def test_a_search_gets_past_the_pole_of_a_formula():
    x = np.arange(40.0, 121.0, 5.0)
    y = 0.02 * np.exp(5000 / (x + 300)) * (1 + 1e-4 * noise(0, x.size))

    def pole(theta, x):
        return jnp.exp(theta["b"] / (x + theta["d"]))

    near = vp.fit(pole, x, y, init={"b": 8000.0, "d": 500.0})
    assert near.success
    # From far away the search meets the pole, and points near that start do not all.
    for b, d in ((300000.0, 20000.0), (400000.0, 25000.0), (100000.0, 8000.0)):
        far = vp.fit(pole, x, y, init={"b": b, "d": d})
        assert far.success, far.message
        np.testing.assert_allclose(far.alpha, near.alpha, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_success_where_the_data_do_not_see_a_component(dtype):
    x = np.linspace(400.0, 500.0, 35).astype(dtype)
    y = np.exp(-(((x - 452.0) / 4.2) ** 2) / 2) / 4.2

    def peak(theta, x):
        return jnp.exp(-(((x - theta["q"]) / theta["w"]) ** 2) / 2) / theta["w"]

    for q, w in ((500.0, 10.0), (490.0, 10.0), (410.0, 5.0)):
        fit = vp.fit(peak, x, y.astype(dtype), init={"q": q, "w": w})
        right = abs(fit["q"].value - 452.0) < 1e-3 and abs(abs(fit["w"].value) - 4.2) < 1e-3
        assert right if fit.success else fit.stop == "vanished"
    # From here all see it with help.
    assert vp.fit(peak, x, y.astype(dtype), init={"q": 500.0, "w": 10.0}).success


def test_default_tolerances_keep_digits_of_slow_searches():
    form, problem = NIST["ENSO"], oracles.load("ENSO")
    for start in problem.starts:
        fit = run(form, problem, start)
        values, _ = published(form, fit)
        assert lre(values, problem.certified) > 7.0


DECAY = vp.Exp("e", tau=1.0) + vp.Constant("c")


@pytest.mark.parametrize(
    ("dtype", "size", "sigma", "message"),
    [
        (float, 1e200, None, "so large .* of float64. Give it in another unit.$"),
        (complex, 1e200, None, "so large"),
        (float, 1e-200, None, "so small"),
        (np.float32, 1e25, None, "so large .* of float32. Give it in another unit or as float64"),
        (np.float32, 1e-30, None, "so small"),
        (float, 1.0, 1e-300, "so large .*e.300 times its weight"),
        (float, 1.0, 1e300, "so small"),
    ],
)
def test_data_whose_squares_are_no_numbers_are_refused(dtype, size, sigma, message):
    y = (size * (3 * np.exp(-X / 2) + 0.5)).astype(dtype)
    x, sigma = X.astype(y.real.dtype), None if sigma is None else np.full(X.shape, sigma)
    with pytest.raises(vp.InputError, match=message):
        vp.fit(DECAY, x, y, sigma=sigma)
    with pytest.raises(vp.InputError, match="Data set 'a': y is so"):
        vp.fit(DECAY, {"a": (x, y)}, sigma=None if sigma is None else {"a": sigma})


def test_fewer_positions_than_parameters_determine_nothing():
    two = np.repeat([0.0, 1.0], 50)
    with pytest.raises(vp.InputError, match="x has 2 different values.* 2 linear and 1 nonlinear"):
        vp.fit(DECAY, two, np.exp(-two))
    several = np.exp(-two)[:, None] * np.arange(1.0, 4.0)
    with pytest.raises(vp.InputError, match="x has 2 different values"):
        vp.fit(DECAY, two, several)
    # Three positions are enough.
    three = np.repeat([0.0, 1.0, 3.0], 27)
    assert vp.fit(DECAY, three, 3 * np.exp(-three / 2) + 0.5).success
    used = np.arange(81) < 54
    with pytest.raises(vp.InputError, match="x has 2 different values"):
        vp.fit(DECAY, three, 3 * np.exp(-three / 2) + 0.5, mask=used)


@pytest.mark.parametrize(
    ("dtype", "sizes"), [(float, (1e-140, 1e150)), (np.float32, (1e-15, 1e15))]
)
def test_sizes_that_are_taken_end_at_the_same_optimum(dtype, sizes):
    y = 3 * np.exp(-X / 2) + 0.5 + 0.01 * noise(0)
    x = X.astype(dtype)
    plain = vp.fit(DECAY, x, y.astype(dtype))
    for size in sizes:
        fit = vp.fit(DECAY, x, (size * y).astype(dtype))
        assert plain.success and fit.success
        error = plain["e.tau"].stderr
        # Searches end within ftol of each other, and single precision keeps six digits of the residual.
        assert abs(fit.alpha - plain.alpha)[0] < 1e-2 * error
        assert abs(fit["e.tau"].stderr / error - 1) < 1e-2
    batch = vp.fit_many(DECAY, x, (np.array([*sizes, 1.0])[:, None] * y).astype(dtype))
    assert np.all(batch.status == 1)
    np.testing.assert_allclose(batch.alpha[:, 0], plain.alpha[0], atol=1e-2 * error)


@pytest.mark.parametrize("kind", ["normal", "poisson"])
def test_a_lifetime_that_no_sample_tells_is_no_success(kind):
    # From here the decay is over before the second sample, and the slope of the cost vanishes.
    y = np.round(300 * np.exp(-X / 2) + 50)
    for tau in (1e-12, 1e-5):
        model = vp.Exp("e", tau=tau) + vp.Constant("c")
        fits = [vp.fit(model, X, y, noise=kind), vp.fit(model, {"a": (X, y), "b": (X, y)})]
        for fit in fits:
            assert (fit.success, fit.stop) == (False, "vanished")
            assert fit["e.tau"].stderr == np.inf
        many = vp.fit_many(model, X, y[None], noise=kind)
        assert not many.success.any() and many["e.tau"].stderr == np.inf
    # One that is short and that the samples tell, and a center that is 0, are successes.
    near = vp.fit(DECAY, X, np.exp(-X / 0.05) + 0.5 + 1e-6 * noise(7))
    assert near.success and abs(near["e.tau"].value - 0.05) < 5 * near["e.tau"].stderr
    x = X - 10.0
    even = np.exp(-0.5 * (x / 2.0) ** 2) + 0.1
    peak = vp.Gaussian("g", center=0.0, width=1.5) + vp.Constant("c")
    assert vp.fit(peak, x, even).success
    assert vp.fit(peak, {"a": (x, even), "b": (x, 2 * even)}).success
    assert vp.fit_many(peak, x, even[None]).success.all()


def test_a_parameter_of_many_columns_is_told_by_those_that_are_not_zero():
    # A distribution under one background: places where nothing is have coefficients of zero.
    places = np.linspace(0.5, 6.0, 12)

    def spread(theta, x):
        return jnp.exp(-x[:, None] / places - theta["loss"] * x[:, None])

    weights = np.where(abs(places - 2.0) < 0.6, 1.0, 0.0)
    y = np.asarray(spread({"loss": 0.05}, X)) @ weights + 1e-3 * noise(3)
    model = vp.Custom("", spread, {"loss": 0.06})
    fit = vp.fit(model, X, y, nonnegative=True, smooth={"c*": 1e-4})
    assert np.any(fit.coef == 0) and np.any(fit.coef > 0)
    assert fit.success, fit.message
    rows, zeros = 1e-2 * np.diff(np.eye(12), 2, axis=0), np.zeros(10)

    def left(loss):
        phi = np.asarray(spread({"loss": loss}, X))
        return scipy.optimize.nnls(np.concatenate([phi, rows]), np.concatenate([y, zeros]))

    step = 1e-2 * fit["loss"].stderr
    costs = [left(fit.alpha[0] + d)[1] for d in (-step, 0.0, step)]
    assert costs[1] <= min(costs) * (1 + 1e-9)
    np.testing.assert_allclose(fit.coef, left(fit.alpha[0])[0], atol=1e-6)

    # Of columns that are made each of a lifetime of its own, as a dict tells, one that is zero tells nothing.
    def two(theta, x):
        return {"a": jnp.exp(-x / theta["s"]), "b": jnp.exp(-x / theta["t"])}

    y = np.exp(-X / 2.0) - 0.2 * np.exp(-X / 9.0) + 1e-2 * noise(4)
    fit = vp.fit(
        vp.Custom("", two, {"s": 2.1, "t": 15.0}), X, y, bounds={"t": (8, 30)}, nonnegative=True
    )
    assert fit["b"].value == 0 and (fit.success, fit.stop) == (False, "vanished")
