"""How well a basis that is an operator determines parameters and coefficients, by inner solves alone.

The covariance of alpha is that of every fit (`covariance`): of Kaufman's Jacobian, whose p columns cost one
inner solve each, here to full accuracy. The number of coefficients that the data determine is the trace
of what makes the fitted data of the data.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .._reduced.large import AbstractLarge
from ..linalg import real_dot, signs
from .covariance import ParameterCovariance, parameter_covariance

# Coefficients up to which the trace is that of each of them; beyond, a mean over random signs.
_ALL = 64
# Signs that are drawn for the trace: so many that they have about this many entries together.
_ENTRIES, _MOST_PROBES = 4096, 16


def operator_covariance(
    reduced: AbstractLarge,
    alpha: Float[Array, " p"],
    point: PyTree,
    on_bound: Bool[Array, " p"],
) -> ParameterCovariance:
    """The covariance of alpha for unit noise, from what `reduced`, Kaufman's, knows at the optimum."""
    if not alpha.size:
        return parameter_covariance(jnp.zeros((0, 0), alpha.dtype), on_bound)
    return parameter_covariance(reduced.jacobian_to(alpha, point, "full"), on_bound)


def determined_coefficients(
    reduced: AbstractLarge,
    alpha: Float[Array, " p"],
    point: PyTree,
) -> Float[Array, ""]:
    """How many coefficients the data determine, complex ones counted twice: `trace (A^H W^2 A G^{-1})` with
    `G = A^H W^2 A + strength L^H L`, exact for few coefficients, else estimated by random signs. Those at a
    bound do not count. Under the norm L1 only coefficients that keep its zeros move: Zou, Hastie and Tibshirani, Ann.
    Stat. 35, 2173 (2007); Tibshirani and Taylor, Ann. Stat. 40, 1198 (2012)."""
    problem, inner = reduced.problem, reduced.inner.linear
    products, free = problem.products(alpha), reduced.free(point)
    rows, precondition = reduced.tangent(alpha, point)
    flat = problem.coefficients
    nothing, zero = problem.empty(flat.dtype)[1], jnp.zeros(flat.size, flat.dtype)

    def solved(b):
        return inner.least_squares(rows, (b, nothing), None, zero, precondition)

    if flat.size <= _ALL:
        parts = 2.0 if jnp.issubdtype(flat.dtype, jnp.complexfloating) else 1.0

        def share(unit):
            seen = problem.weighted(products.forward(unit)).astype(problem.y.dtype)
            return real_dot(unit, solved(seen).x)

        shares = jax.vmap(share)(jnp.eye(flat.size, dtype=flat.dtype))
        return parts * jnp.sum(shares if free is None else jnp.where(free, shares, 0.0))
    m = problem.y.size
    probes = int(min(max(_ENTRIES // m, 1), _MOST_PROBES))
    keys = jax.random.split(jax.random.key(3), probes)

    def left(key):
        drawn = signs(key, m, problem.y.dtype)
        if problem.weights is not None:
            drawn = jnp.where(problem.weights > 0, drawn, jnp.zeros((), drawn.dtype))
        return real_dot(drawn, drawn) - real_dot(drawn, solved(drawn).rest[0])

    return jnp.mean(jax.lax.map(left, keys))
