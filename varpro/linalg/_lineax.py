"""The derivative of a pseudoinverse solve for users of lineax: its operators and its solver objects."""

import itertools

import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ._derivative import solve
from ._factor import AbstractPinvSolver
from ._normal import Normal
from ._qr import QR
from ._svd import SVD


def linear_solve(
    operator: lx.AbstractLinearOperator,
    vector: PyTree[Array],
    solver: lx.AbstractLinearSolver | AbstractPinvSolver | None = None,
    *,
    throw: bool = False,
) -> lx.Solution:
    """`A^+ b` for a lineax operator, as `lineax.linear_solve`, with the derivative of this package.

    `lineax.QR`, `lineax.SVD` and `lineax.Normal` are replaced by ours, and the operator by its
    matrix. Every other solver is handed to `lineax.linear_solve` unchanged; so is `Normal` with an
    iterative inner solver on an operator that is not a matrix, which must stay one, and `Normal`
    with an inner solver that accepts singular systems.

    **Arguments:**

    - `operator`: any `lineax.AbstractLinearOperator`, matrix-free and PyTree-valued ones included.
    - `vector`: the right-hand side, of the operator's output structure.
    - `solver`: a solver of lineax or of this package; `QR()` by default.
    - `throw`: raise if the solution is not finite. A derivative of ours never raises.

    **Returns:** a `lineax.Solution` with the solution in `value`, of the operator's input
    structure; `rank` and `cond` in `stats`; the factor in `state`.

    **Raises:** `ValueError` if the vector does not have the operator's output structure.
    """
    ours = _ours(operator, QR() if solver is None else solver)
    if isinstance(ours, lx.AbstractLinearSolver):
        return lx.linear_solve(operator, vector, ours, throw=throw)
    came = jax.eval_shape(lambda: vector)
    if came != operator.out_structure():
        raise ValueError(
            f"The operator maps to {operator.out_structure()}, but the vector is {came}."
        )
    matrix = operator.as_matrix()
    flat, _ = ravel_pytree(vector)
    dtype = jnp.result_type(matrix, flat)
    matrix, flat = matrix.astype(dtype), flat.astype(dtype)
    factor = ours.factor(jax.lax.stop_gradient(matrix))
    coef = solve(factor, matrix, flat[:, None])[0][:, 0]
    result = lx.RESULTS.where(
        jnp.all(jnp.isfinite(coef)),
        lx.RESULTS.successful,
        lx.RESULTS.where(
            jnp.all(jnp.isfinite(flat)), lx.RESULTS.singular, lx.RESULTS.nonfinite_input
        ),
    )
    if throw:
        coef = result.error_if(coef, result != lx.RESULTS.successful)
    value = _unraveled(coef, operator.in_structure())
    stats = {"rank": factor.rank, "cond": factor.cond}
    return lx.Solution(value=value, result=result, stats=stats, state=factor)


def _ours(
    operator: lx.AbstractLinearOperator, solver: lx.AbstractLinearSolver | AbstractPinvSolver
) -> lx.AbstractLinearSolver | AbstractPinvSolver:
    """The solver of this package that does what a solver of lineax does, or that one itself."""
    match solver:
        case lx.QR():
            return QR()
        case lx.SVD(rcond=rcond):
            return SVD(rcond)
        case lx.Normal(inner_solver=lx.Cholesky() as inner):
            return Normal(inner)
        case lx.Normal(inner_solver=inner) if inner.assume_full_rank():
            dense = isinstance(operator, lx.MatrixLinearOperator | lx.PyTreeLinearOperator)
            return Normal(inner) if dense else solver
        case _:
            return solver


def _unraveled(flat: Array, structure: PyTree[jax.ShapeDtypeStruct]) -> PyTree[Array]:
    """`flat` cut into the leaves of `structure`."""
    leaves, treedef = jax.tree.flatten(structure)
    ends = list(itertools.accumulate(leaf.size for leaf in leaves))
    pieces = jnp.split(flat, ends[:-1])
    return jax.tree.unflatten(
        treedef, [p.reshape(leaf.shape) for p, leaf in zip(pieces, leaves, strict=True)]
    )
