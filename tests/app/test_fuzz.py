"""Whatever stands in a file, the answer is numbers or one `InputError`: no other exception escapes.

Thousands of cases: bytes, text that is nearly right, trees of wrong values, and files cut and flipped.
"""

import functools
import io
import itertools
import os

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr
from hypothesis import HealthCheck, given, settings, strategies as st

from varpro import InputError
from varpro.app.config.config import parse
from varpro.app.config.document import Document, changed, load
from varpro.app.data.explicit import read_explicit
from varpro.app.data.formats import read_arrays
from varpro.app.data.from_cube import open_cube
from varpro.app.data.parameter_table import read_parameters
from varpro.app.data.text_table import read_table

CONFIG = """\
schema: 1
data: {path: a.csv, x: t, y: [c], sigma: 0.5, range: [0, 1]}
model:
  d: {kind: exp, tau: {init: 0.7, lower: 0.01}}
constraints: {fix: ['d.*']}
fit: {solver: {max_steps: 9}}
"""
TABLE = "t [ns],counts,who\n0,5.5,a\n1,4.5,b\n2,nan,a\n3,,b\n"
EXPLICIT = "a\nb\nTime explicit\nIntervalnr 3\n0 1 2\n400 1 2 3\n500 4 5 6\n"
LIST = "name,init,lower,upper,fixed,prior_mean,prior_sd\nd.tau,1,0,2,no,,\ne.tau,2,,,yes,1,0.1\n"

# Pieces that mean something to a parser of YAML or of numbers.
PIECES = st.sampled_from(
    [
        *(
            "{",
            "}",
            "[",
            "]",
            ":",
            ": ",
            "- ",
            "\n",
            "\n  ",
            "\t",
            ",",
            ";",
            '"',
            "'",
            "#",
            "|",
            ">",
        ),
        *("&a", "*a", "!!python/object:os.system", "!x", "? ", "---", "...", "%YAML 1.1", "<<: "),
        *("1e-3", "1e999", "-.inf", ".nan", "nan", "0x1f", "1_000", "010", "12:30", "2024-01-01"),
        *("null", "~", "yes", "true", "\0", "\x85", "\u2028", "\ufeff", "é", "𝛼", "\r", "9" * 400),
        *("init", "kind", "tau", "data", "schema", "model", "exp", "custom", "function: os:system"),
    ]
)

SOUP = st.lists(PIECES, max_size=8).map("".join)


# Ten thousand cases with VARPRO_FUZZ=full, some thousands otherwise.
_SHARE = 1 if os.environ.get("VARPRO_FUZZ") == "full" else 4


def settled(cases):
    return settings(
        max_examples=-(-cases // _SHARE),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        database=None,
    )


@st.composite
def spoilt(draw, text):
    """A text in which a few places were cut out, doubled or replaced."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(start + draw(st.integers(0, 12)), len(text))
        piece = draw(PIECES | st.text(max_size=6) | st.just(text[start:end] * 2))
        text = text[:start] + piece + text[end:]
    return text


@st.composite
def damaged(draw, whole):
    """Bytes that were cut short or in which some were changed."""
    raw = bytearray(whole)
    if draw(st.booleans()):
        raw = raw[: draw(st.integers(0, len(raw)))]
    for _ in range(draw(st.integers(0, 5)) if raw else 0):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


def told(action, *arguments):
    """Do it; an error must be ours, of one line for each problem, and say something."""
    try:
        return action(*arguments)
    except InputError as error:
        lines = str(error).splitlines()
        assert lines and all(line.strip() for line in lines)
        assert all(len(line) < 2000 for line in lines)
        return None


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


def read_config(path):
    return parse(load(path), default_dir="run")


@settled(1500)
@given(raw=st.binary(max_size=60) | SOUP.map(lambda text: text.encode(errors="replace")))
def test_bytes_as_a_configuration(path, raw):
    path.write_bytes(raw)
    told(read_config, path)


@settled(1500)
@given(text=spoilt(CONFIG))
def test_a_spoilt_configuration(path, text):
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    told(read_config, path)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | PIECES
KEYS = st.sampled_from(
    [
        *("path", "x", "y", "sigma", "kind", "tau", "rate", "init", "lower", "prior", "function"),
        *("parameters", "columns", "fix", "tie", "order", "bounds", "relations", "solver", "dir"),
        *("share", "starts", "degree", "irf", "width", "units", "where", "range", "?", "", "a.b"),
    ]
) | st.text(max_size=6)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)
SECTIONS = st.sampled_from(
    [
        *(
            ("data",),
            ("data", "y"),
            ("data", "range"),
            ("data", "sigma"),
            ("datasets",),
            ("model",),
        ),
        *(("model", "d"), ("model", "d", "tau"), ("model", "e"), ("responses",), ("constraints",)),
        *(("constraints", "order"), ("constraints", "relations"), ("fit",), ("fit", "share")),
        *(("fit", "solver"), ("output",), ("schema",), ("parameters",), ("compute",), ("title",)),
    ]
)
GOOD = {
    "schema": 1,
    "data": {"path": "a.csv", "x": "t", "y": ["c"]},
    "model": {"d": {"kind": "exp", "tau": 0.7}},
}


@settled(2500)
@given(where=SECTIONS, tree=TREES)
def test_a_tree_of_wrong_values(where, tree):
    whole = {key: dict(value) if isinstance(value, dict) else value for key, value in GOOD.items()}
    node = whole
    for key in where[:-1]:
        node = node.setdefault(key, {})
    node[where[-1]] = tree
    told(parse, Document("a.yaml", whole, {}), "run")


@settled(500)
@given(change=SOUP | spoilt("fit.solver.max_steps=50"))
def test_values_from_the_command_line(path, change):
    path.write_text(CONFIG)
    document = load(path)
    put = told(changed, document, [change])
    if put is not None:
        told(parse, put, "run")


@settled(1500)
@given(text=spoilt(TABLE) | SOUP)
def test_a_spoilt_table(path, text):
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    table = told(read_table, path)
    if table is not None:
        assert table.rows and all(len(row) == len(table.header) for row in table.rows)
        for i in range(len(table.header)):
            told(table.numbers, i)


@settled(500)
@given(raw=st.binary(max_size=80))
def test_bytes_as_a_table(path, raw):
    path.write_bytes(raw)
    table = told(read_table, path)
    if table is not None:
        told(table.numbers, 0)


@settled(700)
@given(text=spoilt(LIST))
def test_a_spoilt_list_of_parameters(path, text):
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    for name, param in (told(read_parameters, path) or {}).items():
        assert isinstance(name, str) and param.lower < param.upper


@settled(1000)
@given(text=spoilt(EXPLICIT))
def test_a_spoilt_explicit_file(path, text):
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    found = told(read_explicit, path)
    if found is not None:
        assert found["data"].dims == ("time", "wavelength")


@functools.cache
def saved(kind):
    x, y = np.linspace(0, 1, 5), np.arange(10.0).reshape(5, 2)
    buffer = io.BytesIO()
    if kind == "npz":
        np.savez(buffer, x=x, y=y)
    elif kind == "npy":
        np.save(buffer, y)
    elif kind == "mat":
        scipy.io.savemat(buffer, {"x": x, "y": y})
    else:
        data = xr.Dataset({"y": (("t", "w"), y)}, {"t": x})
        raw = data.to_netcdf(engine="scipy")
        return bytes(raw)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["npz", "npy", "nc"])
@settled(250)
@given(data=st.data())
def test_damaged_files_of_arrays(path, kind, data):
    _read_damaged(path, kind, data)


@settled(15)
@given(data=st.data())
def test_damaged_files_of_matlab(path, data):
    # They are read in a process of their own, which takes its time.
    _read_damaged(path, "mat", data)


def _read_damaged(path, kind, data):
    path = path.with_suffix(f".{kind}")
    path.write_bytes(data.draw(damaged(saved(kind))))
    found = told(read_arrays, path)
    if found is not None:
        for name in found.variables:
            # What is lazy is read now.
            told(lambda name=name: np.asarray(found[name].values).size)


@functools.cache
def saved_hdf5(kind):
    buffer = io.BytesIO()
    if kind == "nc":
        data = xr.Dataset({"y": (("t", "w"), np.ones((20, 3)))}, {"t": np.arange(20.0)})
        return bytes(data.to_netcdf(engine="h5netcdf"))
    with h5py.File(buffer, "w") as file:
        file["x"] = np.arange(20.0)
        packed = {"compression": "gzip", "chunks": (10, 2)}
        file.create_group("group").create_dataset("y", data=np.ones((20, 2)), **packed)
    return buffer.getvalue()


COUNT = itertools.count()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("kind", "way"), [("h5", "whole"), ("nc", "whole"), ("h5", "parts")])
@settled(160)
@given(data=st.data())
def test_damaged_files_of_hdf5(path, kind, way, data):
    # A name of its own for each: files stay open, and known by their names.
    path = path.with_name(f"file{next(COUNT)}.{kind}")
    path.write_bytes(data.draw(damaged(saved_hdf5(kind))))
    if way == "parts":
        cube = told(open_cube, path, None, "phony_dim_0", None, 1.0)
        if cube is not None:
            told(lambda: cube[:])
    else:
        found = told(read_arrays, path)
        for name in () if found is None else found.variables:
            told(lambda name=name: np.asarray(found[name].values).size)
    path.unlink()
