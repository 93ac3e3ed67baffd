"""The same solves for lineax operators, chosen by lineax's own solver objects."""

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Inexact, PyTree

from ._factor import AbstractPinvSolver
from ._normal import Normal, gram_solve, inner_solve
from ._pinv_solve import solve_and_estimate
from ._qr import QR
from ._svd import SVD


def linear_solve(
    operator: lx.AbstractLinearOperator,
    vector: PyTree[Array],
    solver: lx.AbstractLinearSolver | AbstractPinvSolver | None = None,
) -> lx.Solution:
    """`A^+ b` for a lineax operator, with the derivatives of this package.

    `lx.QR`, `lx.SVD` and `lx.Normal` stand for ours. Any other solver, or a `Normal` whose inner
    solver accepts singular systems, goes to `lineax.linear_solve` unchanged. With an inner solver
    other than Cholesky, only a `lx.MatrixLinearOperator` is seen as a matrix: any other operator
    is applied and never written out, in derivatives too.

    **Arguments:**

    - `operator`: the A, of any structure.
    - `vector`: the b, of the operator's output structure.
    - `solver`: of this package or of lineax; `QR()` by default.

    **Returns:** `lineax.Solution`; `stats` has `rank` and `cond` where A is a matrix here. Ours
    never raises in a solve: `result` says `singular` where the value is not finite.

    **Raises:** `ValueError` if the vector has not the operator's output structure.
    """
    ours = _ours(QR() if solver is None else solver)
    if isinstance(ours, lx.AbstractLinearSolver):
        return lx.linear_solve(operator, vector, ours)
    given, expected = jax.eval_shape(lambda: vector), operator.out_structure()
    if not _same_structure(given, expected):
        raise ValueError(f"The operator maps to {expected}, but the vector is {given}.")
    b = _ravel(vector)
    direct = not isinstance(ours, Normal) or type(ours.inner) is lx.Cholesky
    if direct or isinstance(operator, lx.MatrixLinearOperator):
        matrix = operator.as_matrix()
        dtype = jnp.result_type(matrix, b)
        columns = b.astype(dtype)[:, None]
        x, rank, cond = solve_and_estimate(ours)(matrix.astype(dtype), columns)
        x, stats = x[:, 0], {"rank": rank, "cond": cond}
        result = lx.RESULTS.successful
    else:
        x, result = _matrix_free(operator, b, cast(Normal, ours).inner)
        stats = {}
    result = lx.RESULTS.where(
        (result == lx.RESULTS.successful) & ~jnp.all(jnp.isfinite(x)), lx.RESULTS.singular, result
    )
    value = _unravel(x, operator.in_structure())
    return lx.Solution(value=value, result=result, stats=stats, state=None)


def _ours(
    solver: lx.AbstractLinearSolver | AbstractPinvSolver,
) -> lx.AbstractLinearSolver | AbstractPinvSolver:
    """Our solver for lineax's; others as they are."""
    match solver:
        case lx.QR():
            return QR()
        case lx.SVD(rcond=rcond):
            return SVD(rcond)
        case lx.Normal(inner_solver=inner) if inner.assume_full_rank():
            return Normal(inner)
    return solver


def _matrix_free(
    operator: lx.AbstractLinearOperator, b: Inexact[Array, " m"], inner: lx.AbstractLinearSolver
) -> tuple[Inexact[Array, " n"], lx.RESULTS]:
    """`G^{-1} A^H b` if A is tall, `A^H G^{-1} b` if wide, by products with A alone.

    A^H and G depend on A as plain products do, so derivatives of every order follow from the one
    rule of `gram_solve`.
    """
    operator = lx.linearise(operator)
    rows, columns = operator.out_structure(), operator.in_structure()
    forward = _flat(operator, columns)
    backward = _flat(lx.conj(operator).transpose(), rows)
    tall = operator.out_size() >= operator.in_size()
    first, second = (forward, backward) if tall else (backward, forward)
    right = backward(b) if tall else b
    # The solver sees a G without tangents; these travel through `gram_solve`.
    frozen, consts = jax.closure_convert(lambda x: second(first(x)), right)
    consts = [jax.lax.stop_gradient(c) for c in consts]
    structure = jax.ShapeDtypeStruct(right.shape, right.dtype)
    gram = lx.FunctionLinearOperator(
        lambda x: frozen(x, *consts), structure, lx.positive_semidefinite_tag
    )
    state = inner.init(gram, {})
    x, result = gram_solve(
        lambda v: second(first(v)), right, lambda v: inner_solve(inner, state, v), has_aux=True
    )
    return (x if tall else backward(x)), result


def _flat(operator: lx.AbstractLinearOperator, structure: PyTree) -> Callable[[Array], Array]:
    return lambda x: _ravel(operator.mv(_unravel(x, structure)))


def _same_structure(x: PyTree, y: PyTree) -> bool:
    shapes = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (x, y)]
    return jax.tree.structure(x) == jax.tree.structure(y) and shapes[0] == shapes[1]


def _ravel(tree: PyTree[Array]) -> Inexact[Array, " size"]:
    leaves = jax.tree.leaves(tree)
    dtype = jnp.result_type(*leaves)
    return jnp.concatenate([leaf.astype(dtype).reshape(-1) for leaf in leaves])


def _unravel(x: Inexact[Array, " size"], structure: PyTree) -> PyTree[Array]:
    leaves, treedef = jax.tree.flatten(structure)
    pieces, start = [], 0
    for leaf in leaves:
        piece = x[start : start + leaf.size].reshape(leaf.shape)
        real = not jnp.issubdtype(leaf.dtype, jnp.complexfloating)
        pieces.append((piece.real if real else piece).astype(leaf.dtype))
        start += leaf.size
    return jax.tree.unflatten(treedef, pieces)
