"""Derivatives of columns from their tables, against those of the whole matrix by JAX."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varpro as vp

T = np.linspace(0.1, 10.0, 24)
IRF = vp.GaussianIRF("irf", center=1.0, width=0.3)
THREE = vp.Exp("a", tau=0.7) + vp.Exp("b", tau=4.0) + vp.Exp("d", tau=9.0)
MODELS = {
    "columns that share nothing": (
        vp.Exp("a", tau=0.7) + vp.Exp("b", tau=4.0) + vp.Constant("c"),
        {},
    ),
    "a shared response": (vp.Exp("a", tau=0.7, irf=IRF) + vp.Exp("b", tau=4.0, irf=IRF), {}),
    "two parameters in a column": (
        vp.Gaussian("g", center=3.0, width=1.0)
        + vp.Gaussian("h", center=7.0, width=1.5)
        + vp.Exp("a", tau=2.0),
        {},
    ),
    "a tie": (THREE, {"b.tau": "2 * a.tau"}),
    "a formula": (THREE, {"a.tau": "b.tau / d.tau"}),
    "every column of every rate": (vp.Kinetics("k", {"A->B": 2.0, "B->C": 0.3, "C->": 0.1}), {}),
}


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("name", MODELS)
def test_second_derivatives_are_those_of_the_matrix(name, dtype, rng):
    model, tie = MODELS[name]
    columns = vp.prepare_many(model, T, np.ones((1, T.size)), tie=tie).columns
    alpha = np.asarray(columns.numbers.start[np.array(columns.layout.free)])
    n = jax.eval_shape(columns.phi, alpha).shape[1]
    b, r = rng.normal(size=n).astype(dtype), rng.normal(size=T.size).astype(dtype)
    if dtype is complex:
        b, r = b + 1j * rng.normal(size=n), r + 1j * rng.normal(size=T.size)

    @eqx.filter_jit
    def both(columns, alpha, b, r):
        moved = jax.jacfwd(lambda t: columns.phi(t).T.conj() @ r)(alpha)
        expected = jax.hessian(lambda t: jnp.vdot(r, columns.phi(t) @ b).real)(alpha)
        return columns.second_derivatives(alpha, jnp.asarray(b), jnp.asarray(r)), expected, moved

    (second, mixed), expected, moved = both(columns, alpha, b, r)
    np.testing.assert_allclose(second, expected, rtol=1e-9, atol=1e-11 * np.abs(expected).max())
    np.testing.assert_allclose(mixed, moved, rtol=1e-9, atol=1e-11 * np.abs(moved).max())
