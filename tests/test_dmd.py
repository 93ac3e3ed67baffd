"""Optimised dynamic modes against PyDMD, scipy, simulation and themselves by other ways."""

import dataclasses
import importlib.util
import json
import pathlib

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import approx_fprime, least_squares

import varpro as vp
from varpro._dmd.dmd import _directions
from varpro._dmd.initial import leading_exactly

FOLDER = pathlib.Path(__file__).parent / "oracles" / "dmd"
# Bags of one size, so many at once: one program for all tests of the same data.
BAGS = {"num_bags": 40, "bag_size": 30}


def flow(k=24, m=50, noise=0.1, seed=0, real=True, signal=0):
    """Two travelling waves at uneven times: data (k, m), times, eigenvalues of positive frequency."""
    fixed = np.random.default_rng(signal)
    t = np.sort(fixed.uniform(0.0, 6.0, m))
    lam = np.array([-0.1 + 2.0j, -0.3 + 5.5j])
    modes = fixed.normal(size=(k, 2)) + 1j * fixed.normal(size=(k, 2))
    clean = modes @ np.exp(np.outer(lam, t))
    rng = np.random.default_rng(seed + 1000)
    if real:
        return clean.real + noise * clean.real.std() * rng.normal(size=(k, m)), t, lam
    drawn = rng.normal(size=(k, m)) + 1j * rng.normal(size=(k, m))
    return clean + noise * clean.std() * drawn, t, lam


def by_frequency(values):
    return values[np.argsort(values.imag)]


def projected(theta, t, y, weights=1.0):
    """Residual of complex exponentials with eigenvalues theta (re, im), real numbers."""
    r = theta.size // 2
    phi = np.exp(np.outer(t - t.min(), theta[:r] + 1j * theta[r:])) * np.reshape(weights, (-1, 1))
    q = np.linalg.qr(phi)[0]
    y = y * np.reshape(weights, (-1, 1))
    rest = y - q @ (q.conj().T @ y)
    return np.concatenate([rest.real.ravel(), rest.imag.ravel()])


def test_eigenvalues_and_amplitudes_are_those_of_pydmd():
    spec = importlib.util.spec_from_file_location("bopdmd", FOLDER / "bopdmd.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    X, t = script.data()
    stored = json.loads((FOLDER / "bopdmd.json").read_text())
    for name, truncate in (("all rows", None), ("projected", 3)):
        fit = vp.dmd(X, t, 3, truncate=truncate)
        order = np.argsort(fit.eigenvalues.imag)
        theirs = np.array(stored[name]["real"]) + 1j * np.array(stored[name]["imag"])
        np.testing.assert_allclose(fit.eigenvalues[order], theirs, rtol=1e-8)
        # Their amplitudes are those at time zero.
        size = fit.amplitudes * np.exp(-fit.growth * t.min())
        np.testing.assert_allclose(size[order], stored[name]["amplitudes"], rtol=1e-6)


def test_many_rows_end_where_scipy_ends_with_all_of_them():
    # More than 64 rows: the search sees them in a few columns.
    X, t, lam = flow(k=150, m=40, noise=0.3, real=False)
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.5, 2.0, t.size)
    for w in (None, weights):
        fit = vp.dmd(X, t, 2, weights=w)
        start = np.concatenate([lam.real, lam.imag])
        one = 1.0 if w is None else w
        found = least_squares(
            projected, start, args=(t, X.T, one), xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        theirs = by_frequency(found.x[:2] + 1j * found.x[2:])
        np.testing.assert_allclose(by_frequency(fit.eigenvalues), theirs, rtol=1e-7)
        assert fit.success and fit.chisq == pytest.approx(2 * found.cost, rel=1e-9)
        phi = np.exp(np.outer(t - t.min(), fit.eigenvalues)) * np.reshape(one, (-1, 1))
        coef = np.linalg.lstsq(phi, X.T * np.reshape(one, (-1, 1)), rcond=None)[0]
        np.testing.assert_allclose(fit.modes * fit.amplitudes, coef.T, atol=1e-8)
        np.testing.assert_allclose(fit.modes_of(X[5:9]), coef.T[5:9], atol=1e-8)


def test_data_in_which_noise_rules_end_at_the_optimum_of_all_rows():
    X, t, lam = flow(k=3000, m=30, noise=3.0, real=False)
    fit = vp.dmd(X, t, 2, init=lam)
    theta = np.concatenate([fit.eigenvalues.real, fit.eigenvalues.imag])

    def cost(theta):
        return 0.5 * np.sum(projected(theta, t, X.T) ** 2)

    slope = approx_fprime(theta, cost, 1e-5) - 0.0
    ahead = -approx_fprime(theta, lambda v: cost(2 * theta - v), 1e-5)
    central = 0.5 * (slope + ahead)
    # In standard errors of theta: cov = stderr^2, a step is cov * slope / noise^2.
    error = np.concatenate([fit.stderr.real, fit.stderr.imag])
    assert np.all(np.abs(central) * error / fit.noise**2 < 1e-3)


def test_real_data_have_pairs_and_are_the_complex_fit_of_them():
    X, t, lam = flow()
    fit, free = vp.dmd(X, t, 4), vp.dmd(X, t, 4, real=False)
    assert fit.real and not free.real
    np.testing.assert_allclose(
        by_frequency(fit.eigenvalues), by_frequency(free.eigenvalues), rtol=1e-7
    )
    np.testing.assert_array_equal(fit.eigenvalues[0], fit.eigenvalues[1].conj())
    np.testing.assert_allclose(fit.predict(), free.predict().real, atol=1e-6)
    np.testing.assert_allclose(
        fit.predict(t[3:7] + 0.1), free.predict(t[3:7] + 0.1).real, atol=1e-6
    )
    np.testing.assert_allclose(fit.stderr, free.stderr, rtol=0.05)
    whole = fit.component(0) + fit.component(2)
    np.testing.assert_allclose(whole, fit.predict(), atol=1e-9)
    assert np.abs(np.sort(fit.frequency)[2:] * 2 * np.pi - lam.imag).max() < 0.05


def test_standard_errors_are_those_of_all_parameters_together():
    X, t, _ = flow(k=4, m=20, real=False)
    fit = vp.dmd(X, t, 2)
    r, k, x = 2, 4, t - t.min()
    coef = (fit.modes * fit.amplitudes).T

    def model(v):
        lam = v[:r] + 1j * v[r : 2 * r]
        c = (v[2 * r : 2 * r + r * k] + 1j * v[2 * r + r * k :]).reshape(r, k)
        out = np.exp(np.outer(x, lam)) @ c
        return np.concatenate([out.real.ravel(), out.imag.ravel()])

    v = np.concatenate([fit.growth, fit.eigenvalues.imag, coef.real.ravel(), coef.imag.ravel()])
    jac = np.stack([(model(v + h) - model(v - h)) / 2e-6 for h in 1e-6 * np.eye(v.size)], axis=1)
    assert fit.dof == 2 * k * t.size - v.size
    cov = fit.noise**2 * np.linalg.inv(jac.T @ jac)
    np.testing.assert_allclose(fit.covariance, cov[: 2 * r, : 2 * r], rtol=1e-5, atol=1e-12)
    both = np.diag(cov)[2 * r :].reshape(2, r, k).sum(axis=0)
    np.testing.assert_allclose(
        fit.mode_stderr.T, np.sqrt(both) / fit.amplitudes[:, None], rtol=1e-5
    )
    slope = np.zeros((r, v.size))
    for i in range(r):
        at = 2 * r + i * k + np.arange(k)
        slope[i, at] = coef[i].real / fit.amplitudes[i]
        slope[i, at + r * k] = coef[i].imag / fit.amplitudes[i]
    wanted = np.sqrt(np.diag(slope @ cov @ slope.T))
    np.testing.assert_allclose(fit.amplitude_stderr, wanted, rtol=1e-5)


def test_errors_by_covariance_and_by_bags_are_the_spread_over_repeated_data():
    fits = [vp.dmd(*flow(seed=i)[:2], 4) for i in range(60)]
    found = np.array([by_frequency(f.eigenvalues)[2:] for f in fits])
    some = [vp.dmd(*flow(seed=i)[:2], 4, **BAGS, key=i) for i in range(5)]
    one, order = some[0], np.argsort(some[0].eigenvalues.imag)[2:]
    for part in (np.real, np.imag):
        spread = part(found).std(axis=0, ddof=1)
        by_bags = np.mean([part(f.bags.stderr)[order] for f in some], axis=0)
        assert np.all(np.abs(part(one.stderr)[order] / spread - 1) < 0.35)
        assert np.all(np.abs(by_bags / spread - 1) < 0.5)
    assert one.bags.failed == 0 and one.bags.size == 30
    ratio = one.mode_std * one.bags.factor / one.mode_stderr
    assert 0.6 < np.median(ratio) < 1.4
    sizes = np.array([np.sort(f.amplitudes) for f in fits]).std(axis=0, ddof=1)
    np.testing.assert_allclose(np.sort(one.amplitude_stderr), np.sort(sizes), rtol=0.5)


def test_bags_follow_their_key_and_forecast():
    X, t, _ = flow()
    one, same, other = (vp.dmd(X, t, 4, **BAGS, key=k) for k in (5, 5, 6))
    np.testing.assert_array_equal(one.bags.eigenvalues, same.bags.eigenvalues)
    assert np.abs(one.bags.eigenvalues - other.bags.eigenvalues).max() > 0
    mean, std = one.forecast(np.array([1.0, 9.0]))
    assert mean.shape == std.shape == (24, 2) and np.all(std > 0)
    every = np.stack(
        [
            ((p @ X.T).T @ np.exp(np.outer(v, [1.0 - t.min(), 9.0 - t.min()]))).real
            for v, p in zip(one.bags.eigenvalues, one.bags.projector, strict=True)
        ]
    )
    np.testing.assert_allclose(mean, every.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(std, every.std(axis=0), rtol=1e-9)


def test_stable_imaginary_and_banded_eigenvalues_keep_their_bounds():
    X, t, _ = flow()
    X = X * np.exp(0.4 * (t - t.min()))  # the first wave grows now
    free, stable = vp.dmd(X, t, 4), vp.dmd(X, t, 4, stable=True)
    assert free.growth.max() > 0.1 and stable.growth.max() == 0.0
    assert np.isnan(stable.stderr.real[stable.growth == 0.0]).all()
    assert "on a bound" in " ".join(stable.findings)
    waves = vp.dmd(X, t, 5, imaginary=True)
    assert np.all(waves.growth == 0.0) and np.sum(waves.frequency == 0.0) == 1
    hertz = np.sort(free.frequency)[2:]
    bands = [(hertz[0] - 0.1, hertz[0] + 0.1), (hertz[1] + 0.02, hertz[1] + 0.1)]
    held = vp.dmd(X, t, 4, bands=bands)
    assert held.frequency.max() == pytest.approx(bands[1][0], rel=1e-12)
    assert held.chisq > free.chisq
    inside = vp.dmd(
        X, t, 4, bands=[(hertz[0] - 0.1, hertz[0] + 0.1), (hertz[1] - 0.1, hertz[1] + 0.1)]
    )
    np.testing.assert_allclose(
        by_frequency(inside.eigenvalues), by_frequency(free.eigenvalues), rtol=1e-6
    )


def test_one_row_by_the_pencil_and_starts_that_are_given():
    t = np.linspace(0.0, 10.0, 120)
    y = np.cos(3.0 * t) * np.exp(-0.1 * t) + 0.5 * np.sin(7.0 * t) * np.exp(-0.2 * t)
    y = y + 0.01 * np.random.default_rng(0).normal(size=t.size)
    fit = vp.dmd(y, t, 4)
    assert fit.modes.shape == (4,) and fit.success
    np.testing.assert_allclose(np.sort(fit.eigenvalues.imag)[2:], [3.0, 7.0], atol=0.02)
    given = vp.dmd(y, t, 4, init=[-0.1 + 2.9j, -0.1 - 2.9j, -0.1 + 7.2j, -0.1 - 7.2j])
    np.testing.assert_allclose(
        by_frequency(given.eigenvalues), by_frequency(fit.eigenvalues), rtol=1e-6
    )
    decays = vp.dmd(np.exp(-t) + 3 * np.exp(-0.2 * t), t, 2)
    np.testing.assert_allclose(np.sort(decays.growth), [-1.0, -0.2], rtol=1e-6)


def test_images_keep_their_axes_and_order_of_snapshots_does_not_matter():
    X, t, _ = flow()
    fit = vp.dmd(X.reshape(4, 6, -1), t, 4)
    flat = vp.dmd(X, t, 4)
    assert fit.modes.shape == (4, 6, 4) and fit.predict().shape == (4, 6, 50)
    np.testing.assert_allclose(fit.modes.reshape(24, 4), flat.modes, atol=1e-12)
    mixed = np.random.default_rng(1).permutation(t.size)
    other = vp.dmd(X[:, mixed], t[mixed], 4)
    np.testing.assert_allclose(other.eigenvalues, flat.eigenvalues, rtol=1e-8)


def test_rows_on_disk_and_compressed_rows_give_the_same(tmp_path):
    X, t, _ = flow(k=300, m=30)
    inside = vp.dmd(X, t, 4)
    disk = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", X.dtype, X.shape)
    disk[:] = X
    outside = vp.dmd(disk, t, 4)
    packed = vp.dmd(vp.compress([X.T[:, :200], X.T[:, 200:]]), t, 4)
    for other in (outside, packed):
        np.testing.assert_allclose(other.eigenvalues, inside.eigenvalues, rtol=1e-7)
        np.testing.assert_allclose(other.amplitudes, inside.amplitudes, rtol=1e-7)
        np.testing.assert_allclose(other.stderr, inside.stderr, rtol=1e-6)
        assert other.dof == inside.dof and other.rows == 300
    np.testing.assert_allclose(outside.modes, inside.modes, atol=1e-8)
    whole = inside.modes * inside.amplitudes
    np.testing.assert_allclose(packed.modes_of(X[:7]), whole[:7], atol=1e-7)
    with pytest.raises(vp.InputError, match="another reading"):
        packed.predict()


@pytest.mark.parametrize("real", [True, False])
def test_what_is_saved_comes_back_bit_by_bit(tmp_path, real):
    X, t, _ = flow(real=real)
    fit = vp.dmd(X.reshape(4, 6, -1), t, 4 if real else 2, **BAGS)
    fit.save(tmp_path / "modes.nc")
    back = vp.load(tmp_path / "modes.nc")
    assert isinstance(back, vp.DmdResult) and back.equals(fit)
    np.testing.assert_array_equal(back.forecast()[1], fit.forecast()[1])
    assert back.report() == fit.report()
    with xr.open_dataset(tmp_path / "modes.nc") as file:
        np.testing.assert_array_equal(file["frequency"], fit.frequency)
    whole = fit.to_dataset()
    assert whole["modes"].dims == ("axis_0", "axis_1", "mode")
    np.testing.assert_array_equal(whole["data"], fit.X)
    assert whole["growth_bags"].shape == fit.bags.eigenvalues.shape


def test_rows_on_disk_stay_there_and_compressed_ones_are_saved(tmp_path):
    X, t, _ = flow(k=300, m=30)
    disk = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", X.dtype, X.shape)
    disk[:] = X
    fit = vp.dmd(disk, t, 4, num_bags=4)
    fit.save(tmp_path / "disk.nc")
    back = vp.load(tmp_path / "disk.nc")
    np.testing.assert_array_equal(back.predict(), fit.predict())
    assert len(back.plot().axes) == 4
    with pytest.raises(vp.InputError, match="not in memory when this was saved"):
        back.forecast()
    again = dataclasses.replace(back, X=X)
    np.testing.assert_array_equal(again.forecast()[0], fit.forecast()[0])
    packed = vp.dmd(vp.compress([X.T]), t, 4)
    packed.save(tmp_path / "packed.nc")
    assert vp.load(tmp_path / "packed.nc").equals(packed)


@pytest.mark.parametrize("tall", [True, False])
def test_leading_directions_are_those_of_the_singular_values(tall):
    X, _, _ = flow(k=200, m=150, noise=0.05, real=False)
    y = X if tall else X.T
    found = leading_exactly(y, 2)
    exact = np.linalg.svd(y)[2][:2].conj().T
    np.testing.assert_allclose(found @ found.conj().T, exact @ exact.conj().T, atol=1e-12)
    # Where no gap tells them apart the long way is taken.
    noise = np.random.default_rng(0).normal(size=(150, 200))
    assert leading_exactly(noise, 3) is None
    directions = _directions(noise, 3)
    exact = np.linalg.svd(noise)[2][:3].T
    np.testing.assert_allclose(directions @ directions.T, exact @ exact.T, atol=1e-10)


def test_single_precision():
    X, t, lam = flow(noise=0.01)
    fit = vp.dmd(X.astype(np.float32), t, 4)
    assert fit.modes.dtype == np.complex64
    np.testing.assert_allclose(np.sort(fit.eigenvalues.imag)[2:], lam.imag, atol=0.02)


def test_report_frame_and_figure_tell_the_numbers():
    X, t, _ = flow()
    fit = vp.dmd(X, t, 4, **BAGS)
    text = fit.report()
    assert "50 snapshots of 24 rows, real" in text and "converged" in text
    assert len(fit.to_frame()) == 4 and "growth_bags" in fit.to_frame()
    drawn = fit.plot()
    assert len(drawn.axes) == 4
    assert [ax.get_xlabel() for ax in drawn.axes[:2]] == ["growth rate", "t"]
    images = vp.dmd(X.reshape(4, 6, -1).astype(complex), t, 4).plot(modes=2)
    assert len(images.axes) == 4 and images.axes[2].images


def test_more_eigenvalues_than_the_data_have_still_reproduce_them():
    X, t, _ = flow(noise=0.0)
    fit = vp.dmd(X, t, 6, real=False)
    np.testing.assert_allclose(fit.predict().real, X, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"t": np.arange(9.0)}, r"t has shape \(9,\), but X has 50 snapshots"),
        ({"t": np.zeros(50)}, "at one time"),
        ({"t": np.full(50, np.nan)}, "not finite"),
        ({"X": np.full((3, 50), np.nan)}, "150 non-finite"),
        ({"X": np.array(["a"])}, "numeric"),
        ({"r": 0}, "integer of at least 1"),
        ({"r": 2.5}, "integer of at least 1"),
        ({"r": 50}, "cannot determine 50"),
        ({"init": "guess"}, "init must be one of"),
        ({"init": np.ones(4)}, "differ from each other"),
        ({"init": np.ones(3)}, "expected 4 eigenvalues"),
        ({"bands": [(1.0, 0.5)]}, "low <= high"),
        ({"bands": [(0.0, 1.0)] * 3}, "3 of them for r=4"),
        ({"bands": "all"}, "give"),
        ({"weights": np.ones(3)}, "weights has shape"),
        ({"weights": -np.ones(50)}, "zero or more"),
        ({"num_bags": 1}, "give 2 or more"),
        ({"num_bags": 10, "bag_size": 50}, "fewer than"),
        ({"truncate": 0}, "at least 1"),
        ({"X": np.ones((3, 50)) * 1j, "real": True}, "real=True"),
    ],
)
def test_wrong_input_is_refused(change, words):
    X, t, _ = flow()
    given = {"X": X, "t": t, "r": 4} | change
    with pytest.raises(vp.InputError, match=words):
        vp.dmd(**given)


def test_what_too_few_modes_leave_is_told_and_zeros_are_refused():
    t = np.linspace(0.0, 10.0, 101)
    X = sum(np.cos(2 * np.pi * f * t + np.array([[0.0], [0.5], [1.0]])) for f in (0.3, 0.7, 1.1))
    (said,) = [one for one in vp.dmd(X, t, 2).findings if "not random" in one]
    assert "of the squares of the data" in said and "A larger r" in said
    with pytest.raises(vp.InputError, match="zero everywhere"):
        vp.dmd(np.zeros((5, 101)), t, 2)
