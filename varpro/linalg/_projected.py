"""Nonnegative least squares by products alone.

Of `min 1/2 || B x - b ||^2 - Re <g, x>, x >= 0` with the negative gradient s, x is the minimum where the projected
gradient vanishes: s_i for x_i > 0, and max(s_i, 0) for x_i = 0. Steps along it find which coefficients are zero;
between two of them conjugate gradients solve for those that are not, and the way there is bent where it
meets zero. J. J. More and G. Toraldo, SIAM J. Optim. 1, 93 (1991).
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._errors import InputError
from ._iterative import AbstractIterative, ConjugateGradients, Solved, restricted
from ._operator import real_dot

# How far conjugate gradients go while zeros still change, and halvings of a step that does not descend.
_ROUGH, _HALVINGS, _ARMIJO = 1e-2, 30, 1e-4


class ProjectedGradients(AbstractIterative):
    """Nonnegative coefficients: projected gradients, and conjugate gradients among those above zero.

    A solve has converged where the projected gradient is `rtol` of the gradient at zero; that is the whole
    condition of an optimum, for the problem is convex. Derivatives are those of the coefficients above zero.

    **Arguments:**

    - `conjugate`: tolerances, `max_steps` of all conjugate gradients of a solve together, and the
        preconditioner, as without a bound.
    """

    conjugate: ConjugateGradients = eqx.field(default_factory=ConjugateGradients)

    def __check_init__(self):
        if not isinstance(self.conjugate, ConjugateGradients):
            raise InputError(
                "ProjectedGradients takes vp.linalg.ConjugateGradients(...), whose tolerances it has.",
                argument="linear_solver",
            )

    @property
    def linear(self) -> AbstractIterative:
        return self.conjugate

    @property
    def preconditioner(self) -> Callable | None:
        return self.conjugate.preconditioner

    def free(self, x: Array) -> Bool[Array, " n"]:
        return x > 0

    def least_squares(self, rows, b, g, x, precondition, accuracy="full"):
        """The nonnegative minimum, sought from x."""
        if jnp.iscomplexobj(x):
            raise InputError(
                "Nonnegative coefficients are real, but the operator takes complex ones.",
                argument="nonnegative",
            )
        inner, real = self.conjugate, jnp.finfo(x.dtype)
        rtol = jnp.asarray(float(real.eps) ** 0.6 if inner.rtol is None else inner.rtol, x.dtype)

        def slope(rest):
            s = rows.back(rest)
            return s if g is None else s + g

        def along(x, rest, s, direction, length):
            """The first of halved steps that descends enough, bent where it meets zero."""

            def moved(length):
                step = jnp.maximum(x + length * direction, 0.0) - x
                ahead = rows.ahead(step)
                promised = real_dot(s, step)
                # What the cost changes by, without the cost, in whose rounding it would be lost.
                change = 0.5 * real_dot(ahead, ahead) - promised
                return step, ahead, change <= -_ARMIJO * jnp.abs(promised)

            def shorter(state):
                length, *_, tries = state
                return 0.5 * length, *moved(0.5 * length), tries + 1

            begin = (length, *moved(length), jnp.zeros((), jnp.int32))
            _, step, ahead, good, _ = jax.lax.while_loop(
                lambda state: ~state[3] & (state[4] < _HALVINGS), shorter, begin
            )
            step = jnp.where(good, step, 0.0)
            ahead = jax.tree.map(lambda a: jnp.where(good, a, jnp.zeros((), a.dtype)), ahead)
            took = 2 * real_dot(s, step) - real_dot(ahead, ahead)
            rest = jax.tree.map(jnp.subtract, rest, ahead)
            return jnp.maximum(x + step, 0.0), rest, took

        goal = rtol * _size(slope(b))
        x = jnp.maximum(x, 0.0)
        rest = jax.tree.map(jnp.subtract, b, rows.ahead(x))
        s = slope(rest)

        def near(x, s, settled, took, total):
            near = _size(_projected(x, s)) <= goal
            if accuracy == "progress":
                near |= settled & (took <= inner.progress_rtol**2 * total)
            return near

        def unfinished(state):
            x, _, s, settled, took, total, steps = state
            # A round that takes nothing is the last one; so is one of NaN.
            return ~near(x, s, settled, took, total) & (took > 0) & (steps < inner.max_steps)

        def again(state):
            x, rest, s, settled, _, total, steps = state
            steepest = _projected(x, s)
            ahead = rows.ahead(steepest)
            norm = real_dot(ahead, ahead)
            length = real_dot(steepest, steepest) / jnp.where(norm > 0, norm, 1.0)
            new, rest, first = along(x, rest, s, steepest, length)
            s = slope(rest)
            free = new > 0
            face, masked = restricted(rows, precondition, free)
            size = _size(jnp.where(free, s, 0.0))
            wanted = 0.5 * goal / jnp.where(size > 0, size, 1.0)
            least = jnp.where(settled, jnp.zeros((), x.dtype), jnp.asarray(_ROUGH, x.dtype))
            some = dataclasses.replace(inner, rtol=jnp.clip(wanted, least, 0.5))
            over = None if g is None else jnp.where(free, g, 0.0)
            found = some.least_squares(face, rest, over, jnp.zeros_like(x), masked)
            newer, rest, second = along(new, rest, s, found.x, jnp.ones((), x.dtype))
            same, took = jnp.all((newer > 0) == (x > 0)), first + second
            steps = steps + found.steps + 1
            return newer, rest, slope(rest), same, took, total + took, steps

        infinite, zero = jnp.full((), jnp.inf, x.dtype), jnp.zeros((), x.dtype)
        begin = (x, rest, s, jnp.array(False), infinite, zero, jnp.zeros((), jnp.int32))
        x, rest, s, settled, took, total, steps = jax.lax.while_loop(unfinished, again, begin)
        return Solved(x, rest, steps, near(x, s, settled, took, total))


def _projected(x: Array, s: Array) -> Array:
    """The negative gradient without what would lead below zero."""
    return jnp.where(x > 0, s, jnp.maximum(s, 0.0))


def _size(s: Array) -> Array:
    return jnp.sqrt(real_dot(s, s))
