"""What a solve takes and returns, whatever its basis is."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PyTree

from .._errors import InputError
from .._status import RESULTS


class Solution(eqx.Module):
    """The answer of `solve`.

    **Fields:**

    - `value`: the nonlinear parameters, a pytree like `alpha0`.
    - `coef`: the linear coefficients (n,) or (n, k); what the operator takes, where the basis is one.
    - `resid`: weighted residual, of the shape of y; white, where `sigma` is a covariance.
    - `cost`: `1/2 || resid ||^2`, with priors and penalties.
    - `result`: a `RESULTS` member; `result == RESULTS.successful` is an array that `jit` can branch on.
    - `stats`: counts (`num_steps`, `num_residuals`, `num_jacobians`), the test that ended the run
        (`stop`), the numerical rank and condition number of the weighted basis (`rank`, `cond`); where
        that is an operator, the steps of the inner solves that led to the coefficients (`inner_steps`),
        whether the last one converged (`inner_converged`), and the `strength` of the penalty; under
        `varpro.L1` the duality `gap`: so much is the cost at most above its least at this alpha.
    """

    value: PyTree[Array]
    coef: PyTree[Inexact[Array, "..."]]
    resid: PyTree[Inexact[Array, "..."]]
    cost: Float[Array, ""]
    result: RESULTS
    stats: dict[str, PyTree[Array]]


def bound_like(bound: PyTree, alpha0: PyTree) -> Array | None:
    """A bound as a vector (p,): a pytree like alpha0, or a prefix of scalars, broadcast."""
    if bound is None:
        return None
    try:
        full = jax.tree.map(
            lambda b, sub: jax.tree.map(
                lambda a: jnp.broadcast_to(b, a.shape).astype(a.dtype), sub
            ),
            bound,
            alpha0,
        )
    except ValueError as error:
        raise InputError(f"A bound does not have the structure of alpha0: {error}") from error
    return jax.flatten_util.ravel_pytree(full)[0]
