"""What a loop begins with, batched from the first."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def carried(begin: PyTree, like: Array) -> PyTree:
    """`begin`, of which every array is batched where `like` is, an array of at least one number.

    Under `jax.vmap` the body of a loop is traced anew for every round in which something that it carries turns
    out to be batched. Where all of it is from the first there is one round. It costs a program nothing.
    """
    first = jnp.ravel(like)[0]
    same = first == first
    return jax.tree.map(lambda a: jnp.where(same, a, a), begin)
