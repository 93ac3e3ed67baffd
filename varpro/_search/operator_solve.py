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
from ..linalg import AbstractIterative, ConjugateGradients, Flat, as_operator, described
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
    data = Flat.of(y)
    if data.treedef != made.treedef or [a.shape for a in data.leaves] != [
        a.shape for a in made.leaves
    ]:
        raise InputError(
            f"The operator returns {_shapes(made)}, but y has {_shapes(data)}.", argument="y"
        )
    for what, flat in (("takes", coefficients), ("returns", made)):
        kinds = {jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in flat.leaves}
        floats = all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in flat.leaves)
        if len(kinds) != 1 or not floats:
            raise InputError(
                f"The operator {what} arrays of {', '.join(str(a.dtype) for a in flat.leaves)}. Have all "
                "real or all complex, and all floats."
            )
    if jnp.issubdtype(made.dtype, jnp.complexfloating) and not jnp.iscomplexobj(data.ravel(y)):
        raise InputError(REAL_DATA, argument="y")
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


def _shapes(flat: Flat) -> str:
    return described((flat.leaves, flat.treedef))
