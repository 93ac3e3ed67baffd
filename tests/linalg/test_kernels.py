"""How a differentiated solve is computed, under which transformations, and what it says when wrong."""

import functools
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from varpro.linalg import (
    QR,
    SVD,
    Normal,
    PivotedQR,
    Small,
    balanced,
    linear_solve,
    masked,
    pinv_solve,
    project_out,
)

SOLVERS = {
    "QR": QR(),
    "PivotedQR": PivotedQR(),
    "SVD": SVD(),
    "Small": Small(),
    "Normal": Normal(),
    "NormalCG": Normal(lx.CG(rtol=1e-13, atol=1e-13)),
}
FACTORISATIONS = r"\b(geqrf|geqp3|qr|svd|cholesky|eigh|lu)\[?\b"
COUNTS = {"QR": 1, "PivotedQR": 2, "SVD": 2, "Small": 0, "Normal": 1}


def _normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape))


def _cost(solver):
    return lambda a, b: jnp.sum(pinv_solve(a, b, solver) ** 3)


@functools.cache
def _slopes(name):
    """The cost, its gradients and its derivative along a and b: one program for each shape."""
    cost = _cost(SOLVERS[name])
    both = jax.value_and_grad(cost, argnums=(0, 1))
    return jax.jit(lambda a, b: (*both(a, b), jax.jvp(cost, (a, b), (a, b))[1]))


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("shape", [(9, 3), (3, 8)])
def test_every_derivative_of_a_solve_shares_one_factorisation(name, shape):
    a, b = _normal(*shape), _normal(shape[0])
    cost = _cost(SOLVERS[name])
    for work in (
        cost,
        jax.grad(cost),
        lambda a, b: jax.jvp(cost, (a, b), (a, b)),
        lambda a, b: jax.jvp(jax.grad(cost), (a, b), (a, b)),
    ):
        text = str(jax.make_jaxpr(work)(a, b))
        # The second of SVD is that of the triangle, the second of PivotedQR that of its rows.
        assert len(re.findall(rf"= {FACTORISATIONS}", text)) == COUNTS[name]


# What each verb costs: applications of Q, triangular solves, products with a matrix.
COSTS = {
    ("QR", "tall", "onto_rows"): (0, 0, 0),
    ("QR", "tall", "gram_inv"): (0, 2, 0),
    ("QR", "tall", "onto_range"): (2, 0, 0),
    ("QR", "wide", "onto_rows"): (2, 0, 0),
    ("QR", "wide", "onto_range"): (0, 0, 0),
    ("SVD", "tall", "onto_rows"): (0, 0, 2),
    ("SVD", "tall", "gram_inv"): (0, 0, 2),
    ("SVD", "tall", "onto_range"): (2, 0, 2),
    ("SVD", "wide", "onto_rows"): (2, 0, 2),
    ("SVD", "wide", "gram_inv"): (2, 0, 2),
    ("SVD", "wide", "onto_range"): (0, 0, 2),
    ("Normal", "tall", "onto_rows"): (0, 0, 0),
    ("Normal", "tall", "gram_inv"): (0, 2, 0),
    ("Normal", "tall", "onto_range"): (0, 2, 2),
    ("Normal", "wide", "onto_rows"): (0, 2, 2),
    ("Normal", "wide", "gram_inv"): (0, 4, 2),
    ("Normal", "wide", "onto_range"): (0, 0, 0),
}


@pytest.mark.parametrize(("name", "side", "verb"), COSTS)
def test_every_verb_takes_the_shortest_path_of_its_factor(name, side, verb):
    m, n = (9, 3) if side == "tall" else (3, 9)
    # Of shapes alone: nothing is computed.
    factor = eqx.filter_eval_shape(SOLVERS[name].factor, _normal(m, n))
    v = _normal(m if verb == "onto_range" else n, 2)
    arrays, rest = eqx.partition(factor, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    applied = lambda arrays, v: getattr(eqx.combine(arrays, rest), verb)(v)  # noqa: E731
    used = _primitives(jax.make_jaxpr(applied)(arrays, v).jaxpr)
    found = tuple(used.count(op) for op in ("ormqr", "triangular_solve", "dot_general"))
    assert found == COSTS[name, side, verb]


def _primitives(jaxpr):
    """Names of all operations, those of inner functions too."""
    names = []
    for equation in jaxpr.eqns:
        names.append(equation.primitive.name)
        for inner in equation.params.values():
            if hasattr(inner, "jaxpr"):
                names += _primitives(inner.jaxpr)
    return names


@functools.cache
def _applied(name, shape):
    """A complex matrix, what its factor is applied to, and what all verbs and `solve` return."""
    m, n = shape
    a = np.asarray(_normal(*shape)) + 1j * np.asarray(_normal(*shape, seed=1))
    b, g, z = (
        np.asarray(_normal(rows, 5, seed=seed)) + 0j for rows, seed in ((m, 0), (n, 0), (n, 2))
    )

    @jax.jit
    def everything(a, b, g, z):
        f = SOLVERS[name].factor(a)
        verbs = f.pinv(b), f.pinv_h(g), f.gram_inv(g), f.onto_range(b), f.onto_rows(g)
        return verbs, f.solve(b, g, z), f.solve(b)

    return (a, b, g, z), everything(a, b, g, z)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (4, 4)])
def test_the_five_verbs_are_products_with_the_pseudoinverse(name, shape):
    (a, b, c, _), (verbs, _, _) = _applied(name, shape)
    p = np.linalg.pinv(a)
    wanted = p @ b, p.conj().T @ c, p @ p.conj().T @ c, a @ p @ b, p @ a @ c
    for got, want in zip(verbs, wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-11)


def _solved(a, b, g, z, p):
    """What `solve` returns, by the pseudoinverse p of a."""
    x = p @ b + p @ p.conj().T @ g + z - p @ a @ z
    return x, b - a @ x


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (4, 4)])
def test_solve_is_the_one_combination_of_the_verbs(name, shape):
    (a, b, g, z), (_, solved, of_b_alone) = _applied(name, shape)
    p = np.linalg.pinv(a)
    for got, want in zip(solved, _solved(a, b, g, z, p), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-11)
    for got, want in zip(of_b_alone, _solved(a, b, 0 * g, 0 * z, p), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-11)


@pytest.mark.parametrize("name", ["QR", "SVD", "Normal"])
@pytest.mark.parametrize("shape", [(9, 3), (3, 3), (3, 7)])
def test_solve_of_balanced_columns_is_the_same_in_rotated_coordinates(name, shape):
    m, n = shape
    a = np.asarray(_normal(*shape)) * 10.0 ** np.linspace(-6, 6, n)
    b, g, z = map(np.asarray, (_normal(m, 4), _normal(n, 4), _normal(n, 4, seed=2)))

    @jax.jit
    def everything(a, b, g, z):
        factor = balanced(SOLVERS[name], a)
        x, rest = factor.solve(factor.rotate(b), g, z)
        of_head, _ = factor.solve(factor.head(b), g, z)
        return factor.scale, x, factor.rotate_back(rest), of_head

    scale, x, rest, of_head = map(np.asarray, everything(a, b, g, z))
    scale = scale[:, None]
    even = a / scale.T
    want, left = _solved(even, b, g / scale, z / scale, np.linalg.pinv(even))
    np.testing.assert_allclose(x * scale, want, atol=1e-11)
    np.testing.assert_allclose(rest, left, atol=1e-11)
    np.testing.assert_allclose(of_head, x, rtol=1e-11)


@pytest.mark.parametrize("n", [3, 6])
def test_solve_of_lanes_with_columns_left_out_is_the_same_for_the_others(n):
    a, free = np.asarray(_normal(9, n, 4)), np.random.default_rng(5).random((n, 4)) < 0.6
    b, g = np.asarray(_normal(9, 2, 4)), np.asarray(_normal(n, 2, 4))
    solved = jax.jit(lambda a, free, b, g: masked(a, free).solve(b, g))
    x, rest = map(np.asarray, solved(a, free, b, g))
    for lane in range(4):
        kept = free[:, lane]
        some = np.asarray(a[:, kept, lane])
        mine = g[kept, :, lane]
        want = _solved(some, b[..., lane], mine, 0 * mine, np.linalg.pinv(some))
        np.testing.assert_allclose(x[kept, :, lane], want[0], atol=1e-11)
        np.testing.assert_allclose(rest[..., lane], want[1], atol=1e-11)
        assert not np.any(x[~kept, :, lane])


@pytest.mark.parametrize("name", ["PivotedQR", "SVD", "Small"])
def test_one_mask_serves_rank_and_all_verbs(name):
    a = np.asarray(_normal(7, 2)) @ np.asarray(_normal(2, 4))
    p, c = np.linalg.pinv(a, rcond=1e-10), _normal(4, 2)

    @jax.jit
    def verbs(a, c):
        f = SOLVERS[name].factor(a)
        return f.rank, f.cond, f.onto_rows(c), f.gram_inv(c)

    rank, cond, rows, gram = verbs(a, c)
    assert rank == 2 and cond == jnp.inf
    np.testing.assert_allclose(rows, p @ a @ c, atol=1e-12)
    np.testing.assert_allclose(gram, p @ p.T @ c, atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("shape", [(7, 3), (3, 7)])
def test_vmap_and_scan_agree_with_a_loop(name, shape):
    m, _ = shape
    a, b = np.asarray(_normal(4, *shape)), np.asarray(_normal(4, m))
    # Jitted within the program: traced once, however it is mapped.
    work = jax.jit(jax.value_and_grad(_cost(SOLVERS[name]), argnums=(0, 1)))

    def loop(axes):
        rows = [
            _slopes(name)(a[i] if axes[0] == 0 else a[0], b[i] if axes[1] == 0 else b[0])[:2]
            for i in range(4)
        ]
        return jax.tree.map(lambda *x: np.stack(x), *rows)

    def agree(found, axes):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-9), tuple(found), loop(axes)
        )

    # One of both batched alone, the matrix where it is tall and the vector where it is wide.
    one = (0, None) if shape[0] > shape[1] else (None, 0)
    alone = [x if axis == 0 else x[0] for x, axis in zip((a, b), one, strict=True)]

    @jax.jit
    def everything(a, b, alone):
        scanned = jax.lax.scan(lambda _, ab: (None, work(*ab)), None, (a, b))[1]
        return jax.vmap(work)(a, b), jax.vmap(work, in_axes=one)(*alone), scanned

    for found, axes in zip(everything(a, b, alone), ((0, 0), one, (0, 0)), strict=True):
        agree(found, axes)


@pytest.mark.parametrize("count", [2, 20])
@pytest.mark.parametrize("shape", [(9, 3), (3, 9)])
def test_few_and_many_tangents_take_both_paths_of_q_and_agree(shape, count):
    a, b, t_a = _normal(*shape), _normal(shape[0]), _normal(count, *shape)

    def push(t):
        return jax.jvp(lambda a: project_out(a, b), (a,), (t,))[1]

    many, one = jax.vmap(push), jax.jit(push)
    forms_q = "householder_product" in str(jax.make_jaxpr(many)(t_a))
    assert forms_q == (count > 3)
    r, c = jax.jit(many)(t_a)
    for i, t in enumerate(np.asarray(t_a)):
        alone = one(t)
        np.testing.assert_allclose(r[i], alone[0], atol=1e-12)
        np.testing.assert_allclose(c[i], alone[1], atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("where", ["a", "b"])
def test_nan_in_gives_nan_out_and_no_exception(name, where):
    a, b = np.array(_normal(7, 3)), np.array(_normal(7))
    (a if where == "a" else b)[1] = np.nan
    value, (grad, _), slope = _slopes(name)(a, b)
    assert np.isnan(value) and np.isnan(grad).all() and np.isnan(slope)


@pytest.mark.parametrize("name", ["PivotedQR", "SVD", "Small"])
def test_a_zero_matrix_has_rank_zero_and_derivative_zero(name):
    a, b = np.zeros((7, 3)), np.asarray(_normal(7))
    value, (grad, _), _ = _slopes(name)(a, b)
    assert jax.jit(lambda a: SOLVERS[name].factor(a).rank)(a) == 0
    assert value == 0 and not np.any(grad)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(7, 3\) and \(6,\)"):
        pinv_solve(_normal(7, 3), _normal(6))
    with pytest.raises(ValueError, match="at most 8 columns"):
        Small().factor(_normal(20, 9))
    with pytest.raises(ValueError, match="the vector is"):
        linear_solve(lx.MatrixLinearOperator(_normal(7, 3)), _normal(6), lx.QR())
    with pytest.raises(TypeError, match="pinv_solve"):
        jax.grad(lambda a: QR().factor(a).pinv(a)[0, 0])(_normal(4, 2))


@pytest.mark.parametrize(
    "solver", [lx.QR(), lx.SVD(), lx.Normal(lx.Cholesky()), lx.Normal(lx.CG(1e-13, 1e-13))]
)
@pytest.mark.parametrize("kind", ["matrix", "pytree", "function"])
def test_lineax_operators_and_solvers_give_what_lineax_gives(solver, kind):
    left, right = _normal(6, 2), _normal(6)

    def value(linear_solve, left, right):
        if kind == "matrix":
            operator, vector = lx.MatrixLinearOperator(left), right
        else:
            tree = {
                "x": {"u": left[:4, 0], "v": left[:4, 1:]},
                "y": {"u": left[4:, 0], "v": left[4:, 1:]},
            }
            shape = {
                "u": jax.ShapeDtypeStruct((), left.dtype),
                "v": jax.ShapeDtypeStruct((1,), left.dtype),
            }
            out = {
                "x": jax.ShapeDtypeStruct((4,), left.dtype),
                "y": jax.ShapeDtypeStruct((2,), left.dtype),
            }
            operator = lx.PyTreeLinearOperator(tree, out)
            if kind == "function":
                operator = lx.FunctionLinearOperator(operator.mv, shape)
            vector = {"x": right[:4], "y": right[4:]}
        return linear_solve(operator, vector, solver).value

    args = (left, right), (_normal(6, 2, seed=1), _normal(6, seed=1))
    found = jax.jit(lambda: jax.jvp(lambda *args: value(linear_solve, *args), *args))()
    wanted = _by_lineax(solver)
    for x, y in zip(found, wanted, strict=True):
        x = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(x)])
        np.testing.assert_allclose(x, y, atol=1e-10)


@functools.cache
def _by_lineax(solver):
    """The solution and its derivative, of the matrix that all operators stand for."""

    def value(left, right):
        return lx.linear_solve(lx.MatrixLinearOperator(left), right, solver).value

    at, along = ((_normal(6, 2, seed=i), _normal(6, seed=i)) for i in range(2))
    return jax.jit(lambda: jax.jvp(value, at, along))()


def test_unknown_solvers_are_those_of_lineax():
    operator = lx.MatrixLinearOperator(_normal(3, 3))
    solution = linear_solve(operator, _normal(3), lx.LU())
    assert solution.stats == {}
    assert set(linear_solve(operator, _normal(3), lx.QR()).stats) == {"rank", "cond"}
