"""All of varpro differentiates a least-squares solve by one function, `linalg.solution_derivative`.

`linalg.project_out`, differentiated by JAX along alpha, is the slow twin of every Jacobian here.
"""

import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varpro as vp
from varpro._problem.columns import Opaque
from varpro._problem.linear_constraints import CoefficientSpec, Linear
from varpro._problem.problem import Problem
from varpro._programs import compiler, program
from varpro._reduced.abstract import real_rows
from varpro._reduced.by_group import reduction
from varpro._reduced.common_basis import Reduced
from varpro._reduced.normal_equations import Curve, moments
from varpro._statistics.covariance import coefficient_covariance
from varpro.linalg import SVD, project_out, solution_derivative
from varpro.linalg._derivative import SCOPE

T = np.linspace(0.0, 10.0, 40)
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("background")
ALPHA = np.array([0.7, 4.5])  # not the optimum


def exponentials(alpha, t):
    return jnp.stack([jnp.exp(-t / alpha[0]), jnp.exp(-t / alpha[1]), jnp.ones_like(t)], axis=1)


def table():
    """Columns that come with a table: which of them moves by which coordinate."""
    job = vp.prepare_many(MODEL, T, np.ones((1, T.size)))
    return jax.tree.map(jnp.asarray, job.columns)


def opaque():
    return Opaque(exponentials, None, jnp.asarray(T), lambda alpha: alpha)


BASES = {"table": table, "opaque": opaque}


def data(k, rng, dtype=float, noise=0.1):
    """(m, k)"""

    def normal(*shape):
        x = rng.normal(size=shape)
        return x + 1j * rng.normal(size=shape) if dtype is complex else x

    return np.asarray(exponentials(ALPHA, T)) @ normal(3, k) + noise * normal(T.size, k)


def twin(problem, jacobian):
    """Residual (m, k) at ALPHA and its Jacobian (m, k, p), by `project_out` alone."""

    def resid(alpha):
        return project_out(problem.phi(alpha), problem.target(alpha), SVD(), jacobian)[0]

    return jax.jit(lambda alpha: (resid(alpha), jax.jacfwd(resid)(alpha)))(ALPHA)


def evaluated(reduced):
    """Residual, Jacobian, both rotated, and the point at ALPHA; one program, traced anew each time."""

    def everything(alpha):
        resid, point = reduced.evaluate(alpha)
        jac, rotated = reduced.jacobian(alpha, point), reduced.rotated(alpha, point)
        return resid, jac, rotated, getattr(point, "free", None)

    return jax.tree.map(np.asarray, jax.jit(everything)(ALPHA))


def rows(a):
    """(m, k, ...) as a real matrix or vector."""
    return np.asarray(real_rows(a.reshape(-1, *a.shape[2:])))


def close(x, y):
    np.testing.assert_allclose(x, y, atol=1e-12 * max(1.0, float(np.max(np.abs(y)))))


def same_products(jac, resid, wanted, wanted_resid):
    """All that a Gauss-Newton step sees, whatever the rotation of the rows."""
    close(jac.T @ jac, wanted.T @ wanted)
    close(jac.T @ resid, wanted.T @ wanted_resid)


# Jacobians and their twins.


def check_common_basis(basis, jacobian, k, dtype, rng):
    problem = Problem(basis(), data(k, rng, dtype), rng.uniform(0.5, 2.0, T.size))
    reduced = Reduced(problem, SVD(), jacobian)
    resid, jac, rotated, _ = evaluated(reduced)
    wanted_resid, wanted = (rows(a) for a in twin(problem, jacobian))
    if reduced.compressed(3, k):
        assert jac.shape[0] < wanted.shape[0]
    else:
        close(jac, wanted)
        close(resid, wanted_resid)
    same_products(jac, resid, wanted, wanted_resid)
    same_products(*rotated, wanted, wanted_resid)
    close(resid @ resid, wanted_resid @ wanted_resid)


def check_few_derivatives(rng):
    """Where derivatives of single columns are few, they alone are projected."""
    problem = Problem(table(), data(20, rng), None)
    _, whole, (jac, resid), _ = evaluated(Reduced(problem, SVD(), "kaufman"))
    assert jac.shape[0] < whole.shape[0] / 5
    wanted_resid, wanted = (rows(a) for a in twin(problem, "kaufman"))
    same_products(jac, resid, wanted, wanted_resid)


def check_per_column(jacobian, rng):
    linear = CoefficientSpec(nonnegative=True).rules(("a", "b", "c"), 6, (0, 1, 2), False)
    problem = Problem(opaque(), data(6, rng), None, linear)
    resid, jac, rotated, free = evaluated(reduction(problem, SVD(), jacobian))
    jac = jac.reshape(T.size, 6, -1)
    assert 0 < free.sum() < free.size
    for j in range(6):

        def alone(alpha, j=j):
            phi = problem.phi(alpha)[:, free[:, j]]
            return project_out(phi, jnp.asarray(problem.y[:, j]), SVD(), jacobian)[0]

        close(jac[:, j], jax.jit(jax.jacfwd(alone))(ALPHA))
    same_products(*rotated, jac.reshape(-1, 2), resid)


def check_sensitivity(nonnegative, k, rng):
    """Without noise there is no residual, and G is minus the derivative of the coefficients."""
    y = data(k, rng, noise=0.0)
    spec = CoefficientSpec(bounds={"a": (-99.0, 99.0)} if nonnegative else {})
    linear = spec.rules(("a", "b", "c"), k, (0, 1, 2), False) if nonnegative else Linear()
    problem = Problem(opaque(), y, None, linear)
    reduced = reduction(problem, SVD(), "kaufman")

    def sensitivity(alpha):
        _, point = reduced.evaluate(alpha)
        return coefficient_covariance(reduced, alpha, point, jnp.zeros(2, bool)).sensitivity

    coefficients = jax.jacfwd(lambda alpha: project_out(problem.phi(alpha), y, SVD())[1])
    wanted = np.asarray(jax.jit(coefficients)(ALPHA))
    close(-np.asarray(jax.jit(sensitivity)(ALPHA)), np.moveaxis(wanted, 0, 1))


def check_rule(rng):
    """The rule of `project_out` itself, against central differences."""
    problem = Problem(opaque(), data(2, rng), None)
    _, jac = twin(problem, "full")
    for i in range(2):
        h = np.eye(2)[i] * 1e-6
        phi = [np.asarray(exponentials(ALPHA + s * h, T)) for s in (1, -1)]
        ends = [problem.y - a @ np.linalg.lstsq(a, problem.y, rcond=None)[0] for a in phi]
        np.testing.assert_allclose(jac[..., i], (ends[0] - ends[1]) / 2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("jacobian", "k", "dtype"),
    [
        *(("full", 1, float), ("full", 3, complex), ("full", 7, float)),
        *(("kaufman", 1, complex), ("kaufman", 3, float), ("kaufman", 7, complex)),
    ],
)
@pytest.mark.parametrize("basis", BASES)
def test_the_jacobian_of_a_common_basis_is_that_of_project_out(basis, jacobian, k, dtype, rng):
    check_common_basis(BASES[basis], jacobian, k, dtype, rng)


def test_the_jacobian_from_few_derivatives_is_that_of_project_out(rng):
    check_few_derivatives(rng)


@pytest.mark.parametrize("jacobian", ["full", "kaufman"])
def test_the_jacobian_of_single_right_hand_sides_is_that_of_project_out(jacobian, rng):
    check_per_column(jacobian, rng)


@pytest.mark.parametrize(("nonnegative", "k"), [(False, 2), (False, 5), (True, 3)])
def test_the_sensitivity_of_coefficients_is_that_of_project_out(nonnegative, k, rng):
    check_sensitivity(nonnegative, k, rng)


def test_project_out_has_the_derivatives_of_central_differences(rng):
    check_rule(rng)


def test_the_matrices_of_the_normal_equations_are_those_of_project_out(rng):
    y = data(1, rng)
    curve = Curve(y[:, 0], None, np.array(1.0), None, None)
    known = jax.jit(lambda alpha: moments(table(), alpha, curve))(ALPHA)
    problem = Problem(table(), y, None)
    for name, jacobian in (("full", "full"), ("kaufman", "kaufman")):
        resid, jac = (rows(a) for a in twin(problem, jacobian))
        scale = np.abs(jac.T @ jac).max()
        np.testing.assert_allclose(getattr(known, name), jac.T @ jac, atol=1e-10 * scale)
        np.testing.assert_allclose(known.gradient, jac.T @ resid, atol=1e-10 * np.sqrt(scale))


# The same checks, which pass above, when one caller has a copy of the rule with a wrong sign.


def wrong_residual(factor, v, w=None, z=None, *, kaufman=False):
    """The last term of r' with the other sign."""
    t_coef, t_resid = solution_derivative(factor, v, w, z, kaufman=kaufman)
    _, plain = solution_derivative(factor, v)
    return t_coef, 2 * plain - t_resid


def wrong_everything(factor, v, w=None, z=None, *, kaufman=False):
    t_coef, t_resid = solution_derivative(factor, v, w, z, kaufman=kaufman)
    return -t_coef, 2 * v - t_resid


BREAKS = {
    "dense": (
        ("_reduced.common_basis", wrong_residual),
        lambda rng: check_common_basis(opaque, "full", 1, float, rng),
    ),
    "table": (
        ("_reduced.common_basis", wrong_residual),
        lambda rng: check_common_basis(table, "full", 1, float, rng),
    ),
    "compressed": (
        ("_reduced.common_basis", wrong_everything),
        lambda rng: check_common_basis(opaque, "kaufman", 7, complex, rng),
    ),
    "few derivatives": (("_reduced.common_basis", wrong_everything), check_few_derivatives),
    "single": (
        ("_reduced.per_column", wrong_residual),
        lambda rng: check_per_column("full", rng),
    ),
    "statistics": (
        ("_statistics.covariance", wrong_everything),
        lambda rng: check_sensitivity(False, 2, rng),
    ),
    "statistics of single": (
        ("_statistics.covariance", wrong_everything),
        lambda rng: check_sensitivity(True, 3, rng),
    ),
    "rule": (("linalg._derivative", wrong_residual), check_rule),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_copy_of_the_rule_with_a_wrong_sign_is_noticed(name, rng, monkeypatch):
    (module, wrong), check = BREAKS[name]
    monkeypatch.setattr(importlib.import_module(f"varpro.{module}"), "solution_derivative", wrong)
    with pytest.raises(AssertionError):
        check(rng)


# What programs of users are traced to.


def places(text):
    """Where in a traced program the kernel stands: the names of what is around it."""
    return {name for name in re.findall(r"[ -~]*" + re.escape(SCOPE) + r"[ -~]*", text)}


def places_of_fit(monkeypatch, y, **options):
    texts = []

    def compiled(lowered, options):
        texts.append(lowered.as_text(debug_info=True))
        return compile_it(lowered, options)

    compile_it = compiler.compiled
    monkeypatch.setattr(compiler, "compiled", compiled)
    vp.keep_programs(False)
    program.clear()
    try:
        assert vp.fit(MODEL, T, y, **options).success
    finally:
        vp.keep_programs(True)
    return places(max(texts, key=len))


def searched(names):
    return [name for name in names if "while/body/" in name]


@pytest.mark.parametrize(
    ("k", "options"), [(1, {}), (7, {}), (7, {"nonnegative": True})], ids=["one", "many", "bounds"]
)
def test_a_fit_runs_the_kernel_in_its_search_and_in_its_statistics(k, options, rng, monkeypatch):
    y = np.asarray(exponentials([0.8, 4.0], T)) @ rng.uniform(0.5, 2.0, (3, k))
    y = y + 0.01 * rng.normal(size=y.shape)
    names = places_of_fit(monkeypatch, y[:, 0] if k == 1 else y, **options)
    inside = searched(names)
    assert any("dot_general" in name for name in inside)
    assert any("dot_general" in name for name in names.difference(inside))


def test_a_solve_and_its_gradient_run_the_kernel(rng):
    y = jnp.asarray(data(1, rng)[:, 0])

    def slow(y):
        return vp.solve(exponentials, y, jnp.array([0.5, 5.0]), jnp.asarray(T)).value[1]

    def names(function):
        return places(jax.jit(function).lower(y).as_text(debug_info=True))

    def linearised(names):
        return {name for name in names if "jvp(" in name}

    plain, gradient = names(slow), names(jax.grad(slow))
    assert any("dot_general" in name for name in plain)
    assert not linearised(plain)
    # The search, and besides it the derivative of the optimum.
    assert any("while/body/" in name for name in gradient)
    assert any("dot_general" in name for name in linearised(gradient))
