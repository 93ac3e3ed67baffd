"""The basis of O'Leary and Rust (2013): two damped cosines with a parameter in common."""

import jax.numpy as jnp


def basis(theta, t):
    """`exp(-a2 t) cos(a3 t)` and `exp(-a1 t) cos(a2 t)`."""
    return {
        "c1": jnp.exp(-theta["a2"] * t) * jnp.cos(theta["a3"] * t),
        "c2": jnp.exp(-theta["a1"] * t) * jnp.cos(theta["a2"] * t),
    }
