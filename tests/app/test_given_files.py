"""Numbers, masks, gaps and axes of files mean what their owners meant."""

import numpy as np
import pytest
import xarray as xr

from varpro import InputError
from varpro.app.data.text_table import read_table
from varpro.app.plan.fit import fit_plan
from varpro.app.plan.make_plan import make_plan
from varpro.app.runs.batch import make_job

T = np.linspace(0.0, 6.0, 25)
Y = 3 * np.exp(-T / 2.0) + 0.5
MODEL = "model:\n  decay: {kind: exp, tau: 1.0}\n  bg: {kind: constant}\n"


def plan_of(folder, data, more=""):
    (folder / "fit.yaml").write_text(f"data: {data}\n{MODEL}{more}")
    return make_plan(str(folder / "fit.yaml"))


# ---------------------------------------------------------------- thousands and decimals


def column(folder, *texts, others=None, delimiter=";"):
    others = others or range(1, len(texts) + 1)
    rows = "\n".join(f"{x}{delimiter}{text}" for x, text in zip(others, texts, strict=True))
    (folder / "table.csv").write_text(f"x{delimiter}y\n{rows}\n")
    return read_table(folder / "table.csv").numbers(1).tolist()


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (("1.5", "2"), [1.5, 2]),
        (("1,5", "2"), [1.5, 2]),
        (("1,000", "980.5"), [1000, 980.5]),
        (("1.000", "1,5"), [1000, 1.5]),
        (("1,234.5", "980"), [1234.5, 980]),
        (("1.234,5", "980"), [1234.5, 980]),
        (("1,000,000", "5"), [1e6, 5]),
        (("1.000.000", "5,25"), [1e6, 5.25]),
        (("0,125", "1,000"), [0.125, 1.0]),  # a zero does not begin a thousand
        (("12345,678", "1,000"), [12345.678, 1.0]),
        (("-1,5e3", "+2,5E-1"), [-1500, 0.25]),
    ],
)
def test_signs_of_numbers_are_those_of_their_column(tmp_path, texts, numbers):
    assert column(tmp_path, *texts) == numbers
    assert column(tmp_path, *texts[::-1]) == numbers[::-1]
    assert column(tmp_path, *texts, delimiter="\t") == numbers


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ("1,000", "980"),
            "'1,000' beside '980' may be a number with decimals or one with thousands",
        ),
        (("1,234", "2,345"), "'1,234' may be a number"),
        (("1,5", "1.25"), "'1,5' beside '1.25' has another decimal sign"),
        (("1,000", "1.000"), "may be a number"),
        (("1,234.5", "1.234,5"), "another decimal sign"),
        (("1,5", "one"), "'one' is not a number"),
    ],
)
def test_numbers_that_can_be_read_either_way_are_refused(tmp_path, texts, message):
    with pytest.raises(
        InputError, match=r"table.csv:2:3.*" + message if "one'" not in message else message
    ):
        column(tmp_path, *texts)


def test_another_column_may_tell_the_decimal_sign(tmp_path):
    assert column(tmp_path, "1,234", "2,345", others=["0,5", "1,5"]) == [1.234, 2.345]


# ---------------------------------------------------------------- axes of matrices

WL = [335.0, 400.0, 411.0, 420.0, 500.5, 780.0]


def matrix(folder, corner, axis=WL, values=None, name="matrix.csv", first=0.0):
    values = Y[:, None] * np.array([1.0, 3.0, 2.0, 4.0, 1.5, 2.5]) if values is None else values
    rows = [
        f"{first + t:g}," + ",".join(f"{v:.9g}" for v in row)
        for t, row in zip(T, values, strict=True)
    ]
    (folder / name).write_text(
        "\n".join([",".join([corner, *(f"{w:g}" for w in axis)]), *rows]) + "\n"
    )
    return name


@pytest.mark.parametrize("corner", ["", "0", "0.0", "time", "t\\wl"])
def test_a_header_of_numbers_is_the_axis_of_the_columns(tmp_path, corner):
    name = matrix(tmp_path, corner)
    x = corner if corner.strip("0.") else "x"
    data = plan_of(tmp_path, f"{{path: {name}, x: '{x}', y: '*'}}").columns
    np.testing.assert_array_equal(data.x, T)
    np.testing.assert_array_equal(data.labels, WL)
    assert data.y.shape == (25, 6)
    some = plan_of(
        tmp_path,
        f"{{path: {name}, x: 1, y: '4*'}}" if x == "x" else f"{{path: {name}, x: '{x}', y: '4*'}}",
    )
    np.testing.assert_array_equal(some.columns.labels, [400.0, 411.0, 420.0])


def test_after_negative_times_a_zero_is_a_corner(tmp_path):
    name = matrix(tmp_path, "0", axis=[1, 2, 3, 4, 5, 6], first=-1.0)
    table = read_table(tmp_path / name)
    assert len(table.rows) == 25 and table.header[1:] == tuple("123456")


@pytest.mark.parametrize("first", [[1.0, 3.0, 2.0, 4.0, 1.5, 2.5], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
def test_values_at_zero_are_no_axis(tmp_path, first):
    values = Y[:, None] * np.array(first)
    rows = [",".join(f"{v:.9g}" for v in (t, *row)) for t, row in zip(T, values, strict=True)]
    (tmp_path / "plain.csv").write_text("\n".join(rows) + "\n")
    table = read_table(tmp_path / "plain.csv")
    assert len(table.rows) == 25 and table.header == tuple("1234567")


# ---------------------------------------------------------------- arrays


def save(folder, **arrays):
    np.savez(folder / "data.npz", **{"t": T, "y": Y} | arrays)


def test_arrays_of_any_byte_order_and_masks_of_zeros_and_ones(tmp_path):
    holes = np.arange(25) % 5 == 0
    spoiled = np.where(holes, 1e6, Y)
    for mask in (~holes, (~holes).astype(np.uint8)):
        save(
            tmp_path,
            t=T.astype(">f8"),
            y=spoiled.astype(">f8"),
            m=mask,
            s=np.where(holes, 0.0, 1.0),
        )
        fit = fit_plan(plan_of(tmp_path, "{path: data.npz, x: t, y: y, mask: m, sigma: s}"))
        assert fit["decay.tau"].value == pytest.approx(2.0, rel=1e-9)
        np.testing.assert_array_equal(fit.y, spoiled)


@pytest.mark.parametrize(
    ("arrays", "more", "message"),
    [
        ({"t": T + 0j}, "", "'t' is complex; x is real"),
        ({"m": np.ones(25)}, ", mask: m", "holds float64, not true and false"),
        ({"m": np.arange(25)}, ", mask: m", "not true and false"),
        ({"s": Y + 0j}, ", sigma: s", "'s' is complex; sigma is real"),
        ({"y": Y.astype("m8[s]")}, "", "no array 'y'|spans of time|not numbers"),
    ],
)
def test_arrays_that_are_something_else_are_refused_by_name(tmp_path, arrays, more, message):
    save(tmp_path, **arrays)
    with pytest.raises(InputError, match=message):
        plan_of(tmp_path, f"{{path: data.npz, x: t, y: y{more}}}")


CUBE = 3 * np.exp(-T / np.linspace(1, 3, 6).reshape(2, 3, 1)) + 0.5


def cube(folder, **arrays):
    named = {
        name: (("r", "c", "t")[-np.ndim(a) :] if np.ndim(a) != 2 else ("r", "c"), a)
        for name, a in arrays.items()
    }
    xr.Dataset({"cube": (("r", "c", "t"), CUBE)} | named, {"t": T}).to_netcdf(
        folder / "cube.nc", engine="h5netcdf"
    )


def job_of(folder, more):
    return make_job(
        plan_of(folder, f"{{path: cube.nc, x: t, variable: cube{more}}}", "fit: {share: none}\n")
    )


def test_gaps_and_masks_of_cubes_are_read_from_files(tmp_path):
    gaps = CUBE.copy()
    gaps[0, 1, 3:5] = np.nan
    used = np.ones((2, 3), np.int8)
    used[1, 2] = 0
    cube(tmp_path, gaps=gaps, used=used, share=np.ones((2, 3)))
    job = job_of(tmp_path, ", nan: drop").weighing
    assert job.drop
    plan = plan_of(
        tmp_path, "{path: cube.nc, x: t, variable: gaps, nan: drop}", "fit: {share: none}\n"
    )
    job = make_job(plan)
    curves = job.rows.read(0, 6)
    weights = job.weighing.read(0, 6, np.dtype(float), curves)
    np.testing.assert_array_equal(weights, np.isfinite(gaps.reshape(6, 25)))
    masked = job_of(tmp_path, ", mask: used")
    np.testing.assert_array_equal(
        masked.weighing.read(0, 6, np.dtype(float)).any(axis=1), used.reshape(-1) == 1
    )
    with pytest.raises(InputError, match="mask: 'share' holds float64, not true and false"):
        job_of(tmp_path, ", mask: share")
