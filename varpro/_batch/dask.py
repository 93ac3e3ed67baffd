"""A batch whose data are a dask array: a task for each of its chunks, wherever dask runs them.

What a task is given is one chunk of the data, which its worker reads, and what the fit of those curves
needs; what it returns are the maps of the chunk. dask is imported only where data came from it.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from .curves import Rows
from .job import BatchJob


def dask_array(rows: Rows | np.ndarray | None) -> Any:
    """The dask array behind some rows, its samples last; None where there is none."""
    if not isinstance(rows, Rows):
        return None
    data = rows.data
    # A labelled array holds the one of dask, and looks like one itself.
    data = getattr(data, "_data", data)
    if not hasattr(data, "__dask_graph__"):
        return None
    import dask.array

    moved = dask.array.moveaxis(data, rows.axis, -1)
    return moved.rechunk({moved.ndim - 1: -1})


def fit_chunks(job: BatchJob, y: Any) -> dict[str, np.ndarray]:
    """Fits of all curves; `y` is what `dask_array` made of the job's rows."""
    from dask.base import compute
    from dask.delayed import delayed

    sides = {}
    for name in ("sigma", "weights", "mask", "absent"):
        found = dask_array(getattr(job.weighing, name))
        if found is not None:
            sides[name] = found.rechunk(y.chunks)
    numbers = np.arange(job.count).reshape(job.shape)
    edges = [np.cumsum([0, *lengths]) for lengths in y.chunks[:-1]]
    steps = [list(itertools.pairwise(edge)) for edge in edges]
    fit = delayed(_fit_chunk, pure=False)
    tasks, places = [], []
    for box in itertools.product(*steps):
        where = tuple(slice(a, b) for a, b in box)
        place = numbers[where].reshape(-1)
        given = {name: side[where] for name, side in sides.items()}
        tasks.append(fit(_without_data(job, place, given), y[where], given))
        places.append(place)
    out: dict[str, np.ndarray] = {}
    for place, found in zip(places, compute(*tasks), strict=True):
        for key, value in found.items():
            out.setdefault(key, np.empty((job.count, *value.shape[1:]), value.dtype))
            out[key][place] = value
    return out


def _without_data(job: BatchJob, place: np.ndarray, given: dict[str, Any]) -> BatchJob:
    """The job of the curves with these numbers, to which their data are added later."""

    def part(name: str) -> np.ndarray | Rows | None:
        value = getattr(job.weighing, name)
        if name in given or not isinstance(value, Rows):
            return None if name in given else value
        return Rows(np.stack([value.read(int(i), int(i) + 1)[0] for i in place]), 1)

    def mine(box: tuple[np.ndarray, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray] | None:
        return box if box is None or box[0].ndim == 1 else (box[0][place], box[1][place])

    own_x = None
    if job.own_x is not None:
        own_x = Rows(np.stack([job.own_x.read(int(i), int(i) + 1)[0] for i in place]), 1)
    return dataclasses.replace(
        job,
        rows=Rows(np.zeros((len(place), 0)), 1),
        weighing=dataclasses.replace(
            job.weighing, **{name: part(name) for name in ("sigma", "weights", "mask", "absent")}
        ),
        start=job.start[place] if len(job.start) > 1 else job.start,
        box=mine(job.box),
        coef_box=mine(job.coef_box),
        own_x=own_x,
        source=None,
        dims=None,
        coords={},
    )


def _fit_chunk(job: BatchJob, y: np.ndarray, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = Rows(np.ma.getdata(y).reshape(-1, y.shape[-1]), 1)
    sides: dict[str, Any] = {k: Rows(v.reshape(rows.data.shape), 1) for k, v in given.items()}
    weighing = dataclasses.replace(job.weighing, **sides)
    return dataclasses.replace(job, rows=rows, weighing=weighing).fit_rows(0, rows.count)
