"""Cubes of curves in files: every format gives the same array, read in parts, also elsewhere."""

import pickle

import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr

from varpro import InputError
from varpro.app.data.from_cube import open_cube
from varpro.app.plan.make_plan import make_plan
from varpro.app.provenance import digest
from varpro.app.runs import batch

T = np.arange(6) * 0.5
CUBE = np.random.default_rng(0).integers(0, 900, (6, 4, 5)).astype(np.uint16)


def netcdf(path):
    array = xr.DataArray(CUBE, dims=("t", "row", "col"), coords={"t": ("t", T, {"units": "ns"})})
    array.attrs["units"] = "counts"
    return array.to_dataset(name="y")


def write(kind, folder):
    path = folder / f"cube.{kind.partition('-')[0]}"
    if kind == "nc":
        netcdf(path).to_netcdf(path, engine="h5netcdf")
    elif kind == "zarr":
        netcdf(path).to_zarr(path)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["y"], file["t"] = CUBE, T
    elif kind == "npz":
        np.savez(path, y=CUBE, t=T)
    elif kind == "npy":
        np.save(path, CUBE)
    else:
        how = {"compression": "zlib"} if kind == "tif-packed" else {}
        tifffile.imwrite(path, CUBE, metadata={"axes": "TYX"}, photometric="minisblack", **how)
    return path


@pytest.mark.parametrize("kind", ["nc", "zarr", "h5", "npz", "npy", "tif", "tif-packed"])
def test_every_format_gives_the_same_cube_here_and_in_another_process(tmp_path, kind):
    path = write(kind, tmp_path)
    labels = kind in ("nc", "zarr")
    bare = kind in ("npy", "tif", "tif-packed")
    dims = ["t", "row", "col"] if bare else None
    source = open_cube(path, None, "t", dims, 0.5 if bare else None)
    assert source.dims[0] == "t" and source.shape == CUBE.shape
    assert not (labels or bare) or source.dims == ("t", "row", "col")
    assert source.dtype == np.uint16 and source.unit == ("counts" if labels else "")
    np.testing.assert_array_equal(source.coords["t"].values, T)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[1:4, 2, :], CUBE[1:4, 2, :])


@pytest.mark.parametrize("kind", ["nc", "npy", "tif"])
def test_windows_are_those_of_the_whole_cube_in_every_format(tmp_path, kind):
    dims = None if kind == "nc" else ["t", "row", "col"]
    whole = open_cube(write(kind, tmp_path), None, "t", dims, None if kind == "nc" else 0.5)
    some = whole.within({"t": (1, 5), "col": (2, 4), "elsewhere": (0, 1)})
    part = CUBE[1:5, :, 2:4]
    assert some.shape == part.shape
    np.testing.assert_array_equal(some.coords["t"].values, T[1:5])
    at = np.array([3, 0])
    for index in (
        ...,
        2,
        slice(None, None, -1),
        (slice(0, 3), -1),
        (..., 1),
        (slice(None), 2, at % 2),
        (at, slice(1, 3), 0),
        (slice(None), np.array([True, False, True, False])),
    ):
        np.testing.assert_array_equal(some[index], part[index])
    again = pickle.loads(pickle.dumps(some))
    np.testing.assert_array_equal(again[1, 2, :], part[1, 2, :])
    np.testing.assert_array_equal(some.moved(some.name)[1:3], part[1:3])


@pytest.mark.parametrize(
    ("keys", "rows", "columns", "samples"),
    [
        ("select: {row: [1, 2], col: 3}", slice(1, 3), slice(3, 4), slice(None)),
        ("range: [0.4, 1.6]", slice(None), slice(None), slice(1, 4)),
        ("range: [0.4, 1.6], select: {t: [1, 9], nm: [410, 425]}", slice(None), slice(1, 3), slice(2, 4)),
    ],
)  # fmt: skip
def test_a_configuration_fits_the_part_of_a_cube_that_it_selects(
    tmp_path, monkeypatch, keys, rows, columns, samples
):
    monkeypatch.chdir(tmp_path)
    file = netcdf(None).assign_coords(nm=("col", 400.0 + 10 * np.arange(5)))
    file["s"] = ("row", "col"), np.arange(20.0).reshape(4, 5)
    file.to_netcdf("c.nc", engine="h5netcdf")
    text = "data: {path: c.nc, x: t, variable: y, %s}\nmodel: {a: {kind: exp, tau: 1.0}}\n"
    (tmp_path / "c.yaml").write_text(text % keys + "fit: {share: none, init: {a.tau: s}}\n")
    plan = make_plan("c.yaml")
    source, options = batch._data_and_options(plan)
    np.testing.assert_array_equal(plan.columns.x, T[samples])
    np.testing.assert_array_equal(source[...], CUBE[samples, rows, columns])
    np.testing.assert_array_equal(options["init"]["a.tau"], file["s"].values[rows, columns])
    np.testing.assert_array_equal(source.coords["nm"], file["nm"].values[columns])


def test_times_with_units_stay_numbers(tmp_path):
    source = open_cube(write("nc", tmp_path), "y", "t", None)
    assert source.coords["t"].dtype == float


def test_a_digest_changes_with_any_byte_of_a_file_or_folder(tmp_path):
    for kind in ("npz", "zarr"):
        path = write(kind, tmp_path)
        before = digest(path, "data")
        assert before == digest(path, "data")
        target = path if path.is_file() else next(p for p in sorted(path.rglob("*")) if p.is_file())
        raw = bytearray(target.read_bytes())
        raw[len(raw) // 2] ^= 1
        target.write_bytes(raw)
        assert digest(path, "data") != before


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("nc", ("z", "t", None), "no array 'z'"),
        ("nc", ("y", "time", None), "no dimension 'time'"),
        ("npz", ("y", "t", ["t", "row"]), "2 names for the 3 axes"),
        ("npy", (None, "t", ["t", "row", "col"]), "no positions along 't'"),
        ("npz", (None, "row", ["t", "row", "col"]), "no positions along 'row'"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, kind, arguments, message):
    with pytest.raises(InputError) as caught:
        open_cube(write(kind, tmp_path), *arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["nc", "npz", "tif"])
def test_a_damaged_file_is_named_in_one_line(tmp_path, kind):
    path = write(kind, tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError) as caught:
        open_cube(path, None, "t", None)
    assert "cube." in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "fit", "message"),
    [
        ("{path: c.nc, x: t, variable: y}", "{}", "is for the arrays of 'fit: {share: none}'"),
        ("{path: c.nc, x: t, y: [a, b]}", "{share: none}", "c.yaml:1 data.y: of a file of curves"),
        ("{path: c.csv, x: t, y: a, dims: [t]}", "{share: none}", "is for the arrays of"),
        ("{path: c.nc, x: t, where: {a: b}}", "{share: none}", "is for tables of text"),
        ("{path: cube.nc, x: t, range: [7, 8]}", "{share: none}", "no 't' lies between 7 and 8"),
        ("{path: cube.nc, x: t, select: {z: 1}}", "{share: none}", "data.select.z: 'z' is no axis"),
        ("{path: c.nc, x: t, sigma: poisson}", "{share: none}", "noise: poisson"),
        ("{path: c.nc, x: t}", "{share: none, block: 0}", "fit.block"),
        ("{path: c.nc, x: t}", "{share: none}", "c.nc: data: no such file"),
        ("{path: c.csv, x: t}", "{}", "data.y: this key is required"),
    ],
)
def test_configurations_that_cannot_be_meant(tmp_path, monkeypatch, data, fit, message):
    monkeypatch.chdir(tmp_path)
    write("nc", tmp_path)
    model = "{a: {kind: exp, tau: 1.0}}"
    (tmp_path / "c.yaml").write_text(f"data: {data}\nmodel: {model}\nfit: {fit}\n")
    with pytest.raises(InputError) as caught:
        make_plan("c.yaml")
    assert message in str(caught.value)
