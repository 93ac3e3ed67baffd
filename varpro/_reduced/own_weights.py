"""Right-hand sides with weights of their own, by products of matrices.

What a basis and its derivatives have in common under the weights W_j of right-hand side j is linear in the
squares of these: every entry of Phi^H W_j^2 Phi is a product of two columns times a column of squares, and so
one product of matrices makes those of all j at once. The normal equations square the condition number, so what
they give is taken where that leaves half of the digits, and coefficients are refined once against the data
(Björck, Numerical Methods for Least Squares Problems, 1996, 2.4 and 6.6). Elsewhere each right-hand side has a
factorisation of its own.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._places import summed_at
from .._types import ArrayIn
from ..linalg._cholesky import Cholesky, cholesky, inverse_root, solved

# Coefficients at most, and numbers of products of two columns.
_MOST, _MEMORY = 8, 2**24
# Sines of the angle between a column and the others, and between what a parameter moves and the columns, from
# which normal equations serve.
_SINE = 1e-4


class Normal(NamedTuple):
    """Factors of `Phi^T W_j^2 Phi` of all j, and whether all are sound."""

    factor: Cholesky
    sound: Bool[Array, ""]


def serves(phi: Array, weights: Array, derivatives: int = 0) -> bool:
    """Whether problems of this size and type are for normal equations."""
    m, n = phi.shape
    pairs = n * (n + 1 + 2 * derivatives) + derivatives * (derivatives + 1)
    real = not jnp.iscomplexobj(phi) and phi.dtype == weights.dtype
    return real and 0 < n <= _MOST and m * pairs <= 2 * _MEMORY


def normal(phi: Float[Array, "s n"], square: Float[Array, "s k"]) -> Normal:
    """The normal equations of all right-hand sides with squares of weights `square`."""
    n = phi.shape[1]
    row, column = np.triu_indices(n)
    entries = (phi[:, row] * phi[:, column]).T @ square
    lines = [[entries[0]] * n for _ in range(n)]
    for i, j, entry in zip(row, column, entries, strict=True):
        lines[i][j] = lines[j][i] = entry
    factor = cholesky(lines)
    pivots = jnp.stack(factor.inverse)
    return Normal(factor, jnp.all((pivots > 0) & (pivots < 1.0 / _SINE)))


def coefficients(
    phi: Float[Array, "s n"], target: Float[Array, "s k"], weights: Float[Array, "s k"]
) -> tuple[Float[Array, "n k"], Bool[Array, ""]]:
    """Coefficients of least squares, and whether they are as good as those of a factorisation."""
    square = weights**2
    equations = normal(phi, square)

    def sought(resid):
        # A sample of weight zero may hold anything, even NaN.
        seen = phi.T @ jnp.where(square > 0, square * resid, 0.0)
        return jnp.stack(solved(equations.factor, list(seen)))

    coef = sought(target)
    coef = coef + sought(target - phi @ coef)
    return coef, equations.sound


def triangle(
    phi: Float[Array, "s n"],
    moving: Float[Array, "s e"],
    coordinate: np.ndarray,
    size: Float[ArrayIn, "e k"],
    resid: Float[Array, "s k"],
    weights: Float[Array, "s k"],
    p: int,
    back: Callable[[Float[Array, "e k"]], Float[Array, "n p k"]] | None,
) -> tuple[Float[Array, "p+1 p"], Float[Array, " p+1"], Bool[Array, ""]]:
    """The triangle of the Jacobian and the residual of all right-hand sides, and whether it is sound.

    Coordinate i moves the model of right-hand side j by the sum of `size[a, j] moving[:, a]` over its columns
    a. `back` makes of `moving^T W^2 resid` the part of the derivative within the range of Phi, times R; None
    for Kaufman's Jacobian.
    """
    square = weights**2
    equations = normal(phi, square)
    n, e = phi.shape[1], moving.shape[1]
    belongs = jnp.asarray(np.eye(p)[coordinate], phi.dtype)
    row, column = np.triu_indices(e)
    entries = (moving[:, row] * moving[:, column]).T @ square
    half = jnp.sum(entries * size[row] * size[column], axis=1)
    half = summed_at(half, row * e + column, e * e).reshape(e, e)
    whole = belongs.T @ (half + half.T - jnp.diag(jnp.diagonal(half))) @ belongs
    mixed = (phi[:, :, None] * moving[:, None, :]).reshape(len(phi), n * e).T @ square
    mixed = jnp.einsum("nek,ep->npk", mixed.reshape(n, e, square.shape[1]) * size, belongs)

    def inside(part: Float[Array, "n p k"]) -> Float[Array, "p p"]:
        return jnp.einsum("npk,nqk->pq", part, jnp.stack(solved(equations.factor, list(part))))

    gram = whole - inside(mixed)
    seen = moving.T @ jnp.where(square > 0, square * resid, 0.0)
    gradient = -belongs.T @ jnp.sum(size * seen, axis=1)
    diagonal = jnp.diagonal(gram)
    sound = equations.sound & jnp.all(
        (diagonal > _SINE**2 * jnp.diagonal(whole)) | (jnp.diagonal(whole) == 0)
    )
    if back is not None:
        gram = gram + inside(back(seen))
        diagonal = jnp.diagonal(gram)
    unit = inverse_root(diagonal)
    low = jnp.linalg.cholesky(
        gram * unit * unit[:, None] + jnp.diag(jnp.where(diagonal > 0, 0.0, 1.0))
    )
    sound = sound & jnp.all(jnp.diagonal(low) > _SINE)
    head = jax.scipy.linalg.solve_triangular(low, unit * gradient, lower=True)
    squares = jnp.sum(jnp.where(square > 0, square * resid**2, 0.0))
    rest = jnp.sqrt(jnp.maximum(squares - jnp.sum(head**2), 0.0))
    jac = low.T * jnp.sqrt(jnp.maximum(diagonal, 0.0))
    return jnp.pad(jac, [(0, 1), (0, 0)]), jnp.append(head, rest), sound
