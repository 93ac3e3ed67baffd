"""A basis that is an operator: the same answers as with a matrix, and a name for what goes wrong."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from jax.experimental import sparse

import varpro as vp

M, N, STRENGTH = 48, 10, 3e-3
X, KNOTS = np.linspace(0.0, 1.0, M), np.linspace(0.0, 1.0, N)
START = {"shift": np.array(0.0), "width": np.array(0.08)}
SMOOTH = np.diff(np.eye(N), axis=0)
# As near to the optimum as the search of the dense twin goes.
EXACT: dict[str, Any] = {
    "solver": vp.LevenbergMarquardt(),
    "linear_solver": vp.linalg.ConjugateGradients(rtol=1e-13, jacobian_rtol=1e-6),
}


def matrix(alpha, x):
    return jnp.exp(-0.5 * ((x[:, None] - KNOTS - alpha["shift"]) / alpha["width"]) ** 2)


def offset(alpha, x):
    return 0.3 * jnp.exp(-x / alpha["width"] / 5)


def dense(alpha, x):
    return lx.MatrixLinearOperator(matrix(alpha, x))


def pair(alpha, x):
    a = matrix(alpha, x)
    return vp.linalg.FunctionPair(
        lambda c: a @ c, lambda u: a.T @ u, jax.ShapeDtypeStruct((N,), float)
    )


def by_rows(alpha, x):
    return sparse.BCOO.fromdense(matrix(alpha, x), nse=M * N)


def parts(alpha, x):
    """Coefficients in a dict, data in a tuple of two pieces."""
    a = matrix(alpha, x)
    takes = {"a": jax.ShapeDtypeStruct((N // 2, 2), float)}

    def both(c):
        y = a @ c["a"].ravel()
        return y[:20], y[20:].reshape(4, -1)

    return lx.FunctionLinearOperator(both, takes)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    truth = {"shift": 0.02, "width": 0.1}
    y = matrix(truth, X) @ rng.uniform(0.5, 1.5, N) + offset(truth, X) + 0.01 * rng.normal(size=M)
    weights = rng.uniform(0.5, 2.0, M)
    weights[7] = 0.0
    return np.asarray(y), weights


@pytest.fixture(scope="module")
def twin(data):
    """The same problem with the rows of the penalty below the matrix."""
    y, weights = data
    every = np.concatenate([weights, np.ones(N - 1)])

    def above(alpha, x):
        return jnp.concatenate([matrix(alpha, x), STRENGTH**0.5 * SMOOTH])

    def known(alpha, x):
        return jnp.concatenate([offset(alpha, x), jnp.zeros(N - 1)])

    right = np.concatenate([y, np.zeros(N - 1)])
    return vp.solve(above, right, START, X, weights=every, offset=known)


def same(found, twin, scale=1.0):
    """Agreement of two searches: the cost to the square of what alpha agrees to, where both stop at the
    rounding floor of a cost."""
    assert found.result == vp.RESULTS.successful
    for key, value in twin.value.items():
        np.testing.assert_allclose(found.value[key], value, rtol=2e-6, atol=2e-7)
    np.testing.assert_allclose(found.cost, twin.cost, rtol=1e-10)
    coef = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(found.coef)])
    np.testing.assert_allclose(coef, twin.coef, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("basis", "linear_solver", "jacobian"),
    [
        (dense, None, None),
        (dense, None, "full"),
        (pair, lx.CG(rtol=1e-13, atol=1e-13), None),
        (by_rows, lx.LSMR(rtol=1e-14, atol=1e-14), "full"),
    ],
    ids=["matrix", "full", "pair-CG", "sparse-LSMR"],
)
def test_an_operator_has_the_optimum_of_its_matrix(data, twin, basis, linear_solver, jacobian):
    y, weights = data
    y = np.where(weights > 0, y, np.nan)  # a sample of weight zero may hold anything
    smooth = lx.MatrixLinearOperator(jnp.asarray(SMOOTH)) if basis is pair else "gradient"
    options = EXACT if linear_solver is None else EXACT | {"linear_solver": linear_solver}
    penalty = vp.Tikhonov(STRENGTH, smooth)
    found = vp.solve(
        *(basis, y, START, X),
        weights=weights,
        offset=offset,
        penalty=penalty,
        jacobian=jacobian,
        **options,
    )
    same(found, twin)
    np.testing.assert_allclose(found.resid, twin.resid[:M], atol=1e-6)
    assert found.stats["inner_converged"]
    assert 0 < found.stats["inner_steps"]


def test_data_and_coefficients_are_any_pytree(data, twin):
    y, weights = data
    y, weights = ((a[:20], a[20:].reshape(4, -1)) for a in (y, weights))

    def known(alpha, x):
        return offset(alpha, x[:20]), offset(alpha, x[20:]).reshape(4, -1)

    smooth = vp.linalg.FunctionPair(
        lambda c: SMOOTH @ c["a"].ravel(),
        lambda u: {"a": (SMOOTH.T @ u).reshape(-1, 2)},
        {"a": jax.ShapeDtypeStruct((N // 2, 2), float)},
    )
    penalty = vp.Tikhonov(STRENGTH, smooth)
    found = vp.solve(*(parts, y, START, X), weights=weights, offset=known, penalty=penalty, **EXACT)
    same(found, twin)
    assert found.coef["a"].shape == (N // 2, 2)
    assert found.resid[1].shape == (4, 7)


def test_a_preconditioner_and_the_default_tolerances_change_nothing_but_the_steps(data, twin):
    y, weights = data
    every = jnp.asarray(SMOOTH)

    def inverse(alpha, x, strength):
        a = weights[:, None] * matrix(alpha, x)
        gram = a.T @ a + strength * every.T @ every
        return lambda c: jnp.linalg.solve(gram, c)

    places = np.argwhere(SMOOTH)
    steps = sparse.BCOO((jnp.asarray(SMOOTH[tuple(places.T)]), places), shape=SMOOTH.shape)
    penalty = vp.Tikhonov(STRENGTH, steps)
    options: dict[str, Any] = {"weights": weights, "offset": offset, "penalty": penalty}
    found = vp.solve(dense, y, START, X, **options)
    with_inverse = vp.solve(
        *(dense, y, START, X),
        linear_solver=vp.linalg.ConjugateGradients(preconditioner=inverse),
        **options,
    )
    for one in (found, with_inverse):
        assert one.result == vp.RESULTS.successful
        # The default search stops when the cost stands still to 1e-10.
        np.testing.assert_allclose(one.cost, twin.cost, rtol=1e-8)
        np.testing.assert_allclose(one.value["width"], twin.value["width"], rtol=1e-4)
    most = 3 * with_inverse.stats["num_residuals"]
    assert 0 < with_inverse.stats["inner_steps"] <= most < found.stats["inner_steps"]


def test_derivatives_of_a_solve_are_those_of_its_optimum(data):
    y, weights = data
    direction = np.random.default_rng(5).normal(size=M)

    def of(step, which):
        """Two numbers of the optimum, with one argument moved by `step`."""
        moved = step * (jnp.arange(4) == which)
        found = vp.solve(
            *(dense, y + moved[0] * direction, START, X + moved[1] * 0.1),
            weights=weights * (1 + moved[2] * jnp.linspace(0, 1, M)),
            offset=offset,
            penalty=vp.Tikhonov(STRENGTH * (1 + moved[3]), "gradient"),
            **EXACT,
        )
        return jnp.stack([found.value["width"], found.coef[3]])

    @jax.jit
    def everything(step, which):
        """Both numbers, and their derivatives forwards and backwards."""
        value, back = jax.vjp(lambda step: of(step, which), step)
        ahead = jax.jvp(lambda step: of(step, which), (step,), (jnp.ones_like(step),))[1]
        return value, ahead, jax.vmap(back)(jnp.eye(2))[0]

    h = 1e-4
    for which in range(4):
        (up, *_), (down, *_) = everything(h, which), everything(-h, which)
        _, ahead, back = everything(0.0, which)
        # Central differences of a search that ends within 1e-9 or so, and their own h^2.
        np.testing.assert_allclose(ahead, (up - down) / (2 * h), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(back, ahead, rtol=1e-8, atol=1e-12)


def test_a_complex_operator_has_the_optimum_of_its_matrix(rng):
    t = np.linspace(0.0, 3.0, 40)
    freq = np.linspace(0.5, 3.0, 6)

    def waves(alpha, t):
        return jnp.exp((1j * (freq + alpha["shift"]) - alpha["rate"]) * t[:, None])

    truth = {"shift": 0.1, "rate": 0.4}
    coef = rng.normal(size=6) + 1j * rng.normal(size=6)
    y = waves(truth, t) @ coef + 1e-2 * (rng.normal(size=40) + 1j * rng.normal(size=40))
    start = {"shift": 0.05, "rate": 0.5}
    root = 0.1

    def above(alpha, t):
        return jnp.concatenate([waves(alpha, t), root * jnp.eye(6)])

    twin = vp.solve(above, jnp.concatenate([y, jnp.zeros(6)]), start, t)
    found = vp.solve(
        lambda alpha, t: lx.MatrixLinearOperator(waves(alpha, t)),
        *(y, start, t),
        penalty=vp.Tikhonov(root**2),
        **EXACT,
    )
    same(found, twin)


HOLD: dict[str, Any] = {
    "lower": {"shift": -1.0, "width": 0.1},
    "upper": {"shift": 0.02, "width": 0.1},
}
HELD = {"shift": np.array(0.0), "width": np.array(0.1)}


def by_discrepancy(y, noise):
    """A solve whose strength is sought, of one program for all levels of noise."""
    penalty = vp.Tikhonov("discrepancy", "gradient", noise=np.float64(noise))
    return vp.solve(*(dense, y, HELD, X), offset=offset, penalty=penalty, **HOLD)


def test_bounds_hold_and_the_strength_is_found(data):
    y, _ = data
    a = np.asarray(matrix({"shift": 0.02, "width": 0.1}, X))
    target = y - np.asarray(offset({"width": 0.1}, X))

    def score(strength, alpha):
        a = np.asarray(matrix(alpha, X))
        hat = a @ np.linalg.solve(a.T @ a + strength * SMOOTH.T @ SMOOTH, a.T)
        resid = target - hat @ target
        return resid @ resid / (M - np.trace(hat)) ** 2, resid @ resid

    found = vp.solve(
        *(dense, y, HELD, X), offset=offset, penalty=vp.Tikhonov("gcv", "gradient"), **HOLD
    )
    assert found.result == vp.RESULTS.successful
    assert found.value["width"] == 0.1
    assert found.value["shift"] <= 0.02
    strength = float(found.stats["strength"])
    grid = np.geomspace(1e-8, 1e2, 301) * np.sum(a**2) / np.sum(SMOOTH**2)
    best = min(score(s, found.value)[0] for s in grid)
    # The trace is a mean of 16 random numbers, and the score is flat about its least.
    assert score(strength, found.value)[0] < 1.02 * best

    noise = 0.012
    found = by_discrepancy(y, noise)
    assert found.result == vp.RESULTS.successful
    squares = score(float(found.stats["strength"]), found.value)[1]
    # Inner solves to three digits, strengths to 5 %.
    np.testing.assert_allclose(squares, M * noise**2, rtol=0.02)
    with pytest.raises(vp.InputError, match="has no derivative"):
        jax.grad(lambda y: vp.solve(dense, y, HELD, X, penalty=vp.Tikhonov("gcv")).value["shift"])(
            y
        )


def troubled(alpha, args):
    """A pair whose transpose is wrong, or that of the start, or whose product is infinite, as `args` say."""
    x, turned, stale, infinite = args
    a = matrix(alpha, x) / jnp.where(infinite, 0.0, 1.0)
    at_start = matrix(START, x)

    def back(u):
        u = jnp.where(turned, u[::-1], u)
        return jnp.where(stale, at_start.T @ u, a.T @ u)

    return vp.linalg.FunctionPair(lambda c: a @ c, back, jax.ShapeDtypeStruct((N,), float))


@pytest.mark.parametrize(
    ("trouble", "name"),
    [
        ((True, False, False), "adjoint_mismatch"),
        # A transpose that is right at the start alone is found out.
        ((False, True, False), "adjoint_mismatch"),
        ((False, False, True), "nonfinite"),
        ((False, False, False), "linear_max_steps_reached"),
    ],
    ids=["wrong transpose", "stale transpose", "infinite", "too few steps"],
)
def test_what_goes_wrong_has_a_name(data, trouble, name):
    found = vp.solve(
        *(troubled, data[0], START, (X, *map(np.asarray, trouble))),
        penalty=vp.Tikhonov(1e-6),
        linear_solver=vp.linalg.ConjugateGradients(max_steps=2),
        max_steps=3,
    )
    # The trouble with the operator is named before what follows from it.
    assert found.result == getattr(vp.RESULTS, name)
    assert any(trouble) or not found.stats["inner_converged"]


def test_a_strength_that_no_discrepancy_has_is_not_found(data):
    found = by_discrepancy(data[0], 1e-9)
    assert found.result == vp.RESULTS.strength_not_found


SIDE, WIDTH = 16, 1.2
AWAY = np.fft.fftfreq(SIDE)[:, None] ** 2 + np.fft.rfftfreq(SIDE) ** 2
STEPS = np.concatenate(
    [
        np.kron(np.diff(np.eye(SIDE), axis=0), np.eye(SIDE)),
        np.kron(np.eye(SIDE), np.diff(np.eye(SIDE), axis=0)),
    ]
)


def views(count):
    """A scene blurred by the width, and by twice the width."""

    def seen(alpha, _):
        transfer = jnp.exp(-2 * (jnp.pi * alpha["width"]) ** 2 * AWAY)

        def ahead(c):
            f = jnp.fft.rfft2(c)
            return tuple(
                jnp.fft.irfft2(transfer ** (k + 1) ** 2 * f, s=(SIDE, SIDE)) for k in range(count)
            )

        return lx.FunctionLinearOperator(ahead, jax.ShapeDtypeStruct((SIDE, SIDE), float))

    return seen


def dense_cost(count, y, width, strength):
    phi = np.asarray(views(count)({"width": width}, None).as_matrix())
    above = np.concatenate([phi, strength**0.5 * STEPS])
    right = np.concatenate([*(np.ravel(one) for one in y), np.zeros(len(STEPS))])
    c = np.linalg.lstsq(above, right, rcond=None)[0]
    return 0.5 * np.sum((right - above @ c) ** 2)


def test_the_width_of_a_blur_is_told_by_two_views_and_not_by_one():
    """Of one view any penalty, and no negative coefficients, are content with no blur at all: with the transfer
    t_f <= 1 of a frequency f, the cost is 1/2 sum s l_f |y_f|^2 / (t_f^2 + s l_f), which falls with the width."""
    rng = np.random.default_rng(0)
    scene = np.zeros((SIDE, SIDE))
    scene[3:7, 4:12], scene[10:13, 2:5], scene[9:14, 10:12] = 1.0, 0.7, 1.2
    clean = views(2)({"width": WIDTH}, None).mv(jnp.asarray(scene))
    y = tuple(np.asarray(one) + 0.01 * rng.normal(size=one.shape) for one in clean)
    widths = [0.4, 0.8, 1.2, 1.6]
    strengths = 1e-4, 1e-2
    for strength in strengths:
        assert np.all(np.diff([dense_cost(1, y[:1], one, strength) for one in widths]) > 0)
    matrices = [np.asarray(views(1)({"width": one}, None).as_matrix()) for one in widths]
    left = [scipy.optimize.nnls(phi, y[0].ravel(), maxiter=10**4)[1] for phi in matrices]
    assert np.all(np.diff(left) > 0)
    # The search says the same: it goes as far as it may.
    found = vp.solve(
        *(views(1), y[:1], {"width": 0.8}),
        penalty=vp.Tikhonov(1e-2, "gradient"),
        lower={"width": 0.4},
        upper={"width": 3.0},
    )
    assert found.value["width"] == 0.4
    np.testing.assert_allclose(found.cost, dense_cost(1, y[:1], 0.4, 1e-2), rtol=1e-8)
    # Two views, one twice as wide, tell it, with some opinion of the penalty left.
    found = vp.solve(views(2), y, {"width": 0.8}, penalty=vp.Tikhonov(1e-3, "gradient"), **EXACT)
    best = scipy.optimize.minimize_scalar(
        lambda one: dense_cost(2, y, one, 1e-3), bounds=(0.8, 1.6), method="bounded"
    )
    assert found.result == vp.RESULTS.successful
    np.testing.assert_allclose(found.cost, best.fun, rtol=1e-8)
    np.testing.assert_allclose(found.value["width"], best.x, rtol=1e-4)
    assert found.value["width"] == pytest.approx(WIDTH, abs=0.1)


def foreign(alpha, x):
    return scipy.sparse.csr_matrix(np.eye(M, N))


def by_function(alpha, x):
    return lambda c: matrix(alpha, x) @ c


def single(alpha, x):
    return lx.MatrixLinearOperator(matrix(alpha, x).astype(jnp.float32))


def squared(alpha, x):
    return lx.FunctionLinearOperator(
        lambda c: matrix(alpha, x) @ c**2, jax.ShapeDtypeStruct((N,), float)
    )


def column(alpha, x):
    return jnp.exp(-x / alpha["width"])[:, None]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"y": np.zeros(M + 1)}, "returns shape"),
        ({"y": np.zeros((M, 2))}, "returns shape"),
        ({"y": {"a": np.zeros(M)}}, "returns shape"),
        ({"weights": np.ones(M + 1)}, "weights do not fit y"),
        ({"offset": lambda alpha, x: x[:-1]}, "offset.alpha, args. returns"),
        ({"linear_solver": vp.linalg.QR()}, "is not factored"),
        ({"penalty": 0.1}, "penalty must be"),
        ({"penalty": vp.Tikhonov(1.0, lx.MatrixLinearOperator(jnp.eye(3)))}, "takes shape .3,."),
        ({"basis": column, "penalty": vp.Tikhonov(1.0)}, "penalty= is for"),
        ({"basis": column, "linear_solver": lx.CG(1e-6, 1e-6)}, "iterative linear_solver is for"),
        ({"basis": column, "y": {"a": np.zeros(M)}}, "y must be one"),
        ({"basis": foreign}, "returned a scipy.csr_matrix.*BCOO.from_scipy_sparse"),
        ({"basis": by_function}, "returned a function. Return lineax.FunctionLinearOperator"),
        ({"basis": single}, "takes float32 and returns float32, and y is float64"),
        ({"basis": squared}, "no transpose of this operator.*linear in the coefficients"),
        ({"y": np.zeros(M, complex)}, "y is complex, but the operator returns float64"),
        ({"basis": by_rows, "y": np.zeros((6, 8))}, "has 48 rows, but y has shape .6, 8."),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_computed(data, arguments, complaint):
    given = {"basis": dense, "y": data[0], "alpha0": START, "args": X} | arguments
    with pytest.raises(vp.InputError, match=complaint):
        vp.solve(**given)


def test_wrong_options_are_refused():
    for make, complaint in (
        (lambda: vp.Tikhonov(-1.0), "must not be negative"),
        (lambda: vp.Tikhonov(np.nan), "must not be negative"),
        (lambda: vp.Tikhonov("best"), "'gcv' or 'discrepancy'"),
        (lambda: vp.Tikhonov(1.0, "laplace"), "'identity', 'gradient'"),
        (lambda: vp.Tikhonov(1.0, noise=0.0), "noise must be positive"),
        (lambda: vp.linalg.ConjugateGradients(rtol=2.0), "between 0 and 1"),
        (lambda: vp.linalg.ConjugateGradients(max_steps=0), "at least 1"),
        (
            lambda: vp.linalg.FunctionPair(lambda c: c[:2], lambda u: u, jnp.zeros(3)),
            "transpose_mv returns shape",
        ),
        (lambda: vp.linalg.ConjugateGradients(progress_rtol=1.0), "between 0 and 1"),
    ):
        with pytest.raises(vp.InputError, match=complaint):
            make()
