"""What a search tells while it runs.

A compiled search calls back into Python after each step. Which Python function is told, is not part of the
program: a number among its arguments says which, so that one program serves all of them, and a search that
tells nothing has no such number and stays the program that it is. Calls are ordered, and starts are searched
one after the other.

The search does not wait for the function that is told: that has a thread of its own. In the middle of a
program it could use JAX no more, for on few cores the program holds what it would wait for, for ever. What
it raises ends the search, which is told at its next step not to go on, and is raised again where the fit was
asked for.
"""

import contextlib
import dataclasses
import itertools
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jaxtyping import Array, Bool, Float, Int

from .._errors import InputError
from .._given.arguments import shown
from .._types import ArrayIn


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a fit tells after a step of its search.

    **Fields:**

    - `search`: 1 for the first search, and one more for each further one: from another start
        (`starts=`), with weights that follow the model, or from near a start from which the first failed.
    - `step`: 1 for the start of a search, and one more for each trial point.
    - `chisq`: the weighted sum of squares at the best point so far, with priors and penalties; where `noise=`
        is not normal, twice the cost that is minimised instead.
    - `gradient`: how far that is from an optimum: the largest cosine between the residual and a
        column of its Jacobian, without unit, which ends near zero; of a likelihood the root of the part of
        the cost that a full step would take off.
    - `values`: all nonlinear parameters there, by name, in their units.
    """

    search: int
    step: int
    chisq: float
    gradient: float
    values: dict[str, float]

    def __str__(self) -> str:
        head = f"search {self.search}, step {self.step}: chi-square {self.chisq:.8g}, gradient {self.gradient:.2g}"
        shown = list(self.values.items())
        more = ["..."] if len(shown) > _SHOWN else []
        return "; ".join([head, ", ".join([f"{k} {v:.6g}" for k, v in shown[:_SHOWN]] + more)])


# Parameters that a line shows.
_SHOWN = 8

Told = Callable[[Progress], object]


class _Listener:
    """Who is told, under which names, and what went wrong there."""

    def __init__(self, told: Told):
        self.told, self.search = told, 0
        self.names: tuple[str, ...] = ()
        self.error: BaseException | None = None
        self.queue: queue.SimpleQueue[tuple[int, float, float, np.ndarray] | None]
        self.queue = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name="varpro-progress", daemon=True)

    def _serve(self) -> None:
        while (step := self.queue.get()) is not None:
            if self.error is not None:
                continue
            try:
                self.told(self._progress(*step))
            except (
                BaseException
            ) as error:  # whatever it is, it is raised where the fit was asked for
                self.error = error

    def _progress(self, step: int, cost: float, gradient: float, values: np.ndarray) -> Progress:
        self.search += step == 1
        held = dict(zip(self.names, map(float, values), strict=True))
        return Progress(self.search, step, 2.0 * cost, gradient, held)


_LISTENERS: dict[int, _Listener] = {}
_NUMBERS = itertools.count(1)


@contextlib.contextmanager
def telling(told: Told | bool | None) -> Iterator[np.ndarray | None]:
    """The number by which searches inside tell `told`, None for nobody; True prints lines to stderr.

    **Raises:** what `told` raised.
    """
    if told is None or told is False:
        yield None
        return
    if told is not True and not callable(told):
        raise InputError(
            f"progress must be True, or a function that takes a vp.Progress, not {shown(told)}.",
            argument="progress",
        )
    listener = _Listener(_print if told is True else told)
    number = next(_NUMBERS) % 2**31
    _LISTENERS[number] = listener
    listener.thread.start()
    try:
        yield np.asarray(number, np.int32)
    finally:
        del _LISTENERS[number]
        listener.queue.put(None)
        listener.thread.join()
        if listener.error is not None:
            raise listener.error


def _print(progress: Progress) -> None:
    sys.stderr.write(f"{progress}\n")


def under_names(watch: ArrayIn | None, names: Sequence[str]) -> None:
    """Say what the values are called of which searches tell."""
    listener = None if watch is None else _LISTENERS.get(int(watch))
    if listener is not None:
        listener.names = tuple(names)


def _hear(watch: Any, step: Any, cost: Any, gradient: Any, values: Any) -> np.ndarray:
    listener = _LISTENERS.get(int(watch))
    if listener is None:
        return np.asarray(True)
    listener.queue.put((int(step), float(cost), float(gradient), np.array(values)))
    return np.asarray(listener.error is None)


def newton_teller(
    watch: ArrayIn | None, values: Callable[[Array], Array]
) -> Callable[[Array, Array, Array, Array], Bool[Array, ""]] | None:
    """What `newton.minimum` calls after each step; None where nobody is told."""
    if watch is None:
        return None
    number = jnp.asarray(watch)
    return lambda alpha, steps, cost, gradient: tell(number, steps, cost, gradient, values(alpha))


def tell(
    watch: Int[Array, ""],
    step: Int[Array, ""],
    cost: Float[Array, ""],
    gradient: Float[Array, ""],
    values: Float[Array, " q"],
) -> Bool[Array, ""]:
    """Tell of one step, in a compiled search; whether to go on."""
    flag = jax.ShapeDtypeStruct((), jnp.bool_)
    return io_callback(_hear, flag, watch, step, cost, gradient, values, ordered=True)
