"""A small problem in a folder of its own, and the command line without its effects on JAX."""

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import varpro as vp
from varpro.app import cli
from varpro.app.plan import fit as plan_fit

CONFIG = """\
schema: 1
data: {path: decay.csv, x: t, y: counts}
model:
  decay: {kind: exp, tau: {init: 0.7, lower: 0.01}}
  bg: {kind: constant}
output: {dir: run}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder: `decay.yaml` and its data, a noisy decay with tau = 2 ns."""
    t = np.linspace(0, 10, 40)
    noise = np.random.default_rng(3).normal(size=t.size)
    y = 5 * np.exp(-t / 2) + 1 + 0.05 * noise
    rows = "".join(f"{a!r},{b!r}\n" for a, b in zip(t.tolist(), y.tolist(), strict=True))
    (tmp_path / "decay.csv").write_text("# made by a test\nt [ns],counts [kcps]\n" + rows)
    (tmp_path / "decay.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cube_in_a_file(tmp_path, monkeypatch):
    """The current folder: `cube.nc`, whose `counts` are 8 x 10 decays, one of them broken."""
    rng = np.random.default_rng(0)
    t = (np.arange(32) + 0.5) * 0.25
    tau = rng.uniform(1.5, 2.5, (8, 10))
    y = rng.poisson(200 * np.exp(-t / tau[..., None]) + 5.0).astype(float)
    y[2, 3, 4] = np.nan
    coords = {"time": ("time", t, {"units": "ns"}), "row": np.arange(8) * 0.5}
    array = xr.DataArray(y, dims=("row", "col", "time"), coords=coords, name="counts")
    array.transpose("time", "row", "col").to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    monkeypatch.chdir(tmp_path)
    return array


@pytest.fixture
def varpro(monkeypatch):
    """Call the command line in this process: `varpro("run", "decay.yaml").exit_code`."""
    # Other tests must not find their JAX set up for a command line.
    monkeypatch.setattr(cli, "set_up_jax", lambda: None)
    return lambda *words: CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture
def plain(varpro):
    """`plain("decay.yaml")` is `varpro run` without report and figures, most of the time of a run."""
    bare = ("--set", "output.report=none", "--set", "output.plots=[]")
    return lambda *words: varpro("run", *words, *bare)


@pytest.fixture
def unfitted(monkeypatch):
    """Nothing that gets as far as a fit is one of these mistakes."""

    class Library:
        def __getattr__(self, name):
            return getattr(vp, name)

        def fit(self, *args, **options):
            raise AssertionError("this would be fitted")

    monkeypatch.setattr(plan_fit, "vp", Library())
