"""Levenberg-Marquardt with bounds, for any residual; the outer loop of varpro.

Once per trial point: the residual, and a small triangular solve per damping. Once per accepted
point: the Jacobian J and one QR of [J | r], after which only p x p numbers are needed.

All decisions are made on numbers without units. With the triangle R and b of

    [J | r] = Q [R b; 0 rho],      D_j = largest norm so far of column j of J (More 1978),

a step s is z = D s, its model is `1/2 || R D^-1 z + b ||^2`, and lengths are compared with
`|| D x ||`, reductions with the cost. Reference: J. J. More, The Levenberg-Marquardt algorithm:
implementation and theory, Lecture Notes in Mathematics 630 (1978).
"""

from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, PyTree

from ._results import InputError


class STOP(eqx.Enumeration):
    """Which test ended a run."""

    running = "No test was met: the limit of steps came first."
    ftol = "The last step and the best possible step change the cost by less than ftol."
    xtol = "The last step and the full Gauss-Newton step are shorter than xtol."
    gtol = "The residual is orthogonal to the Jacobian of the free parameters within gtol."
    floor = "The rounding floor is reached: further steps are lost in the rounding of the residual."
    fit = "The fit is perfect: the residual is zero compared with the one at the start."
    stuck = "No step reduces the cost although the gradient is not zero. Is the Jacobian right?"
    nonfinite = "The residual or its Jacobian is not finite at the start or at every trial point."


class _Model(eqx.Module):
    """What is known at the current point x; renewed when a trial point is accepted."""

    resid: Float[Array, " M"]
    tri: Float[Array, "p p"]  # R D^-1
    head: Float[Array, " p"]  # b
    scale: Float[Array, " p"]  # D, zero while a column has always been zero
    free: Bool[Array, " p"]
    newton: Float[Array, " p"]  # Gauss-Newton step z of the free parameters
    cosine: Float[Array, ""]  # largest between r and a free column of J
    norm: Float[Array, ""]  # || r ||
    length: Float[Array, ""]  # || D x ||
    reach: Float[Array, ""]  # the same with the norms of the columns of J at x


class _State(eqx.Module):
    model: _Model
    trial: Float[Array, " p"]
    step: Float[Array, " p"]  # z of the trial point
    unit: Float[Array, ""]
    start: Float[Array, ""]  # || r || at the start
    radius: Float[Array, ""]
    damping: Float[Array, ""]
    first: Bool[Array, ""]
    bad: Int[Array, ""]  # non-finite trial points in a row
    num_residuals: Int[Array, ""]
    num_jacobians: Int[Array, ""]
    stop: STOP
    aux: PyTree


def _where(pred, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(pred, a, b), new, old)


def _real(out: PyTree) -> Float[Array, " M"]:
    """All residuals as one real vector: leaf by leaf, a complex leaf as (real, imag)."""
    rows = []
    for leaf in jax.tree.leaves(out):
        leaf = jnp.ravel(leaf)
        rows += [leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf]
    return jnp.concatenate(rows)


def _norm(a: Array) -> Array:
    return jnp.sqrt(jnp.sum(a * a))


def _damped(tri, head, free, root):
    """Minimise `|| tri z + head ||^2 + root^2 || z ||^2` over the free entries of z.

    Returns z, and the derivative of `|| z ||^2 / 2` by `-root^2`.
    """
    p = head.size
    top = jnp.concatenate([tri * free, head[:, None]], axis=1)
    low = jnp.concatenate(
        [root * jnp.eye(p, dtype=tri.dtype), jnp.zeros((p, 1), tri.dtype)], axis=1
    )
    t = jnp.linalg.qr(jnp.concatenate([top, low]), mode="r")
    z = -jsl.solve_triangular(t[:p, :p], t[:p, p])
    w = jsl.solve_triangular(t[:p, :p], z, trans=1)
    return z, jnp.sum(w * w)


class LevenbergMarquardt(optx.AbstractLeastSquaresSolver):
    """Minimise `1/2 || r(y) ||^2` within `lower <= y <= upper`.

    A trust region of More's kind: steps solve `min || J s + r ||` with `|| D s || <= radius`.

    **Arguments:**

    - `ftol`: stop when the actual reduction of the cost by a step, the predicted one, and the one
        of a full Gauss-Newton step from the returned point are below `ftol * cost`.
    - `xtol`: stop when the step and the Gauss-Newton step have `|| D s || <= xtol || D y ||`.
    - `gtol`: stop when the cosine between the residual and every free column of J is below.
    - `factor`: the first radius is `factor * max(|| D y ||, || r ||)`.

    `options` of `optimistix.least_squares` understood: `lower` and `upper` (pytrees like y, may be
    infinite; equal values fix a parameter) and `jacobian`, a callable
    `(y, residual, aux, args) -> (M, p)` with rows in the order of the flattened residual (a complex
    leaf counts as its real, then its imaginary part) and columns in that of the flattened y.

    Optimistix's `rtol`, `atol` and `norm` exist because its interface asks for them: `rtol` is
    `xtol`, `atol` is zero (nothing absolute is compared) and `norm` is not used.
    """

    ftol: float = 1e-10
    xtol: float = 1e-10
    gtol: float = 1e-10
    factor: float = 100.0

    @property
    def rtol(self):
        return self.xtol

    @property
    def atol(self):
        return 0.0

    @property
    def norm(self):
        return optx.two_norm

    def init(self, fn, y, args, options, f_struct, aux_struct, tags):
        if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(y)):
            raise InputError("LevenbergMarquardt needs real parameters; split complex ones in two.")
        x, _ = jax.flatten_util.ravel_pytree(y)
        lower, upper = _bounds(options, y, x)
        if lower is not None:
            x = jnp.clip(x, lower, upper)
        p, dtype = x.size, x.dtype
        rows = jax.eval_shape(_real, f_struct)
        zero, vector, count = jnp.zeros((), dtype), jnp.zeros(p, dtype), jnp.array(0)
        model = _Model(
            resid=jnp.zeros(rows.shape, rows.dtype),
            tri=jnp.zeros((p, p), dtype),
            head=vector,
            scale=vector,
            free=jnp.zeros(p, bool),
            newton=vector,
            cosine=zero,
            norm=zero,
            length=zero,
            reach=zero,
        )
        return _State(
            model=model,
            trial=x,
            step=vector,
            unit=zero,
            start=zero,
            radius=zero,
            damping=zero,
            first=jnp.array(True),
            bad=count,
            num_residuals=count,
            num_jacobians=count,
            stop=STOP.running,
            aux=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), aux_struct),
        )

    def step(self, fn, y, args, options, state, tags):
        old = state.model
        x, unravel = jax.flatten_util.ravel_pytree(y)
        lower, upper = _bounds(options, y, x)
        eps = jnp.finfo(x.dtype).eps
        first = state.first

        # The trial point, in units in which the first residual is about one: a power of two, so
        # that no digit changes, and squares neither overflow nor underflow.
        out, aux = fn(unravel(state.trial), args)
        raw = _real(out)
        biggest = jnp.max(jnp.abs(raw), initial=0.0)
        exponent = jnp.where((biggest > 0) & jnp.isfinite(biggest), jnp.frexp(biggest)[1], 0)
        unit = jnp.where(first, jnp.ldexp(jnp.ones_like(biggest), exponent), state.unit)
        resid = raw / unit
        norm = _norm(resid)
        finite = jnp.isfinite(norm)

        # Differences of residuals, not of their squares, keep the digits of a small reduction.
        change = resid - old.resid
        cost = 0.5 * old.norm**2
        actual = -0.5 * jnp.sum(change * (resid + old.resid)) / cost
        image = old.tri @ state.step
        predicted = -jnp.sum(image * (old.head + 0.5 * image)) / cost
        ratio = jnp.where(predicted > 0, actual / predicted, -1.0)
        good = finite & (first | ((predicted > 0) & (ratio >= 1e-4)))

        def renew():
            return self._model(fn, unravel, args, options, state, out, aux, resid, norm, unit)

        model, fine = jax.lax.cond(good, renew, lambda: (old, jnp.array(False)))
        accepted = good & fine
        model = _where(accepted, model, old)
        x = jnp.where(accepted, state.trial, x)
        finite = finite & (fine | ~good)
        bad = jnp.where(finite, 0, state.bad + 1)

        # The radius, as in MINPACK's lmder.
        size = _norm(state.step)
        # On failure, go to the minimum of the parabola through cost, slope and new cost.
        slope = jnp.sum(image * old.head) / cost
        parabola = 0.5 * slope / (slope + actual)
        shrink = jnp.where(actual >= 0, 0.5, jnp.clip(parabola, 0.1, 0.5))
        shrink = jnp.where(finite & (norm < 10 * old.norm) & (predicted > 0), shrink, 0.1)
        poor = ~accepted | (ratio <= 0.25)
        well = (state.damping == 0) | (ratio >= 0.75)
        radius = jnp.where(state.num_jacobians <= 1, jnp.minimum(state.radius, size), state.radius)
        radius = jnp.where(
            poor, shrink * jnp.minimum(radius, 10 * size), jnp.where(well, 2 * size, radius)
        )
        damping = jnp.where(poor, state.damping / shrink, state.damping * jnp.where(well, 0.5, 1.0))
        start = jnp.where(first, norm, state.start)
        radius = jnp.where(first, self.factor * jnp.maximum(model.length, norm), radius)
        damping = jnp.where(first, 0.0, damping)

        # The tests, all on the point that would be returned.
        best = model.tri @ model.newton
        offset = _norm(best)  # the part of r that Gauss-Newton can still remove
        gain = -jnp.sum(best * (2 * model.head + best)) / model.norm**2
        newton = _norm(model.newton)
        judged = finite & ~first
        # Where J is singular, the Gauss-Newton step means nothing. Then steps limited by curvature,
        # not by the history of the radius, and a small gradient have to do.
        flat = poor & (model.cosine <= eps**0.4)
        ftol = judged & (jnp.abs(actual) <= self.ftol) & (predicted <= self.ftol)
        ftol = ftol & ((gain <= self.ftol) | flat)
        xtol = judged & (size <= self.xtol * model.length)
        xtol = xtol & ((newton <= self.xtol * model.length) | flat)
        # A step too short for curvature to matter changed r by more than all that is left to gain.
        noise = judged & ~accepted & (size <= jnp.sqrt(eps) * model.length)
        noise = noise & (offset <= _norm(change))
        noise = noise | (judged & ((gain <= eps) & (jnp.abs(actual) <= eps)))
        stuck = ~first & ~accepted & (radius <= eps * model.length)
        noise = noise | (stuck & flat)
        # Zero against what x, or a unit in the last place of x, contributes to r.
        perfect = model.norm <= jnp.maximum(eps * model.reach, eps**3 * start)
        stop = STOP.running
        for test, name in (
            (stuck, STOP.stuck),
            (noise, STOP.floor),
            (ftol, STOP.ftol),
            (xtol, STOP.xtol),
            (model.cosine <= self.gtol, STOP.gtol),
            (perfect, STOP.fit),
            ((bad >= 15) | (first & ~accepted), STOP.nonfinite),
        ):
            stop = STOP.where(test, name, stop)

        z, trial, damping = _next(model, x, lower, upper, radius, damping)
        aux = _where(accepted, aux, state.aux)
        new = _State(
            model=model,
            trial=trial,
            step=z,
            unit=unit,
            start=start,
            radius=radius,
            damping=damping,
            first=jnp.array(False),
            bad=bad,
            num_residuals=state.num_residuals + 1,
            num_jacobians=state.num_jacobians + good,
            stop=stop,
            aux=aux,
        )
        return unravel(x), new, aux

    def _model(self, fn, unravel, args, options, state, out, aux, resid, norm, unit):
        x = state.trial
        if options.get("jacobian") is None:
            jac = jax.jacfwd(lambda v: _real(fn(unravel(v), args)[0]))(x)
        else:
            jac = options["jacobian"](unravel(x), out, aux, args)
            jac = jnp.concatenate([jac.real, jac.imag]) if jnp.iscomplexobj(jac) else jac
        m, p = jac.shape
        full = jnp.concatenate([jac / unit, resid[:, None]], axis=1)
        if m <= p:
            full = jnp.concatenate([full, jnp.zeros((p + 1 - m, p + 1), full.dtype)])
        t = jnp.linalg.qr(full, mode="r")
        tri, head = t[:p, :p], t[:p, p]
        columns = jnp.sqrt(jnp.sum(tri * tri, axis=0))
        fine = jnp.all(jnp.isfinite(columns)) & jnp.all(jnp.isfinite(head))
        scale = jnp.maximum(columns, state.model.scale)
        tri = tri / jnp.where(scale > 0, scale, 1)
        slope = head @ tri
        free = jnp.ones(p, bool)
        lower, upper = _bounds(options, unravel(x), x)
        if lower is not None:
            free = ~(((x <= lower) & (slope > 0)) | ((x >= upper) & (slope < 0)) | (lower == upper))
        length = jnp.where(columns > 0, columns / jnp.where(scale > 0, scale, 1), 1) * norm
        cosine = jnp.max(jnp.abs(slope) / jnp.where(length > 0, length, 1) * free, initial=0.0)
        # Columns that have become small since are no null space: scale by what they are now.
        shrunk = jnp.where(columns > 0, columns / jnp.where(scale > 0, scale, 1), 1)
        newton = _damped(tri / shrunk, head, free, _root(tri))[0] / shrunk
        lengths = _norm(scale * x), _norm(columns * x)
        return _Model(resid, tri, head, scale, free, newton, cosine, norm, *lengths), fine

    def terminate(self, fn, y, args, options, state, tags):
        failed = optx.RESULTS.where(
            state.stop == STOP.nonfinite, optx.RESULTS.nonfinite, optx.RESULTS.nonlinear_divergence
        )
        bad = (state.stop == STOP.nonfinite) | (state.stop == STOP.stuck)
        return state.stop != STOP.running, optx.RESULTS.where(bad, failed, optx.RESULTS.successful)

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        x, _ = jax.flatten_util.ravel_pytree(y)
        lower, upper = _bounds(options, y, x)
        nowhere = jnp.zeros(x.shape, bool)
        stats = {
            "stop": state.stop,
            "num_residuals": state.num_residuals,
            "num_jacobians": state.num_jacobians,
            "gradient": state.model.cosine,
            "at_lower": nowhere if lower is None else x <= lower,
            "at_upper": nowhere if upper is None else x >= upper,
        }
        return y, aux, stats


def _root(tri):
    """Square root of the least damping: what the rounding of `tri` does to a singular value."""
    return 4 * jnp.sqrt(tri.shape[0]) * jnp.finfo(tri.dtype).eps


def _bounds(options: dict[str, Any], y: PyTree, x: Array):
    """Bounds as vectors, both or none."""
    lower, upper = options.get("lower"), options.get("upper")
    if lower is None and upper is None:
        return None, None

    def flat(bound, default):
        if bound is None:
            return jnp.full_like(x, default)
        full = jax.tree.map(lambda b, a: jnp.broadcast_to(b, jnp.shape(a)), bound, y)
        return jax.flatten_util.ravel_pytree(full)[0].astype(x.dtype)

    return flat(lower, -jnp.inf), flat(upper, jnp.inf)


def _region(tri, head, free, newton, radius, damping):
    """Minimise the model in the ball: z and its damping (0 for the Gauss-Newton step)."""
    low = _root(tri) ** 2
    high = _norm((head @ tri) * free) / radius

    def unfinished(carry):
        count, _, _, size, _ = carry
        return (count < 10) & (jnp.abs(size - radius) > 0.1 * radius)

    def improve(carry):
        count, damping, z, size, least = carry
        z, bend = _damped(tri, head, free, jnp.sqrt(damping))
        size = _norm(z)
        newer = damping + (size / radius - 1) * size**2 / bend
        least = jnp.where(size > radius, jnp.maximum(least, damping), least)
        close = jnp.abs(size - radius) <= 0.1 * radius
        return count + 1, jnp.where(close, damping, jnp.maximum(newer, least)), z, size, least

    size = _norm(newton)
    inside = size <= 1.1 * radius
    guess = jnp.clip(damping, low, jnp.maximum(high, low))
    guess = jnp.where(damping > 0, guess, jnp.maximum(low, 1e-3 * high))
    carry = (jnp.array(0), guess, newton, jnp.where(inside, radius, size), low)
    _, damping, z, size, _ = jax.lax.while_loop(unfinished, improve, carry)
    return jnp.where(inside, newton, z), jnp.where(inside, 0.0, damping)


def _next(model, x, lower, upper, radius, damping):
    """The next trial point: its step z, the point, the damping."""
    inverse = 1 / jnp.where(model.scale > 0, model.scale, 1)
    if lower is None:
        z, damping = _region(model.tri, model.head, model.free, model.newton, radius, damping)
        return z, x + z * inverse, damping

    # Walk from z = 0 towards the minimiser of the model; whoever meets a bound stays there while
    # the rest is minimised anew. The model falls along every leg, since it is convex.
    def unfinished(carry):
        return carry[0]

    def leg(carry):
        _, walked, free, low, up, damping = carry
        held = jnp.where(free, 0, walked)
        head = model.head + model.tri @ held
        newton, _ = _damped(model.tri, head, free, _root(model.tri))
        z, damping = _region(model.tri, head, free, newton, radius, damping)
        way = (z - walked) * free * inverse
        here = x + walked * inverse
        room = jnp.where(way < 0, lower - here, upper - here)
        ratio = jnp.where(way != 0, room / jnp.where(way != 0, way, 1), jnp.inf)
        ratio = jnp.maximum(ratio, 0)
        part = jnp.minimum(jnp.min(ratio, initial=jnp.inf), 1)
        hit = free & (ratio <= part) & (part < 1)
        low, up = low | (hit & (way < 0)), up | (hit & (way > 0))
        walked = jnp.where(free, walked + part * (z - walked), walked)
        return part < 1, walked, free & ~hit, low, up, damping

    none = jnp.zeros(x.shape, bool)
    carry = (jnp.array(True), jnp.zeros_like(x), model.free, none, none, damping)
    _, z, _, low, up, damping = jax.lax.while_loop(unfinished, leg, carry)
    trial = jnp.clip(x + z * inverse, lower, upper)
    trial = jnp.where(low, lower, jnp.where(up, upper, trial))
    return (trial - x) * model.scale, trial, damping
