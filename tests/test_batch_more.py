"""Batches: labelled and lazily read data, starts, bounds and priors of each curve, devices."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import varpro as vp
from varpro._batch.curves import Rows, Weighing
from varpro._batch.job import FIELDS

T = (np.arange(64) + 0.5) * 0.15  # a shape of tests/test_batch.py
MODEL = vp.Exp("fast", tau=1.0) + vp.Exp("slow", tau=5.0)
RNG = np.random.default_rng(0)
SHAPE = (6, 7)
FAST, SLOW = RNG.uniform(0.4, 0.7, SHAPE), RNG.uniform(2.5, 4.0, SHAPE)
CUBE = np.exp(-T / FAST[..., None]) + 0.7 * np.exp(-T / SLOW[..., None])
CUBE += 0.005 * RNG.normal(size=CUBE.shape)


def equal(a, b):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


class Lazy:
    """An array that counts what is taken from it at once."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __getitem__(self, key):
        found = self.array[key]
        self.most = max(self.most, found.size)
        return found


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_any_rows_of_a_cube_are_read_wherever_its_samples_lie(axis):
    cube = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    rows = Rows(np.moveaxis(cube, -1, axis), axis)
    flat = cube.reshape(-1, 5)
    assert rows.shape == (2, 3, 4) and rows.count == 24 and rows.samples == 5
    for first in range(24):
        for last in range(first + 1, 25):
            np.testing.assert_array_equal(rows.read(first, last), flat[first:last])


def test_an_array_that_is_read_is_read_in_blocks():
    lazy = Lazy(np.tile(CUBE, (12, 12, 1)))
    fit = vp.fit_many(MODEL, T, lazy, block=64)
    assert lazy.most <= 4096 * T.size < lazy.array.size
    equal(fit, vp.fit_many(MODEL, T, lazy.array, block=64))


def labelled():
    coords = {"t": T, "row": np.arange(6) * 0.5, "well": ("col", list("ABCDEFG"))}
    return xr.DataArray(CUBE, dims=("row", "col", "t"), coords=coords, name="counts")


def test_labelled_data_keep_their_dimensions_and_coordinates(tmp_path):
    plain = vp.fit_many(MODEL, T, CUBE)
    fit = vp.fit_many(MODEL, None, labelled(), dim="t")
    equal(fit, plain)
    maps = fit.to_dataset()
    assert maps["slow.tau"].dims == ("row", "col")
    assert list(maps["well"].values) == list("ABCDEFG")
    np.testing.assert_array_equal(maps["row"], np.arange(6) * 0.5)
    turned = vp.fit_many(MODEL, None, labelled().transpose("t", "col", "row"), dim="t")
    np.testing.assert_array_equal(turned.alpha, np.swapaxes(plain.alpha, 0, 1))
    fit.save(tmp_path / "fit.nc")
    assert vp.load(tmp_path / "fit.nc") == fit


def test_labelled_companions_may_stand_in_another_order_and_lack_dimensions():
    sigma = xr.DataArray(RNG.uniform(0.5, 2.0, (7, 6)), dims=("col", "row"))
    mask = xr.DataArray(T > 0.5, dims=("t",))
    start = xr.DataArray(np.full((7, 6), 0.6), dims=("col", "row"))
    fit = vp.fit_many(
        MODEL, None, labelled(), dim="t", sigma=sigma, mask=mask, init={"fast.tau": start}
    )
    each = np.broadcast_to(sigma.values.T[..., None], CUBE.shape)
    same = vp.fit_many(MODEL, T, CUBE, sigma=each, mask=T > 0.5, init={"fast.tau": start.values.T})
    np.testing.assert_allclose(fit.alpha, same.alpha, rtol=1e-9)


def test_a_file_is_fitted_without_loading_it(tmp_path):
    labelled().transpose("t", "row", "col").to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "cube.nc", engine="h5netcdf") as file:
        fit = vp.fit_many(MODEL, None, file["counts"], dim="t")
        assert not file["counts"].variable._in_memory
    equal(fit, vp.fit_many(MODEL, T, CUBE))


def test_bounds_of_each_curve_are_kept():
    upper = RNG.uniform(2.4, 4.2, SHAPE)
    fit = vp.fit_many(MODEL, T, CUBE, bounds={"slow.tau": (1.0, upper)})
    tau = fit["slow.tau"].value
    assert np.all(tau <= upper)
    on = tau == upper
    assert 5 < on.sum() < 37
    np.testing.assert_array_equal(np.isnan(fit["slow.tau"].stderr), on)
    for i, j in [(0, 0), *map(tuple, np.argwhere(on)[:2]), *map(tuple, np.argwhere(~on)[:2])]:
        one = vp.fit(
            MODEL, T, CUBE[i, j], bounds={"slow.tau": (1.0, upper[i, j])}, init={"slow.tau": 2.0}
        )
        np.testing.assert_allclose(fit.alpha[i, j], one.alpha, rtol=1e-4)
        np.testing.assert_allclose(fit.chisq[i, j], one.chisq, rtol=1e-8)


@pytest.mark.parametrize("how", ["fix", "bounds"])
def test_a_value_of_each_curves_own_is_held(how):
    held = SLOW * 1.05
    options = (
        {"fix": "slow.tau", "init": {"slow.tau": held}}
        if how == "fix"
        else {"bounds": {"slow.tau": (held, held)}}
    )
    fit = vp.fit_many(MODEL, T, CUBE, **options)
    np.testing.assert_array_equal(fit["slow.tau"].value, held)
    assert (fit["slow.tau"].stderr == 0).all()
    for i, j in [(0, 0), (5, 6)]:
        one = vp.fit(MODEL, T, CUBE[i, j], fix="slow.tau", init={"slow.tau": held[i, j]})
        np.testing.assert_allclose(fit.alpha[i, j], one.alpha, rtol=1e-5)
        np.testing.assert_allclose(fit["fast.tau"].stderr[i, j], one["fast.tau"].stderr, rtol=1e-3)
        assert fit.dof[i, j] == one.dof


@pytest.mark.parametrize("absolute", [False, True])
def test_priors_weigh_as_in_one_fit(absolute):
    model = vp.Exp("fast", tau=1.0) + vp.Exp("slow", tau=vp.Param(5.0, prior=(3.0, 0.02)))
    options = {"sigma": 0.005, "absolute_sigma": absolute}
    for size in (1.0, 300.0):
        options["sigma"] = 0.005 * size
        fit = vp.fit_many(model, T, size * CUBE, **options)
        for i, j in [(0, 0), (3, 4)]:
            one = vp.fit(model, T, size * CUBE[i, j], **options)
            np.testing.assert_allclose(fit.alpha[i, j], one.alpha, rtol=1e-5)
            np.testing.assert_allclose(fit.alpha_stderr[i, j], one.alpha_stderr, rtol=1e-3)
            np.testing.assert_allclose(fit.coef_stderr[i, j], one.coef_stderr, rtol=1e-3)
            np.testing.assert_allclose(fit.chisq[i, j], one.chisq, rtol=1e-4)
            assert fit.dof[i, j] == one.dof


@pytest.mark.parametrize("start", ["global", "binned"])
def test_starts_from_the_mean_or_from_bins_take_fewer_steps_and_end_in_the_same_place(start):
    plain = vp.fit_many(MODEL, T, CUBE)
    fit = vp.fit_many(MODEL, T, CUBE, start=start, binning=3)
    np.testing.assert_allclose(fit.chisq, plain.chisq, rtol=1e-8)
    assert fit.num_steps.mean() < plain.num_steps.mean()


def test_bins_are_means_of_neighbours():
    from varpro._batch.starts import _binned

    cube = CUBE.copy()
    cube[0, 0, 3] = np.nan
    found, shape = _binned(Rows(cube, 2), Weighing(None, None, None), 4, np.dtype(float))
    assert shape == (2, 2)
    np.testing.assert_allclose(found[3], cube[4:, 4:].mean(axis=(0, 1)))
    np.testing.assert_allclose(found[0], np.nanmean(cube[:4, :4], axis=(0, 1)))


def test_neighbours_rescue_curves_that_start_badly():
    model = vp.Lorentzian("peak", center=1.0, width=0.3) + vp.Constant("background")
    x = np.linspace(0, 10, 60)
    center = 3.0 + 0.5 * np.arange(8)[:, None] * np.ones(3)
    y = 1 / (1 + ((x - center[..., None]) / 0.3) ** 2) + 0.01 * RNG.normal(size=(8, 3, 60))
    start = np.full((8, 3), 9.5)
    start[2:6] = center[2:6] + 0.1
    init = {"peak.center": start}
    alone = vp.fit_many(model, x, y, init=init)
    lost = np.abs(alone["peak.center"].value - center) > 0.1
    together = vp.fit_many(model, x, y, init=init, start="neighbours")
    left = np.abs(together["peak.center"].value - center) > 0.1
    assert lost.sum() >= 6 and left.sum() <= lost.sum() // 2
    assert np.all(together.chisq <= alone.chisq * (1 + 1e-9))
    # A curve that was right keeps its answer: of the same program, so bit by bit.
    np.testing.assert_array_equal(together.alpha[3, 1], alone.alpha[3, 1])


def test_a_job_gives_any_rows_in_any_order_the_same_bits_and_survives_a_pickle():
    job = vp.prepare_many(MODEL, T, CUBE, block=16, noise="huber", loss_scale=0.01)
    whole = vp.fit_many(MODEL, T, CUBE, block=16, noise="huber", loss_scale=0.01)
    again = pickle.loads(pickle.dumps(job))
    parts = [(32, 42), (0, 16), (16, 32)]
    found = {f: np.empty((42, *np.shape(getattr(whole, f))[2:])) for f in FIELDS}
    for first, last in parts:
        for key, value in again.fit_rows(first, last).items():
            if key in found:
                found[key][first:last] = value
    equal(job.gather(found), whole)


DEVICES = """
import jax, numpy as np, varpro as vp
jax.config.update("jax_enable_x64", True)
assert jax.device_count() == 8
rng = np.random.default_rng(0)
t = np.arange(40) * 0.2
tau = rng.uniform(1, 3, (1500, 1))
y = np.exp(-t / tau) + 0.01 * rng.normal(size=(1500, 40))
y[7] = np.nan
weights = rng.uniform(0.5, 1.5, y.shape)
upper = tau[:, 0] * rng.uniform(0.9, 1.5, 1500)
options = dict(weights=weights, bounds={"a.tau": (0.1, upper)}, noise="soft_l1", loss_scale=0.02)
job = vp.prepare_many(vp.Exp("a", tau=1.5), t, y, **options)
assert job.devices == 8 and job.size % (8 * job.lanes) == 0
many = job.fit_rows(0, 1500)
np.savez("many.npz", **many)
"""


def test_eight_devices_share_a_batch_and_find_the_same(tmp_path, monkeypatch):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    subprocess.run(
        [sys.executable, "-c", DEVICES], cwd=tmp_path, env=os.environ | {"XLA_FLAGS": flags},
        check=True, timeout=120,
    )  # fmt: skip
    many = dict(np.load(tmp_path / "many.npz"))
    monkeypatch.chdir(tmp_path)
    exec(DEVICES.replace("== 8", "== 1").replace("size % (8", "size % (1"), {})
    one = dict(np.load(tmp_path / "many.npz"))
    # Two programs: a search ends within 1e-3 standard errors of the optimum (`ftol = 1e-9`), and one
    # of a hundred curves may be given up by one of them alone.
    both = np.isin(many["status"], (1, 2)) & np.isin(one["status"], (1, 2))
    assert both.mean() > 0.99 and (many["status"] == 6).sum() == (one["status"] == 6).sum() == 1
    gap = (many["alpha"] - one["alpha"])[both] / one["alpha_stderr"][both]
    assert np.nanmax(np.abs(gap)) < 1e-3
    np.testing.assert_allclose(many["chisq"][both], one["chisq"][both], rtol=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vp.fit_many(MODEL, None, CUBE), "x is missing"),
        (lambda: vp.fit_many(MODEL, T, CUBE, dim="t"), "dim= is for labelled data"),
        (lambda: vp.fit_many(MODEL, None, labelled()), "Say along which dimension"),
        (lambda: vp.fit_many(MODEL, None, labelled(), dim="x"), "dim='x' is no dimension"),
        (
            lambda: vp.fit_many(
                MODEL, None, labelled(), dim="t", sigma=xr.DataArray([1.0], dims=("z",))
            ),
            "'z' is no dimension of the data",
        ),
        (
            lambda: vp.fit_many(MODEL, T, CUBE, bounds={"slow.tau": (np.full(SHAPE, 3.0), 2.0)}),
            "lower <= upper, but are [3, 2] at curve 0",
        ),
        (
            lambda: vp.fit_many(MODEL, T, CUBE, bounds={"slow.tau": (1.0, np.ones(5))}),
            "bounds for slow.tau has shape (5,), but the batch has (6, 7)",
        ),
        (
            lambda: vp.fit_many(MODEL, T, CUBE, init={"slow.tau": np.full(SHAPE, np.nan)}),
            "init for slow.tau is not finite at curve 0",
        ),
        (
            lambda: vp.fit_many(
                MODEL, T, CUBE, tie={"fast.tau": "slow.tau"}, init={"fast.tau": SLOW}
            ),
            "fast.tau is tied",
        ),
        (lambda: vp.fit_many(MODEL, T, CUBE, start="bins"), "start must be one of"),
        (lambda: vp.fit_many(MODEL, T, CUBE, binning=0, start="binned"), "binning must be 1"),
    ],
)
def test_what_cannot_be_right_is_named(call, message):
    with pytest.raises(vp.InputError) as caught:
        call()
    assert message in str(caught.value)
