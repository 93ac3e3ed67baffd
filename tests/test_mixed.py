"""Parameters that all curves share, next to their own: against the dense joint problem in scipy."""

import numpy as np
import pytest
from dense_problem import dense
from scipy.optimize import least_squares
from scipy.special import erfc

import varpro as vp

T = np.linspace(0, 10, 40)
RNG = np.random.default_rng(3)
TAU = RNG.uniform(2.5, 5.0, 9)
SHIFTED = T - 0.8


def decay(theta, t):
    """A rise that all curves have in common, and a decay of their own."""
    import jax.numpy as jnp

    return {
        "signal": jnp.exp(-t / theta["tau"]) * (1 - jnp.exp(-t / theta["rise"])),
        "flat": jnp.ones_like(t),
    }


INIT = {"rise": 0.5, "tau": 2.0}
AMPLITUDE = RNG.uniform(0.5, 2.0, 9)
SHAPE = np.exp(-T / TAU[:, None]) * (1 - np.exp(-T / 0.9))
Y = AMPLITUDE[:, None] * SHAPE + 0.1 + 0.01 * RNG.normal(size=(9, 40))


def joint(y, weights=None, prior=None):
    """All parameters at once, (rise, tau_i, a_i, b_i): scipy's dense Jacobian and its covariance."""
    b = len(y)
    w = np.ones_like(y) if weights is None else weights

    def residual(z):
        shape = np.exp(-T / z[1 : b + 1, None]) * (1 - np.exp(-T / z[0]))
        model = z[b + 1 : 2 * b + 1, None] * shape + z[2 * b + 1 :, None]
        r = (w * (model - y)).ravel()
        return r if prior is None else np.append(r, (z[0] - prior[0]) / prior[1])

    start = np.r_[0.5, np.full(b, 2.0), np.full(2 * b, 1.0)]
    best = least_squares(residual, start, x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    cov = np.linalg.inv(best.jac.T @ best.jac)
    return best.x, 2 * best.cost, np.sqrt(np.diag(cov))


def test_the_joint_optimum_and_its_errors_are_those_of_the_dense_problem():
    z, chisq, error = joint(Y / 0.01)
    fit = vp.fit_many(decay, T, Y, init=INIT, share=["rise"], sigma=0.01, absolute_sigma=True)
    assert fit.success.all() and fit.shared == ("rise",)
    rise, tau = fit["rise"], fit["tau"]
    assert np.ptp(rise.value) == 0
    np.testing.assert_allclose(rise.value[0], z[0], rtol=1e-5)
    np.testing.assert_allclose(tau.value, z[1:10], rtol=1e-5)
    np.testing.assert_allclose(fit["signal"].value, 0.01 * z[10:19], rtol=1e-5)
    np.testing.assert_allclose(fit.chisq.sum(), chisq, rtol=1e-9)
    np.testing.assert_allclose(rise.stderr[0], error[0], rtol=1e-3)
    np.testing.assert_allclose(tau.stderr, error[1:10], rtol=2e-3)
    np.testing.assert_allclose(fit["signal"].stderr, 0.01 * error[10:19], rtol=2e-3)
    np.testing.assert_allclose(fit["flat"].stderr, 0.01 * error[19:], rtol=2e-3)


def test_errors_of_what_is_shared_are_scaled_by_all_residuals():
    z, chisq, error = joint(Y)
    fit = vp.fit_many(decay, T, Y, init=INIT, share="rise")
    scale = np.sqrt(chisq / (Y.size - z.size))
    np.testing.assert_allclose(fit["rise"].stderr[0], scale * error[0], rtol=1e-3)


def test_blocks_threads_and_units_change_nothing():
    whole = vp.fit_many(decay, T, Y, init=INIT, share="rise", block=16)
    parts = vp.fit_many(decay, T, Y, init=INIT, share="rise", block=4, workers=2)
    np.testing.assert_allclose(parts.alpha, whole.alpha, rtol=1e-7)
    for size in (2.0**-500, 2.0**30):  # powers of two, which round no number
        scaled = vp.fit_many(decay, T, size * Y, init=INIT, share="rise", block=16)
        np.testing.assert_allclose(scaled.alpha, whole.alpha, rtol=1e-9)
        np.testing.assert_allclose(scaled.alpha_stderr, whole.alpha_stderr, rtol=1e-6)


def test_a_broken_curve_has_no_say_in_what_is_shared():
    y = np.concatenate([Y, Y[:1] * np.nan])
    fit = vp.fit_many(decay, T, y, init=INIT, share="rise")
    clean = vp.fit_many(decay, T, Y, init=INIT, share="rise")
    np.testing.assert_allclose(fit.alpha[:9], clean.alpha, rtol=1e-9)
    assert fit.counts["bad_data"] == 1 and np.isnan(fit.alpha[9]).all()


def test_weights_priors_and_bounds_hold_for_what_is_shared():
    weights = RNG.uniform(50.0, 150.0, Y.shape)
    prior = (0.7, 0.004)
    z, _, error = joint(Y, weights, prior)
    init = {"rise": vp.Param(0.5, prior=prior), "tau": 2.0}
    options = {"weights": weights, "absolute_sigma": True, "share": "rise", "ftol": 1e-12}
    # Bounds that do not hold anything here, so that both fits run in one program.
    fit = vp.fit_many(decay, T, Y, init=init, bounds={"rise": (0.1, 5.0)}, **options)
    np.testing.assert_allclose(fit["rise"].value[0], z[0], rtol=1e-5)
    np.testing.assert_allclose(fit["rise"].stderr[0], error[0], rtol=2e-3)
    held = vp.fit_many(decay, T, Y, init=INIT, bounds={"rise": (0.1, 0.8)}, **options)
    assert (held["rise"].value == 0.8).all() and np.isnan(held["rise"].stderr).all()

    def with_rise_held(z):
        return z[1] * np.exp(-T / z[0]) * (1 - np.exp(-T / 0.8)) + z[2]

    for i in range(len(Y)):
        fixed = dense(with_rise_held, Y[i], [2.0, 1.0, 1.0], weights[i], known=True)
        np.testing.assert_allclose(held["tau"].value[i], fixed.z[0], rtol=1e-6)
        np.testing.assert_allclose(held["tau"].stderr[i], fixed.stderr[0], rtol=1e-6)


def test_counts_share_the_maximum_of_their_joint_likelihood():
    mean = 200 * AMPLITUDE[:, None] * SHAPE + 5.0
    y = RNG.poisson(mean).astype(float)
    fit = vp.fit_many(decay, T, y, init=INIT, share="rise", noise="poisson", ftol=1e-12)

    def deviance(z):
        shape = np.exp(-T / z[1:10, None]) * (1 - np.exp(-T / z[0]))
        mean = np.maximum(z[10:19, None] * shape + z[19:, None], 1e-9)
        return np.sum(mean - y * np.log(mean))

    z = np.r_[
        fit.alpha[0, fit.names.index("rise")],
        fit["tau"].value,
        fit["signal"].value,
        fit["flat"].value,
    ]
    step = 1e-5 * z
    error = np.r_[
        fit["rise"].stderr[0], fit["tau"].stderr, fit["signal"].stderr, fit["flat"].stderr
    ]
    for e in np.eye(28):
        slope = (deviance(z + step * e) - deviance(z - step * e)) / (2 * step @ e)
        assert abs(slope * (error @ e)) < 0.01


def test_the_columns_of_one_data_set_share_by_name_pattern():
    irf = vp.GaussianIRF("irf", center=0.3, width=0.2)
    t = np.linspace(-1, 8, 60)
    model = vp.Exp("decay", tau=2.0, irf=irf)
    rng = np.random.default_rng(5)
    tau = np.array([1.5, 2.0, 3.0, 4.0])

    def convolved(tau, center, width):
        late = (t - center)[:, None]
        rising = erfc((width / tau - late / width) / np.sqrt(2.0))
        return 0.5 * np.exp(width**2 / (2 * tau**2) - late / tau) * rising

    y = convolved(tau, 0.5, 0.15) + 0.003 * rng.normal(size=(60, 4))
    fit = vp.fit(model, t, y, share=["irf.*"])
    assert isinstance(fit, vp.BatchFit) and fit.shared == ("irf.center", "irf.width")
    assert np.abs(fit["irf.center"].value - 0.5).max() < 4 * fit["irf.center"].stderr.max()
    assert np.all(np.abs(fit["decay.tau"].value - tau) < 4 * fit["decay.tau"].stderr)
    # The same by one dense problem: center, width, lifetimes and amplitudes.
    together = dense(
        lambda z: convolved(z[2:6], z[0], z[1]) * z[6:], y, [0.3, 0.2, *[2.0] * 4, *[1.0] * 4]
    )
    np.testing.assert_allclose(fit["irf.width"].value[0], together.z[1], rtol=1e-4)
    np.testing.assert_allclose(fit["decay.tau"].value, together.z[2:6], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": "rize"}, "share: no parameter matches 'rize'"),
        ({"share": "rise", "fix": "rise"}, "fixed or tied"),
        ({"share": "rise", "init": {"rise": np.linspace(0.4, 0.6, 9), "tau": 2.0}}, "one start"),
    ],
)
def test_what_cannot_be_shared_is_named(options, message):
    model = vp.Custom("", decay, {"rise": 0.5, "tau": 2.0})
    with pytest.raises(vp.InputError) as caught:
        vp.fit_many(model, T, Y, **options)
    assert message in str(caught.value)


def test_curves_that_share_every_parameter_are_one_fit_of_many_columns():
    t = np.linspace(0.0, 8.0, 60)
    rng = np.random.default_rng(11)
    y = rng.uniform(1, 3, (5, 1)) * np.exp(-t / 2.0) + 0.4 + 0.02 * rng.normal(size=(5, 60))
    model = vp.Exp("a", tau=1.5) + vp.Constant("bg")
    shared = vp.fit_many(model, t, y, share=["a.tau"])
    together = dense(
        lambda z: z[1:6, None] * np.exp(-t / z[0]) + z[6:, None], y, [1.5, *[1.0] * 10]
    )
    np.testing.assert_allclose(shared["a.tau"].value, together.z[0], rtol=1e-6)
    np.testing.assert_allclose(shared["a.tau"].stderr, together.stderr[0], rtol=1e-4)
    np.testing.assert_allclose(shared["a"].value, together.z[1:6], rtol=1e-6)
    assert shared.success.all()
