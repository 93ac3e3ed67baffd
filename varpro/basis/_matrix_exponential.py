"""The states of linear systems `v' = K v` at many times, without eigenvalues.

Equal rates, complex eigenvalues and defective matrices are nothing special, derivatives included.
For rate matrices (nothing negative off the diagonal) all that is added is positive, so small
concentrations keep their digits.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

# |K| times the shortest step, below which a Taylor series of this many terms has all its digits; so
# many doublings of that step lead to the longest time, |K| t = 4e12.
_SHORT, _TERMS, _DOUBLINGS = 0.25, 12, 44

Step = Callable[[Inexact[Array, "..."]], Inexact[Array, "..."]]


def states(
    k: Inexact[Array, "n n"],
    start: Inexact[Array, " n"] | Inexact[Array, "m n"],
    t: Float[Array, " m"],
    known: Bool[np.ndarray, " n"],
) -> Inexact[Array, "m n"]:
    """`exp(K t) start` at times t >= 0 in any order, for one start or one for each time.

    With a step h that is short for K, `t = h (r + b0 + 2 b1 + 4 b2 + ...)` with a rest r < 1 and bits
    b: a Taylor series for the rest, then a product with `exp(K h 2^i)` for every bit that is set. The
    cost is that of 14 products (m, n) (n, n) and one for every doubling of the longest |K| t, some
    fifty at most. A `|K| t` beyond 4e12 gives NaN.

    `known` marks the diagonal entries of exp(K t) that are `exp(K_ii t)`: of states that are on no
    cycle. Set anew at every doubling they keep all digits (Al-Mohy and Higham, SIAM J. Matrix Anal.
    Appl. 31 (2009) 970, section 2), where squaring alone would lose as many as `|K| t` has.
    """
    n = k.shape[0]
    real = t.dtype
    start = jnp.broadcast_to(start, (t.size, n)).astype(jnp.result_type(k, start))
    norm = jax.lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(k), axis=0)))
    norm = jnp.maximum(norm, jnp.finfo(real).tiny ** 0.5)
    # A power of two, so that rest and bits are exact.
    step = jnp.ldexp(jnp.ones((), real), jnp.floor(jnp.log2(_SHORT / norm)).astype(int))
    count = jnp.floor(t / step)
    rest = t - step * jax.lax.stop_gradient(count)
    kt = k.T

    def term(v, i):
        return base + (times / i)[:, None] * _product(v, kt), None

    # The same series for the first power, whose rows are those of exp(K h)^T.
    base = jnp.concatenate([start, jnp.eye(n, dtype=start.dtype)])
    times = jnp.concatenate([rest, jnp.full(n, step)])
    v, _ = jax.lax.scan(term, base, jnp.arange(_TERMS, 0, -1).astype(real))
    on_diagonal = jnp.asarray(np.diag(known))

    # No time has a bit beyond this one: of the doublings most are left out, where lanes do not differ.
    highest = jnp.max(count, initial=0.0)

    def double(carry, size):
        v, power = carry
        # Entries that are known exactly: without, rounding doubles at every step, too.
        exact = jnp.exp(jnp.diag(k) * (step * size))
        power = jnp.where(on_diagonal, jnp.diag(exact), power)
        bit = jnp.floor(count / size) % 2 == 1
        return jnp.where(bit[:, None], _product(v, power), v), _product(power, power)

    def needed(carry, size):
        return jax.lax.cond(size <= highest, double, lambda carry, _: carry, carry, size), None

    sizes = jnp.exp2(jnp.arange(_DOUBLINGS)).astype(real)
    (v, _), _ = jax.lax.scan(needed, (v[: t.size], v[t.size :]), sizes)
    return jnp.where((count < 2.0**_DOUBLINGS)[:, None], v, jnp.nan)


def repeated(
    k: Inexact[Array, "n n"],
    start: Inexact[Array, " n"],
    period: Float[Array, ""],
    known: Bool[np.ndarray, " n"],
) -> Inexact[Array, " n"]:
    """`sum_{i >= 0} exp(K i period) start`: the sum of the remainders of many excitations (n,).

    By doubling the number of terms; a state that never decays adds up to 2^44 of them.
    """
    power = states(k, jnp.eye(k.shape[0], dtype=k.dtype), jnp.full(k.shape[0], period), known)

    def double(carry, _):
        v, power = carry
        return (v + _product(v, power), _product(power, power)), None

    (v, _), _ = jax.lax.scan(double, (start.astype(k.dtype), power), None, length=_DOUBLINGS)
    return v


def driven(inflow: Inexact[Array, "r n"], along: Callable[[int], Step]) -> Inexact[Array, "r n"]:
    """States `v_i = v_{i-1}, one step on, + inflow_i` with `v_{-1} = 0`; `along(s)` moves s steps.

    A recursive filter in blocks: all blocks advance together, each from zero, and then get what the
    blocks before have left. For r steps that are 3 sqrt(r) one after the other.
    """
    r, n = inflow.shape
    size = int(np.ceil(np.sqrt(r)))
    step, leap = along(1), along(size)
    full = jnp.pad(inflow, ((0, size * size - r), (0, 0)))
    by_position = jnp.swapaxes(full.reshape(size, size, n), 0, 1)

    def advance(v, u):
        v = step(v) + u
        return v, v

    def carry(v, u):
        return leap(v) + u, v

    def left(v, _):
        v = step(v)
        return v, v

    end, from_zero = jax.lax.scan(advance, jnp.zeros_like(by_position[0]), by_position)
    _, start = jax.lax.scan(carry, jnp.zeros_like(end[0]), end)
    _, inherited = jax.lax.scan(left, start, None, length=size)
    return jnp.swapaxes(from_zero + inherited, 0, 1).reshape(size * size, n)[:r]


def moves(k: Inexact[Array, "n n"], time: Float[Array, ""], known: Bool[np.ndarray, " n"]) -> Step:
    """Propagator of states (..., n) over `time`, a product with `exp(K time)`."""
    n = k.shape[0]
    power = states(k, jnp.eye(n, dtype=k.dtype), jnp.full(n, time), known)
    return lambda v: _product(v, power)


def _product(a: Array, b: Array) -> Array:
    """`a @ b` in full precision on every device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
