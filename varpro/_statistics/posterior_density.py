"""The posterior of the parameters of a fit, its coefficients integrated out, in coordinates without bounds.

    p(alpha | y) ~ p(y | alpha) p(alpha)

with p(y | alpha) of `varpro._reduced.marginal`, and a prior that is normal where a parameter has one and else flat
in its value between its bounds. The sampler and Laplace's formula want all numbers allowed, so a coordinate
with bounds is alpha = lower + exp(z), upper - exp(z), or lower + (upper - lower) / (1 + exp(-z)), and the density is
that of z: times the derivative of the values by z (Stan Reference Manual, Constraint transforms). Where sigma
is not known and the prior of the coefficients is proper, log sigma is one more coordinate.
"""

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float

from .._errors import InputError
from .._given.arguments import number
from .._problem.columns import Assembled
from .._problem.linear_constraints import columns as matching
from .._problem.problem import Problem
from .._programs.program import program
from .._reduced.marginal import Marginal
from .._types import ArrayIn
from ..basis import sides_in
from .quantities import noise_variance
from .record import Fitted
from .refit_problem import refit_problem

# Steps of the search for the mode, and how near to a bound it begins, as a part of the way to the other one.
_STEPS, _INSIDE = 512, 1e-3


class Density(eqx.Module):
    """The logarithm of the posterior density as a function of z (d,), d = p or p + 1.

    **Fields:** `problem`; `lower`, `upper` of the coordinates (p,), and which of them there are (`sides`); `sd`
    (n,) of the coefficients that are sought, None for flat priors; `known`, whether sigma is one.
    """

    problem: Problem
    lower: Float[ArrayIn, " p"]
    upper: Float[ArrayIn, " p"]
    sd: Float[ArrayIn, " n"] | None
    sides: tuple[tuple[bool, bool], ...] = eqx.field(static=True)
    known: bool = eqx.field(static=True)

    @property
    def samples_sigma(self) -> bool:
        """Whether log sigma is the last coordinate."""
        return not self.known and self.sd is not None

    def alpha(self, z: Float[Array, " d"]) -> tuple[Float[Array, " p"], Float[Array, ""]]:
        """The coordinates that a search moves, and the logarithm of their derivative by z."""
        found, slope = [], jnp.zeros((), z.dtype)
        for i, (below, above) in enumerate(self.sides):
            low, high, at = jnp.asarray(self.lower)[i], jnp.asarray(self.upper)[i], z[i]
            if below and above:
                found.append(low + (high - low) * jax.nn.sigmoid(at))
                slope += jnp.log(high - low) + jax.nn.log_sigmoid(at) + jax.nn.log_sigmoid(-at)
            elif below or above:
                found.append(low + jnp.exp(at) if below else high - jnp.exp(at))
                slope += at
            else:
                found.append(at)
        return jnp.stack(found), slope

    def marginal(self, alpha: Float[Array, " p"]) -> Marginal:
        """The data without their coefficients."""
        problem, n = self.problem, None
        weights = problem.weights
        if weights is None:
            weights = jnp.ones(problem.y.shape[0], alpha.dtype)
        weights = jnp.asarray(weights)
        weights = jnp.concatenate([weights, weights]) if problem.linear.real else weights
        if (rows := problem.linear.rows) is not None:
            # A penalty is a normal prior up to a factor that alpha does not change.
            weights = jnp.concatenate([weights, jnp.ones(rows.shape[0], weights.dtype)])
        phi, y = problem.phi(alpha), problem.target(alpha)
        if self.sd is None:
            return Marginal.of(phi, y, weights=weights)
        n = phi.shape[1]
        flat = jnp.isinf(jnp.asarray(self.sd))
        root = jnp.where(flat, 1.0, self.sd)
        prior = {"mean": jnp.zeros((n, 1), phi.dtype), "root": root, "proper": 1.0 - flat}
        return Marginal.of(phi, y, weights=weights, **prior)

    def log_likelihood(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """Without the prior of alpha."""
        marginal = self.marginal(self.alpha(z)[0])
        if self.samples_sigma:
            return marginal.log_density(jnp.exp(z[-1]))
        return marginal.log_density(1.0) if self.known else marginal.log_marginal()

    def log_prior(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """That of alpha by z, a flat one without its width; for log sigma it is flat."""
        alpha, slope = self.alpha(z)
        columns = self.problem.columns
        assert isinstance(columns, Assembled)
        layout = columns.layout
        if layout.chained:
            moved = jax.jacfwd(columns.values)(alpha)[np.array(layout.free)]
            slope = slope + jnp.linalg.slogdet(moved)[1]
        prior = columns.prior(alpha)
        if prior is None:
            return slope
        sd = jnp.asarray(columns.numbers.prior_sd)[np.array(columns.priors)]
        normal = -0.5 * jnp.sum(prior**2) - jnp.sum(jnp.log(sd * math.sqrt(2 * math.pi)))
        return slope + normal

    def log_density(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """Minus infinity where there is none."""
        found = self.log_likelihood(z) + self.log_prior(z)
        return jnp.where(jnp.isnan(found), -jnp.inf, found)


class Mode(eqx.Module):
    """The top of a density: `z` (d,), `log_density` there, and `root` (d, d), a square root of the inverse of
    minus its second derivative; `found`, whether the search converged to where that is positive."""

    z: Float[ArrayIn, " d"]
    log_density: Float[ArrayIn, ""]
    root: Float[ArrayIn, "d d"]
    log_volume: Float[ArrayIn, ""]
    found: ArrayIn


@program
def mode(density: Density, start: Float[ArrayIn, " d"], scale: Float[ArrayIn, " d"]) -> Mode:
    """The mode of a density near a start, with steps of the size `scale`."""
    start, scale = jnp.asarray(start), jnp.asarray(scale)

    # With `jit` the search, its ends and the Hessian share one trace of it.
    @jax.jit
    def loss(w):
        return -density.log_density(start + scale * w)

    def cost(w, _):
        return loss(w)

    solver = optx.BFGS(rtol=1e-6, atol=1e-6)
    end = optx.minimise(cost, solver, jnp.zeros_like(start), max_steps=_STEPS, throw=False)
    hessian = jax.hessian(loss)(end.value)
    fine = jnp.all(jnp.isfinite(hessian))
    eye = jnp.eye(start.size, dtype=start.dtype)
    values, vectors = jnp.linalg.eigh(jnp.where(fine, hessian, eye))
    # Directions in which the density does not fall are taken for as wide as the scale.
    safe = jnp.where(values > 1e-8 * jnp.max(jnp.abs(values)), values, 1.0)
    root = scale[:, None] * vectors / jnp.sqrt(safe)
    volume = jnp.sum(jnp.log(scale)) - 0.5 * jnp.sum(jnp.log(safe))
    found = fine & jnp.all(safe == values) & (end.result == optx.RESULTS.successful)
    return Mode(start + scale * end.value, -loss(end.value), root, volume, found)


def density_of(fit: Fitted, coef_sd: Any, what: str) -> tuple[Density, Mode]:
    """The density that a fit makes, and its mode.

    **Raises:** `InputError` for fits whose posterior has no such form.
    """
    _check(fit, what)
    at = refit_problem(fit).problem
    assert isinstance(at, Problem)
    optimum, dtype = fit.optimum, fit.alpha.dtype
    lower, upper = (np.asarray(b, dtype) for b in (optimum.lower, optimum.upper))
    sides = tuple(zip(np.isfinite(lower).tolist(), np.isfinite(upper).tolist(), strict=True))
    sd = standard_deviations(fit, coef_sd)
    known = bool(fit.absolute_sigma)
    density = Density(at, lower, upper, None if sd is None else sd.astype(dtype), sides, known)
    return density, mode.on_host(density, *_start(fit, density))


def standard_deviations(fit: Fitted, coef_sd: Any) -> np.ndarray | None:
    """`coef_sd`, a number or one by pattern of columns, for the coefficients that are sought (n,); infinite
    for columns that no pattern names."""
    if coef_sd is None:
        return None
    if fit.linear.penalty is not None:
        raise InputError(
            "The penalty of this fit (ridge, smooth) is a prior of its coefficients already: leave "
            "coef_sd= out.",
            argument="coef_sd",
        )
    given = coef_sd if isinstance(coef_sd, Mapping) else {"*": coef_sd}
    found = np.full(len(fit.columns), np.inf)
    for pattern, value in given.items():
        sd = number("coef_sd", value)
        if not sd > 0:
            raise InputError(f"coef_sd must be positive, not {value!r}.", argument="coef_sd")
        found[matching(pattern, fit.columns, "coef_sd")] = sd
    inner = np.empty_like(found)
    inner[list(fit.model.order)] = found
    return inner[list(fit.linear.sought)] if fit.linear.sought else inner


def _check(fit: Fitted, what: str) -> None:
    if fit.pooled is not None:
        raise InputError(
            f"There is no {what} of one data set of a global fit: it shares parameters with others. Use "
            "intervals by covariance."
        )
    if fit.noise != "normal":
        raise InputError(
            f"There is no {what} of a fit with noise={fit.noise!r}: coefficients are integrated out under "
            "normal noise. Use fit.ci()."
        )
    if sides_in(fit.model):
        raise InputError(
            f"The response of this fit has a dispersion, and the {what} is for right-hand sides of one basis. "
            "Use fit.ci()."
        )
    if fit.linear.bounded:
        raise InputError(
            f"The coefficients of this fit have bounds (nonnegative= or bounds=), and the {what} has no "
            "formula for that. Fit without them, or use fit.ci(method='profile')."
        )
    if fit.weights is not None and fit.weights.ndim == 2:
        raise InputError(
            f"There is no {what} of a fit whose right-hand sides have weights of their own. Use intervals "
            "by covariance."
        )
    if not fit.success:
        raise InputError(f"A {what} starts from a minimum, and this fit has none: {fit.message}")
    if not fit.layout.free:
        raise InputError(
            f"This fit has no free nonlinear parameter: its {what} is that of linear regression, see "
            "fit.ci()."
        )
    if not fit.absolute_sigma and not (fit.dof > 0 and fit.chisq > 0):
        raise InputError(
            "The residual gives no estimate of the noise (no degrees of freedom, or a perfect fit), "
            f"so there is no {what}. Give sigma with absolute_sigma=True."
        )


def _start(fit: Fitted, density: Density) -> tuple[np.ndarray, np.ndarray]:
    """The optimum of the fit in coordinates z, a little inside of bounds, and standard errors there."""
    optimum, noise = fit.optimum, noise_variance(fit)
    error = np.sqrt(np.sum(np.asarray(optimum.blocks.half, float) ** 2, axis=0) * noise)
    z, scale = [], []
    for i, (below, above) in enumerate(density.sides):
        low, high = float(density.lower[i]), float(density.upper[i])
        at, wide = float(optimum.alpha[i]), float(error[i])
        if not (np.isfinite(wide) and wide > 0):
            wide = 0.1 * (high - low) if below and above else 0.1 * (abs(at) or 1.0)
        if below and above:
            part = np.clip((at - low) / (high - low), _INSIDE, 1 - _INSIDE)
            z.append(np.log(part / (1 - part)))
            scale.append(wide / ((high - low) * part * (1 - part)))
        elif below or above:
            away = max(at - low if below else high - at, _INSIDE * wide)
            z.append(np.log(away))
            scale.append(wide / away)
        else:
            z.append(at)
            scale.append(wide)
        if below or above:
            scale[-1] = min(scale[-1], 1.0)
    if density.samples_sigma:
        z.append(0.5 * np.log(noise))
        scale.append(1 / np.sqrt(2 * max(fit.dof, 1)))
    return np.array(z, fit.alpha.dtype), np.array(scale, fit.alpha.dtype)
