"""What happens to a run when workers of its cluster, or its scheduler, die.

In all but one the job is not a fit, whose program a worker would compile, but a stand-in that writes the
block and does what its number tells it to, in the process of the worker.
"""

import collections
import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import varpro as vp
from varpro.app.runs import dask_client, dask_cluster
from varpro.app.runs.journal import Journal

distributed = pytest.importorskip("distributed")
pytest.importorskip("cloudpickle")

# Workers are killed by the dozen. Those that begin as copies of one process that has imported everything are
# there at once; elsewhere each imports all of it itself, which takes seconds.
_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
FIELDS = ("alpha", "alpha_stderr", "coef", "coef_stderr", "chisq", "dof", "num_steps", "status")


def stand_in(deeds):
    """A job whose block `number`, of one curve, does `deeds[number](place)` in its worker first."""

    # Of a class that no module has, cloudpickle sends the code.
    class Job:
        def __init__(self, deeds):
            self.deeds = deeds

        def fit_rows(self, first, last):
            self.deeds.get(first, lambda: None)()
            return {name: np.full((1, 2), float(first)) for name in FIELDS}

    return Job(deeds)


def journal_in(folder, count):
    journal = Journal(folder, "0123456789abcdef", tuple((i, i + 1) for i in range(count)))
    journal.begin()
    return journal


def whole(journal):
    """Whether every block is there and holds what its job wrote."""
    alpha = journal.gathered()["alpha"]
    return np.array_equal(alpha[:, 0], np.arange(len(journal.blocks)))


@contextlib.contextmanager
def two_workers(memory):
    """A cluster of two processes that speak TCP; a task is given up after two."""
    from dask import config
    from distributed.utils import get_mp_context

    # A worker that begins anew may take long where the cores are busy, and is waited for.
    settings = {
        "distributed.scheduler.allowed-failures": 1,
        "distributed.deploy.lost-worker-timeout": "300 s",
        "distributed.worker.multiprocessing-method": _METHOD,
    }
    with config.set(settings):
        if _METHOD == "forkserver":
            # In this order: dask, when it is first asked, says what is imported, too.
            get_mp_context()
            multiprocessing.set_forkserver_preload(["distributed", dask_cluster.__name__])
        with distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            protocol="tcp",
            memory_limit=memory,
            dashboard_address=None,
            silence_logs=50,
        ) as local:
            yield local


@pytest.fixture(scope="module")
def cluster():
    """Workers of little memory."""
    with two_workers("600MB") as local:
        yield local


def test_all_workers_are_killed_and_every_block_is_there(cluster, tmp_path):
    journal, told = journal_in(tmp_path, 6), []

    def done(number):
        told.append(number)
        if len(told) == 2:
            for worker in list(cluster.workers.values()):
                os.kill(worker.pid, signal.SIGKILL)

    job = stand_in({i: lambda: time.sleep(0.2) for i in range(6)})
    waiting = list(range(6))
    dask_cluster.run_on_cluster(job, journal, waiting, cluster.scheduler_address, None, done)
    assert sorted(told) == waiting and whole(journal)


def test_a_task_that_kills_its_workers_is_named_and_the_others_are_kept(cluster, tmp_path):
    journal, told = journal_in(tmp_path, 5), []
    job = stand_in({3: lambda: os.kill(os.getpid(), signal.SIGKILL)})
    with pytest.raises(vp.InputError) as info:
        dask_cluster.run_on_cluster(
            job, journal, list(range(5)), cluster.scheduler_address, None, told.append
        )
    message = str(info.value)
    assert "the curves 3 to 3: 2 workers died of it" in message
    assert f"varpro resume {tmp_path}" in message and "\n" not in message
    assert sorted(told) == [0, 1, 2, 4]
    # What resumption does, once the reason is gone.
    dask_cluster.run_on_cluster(
        stand_in({}), journal, [3], cluster.scheduler_address, None, told.append
    )
    assert told[-1] == 3 and whole(journal)


def test_a_worker_that_takes_more_memory_than_it_may_is_a_lost_block(cluster, tmp_path):
    journal, told = journal_in(tmp_path, 3), []

    def greedy():
        # In steps, so that whoever watches has time to see it.
        kept = []
        for _ in range(60):
            kept.append(np.ones(2**22))
            time.sleep(0.02)

    with pytest.raises(vp.InputError, match="needs more memory than it may use is killed"):
        dask_cluster.run_on_cluster(
            *(stand_in({1: greedy}), journal, [0, 1, 2], cluster.scheduler_address, None),
            told.append,
        )
    assert sorted(told) == [0, 2]


def test_what_a_worker_raises_is_one_sentence(cluster, tmp_path):
    def missing():
        raise ModuleNotFoundError("No module named 'theirs'")

    with pytest.raises(
        vp.InputError, match="ModuleNotFoundError: No module named 'theirs'.*resume"
    ):
        dask_cluster.run_on_cluster(
            *(
                stand_in({0: missing}),
                journal_in(tmp_path, 1),
                [0],
                cluster.scheduler_address,
                None,
            ),
            print,
        )


def test_no_module_beside_the_data_is_taken_for_one_of_python_by_a_worker(tmp_path, monkeypatch):
    for name in ("multiprocessing", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nimport sys\n")
    monkeypatch.chdir(tmp_path)
    before = os.environ.get("PYTHONSAFEPATH")
    from dask import config

    # As the workers of a run begin, which import everything anew.
    method = {"distributed.worker.multiprocessing-method": "spawn"}
    with config.set(method), dask_client.connected(None, 1) as client:
        assert client.submit(os.getcwd).result(timeout=60) == str(tmp_path)
    assert not (tmp_path / "ran").exists() and os.environ.get("PYTHONSAFEPATH") == before


IMAGE = """\
data: {path: cube.nc, variable: counts, x: time}
model:
  decay: {kind: exp, tau: 1.0}
  bg: {kind: constant}
fit: {share: none, block: 4}
compute: {engine: dask}
output: {dir: run}
"""


def test_a_cluster_gives_the_local_result_though_a_worker_is_killed(
    cube_in_a_file, plain, monkeypatch
):
    cube = cube_in_a_file
    model = vp.Exp("decay", tau=1.0) + vp.Constant("bg")
    with open("far.yaml", "w") as file:
        file.write(IMAGE)
    killed = []
    read = Journal.read

    def reading(self, number):
        if not killed and 2 <= len(self.done()) < len(self.blocks) - 2:
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)
        return read(self, number)

    monkeypatch.setattr(Journal, "read", reading)
    with two_workers("2GB") as local:
        victim = next(iter(local.workers.values()))
        address = local.scheduler_address
        assert address.startswith("tcp://127.0.0.1")
        out = plain("far.yaml", "-q", "--scheduler", address)
        assert out.exit_code == 3 and killed, out.output
        # The same cluster fits a dask array from Python, and compresses one for a global fit.
        with distributed.Client(local):
            lazy = cube.chunk({"row": 4, "col": 5, "time": 16})
            fit = vp.fit_many(model, None, lazy, dim="time", max_steps=256, block=4)
            right = cube.values.reshape(80, 32).T[:, :20]
            import dask.array as da

            far = dask_cluster.compress(da.from_array(right, chunks=(16, 3)))
    direct = vp.fit_many(model, None, cube, dim="time", max_steps=256, block=4)
    for found in (vp.load("run/result.nc"), fit):
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(found, field), getattr(direct, field))
    near = vp.compress(right)
    assert far.count == near.count == 20
    np.testing.assert_allclose(
        far.columns @ far.columns.T, near.columns @ near.columns.T, rtol=1e-10
    )


@pytest.fixture
def far(tmp_path, monkeypatch):
    """A scheduler and a worker as processes of their own, as on other machines: (address, start)."""
    monkeypatch.setattr(dask_client, "PATIENCE", 2)
    monkeypatch.setattr(dask_cluster, "_WITHOUT_WORKERS", 1.0)
    started = []

    def start(*words):
        command = [sys.executable, "-m", *words]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def scheduler_of(start, *options):
    """A scheduler of its own, and its address."""
    process = start(
        *("distributed.cli.dask_scheduler", "--port", "0", "--host", "127.0.0.1"),
        *("--no-dashboard", "--no-show", *options),
    )
    lines = collections.deque(maxlen=50)
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"Scheduler at:\s+(\S+)", line):
            # Nobody reads on, and a full pipe would stop it.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, found[1]
    raise AssertionError("".join(lines))


def test_without_workers_or_scheduler_the_run_says_what_was_lost(far, tmp_path, monkeypatch):
    process, address = scheduler_of(far)
    journal = journal_in(tmp_path, 2)
    with pytest.raises(vp.InputError, match="has had no worker for 1 s. What is finished is kept"):
        dask_cluster.run_on_cluster(stand_in({}), journal, [0, 1], address, None, print)
    threading.Timer(0.2, process.kill).start()
    with pytest.raises(vp.InputError, match="the scheduler of the cluster is gone, and 2 blocks"):
        dask_cluster.run_on_cluster(stand_in({}), journal, [0, 1], address, None, print)
    monkeypatch.setattr(dask_client, "PATIENCE", 0.2)
    with pytest.raises(vp.InputError, match="no scheduler answers at"):
        dask_cluster.run_on_cluster(stand_in({}), journal, [0, 1], address, None, print)


@pytest.fixture
def certificates(tmp_path):
    """A certificate that speaks for both sides and is its own authority: (file, key)."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, "-out", cert, "-keyout", key], check=True, capture_output=True)
    return str(cert), str(key)


def test_tls_takes_the_certificates_of_dask_and_no_one_without_them_is_served(
    far, tmp_path, certificates
):
    from dask import config

    cert, key = certificates
    files = ("--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key)
    _, address = scheduler_of(far, "--protocol", "tls", *files)
    assert address.startswith("tls://")
    arguments = stand_in({}), journal_in(tmp_path, 1), [0], address, None, print
    with pytest.raises(vp.InputError, match="no scheduler answers at tls:.*distributed.comm.tls"):
        dask_cluster.run_on_cluster(*arguments)
    given = {"distributed.comm.tls.ca-file": cert}
    given |= {
        f"distributed.comm.tls.client.{what}": path for what, path in (("cert", cert), ("key", key))
    }
    # Whoever is let in finds that nobody works there.
    with config.set(given), pytest.raises(vp.InputError, match="has had no worker for 1 s"):
        dask_cluster.run_on_cluster(*arguments)
