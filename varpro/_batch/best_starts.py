"""Which of many starts explains each curve best, without a search: a start is a projection.

With the coefficients eliminated, alpha leaves of a curve y the cost

    1/2 y^T y + min over c of (1/2 c^T G c - c^T Phi^T y),    G = Phi^T Phi,

so that of many curves with the same weights one product Phi^T Y of matrices tells it, and with weights
of their own two. Rules for coefficients hold as in the search. Noise other than normal is ranked by the
squares with the given weights, from which its search begins.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._problem.columns import Assembled
from .._programs.program import program
from .._reduced.normal_equations import UNROLLED, Curve, moments, sought_columns
from .._types import ArrayIn
from ..linalg._active_set import all_sets
from ..linalg._bounded_normal import bounded_normal
from ..linalg._cholesky import cholesky, dot, inverse, solved, squared
from .ends import own_and_common


@program
def best_starts(
    columns: Assembled, curves: Curve, points: Float[ArrayIn, "s p"]
) -> Int[Array, " b"]:
    """Of each curve the number of the point (s, p) at which the least is left."""
    each, common = own_and_common(curves)
    y = jnp.asarray(curves.y)
    weights = None if curves.weights is None else jnp.asarray(curves.weights)
    square = None if weights is None else weights**2

    def left(alpha: Array) -> Float[Array, " b"]:
        phi, offset = sought_columns(columns, alpha)
        dtype = jnp.result_type(phi, y)
        phi, target = phi.astype(dtype), y if offset is None else y - offset
        target = target.astype(dtype)
        n = phi.shape[1]
        if square is not None and square.ndim == 1:
            phi = jnp.where(square[:, None] > 0, phi, 0.0)
        heavy = target if square is None else jnp.where(square > 0, target * square, 0.0)
        right = heavy @ phi.conj()
        pairs = phi.conj()[:, :, None] * phi[:, None, :]
        if square is None:
            gram = jnp.sum(pairs, axis=0)
        else:
            gram = jnp.tensordot(square.astype(dtype), jnp.nan_to_num(pairs), 1)
        if (rows := columns.linear.rows) is not None:
            gram = gram + jnp.asarray(rows).T @ jnp.asarray(rows)
        if columns.linear.real:
            gram, right = gram.real, right.real
        gram = jnp.broadcast_to(gram, (len(y), n, n))
        total = jnp.sum((target.conj() * heavy).real, axis=1)

        def of_one(gram, right, curve):
            return _explained(gram, right, curve._replace(**common), columns)

        return 0.5 * total - jax.vmap(of_one)(gram, right, each)

    def left_of_each(alpha: Array) -> Float[Array, " b"]:
        def one(curve):
            whole = curve._replace(**common)
            seen = moments(columns, alpha, whole)
            return seen.cost

        return jax.vmap(one)(each)

    costs = jax.lax.map(left if curves.x is None else left_of_each, jnp.asarray(points))
    return jnp.argmin(jnp.where(jnp.isfinite(costs), costs, jnp.inf), axis=0)


def _explained(gram: Array, right: Array, curve: Curve, columns: Assembled) -> Float[Array, ""]:
    """What the best coefficients take off half the squares of one curve."""
    n = right.size
    box = curve.coef_box()
    sets = box is not None and all_sets(columns.linear.sides) is not None
    if n > UNROLLED:
        return 0.5 * jnp.sum((right.conj() @ inverse(gram)[0]) * right).real
    a, b = [[gram[i, j] for j in range(n)] for i in range(n)], [right[i] for i in range(n)]
    if box is not None and sets:
        ends = (list(end.astype(right.dtype)) for end in box)
        c, _ = bounded_normal(a, b, *ends, columns.linear.sides)
    else:
        c = solved(cholesky(a), b)
    slope = [v - 0.5 * dot(row, c) for v, row in zip(b, a, strict=True)]
    return sum(
        ((v.conj() * w).real for v, w in zip(c, slope, strict=True)),
        jnp.zeros_like(squared(right[0]) if n else curve.unit),
    )
