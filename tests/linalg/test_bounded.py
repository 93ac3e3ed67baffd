"""Least squares with bounds: against SciPy's active sets, and its derivative against differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import varpro as vp
from varpro.linalg import bounded_lstsq

solved = eqx.filter_jit(bounded_lstsq)
SHAPES = [(1, 10, 5), (3, 30, 40), (4, 50, 20), (7, 40, 20), (12, 50, 10), (5, 3, 10)]


def problem(n, m, k, rng):
    a = rng.normal(size=(m, n)) + 1.0
    return a, a @ rng.normal(size=(n, k)) + rng.normal(size=(m, k))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nonnegative_solutions_cost_no_more_than_those_of_scipy(shape, rng):
    a, b = problem(*shape, rng)
    c = np.asarray(solved(a, b))
    assert np.all(c >= 0)
    for j in range(b.shape[1]):
        least = scipy.optimize.nnls(a, b[:, j])[1]
        assert np.linalg.norm(a @ c[:, j] - b[:, j]) <= least + 1e-12 * np.linalg.norm(b[:, j])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_solutions_in_a_box_cost_no_more_than_those_of_scipy(shape, rng):
    a, b = problem(*shape, rng)
    c = np.asarray(solved(a, b, -0.3, 0.2))
    assert np.all((c >= -0.3) & (c <= 0.2))
    for j in range(b.shape[1]):
        box = scipy.optimize.lsq_linear(a, b[:, j], (-0.3, 0.2), method="bvls", tol=1e-14)
        least = np.linalg.norm(box.fun)
        assert np.linalg.norm(a @ c[:, j] - b[:, j]) <= least + 1e-12 * np.linalg.norm(b[:, j])


def test_of_equal_columns_one_is_used():
    a = np.ones((10, 3))
    c = np.asarray(solved(a, np.full(10, 2.0)))
    assert np.all(c >= 0) and c.sum() == pytest.approx(2.0, rel=1e-13)


def test_the_derivative_holds_the_set_of_what_is_on_its_bound(rng):
    a, b = problem(4, 20, 6, rng)

    def weigh(a, b):
        return jnp.sum(jnp.sin(bounded_lstsq(a, b)))

    t_a, t_b = rng.normal(size=a.shape), rng.normal(size=b.shape)
    along = jax.jit(lambda a, b: jax.jvp(weigh, (a, b), (t_a, t_b)))
    h = 1e-6
    up, down = (along(a + s * h * t_a, b + s * h * t_b)[0] for s in (1, -1))
    assert float(along(a, b)[1]) == pytest.approx(float(up - down) / (2 * h), rel=1e-7)


def test_what_is_not_a_number_stays_in_its_column(rng):
    a, b = problem(3, 10, 4, rng)
    bad = b.copy()
    bad[2, 1] = np.nan
    c, clean = np.asarray(solved(a, bad)), np.asarray(solved(a, b))
    assert np.all(np.isnan(c[:, 1]))
    others = [0, 2, 3]
    np.testing.assert_allclose(c[:, others], clean[:, others], rtol=1e-12)


def test_blocks_of_right_hand_sides_change_nothing(rng):
    a, b = problem(3, 8, 2500, rng)
    c = np.asarray(solved(a, b))
    np.testing.assert_allclose(c[:, 2400:], np.asarray(solved(a, b[:, 2400:])), atol=1e-12)


@pytest.mark.parametrize(
    ("lower", "b", "complaint"),
    [
        (1.0, np.ones(5), "below infinity|at most its upper"),
        (0.0, np.ones(4), "Expected"),
        (0.0, 1j * np.ones(5), "no order"),
    ],
)
def test_what_cannot_be_is_refused(lower, b, complaint):
    with pytest.raises(ValueError, match=complaint):
        vp.linalg.bounded_lstsq(np.ones((5, 2)), b, lower, 0.5)
