"""The norm L1 as penalty of an operator: its optimum by a dense dual, and what it says of its own error."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import varpro as vp

M, N = 60, 16
X, KNOTS = np.linspace(0.0, 1.0, M), np.linspace(0.0, 1.0, N)
TRUTH = {"shift": 0.01, "width": 0.05}
START = {"shift": np.array(0.0), "width": np.array(0.06)}
STRENGTH = {"identity": 0.1, "gradient": 0.03}
STEPS = {"identity": np.eye(N), "gradient": np.diff(np.eye(N), axis=0)}


def matrix(alpha, x, xp: Any = jnp):
    return xp.exp(-0.5 * ((x[:, None] - KNOTS - alpha["shift"]) / alpha["width"]) ** 2)


def operator(alpha, x):
    return lx.MatrixLinearOperator(matrix(alpha, x))


@pytest.fixture(scope="module")
def y():
    coef = np.zeros(N)
    coef[2:5], coef[9], coef[12:14] = 1.0, -0.7, 1.5
    noise = np.random.default_rng(0).normal(size=M)
    return matrix(TRUTH, X, np) @ coef + 0.02 * noise


def moved(alpha, name):
    """The derivative of the matrix."""
    ahead, back = (matrix(alpha | {name: alpha[name] + h}, X, np) for h in (1e-6, -1e-6))
    return (ahead - back) / 2e-6


def dual(kind, y, alpha):
    """Cost and coefficients by the dual, least squares in a box, which an active set solves to the last digits:

    max over | u | <= s of 1/2 || b ||^2 - 1/2 || R^{-T} (A^T b - L^T u) ||^2,  A = Q R
    """
    a = matrix(alpha, X, np)
    r = np.linalg.qr(a)[1]
    turned = scipy.linalg.solve_triangular(
        r.T, np.column_stack([STEPS[kind].T, a.T @ y]), lower=True
    )
    s = STRENGTH[kind]
    found = scipy.optimize.lsq_linear(
        turned[:, :-1], turned[:, -1], bounds=(-s, s), method="bvls", tol=1e-14
    )
    left = turned[:, -1] - turned[:, :-1] @ found.x
    return 0.5 * y @ y - 0.5 * left @ left, scipy.linalg.solve_triangular(r, left)


@pytest.fixture(scope="module", params=["identity", "gradient"])
def case(request, y):
    kind = request.param
    penalty = vp.L1(STRENGTH[kind], kind, gap=1e-9)
    free = {"lower": dict.fromkeys(TRUTH, -np.inf), "upper": dict.fromkeys(TRUTH, np.inf)}
    free = jax.tree.map(np.asarray, free)
    return kind, penalty, vp.solve(operator, y, START, X, penalty=penalty, **free)


def test_the_optimum_is_that_of_the_dual(case, y):
    kind, _, found = case
    assert found.result == vp.RESULTS.successful
    alpha = {name: float(a) for name, a in found.value.items()}
    cost, coef = dual(kind, y, alpha)
    # What the solve says of its error is true, and not more than was asked for.
    assert -1e-12 < found.cost - cost <= found.stats["gap"] <= 1e-9 * found.cost
    np.testing.assert_allclose(found.coef, coef, atol=1e-4)
    kept = np.abs(STEPS[kind] @ coef) > 1e-6
    assert 2 < kept.sum() < N - 4
    if kind == "identity":
        np.testing.assert_array_equal(np.asarray(found.coef) != 0, kept)

    def least(alpha):
        return dual(kind, y, dict(zip(TRUTH, alpha, strict=True)))[0]

    at = np.array([alpha[name] for name in TRUTH])
    for i, h in enumerate(np.diag([1e-4, 1e-4])):
        slope = (least(at + h) - least(at - h)) / 2e-4
        curvature = (least(at + h) + least(at - h) - 2 * cost) / 1e-8
        assert abs(slope) < 1e-5 * curvature, i  # so far is the optimum at most
    best = scipy.optimize.minimize(least, at + 3e-3, method="Nelder-Mead", tol=1e-9)
    np.testing.assert_allclose(at, best.x, atol=1e-5)


def test_the_gradient_needs_no_derivative_of_the_coefficients(case, y):
    kind, penalty, _ = case
    at = {"shift": np.array(0.02), "width": np.array(0.055)}
    held = vp.solve(operator, y, at, X, penalty=penalty, lower=at, upper=at)
    for name in TRUTH:
        slope = -np.asarray(held.resid) @ (moved(at, name) @ np.asarray(held.coef))
        ahead, back = (dual(kind, y, at | {name: at[name] + h})[0] for h in (1e-5, -1e-5))
        np.testing.assert_allclose(slope, (ahead - back) / 2e-5, rtol=1e-4)


def test_a_fit_counts_what_is_not_zero_and_holds_the_zeros(case, y):
    kind, penalty, found = case
    fit: Any = vp.fit(operator, X, y, init={"shift": 0.0, "width": 0.06}, penalty=penalty)
    assert fit.success and 0 <= fit.gap <= 1e-9 * fit.cost
    assert "duality gap" in str(fit) and fit.to_dict()["gap"] == fit.gap
    assert fit.cost == pytest.approx(float(found.cost), rel=1e-8)
    alpha = {name: fit[name].value for name in TRUTH}
    a, coef = matrix(alpha, X, np), dual(kind, y, found.value)[1]
    face = scipy.linalg.null_space(STEPS[kind][np.abs(STEPS[kind] @ coef) < 1e-6])
    assert fit.num_linear == pytest.approx(face.shape[1], rel=1e-2)
    q = np.linalg.qr(a @ face)[0]
    v = np.column_stack([moved(alpha, name) @ coef for name in TRUTH])
    v = v - q @ (q.T @ v)
    covariance = np.linalg.inv(v.T @ v) * fit.redchi
    np.testing.assert_allclose(fit.alpha_stderr, np.sqrt(np.diag(covariance)), rtol=2e-2)


def test_complex_coefficients_fulfil_the_conditions_of_the_optimum(rng):
    t, freq, s = np.linspace(0.0, 3.0, 40), np.linspace(0.5, 3.0, 8), 0.5

    def waves(alpha, t, xp: Any = jnp):
        return xp.exp((1j * (freq + alpha["shift"]) - 0.2) * t[:, None])

    coef = np.zeros(8, complex)
    coef[[1, 5]] = 1.0 + 0.5j, -1j
    noise = rng.normal(size=(40, 2)) @ [1, 1j]
    y = waves({"shift": 0.1}, t, np) @ coef + 0.01 * noise
    penalty = vp.L1(s, gap=1e-9)
    found = vp.solve(
        lambda alpha, t: lx.MatrixLinearOperator(waves(alpha, t)),
        *(y, {"shift": 0.05}, t),
        penalty=penalty,
    )
    assert found.result == vp.RESULTS.successful
    shift, c, resid = map(np.asarray, (found.value["shift"], found.coef, found.resid))
    force = waves({"shift": shift}, t, np).conj().T @ resid
    assert np.abs(force).max() < s * (1 + 1e-3)
    on = c != 0
    assert 0 < on.sum() < 8
    np.testing.assert_allclose(force[on], s * c[on] / np.abs(c[on]), rtol=1e-3)


def test_what_does_not_go_with_it_is_refused_or_has_a_name(y):
    few = vp.linalg.ConjugateGradients(max_steps=2)
    given: Any = {"penalty": vp.L1(0.1), "linear_solver": few, "max_steps": 2}
    found = vp.solve(operator, y, START, X, **given)
    assert found.result == vp.RESULTS.linear_max_steps_reached
    assert found.stats["gap"] > 1e-7 * found.cost
    with pytest.raises(vp.InputError, match="has no derivative"):
        jax.grad(lambda y: vp.solve(operator, y, START, X, penalty=vp.L1()).cost)(y)
    refused: Any = [
        ({"linear_solver": lx.CG(1e-6, 1e-6)}, "vp.L1 takes vp.linalg.ConjugateGradients"),
        ({"linear_solver": vp.linalg.ProjectedGradients()}, "coefficients without bounds"),
        ({"penalty": vp.L1(1.0, lx.MatrixLinearOperator(jnp.eye(3)))}, "takes shape .3,."),
    ]
    for options, complaint in refused:
        with pytest.raises(vp.InputError, match=complaint):
            given = {"penalty": vp.L1()} | options
            vp.solve(operator, y, START, X, **given)
    for make, complaint in (
        (lambda: vp.L1(0.0), "strength must be positive"),
        (lambda: vp.L1("gcv"), "is a number, not 'gcv'"),
        (lambda: vp.L1(1.0, gap=0.1), "between 0 and 1e-3"),
        (lambda: vp.L1(1.0, "laplace"), "'identity', 'gradient'"),
    ):
        with pytest.raises(vp.InputError, match=complaint):
            make()
