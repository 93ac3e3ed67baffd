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


@eqx.filter_jit
def by_table(columns, alpha, b, r):
    return columns.second_derivatives(alpha, jnp.asarray(b), jnp.asarray(r))


@eqx.filter_jit
def of_matrix(columns, alpha):
    """Derivatives (m, n, p) and (m, n, p, p) of the whole matrix."""
    first = jax.jacfwd(columns.phi)
    return first(alpha), jax.jacfwd(first)(alpha)


@pytest.mark.parametrize("name", MODELS)
def test_second_derivatives_are_those_of_the_matrix(name, rng):
    model, tie = MODELS[name]
    columns = vp.prepare_many(model, T, np.ones((1, T.size)), tie=tie).columns
    alpha = np.asarray(columns.numbers.start[np.array(columns.layout.free)])
    slope, bend = map(np.asarray, of_matrix(columns, alpha))
    m, n, _ = slope.shape
    real, imag = ((rng.normal(size=n), rng.normal(size=m)) for _ in range(2))
    both = [x + 1j * y for x, y in zip(real, imag, strict=True)]
    for b, r in (real, both):
        second, mixed = by_table(columns, alpha, b, r)
        expected = np.einsum("m,mnpq,n->pq", r.conj(), bend, b).real
        moved = np.einsum("mnp,m->np", slope.conj(), r)
        np.testing.assert_allclose(second, expected, rtol=1e-9, atol=1e-11 * np.abs(expected).max())
        np.testing.assert_allclose(mixed, moved, rtol=1e-9, atol=1e-11 * np.abs(moved).max())
