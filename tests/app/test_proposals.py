"""`varpro new --from` proposes what a file was made of, says what it chose, and asks where nothing is sound.

The cases are some of `scripts/bench/proposals.py`, which has sixty.
"""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest

from varpro.app.plan.make_plan import make_plan

_FILE = pathlib.Path(__file__).parents[2] / "scripts" / "bench" / "proposals.py"
_SPEC = importlib.util.spec_from_file_location("proposals", _FILE)
assert _SPEC is not None and _SPEC.loader is not None
proposals = importlib.util.module_from_spec(_SPEC)
sys.modules["proposals"] = proposals
_SPEC.loader.exec_module(proposals)
CASES = {case.name: case for case in proposals.cases()}


def test_there_are_sixty_files():
    assert len(CASES) == 60


@pytest.mark.parametrize(
    "name",
    [
        "decay with index, 0.005",
        "growth, 0.005",
        "sine, bare, 0.03",
        "Raman, 0.005",
        "NMR, text, 0.005",
        "TA, corner 0, 0.005",
        "plate, 0.005",
        "powder, 0.2",
        "spectra, HDF5, 0.005",
        "cube, 1",
    ],
)
def test_what_a_file_was_made_of_is_proposed(tmp_path, name):
    right, said = proposals.proposal(CASES[name], tmp_path, 7)
    assert right, said
    plan = make_plan(str(tmp_path / "fit.yaml"))
    assert not list(tmp_path.glob(".varpro-*"))
    if name.startswith("powder"):
        centers = sorted(p.init for n, p in plan.parameters.items() if n.endswith("center"))
        np.testing.assert_allclose(centers, [18.2, 27.5, 33.1, 45.4, 58.7], atol=0.05)
    if name.startswith("TA"):
        taus = sorted(p.init for n, p in plan.parameters.items() if n.endswith("tau"))
        np.testing.assert_allclose(taus, [1.5, 60.0], rtol=0.1)


def table(path, **columns):
    rows = zip(*columns.values(), strict=True)
    text = (
        ",".join(columns) + "\n" + "".join(",".join(map(repr, map(float, r))) + "\n" for r in rows)
    )
    path.write_text(text)


T = np.linspace(0.0, 10.0, 60)


def test_columns_are_chosen_and_others_named(tmp_path, monkeypatch, varpro):
    monkeypatch.chdir(tmp_path)
    noise = 0.01 * np.random.default_rng(5).normal(size=T.size)
    y = 3 * np.exp(-T / 2.0) + 0.5 + noise
    table(tmp_path / "a.csv", a=np.cos(T), t=T, signal=y, other=2 * y)
    done = varpro("new", "a.yaml", "--from", "a.csv", "--y", "other")
    assert done.exit_code == 0, done.output
    assert "x is 't', y is other" in done.stdout and "not used: a, signal" in done.stdout
    assert "What else there was: " in done.stdout
    assert make_plan("a.yaml").columns.y_names == ("other",)


def test_a_question_is_asked_where_a_file_leaves_open_what_is_x(tmp_path, monkeypatch, varpro):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    table(tmp_path / "a.csv", a=rng.normal(size=30), b=rng.normal(size=30), c=rng.normal(size=30))
    table(tmp_path / "fid.csv", real=np.cos(T), imag=np.sin(T))
    (tmp_path / "one.csv").write_text("y\n" + "".join(f"{v}\n" for v in T))
    np.savez(tmp_path / "axes.npz", time=T, wavelength=T[:40])
    np.savez(tmp_path / "alone.npz", fid=T * 1j)
    dose = np.array([0.02, 0.06, 0.11, 0.22, 0.56, 1.1])
    table(tmp_path / "few.csv", dose=dose, rate=200 * dose / (0.06 + dose))
    (tmp_path / "model.yaml").write_text("data: {path: a.csv}\n")
    admittance = 1 / (2 + 1 / (1 / 50 + 1j * T))
    np.savez(tmp_path / "cell.npz", freq=T, admittance=admittance)
    for words, message in (
        (("--from", "a.csv"), "Which one is x? --x NAME"),
        (("--from", "model.yaml"), "is a configuration by its name, and no data"),
        (("--from", "cell.npz"), "complex numbers against a frequency"),
        (("--from", "fid.csv"), "are parts of one signal, and no column is x"),
        (
            ("--from", "one.csv"),
            "has 1 column of numbers, 'y'; a fit takes x and y. Line 2 is '0.0'",
        ),
        (("--from", "axes.npz"), "found no x and y among"),
        (("--from", "alone.npz"), "'fid' (60,) stands alone, and no array says where"),
        (("--from", "a.csv", "--x", "d"), "no column 'd'"),
        (("--from", "few.csv"), "6 samples are too few for AICc to tell one model from another"),
        (("--from", "a.csv", "--noise", "pink"), "expected poisson or normal"),
        (("--x", "t"), "say what is in a file"),
    ):
        done = varpro("new", "n.yaml", *words)
        assert done.exit_code == 2 and message in done.stderr, done.output
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "a.csv",
            "alone.npz",
            "axes.npz",
            "cell.npz",
            "few.csv",
            "fid.csv",
            "model.yaml",
            "one.csv",
        ]
