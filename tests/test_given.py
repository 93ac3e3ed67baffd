"""Whatever holds the numbers of a user, every door reads what he meant, or says why it does not."""

import datetime
import decimal
import os

import dask.array as da
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pint
import polars as pl
import pytest
import xarray as xr
from hypothesis import example, given, settings, strategies as st

import varpro as vp
from varpro._given.containers import numbers_of, truth_of
from varpro._problem.data import prepare_data
from varpro._problem.options import Weighting

# One model and shape of data: one program for all fits of one data set here.
X = np.linspace(0, 10, 101)
Y = 3 * np.exp(-X / 2) + 0.5 + 0.01 * np.cos(40 * X)
MODEL = vp.Exp("e", tau=1.0) + vp.Constant("c")
PLAIN = vp.fit(MODEL, X, Y, mask=np.arange(101) % 10 != 0)
HOLES = np.arange(101) % 10 == 0
SPOILED = np.where(HOLES, 1e6, Y)
MASKED = np.ma.masked_greater(SPOILED, 1e5)
TAUS = np.linspace(1, 3, 6).reshape(2, 3)
CUBE = 3 * np.exp(-X / TAUS[..., None]) + 0.5


def tau(fit):
    return np.asarray(fit["e.tau"].value)


def same(fit, other=PLAIN, tolerance=1e-12):
    """To rounding alone: the same numbers went into the same program."""
    np.testing.assert_allclose(fit.alpha, other.alpha, rtol=tolerance)
    np.testing.assert_allclose(fit.coef, other.coef, rtol=tolerance)
    assert fit.num_data == other.num_data


# ---------------------------------------------------------------- masked arrays

ONE_DOOR = {
    "y": lambda: vp.fit(MODEL, X, MASKED),
    "x": lambda: vp.fit(MODEL, np.ma.MaskedArray(np.where(HOLES, 77.0, X), HOLES), SPOILED),
    "sigma": lambda: vp.fit(MODEL, X, SPOILED, sigma=np.ma.MaskedArray(np.ones(101), HOLES)),
    "weights": lambda: vp.fit(MODEL, X, SPOILED, weights=np.ma.MaskedArray(np.ones(101), HOLES)),
    "mask": lambda: vp.fit(MODEL, X, SPOILED, mask=np.ma.MaskedArray(np.ones(101, bool), HOLES)),
    "series": lambda: vp.fit(MODEL, X, pd.Series(np.where(HOLES, np.nan, Y)), nan="drop"),
    "nullable": lambda: vp.fit(
        MODEL, X, pd.Series(np.where(HOLES, None, Y), dtype="Float64"), nan="drop"
    ),
    "nullable mask": lambda: vp.fit(
        MODEL, X, SPOILED, mask=pd.Series(np.where(HOLES, None, True), dtype="boolean")
    ),
    "none": lambda: vp.fit(
        MODEL, X, [None if h else v for h, v in zip(HOLES, Y, strict=True)], nan="drop"
    ),
}


@pytest.mark.parametrize("where", ONE_DOOR)
def test_what_is_masked_has_no_part_in_the_fit(where):
    fit = ONE_DOOR[where]()
    same(fit)
    assert np.isnan(fit.resid[HOLES]).all() and (fit.weights[HOLES] == 0).all()


def test_masked_arrays_are_masked_in_every_other_door(tmp_path):
    sets = vp.fit(MODEL, {"a": (X, MASKED), "b": (X, MASKED)})
    assert tau(sets) == pytest.approx(tau(PLAIN), rel=1e-8)
    assert vp.find_starts(vp.Exp("e") + vp.Constant("c"), X, MASKED)["e.tau"] == pytest.approx(
        2.0, rel=0.2
    )
    with pytest.raises(vp.InputError, match="non-finite values in right-hand sides"):
        vp.compress(np.ma.MaskedArray(np.stack([Y, Y], 1), np.eye(101, 2)))
    snapshots = np.stack([np.exp(-X), np.exp(-X / 3), np.exp(-X) + np.exp(-X / 3)])
    whole = vp.dmd(snapshots, X, 2)
    spoiled = np.ma.MaskedArray(np.where(HOLES, 1e6, snapshots), np.tile(HOLES, (3, 1)))
    np.testing.assert_allclose(
        np.sort(vp.dmd(spoiled, X, 2).eigenvalues.real), np.sort(whole.eigenvalues.real), rtol=1e-8
    )
    with pytest.raises(vp.InputError, match="not the same snapshots in all of its rows"):
        vp.dmd(np.ma.MaskedArray(snapshots, np.eye(3, 101)), X, 2)


# ---------------------------------------------------------------- byte orders and types


@pytest.mark.parametrize(
    "dtype", [">f8", "<f8", np.longdouble, ">f4", "f4", "f2", ">i4", "u2", ">c16", np.clongdouble]
)
def test_numbers_mean_the_same_in_every_type(dtype):
    scale = 1000 if np.dtype(dtype).kind in "iu" else 1
    y = (scale * Y).astype(dtype)
    found, x = (
        numbers_of("y", y).values,
        numbers_of("x", X.astype(np.dtype(dtype) if scale == 1 else float)).values,
    )
    single = np.dtype(dtype).itemsize <= 4 and np.dtype(dtype).kind == "f" and dtype != "f2"
    assert found.dtype.isnative and found.dtype.itemsize == (
        4 if single else 8 if found.dtype.kind == "f" else 16
    )
    np.testing.assert_allclose(
        found, y.astype(complex if found.dtype.kind == "c" else float), rtol=1e-15
    )
    assert x.dtype.isnative


def test_a_foreign_byte_order_is_fitted_as_the_own_one():
    for dtype in (">f8", np.longdouble):
        same(
            vp.fit(MODEL, X.astype(dtype), Y.astype(dtype), mask=~HOLES, sigma=np.ones(101, dtype))
        )
        many = vp.fit_many(MODEL, X.astype(dtype), CUBE.astype(dtype))
        np.testing.assert_allclose(tau(many), TAUS, rtol=1e-10)


# ---------------------------------------------------------------- containers

CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "series": lambda a: pd.Series(a),
    "series with an index": lambda a: pd.Series(a, index=np.arange(5, 106)),
    "nullable series": lambda a: pd.Series(a).astype("Float64" if a.dtype != bool else "boolean"),
    "index": lambda a: pd.Index(a),
    "data array": lambda a: xr.DataArray(a, dims="t"),
    "nameless data array": lambda a: xr.DataArray(a),
    "dataset": lambda a: xr.Dataset({"q": ("t", a)}),
    "dask": lambda a: da.from_array(a, chunks=20),
    "chunked data array": lambda a: xr.DataArray(a, dims="t").chunk(t=30),
    "jax": lambda a: jnp.asarray(a),
    "objects": lambda a: a.astype(object),
    "masked": lambda a: np.ma.MaskedArray(a),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype),
    "backwards": lambda a: a[::-1].copy()[::-1],
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "bare array interface": lambda a: Interface(a),
}


class Interface:
    """All that NumPy needs of an array."""

    def __init__(self, array):
        self.__array_interface__ = array.__array_interface__
        self.kept = array


class Torch:
    """A tensor as torch has it, by what is used of one."""

    __module__ = "torch"

    def __init__(self, array):
        self.array = array

    def detach(self):
        return Detached(self.array)

    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


class Detached(Torch):
    dtype = "torch.float64"

    def cpu(self):
        return self

    def resolve_conj(self):
        return self

    def resolve_neg(self):
        return self

    def numpy(self):
        return self.array


class Cupy:
    """An array on an accelerator, by what is used of one."""

    __module__ = "cupy"

    def __init__(self, array):
        self.array = array

    def get(self):
        return self.array

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


class Dlpack:
    """An array that only DLPack reads."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


CONTAINERS |= {"torch": Torch, "cupy": Cupy, "dlpack": Dlpack}
CONTAINERS |= {
    "polars": lambda a: pl.Series(a) if a.ndim == 1 else pl.DataFrame(a),
    "polars later": lambda a: pl.LazyFrame({"q": a}),
    "quantity": lambda a: pint.Quantity(a, "volt") if a.dtype != bool else a,
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_holds_the_same_numbers(name):
    hold = CONTAINERS[name]
    sigma = 1 + X
    mask = ~HOLES if name == "dlpack" else hold(~HOLES)  # which has no truth values everywhere
    one = prepare_data(hold(X), hold(Y), Weighting(sigma=hold(sigma), mask=mask))
    two = prepare_data(X, Y, Weighting(sigma=sigma, mask=~HOLES))
    for a, b in ((one.x, two.x), (one.y, two.y), (one.weights, two.weights), (one.keep, two.keep)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.values, two.values)


@pytest.mark.parametrize(
    "name",
    [
        *("list", "series", "data array", "dataset", "dask", "jax", "torch", "cupy", "dlpack"),
        *("polars", "quantity", "objects", "masked", "read-only", "backwards", "every other"),
        *("bare array interface",),
    ],
)
def test_a_batch_reads_the_same_containers(name):
    def hold(a):
        if name == "list":
            return a.tolist()
        if name == "series":
            return pd.DataFrame(a)
        if name == "data array":
            return xr.DataArray(a, dims=("p", "t"))
        if name == "dataset":
            return xr.Dataset({"q": (("p", "t"), a)})
        if name == "dask":
            return da.from_array(a, chunks=(2, 101))
        found = CONTAINERS[name](a)
        return found.reshape(6, 101) if name == "read-only" else found

    curves, dim = CUBE.reshape(6, 101), {"dim": "t"} if name.startswith("data") else {}
    job = vp.prepare_many(MODEL, X, hold(curves), **dim)
    np.testing.assert_array_equal(job.rows.read(0, 6), curves)
    fit = vp.fit_many(MODEL, X, hold(curves), **dim)
    np.testing.assert_allclose(tau(fit).ravel(), TAUS.ravel(), rtol=1e-9)


def test_positions_of_one_column_are_an_axis_but_for_functions_that_take_them_so():
    data = prepare_data(X[:, None], Y, Weighting())
    assert data.x.shape == (101,)

    def own(theta, x):
        return jnp.exp(-x[:, 0] / theta["tau"])

    seen = []
    vp.find_starts(vp.Exp("e"), pd.DataFrame({"t": X}), Y)
    with pytest.raises(vp.InputError, match="No start|tau has no start"):
        vp.fit(
            lambda theta, x: seen.append(x.shape) or own(theta, x),
            X[:, None],
            Y,
            init={"tau": vp.Param()},
        )
    assert (101, 1) in seen


REFUSED = {
    "spans": (lambda: (X * 1e9).astype("m8[ns]"), "spans of time.*np.timedelta64"),
    "pandas spans": (lambda: pd.Series(pd.to_timedelta(X, unit="s")), "spans of time"),
    "python spans": (lambda: [datetime.timedelta(seconds=float(v)) for v in X], "spans of time"),
    "dates": (lambda: np.datetime64("2020", "ns") + (X * 1e9).astype("m8[ns]"), "dates"),
    "pandas dates": (lambda: pd.date_range("2020", periods=101), "dates"),
    "decimals": (lambda: [decimal.Decimal(1)] * 101, "holds Decimal"),
    "categories": (lambda: pd.Series(np.arange(101)).astype("category"), "categorical"),
    "text": (lambda: ["1.0"] * 101, "numeric"),
    "text of several lengths": (lambda: ["1", *["1.0"] * 100], "numeric"),
    "truth": (lambda: X > 2, "numeric, but has dtype bool"),
    "records": (lambda: np.zeros(101, [("t", float), ("y", float)]), "fields t, y"),
    "two variables": (lambda: xr.Dataset({"a": ("t", X), "b": ("t", X)}), "2 variables"),
    "ragged": (lambda: [[1.0], [1.0, 2.0]], "ragged|lengths"),
    "a word": (lambda: "abc", "numeric"),
    "a set": (lambda: {1.0, 2.0}, "numeric"),
    "another object": (lambda: object(), "numeric"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("where", ["x", "y", "sigma", "weights", "many", "set", "dmd"])
def test_what_is_no_number_is_refused_by_name(name, where):
    make, message = REFUSED[name]
    bad = make()
    calls = {
        "x": lambda: vp.fit(MODEL, bad, Y),
        "y": lambda: vp.fit(MODEL, X, bad),
        "sigma": lambda: vp.fit(MODEL, X, Y, sigma=bad),
        "weights": lambda: vp.fit(MODEL, X, Y, weights=bad),
        "many": lambda: vp.fit_many(MODEL, X, bad),
        "set": lambda: vp.fit(MODEL, {"a": (bad, Y)}),
        "dmd": lambda: vp.dmd(bad, X, 2),
    }
    with pytest.raises(vp.InputError, match=message):
        calls[where]()


@pytest.mark.parametrize(
    "mask", [np.ones(101), ["yes"] * 101, np.arange(5), np.where(HOLES, np.nan, 1.0)]
)
def test_a_mask_of_numbers_is_refused(mask):
    for call in (
        lambda: vp.fit(MODEL, X, Y, mask=mask),
        lambda: vp.fit_many(MODEL, X, CUBE, mask=mask),
    ):
        with pytest.raises(vp.InputError, match="mask must be"):
            call()


def test_complex_positions_are_refused_where_a_base_has_no_use_for_them():
    for call in (lambda: vp.fit(MODEL, X + 0j, Y), lambda: vp.fit_many(MODEL, X + 0j, CUBE)):
        with pytest.raises(vp.InputError, match="x must be real"):
            call()


# ---------------------------------------------------------------- weights of what is left out


def test_what_is_left_out_may_have_any_sigma():
    counts = np.round(100 * Y)
    counts[-5:] = 0
    for bad in (0.0, np.nan, np.inf):
        sigma = np.where(counts > 0, np.sqrt(counts), bad)
        fit = vp.fit(MODEL, X, counts, sigma=sigma, mask=counts > 0)
        assert fit.success and fit.num_data == 96
    gaps = np.where(HOLES, np.nan, Y)
    with pytest.raises(vp.InputError, match="sigma must be greater than zero"):
        vp.fit(MODEL, X, Y, sigma=np.where(HOLES, 0.0, 1.0))
    same(vp.fit(MODEL, X, gaps, sigma=np.where(HOLES, 0.0, 1.0), nan="drop"))
    same(vp.fit(MODEL, X, Y, sigma=np.where(HOLES, np.nan, 1.0), nan="drop"))


# ---------------------------------------------------------------- dropped samples


def check_dropped(fit, given_y, dropped):
    y = np.asarray(given_y)
    np.testing.assert_array_equal(fit.y, y)  # as it was given, NaN where it was
    np.testing.assert_array_equal(np.isnan(fit.resid), dropped)
    assert (fit.weights_of_all[dropped] == 0).all()
    total = np.nansum((fit.resid * fit.weights_of_all) ** 2)
    assert total == pytest.approx(fit.chisq, rel=1e-9)
    data = fit.to_dataset()
    np.testing.assert_array_equal(data["data"].values, y)
    np.testing.assert_array_equal(np.isnan(data["residual"].values), dropped)
    fig = fit.plot(components=False)
    for ax in fig.axes:
        for line in ax.get_lines():
            if line.get_marker() == "o":
                assert len(line.get_xdata()) == (~dropped).reshape(len(y), -1)[:, 0].sum()


@pytest.mark.parametrize("how", ["mask", "nan", "zero weight"])
def test_dropped_samples_keep_what_was_given(how, tmp_path):
    given_y = SPOILED if how != "nan" else np.where(HOLES, np.nan, Y)
    options = {
        "mask": {"mask": ~HOLES},
        "nan": {"nan": "drop"},
        "zero weight": {"weights": np.where(HOLES, 0.0, 1.0)},
    }[how]
    fit = vp.fit(MODEL, X, given_y, **options)
    check_dropped(fit, given_y, HOLES)
    same(fit)
    fit.save(tmp_path / "fit.nc")
    assert vp.load(tmp_path / "fit.nc") == fit


def test_dropped_samples_keep_what_was_given_in_matrices_and_sets():
    y = np.stack([Y, 2 * Y], axis=1)
    holes = np.stack([HOLES, np.roll(HOLES, 3)], axis=1)
    fit = vp.fit(MODEL, X, np.where(holes, np.nan, y), nan="drop")
    assert fit.resid.shape == (101, 2)
    np.testing.assert_array_equal(np.isnan(fit.resid), holes)
    assert np.nansum(fit.resid**2) == pytest.approx(fit.chisq, rel=1e-9)
    sets = vp.fit(MODEL, {"a": (X, SPOILED), "b": (X, SPOILED)}, mask={"a": ~HOLES, "b": ~HOLES})
    for one in sets.sets.values():
        np.testing.assert_array_equal(one.y, SPOILED)
        np.testing.assert_array_equal(np.isnan(one.resid), HOLES)
    assert sum(np.nansum(one.resid**2) for one in sets.sets.values()) == pytest.approx(
        sets.chisq, rel=1e-9
    )


def test_what_is_left_out_has_no_part_in_statistics():
    fit, clean = vp.fit(MODEL, X, SPOILED, mask=~HOLES), PLAIN
    assert fit.diagnostics == clean.diagnostics and fit.report() == clean.report()
    assert fit.aic == pytest.approx(clean.aic, rel=1e-12)
    table = vp.compare(fit, clean)  # one and the same data, but for what nobody uses
    assert table.delta == pytest.approx([0.0, 0.0], abs=1e-9)


# ---------------------------------------------------------------- batches


def test_every_way_to_leave_samples_of_a_cube_out_agrees():
    holes = np.zeros(CUBE.shape, bool)
    holes[..., ::10] = True
    holes[0, 1, 5:9] = True
    spoiled, gaps = np.where(holes, 1e6, CUBE), np.where(holes, np.nan, CUBE)
    free = vp.Exp("e") + vp.Constant("c")
    fits = [
        vp.fit_many(free, X, spoiled, mask=~holes),
        vp.fit_many(free, X, np.ma.MaskedArray(spoiled, holes)),
        vp.fit_many(free, X, gaps, nan="drop"),
        vp.fit_many(free, X, gaps, nan="drop", start="global"),
        vp.fit_many(free, X, np.ma.MaskedArray(spoiled, holes), start="binned", binning=2),
        vp.fit_many(free, X, da.from_array(np.ma.MaskedArray(spoiled, holes), chunks=(1, 3, 101))),
        vp.fit_many(free, X, da.from_array(gaps, chunks=(1, 3, 101)), nan="drop"),
        vp.fit(free, X, gaps.reshape(6, 101).T, share="none", nan="drop"),
    ]
    for fit in fits:
        np.testing.assert_allclose(tau(fit).reshape(2, 3), TAUS, rtol=1e-9)
    assert (vp.fit_many(MODEL, X, gaps).status == 0).all() or not vp.fit_many(
        MODEL, X, gaps
    ).success.any()


def test_maps_may_be_empty_where_there_is_nothing_to_fit():
    used = np.ones((2, 3), bool)
    used[0, 1] = False
    starts, noise = np.where(used, TAUS, np.nan), np.where(used, 1.0, np.nan)
    one = vp.fit_many(MODEL, X, CUBE, mask=used, sigma=noise, init={"e.tau": starts})
    two = vp.fit_many(
        MODEL, X, CUBE, mask=used[..., None], sigma=np.where(used, 1.0, 0.0)[..., None]
    )
    for fit in (one, two):
        np.testing.assert_allclose(tau(fit)[used], TAUS[used], rtol=1e-9)
        assert fit.counts == {"successful": 5, "no_data": 1}
    held = vp.fit_many(MODEL, X, CUBE, mask=used, init={"e.tau": starts}, fix="e.tau")
    np.testing.assert_allclose(held["e"].value[used], 3.0, rtol=1e-9)
    with pytest.raises(vp.InputError, match="init for e.tau is not finite at curve 1"):
        vp.fit_many(MODEL, X, CUBE, init={"e.tau": starts})
    with pytest.raises(vp.InputError, match="sigma must be positive everywhere"):
        vp.fit_many(MODEL, X, CUBE, sigma=noise)


def test_a_plain_function_takes_start_and_held_maps():
    def function(theta, x):
        return {"e": jnp.exp(-x / theta["tau"]), "c": jnp.ones_like(x)}

    found = vp.fit_many(function, X, CUBE, init={"tau": TAUS * 1.2})
    np.testing.assert_allclose(found["tau"].value, TAUS, rtol=1e-9)
    held = vp.fit_many(function, X, CUBE, init={"tau": TAUS}, fix="tau")
    np.testing.assert_allclose(held["c"].value, 0.5, rtol=1e-9)


def test_weights_of_columns_go_with_them_where_columns_are_fitted_apart():
    # As many columns as samples: nothing but their place tells the two axes apart.
    x = np.linspace(0, 10, 12)
    taus = np.linspace(1, 3, 12)
    y = 3 * np.exp(-x[:, None] / taus) + 0.5
    y[0, :6] += 5.0
    mask = np.ones(y.shape, bool)
    mask[0, :6] = False
    fit = vp.fit(MODEL, x, y, share="none", mask=mask)
    np.testing.assert_allclose(fit["e.tau"].value, taus, rtol=1e-8)


# ---------------------------------------------------------------- all of them at once

HOLDERS = [
    lambda a: a,
    np.ma.MaskedArray,
    lambda a: pd.Series(a),
    lambda a: xr.DataArray(a, dims="t"),
    lambda a: da.from_array(a, chunks=33),
    lambda a: a.tolist(),
    lambda a: tuple(a.tolist()),
    lambda a: np.frombuffer(a.tobytes(), a.dtype),
    Torch,
    Cupy,
]
LAYOUTS = [
    lambda a: a,
    lambda a: np.repeat(a, 3)[::3],
    lambda a: a[::-1].copy()[::-1],
    lambda a: np.stack([a, a], axis=1)[:, 1],
    lambda a: np.asfortranarray(np.stack([a, a], axis=1))[:, 0],
]
MATRICES = [
    lambda a: a,
    np.asfortranarray,
    lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    lambda a: a[::-1].copy()[::-1],
    lambda a: a.T.copy().T,
    lambda a: pd.DataFrame(a),
    lambda a: xr.DataArray(a, dims=("t", "k")),
    lambda a: a.tolist(),
    lambda a: np.ma.MaskedArray(a),
]
DTYPES = ["<f8", ">f8", np.longdouble]
# More of them: VARPRO_TEST_CASES=30000 pytest tests/test_given.py -k any_container
CASES = int(os.environ.get("VARPRO_TEST_CASES", "40"))
TWO = np.stack([Y, 2 * Y + 0.1 * np.sin(X)], axis=1)
PLAIN_TWO = {}


@settings(max_examples=CASES, deadline=None)
@example(0, 0, 0, 0, 0, 0, 0, True)
@given(
    *(
        st.integers(0, len(some) - 1)
        for some in (HOLDERS, LAYOUTS, DTYPES, HOLDERS, LAYOUTS, DTYPES)
    ),
    st.integers(0, len(MATRICES) - 1),
    st.booleans(),
)
def test_any_container_type_order_and_stride_gives_the_fit_of_plain_numbers(
    hold_x, lay_x, type_x, hold_y, lay_y, type_y, matrix, masked
):
    x = HOLDERS[hold_x](LAYOUTS[lay_x](X.astype(DTYPES[type_x])))
    mask = (HOLDERS[hold_x](LAYOUTS[lay_y](~HOLES))) if masked else ~HOLES
    y = HOLDERS[hold_y](LAYOUTS[lay_y](Y.astype(DTYPES[type_y])))
    same(vp.fit(MODEL, x, y, mask=mask))
    if not PLAIN_TWO:
        PLAIN_TWO["fit"] = vp.fit(MODEL, X, TWO, mask=~HOLES)
    wide = MATRICES[matrix](TWO.astype(DTYPES[type_y]))
    same(vp.fit(MODEL, x, wide, mask=mask), PLAIN_TWO["fit"])


def test_truth_values_in_any_container():
    for hold in (list, np.ma.MaskedArray, pd.Series, lambda a: a.astype(object), xr.DataArray):
        np.testing.assert_array_equal(truth_of("mask", hold(HOLES)).values, HOLES)
