"""The CSV reader: what it accepts, and where it says an error is."""

import numpy as np
import pytest

from varpro import InputError
from varpro.app.data.text_table import read_table


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "data.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


ACCEPTED = {
    "comma": "t,y\n0,1\n1,2.5\n",
    "comma with blanks": "t , y\n0, 1\n1, 2.5\n",
    "semicolon": "t;y\n0;1\n1;2.5\n",
    "tab": "t\ty\n0\t1\n1\t2.5\n",
    "blanks": "t   y\n 0  1\n 1  2.5\n",
    "comments and blank lines": "# made up\n\nt,y\n# more\n0,1\n\n1,2.5\n",
    "windows line ends": "t,y\r\n0,1\r\n1,2.5\r\n",
    "byte order mark": "\ufefft,y\n0,1\n1,2.5\n",
    "no newline at the end": "t,y\n0,1\n1,2.5",
    "quoted headers": '"t","y"\n0,1\n1,2.5\n',
    "comma decimals, semicolon": "t;y\n0;1,0\n1;2,5\n",
    "comma decimals, tab": "t\ty\n0\t1,0\n1\t2,5\n",
    "comma decimals, blanks": "t y\n0,0 1,0\n1,0 2,5\n",
    "exponents": "t,y\n0e0,1.0E+00\n1e0,.25e1\n",
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_ways_to_write_the_same_table(tmp_path, text):
    table = read_table(write(tmp_path, text))
    assert table.header == ("t", "y")
    np.testing.assert_array_equal(table.numbers(0), [0.0, 1.0])
    np.testing.assert_array_equal(table.numbers(1), [1.0, 2.5])


def test_columns_without_a_header_are_numbered(tmp_path):
    table = read_table(write(tmp_path, "0,1\n1,2.5\n"))
    assert table.header == ("1", "2")
    assert table.find("2") == 1
    assert len(table.rows) == 2


@pytest.mark.parametrize("head", ["Zeit [µs]", "Zeit (µs)", "Zeit[µs]"])
def test_a_unit_in_the_header_is_kept_apart(tmp_path, head):
    table = read_table(write(tmp_path, f"{head},y\n0,1\n"))
    assert table.find("Zeit") == table.find(head) == 0
    assert table.unit(0) == "µs"
    assert table.unit(1) == ""


def test_text_in_a_column_that_is_not_asked_for_does_no_harm(tmp_path):
    table = read_table(write(tmp_path, "t,y,who\n0,1,me\n1,2,you\n"))
    np.testing.assert_array_equal(table.numbers(1), [1.0, 2.0])


def test_an_empty_field_is_nan(tmp_path):
    table = read_table(write(tmp_path, "t,y\n0,\n1,2\n"))
    assert np.isnan(table.numbers(1)[0])


REFUSED = {
    "ragged, short": ("t,y\n0,1\n1\n", ":3 found 1 field where the header has 2. The line is '1'."),
    "ragged, long": (
        "t,y\n0,1\n1,2,3\n",
        ":3:5 found 3 fields where the header has 2. The line is '1,2,3'.",
    ),
    "text": (
        "t,y\n0,1\n# c\n1,abc\n",
        ":4:3 column 'y': 'abc' is not a number. The line is '1,abc'.",
    ),
    "underscore": ("t,y\n0,1_0\n", ":2:3 column 'y': '1_0' is not a number. The line is '0,1_0'."),
    "header only": ("t,y\n", ":1 data: a header and no numbers below it."),
    "twice the same header": (
        "t,t\n0,1\n",
        ":1 two columns have the header 't'. Name them by number, 1 or 2.",
    ),
    "empty": ("", ": data: the file holds no numbers."),
    "comments only": ("# nothing\n", ": data: the file holds no numbers."),
    "binary, no zero": (
        b"t,\xb5\n0,\x03\n",
        ":2:3 data: byte 0x03 is no text; this is not a text file.",
    ),
    "cut in a letter": (
        "t,y\n0,1\n".encode("utf-16")[:-1],
        ":2:8 data: byte 0x0a is not utf-16. Name its encoding under data, or save it as UTF-8.",
    ),
    "binary": (b"t,y\n0,\x00\n", ":2 data: a zero byte; this is not a text file."),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_file_is_refused_at_the_place_of_the_error(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        table = read_table(path)
        table.find("t"), table.numbers(0), table.numbers(1)
    assert str(caught.value) == f"{path}{message}"


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"])
def test_a_sign_that_parts_lines_for_some_parts_no_message(tmp_path, sign):
    for text in (
        f"t,a{sign}b\n0,x\n",
        f"t,y\n0,x{sign}y\n",
        f"t,a{sign}b,a{sign}b\n0,1,2\n",
    ):
        with pytest.raises(InputError) as caught:
            table = read_table(write(tmp_path, text))
            table.find(table.header[1])
            table.numbers(1)
        assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.csv: data: no such file\.$"):
        read_table(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match=r"data: is a folder, not a file\.$"):
        read_table(tmp_path)


def test_the_place_of_a_field_counts_characters(tmp_path):
    table = read_table(write(tmp_path, "alpha beta\n  1.0   2.0\n"))
    assert table.at(0, 1).endswith("data.csv:2:9")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("# t y\n0 1\n1 2\n", ["t", "y"]),
        ("#t,y\n0,1\n1,2\n", ["t", "y"]),
        ("# made on Monday\n#\n# t [ns] y [V]\n0 1\n1 2\n", ["t", "y"]),
        ("# t (ns)\ty\n0\t1\n1\t2\n", ["t", "y"]),
        ("# t y\n0,1\n1,2\n", ["t", "y"]),
        # No header: another number of words, numbers, a name twice, or not before the numbers.
        ("# a decay of Monday\n0 1\n1 2\n", ["1", "2"]),
        ("# 0 1\n0 1\n1 2\n", ["1", "2"]),
        ("# y y\n0 1\n1 2\n", ["1", "2"]),
        ("0 1\n# t y\n1 2\n", ["1", "2"]),
        ("# t y\na b\n0 1\n", ["a", "b"]),
    ],
)
def test_a_comment_above_the_numbers_may_be_the_header(tmp_path, text, names):
    path = tmp_path / "a.dat"
    path.write_text(text)
    table = read_table(path)
    assert table.names() == names
    np.testing.assert_array_equal(table.numbers(0), [0, 1] if "a b" not in text else [0])


def test_columns_below_a_comment_keep_their_numbers(tmp_path):
    path = tmp_path / "a.dat"
    path.write_text("# measured yesterday\n0 1\n1 2\n")
    table = read_table(path)
    assert (table.find("measured"), table.find("1"), table.find("2"), table.find("3")) == (
        *(0, 0, 1),
        None,
    )
    path.write_text("# t [ns] y\n0 1\n1 2\n")
    assert read_table(path).unit(0) == "ns"
