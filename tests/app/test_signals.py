"""Signals that end a process: raised where somebody hears it, and in no import, which would keep a lock."""

import importlib
import os
import signal
import sys
import time

import pytest

from varpro.app import signals
from varpro.app.signals import ending

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")


class Ended(BaseException):
    pass


RAISES = {signal.SIGTERM: Ended, signal.SIGINT: KeyboardInterrupt}


@pytest.fixture(autouse=True)
def interrupts_are_heard():
    """In the background of a shell they are ignored, and what is ignored stays ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Import a module of this text, after which it is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)

    def imported(text):
        (tmp_path / "hit_while_imported.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module("hit_while_imported")

    yield imported
    sys.modules.pop("hit_while_imported", None)


KILL = "import os, signal, time\nos.kill(os.getpid(), signal.{})\n"


def quiet(seconds=5.0):
    """Wait for what a signal raises."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize(("name", "error"), [("SIGTERM", Ended), ("SIGINT", KeyboardInterrupt)])
def test_a_signal_in_an_import_is_raised_when_that_is_done(module, name, error):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    done = []
    with pytest.raises(error), ending(RAISES):
        done.append(module(KILL.format(name) + "time.sleep(0.1)\nwhole = True\n").whole)
        quiet()
    assert done == [True]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_signal_in_a_callback_of_the_import_system_is_not_lost():
    # Such a callback is run when the lock of a module goes, holds the lock of all imports, and swallows
    # exceptions: a signal that raised in it left a process that could import nothing ever again.
    code = compile(
        "def callback():\n    import os, signal\n    os.kill(os.getpid(), signal.SIGTERM)\n    return 1\n",
        "<frozen importlib._bootstrap>",
        "exec",
    )
    names = {}
    exec(code, names)
    found = []
    with pytest.raises(Ended), ending(RAISES):
        try:
            found.append(names["callback"]())
        except BaseException:
            pass  # as for whatever a callback raises
        quiet()
    assert found == [1]


def test_a_signal_elsewhere_is_raised_at_once():
    after = []
    with pytest.raises(Ended), ending(RAISES):
        os.kill(os.getpid(), signal.SIGTERM)
        after.append(1)
    assert after == []


def test_an_import_that_never_ends_is_ended(module, monkeypatch):
    monkeypatch.setattr(signals, "_PATIENCE", 0.2)
    with pytest.raises(KeyboardInterrupt), ending(RAISES):
        module(KILL.format("SIGINT") + "time.sleep(60)\n")


def test_a_signal_of_the_last_moment_is_not_lost(module):
    with pytest.raises(Ended), ending(RAISES):
        module(KILL.format("SIGTERM"))


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending(RAISES):
            os.kill(os.getpid(), signal.SIGINT)
            quiet(0.1)
    finally:
        signal.signal(signal.SIGINT, before)
