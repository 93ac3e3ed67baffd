"""What people bring along: files that are not what their names say, tables as instruments and spreadsheets write
them, pasted text, words given twice, and own functions that end the process. Each mistake is refused in one
sentence that says what came and what to do, before anything is fitted, and leaves nothing behind.
"""

import builtins
import io
import os
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import varpro as vp
from varpro.app.atomic_files import replace_file
from varpro.app.data.formats import read_arrays
from varpro.app.data.from_cube import open_cube
from varpro.app.data.lazily import reason_of
from varpro.app.data.text_table import read_table
from varpro.app.runs import dask_client, jobs

ROWS = "".join(f"{i},{i % 7}.5\n" for i in range(20))
X = np.arange(20.0)
RUN = ("run", "decay.yaml")


def put(old, new):
    text = Path("decay.yaml").read_text()
    assert old in text
    Path("decay.yaml").write_text(text.replace(old, new))


def refused(here, varpro, words, message):
    before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file()}
    done = varpro(*words)
    assert done.exit_code == 2, done.output
    said = done.stderr.rstrip("\n")
    assert re.search(message, said), said
    assert done.stderr.count("\n") == 1 and len(said) < 420 and said.isprintable()
    assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file()} == before


# The content of a table `d.csv`, and what is said of it.
TABLES = {
    "dashes for nothing": (
        "t,counts\n" + ROWS + "20,---\n",
        r"d\.csv:22:4 .*'---' is not finite",
    ),
    "a detector that was full": ("t,counts\n" + ROWS + "20,OVER\n", r"d\.csv:22:4 .*'OVER' is not"),
    "NA": ("t,counts\n" + ROWS + "20,NA\n", r"d\.csv:22:4 .*'NA' is not finite.*nan: drop"),
    "a fault of Excel": ("t,counts\n" + ROWS + "20,#N/A\n", r"d\.csv:22:4 .*'#N/A' is not finite"),
    "no number of Windows": (
        "t,counts\n" + ROWS + "20,1.#IND\n",
        r"d\.csv:22:4 .*'1.#IND' is not finite",
    ),
    "dates": ("t,counts\n" + ROWS.replace("3,", "2024-01-03,"), "'2024-01-03' is not a number"),
    "times of day": ("t,counts\n" + ROWS.replace("3,", "12:00:03,"), "'12:00:03' is not a number"),
    "percent": ("t,counts\n" + ROWS.replace(".5", "%"), r"d\.csv:2:3 .*'0%' is not a number"),
    "hexadecimal": ("t,counts\n" + ROWS.replace(",", ",0x"), "'0x0.5' is not a number"),
    "bars": ("t|counts\n" + ROWS.replace(",", "|"), r"no column 't'\. Known: t\|counts"),
    "two separators": (
        "t,counts\n" + ROWS.replace(",", ";"),
        r"no column 't'.*above the table: line 1 't,counts'",
    ),
    "JSON": ('{"t": [1, 2], "counts": [3, 4]}', "is JSON; write its columns as CSV"),
    "a page of the web": (
        "\n<!DOCTYPE html><html>Log in</html>\n",
        r"d\.csv: data: is a page of the web.*login",
    ),
    "a pointer of Git LFS": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
        "is a pointer of Git LFS, not the data; 'git lfs pull'",
    ),
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0\0\3", "is packed by gzip; unpack it first"),
    "bzip2": (b"BZh91AY&SY\0\0", "is packed by bzip2; unpack it first"),
    "xz": (b"\xfd7zXZ\0\0\4", "is packed by xz; unpack it first"),
    "zstd": (b"\x28\xb5\x2f\xfd\4\0", "is packed by zstd; unpack it first"),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c", "is packed by 7-Zip; unpack it first"),
    "a new spreadsheet": (
        b"PK\3\4\x14\0\6\0",
        "is an archive, as spreadsheets are; save the sheet as CSV",
    ),
    "an old spreadsheet": (b"\xd0\xcf\x11\xe0\xa1\xb1", "office program; save the sheet as CSV"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3", "is a PDF"),
    "a database": (b"SQLite format 3\0\x10\0", "is a database"),
    "Parquet": (b"PAR1\x15\4\x15\x80", "is a Parquet file"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "is a picture"),
    "a letter": ("{\\rtf1\\ansi t,counts\\par 1,2}", "is a text with fonts; save it as plain text"),
    "HDF5 by another name": (b"\x89HDF\r\n\x1a\n\0", r"is an HDF5 file; its name must end in \.h5"),
    "NetCDF by another name": (b"CDF\1\0\0\0\0", r"is a NetCDF file; its name must end in \.nc"),
    "numpy by another name": (
        b"\x93NUMPY\1\0v\0",
        r"an array of numpy; its name must end in \.npy",
    ),
    "MATLAB by another name": (b"MATLAB 5.0 MAT-file, Platform", r"its name must end in \.mat"),
    "TIFF by another name": (b"II*\0\x08\0\0\0", r"is a TIFF file; its name must end in \.tif"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_as_programs_write_them_is_refused_where_it_is_odd(here, varpro, unfitted, case):
    content, message = TABLES[case]
    Path("d.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    put("decay.csv", "d.csv")
    refused(here, varpro, RUN, message)


@pytest.mark.parametrize("case", ["NA and more", "gzip", "times of day"])
def test_a_configuration_from_such_a_table_says_the_same(here, varpro, case):
    content, message = TABLES.get(
        case, ("t,counts\n" + ROWS + "20,lost\n", "'lost' is not a number")
    )
    Path("d.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(here, varpro, ("new", "n.yaml", "--from", "d.csv"), message)


ACCEPTED = {
    "a row of units": "t,counts\nns,kcps\n" + ROWS,
    "lines above the header": "Instrument X\nDate 2024-01-01\n\nt,counts\n" + ROWS,
    "pairs above the header": "Instrument,X\nDate,2024-01-01\nt,counts\n" + ROWS,
    "a sum below": "t,counts\n" + ROWS + "Total,20\n",
    "D for E": "t,counts\n" + ROWS.replace(".5", ".5D+00"),
    "the line of Excel": "sep=,\nt,counts\n" + ROWS,
    "the end of DOS": ("t,counts\n" + ROWS).replace("\n", "\r\n") + "\x1a",
    "the end of DOS in the last line": "t,counts\n" + ROWS.rstrip("\n") + "\x1a",
    "a separator at each end": ("t,counts\n" + ROWS).replace("\n", ",\n"),
    "blanks of texts": ("t,counts\n" + ROWS).replace(",", "\u00a0,"),
    "PAR1 as a name": ("PAR1,counts\n" + ROWS),
    "CDF as a name": ("CDF,counts\n" + ROWS),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_can_be_meant_in_one_way_only_is_read(tmp_path, case):
    (tmp_path / "d.csv").write_bytes(ACCEPTED[case].encode())
    table = read_table(tmp_path / "d.csv")
    np.testing.assert_array_equal(table.numbers(0), X)
    np.testing.assert_array_equal(table.numbers(1), X % 7 + 0.5)
    assert table.names()[1] == "counts"


def test_words_for_a_missing_number_are_gaps(tmp_path):
    words = ["NA", "N/A", "null", "None", "#N/A", "<NA>", "-1.#IND", "1.#QNAN"]
    path = tmp_path / "d.csv"
    path.write_text("t;y\n" + "".join(f"{i};{word}\n" for i, word in enumerate(words)) + "8;1,5\n")
    y = read_table(path).numbers(1)
    assert np.isnan(y[:-1]).all() and y[-1] == 1.5


# How `counts` is put into a file of HDF5 beside `t`, and what is said of it.
HDF5 = {
    "records": (
        lambda f: f.create_dataset("counts", data=np.zeros(20, [("a", "f8"), ("b", "i4")])),
        r"'counts' of a\.h5 is records of a, b; write each as an array of its own",
    ),
    "text": (lambda f: f.create_dataset("counts", data=["a"] * 20), "is text; expected numbers"),
    "references": (
        lambda f: f.create_dataset("counts", (20,), h5py.ref_dtype),
        "is references to other parts of the file",
    ),
    "ragged rows": (
        lambda f: f.create_dataset("counts", (20,), h5py.vlen_dtype(np.float64)),
        "is rows of different lengths",
    ),
    "nothing": (lambda f: f.create_dataset("counts", data=h5py.Empty("f")), "is nothing"),
    "one value": (lambda f: f.create_dataset("counts", data=3.0), "is one value, without an axis"),
    "a group": (lambda f: f.create_dataset("counts/x", data=X), "Did you mean 'counts/x'"),
    "a link to nowhere": (
        lambda f: f.__setitem__("counts", h5py.SoftLink("/nowhere")),
        "no array 'counts'",
    ),
    "a filter that is not here": (
        lambda f: filtered(f),
        r"'counts' cannot be read .*filter of HDF5 that is not installed",
    ),
}


def filtered(file):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((20,))
    plan.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (0,))  # blosc
    space = h5py.h5s.create_simple((20,))
    data = h5py.h5d.create(file.id, b"counts", h5py.h5t.IEEE_F64LE, space, plan)
    data.write_direct_chunk((0,), bytes(8))


@pytest.mark.parametrize("case", HDF5)
def test_an_array_of_hdf5_that_is_none_of_numbers_is_called_what_it_is(
    here, varpro, unfitted, case
):
    fill, message = HDF5[case]
    with h5py.File("a.h5", "w") as file:
        file["t"] = X
        fill(file)
    put("decay.csv", "a.h5")
    refused(here, varpro, RUN, message)


def save(name, **arrays):
    np.savez(name, t=X, **arrays)


def odd_scale(name):
    data = xr.Dataset({"counts": ("t", X, {"scale_factor": "one"})}, {"t": X})
    data.to_netcdf(name, engine="h5netcdf")


FILES = {
    "text in npz": ("a.npz", lambda n: save(n, counts=X.astype("U8")), "'counts' of a.npz is text"),
    "records in npz": (
        "a.npz",
        lambda n: save(n, counts=np.zeros(20, [("a", "f8")])),
        "records of a",
    ),
    "one value in npz": ("a.npz", lambda n: save(n, counts=np.float64(3)), "is one value, without"),
    "dates in npz": (
        "a.npz",
        lambda n: save(n, counts=X.astype("M8[s]")),
        "'counts' of a.npz is dates",
    ),
    "spans of time in npz": (
        "a.npz",
        lambda n: save(n, counts=X.astype("m8[s]")),
        "is spans of time",
    ),
    "a pointer as npz": (
        "a.npz",
        lambda n: Path(n).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is a pointer of Git LFS",
    ),
    "a pointer as mat": (
        "a.mat",
        lambda n: Path(n).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is a pointer of Git LFS",
    ),
    "gzip as npy": ("a.npy", lambda n: Path(n).write_bytes(b"\x1f\x8b\x08\0"), "packed by gzip"),
    "a page as h5": ("a.h5", lambda n: Path(n).write_text("<html>404</html>"), "a page of the web"),
    "NetCDF as h5": ("a.h5", lambda n: Path(n).write_bytes(b"CDF\1\0\0"), r"name must end in \.nc"),
    "a scale that is a word": ("a.nc", odd_scale, r"a\.nc: data: 'counts' cannot be read \("),
    "a folder as nc": ("a.nc", os.mkdir, r"a\.nc: data: is a folder, not a file"),
    "a folder as npz": ("a.npz", os.mkdir, r"a\.npz: data: is a folder, not a file"),
    "a folder as tif": ("a.tif", os.mkdir, r"a\.tif: data: is a folder, not a file"),
    "an archive of something else": (
        "a.npz",
        lambda n: zipfile.ZipFile(n, "w").writestr("readme.txt", "hi"),
        r"holds no arrays of numbers: 'readme\.txt' \(a file of another kind\)",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_arrays_that_is_none_is_called_what_it_is(here, varpro, unfitted, case):
    name, make, message = FILES[case]
    make(name)
    put("decay.csv", name)
    refused(here, varpro, RUN, message)


def test_a_damaged_archive_is_no_reason_to_unpickle_anything(tmp_path):
    save(tmp_path / "a.npz", y=X)
    raw = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(b"\0" + raw[1:])
    with pytest.raises(vp.InputError, match="data: cannot be read as npz"):
        _ = read_arrays(tmp_path / "a.npz")["t"].values
    for error in (ValueError("This file contains pickled data. If you trust it ..."), EOFError()):
        assert reason_of(error) in ("it is no array of numbers", "EOFError")
    (tmp_path / "a.ascii").write_text("a\nb\nTime explicit\nInterval\x1e\x1enr 3\n0 1 2\n")
    with pytest.raises(vp.InputError) as caught:
        read_arrays(tmp_path / "a.ascii")
    assert len(str(caught.value).splitlines()) == 1


def test_what_lies_beside_arrays_in_their_archive_is_no_matter(tmp_path):
    packed = io.BytesIO()
    np.save(packed, X)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", packed.getvalue())
        file.writestr("readme.txt", "hi")
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz")["x"].values, X)


def test_truth_values_of_hdf5_are_there_and_no_numbers_that_a_guess_takes(here, varpro):
    with h5py.File("a.h5", "w") as file:
        file["t"], file["a_mask"] = X, X > 3
        file["counts"] = 5 * np.exp(-X / 4) + 0.01 * np.cos(9 * X)
    assert read_arrays(Path("a.h5"))["a_mask"].dtype == bool
    done = varpro("new", "n.yaml", "--from", "a.h5")
    assert done.exit_code == 0 and "y is counts" in done.output


def test_a_cube_whose_numbers_cannot_be_unpacked_says_so(here):
    data = xr.Dataset({"c": (("p", "t"), np.ones((2, 20)), {"scale_factor": "one"})}, {"t": X})
    data.to_netcdf("a.nc", engine="h5netcdf")
    with pytest.raises(vp.InputError, match=r"a\.nc: data: 'c' cannot be read \("):
        _ = open_cube(here / "a.nc", "c", "t")[:]


# What is replaced in the configuration, by what, and what is said.
PASTED = {
    "a no-break space at the margin": (
        "  bg:",
        "\u00a0\u00a0bg:",
        r"yaml:5 a blank of another kind",
    ),
    "a no-break space in a key": ("init: 0.7", "init:\u00a00.7", r"yaml:4 a blank of another kind"),
    "a wide blank": ("  bg:", "\u3000bg:", r"yaml:5 a blank of another kind"),
    "a decimal comma": (
        "init: 0.7",
        "init: 0,7",
        r"tau\.7: unknown key\. Was a decimal comma meant\?",
    ),
    "y twice": ("y: counts", "y: [counts, counts]", "yaml:2 data: y names 'counts' twice"),
    "y that is x": ("y: counts", "y: t", "yaml:2 data: 't' is both x and y"),
    "a component twice": (
        "data: {path: decay.csv, x: t, y: counts}",
        "datasets: {a: {path: decay.csv, x: t, y: counts, model: [bg, decay, bg]}}",
        r"datasets\.a: model names 'bg' twice",
    ),
    "a slip of the hand": (
        "decay.csv",
        "deacy.csv",
        r"deacy\.csv: data: no such file\. Did you mean 'decay\.csv'",
    ),
    "capitals": ("decay.csv", "DECAY.CSV", r"no such file\. Did you mean 'decay\.csv'"),
    "the bar of Windows": ("decay.csv", "sub\\a.csv", r"no such file\. Did you mean 'sub/a\.csv'"),
    "an address": ("decay.csv", "https://a.org/decay.csv", "from disk alone; download it first"),
    "the home folder": ("decay.csv", "~/decay.csv", "'~' is not read as the home folder"),
    "printed quotation marks": ("decay.csv", "\u201cdecay.csv\u201d", "marks are part of the name"),
    "no such folder": ("decay.csv", "date/decay.csv", r"There is no folder '.*date'"),
    "a table of parameters that is none": (
        "output:",
        "parameters: start.csv\noutput:",
        r"no such file\. Did you mean 'starts\.csv'",
    ),
}


@pytest.mark.parametrize("case", PASTED)
def test_what_was_pasted_or_mistyped_is_seen(here, varpro, unfitted, case):
    old, new, message = PASTED[case]
    Path("sub").mkdir()
    Path("sub/a.csv").write_text("x")
    Path("starts.csv").write_text("name,init\n")
    put(old, new)
    refused(here, varpro, RUN, message)


def test_of_very_many_problems_twenty_are_told(here, varpro):
    with Path("decay.yaml").open("a") as file:
        file.write("".join(f"key{i}: 1\n" for i in range(300)))
    done = varpro(*RUN)
    lines = done.stderr.splitlines()
    assert done.exit_code == 2 and len(lines) == 21 and lines[-1] == "... and 280 more."


@pytest.mark.parametrize("key", ["data.path=/", "parameters=/", "data.path=.."])
def test_no_folder_is_looked_through_that_is_no_data(here, varpro, unfitted, monkeypatch, key):
    def walked(self, pattern):
        raise AssertionError(f"{self} is looked through")

    monkeypatch.setattr(Path, "rglob", walked)
    done = varpro(*RUN, "--set", key)
    assert done.exit_code == 2 and "data: is a folder, not a file" in done.stderr


def test_a_response_from_a_folder_is_refused_unseen(here, varpro, unfitted, monkeypatch):
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("it is looked through"))
    put("kind: exp", "kind: exp, irf: g")
    response = "responses={g: {kind: measured, path: /, x: t, y: counts}}"
    done = varpro(*RUN, "--set", response)
    assert done.exit_code == 2 and "data: is a folder, not a file" in done.stderr


# A module of the user's, and what is said of it.
MODULES = {
    "it ends the process": (
        "import sys; sys.exit(3)\n",
        r"mine:f raised SystemExit at .*mine\.py:1: 3",
    ),
    "it ends it with a word": ("raise SystemExit('bye')\n", "raised SystemExit .*: bye"),
    "its function ends it": (
        "import sys\ndef f(th, x): sys.exit(5)\n",
        r"raised SystemExit at .*mine\.py:2: 5",
    ),
    "an exception of its own base": (
        "class Stop(BaseException): pass\nraise Stop('now')\n",
        r"raised Stop at .*mine\.py:2: now",
    ),
    "it calls itself": ("def f(th, x): return f(th, x)\n", "raised RecursionError"),
    "it returns nothing": ("def f(th, x): pass\n", "returned None.*Is 'return' missing"),
    "it returns a word": ("def f(th, x): return 'a'\n", "raised TypeError"),
    "numpy": (
        "import numpy as np\ndef f(th, x): return np.exp(-x / th['a'])\n",
        "raised TracerArrayConversionError",
    ),
    "no Python": ("def f(:\n", r"raised SyntaxError at .*mine\.py:1"),
    "a zero byte": ("def f(th, x):\0 return x\n", "raised SyntaxError: source code"),
    "a package that is not here": ("import no_such_thing\n", "raised ModuleNotFoundError"),
    "other arguments": ("def f(): pass\n", r"f\(\) takes 0 positional arguments"),
    "a file of its own": ("open('nothing.txt')\n", "raised FileNotFoundError"),
}


@pytest.mark.parametrize("case", MODULES)
def test_a_function_of_ones_own_cannot_end_the_run_unsaid(here, varpro, unfitted, case):
    source, message = MODULES[case]
    Path("mine.py").write_text(source)
    put(
        "decay: {kind: exp, tau: {init: 0.7, lower: 0.01}}",
        "decay: {kind: custom, function: 'mine:f', parameters: {a: 1.0}}",
    )
    refused(here, varpro, RUN, message)


def test_the_name_of_a_module_has_no_ending(here, varpro, unfitted):
    Path("mine.py").write_text("def f(th, x): return x\n")
    put("bg: {kind: constant}", "z: {kind: custom, function: 'mine.py:f'}")
    refused(here, varpro, RUN, r"no module 'mine\.py' .*Write mine, without \.py")


def test_what_own_code_prints_does_not_mix_with_what_is_printed(here, varpro):
    Path("mine.py").write_text("print('hello')\ndef f(th, x): return {'a': x / th['a']}\n")
    put("bg: {kind: constant}", "z: {kind: custom, function: 'mine:f', parameters: {a: 1.0}}")
    done = varpro("check", "decay.yaml")
    assert done.exit_code == 0 and "hello" in done.stderr and "hello" not in done.stdout


# Words of a command line, of which one takes away what another says.
WORDS = {
    "a key twice": (
        (*RUN, "--set", "fit.starts=2", "--set", "fit.starts=3"),
        "--set fit.starts=2: has no effect: --set fit.starts=3 comes later",
    ),
    "a key and its section": (
        (*RUN, "--set", "fit.solver.ftol=1e-9", "--set", "fit.solver={xtol: 1e-9}"),
        "--set fit.solver.ftol=1e-9: has no effect",
    ),
    "a sweep twice": (
        (*RUN, "--sweep", "fit.seed=1", "--sweep", "fit.seed=2"),
        "--sweep fit.seed=1: has no effect: --sweep fit.seed=2",
    ),
    "a sweep of what is set": (
        (*RUN, "--sweep", "fit.seed=1,2", "--set", "fit.seed=3"),
        "--set fit.seed=3: has no effect: --sweep",
    ),
    "the same value twice": ((*RUN, "--sweep", "fit.seed=1,1"), "is the run folder of two runs"),
    "values of one name": ((*RUN, "--sweep", "title=a b,a_b"), "is the run folder of two runs"),
    "two run folders": (
        (*RUN, "--set", "output.dir=x", "--out", "y"),
        "output.dir: has no effect: --out gives the run folder",
    ),
    "folders in a sweep": (
        (*RUN, "--sweep", "output.dir=x,y"),
        "output.dir: has no effect: each run",
    ),
    "one configuration by two names": (("run", "decay.yaml", "./decay.yaml"), "folder of two runs"),
    "an address that is empty": ((*RUN, "--scheduler", ""), "--scheduler '': expected an address"),
    "a table in the run folder": (
        (*RUN, "--write-params", "run/p.csv"),
        "is the run folder or in it",
    ),
    "a table as the run folder": ((*RUN, "--write-params", "run"), "is the run folder or in it"),
    "no table": ((*RUN, "--write-params", ""), "--write-params: '': expected a path"),
    "a folder for a configuration": (("new", "sub", "--overwrite"), "sub: is a folder, not a file"),
    "a pipe for a configuration": (("new", "pipe", "--overwrite"), "pipe: is a device, a pipe"),
    "a configuration from a folder": (("new", "n.yaml", "--from", "sub"), "sub: data: is a folder"),
    "a configuration from an address": (
        ("new", "n.yaml", "--from", "https://a.org/b.csv"),
        "download it first",
    ),
    "a slip in a configuration": (
        ("run", "deacy.yaml"),
        r"no such file\. Did you mean 'decay\.yaml'",
    ),
    "a slip in the data of a new one": (
        ("new", "n.yaml", "--from", "decays.csv"),
        r"no such file\. Did you mean 'decay\.csv'",
    ),
    "a report over a file": (("report", "run", "--out", "decay.csv"), "exists. Add --overwrite"),
    "a report over a folder": (("report", "run", "--out", "sub", "--overwrite"), "is a folder"),
    "figures into a file": (("plot", "run", "--out", "decay.csv"), "figures go into a folder"),
}


@pytest.mark.parametrize("case", WORDS)
def test_words_that_take_each_other_away_are_refused(here, varpro, unfitted, case):
    words, message = WORDS[case]
    Path("sub").mkdir()
    os.mkfifo("pipe")
    refused(here, varpro, words, message)


def test_of_several_runs_one_that_the_system_refuses_does_not_end_the_others(
    here, varpro, monkeypatch
):
    def full(config, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs, "run", full)
    done = varpro(*RUN, "--sweep", "fit.seed=1,2")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[:2] == [
        "decay.yaml fit.seed=1: No space left on device.",
        "decay.yaml fit.seed=2: No space left on device.",
    ]


def test_configurations_of_one_name_do_not_share_a_folder(here, varpro, unfitted):
    for folder in ("one", "two"):
        Path(folder).mkdir()
        text = Path("decay.yaml").read_text().replace("decay.csv", "../decay.csv")
        Path(folder, "decay.yaml").write_text(text)
    both = ("one/decay.yaml", "two/decay.yaml")
    refused(
        here, varpro, ("run", *both, "--out", "all"), "all/decay: is the run folder of two runs"
    )
    assert len(jobs.jobs_of(both, [], [], None)) == 2  # each in its own


def test_values_of_several_keys_and_below_one_are_put_in(here, varpro):
    words = ("--set", "model.decay.tau=1", "--set", "model.decay.tau.lower=0", "--set", "title=a")
    assert varpro("check", "decay.yaml", *words).exit_code == 0


@pytest.mark.parametrize(
    "address",
    ["garbage", "tcp://127.0.0.1:99999", "ftp://a", "tcp://[", "tcp://", "tls://127.0.0.1:1"],
)
def test_an_address_at_which_no_scheduler_can_be_is_told_before_data_are_touched(
    here, monkeypatch, address
):
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_client, "PATIENCE", 1)
    with pytest.raises(vp.InputError, match="no scheduler answers at"):
        with dask_client.connected(address, None):
            pass


def test_a_damaged_configuration_of_dask_is_told(monkeypatch):
    def damaged(name, *args):
        if name == "distributed":
            raise ValueError("A dask config file at 'x.yaml' is malformed")
        return imported(name, *args)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", damaged)
    with pytest.raises(vp.InputError, match=r"dask does not start .*x\.yaml' is malformed"):
        with dask_client.connected(None, 1):
            pass


def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(vp.InputError, match="not a file, so it is not replaced"):
            replace_file(tmp_path / name, "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_reports_and_figures_elsewhere_replace_nothing_unasked(here, varpro, plain):
    assert plain("decay.yaml", "-q").exit_code == 0
    Path("thesis.html").write_text("mine")
    Path("figures").mkdir()
    Path("figures/fit.png").write_text("mine")
    refused(here, varpro, ("report", "run", "--out", "thesis.html"), "exists. Add --overwrite")
    refused(here, varpro, ("plot", "run", "--out", "figures"), r"figures/fit\.png: exists. Add")
    assert varpro("report", "run", "--out", "thesis.html", "--overwrite").exit_code == 0
    assert varpro("plot", "run", "--out", "figures", "--overwrite").exit_code == 0
    assert Path("thesis.html").read_text() != "mine" != Path("figures/fit.png").read_bytes()


def test_what_is_no_configuration_is_told_what_to_do_with(here, varpro, plain, unfitted):
    (here / "done").mkdir()
    (here / "done" / "config.yaml").write_text("schema: 1\n")
    (here / "my data.csv").write_text("t,y\n" + ROWS)
    for words, message in (
        (("run", "done"), r"done: is a run folder; its configuration is done.config.yaml"),
        (("check", "my data.csv"), r"varpro new fit.yaml --from 'my data.csv'$"),
        (("run", "decay.yaml", "--set", "model.decay.kind=exponential"), "Did you mean 'exp'"),
    ):
        done = varpro(*words)
        assert done.exit_code == 2 and re.search(message, done.stderr), done.output
