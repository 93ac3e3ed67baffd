"""Compiled programs: shared by what differs in numbers alone, bounded in number, found again by other
processes, never trusted, and never of other code."""

import dataclasses
import json
import os
import stat
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import assert_same_optimum
from jax.experimental.compilation_cache import compilation_cache

import varpro as vp
from varpro._programs import compiler, folder, program as programs
from varpro._programs.folder import ProgramFolder, program_folder
from varpro._programs.identity import _described

T = np.linspace(0.0, 5.0, 30)
Y = 3 * np.exp(-T / 1.2) + 0.5 + 0.01 * np.cos(37 * T)


def decay(name="a", tau=1.0):
    return vp.Exp(name, tau=tau) + vp.Constant("bg")


@pytest.fixture(scope="module", autouse=True)
def no_cache_of_jax():
    """Programs are kept where JAX does not keep them itself, as it does for the other tests."""
    before = jax.config.jax_compilation_cache_dir
    for cache in (None, before):
        jax.config.update("jax_compilation_cache_dir", cache)
        compilation_cache.reset_cache()
        if cache is None:
            yield


@pytest.fixture
def compilations(monkeypatch):
    """The programs that were compiled, not found, since the test began in a process without any."""
    made = []

    def counted(lowered, options):
        made.append(options)
        return compile_it(lowered, options)

    compile_it = compiler.compiled
    monkeypatch.setattr(compiler, "compiled", counted)
    programs.clear()
    vp.keep_programs(False)
    yield made
    vp.keep_programs(True)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache in which the programs of one fit are kept, and the fit."""
    cache = tmp_path_factory.mktemp("cache")
    return cache, kept_fit(cache)


def kept_fit(cache, model=None, y=Y, **options):
    """The fit of a process that has no program but those in the cache."""
    programs.clear()
    vp.keep_programs(cache)
    try:
        return vp.fit(decay() if model is None else model, T, y, **options)
    finally:
        vp.keep_programs(True)


def kept(cache):
    return {path.name for path in (cache / "programs").iterdir()}


# One program for what differs in numbers alone.


def test_other_lengths_masks_weights_and_bounds_run_in_the_program_of_the_first_fit(compilations):
    first = vp.fit(decay(), T, Y)
    made = len(compilations)
    assert made
    for change in (
        {"mask": T > 0.5},
        {"sigma": 0.1 + T},
        {"bounds": {"a.tau": (0.1, 5.0)}},
        {"init": {"a.tau": 2.0}},
    ):
        assert vp.fit(decay(), T, Y, **change).success
    shorter = vp.fit(decay("b"), T[:-1], Y[:-1])
    assert len(compilations) == made
    assert first.success and shorter.success
    assert (first.num_data, shorter.num_data) == (30, 29)
    assert (first.dof, shorter.dof) == (27, 26)
    assert shorter.fitted.shape == (29,)


def test_a_fit_is_the_one_of_its_own_samples_alone(monkeypatch, rng):
    from varpro._problem.frozen import Recalled
    from varpro._single import ready

    y = np.stack([Y, 2 * Y[::-1], *rng.normal(size=(15, 30))], axis=1)
    options = [{"sigma": np.ones(30)}, {"sigma": 0.1 + T, "mask": T < 4.5}]
    padded = [vp.fit(decay(), T, y), vp.fit(decay(), T, y, **options[1])]
    monkeypatch.setattr(ready, "may_grow", lambda data, columns: False)
    monkeypatch.setattr(ready, "_KEPT", Recalled(16))
    for found, each in zip(padded, options, strict=True):
        plain = vp.fit(decay(), T, y, **each)
        assert_same_optimum(found, plain)
        assert (found.dof, found.num_data) == (plain.dof, plain.num_data)
        assert found.fitted.shape == y.shape and found.coef.shape == (2, 17)
        for name in ("coef_stderr", "covariance"):
            np.testing.assert_allclose(getattr(found, name), getattr(plain, name), rtol=1e-6)


def test_a_function_that_looks_at_all_of_x_sees_the_x_of_its_data():
    # The mean of x would move if samples were added.
    def centred(theta, t):
        return {"a": jnp.exp(-(t - jnp.mean(t)) / theta["tau"]), "bg": jnp.ones_like(t)}

    fit = vp.fit(centred, T[:29], Y[:29], init={"tau": 1.0})
    plain = vp.fit(decay(), T[:29], Y[:29])
    np.testing.assert_allclose(fit["tau"].value, plain["a.tau"].value, rtol=1e-6)
    np.testing.assert_allclose(
        fit["a"].value, plain["a"].value * np.exp(-T[:29].mean() / fit["tau"].value), rtol=1e-6
    )


def test_a_changed_formula_is_not_taken_for_one_that_goes_row_by_row():
    class Centred(vp.basis.Polynomial):
        def evaluate(self, x, values):
            return super().evaluate(x - jnp.mean(x), values)

    assert vp.basis.Polynomial("p").rowwise and not Centred("p").rowwise
    assert (vp.Exp("a", tau=1.0) + vp.Constant("c")).rowwise
    assert not (vp.Exp("a", tau=1.0) + Centred("p")).rowwise


@pytest.mark.parametrize("count", [1, 16, 17, 100, 129, 1000, 1025, 12345])
def test_a_padded_length_is_the_next_of_few(count):
    from varpro._problem.padding import padded_length

    size = padded_length(count)
    assert count <= size <= max(16, 1.25 * count)
    assert padded_length(size) == size
    assert len({padded_length(n) for n in range(1, 5001)}) < 60


# Optimised where that pays, the same way every time.


def test_small_work_is_compiled_quickly_and_large_work_is_optimised():
    quick, plain = compiler.options(1000, False), compiler.options(1e6, False)
    assert quick.get("xla_backend_optimization_level") == 0
    assert "xla_backend_optimization_level" not in plain
    assert compiler.options(1000, True) == plain


def test_an_option_that_xla_does_not_know_is_left_out():
    lowered = jax.jit(lambda a: a + 1).lower(1.0)
    options = {"xla_no_such_option": 1, "xla_backend_optimization_level": 0}
    assert float(compiler.compiled(lowered, options)(1.0)) == 2.0


def test_a_quick_program_finds_what_an_optimised_one_finds(compilations):
    quick = vp.fit(decay(), T, Y)
    with compiler.fully_optimised():
        full = vp.fit(decay(), T, Y)
    assert {options.get("xla_backend_optimization_level") for options in compilations} == {0, None}
    assert_same_optimum(quick, full)


def test_the_programs_of_a_process_are_those_used_last(monkeypatch, compilations):
    monkeypatch.setattr(programs, "MOST", 2)
    double = programs.program(lambda a: 2 * a)
    for size in (1, 2, 3, 2, 3):
        assert double(np.ones(size)).shape == (size,)
    assert len(compilations) == 3 and len(programs.RECENT) == 2
    double(np.ones(1))
    assert len(compilations) == 4


def test_a_program_is_of_its_types_and_of_what_is_no_array(compilations):
    scaled = programs.program(lambda a, n: a * n)
    assert scaled(np.ones(2), 2).tolist() == [2, 2]
    assert scaled(np.ones(2), 3).tolist() == [3, 3]
    assert scaled(np.ones(2, np.float32), 3).dtype == np.float32
    assert len(compilations) == 3


def test_programs_can_stand_inside_transformations():
    square = programs.program(lambda a: jnp.sum(a**2))
    x = jnp.arange(3.0)
    np.testing.assert_array_equal(jax.grad(square)(x), 2 * x)
    np.testing.assert_array_equal(jax.vmap(square)(x[:, None]), x**2)
    # The argument is a function that holds a number under differentiation.
    applied = programs.program(lambda f, a: f(a))
    assert float(jax.grad(lambda s: applied(lambda a: s * a, 3.0))(2.0)) == 3.0


# Kept between processes.


def test_a_kept_program_gives_the_same_bits(filled, compilations):
    cache, first = filled
    before = kept(cache)
    assert before
    # Other values, names and starts are of the same program.
    again = kept_fit(cache)
    other = kept_fit(cache, decay("b", 1.1), 2 * Y)
    assert not compilations and kept(cache) == before
    assert again == first
    np.testing.assert_allclose(other["b.tau"].value, first["a.tau"].value, rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda: {},
        lambda: {"model": decay() + vp.Exp("c", tau=0.2)},
        lambda: {"y": np.stack([Y, Y + 1], 1)},
        lambda: {"jacobian": "full"},
        lambda: {"linear_solver": vp.linalg.QR()},
    ],
    ids=["nothing", "model", "shape", "jacobian", "linear solver"],
)
def test_what_changes_the_program_changes_its_name(filled, change, monkeypatch):
    class Asked(Exception):
        pass

    def get(self, name, count):
        raise Asked(name)

    # The fit asks for its program by name before it makes it.
    monkeypatch.setattr(ProgramFolder, "get", get)
    with pytest.raises(Asked) as caught:
        kept_fit(filled[0], **change())
    (name,) = caught.value.args
    assert (name in kept(filled[0])) == (not change())


def test_a_function_of_the_users_is_found_by_what_it_was_traced_to(tmp_path, compilations):
    def model(power):
        return vp.Custom("mine", lambda th, t: jnp.exp(-t / th["tau"]) ** power, {"tau": 1.0})

    first = kept_fit(tmp_path, model(1))
    made = len(compilations)
    again = kept_fit(tmp_path, model(1))
    assert len(compilations) == made and again.alpha == first.alpha
    kept_fit(tmp_path, model(2))
    assert len(compilations) > made


def test_a_function_that_calls_back_into_its_process_is_not_kept(tmp_path):
    def called(theta, t):
        like = jax.ShapeDtypeStruct((), t.dtype)
        tau = jax.pure_callback(lambda a: a, like, theta["tau"], vmap_method="sequential")
        return jnp.exp(-t / tau)

    apply = programs.program(lambda f, a, t: f({"tau": a}, t))
    vp.keep_programs(tmp_path)
    try:
        apply(called, np.ones(()), T)
        assert not kept(tmp_path)
        apply(lambda theta, t: t / theta["tau"], np.ones(()), T)
        assert kept(tmp_path)
    finally:
        vp.keep_programs(True)


def test_a_program_that_tells_of_its_steps_is_for_this_process_alone(filled, compilations):
    cache, plain = filled
    told, before = [], kept(cache)
    kept_fit(cache, progress=told.append)
    made = len(compilations)
    kept_fit(cache, progress=told.append)
    assert told and len(compilations) > made and kept(cache) == before
    made = len(compilations)
    assert kept_fit(cache).equals(plain) and len(compilations) == made


class Mine(vp.Exp):
    """A basis of the user's, whose code no version of varpro determines."""


def test_a_class_of_the_users_has_no_text():
    from varpro._programs.identity import of_call

    assert of_call(decay, (vp.Exp("a"),), {}) is None  # a function of the user's
    assert of_call(vp.fit, (vp.Exp("a"),), {})
    assert of_call(vp.fit, (Mine("a"),), {}) is None


SPOILT = {
    "empty": lambda raw: b"",
    "cut short": lambda raw: raw[: len(raw) // 2],
    "a flipped bit": lambda raw: raw[:200] + bytes([raw[200] ^ 1]) + raw[201:],
    "text": lambda raw: b"import os",
    "a pickle": lambda raw: b"\x80\x04cos\nsystem\n",
    "its last byte missing": lambda raw: raw[:-1],
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_damaged_file_is_as_good_as_not_there(tmp_path, spoil):
    kept = ProgramFolder(tmp_path)
    kept.write("a", b"what a program is" * 100)
    path = tmp_path / "a"
    path.write_bytes(spoil(path.read_bytes()))
    assert kept.read("a") is None


def test_a_file_under_the_name_of_another_is_not_read(tmp_path):
    kept = ProgramFolder(tmp_path)
    kept.write("a", b"one")
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes())
    assert kept.read("a") == b"one" and kept.read("b") is None


def test_what_is_whole_but_no_program_is_made_anew(tmp_path, filled):
    kept = ProgramFolder(tmp_path)
    kept.write("a", b"not a pickle")
    assert kept.get("a", 1) is None
    folder = tmp_path / "programs"
    folder.mkdir(mode=0o700)
    for name in filled[0].joinpath("programs").iterdir():
        ProgramFolder(folder).write(name.name, b"not a program")
    assert kept_fit(tmp_path) == filled[1]


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path):
    mine = program_folder(tmp_path)
    assert mine is not None
    assert stat.S_IMODE(mine.folder.stat().st_mode) & 0o077 == 0
    mine.folder.chmod(0o777)
    assert program_folder(tmp_path) is None


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    assert program_folder(tmp_path / "file") is None


def test_programs_are_left_to_jax_where_it_keeps_them(tmp_path, monkeypatch):
    vp.keep_programs(tmp_path)
    try:
        assert folder.in_use() is not None
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
        assert folder.in_use() is None
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        vp.keep_programs(True)


def test_the_oldest_programs_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_MOST", 3)
    kept = ProgramFolder(tmp_path)
    for i in range(5):
        kept.write(str(i), b"program")
        os.utime(tmp_path / str(i), (i, i))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3", "4"]


PROBE = """
import json, os, sys
import varpro
before = sorted(os.listdir(sys.argv[1]))
from varpro._programs import folder
found = folder.in_use()
print(json.dumps([before, None if found is None else str(found.folder)]))
"""


@pytest.mark.parametrize("said", [None, "off", "folder"])
def test_the_environment_says_where_and_an_import_makes_nothing(tmp_path, said):
    own = tmp_path / "own"
    home = tmp_path / "home"
    home.mkdir()
    mine = {"XDG_CACHE_HOME": str(home), "HOME": str(home), "LOCALAPPDATA": str(home)}
    if said is not None:
        mine["VARPRO_CACHE"] = str(own) if said == "folder" else said
    env = {k: v for k, v in os.environ.items() if k != "VARPRO_CACHE"} | mine
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(home)], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    before, found = json.loads(done.stdout)
    assert before == []
    if said == "off":
        assert found is None
    else:
        assert str(own if said == "folder" else home) in found


def test_two_modules_that_differ_in_a_static_field_have_two_texts():
    class Holder(eqx.Module):
        degree: int = eqx.field(static=True)

    Holder.__module__ = "varpro.basis"
    Holder.__qualname__ = "Holder"
    one, two = Holder(1), Holder(2)
    assert _described(one) != _described(two) and _described(one) == _described(Holder(1))
    assert dataclasses.is_dataclass(one)
