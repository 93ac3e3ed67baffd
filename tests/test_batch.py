"""Many fits at once, against one fit at a time and against scipy."""

import numpy as np
import pytest
from agreement import assert_same_optimum
from scipy.optimize import least_squares, minimize

import varpro as vp
from varpro._programs.program import RECENT

T = (np.arange(64) + 0.5) * 0.15
MODEL = vp.Exp("fast", tau=1.0) + vp.Exp("slow", tau=5.0)


def curves(b, seed=0, photons=5000.0, poisson=False):
    rng = np.random.default_rng(seed)
    fast, slow = rng.uniform(0.4, 0.7, (b, 1)), rng.uniform(2.5, 4.0, (b, 1))
    share = rng.uniform(0.3, 0.7, (b, 1))
    mean = share * np.exp(-T / fast) + (1 - share) * np.exp(-T / slow)
    mean *= photons / mean.sum(axis=1, keepdims=True)
    if poisson:
        return rng.poisson(mean).astype(float)
    return mean + 0.002 * mean.max() * rng.normal(size=mean.shape)


Y = curves(40)


def agree(batch, y, rtol=1e-5, **options):
    """Every curve of the batch is what `varpro.fit` finds in it."""
    for i, one in enumerate(y):
        alone = vp.fit(
            MODEL, T, one, **{k: v[i] if np.ndim(v) == 2 else v for k, v in options.items()}
        )
        error = alone.alpha_stderr
        moving = np.isfinite(error) & (error > 0)
        gap = np.abs(batch.alpha[i] - alone.alpha)
        assert np.all(gap[moving] <= 1e-3 * error[moving]), (i, gap, error)
        np.testing.assert_allclose(batch.chisq[i], alone.chisq, rtol=1e-8)
        np.testing.assert_allclose(batch.coef[i], alone.coef, rtol=1e-3)
        np.testing.assert_allclose(batch.alpha_stderr[i], error, rtol=2e-3)
        np.testing.assert_allclose(batch.coef_stderr[i], alone.coef_stderr, rtol=2e-3)
        assert batch.dof[i] == alone.dof


def test_every_curve_is_fitted_as_if_it_were_alone():
    batch = vp.fit_many(MODEL, T, Y)
    assert batch.success.all() and batch.shape == (40,)
    assert batch.names == ("fast.tau", "slow.tau") and batch.columns == ("fast", "slow")
    agree(batch, Y[:12])


def test_weights_and_masks_of_each():
    rng = np.random.default_rng(1)
    each = rng.uniform(0.5, 2.0, Y.shape)
    mask = rng.uniform(size=Y.shape) > 0.2
    agree(vp.fit_many(MODEL, T, Y, weights=each, mask=mask), Y[:3], weights=each, mask=mask)


def test_bounds_are_kept_and_their_errors_withheld_with_absolute_errors_of_all():
    # Both are bounded, or the fast one does better where the slow one may not go.
    bounds = {"slow.tau": (0.1, 3.0), "fast.tau": (0.05, 1.0)}
    options: dict = {"bounds": bounds, "init": {"slow.tau": 2.0}}
    sigma = np.random.default_rng(1).uniform(0.5, 2.0, T.size)
    options |= {"sigma": sigma, "absolute_sigma": True}
    batch = vp.fit_many(MODEL, T, Y, **options)
    on = batch["slow.tau"].value == 3.0
    assert 0 < on.sum() < 40
    np.testing.assert_array_equal(np.isnan(batch["slow.tau"].stderr), on)
    agree(batch, Y[:8], **options)


def test_fixed_tied_and_ordered_parameters():
    fixed = vp.fit_many(MODEL, T, Y[:9], fix=["slow.*"], init={"slow.tau": 3.0})
    assert (fixed["slow.tau"].value == 3.0).all() and (fixed["slow.tau"].stderr == 0).all()
    agree(fixed, Y[:4], fix=["slow.*"], init={"slow.tau": 3.0})
    swapped = vp.fit_many(
        MODEL, T, Y[:9], init={"fast.tau": 0.4, "slow.tau": 4.0}, order=("fast.tau", "slow.tau")
    )
    assert (swapped["fast.tau"].value < swapped["slow.tau"].value).all()
    # Columns keep the company of their parameters.
    agree(swapped, Y[:3])


def test_one_curve_and_models_without_nonlinear_parameters():
    alone = vp.fit_many(MODEL, T, Y[0])
    assert alone.shape == () and alone.success
    np.testing.assert_array_equal(alone.alpha, vp.fit_many(MODEL, T, Y[:1]).alpha[0])
    line = vp.fit_many(vp.Polynomial("line", degree=1), T, Y)
    np.testing.assert_allclose(line.coef[:, ::-1], np.polyfit(T, Y.T, 1).T, rtol=1e-9)
    assert line.success.all() and line.alpha.shape == (40, 0)


def test_units_change_nothing():
    # By powers of two, which round no number: what differs then is a unit that is forgotten. By powers
    # of ten the data differ in their last bits, and so may the place where a search ends, within the
    # step that `ftol = 1e-9` leaves out, 1e-3 standard errors.
    plain = vp.fit_many(MODEL, T, Y)
    for size in (2.0**-660, 2.0**-40, 2.0**40):
        scaled = vp.fit_many(MODEL, T, size * Y)
        np.testing.assert_allclose(scaled.alpha, plain.alpha, rtol=1e-12)
        np.testing.assert_allclose(scaled.coef, size * plain.coef, rtol=1e-12)
        np.testing.assert_allclose(scaled.coef_stderr, size * plain.coef_stderr, rtol=1e-9)
    assert_same_optimum(vp.fit_many(MODEL, T, 1e-12 * Y), plain, 1e-3, 1e-12)
    for size in (2.0**-30, 2.0**30):
        model = vp.Exp("fast", tau=1.0 * size) + vp.Exp("slow", tau=5.0 * size)
        scaled = vp.fit_many(model, size * T, Y)
        np.testing.assert_allclose(scaled.alpha, size * plain.alpha, rtol=1e-12)


def test_an_offset_and_a_function_of_ones_own():
    import jax.numpy as jnp

    def bell(theta, t):
        return jnp.exp(-0.5 * ((t - theta["at"]) / 0.5) ** 2)

    rng = np.random.default_rng(2)
    at, tau = rng.uniform(3.0, 4.0, 7), rng.uniform(1.0, 2.0, 7)
    y = 2 * np.exp(-T / tau[:, None]) + np.exp(-0.5 * ((T - at[:, None]) / 0.5) ** 2)
    y += 0.01 * rng.normal(size=y.shape)
    model = vp.Exp("decay", tau=1.2) + vp.Offset(vp.Custom("bell", bell, {"at": 3.5}))
    batch = vp.fit_many(model, T, y)
    for i in range(3):
        alone = vp.fit(model, T, y[i])
        np.testing.assert_allclose(batch.alpha[i], alone.alpha, rtol=1e-5)
        np.testing.assert_allclose(batch.alpha_stderr[i], alone.alpha_stderr, rtol=1e-3)
        np.testing.assert_allclose(batch.predict(i), alone.fitted, rtol=1e-4, atol=1e-4)


def test_order_blocks_and_threads_change_nothing():
    b = 150  # in blocks of 64, which the program of the 40 curves takes too
    y = curves(b, seed=3, photons=300.0, poisson=True)
    whole = vp.fit_many(MODEL, T, y, block=64, workers=1)
    turn = np.random.default_rng(0).permutation(b)
    turned = vp.fit_many(MODEL, T, y[turn], block=64, workers=2)
    # The same program: a lane of it computes the same whichever it is and whatever its neighbours do.
    for field in ("alpha", "coef", "alpha_stderr", "coef_stderr", "chisq", "status", "num_steps"):
        np.testing.assert_array_equal(getattr(turned, field), getattr(whole, field)[turn])
    single = vp.fit_many(MODEL, T, y[:12], block=1)
    good = whole.success[:12] & single.success
    assert good.sum() > 6
    np.testing.assert_allclose(single.chisq[good], whole.chisq[:12][good], rtol=1e-8)


def test_a_dead_a_broken_and_a_masked_curve_harm_only_themselves():
    y = Y.copy()
    y[3] = 0.0
    y[5, 7] = np.nan
    y[9, 2] = np.inf
    mask = np.ones(Y.shape, bool)
    mask[11] = False
    mask[12, 3:] = False
    batch = vp.fit_many(MODEL, T, y, mask=mask)
    assert batch.counts["bad_data"] == 2 and batch.counts["no_data"] == 2
    assert np.isnan(batch.alpha[[5, 9, 11, 12]]).all() and np.isnan(batch.chisq[5])
    assert (batch.coef[3] == 0).all()
    others = np.delete(np.arange(40), [3, 5, 9, 11, 12])
    clean = vp.fit_many(MODEL, T, Y, mask=np.ones(Y.shape, bool))
    np.testing.assert_array_equal(batch.alpha[others], clean.alpha[others])
    assert batch.message.startswith(
        "5 of 40 curves did not converge (2 bad_data, 2 no_data, 1 undetermined)"
    )


def test_batch_axes_of_any_number_and_starts_of_each():
    image = Y[:36].reshape(4, 9, T.size)
    batch = vp.fit_many(MODEL, T, image)
    assert batch.alpha.shape == (4, 9, 2) and batch["fast"].value.shape == (4, 9)
    flat = vp.fit_many(MODEL, T, Y[:36])
    np.testing.assert_array_equal(batch.alpha.reshape(36, 2), flat.alpha)
    again = vp.fit_many(MODEL, T, image, init={name: batch[name].value for name in batch.names})
    assert again.num_steps.mean() < batch.num_steps.mean()
    np.testing.assert_allclose(again.chisq, batch.chisq, rtol=1e-8)
    columns = vp.fit(MODEL, T, Y.T, share="none")
    np.testing.assert_array_equal(columns.alpha, vp.fit_many(MODEL, T, Y).alpha)
    maps = batch.to_dataset(("row", "column"))
    assert maps["slow.tau"].dims == ("row", "column")
    assert maps.sizes == {"row": 4, "column": 9}


def test_starts_that_are_left_out_are_found_in_the_mean_curve():
    found = vp.fit_many(vp.Exp("fast") + vp.Exp("slow"), T, Y)
    np.testing.assert_allclose(found.chisq, vp.fit_many(MODEL, T, Y).chisq, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_single_precision_and_counts(dtype):
    y = np.round(curves(60, seed=5)).astype(dtype)
    batch = vp.fit_many(MODEL, T, y)
    assert batch.alpha.dtype == (np.float32 if dtype == np.float32 else np.float64)
    exact = vp.fit_many(MODEL, T, y.astype(float))
    assert batch.success.all()
    np.testing.assert_allclose(batch.chisq, exact.chisq, rtol=1e-4)
    gap = np.abs(batch.alpha - exact.alpha) / exact.alpha_stderr
    assert gap.max() < 0.02
    np.testing.assert_allclose(batch.alpha_stderr, exact.alpha_stderr, rtol=0.05)


def deviance(theta, y):
    mean = np.maximum(theta[2] * np.exp(-T / theta[0]) + theta[3] * np.exp(-T / theta[1]), 1e-12)
    return np.sum(mean - y * np.log(mean))


def test_poisson_noise_gives_the_maximum_of_the_likelihood():
    y = curves(4, seed=7, photons=2000.0, poisson=True)
    batch = vp.fit_many(MODEL, T, y, noise="poisson", ftol=1e-13)
    assert batch.success.all()
    for i in range(4):
        at = np.r_[batch.alpha[i], batch.coef[i]]
        best = minimize(
            deviance,
            at,
            args=(y[i],),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-10, "maxiter": 4000},
        )
        assert deviance(at, y[i]) <= best.fun + 1e-6
        step = 1e-5 * at
        slopes = [
            (deviance(at + step * e, y[i]) - deviance(at - step * e, y[i])) / (2 * step @ e)
            for e in np.eye(4)
        ]
        error = np.r_[batch.alpha_stderr[i], batch.coef_stderr[i]]
        assert np.all(np.abs(slopes * error) < 2e-3)


def test_poisson_errors_are_those_of_the_information_matrix():
    y = curves(3, seed=8, photons=20000.0, poisson=True)
    batch = vp.fit_many(MODEL, T, y, noise="poisson")
    for i in range(3):
        (a, b), (c, d) = batch.alpha[i], batch.coef[i]
        ea, eb = np.exp(-T / a), np.exp(-T / b)
        jac = np.stack([c * ea * T / a**2, d * eb * T / b**2, ea, eb], axis=1)
        information = jac.T @ (jac / (c * ea + d * eb)[:, None])
        error = np.sqrt(np.diag(np.linalg.inv(information)))
        np.testing.assert_allclose(batch.alpha_stderr[i], error[:2], rtol=1e-4)
        np.testing.assert_allclose(batch.coef_stderr[i], error[2:], rtol=1e-4)


def test_a_hundred_photons_are_enough_for_poisson_and_not_for_least_squares():
    rng = np.random.default_rng(11)
    mean = np.exp(-T / 2.0)
    y = rng.poisson(100.0 * mean / mean.sum(), (1500, T.size)).astype(float)
    model = vp.Exp("decay", tau=1.0)
    likely = vp.fit_many(model, T, y, noise="poisson")["decay.tau"]
    squares = vp.fit_many(model, T, y, sigma=np.sqrt(np.maximum(y, 1.0)))["decay.tau"]
    bias = np.mean(likely.value) / 2.0 - 1, np.mean(squares.value) / 2.0 - 1
    assert abs(bias[0]) < 0.01 and abs(bias[1]) > 0.04
    pull = (likely.value - 2.0) / likely.stderr
    assert 0.9 < np.std(pull) < 1.1


def test_a_background_of_nearly_no_counts_does_not_stop_the_search():
    # Whole scoring steps circle where the model comes near a mean of no counts.
    rng = np.random.default_rng(0)
    t = 0.1 * np.arange(64)
    mean = np.exp(-t / 2.0)
    y = rng.poisson(60.0 * mean / mean.sum() + 0.02, (1000, t.size)).astype(float)
    model = vp.Exp("cell", tau=vp.Param(2.0, lower=0.05, upper=20.0)) + vp.Constant("dark")
    batch = vp.fit_many(model, t, y, noise="poisson")
    # Whole steps lost one in twenty; a few curves on the edge may end either way by rounding.
    assert batch.success.mean() >= 0.99

    def half_deviance(z, y):
        mu = z[1] * np.exp(-t / z[0]) + z[2]
        return np.inf if (mu <= 0).any() else np.sum(mu - y * np.log(mu))

    inside = batch.success & (batch.predict().min(axis=1) > 0)
    for i in np.flatnonzero(inside)[:8]:
        at = np.r_[batch.alpha[i], batch.coef[i]]
        options = {"xatol": 1e-9, "fatol": 1e-10, "maxiter": 4000}
        best = minimize(half_deviance, at, args=(y[i],), method="Nelder-Mead", options=options)
        assert half_deviance(at, y[i]) <= best.fun + 1e-5


@pytest.mark.parametrize("noise", ["huber", "soft_l1", "cauchy"])
def test_robust_losses_are_those_of_scipy(noise):
    y = Y[:4].copy()
    y[:, ::13] += 0.3 * Y.max()
    scale = 0.004 * Y.max()
    batch = vp.fit_many(MODEL, T, y, noise=noise, loss_scale=scale, ftol=1e-14)
    for i in range(4):

        def resid(z, i=i):
            return z[2] * np.exp(-T / z[0]) + z[3] * np.exp(-T / z[1]) - y[i]

        at = np.r_[batch.alpha[i], batch.coef[i]]
        best = least_squares(
            resid, at, loss=noise, f_scale=scale, xtol=1e-12, ftol=1e-12, gtol=1e-12
        )
        np.testing.assert_allclose(at, best.x, rtol=2e-3)


# Each loss by itself: tests/test_noise.py.
@pytest.mark.parametrize(("noise", "scale"), [("poisson", 1.0), ("huber", 20.0), ("cauchy", 20.0)])
def test_one_fit_knows_the_same_noise(noise, scale):
    y = curves(3, seed=9, photons=8000.0, poisson=True)
    y[1, 20] += 300.0
    batch = vp.fit_many(MODEL, T, y, noise=noise, loss_scale=scale, ftol=1e-14)
    for i in range(3):
        one = vp.fit(MODEL, T, y[i], noise=noise, loss_scale=scale)
        assert one.success and one.absolute_sigma == (noise == "poisson")
        assert np.all(np.abs(one.alpha - batch.alpha[i]) < 1e-3 * one.alpha_stderr)
        np.testing.assert_allclose(one.alpha_stderr, batch.alpha_stderr[i], rtol=1e-3)
        np.testing.assert_allclose(one.chisq, batch.chisq[i], rtol=1e-4)


def test_ten_peaks_are_more_than_are_unrolled_and_fitted_all_the_same():
    x = np.linspace(0, 20, 160)
    rng = np.random.default_rng(4)
    center, width = 1.5 + 1.8 * np.arange(10), rng.uniform(0.4, 0.6, 10)
    heights = rng.uniform(1, 3, (4, 10))
    y = heights @ np.exp(-0.5 * ((x - center[:, None]) / width[:, None]) ** 2)
    y += 0.01 * rng.normal(size=y.shape)
    model = sum(
        (vp.Gaussian(f"p{i}", center=c + 0.1, width=0.5) for i, c in enumerate(center)),
        start=vp.Constant("background"),
    )
    weights = rng.uniform(0.5, 1.5, y.shape)
    batch = vp.fit_many(model, x, y, weights=weights)
    assert batch.success.all() and batch.alpha.shape == (4, 20)
    one = vp.fit(model, x, y[1], weights=weights[1])
    np.testing.assert_allclose(batch.alpha[1], one.alpha, rtol=1e-5)
    np.testing.assert_allclose(batch.alpha_stderr[1], one.alpha_stderr, rtol=2e-3)
    np.testing.assert_allclose(batch.coef_stderr[1], one.coef_stderr, rtol=2e-3)


def test_new_numbers_compile_nothing():
    # Weights, too, in the program of bounds that are kept.
    options: dict = {"absolute_sigma": True, "sigma": np.ones(T.size)}
    vp.fit_many(MODEL, T, Y, bounds={"*.tau": (0.01, 50.0)}, **options)
    made = RECENT.made
    options |= {"bounds": {"*.tau": (0.02, 60.0)}, "sigma": np.linspace(1.0, 2.0, T.size)}
    vp.fit_many(MODEL, T, 2 * Y, init={"slow.tau": 4.0}, ftol=1e-8, **options)
    assert RECENT.made == made


def test_progress_is_told_and_the_report_says_how_it_went():
    seen = []
    y = curves(150)
    batch = vp.fit_many(MODEL, T, y, block=64, progress=lambda *a: seen.append(a))
    assert seen[-1] == (150, 150) and len(seen) == 3
    text = str(batch)
    for word in ("150 of 150 curves", "slow.tau", "median", "reduced chi-square"):
        assert word in text
    assert batch == batch and "150 curves" in repr(batch)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vp.fit_many(MODEL, T[:-1], Y), "x has 63 points but y has 64"),
        (lambda: vp.fit_many(MODEL, T, np.zeros((0, 64))), "at least one sample"),
        (lambda: vp.fit_many(MODEL, T, Y, noise="poison"), "noise must be one of"),
        (lambda: vp.fit_many(MODEL, T, Y, ftol=0.0), "must be positive"),
        (lambda: vp.fit(MODEL, T, Y[0] - 50.0, noise="poisson"), "negative values"),
        (lambda: vp.fit(MODEL, T, Y[0], noise="gauss"), "noise must be one of"),
        (lambda: vp.fit_many(MODEL, T, Y, sigma=np.zeros(64)), "sigma must be positive"),
        (lambda: vp.fit_many(MODEL, T, Y, weights=np.ones(63)), "weights has shape (63,)"),
        (lambda: vp.fit_many(MODEL, T, Y, mask=np.ones(64)), "mask must be boolean"),
        (lambda: vp.fit_many(MODEL, T, Y, init={"fast.tau": np.ones(3)}), "has shape (3,)"),
        (lambda: vp.fit_many(MODEL, T, Y, init={"fast.tua": 1.0}), "Did you mean"),
        (
            lambda: vp.fit_many(
                MODEL, T, Y, init={"fast.tau": np.full(40, 9.0)}, bounds={"fast.tau": (0.1, 5.0)}
            ),
            "lies outside its bounds",
        ),
        (lambda: vp.fit_many(MODEL, T, Y, init={"*.tau": 2.0}), "Give distinct starts"),
        (lambda: vp.fit_many(MODEL, T, Y)["slow.tua"], "Did you mean 'slow.tau'"),
    ],
)
def test_bad_input_says_what_to_do(call, message):
    with pytest.raises(vp.InputError) as caught:
        call()
    assert message in str(caught.value)
