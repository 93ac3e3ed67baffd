"""Run folders: whole or not there, one run at a time, nothing of anybody else's touched."""

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys

import pytest

from varpro import InputError
from varpro.app.runs.folder import RunFolder


def publish(target, text="new", *, overwrite=False, success=True):
    with RunFolder(target, overwrite).open() as folder:
        content = {"status": {"success": success}, "text": text}
        (folder.work / "result.json").write_text(json.dumps(content))
        return folder.publish(success)


def text_in(folder):
    return json.loads((folder / "result.json").read_text())["text"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_appears_whole_with_its_parents_and_nothing_else(tmp_path):
    target = tmp_path / "runs" / "deep" / "one"
    assert publish(target) == target
    assert names(target) == ["result.json"]
    assert names(target.parent) == ["one"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    target = tmp_path / "runs" / "deep" / "one"
    with pytest.raises(RuntimeError), RunFolder(target, False).open() as folder:
        (folder.work / "result.json").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_an_earlier_run_is_refused_without_overwrite(tmp_path):
    publish(tmp_path / "one", "old")
    with pytest.raises(InputError, match="Add --overwrite"):
        publish(tmp_path / "one")
    assert text_in(tmp_path / "one") == "old"
    publish(tmp_path / "one", overwrite=True)
    assert text_in(tmp_path / "one") == "new"
    assert names(tmp_path) == ["one"]


def test_an_interrupted_overwrite_keeps_the_earlier_run(tmp_path):
    publish(tmp_path / "one", "old")
    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path / "one", True).open() as folder:
        (folder.work / "result.json").write_text("half")
        raise KeyboardInterrupt
    assert text_in(tmp_path / "one") == "old"
    assert names(tmp_path) == ["one"]


def test_an_overwrite_that_cannot_be_renamed_puts_the_earlier_run_back(tmp_path):
    publish(tmp_path / "one", "old")
    with pytest.raises(InputError), RunFolder(tmp_path / "one", True).open() as folder:
        (folder.work / "result.json").write_text("new")
        folder.work.rename(tmp_path / "gone")
        folder.work.mkdir()
        folder.work = folder.work.parent / "nowhere"
        folder.publish(True)
    assert text_in(tmp_path / "one") == "old"


def test_a_failed_fit_never_replaces_a_good_run(tmp_path):
    publish(tmp_path / "one", "good")
    beside = publish(tmp_path / "one", "bad", overwrite=True, success=False)
    assert beside == tmp_path / "one-failed"
    assert (text_in(tmp_path / "one"), text_in(beside)) == ("good", "bad")
    publish(tmp_path / "one", "worse", overwrite=True, success=False)
    assert text_in(beside) == "worse"
    assert names(tmp_path) == ["one", "one-failed"]


def test_a_failed_run_may_be_replaced(tmp_path):
    publish(tmp_path / "one", "bad", success=False)
    publish(tmp_path / "one", "good", overwrite=True)
    assert text_in(tmp_path / "one") == "good"


def test_files_of_others_are_never_deleted(tmp_path):
    publish(tmp_path / "one")
    (tmp_path / "one" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes\.txt', which varpro did not write"):
        publish(tmp_path / "one", overwrite=True)
    assert (tmp_path / "one" / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "one").write_text("mine")
    with pytest.raises(InputError, match="exists and is not a folder"):
        publish(tmp_path / "one", overwrite=True)
    # Nor can a folder be made below it; this also holds for an administrator.
    with pytest.raises(InputError, match="one is not a folder"):
        publish(tmp_path / "one" / "two")
    assert (tmp_path / "one").read_text() == "mine"


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "one").mkdir()
    publish(tmp_path / "one")
    assert text_in(tmp_path / "one") == "new"


def test_a_second_run_into_the_same_folder_is_refused(tmp_path):
    with RunFolder(tmp_path / "one", False).open():
        with pytest.raises(InputError, match=rf"in use by another run \(process {os.getpid()}\)"):
            publish(tmp_path / "one")
        publish(tmp_path / "two")
    publish(tmp_path / "one")


def lock(tmp_path, **owner):
    (tmp_path / ".one.lock").write_text(json.dumps(owner))


def test_a_lock_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
        with pytest.raises(InputError, match="cannot be written"):
            with RunFolder(tmp_path / "run", False).open():
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
    with RunFolder(tmp_path / "run", False).open() as folder:
        assert folder.work.is_dir()


def test_a_file_system_without_hard_links_has_locks_too(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "link", none)
    with RunFolder(tmp_path / "run", False).open():
        with pytest.raises(InputError, match="in use by another run"):
            with RunFolder(tmp_path / "run", False).open():
                pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock(tmp_path, pid=dead.pid, host=socket.gethostname(), started="1")
    (tmp_path / f".one.tmp-{dead.pid}").mkdir()
    publish(tmp_path / "one")
    assert names(tmp_path) == ["one"]


def test_the_lock_of_a_process_whose_number_was_given_again_is_taken_over(tmp_path):
    lock(tmp_path, pid=os.getpid(), host=socket.gethostname(), started="long ago")
    publish(tmp_path / "one")
    assert names(tmp_path) == ["one"]


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ({"pid": 1, "host": "elsewhere", "started": "1"}, "in use by process 1 on elsewhere"),
        ({"something": "else"}, "not a lock of varpro"),
    ],
)
def test_a_lock_that_cannot_be_judged_is_left_alone(tmp_path, owner, message):
    lock(tmp_path, **owner)
    with pytest.raises(InputError, match=message):
        publish(tmp_path / "one")
    assert names(tmp_path) == [".one.lock"]


def test_a_run_that_was_killed_between_the_two_renames_is_put_back(tmp_path):
    publish(tmp_path / "one", "old")
    (tmp_path / "one").rename(tmp_path / ".one.old")
    with pytest.raises(InputError, match="Add --overwrite"):
        publish(tmp_path / "one")
    assert text_in(tmp_path / "one") == "old"
    assert names(tmp_path) == ["one"]


def test_names_with_wildcards_do_not_reach_other_runs(tmp_path):
    (tmp_path / ".ab.tmp-1").mkdir()
    publish(tmp_path / "*b")
    assert names(tmp_path) == ["*b", ".ab.tmp-1"]
