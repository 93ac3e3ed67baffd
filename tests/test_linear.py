"""Rules for coefficients, and weights of single values: against dense problems solved by SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from dense_problem import dense as dense_fit

import varpro as vp
from varpro._dmd.exponentials import Exponentials, Spectrum
from varpro._problem.columns import Opaque
from varpro._problem.linear_constraints import CoefficientSpec, Linear
from varpro._problem.problem import Problem
from varpro._reduced.by_group import reduction
from varpro._reduced.common_basis import Reduced
from varpro.linalg import SVD

T = np.linspace(0.0, 20.0, 80)
MODEL = vp.Exp("a", tau=0.7) + vp.Exp("b", tau=7.0)
TRUE = np.array([[1.0, 0.0, 2.0, 1.5], [1.5, 1.0, 0.0, 0.5]])
RNG = np.random.default_rng(3)
Y = np.exp(-T[:, None] / np.array([1.0, 5.0])) @ TRUE + 0.02 * RNG.normal(size=(80, 4))
WEIGHTS = RNG.uniform(0.5, 2.0, Y.shape)


def phi(tau):
    return np.exp(-T[:, None] / tau)


def least(resid, start, bounds=(-np.inf, np.inf)):
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 2000}
    return scipy.optimize.least_squares(resid, start, bounds=bounds, x_scale="jac", **tight)


def box(lower, upper):
    """The dense problem of both lifetimes and all coefficients in a box, by SciPy."""
    size = 2 + TRUE.size
    low, high = np.full(size, lower, float), np.full(size, upper, float)
    low[:2], high[:2] = 1e-3, 100.0

    def resid(z):
        return (Y - phi(z[:2]) @ z[2:].reshape(2, 4)).ravel()

    start = np.r_[0.9, 5.5, np.clip(TRUE.ravel(), lower + 1e-3, upper - 1e-3)]
    return least(resid, start, (low, high))


@pytest.mark.parametrize(
    ("rules", "lower", "upper"),
    [
        ({"nonnegative": True}, 0.0, np.inf),
        ({"bounds": {"a": (0.25, 1.2), "b": (0.25, 1.2)}}, 0.25, 1.2),
    ],
    ids=["nonnegative", "box"],
)
def test_bounds_agree_with_the_dense_problem(rules, lower, upper):
    fit = vp.fit(MODEL, T, Y, **rules)
    dense = box(lower, upper)
    assert fit.success and 2 * dense.cost >= fit.chisq * (1 - 1e-12)
    assert fit.chisq == pytest.approx(2 * dense.cost, rel=1e-6)
    np.testing.assert_allclose(fit.alpha, dense.x[:2], rtol=1e-3)
    assert np.all((fit.coef >= lower) & (fit.coef <= upper))
    on = (fit.coef == lower) | (fit.coef == upper)
    np.testing.assert_array_equal(fit.coef_at_bound, on)
    np.testing.assert_array_equal(np.isnan(fit.coef_stderr), on)
    assert on.any() and fit.dof == Y.size - 2 - np.sum(~on)


def test_at_the_optimum_no_bound_pulls_the_wrong_way():
    fit = vp.fit(MODEL, T, Y, nonnegative=True)
    slope = phi(fit.alpha).T @ fit.resid
    scale = np.linalg.norm(phi(fit.alpha), axis=0)[:, None] * np.linalg.norm(fit.resid)
    assert np.all(
        np.abs(slope[~fit.coef_at_bound])
        < 1e-9 * np.broadcast_to(scale, (2, 4))[~fit.coef_at_bound]
    )
    assert np.all(slope[fit.coef_at_bound] < 0)


def test_a_coefficient_on_its_bound_leaves_the_fit_without_its_column():
    y = Y[:, 1]  # its a is zero
    y = y - 0.05 * np.exp(-T / 1.0)
    fit = vp.fit(MODEL, T, y, nonnegative=["a"], fix=["a.tau"])
    alone = dense_fit(lambda z: z[1] * np.exp(-T / z[0]), y, [7.0, 1.0])
    assert fit["a"].value == 0.0 and np.isnan(fit["a"].stderr) and fit["a"].at_bound
    assert fit.dof == alone.dof and fit.chisq == pytest.approx(alone.chisq, rel=1e-12)
    for i, name in enumerate(("b.tau", "b")):
        assert fit[name].value == pytest.approx(alone.z[i], rel=1e-9)
        assert fit[name].stderr == pytest.approx(alone.stderr[i], rel=1e-6)
    assert "on its" in str(fit) or "on a bound" in str(fit)


def test_amplitudes_that_are_all_negative_end_at_zero():
    fit = vp.fit(
        vp.Exp("a", tau=1.0) + vp.Constant("bg"), T, -1.0 - phi([2.0])[:, 0], nonnegative="a"
    )
    assert fit["a"].value == 0.0 and fit["bg"].value < 0
    assert fit.coef_at_bound.tolist() == [True, False]


def test_a_bound_for_single_right_hand_sides():
    zero = np.array([np.inf, 0.0, np.inf, np.inf])
    fit = vp.fit(MODEL, T, Y, bounds={"a": (-zero, zero)})
    assert fit.coef[0, 1] == 0.0 and np.all(fit.coef[0, [0, 2, 3]] != 0.0)

    def resid(tau):
        parts = []
        for j in range(4):
            a = phi(tau)[:, 1:] if j == 1 else phi(tau)
            parts.append(Y[:, j] - a @ np.linalg.lstsq(a, Y[:, j], rcond=None)[0])
        return np.concatenate(parts)

    np.testing.assert_allclose(fit.alpha, least(resid, [1.0, 5.0]).x, rtol=1e-7)


def test_weights_of_single_values_agree_with_the_dense_problem():
    fit = vp.fit(MODEL, T, Y, weights=WEIGHTS)

    def resid(z):
        return (WEIGHTS * (Y - phi(z[:2]) @ z[2:].reshape(2, 4))).ravel()

    dense = least(resid, np.r_[1.0, 5.0, TRUE.ravel()])
    covariance = np.linalg.inv(dense.jac.T @ dense.jac) * 2 * dense.cost / (Y.size - 10)
    error = np.sqrt(np.diag(covariance))
    assert fit.success and fit.dof == Y.size - 10
    np.testing.assert_allclose(fit.alpha, dense.x[:2], rtol=1e-7)
    np.testing.assert_allclose(fit.coef.ravel(), dense.x[2:], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.alpha_stderr, error[:2], rtol=1e-5)
    np.testing.assert_allclose(fit.coef_stderr.ravel(), error[2:], rtol=1e-5)
    # The curve's own uncertainty, where both are sampled.
    band = fit.predict(band=0.95)
    rows = dense.jac / WEIGHTS.ravel()[:, None]
    wanted = np.sqrt(np.sum((rows @ covariance) * rows, axis=1)).reshape(Y.shape)
    np.testing.assert_allclose(band.stderr, wanted, rtol=1e-5)


def test_equal_weights_for_all_columns_are_those_of_the_samples():
    each = vp.fit(MODEL, T, Y, weights=np.repeat(WEIGHTS[:, :1], 4, axis=1))
    assert each.weights.ndim == 1 and each == vp.fit(MODEL, T, Y, weights=WEIGHTS[:, 0])


def test_single_values_that_are_missing_are_left_out():
    holes = Y.copy()
    holes[3, 0], holes[10:30, 2] = np.nan, np.nan
    fit = vp.fit(MODEL, T, holes, nan="drop")
    assert fit.num_data == Y.size - 21 and fit == vp.fit(MODEL, T, holes, mask=~np.isnan(holes))
    keep = ~np.isnan(holes)
    apart = dense_fit(
        lambda z: (phi(z[:2]) @ z[2:].reshape(2, 4))[keep], Y[keep], np.r_[1.0, 5.0, TRUE.ravel()]
    )
    np.testing.assert_allclose(fit.alpha, apart.z[:2], rtol=1e-8)
    np.testing.assert_allclose(fit.alpha_stderr, apart.stderr[:2], rtol=1e-6)
    assert fit.chisq == pytest.approx(apart.chisq, rel=1e-10) and fit.dof == apart.dof


def test_one_relation_makes_one_column_of_two():
    fit = vp.fit(MODEL, T, Y, relations={"b": {"a": 0.5}})
    other = dense_fit(
        lambda z: (phi(z[:2]) @ [1.0, 0.5])[:, None] * z[2:], Y, [0.7, 7.0, *[1.0] * 4]
    )
    np.testing.assert_allclose(fit.alpha, other.z[:2], rtol=1e-8)
    np.testing.assert_allclose(fit.alpha_stderr, other.stderr[:2], rtol=1e-6)
    np.testing.assert_allclose(fit.coef, [other.z[2:], 0.5 * other.z[2:]], rtol=1e-7)
    np.testing.assert_allclose(fit.coef_stderr[1], 0.5 * other.stderr[2:], rtol=1e-6)
    assert fit.dof == other.dof


def test_a_coefficient_that_is_known_is_an_offset():
    fit = vp.fit(MODEL, T, Y[:, 0], relations={"b": 1.5})

    def resid(z):
        return Y[:, 0] - z[2] * np.exp(-T / z[0]) - 1.5 * np.exp(-T / z[1])

    dense = least(resid, [1.0, 5.0, 1.0])
    np.testing.assert_allclose(fit.alpha, dense.x[:2], rtol=1e-7)
    assert fit["b"].value == 1.5 and fit["b"].stderr == 0.0
    error = np.sqrt(np.diag(np.linalg.inv(dense.jac.T @ dense.jac)) * 2 * dense.cost / fit.dof)
    np.testing.assert_allclose(fit.alpha_stderr, error[:2], rtol=1e-5)


def test_bounds_pass_through_relations():
    fit = vp.fit(MODEL, T, Y, relations={"b": {"a": -1.0}}, nonnegative="b")
    assert np.all(fit.coef[0] <= 0) and np.all(fit.coef[1] >= 0)
    np.testing.assert_array_equal(fit.coef[1], -fit.coef[0])


@pytest.mark.parametrize("bounded", [False, True])
def test_a_penalty_is_rows_of_the_dense_problem(bounded):
    rules = {"nonnegative": True} if bounded else {}
    fit = vp.fit(MODEL, T, Y, ridge={"a": 0.5, "b": 2.0}, **rules)
    root = np.sqrt([[0.5], [2.0]])

    def resid(z):
        c = z[2:].reshape(2, 4)
        return np.concatenate([(Y - phi(z[:2]) @ c).ravel(), (root * c).ravel()])

    low = np.r_[0.0, 0.0, np.full(8, 0.0 if bounded else -np.inf)]
    dense = least(resid, np.r_[1.0, 5.0, TRUE.ravel() + 0.01], (low, np.full(10, np.inf)))
    np.testing.assert_allclose(fit.alpha, dense.x[:2], rtol=1e-4 if bounded else 1e-7)
    assert fit.cost == pytest.approx(dense.cost, rel=1e-7)
    used = ~fit.coef_at_bound
    hat = 0.0
    for j in range(4):
        a = phi(fit.alpha)[:, used[:, j]]
        r = np.diag(root[used[:, j], 0] ** 2)
        hat += np.trace(np.linalg.solve(a.T @ a + r, a.T @ a))
    assert fit.num_linear == pytest.approx(hat, rel=1e-9)
    assert fit.dof == pytest.approx(Y.size - 2 - hat)


def lifetimes(theta, t):
    tau = jnp.geomspace(0.2, 30.0, 30)
    return {f"d{i}": jnp.exp(-t * theta["scale"] / tau[i]) for i in range(30)}


def distribution():
    x = np.linspace(0.0, 30.0, 150)
    weight = np.exp(-0.5 * ((np.log(np.geomspace(0.2, 30.0, 30)) - 1.0) / 0.5) ** 2)
    clean = np.exp(-x[:, None] / np.geomspace(0.2, 30.0, 30)) @ weight
    return x, clean + 0.02 * np.random.default_rng(5).normal(size=150), weight


def test_cross_validation_finds_the_strength_of_least_score():
    x, y, _ = distribution()
    start = {"scale": vp.Param(1.0, fixed=True)}
    fit = vp.fit(lifetimes, x, y, init=start, smooth={"d*": "gcv"})
    a = np.exp(-x[:, None] / np.geomspace(0.2, 30.0, 30))
    second = np.diff(np.eye(30), 2, axis=0)

    def score(log):
        q = np.linalg.qr(np.concatenate([a, 10.0 ** (log / 2) * second]))[0][:150]
        hat = q @ q.T
        return np.sum((y - hat @ y) ** 2) / (150 - np.trace(hat)) ** 2

    strength = float(fit.linear.strength)
    # The score has several minima.
    scores = [score(log) for log in np.linspace(-8.0, 4.0, 200)]
    assert score(np.log10(strength)) <= min(scores) * (1 + 1e-9)
    fixed = vp.fit(lifetimes, x, y, init=start, smooth={"d*": strength})
    np.testing.assert_allclose(fixed.coef, fit.coef, rtol=1e-5, atol=1e-7)


def test_a_nonnegative_smooth_distribution_of_lifetimes():
    x, y, weight = distribution()
    start = {"scale": vp.Param(1.0, fixed=True)}
    fit = vp.fit(lifetimes, x, y, init=start, smooth={"d*": 1.0}, nonnegative=True)
    assert np.all(fit.coef >= 0) and np.any(fit.coef_at_bound)
    assert np.linalg.norm(fit.coef - weight) < 0.15 * np.linalg.norm(weight)


def test_several_data_sets_keep_the_rules_of_their_columns():
    sets = {"one": (T, Y), "two": (T[:50], Y[:50, :2])}
    fit = vp.fit(MODEL, sets, nonnegative=["a"])

    def resid(tau):
        parts = []
        for x, y in sets.values():
            a = np.exp(-x[:, None] / tau)
            for col in y.T:
                c = scipy.optimize.lsq_linear(a, col, ([0, -np.inf], np.inf), method="bvls").x
                parts.append(col - a @ c)
        return np.concatenate(parts)

    dense = least(resid, [1.0, 5.0])
    np.testing.assert_allclose(fit.alpha, dense.x, rtol=1e-5)
    assert fit.chisq == pytest.approx(2 * dense.cost, rel=1e-9)
    held = sum(int(one.coef_at_bound.sum()) for one in fit.sets.values())
    assert held > 0 and fit.dof == Y.size + 100 - 2 - 12 + held


def test_float32_knows_the_same_bounds():
    fit = vp.fit(MODEL, T.astype(np.float32), Y.astype(np.float32), nonnegative=True)
    wide = vp.fit(MODEL, T, Y, nonnegative=True)
    assert fit.success and fit.coef.dtype == np.float32
    np.testing.assert_allclose(fit.alpha, wide.alpha, rtol=2e-3)
    np.testing.assert_array_equal(fit.coef_at_bound, wide.coef_at_bound)


def evaluated(reduced):
    """Residual, Jacobian, both turned, and quality of the columns at theta, by one program."""

    @jax.jit
    def every(theta):
        rows, point = reduced.evaluate(theta)
        turned, head = reduced.rotated(theta, point)
        return rows, reduced.jacobian(theta, point), turned, head, reduced.quality(point)

    return lambda theta: jax.tree.map(np.asarray, every(theta))


@pytest.mark.parametrize("kind", ["bounds", "weights", "both", "few rows"])
def test_the_jacobian_of_single_right_hand_sides(kind, rng):
    def basis(alpha, t):
        return jnp.stack([jnp.exp(-t / alpha[0]), jnp.exp(-t / alpha[1]), jnp.ones_like(t)], 1)

    m = 12 if kind == "few rows" else 60
    t = jnp.asarray(np.linspace(0, 10, m))
    y = np.asarray(basis(jnp.array([1.0, 4.0]), t)) @ rng.normal(size=(3, 5))
    y = y + 0.1 * rng.normal(size=y.shape)
    wishes = CoefficientSpec(nonnegative=kind != "weights")
    linear = wishes.rules(("a", "b", "c"), 5, (0, 1, 2), False)
    apart = rng.uniform(0.5, 2.0, y.shape) if kind in ("weights", "both") else None
    columns = Opaque(basis, None, t, lambda theta: theta)
    problem = Problem(columns, y, None, linear, apart)
    reduced = reduction(problem, SVD(), "full")
    theta = jnp.array([0.8, 5.0])
    at = evaluated(reduced)
    rows, jac, turned, head, quality = at(theta)
    h = 1e-6
    for i in range(2):
        step = np.zeros(2)
        step[i] = h
        up, down = (at(theta + s * step)[0] for s in (1, -1))
        np.testing.assert_allclose(jac[:, i], (up - down) / (2 * h), atol=1e-7)
    np.testing.assert_allclose(turned.T @ turned, jac.T @ jac, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(turned.T @ head, jac.T @ rows, rtol=1e-8, atol=1e-10)
    assert int(quality["rank"]) == 3


def test_rules_survive_the_disk_and_the_bootstrap(tmp_path):
    fit = vp.fit(MODEL, T, Y, nonnegative=True, ridge=1e-3)
    fit.save(tmp_path / "fit.nc")
    assert vp.load(tmp_path / "fit.nc") == fit
    drawn = fit.bootstrap(40, kind="wild", key=1)
    assert drawn.failed == 0 and np.all(drawn.coef >= 0)
    # Percentiles of fits that keep the rule keep it.
    assert np.all(drawn.ci(names="b").lower >= 0)
    ratio = drawn.stderr["b.tau"] / fit["b.tau"].stderr
    assert 0.6 < ratio < 1.6
    limits = fit.ci(method="profile", names=["a", "b.tau"], rhs=0)
    ends = limits[limits.names[0]]
    assert 0 <= ends.lower <= fit["a"].value[0] <= ends.upper < np.inf
    half = 0.5 * (limits["b.tau"].upper - limits["b.tau"].lower)
    assert half == pytest.approx(1.97 * fit["b.tau"].stderr, rel=0.1)


def test_a_model_whose_coefficients_are_all_given_is_a_plain_nonlinear_fit():
    model, y = vp.Exp("a", tau=0.7) + vp.Exp("b", tau=7.0), Y[:, 2:]
    given = {"a": 2.0, "b": 0.1}

    def curve(t, one, two):
        return phi(np.array([one, two])) @ np.array([2.0, 0.1])

    fits = vp.fit_many(model, T, y.T, relations=given)
    alone = vp.fit(model, T, y[:, 0], relations=given)
    for i in range(2):
        options = {"p0": [0.7, 7.0], "ftol": 1e-14, "xtol": 1e-14}
        best, covariance = scipy.optimize.curve_fit(curve, T, y[:, i], **options)
        errors = np.sqrt(np.diag(covariance))
        # Many curves are fitted to a thousandth of their errors.
        np.testing.assert_allclose((fits.alpha[i] - best) / errors, 0.0, atol=1e-3)
        np.testing.assert_allclose(fits.alpha_stderr[i], errors, rtol=2e-3)
        if i == 0:
            np.testing.assert_allclose(alone.alpha, best, rtol=1e-6)
            np.testing.assert_allclose(alone.alpha_stderr, errors, rtol=2e-4)
    assert alone.dof == 78 and alone.num_params == 2 and fits.dof.tolist() == [78, 78]
    assert alone.coef.tolist() == [2.0, 0.1] and alone.coef_at_bound.all()
    with pytest.raises(vp.InputError, match="held at -1, which is not finite, or not within"):
        vp.fit(model, T, y, relations={"*": -1.0}, nonnegative=True)
    with pytest.raises(vp.InputError, match="real_coefficients=True, or data that are real"):
        vp.fit(model, T, y.astype(complex), relations={"*": 1.0})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"nonnegative": ["c"]}, "nonnegative: no column 'c'"),
        ({"relations": {"b": "c"}}, "relations: no column 'c'"),
        ({"relations": {"a": "b", "b": "a"}}, "no coefficient is left"),
        ({"relations": {"a": {"b": np.nan}}}, "must be finite"),
        ({"bounds": {"a": (2.0, 1.0)}}, "lower <= upper"),
        ({"bounds": {"a": (0.0, np.ones(3))}}, "one for each right-hand side"),
        ({"ridge": -1.0}, "ridge must be a positive number"),
        ({"ridge": "auto"}, "'gcv', not 'auto'"),
        ({"ridge": 1.0, "smooth": {"*": "gcv"}}, "Either all|takes three"),
        ({"smooth": {"*": 1.0}}, "a second difference takes three"),
        ({"weights": np.ones((80, 3))}, r"expected \(80,\), one per sample of y, or \(80, 4\)"),
    ],
)
def test_rules_that_cannot_be_are_refused(rules, message):
    with pytest.raises(vp.InputError, match=message):
        vp.fit(MODEL, T, Y, **rules)


def test_complex_coefficients_have_no_order():
    with pytest.raises(vp.InputError, match="no order"):
        vp.fit(MODEL, T, Y.astype(complex), nonnegative=True)


def test_ragged_data_are_refused():
    with pytest.raises(vp.InputError, match=r"ragged: its parts have the lengths \[70, 80\]"):
        vp.fit(MODEL, T, [Y[:, 0], Y[:70, 1]], share="all")


def test_a_penalty_and_weights_of_single_values_go_together(rng):
    t = np.linspace(0.0, 8.0, 30)
    y = np.exp(-t[:, None] / [0.8, 4.0]) @ rng.uniform(0.3, 1.0, (2, 5))
    sigma = rng.uniform(0.01, 0.03, y.shape)
    y = y + sigma * rng.standard_normal(y.shape)
    model = vp.Exp("a", tau=0.5) + vp.Exp("b", tau=6.0)
    fit = vp.fit(model, t, y, sigma=sigma, ridge=50.0)
    assert fit.chisq == pytest.approx(np.sum((fit.resid / sigma) ** 2))
    phi = np.exp(-t[:, None] / [fit["a.tau"].value, fit["b.tau"].value])
    for j in range(5):
        a = phi / sigma[:, [j]]
        expected = np.linalg.solve(a.T @ a + 50.0 * np.eye(2), a.T @ (y[:, j] / sigma[:, j]))
        np.testing.assert_allclose(fit.coef[:, j], expected, rtol=1e-8)


@pytest.mark.parametrize("kind", ["plain", "weights", "penalty", "complex"])
def test_the_turned_jacobian_of_many_right_hand_sides_has_few_rows_and_the_same_products(kind, rng):
    """Where a table says which column depends on what; with the dense one as its slow twin."""
    m, k, w = 60, 14, 3
    t = np.linspace(0.0, 3.0, m)
    spectrum = Spectrum(w, 0, kind != "complex")
    theta = jnp.asarray(np.r_[-0.5 - np.arange(w), 5.0 + 4 * np.arange(w)])
    columns = Exponentials(t, spectrum)
    phi = np.asarray(jax.jit(lambda v: columns.phi(v))(theta * 1.03))
    y = phi @ rng.normal(size=(spectrum.count, k)) + 0.1 * rng.normal(size=(m, k))
    y = y + 0.1j * rng.normal(size=(m, k)) if kind == "complex" else y
    weights = rng.uniform(0.5, 2.0, m) if kind == "weights" else None
    linear = Linear()
    if kind == "penalty":
        names = tuple("abcdef")
        linear = CoefficientSpec(ridge=0.3).rules(names, k, range(len(names)), False)
        linear = jax.tree.map(jnp.asarray, linear)
    reduced = Reduced(Problem(columns, y, weights, linear), SVD(), "auto")
    rows, jac, turned, head, _ = evaluated(reduced)(theta)
    assert len(turned) < len(jac) / 2
    scale = np.abs(jac.T @ jac).max()
    np.testing.assert_allclose(turned.T @ turned, jac.T @ jac, atol=1e-10 * scale)
    np.testing.assert_allclose(turned.T @ head, jac.T @ rows, atol=1e-10 * scale)
