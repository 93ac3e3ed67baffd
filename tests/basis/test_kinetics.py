"""Kinetic schemes against scipy's matrix exponential, closed forms and quadrature."""

import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad_vec
from scipy.linalg import expm

import varpro as vp
from varpro.basis import build_model
from varpro.basis._matrix_exponential import driven, moves, repeated, states

T = np.concatenate([[0.0], np.geomspace(1e-3, 300.0, 60)])
IRF = vp.GaussianIRF("irf", center=0.3, width=0.2)
SCHEMES = {
    "sequential": {"A->B": 2.0, "B->C": 0.3, "C->": 0.02},
    "equal rates": {"A->B": 0.7, "B->C": 0.7, "C->": 0.7},
    "nearly equal rates": {"A->B": 0.7, "B->C": 0.7 * (1 + 1e-9), "C->": 0.7 * (1 - 1e-7)},
    "branched": {"A->B": 1.0, "A->C": 0.5, "A->": 0.1, "B->": 0.05, "C->B": 3.0},
    "reversible": {"A->B": 2.0, "B->A": 0.4, "B->": 0.1},
    "a turning cycle": {"A->B": 1.0, "B->C": 1.0, "C->A": 1.0, "A->": 0.01},
    "two orders of stiffness": {"A->B": 300.0, "B->A": 200.0, "B->C": 0.01, "C->": 1e-3},
}


def rate_matrix(transfers):
    names = list(dict.fromkeys(n for key in transfers for n in key.split("->") if n))
    k = np.zeros((len(names), len(names)))
    for key, rate in transfers.items():
        a, b = key.split("->")
        k[names.index(a), names.index(a)] -= rate
        if b:
            k[names.index(b), names.index(a)] += rate
    return k


def columns(basis, x=T, dtype=np.float64):
    built = build_model(basis)
    values = jnp.asarray([p.init for p in basis.parameters.values()], dtype)
    return np.asarray(eqx.filter_jit(built.evaluate)(jnp.asarray(x, dtype), values))


@pytest.mark.parametrize("name", SCHEMES)
def test_concentrations_are_the_matrix_exponential(name):
    basis, k = vp.Kinetics("s", SCHEMES[name]), rate_matrix(SCHEMES[name])
    # Turned, for scipy loses digits where a triangular matrix has nearly equal rates.
    turn = np.roll(np.arange(k.shape[0]), 1)
    expected = np.stack([expm(k[np.ix_(turn, turn)] * t)[:, 1] for t in T])[:, np.argsort(turn)]
    np.testing.assert_allclose(columns(basis), expected, rtol=1e-9, atol=2e-13)
    assert basis.column_names == tuple(f"s.{c}" for c in "ABC"[: k.shape[0]])


def test_equal_rates_keep_all_digits_also_of_what_is_tiny():
    chain = {f"{a}->{b}": 1.0 for a, b in zip("ABCDE", "BCDE ", strict=True)}
    chain = {key.strip(): rate for key, rate in chain.items()}
    powers = np.arange(5)
    poisson = T[1:, None] ** powers * np.exp(-T[1:, None]) / np.cumprod(np.r_[1.0, 1:5])
    found = columns(vp.Kinetics("s", chain))[1:]
    np.testing.assert_allclose(found, poisson, rtol=2e-13)


@pytest.mark.parametrize("irf", [None, IRF], ids=["plain", "through a response"])
@pytest.mark.parametrize("name", SCHEMES)
def test_derivatives_are_those_of_central_differences(name, irf):
    basis = vp.Kinetics("s", SCHEMES[name], irf=irf)
    model = build_model(basis)
    values = jnp.array([p.init for p in basis.parameters.values()])
    table = eqx.filter_jit(model.partials)(T, values)
    n, q = len(model.columns), len(model.names)
    dense = np.zeros((T.size, n, q))
    dense[:, table.column, table.parameter] = table.values
    evaluate = eqx.filter_jit(model.evaluate)
    for j, v in enumerate(values):
        up, down = (evaluate(T, values.at[j].add(s * v)) for s in (1e-4, -1e-4))
        np.testing.assert_allclose(dense[:, :, j] * v, (up - down) / 2e-4, atol=5e-8)


@pytest.mark.parametrize("name", ["sequential", "equal rates", "a turning cycle", "reversible"])
def test_through_a_response_they_are_convolved(name):
    x = np.concatenate([np.linspace(-1.5, 4.0, 45), [10.0, 50.0]])
    k, start = rate_matrix(SCHEMES[name]), np.eye(len(rate_matrix(SCHEMES[name])))[0]

    def at(t):
        def integrand(u):
            return expm(k * max(t - 0.3 - 0.2 * u, 0.0)) @ start * np.exp(-0.5 * u * u)

        edge = np.clip((t - 0.3) / 0.2, -10.0, 10.0)
        return quad_vec(integrand, -10.0, edge, epsabs=1e-13)[0] / np.sqrt(2 * np.pi)

    found = columns(vp.Kinetics("s", SCHEMES[name], irf=IRF), x)
    np.testing.assert_allclose(found, [at(t) for t in x], atol=3e-12)


def test_a_parallel_scheme_is_a_sum_of_decays_also_with_period_and_backsweep():
    irf = vp.GaussianIRF(
        "irf", center=0.3, width=0.2, period=40.0, center2=0.5, width2=0.3, weight2=0.4
    )
    swept = vp.GaussianIRF("irf", center=0.3, width=0.2, period=80.0, backsweep=True)
    x = np.linspace(-2.0, 20.0, 200)
    for response in (IRF, irf, swept):
        scheme = vp.Kinetics("s", {"A->": 2.0, "B->": 0.05}, initial={"A": 1, "B": 3}, irf=response)
        decays = vp.Exp("a", rate=2.0, irf=response) + vp.Exp("b", rate=0.05, irf=response)
        found, expected = columns(scheme, x), columns(decays, x) * [1.0, 3.0]
        np.testing.assert_allclose(found, expected, atol=1e-13)


def test_states_may_be_complex_and_defective():
    k = np.array([[-0.1 + 2j, 1.0], [0.0, -0.1 + 2j]])
    start = np.array([0.0, 1.0 + 0j])
    found = jax.jit(lambda k, start, t: states(k, start, t, np.ones(2, bool)))(k, start, T)
    expected = np.exp((-0.1 + 2j) * T)[:, None] * np.stack([T, np.ones_like(T)], 1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_driven_states_and_what_excitations_leave(rng):
    k = rate_matrix(SCHEMES["branched"])
    inflow, known = rng.normal(size=(53, 3)), np.ones(3, bool)
    expected, v = [], np.zeros(3)
    for u in inflow:
        v = expm(0.3 * k) @ v + u
        expected.append(v)

    @jax.jit
    def both(k, inflow):
        found = driven(inflow, lambda s: moves(k, jnp.asarray(0.3 * s), known))
        return found, repeated(k, inflow[0], jnp.asarray(7.0), known)

    found, left = both(k, inflow)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(
        left, np.linalg.solve(np.eye(3) - expm(7 * k), inflow[0]), rtol=1e-12
    )


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_units_do_not_matter(scale, dtype):
    rates = {key: rate / scale for key, rate in SCHEMES["branched"].items()}
    irf = vp.GaussianIRF("irf", center=0.3 * scale, width=0.2 * scale)
    found = columns(vp.Kinetics("s", rates, irf=irf), T * scale, dtype)
    expected = columns(vp.Kinetics("s", SCHEMES["branched"], irf=IRF))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=1e-12 if dtype == np.float64 else 2e-5)


@pytest.mark.parametrize("width", [0.0, 1e-9, 1e3])
def test_nothing_overflows_also_in_derivatives(width):
    basis = vp.Kinetics("s", {"A->B": 1e6, "B->C": 1.0, "C->": 1e-6}, irf=IRF)
    model = build_model(basis)
    values = jnp.array([1e6, 1.0, 1e-6, 0.3, width])
    assert np.isfinite(eqx.filter_jit(model.evaluate)(T, values)).all()
    assert np.isfinite(eqx.filter_jit(model.partials)(T, values).values).all()


@pytest.fixture(scope="module")
def fitted():
    """A fit, and the spectra of its data."""
    rng = np.random.default_rng(int(os.environ.get("VARPRO_TEST_SEED", "0")))
    shared = {"initial": {"A": 0.8, "B": 0.2}, "irf": IRF}
    truth = vp.Kinetics("s", {"A->B": 1.5, "B->A": 0.3, "B->": 0.1}, **shared)
    x = np.concatenate([np.linspace(-1.0, 3.0, 60), np.geomspace(3.2, 60.0, 40)])
    spectra = rng.uniform(0.5, 2.0, (2, 30))
    y = columns(truth, x) @ spectra + 0.01 * rng.normal(size=(x.size, 30))
    rates = {"A->B": 1.0, "B->A": vp.Param(0.3, fixed=True), "B->": 0.2}
    return vp.fit(vp.Kinetics("s", rates, **shared), x, y), spectra


def test_a_fit_finds_rates_and_spectra_in_order(fitted):
    fit, spectra = fitted
    for name, value in (("s.A->B", 1.5), ("s.B->", 0.1), ("irf.width", 0.2)):
        assert abs(fit[name].value - value) < 4 * fit[name].stderr
    np.testing.assert_allclose(fit.coef, spectra, atol=0.15)


def test_a_saved_scheme_is_read_back(fitted, tmp_path):
    fit, _ = fitted
    fit.save(tmp_path / "fit.nc")
    back = vp.load(tmp_path / "fit.nc")
    assert back.equals(fit)
    np.testing.assert_array_equal(back.predict(T), fit.predict(T))


@pytest.mark.parametrize("name", ["sequential", "branched", "reversible", "a turning cycle"])
def test_modes_are_the_decays_of_the_concentrations(name):
    basis = vp.Kinetics("s", SCHEMES[name])
    rates, amplitudes = basis.modes({f"s.{key}": rate for key, rate in SCHEMES[name].items()})
    found = np.exp(-T[:, None] * rates) @ amplitudes.T
    np.testing.assert_allclose(found.real, columns(basis), atol=1e-12)
    np.testing.assert_allclose(found.imag, 0.0, atol=1e-12)
    assert (np.diff(rates.real) <= 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vp.Kinetics("s", {}), "needs transfers"),
        (lambda: vp.Kinetics("s", {"AB": 1.0}), "'AB' must read 'A->B'"),
        (lambda: vp.Kinetics("s", {"A->A": 1.0}), "must read"),
        (lambda: vp.Kinetics("s", {"->A": 1.0}), "must read"),
        (lambda: vp.Kinetics("s", {"a.b->C": 1.0}), "without blanks, dots"),
        (lambda: vp.Kinetics("s", {"A->B->C": 1.0}), "must read"),
        (lambda: vp.Kinetics("s", {"A->B": 1.0}, initial={"C": 1.0}), "compartment 'C'"),
        (lambda: vp.Kinetics("s", {"A->B": 1.0}, initial={"A": 0.0}), "not all zero"),
        (lambda: vp.fit(vp.Kinetics("s", {"A->B": 1.0}), T - 1.0, T), "needs x >= 0"),
        (lambda: vp.Kinetics("s", {"A->B": 1.0, "B->": 2.0}).modes({"A->B": 1.0}), "'B->'"),
        (
            lambda: vp.Kinetics("s", {"A->B": 1.0, "B->": 1.0}).modes({"A->B": 1.0, "B->": 1.0}),
            "equal rates",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(vp.InputError, match=message):
        make()


def test_a_scheme_can_be_differentiated_backwards_and_twice():
    model = build_model(vp.Kinetics("s", SCHEMES["equal rates"], irf=IRF))

    def total(v):
        return jnp.sum(model.evaluate(T, v) ** 2)

    values = jnp.array([0.7, 0.7, 0.7, 0.3, 0.2])
    both = jax.jit(lambda v: jax.jvp(jax.grad(total), (v,), (jnp.ones(5),)))
    by_difference = both(values + 1e-5)[0] - both(values - 1e-5)[0]
    np.testing.assert_allclose(both(values)[1], by_difference / 2e-5, rtol=1e-6)
