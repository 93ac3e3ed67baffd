"""The loop of an iterative least-squares solver of optimistix, without what derivatives of it would need.

`optimistix.least_squares` makes of a solve an operation that can be differentiated. What is searched here
never is: derivatives of an optimum come from the optimum (`implicit`). The same solver in a plain loop
takes a third off the program that is traced and compiled.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, PyTree

from ..linalg._carried import carried


def iterate(
    function: Callable[[Array, PyTree], tuple[Array, PyTree]],
    solver: optx.AbstractLeastSquaresSolver,
    x: Float[Array, " p"],
    args: PyTree,
    options: dict[str, Any],
    max_steps: int,
    tell: Callable[[Array, PyTree, Array], Bool[Array, ""]] | None = None,
) -> tuple[Float[Array, " p"], optx.RESULTS, PyTree, dict[str, PyTree]]:
    """Where `solver` ends from `x`, how it ended, what `function` says beside the residual there, and
    the statistics of the solver with `num_steps`. `tell(x, state, steps)` is called after each step, and says
    whether to go on."""
    resid_like, aux_like = eqx.filter_eval_shape(function, x, args)
    about, tags = (function, x, args, options), frozenset()
    begin = solver.init(*about, resid_like, aux_like, tags)
    arrays, static = eqx.partition(begin, eqx.is_array)
    aux = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), aux_like)

    def whole(arrays):
        return eqx.combine(arrays, static)

    def done(x, arrays):
        return solver.terminate(function, x, args, options, whole(arrays), tags)

    def proceed(carry):
        x, arrays, _, steps, *go = carry
        further = (steps < max_steps) & ~done(x, arrays)[0]
        return further & go[0] if go else further

    def step(carry):
        x, arrays, _, steps, *go = carry
        x, state, aux = solver.step(function, x, args, options, whole(arrays), tags)
        if tell is not None:
            go = [tell(x, state, steps + 1)]
        return x, eqx.filter(state, eqx.is_array), aux, steps + 1, *go

    begin = (x, arrays, aux, jnp.zeros((), jnp.int32))
    if tell is not None:
        begin = (*begin, jnp.array(True))
    begin = carried(begin, x)
    x, arrays, aux, steps, *_ = jax.lax.while_loop(proceed, step, begin)
    over, result = done(x, arrays)
    late = (result == optx.RESULTS.successful) & ~over
    result = optx.RESULTS.where(late, optx.RESULTS.nonlinear_max_steps_reached, result)
    x, aux, stats = solver.postprocess(function, x, aux, args, options, whole(arrays), tags, result)
    return x, result, aux, {"num_steps": steps, **stats}
