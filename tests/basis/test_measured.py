"""What is seen through a measured response, against quadrature cell by cell."""

import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import varpro as vp
from varpro.basis import build_model

T = np.arange(40) * 0.1 - 1.0
# Rough on purpose, and not zero at its ends.
Y = np.exp(-0.5 * (T / 0.3) ** 2) * (1 + 0.4 * np.sin(37.0 * np.arange(T.size))) + 0.02
SHIFT = 0.037
IRF = vp.MeasuredIRF("irf", T, Y, shift=SHIFT)
FORMS = {
    "exp": (vp.Exp("a", tau=0.5, irf=IRF), [lambda v: np.exp(-v / 0.5)]),
    "an instant": (vp.Exp("a", tau=1e-5, irf=IRF), [lambda v: np.exp(-v / 1e-5)]),
    "forever": (vp.Exp("a", rate=0.0, irf=IRF), [lambda v: 1.0]),
    "stretched": (
        vp.StretchedExp("a", tau=0.5, beta=0.6, irf=IRF),
        [lambda v: np.exp(-((v / 0.5) ** 0.6))],
    ),
    "compressed": (
        vp.StretchedExp("a", tau=0.5, beta=1.7, irf=IRF),
        [lambda v: np.exp(-((v / 0.5) ** 1.7))],
    ),
    "oscillation": (
        vp.Oscillation("a", freq=0.9, tau=2.0, irf=IRF),
        [lambda v, f=f: f(2 * np.pi * 0.9 * v) * np.exp(-v / 2) for f in (np.cos, np.sin)],
    ),
    "undamped": (
        vp.Oscillation("a", freq=0.9, irf=IRF),
        [lambda v, f=f: f(2 * np.pi * 0.9 * v) for f in (np.cos, np.sin)],
    ),
    "oscillation of Gaussian envelope": (
        vp.Oscillation("a", freq=0.9, tau=1.0, envelope="gaussian", irf=IRF),
        [lambda v, f=f: f(2 * np.pi * 0.9 * v) * np.exp(-(v**2) / 2) for f in (np.cos, np.sin)],
    ),
    "equal rates": (
        vp.Kinetics("a", {"A->B": 2.0, "B->": 2.0}, irf=IRF),
        [lambda v: np.exp(-2 * v), lambda v: 2 * v * np.exp(-2 * v)],
    ),
}


def columns(basis, x, dtype=np.float64):
    built = build_model(basis)
    parts = getattr(basis, "parts", (basis,))
    params = {p.parameter_name(k): v for p in parts for k, v in p.parameters.items()}
    values = jnp.asarray([params[name].init for name in built.names], dtype)
    found = eqx.filter_jit(built.evaluate)(jnp.asarray(x, dtype), values)
    return np.asarray(found)[:, list(built.order)]


def convolved(f, x, shift=SHIFT):
    """The response as straight lines between its samples and zero one spacing beyond, times f."""
    at = np.r_[T[0] - 0.1, T, T[-1] + 0.1]
    of = np.r_[0.0, Y / Y.sum() / 0.1, 0.0]
    out = []
    for end in x - shift:
        edges = np.r_[at[at < end], end]
        cells = zip(edges[:-1], edges[1:], strict=True)
        # v = w^2 below: smooth where a stretched decay begins.
        parts = [
            quad(
                lambda w, e=end: 2 * w * np.interp(e - w * w, at, of) * f(w * w),
                *np.sqrt([end - b, end - a]),
                epsabs=1e-14,
            )[0]
            for a, b in cells
        ]
        out.append(sum(parts))
    return np.array(out)


@pytest.mark.parametrize("name", FORMS)
def test_on_its_own_grid_everything_is_convolved_exactly(name):
    basis, forms = FORMS[name]
    expected = np.stack([convolved(f, T) for f in forms], axis=1)
    np.testing.assert_allclose(columns(basis, T), expected, atol=2e-13)


@pytest.mark.parametrize("name", FORMS)
def test_x_may_be_any(name):
    basis, forms = FORMS[name]
    x = np.array([2.93, -5.0, -0.83, 0.1, 0.111, 3.1, 4.0, 6.5])
    expected = np.stack([convolved(f, x) for f in forms], axis=1)
    # What is interpolated by cubics is not exact where the response is rough.
    rough = name in ("stretched", "compressed", "oscillation of Gaussian envelope")
    np.testing.assert_allclose(columns(basis, x), expected, atol=1e-3 if rough else 2e-13)


@pytest.mark.parametrize("name", FORMS)
def test_derivatives_are_those_of_central_differences(name):
    basis = FORMS[name][0]
    model = build_model(basis)
    values = jnp.array([p.init for p in basis.parameters.values()])
    x = T + 0.004
    evaluate, table = eqx.filter_jit(model.evaluate), eqx.filter_jit(model.partials)(x, values)
    dense = np.zeros((x.size, len(model.columns), values.size))
    dense[:, table.column, table.parameter] = table.values
    for j, v in enumerate(np.asarray(values)):
        step = 1e-5 * (abs(v) or 1.0)
        up, down = (evaluate(x, values.at[j].add(s)) for s in (step, -step))
        np.testing.assert_allclose(dense[:, :, j], (up - down) / (2 * step), atol=2e-7)


@pytest.mark.parametrize("period", [4.2, 4.23, 20.0])
def test_earlier_excitations_are_added_and_shifts_wrap_around(period):
    pulsed = vp.MeasuredIRF("irf", T, Y, shift=SHIFT, period=period)
    x = T[0] + SHIFT + 0.1 * np.arange(42) - 0.05

    def model(irf):
        return (
            vp.Exp("a", tau=5.0, irf=irf)
            + vp.Oscillation("o", freq=0.3, tau=3.0, irf=irf)
            + vp.StretchedExp("s", tau=0.7, beta=0.8, irf=irf)
        )

    later = (x + period * np.arange(-1, 60)[:, None]).ravel()
    once = columns(model(IRF).parts[0] + model(IRF).parts[1], later)
    once = once.reshape(61, x.size, -1).sum(axis=0)
    found = columns(model(pulsed), x)
    np.testing.assert_allclose(found[:, :3], once, atol=1e-12)
    stretched = sum(
        convolved(lambda v: np.exp(-((v / 0.7) ** 0.8)), x + n * period) for n in range(-1, 6)
    )
    np.testing.assert_allclose(found[:, 3], stretched, atol=2e-3)
    assert pulsed.parameters["irf.period"].fixed


def test_decays_through_one_response_are_one_group():
    model = build_model(sum(vp.Exp(f"e{i}", tau=1.0 + i, irf=IRF) for i in range(5)))
    assert len(model.groups) == 1
    two = vp.MeasuredIRF("irf", T, Y + 1.0, shift=SHIFT)
    assert (
        len(build_model(vp.Exp("a", tau=1.0, irf=IRF) + vp.Exp("b", tau=1.0, irf=two)).groups) == 2
    )


def test_a_background_is_subtracted_and_can_be_estimated(rng):
    clean = 1000 * np.exp(-0.5 * ((T - 0.5) / 0.15) ** 2)
    counts = rng.poisson(clean + 7.0)
    guess = vp.MeasuredIRF("irf", T, counts, background="estimate")
    assert abs(guess.background - 7.0) < 3.0
    known = vp.MeasuredIRF("irf", T, clean + 7.0, background=7.0)
    bare = vp.MeasuredIRF("irf", T, clean)
    found, expected = (columns(vp.Exp("a", tau=1.0, irf=i), T) for i in (known, bare))
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.fixture(scope="module")
def counted():
    """x and photon counts, the model, and its fit."""
    rng = np.random.default_rng(int(os.environ.get("VARPRO_TEST_SEED", "0")))
    t = np.arange(512) * 0.05
    prompt = rng.poisson(2e4 * np.exp(-0.5 * ((t - 2.0) / 0.12) ** 2) + 3.0)
    irf = vp.MeasuredIRF("irf", t, prompt, shift=0.0, background="estimate", period=25.6)
    model = vp.Exp("a", tau=0.6, irf=irf) + vp.Exp("b", tau=4.0, irf=irf) + vp.Constant("bg")
    moved = vp.MeasuredIRF("irf", t, prompt, shift=0.083, background="estimate", period=25.6)
    truth = vp.Exp("a", tau=0.5, irf=moved) + vp.Exp("b", tau=3.5, irf=moved) + vp.Constant("bg")
    y = rng.poisson(columns(truth, t) @ [6e3, 4e3, 5.0])
    return t, y, irf, vp.fit(model, t, y, noise="poisson")


def test_photon_counts_give_back_their_lifetimes(counted):
    t, y, irf, fit = counted
    assert fit.success and 0.8 < fit.chisq / fit.dof < 1.2
    for name, value in (("a.tau", 0.5), ("b.tau", 3.5), ("irf.shift", 0.083), ("bg", 5.0)):
        assert abs(fit[name].value - value) < 4 * fit[name].stderr
    found = vp.fit(
        vp.Exp("a", irf=irf) + vp.Exp("b", irf=irf) + vp.Constant("bg"), t, y, noise="poisson"
    )
    np.testing.assert_allclose(found.alpha, fit.alpha, rtol=1e-3, atol=1e-3)


def test_single_precision():
    basis = vp.Exp("a", tau=0.5, irf=IRF) + vp.StretchedExp("s", tau=0.5, beta=0.6, irf=IRF)
    found = columns(basis, T, np.float32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, columns(basis, T), atol=3e-5)


def test_a_saved_fit_keeps_the_response(counted, tmp_path):
    t, _, _, fit = counted
    fit.save(tmp_path / "fit.nc")
    back = vp.load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(back.predict(t), fit.predict(t))
    assert back.equals(fit)


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.6])
def test_stretched_decays_through_gaussians(beta):
    irf = vp.GaussianIRF("irf", center=0.3, width=0.2)
    x = np.concatenate([np.linspace(-1.0, 4.0, 40), [20.0]])

    def at(t):
        def integrand(w):
            bell = np.exp(-0.5 * ((t - 0.3 - w * w) / 0.2) ** 2) / 0.2 / np.sqrt(2 * np.pi)
            return 2 * w * np.exp(-((w * w / 0.5) ** beta)) * bell

        low, high = np.sqrt(np.maximum([t - 0.3 - 2.4, t - 0.3 + 2.4], 0.0))
        return quad(integrand, low, high, epsabs=1e-14, limit=200)[0]

    found = columns(vp.StretchedExp("a", tau=0.5, beta=beta, irf=irf), x)[:, 0]
    np.testing.assert_allclose(found, [at(t) for t in x], atol=1e-12)
    pulsed = vp.GaussianIRF("irf", center=0.3, width=0.2, period=5.0)
    train = sum(
        columns(vp.StretchedExp("a", tau=0.5, beta=beta, irf=irf), x + 5.0 * n)[:, 0]
        for n in range(50)
    )
    found = columns(vp.StretchedExp("a", tau=0.5, beta=beta, irf=pulsed), x)[:, 0]
    np.testing.assert_allclose(found, train, atol=1e-9)


def test_an_oscillation_through_a_gaussian_is_damped_by_it():
    irf = vp.GaussianIRF("irf", center=0.3, width=0.2)
    x = np.linspace(1.9, 6.0, 50)
    found = columns(vp.Oscillation("a", freq=0.9, tau=2.0, irf=irf), x)
    rate = 0.5 - 2j * np.pi * 0.9
    late = np.exp(-rate * (x - 0.3) + 0.5 * (rate * 0.2) ** 2)
    np.testing.assert_allclose(found, np.stack([late.real, late.imag], 1), atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vp.MeasuredIRF("irf", T[::-1], Y), "uniform and ascending"),
        (lambda: vp.MeasuredIRF("irf", np.r_[T[:-1], 9.0], Y), r"x\[38\] = 2.8 is followed by 9"),
        (lambda: vp.MeasuredIRF("irf", T, Y[:-1]), r"of one length, .* \(40,\) and \(39,\)"),
        (lambda: vp.MeasuredIRF("irf", T, Y * np.nan), "not finite"),
        (lambda: vp.MeasuredIRF("irf", T, -Y), "area is not positive"),
        (lambda: vp.MeasuredIRF("irf", T, Y, background="min"), "'min'"),
        (lambda: vp.MeasuredIRF("irf", T, Y, period=1.0), "the period 1 is below the length"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(vp.InputError, match=message):
        make()


def test_scatter_has_the_shape_of_the_response():
    x = np.linspace(-1.5, 3.5, 60)
    found = columns(vp.CoherentArtifact("s", irf=IRF, order=2), x)
    nodes, padded = np.r_[T[0] - 0.1, T, T[-1] + 0.1] + SHIFT, np.pad(Y / Y.max(), 1)
    for j, shape in enumerate((padded, np.gradient(padded))):
        np.testing.assert_allclose(found[:, j], np.interp(x, nodes, shape, 0, 0), atol=1e-12)


def test_times_may_be_rounded_as_they_are_printed():
    printed = np.round(np.arange(400) * 50 / 1024, 4)
    irf = vp.MeasuredIRF("irf", printed, np.exp(-printed))
    exact = vp.MeasuredIRF("irf", np.arange(400) * 50 / 1024, np.exp(-printed))
    x = np.array([1.0, 7.0, 19.0])
    seen = [columns(vp.Exp("a", tau=2.0, irf=one), x) for one in (irf, exact)]
    np.testing.assert_allclose(*seen, rtol=1e-4)
    with pytest.raises(vp.InputError, match="uniform and ascending"):
        vp.MeasuredIRF("irf", np.delete(printed, 200), np.exp(-np.delete(printed, 200)))


def test_the_derivative_by_the_shift_is_continuous_where_it_crosses_a_sample():
    model = build_model(vp.Exp("a", tau=0.5, irf=IRF))
    slope = jax.jit(jax.jacfwd(lambda s: model.evaluate(T, jnp.stack([jnp.asarray(0.5), s]))))
    np.testing.assert_allclose(slope(0.1 - 1e-9), slope(0.1 + 1e-9), atol=1e-6)
