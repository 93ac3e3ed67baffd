"""What a user may put into a configuration by mistake: a value of the wrong kind, size or place for every key,
and texts that are no configuration. Each is refused before anything is fitted, in one line that begins
with its place."""

from pathlib import Path

import pytest

# By the word of `--set`: the beginning of what is said, without the name of the file.
VALUES = {
    "a\x00=1": "a\\u0000: unknown key. Known: title, datasets, responses, parameters, constr",
    "title=a\nfoo: bar": "--set title=a foo: bar: holds another key. Give each a --set of its own.",
    "title=\ud800": "--set title=\\ud800: not valid YAML.",
    "title=[": "--set title=[: not valid YAML.",
    "title=&a b": "--set title:1 anchors (&) and aliases (*) are not allowed; write the value ",
    "data=1": "data: expected keys below it, not '1'.",
    "=1": "--set =1: expected KEY=VALUE, such as fit.solver.max_steps=50.",
    "fit.seed=1e999": "fit.seed: expected a whole number, not '1e999'.",
    "fit.solver.max_steps=1e30": "fit.solver.max_steps: expected a whole number, not '1e30'.",
    "fit.solver.max_steps=1000000000000000000000000000000": "fit.solver.max_steps: expected a smaller number, not '100000000000000000000",
    "fit.starts=100000000": "fit.starts: expected a number from 1 to 100,000, not '100000000'.",
    "fit.starts=10000000000000000000000000000000000000000": "fit.starts: expected a smaller number, not '1000000000000000000000000000000",
    "fit.seed=10000000000000000000000000000000000000000": "fit.seed: expected a smaller number, not '100000000000000000000000000000000",
    "fit.seed=-1": "fit.seed: expected 0 or more, not '-1'.",
    "fit.solver.ftol=.nan": "fit.solver.ftol: expected a number, not '.nan'.",
    "fit.loss_scale=0": "fit.loss_scale: loss_scale must be positive and finite, not '0'.",
    "fit.loss_scale=-1": "fit.loss_scale: loss_scale must be positive and finite, not '-1'.",
    "fit.loss_scale=.inf": "fit.loss_scale: loss_scale must be positive and finite, not '.inf'.",
    "fit.loss_scale=.nan": "fit.loss_scale: expected a number, not '.nan'.",
    "fit.loss_scale=1e308": "fit.loss_scale: has no effect: 'noise: normal' knows no outliers.",
    "model.decay.tau.init=1e-308": "4 model.decay.tau: init = 1e-308 lies outside its bounds [0.01, inf].",
    "model.decay.tau.init=0": "4 model.decay.tau: init = 0 lies outside its bounds [0.01, inf].",
    "model.decay.tau.prior=[0, 0]": "4 model.decay.tau: prior is [mean, standard deviation], and the second must",
    "model.decay.tau.prior=[.nan, 1]": "model.decay.tau.prior.0: expected a number, not '.nan'.",
    "model.decay.tau.prior=[1, .inf]": "4 model.decay: prior=(mean, sd) needs a finite mean and sd > 0, but (1.0, i",
    "model.decay.tau.lower=.nan": "model.decay.tau.lower: expected a number, not '.nan'.",
    "model.p={kind: polynomial, degree: 1000000000}": "model.p: Polynomial 'p' of degree 1000000000 has powers that no number can ",
    "model.p={kind: polynomial, degree: 1000000000000000000000000000000}": "model.p.degree: expected a smaller number, not '100000000000000000000000000",
    "model.p={kind: spline, count: 100000000}": "model.p.kind: unknown kind 'spline'. Did you mean 'bspline'?",
    "model.p={kind: polynomial, degree: -1}": "model.p: Polynomial 'p' needs degree >= 0, not -1.",
    "model.p={kind: spline, count: 0}": "model.p.kind: unknown kind 'spline'. Did you mean 'bspline'?",
    "model.p={kind: spline, count: -5}": "model.p.kind: unknown kind 'spline'. Did you mean 'bspline'?",
    "data.range=[.nan, 1]": "data.range.0: expected a number, not '.nan'.",
    "data.range=[1,0]": "2 data: range is [lowest x, highest x].",
    "data.sigma=0": "2 data: sigma must be positive and finite, not 0.",
    "data.sigma=.nan": "data.sigma: decay.csv has no column '.nan'. Known: t, counts.",
    "data.sigma=1e320": "2 data: sigma must be positive and finite, not inf.",
    "data.sigma=-1": "2 data: sigma must be positive and finite, not -1.",
    "constraints.ridge=0": "constraints.ridge: expected a positive number or gcv, not '0'.",
    "constraints.ridge=-1": "constraints.ridge: expected a positive number or gcv, not '-1'.",
    "constraints.bounds={decay.tau: [.nan, 1]}": " maps of 'decay.tau' are for curves with parameters of their own, fit.share",
    "constraints.bounds={decay: [.nan, 1]}": " maps of 'decay' are for curves with parameters of their own, fit.share: no",
    "constraints.tie={decay.tau: '9**9**9'}": "constraints.tie.decay.tau: tie: '9**9**9' names no parameter. W",
    "constraints.nonnegative=[nothing]": "constraints.nonnegative.0: no column is called 'nothing'. Known: decay, bg.",
    "data.where={t: 0.0}": "2 data: 1 data points cannot determine 3 parameters (1 nonlinear, 2 linear)",
    "data.y='[z'": "data.y.0: no column matches '[z'. Known: t, counts.",
    "data.sigma=t": "decay.csv:3:1 column 't [ns]': 0.0 is no standard deviation; it must be pos",
    "compute.workers=100000": "compute.workers: expected a number from 1 to 10,000, not '100000'.",
    "compute.workers=0": "compute.workers: expected a number from 1 to 10,000, not '0'.",
    "fit.block=5": "fit.block: has no effect: it is for curves with parameters of their own ('s",
    "fit.start=global": "fit.start: has no effect: it is for curves with parameters of their own ('s",
    "fit.binning=4": "fit.binning: has no effect: it is for curves with parameters of their own (",
    "title=''": "title: expected a word, not ''.",
    "output.maps=zarr": "output.maps: has no effect: it is for curves with parameters of their own (",
    "fit.solver.max_steps=0": "fit.solver.max_steps: expected a number from 1 to 1,000,000, not '0'.",
    'data.units={x: "\\n"}': "data.units.x: expected a word, not ''.",
    "data.delimiter=tab": "2 data.y.0: decay.csv has no column 'counts'. Known: t.",
    "data.delimiter=space": "decay.csv:3 found 1 field where the header has 3.",
    "data.spacing=0": "2 data: spacing must be finite and not 0, not 0.",
    "data.origin=3": "data.origin: has no effect: it is the first x where spacing gives the other",
    "data.dims=[a]": "data.dims: is for the arrays of 'fit: {share: none}'. Name columns or array",
    "data.select={t: 3}": "data.select: is for files of arrays. Tables of text have range and where.",
    "data.mask=counts": "data.mask: is for files of arrays. Tables of text have range and where.",
    "parameters=decay.csv": "decay.csv: parameters: needs a column 'name'; found t, counts.",
    "parameters=/dev/null": "/dev/null: data: is a device, not a file. Write what it gives into a file f",
    "parameters=.": ".: data: is a folder, not a file.",
    "parameters='a\\0'": "a\\0: data: no such file.",
    "responses={g: {center: 0, width: 0.1}}": "responses.g: has no effect: no component says 'irf: g' (or receiver, or loss).",
    "responses={g: {kind: measured, path: decay.csv, x: t, y: counts}}": "responses.g: has no effect: no component says 'irf: g' (or receiver, or loss).",
    "model.decay.irf=g": "4 model.decay: irf: no response 'g'. There are none here.",
    "schema=2": "schema: expected 1, not '2'.",
    "schema=1.0": "schema: expected a whole number, not '1.0'.",
    "model={}": "model: expected at least 1 entry, found 0.",
    "model.decay=3": "model.decay: needs a kind. Known: exp, stretched_exp, oscillation, complex_",
    "model.decay=[1]": "model.decay: expected keys below it, not a list.",
    "model.'a b'={kind: exp}": "3 model: the name ''a b'' has a dot, a blank, or one of * ? [ ] / \\ in it.",
    "model.z={kind: custom, function: 'os:system'}": "model.z: os:system raised TypeError: system() takes at most 1 argument (2 g",
    "model.z={kind: custom, function: 'decay:f', folder: /nowhere}": "model.z: no module 'decay' in /nowhere, nor installed.",
    "model.z={kind: kinetics}": "model.z.transfers: this key is required.",
    "model.z={kind: sine}": "model.z.kind: unknown kind 'sine'. Did you mean 'bspline'?",
}

# Texts of configurations, and what is said behind the name of the file.
TEXTS = {
    "": ": the configuration is empty.",
    "\t": ":1:1 not valid YAML: a tab; YAML indents with blanks.",
    "- a": ":1 expected keys such as 'data:' and 'model:' at the top.",
    "a": ":1 expected keys such as 'data:' and 'model:' at the top.",
    "a: [": ":1:5 not valid YAML: expected the node content, but found '<stream end>'.",
    "? {a: 1}\n: b": ":1 a key must be a word.",
    "a: 1\n---\nb: 1": ":2 a second document starts here; only one is read.",
    "%YAML 9.9\n---\na: 1": ":1:1 not valid YAML: found incompatible YAML document (version 1.* is required).",
    "%YAML 1.11\n---\na: 1": ": not valid YAML: version minor part can only be 2 or 1, got (1, 11).",
    'a: "\\ud800"': ":1 a text holds a zero byte or half of a letter (a lone surrogate).",
    "a: !!python/object:os.system x": ":1 the tag '!!python/object:os.system' is not allowed; write a plain value.",
    "&a [*a]": ":1 anchors (&) and aliases (*) are not allowed; write the value out.",
    "\x00": ":1 configuration: a zero byte; this is not a text file.",
    "? \n: x": ":1 a key must be a word.",
    "---\n...\n---\n": ":1 expected keys such as 'data:' and 'model:' at the top.",
    "a: @b": ":1:4 not valid YAML: found character '@' that cannot start any token.",
    "%TAG ! !\n---\na: !x 1": ":3 the tag '!x' is not allowed; write a plain value.",
}


@pytest.mark.parametrize("word", VALUES)
def test_a_value_that_cannot_be_meant_is_refused_in_one_line(here, varpro, unfitted, word):
    before = sorted(path.name for path in here.iterdir())
    done = varpro("run", "decay.yaml", "--set", word)
    said = done.stderr.strip().removeprefix("decay.yaml").removeprefix(": --set ").lstrip(":")
    assert done.exit_code == 2 and said.startswith(VALUES[word]), done.output
    assert "\n" not in said and len(said) < 400
    assert sorted(path.name for path in here.iterdir()) == before


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_is_no_configuration_is_refused_with_its_line(here, varpro, unfitted, text):
    Path("decay.yaml").write_text(text)
    done = varpro("run", "decay.yaml")
    assert done.exit_code == 2, done.output
    assert done.stderr.removeprefix("decay.yaml").startswith(TEXTS[text])
    assert done.stderr.count("\n") == 1
