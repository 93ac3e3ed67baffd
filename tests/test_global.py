"""Several data sets in one fit, against one dense problem of all their parameters."""

import functools

import numpy as np
import pytest
from dense_problem import dense
from scipy.optimize import least_squares

import varpro as vp


def decays(m, k, taus, seed, noise=0.01):
    t = np.linspace(0.0, 10.0, m)
    rng = np.random.default_rng(seed)
    phi = np.stack([np.exp(-t / tau) for tau in taus] + [np.ones(m)], axis=1)
    y = phi @ rng.uniform(1.0, 3.0, (phi.shape[1], k)) + noise * rng.normal(size=(m, k))
    return t, y[:, 0] if k == 1 else y


SETS = {
    "run1": decays(60, 1, (1.0, 4.0), 1),
    "run2": decays(60, 1, (1.0, 4.5), 2),
    "run3": decays(40, 5, (1.0, 6.0), 3),
}
# Of one shape, so that one stack holds them all.
ALIKE = SETS | {"run3": decays(60, 1, (1.0, 6.0), 3)}
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("bg")


def everything(columns, sets, weights=None):
    """The residual of nonlinear parameters and all coefficients, `columns(alpha, key, t)` (m, n)."""

    def resid(z, p):
        out, at = [], p
        for key, (t, y) in sets.items():
            phi = columns(z[:p], key, t)
            y = y.reshape(len(t), -1)
            size = phi.shape[1] * y.shape[1]
            r = y - phi @ z[at : at + size].reshape(phi.shape[1], -1)
            out.append((r * (1.0 if weights is None else weights[key][:, None])).ravel())
            at += size
        return np.concatenate(out)

    def fit(start, counts):
        z0 = np.r_[start, np.ones(counts)]
        best = least_squares(
            resid, z0, args=(len(start),), method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        jac = best.jac
        dof = jac.shape[0] - jac.shape[1]
        return best.x, 2 * best.cost, np.linalg.inv(jac.T @ jac), dof

    return fit


@functools.cache
def of_alike():
    """Of ALIKE the shared lifetime, those of each, and amplitudes of each, by one dense problem."""
    t = ALIKE["run1"][0]

    def curve(z):
        parts = z[4:].reshape(3, 3)
        return [
            a * np.exp(-t / z[0]) + b * np.exp(-t / tau) + c
            for tau, (a, b, c) in zip(z[1:4], parts, strict=True)
        ]

    y = np.stack([y for _, y in ALIKE.values()])
    return dense(lambda z: np.stack(curve(z)), y, np.r_[0.5, 5.0, 5.0, 5.0, np.ones(9)])


def exponentials(alpha, key, t):
    tau = dict(zip(SETS, alpha[1:], strict=True))[key]
    return np.stack([np.exp(-t / alpha[0]), np.exp(-t / tau), np.ones(t.size)], axis=1)


def test_shared_and_local_parameters_agree_with_the_dense_problem():
    fit = vp.fit(MODEL, SETS, share=["fast.*"])
    z, chisq, cov, dof = everything(exponentials, SETS)([0.5, 5.0, 5.0, 5.0], 6 + 15)
    assert fit.success
    assert fit.names == ("fast.tau", "run1.slow.tau", "run2.slow.tau", "run3.slow.tau")
    np.testing.assert_allclose(fit.alpha, z[:4], rtol=1e-6)
    np.testing.assert_allclose(fit.chisq, chisq, rtol=1e-10)
    assert fit.dof == dof
    error = np.sqrt(np.diag(cov) * chisq / dof)
    np.testing.assert_allclose(fit.alpha_stderr, error[:4], rtol=1e-3)
    np.testing.assert_allclose(fit.covariance, cov[:4, :4] * chisq / dof, rtol=3e-3)
    at = 4
    for one in fit.sets.values():
        size = one.coef.size
        np.testing.assert_allclose(one.coef.ravel(), z[at : at + size], rtol=1e-5)
        np.testing.assert_allclose(one.coef_stderr.ravel(), error[at : at + size], rtol=1e-3)
        at += size
    # The covariance within a data set holds its coefficients too.
    joint = fit["run1"].covariance
    places = [0, 1, 4, 5, 6]
    np.testing.assert_allclose(joint, cov[np.ix_(places, places)] * chisq / dof, rtol=5e-3)


def test_equal_data_sets_are_one_with_more_right_hand_sides():
    t, y = decays(50, 4, (1.0, 4.0), 5)
    apart = vp.fit(MODEL, {"a": (t, y[:, :2]), "b": (t, y[:, 2:])})
    once = vp.fit(MODEL, t, y)
    np.testing.assert_allclose(apart.alpha, once.alpha, rtol=1e-7)
    np.testing.assert_allclose(apart.alpha_stderr, once.alpha_stderr, rtol=1e-6)
    np.testing.assert_allclose(apart.cost, once.cost, rtol=1e-10)
    np.testing.assert_allclose([apart.aic, apart.bic], [once.aic, once.bic], rtol=1e-10)
    np.testing.assert_allclose(apart["b"].coef_stderr, once.coef_stderr[:, 2:], rtol=1e-6)
    x = np.linspace(0.0, 12.0, 7)
    ours, theirs = apart["a"].predict(x, band=0.9), once.predict(x, band=0.9)
    np.testing.assert_allclose(ours.upper, theirs.upper[:, :2], rtol=1e-6)


def test_nothing_shared_is_every_data_set_for_itself():
    apart = vp.fit(MODEL, SETS, share="none")
    for key, (t, y) in SETS.items():
        k = y.size // t.size

        def curve(z, t=t, k=k):
            phi = np.stack([np.exp(-t / z[0]), np.exp(-t / z[1]), np.ones_like(t)], axis=1)
            return phi @ z[2:].reshape(3, k)

        alone = dense(curve, y.reshape(t.size, k), np.r_[0.5, 5.0, np.ones(3 * k)])
        np.testing.assert_allclose(apart[key].alpha, alone.z[:2], rtol=1e-6)
        np.testing.assert_allclose(2 * apart[key].cost, alone.chisq, rtol=1e-9)


def test_weights_masks_and_absolute_errors():
    sigma = {key: np.linspace(0.01, 0.03, t.size) for key, (t, _) in SETS.items()}
    mask = {"run2": np.arange(60) % 7 != 0}
    fit = vp.fit(MODEL, SETS, share=["fast.*"], sigma=sigma, mask=mask, absolute_sigma=True)
    keep = {key: mask.get(key, np.ones(t.size, bool)) for key, (t, _) in SETS.items()}
    sets = {key: (t[keep[key]], y[keep[key]]) for key, (t, y) in SETS.items()}
    weights = {key: 1.0 / sigma[key][keep[key]] for key in SETS}
    z, chisq, cov, dof = everything(exponentials, sets, weights)([0.5, 5.0, 5.0, 5.0], 21)
    np.testing.assert_allclose(fit.alpha, z[:4], rtol=1e-6)
    assert fit.dof == dof
    np.testing.assert_allclose(fit.chisq, chisq, rtol=1e-9)
    np.testing.assert_allclose(fit.alpha_stderr, np.sqrt(np.diag(cov))[:4], rtol=1e-3)


def test_fix_tie_order_and_bounds_by_own_and_by_full_names():
    fit = vp.fit(
        MODEL,
        ALIKE,
        share=["fast.*"],
        init={"slow.tau": 4.2, "run3.slow.tau": 4.8},
        fix=["run2.slow.tau"],
        bounds={"run3.slow.tau": (1.0, 5.0)},
    )
    assert fit["run2.slow.tau"].value == 4.2 and fit["run2.slow.tau"].fixed
    assert fit["run3.slow.tau"].value == 5.0 and fit["run3.slow.tau"].at_bound
    assert np.isnan(fit["run3.slow.tau"].stderr)
    assert np.isnan(fit["run3"]["slow.tau"].stderr)
    assert fit.dof == 3 * 60 - 2 - 9
    chain = vp.fit(MODEL, ALIKE, share=["fast.*"], order=("fast.tau", "slow.tau"))
    free = of_alike()
    np.testing.assert_allclose(chain.alpha, free.z[:4], rtol=1e-6)
    np.testing.assert_allclose(chain.alpha_stderr, free.stderr[:4], rtol=1e-5)
    tied = vp.fit(MODEL, ALIKE, share=["fast.*"], tie={"run1.slow.tau": "run2.slow.tau"})
    assert tied["run1.slow.tau"].value == tied["run2.slow.tau"].value
    assert tied["run1.slow.tau"].tied_to == "run2.slow.tau"
    assert tied.num_free == 3


def test_a_model_for_each_data_set_may_share_what_has_the_same_name():
    t = np.linspace(0.0, 8.0, 50)
    sets = {"a": decays(60, 1, (2.0,), 1), "b": (t, 3 * np.exp(-t / 2.0) * np.cos(4 * t) + 0.5)}

    def ringing(theta, t):
        import jax.numpy as jnp

        envelope = jnp.exp(-t / theta["decay.tau"])
        return {"cos": envelope * jnp.cos(theta["w"] * t), "flat": jnp.ones_like(t)}

    models = {"a": vp.Exp("decay", tau=1.0) + vp.Constant("bg"), "b": ringing}
    fit = vp.fit(models, sets, init={"decay.tau": 1.5, "w": 3.9}, share=["decay.tau"])
    assert fit.names == ("decay.tau", "b.w")
    np.testing.assert_allclose(fit.alpha, [2.0, 4.0], atol=0.01)


def test_a_prior_counts_once():
    model = vp.Exp("fast", tau=vp.Param(0.5, prior=(1.2, 0.02))) + vp.Constant("bg")
    sets = {key: (t, y) for key, (t, y) in SETS.items() if y.ndim == 1}
    sigma = 0.3
    fit = vp.fit(model, sets, sigma=sigma, absolute_sigma=True)

    def columns(alpha, key, t):
        return np.stack([np.exp(-t / alpha[0]), np.ones(t.size)], axis=1)

    def cost(tau):
        total = ((tau - 1.2) / 0.02) ** 2
        for key, (t, y) in sets.items():
            phi = columns([tau], key, t)
            total += np.sum((y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]) ** 2) / sigma**2
        return total

    grid = fit["fast.tau"].value + np.array([-1e-3, 0.0, 1e-3])
    low, mid, high = map(cost, grid)
    assert mid < low and mid < high
    np.testing.assert_allclose(2 * fit.cost, mid, rtol=1e-10)
    curvature = (low - 2 * mid + high) / 1e-6 / 2
    np.testing.assert_allclose(fit["fast.tau"].stderr, curvature**-0.5, rtol=0.05)


def test_starts_are_found_for_shared_and_for_local_parameters():
    model = vp.Exp("fast") + vp.Exp("slow") + vp.Constant("bg")
    found = vp.fit(model, SETS, share=["fast.*"])
    given = vp.fit(MODEL, SETS, share=["fast.*"])
    np.testing.assert_allclose(found.alpha, given.alpha, rtol=1e-6)


def test_several_starts_any_optimistix_solver_and_float32():
    import optimistix as optx

    best = of_alike().z[:4]
    many = vp.fit(MODEL, ALIKE, share=["fast.*"], bounds={"*.tau": (0.1, 20.0)}, starts=4)
    np.testing.assert_allclose(many.alpha, best, rtol=1e-6)
    assert many.start_costs.shape == (4,)
    other = vp.fit(MODEL, ALIKE, share=["fast.*"], solver=optx.BFGS(rtol=1e-10, atol=1e-10))
    np.testing.assert_allclose(other.alpha, best, rtol=1e-5)
    narrow = {k: (t.astype(np.float32), y.astype(np.float32)) for k, (t, y) in ALIKE.items()}
    single = vp.fit(MODEL, narrow, share=["fast.*"])
    assert single.alpha.dtype == np.float32
    np.testing.assert_allclose(single.alpha, best, rtol=2e-3)


def test_rows_of_zero_weight_and_new_numbers_compile_nothing():
    from varpro._programs.program import RECENT

    vp.fit(MODEL, SETS, share=["fast.*"])
    made = RECENT.made
    shifted = {key: (t, y * 1.1) for key, (t, y) in SETS.items()}
    vp.fit(MODEL, shifted, share=["fast.*"], init={"fast.tau": 0.7})
    assert RECENT.made == made


def test_what_is_printed_names_everything():
    fit = vp.fit(MODEL, SETS, share=["fast.*"])
    text = str(fit)
    for word in ("3 data sets", "run2.slow.tau", "coefficients of run1", "40 x 5", "chi-square"):
        assert word in text
    assert "<table" in fit._repr_html_()
    frame = fit.to_frame()
    assert set(frame.dataset) == set(SETS)
    assert fit == fit and fit.equals(fit)
    assert fit.to_dict()["sets"]["run1"]["parameters"]["slow.tau"]["value"] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vp.fit(MODEL, {}), "No data set was given"),
        (lambda: vp.fit(MODEL, SETS["run1"][0]), "y is missing"),
        (lambda: vp.fit(MODEL, {"a": 3}), "Data set 'a' must be a pair"),
        (
            lambda: vp.fit(MODEL, {"a": (np.arange(4.0), np.ones(3))}),
            "Data set 'a': x has 4 points",
        ),
        (lambda: vp.fit(MODEL, SETS, share=["*.tua"]), "share: no parameter matches"),
        (lambda: vp.fit(MODEL, SETS, share=["fast.*"], fix=["run4.slow.tau"]), "Did you mean"),
        (lambda: vp.fit(MODEL, SETS, sigma={"run1": 1.0}), "not for ['run2', 'run3']"),
        (lambda: vp.fit(MODEL, SETS, sigma={"rum1": 1.0}), "Did you mean 'run1'"),
        (lambda: vp.fit(MODEL, SETS, weights=np.ones(60)), "Give one for each"),
        (lambda: vp.fit({"run1": MODEL}, SETS), "one for each"),
        (lambda: vp.fit({"run1": MODEL}, *SETS["run1"]), "One data set has one model"),
        (lambda: vp.fit(MODEL, SETS, share=["fast.*"])["rum1"], "Did you mean"),
        (
            lambda: vp.fit(MODEL, SETS, share=["fast.*"], init={"fast.tau": 5.0}),
            "in data set 'run1'|identical",
        ),
        (lambda: vp.fit(MODEL, {"a": (np.arange(3.0), np.ones(3))}), "cannot determine"),
        (
            lambda: vp.fit(MODEL, SETS, share=["fast.*"])["run1"].profile("fast.tau"),
            "one data set of a global fit",
        ),
    ],
)
def test_bad_input_says_what_to_do(call, message):
    import re

    with pytest.raises(vp.InputError) as caught:
        call()
    options = message.split("|")
    assert any(re.search(re.escape(option), str(caught.value)) for option in options), caught.value
