"""What data call their axes is what results, tables, files and figures call them; labels join arrays."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import varpro as vp

X = np.linspace(0, 10, 101)
WL = np.array([335.0, 400.0, 780.0])
MODEL = vp.Exp("e", tau=1.0) + vp.Constant("c")
VALUES = (3 * np.exp(-X / 2) + 0.5)[:, None] * [1.0, 2.0, 3.0] + 0.01 * np.cos(
    np.outer(40 * X, [1, 2, 3])
)
MAP = xr.DataArray(
    VALUES,
    dims=("time", "wavelength"),
    coords={
        "time": ("time", X, {"units": "ns"}),
        "wavelength": ("wavelength", WL, {"units": "nm"}),
    },
    name="dA",
    attrs={"units": "mOD"},
)
FIT = vp.fit(MODEL, MAP, dim="time")
TAUS = np.linspace(1, 3, 6).reshape(2, 3)
CUBE = xr.DataArray(
    3 * np.exp(-X / TAUS[..., None]) + 0.5,
    dims=("row", "column", "time"),
    coords={"row": [1, 2], "column": [3, 4, 5], "time": X},
)


def test_labelled_data_are_fitted_as_the_plain_ones():
    plain = vp.fit(MODEL, X, VALUES)
    frame = pd.DataFrame(VALUES, index=pd.Index(X, name="time"), columns=WL)
    table = frame.reset_index()
    for fit in (
        *(FIT, vp.fit(MODEL, MAP.T, dim="time"), vp.fit(MODEL, MAP.time, MAP.T)),
        *(vp.fit(MODEL, X, MAP.T, dim="time"), vp.fit(MODEL, MAP.to_dataset(), dim="time")),
        *(vp.fit(MODEL, frame), vp.fit(MODEL, table, dim="time"), vp.fit(MODEL, X, frame)),
        vp.fit(MODEL, frame.set_axis(["335", "400.0", "780"], axis=1)),
    ):
        np.testing.assert_allclose(fit.alpha, plain.alpha, rtol=1e-12)
        np.testing.assert_allclose(fit.coef, plain.coef, rtol=1e-12)
    one = vp.fit(MODEL, MAP[:, 0])
    np.testing.assert_allclose(one.coef, vp.fit(MODEL, X, VALUES[:, 0]).coef, rtol=1e-12)
    assert one.to_dataset()["data"].dims == ("time",)
    assert vp.find_starts(MODEL, MAP, dim="time") == vp.find_starts(MODEL, X, VALUES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vp.fit(MODEL, MAP), r"dim=, one of \('time', 'wavelength'\)"),
        (lambda: vp.fit(MODEL, MAP, dim="tim"), "dim='tim' is no dimension"),
        (
            lambda: vp.fit(MODEL, pd.DataFrame({"t": X, "y": VALUES[:, 0]})),
            r"dim=, the column that is x",
        ),
        (lambda: vp.fit(MODEL, MAP[:, 0].drop_vars("time")), "no coordinate 'time'"),
        (lambda: vp.fit(MODEL, X, VALUES, dim="time"), "dim= is for labelled data"),
        (lambda: vp.fit(MODEL, xr.Dataset({"a": MAP, "b": MAP}), dim="time"), "2 variables"),
    ],
)
def test_data_without_positions_are_refused(call, message):
    with pytest.raises(vp.InputError, match=message):
        call()


def test_datasets_have_names_coordinates_and_units_of_the_data():
    data = FIT.to_dataset()
    assert data["fitted"].dims == ("time", "wavelength") and data["coef"].dims == (
        "coefficient",
        "wavelength",
    )
    np.testing.assert_array_equal(data["wavelength"], WL)
    assert data["wavelength"].attrs["units"] == "nm" and data["x"].attrs["units"] == "ns"
    assert data["data"].attrs["units"] == "mOD"
    # So that they can be computed with.
    assert float(abs(MAP - data["fitted"] - data["residual"]).max()) < 1e-12
    table = FIT.to_frame()
    linear = table[table.kind == "linear"]
    assert linear["wavelength"].tolist() == [*WL, *WL] and linear["rhs"].tolist() == [0, 1, 2] * 2
    assert "wavelength 335 to 780 nm" in str(FIT)
    assert "e[400]" in str(FIT.ci(names="e", rhs=[0, 1]))


def test_files_keep_the_names(tmp_path):
    frame = pd.DataFrame(
        VALUES[:, :2], index=pd.Index(X, name="time"), columns=["probe a", "probe b"]
    )
    fits = [FIT, vp.fit(MODEL, frame), vp.fit(MODEL, MAP, dim="time", share="none")]
    fits.append(vp.fit(MODEL, {"r": MAP, "s": 2 * MAP}, dim="time"))
    for i, fit in enumerate(fits):
        fit.save(tmp_path / f"{i}.nc")
        again = vp.load(tmp_path / f"{i}.nc")
        assert again == fit
    with xr.open_dataset(tmp_path / "0.nc") as data:
        np.testing.assert_array_equal(data["wavelength"], WL)
        assert data["wavelength"].attrs["units"] == "nm"
    assert fits[1].to_dataset()["rhs"].values.tolist() == ["probe a", "probe b"]
    assert fits[3]["s"].to_dataset()["data"].dims == ("time", "wavelength")
    np.testing.assert_array_equal(fits[2].to_dataset()["wavelength"], WL)


def test_figures_say_what_the_data_say():
    def said(fig):
        words = [w for ax in fig.axes for w in (ax.get_xlabel(), ax.get_ylabel())]
        return " ".join(words), [
            t.get_text() for ax in fig.axes if ax.get_legend() for t in ax.get_legend().get_texts()
        ]

    words, names = said(FIT.plot())
    assert "time [ns]" in words and "dA [mOD]" in words and names == ["335", "400", "780"]
    assert "wavelength [nm]" in said(FIT.plot_components())[0]
    assert "wavelength [nm]" in said(FIT.plot_maps())[0]
    assert "wavelength [nm]" in said(vp.fit(MODEL, MAP, dim="time", share="none").plot_maps())[0]
    mine = vp.Labels(x="delay", rhs="colour")
    assert "delay" in said(FIT.plot(labels=mine))[0] and "ns" not in said(FIT.plot(labels=mine))[0]


def test_names_that_a_dataset_has_already_are_not_taken(tmp_path):
    for first, second in (
        ("data", "coef"),
        ("t", "x"),
        ("x", "value"),
        ("x", "x.t"),
        ("a/b", "rhs"),
    ):
        odd = MAP.rename(time=first, wavelength=second)
        fit = vp.fit(MODEL, odd, dim=first)
        fit.save(tmp_path / "fit.nc")
        assert vp.load(tmp_path / "fit.nc") == fit
        np.testing.assert_array_equal(fit.to_dataset()["x"], X)


# ---------------------------------------------------------------- joined by labels


def shuffled(array, dim):
    return array.isel({dim: np.roll(np.arange(array.sizes[dim]), 1)})


@pytest.mark.parametrize("what", ["sigma", "weights", "mask"])
def test_labels_join_weights_to_data(what):
    along = xr.DataArray(1 + X, dims="time", coords={"time": X})
    whole = along * xr.DataArray([1.0, 2.0, 3.0], dims="wavelength", coords={"wavelength": WL})
    across = xr.DataArray([2.0, 3.0, 4.0], dims="wavelength", coords={"wavelength": WL})
    for value in (along, whole, whole.T, across):
        value = value > 1.5 if what == "mask" else value
        one = vp.fit(MODEL, MAP, dim="time", **{what: value})
        two = vp.fit(MODEL, MAP, dim="time", **{what: shuffled(value, value.dims[-1])})
        full = (value + xr.zeros_like(MAP, dtype=value.dtype)).transpose("time", "wavelength")
        three = vp.fit(MODEL, X, VALUES, **{what: full.values.astype(value.dtype)})
        np.testing.assert_array_equal(one.weights_of_all, two.weights_of_all)
        np.testing.assert_array_equal(one.weights_of_all, three.weights_of_all)
    other = along.assign_coords(time=X + 0.05)
    other = other > 1.5 if what == "mask" else other
    with pytest.raises(
        vp.InputError, match=f"{what} and the data have different labels along 'time'.*'0'"
    ):
        vp.fit(MODEL, MAP, dim="time", **{what: other})
    strange = other.rename(time="t")
    with pytest.raises(vp.InputError, match=f"{what}: 't' is no dimension of the data"):
        vp.fit(MODEL, MAP, dim="time", **{what: strange})


def test_an_index_joins_columns_of_pandas():
    index = np.arange(101)[::-1]
    y = pd.Series(VALUES[:, 0], index=index)
    x, sigma = pd.Series(X, index=index), pd.Series(1 + X, index=index)
    plain = vp.fit(MODEL, X, VALUES[:, 0], sigma=1 + X)
    for fit in (
        vp.fit(MODEL, x.sort_index(), y, sigma=sigma),
        vp.fit(MODEL, x, y, sigma=sigma.sample(frac=1, random_state=0)),
        vp.fit(MODEL, X, y, sigma=1 + X),
    ):
        np.testing.assert_allclose(fit.alpha, plain.alpha, rtol=1e-12)
        np.testing.assert_array_equal(fit.weights, plain.weights)
    with pytest.raises(
        vp.InputError, match="x and the data have different labels: the data have '6'"
    ):
        vp.fit(MODEL, x.set_axis(index + 7), y)


def test_a_table_of_one_column_is_that_column():
    frame = pd.DataFrame({"t": X, "a": VALUES[:, 0], "b": VALUES[:, 1], "error": 1 + X})
    plain = vp.fit(MODEL, X, VALUES[:, :2], sigma=1 + X)
    fit = vp.fit(MODEL, frame[["t"]], frame[["a", "b"]], sigma=frame["error"])
    np.testing.assert_array_equal(fit.alpha, plain.alpha)
    shuffled = frame.sample(frac=1, random_state=0)
    fit = vp.fit(MODEL, shuffled[["t"]], frame[["a", "b"]], sigma=shuffled["error"])
    np.testing.assert_array_equal(fit.alpha, plain.alpha)
    with pytest.raises(
        vp.InputError, match="x has 101 points, as the first axis of y .101, 2. has"
    ):
        vp.fit_many(MODEL, frame[["t"]], frame[["a", "b"]])


def test_labels_join_maps_to_cubes():
    starts = xr.DataArray(TAUS, dims=("row", "column"), coords={"row": [1, 2], "column": [3, 4, 5]})
    used = starts < 2.9
    turned = starts.T[::-1, ::-1]
    held = vp.fit_many(MODEL, CUBE, dim="time", init={"e.tau": turned}, fix="e.tau")
    np.testing.assert_allclose(held["e.tau"].value, TAUS, rtol=1e-12)
    boxed = vp.fit_many(
        MODEL,
        CUBE,
        dim="time",
        init={"e.tau": starts},
        bounds={"e.tau": (turned - 0.1, turned + 0.1)},
    )
    np.testing.assert_allclose(boxed["e.tau"].value, TAUS, rtol=1e-8)
    for mask in (used, used[::-1], used.T):
        fit = vp.fit_many(MODEL, CUBE, dim="time", mask=mask)
        assert fit.counts == {"successful": 5, "no_data": 1} and not fit.success[1, 2]
    row = xr.DataArray([1.0, 3.0], dims="row", coords={"row": [2, 1]})  # of some of the axes
    job = vp.prepare_many(MODEL, CUBE, dim="time", init={"e.tau": row})
    np.testing.assert_array_equal(job.start[:, 0], [3.0, 3.0, 3.0, 1.0, 1.0, 1.0])
    for wrong in (starts.assign_coords(row=[1, 7]), starts.assign_coords(column=[3, 4, 6])):
        label = "2" if 7 in wrong.row else "5"
        for options in (
            {"init": {"e.tau": wrong}},
            {"bounds": {"e.tau": (wrong - 0.1, wrong + 0.1)}},
            {"mask": wrong > 2},
            {"sigma": wrong},
        ):
            with pytest.raises(
                vp.InputError, match=f"different labels along .*the data have '{label}'"
            ):
                vp.prepare_many(MODEL, CUBE, dim="time", **options)
