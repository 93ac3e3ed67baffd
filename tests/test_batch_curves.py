"""Starts of every curve, positions of every curve, and what a batch tells of single curves."""

import pickle
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import varpro as vp

B = np.array([0, 10, 20, 35, 50, 80, 120, 200, 300, 400, 600, 800.0])
IVIM = vp.Exp("slow", rate=1e-3) + vp.Exp("fast", rate=2e-2)
BOX = {"slow.rate": (2e-4, 4e-3), "fast.rate": (5e-3, 0.2)}
T = np.linspace(0.0, 8.0, 30)
DECAY = vp.Exp("a", tau=1.0) + vp.Constant("c")


def voxels(rng, count, noise=0.03):
    f, d, pseudo = (
        rng.uniform(0, 0.3, count),
        rng.uniform(5e-4, 2e-3, count),
        10 ** rng.uniform(-2, -1, count),
    )
    s = (1 - f[:, None]) * np.exp(-np.outer(d, B)) + f[:, None] * np.exp(-np.outer(pseudo, B))
    return s + noise * rng.standard_normal(s.shape)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_noisy_voxels_end_at_the_best_of_many_starts(rng, nonnegative):
    y = voxels(rng, 512)
    inits = [
        (1e-3, 2e-2),
        *zip(10 ** rng.uniform(-3.6, -2.5, 11), 10 ** rng.uniform(-2.2, -0.8, 11), strict=True),
    ]
    each = [
        vp.fit_many(
            *(IVIM, B, y),
            bounds=BOX,
            nonnegative=nonnegative,
            init=dict(zip(BOX, map(float, init), strict=True)),
        )
        for init in inits
    ]
    several = vp.fit_many(IVIM, B, y, bounds=BOX, nonnegative=nonnegative, starts=256)
    costs = np.array([fit.chisq for fit in [*each, several]])
    at_best = costs <= costs.min(axis=0) * (1 + 1e-6)
    assert at_best[-1].mean() > 0.97, at_best.mean(axis=1)
    assert at_best[-1].mean() >= at_best[0].mean()
    # Another seed, other points; the same seed, the same bits; columns of vp.fit, the same starts.
    again = vp.fit_many(IVIM, B, y, bounds=BOX, nonnegative=nonnegative, starts=256)
    assert again == several


def test_starts_that_are_compared_know_weights_and_masks_of_each_curve(rng):
    y = voxels(rng, 64, 0.01)
    sigma = rng.uniform(0.005, 0.02, y.shape)
    mask = rng.uniform(size=y.shape) > 0.1
    options = {"bounds": BOX, "sigma": sigma, "mask": mask, "starts": 32}
    batch = vp.fit_many(IVIM, B, np.where(mask, y, np.nan), **options)
    for i in range(0, 64, 16):
        one = vp.fit(
            *(IVIM, B, y[i]),
            bounds=BOX,
            sigma=sigma[i],
            mask=mask[i],
            starts=32,
        )
        np.testing.assert_allclose(batch.chisq[i], one.chisq, rtol=1e-6)
    columns = vp.fit(IVIM, B, y.T, bounds=BOX, share="none", starts=32)
    assert np.array_equal(columns.alpha, vp.fit_many(IVIM, B, y, bounds=BOX, starts=32).alpha)
    with pytest.raises(vp.InputError, match="share nothing"):
        vp.fit_many(IVIM, B, y, bounds=BOX, share="fast.rate", starts=4)
    with pytest.raises(vp.InputError, match="starts"):
        vp.fit_many(IVIM, B, y, starts=0)


def plates(rng, shape=(4, 6)):
    x = np.sort(rng.uniform(0, 8, (*shape, T.size)), axis=-1)
    tau = rng.uniform(0.8, 2.0, shape)
    y = 3 * np.exp(-x / tau[..., None]) + 0.5 + 0.01 * rng.standard_normal(x.shape)
    return x, y


def test_every_curve_may_have_positions_of_its_own(rng):
    x, y = plates(rng)
    x[0, 0, 5] = np.nan  # that sample is left out
    batch = vp.fit_many(DECAY, x, y)
    assert batch.success.all()
    shown = batch.predict()
    for at in np.ndindex(4, 6):
        used = np.isfinite(x[at])
        one = vp.fit(DECAY, x[at][used], y[at][used])
        for name in batch:
            np.testing.assert_allclose(batch[name].value[at], one[name].value, rtol=1e-5)
            np.testing.assert_allclose(batch[name].stderr[at], one[name].stderr, rtol=1e-4)
        assert batch.dof[at] == one.dof
        np.testing.assert_allclose(shown[at][used], one.predict(), atol=1e-4)
    np.testing.assert_allclose(batch[0, 0]["a.tau"].value, batch["a.tau"].value[0, 0], rtol=1e-5)
    # Rows of a plate may have them in common, columns of vp.fit as well; many starts and shared ones, too.
    rows = vp.fit_many(DECAY, x[1, :1], y[1], starts=8, bounds={"a.tau": (0.1, 10.0)})
    one = vp.fit(DECAY, x[1, 0], y[1, 3])
    np.testing.assert_allclose(rows.chisq[3], one.chisq, rtol=1e-6)
    columns = vp.fit(DECAY, x[1].T, y[1].T, share="none")
    np.testing.assert_allclose(columns.alpha, batch.alpha[1], rtol=1e-6)
    shared = vp.fit_many(DECAY, x[1, :2], y[1, :2], share="a.tau")
    joint = vp.fit(DECAY, {f"w{i}": (x[1, i], y[1, i]) for i in range(2)})
    np.testing.assert_allclose(shared["a.tau"].value[0], joint["a.tau"].value, rtol=1e-5)
    with pytest.raises(vp.InputError, match=r"x has shape \(5, 30\)"):
        vp.fit_many(DECAY, np.zeros((5, 30)), y)
    with pytest.raises(vp.InputError, match="positions of their own"):
        vp.fit_many(DECAY, x, y, start="global")


def test_counts_at_positions_of_their_own_are_at_the_maximum_of_their_likelihood(rng):
    x, y = plates(rng)
    x, counts = x[0, :3], rng.poisson(200 * np.abs(y[0, :3])).astype(float)
    batch = vp.fit_many(DECAY, x, counts, noise="poisson")
    assert batch.success.all()
    for i, (at, n) in enumerate(zip(x, counts, strict=True)):

        def minus_log(theta, at=at, n=n):
            tau, a, c = theta
            mean = a * np.exp(-at / tau) + c
            return np.sum(mean - n * np.log(mean)) if (mean > 0).all() else np.inf

        found = np.array([batch["a.tau"].value[i], *batch.coef[i]])
        best = scipy.optimize.minimize(minus_log, found, method="Nelder-Mead", tol=1e-10)
        # A ten-thousandth of the half that a standard error costs.
        assert minus_log(found) <= best.fun + 5e-5


def test_one_curve_of_a_batch_is_a_fit_of_its_own(rng, tmp_path):
    _, y = plates(rng)
    y[2, 2] = np.nan
    sigma = rng.uniform(0.005, 0.02, (4, 6, 1))
    high = np.full((4, 6), 5.0)
    high[0, 1] = 0.6  # binding
    batch = vp.fit_many(
        *(DECAY, T, y),
        sigma=sigma,
        absolute_sigma=True,
        nonnegative=["c"],
        bounds={"a.tau": (0.1, 20.0), "a": (0.0, high)},
    )
    for at in ((0, 0), (0, 1), (3, -1)):
        one = batch[at]
        np.testing.assert_allclose(one.chisq, batch.chisq[at], rtol=1e-7)
        np.testing.assert_allclose(one.stderr["a.tau"], batch["a.tau"].stderr[at], rtol=1e-3)
        assert one.dof == batch.dof[at] and one.absolute_sigma
    assert one.ci()["a.tau"].upper > one["a.tau"].value
    one.plot()
    flat = vp.fit_many(DECAY, T, y[0])
    np.testing.assert_allclose(flat[4].chisq, flat.chisq[4], rtol=1e-7)
    wrong: Any
    for wrong, says in (
        ((2, 2), "status is 'bad_data'"),
        (1, "24|stands for 6 curves"),
        ((9, 0), "no curve of a batch"),
        ((0, slice(None)), "no curve of a batch"),
        ("nothing", "No parameter"),
    ):
        with pytest.raises(vp.InputError, match=says):
            batch[wrong]
    batch.save(tmp_path / "batch.nc")
    again = vp.load(tmp_path / "batch.nc")
    assert again == batch and pickle.loads(pickle.dumps(batch)) == batch
    with pytest.raises(vp.InputError, match="has no data"):
        again[0, 0]


def test_intervals_and_tables_of_a_batch(rng):
    xarray = pytest.importorskip("xarray")
    _, y = plates(rng)
    data = xarray.DataArray(
        y, dims=("row", "column", "time"), coords={"row": list("ABCD"), "time": T}
    )
    batch = vp.fit_many(DECAY, None, data, dim="time")
    found = batch.ci(0.9, ["a.tau"])["a.tau"]
    reach = scipy.stats.t.ppf(0.95, batch.dof) * batch["a.tau"].stderr
    np.testing.assert_allclose(found.upper - found.value, reach, rtol=1e-10)
    np.testing.assert_allclose(found.value - found.lower, reach, rtol=1e-10)
    assert set(batch.ci()) == {"a.tau", "a", "c"}
    frame = batch.to_frame()
    assert frame.index.names == ["row", "column"] and len(frame) == 24
    assert frame.loc[("B", 3), "a.tau"] == batch["a.tau"].value[1, 3]
    assert frame.loc[("B", 3), "a.tau_stderr"] == batch["a.tau"].stderr[1, 3]
    assert frame["status"].iloc[0] == "successful"
    np.testing.assert_array_equal(batch.best_fit, batch.predict())
    assert list(batch.best_values) == ["a.tau", "a", "c"]
    page = batch._repr_html_()
    assert "<table" in page and "24 of 24 curves" in page and "a.tau" in page
    with pytest.raises(vp.InputError, match="level"):
        batch.ci(1.5)


def test_maps_have_pages_and_are_dimmed_and_histograms_are_weighted(rng):
    _, y = plates(rng)
    stack = vp.fit_many(DECAY, T, y.reshape(2, 2, 6, T.size))
    first, second = (stack.plot_maps(["a.tau"], page=i).axes[0].images for i in (0, 1))
    for images, value in ((first, stack["a.tau"].value[0]), (second, stack["a.tau"].value[1])):
        np.testing.assert_array_equal(images[0].get_array(), value)
    np.testing.assert_array_equal(
        stack.plot_maps(["a.tau"]).axes[0].images[0].get_array(), stack["a.tau"].value[0]
    )
    bright: Any
    dark: Any
    bright, dark = (
        stack.plot_maps(["a.tau"], page=1, weight=w).axes[0].images[-1].get_array()
        for w in (None, "a")
    )
    assert dark.ndim == 3 and bright.shape == (2, 6)  # a picture over the map
    dark = dark[..., :3]
    plain: Any = stack.plot_maps(["a.tau"], page=1).axes[0].images[0]
    colours = np.array(plain.cmap(plain.norm(plain.get_array())))[..., :3]
    share = stack["a"].value[1] / np.percentile(stack["a"].value[1], 98)
    np.testing.assert_allclose(dark, colours * np.minimum(share, 1.0)[..., None], atol=1e-12)
    wrong: Any
    for wrong in (2, (0, 0), "first", 0.5):
        with pytest.raises(vp.InputError, match="page must be a place"):
            stack.plot_maps(["a.tau"], page=wrong)
    with pytest.raises(vp.InputError, match="page"):
        vp.fit_many(DECAY, T, y).plot_maps(page=1)
    bars: Any = stack.plot_histograms(["a.tau"], weight="a", bins=7).axes[0].patches
    value, weight = stack["a.tau"].value.ravel(), stack["a"].value.ravel()
    counted, _ = np.histogram(value, 7, tuple(np.percentile(value, (1, 99))), weights=weight)
    np.testing.assert_allclose([bar.get_height() for bar in bars], counted, rtol=1e-12)
    assert len(stack.plot_histograms().axes) == 3


def test_numbers_derived_from_curves_that_share_have_the_errors_of_all_curves_together(rng):
    y = np.array([2.0, 3.0, 1.0, 4.0])[:, None] * np.exp(-T / 2.0) + 1.0
    y = y + np.exp(-T / np.array([0.3, 0.4, 0.5, 0.6])[:, None])
    y = y + 0.02 * rng.standard_normal(y.shape)
    model = vp.Exp("f", tau=0.4) + vp.Exp("s", tau=2.2) + vp.Constant("c")
    fit = vp.fit_many(model, T, y, share=["s.tau"])
    found = fit.derive({"mean": "(f * f.tau + s * s.tau) / (f + s)", "rate": "1 / s.tau"})

    def curves(z):
        tau, own = z[0], z[1:].reshape(4, 4)
        each = [f * np.exp(-T / t) + s * np.exp(-T / tau) + c for t, f, s, c in own]
        return (np.stack(each) - y).ravel()

    first = [[fit[n].value[i] for n in ("f.tau", "f", "s", "c")] for i in range(4)]
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    end = scipy.optimize.least_squares(
        curves, np.r_[fit["s.tau"].value[0], np.ravel(first)], x_scale="jac", **tight
    )
    # The noise of what a curve has to itself is that of its own residual, of what all share that of all.
    normal = end.jac.T @ end.jac
    alone, whole = np.zeros((17, 17)), np.linalg.inv(normal)
    alone[1:, 1:] = np.linalg.inv(normal[1:, 1:])
    mine, common = np.r_[1.0, np.repeat(fit.redchi, 4)], 2 * end.cost / (y.size - 17)
    covariance = np.sqrt(mine) * alone * np.sqrt(mine)[:, None] + common * (whole - alone)

    def numbers(z):
        own = z[1:].reshape(4, 4)
        mean = [(f * t + s * z[0]) / (f + s) for t, f, s, _ in own]
        return np.r_[mean, np.full(4, 1 / z[0])]

    step = 1e-6 * np.abs(end.x)
    slope = np.stack(
        [
            (numbers(end.x + d) - numbers(end.x - d)) / (2 * s)
            for s, d in zip(step, np.diag(step), strict=True)
        ],
        1,
    )
    error = np.sqrt(np.diagonal(slope @ covariance @ slope.T)).reshape(2, 4)
    np.testing.assert_allclose(np.asarray(found.value), numbers(end.x).reshape(2, 4), rtol=1e-4)
    np.testing.assert_allclose(np.asarray(found.stderr), error, rtol=1e-2)


def test_curves_are_told_at_new_positions_and_have_profiles_where_these_are_asked_for(rng):
    y = np.array([2.0, 3.0])[:, None] * np.exp(-T / 2.0) + 1.0 + 0.05 * rng.standard_normal((2, 30))
    fit = vp.fit_many(DECAY, T, y)
    new = np.array([0.5, 1.5, 20.0])
    wanted = fit["a"].value[:, None] * np.exp(-new / fit["a.tau"].value[:, None])
    np.testing.assert_allclose(fit.predict(x=new), wanted + fit["c"].value[:, None], rtol=1e-5)
    np.testing.assert_array_equal(fit.eval(new), fit.predict(x=new))
    with pytest.raises(vp.InputError, match="expected"):
        fit.predict(x=np.ones((2, 3)))
    found = fit.ci(0.9, ["a.tau"], method="profile", curves=[1])["a.tau"]
    mine = fit[1].ci(0.9, "profile", ["a.tau"])["a.tau"]
    assert np.isnan(found.lower[0]) and np.isnan(found.value[0])
    np.testing.assert_allclose([found.lower[1], found.upper[1]], [mine.lower, mine.upper])
    some = fit.ci(0.9, ["a.tau"], curves=[1])["a.tau"]
    assert np.isnan(some.upper[0]) and some.upper[1] > some.value[1]
    for words, options in (("say of which", {"method": "profile"}), ("method", {"method": "b"})):
        with pytest.raises(vp.InputError, match=words):
            fit.ci(**options)


def test_phasors_are_the_fourier_coefficient_of_the_data_and_lie_on_the_semicircle(rng):
    period, tau = 12.5, np.array([[0.5, 1.0, 2.0], [3.0, 4.0, 0.8]])
    t = period * np.arange(30) / 30
    y = 50.0 * np.exp(-t / tau[..., None]) / (1 - np.exp(-period / tau[..., None])) + 2.0
    y[0, 1, 3] = np.nan
    fit = vp.fit_many(DECAY, t, y + 1e-3 * rng.standard_normal(y.shape), nan="drop")
    found, plain = fit.phasors(1 / period, background="c"), fit.phasors(1 / period)
    direct = np.fft.fft(y[1] + 0.0, axis=-1)[:, 1].conj() / y[1].sum(axis=-1)
    np.testing.assert_allclose(plain[1], direct, rtol=1e-3)
    # Of samples the circle is that of sums: a geometric series.
    step = np.exp(-(t[1] - t[0]) / tau[1])
    wave = np.exp(2j * np.pi / 30)
    np.testing.assert_allclose(found[1], (1 - step) / (1 - step * wave), rtol=2e-3)
    ax = fit.plot_phasors(1 / period, "c").axes[0]
    assert ax.get_xlabel() == "g" and len(ax.texts) == 5
    for options, words in (
        ({"frequency": -1.0}, "positive"),
        ({"frequency": 1, "background": "d"}, "d"),
    ):
        with pytest.raises(vp.InputError, match=words):
            fit.phasors(**options)
