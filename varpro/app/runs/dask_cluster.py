"""Blocks of a batch on a dask cluster: each task reads its own curves and writes its own block.

A task holds the whole job, whose data are a path, and the number of a block. Its worker reads those
curves, fits them and writes the block into the run folder, which all machines must see; what travels
is a few numbers. A task of a worker that is lost is given to another by dask.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import varpro as vp

from .journal import Journal

# A task fails with its worker, and is then tried on so many others.
_TRIES = 10
# Seconds in which a scheduler must answer.
_PATIENCE = 20


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
    """
    try:
        import cloudpickle
        from distributed import Client, as_completed
    except ImportError as error:
        raise vp.InputError(
            f"compute: dask needs the extra 'scale': pip install varpro[scale] ({error})."
        ) from error
    with _client(Client, scheduler, workers) as client:
        packed = client.scatter(cloudpickle.dumps(job), broadcast=True)
        futures = {
            client.submit(
                fit_block,
                *(packed, journal, number, _cache_folder()),
                key=f"varpro-{journal.key[:12]}-{number}",
                retries=_TRIES,
                pure=False,
            ): number
            for number in waiting
        }
        try:
            for future in as_completed(futures):
                number = future.result()
                if not journal.path(number).exists():
                    raise vp.InputError(
                        f"{journal.folder}: a worker wrote block {number} where this machine does not "
                        "see it. The run folder must be on a file system that all of them share."
                    )
                done(number)
        except BaseException:
            with contextlib.suppress(Exception):
                client.cancel(list(futures))
            raise


@contextlib.contextmanager
def _client(client: Any, scheduler: str | None, workers: int | None) -> Iterator[Any]:
    from dask import config

    options = {"distributed.scheduler.allowed-failures": _TRIES}
    with config.set(options):
        if scheduler is not None:
            try:
                connected = client(scheduler, timeout=_PATIENCE)
            except (OSError, TimeoutError, ValueError) as error:
                raise vp.InputError(
                    f"compute.scheduler: no scheduler answers at {scheduler} ({error})."
                ) from error
            with connected:
                yield connected
            return
        from distributed import LocalCluster

        count = workers or os.cpu_count() or 1
        with (
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,  # pyright: ignore[reportArgumentType]
            ) as cluster,
            client(cluster) as connected,
        ):
            yield connected


def fit_block(packed: bytes, journal: Journal, number: int, cache: str) -> int:
    """Fit and keep one block, on a worker."""
    job = _unpacked(packed, cache)
    if not journal.path(number).exists():
        with _first_alone(journal.key):
            journal.write(number, job.fit_rows(*journal.blocks[number]))
    return number


@functools.lru_cache(maxsize=2)
def _unpacked(packed: bytes, cache: str) -> vp.BatchJob:
    _cap_threads()
    import cloudpickle
    import jax

    if cache and os.path.isdir(cache) and _cache_folder() == "":
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
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


def _cache_folder() -> str:
    import jax

    return str(getattr(jax.config, "jax_compilation_cache_dir", None) or "")


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
