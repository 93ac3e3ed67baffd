"""A solve whose basis is an operator: structures are checked, and all becomes vectors."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import REAL_DATA, InputError
from .._problem.l1 import L1
from .._problem.operator_problem import OperatorProblem, SparsePenalty
from .._problem.tikhonov import Tikhonov
from ..linalg import (
    AbstractIterative,
    ConjugateGradients,
    Flat,
    Products,
    as_operator,
    described,
)
from .levenberg_marquardt import LevenbergMarquardt
from .operator_optimum import OperatorSearch, operator_optimum
from .solution import Solution, bound_like

# Where every cost comes of an inner solve nothing is known to the last digits.
OPERATOR_SOLVER = LevenbergMarquardt(ftol=1e-10, xtol=1e-7, gtol=1e-8)


def operator_problem(
    example: Any,
    basis: Callable[[PyTree, PyTree], Any],
    y: PyTree,
    alpha0: PyTree,
    args: PyTree,
    weights: PyTree | None,
    offset: Callable[[PyTree, PyTree], Any] | None,
    how: OperatorSearch | None,
    unravel: Callable[[Array], PyTree],
) -> tuple[OperatorProblem, OperatorSearch]:
    """The problem of a basis that is an operator, such as `example`, and how to search it.

    **Raises:** `InputError` where structures do not fit.
    """
    if how is None:
        raise InputError(
            "basis(alpha, args) returns an operator, which is not factored. Leave linear_solver= out, or "
            "give vp.linalg.ConjugateGradients(), lineax.CG(...) or lineax.LSMR(...).",
            argument="linear_solver",
        )
    y = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf, float)), y)
    one = isinstance(y, jax.Array)
    sides = y.shape[1] if one and y.ndim == 2 and not hasattr(example, "mv") else None
    structures = eqx.filter_eval_shape(lambda: _structures(basis, alpha0, args, sides))
    coefficients, made = Flat.of(structures[0]), Flat.of(structures[1])
    y = _in_parts(y, made, sides)
    data = Flat.of(y)
    _check_types(coefficients, made, data)
    # Less precise data are computed with as precisely as the operator is.
    y = jax.tree.map(lambda leaf, part: leaf.astype(part.dtype), y, made.structure)
    data = Flat.of(y)
    _check_transpose(basis, alpha0, args, sides, made)
    flat_weights = None
    if weights is not None:
        try:
            full = jax.tree.map(
                lambda w, part: jax.tree.map(
                    lambda a: jnp.broadcast_to(w, a.shape).astype(jnp.finfo(a.dtype).dtype), part
                ),
                weights,
                y,
            )
        except ValueError as error:
            raise InputError(f"weights do not fit y: {error}", argument="weights") from error
        flat_weights = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(full)])
    penalty = how.penalty
    strength = 0.0 if penalty is None else 1.0 if penalty.automatic else penalty.strength
    basis = eqx.filter_closure_convert(basis, alpha0, args)
    if offset is not None:
        offset = eqx.filter_closure_convert(offset, alpha0, args)
        added = jax.eval_shape(offset, alpha0, args)
        if _shapes(Flat.of(added)) != _shapes(data):
            raise InputError(
                f"offset(alpha, args) returns {_shapes(Flat.of(added))}, but y has {_shapes(data)}.",
                argument="offset",
            )
    real = jnp.finfo(coefficients.dtype).dtype
    problem = OperatorProblem(
        basis,
        offset,
        args,
        data.ravel(y),
        flat_weights,
        jnp.asarray(strength, real),
        None if penalty is None else penalty.products(coefficients),
        data,
        coefficients,
        sides,
        unravel,
        sparse=_sparse(penalty, how.inner, real),
    )
    # The numbers of the penalty are in the problem, by which a solve is differentiated.
    sought = None
    if penalty is not None and penalty.automatic:
        sought = dataclasses.replace(penalty, operator="identity")
    return problem, OperatorSearch(how.outer, how.inner, sought)


def solve_operator(
    example: Any,
    basis: Callable[[PyTree, PyTree], Any],
    y: PyTree,
    alpha0: PyTree,
    args: PyTree,
    weights: PyTree | None,
    offset: Callable[[PyTree, PyTree], Any] | None,
    bounds: tuple[PyTree, PyTree],
    how: OperatorSearch | None,
    unravel: Callable[[Array], PyTree],
) -> Solution:
    """A solve whose basis is an operator, such as `example`."""
    problem, search = operator_problem(
        example, basis, y, alpha0, args, weights, offset, how, unravel
    )
    start = jax.flatten_util.ravel_pytree(alpha0)[0]
    limits = tuple(bound_like(bound, alpha0) for bound in bounds)
    alpha, coef, strength, found = operator_optimum(problem, limits, start, how=search)
    problem = dataclasses.replace(problem, strength=strength)
    stats = {key: a for key, a in found.stats.items() if key not in ("split", "balance")}
    return Solution(
        unravel(alpha),
        problem.coefficients.unravel(coef),
        problem.data.unravel(problem.resid(alpha, coef)[0]),
        problem.cost(alpha, coef),
        found.result,
        stats | {"strength": strength},
    )


def _sparse(
    penalty: Tikhonov | L1 | None, inner: AbstractIterative, real: np.dtype
) -> SparsePenalty | None:
    if not isinstance(penalty, L1):
        return None
    if not isinstance(inner, ConjugateGradients):
        raise InputError(
            "vp.L1 takes vp.linalg.ConjugateGradients(...), and coefficients without bounds.",
            argument="penalty",
        )
    direct = isinstance(penalty.operator, str) and penalty.operator == "identity"
    gap = float(jnp.finfo(real).eps) ** 0.45 if penalty.gap is None else penalty.gap
    return SparsePenalty(jnp.asarray(gap, real), direct)


def _structures(
    basis: Callable[[PyTree, PyTree], Any], alpha0: PyTree, args: PyTree, sides: int | None
) -> tuple[PyTree, PyTree]:
    """Zeros of what the operator takes and of what it returns."""
    operator = as_operator(basis(alpha0, args), sides)
    structures = operator.in_structure(), operator.out_structure()
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), structures)


def _in_parts(y: PyTree, made: Flat, sides: int | None) -> PyTree:
    """y in the containers of what the operator makes; a list is as good as a tuple.

    **Raises:** `InputError` for other shapes.
    """
    data = Flat.of(y)
    same = jax.tree.structure(_tuples(y)) == jax.tree.structure(_tuples(made.structure))
    if same and [a.shape for a in data.leaves] == [a.shape for a in made.leaves]:
        return jax.tree.unflatten(made.treedef, jax.tree.leaves(y))
    if sides is not None:
        rows = made.leaves[0].shape[0]
        raise InputError(
            f"The matrix has {rows} rows, but y has {_shapes(data)}. Give y of shape ({rows},), or ({rows}, k).",
            argument="y",
        )
    raise InputError(
        f"The operator returns {_shapes(made)}, but y has {_shapes(data)}.", argument="y"
    )


def _tuples(tree: PyTree) -> PyTree:
    """The same with tuples in place of lists."""
    if isinstance(tree, dict):
        return {key: _tuples(part) for key, part in tree.items()}
    return tuple(map(_tuples, tree)) if type(tree) in (list, tuple) else tree


def _check_types(coefficients: Flat, made: Flat, data: Flat) -> None:
    """Refuse operators of whole numbers, of real and complex arrays at once, and of less precision than y."""
    for what, flat in (("takes", coefficients), ("returns", made)):
        kinds = {jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in flat.leaves}
        floats = all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in flat.leaves)
        if len(kinds) != 1 or not floats:
            raise InputError(
                f"The operator {what} arrays of {_kinds(flat)}. Have all real or all complex, and all floats.",
                argument="basis",
            )
    if jnp.issubdtype(made.dtype, jnp.complexfloating):
        if not jnp.issubdtype(data.dtype, jnp.complexfloating):
            raise InputError(REAL_DATA, argument="y")
    elif jnp.issubdtype(data.dtype, jnp.complexfloating):
        raise InputError(
            f"y is complex, but the operator returns {_kinds(made)}. Let it take complex coefficients: "
            "jax.ShapeDtypeStruct(shape, complex).",
            argument="y",
        )
    takes, returns, given = (jnp.finfo(flat.dtype).dtype for flat in (coefficients, made, data))
    if takes != returns or jnp.finfo(returns).bits < jnp.finfo(given).bits:
        raise InputError(
            f"The operator takes {_kinds(coefficients)} and returns {_kinds(made)}, and y is {_kinds(data)}. Have "
            "one precision throughout: the float of jax.ShapeDtypeStruct(shape, float) and of jax.numpy is the "
            "one that JAX computes in.",
            argument="basis",
        )


def _check_transpose(
    basis: Callable[[PyTree, PyTree], Any],
    alpha0: PyTree,
    args: PyTree,
    sides: int | None,
    made: Flat,
) -> None:
    """Refuse a product whose transpose JAX cannot make: one that is not linear, or no function of JAX."""

    def turned():
        products = Products.of(as_operator(basis(alpha0, args), sides))
        return products.adjoint(jnp.zeros(made.size, made.dtype))

    try:
        eqx.filter_eval_shape(turned)
    except InputError:
        raise
    except Exception as error:
        why = str(error).strip().partition("\n")[0]
        raise InputError(
            f"JAX makes no transpose of this operator: {why}. Its product must be linear in the coefficients, and "
            "written with jax.numpy; else give vp.linalg.FunctionPair(product, transpose, structure).",
            argument="basis",
        ) from error


def _kinds(flat: Flat) -> str:
    return ", ".join(dict.fromkeys(str(leaf.dtype) for leaf in flat.leaves))


def _shapes(flat: Flat) -> str:
    return described((flat.leaves, flat.treedef))
