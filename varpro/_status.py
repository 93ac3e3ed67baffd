"""How a search can end.

Bad numbers are a `RESULTS` member carried in the solution, inside `jit` and `vmap` too.
"""

import functools

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


def enum_index(
    member: PyTree, kind: type[eqx.Enumeration], names: tuple[str, ...]
) -> Int[Array, ""]:
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
