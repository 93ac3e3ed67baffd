"""Components seen through an instrument's response."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.signal import fftconvolve
from test_published import assert_as_printed

import varpro as vp
from varpro.basis import build_model

T = np.linspace(-2.0, 20.0, 400)
IRF = vp.GaussianIRF("irf", center=0.3, width=0.2)


def columns(basis, x=T, dtype=np.float64):
    built = build_model(basis)
    params = {p.parameter_name(k): v for p in basis.parts for k, v in p.parameters.items()}
    values = jnp.asarray([params[name].init for name in built.names], dtype)
    return np.asarray(eqx.filter_jit(built.evaluate)(jnp.asarray(x, dtype), values))


def convolved(f, center, width, x=T):
    """The convolution on a fine grid."""
    step = 1e-3
    grid = np.arange(x[0] - 6.0, x[-1] + step, step)
    decay = np.where(grid - grid[0] > 0, f(grid - grid[0]), 0.0)
    decay[0] = 0.5 * f(0.0)  # the trapezoidal rule
    bell = np.exp(-0.5 * ((grid - center) / width) ** 2) / width / np.sqrt(2 * np.pi)
    return np.interp(x, grid, fftconvolve(bell, decay)[: grid.size] * step)


def test_a_decay_is_convolved_and_parameters_are_shared():
    model = vp.Exp("fast", tau=0.5, irf=IRF) + vp.Exp("slow", rate=0.2, irf=IRF) + vp.Constant("bg")
    assert build_model(model).names == ("fast.tau", "irf.center", "irf.width", "slow.rate")
    phi = columns(model)
    for i, rate in enumerate((2.0, 0.2)):
        expected = convolved(lambda s, k=rate: np.exp(-k * s), 0.3, 0.2)
        np.testing.assert_allclose(phi[:, i], expected, atol=2e-6)


def test_decays_of_one_form_are_one_group_whose_table_is_sparse():
    model = sum(vp.Exp(f"e{i}", tau=1.0 + i, irf=IRF) for i in range(5))
    built = build_model(model)
    assert len(built.groups) == 1
    values = jnp.array(
        [{"tau": 1.0 + int(n[1])}.get(n[3:], 0.25) if n[0] == "e" else 0.25 for n in built.names]
    )
    table = eqx.filter_jit(built.partials)(jnp.asarray(T), values)
    assert table.values.shape == (T.size, 15)
    jac = jax.jit(jax.jacfwd(lambda v: built.evaluate(jnp.asarray(T), v)))(values)
    dense = np.zeros(jac.shape)
    for k, (c, p) in enumerate(zip(table.column, table.parameter, strict=True)):
        dense[:, c, p] += table.values[:, k]
    np.testing.assert_allclose(dense, jac, atol=1e-13)


def test_fwhm_and_several_gaussians():
    wide = vp.GaussianIRF("irf", center=0.3, fwhm=0.2 * np.sqrt(8 * np.log(2)))
    np.testing.assert_allclose(
        columns(sum([vp.Exp("a", tau=1.0, irf=wide)], vp.Constant("c"))),
        columns(sum([vp.Exp("a", tau=1.0, irf=IRF)], vp.Constant("c"))),
        rtol=1e-12,
    )
    two = vp.GaussianIRF("irf", center=0.3, width=0.2, center2=1.5, width2=0.4, weight2=0.5)
    phi = columns(vp.Exp("a", tau=1.0, irf=two) + vp.Constant("c"))
    parts = [
        columns(vp.Exp("a", tau=1.0, irf=vp.GaussianIRF("i", center=c, width=w)) + vp.Constant("c"))
        for c, w in ((0.3, 0.2), (1.5, 0.4))
    ]
    np.testing.assert_allclose(phi[:, 0], (parts[0] + 0.5 * parts[1])[:, 0] / 1.5, rtol=1e-12)


def test_what_earlier_excitations_left_is_their_sum():
    period = 25.0
    pulsed = vp.GaussianIRF("irf", center=0.3, width=0.2, period=period)
    model = vp.Exp("a", tau=20.0, irf=pulsed) + vp.Constant("c")
    expected = sum(
        columns(vp.Exp("a", tau=20.0, irf=IRF) + vp.Constant("c"), T + n * period)[:, 0]
        for n in range(40)
    )
    np.testing.assert_allclose(columns(model)[:, 0], expected, rtol=1e-12)
    params = {n: p for part in model.parts for n, p in part.parameters.items()}
    assert params["irf.period"].fixed


def test_a_sweep_back_is_that_of_timp():
    period, k = 60.0, 0.02
    swept = vp.GaussianIRF("irf", center=0.3, width=0.2, period=period, backsweep=True)
    found = columns(vp.Exp("a", rate=k, irf=swept) + vp.Constant("c"))[:, 0]
    once = columns(vp.Exp("a", rate=k, irf=IRF) + vp.Constant("c"))[:, 0]
    t = T - 0.3
    more = (np.exp(-k * (t + period)) + np.exp(-k * (period / 2 - t))) / (1 - np.exp(-k * period))
    np.testing.assert_allclose(found, once + more, rtol=1e-12)


def test_a_coherent_artifact_is_the_response_and_its_derivatives():
    phi = columns(vp.CoherentArtifact("spike", irf=IRF, order=3) + vp.Constant("c"))

    def bell(t):
        return jnp.exp(-0.5 * ((t - 0.3) / 0.2) ** 2)

    first, second = jax.grad(bell), jax.grad(jax.grad(bell))
    expected = [
        jax.jit(jax.vmap(f))(jnp.asarray(T)) * 0.2**i for i, f in enumerate((bell, first, second))
    ]
    np.testing.assert_allclose(phi[:, :3], np.stack(expected, axis=1), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nothing_overflows_also_in_derivatives(dtype):
    swept = vp.GaussianIRF("irf", center=0.3, width=1.0, period=100.0, backsweep=True)
    built = build_model(
        vp.Exp("a", tau=1.0, irf=swept) + vp.CoherentArtifact("s", irf=swept, order=3)
    )
    x = jnp.asarray(T, dtype)
    curves = jax.jit(
        lambda v: (built.evaluate(x, v), jax.jacfwd(lambda v: built.evaluate(x, v))(v))
    )
    for tau in (1e-6, 1.0, 1e6):
        for width in (1e-6, 1.0, 1e3):
            for found in curves(jnp.asarray([tau, 0.3, width, 100.0], dtype)):
                assert np.isfinite(found).all(), (tau, width)


def test_r_s_timp_with_a_gaussian_response():
    problem = oracles.load("timp_two_decays_response")
    start = dict(zip(problem.parameters, problem.starts[0], strict=True))
    irf = vp.GaussianIRF("irf", center=start["center"], width=start["width"])
    model = vp.Exp("a", rate=start["k1"], irf=irf) + vp.Exp("b", rate=start["k2"], irf=irf)
    fit = vp.fit(model, problem.x, problem.y)
    assert fit.success and fit.dof == problem.dof
    found = [fit[name] for name in ("irf.center", "irf.width", "a.rate", "b.rate")]
    for one, printed in zip(found, problem.published["values"], strict=True):
        assert_as_printed(one.value, printed)
    # Its derivatives are by differences: 2.605e-5 for what is 2.6045e-5.
    np.testing.assert_allclose([one.stderr for one in found], problem.certified_sd, rtol=3e-4)
    assert_as_printed(fit.sigma_resid, problem.published["rsd"])


def test_a_response_found_in_noisy_data_with_lifetimes_that_have_no_start():
    rng = np.random.default_rng(0)
    truth = columns(vp.Exp("a", tau=0.8, irf=IRF) + vp.Exp("b", tau=6.0, irf=IRF))
    y = truth @ [2.0, 1.0] + 0.005 * rng.normal(size=T.size)
    irf = vp.GaussianIRF("irf", center=0.1, width=0.3)
    fit = vp.fit(vp.Exp("a", irf=irf) + vp.Exp("b", irf=irf), T, y)
    for name, value in (("irf.center", 0.3), ("irf.width", 0.2), ("a.tau", 0.8), ("b.tau", 6.0)):
        assert abs(fit[name].value - value) < 4 * fit[name].stderr
    pixels = vp.fit_many(vp.Exp("a", tau=1.0, irf=irf) + vp.Exp("b", tau=5.0, irf=irf), T, y[None])
    np.testing.assert_allclose(pixels.alpha[0], fit.alpha, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vp.GaussianIRF("irf", width=1.0), "needs center"),
        (lambda: vp.GaussianIRF("irf", center=0.0), "either width or fwhm"),
        (lambda: vp.GaussianIRF("irf", center=0.0, width=1.0, backsweep=True), "the period"),
        (lambda: vp.GaussianIRF("irf", center=0.0, width=1.0, center2=1.0), "weight2"),
        (lambda: vp.CoherentArtifact("s"), "needs irf"),
        (lambda: vp.CoherentArtifact("s", irf=IRF, order=4), "order 1 to 3"),
        (
            lambda: vp.fit(
                vp.Exp("a", tau=1.0, irf=IRF)
                + vp.Exp("b", tau=3.0, irf=vp.GaussianIRF("irf", center=0.5, width=0.2)),
                *(T, T),
            ),
            "Two responses give a parameter the name 'irf.center'",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(vp.InputError, match=message):
        make()
