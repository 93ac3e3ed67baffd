"""Programs that are kept between runs: found again, never trusted, and never of other code."""

import dataclasses
import os
import stat

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import assert_same_optimum

import varpro as vp
from varpro.app.program_cache import ProgramFolder, program_folder, work_tree

T = np.linspace(0.0, 5.0, 30)
Y = 3 * np.exp(-T / 1.2) + 0.5 + 0.01 * np.cos(37 * T)


def decay(name="a", tau=1.0):
    return vp.Exp(name, tau=tau) + vp.Constant("bg")


class Counted:
    """A store in memory, and what was asked of it."""

    def __init__(self):
        self.kept, self.hits, self.puts = {}, 0, 0

    def get(self, name):
        self.hits += name in self.kept
        return self.kept.get(name)

    def put(self, name, content):
        self.puts += 1
        self.kept[name] = content


def kept_fit(store, model=None, y=Y, **options):
    with vp.keep_programs(store):
        return vp.fit(decay() if model is None else model, T, y, **options)


@pytest.fixture(scope="module")
def filled():
    store = Counted()
    return store, kept_fit(store)


def test_a_kept_program_gives_the_same_bits(filled):
    store, first = filled
    assert store.puts >= 1
    puts, hits = store.puts, store.hits
    # Other values, names and starts are of the same program.
    again = kept_fit(store)
    other = kept_fit(store, decay("b", 1.1), 2 * Y)
    assert store.puts == puts and store.hits > hits
    assert again == first
    np.testing.assert_allclose(other["b.tau"].value, first["a.tau"].value, rtol=1e-6)


def test_it_is_the_fit_that_would_have_been_made_without(filled):
    plain = vp.fit(decay(), T, Y)
    # A program that was stored and read is compiled anew, and need not round as the other one.
    assert_same_optimum(filled[1], plain)
    for field in ("covariance", "fitted"):
        np.testing.assert_allclose(getattr(filled[1], field), getattr(plain, field), rtol=1e-6)
    assert filled[1].success and plain.success


@pytest.mark.parametrize(
    "change",
    [
        lambda: {"model": decay() + vp.Exp("c", tau=0.2)},
        lambda: {"y": np.stack([Y, Y + 1], 1)},
        lambda: {"jacobian": "full"},
        lambda: {"bounds": {"a.tau": (0.1, 5.0)}},
        lambda: {"linear_solver": vp.linalg.QR()},
        lambda: {"starts": 3},
    ],
    ids=["model", "shape", "jacobian", "bounds", "linear solver", "starts"],
)
def test_what_changes_the_program_changes_its_name(filled, change):
    store = Counted()
    store.kept = dict(filled[0].kept)
    before = set(store.kept)
    kept_fit(store, **change())
    assert set(store.kept) - before


def test_a_function_of_the_users_is_traced_every_time():
    store = Counted()
    model = vp.Custom("mine", lambda th, t: {"a": jnp.exp(-t / th["tau"])}, {"tau": 1.0})
    assert kept_fit(store, model).success
    assert store.puts == 0


class Mine(vp.Exp):
    """A basis of the user's, whose code no version of varpro determines."""


def test_a_class_of_the_users_is_traced_every_time():
    store = Counted()
    assert kept_fit(store, Mine("a", tau=1.0)).success
    assert store.puts == 0


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
    folder = ProgramFolder(tmp_path)
    folder.put("a", b"what a program is" * 100)
    path = tmp_path / "a"
    path.write_bytes(spoil(path.read_bytes()))
    assert folder.get("a") is None


def test_a_file_under_the_name_of_another_is_not_read(tmp_path):
    folder = ProgramFolder(tmp_path)
    folder.put("a", b"one")
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes())
    assert folder.get("a") == b"one" and folder.get("b") is None


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"not json\nbody", b'{"array": 7}\nbody', b"[1]\n\x00\x01\x02"]
)
def test_foreign_bytes_that_a_store_returns_are_traced_over(filled, content):
    store = Counted()
    store.kept = dict.fromkeys(filled[0].kept, content)
    assert kept_fit(store) == filled[1]
    assert store.kept == filled[0].kept or store.puts >= 1


def test_a_structure_cannot_name_what_is_not_ours():
    from varpro._export_cache import _rebuilt

    for path in ("os:system", "varpro.app.runs.run:run", "equinox:Module"):
        with pytest.raises((ValueError, TypeError)):
            _rebuilt({"module": path, "fields": []}, [])


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path):
    mine = program_folder(tmp_path)
    assert mine.folder is not None
    assert stat.S_IMODE(mine.folder.stat().st_mode) & 0o077 == 0
    mine.folder.chmod(0o777)
    assert program_folder(tmp_path).folder is None


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    folder = program_folder(tmp_path / "file")
    folder.put("a", b"one")
    assert folder.get("a") is None


def test_the_oldest_programs_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr("varpro.app.program_cache._MOST", 3)
    folder = ProgramFolder(tmp_path)
    for i in range(5):
        folder.put(str(i), b"program")
        os.utime(tmp_path / str(i), (i, i))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3", "4"]


def test_the_state_of_the_work_tree_is_a_fixed_text():
    assert work_tree() == work_tree() and len(work_tree()) == 64


def test_two_modules_that_differ_in_a_static_field_have_two_texts():
    from varpro._export_cache import _described

    class Holder(eqx.Module):
        degree: int = eqx.field(static=True)

    Holder.__module__ = "varpro.basis"
    Holder.__qualname__ = "Holder"
    one, two = Holder(1), Holder(2)
    assert _described(one) != _described(two) and _described(one) == _described(Holder(1))
    assert dataclasses.is_dataclass(one)
