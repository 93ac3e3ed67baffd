"""What the solvers promise beside their numbers: work done, NaN, batches, lineax operators."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import zoo

from varpro.linalg import QR, SVD, Normal, PivotedQR, Small, linear_solve, pinv_solve, project_out

SOLVERS = {"QR": QR(), "PivotedQR": PivotedQR(), "SVD": SVD(), "Normal": Normal(), "Small": Small()}
FACTORISATIONS = ("geqrf", "qr", "svd", "cholesky")


def _problem(shape=(7, 3), dtype=float):
    one = zoo.curve(shape, min(shape), np.dtype(dtype))
    (a, b), (t_a, t_b) = zoo.at(one.arrays, 0.0), zoo.at(one.arrays, 1.0)
    return tuple(map(jnp.asarray, (a, b[:, 0], t_a, t_b[:, 0])))


def _primitives(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _primitives(inner)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("QR", {"geqrf": 1}),
        # The second is that of the small triangle.
        ("PivotedQR", {"qr": 2}),
        ("SVD", {"svd": 1}),
        ("Normal", {"cholesky": 1}),
        ("Small", {}),
    ],
)
@pytest.mark.parametrize("shape", [(7, 3), (3, 7)])
def test_value_tangents_and_gradients_share_one_factorisation(name, expected, shape):
    a, b, t_a, t_b = _problem(shape)

    def everything(a, b):
        value, pull = jax.vjp(lambda a, b: pinv_solve(a, b, SOLVERS[name]), a, b)
        return value, pull(value)

    def pushed(a, b):
        return jax.jvp(lambda a, b: project_out(a, b, SOLVERS[name]), (a, b), (t_a, t_b))

    for function in (everything, pushed):
        names = list(_primitives(jax.make_jaxpr(function)(a, b).jaxpr))
        counts = {key: names.count(key) for key in FACTORISATIONS}
        assert {key: n for key, n in counts.items() if n} == expected


@pytest.mark.parametrize("shape", [(7, 3), (3, 7)])
def test_small_calls_no_lapack_in_a_batch(shape):
    a, b, *_ = _problem(shape)
    many = jnp.stack([a, 2 * a]), jnp.stack([b, b])

    def cost(a, b):
        return jnp.sum(pinv_solve(a, b, Small()) ** 2)

    text = jax.jit(jax.vmap(jax.grad(cost))).lower(*many).compile().as_text()
    assert 'target="lapack' not in text
    with_lapack = jax.jit(jax.vmap(lambda a, b: pinv_solve(a, b))).lower(*many).compile()
    assert 'target="lapack' in with_lapack.as_text()


def test_small_does_not_mind_the_units_of_columns():
    a, b, *_ = _problem((40, 4))
    units = jnp.array([1e-12, 1.0, 1e9, 1e-150])
    c = pinv_solve(a * units, b, Small()) * units
    np.testing.assert_allclose(c, np.linalg.pinv(a) @ b, rtol=1e-12)
    assert Small().factor(a * units).rank == 4


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("shape", [(7, 3), (3, 7)])
def test_nan_gives_nan_and_no_exception(name, shape):
    a, b, t_a, t_b = _problem(shape)
    for bad_a, bad_b in ((a.at[0, 0].set(jnp.nan), b), (a, b.at[0].set(jnp.nan))):
        out = jax.jvp(lambda a, b: pinv_solve(a, b, SOLVERS[name]), (bad_a, bad_b), (t_a, t_b))
        assert all(bool(jnp.any(jnp.isnan(x))) for x in out)


def test_nan_passes_through_an_iterative_inner_solver():
    a, b, *_ = _problem()
    solver = Normal(lx.CG(1e-12, 1e-12))
    for bad_a, bad_b in ((a.at[0, 0].set(jnp.nan), b), (a, b.at[0].set(jnp.nan))):
        assert bool(jnp.all(jnp.isnan(pinv_solve(bad_a, bad_b, solver))))


@pytest.mark.parametrize("name", SOLVERS)
def test_batches_and_scans_equal_a_loop(name):
    a, b, *_ = _problem()
    solver = SOLVERS[name]
    many_a, many_b = jnp.stack([a, -2 * a, a + 1]), jnp.stack([b, 3 * b, b - 1])

    def gradient(a, b):
        return jax.grad(lambda a: jnp.sum(pinv_solve(a, b, solver) ** 3))(a)

    loop = jax.jit(gradient)
    both = jax.jit(jax.vmap(gradient))(many_a, many_b)
    scanned = jax.lax.scan(lambda _, x: (None, gradient(*x)), None, (many_a, many_b))[1]
    for i in range(3):
        np.testing.assert_allclose(both[i], loop(many_a[i], many_b[i]), rtol=1e-9)
        np.testing.assert_allclose(scanned[i], loop(many_a[i], many_b[i]), rtol=1e-9)
    over_b = jax.jit(jax.vmap(gradient, (None, 0)))(a, many_b)
    np.testing.assert_allclose(over_b[1], loop(a, many_b[1]), rtol=1e-9)


@pytest.mark.parametrize("name", ["PivotedQR", "SVD", "Small"])
def test_rank_and_condition_come_with_the_factor(name):
    solver = SOLVERS[name]
    a = zoo.at(zoo.curve((7, 3), 2, np.dtype(float)).arrays, 0.0)[0]
    factor = solver.factor(jnp.asarray(a))
    assert (int(factor.rank), float(factor.cond)) == (2, np.inf)
    full = solver.factor(_problem()[0])
    assert int(full.rank) == 3 and 1 <= float(full.cond) < 10
    assert int(solver.factor(jnp.zeros((4, 2))).rank) == 0


def test_small_names_its_limit():
    with pytest.raises(ValueError, match="at most 8.*n = 9"):
        Small().factor(jnp.ones((10, 9)))


@pytest.mark.parametrize(
    "solver", [lx.QR(), lx.SVD(), lx.Normal(lx.Cholesky()), lx.Normal(lx.CG(1e-13, 1e-13)), QR()]
)
@pytest.mark.parametrize("kind", ["matrix", "function"])
@pytest.mark.parametrize("shape", [(7, 3), (3, 7)])
def test_lineax_operators_and_solvers_give_the_same_derivatives(solver, kind, shape):
    a, b, t_a, t_b = _problem(shape)
    start = {"x": jax.ShapeDtypeStruct((shape[1],), b.dtype)}

    def of(a, b):
        if kind == "matrix":
            return linear_solve(lx.MatrixLinearOperator(a), b, solver).value
        operator = lx.FunctionLinearOperator(lambda t: jnp.split(a @ t["x"], [2]), start)
        return linear_solve(operator, jnp.split(b, [2]), solver).value["x"]

    def dense(a, b):
        return pinv_solve(a, b, SVD())

    found, expected = (jax.jit(lambda f=f: jax.jvp(f, (a, b), (t_a, t_b)))() for f in (of, dense))
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10)
    found, expected = (
        jax.jit(jax.jacfwd(jax.grad(lambda s, f=f: jnp.sum(f(a + s * t_a, b) ** 2))))(0.0)
        for f in (of, dense)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_an_iterative_solve_of_a_function_never_writes_its_matrix():
    a, b, *_ = _problem((7, 3))
    seen = []

    def apply(x):
        seen.append(x.shape)
        return a @ x

    operator = lx.FunctionLinearOperator(apply, jax.ShapeDtypeStruct((3,), b.dtype))
    solver = lx.Normal(lx.CG(1e-13, 1e-13))
    jaxpr = jax.make_jaxpr(lambda b: linear_solve(operator, b, solver).value)(b)
    assert "while" in str(jaxpr) and set(seen) == {(3,)}
    assert not any("(3, 3)" in str(eqn) or "f64[3,3]" in str(eqn) for eqn in jaxpr.eqns)


def test_unknown_solvers_go_to_lineax_unchanged():
    a, b, *_ = _problem((4, 4))
    ours = linear_solve(lx.MatrixLinearOperator(a), b, lx.LU())
    theirs = lx.linear_solve(lx.MatrixLinearOperator(a), b, lx.LU())
    np.testing.assert_array_equal(ours.value, theirs.value)
    assert ours.state is not None


def test_a_solve_that_fails_says_so():
    a = jnp.zeros((4, 2))
    solution = linear_solve(lx.MatrixLinearOperator(a), jnp.ones(4), lx.QR())
    assert solution.result == lx.RESULTS.singular
    with pytest.raises(ValueError, match="maps to"):
        linear_solve(lx.MatrixLinearOperator(a), jnp.ones(3), lx.QR())
