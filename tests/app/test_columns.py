"""What `varpro new --from` takes for x and y of tables as programs and instruments write them; nothing is fitted."""

import re

import numpy as np
import pytest
import scipy.io

from varpro import InputError
from varpro.app.plan.make_plan import make_plan
from varpro.app.propose.columns import Asked, asked, find_columns

T = np.linspace(0.0, 10.0, 24)
Y = 3 * np.exp(-T / 2) + 0.5
CONSTANT = np.full(T.size, 0.5)


def text(header, *columns, separator=","):
    rows = zip(*columns, strict=True)
    lines = [separator.join(f"{v}" for v in row) for row in rows]
    return "\n".join([*([header] if header else []), *lines]) + "\n"


def stamps(days):
    return [f"2024-02-{1 + int(d):02d} 12:00:00" for d in days]


# A text, and what `data:` says of x and y.
CHOSEN = {
    "what does not change is no curve": (
        text("time/s,control/V,I/mA", T, CONSTANT, Y),
        {"x": "time/s", "y": "[I/mA]"},
    ),
    "a column of a few numbers is none": (
        text("", ["Record"] + [""] * 23, [2500] + [""] * 23, T, Y),
        {"x": '"3"', "y": '["4"]'},
    ),
    "pairs of x and y, the first a baseline": (
        text("Baseline x,Baseline y,Sample x,Sample y", T, np.cos(T) / 99, T, Y),
        {"x": '"Baseline x"', "y": '["Sample y"]'},
    ),
    "errors as diffraction calls them": (
        text("Angle,Intensity,ESD", T, Y, np.sqrt(Y)),
        {"x": "Angle", "y": "[Intensity]", "sigma": "ESD"},
    ),
    "dates beside what is called as x often is": (
        text("Timestamp,Temp", stamps(range(24)), Y * (1 + 0.2 * np.cos(9 * T))),
        {"x": "Timestamp", "y": "[Temp]"},
    ),
    "doses, some of them twice": (
        text("response,dose", Y + np.cos(8 * T), np.repeat(np.arange(12), 2)),
        {"x": "dose", "y": "[response]"},
    ),
    "a plate whose rows are the wells": (
        "\n".join(
            ",".join([name, *(f"{v:g}" for v in values)])
            for name, values in (("Time [s]", T), ("Temp.", 0 * T + 37), ("A1", Y), ("A2", 2 * Y))
        ),
        {"transpose": "true", "x": "Time", "y": "[A1, A2]"},
    ),
    "samples below each other, their spectra beside them": (
        text(
            "Sample," + ",".join(f"{220 + 5 * i}" for i in range(24)),
            ["a", "b"],
            *[(v, 2 * v) for v in Y],
        ),
        {"transpose": "true", "x": "Sample", "y": "[a, b]"},
    ),
    "curves below each other, and a column of which is which": (
        text("group,time,value", ["ctrl 1"] * 24 + ["dose"] * 24, [*T, *T], [*Y, *(2 * Y)]),
        {"x": "time", "y": "[value]", "where": '{group: "ctrl 1"}'},
    ),
    "wells called by numbers beside a column without a name": (
        text("\tTemperature\t1\t2", T, 37 + CONSTANT, Y, 2 * Y, separator="\t"),
        {"x": "x", "y": '["1", "2"]'},
    ),
    "a count of rows without a name": (
        text("", np.arange(1, 25), 2.1 * np.arange(24), Y, T % 3),
        {"x": '"2"', "y": '["3"]'},
    ),
    "settings and flags of an instrument beside what it measured": (
        text("mode,time/s,Ns,control/V,Ewe/V", 24 * [2], T, np.arange(24) // 6, -Y, Y),
        {"x": "time/s", "y": "[Ewe/V]"},
    ),
    "a clock beside the time": (
        text("TimeStamp,Experiment time,Signal", T, 4 + T, Y),
        {"x": "TimeStamp", "y": "[Signal]"},
    ),
    "dark, reference and sample of a spectrometer beside what it made of them": (
        text("W,D,R,S,P", 400 + T, Y**2, 2 + Y**3, 4 + Y, 7 * Y),
        {"x": "W", "y": "[P]"},
    ),
    "more wells than times": (
        text(
            "Time\tT\u00b0 600\t" + "\t".join(f"{row}{i}" for row in "AB" for i in range(1, 13)),
            [f"0:{4 * i:02d}:22" for i in range(12)],
            12 * [30.0],
            *[(Y * (1 + j)).round(3)[:12] for j in range(24)],
            separator="\t",
        ),
        {"x": "Time", "y": f"[{', '.join(f'{row}{i}' for row in 'AB' for i in range(1, 13))}]"},
    ),
    "three spectra below each other under their axis": (
        "\n".join(
            "\t".join([name, *(f"{v:.6g}" for v in values)])
            for name, values in (("", 80 + 2 * T), ("1", Y), ("2", 2 * Y), ("3", 3 * Y))
        ),
        {"transpose": "true", "x": "x", "y": '["1", "2", "3"]'},
    ),
    "wavelengths beside a matrix, and delays above it": (
        "\n".join(
            [
                ",".join(["0", *(f"{v:g}" for v in T - 1)]),
                *(
                    ",".join([f"{wl}", *(f"{v:.4g}" for v in np.cos(T) * wl / 500)])
                    for wl in range(450, 550, 10)
                ),
            ]
        ),
        {"transpose": "true", "x": "x", "y": '["*"]'},
    ),
}


@pytest.mark.parametrize("case", CHOSEN)
def test_columns_are_chosen_by_what_they_hold(tmp_path, case):
    content, keys = CHOSEN[case]
    (tmp_path / "a.csv").write_text(content)
    assert find_columns(tmp_path / "a.csv", Asked()).keys == keys


QUESTIONS = {
    "curves one below the other": (
        text("time,value", [*T, *T], [*Y, *(2 * Y)]),
        "'time' goes back to its beginning 1 time: several curves stand one below the other",
    ),
    "columns without names that are not alike": (
        text("", T, 1e6 * Y, Y, 2 * Y, np.cos(T)),
        "columns have no names, and are of quite other sizes. Line 1 is '",
    ),
    "an image": (
        "\n".join(
            " ".join(map(str, row)) for row in np.random.default_rng(1).poisson(90, (12, 12))
        ),
        "no column rises or falls all along",
    ),
    "a plate that was read once": (
        text(",1,2,3,4", list("ABCDEFGH"), *[(Y * i)[:8] for i in range(1, 5)]),
        "its rows are H and those above: a plate that was read once, without x",
    ),
    "a list of wells that were read once": (
        text(
            "Well,OD,Gain",
            [f"{row}{i}" for row in "ABC" for i in range(1, 9)],
            np.cos(9 * T),
            T % 3,
        ),
        "every row is a well, and no column rises or falls: a plate that was read once",
    ),
    "blocks of a plate one below the other": (
        text("Time,1,2", [t if i % 6 == 0 else "" for i, t in enumerate(T)], Y, 2 * Y),
        "'Time' has gaps in 20 of 24 rows, as where blocks of a plate stand",
    ),
    "columns called by numbers that rise by chance": (
        text("id,220,222,224,226", list("vwxyz"), *[(Y * i)[:5] for i in range(1, 5)]),
        "the columns are named by numbers, and none of them is x",
    ),
    "many columns without names, the next one a setting": (
        text("", T, *(0 * T for _ in range(2)), Y, 2 * Y, 0 * T),
        "6 columns have no names. Line 1 is '",
    ),
    "a letter": ("Dear colleague,\nthe data are attached.\n", "holds no table of numbers"),
    "one row": ("t,y\n1,2\n", "has one row of numbers, line 2"),
    "no positions": (
        text("X_Value,Voltage", [""] * 24, Y),
        "has 1 column of numbers, 'Voltage'; a fit takes x and y",
    ),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_a_file_that_leaves_x_open_is_told_so(tmp_path, case):
    content, message = QUESTIONS[case]
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=re.escape(message)):
        find_columns(tmp_path / "a.csv", Asked())
    if case == "curves one below the other":
        assert len(find_columns(tmp_path / "a.csv", Asked(x="time")).x) == 48


def test_samples_without_positions_are_evenly_spaced(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text(
        "#PicoHarp\n#channels\n40\n#curve\n0\t\n#ns/channel\n0.004\n#counts\n"
        + "".join(f"{n}\t\n" for n in range(40, 0, -1))
    )
    (tmp_path / "c.txt").write_text("40\n" + "".join(f"{n}\n" for n in range(40, 0, -1)))
    assert find_columns(tmp_path / "c.txt", asked(None, [], None, "0.1")).x.size == 40
    found = find_columns(tmp_path / "a.txt", asked(None, [], None, "0.004"))
    assert found.keys == {"x": "x", "y": "[counts]", "spacing": "0.004"}
    assert found.noise == "poisson"
    np.testing.assert_allclose(found.x, 0.004 * np.arange(40), rtol=1e-14)
    monkeypatch.chdir(tmp_path)
    model = "model: {d: {kind: exp, tau: 1.0}}\n"
    (tmp_path / "a.yaml").write_text(
        f"data: {{path: a.txt, x: {found.keys['x']}, y: {found.keys['y']}, spacing: 0.004, origin: 2}}\n"
        + model
    )
    np.testing.assert_allclose(make_plan("a.yaml").columns.x, 2 + 0.004 * np.arange(40))
    (tmp_path / "b.csv").write_text(text("t,y", T, Y))
    (tmp_path / "b.yaml").write_text(f"data: {{path: b.csv, x: t, y: y, spacing: 0.004}}\n{model}")
    with pytest.raises(InputError, match="b.yaml:1 data.spacing: b.csv has a column 't'"):
        make_plan("b.yaml")
    for words, message in (
        ((None, [], None, "fast"), "--spacing fast: expected the step"),
        ((None, [], "pink", None), "expected poisson or normal"),
    ):
        with pytest.raises(InputError, match=message):
            asked(*words)


def test_fields_of_a_struct_of_matlab_are_arrays_and_a_matrix_alone_has_no_x(tmp_path):
    path = tmp_path / "a.mat"
    run = {"time": T, "signal": Y, "name": "run 1", "lamp": {"power": 2.0, "drift": T}}
    scipy.io.savemat(path, {"run": run, "cells": np.array([{"a": 1}, {"a": 2}])})
    found = find_columns(path, Asked())
    assert found.keys == {"x": "run/time", "y": "[run/signal]"}
    np.testing.assert_array_equal(found.y[:, 0], Y)
    assert find_columns(path, Asked(y=("run/lamp/drift",))).keys["y"] == "[run/lamp/drift]"
    scipy.io.savemat(path, {"M": np.c_[T, Y]})
    with pytest.raises(InputError, match="'M' .24, 2. stands alone, and no array says where"):
        find_columns(path, Asked())
