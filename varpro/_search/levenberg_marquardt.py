"""Levenberg-Marquardt with bounds, for any residual; the outer loop of varpro.

Once per trial point: the residual, and a small triangular solve per damping. Once per accepted
point: the Jacobian J and one QR of [J | r], after which only p x p numbers are needed.

All decisions are made on numbers without units. With the triangle R and b of

    [J | r] = Q [R b; 0 rho],      D_j = largest norm so far of column j of J (More 1978),

a step s is z = D s, its model is `1/2 || R D^-1 z + b ||^2`, and lengths are compared with
`|| D x ||`, reductions with the cost. Reference: J. J. More, The Levenberg-Marquardt algorithm:
implementation and theory, Lecture Notes in Mathematics 630 (1978).
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._errors import InputError
from .._given.arguments import number
from .._status import STOP
from .trust_region import newton_step, next_trial, norm_of, reciprocal, triangle


class _Model(eqx.Module):
    """What is known at the current point x; renewed when a trial point is accepted."""

    resid: Float[Array, " M"]
    tri: Float[Array, "p p"]  # R D^-1
    head: Float[Array, " p"]  # b
    scale: Float[Array, " p"]  # D, zero while a column has always been zero
    free: Bool[Array, " p"]
    newton: Float[Array, " p"]  # Gauss-Newton step z of the free parameters
    reduction: Float[Array, ""]  # of the cost by that step, relative
    cosine: Float[Array, ""]  # largest between r and a free column of J
    vanished: Bool[Array, ""]  # has a free column become nothing?
    norm: Float[Array, ""]  # || r ||
    length: Float[Array, ""]  # || D x ||
    cancellation_scale: Float[Array, ""]  # size of the numbers of which r is a difference


class _Trial(eqx.Module):
    """The point that is evaluated next."""

    x: Float[Array, " p"]
    step: Float[Array, " p"]  # z that leads there from the current point


class _Region(eqx.Module):
    """How far a step may go."""

    radius: Float[Array, ""]
    damping: Float[Array, ""]


class _Origin(eqx.Module):
    """What the first evaluation settles for the whole run."""

    unit: Float[Array, ""]  # of residuals
    norm: Float[Array, ""]  # || r || there


class _Counts(eqx.Module):
    """The history of the run."""

    num_residuals: Int[Array, ""]
    num_jacobians: Int[Array, ""]
    non_finite: Int[Array, ""]  # trial points in a row
    costs: Float[Array, " h"]  # after each step, as many as `history` asks for


class _State(eqx.Module):
    model: _Model
    trial: _Trial
    region: _Region
    origin: _Origin
    counts: _Counts
    first: Bool[Array, ""]
    stop: STOP
    aux: PyTree


class _Reductions(NamedTuple):
    """What a step did to the cost, relative to the cost before it."""

    actual: Float[Array, ""]
    predicted: Float[Array, ""]
    slope: Float[Array, ""]  # of the cost along the step
    ratio: Float[Array, ""]  # actual / predicted, -1 where nothing is predicted
    moved: Float[Array, ""]  # || change of r ||


class _Verdict(NamedTuple):
    """What is thought of a trial point."""

    finite: Bool[Array, ""]
    close: Bool[Array, ""]  # rounding decides which cost is lower
    accepted: Bool[Array, ""]
    poor: Bool[Array, ""]  # the model promised too much


def _reductions(model: _Model, step: Float[Array, " p"], resid: Float[Array, " M"]) -> _Reductions:
    """The actual reduction is made of differences of residuals, not of their squares, which keeps the
    digits of a small reduction."""
    change = resid - model.resid
    twice = jnp.where(model.norm > 0, model.norm**2, 1.0)
    actual = -jnp.sum(change * (resid + model.resid)) / twice
    image = model.tri @ step
    slope = 2 * jnp.sum(image * model.head) / twice
    predicted = -slope - jnp.sum(image * image) / twice
    ratio = jnp.where(predicted > 0, actual / predicted, -1.0)
    return _Reductions(actual, predicted, slope, ratio, norm_of(change))


def _is_close(
    model: _Model, reductions: _Reductions, eps: float, rounding_factor: float
) -> Bool[Array, ""]:
    """Whether rounding decides which of two costs is lower: a unit in the last place of x moves the cost
    by up to `eps * cancellation_scale / norm`. The gradient still knows the better point."""
    level = 64 * eps * jnp.maximum(1, model.cancellation_scale * reciprocal(model.norm))
    level = jnp.maximum(level, eps * rounding_factor)
    level = jnp.minimum(level, eps**0.4)
    return (model.reduction <= level) & (jnp.abs(reductions.actual) <= level)


def _resized(
    region: _Region,
    reductions: _Reductions,
    verdict: _Verdict,
    size: Float[Array, ""],
    worse: Bool[Array, ""],
    early: Bool[Array, ""],
) -> _Region:
    """The region after a step of length `size`, as in MINPACK's lmder. After a failure it reaches to the
    minimum of the parabola through the cost, its slope and the new cost.

    `worse`: the norm of r grew tenfold or more; `early`: no step has been accepted so far.
    """
    actual, slope = reductions.actual, reductions.slope
    shrink = jnp.where(actual >= 0, 0.5, jnp.clip(0.5 * slope / (slope + actual), 0.1, 0.5))
    shrink = jnp.where(verdict.finite & ~worse & (reductions.predicted > 0), shrink, 0.1)
    well = (region.damping == 0) | (reductions.ratio >= 0.75)
    radius = jnp.where(early, jnp.minimum(region.radius, size), region.radius)
    small = shrink * jnp.minimum(radius, 10 * size)
    radius = jnp.where(verdict.poor, small, jnp.where(well, 2 * size, radius))
    factor = jnp.where(verdict.poor, 1 / shrink, jnp.where(well, 0.5, 1.0))
    return _Region(radius, region.damping * factor)


class LevenbergMarquardt(optx.AbstractLeastSquaresSolver):
    """Minimise `1/2 || r(y) ||^2` within `lower <= y <= upper`.

    A trust region of More's kind: steps solve `min || J s + r ||` with `|| D s || <= radius`.

    **Arguments:**

    - `ftol`: stop when the actual reduction of the cost by a step, the predicted one, and the one
        of a full Gauss-Newton step from the returned point are below `ftol * cost`.
    - `xtol`: stop when the step and the Gauss-Newton step have `|| D s || <= xtol || D y ||`.
    - `gtol`: stop when the cosine between the residual and every free column of J is below.
    - `factor`: the first radius is `factor * max(|| D y ||, || r ||)`; MINPACK recommends 0.1 to 100. Small
        first steps keep to the valley in which the start lies.

    `options` of `optimistix.least_squares` understood: `lower` and `upper` (pytrees like y, may be
    infinite; equal values fix a parameter) and `jacobian`, a callable
    `(y, residual, aux, args) -> (M, p)` with rows in the order of the flattened residual (a complex
    leaf counts as its real, then its imaginary part) and columns in that of the flattened y; or to
    a pair of real arrays, J (M, p) and the residual (M,), both turned by the same orthogonal matrix;
    `data_norm`, the norm of the data if the residual is what a model leaves of them: rounding makes the
    residual uncertain by the precision of the data, not by its own; and `rounding_factor`, the relative
    uncertainty of the cost in units of that precision if it is more; `history`, an integer: the cost
    after each of so many first steps, that of the start first, comes back in `stats["costs"]`; `resume`,
    `(y, aux, args) -> (residual, aux)` in place of the function, with the aux of the last accepted point,
    zeros at first, for functions that are cheaper to evaluate near a known point.

    Optimistix's `rtol`, `atol` and `norm` exist because its interface asks for them: `rtol` is
    `xtol`, `atol` is zero (nothing absolute is compared) and `norm` is not used.
    """

    ftol: float = 1e-16
    xtol: float = 1e-10
    gtol: float = 1e-10
    factor: float = 0.1

    if TYPE_CHECKING:
        # The abstract fields of optimistix look to type checkers like further arguments.
        def __init__(
            self, ftol: float = 1e-16, xtol: float = 1e-10, gtol: float = 1e-10, factor: float = 0.1
        ) -> None: ...

    def __check_init__(self):
        for name in ("ftol", "xtol", "gtol", "factor"):
            value = getattr(self, name)
            if isinstance(value, float | int | str | None):
                if not number(name, value, "solver") >= 0:
                    raise InputError(
                        f"{name} must not be negative, but is {value}.", argument="solver"
                    )

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
        x, unravel = jax.flatten_util.ravel_pytree(y)
        lower, upper = _bounds(options, y, x)
        rows = jax.eval_shape(_rows, f_struct)
        dtype = jnp.result_type(x, rows)
        zero, vector, count = jnp.zeros((), dtype), jnp.zeros(x.shape, dtype), jnp.array(0)
        model = _Model(
            resid=jnp.zeros(rows.shape, dtype),
            tri=jnp.zeros((x.size, x.size), dtype),
            head=vector,
            scale=vector,
            free=jnp.zeros(x.shape, bool),
            newton=vector,
            reduction=zero,
            cosine=zero,
            vanished=jnp.array(False),
            norm=zero,
            length=zero,
            cancellation_scale=zero,
        )
        inside = x if lower is None else jnp.clip(x, lower, upper)
        return _State(
            model=model,
            trial=_Trial(inside, vector),
            region=_Region(zero, zero),
            origin=_Origin(zero, zero),
            counts=_Counts(count, count, count, jnp.zeros(options.get("history", 0), dtype)),
            first=jnp.array(True),
            stop=STOP.running,
            aux=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), aux_struct),
        )

    def step(self, fn, y, args, options, state, tags):
        old, first, step = state.model, state.first, state.trial.step
        x, unravel = jax.flatten_util.ravel_pytree(y)
        resume, there = options.get("resume"), unravel(state.trial.x)
        out, aux = fn(there, args) if resume is None else resume(there, state.aux, args)
        eps = max(float(jnp.finfo(a.dtype).eps) for a in jax.tree.leaves((y, out)))

        # Residuals in units in which the first is about one, so that squares neither overflow nor
        # underflow; a power of two, so that no digit changes.
        rows = _rows(out).astype(old.resid.dtype)
        unit = jax.lax.cond(first, lambda: _unit(rows), lambda: state.origin.unit)
        resid = rows / unit
        norm = norm_of(resid)
        origin = _Origin(unit, jnp.where(first, norm, state.origin.norm))

        reductions = _reductions(old, step, resid)
        better = (reductions.predicted > 0) & (reductions.ratio >= 1e-4)
        close = ~first & _is_close(old, reductions, eps, options.get("rounding_factor", 0.0))
        finite = jnp.isfinite(norm)
        asked = finite & (first | better | close)
        model, sound = jax.lax.cond(
            asked,
            lambda: self._model(fn, args, options, state, unravel, out, aux, resid, norm, unit),
            lambda: (old, jnp.array(True)),
        )
        finite = finite & sound
        accepted = asked & finite & (~close | (model.reduction <= 0.8 * old.reduction))
        poor = ~accepted | ((reductions.ratio <= 0.25) & ~close)
        verdict = _Verdict(finite, close, accepted, poor)
        model = _where(accepted, model, old)
        x = jnp.where(accepted, state.trial.x, x)

        size = norm_of(step)
        early = state.counts.num_jacobians <= 1
        region = _resized(state.region, reductions, verdict, size, ~(norm < 10 * old.norm), early)
        begin = _Region(self.factor * jnp.maximum(model.length, norm), jnp.zeros_like(norm))
        region = _where(first, begin, region)
        counts = _counted(state.counts, verdict, asked, 0.5 * (model.norm * unit) ** 2)
        stop = self._stop(model, reductions, verdict, region, size, origin, counts, first, eps)

        lower, upper = _bounds(options, y, x)
        trial, z, damping = next_trial(model, x, lower, upper, region.radius, region.damping)
        aux = _where(accepted, aux, state.aux)
        new = _State(
            model=model,
            trial=_Trial(trial, z),
            region=_Region(region.radius, damping),
            origin=origin,
            counts=counts,
            first=jnp.array(False),
            stop=stop,
            aux=aux,
        )
        return unravel(x), new, aux

    def _stop(
        self,
        model: _Model,
        reductions: _Reductions,
        verdict: _Verdict,
        region: _Region,
        size: Float[Array, ""],
        origin: _Origin,
        counts: _Counts,
        first: Bool[Array, ""],
        eps: float,
    ) -> STOP:
        """Which test is met by the point that would be returned, so that none needs an accepted step.

        Where J is singular a Gauss-Newton step means nothing; then it has to do that the gradient is small
        and that curvature, not the history of the radius, keeps steps short.
        """
        finite, close, accepted, poor = verdict
        newton = norm_of(model.newton)
        judged = finite & ~first
        flat = poor & (model.cosine <= eps**0.4)
        ftol = (jnp.abs(reductions.actual) <= self.ftol) & (reductions.predicted <= self.ftol)
        ftol = judged & ftol & ((model.reduction <= self.ftol) | flat)
        xtol = judged & (size <= self.xtol * model.length)
        xtol = xtol & ((newton <= self.xtol * model.length) | flat)
        # The floor: r changed by more than Gauss-Newton could still remove from it, on a step too
        # short for curvature; or the Gauss-Newton step is lost in the rounding of x.
        # A jump of r is neither: there the cost has a cliff, and no optimum is found.
        moved = reductions.moved
        noise = (size <= eps**0.5 * model.length) & (norm_of(model.tri @ model.newton) <= moved)
        highest = jnp.maximum(eps**0.25 * model.norm, 64 * eps * model.cancellation_scale)
        noise = noise & (moved <= highest)
        floor = judged & ~accepted & (noise | close | (newton <= 2 * eps * model.length))
        tiny = region.radius <= eps * jnp.maximum(model.length, model.norm)
        stuck = ~first & ~accepted & tiny
        # Zero against what r is a difference of. The second bound ends convergence to x = 0.
        perfect = jnp.maximum(eps * model.cancellation_scale, eps**3 * origin.norm)
        gtol = model.cosine <= self.gtol
        stop = STOP.running
        for test, member in (
            (stuck, STOP.stuck),
            (floor | (stuck & flat), STOP.floor),
            (ftol, STOP.ftol),
            (xtol, STOP.xtol),
            (gtol, STOP.gtol),
            # A gradient that is zero because the column of J has become so proves no optimum.
            ((stuck | floor | ftol | xtol | gtol) & model.vanished, STOP.vanished),
            (model.norm <= perfect, STOP.fit),
            ((counts.non_finite >= _PATIENCE) | (~finite & (stuck | first)), STOP.nonfinite),
        ):
            stop = STOP.where(test, member, stop)
        return stop

    def _model(self, fn, args, options, state, unravel, out, aux, resid, norm, unit):
        """The model at the trial point, and whether its Jacobian is finite."""
        x, y = state.trial.x, unravel(state.trial.x)
        if options.get("jacobian") is None:
            jac = jax.jacfwd(lambda v: _rows(fn(unravel(v), args)[0]))(x)
        else:
            jac = options["jacobian"](y, out, aux, args)
        turned = resid
        if isinstance(jac, tuple):
            jac, turned = jac
            turned = turned.astype(resid.dtype) / unit
        tri, head = triangle(_rows_of_matrix(jac).astype(resid.dtype) / unit, turned)
        columns = jnp.sqrt(jnp.sum(tri * tri, axis=0))
        sound = jnp.all(jnp.isfinite(tri)) & jnp.all(jnp.isfinite(head))
        scale = jnp.maximum(columns, state.model.scale)
        tri = tri * reciprocal(scale)[None, :]
        slope = head @ tri
        free = jnp.ones(x.shape, bool)
        lower, upper = _bounds(options, y, x)
        if lower is not None:
            # At the end of a width the slope may vanish: it is even there.
            outward = ((x <= lower) & (slope >= 0)) | ((x >= upper) & (slope <= 0))
            free = ~(outward | (lower == upper))
        newton = newton_step(tri, head, free)
        image = tri @ newton
        eps = float(jnp.finfo(tri.dtype).eps)
        data_norm = options.get("data_norm", 0.0) / unit
        model = _Model(
            resid=resid,
            tri=tri,
            head=head,
            scale=scale,
            free=free,
            newton=newton,
            reduction=-jnp.sum(image * (2 * head + image)) * reciprocal(norm) ** 2,
            cosine=jnp.max(jnp.abs(slope * scale * reciprocal(columns)) * free) * reciprocal(norm),
            vanished=jnp.any(free & (columns < eps * scale) & (columns * jnp.abs(x) < eps * norm)),
            norm=norm,
            length=norm_of(scale * x),
            cancellation_scale=jnp.maximum(norm_of(columns * x), 4 * data_norm),
        )
        return model, sound

    @staticmethod
    def reached(state: PyTree) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The cost at the current point, and the cosine that `gtol` is compared with."""
        return 0.5 * (state.model.norm * state.origin.unit) ** 2, state.model.cosine

    def terminate(self, fn, y, args, options, state, tags):
        lost = (state.stop == STOP.stuck) | (state.stop == STOP.vanished)
        result = optx.RESULTS.where(
            lost, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful
        )
        result = optx.RESULTS.where(state.stop == STOP.nonfinite, optx.RESULTS.nonfinite, result)
        return state.stop != STOP.running, result

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        x, _ = jax.flatten_util.ravel_pytree(y)
        lower, upper = _bounds(options, y, x)
        nowhere = jnp.zeros(x.shape, bool)
        stats = {
            "stop": state.stop,
            "num_residuals": state.counts.num_residuals,
            "num_jacobians": state.counts.num_jacobians,
            "gradient": state.model.cosine,
            "at_lower": nowhere if lower is None else x <= lower,
            "at_upper": nowhere if upper is None else x >= upper,
        }
        if state.counts.costs.size:
            stats["costs"] = state.counts.costs
        return y, aux, stats


_PATIENCE = 15  # non-finite trial points in a row; each makes the radius ten times smaller


def _counted(
    counts: _Counts, verdict: _Verdict, asked: Bool[Array, ""], cost: Float[Array, ""]
) -> _Counts:
    costs = counts.costs
    if costs.size:  # what lies beyond the end is dropped
        costs = jnp.where(jnp.arange(costs.size) == counts.num_residuals, cost, costs)
    return _Counts(
        num_residuals=counts.num_residuals + 1,
        num_jacobians=counts.num_jacobians + asked,
        non_finite=jnp.where(verdict.finite, 0, counts.non_finite + 1),
        costs=costs,
    )


def _where(pred, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(pred, a, b), new, old)


def _unit(rows: Array) -> Array:
    """A power of two near the largest entry, 1 if that is no use."""
    biggest = jnp.max(jnp.abs(rows), initial=0.0)
    biggest = jax.lax.reduce_precision(biggest, jnp.finfo(rows.dtype).nexp, 0)
    return jnp.where((biggest > 0) & jnp.isfinite(biggest), biggest, jnp.ones_like(biggest))


def _rows(out: PyTree) -> Float[Array, " M"]:
    """All residuals as one real vector: leaf by leaf, a complex leaf as (real, imag)."""
    return jnp.concatenate([_rows_of_matrix(jnp.ravel(leaf)) for leaf in jax.tree.leaves(out)])


def _rows_of_matrix(a: Array) -> Array:
    return jnp.concatenate([a.real, a.imag]) if jnp.iscomplexobj(a) else a


def _bounds(options: dict[str, Any], y: PyTree, x: Array) -> tuple[Array | None, Array | None]:
    """Bounds as vectors, both or none."""

    def flat(bound, default):
        if bound is None:
            return jnp.full_like(x, default)
        full = jax.tree.map(lambda b, a: jnp.broadcast_to(b, jnp.shape(a)), bound, y)
        return jax.flatten_util.ravel_pytree(full)[0].astype(x.dtype)

    lower, upper = options.get("lower"), options.get("upper")
    if lower is None and upper is None:
        return None, None
    return flat(lower, -jnp.inf), flat(upper, jnp.inf)
