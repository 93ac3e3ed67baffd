"""A hundred mistakes: each is told in one line with its place, exits 2, and leaves no file behind."""

import errno
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from varpro.app.runs import run as run_module

DATA = "data: {path: decay.csv, x: t, y: counts}"
DECAY = "decay: {kind: exp, tau: {init: 0.7, lower: 0.01}}"


def config(old, new, name="decay.yaml"):
    """Replace something in the configuration."""

    def spoil():
        text = Path(name).read_text()
        assert old in text
        Path(name).write_text(text.replace(old, new))

    return spoil


def add(text):
    return config("output:", f"{text}\noutput:")


def write(name, content):
    def spoil():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def both(*spoils):
    def spoil():
        for one in spoils:
            one()

    return spoil


def line(number, text):
    """Replace a line of the data."""

    def spoil():
        lines = Path("decay.csv").read_text().splitlines()
        lines[number - 1] = text
        Path("decay.csv").write_text("\n".join(lines) + "\n")

    return spoil


def data(section):
    return config(DATA, f"data: {section}")


def component(text):
    return config(DECAY, text)


def function(source, rest=""):
    """A function of the user's in a module beside the configuration."""
    return both(
        write("mine.py", source),
        component(f"decay: {{kind: custom, function: 'mine:f', parameters: {{a: 1.0}}{rest}}}"),
    )


def arrays(save, name, section="x: t, y: counts"):
    return both(lambda: save(name), data(f"{{path: {name}, {section}}}"))


def save_npz(name):
    np.savez(name, t=np.arange(9.0), counts=np.arange(9.0), long=np.arange(10.0))


def cut(save):
    def cut_short(name):
        save(name)
        raw = Path(name).read_bytes()
        Path(name).write_bytes(raw[: len(raw) // 2])

    return cut_short


def save_hdf5(name):
    with h5py.File(name, "w") as file:
        file["t"], file["counts"] = np.arange(99.0), np.arange(99.0)


def save_netcdf(name):
    axes = {"t": np.arange(9.0)}
    xr.Dataset({"counts": ("t", np.arange(9.0))}, axes).to_netcdf(name, engine="h5netcdf")


def save_pickle(name):
    np.save(name, np.array([{"a": 1}], dtype=object), allow_pickle=True)


EXPLICIT = "a\nb\nTime explicit\nIntervalnr 3\n0 1 2\n400 1 2 3\n500 4 5\n"

# What is spoilt, and how the one line on stderr begins (a regular expression).
CONFIGURATION = {
    "no such file": (
        lambda: os.remove("decay.yaml"),
        r"decay\.yaml: configuration: no such file\.$",
    ),
    "a folder": (
        lambda: (os.remove("decay.yaml"), os.mkdir("decay.yaml")),
        r"decay\.yaml: configuration: is a folder, not a file\.$",
    ),
    "empty": (write("decay.yaml", ""), r"decay\.yaml: the configuration is empty\.$"),
    "not YAML": (config("0.01}}", "0.01}"), r"decay\.yaml:\d+:\d+ not valid YAML: "),
    "keys as a key": (config("tau: {", "tau: {{"), r"decay\.yaml:4 a key must be a word\.$"),
    "a tab": (config("  decay:", "\tdecay:"), r"decay\.yaml:4:1 not valid YAML: "),
    "a list": (write("decay.yaml", "- 1\n"), r"decay\.yaml:1 expected keys such as 'data:' and "),
    "a key twice": (
        config("bg: {", "decay: {"),
        r"decay\.yaml:5 model\.decay: this key is already on line 4\.$",
    ),
    "an object of Python": (
        config("init: 0.7", "init: !!python/object/apply:os.system [ls]"),
        r"decay\.yaml:4 the tag '!!python/object/apply:os\.system' is not allowed; ",
    ),
    "a tag of one's own": (
        config("init: 0.7", "init: !now 1"),
        r"decay\.yaml:4 the tag '!now' is not",
    ),
    "laughs": (
        write("decay.yaml", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"),
        r"decay\.yaml:1 anchors \(&\) and aliases \(\*\) are not allowed; ",
    ),
    "nested": (
        write("decay.yaml", "a: " + "[" * 500 + "]" * 500),
        r"decay\.yaml:1 nested deeper than ",
    ),
    "huge": (
        write("decay.yaml", "a: " + "x" * 2_000_000),
        r"decay\.yaml: configuration: 2000003 bytes",
    ),
    "many values": (
        write("decay.yaml", f"a: [{'1, ' * 60_000}]"),
        r"decay\.yaml:1 more than 50000 ",
    ),
    "two documents": (write("decay.yaml", "a: 1\n---\nb: 1\n"), r"decay\.yaml:2 a second document"),
    "UTF-16": (
        write("decay.yaml", "a: 1".encode("utf-16")),
        r"decay\.yaml: configuration: the text is",
    ),
    "Latin-1": (
        write("decay.yaml", b"a: 1\nb: \xe9\n"),
        r"decay\.yaml:2:4 configuration: byte 0xe9 is",
    ),
    "a zero byte": (
        write("decay.yaml", b"a: 1\nb: \0\n"),
        r"decay\.yaml:2 configuration: a zero byte",
    ),
    "another schema": (
        config("schema: 1", "schema: 2"),
        r"decay\.yaml:1 schema: expected 1, not '2'\.$",
    ),
    "unknown section": (
        config("output:", "otput:"),
        r"decay\.yaml:6 otput: unknown key\. Did you mean 'output'\?$",
    ),
    "no data": (config(DATA + "\n", ""), r"decay\.yaml: give either data, for one data set, or "),
    "no model": (
        write("decay.yaml", f"{DATA}\nmodel: {{}}\n"),
        r"decay\.yaml:2 model: expected at least 1 entry, found 0\.$",
    ),
    "unknown key": (
        config("tau:", "tao:"),
        r"decay\.yaml:4 model\.decay\.tao: unknown key\. Did you mean 'tau'\?$",
    ),
    "a bound beside its parameter": (
        config("kind: exp,", "kind: exp, lower: 0,"),
        r"decay\.yaml:4 model\.decay\.lower: unknown key\. It is said of a parameter: tau: {init: 1, lower: ",
    ),
    "unknown kind": (
        config("kind: exp", "kind: exq"),
        r"decay\.yaml:4 model\.decay\.kind: unknown kind",
    ),
    "no kind": (config("kind: exp, ", ""), r"decay\.yaml:4 model\.decay: needs a kind\. Known: "),
    "a quoted number": (
        config("0.7", '"0.7"'),
        r"decay\.yaml:4 model\.decay\.tau\.init: expected a number",
    ),
    "a comma in a number": (
        config("init: 0.7", "init: '0,7'"),
        r"decay\.yaml:4 .* expected a number, not",
    ),
    "yes for true": (
        config("lower: 0.01", "fixed: yes"),
        r"decay\.yaml:4 model\.decay\.tau\.fixed: expected true or false, not 'yes'\.$",
    ),
    "bounds the wrong way round": (
        config("lower: 0.01", "lower: 2, upper: 1"),
        r"decay\.yaml:4 model\.decay\.tau: lower = 2 must be below upper = 1\.$",
    ),
    "a start outside its bounds": (
        config("lower: 0.01", "lower: 1"),
        r"decay\.yaml:4 model\.decay\.tau: init = 0\.7 lies outside its bounds \[1, inf\]\.$",
    ),
    "an infinite start": (
        config("init: 0.7", "init: .inf"),
        r"decay\.yaml:4 .*: init must be finite\.$",
    ),
    "no number as a bound": (
        config("lower: 0.01", "lower: .nan"),
        r"decay\.yaml:4 .* expected a number",
    ),
    "a prior without width": (
        config("lower: 0.01", "prior: [1, 0]"),
        r"decay\.yaml:4 .* and the second must be positive\.$",
    ),
    "fixed at nothing": (
        config("init: 0.7", "fixed: true"),
        r"decay\.yaml:4 .*: is fixed and has no value",
    ),
    "unknown name in fix": (
        add("constraints: {fix: [decay.tua]}"),
        r"decay\.yaml:6 constraints\.fix\.0: no parameter is called 'decay\.tua'\. Did you mean",
    ),
    "unknown name in tie": (
        add("constraints: {tie: {decay.tau: x.tau}}"),
        r"decay\.yaml:6 constraints\.tie\.decay\.tau: no parameter is called 'x\.tau'\.",
    ),
    "unknown name in order": (
        add("constraints: {order: [decay.tau, x]}"),
        r"decay\.yaml:6 constraints\.order\.1: no parameter is called 'x'\.",
    ),
    "unknown coefficient in bounds": (
        add("constraints: {bounds: {dcay: [0, 1]}}"),
        r"decay\.yaml:6 constraints\.bounds\.dcay: ",
    ),
    "code in a relation": (
        add("constraints: {relations: {bg: '__import__(\"os\").getpid()'}}"),
        r"decay\.yaml:6 constraints\.relations: relations: no column '__import__\(",
    ),
    "a name with a dot": (config("bg:", "b.g:"), r"decay\.yaml:3 model: the name 'b\.g' has a dot"),
    "a tolerance below zero": (
        add("fit: {solver: {xtol: -1}}"),
        r"decay\.yaml:6 fit\.solver: xtol must lie between 0 and 1, not be -1\.$",
    ),
    "no steps": (
        add("fit: {solver: {max_steps: 0}}"),
        r"decay\.yaml:6 fit\.solver\.max_steps: expected a number from 1 to 1,000,000, not '0'\.$",
    ),
    "half a step": (
        add("fit: {solver: {max_steps: 1.5}}"),
        r"decay\.yaml:6 .* expected a whole number",
    ),
    "no starts": (
        add("fit: {starts: 0}"),
        r"decay\.yaml:6 fit\.starts: expected a number from 1 to 100,000, not '0'\.$",
    ),
    "unknown noise": (add("fit: {noise: pink}"), r"decay\.yaml:6 fit\.noise: expected 'normal'"),
    "unknown response": (
        config("kind: exp", "kind: exp, irf: i"),
        r"decay\.yaml:4 model\.decay: irf: no resp",
    ),
    "two rates": (
        config("tau: {", "rate: 1, tau: {"),
        r"decay\.yaml:4 model\.decay: .* not both\.$",
    ),
    "code for a function": (
        component("decay: {kind: custom, function: 'os.system(1)'}"),
        r"decay\.yaml:4 model\.decay\.function: expected module:function",
    ),
    "no such module": (
        component("decay: {kind: custom, function: 'nowhere:f'}"),
        r"decay\.yaml:4 model\.decay: no module 'nowhere' in ",
    ),
    "no such function": (
        both(write("mine.py", "g = 1\n"), component("decay: {kind: custom, function: 'mine:f'}")),
        r"decay\.yaml:4 model\.decay: .*'f'",
    ),
    "a module that fails": (function("1 / 0\n"), r"decay\.yaml:4 model\.decay: .*division by zero"),
    "a function that fails": (
        function("def f(theta, x):\n    return x / nothing\n"),
        r"decay\.yaml:4 model\.decay: mine:f raised NameError at .*mine\.py:2",
    ),
    "a function of another shape": (
        function("def f(theta, x):\n    return {'a': x[:3]}\n"),
        r"decay\.yaml:4 model\.decay: .* returned an array of shape \(3,\) for 40 samples of x",
    ),
    "no list of parameters": (
        add("parameters: starts.csv"),
        r"starts\.csv: .*no such file\.$",
    ),
    "a list without names": (
        both(write("starts.csv", "init\n1\n"), add("parameters: starts.csv")),
        r"starts\.csv: parameters: needs a column 'name'",
    ),
    "a list with a stranger": (
        both(write("starts.csv", "name,init\ndecay.tua,1\n"), add("parameters: starts.csv")),
        r".*'decay\.tua'.*Did you mean 'decay\.tau'",
    ),
    "a list with a word": (
        both(write("starts.csv", "name,init\ndecay.tau,long\n"), add("parameters: starts.csv")),
        r"starts\.csv:2:11 ",
    ),
}
DATA_FILES = {
    "no such file": (
        lambda: os.remove("decay.csv"),
        r"decay\.yaml:2 data\.path: decay\.csv: data: no such file\.$",
    ),
    "a folder": (
        lambda: (os.remove("decay.csv"), os.mkdir("decay.csv")),
        r"decay\.csv: data: is a folder, not a file",
    ),
    "empty": (write("decay.csv", ""), r"decay\.csv: data: the file holds no numbers\.$"),
    "a header alone": (
        write("decay.csv", "t,counts\n"),
        r"decay\.csv:1 data: a header and no numbers",
    ),
    "a header twice": (
        write("decay.csv", "t,t\n1,2\n"),
        r"decay\.yaml:2 data\.x: decay\.csv:1 two columns have the header 't'\. Name them by number, 1 or 2\.$",
    ),
    "a row too long": (
        line(6, "1,2,3"),
        r"decay\.csv:6:5 found 3 fields where the header has 2\. The line is '.*'\.$",
    ),
    "a row too short": (
        line(6, "1"),
        r"decay\.csv:6 found 1 field where the header has 2\. The line is '1'\.$",
    ),
    "a word": (line(6, "1,many"), r"decay\.csv:6:3 .*'many'"),
    "not a number": (
        line(6, "1,nan"),
        r"decay\.csv:6:3 column 'counts \[kcps\]': 'nan' is not finite",
    ),
    "infinity": (line(6, "1,inf"), r"decay\.csv:6:3 .*'inf' is not finite"),
    "a gap": (line(6, "1,"), r"decay\.csv:6:3 .*the value is missing"),
    "columns of two lengths": (
        line(42, "9,"),
        r"decay\.csv:42 x \('t \[ns\]'\) has 40 points but y ",
    ),
    "no such x": (
        config("x: t", "x: time"),
        r"decay\.yaml:2 data\.x: decay\.csv has no column 'time'",
    ),
    "no such y": (
        config("y: counts", "y: 'c?'"),
        r"decay\.yaml:2 data\.y\.0: no column matches 'c\?'",
    ),
    "no such sigma": (
        config("y: counts", "y: counts, sigma: err"),
        r"decay\.yaml:2 data\.sigma: decay\.csv has no column 'err'",
    ),
    "sigma of zero": (
        config("y: counts", "y: counts, sigma: 0"),
        r"decay\.yaml:2 data: sigma must be positive and finite, not 0\.$",
    ),
    "a negative sigma": (
        both(config("y: counts", "y: counts, sigma: counts"), line(6, "1,-2")),
        r"decay\.csv:6:3 .*-2 is no standard deviation; it must be positive\.$",
    ),
    "a negative weight": (
        both(config("y: counts", "y: counts, weights: counts"), line(6, "1,-2")),
        r"decay\.csv:6:3 .*-2 is no weight; it must be zero or more\.$",
    ),
    "a negative count": (
        both(config("y: counts", "y: counts, sigma: poisson"), line(6, "1,-2")),
        r"decay\.csv:6:3 .*-2 is negative, so it is no Poisson count",
    ),
    "sigma and weights": (
        config("y: counts", "y: counts, sigma: 1, weights: t"),
        r"decay\.yaml:2 data: give sigma or weights, not both\.$",
    ),
    "nothing in the range": (
        config("y: counts", "y: counts, range: [50, 60]"),
        r"decay\.yaml:2 data\.range: no t lies between 50 and 60\.$",
    ),
    "nothing of that name": (
        config("y: counts", "y: counts, where: {t: never}"),
        r"decay\.yaml:2 data\.where\.t: no row of column 't' is 'never'\.",
    ),
    "too few points": (
        config("y: counts", "y: counts, range: [0, 0.4]"),
        r"decay\.yaml:2 data: 2 data points cannot determine 3 parameters",
    ),
    "Latin-1 said to be UTF-8": (
        both(write("decay.csv", b"t,\xe9\n1,2\n"), config("x: t", "encoding: utf-8, x: t")),
        r"decay\.csv:1:3 data: byte 0xe9 is not utf-8\. Is it the right one\?",
    ),
    "no such encoding": (
        config("x: t", "encoding: latin-99, x: t"),
        r"decay\.yaml:2 data: encoding: there is none called 'latin-99'",
    ),
    "half a spreadsheet": (
        both(write("decay.xlsx", b"PK\x03\x04\x14\0\0\xff"), config("decay.csv", "decay.xlsx")),
        r"decay\.xlsx: data: (cannot be read as a workbook|is a workbook \(XLSX\), which needs)",
    ),
    "half an npz": (arrays(cut(save_npz), "a.npz"), r"a\.npz: data: cannot be read as npz "),
    "half a NetCDF file": (arrays(cut(save_netcdf), "a.nc"), r"a\.nc: data: cannot be read as nc "),
    "half an HDF5 file": (arrays(cut(save_hdf5), "a.h5"), r"a\.h5: data: cannot be read as h5 "),
    "no MAT file": (
        arrays(lambda n: Path(n).write_text("x"), "a.mat"),
        r"a\.mat: data: cannot be read as",
    ),
    "a pickle": (arrays(save_pickle, "a.npy"), r"a\.npy: data: cannot be read as npy "),
    "an empty zip": (
        arrays(lambda n: Path(n).write_bytes(b"PK\x05\x06" + b"\0" * 18), "a.npz"),
        r"a\.npz: data: the file holds no arrays\.$",
    ),
    "no such array": (
        arrays(save_npz, "a.npz", "x: t, y: cuonts"),
        r"decay\.yaml:2 data\.y\.0: a\.npz has no array 'cuonts'\. Did you mean 'counts'\?$",
    ),
    "arrays without a common axis": (
        arrays(save_npz, "a.npz", "x: t, y: long"),
        r"decay\.yaml:2 data\.y\.0: 'long' .* has no axis in common with x = 't'",
    ),
    "half an explicit file": (
        arrays(lambda n: Path(n).write_text(EXPLICIT), "a.ascii", "x: time, y: data"),
        r"a\.ascii:7 a row of 3 numbers where 4 are expected",
    ),
    "a start that overflows": (
        config("init: 0.7, lower: 0.01", "init: -1e-3, lower: -1"),
        r"decay\.yaml:4 model\.decay: Column 'decay' is not finite at the start",
    ),
    "two starts alike": (
        component(f"{DECAY}\n  slow: {{kind: exp, tau: 0.7}}"),
        r"decay\.yaml:4 model\.decay: Phi has rank 2 of 3 at the starting point",
    ),
    "a component out of sight": (
        component(f"{DECAY}\n  far: {{kind: gaussian, center: 900, width: 1}}"),
        r"decay\.yaml:5 model\.far: Column 'far' is zero at every sample at the start",
    ),
    "a tie to itself": (
        both(
            component(f"{DECAY}\n  slow: {{kind: exp, tau: 5}}"),
            add("constraints:\n  tie:\n    slow.tau: decay.tau\n    decay.tau: slow.tau"),
        ),
        r"decay\.yaml:\d+ constraints\.tie\.(slow|decay)\.tau: tie: '.*' is tied to itself",
    ),
    "an order against the starts": (
        both(
            component(f"{DECAY}\n  slow: {{kind: exp, tau: 0.1}}"),
            add("constraints:\n  order: [decay.tau, slow.tau]"),
        ),
        r"decay\.yaml:8 constraints\.order: order: the start of 'decay\.tau' \(0\.7\) must be below",
    ),
    "two penalties of two kinds": (
        add("constraints:\n  ridge: {bg: gcv, decay: 1.0}"),
        r"decay\.yaml:7 constraints\.ridge: Either all penalties are given or all are 'gcv'",
    ),
    "a penalty to be found for counts": (
        add("constraints: {ridge: gcv}\nfit:\n  noise: poisson"),
        r"decay\.yaml:\d constraints\.ridge: A penalty of strength 'gcv' is for noise='normal'",
    ),
    "a coefficient that follows what follows": (
        both(
            component(f"{DECAY}\n  slow: {{kind: exp, tau: 5}}"),
            add("constraints:\n  relations:\n    bg: {slow: 2}\n    slow: {decay: 2}"),
        ),
        r"decay\.yaml:9 constraints\.relations\.bg: relations: 'bg' follows 'slow', which follows",
    ),
    "counts below zero": (
        both(line(5, "1,-3"), add("fit:\n  noise: poisson")),
        r"decay\.yaml:7 fit\.noise: noise='poisson' is for counts, but y has negative values",
    ),
    "a scale of nothing": (
        add("fit:\n  noise: huber\n  loss_scale: 0"),
        r"decay\.yaml:8 fit\.loss_scale: loss_scale must be positive",
    ),
    "a slash in the name of a data set": (
        config(DATA, "datasets:\n  a/b: {path: decay.csv, x: t, y: counts}"),
        r"decay\.yaml:2 datasets: the name 'a/b' has ",
    ),
    "a name that leads out of the folder": (
        config(DATA, "datasets:\n  ../../b: {path: decay.csv, x: t, y: counts}"),
        r"decay\.yaml:2 datasets: the name '\.\./\.\./b' has a dot",
    ),
    "starts alike in one of several data sets": (
        both(
            component(f"{DECAY}\n  slow: {{kind: exp, tau: 0.7}}"),
            config(DATA, "datasets:\n  one: {path: decay.csv, x: t, y: counts}"),
        ),
        r"decay\.yaml:\d+ model\.decay: ",
    ),
}


def earlier_run():
    os.mkdir("run")
    Path("run/config.yaml").write_text("schema: 1\n")


def in_use():
    stat = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    lock = {"pid": os.getpid(), "host": socket.gethostname(), "started": stat}
    Path(".run.lock").write_text(json.dumps(lock))


OUTPUT = {
    "an earlier run": (earlier_run, r".*run: holds an earlier run\. Add --overwrite to replace it"),
    "something else": (
        write("run/thesis.tex", "x"),
        r".*run: holds 'thesis\.tex', which varpro did not write",
    ),
    "a file": (write("run", "x"), r".*run: exists and is not a folder\."),
    "below a file": (
        config("dir: run", "dir: decay.csv/run"),
        r".*run: cannot be made, as .*decay\.csv is not a folder\.$",
    ),
    "in use": (in_use, r".*run: in use by another run \(process \d+\)\.$"),
    "not a lock": (
        write(".run.lock", "x"),
        r".*\.run\.lock: not a lock of varpro\. Delete it to go on\.$",
    ),
}
EVERYTHING = {
    **{f"configuration: {name}": case for name, case in CONFIGURATION.items()},
    **{f"data: {name}": case for name, case in DATA_FILES.items()},
    **{f"output: {name}": case for name, case in OUTPUT.items()},
}


def tree(folder):
    """All files below a folder, with what is in them."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


def test_there_are_more_than_sixty():
    assert len(EVERYTHING) + len(COMMANDS) + len(FAULTS) >= 100


@pytest.mark.parametrize(("spoil", "said"), EVERYTHING.values(), ids=EVERYTHING.keys())
def test_a_mistake_is_told_in_one_line_and_nothing_is_left(here, varpro, spoil, said):
    spoil()
    before = tree(here)
    done = varpro("run", "decay.yaml")
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert re.match(said, done.stderr.strip()), done.stderr
    assert done.stderr.count("\n") == 1 and len(done.stderr) < 400
    assert tree(here) == before


COMMANDS = {
    "no such command": (("rnu",), "No such command 'rnu'"),
    "no such option": (("run", "decay.yaml", "--fast"), "No such option: --fast"),
    "no configuration": (("run",), "Missing argument"),
    "set without a value": (
        ("run", "decay.yaml", "--set", "fit.starts"),
        "expected KEY=VALUE, such as",
    ),
    "set of what is unknown": (
        ("run", "decay.yaml", "--set", "fit.strats=3"),
        "fit.strats: unknown key. Did you mean 'starts'?",
    ),
    "set of no YAML": (
        ("run", "decay.yaml", "--set", "fit.starts=[1"),
        "--set fit.starts=[1: not valid YAML.",
    ),
    "set through a value": (("check", "decay.yaml", "--set", "schema.x.y=1"), "schema"),
    "a sweep over nothing": (
        ("run", "decay.yaml", "--sweep", "fit.seed="),
        "expected KEY=A,B,..., such as",
    ),
    "a pattern of nothing": (("run", "*.yml"), "*.yml: configuration: no file matches."),
    "check of nothing": (("check", "nothing.yaml"), "nothing.yaml: configuration: no such file."),
    "report of no run": (
        ("report", "."),
        ".: is no run folder (it has no config.yaml and fit.nc).",
    ),
    "plot of no run": (("plot", "nowhere"), "nowhere: is no run folder"),
    "plot in no format": (
        ("plot", ".", "--format", "gif"),
        "--format gif: expected png, svg or pdf.",
    ),
    "comparison of one": (("compare", "."), "compare takes two runs or more."),
    "comparison of none": (("compare", ".", "nowhere"), ".: is no run folder"),
    "resume of nothing": (("resume", "nowhere"), "nowhere: no such run folder."),
    "new over a file": (("new", "decay.yaml"), "decay.yaml"),
    "new from nothing": (
        ("new", "a.yaml", "--from", "nothing.csv"),
        "nothing.csv: data: no such file.",
    ),
    "no such model": (("models", "exq"), "Did you mean 'exp'?"),
}


@pytest.mark.parametrize(("words", "said"), COMMANDS.values(), ids=COMMANDS.keys())
def test_a_wrong_command_exits_2_and_leaves_nothing(here, varpro, words, said):
    before = tree(here)
    done = varpro(*words)
    assert done.exit_code == 2, done.output
    assert said in re.sub(r"[\s│]+", " ", done.stderr)
    assert tree(here) == before


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


# What the machine may do to a run: what fails, with which error, and what is said. Whoever runs the
# tests may be allowed everything, so permissions are refused by hand.
FAULTS = {
    "configuration not to be read": (
        (Path, "open", PermissionError(errno.EACCES, "Permission denied")),
        r"decay\.yaml: configuration: no permission to read it\.$",
    ),
    "a disk that fails": (
        (Path, "open", OSError(errno.EIO, "Input/output error")),
        r"decay\.yaml: configuration: cannot be read \(Input/output error\)\.$",
    ),
    "a folder not to be written": (
        (Path, "mkdir", PermissionError(errno.EACCES, "Permission denied")),
        r".*run: cannot be written \(Permission denied\)\.$",
    ),
    "a disk not to be written": (
        (Path, "mkdir", OSError(errno.EROFS, "Read-only file system")),
        r".*run: cannot be written \(Read-only file system\)\.$",
    ),
    "a full disk": (
        (run_module, "write_json", OSError(errno.ENOSPC, "No space left on device")),
        r".*run: cannot be written \(No space left on device\)\.$",
    ),
    "a disk that fills up at the end": (
        (os, "fsync", OSError(errno.ENOSPC, "No space left on device")),
        r".*/run/fit\.nc: cannot be written \(No space left on device\)\.$",
    ),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_of_the_machine_is_told_and_leaves_nothing(here, varpro, monkeypatch, fault, said):
    place, name, error = fault
    before = tree(here)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, raising(error))
        done = varpro("run", "decay.yaml")
    assert done.exit_code == 2, done.output
    assert re.match(said, done.stderr) and done.stderr.count("\n") == 1
    assert tree(here) == before


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "Terminated.")],
    ids=["Ctrl-C", "terminate"],
)
def test_a_signal_ends_a_run_in_one_line_and_leaves_nothing(
    here, varpro, monkeypatch, kind, code, said
):
    before = tree(here)
    monkeypatch.setattr(run_module, "write_json", lambda *_: os.kill(os.getpid(), kind))
    # Whoever starts the tests in the background lets them ignore Ctrl-C.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = varpro("run", "decay.yaml")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert done.exit_code == code
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
    assert tree(here) == before


def test_a_damaged_file_does_not_complain_when_it_goes(monkeypatch):
    import types

    import h5netcdf

    from varpro.app.cli import _unraisable

    told = []
    monkeypatch.setattr(sys, "__unraisablehook__", told.append)
    _unraisable(types.SimpleNamespace(object=h5netcdf.File.close))
    assert told == []
    other = types.SimpleNamespace(object=json.dumps)
    _unraisable(other)
    assert told == [other]
