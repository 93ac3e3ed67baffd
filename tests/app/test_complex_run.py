"""Complex data from files: tables, arrays and cubes, through `varpro run` and back."""

import numpy as np
import pytest
import xarray as xr

import varpro as vp
from varpro.app.plan.make_plan import make_plan

T = np.arange(48) * 8e-3
LINES = np.exp(np.outer([2j * np.pi * 10 - 20, -2j * np.pi * 40 - 30], T))

MODEL = """
model:
  a: {kind: complex_exp, freq: 11.0, rate: {init: 18.0, lower: 0}}
  b: {kind: complex_exp, freq: -39.0, fwhm: {init: 8.0, lower: 0}}
"""
PHASED = """
responses:
  rx: {kind: receiver, phase: 0.2, delay: 0.001}
model:
  a: {kind: complex_exp, freq: 11.0, rate: {init: 18.0, lower: 0}, receiver: rx}
  b: {kind: complex_exp, freq: -39.0, fwhm: {init: 8.0, lower: 0}, receiver: rx}
constraints: {real_coefficients: true, nonnegative: [a]}
"""


def voxels():
    rng = np.random.default_rng(5)
    size = rng.uniform(1.0, 3.0, (2, 3, 2)) * np.exp(0.5j)
    noise = rng.normal(size=(2, 3, T.size)) + 1j * rng.normal(size=(2, 3, T.size))
    return size @ LINES + 0.02 * noise


CUBE = voxels()
FID = CUBE[0, 1]


def built():
    """The models of `MODEL` and `PHASED` in Python."""
    rx = vp.Receiver("rx", phase=0.2, delay=0.001)
    for receiver in (None, rx):
        a = vp.ComplexExp("a", freq=11.0, rate=vp.Param(18.0, lower=0.0), receiver=receiver)
        yield a + vp.ComplexExp("b", freq=-39.0, fwhm=vp.Param(8.0, lower=0.0), receiver=receiver)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = np.c_[T, FID.real, FID.imag, 2 * FID.real, 2 * FID.imag]
    head = "t [s],re [mV],im,re2,im2"
    np.savetxt("fid.csv", table, delimiter=",", header=head, comments="", fmt="%.17g")
    return tmp_path


def config(path, data, rest):
    path.write_text(f"schema: 1\ndata: {data}\n{rest}")


def test_two_columns_of_a_table_are_fitted_and_come_back(folder, varpro):
    config(folder / "fid.yaml", "{path: fid.csv, x: t, y: re, imag: im}", PHASED)
    done = varpro("run", "fid.yaml")
    assert done.exit_code == 0, done.output
    fit = vp.load(folder / "runs" / "fid")
    _, model = built()
    alone = vp.fit(model, T, FID, real_coefficients=True, nonnegative=["a"])
    np.testing.assert_array_equal(fit.y, FID)
    np.testing.assert_allclose(fit.alpha, alone.alpha, rtol=1e-12)
    assert fit["rx.delay"].fixed and fit.coef.dtype == float
    plan = make_plan("fid.yaml")
    units = {name: plan.units[name] for name in (*fit.names, "a")}
    assert units == {
        **{"a.freq": "1/s", "a.rate": "1/s", "b.freq": "1/s", "b.fwhm": "1/s"},
        **{"rx.phase": "rad", "rx.delay": "s", "a": "mV"},
    }
    with xr.open_dataset(folder / "runs" / "fid" / "result.nc") as saved:
        np.testing.assert_array_equal(saved["data"].sel(complex=1), FID.imag)
    report = (folder / "runs" / "fid" / "report.html").read_text()
    assert "re + i im" in report and "imag" in report


def test_complex_coefficients_are_written_and_read(folder, plain):
    np.savez("fid.npz", t=T, fid=FID)
    config(folder / "free.yaml", "{path: fid.npz, x: t, y: fid}", MODEL)
    done = plain("free.yaml", "--json")
    assert done.exit_code == 0, done.output
    fit = vp.load(folder / "runs" / "free")
    alone = vp.fit(next(built()), T, FID)
    np.testing.assert_allclose(fit.coef, alone.coef, rtol=1e-12)
    assert '"imag"' in (folder / "runs" / "free" / "result.json").read_text()


def test_patterns_pair_real_and_imaginary_columns(folder):
    config(folder / "two.yaml", '{path: fid.csv, x: t, y: "re*", imag: "im*"}', MODEL)
    data = make_plan("two.yaml").columns
    np.testing.assert_array_equal(data.y, np.stack([FID, 2 * FID], axis=1))
    assert data.y_names == ("re + i im", "re2 + i im2")


def save_mat(path, arrays):
    from scipy.io import savemat

    savemat(path, arrays)


def save_h5(path, arrays):
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def save_nc(path, arrays):
    import h5netcdf

    with h5netcdf.File(path, "w", invalid_netcdf=True) as file:
        file.dimensions = {"t": T.size}
        for name, array in arrays.items():
            file.create_variable(name, ("t",), array.dtype)[:] = array


@pytest.mark.parametrize("ending", ["npz", "mat", "h5", "nc"])
@pytest.mark.filterwarnings("ignore:You are writing invalid netcdf")
def test_files_of_complex_arrays_and_of_pairs(folder, ending):
    save = {"npz": lambda path, a: np.savez(path, **a), "mat": save_mat, "h5": save_h5}
    arrays = {"t": T, "fid": FID, "re": FID.real.copy(), "im": FID.imag.copy()}
    save.get(ending, save_nc)(f"fid.{ending}", arrays)
    for data in ("y: fid", "y: re, imag: im"):
        config(folder / "one.yaml", f"{{path: fid.{ending}, x: t, {data}}}", MODEL)
        np.testing.assert_array_equal(make_plan("one.yaml").columns.y, FID)


def test_a_cube_in_two_arrays_is_fitted_voxel_by_voxel(folder, plain):
    dims = ("row", "column", "t")
    parts = {"re": (dims, CUBE.real), "im": (dims, CUBE.imag)}
    xr.Dataset(parts, {"t": T}).to_netcdf("cube.nc", engine="h5netcdf")
    text = MODEL + "fit: {share: none, block: 4}\n"
    config(folder / "cube.yaml", "{path: cube.nc, x: t, variable: re, imag: im}", text)
    done = plain("cube.yaml")
    assert done.exit_code == 0, done.output
    assert "|a|" in done.output
    batch = vp.load(folder / "runs" / "cube" / "result.nc")
    wanted = vp.fit_many(next(built()), T, CUBE, block=4)
    assert batch.dims == dims[:2] and batch.coef.dtype == complex
    np.testing.assert_allclose(batch.coef, wanted.coef, rtol=1e-9)


def test_arrays_of_complex_numbers_are_cubes_and_columns_of_a_table_too(folder):
    np.save("cube.npy", CUBE)
    data = "{path: cube.npy, x: t, variable: data, dims: [row, column, t], spacing: 0.008}"
    config(folder / "cube.yaml", data, PHASED + "fit: {share: none}\n")
    plan = make_plan("cube.yaml")
    assert plan.source.dtype == complex and plan.source.shape == CUBE.shape
    np.testing.assert_array_equal(plan.source[1, :, 2:4], CUBE[1, :, 2:4])


@pytest.mark.parametrize(
    ("data", "rest", "words"),
    [
        ("{path: fid.csv, x: t, y: re, imag: i}", MODEL, "data.imag.0: fid.csv has no column 'i'"),
        (
            "{path: fid.csv, x: t, y: re, imag: [im, im2]}",
            MODEL,
            "imag has 2 names, but there are 1",
        ),
        ('{path: fid.csv, x: t, y: "re*", imag: im}', MODEL, "1 columns for the 2 of y"),
        ("{path: fid.csv, x: t, y: re}", MODEL, "model.a: is for complex data, but y is real"),
        ("{path: fid.csv, x: t, y: re, imag: im, sigma: poisson}", MODEL, "column of counts"),
        (
            "{path: fid.csv, x: t, y: re, imag: im}",
            MODEL.replace("freq: 11.0,", "freq: 11.0, receiver: rx,"),
            "receiver: no receiver 'rx'",
        ),
        (
            "{path: fid.csv, x: t, y: re, imag: im}",
            PHASED.replace("kind: receiver, phase: 0.2, delay: 0.001", "center: 0.1, width: 0.1"),
            "no receiver 'rx'",
        ),
    ],
)
def test_what_cannot_be_is_named_with_its_line(folder, varpro, data, rest, words):
    config(folder / "bad.yaml", data, rest)
    done = varpro("check", "bad.yaml")
    assert done.exit_code == 2 and words in " ".join(done.output.split()), done.output


def test_a_new_configuration_of_complex_data_has_the_lines_that_are_there(folder, varpro):
    np.savez("fid.npz", t=T, fid=FID)
    done = varpro("new", "new.yaml", "--from", "fid.npz")
    assert done.exit_code == 0 and "two decaying waves" in done.output, done.output
    starts = {name: p.init for name, p in make_plan("new.yaml").parameters.items()}
    assert starts["line1.freq"] == pytest.approx(-40.0, abs=0.5)
    assert starts["line2.freq"] == pytest.approx(10.0, abs=0.5)
