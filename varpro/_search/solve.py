"""The pure solve: safe under `jit`, `vmap` and `grad`; it never raises for numbers."""

import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact, PyTree, Shaped

from .._errors import InputError
from .._problem.columns import Opaque
from .._problem.problem import Problem
from .._reduced.abstract import Jacobian
from .._status import RESULTS
from .._types import ArrayIn
from ..linalg import AbstractPinvSolver
from .implicit import optimum
from .minimise import Search, Solver, search


class Solution(eqx.Module):
    """The answer of `solve`.

    **Fields:**

    - `value`: the nonlinear parameters, a pytree like `alpha0`.
    - `coef`: the linear coefficients (n,) or (n, k).
    - `resid`: weighted residual, of the shape of y.
    - `cost`: `1/2 || resid ||^2`, with priors.
    - `result`: a `RESULTS` member; `result == RESULTS.successful` is an array that `jit` can branch on.
    - `stats`: counts (`num_steps`, `num_residuals`, `num_jacobians`), the test that ended the run
        (`stop`), the numerical rank and condition number of the weighted basis (`rank`, `cond`).
    """

    value: PyTree[Array]
    coef: Inexact[Array, "n *k"]
    resid: Inexact[Array, "m *k"]
    cost: Float[Array, ""]
    result: RESULTS
    stats: dict[str, PyTree[Array]]


def solve(
    basis: Callable[[PyTree, PyTree], Inexact[Array, "m n"]],
    y: Shaped[ArrayIn, "m *k"],
    alpha0: PyTree[ArrayLike],
    args: PyTree = None,
    *,
    weights: Float[ArrayIn, " m"] | None = None,
    offset: Callable[[PyTree, PyTree], Inexact[Array, " m"]] | None = None,
    lower: PyTree[ArrayLike] | None = None,
    upper: PyTree[ArrayLike] | None = None,
    solver: Solver | None = None,
    linear_solver: AbstractPinvSolver | None = None,
    jacobian: Jacobian | None = None,
    max_steps: int | None = None,
) -> Solution:
    """Minimise `1/2 || W (y - offset(alpha) - basis(alpha) c) ||^2` over alpha and c.

    Pure and traceable; `value`, `coef`, `resid` and `cost` are differentiable in y, weights, args,
    bounds and whatever arrays `basis` closes over. For data of every day, with names, checks and
    statistics, see `varpro.fit`.

    **Arguments:**

    - `basis`: called as `basis(alpha, args)`, returns the columns (m, n).
    - `y`: data (m,) or (m, k); k columns share alpha.
    - `alpha0`: start, any pytree of real arrays.
    - `args`: passed to `basis` and `offset`.
    - `weights`: (m,), multiplies the residual; one over the standard deviation.
    - `offset`: `offset(alpha, args)` returns the term without coefficient (m,).
    - `lower`, `upper`: bounds, pytrees like `alpha0` (scalars broadcast to every entry).
    - `solver`: `LevenbergMarquardt()` by default, or any optimistix least-squares solver or
        minimiser (those know no bounds).
    - `linear_solver`: factors the basis; `varpro.linalg.SVD()` by default, which every rank suits.
    - `jacobian`: "full" (Golub and Pereyra), "kaufman" (without its last term: cheaper and as good
        near the optimum) or "auto" (default): full for up to n right-hand sides, else Kaufman's.
    - `max_steps`: trial points at most, 256 by default.

    **Returns:** a `Solution`. A failed solve is a result, not an exception.

    **Raises:** `InputError` if shapes do not fit or a solver cannot keep the bounds given.
    """
    how = search(solver, linear_solver, jacobian, max_steps)
    if getattr(y, "dtype", None) in (np.float64, np.complex128) and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        warnings.warn(
            f"y is {y.dtype}, but JAX computes in float32 here. Set jax.config.update("
            "'jax_enable_x64', True), or give y in single precision.",
            stacklevel=2,
        )
    return _solve(basis, y, alpha0, args, weights, offset, lower, upper, how)


@eqx.filter_jit
def _solve(
    basis: Callable[[PyTree, PyTree], Inexact[Array, "m n"]],
    y: Shaped[ArrayIn, "m *k"],
    alpha0: PyTree[ArrayLike],
    args: PyTree,
    weights: Float[ArrayIn, " m"] | None,
    offset: Callable[[PyTree, PyTree], Inexact[Array, " m"]] | None,
    lower: PyTree[ArrayLike] | None,
    upper: PyTree[ArrayLike] | None,
    how: Search,
) -> Solution:
    alpha0 = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf, float)), alpha0)
    start, unravel = jax.flatten_util.ravel_pytree(alpha0)
    y = jnp.asarray(y, jnp.result_type(y, float))
    phi = jax.eval_shape(basis, alpha0, args)
    rows = phi.shape[0] if phi.ndim in (1, 2) else None
    if y.ndim not in (1, 2) or rows != y.shape[0]:
        raise InputError(
            f"basis(alpha, args) has shape {phi.shape} but y has shape {y.shape}; expected (m, n) "
            "and (m,) or (m, k)."
        )
    # Arrays that the callables close over become arguments, so that they can be differentiated.
    basis = eqx.filter_closure_convert(basis, alpha0, args)
    if offset is not None:
        offset = eqx.filter_closure_convert(offset, alpha0, args)
    columns = Opaque(basis, offset, args, unravel)
    problem = Problem(columns, y.reshape(y.shape[0], -1), weights)
    bounds = _like(lower, alpha0), _like(upper, alpha0)
    alpha, coef, found = optimum(problem, bounds, start, how=how)
    resid = problem.target(alpha) - problem.phi(alpha) @ coef
    cost = problem.cost(alpha, coef)
    if y.ndim == 1:
        coef, resid = coef[:, 0], resid[:, 0]
    return Solution(unravel(alpha), coef, resid, cost, found.result, found.stats)


def _like(bound: PyTree, alpha0: PyTree) -> Array | None:
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
