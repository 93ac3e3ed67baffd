"""`fit`: right against independent fits, hard to misuse, the same in all its forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from agreement import SIGMAS, assert_same_optimum

import varpro as vp
from varpro._problem import problem as _problem

T = np.linspace(0.0, 20.0, 120)
RNG = np.random.default_rng(7)
NOISE = RNG.normal(size=(T.size, 4))
CLEAN = 3.0 * np.exp(-T / 1.0) + 2.0 * np.exp(-T / 6.0) + 0.5
Y = CLEAN + 0.02 * NOISE[:, 0]
SIGMA = 0.02 * (1.0 + T / 20.0)
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("bg")
NAMES = ("fast.tau", "slow.tau", "fast", "slow", "bg")


def full_model(t, tau1, tau2, c1, c2, c3):
    return c1 * np.exp(-t / tau1) + c2 * np.exp(-t / tau2) + c3


def oracle(y, sigma=None, absolute=False):
    start = (1.0, 6.0, 3.0, 2.0, 0.5)
    tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
    return scipy.optimize.curve_fit(
        full_model, T, y, start, sigma, absolute_sigma=absolute, method="lm", **tight
    )


@pytest.mark.parametrize(("weighted", "jacobian"), [(False, "kaufman"), (True, "full")])
def test_values_and_errors_agree_with_scipy(weighted, jacobian):
    sigma = SIGMA if weighted else None
    values, cov = oracle(Y, sigma)
    fit = vp.fit(MODEL, T, Y, sigma=sigma, jacobian=jacobian)
    assert fit.success and fit.cov_names == NAMES
    np.testing.assert_allclose([fit[n].value for n in NAMES], values, rtol=1e-7)
    np.testing.assert_allclose([fit[n].stderr for n in NAMES], np.sqrt(np.diag(cov)), rtol=2e-5)
    np.testing.assert_allclose(fit.covariance, cov, rtol=2e-4, atol=1e-9)


def test_absolute_sigma_has_scipy_meaning():
    _, cov = oracle(Y, 3.0 * SIGMA, absolute=True)
    fit = vp.fit(MODEL, T, Y, sigma=3.0 * SIGMA, absolute_sigma=True)
    np.testing.assert_allclose([fit[n].stderr for n in NAMES], np.sqrt(np.diag(cov)), rtol=2e-5)


def test_a_bare_function_gives_the_same_fit():
    def decays(theta, t):
        return {
            "fast": jnp.exp(-t / theta["fast.tau"]),
            "slow": jnp.exp(-t / theta["slow.tau"]),
            "bg": jnp.ones_like(t),
        }

    one = vp.fit(MODEL, T, Y)
    two = vp.fit(decays, T, Y, init={"fast.tau": 0.5, "slow.tau": 5.0})
    assert_same_optimum(two, one)
    np.testing.assert_allclose(two.covariance, one.covariance, rtol=1e-6, atol=1e-12)


def test_many_right_hand_sides_agree_with_the_stacked_full_problem():
    k, amplitudes = 2, np.array([[3.0, 2.0, 0.5], [1.0, 4.0, 0.2]])
    decays = np.stack([np.exp(-T), np.exp(-T / 6.0), np.ones_like(T)], 1)
    data = decays @ amplitudes.T + 0.02 * NOISE[:, :k]

    def residual(p):
        phi = np.stack([np.exp(-T / p[0]), np.exp(-T / p[1]), np.ones_like(T)], 1)
        return (phi @ p[2:].reshape(3, k) - data).ravel()

    start = np.concatenate([[1.0, 6.0], amplitudes.T.ravel()])
    ref = scipy.optimize.least_squares(residual, start, ftol=1e-15, xtol=1e-15, gtol=1e-15)
    cov = np.linalg.inv(ref.jac.T @ ref.jac) * 2 * ref.cost / (data.size - start.size)
    fit = vp.fit(MODEL, T, data, share="all")
    assert fit.dof == data.size - start.size
    np.testing.assert_allclose(fit.alpha, ref.x[:2], rtol=1e-7)
    np.testing.assert_allclose(fit.coef, ref.x[2:].reshape(3, k), rtol=1e-6)
    np.testing.assert_allclose(fit.chisq, 2 * ref.cost, rtol=1e-10)
    sd = np.sqrt(np.diag(cov))
    np.testing.assert_allclose(fit.alpha_stderr, sd[:2], rtol=1e-4)
    np.testing.assert_allclose(fit.coef_stderr, sd[2:].reshape(3, k), rtol=1e-4)


def test_zero_weight_mask_and_nan_drop_equal_leaving_the_samples_out():
    keep = np.ones(T.size, bool)
    keep[[3, 17, 42]] = False
    few = vp.fit(MODEL, T[keep], Y[keep])
    holes = np.where(keep, Y, np.nan)
    for fit in (
        vp.fit(MODEL, T, Y, mask=keep),
        vp.fit(MODEL, T, Y, weights=keep.astype(float)),
        vp.fit(MODEL, T, holes, nan="drop"),
        vp.fit(MODEL, np.where(keep, T, np.inf), Y, nan="drop"),
    ):
        assert fit.dof == few.dof
        assert_same_optimum(fit, few)
        np.testing.assert_allclose(fit.alpha_stderr, few.alpha_stderr, rtol=1e-6)


def test_permuted_samples_and_columns_change_nothing():
    fit = vp.fit(MODEL, T, Y)
    order = RNG.permutation(T.size)
    other = vp.fit(
        vp.Constant("bg") + vp.Exp("slow", tau=5.0) + vp.Exp("fast", tau=0.5), T[order], Y[order]
    )
    for name in NAMES:
        gap = other[name].value - fit[name].value
        assert abs(gap) < SIGMAS * fit[name].stderr


def test_complex_data_are_supported_not_dropped():
    y = (2.0 + 1.0j) * np.exp((-0.2 + 1.5j) * T) + 0.01 * (NOISE[:, 0] + 1j * NOISE[:, 1])

    def ring(theta, t):
        return {"a": jnp.exp((-theta["rate"] + 1j * theta["w"]) * t)}

    fit = vp.fit(ring, T, y, init={"rate": 0.3, "w": 1.4})

    def residual(p):
        r = (p[2] + 1j * p[3]) * np.exp((-p[0] + 1j * p[1]) * T) - y
        return np.concatenate([r.real, r.imag])

    ref = scipy.optimize.least_squares(residual, [0.2, 1.5, 2, 1], xtol=1e-15, ftol=1e-15)
    assert fit.success and fit.dof == 2 * T.size - 4
    np.testing.assert_allclose(fit.alpha, ref.x[:2], rtol=1e-7)
    np.testing.assert_allclose(fit.coef[0], ref.x[2] + 1j * ref.x[3], rtol=1e-7)


def test_complex_data_and_a_real_basis_are_two_right_hand_sides():
    pair = np.stack([Y, 2 * CLEAN - 1 + 0.02 * NOISE[:, 1]], axis=1)
    one, two = vp.fit(MODEL, T, pair[:, 0] + 1j * pair[:, 1]), vp.fit(MODEL, T, pair)
    gap = (one.alpha - two.alpha) / two.alpha_stderr
    np.testing.assert_allclose(gap, 0.0, atol=SIGMAS)
    np.testing.assert_allclose(one.coef, two.coef[:, 0] + 1j * two.coef[:, 1], rtol=1e-6)
    np.testing.assert_allclose(one.alpha_stderr, two.alpha_stderr, rtol=1e-6)
    assert one.dof == two.dof


def test_offset_is_a_term_without_coefficient():
    y = CLEAN + np.sin(1.3 * T)
    wave = vp.Offset(vp.Custom("wave", lambda th, t: jnp.sin(th["w"] * t), {"w": 1.28}))
    fit = vp.fit(MODEL + wave, T, y)
    np.testing.assert_allclose([fit[n].value for n in NAMES], [1, 6, 3, 2, 0.5], rtol=1e-6)
    np.testing.assert_allclose(fit["wave.w"].value, 1.3, rtol=1e-8)
    assert "wave" not in fit.columns
    np.testing.assert_allclose(sum(fit.components().values()), fit.fitted, rtol=1e-12)


def test_fix_tie_and_bounds():
    fit = vp.fit(MODEL, T, Y, fix="slow.*")
    assert fit["slow.tau"].value == 5.0 and fit["slow.tau"].fixed
    assert fit["slow.tau"].stderr == 0.0 and fit.num_free == 1
    peaks = vp.Gaussian("a", center=5.0, width=1.0) + vp.Gaussian("b", center=12.0, width=1.5)
    y = np.exp(-0.5 * ((T - 5.2) / 1.3) ** 2) + 2 * np.exp(-0.5 * ((T - 12.1) / 1.3) ** 2)
    tied = vp.fit(peaks, T, y + 0.01 * NOISE[:, 0], tie={"b.width": "a.width"})
    assert tied["a.width"].value == tied["b.width"].value
    assert tied["b.width"].tied_to == "a.width" and tied.num_free == 3
    np.testing.assert_allclose(tied["a.width"].value, 1.3, rtol=0.02)
    bounded = vp.fit(MODEL, T, Y, bounds={"slow.tau": (1.0, 5.5)})
    assert bounded.success and bounded["slow.tau"].value == 5.5
    assert bounded["slow.tau"].at_bound and np.isnan(bounded["slow.tau"].stderr)
    fixed = vp.fit(MODEL, T, Y, init={"slow.tau": 5.5}, fix="slow.tau")
    np.testing.assert_allclose(bounded["fast.tau"].value, fixed["fast.tau"].value, rtol=1e-7)
    np.testing.assert_allclose(bounded["fast.tau"].stderr, fixed["fast.tau"].stderr, rtol=1e-5)


def test_order_is_kept_and_costs_nothing_when_inactive():
    free = vp.fit(MODEL, T, Y)
    fit = vp.fit(MODEL, T, Y, order=("fast.tau", "slow.tau"))
    np.testing.assert_allclose(fit.alpha, free.alpha, rtol=1e-8)
    np.testing.assert_allclose(fit.alpha_stderr, free.alpha_stderr, rtol=1e-6)
    capped = vp.fit(MODEL, T, Y, order=("fast.tau", "slow.tau"), bounds={"slow.tau": (0.1, 50.0)})
    np.testing.assert_allclose(capped.alpha, free.alpha, rtol=1e-8)


def test_order_never_holds_a_search_that_finds_the_optimum_without_it():
    rng, order = np.random.default_rng(7), ("fast.tau", "slow.tau")
    found = 0
    for _ in range(40):
        truth, start = np.sort(10.0 ** rng.uniform(-0.5, 1.0, 2)), 10.0 ** rng.uniform(-1, 1.3)
        y = full_model(T, *truth, *rng.uniform(1, 3, 2), 0.5) + 0.003 * rng.normal(size=T.size)
        # The components nearly meet.
        init = {"fast.tau": start, "slow.tau": 1.001 * start}
        free, ordered = (vp.fit(MODEL, T, y, init=init, order=o) for o in ((), order))
        assert ordered.success == free.success
        if free.success:
            np.testing.assert_allclose(ordered.cost, free.cost, rtol=1e-9)
            swap = np.argsort(free.alpha)
            np.testing.assert_allclose(ordered.alpha, free.alpha[swap], rtol=1e-6)
            np.testing.assert_allclose(ordered.coef[:2], free.coef[:2][swap], rtol=1e-5)
            np.testing.assert_allclose(ordered.alpha_stderr, free.alpha_stderr[swap], rtol=1e-4)
            found += not np.array_equal(swap, [0, 1])
    assert found > 0  # some searches end with the components exchanged


def test_whole_peaks_are_exchanged():
    peaks = vp.Gaussian("a", center=12.0, width=0.5) + vp.Gaussian("b", center=14.0, width=2.0)
    y = 3.0 * np.exp(-0.5 * ((T - 5.0) / 2.0) ** 2) + np.exp(-0.5 * ((T - 13.0) / 0.5) ** 2)
    free = vp.fit(peaks, T, y + 0.01 * NOISE[:, 0])
    fit = vp.fit(peaks, T, y + 0.01 * NOISE[:, 0], order=("a.center", "b.center"))
    assert free["b.center"].value < free["a.center"].value
    for one, other in (("a", "b"), ("b", "a")):
        for part in ("", ".center", ".width"):
            np.testing.assert_allclose(fit[one + part].value, free[other + part].value, rtol=1e-6)
            np.testing.assert_allclose(fit[one + part].stderr, free[other + part].stderr, rtol=1e-4)
    # Bounds tell the peaks apart: then it is a constraint.
    held = vp.fit(peaks, T, y, order=("a.center", "b.center"), bounds={"a.width": (0.1, 0.9)})
    assert held["a.center"].value <= held["b.center"].value and held["a.width"].value <= 0.9


@pytest.mark.parametrize("dtype", [float, complex, np.float32])
@pytest.mark.parametrize("noise", [0.3, 0.03, 1e-4, 1e-8])
def test_compressed_residuals_lead_to_the_same_optimum(noise, dtype):
    rng = np.random.default_rng(3)
    coef = rng.uniform(0.5, 2.0, (3, 60))
    phi = np.stack([np.exp(-T / 0.7), np.exp(-T / 4.0), np.ones_like(T)], axis=1)
    exact = (phi @ coef).astype(dtype)
    y = exact + (noise * rng.normal(size=exact.shape)).astype(exact.real.dtype)

    def left(tau):
        # Of one matrix of columns Q R: what no coefficients take away.
        q = np.linalg.qr(np.stack([np.exp(-T / tau[0]), np.exp(-T / tau[1]), np.ones_like(T)], 1))[
            0
        ]
        r = y - q @ (q.T @ y)
        return np.concatenate([r.real.ravel(), r.imag.ravel()])

    narrow = dtype == np.float32
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "x_scale": [0.7, 4.0]}
    best = scipy.optimize.least_squares(left, [0.7, 4.0], jac="3-point", **tight)
    rounding = np.sum((np.finfo(y.dtype).eps * np.abs(y)) ** 2)
    rtol = 1e-2 if narrow else 1e-9
    # Where the residual is little more than the rounding of data and columns, that is in its square, too.
    alike = 30 * rounding + 2 * np.sqrt(best.cost * rounding)
    costs = []
    # All residuals are taken by one of the two alone.
    for kind in ("full", "kaufman") if dtype is float else ("kaufman",):
        fit = vp.fit(MODEL, T, y, jacobian=kind)
        assert fit.success
        # In units of the standard errors, but for what rounding allows.
        floor = (1e-4 if narrow else 1e-10) * best.x
        allowed = (1e-2 if narrow else SIGMAS) * fit.alpha_stderr + floor
        assert np.all(np.abs(fit.alpha - best.x) <= allowed)
        np.testing.assert_allclose(fit.cost, best.cost, rtol=rtol, atol=alike)
        costs.append(fit.cost)
    np.testing.assert_allclose(costs[-1], costs[0], rtol=rtol, atol=30 * rounding)


def test_prior_is_one_more_observation():
    sd = 0.1
    prior = vp.Param(5.0, prior=(7.0, sd))
    fit = vp.fit(MODEL, T, Y, sigma=0.02, absolute_sigma=True, init={"slow.tau": prior})

    def residual(p):
        return np.append((full_model(T, *p) - Y) / 0.02, (p[1] - 7.0) / sd)

    ref = scipy.optimize.least_squares(residual, [1, 6, 3, 2, 0.5], xtol=1e-15, ftol=1e-15)
    np.testing.assert_allclose([fit[n].value for n in NAMES], ref.x, rtol=1e-7)
    np.testing.assert_allclose(fit.cost, ref.cost, rtol=1e-10)
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(ref.jac.T @ ref.jac), rtol=1e-3)


def test_a_linear_model_needs_no_search():
    fit = vp.fit(vp.Polynomial("p", degree=2), T, Y)
    np.testing.assert_allclose(fit.coef[::-1], np.polyfit(T, Y, 2), rtol=1e-8)
    _, cov = np.polyfit(T, Y, 2, cov=True)
    np.testing.assert_allclose(fit.coef_stderr[::-1], np.sqrt(np.diag(cov)), rtol=1e-8)


def test_float64_data_are_fitted_in_float64_and_float32_in_float32():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        fit = vp.fit(MODEL, T, Y)
        assert fit.alpha.dtype == np.float64 and not jax.config.jax_enable_x64
    finally:
        jax.config.update("jax_enable_x64", before)
    narrow = vp.fit(MODEL, T.astype(np.float32), Y.astype(np.float32))
    assert narrow.alpha.dtype == np.float32 and narrow.success
    np.testing.assert_allclose(narrow.alpha, fit.alpha, rtol=2e-3)


def test_integer_data_equal_their_float_copy():
    counts = np.round(1000 * CLEAN).astype(int)
    one, two = vp.fit(MODEL, T, counts), vp.fit(MODEL, T, counts.astype(float))
    assert np.array_equal(one.alpha, two.alpha)


def test_new_values_do_not_compile_anew():
    from varpro._programs.program import RECENT

    vp.fit(MODEL, T, Y)
    made = RECENT.made
    other = vp.Exp("quick", tau=0.7) + vp.Exp("late", tau=4.0) + vp.Constant("floor")
    vp.fit(other, T + 0.1, 2 * Y)
    assert RECENT.made == made


def test_predict_and_components_add_up():
    fit = vp.fit(MODEL, T, Y)
    np.testing.assert_allclose(fit.predict(T), fit.fitted, rtol=1e-12)
    np.testing.assert_allclose(sum(fit.components().values()), fit.fitted, rtol=1e-12)
    np.testing.assert_allclose(fit.resid, Y - fit.fitted, rtol=1e-12)
    text = str(fit)
    assert "converged" in text and "slow.tau" in text


def test_max_steps_is_a_status_and_throw_an_exception():
    fit = vp.fit(MODEL, T, Y, max_steps=1)
    assert not fit.success and fit.status == "nonlinear_max_steps_reached"
    assert np.isfinite(fit.alpha).all()
    with pytest.raises(vp.FitError, match="did not converge") as caught:
        vp.fit(MODEL, T, Y, max_steps=1, throw=True)
    assert caught.value.fit.num_steps == 1


def nan_at(y, *where):
    y = y.copy()
    y[list(where)] = np.nan
    return y


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vp.fit(MODEL, T, nan_at(Y, 3, 17, 42)), r"y contains 3 non-finite values at indices \[3, 17, 42\]. Pass mask= or nan=\"drop\"."),
        (lambda: vp.fit(MODEL, T, Y[:-1]), "x has 120 points but y has 119 along the same axis"),
        (lambda: vp.fit(MODEL, nan_at(T, 5), Y), r"x contains 1 non-finite value at index \[5\]"),
        (lambda: vp.fit(MODEL, T, np.array([])), "y is empty"),
        (lambda: vp.fit(MODEL, T, Y > 0), "y must be numeric, but has dtype bool"),
        (lambda: vp.fit(MODEL, T, np.ones((3, T.size))), "transpose it"),
        (lambda: vp.fit(MODEL, 1.0, Y), "x has no points but y has 120"),
        (lambda: vp.fit(MODEL, T, Y, sigma=np.zeros(T.size)), "sigma must be greater than zero"),
        (lambda: vp.fit(MODEL, T, Y, weights=-np.ones(T.size)), "weights must be zero or more"),
        (lambda: vp.fit(MODEL, T, Y, weights=np.full(T.size, np.inf)), "weights contains non-finite"),
        (lambda: vp.fit(MODEL, T, Y, weights=np.zeros(T.size)), "No sample carries weight"),
        (lambda: vp.fit(MODEL, T, Y, sigma=1.0, weights=np.ones(T.size)), "either sigma"),
        (lambda: vp.fit(MODEL, T[:4], Y[:4]), r"4 data points cannot determine 5 parameters \(2 nonlinear, 3 linear\)"),
        (lambda: vp.fit(MODEL, T, Y, fix=["slw.*"]), "no parameter matches 'slw.\\*'"),
        (lambda: vp.fit(MODEL, T, Y, init={"slow.tua": 1.0}), "Did you mean 'slow.tau'"),
        (lambda: vp.fit(MODEL, T, Y, tie={"slow.tau": "fast.tua"}), "Did you mean 'fast.tau'"),
        (lambda: vp.fit(MODEL, T, Y, init={"slow.tau": vp.Param(80.0, 1.0, 50.0)}), r"init for slow.tau = 80 lies outside its bounds \[1, 50\]."),
        (lambda: vp.fit(MODEL, T, Y, init={"fast.tau": 0.0}), "Column 'fast' is not finite at the start"),
        (lambda: vp.fit(MODEL, T, Y, init={"fast.tau": 5.0, "slow.tau": 5.0}), r"Phi has rank 2 of 3 at the starting point: columns 'fast' and 'slow' are identical \(tau = 5\). Give distinct starts."),
        (lambda: vp.fit(vp.Gaussian("far", center=900.0, width=1.0) + vp.Gaussian("b", center=5.0, width=1.0), T, Y), "Column 'far' is zero at every sample at the start .*far.center = 900"),
        (lambda: vp.fit(MODEL, T, Y, tie={"slow.tau": "fast.tau"}, bounds={"slow.tau": (1.0, 9.0)}), "init for fast.tau = 0.5 lies outside its bounds and those of slow.tau"),
        (lambda: vp.fit(MODEL, T, Y, tie={"slow.tau": "fast.tau"}, bounds={"slow.tau": (1.0, 9.0), "fast.tau": (0.1, 0.9)}), "tie: the bounds of 'slow.tau' and of 'fast.tau' have nothing in common"),
        (lambda: vp.fit(MODEL, T, Y, share="sometimes"), "fits the columns of Y"),
        (lambda: vp.fit(MODEL, T, Y)["slow.tua"], "Did you mean 'slow.tau'"),
        (lambda: vp.fit("exp", T, Y), "model must be a basis"),
    ],
)  # fmt: skip
def test_bad_input_says_what_to_do(call, message):
    with pytest.raises(vp.InputError, match=message):
        call()


def test_undetermined_parameters_have_infinite_errors():
    flat = vp.fit(vp.Exp("a", tau=3.0) + vp.Constant("bg"), T, np.full(T.size, 2.0))
    assert flat["a.tau"].stderr == np.inf or np.isnan(flat["a.tau"].stderr)
    zero = vp.fit(vp.Exp("a", tau=3.0) + vp.Constant("bg"), T, np.zeros(T.size))
    assert not zero["a"].stderr == 0.0 and not zero["a.tau"].stderr == 0.0
    twins = vp.fit(MODEL, T, Y, init={"fast.tau": 3.0, "slow.tau": 3.0}, fix="*.tau")
    assert twins.rank == 2
    assert np.isinf(twins["fast"].stderr) and np.isinf(twins["slow"].stderr)
    np.testing.assert_allclose(twins["fast"].value, twins["slow"].value, rtol=1e-9)


def test_equal_starts_are_refused_only_where_they_would_stay_equal():
    equal = {"fast.tau": 5.0, "slow.tau": 5.0}
    with pytest.raises(vp.InputError, match="identical"):
        vp.fit(MODEL, T, Y, init={"*.tau": 5.0})
    apart = vp.fit(MODEL, T, Y, init=equal, fix="slow.tau")
    assert apart.rank == 3 and apart.success and abs(apart["fast.tau"].value - 5.0) > 0.1
    tied = vp.fit(MODEL, T, Y, init=equal, tie={"slow.tau": "fast.tau"})
    assert tied.rank == 2 and tied.success
    others = vp.fit(MODEL, T, Y, init=equal, bounds={"*.tau": (0.1, 50.0)}, starts=8)
    assert others.success and others.rank == 3
    peaks = vp.Gaussian("a", center=2.0, width=1.0) + vp.Gaussian("b", center=2.0, width=3.0)
    assert vp.fit(peaks, T, Y).num_steps > 0


def test_many_starts_find_the_global_optimum_and_repeat_by_seed():
    peaks = vp.Gaussian("a", center=18.0, width=1.0) + vp.Constant("bg")
    y = 3.0 * np.exp(-0.5 * ((T - 5.0) / 0.8) ** 2) + np.exp(-0.5 * ((T - 17.0) / 0.8) ** 2)
    bounds = {"a.center": (0.0, 20.0), "a.width": (0.2, 5.0)}
    one = vp.fit(peaks, T, y + 0.01 * NOISE[:, 0], bounds=bounds)
    many, again = (
        vp.fit(peaks, T, y + 0.01 * NOISE[:, 0], bounds=bounds, starts=16, seed=4) for _ in range(2)
    )
    assert abs(one["a.center"].value - 5.0) > 1.0 and abs(many["a.center"].value - 5.0) < 0.2
    assert many.success and many.cost < 0.5 * one.cost
    assert many.start_costs.shape == (16,) and many.cost == pytest.approx(
        many.start_costs.min(), rel=1e-9
    )
    assert np.array_equal(many.alpha, again.alpha)


def test_start_points_stay_inside_their_bounds():
    from varpro._parameters.layout import Coordinates
    from varpro._search.multistart import start_points

    box = Coordinates(
        np.array([1.0, 3.0, 0.0, 2.0]),
        np.array([1e-3, -5.0, -np.inf, 1.5]),
        np.array([1e3, 5.0, np.inf, np.inf]),
    )
    points = start_points(box, 65, 1)
    assert points.shape == (65, 4) and np.array_equal(points[0], box.start)
    assert np.all((points >= box.lower) & (points <= box.upper))
    # Spread by logarithm over six decades: about half below the geometric middle.
    assert 20 < np.sum(points[1:, 0] < 1.0) < 44


@pytest.mark.parametrize(
    "options",
    [{}, {"sigma": "each"}, {"relations": {"b": {"a": 0.5}}}, {"relations": {"b": 0.5}}],
    ids=["plain", "sigma", "relation", "constant"],
)
def test_large_data_are_judged_in_blocks(rng, monkeypatch, options):
    # A shape of its own, so that the program is compiled with the small limit.
    t = np.linspace(0.0, 8.0, 31)
    y = np.exp(-t[:, None] / [0.8, 4.0]) @ rng.uniform(0.3, 1.0, (2, 23))
    y += 0.01 * rng.standard_normal(y.shape)
    if "sigma" in options:
        options = {"sigma": rng.uniform(0.5, 2.0, y.shape)}
    monkeypatch.setattr(_problem, "LARGE", 31 * 10)
    fit = vp.fit(vp.Exp("a", tau=0.5) + vp.Exp("b", tau=6.0), t, y, **options)
    parts = fit.components()
    np.testing.assert_allclose(fit.fitted, parts["a"] + parts["b"], atol=1e-12)
    weighted = fit.resid / options.get("sigma", 1.0)
    assert fit.chisq == pytest.approx(np.sum(weighted**2), rel=1e-12)
