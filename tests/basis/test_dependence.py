"""What a function depends on is read off its program, and never less than it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varpro as vp
from varpro.basis._dependence import dependence, groups_of

X = np.linspace(0.1, 3.0, 30)
MEAN = X.mean()


def bell(center, width, x):
    return jnp.exp(-0.5 * ((x - center) / width) ** 2)


# A function of scalars and x, the parameters of its columns, and whether it goes row by row.
CASES = {
    "columns one by one": (
        lambda th, x: jnp.stack([bell(th[0], th[1], x), bell(th[2], th[3], x)], -1),
        [(0, 1), (2, 3)],
        True,
    ),
    "columns at once": (
        lambda th, x: bell(jnp.stack(th[:2]), jnp.stack(th[2:]), x[:, None]),
        [(0, 2), (1, 3)],
        True,
    ),
    "a shared width": (
        lambda th, x: jnp.stack([bell(th[0], th[2], x), bell(th[1], th[2], x)], 1),
        [(0, 2), (1, 2)],
        True,
    ),
    "a constant beside": (
        lambda th, x: jnp.stack([jnp.exp(-x / th[0]), jnp.ones_like(x)], 1),
        [(0,), ()],
        True,
    ),
    "a choice": (lambda th, x: jnp.where(x > th[0], x * th[1], 0.0)[:, None], [(0, 1)], True),
    "a compiled part": (
        lambda th, x: jax.jit(lambda a: jnp.exp(-a / th[0]))(x)[:, None],
        [(0,)],
        True,
    ),
    "a product with a matrix": (
        lambda th, x: jnp.stack([x * th[0], x * th[1]], 1) @ jnp.ones((2, 2)),
        [(0, 1), (0, 1)],
        False,
    ),
    "the mean of x": (lambda th, x: (x - x.mean())[:, None] * th[0], [(0,)], False),
    "a mean from outside": (lambda th, x: (x - float(MEAN))[:, None] * th[0], [(0,)], True),
    "the first x": (lambda th, x: (x - x[0])[:, None] * th[0], [(0,)], False),
    "the largest x": (lambda th, x: (x / jnp.max(x))[:, None] * th[0], [(0,)], False),
    "the number of samples": (lambda th, x: (x / x.size)[:, None] * th[0], [(0,)], False),
    "a whole number of samples": (
        lambda th, x: (x * 0 + x.size // 2)[:, None] * th[0],
        [(0,)],
        False,
    ),
    "a sum of ones": (lambda th, x: (x / jnp.ones_like(x).sum())[:, None] * th[0], [(0,)], False),
    "a sum of constants": (
        lambda th, x: (x / jnp.full(x.shape, 2.0).sum())[:, None] * th[0],
        [(0,)],
        False,
    ),
    "numbers from the end": (
        lambda th, x: (x * jnp.arange(x.size)[::-1])[:, None] * th[0],
        [(0,)],
        False,
    ),
    "the neighbour": (lambda th, x: jnp.roll(x, 1)[:, None] * th[0], [(0,)], False),
    "a running sum": (lambda th, x: jnp.cumsum(x)[:, None] * th[0], [(0,)], False),
    "a sorted x": (lambda th, x: jnp.sort(x)[:, None] * th[0], [(0,)], False),
    "a spectrum": (lambda th, x: jnp.fft.fft(x).real[:, None] * th[0], [(0,)], False),
    "all pairs": (
        lambda th, x: jnp.exp(-((x[:, None] - x) ** 2) / th[0]).sum(1)[:, None],
        [(0,)],
        False,
    ),
    "a loop": (
        lambda th, x: jax.lax.fori_loop(0, 3, lambda i, a: a * th[0], x)[:, None],
        [(0,)],
        False,
    ),
    "an array of its own": (lambda th, x: (x * jnp.asarray(X))[:, None] * th[0], [(0,)], False),
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_depends_on_what_it_is_seen_to_depend_on(name):
    function, parameters, rows = CASES[name]
    count = 1 + max(max(row, default=0) for row in parameters)
    found = dependence(function, count, X, X.dtype)
    assert found is not None
    assert found.parameters == tuple(parameters) and found.rows == rows


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2]])
def test_rows_of_what_goes_row_by_row_do_not_change_when_samples_are_added(name):
    function, parameters, _ = CASES[name]
    theta = [
        jnp.asarray(0.5 + 0.3 * i) for i in range(1 + max(max(r, default=0) for r in parameters))
    ]
    more = np.concatenate([X, [X[3]] * 7])
    call = jax.jit(function)
    np.testing.assert_allclose(call(theta, more)[: X.size], call(theta, X), rtol=1e-14)


def test_parameters_that_share_no_column_have_one_derivative_between_them():
    assert groups_of([(0, 1), (2, 3)], 4) == [[0, 2], [1, 3]]
    assert groups_of([(0, 2), (1, 2)], 3) == [[0, 1], [2]]
    assert groups_of([(), ()], 2) == [[0, 1]]


def test_an_opaque_function_has_the_table_of_its_columns():
    def peaks(theta, x):
        return {f"p{i}": bell(theta[f"c{i}"], theta[f"w{i}"], x) for i in range(3)}

    starts = {f"c{i}": 0.5 + i for i in range(3)} | {f"w{i}": 0.3 + 0.1 * i for i in range(3)}
    basis = vp.Custom("", peaks, starts).prepared(X, X.dtype)
    from varpro.basis import build_model

    model = build_model(basis)
    values = np.array(list(starts.values()))
    places = []

    def both(v):
        table = model.partials(X, v)
        places.append((table.column, table.parameter))
        return table.values, jax.jacfwd(lambda v: model.evaluate(jnp.asarray(X), v))(v)

    table, slopes = jax.jit(both)(values)
    assert table.shape == (30, 6)
    dense = np.zeros((30, 3, 6))
    dense[:, *places[0]] = table
    np.testing.assert_allclose(dense, slopes, rtol=1e-12, atol=1e-14)


def test_an_opaque_function_finds_what_the_named_model_finds(rng):
    def peaks(theta, x):
        return {f"p{i}": bell(theta[f"c{i}"], theta[f"w{i}"], x) for i in range(2)}

    x = np.linspace(0.0, 5.0, 53)
    truth = 2 * np.exp(-0.5 * ((x - 1.2) / 0.4) ** 2) + np.exp(-0.5 * ((x - 3.1) / 0.5) ** 2)
    y = truth + 0.01 * rng.normal(size=x.size)
    starts = {"c0": 1.0, "w0": 0.5, "c1": 3.0, "w1": 0.5}
    mine = vp.fit(peaks, x, y, init=starts)
    named = vp.Gaussian("p0", center=1.0, width=0.5) + vp.Gaussian("p1", center=3.0, width=0.5)
    theirs = vp.fit(named, x, y)
    order = [theirs.names.index(n) for n in ("p0.center", "p0.width", "p1.center", "p1.width")]
    width = mine.alpha[1] / theirs.alpha[order[1]]  # a Gaussian's width may be its half maximum
    np.testing.assert_allclose(mine.alpha[[0, 2]], theirs.alpha[[order[0], order[2]]], rtol=1e-6)
    np.testing.assert_allclose(mine.alpha[3] / theirs.alpha[order[3]], width, rtol=1e-6)
    assert mine.dof == theirs.dof == 53 - 6
