"""How a fit can end, and the exceptions of the project.

Bad input is an exception at the door (`InputError`, before any compute). Bad numbers are a
`RESULTS` member carried in the solution, inside `jit` and `vmap` too.
"""

import difflib
import functools
from collections.abc import Iterable

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Int, PyTree


class RESULTS(optx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """How a fit ended; extends `optimistix.RESULTS`."""

    successful = ""


RESULT_NAMES = (
    *("failed", "successful", "nonlinear_max_steps_reached", "nonlinear_divergence", "nonfinite"),
    *("singular", "breakdown", "stagnation"),
)


def code(member: PyTree, kind: type[eqx.Enumeration], names: tuple[str, ...]) -> Int[Array, ""]:
    """The index among `names` of a member of an enumeration; 0 if it is none of `names[1:]`.

    A plain number, made where the member is: comparing members on the host takes longer than a fit.
    """
    return jnp.argmax(
        jnp.stack([jnp.array(False), *(member == getattr(kind, n) for n in names[1:])])
    )


@functools.cache
def explained(kind: type[eqx.Enumeration], name: str) -> str:
    """The sentence that an enumeration has for one of its members."""
    return kind[getattr(kind, name)]


class VarproError(Exception):
    """Base class of every exception that varpro raises on purpose."""


class InputError(VarproError, ValueError):
    """Something given is wrong; the message names what came, what was expected and what to do."""


# What a complex model of real data is told, wherever that shows.
REAL_DATA = (
    "The model is complex, but y is real. Give y as complex numbers, or a real model such as "
    "vp.Oscillation."
)


class FitError(VarproError, RuntimeError):
    """A fit did not converge and `throw=True` was asked for. `.fit` holds the best point found."""

    def __init__(self, message: str, fit: object = None):
        super().__init__(message)
        self.fit = fit


def suggestion(word: str, known: Iterable[str]) -> str:
    """The sentence that follows an unknown name: the nearest known one, and all when few."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    if not known:
        return "There are none here."
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"Known: {shown}."
