"""The pure solve: safe under `jit`, `vmap` and `grad`; it never raises for numbers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree, Shaped
from lineax import AbstractLinearSolver

from .._errors import InputError
from .._given.arguments import shown
from .._problem.columns import Opaque
from .._problem.functions import (
    array_of,
    as_functions,
    built_of,
    check_rows,
    functions_of,
    warn_of_single,
)
from .._problem.l1 import L1
from .._problem.problem import Problem
from .._problem.tikhonov import Tikhonov
from .._programs.program import program
from .._reduced.abstract import Jacobian
from .._types import ArrayIn
from ..basis import AbstractBasis
from ..linalg import (
    AbstractIterative,
    AbstractPinvSolver,
    ConjugateGradients,
    as_iterative,
    foreign,
    is_operator,
)
from .implicit import optimum
from .levenberg_marquardt import LevenbergMarquardt
from .local_solve import solve_locally
from .minimise import Search, Solver, search
from .operator_optimum import OperatorSearch
from .operator_solve import OPERATOR_SOLVER, solve_operator
from .solution import Solution as Solution, bound_like


def solve(
    basis: Callable[[PyTree, PyTree], Any] | AbstractBasis,
    y: PyTree[Shaped[ArrayIn, "..."]],
    alpha0: PyTree[ArrayLike] | None = None,
    args: PyTree = None,
    *,
    weights: PyTree[Float[ArrayIn, "..."]] | None = None,
    sigma: Float[ArrayIn, "m *m"] | None = None,
    offset: Callable[[PyTree, PyTree], Any] | None = None,
    penalty: Tikhonov | L1 | None = None,
    lower: PyTree[ArrayLike] | None = None,
    upper: PyTree[ArrayLike] | None = None,
    solver: Solver | None = None,
    linear_solver: AbstractPinvSolver | AbstractIterative | AbstractLinearSolver | None = None,
    jacobian: Jacobian | None = None,
    max_steps: int | None = None,
) -> Solution:
    """Minimise `1/2 || W (y - offset(alpha) - basis(alpha) c) ||^2` over alpha and c.

    Pure and traceable; `value`, `coef`, `resid` and `cost` are differentiable in y, weights, sigma, args,
    bounds and whatever arrays `basis` closes over. By `alpha0` the derivative is zero, and where the
    search failed every one is NaN. For data of every day, with names, checks and
    statistics, see `varpro.fit`.

    **Arguments:**

    - `basis`: called as `basis(alpha, args)`, returns the columns (m, n). Or a model of bases such as
        `vp.Exp("a", tau=1.0) + vp.Constant("c")`; then `args` is x, `alpha0` a dict of starts by name,
        by default those of the model, and coefficients come in the order of its columns. Its bounds and
        fixed parameters are for `varpro.fit`. Or a matrix that is too large to write down: `basis` returns
        an operator of lineax, a `varpro.linalg.FunctionPair` or a sparse matrix of JAX, and the
        coefficients are what that takes.
    - `y`: data (m,) or (m, k); k columns share alpha. Where the basis is an operator, what that returns:
        an image, or a tuple or dict of arrays.
    - `alpha0`: start, any pytree of real arrays.
    - `args`: passed to `basis` and `offset`.
    - `weights`: (m,), multiplies the residual; one over the standard deviation. Of an operator a pytree
        like y, or one of scalars for parts of it. Or
    - `sigma`: standard deviations (m,), or the covariance (m, m) of the noise, symmetric and positive
        definite; where it is not, the solve fails. Not with an operator.
    - `offset`: `offset(alpha, args)` returns the term without coefficient (m,), or like y.
    - `penalty`: `varpro.Tikhonov(...)` or `varpro.L1(...)` on the coefficients of an operator.
    - `lower`, `upper`: bounds, pytrees like `alpha0` (scalars broadcast to every entry).
    - `solver`: `LevenbergMarquardt()` by default, or any optimistix least-squares solver or
        minimiser (those know no bounds).
    - `linear_solver`: factors the basis; `varpro.linalg.SVD()` by default, which every rank suits. With an
        operator `varpro.linalg.ConjugateGradients()` by default, or `lineax.CG`, `lineax.LSMR`.
    - `jacobian`: "full" (Golub and Pereyra), "kaufman" (without its last term: cheaper and as good
        near the optimum) or "auto" (default): full for up to n right-hand sides, else Kaufman's, and for
        an operator.
    - `max_steps`: trial points at most, 256 by default.

    **Returns:** a `Solution`. A failed solve is a result, not an exception.

    **Raises:** `InputError` if shapes do not fit or a solver cannot keep the bounds given.
    """
    if isinstance(basis, AbstractBasis):
        built, x, starts = built_of(basis, alpha0, args, offset, "alpha0")
        plain = linear_solver is sigma is penalty is None and jacobian in (None, "auto", "kaufman")
        if plain and isinstance(solver, LevenbergMarquardt | None):
            found = solve_locally(built, x, y, starts, weights, (lower, upper), solver, max_steps)
            if found is not None:
                return found
        given = as_functions(built, starts)
    else:
        given = functions_of(basis, alpha0, args, offset, "alpha0")
    if given.alpha is None:
        raise InputError(
            "alpha0 is missing: a start, any pytree of real arrays.", argument="alpha0"
        )
    if sigma is not None and weights is not None:
        raise InputError("Give either sigma (standard deviations) or weights (1/sigma), not both.")
    y, weights, sigma = _arrays("y", y), _arrays("weights", weights), array_of("sigma", sigma)
    if sigma is not None:
        _check_sigma(sigma, y)
    alpha0 = jax.tree.map(lambda leaf: array_of("alpha0", leaf), given.alpha)
    if penalty is not None and not isinstance(penalty, Tikhonov | L1):
        raise InputError(
            f"penalty must be vp.Tikhonov(...) or vp.L1(...), not {shown(penalty)}.",
            argument="penalty",
        )
    inner = as_iterative(linear_solver)
    how = search(solver, None if inner is not None else linear_solver, jacobian, max_steps)  # pyright: ignore
    dense = how if inner is None else None
    if inner is None and linear_solver is None:
        inner = ConjugateGradients()
    outer = how if solver is not None else dataclasses.replace(how, solver=OPERATOR_SOLVER)
    large = None if inner is None else OperatorSearch(outer, inner, penalty)
    warn_of_single(y)
    return _solve(
        *(given.basis, y, alpha0, args, weights, sigma, given.offset, lower, upper, dense, large)
    )


def _arrays(what: str, value: Any) -> Any:
    """An array, or a dict or tuple of arrays."""
    several = isinstance(value, tuple) and all(isinstance(v, jax.Array | np.ndarray) for v in value)
    if isinstance(value, Mapping) or (several and value):
        return jax.tree.map(lambda leaf: array_of(what, leaf), value)
    return array_of(what, value)


def _check_sigma(sigma: Any, y: Any) -> None:
    if not isinstance(y, jax.Array | np.ndarray):
        raise InputError(
            "sigma is for data that are one array. Give weights, a pytree like y.", argument="sigma"
        )
    m = np.shape(y)[0] if np.ndim(y) else 0
    if np.shape(sigma) not in ((m,), (m, m)):
        raise InputError(
            f"sigma has shape {np.shape(sigma)}; expected ({m},), standard deviations, or ({m}, {m}), their "
            "covariance.",
            argument="sigma",
        )


@program
def _solve(
    basis: Callable[[PyTree, PyTree], Any],
    y: PyTree[Shaped[ArrayIn, "..."]],
    alpha0: PyTree[ArrayLike],
    args: PyTree,
    weights: PyTree[Float[ArrayIn, "..."]] | None,
    sigma: Float[ArrayIn, "m *m"] | None,
    offset: Callable[[PyTree, PyTree], Any] | None,
    lower: PyTree[ArrayLike] | None,
    upper: PyTree[ArrayLike] | None,
    how: Search | None,
    large: OperatorSearch | None,
) -> Solution:
    alpha0 = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf, float)), alpha0)
    start, unravel = jax.flatten_util.ravel_pytree(alpha0)
    phi = eqx.filter_eval_shape(basis, alpha0, args)
    if is_operator(phi):
        if sigma is not None:
            raise InputError(
                "sigma= is for a basis that returns a matrix. Give weights=, one over the standard "
                "deviations.",
                argument="sigma",
            )
        return solve_operator(
            phi, basis, y, alpha0, args, weights, offset, (lower, upper), large, unravel
        )
    if advice := foreign(phi):
        raise InputError(f"basis(alpha, args) returned {advice}", argument="basis")
    if how is None:
        raise InputError(
            "An iterative linear_solver is for a basis that returns an operator. Give "
            "vp.linalg.Normal(lineax.CG(...)), or return lineax.MatrixLinearOperator(phi).",
            argument="linear_solver",
        )
    if large is not None and large.penalty is not None:
        raise InputError(
            "penalty= is for a basis that returns an operator, such as lineax.MatrixLinearOperator(phi).",
            argument="penalty",
        )
    if not isinstance(y, jax.Array | np.ndarray | float | int | list):
        raise InputError(f"basis(alpha, args) returns an array, so y must be one, not {shown(y)}.")
    y = jnp.asarray(y, jnp.result_type(y, float))
    check_rows(basis, alpha0, args, y)
    # Arrays that the callables close over become arguments, so that they can be differentiated.
    basis = eqx.filter_closure_convert(basis, alpha0, args)
    if offset is not None:
        offset = eqx.filter_closure_convert(offset, alpha0, args)
    columns = Opaque(basis, offset, args, unravel)
    whitener = None
    if sigma is not None:
        sigma = jnp.asarray(sigma, jnp.zeros((), y.dtype).real.dtype)
        if sigma.ndim == 1:
            weights = 1.0 / sigma
        else:
            factor = jnp.linalg.cholesky(sigma)
            whitener = jax.scipy.linalg.solve_triangular(
                factor, jnp.eye(len(sigma), dtype=sigma.dtype), lower=True
            )
    problem = Problem(columns, y.reshape(y.shape[0], -1), weights, whitener=whitener)
    bounds = bound_like(lower, alpha0), bound_like(upper, alpha0)
    alpha, coef, found = optimum(problem, bounds, start, how=how)
    resid = problem.target(alpha) - problem.phi(alpha) @ coef
    cost = problem.cost(alpha, coef)
    if y.ndim == 1:
        coef, resid = coef[:, 0], resid[:, 0]
    return Solution(unravel(alpha), coef, resid, cost, found.result, found.stats)
