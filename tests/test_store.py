"""A fit on disk, pickled and copied is the same fit; a damaged file says so."""

import copy
import dataclasses
import inspect
import os
import pathlib
import pickle
import subprocess
import sys
import textwrap
import typing
import zipfile

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import varpro as vp
from varpro._equality import same
from varpro._results.class_names import class_of, is_ours, word_of

T = np.linspace(0.0, 20.0, 120)
NOISE = np.random.default_rng(7).normal(size=(T.size, 4))
CLEAN = 3.0 * np.exp(-T / 1.0) + 2.0 * np.exp(-T / 6.0) + 0.5
Y = CLEAN + 0.02 * NOISE[:, 0]
MODEL = vp.Exp("fast", tau=0.5) + vp.Exp("slow", tau=5.0) + vp.Constant("bg")
PEAKS = vp.Gaussian("a", center=5.0, width=1.0) + vp.Lorentzian("b", center=12.0, fwhm=2.0)


def ring(theta, t):
    return {"a": jnp.exp((-theta["rate"] + 1j * theta["w"]) * t)}


def plane(theta, x):
    return {"a": jnp.exp(-x["t"] / theta["tau"]), "b": x["grid"] @ jnp.array([1.0, 2.0])}


class Sine(vp.AbstractBasis):
    """A basis of a user's own, with an array inside."""

    name: str
    phases: np.ndarray
    freq: vp.Param

    @property
    def column_names(self):
        return tuple(f"{self.name}.{i}" for i in range(len(self.phases)))

    def evaluate(self, x, values):
        return jnp.sin(values["freq"] * x[:, None] + self.phases)


FITS = {
    "plain": lambda: vp.fit(MODEL, T, Y),
    "many": lambda: vp.fit(MODEL, T, np.stack([Y, 2 * Y, Y + 1], 1), sigma=0.02),
    "bounds": lambda: vp.fit(
        MODEL,
        T,
        Y,
        bounds={"slow.tau": (1.0, 5.5)},
        init={"fast.tau": vp.Param(0.5, prior=(1.0, np.float64(0.1)))},
        weights=(T > 0.5).astype(float),
        order=("fast.tau", "slow.tau"),
    ),
    "ties": lambda: vp.fit(PEAKS, T, Y, tie={"b.fwhm": "a.width"}, fix="a.center"),
    "linear": lambda: vp.fit(vp.Polynomial("p", degree=2), T, Y),
    "unicode": lambda: vp.fit(vp.Exp("Zerfall/ß τ", tau=1.0) + vp.Constant("ℓ"), T, Y),
    "float32": lambda: vp.fit(MODEL, T.astype(np.float32), Y.astype(np.float32)),
    "failed": lambda: vp.fit(MODEL, T, Y, max_steps=1),
    "starts": lambda: vp.fit(MODEL, T, Y, starts=3),
    "holes": lambda: vp.fit(MODEL, T, np.where(T > 3, Y, np.nan), nan="drop"),
    "offset": lambda: vp.fit(MODEL + vp.Offset(vp.Exp("known", tau=9.0)), T, Y),
    "undetermined": lambda: vp.fit(MODEL, T, Y, init={"*.tau": 3.0}, fix="*.tau"),
}
FOREIGN = {
    "complex": (ring, T, Y + 1j * NOISE[:, 0], {"rate": 0.3, "w": 1.4}),
    "pytree": (plane, {"t": T, "grid": NOISE[:, :2]}, Y, {"tau": 3.0}),
    "class": (Sine("s", np.array([0.0, 1.0]), vp.Param(0.3)), T, Y, {}),
}


def check(fit, again):
    assert again.equals(fit) and fit == again and hash(fit) == hash(again)
    assert type(again) is vp.FitResult
    np.testing.assert_array_equal(again.predict(fit.x), fit.predict(fit.x))
    assert str(again) == str(fit) and again.diagnostics == fit.diagnostics


@pytest.mark.parametrize("make", FITS.values(), ids=FITS.keys())
def test_a_fit_comes_back_bit_by_bit(make, tmp_path):
    fit = make()
    fit.save(tmp_path / "fit.nc")
    check(fit, vp.load(tmp_path / "fit.nc"))
    assert [p.name for p in tmp_path.iterdir()] == ["fit.nc"]
    check(fit, pickle.loads(pickle.dumps(fit)))
    check(fit, copy.deepcopy(fit))


@pytest.mark.parametrize(("model", "x", "y", "init"), FOREIGN.values(), ids=FOREIGN.keys())
def test_models_of_the_users_own_come_back_if_given_or_trusted(model, x, y, init, tmp_path):
    fit, path = vp.fit(model, x, y, init=init), tmp_path / "fit.nc"
    fit.save(str(path))
    with pytest.raises(
        vp.InputError, match=r"fit\.nc: was fitted with '\w+' of .*Pass it as model="
    ):
        vp.load(path)
    check(fit, vp.load(path, model=model))
    check(fit, pickle.loads(pickle.dumps(fit)))
    check(fit, copy.deepcopy(fit))


def test_any_difference_is_seen():
    fit = vp.fit(MODEL, T, Y)
    assert fit.equals(vp.fit(MODEL, T, Y))
    assert not fit.equals(vp.fit(MODEL, T, Y + 1e-15)) and not fit.equals("fit")
    for where, value in [
        (lambda f: f.dof, fit.dof + 1),
        (lambda f: f.message, "other"),
        (lambda f: f.alpha, np.nextafter(fit.alpha, 9)),
        (lambda f: f.success, not fit.success),
    ]:
        assert eqx.tree_at(where, fit, value) != fit


def test_equality_is_strict_about_types_and_kind_to_nan():
    nan = float("nan")
    assert same({"a": (nan, [1, None])}, {"a": (nan, [1, None])})
    assert same(np.array([nan, 1]), np.array([nan, 1])) and same(np.float64(2), 2.0)
    for a, b in [
        (1, 1.0),
        (True, 1),
        ((1,), [1]),
        (np.zeros(2), np.zeros(3)),
        (np.zeros(2), np.zeros(2, np.float32)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (vp.Param(1.0), vp.Param(1.0, 0.0)),
        (nan, 0.0),
        (ring, plane),
    ]:
        assert not same(a, b)


def test_other_programs_read_the_file(tmp_path):
    fit = vp.fit(MODEL, T, np.stack([Y, 2 * Y], 1), sigma=0.02)
    fit.save(tmp_path / "fit.nc")
    with xr.open_dataset(tmp_path / "fit.nc") as file:
        np.testing.assert_array_equal(file["fitted"], fit.fitted)
        assert file["fitted"].dims == ("sample", "rhs")
        assert file["value"].sel(parameter="slow.tau") == fit["slow.tau"].value
        assert file["coef"].sel(coefficient="slow", rhs=1) == fit["slow"].value[1]
        assert file.attrs["chisq"] == fit.chisq and file.attrs["status"] == "successful"
        assert "x" in file.coords


SCRIPT = """
    import pathlib, sys
    import numpy as np
    import varpro as vp

    def tell(trust):
        try:
            fit = vp.load("fit.nc", trust=trust)
        except vp.InputError as error:
            print("refused", "mine" in sys.modules, error)
        else:
            print("loaded", fit.predict(np.array([0.0, 1.0])).sum(), fit.success)

    tell(False)
    tell(True)
    for name in ("changed", "empty"):
        print(name)
        del sys.modules["mine"]
        pathlib.Path("mine.py").write_text(pathlib.Path(name + ".txt").read_text())
        tell(True)
"""
MINE = """
    print("mine runs")
    import jax.numpy as jnp
    def decay(theta, t):
        return {"a": jnp.exp(-t / theta["tau"])}
"""


def test_another_process_imports_a_function_only_when_trusted(tmp_path):
    mine = textwrap.dedent(MINE)
    (tmp_path / "mine.py").write_text(mine)
    # A function that has changed since would predict something else in silence.
    (tmp_path / "changed.txt").write_text(mine.replace("-t /", "-2 * t /"))
    (tmp_path / "empty.txt").write_text("")
    sys.path.insert(0, str(tmp_path))
    try:
        from mine import decay  # pyright: ignore[reportMissingImports]

        fit = vp.fit(decay, T, Y, init={"tau": 2.0})
        fit.save(tmp_path / "fit.nc")
        assert vp.load(tmp_path / "fit.nc", trust=True) == fit
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("mine", None)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    # Two versions of one file within a second must not share their byte code.
    command = [sys.executable, "-B", "-c", textwrap.dedent(SCRIPT)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition("changed\n")
    changed, _, empty = rest.partition("empty\n")
    refused, said, told = first.splitlines()
    assert refused.startswith("refused False fit.nc: was fitted with 'decay' of mine")
    assert "trust=True" in refused
    loaded, found, success = told.split()
    assert (said, loaded, success) == ("mine runs", "loaded", "True")
    # Computed anew there, by a program that need not round as ours does.
    total = float(fit.predict(np.array([0.0, 1.0])).sum())
    assert float(found) == pytest.approx(total, rel=1e-12)
    assert "refused" in changed and "gives other values than when it was fitted" in changed
    assert "'decay' of mine, which cannot be imported" in empty


def test_a_local_function_is_given_again(tmp_path):
    fit = vp.fit(lambda th, t: {"a": jnp.exp(-t / th["tau"])}, T, Y, init={"tau": 2.0})
    path = tmp_path / "fit.nc"
    fit.save(path)
    for trust in (False, True):
        with pytest.raises(vp.InputError, match="Pass the same function or basis as model="):
            vp.load(path, trust=trust)
    again = vp.load(path, model=lambda th, t: {"a": jnp.exp(-t / th["tau"])})
    np.testing.assert_array_equal(again.predict(T), fit.predict(T))
    assert not again.equals(fit)  # nobody can tell that two functions do the same
    with pytest.raises(vp.InputError, match="gives other values than when it was fitted"):
        vp.load(path, model=lambda th, t: {"a": jnp.exp(-t * th["tau"])})
    with pytest.raises(vp.InputError, match=r"the columns \('a',\), but model= has"):
        vp.load(path, model=lambda th, t: {"b": jnp.exp(-t * th["tau"])})


def test_damage_is_noticed_wherever_it_is(tmp_path):
    fit, path = vp.fit(MODEL, T, Y), tmp_path / "fit.nc"
    fit.save(path)
    whole = path.read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(vp.InputError, match=r"fit\.nc: damaged"):
            vp.load(path)
    for array in (fit.y, fit.fitted, fit.covariance, np.array(b'"stop": "')):
        at = whole.index(array.tobytes())
        spoilt = bytearray(whole)
        spoilt[at + 7] ^= 0x10
        path.write_bytes(spoilt)
        with pytest.raises(vp.InputError, match=r"fit\.nc: damaged"):
            vp.load(path)


def test_an_array_that_was_changed_is_noticed(tmp_path):
    fit, path = vp.fit(MODEL, T, Y), tmp_path / "fit.nc"
    fit.save(path)
    with xr.open_dataset(path, decode_cf=False) as file:
        changed = file.load()
    changed["value"][0] += 1e-12
    changed.to_netcdf(tmp_path / "changed.nc", engine="h5netcdf")
    with pytest.raises(vp.InputError, match=r"changed\.nc: damaged"):
        vp.load(tmp_path / "changed.nc")


def test_what_is_no_saved_fit_is_refused_by_name(tmp_path):
    (tmp_path / "text.nc").write_text("tau,1.0\n")
    xr.Dataset({"a": ("t", T)}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    for name, said in [
        ("none.nc", "no such file"),
        (".", "no such file"),
        ("text.nc", "damaged, or no saved fit"),
        ("other.nc", "not a saved fit"),
    ]:
        with pytest.raises(vp.InputError, match=said):
            vp.load(tmp_path / name)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    one, two, path = vp.fit(MODEL, T, Y), vp.fit(MODEL, T, 2 * Y), tmp_path / "fit.nc"
    one.save(path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(vp.InputError, match=r"fit\.nc: cannot be written \(No space left\)"):
        two.save(path)
    assert vp.load(path) == one and [p.name for p in tmp_path.iterdir()] == ["fit.nc"]
    monkeypatch.undo()
    two.save(path)
    assert vp.load(path) == two
    with pytest.raises(vp.InputError, match="cannot be written"):
        two.save(tmp_path / "nowhere" / "fit.nc")


def test_a_basis_with_what_no_file_can_hold_is_refused(tmp_path):
    fit = vp.fit(Sine("s", np.array([0.0]), vp.Param(0.3)), T, Y)
    odd = eqx.tree_at(lambda f: f.model.groups[0].formula.phases, fit, {1, 2})
    with pytest.raises(vp.InputError, match="save cannot store '.*phases', of type set"):
        odd.save(tmp_path / "fit.nc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["GlobalFit", "BatchFit"])
def test_fits_of_several_data_sets_and_of_many_curves_come_back_too(kind, tmp_path):
    if kind == "GlobalFit":
        sets = {"a": (T, Y), "b": (T[::2], np.stack([Y, 2 * Y], 1)[::2])}
        fit = vp.fit(MODEL, sets, share=["slow.*"])
    else:
        fit = vp.fit_many(MODEL, T, (CLEAN[:, None] + 0.02 * NOISE).T.reshape(2, 2, T.size))
    path = tmp_path / "fit.nc"
    fit.save(path)
    again = vp.load(path)
    assert type(again).__name__ == kind and again == fit
    if kind == "BatchFit":
        np.testing.assert_array_equal(again.predict((0, 1)), fit.predict((0, 1)))
        with xr.open_dataset(path) as maps:
            np.testing.assert_array_equal(maps["slow.tau"], fit["slow.tau"].value)
    else:
        np.testing.assert_array_equal(again["b"].predict(T), fit["b"].predict(T))
        with pytest.raises(vp.InputError, match="several models"):
            vp.load(path, model=MODEL)


def test_the_coefficients_of_a_second_reading_come_back_too(tmp_path):
    columns = np.outer(Y, np.arange(1.0, 5.0)) + 0.02 * NOISE
    fit = vp.fit(MODEL, T, vp.compress(columns)).completed(columns)
    fit.save(tmp_path / "fit.nc")
    again = vp.load(tmp_path / "fit.nc")
    assert again == fit and str(again) == str(fit)


FORMAT_1 = pathlib.Path(__file__).parent / "saved" / "format_1.zip"
KINDS_OF_FORMAT_1 = {"global": "GlobalFit", "batch": "BatchFit"}
KINDS_OF_FORMAT_1 |= {"compressed": "CompressedFit", "modes": "DmdResult"}


@pytest.mark.parametrize(
    "name", [n.removesuffix(".nc") for n in zipfile.ZipFile(FORMAT_1).namelist()]
)
def test_what_version_0_1_0_saved_loads_and_equals(name, tmp_path):
    with zipfile.ZipFile(FORMAT_1) as files:
        path = pathlib.Path(files.extract(f"{name}.nc", tmp_path))
    fit = vp.load(path)
    assert type(fit).__name__ == KINDS_OF_FORMAT_1.get(name, "FitResult")
    if isinstance(fit, vp.FitResult):
        with xr.open_dataset(path, decode_cf=False) as file:
            np.testing.assert_array_equal(fit.alpha, file["value"])
            np.testing.assert_array_equal(fit.alpha_stderr, file["stderr"])
            assert fit.chisq == file.attrs["chisq"]
        # Computed on another processor, and columns may cancel: the square root of eps, as `load` asks.
        scale = np.max(np.abs(fit.fitted))
        np.testing.assert_allclose(fit.predict(fit.x), fit.fitted, rtol=0, atol=1.5e-8 * scale)
    fit.save(tmp_path / "again.nc")
    again = vp.load(tmp_path / "again.nc")
    assert again == fit and again.equals(fit) and str(again) == str(fit)
    text = xr.open_dataset(tmp_path / "again.nc", decode_cf=False)["varpro_state"].item()
    assert "varpro." not in str(text) and '"format": 2' in str(text)


def test_a_class_of_ours_without_a_word_cannot_be_saved(tmp_path):
    fit = vp.fit(MODEL, T, Y)
    with pytest.raises(vp.InputError, match="cannot store a QR of varpro"):
        eqx.tree_at(lambda f: f.message, fit, vp.linalg.QR()).save(tmp_path / "fit.nc")


def modules_of(hint):
    """Classes of ours that an annotation names."""
    parts = typing.get_args(hint)
    if parts:
        return {kind for part in parts for kind in modules_of(part)}
    ours = isinstance(hint, type) and issubclass(hint, eqx.Module) and is_ours(hint.__module__)
    return {hint} if ours else set()


def test_every_class_that_a_saved_fit_may_hold_has_a_word():
    kinds = [vp.FitResult, vp.GlobalFit, vp.BatchFit, vp.CompressedFit, vp.DmdResult]
    held, seen = list(kinds), set()
    while held:
        kind = held.pop()
        hints = typing.get_type_hints(kind)
        # Types that a field of this kind says: a class without a word could not be saved.
        fields = {hint for f in dataclasses.fields(kind) for hint in modules_of(hints[f.name])}
        assert [
            k.__name__ for k in fields if word_of(k) is None and not inspect.isabstract(k)
        ] == []
        held += fields - seen
        seen |= fields
    assert {"Param", "Layout", "Optimum", "CovarianceBlocks"} <= {word_of(k) for k in seen}
    assert all(class_of(word_of(kind)) is kind for kind in seen if not inspect.isabstract(kind))
