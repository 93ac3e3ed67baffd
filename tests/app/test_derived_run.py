"""Configurations that derive numbers, have doublets, and peaks with the background that they lose."""

import json

import numpy as np
import pytest
import xarray as xr

import varpro as vp
from varpro._equality import same
from varpro.app.plan.make_plan import make_plan
from varpro.app.runs.run import run

CONFIG = """\
data: {path: xps.csv, x: energy, y: counts, units: {x: eV}}
responses:
  lost: {kind: shirley, k: 0.02}
model:
  p: {kind: gaussian, center: 5.2, width: 0.4, coefficient: area, loss: lost}
  q: {kind: gaussian, center: 8.1, width: 0.5, lines: [[0, 1], [1.1, 0.5]]}
  bg: {kind: constant}
derived: {ratio: p.area / q.area, width: p.fwhm, split: q.center - p.center}
output: {dir: run}
"""


def curve(x, scale=1.0):
    p = vp.Gaussian("p", width=1.0, coefficient="area", loss=vp.Shirley("lost"))
    values = {"center": 5.0, "width": 0.35, "lost.k": 0.05}
    column = p.evaluate(x, {k: np.array([v]) for k, v in values.items()})[:, 0]
    q = np.exp(-0.5 * ((x - 8.0) / 0.4) ** 2) + 0.5 * np.exp(-0.5 * ((x - 9.1) / 0.4) ** 2)
    return scale * (400 * column + 90 * q) + 30


@pytest.fixture
def here(tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    x = np.linspace(0.0, 12.0, 180)
    y = curve(x) + rng.normal(size=x.size)
    rows = "\n".join(f"{a:.6f},{b:.6f}" for a, b in zip(x, y, strict=True))
    (tmp_path / "xps.csv").write_text(f"energy,counts\n{rows}\n")
    (tmp_path / "xps.yaml").write_text(CONFIG)
    cube = xr.DataArray(
        np.stack([curve(x, s) + rng.normal(size=x.size) for s in (1.0, 0.8, 1.2)]),
        dims=("spot", "energy"),
        coords={"energy": x},
        name="counts",
    )
    cube.to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    monkeypatch.chdir(tmp_path)
    return tmp_path, x, y


def test_a_run_derives_what_the_library_derives(here, capsys):
    folder, x, y = here
    outcome = run("xps.yaml")
    loss = vp.Shirley("lost", k=0.02)
    p = vp.Gaussian("p", center=5.2, width=0.4, coefficient="area", loss=loss)
    q = vp.Gaussian("q", center=8.1, width=0.5, lines=[(0, 1), (1.1, 0.5)])
    asked = {"ratio": "p.area / q.area", "width": "p.fwhm", "split": "q.center - p.center"}
    fit = vp.fit(p + q + vp.Constant("bg"), x, np.round(y, 6), derived=asked)
    assert outcome.fit.success and fit.success
    for name, truth in (("lost.k", 0.05), ("p.width", 0.35), ("p", 400.0), ("q", 90.0)):
        assert abs(fit[name].value - truth) < 4 * fit[name].stderr, name
    written = json.loads((folder / "run" / "result.json").read_text())["derived"]
    for name in asked:
        np.testing.assert_allclose(written[name]["value"], fit[name].value, rtol=1e-6)
        np.testing.assert_allclose(written[name]["stderr"], fit[name].stderr, rtol=1e-4)
    assert "split" in (folder / "run" / "report.html").read_text()
    maps = xr.load_dataset(folder / "run" / "result.nc", engine="h5netcdf")
    assert list(maps["derived"].values) == list(asked)
    assert vp.load(folder / "run").derived.names == tuple(asked)
    # Every curve of a cube for itself, from the same components.
    text = CONFIG.replace("xps.csv", "cube.nc").replace(
        "x: energy, y: counts, units: {x: eV}", "variable: counts, x: energy"
    )
    (folder / "cube.yaml").write_text(
        text.replace("dir: run", "dir: maps, report: none, plots: []") + "fit: {share: none}\n"
    )
    batch = run("cube.yaml")
    assert np.all(batch.fit.success)
    maps = xr.load_dataset(folder / "maps" / "result.nc", engine="h5netcdf")
    np.testing.assert_allclose(maps["split"], 3.0, atol=0.1)
    assert (maps["ratio_stderr"] > 0).all()


def test_a_voigt_peak_of_a_file_is_that_of_the_library(here):
    folder, *_ = here
    voigt = "kind: voigt, center: 5.2, sigma: 0.4, gamma: 0.2"
    text = CONFIG.replace("kind: gaussian, center: 5.2, width: 0.4", voigt)
    (folder / "voigt.yaml").write_text(text)
    plan = make_plan("voigt.yaml")
    loss = vp.Shirley("lost", k=0.02)
    p = vp.Voigt("p", center=5.2, sigma=0.4, gamma=0.2, coefficient="area", loss=loss)
    q = vp.Gaussian("q", center=8.1, width=0.5, lines=[(0, 1), (1.1, 0.5)])
    assert same(plan.model, p + q + vp.Constant("bg"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("p.area / q.area", "p.aera / q.area", "derived.ratio: unknown parameter 'p.aera'"),
        ("ratio: p.area", "p.area: p.area", "is a number of the model"),
        (
            "{ratio: p.area / q.area, width: p.fwhm, split: q.center - p.center}",
            "['x.*']",
            "derived",
        ),
        ("coefficient: area", "coefficient: volume", "coefficient is 'height' or 'area'"),
        ("loss: lost", "loss: none", "no loss 'none'"),
        (", loss: lost", "", "no component says 'irf: lost' (or receiver, or loss)"),
        ("[[0, 1], [1.1, 0.5]]", "[[0, 1, 2]]", "lines"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(here, old, new, says):
    folder, *_ = here
    (folder / "bad.yaml").write_text(CONFIG.replace(old, new))
    with pytest.raises(vp.InputError) as caught:
        make_plan("bad.yaml")
    assert says in str(caught.value) and str(caught.value).startswith("bad.yaml:")
