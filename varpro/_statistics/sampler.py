"""Draws of a posterior by the No-U-Turn sampler of blackjax (Hoffman and Gelman, J. Mach. Learn. Res. 15 (2014)
1593), in coordinates in which the posterior is round at its mode."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from .._problem.columns import Assembled
from .._programs.program import program
from .._types import ArrayIn
from .posterior_density import Density, Mode

# How much wider than the posterior the starts of the chains are spread, and the share of accepted
# steps that the adaptation aims at: high, for steps that are short where the density bends.
_SPREAD, _ACCEPTED = 1.5, 0.9
# Draws whose coefficients are made at the same time.
_AT_ONCE = 64


class Drawn(NamedTuple):
    """Arrays over chains c and draws d: parameter values, coefficients, sigma, log density and whether the step
    to a draw diverged."""

    alpha: Float[Array, "c d q"]
    coef: Inexact[Array, "c d N k"]
    sigma: Float[Array, "c d"]
    log_density: Float[Array, "c d"]
    divergent: Bool[Array, "c d"]


def _entries(density: Density, top: Mode, keys: ArrayIn, warmup: int, n: int) -> float:
    """What the density holds, once for every hundred draws, which take a thousand evaluations."""
    sizes = [np.size(leaf) for leaf in jax.tree.leaves(density) if eqx.is_array(leaf)]
    return float(sum(sizes) * len(keys) * (warmup + n) / 100)


@program(entries=_entries)
def draw(density: Density, top: Mode, keys: ArrayIn, warmup: int, n: int) -> Drawn:
    """`n` draws of each chain, after `warmup` steps that adapt the size of a step (Nesterov's dual averaging); a key
    for each chain. At the mode the density is round already, so that there is no metric to adapt; and one loop
    for both phases compiles in half the time of two."""
    import blackjax
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    centre, root = jnp.asarray(top.z), jnp.asarray(top.root)
    kernel = blackjax.nuts.build_kernel()
    begin, adapted, settled = dual_averaging_adaptation(_ACCEPTED)
    metric = jnp.ones_like(centre)

    # The sampler asks for it in many places: with `jit` all of these share one trace.
    @jax.jit
    def log_density(w):
        return density.log_density(centre + root @ w)

    def chain(key):
        start_key, key = jax.random.split(key)
        start = _SPREAD * jax.random.normal(start_key, centre.shape, centre.dtype)
        start = jnp.where(jnp.isfinite(log_density(start)), start, 0.0)

        def one(carry, i):
            state, sizes = carry
            step_key, left = jax.random.split(jax.random.fold_in(key, i))
            size = jnp.where(i < warmup, jnp.exp(sizes.log_step_size), settled(sizes))
            state, info = kernel(step_key, state, log_density, size, metric)
            later = adapted(sizes, info.acceptance_rate)
            sizes = jax.tree.map(lambda new, old: jnp.where(i < warmup, new, old), later, sizes)
            return (state, sizes), (state.position, state.logdensity, info.is_divergent, left)

        carry = blackjax.nuts.init(start, log_density), begin(1.0)
        found = jax.lax.scan(one, carry, jnp.arange(warmup + n))[1]
        return jax.tree.map(lambda a: a[warmup:], found)

    w, logs, divergent, left = jax.vmap(chain)(jnp.asarray(keys))
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (w, left))
    alpha, coef, sigma = jax.lax.map(
        lambda one: _complete(density, centre + root @ one[0], one[1]), flat, batch_size=_AT_ONCE
    )
    shaped = (a.reshape(*logs.shape, *a.shape[1:]) for a in (alpha, coef, sigma))
    return Drawn(*shaped, logs, divergent)


def _complete(density: Density, z: Array, key: Array) -> tuple[Array, Array, Array]:
    """Parameter values, all coefficients and sigma for one draw of z: exact draws, given alpha."""
    problem = density.problem
    columns = problem.columns
    assert isinstance(columns, Assembled)
    sigma_key, coef_key = jax.random.split(key)
    alpha, _ = density.alpha(z)
    if columns.layout.exchange:
        # Components that differ by nothing but their names: every order of them is as probable.
        alpha = columns.layout.sorted_components(alpha)
    marginal = density.marginal(alpha)
    if density.samples_sigma:
        sigma = jnp.exp(z[-1])
    elif density.known:
        sigma = jnp.ones((), z.dtype)
    else:
        sigma = marginal.draw_sigma(sigma_key)
    coef = marginal.draw_coef(coef_key, sigma)
    return columns.values(alpha), jnp.asarray(problem.linear.all_of(coef)), sigma
