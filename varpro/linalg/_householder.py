"""Householder reflections as LAPACK keeps them, applied in blocks."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Inexact

from ._factor import adjoint


class Reflectors(eqx.Module):
    """Q (m, r), the first columns of a product of r Householder reflections.

    A few vectors are reflected, in one block also when `vmap` brings them one by one. For more
    vectors than columns Q is formed, because one product with it is then cheaper.
    """

    packed: Inexact[Array, "m r"]
    taus: Inexact[Array, " r"]

    def into(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "r k"]:
        """`Q^H b`."""
        return _q_h(*_of_one_type(self.packed, self.taus, b))

    def out(self, t: Inexact[Array, "r k"]) -> Inexact[Array, "m k"]:
        """`Q t`."""
        return _q(*_of_one_type(self.packed, self.taus, t))

    def rotate(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "m k"]:
        """`Q_m^H b` with the whole unitary Q_m (m, m), whose first columns are Q."""
        return jax.lax.linalg.ormqr(*_of_one_type(self.packed, self.taus, b), transpose=True)

    def rotate_back(self, b: Inexact[Array, "m k"]) -> Inexact[Array, "m k"]:
        """`Q_m b`, the inverse of `rotate`."""
        return jax.lax.linalg.ormqr(*_of_one_type(self.packed, self.taus, b))


def reflectors_and_triangle(
    tall: Inexact[Array, "m r"],
) -> tuple[Reflectors, Inexact[Array, "r r"]]:
    """Q and R of a tall matrix; below the diagonal of R stands what is not to be read."""
    raw, taus = jnp.linalg.qr(tall, mode="raw")
    packed = raw.T
    return Reflectors(packed, taus), packed[: taus.shape[0]]


def _of_one_type(*arrays: Array) -> tuple[Array, ...]:
    # LAPACK mixes no types: complex data meet a real basis.
    dtype = jnp.result_type(*arrays)
    return tuple(array.astype(dtype) for array in arrays)


def _plain_q_h(packed: Array, taus: Array, b: Array) -> Array:
    if b.shape[1] > taus.shape[0]:
        q = jax.lax.linalg.householder_product(packed, taus)
        # Transposed in memory: a product over two first axes takes a CPU twice as long.
        return jax.lax.optimization_barrier(adjoint(q)) @ b
    return jax.lax.linalg.ormqr(packed, taus, b, transpose=True)[: taus.shape[0]]


def _plain_q(packed: Array, taus: Array, t: Array) -> Array:
    if t.shape[1] > taus.shape[0]:
        return jax.lax.linalg.householder_product(packed, taus) @ t
    missing = jnp.zeros((packed.shape[0] - t.shape[0], t.shape[1]), t.dtype)
    return jax.lax.linalg.ormqr(packed, taus, jnp.concatenate([t, missing]))


def _in_one_block(plain):
    """`plain(packed, taus, b)`, with a batch of b's under one factor as more columns of one b."""
    apply = custom_vmap(plain)

    @apply.def_vmap
    def rule(size, batched, packed, taus, b):
        if batched[0] or batched[1]:
            axes = [0 if flag else None for flag in batched]
            return jax.vmap(plain, in_axes=axes)(packed, taus, b), True
        out = apply(packed, taus, jnp.moveaxis(b, 0, 1).reshape(b.shape[1], -1))
        return jnp.moveaxis(out.reshape(out.shape[0], size, -1), 1, 0), True

    return apply


_q_h, _q = _in_one_block(_plain_q_h), _in_one_block(_plain_q)
