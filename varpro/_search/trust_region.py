"""The step of Levenberg and Marquardt from p x p numbers: the triangle of the Jacobian, and with it
the least of the model in a ball and inside bounds.

Notation as in `levenberg_marquardt`: `tri` is R D^-1, `head` is b, a step z = D s has the units of neither.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array

from ..linalg._carried import carried

_LARGE = 1_000_000  # m p^2 from which the Gram matrix is worth its condition


def norm_of(a: Array) -> Array:
    return jnp.sqrt(jnp.sum(a * a))


def reciprocal(a: Array) -> Array:
    """1 / a, and 1 where a is zero."""
    return 1 / jnp.where(a > 0, a, 1)


def triangle(jac, resid):
    """R and b of `[J | r] = Q [R b; 0 rho]`.

    A large J goes through the Cholesky factor of J^T J with unit diagonal, three times faster than
    QR, when its pivots show that squaring J has cost no more than half of the digits.
    """
    m, p = jac.shape

    def by_qr():
        full = jnp.concatenate([jac, resid[:, None]], axis=1)
        full = jnp.concatenate([full, jnp.zeros((max(p + 1 - m, 0), p + 1), full.dtype)])
        t = jnp.linalg.qr(full, mode="r")
        return t[:p, :p], t[:p, p]

    if m * p * p < _LARGE:
        return by_qr()
    gram = jnp.matmul(jac.T, jac, precision="highest")
    norms = jnp.sqrt(jnp.diagonal(gram))
    inverse = reciprocal(norms)
    factor = jnp.linalg.cholesky(gram * inverse[:, None] * inverse[None, :])
    slope = jnp.matmul(resid, jac, precision="highest") * inverse
    head = jsl.solve_triangular(factor, slope, lower=True)
    # False for NaN, too, which is what a failed factorisation is made of.
    safe = jnp.min(jnp.diagonal(factor)) > float(jnp.finfo(jac.dtype).eps) ** 0.25
    return jax.lax.cond(safe, lambda: (factor.T * norms[None, :], head), by_qr)


def _damped(tri, head, free, root):
    """Minimise `|| tri z + head ||^2 + root^2 || z ||^2` over the free entries of z.

    **Returns:** z, and minus half the derivative of `|| z ||^2` by `root^2`.
    """
    p = head.size
    top = jnp.concatenate([tri * free[None, :], head[:, None]], axis=1)
    low = jnp.concatenate(
        [root * jnp.eye(p, dtype=tri.dtype), jnp.zeros((p, 1), tri.dtype)], axis=1
    )
    t = jnp.linalg.qr(jnp.concatenate([top, low]), mode="r")
    z = -jsl.solve_triangular(t[:p, :p], t[:p, p])
    w = jsl.solve_triangular(t[:p, :p], z, trans=1)
    return z, jnp.sum(w * w)


def _least(tri):
    """Square root of the least damping.

    What the rounding of `tri` does to a singular value; but when a column is a combination of
    others, enough to keep rounding from moving parameters along the null space.
    """
    p, eps = tri.shape[0], float(jnp.finfo(tri.dtype).eps)
    columns = jnp.sqrt(jnp.sum(tri * tri, axis=0))
    pivots = jnp.where(columns > 0, jnp.abs(jnp.diagonal(tri)) * reciprocal(columns), 1)
    return jnp.where(jnp.min(pivots) <= 64 * p * eps, eps**0.25, 4 * p**0.5 * eps)


def newton_step(tri, head, free):
    """The Gauss-Newton step; a null space of `tri` is left alone.

    A column that has become small since D was set is no null space: without its norm taken out,
    a parameter that has run off to where it has no effect would look converged.
    """
    inverse = reciprocal(jnp.sqrt(jnp.sum(tri * tri, axis=0)))
    return _damped(tri * inverse[None, :], head, free, _least(tri))[0] * inverse


def _region(tri, head, free, newton, radius, damping):
    """Minimise the model in the ball, to a tenth of its radius.

    **Returns:** z and its damping, which is 0 for the Gauss-Newton step. The damping is found by
    Newton's method on `1 / || z || = 1 / radius` (More 1978, section 5).
    """
    lower = _least(tri) ** 2
    upper = jnp.maximum(norm_of((head @ tri) * free) / radius, lower)

    def unfinished(carry):
        count, _, _, _, size = carry
        return (count < 10) & (jnp.abs(size - radius) > 0.1 * radius)

    def improve(carry):
        count, damping, lower, _, _ = carry
        z, bend = _damped(tri, head, free, jnp.sqrt(damping))
        size = norm_of(z)
        lower = jnp.where(size > radius, damping, lower)
        updated = jnp.maximum(damping + (size / radius - 1) * size**2 / bend, lower)
        sufficient = jnp.abs(size - radius) <= 0.1 * radius
        return count + 1, jnp.where(sufficient, damping, updated), lower, z, size

    size = norm_of(newton)
    inside = size <= 1.1 * radius
    guess = jnp.where(
        damping > 0, jnp.clip(damping, lower, upper), jnp.maximum(lower, 1e-3 * upper)
    )
    carry = (jnp.array(0), guess, lower, newton, size)
    carry = eqx.tree_at(lambda c: c[4], carry, jnp.where(inside, radius, size))
    carry = carried(carry, head)
    _, damping, _, z, _ = jax.lax.while_loop(unfinished, improve, carry)
    return z, jnp.where(inside, 0.0, damping)


def next_trial(model, x, lower, upper, radius, damping):
    """The next trial point, its step z, and the damping."""
    tri, inverse = model.tri, reciprocal(model.scale)
    if lower is None:
        z, damping = _region(tri, model.head, model.free, model.newton, radius, damping)
        return (x + z * inverse).astype(x.dtype), z, damping

    # Walk from z = 0 towards the minimiser of the model. What meets a bound stays there while the
    # rest is minimised anew. The model is convex, so it falls along every leg.
    def leg(carry):
        _, walked, free, low, up, damping = carry
        head = model.head + tri @ jnp.where(free, 0, walked)
        z, damping = _region(tri, head, free, newton_step(tri, head, free), radius, damping)
        way = jnp.where(free, z - walked, 0) * inverse
        here = x + walked * inverse
        room = jnp.where(way < 0, lower - here, upper - here) / jnp.where(way == 0, 1, way)
        room = jnp.where(way == 0, jnp.inf, jnp.maximum(room, 0))
        part = jnp.minimum(jnp.min(room), 1)
        hit = (room <= part) & (part < 1)
        walked = jnp.where(free, walked + part * (z - walked), walked)
        return (
            part < 1,
            walked,
            free & ~hit,
            low | (hit & (way < 0)),
            up | (hit & (way > 0)),
            damping,
        )

    none = jnp.zeros(x.shape, bool)
    carry = (jnp.array(True), jnp.zeros_like(model.head), model.free, none, none, damping)
    carry = carried(carry, model.head)
    _, z, _, low, up, damping = jax.lax.while_loop(lambda c: c[0], leg, carry)
    trial = jnp.clip((x + z * inverse).astype(x.dtype), lower, upper)
    trial = jnp.where(low, lower, jnp.where(up, upper, trial))
    return trial, (trial - x) * model.scale, damping
