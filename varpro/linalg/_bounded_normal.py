"""Normal equations with bounds on the coefficients, number by number: nothing calls LAPACK and nothing
branches, so that XLA makes one loop over many of them side by side.

    minimise  1/2 c^T G c - b^T c    subject to   lower <= c <= upper

Few coefficients have few sets of those that stand on a bound. All are solved for; the feasible solution
of least cost is the answer, for the minimum lies inside one face of the box and is that of its face.
"""

from collections.abc import Sequence

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Bool

from ._active_set import BoundedSides, all_sets
from ._cholesky import cholesky, dot, solved


def bounded_normal(
    a: Sequence[Sequence[Array]],
    b: Sequence[Array],
    lower: Sequence[Array],
    upper: Sequence[Array],
    sides: BoundedSides,
) -> tuple[list[Array], list[Bool[Array, ""]]]:
    """The coefficients, and which of them are off their bounds; NaN in gives a coefficient on a bound or NaN.

    `a` by rows; `sides` says which coefficients have a lower and an upper bound, few enough for
    `all_sets`.
    """
    sets = all_sets(sides)
    assert sets is not None
    n = len(b)
    eps = float(jnp.finfo(b[0].dtype).eps)
    # Those with the most free ones first: of equal costs, which rounding cannot tell apart, the first.
    order = np.argsort(-sets[0].sum(axis=1), kind="stable")
    best = jnp.full((), jnp.inf, b[0].dtype)
    c, free = [jnp.zeros_like(v) for v in b], [jnp.zeros((), bool)] * n
    for k in order:
        off, below = sets[0][k], sets[1][k]
        inside = [i for i in range(n) if off[i]]
        outside = [i for i in range(n) if not off[i]]
        trial = [lower[i] if below[i] else upper[i] for i in range(n)]
        if inside:
            right = [
                b[i] - dot([a[i][j] for j in outside], [trial[j] for j in outside]) for i in inside
            ]
            found = solved(cholesky([[a[i][j] for j in inside] for i in inside]), right)
            for i, value in zip(inside, found, strict=True):
                trial[i] = value
        cost = sum(
            (trial[i] * (0.5 * dot(a[i], trial) - b[i]) for i in range(n)), jnp.zeros_like(best)
        )
        fits = jnp.isfinite(cost)
        for i in inside:
            fits = fits & (trial[i] >= lower[i]) & (trial[i] <= upper[i])
        better = fits & (cost + 4 * eps * jnp.abs(cost) < best)
        best = jnp.where(better, cost, best)
        c = [jnp.where(better, new, old) for new, old in zip(trial, c, strict=True)]
        free = [jnp.where(better, bool(off[i]), free[i]) for i in range(n)]
    return c, free
