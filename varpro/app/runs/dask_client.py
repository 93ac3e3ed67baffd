"""A connection to a dask cluster: one of processes on this machine, or the one that the caller names.

Whoever speaks for the scheduler sends objects that run code as they are read. So its address comes from
the command line or the environment, never from a file; and `tls://` asks both sides for certificates,
those of dask's own settings (`distributed.comm.tls`).
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import varpro as vp

from ..caller import SCHEDULER, scheduler_option
from ..plan.plan import Plan

# Seconds in which a scheduler must answer.
PATIENCE = 20
# Workers of this machine that may die of one task, before it is given up for a while.
_MOST_DEATHS = 3
# A process that replaces a lost one is waited for, however long it takes to begin where the cores are busy; by
# default a cluster of this machine gives its place up after 15 s, and no other one comes.
_PATIENT = {"distributed.deploy.lost-worker-timeout": "300 s"}


@contextlib.contextmanager
def connected(address: str | None, workers: int | None) -> Iterator[Any]:
    """A `distributed.Client` of the scheduler at an address, or of `workers` processes on this machine.

    **Raises:** `InputError` where nobody answers, or dask is not installed.
    """
    try:
        from dask import config
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise vp.InputError(
            f"compute: dask needs the extra 'scale': pip install varpro[scale] ({error})."
        ) from error
    except Exception as error:  # it reads files of its own while it is imported
        raise vp.InputError(
            f"compute: dask does not start ({first_line(error)}). Its own configuration may be at fault."
        ) from error
    with _silent():
        if address is not None:
            with _reached(Client, address) as client:
                yield client
            return
        with config.set(_PATIENT), _safe_path(), _local(LocalCluster, workers) as cluster:
            with Client(cluster, set_as_default=False) as client:
                yield client


def _local(cluster: Any, workers: int | None) -> Any:
    from dask import config

    try:
        with config.set({"distributed.scheduler.allowed-failures": _MOST_DEATHS}):
            return cluster(
                n_workers=workers or os.cpu_count() or 1,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
    except (OSError, TimeoutError, RuntimeError) as error:
        raise vp.InputError(
            f"compute: no cluster could be made of this machine ({first_line(error)})."
        ) from error


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Processes begun within, also those that replace lost ones, take no module of the current folder for
    one of Python's: the data of others may lie there."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def refuse_scheduler_without_effect(plan: Plan) -> None:
    """**Raises:** `InputError` where the command line gave an address that nothing would use."""
    if scheduler_option() is not None and plan.config.compute.engine != "dask":
        raise vp.InputError(
            f"--scheduler: {plan.document.file} does not say 'compute: {{engine: dask}}', so no cluster "
            "would be used."
        )


def _reached(client: Any, address: str) -> Any:
    try:
        # Not the client of everything else in this process, whose files would lock each other there.
        return client(address, timeout=PATIENCE, set_as_default=False)
    # Of any kind: certificates that are missing, a port that is none, an address of no known protocol.
    except Exception as error:
        advice = ""
        if address.startswith("tls:"):
            advice = (
                " Certificates are those of dask: distributed.comm.tls.ca-file, .client.cert and "
                ".client.key in its configuration, or DASK_DISTRIBUTED__COMM__TLS__CA_FILE and so on."
            )
        raise vp.InputError(
            f"--scheduler ({SCHEDULER}): no scheduler answers at {address} ({first_line(error)}).{advice}"
        ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What dask logs of lost workers, the run says itself."""
    # dask gives several of its parts levels of their own.
    names = [n for n in logging.root.manager.loggerDict if n.partition(".")[0] == "distributed"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
