"""Tables as instruments and programs write them: what is found above, between and below the numbers."""

import numpy as np
import pytest

from varpro import InputError
from varpro.app.data.table_lines import TableFormat
from varpro.app.data.text_table import read_table
from varpro.app.plan.make_plan import make_plan

X = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
Y = np.array([10.0, 7.5, 5.25, 4.0, 3.125, 2.5])
ROWS = list(zip(X, Y, strict=True))


def rows(separator=",", form="{:g}", end="\n"):
    return "".join(separator.join(form.format(v) for v in row) + end for row in ROWS)


def german(separator=";"):
    return rows("|").replace(".", ",").replace("|", separator)


# A text, the names, the units, and words that a note on it has.
FOUND = {
    "a preamble": (
        "FS5 Spectrofluorometer\nOperator: J. Doe\nDate: 2024-03-01\n\nTime (ns),Counts\n" + rows(),
        ("Time", "Counts"),
        ("ns", ""),
        ["3 lines above the table", "Date: 2024-03-01"],
    ),
    "a preamble of keys and values": (
        "Instrument,FS5\nIntegration time,0.5\nComment,none\nt,y\n" + rows(),
        ("t", "y"),
        ("", ""),
        ["3 lines above the table", "Comment,none"],
    ),
    "a report with numbers of its own": (
        "Results of a fit\n\nData:   1 Response Variable  (y = volume)\n        1 Predictor Variable\n"
        "        6 Observations\n        Lower Level of Difficulty\n\nStart 1   Start 2   Parameter\n"
        "b1 =  500    250    2.39E+02   2.7E+00\nResidual Sum of Squares:    1.24E-01\n"
        "Degrees of Freedom:   4\n\nData:   y      x\n" + rows("   ", "{:.3E}"),
        ("y", "x"),
        ("", ""),
        ["lines above the table"],
    ),
    "a preamble with numbers": (
        "1024\n532.0 nm excitation\nt y\n" + rows(" "),
        ("t", "y"),
        ("", ""),
        ["above the table"],
    ),
    "a row of units": (
        "time,signal\nns,mV\n" + rows(),
        ("time", "signal"),
        ("ns", "mV"),
        ["units: line 2 'ns,mV'"],
    ),
    "a row of units in brackets": (
        "time\tsignal\n(ps)\t[mOD]\n" + rows("\t"),
        ("time", "signal"),
        ("ps", "mOD"),
        ["units"],
    ),
    "names, units and comments": (
        "time\tsignal\ns\ta.u.\n\tsample A\n" + rows("\t"),
        ("time", "signal"),
        ("s", "a.u."),
        ["units: line 2"],
    ),
    "two rows of names": (
        "sample A,\nx,x\n" + rows(),
        ("sample A x", "sample A x"),
        ("", ""),
        ["lines 1 and 2 together"],
    ),
    "a footer": (
        "t,y\n" + rows() + "\nEnd of data\n",
        ("t", "y"),
        ("", ""),
        ["footer: below the table: line 9 'End of data'"],
    ),
    "a footer of summaries": (
        "t,y\n" + rows() + "Mean,5.39\nTotal,32\n",
        ("t", "y"),
        ("", ""),
        ["2 lines below the table, from line 8 'Mean,5.39'"],
    ),
    "Fortran": (
        "  t   y\n" + rows("  ", "{:.6e}").replace("e", "D"),
        ("t", "y"),
        ("", ""),
        [],
    ),
    "comments of MATLAB": (
        "% made by MATLAB\n% t y\n" + rows(" "),
        ("t", "y"),
        ("", ""),
        ["'% made"],
    ),
    "comments of C": ("// made\n" + rows(" "), ("1", "2"), ("", ""), ["// made"]),
    "remarks behind numbers": (
        "t y\n" + rows(" ").replace("0.5 7.5", "0.5 7.5   # the lamp flickered"),
        ("t", "y"),
        ("", ""),
        [],
    ),
    "decimal commas": ("t;y\n" + german(), ("t", "y"), ("", ""), ["decimal: comma, by line 3"]),
    "decimal commas, tabs": ("t\ty\n" + german("\t"), ("t", "y"), ("", ""), ["decimal: comma"]),
    "decimal commas in quotes": (
        "t,y\n"
        + "".join('"{}","{}"\n'.format(*(str(v).replace(".", ",") for v in row)) for row in ROWS),
        ("t", "y"),
        ("", ""),
        [],
    ),
    "blanks of several widths": (
        "    t        y\n" + rows("      ", "{:>9.4f}"),
        ("t", "y"),
        ("", ""),
        [],
    ),
    "separators at the end": ("t,y,\n" + rows(end=",\n"), ("t", "y"), ("", ""), []),
    "separators at the end, none above": ("t;y\n" + rows(";", end=";\n"), ("t", "y"), ("", ""), []),
    "a line that names the separator": (
        "sep=;\nt;y\n" + rows(";"),
        ("t", "y"),
        ("", ""),
        ["sep=;"],
    ),
    "a minus of print": ("t,y\n" + rows(), ("t", "y"), ("", ""), []),
    "old line ends": ("t,y\r" + rows(end="\r"), ("t", "y"), ("", ""), []),
    "a column for remarks, which rows leave out": (
        "X_Value\tVoltage_0\tComment\n" + rows("\t"),
        ("X_Value", "Voltage_0"),
        ("", ""),
        [],
    ),
    "names in quotes among blanks, and names of rows": (
        '"t (ns)" "y"\n' + rows(" "),
        ("t", "y"),
        ("ns", ""),
        [],
    ),
    "comments that are keys": (
        "#Range=\t400 ... 800\n#AxisUnit[1]=\t1/cm\n" + rows("\t"),
        ("1", "2"),
        ("", ""),
        [],
    ),
    "keys and values, and an empty line": (
        "Labels,a,\nType,Time Scan,\nYaxis,Counts,\n\n" + rows(end=",\n"),
        ("1", "2"),
        ("", ""),
        ["3 lines above the table, the last line 3 'Yaxis,Counts,'"],
    ),
    "names of columns that were not measured, units below": (
        "Data of: spectrometer;2003\nWave ;Sample ;Dark ;Scope\n[nm] ;[counts]\n\n" + rows(";"),
        ("Wave", "Sample"),
        ("nm", "counts"),
        ["units: line 3"],
    ),
    "names above an empty line": (
        "Sensitivity = 1\n\nTime/sec, Current/A\n\n" + rows(", "),
        ("Time/sec", "Current/A"),
        ("", ""),
        [],
    ),
    "blanks in names beside tabs": (
        "Operator\tA\n\nTime\tT\u00b0 of sample\n" + rows("\t"),
        ("Time", "T\u00b0 of sample"),
        ("", ""),
        [],
    ),
    "results below an empty line": (
        "t,y\n" + rows() + "\nResults\n\nquantity,value\nMax V,12.1\nLag,3\n",
        ("t", "y"),
        ("", ""),
        ["footer: 4 lines below the table, from line 9 'Results'"],
    ),
    "a part of a file that is called so": ("[Data 1]\n" + rows("  "), ("1", "2"), ("", ""), []),
    "comments in comments": ("# made\n# # t  y\n" + rows(" "), ("t", "y"), ("", ""), []),
    "names above the end of what stands above": (
        "Points: 6\n  Freq(Hz)\tZ'(a)\tAmpl\nEnd Comments\n"
        + "".join(f"{a}\t{b}\t0\n" for a, b in ROWS),
        ("Freq", "Z'", "Ampl"),
        ("Hz", "a"),
        [],
    ),
    "units of which some are none": (
        "uts,flow,p\n,ml/min,atm\n" + "".join(f"{a},{b},1\n" for a, b in ROWS),
        ("uts", "flow", "p"),
        ("", "ml/min"),
        ["units: line 2"],
    ),
    "a mark at the beginning of every line": (
        "".join(f"\ufeff{line}\n" for line in ("t,y\n" + rows()).splitlines()),
        ("t", "y"),
        ("", ""),
        [],
    ),
    "a name that is filled up with zero bytes": (
        "Spectrometer: 0804" + "\0" * 6 + "\nt;y\n" + rows(";"),
        ("t", "y"),
        ("", ""),
        ["zero bytes at the end of line 1 are left out"],
    ),
    "a run that was ended early": (
        "t\ty\tz\n" + "".join(f"{a}\t{b}\t1\n" for a, b in ROWS) + "0:00:00\n0:00:00\n",
        ("t", "y", "z"),
        ("", ""),
        ["footer: 2 lines below the table"],
    ),
    "a long line of positions above two columns": (
        "scale=" + " ".join(f"{i}" for i in range(90)) + "\n[Info]\n" + rows(" "),
        ("1", "2"),
        ("", ""),
        [],
    ),
    "the end of CP/M": ("t,y\n" + rows() + "\x1a", ("t", "y"), ("", ""), []),
}


@pytest.mark.parametrize("case", FOUND)
def test_the_table_is_found_and_what_decided_is_said(tmp_path, case):
    text, names, units, said = FOUND[case]
    (tmp_path / "a.txt").write_text(text, encoding="utf-8", newline="")
    table = read_table(tmp_path / "a.txt")
    assert tuple(table.names()) == names
    assert tuple(table.unit(j) for j in range(2)) == units
    np.testing.assert_allclose(table.numbers(0), X, rtol=1e-12)
    np.testing.assert_allclose(table.numbers(1), Y, rtol=1e-12)
    for words in said:
        assert words in "; ".join(table.notes)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("latin-1", "encoding: cp1252 (line 1 is not UTF-8)"),
        ("utf-16", "encoding: utf-16 (by its first bytes)"),
        ("utf-16-le", "encoding: utf-16-le (every second byte is zero)"),
        ("utf-16-be", "encoding: utf-16-be (every second byte is zero)"),
        ("utf-32", "encoding: utf-32 (by its first bytes)"),
    ],
)
def test_encodings_are_found(tmp_path, encoding, said):
    (tmp_path / "a.csv").write_bytes(("Zeit [µs],Zähler\n" + rows()).encode(encoding))
    table = read_table(tmp_path / "a.csv")
    assert table.header == ("Zeit [µs]", "Zähler") and table.unit(0) == "µs"
    assert "; ".join(table.notes) == said
    np.testing.assert_array_equal(table.numbers(1), Y)


def test_an_encoding_may_be_named(tmp_path):
    (tmp_path / "a.csv").write_bytes(("時間,強度\n" + rows()).encode("shift_jis"))
    assert read_table(tmp_path / "a.csv", TableFormat(encoding="shift_jis")).names() == [
        "時間",
        "強度",
    ]


@pytest.mark.parametrize(
    "text", ["--", "n/a", "N/A", "NaN", "#N/A", "", "null", "-", "#DIV/0!", "1.#QNAN"]
)
def test_what_was_not_measured_is_nan(tmp_path, text):
    for separator in (",", ";", "\t"):
        (tmp_path / "a.csv").write_text(
            f"t{separator}y\n0{separator}{text}\n1{separator}2.5\n2{separator}3\n"
        )
        np.testing.assert_array_equal(read_table(tmp_path / "a.csv").numbers(1), [np.nan, 2.5, 3])


@pytest.mark.parametrize(
    ("texts", "how", "numbers"),
    [
        (["1.0D-03", "2.5d+02"], {}, [1e-3, 250]),
        (["\u22121.5", "2"], {}, [-1.5, 2]),
        (["1 234,5", "12 345,0"], {}, [1234.5, 12345]),
        (["1'234.5", "2"], {}, [1234.5, 2]),
        (["1,234", "2,345"], {"decimal": ","}, [1.234, 2.345]),
        (["1,234", "2,345"], {"decimal": "."}, [1234, 2345]),
        (["1.234", "2.345"], {"decimal": ","}, [1234, 2345]),
        (["1.234", "2.345"], {"thousands": "."}, [1234, 2345]),
        (["1.234,5", "2"], {"thousands": ".", "decimal": ","}, [1234.5, 2]),
        (["n/a", "1,5"], {"decimal": ","}, [np.nan, 1.5]),
    ],
)
def test_numbers_are_read_as_they_are_written(tmp_path, texts, how, numbers):
    (tmp_path / "a.csv").write_text("t;y\n" + "".join(f"{i};{t}\n" for i, t in enumerate(texts)))
    table = read_table(tmp_path / "a.csv", TableFormat(**how))
    np.testing.assert_array_equal(table.numbers(1), numbers)


def test_a_number_against_the_sign_that_was_given_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("t;y\n0;1.5\n1;2,5\n")
    with pytest.raises(
        InputError, match=r"a.csv:2:3 column 'y': '1.5' is not a number. The line is '0;1.5'"
    ):
        read_table(tmp_path / "a.csv", TableFormat(decimal=",")).numbers(1)


@pytest.mark.parametrize(
    ("how", "header", "first"),
    [
        ({}, ("t", "y"), 0.0),
        ({"header": 0, "skip": 3}, ("1", "2"), 0.0),
        ({"skip": 4}, ("1", "2"), 0.5),
        ({"header": 2}, ("a t", "b y"), 0.0),
        ({"skip": 2, "header": 1, "units_row": False}, ("t", "y"), 0.0),
        ({"header": 1, "units_row": True}, ("a", "b"), 0.0),
    ],
)
def test_what_is_given_is_not_guessed(tmp_path, how, header, first):
    (tmp_path / "a.csv").write_text("made up\na,b\nt,y\n" + rows() + "9,9\n")
    table = read_table(tmp_path / "a.csv", TableFormat(**{"footer": 1} | how))
    assert table.header == header and table.numbers(0)[0] == first
    assert table.numbers(0)[-1] == 2.5


def test_more_rows_of_names_than_there_are_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("t,y\n" + rows())
    with pytest.raises(
        InputError, match="2 rows of names were announced, but 1 lines of 2 fields stand"
    ):
        read_table(tmp_path / "a.csv", TableFormat(header=2))


def test_a_comment_mark_may_be_named(tmp_path):
    (tmp_path / "a.csv").write_text("REM by hand\nt,y\n0,1\nREM a pause\n1,2\n")
    table = read_table(tmp_path / "a.csv", TableFormat(comment="REM"))
    assert table.header == ("t", "y") and table.lines == [3, 5]


def test_names_of_rows_are_a_column_without_name(tmp_path):
    pandas_csv = ",t,y\n" + "".join(f"{i},{a:g},{b:g}\n" for i, (a, b) in enumerate(ROWS))
    r_csv = '"t","y"\n' + "".join(f'"{i + 1}",{a:g},{b:g}\n' for i, (a, b) in enumerate(ROWS))
    printed = "     t     y\n" + "".join(f"{i}  {a:g}  {b:g}\n" for i, (a, b) in enumerate(ROWS))
    for text in (pandas_csv, r_csv, printed):
        (tmp_path / "a.csv").write_text(text)
        table = read_table(tmp_path / "a.csv")
        assert table.header == ("", "t", "y")
        np.testing.assert_array_equal(table.numbers(2), Y)
        assert (table.find("t"), table.find("2"), table.find("1")) == (1, 1, 0)


def test_rows_above_a_spoilt_one_are_no_report(tmp_path):
    path = tmp_path / "spoilt.txt"
    path.write_text("t y\n0 10\nlamp was off here\n" + rows(" "))
    with pytest.raises(InputError, match="spoilt.txt:3.* found 4 fields where the header has 2"):
        read_table(path)


def test_a_spoilt_row_is_no_header_and_no_footer(tmp_path):
    for text, place in (
        ("t,y\nabc,1\n1,2\n2,3\n", ":2:1"),
        ("t,y\n0,1\n1,2\nabc,3\n", ":4:1"),
        ("t,y\n0,1\n1,2\n1O.5,3\n", ":4:1"),
    ):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(
            InputError, match=f"a.csv{place} column 't'.*is not a number. The line is"
        ):
            read_table(tmp_path / "a.csv").numbers(0)
    (tmp_path / "a.csv").write_text("t,y\n0,1\n1,2\n2\n")
    with pytest.raises(
        InputError, match="a.csv:4 found 1 field where the header has 2. The line is '2'"
    ):
        read_table(tmp_path / "a.csv")


def test_names_that_repeat_are_asked_for_by_number(tmp_path):
    (tmp_path / "a.csv").write_text(
        "x,y,x,y\n" + "".join(f"{a},{b},{a},{2 * b}\n" for a, b in ROWS)
    )
    table = read_table(tmp_path / "a.csv")
    np.testing.assert_array_equal(table.numbers(table.find("4")), 2 * Y)
    with pytest.raises(
        InputError, match="a.csv:1 two columns have the header 'y'. Name them by number, 2 or 4"
    ):
        table.find("y")


DATES = {
    "ISO": ["2024-02-28T23:59:59.5", "2024-02-29T00:00:00", "2024-02-29T00:00:10"],
    "ISO with a blank": ["2024-02-28 23:59:59.5", "2024-02-29 00:00:00", "2024-02-29 00:00:10"],
    "a zone": ["2024-02-28T23:59:59.5Z", "2024-02-29T01:00:00+01:00", "2024-02-29T00:00:10+00:00"],
    "German": ["28.02.2024 23:59:59.5", "29.02.2024 00:00:00", "29.02.2024 00:00:10"],
    "British": ["28/02/2024 23:59:59.5", "29/02/2024 00:00:00", "29/02/2024 00:00:10"],
    "American": ["02/28/2024 11:59:59.5 PM", "02/29/2024 12:00:00 AM", "02/29/2024 12:00:10 AM"],
    "the month by name": ["28-Feb-24 23:59:59.5", "29-Feb-24 00:00:00", "29-FEB-2024 00:00:10"],
    "in a sentence": [
        "Feb 28, 2024 11:59:59.5 PM",
        "February 29, 2024",
        "Thu Feb 29 00:00:10 2024",
    ],
    "of programs": [
        "28Feb2024:23:59:59.5",
        "Thu, 29 Feb 2024 00:00:00 GMT",
        "2024-Feb-29T00:00:10",
    ],
    "German months": ["28. Februar 2024 23:59:59,5", "29.Feb.24", "29 Feb 2024, 00:00:10"],
    "times": ["11:59:59.5", "12:00:00", "12:00:10"],
    "American times": ["11:59:59.5 AM", "12:00:00 PM", "12:00:10 PM"],
}


@pytest.mark.parametrize("case", DATES)
def test_dates_are_seconds_since_the_first(tmp_path, case):
    lines = "".join(f"{date};{y}\n" for date, y in zip(DATES[case], (3, 2, 1), strict=True))
    (tmp_path / "a.csv").write_text(f"when;y\n{lines}")
    table = read_table(tmp_path / "a.csv")
    np.testing.assert_allclose(table.numbers(0, dates=True), [0, 0.5, 10.5], rtol=0, atol=1e-9)
    np.testing.assert_allclose(table.take([2]).numbers(0, dates=True), [10.5], atol=1e-9)
    assert table.unit(0) == "s"


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (["2024-01-31", "2024-02-01", "2024-02-02"], [0, 1, 2]),
        (["2024/2/1 10:00", "2024/2/2 10:00", "2024/3/1 22:00"], [0, 1, 29.5]),
        (["2024-12-01T00:00:00Z", "2024-12-02T00:00:00Z"], [0, 1]),
        (["01.02.2024", "02.02.24", "01.03.2024 12:00"], [0, 1, 29.5]),
        (["2/1/2024", "2/2/2024", "2/13/2024"], [0, 1, 12]),
        (["1/2/2024 1:30:00 PM", "13/2/2024 1:30:00 AM"], [0, 11.5]),
        (["01.02.69", "01.02.70"], [0, 365]),
        (["19-Sep-03", "1-Oct-03"], [0, 12]),
        (["1 Mai 2024", "3 Okt 2024", "03-Dez-24"], [0, 155, 216]),
        (["99-Sep-03", "99-Sep-04"], [0, 1]),
        (["Dec-98", "Jan-99"], [0, 31]),
        (["2024-01", "2024-02", "2024-03"], [0, 31, 60]),
        (["January 2024", "Mar 2024"], [0, 60]),
    ],
)
def test_no_day_is_taken_for_a_month(tmp_path, texts, days):
    (tmp_path / "a.csv").write_text("when;y\n" + "".join(f"{text};1\n" for text in texts))
    found = read_table(tmp_path / "a.csv").numbers(0, dates=True)
    np.testing.assert_allclose(found, 86400.0 * np.array(days), atol=1e-9)


def test_a_column_of_decimals_tells_that_commas_beside_it_part_thousands(tmp_path):
    lines = '0.125,"6,615"\n0.25,"1,204,882"\n0.375,910\n'
    (tmp_path / "a.csv").write_text("t,counts\n" + lines)
    np.testing.assert_array_equal(read_table(tmp_path / "a.csv").numbers(1), [6615, 1204882, 910])
    # Not where a number of 1000 or more has none.
    (tmp_path / "a.csv").write_text('t,counts\n0.125,"6,615"\n0.25,"1,204"\n0.375,9100\n')
    with pytest.raises(InputError, match="may be a number with decimals or one with thousands"):
        read_table(tmp_path / "a.csv").numbers(1)


def test_of_two_tables_one_below_the_other_none_is_taken_unasked(tmp_path):
    text = "t,y\n" + rows() + "\nSecond run\nt,y\n" + rows()
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match="a.csv:11 data: another table of 6 rows below.*'Second"):
        read_table(tmp_path / "a.csv")
    assert len(read_table(tmp_path / "a.csv", TableFormat(footer=9)).rows) == 6
    assert len(read_table(tmp_path / "a.csv", TableFormat(skip=8)).rows) == 6


def test_json_is_called_what_it_is(tmp_path):
    (tmp_path / "a.txt").write_text('\n{"t": [0, 1], "y": [1, 2]}\n')
    with pytest.raises(InputError, match="a.txt: data: is JSON; write its columns as CSV"):
        read_table(tmp_path / "a.txt")
    (tmp_path / "c.txt").write_text('\ufeff<?xml version="1.0"?>\n<scan><x>1 2</x></scan>\n')
    with pytest.raises(InputError, match="c.txt: data: is XML; export its numbers as text or CSV"):
        read_table(tmp_path / "c.txt")
    (tmp_path / "b.txt").write_text("[Header]\nt,y\n" + rows())
    assert read_table(tmp_path / "b.txt").names() == ["t", "y"]


def test_rows_are_columns_of_a_table_that_lies_on_its_side(tmp_path):
    wells = [Y, 2 * Y, 3 * Y]
    lines = [f"{name};{';'.join(map(str, y))}" for name, y in zip("ABC", wells, strict=True)]
    lines.insert(0, f"Time [s];{';'.join(map(str, X))}")
    text = "Tecan\n\nCycle;1;2;3;4;5;6\n" + "\n".join(lines) + "\n\nEnd Time: 10:12\n"
    (tmp_path / "a.csv").write_text(text.replace(".", ","))
    data = make_plan(
        str(config(tmp_path, "{path: a.csv, transpose: true, x: Time, y: [A, C]}"))
    ).columns
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, np.c_[Y, 3 * Y])
    assert (data.x_unit, data.y_names) == ("s", ("A", "C"))
    assert "transpose: 5 lines from line 3" in "; ".join(data.notes)
    # A mistake is told where it stands in the file.
    (tmp_path / "a.csv").write_text(text.replace("7.5", "full"))
    with pytest.raises(InputError, match=r"a.csv:5 field 3 column 'A': 'full' is not a number"):
        make_plan(str(tmp_path / "fit.yaml"))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["01/02/2024", "03/04/2024"], "day and month cannot be told apart"),
        (["Sep-03", "Oct-03"], "day and year cannot be told apart"),
        (["03-Sep-01", "03-Sep-02", "03-Sep-04"], "day and year cannot be told apart"),
        (["23:59:59", "00:00:01"], "goes past midnight"),
        (["2024-02-28", "2024-02-31"], "a.csv:2"),
        (["2024-02-28", "soon"], "a.csv:3:1.*(no date|not a number).*The line is 'soon,1'"),
    ],
)
def test_dates_that_are_none_or_unclear_are_refused(tmp_path, texts, message):
    (tmp_path / "a.csv").write_text("when,y\n" + "".join(f"{text},1\n" for text in texts))
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "a.csv").numbers(0, dates=True)


def test_names_with_blanks_stand_above_columns_that_blanks_part(tmp_path):
    head = "No. Time(s)  Sample Temperature(°C) HeatFlow(mW)"
    lines = [f"{i + 1:<4}{x:<9}{20 + x:<23}{y}" for i, (x, y) in enumerate(zip(X, Y, strict=True))]
    (tmp_path / "a.txt").write_text("\n".join(["Zone 1", "", head, *lines]))
    table = read_table(tmp_path / "a.txt")
    assert table.names() == ["No.", "Time", "Sample Temperature", "HeatFlow"]
    assert [table.unit(j) for j in range(4)] == ["", "s", "°C", "mW"]
    np.testing.assert_array_equal(table.numbers(3), Y)
    (tmp_path / "b.txt").write_text("# energy, mu\n" + "".join(f"{x}  {x}\n" for x in X))
    assert read_table(tmp_path / "b.txt").names() == ["energy", "mu"]


def test_eight_digits_are_a_date_in_a_column_that_is_called_so(tmp_path):
    lines = "".join(f"{day},{n}\n" for day, n in (("20240131", 1), ("20240201", 2)))
    (tmp_path / "a.csv").write_text(f"date,n\n{lines}")
    assert read_table(tmp_path / "a.csv").numbers(0, dates=True).tolist() == [0, 86400]
    (tmp_path / "a.csv").write_text(f"counts,n\n{lines}")
    assert read_table(tmp_path / "a.csv").numbers(0, dates=True).tolist() == [20240131, 20240201]


@pytest.mark.parametrize("kind", ["<f8", "<i2", "u1"])
def test_numbers_in_binary_are_called_so_and_what_is_read_is_named(tmp_path, kind):
    (tmp_path / "a.dat").write_bytes(np.arange(1, 300).astype(kind).tobytes())
    with pytest.raises(InputError, match="a.dat: data: is binary and not text.*Read are.*NPZ.*PTU"):
        read_table(tmp_path / "a.dat")


def config(folder, data):
    (folder / "fit.yaml").write_text(
        f"data: {data}\nmodel:\n  decay: {{kind: exp, tau: 1.0}}\n  bg: {{kind: constant}}\n"
    )
    return folder / "fit.yaml"


def test_a_configuration_says_how_a_table_is_written_and_check_how_it_was_read(tmp_path, varpro):
    text = "Spektrometer\nZeit;Signal\n" + german() + "Ende der Messung\n"
    (tmp_path / "a.csv").write_bytes(text.encode("utf-16"))
    path = config(tmp_path, "{path: a.csv, x: 1, y: 2, units: {x: ns}}")
    data = make_plan(str(path)).columns
    np.testing.assert_array_equal(data.y, Y)
    assert (data.x_name, data.y_names) == ("Zeit", ("Signal",))
    shown = " ".join(varpro("check", path).stdout.split())
    for words in (
        "encoding: utf-16 (by its first bytes)",
        "above the table: line 1 'Spektrometer'",
        "header: line 2 'Zeit;Signal'",
        "below the table: line 9 'Ende der Messung'",
        "decimal: comma, by line 4 '0,5;7,5'",
        "separator: semicolon",
    ):
        assert words in shown
    path = config(tmp_path, "{path: a.csv, x: time, y: Signal}")
    with pytest.raises(InputError, match="has no column 'time'.*How it was read: encoding: utf-16"):
        make_plan(str(path))
    given = "skip: 1, header: 1, footer: 1, decimal: ',', encoding: utf-16, delimiter: semicolon"
    data = make_plan(str(config(tmp_path, f"{{path: a.csv, x: Zeit, y: Signal, {given}}}"))).columns
    assert data.notes == () and data.x.size == 6


def test_keys_of_tables_are_refused_for_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", t=X, y=Y)
    with pytest.raises(InputError, match=r"data.skip: has no effect: it is for tables"):
        make_plan(str(config(tmp_path, "{path: a.npz, x: t, y: y, skip: 2}")))


def test_dates_are_x_of_a_configuration(tmp_path):
    lines = "".join(f"2024-03-01 10:00:{10 * i:02d},{y}\n" for i, y in enumerate(Y))
    (tmp_path / "a.csv").write_text("when,y\n" + lines)
    data = make_plan(str(config(tmp_path, "{path: a.csv, x: when, y: y, range: [10, 40]}"))).columns
    np.testing.assert_allclose(data.x, [10, 20, 30, 40])
    assert data.x_unit == "s"


def test_a_sheet_of_a_workbook_is_a_table(tmp_path):
    pytest.importorskip("python_calamine")
    openpyxl = pytest.importorskip("openpyxl")
    import datetime

    book = openpyxl.Workbook()
    book.active.title = "Notes"
    sheet = book.create_sheet("Run 1")
    sheet.append(["Plate reader", None])
    sheet.append([])
    sheet.append(["time", "signal", "when"])
    sheet.append(["s", "RFU", ""])
    start = datetime.datetime(2024, 3, 1, 10)
    for i, (a, b) in enumerate(ROWS):
        sheet.append([float(a), float(b), start + datetime.timedelta(seconds=5 * i)])
    # A sheet that says what was done is not the one that is meant.
    book.create_sheet("Made", 0).append(["Plate reader", 12])
    book.save(tmp_path / "a.xlsx")
    table = read_table(tmp_path / "a.xlsx")
    assert table.names() == ["time", "signal", "when"] and table.unit(1) == "RFU"
    np.testing.assert_array_equal(table.numbers(1), Y)
    np.testing.assert_allclose(table.numbers(2, dates=True), 5 * np.arange(6))
    assert table.at(0, 1).endswith("a.xlsx[Run 1]:B5")
    assert read_table(tmp_path / "a.xlsx", TableFormat(sheet="3")).header == table.header
    with pytest.raises(InputError, match="no sheet 'Run 2'. Did you mean 'Run 1'"):
        read_table(tmp_path / "a.xlsx", TableFormat(sheet="Run 2"))
    with pytest.raises(InputError, match="the sheet holds nothing"):
        read_table(tmp_path / "a.xlsx", TableFormat(sheet="Notes"))
    (tmp_path / "b.csv").write_text("t,y\n" + rows())
    with pytest.raises(InputError, match="sheet: this is a text"):
        read_table(tmp_path / "b.csv", TableFormat(sheet="1"))
