"""The reduced cost as a function of alpha alone, for optimisers of others.

With c(alpha) = argmin of f(alpha, c), the envelope theorem gives d f / d alpha at constant c as the whole
gradient of the reduced cost. That is also the better way to compute it: through c the gradient would have a
further term, zero times the inverse of the Gram matrix, which of nearly dependent columns in single precision
is noise. Derivatives of that gradient must see c move, and do.
"""

from collections.abc import Callable
from typing import Any, Literal, overload

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree, Shaped

from .._errors import InputError
from .._given.arguments import flag, shown
from .._problem.columns import Opaque
from .._problem.functions import array_of, check_rows, functions_of, warn_of_single
from .._problem.linear_constraints import Linear
from .._problem.problem import Problem
from .._programs.program import program
from .._types import ArrayIn
from ..basis import AbstractBasis
from ..linalg import SVD, AbstractPinvSolver, column_scale, pinv_solve

Basis = Callable[[Any, Any], Inexact[Array, "m n"]] | AbstractBasis
Offset = Callable[[Any, Any], Inexact[Array, " m"]]


@overload
def reduced_loss(
    basis: Basis,
    y: Shaped[ArrayIn, "m *k"],
    alpha: PyTree = None,
    args: PyTree = None,
    ridge: Any = None,
    *,
    weights: Float[ArrayIn, " m"] | None = None,
    offset: Offset | None = None,
    linear_solver: AbstractPinvSolver | None = None,
    has_aux: Literal[False] = False,
) -> Float[Array, ""]: ...


@overload
def reduced_loss(
    basis: Basis,
    y: Shaped[ArrayIn, "m *k"],
    alpha: PyTree = None,
    args: PyTree = None,
    ridge: Any = None,
    *,
    weights: Float[ArrayIn, " m"] | None = None,
    offset: Offset | None = None,
    linear_solver: AbstractPinvSolver | None = None,
    has_aux: Literal[True],
) -> tuple[Float[Array, ""], Inexact[Array, "n *k"]]: ...


def reduced_loss(
    basis: Basis,
    y: Shaped[ArrayIn, "m *k"],
    alpha: PyTree = None,
    args: PyTree = None,
    ridge: Any = None,
    *,
    weights: Float[ArrayIn, " m"] | None = None,
    offset: Offset | None = None,
    linear_solver: AbstractPinvSolver | None = None,
    has_aux: bool = False,
) -> Any:
    """`min over c of 1/2 || W (y - offset(alpha) - basis(alpha) c) ||^2 + ridge/2 || c ||^2`.

    A pure function without state, for `jax.value_and_grad` and the optimisers of optax: alpha may be a
    network whose last layer is c, and y and `args` another batch at every step. Its gradient is that of the
    envelope theorem, one pass back through `basis`; further derivatives are exact, too. Without `ridge` it is the
    `cost` that `varpro.solve` makes least.

    **Arguments:**

    - `basis`, `args`, `offset`, `weights`: as in `varpro.solve`. `basis` may be a model; `alpha` is then a dict
        by name, by default its starts.
    - `y`: data (m,) or (m, k).
    - `alpha`: whatever `basis` takes, such as an equinox module.
    - `ridge`: strength of the penalty on squares of the coefficients, a number or one for each column (n,): the
        weight decay of the last layer. The loss is a sum over samples, and so is the strength: for minibatches
        of a part of the data take that part of it. With fewer samples than columns it is needed: without, the
        loss is zero whatever alpha is.
    - `linear_solver`: `vp.linalg.SVD()` by default, which every rank suits; with `ridge` `vp.linalg.QR()` is quicker.
    - `has_aux`: return the coefficients, too, as `jax.value_and_grad(..., has_aux=True)` wants them.

    **Returns:** the loss, or (loss, c) with c (n,) or (n, k). NaN in gives NaN out.

    **Raises:** `InputError` for shapes that do not fit, and a strength below zero.
    """
    given = functions_of(basis, alpha, args, offset, "alpha")
    y, weights, ridge = array_of("y", y), array_of("weights", weights), array_of("ridge", ridge)
    warn_of_single(y)
    known = isinstance(ridge, int | float | np.ndarray)
    if known and not (np.all(np.asarray(ridge) >= 0) and np.all(np.isfinite(ridge))):
        raise InputError(f"ridge must be zero or more, not {shown(ridge)}.", argument="ridge")
    solver = SVD() if linear_solver is None else linear_solver
    if not isinstance(solver, AbstractPinvSolver):
        raise InputError(
            f"linear_solver={shown(solver)} is none. Give one of vp.linalg.",
            argument="linear_solver",
        )
    flag("has_aux", has_aux)
    loss, coef = _reduced_loss(
        *(given.basis, y, given.alpha, args, ridge, weights, given.offset, solver)
    )
    return (loss, coef) if has_aux else loss


@program
def _reduced_loss(
    basis: Callable,
    y: ArrayIn,
    alpha: PyTree,
    args: PyTree,
    ridge: ArrayIn | float | None,
    weights: ArrayIn | None,
    offset: Callable | None,
    solver: AbstractPinvSolver,
) -> tuple[Float[Array, ""], Array]:
    y = jnp.asarray(y, jnp.result_type(y, float))
    m, n = check_rows(basis, alpha, args, y)
    if weights is not None and jnp.shape(weights) != (m,):
        raise InputError(
            f"weights has shape {jnp.shape(weights)}, but there are {m} samples.",
            argument="weights",
        )
    # Arrays that the callables close over become arguments, so that they can be differentiated.
    basis = eqx.filter_closure_convert(basis, alpha, args)
    if offset is not None:
        offset = eqx.filter_closure_convert(offset, alpha, args)
    problem = Problem(
        Opaque(basis, offset, args, _as_it_is),
        y.reshape(m, -1),
        None if weights is None else jnp.asarray(weights),
        _penalty(ridge, n, y.real.dtype),
    )
    phi, target = problem.phi(alpha), problem.target(alpha)
    target = target.astype(jnp.result_type(phi, target))
    scale = column_scale(phi) if ridge is None else jnp.ones(n, phi.real.dtype)
    coef = pinv_solve(phi / scale, target, solver) / scale[:, None]
    loss = _cost(problem, alpha, coef)
    return loss, coef[:, 0] if y.ndim == 1 else coef


def _as_it_is(alpha: PyTree) -> PyTree:
    return alpha


def _penalty(ridge: ArrayIn | float | None, n: int, real: Any) -> Linear:
    if ridge is None:
        return Linear()
    ridge = jnp.asarray(ridge, real)
    if ridge.shape not in ((), (n,)):
        raise InputError(
            f"ridge has shape {ridge.shape}; expected a number or ({n},), one for each column.",
            argument="ridge",
        )
    if ridge.ndim == 0:
        return Linear(penalty=jnp.eye(n, dtype=real), strength=ridge)
    return Linear(penalty=jnp.diag(jnp.sqrt(ridge)), strength=jnp.ones((), real))


@eqx.filter_custom_jvp
def _cost(problem: Problem, alpha: PyTree, coef: Array) -> Float[Array, ""]:
    """The cost with coefficients that make it least."""
    return problem.cost(alpha, coef)


@_cost.def_jvp
def _cost_jvp(primals, tangents):
    problem, alpha, coef = primals
    t_problem, t_alpha, _ = tangents

    def cost(problem, alpha):
        return problem.cost(alpha, coef)

    return eqx.filter_jvp(cost, (problem, alpha), (t_problem, t_alpha))
