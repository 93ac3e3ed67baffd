"""Blocks of a batch on a dask cluster: each task reads its own curves and writes its own block.

A task holds the whole job, whose data are a path, and the number of a block. Its worker reads those
curves, fits them and writes the block into the run folder, which all machines must see; what travels
is a few numbers. A task of a worker that is lost is given to another by dask. What dask gives up, as it
does when a task lost several workers or the scheduler is gone, is handed out once more; then the run
ends with what was lost, and everything that is finished is kept.
"""

import contextlib
import functools
import os
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import varpro as vp

from .dask_client import connected, first_line
from .journal import Journal

# How often a task that raises is tried again, on whichever worker is free.
_TRIES = 3
# How often a block is handed out whose workers died, or whose scheduler was lost.
_ROUNDS = 2
# Seconds for which a cluster may have no worker at all.
_WITHOUT_WORKERS = 120.0
# Seconds between looks at what is finished, and at the workers.
_GLANCE, _LOOK = 0.05, 5.0


def run_on_cluster(
    job: vp.BatchJob,
    journal: Journal,
    waiting: list[int],
    scheduler: str | None,
    workers: int | None,
    done: Callable[[int], None],
) -> None:
    """Fit the blocks of these numbers; `done` is told of each, in the calling thread.

    `scheduler`: the address of one, or None for a cluster of `workers` processes on this machine.

    **Raises:** `InputError` that says what was lost; finished blocks are kept.
    """
    with connected(scheduler, workers) as client:
        left, losses = set(waiting), Counter[int]()
        suspects: set[int] = set()

        def finished(number: int) -> None:
            if number in left:
                left.discard(number)
                done(number)

        while left:
            # A block whose workers died may only have been beside the one that killed them, so each of
            # these is handed out alone, after all others.
            reasons: dict[int, str] = {}
            alone = [{number} for number in sorted(suspects & left)]
            for group in filter(None, [left - suspects, *alone]):
                lost, killed = _one_round(client, job, journal, sorted(group), finished)
                reasons |= lost
                suspects = suspects - group | killed
            losses.update(reasons.keys())
            # A worker may have died just after it wrote its block.
            for number in [n for n in left if journal.path(n).exists()]:
                finished(number)
            given_up = [n for n in sorted(left) if losses[n] >= _ROUNDS]
            if given_up:
                raise _lost(journal, client, len(left), given_up[0], reasons[given_up[0]])


def _one_round(
    client: Any,
    job: vp.BatchJob,
    journal: Journal,
    numbers: list[int],
    finished: Callable[[int], None],
) -> tuple[dict[int, str], set[int]]:
    """Hand out blocks; returns why some were lost, by their numbers, and those whose workers died."""
    import cloudpickle
    from distributed import CancelledError, KilledWorker, as_completed

    # As a task of its own the job is made again where all workers that had it are lost.
    name = f"varpro-{journal.key[:12]}-{uuid.uuid4().hex[:8]}"
    lost: dict[int, str] = {}
    killed: set[int] = set()
    futures: dict[Any, int] = {}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            packed = client.submit(bytes, cloudpickle.dumps(job), key=f"{name}-job", pure=False)
            options = {"retries": _TRIES, "pure": False}
            for number in numbers:
                future = client.submit(
                    fit_block, packed, journal, number, key=f"{name}-{number}", **options
                )
                futures[future] = number
        completed, workers = as_completed(futures, loop=client.loop), _Workers(client, journal)
        while not completed.is_empty():
            if not completed.has_ready():
                workers.look()
                time.sleep(_GLANCE)
                continue
            for future in completed.next_batch(block=False):
                try:
                    number = future.result()
                except KilledWorker as error:
                    killed.add(futures[future])
                    lost[futures[future]] = f"{error.allowed_failures + 1} workers died of it"
                except CancelledError as error:
                    lost[futures[future]] = first_line(error)
                else:
                    _seen(journal, number)
                    finished(number)
    except vp.InputError:
        raise
    except Exception as error:
        raise vp.InputError(
            f"{journal.folder}: a block failed on the cluster ({type(error).__name__}: "
            f"{first_line(error)}). Its machines need what this one has, versions included. "
            f"{_kept(journal)}"
        ) from error
    finally:
        with contextlib.suppress(Exception):
            client.cancel(list(futures), force=True)
    if client.status != "running":
        _wait_for_scheduler(client, journal, len(lost))
    return lost, killed


class _Workers:
    """Whether there is anybody who works."""

    def __init__(self, client: Any, journal: Journal):
        self.client, self.journal = client, journal
        self.seen = self.looked = time.monotonic()

    def look(self) -> None:
        """**Raises:** `InputError` where there has been no worker for long."""
        now = time.monotonic()
        if now - self.looked < min(_LOOK, _WITHOUT_WORKERS):
            return
        self.looked = now
        with contextlib.suppress(Exception):  # a scheduler that is lost cancels what is waited for
            if self.client.nthreads():
                self.seen = now
        if self.client.status == "running" and now - self.seen > _WITHOUT_WORKERS:
            raise vp.InputError(
                f"{self.journal.folder}: the cluster has had no worker for {_WITHOUT_WORKERS:g} s. "
                f"{_kept(self.journal)}"
            )


def _wait_for_scheduler(client: Any, journal: Journal, count: int) -> None:
    """A client that lost its scheduler tries to find it again, and then closes."""
    while client.status == "connecting":
        time.sleep(_GLANCE)
    if client.status != "running":
        raise vp.InputError(
            f"{journal.folder}: the scheduler of the cluster is gone, and {count} blocks with it. "
            f"{_kept(journal)}"
        )


def _seen(journal: Journal, number: int) -> None:
    if not journal.path(number).exists():
        raise vp.InputError(
            f"{journal.folder}: a worker wrote block {number} where this machine does not "
            "see it. The run folder must be on a file system that all of them share."
        )


def _lost(journal: Journal, client: Any, count: int, number: int, reason: str) -> vp.InputError:
    first, last = journal.blocks[number]
    return vp.InputError(
        f"{journal.folder}: {count} of {len(journal.blocks)} blocks were lost, first the one of the "
        f"curves {first} to {last - 1}: {reason}. A worker that needs more memory than it may use is "
        "killed; fewer workers (compute: workers in config.yaml there) have more each. "
        f"{_kept(journal)}"
    )


def _kept(journal: Journal) -> str:
    return f"What is finished is kept: 'varpro resume {journal.folder}'."


def fit_block(packed: bytes, journal: Journal, number: int) -> int:
    """Fit and keep one block, on a worker."""
    job = _unpacked(packed)
    if not journal.path(number).exists():
        with _first_alone(journal.key):
            journal.write(number, job.fit_rows(*journal.blocks[number]))
    return number


@functools.lru_cache(maxsize=2)
def _unpacked(packed: bytes) -> vp.BatchJob:
    _cap_threads()
    import cloudpickle

    return cloudpickle.loads(packed)


def _cap_threads() -> None:
    """As many threads for XLA as the worker has: many workers share the cores of a machine. XLA looks
    when it begins, which on a fresh worker is after this."""
    from distributed import get_worker

    threads = str(get_worker().state.nthreads)
    for name in ("NPROC", "PJRT_NPROC", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, threads)


_GATE = threading.Lock()
_COMPILED: set[str] = set()


@contextlib.contextmanager
def _first_alone(key: str) -> Iterator[None]:
    """The first block of a worker with several threads runs alone, so that one of them compiles."""
    with _GATE if key not in _COMPILED else contextlib.nullcontext():
        yield
    _COMPILED.add(key)


def compress(array: Any, client: Any = None) -> vp.Compressed:
    """What a global fit needs of right-hand sides (m, k) that are spread over a cluster: a dask array,
    whose chunks of columns are made triangles where they are, and joined in pairs as a tree.

    **Arguments:**

    - `array`: a dask array (m, k).
    - `client`: a `distributed.Client`; without one, dask's current scheduler.
    """
    from dask.delayed import delayed

    if len(getattr(array, "shape", ())) != 2 or not hasattr(array, "chunks"):
        raise vp.InputError("Expected a dask array (m, k) of right-hand sides.")
    columns = array.rechunk({0: -1})
    part = delayed(lambda block: vp.compress([block]))
    join = delayed(lambda a, b: vp.compress([a, b]))
    level = [part(piece) for piece in columns.to_delayed()[0]]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [join(a, b) for a, b in pairs] + level[len(level) // 2 * 2 :]
    if client is not None:
        return client.compute(level[0]).result()
    return level[0].compute()
