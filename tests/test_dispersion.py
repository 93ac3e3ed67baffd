"""Responses whose time zero and width depend on the wavelength, against a dense problem of all parameters and
against one data set for each wavelength."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.optimize import least_squares
from scipy.special import erfc

import varpro as vp
from varpro._problem.data import prepare_data
from varpro._problem.noise import NORMAL
from varpro._problem.options import Constraints, Weighting
from varpro._problem.side_groups import laid_out
from varpro._reduced.by_group import ByGroup, reduction
from varpro._search.minimise import search
from varpro._search.multistart import Multistart
from varpro._single.ready import ready
from varpro.basis import at_wavelengths, build_model

NM = np.array([430.0, 470.0, 500.0, 545.0, 580.0, 620.0, 665.0])
T = np.r_[np.linspace(-1.2, 1.8, 76), np.geomspace(2.0, 40.0, 16)]
U = (NM - 500.0) / 100.0
TRUTH = {
    **{"fast.tau": 0.7, "slow.tau": 9.0, "irf.center": 0.25, "irf.width": 0.12},
    **{"irf.center_dispersion1": 0.4, "irf.center_dispersion2": -0.1},
    "irf.width_dispersion1": 0.03,
}
SPECTRA = np.stack(
    [np.cos(2 * U) + 0.3, 2.0 - np.sin(U) ** 2 - U / 3, 0.4 * np.exp(-(U**2))]
)  # of fast, slow and the artifact


def columns(fast, slow, center, width, t=T):
    """The two decays and the artifact, by a formula of our own, and their derivatives by the four."""
    t, s = t - center, width
    bell = np.exp(-0.5 * (t / s) ** 2)
    phi, slopes = [], np.zeros((t.size, 3, 4))
    for i, tau in enumerate((fast, slow)):
        k = 1 / tau
        f = 0.5 * np.exp((k * s) ** 2 / 2 - k * t) * erfc((k * s - t / s) / np.sqrt(2))
        phi.append(f)
        slopes[:, i, i] = ((k * s**2 - t) * f - s * bell / np.sqrt(2 * np.pi)) * -(k**2)
        slopes[:, i, 2] = k * f - bell / s / np.sqrt(2 * np.pi)
        slopes[:, i, 3] = k**2 * s * f - bell * (k + t / s**2) / np.sqrt(2 * np.pi)
    slopes[:, 2, 2], slopes[:, 2, 3] = bell * t / s**2, bell * t**2 / s**3
    return np.stack([*phi, bell], axis=1), slopes


def dense(z):
    """Curves (m, k) for all parameters, seven in the order of TRUTH and the coefficients (3, k), and their
    derivatives by all of them (m k, p)."""
    fast, slow, center, width, d1, d2, w1 = z[:7]
    coef, k = z[7:].reshape(3, -1), NM.size
    curve, jac = np.zeros((T.size, k)), np.zeros((T.size, k, z.size))
    for j, u in enumerate(U):
        phi, slopes = columns(fast, slow, center + d1 * u + d2 * u**2, width + w1 * u)
        curve[:, j] = phi @ coef[:, j]
        by = np.einsum("mnp,n->mp", slopes, coef[:, j])
        jac[:, j, :4] = by
        jac[:, j, 4:7] = by[:, [2, 2, 3]] * [u, u**2, u]
        jac[:, j, 7 + j :: k] = phi
    return curve, jac.reshape(-1, z.size)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    clean, _ = dense(np.r_[list(TRUTH.values()), SPECTRA.ravel()])
    return clean + 0.004 * rng.normal(size=clean.shape)


def model(**changes):
    given: dict = {
        **{"center": 0.22, "width": 0.1, "center_dispersion": [0.35, -0.05]},
        **{"width_dispersion": 0.0, "dispersion_center": 500.0},
    }
    irf = vp.GaussianIRF("irf", **(given | changes))
    decays = vp.Exp("fast", tau=0.5, irf=irf) + vp.Exp("slow", tau=6.0, irf=irf)
    return decays + vp.CoherentArtifact("spike", irf=irf)


@pytest.fixture(scope="module")
def fit(data):
    labelled = xr.DataArray(data, dims=("time", "wavelength"), coords={"wavelength": NM})
    tight = vp.LevenbergMarquardt(ftol=1e-15, xtol=1e-12, gtol=1e-12)
    return vp.fit(model(), T, labelled, solver=tight)


def test_the_fit_is_that_of_a_dense_problem_of_all_parameters(fit, data):
    assert fit.success and not fit.diagnostics
    p, size = len(TRUTH), SPECTRA.size

    def resid(z):
        return (dense(z)[0] - data).ravel()

    start = np.r_[0.5, 6.0, 0.22, 0.1, 0.35, -0.05, 0.0, np.ones(size)]
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    best = least_squares(resid, start, jac=lambda z: dense(z)[1], method="lm", **tight)
    names = list(TRUTH)
    found = np.array([fit[name].value for name in names])
    np.testing.assert_allclose(found, best.x[:p], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(fit.coef.ravel(), best.x[p:], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(fit.chisq, 2 * best.cost, rtol=1e-12)
    dof = data.size - p - size
    assert fit.dof == dof
    cov = np.linalg.inv(best.jac.T @ best.jac) * fit.chisq / dof
    error = np.sqrt(np.diag(cov))
    ours = np.array([fit[name].stderr for name in names])
    np.testing.assert_allclose(ours, error[:p], rtol=1e-5)
    np.testing.assert_allclose(fit.coef_stderr.ravel(), error[p:], rtol=1e-5)
    for name, truth in TRUTH.items():
        assert abs(fit[name].value - truth) < 4 * fit[name].stderr, name
    # The curve, its parts and its band, with the errors of all parameters.
    np.testing.assert_allclose(fit.predict(), fit.fitted, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(fit.fitted, dense(best.x)[0], atol=1e-8)
    np.testing.assert_allclose(sum(fit.components().values()), fit.fitted, atol=1e-12)
    band = fit.predict(band=0.9)
    spread = np.sqrt(np.einsum("ip,pq,iq->i", best.jac, cov, best.jac)).reshape(data.shape)
    np.testing.assert_allclose(band.stderr, spread, rtol=1e-5, atol=1e-9)
    parts = fit.component_bands(T[:9], band=0.9)
    np.testing.assert_allclose(parts["slow"].value, fit.components(T[:9])["slow"], atol=1e-12)


def test_results_know_names_and_wavelengths_and_come_back_from_files(fit, tmp_path):
    frame = fit.to_frame()
    assert set(TRUTH) <= set(frame["name"]) and "wavelength" in frame
    content = fit.to_dataset()
    assert content["components"].shape == (3, T.size, NM.size)
    np.testing.assert_array_equal(content["wavelength"], NM)
    assert "irf.center_dispersion2" in fit.report()
    fit.save(tmp_path / "fit.nc")
    again = vp.load(tmp_path / "fit.nc")
    assert again == fit
    np.testing.assert_array_equal(again.predict(), fit.predict())
    np.testing.assert_array_equal(
        vp.load(tmp_path / "fit.nc", model=model()).predict(), fit.predict()
    )
    ratio = fit.derive(
        "irf.center + 1.65 * irf.center_dispersion1 + 2.7225 * irf.center_dispersion2"
    )
    away = np.abs(ratio.value - (0.25 + 0.4 * 1.65 - 0.1 * 1.65**2))
    assert np.all(away < 4 * ratio.stderr)
    for figure in (fit.plot(), fit.plot_components(), fit.plot_residuals()):
        assert figure.axes


def test_profiles_and_the_bootstrap_refit_every_wavelength(fit):
    names = ["irf.center_dispersion1", "slow"]
    wald = fit.ci(0.68, names=names, rhs=[2])
    profile = fit.ci(0.68, "profile", names=names, rhs=[2])
    # Not far from straight: the interval of the likelihood is that of the covariance, to a fifth.
    half = 0.5 * (wald.upper - wald.lower)
    np.testing.assert_allclose(wald.value - profile.lower, half, rtol=0.2)
    np.testing.assert_allclose(profile.upper - wald.value, half, rtol=0.2)
    drawn = fit.bootstrap(64, key=1)
    assert drawn.failed == 0
    # 64 draws tell a standard deviation to a tenth; three of these.
    ours = [fit[name].stderr for name in TRUTH]
    np.testing.assert_allclose([drawn.stderr[name] for name in TRUTH], ours, rtol=0.35)


def test_the_jacobian_is_that_of_central_differences(data):
    labelled = pd.DataFrame(data, columns=NM.astype(str))
    weighting = Weighting(sigma=np.linspace(1.0, 2.0, T.size))
    some = prepare_data(T, labelled, weighting)
    made = ready(model(), some, Constraints(), Multistart(search(jacobian="full")), NORMAL)
    problem = made.problem(some, made.linear)
    reduced = reduction(problem, vp.linalg.SVD(), "full")
    assert isinstance(reduced, ByGroup) and problem.groups[0].shape == (NM.size, 1)

    @jax.jit
    def at(alpha):
        rows, point = reduced.evaluate(alpha)
        turned, resid = reduced.rotated(alpha, point)
        return rows, reduced.jacobian(alpha, point), turned.T @ resid, turned.T @ turned

    alpha = np.asarray(made.coordinates.start)
    rows, jac, gradient, gram = at(alpha)
    for i, step in enumerate(1e-5 * np.eye(alpha.size)):
        slope = (at(alpha + step)[0] - at(alpha - step)[0]) / 2e-5
        # Differences of 1e-5 err by 1e-10 of the third derivative.
        np.testing.assert_allclose(jac[:, i], slope, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(gradient, jac.T @ rows, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(gram, jac.T @ jac, rtol=1e-8, atol=1e-8)


# Times zero of the wavelengths, of which some are equal: three bases of one, two of two.
DELAY = np.array([-0.3, -0.1, 0.0, 0.2, 0.2, 0.35, -0.1])


@pytest.fixture(scope="module")
def shifted():
    """Counts on shifted axes: one data set for each time zero."""
    rng = np.random.default_rng(8)
    clean = [
        columns(0.7, 9.0, 0.25 + d, 0.12)[0] @ [40.0, 20.0 + j, 0.0] for j, d in enumerate(DELAY)
    ]
    return rng.poisson(np.stack(clean, axis=1) + 1.0).astype(float)


def on_shifted_axes(z, delay):
    """Curves (m, k) of two decays over a dark count, each on an axis of its own, and their derivatives (m k, p) by
    both lifetimes, centre, width and the coefficients (3, k)."""
    coef, k = z[4:].reshape(3, -1), len(delay)
    curve, jac = np.zeros((T.size, k)), np.zeros((T.size, k, z.size))
    for j, d in enumerate(delay):
        phi, slopes = columns(*z[:4], t=T - d)
        phi[:, 2] = 1.0
        curve[:, j] = phi @ coef[:, j]
        jac[:, j, :4] = np.einsum("mnp,n->mp", slopes[:, :2], coef[:2, j])
        jac[:, j, 4 + j :: k] = phi
    return curve, jac.reshape(-1, z.size)


def best_on_shifted_axes(y, delay, counts, free):
    """Values (p,), standard errors and half of chi-square at the optimum, by steps of scoring from the truth."""
    start = np.stack([[40.0, 20.0 + j, 1.0] for j in range(y.shape[1])], axis=1)
    z = np.r_[0.7, 9.0, 0.25, 0.12, start.ravel()]
    z[~free] = 0.0
    # Where nothing was counted so small a share of the mean stands for it, that no mean is below zero.
    told = np.maximum(y, np.finfo(float).eps ** 0.5 * y.mean(axis=0)) if counts else y
    for _ in range(60):
        curve, jac = on_shifted_axes(z, delay)
        weight = 1 / curve.ravel() if counts else np.ones(y.size)
        gram = jac[:, free].T @ (weight[:, None] * jac[:, free])
        step = np.linalg.solve(gram, jac[:, free].T @ (weight * (told - curve).ravel()))
        z[free] += step
        if np.abs(step / np.sqrt(np.diag(np.linalg.inv(gram)))).max() < 1e-9:
            break
    curve, resid = on_shifted_axes(z, delay)[0], y - on_shifted_axes(z, delay)[0]
    cost = 0.5 * np.sum(resid**2 / (curve if counts else 1.0))
    variance = 1.0 if counts else np.sum(resid**2) / (y.size - free.sum())
    error = np.full(z.size, np.nan)
    error[free] = np.sqrt(np.diag(np.linalg.inv(gram)) * variance)
    # What is held at zero would have to be negative.
    slope = jac.T @ (weight * resid.ravel())
    assert np.all(slope[~free] < 0)
    return z, error, cost


@pytest.mark.parametrize(
    ("options", "some"),
    [({"nonnegative": True}, slice(None)), ({"noise": "poisson"}, [1, 3, 4, 6])],
    ids=["bounds", "counts"],
)
def test_a_given_chirp_is_the_fit_of_shifted_axes(shifted, options, some):
    irf = vp.GaussianIRF("irf", center=0.2, width=0.15, chirp=(NM, DELAY), wavelengths=NM[some])
    decays = vp.Exp("fast", tau=0.5, irf=irf) + vp.Exp("slow", tau=6.0, irf=irf)
    y = shifted[:, some]
    one = vp.fit(decays + vp.Constant("dark"), T, y, **options)
    assert one.success
    free = np.r_[np.ones(4, bool), one.coef.ravel() != 0]
    best, error, cost = best_on_shifted_axes(y, DELAY[some], "noise" in options, free)
    names = ["fast.tau", "slow.tau", "irf.center", "irf.width"]
    np.testing.assert_allclose([one[name].value for name in names], best[:4], rtol=1e-7)
    np.testing.assert_allclose([one[name].stderr for name in names], error[:4], rtol=1e-5)
    np.testing.assert_allclose(one.cost, cost, rtol=1e-10)
    np.testing.assert_allclose(one.coef.ravel(), best[4:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.coef_stderr.ravel(), error[4:], rtol=1e-4)


def test_right_hand_sides_of_one_place_have_one_factorisation(fit):
    def groups(layout_of=None, **changes):
        basis = at_wavelengths(model(**changes), NM, NM.size, np.dtype(float))
        built, layout = build_model(basis), fit.layout
        free = layout.free if layout_of is None else layout_of
        layout = dataclasses.replace(fit.layout, free=free)
        values = np.array([TRUTH[name] if name in held else 0.0 for name in built.names])
        return laid_out(built, layout, values)[1]

    held = set(TRUTH)
    assert [g.shape for g in groups()] == [(7, 1)]
    # All held, at different times zero; and at the same.
    assert [g.shape for g in groups(layout_of=())] == [(7, 1)]
    held = set()
    assert groups(layout_of=()) == ()


def test_data_sets_with_dispersion_are_one_with_all_their_wavelengths(fit, data):
    frames = {
        "blue": (T, pd.DataFrame(data[:, :4], columns=NM[:4])),
        "red": (T, pd.DataFrame(data[:, 4:], columns=[f"{nm:g}" for nm in NM[4:]])),
    }
    apart = vp.fit(model(), frames)
    assert apart.names == fit.names
    np.testing.assert_allclose(apart.alpha, fit.alpha, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(apart.alpha_stderr, fit.alpha_stderr, rtol=1e-5)
    np.testing.assert_allclose(apart.cost, fit.cost, rtol=1e-10)
    np.testing.assert_allclose(apart["red"].coef_stderr, fit.coef_stderr[:, 4:], rtol=1e-5)


def test_a_measured_response_follows_the_wavelength_with_scatter():
    grid = np.arange(-2.0, 30.0, 0.1)
    rng = np.random.default_rng(6)
    prompt = np.exp(-0.5 * ((grid + 0.5) / 0.15) ** 2) * (grid < 0.8)

    def measured(**options):
        irf = vp.MeasuredIRF("irf", grid, prompt, **options)
        decays = vp.Exp("a", tau=0.7, irf=irf) + vp.Exp("b", tau=5.0, irf=irf)
        return decays + vp.CoherentArtifact("s", irf=irf)

    def curve(nm):
        later = 0.2 + 0.3 * (nm - 500.0) / 100.0
        basis = measured(shift=later)
        values = {"a.tau": 0.8, "b.tau": 6.0, "irf.shift": later}
        built = build_model(basis)
        phi = _evaluate(built, grid, np.array([values[name] for name in built.names]))
        return np.asarray(phi) @ [1.0, 0.6, 0.3]

    some = NM[::2]
    y = np.stack([curve(nm) for nm in some], axis=1) + 0.002 * rng.normal(
        size=(grid.size, some.size)
    )
    moving = measured(
        shift=0.18, shift_dispersion=[0.28], dispersion_center=500.0, wavelengths=some
    )
    found = vp.fit(moving, grid, y)
    truth = {"a.tau": 0.8, "b.tau": 6.0, "irf.shift": 0.2, "irf.shift_dispersion1": 0.3}
    assert found.success
    for name, value in truth.items():
        assert abs(found[name].value - value) < 4 * found[name].stderr < 0.1 * value, name
    assert np.all(np.abs(found["s.0"].value - 0.3) < 5 * found["s.0"].stderr)


def _evaluate(built, x, values):
    return _EVALUATE(vp.basis.without_names(built), jnp.asarray(x), values)


_EVALUATE = jax.jit(lambda built, x, values: built.evaluate(x, values))


def test_what_cannot_be_right_is_refused_by_name(data):
    def says(text, basis=None, y=data, **options):
        with pytest.raises(vp.InputError, match=text):
            vp.fit(model() if basis is None else basis, T, y, **options)

    says(r"wavelengths of right-hand sides must be known.*wavelengths= \(7,\)")
    says("wavelengths has shape", model(wavelengths=NM[:3]))
    says("wavelength 1 .counted from 0. is nan", model(wavelengths=np.where(U == U[1], np.nan, NM)))
    few = data[:, :2]
    says("center_dispersion has 2 coefficients.*3 different", model(wavelengths=NM[:2]), few)
    says(
        "chirp was measured from 450 to 600.*does not cover",
        model(chirp=([450, 600], [0, 1]), wavelengths=NM),
    )
    known = model(wavelengths=NM)
    says("have a dispersion|has a dispersion", known, share="none")
    says("cannot be compressed: their response", known, compress=True)
    says("'gcv' is for right-hand sides of one basis", known, ridge="gcv")
    for text, changes in (
        ("needs dispersion_center", {"dispersion_center": None}),
        ("finite .*wavelength, not nan", {"dispersion_center": np.nan}),
        ("dispersion_in must be one of", {"dispersion_in": "energy"}),
        ("has the wavelength 450 twice", {"chirp": ([450, 450], [0, 1])}),
        ("not finite", {"chirp": ([450, np.inf], [0, 1])}),
        ("pair of wavelengths and times zero", {"chirp": [1.0, 2.0, 3.0]}),
        ("must be a number", {"center_dispersion": ["a"]}),
    ):
        with pytest.raises(vp.InputError, match=text):
            model(**changes)
    with pytest.raises(vp.InputError, match="has a dispersion"):
        vp.solve(known, jnp.asarray(data), args=T)
    with pytest.raises(vp.InputError, match="has a dispersion"):
        vp.fit_many(known, T, data.T)
