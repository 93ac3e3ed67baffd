"""Weights of single right-hand sides: products of matrices against one factorisation for each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

import varpro as vp
from varpro._problem.columns import AbstractColumns
from varpro._problem.linear_constraints import Linear
from varpro._problem.problem import Problem
from varpro._reduced import own_weights
from varpro._reduced.per_column import Columnwise
from varpro.linalg import QR

M, K = 60, 7


class Decays(AbstractColumns):
    """Two decays after a common delay, a line, and an offset that moves with the delay."""

    x: jax.Array

    def _columns(self, alpha):
        t = self.x - alpha[2]
        return jnp.stack([jnp.exp(-t * alpha[0]), jnp.exp(-t * alpha[1]), 1 + 0 * t], axis=1)

    def phi(self, alpha):
        return self._columns(alpha)

    def offset(self, alpha):
        return 0.3 * jnp.sin(self.x * alpha[2])

    def tangents(self, alpha):
        dense = jax.jacfwd(self._columns)(alpha)
        pairs = [(0, 0), (1, 1), (0, 2), (1, 2)]
        values = jnp.stack([dense[:, c, a] for c, a in pairs], axis=1)
        return values, np.array([c for c, _ in pairs]), np.array([a for _, a in pairs])

    def apply_derivative(self, alpha, b, r=None):
        raise NotImplementedError

    def prior(self, alpha):
        return None


def problem(rng, mix=None):
    x = np.linspace(0.0, 3.0, M)
    y = rng.normal(size=(M, K))
    weights = rng.uniform(0.5, 2.0, (M, K))
    weights[3, 2] = 0.0
    y[3, 2] = np.nan
    linear = Linear() if mix is None else Linear(mix=mix, sought=(0, 2))
    return Problem(Decays(jnp.asarray(x)), y, None, linear, weights)


def dense(found, alpha, full):
    """J^T J and J^T r of all right-hand sides, each by pseudoinverses and central differences."""
    linear, x = found.linear, np.asarray(found.columns.x)
    gram, gradient, coefs = 0.0, 0.0, []

    def resid(alpha, j):
        used = np.asarray(found.column_weights)[:, j] > 0
        w, t = np.asarray(found.column_weights)[used, j], x[used] - alpha[2]
        phi = np.stack([np.exp(-t * alpha[0]), np.exp(-t * alpha[1]), 1 + 0 * t], axis=1)
        phi = w[:, None] * (phi if linear.mix is None else phi @ np.asarray(linear.mix))
        target = w * (np.asarray(found.y)[used, j] - 0.3 * np.sin(x[used] * alpha[2]))
        c = np.linalg.lstsq(phi, target, rcond=None)[0]
        return target - phi @ c, c, phi

    for j in range(K):
        h, parts = 1e-5, []
        r, c, phi = resid(alpha, j)
        for i in range(len(alpha)):
            step = np.zeros(len(alpha))
            step[i] = h
            parts.append((resid(alpha + step, j)[0] - resid(alpha - step, j)[0]) / (2 * h))
        jac = np.stack(parts, axis=1)
        if not full:
            jac = jac - phi @ np.linalg.lstsq(phi, jac, rcond=None)[0]
        gram, gradient = gram + jac.T @ jac, gradient + jac.T @ r
        coefs.append(c)
    return gram, gradient, np.stack(coefs, axis=1)


@pytest.mark.parametrize(("kind", "mixed"), [("full", True), ("kaufman", False)])
def test_products_give_what_each_factorisation_gives(rng, monkeypatch, kind, mixed):
    mix = np.array([[1.0, 0.0], [0.5, 0.0], [0.0, 1.0]]) if mixed else None
    reduced = Columnwise(problem(rng, mix), QR(), kind)
    alpha = np.array([0.4, 2.5, 0.1])
    made: list[bool] = []
    monkeypatch.setattr(own_weights, "serves", lambda *_: made[-1])

    def seen(by_products):
        made.append(by_products)

        @jax.jit
        def run(alpha):
            point = reduced.evaluate(alpha)[1]
            jac, head = reduced.rotated(alpha, point)
            return point.coef, jac.T @ jac, jac.T @ head, jnp.sum(head**2), point.block

        return run(alpha)

    one, other = seen(True), seen(False)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    gram, gradient, coef = dense(reduced.problem, alpha, kind == "full")
    np.testing.assert_allclose(one[0], coef, rtol=1e-10, atol=1e-10)
    # Central differences are good to some 1e-9 of the largest.
    np.testing.assert_allclose(one[1], gram, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(one[2], gradient, rtol=1e-6, atol=1e-7)


def test_columns_too_much_alike_for_products_are_factorised(rng):
    given = problem(rng)
    reduced, y = Columnwise(given, QR(), "full"), np.asarray(given.y)
    alpha = np.array([1.0, 1.0 + 1e-6, 0.1])

    @jax.jit
    def run(alpha):
        _, point = reduced.evaluate(alpha)
        phi = reduced.problem.phi(alpha)
        weights = jnp.asarray(reduced.problem.column_weights)
        return phi, phi @ point.coef, own_weights.coefficients(phi, jnp.asarray(y), weights)[1]

    phi, fitted, sound = run(alpha)
    assert not sound
    target = y - 0.3 * np.sin(0.1 * np.linspace(0.0, 3.0, M))[:, None]
    for j in range(K):
        w = np.asarray(reduced.problem.column_weights)[:, j]
        used = w > 0
        a, t = (w[:, None] * np.asarray(phi))[used], (w * target[:, j])[used]
        best = a @ np.linalg.lstsq(a, t, rcond=None)[0]
        # Of two columns 1e-6 apart factorisations agree to a millionth of what rounding leaves.
        np.testing.assert_allclose((w * np.asarray(fitted)[:, j])[used], best, atol=1e-8)


def test_a_fit_with_weights_of_its_own_for_each_value_equals_single_fits_of_the_same_rate(rng):
    x = np.linspace(0.0, 4.0, 40)
    y = np.exp(-x / 1.3)[:, None] * rng.uniform(1, 3, 5) + 0.02 * rng.normal(size=(40, 5))
    sigma = rng.uniform(0.01, 0.04, y.shape)
    fit = vp.fit(vp.Exp("a", tau=1.0) + vp.Constant("c"), x, y, sigma=sigma, absolute_sigma=True)

    def resid(p):
        phi = np.exp(-x / p[0])[:, None] * p[1:6] + p[6:]
        return ((phi - y) / sigma).ravel()

    end = least_squares(resid, [1.0, *np.ones(5), *np.zeros(5)], xtol=1e-15, ftol=1e-15, gtol=1e-15)
    errors = np.sqrt(np.diag(np.linalg.inv(end.jac.T @ end.jac)))
    assert fit["a.tau"].value == pytest.approx(end.x[0], rel=1e-7)
    assert fit.chisq == pytest.approx(2 * end.cost, rel=1e-10)
    # The Jacobian of scipy is one of forward differences.
    assert fit["a.tau"].stderr == pytest.approx(errors[0], rel=1e-5)
