"""Least squares with bounds on the coefficients, differentiable."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from ._active_set import LANES, bounded_sides_of, bounded_solve, in_blocks
from ._column_scaling import column_scale
from ._pinv_solve import pinv_solve
from ._svd import SVD


@eqx.filter_custom_jvp
def _bounded(a, b, lower, upper, *, sides):
    n, k = a.shape[1], b.shape[1]
    scale = jax.lax.stop_gradient(column_scale(a))
    scale = jnp.where(jnp.isfinite(scale), scale, 1.0)
    # The triangle of [a b] is all there is to know.
    both = jnp.concatenate([a / scale, b], axis=1)
    if a.shape[0] > n:
        q, r = jnp.linalg.qr(a / scale)
        both = jnp.concatenate([r, q.T @ b], axis=1)
    low, high = (jnp.broadcast_to((x * scale)[:, None], (n, k)) for x in (lower, upper))
    c, free = in_blocks(
        lambda t, low, high: bounded_solve(both[:, :n, None], t, low, high, sides),
        (both[:, n:], low, high),
        LANES,
    )
    return c / scale[:, None], free


@_bounded.def_jvp
def _bounded_jvp(primals, tangents, *, sides):
    a, b, lower, upper = primals
    c, free = _bounded(a, b, lower, upper, sides=sides)

    def held(a, b, lower, upper):
        def one(b, c, free):
            fixed = jnp.where(free, 0.0, jnp.where(c <= lower, lower, upper))
            found = pinv_solve(jnp.where(free, a, 0.0), b - a @ fixed, SVD())
            return jnp.where(free, found, fixed)

        return jax.vmap(one, in_axes=1, out_axes=1)(b, c, free)

    _, t_c = eqx.filter_jvp(held, primals, tangents)
    return (c, free), (t_c, None)


def bounded_lstsq(
    a: Num[ArrayLike, "..."],
    b: Num[ArrayLike, "..."],
    lower: float | Sequence[float] | np.ndarray = 0.0,
    upper: float | Sequence[float] | np.ndarray = np.inf,
) -> Float[Array, "n *k"]:
    """`c` of least `|| a c - b ||` with `lower <= c <= upper`: nonnegative by default.

    Exact: which coefficients are on their bounds is found, and the others solve a least-squares
    problem. Differentiable in a and b with that set held, which is the derivative wherever the set
    does not change.

    **Arguments:**

    - `a`: real matrix (m, n) of any rank.
    - `b`: right-hand side (m,) or (m, k). Thousands of columns are solved together.
    - `lower`, `upper`: numbers or (n,), on the host; infinite for none.

    **Returns:** the solution (n,) or (n, k). NaN in gives NaN out.

    **Raises:** `ValueError` if a lower bound is above its upper one, or shapes do not fit.

    Sources: Lawson & Hanson (1974), chapter 23; Stark & Parker (1995), Bounded-variable least
    squares.
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.ndim != 2 or b.ndim not in (1, 2) or b.shape[0] != a.shape[0]:
        raise ValueError(f"Expected (m, n) and (m,) or (m, k), but got {a.shape} and {b.shape}.")
    dtype = jnp.result_type(a, b, float)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError("Bounds order numbers, and complex numbers have no order.")
    low, high = (np.broadcast_to(np.asarray(x, float), a.shape[1:]) for x in (lower, upper))
    if not np.all(low <= high) or np.any(low == np.inf) or np.any(high == -np.inf):
        raise ValueError("Every lower bound must be at most its upper one, and below infinity.")
    sides = bounded_sides_of(low[:, None], high[:, None])
    c, _ = _bounded(
        a.astype(dtype),
        b.reshape(b.shape[0], -1).astype(dtype),
        jnp.asarray(low, dtype),
        jnp.asarray(high, dtype),
        sides=sides,
    )
    return c[:, 0] if b.ndim == 1 else c
