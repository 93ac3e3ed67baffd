"""The strength of a penalty on coefficients of an operator, from products alone.

Of the fits of one A(alpha) with strength s, with H(s) what makes the fitted data of the data:

    gcv           the least of || r(s) ||^2 / (m - trace H(s))^2
    discrepancy   || r(s) ||^2 = m noise^2

r of the data, m how many real numbers they are. The trace is the mean of `Re <u, H u>` over random signs u
(Hutchinson 1990; Golub and von Matt, J. Comput. Graph. Stat. 6, 1, 1997): one inner solve each, side by
side with the one for r.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._problem.tikhonov import Tikhonov
from .._reduced.operator_basis import OperatorReduced
from ..linalg import real_dot, signs

# Powers of ten of the strength about that at which penalty and data weigh the same, how many are tried at
# first, and how often the interval is then cut.
_LEAST, _MOST, _TRIALS, _CUTS = -8.0, 4.0, 13, 14
# Signs that are drawn for the trace: so many that they have about this many entries together.
_ENTRIES, _MOST_PROBES = 4096, 16
_GOLDEN = 0.5 * (5.0**0.5 - 1.0)


def best_strength(
    reduced: OperatorReduced, alpha: Float[Array, " p"], penalty: Tikhonov
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """The strength that suits the operator at alpha, and whether there is one."""
    problem = reduced.problem
    assert problem.penalty is not None
    products, m = problem.products(alpha), problem.y.size
    data, nothing = problem.target(alpha)
    key = jax.random.key(1)
    n = problem.coefficients.size
    v = signs(key, n, problem.coefficients.dtype)
    ahead = problem.weighted(products.forward(v))
    smooth = problem.penalty.forward(v)
    unit = jnp.sqrt(real_dot(ahead, ahead) / real_dot(smooth, smooth))
    count = problem.count
    probes = 0
    if penalty.strength == "gcv":
        probes = int(min(max(_ENTRIES // m, 1), _MOST_PROBES))
    keys = jax.random.split(jax.random.key(2), max(probes, 1))
    drawn = jax.vmap(lambda key: signs(key, m, problem.y.dtype))(keys)[:probes]
    if problem.weights is not None:
        drawn = jnp.where(problem.weights > 0, drawn, jnp.zeros((), drawn.dtype))
    right = jnp.concatenate([data[None], drawn])

    def measured(log, coef):
        """`|| r ||^2` and the trace at this strength, from the coefficients of another one."""
        strength = unit**2 * 10.0**log
        rows = problem.rows(products, strength)
        precondition = reduced.preconditioner(alpha, strength)

        def one(b, c):
            return reduced.inner.least_squares(rows, (b, nothing), None, c, precondition)

        found = jax.vmap(one)(right, coef)
        squares = real_dot(found.rest[0][0], found.rest[0][0])
        # <u, u - H u> summed, so that nothing is lost where H is nearly one.
        left = real_dot(drawn, found.rest[0][1:]) if probes else jnp.zeros(())
        return squares, left / max(probes, 1), found.x

    def score(log, coef):
        squares, left, coef = measured(log, coef)
        if penalty.strength == "gcv":
            return jnp.where(left > 0, squares / left**2, jnp.inf), coef
        # Grows with the strength; zero where the residual has the size of the noise.
        return jnp.log(squares) - jnp.log(count * penalty.noise**2), coef

    coef = jnp.zeros((1 + probes, n), problem.coefficients.dtype)
    # From the strongest on, each from the coefficients of the one before.
    logs = jnp.linspace(_MOST, _LEAST, _TRIALS, dtype=unit.dtype)

    def trial(coef, log):
        value, coef = score(log, coef)
        return coef, value

    coef, values = jax.lax.scan(trial, coef, logs)
    if penalty.strength == "gcv":
        at = jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
        low, high = logs[jnp.minimum(at + 1, _TRIALS - 1)], logs[jnp.maximum(at - 1, 0)]
        log, _ = _golden(score, low, high, coef)
        return unit**2 * 10.0**log, jnp.any(jnp.isfinite(values))
    below = values < 0
    at = jnp.argmax(below)  # the strongest that leaves less than the noise
    met = jnp.any(below) & ~below[0]
    low, high = logs[at], logs[jnp.maximum(at - 1, 0)]

    def cut(_, state):
        low, high, coef = state
        middle = 0.5 * (low + high)
        value, coef = score(middle, coef)
        return jnp.where(value < 0, middle, low), jnp.where(value < 0, high, middle), coef

    low, high, _ = jax.lax.fori_loop(0, _CUTS, cut, (low, high, coef))
    return unit**2 * 10.0 ** (0.5 * (low + high)), met


def _golden(score, low, high, coef):
    """The least of a function of one number between two ends, by golden sections."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, coef = score(left, coef)
    at_right, coef = score(right, coef)

    def cut(_, state):
        low, high, left, right, at_left, at_right, coef = state
        down = at_left < at_right
        low, high = jnp.where(down, low, left), jnp.where(down, right, high)
        new = jnp.where(down, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        value, coef = score(new, coef)
        left, right = jnp.where(down, new, right), jnp.where(down, left, new)
        ends = jnp.where(down, value, at_right), jnp.where(down, at_left, value)
        return low, high, left, right, *ends, coef

    begin = (low, high, left, right, at_left, at_right, coef)
    low, high, *_, coef = jax.lax.fori_loop(0, _CUTS, cut, begin)
    return 0.5 * (low + high), coef
