"""`solve`: pure, safe under jit and vmap, and differentiable at its optimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
import pytest
import scipy.optimize

import varpro as vp

T = jnp.linspace(0.0, 20.0, 60)
RNG = np.random.default_rng(3)
Y = 3.0 * jnp.exp(-T) + 2.0 * jnp.exp(-T / 6.0) + 0.5 + 0.02 * RNG.normal(size=T.size)
TIGHT = vp.LevenbergMarquardt(ftol=1e-15, xtol=1e-15, gtol=1e-15)
START = {"fast": jnp.array(0.5), "slow": jnp.array(5.0)}


def basis(alpha, t):
    return jnp.stack(
        [jnp.exp(-t / alpha["fast"]), jnp.exp(-t / alpha["slow"]), jnp.ones_like(t)], axis=1
    )


# Derivatives are taken of a compiled search: outside of a program each call would compile its loop anew.
@functools.partial(jax.jit, static_argnames="jacobian")
def outputs(y=Y, weights=None, t=T, jacobian="full"):
    out = vp.solve(basis, y, START, t, weights=weights, solver=TIGHT, jacobian=jacobian)
    return jnp.concatenate([jnp.stack([out.value["fast"], out.value["slow"]]), out.coef])


def central(f, x, direction, step):
    return (f(x + step * direction) - f(x - step * direction)) / (2 * step)


@pytest.mark.parametrize("jacobian", ["kaufman", "full"])
def test_forward_and_reverse_derivatives_by_the_data(jacobian):
    d = np.asarray(RNG.normal(size=T.size))

    @jax.jit
    def everything(y):
        f = lambda y: outputs(y, jacobian=jacobian)  # noqa: E731
        value, back = jax.vjp(f, y)
        return value, jax.jvp(f, (y,), (d,))[1], jax.vmap(back)(jnp.eye(5))[0]

    _, forward, back = everything(Y)
    np.testing.assert_allclose(
        forward, central(lambda y: everything(y)[0], Y, d, 1e-4), rtol=2e-6, atol=1e-6
    )
    np.testing.assert_allclose(back @ d, forward, rtol=1e-9)


def test_derivatives_by_weights_arguments_and_closed_over_arrays():
    w = np.asarray(1.0 + 0.3 * RNG.random(T.size))
    d, still = np.asarray(RNG.normal(size=T.size)), np.zeros(T.size)

    @jax.jit
    def along(w, s, t_w, t_s):
        """Value and derivative by the weights and by the scale of the argument."""
        return jax.jvp(lambda w, s: outputs(weights=w, t=s * T), (w, s), (t_w, t_s))

    def by_weights(w):
        return along(w, 1.0, still, 0.0)[0]

    def by_argument(s):
        return along(still + 1.0, s, still, 0.0)[0]

    np.testing.assert_allclose(
        along(w, 1.0, d, 0.0)[1], central(by_weights, w, d, 1e-3), rtol=3e-6, atol=1e-6
    )
    np.testing.assert_allclose(
        along(still + 1.0, 1.0, still, 1.0)[1],
        central(by_argument, 1.0, 1.0, 1e-4),
        rtol=2e-6,
        atol=2e-6,
    )

    @jax.jit
    @jax.value_and_grad
    def by_closure(s):
        out = vp.solve(lambda a, _: basis(a, s * T), Y, START, solver=TIGHT)
        return out.value["slow"]

    np.testing.assert_allclose(
        by_closure(1.0)[1], central(lambda s: by_closure(s)[0], 1.0, 1.0, 1e-4), rtol=2e-6
    )


def test_second_derivatives_of_the_optimum():
    d = np.asarray(RNG.normal(size=T.size))
    f = lambda s: outputs(Y + s * d)[1]  # noqa: E731
    both = jax.jit(lambda s: jax.jvp(jax.grad(f), (s,), (1.0,)))
    expected = central(lambda s: both(s)[0], 0.0, 1.0, 1e-4)
    np.testing.assert_allclose(both(0.0)[1], expected, rtol=1e-5)


def test_derivative_on_an_active_bound_is_zero_and_one_by_the_bound():
    def slow(y, cap):
        upper = {"fast": jnp.inf, "slow": cap}
        return vp.solve(basis, y, START, T, upper=upper).value["slow"]

    cap = jnp.array(5.5)
    value, (by_data, by_cap) = jax.jit(jax.value_and_grad(slow, (0, 1)))(Y, cap)
    assert value == cap
    np.testing.assert_array_equal(by_data, 0.0)
    np.testing.assert_allclose(by_cap, 1.0)


lanes = jax.jit(jax.vmap(lambda y: vp.solve(basis, y, START, T, solver=TIGHT, jacobian="full")))


def test_vmap_equals_a_loop():
    y = np.asarray(Y)
    ys = np.stack([y, 2 * y + 0.1, 1.5 * y - 0.2 * np.exp(-np.asarray(T) / 3)])
    many = lanes(ys)
    for lane, y in enumerate(ys):
        row = [many.value["fast"][lane], many.value["slow"][lane], *many.coef[lane]]
        np.testing.assert_allclose(row, outputs(y), rtol=1e-7)


def test_a_lane_that_cannot_be_fitted_harms_nobody():
    y = np.asarray(Y)
    out = lanes(np.stack([y, np.full_like(y, np.nan), np.zeros_like(y)]))
    good = out.result == vp.RESULTS.successful
    assert good[0] and not good[1]
    np.testing.assert_allclose(out.value["slow"][0], outputs()[1], rtol=1e-7)


def test_several_right_hand_sides_share_alpha():
    y = jnp.stack([Y, 2 * Y, Y + 0.1 * T, jnp.cos(T), Y], axis=1)
    one, full = (
        jax.jit(lambda y, j=j: vp.solve(basis, y, START, T, solver=TIGHT, jacobian=j))(y)
        for j in ("auto", "full")
    )
    assert one.coef.shape == (3, 5) and one.resid.shape == y.shape
    np.testing.assert_allclose(one.value["slow"], full.value["slow"], rtol=1e-6)
    np.testing.assert_allclose(one.cost, 0.5 * jnp.sum(one.resid**2), rtol=1e-12)


SOLVERS = {
    "gauss-newton": optx.GaussNewton(1e-10, 1e-10),
    "optimistix-lm": optx.LevenbergMarquardt(1e-10, 1e-10),
    "dogleg": optx.Dogleg(1e-10, 1e-10),
    "bfgs": optx.BFGS(1e-10, 1e-12),
    "adam": optx.OptaxMinimiser(optax.adam(0.02), 1e-9, 1e-12),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_optimistix_solver_reaches_the_same_optimum(name):
    start = {"fast": jnp.array(0.9), "slow": jnp.array(5.5)}
    how = {"solver": SOLVERS[name], "max_steps": 20_000}
    out = jax.jit(lambda y, start: vp.solve(basis, y, start, T, **how))(Y, start)
    expected = outputs()
    np.testing.assert_allclose(out.value["fast"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(out.value["slow"], expected[1], rtol=1e-5)


def test_solvers_without_bounds_refuse_them():
    with pytest.raises(vp.InputError, match="knows no bounds"):
        vp.solve(basis, Y, START, T, lower=0.0, solver=optx.BFGS(1e-8, 1e-8))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(vp.InputError, match=r"\(60, 3\) but y has shape \(59,\)"):
        vp.solve(basis, Y[:-1], START, T)


@pytest.mark.parametrize("background", [True, False])
def test_two_decays_are_found_from_a_start_that_leads_others_astray(background):
    # From lifetimes (2, 6.5) scipy, lmfit, GSL and Ceres end at other answers for (1, 3).
    def columns(tau, t):
        decays = [jnp.exp(-t / tau[0]), jnp.exp(-t / tau[1])]
        return jnp.stack(decays + [jnp.ones_like(t)] * background, axis=1)

    @jax.jit
    def ends(y, t):
        solution = vp.solve(columns, y, jnp.array([2.0, 6.5]), t)
        best = vp.solve(columns, y, jnp.array([1.0, 3.0]), t)
        return solution.cost, best.cost, solution.result == vp.RESULTS.successful

    for end in (5.0, 8.0, 12.0, 30.0):
        t = np.linspace(0.0, end, 100)
        for fast, slow in ((4.0, 2.5), (1.0, 1.0), (1.0, 3.0)):
            for noise in (0.002, 0.01):
                y = fast * np.exp(-t) + slow * np.exp(-t / 3) + 0.5 * background
                y += noise * np.random.default_rng(1).normal(size=t.size)
                cost, best, success = ends(y, t)
                assert success and cost <= best * (1 + 1e-9), (end, fast, slow, noise)


@pytest.mark.parametrize("jacobian", ["auto", "full", "kaufman"])
def test_a_model_without_linear_parameters_is_an_ordinary_fit(jacobian):
    x = np.linspace(0, 5, 50)
    noise = 0.01 * np.random.default_rng(2).normal(size=50)
    y = np.exp(-0.7 * x) / (1 + 0.2 * x) + noise

    def curve(alpha, x):
        return jnp.exp(-alpha["a"] * x) / (1 + alpha["b"] * x)

    def nothing(alpha, x):
        return jnp.zeros((x.size, 0))

    start = {"a": 0.5, "b": 0.1}
    found = jax.jit(
        lambda y, start: vp.solve(nothing, y, start, x, offset=curve, jacobian=jacobian)
    )(y, start)
    dense = scipy.optimize.least_squares(
        lambda p: y - np.exp(-p[0] * x) / (1 + p[1] * x), [0.5, 0.1], xtol=1e-15, ftol=1e-15
    )
    assert found.result == vp.RESULTS.successful
    np.testing.assert_allclose([found.value["a"], found.value["b"]], dense.x, rtol=1e-6)


def test_derivatives_by_bounds_alone_and_by_the_start():
    def both(cap, start):
        out = vp.solve(
            lambda a, t: jnp.stack([jnp.exp(-t / a), jnp.ones_like(t)], axis=1),
            *(Y, start, T),
            upper=cap,
            solver=TIGHT,
        )
        return jnp.stack([out.value, *out.coef])

    @jax.jit
    def everything(cap, start):
        """Values, their derivatives by the cap forwards and backwards, and those by the start."""
        value, back = jax.vjp(both, cap, start)
        forward = jax.jvp(lambda cap: both(cap, start), (cap,), (jnp.ones_like(cap),))[1]
        return value, forward, *jax.vmap(back)(jnp.eye(3))

    value, _, _, by_start = everything(50.0, 4.0)
    np.testing.assert_array_equal(by_start, np.zeros(3))
    cap = 0.9 * float(value[0])
    _, forward, back, _ = everything(cap, 3.0)
    step = 1e-4 * cap
    expected = (everything(cap + step, 3.0)[0] - everything(cap - step, 3.0)[0]) / (2 * step)
    np.testing.assert_allclose(forward, expected, rtol=1e-6)
    np.testing.assert_allclose(back, forward, rtol=1e-12)


def test_derivatives_of_a_failed_solve_are_not_numbers():
    @jax.jit
    def fast(scale, start):
        out = vp.solve(basis, scale * Y, {**START, "fast": start}, T, max_steps=12)
        return out.value["fast"] + out.cost, out.result == vp.RESULTS.successful

    slopes = jax.vmap(jax.value_and_grad(fast, has_aux=True), in_axes=(None, 0))
    (_, good), slope = slopes(1.0, jnp.array([0.9, 1e-3]))
    np.testing.assert_array_equal(good, [True, False])
    np.testing.assert_array_equal(np.isfinite(slope), [True, False])


@pytest.mark.parametrize("solver", [vp.linalg.QR(), vp.linalg.SVD(), vp.linalg.Normal()])
def test_reverse_over_forward_where_the_first_tangent_is_constant(solver):
    # The derivative by a of a solve whose a is moved by constants, as `jacfwd` does.
    a, b = jnp.asarray(RNG.normal(size=(6, 3))), jnp.asarray(RNG.normal(size=6))

    @jax.jit
    def both(a):
        f = lambda a: vp.linalg.pinv_solve(a, b, solver)  # noqa: E731
        return jax.jacrev(jax.jacfwd(f))(a), jax.jacfwd(jax.jacfwd(f))(a)

    mixed, forward = both(a)
    np.testing.assert_allclose(mixed, forward, atol=1e-11 * float(jnp.abs(forward).max()))


def test_second_derivatives_of_a_fit_by_its_arguments_in_mixed_modes():
    @jax.jit
    def mixed(s, along):
        """One row of second derivatives, backwards over forwards and forwards over forwards."""
        f = lambda s: outputs(t=s[0] * T + s[1])[1]  # noqa: E731
        slope = lambda s: jax.jvp(f, (s,), (along,))[1]  # noqa: E731
        return jax.grad(slope)(s), jax.jacfwd(slope)(s)

    for along in np.eye(2):
        back, forward = mixed(np.array([1.0, 0.1]), along)
        np.testing.assert_allclose(back, forward, rtol=1e-7, atol=1e-9)
