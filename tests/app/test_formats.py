"""Data files of every kind, read to the same numbers, and what is said of damaged ones."""

import numpy as np
import pytest
import scipy.io
import xarray as xr

from varpro import InputError
from varpro.app.data.formats import read_arrays, readers
from varpro.app.plan.fit import fit_plan
from varpro.app.plan.make_plan import make_plan

T = np.linspace(0.0, 6.0, 25)
W = np.array([400.0, 450.0, 500.0])
Y = np.exp(-T[:, None] / 2.0) * [3.0, 2.0, 1.0] + 0.5


def arrays():
    return {"time": T, "wavelength": W, "spectra": Y}


def dataset():
    axes = {"time": ("time", T, {"units": "ps"}), "wavelength": W}
    return xr.Dataset({"spectra": (("wavelength", "time"), Y.T, {"units": "mOD"})}, axes)


def save_npz(path):
    np.savez(path, **arrays())


def save_hdf5(path):
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays().items():
            file[name] = array


def save_explicit(kind):
    def save(path):
        inner, outer, data = (T, W, Y.T) if kind == "Time explicit" else (W, T, Y)
        rows = "\n".join(
            " ".join(map(repr, [float(o), *map(float, row)]))
            for o, row in zip(outer, data, strict=True)
        )
        axis = " ".join(repr(float(v)) for v in inner)
        path.write_text(f"a comment\nanother\n{kind}\nIntervalnr {len(inner)}\n{axis}\n{rows}\n")

    return save


def save_table(path):
    head = ",".join(["time [ps]", *(f"{w:g}" for w in W)])
    rows = "\n".join(
        ",".join(map(repr, [float(t), *map(float, r)])) for t, r in zip(T, Y, strict=True)
    )
    path.write_text(f"{head}\n{rows}\n")


SAVED = {
    "spectra.csv": (save_table, ["4*", "5*"]),
    "spectra.npz": (save_npz, ["spectra"]),
    "spectra.nc": (lambda path: dataset().to_netcdf(path, engine="h5netcdf"), ["spectra"]),
    "classic.nc": (lambda path: dataset().to_netcdf(path, engine="scipy"), ["spectra"]),
    "spectra.zarr": (lambda path: dataset().to_zarr(path), ["spectra"]),
    "spectra.h5": (save_hdf5, ["spectra"]),
    "spectra.mat": (lambda path: scipy.io.savemat(path, arrays()), ["spectra"]),
    "time.ascii": (save_explicit("Time explicit"), ["data"]),
    "wavelength.ascii": (save_explicit("Wavelength explicit"), ["data"]),
}


def plan_of(folder, name, more="", y=("spectra",)):
    (folder / "fit.yaml").write_text(
        f"data: {{path: {name}, x: time, y: {list(y)}{more}}}\nmodel:\n"
        "  decay: {kind: exp, tau: 1.0}\n  bg: {kind: constant}\n"
    )
    return make_plan(str(folder / "fit.yaml"))


@pytest.mark.parametrize("name", SAVED)
def test_every_format_gives_the_same_numbers(tmp_path, name):
    save, y = SAVED[name]
    save(tmp_path / name)
    data = plan_of(tmp_path, name, y=y).columns
    np.testing.assert_allclose(data.x, T)
    np.testing.assert_allclose(data.y, Y)
    if name != "spectra.csv":
        np.testing.assert_allclose(np.asarray(data.labels, float), W)
        assert data.labels_name == "wavelength"
    assert data.y_names == ("400", "450", "500")
    if name.endswith((".nc", ".zarr")):
        assert (data.x_unit, data.y_unit) == ("ps", "mOD")


def test_parts_of_axes_are_selected(tmp_path):
    save_npz(tmp_path / "spectra.npz")
    more = ", range: [1, 4], select: {wavelength: [440, 600]}"
    data = plan_of(tmp_path, "spectra.npz", more).columns
    rows = (T >= 1) & (T <= 4)
    np.testing.assert_allclose(data.y, Y[rows][:, 1:])
    with pytest.raises(InputError, match=r"data.select.wavelength: no 'wavelength' lies between 1"):
        plan_of(tmp_path, "spectra.npz", ", select: {wavelength: [1, 2]}")


def test_sigma_and_mask_are_arrays_too(tmp_path):
    mask = T > 1.0
    np.savez(tmp_path / "d.npz", sigma=np.full(Y.shape, 0.1), used=mask, **arrays())
    data = plan_of(tmp_path, "d.npz", ", sigma: sigma, mask: used").columns
    assert data.sigma.shape == Y.shape and (data.mask == mask).all()


def cut(name):
    """A file of which the second half is missing."""

    def damage(folder):
        SAVED[name][0](folder / name)
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(raw[: len(raw) // 2])

    return damage


def pickled(folder):
    np.savez(folder / "spectra.npz", time=T, spectra=np.array([{"a": 1}], dtype=object))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("spectra.npz", cut("spectra.npz"), "spectra.npz: data: cannot be read as npz"),
        ("spectra.nc", cut("spectra.nc"), "spectra.nc: data: cannot be read as nc"),
        ("spectra.h5", cut("spectra.h5"), "spectra.h5: data: cannot be read as h5"),
        ("spectra.mat", cut("spectra.mat"), "spectra.mat: data: cannot be read as"),
        ("time.ascii", cut("time.ascii"), "time.ascii.* a row of .* numbers where 26 are expected"),
        ("spectra.npz", pickled, "cannot be read as npz"),
        ("spectra.npz", lambda folder: None, "spectra.npz: data: no such file"),
        ("some.zarr", lambda folder: (folder / "some.zarr").mkdir(), "cannot be read as zarr"),
        (
            "folder",
            lambda folder: (folder / "folder").mkdir(),
            "is a folder, not a file. Known form",
        ),
        ("spectra.npz", lambda f: np.savez(f / "spectra.npz", a="text"), "holds no arrays"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, make, message):
    make(tmp_path)
    with pytest.raises(InputError, match=message) as info:
        plan_of(tmp_path, name)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("more", "y", "message"),
    [
        ("", ["spectrum"], "data.y.0: .* has no array 'spectrum'. Did you mean 'spectra'"),
        ("", ["wavelength"], "has no axis in common with x"),
        ("", ["spectra", "spectra"], "data: y names 'spectra' twice"),
        ("", ["spectra", "time"], "'time' is both x and y"),
        (", sigma: nothing", ["spectra"], "data.sigma: .* has no array 'nothing'"),
        (", where: {a: b}", ["spectra"], "data.where: is for tables of text"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, more, y, message):
    save_npz(tmp_path / "spectra.npz")
    with pytest.raises(InputError, match=message):
        plan_of(tmp_path, "spectra.npz", more, y)


def test_values_that_are_not_finite_are_found_or_dropped(tmp_path):
    y = Y.copy()
    y[3, 1] = np.nan
    np.savez(tmp_path / "d.npz", time=T, wavelength=W, spectra=y)
    with pytest.raises(InputError, match=r"1 values that are not finite, the first at \(3, 1\)"):
        plan_of(tmp_path, "d.npz")
    assert fit_plan(plan_of(tmp_path, "d.npz", ", nan: drop")).num_data == Y.size - 1


def test_readers_of_other_packages_are_found(tmp_path, monkeypatch):
    class Entry:
        name = "DM3"

        def load(self):
            return lambda path: dataset().rename(spectra="signal")

    from varpro.app.data import formats

    monkeypatch.setattr(formats.importlib.metadata, "entry_points", lambda group: [Entry()])
    (tmp_path / "a.dm3").write_bytes(b"\0")
    assert "dm3" in readers() and "signal" in read_arrays(tmp_path / "a.dm3")
    np.testing.assert_allclose(plan_of(tmp_path, "a.dm3", y=["signal"]).columns.y, Y)


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):

    monkeypatch.setattr(
        "varpro.app.data.formats.importlib.import_module",
        lambda name: (_ for _ in ()).throw(ImportError(name)),
    )
    (tmp_path / "a.sdt").write_bytes(b"\0")
    with pytest.raises(
        InputError,
        match=r"needs sdtfile, which is not installed. Install it with 'pip install varpro\[flim\]'",
    ):
        read_arrays(tmp_path / "a.sdt")
