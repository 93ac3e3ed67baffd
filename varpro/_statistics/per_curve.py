"""Degrees of freedom and variances of one curve of a batch; formulas in `varpro._statistics.covariance`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._problem.columns import Assembled
from .._reduced.normal_equations import Moments, coef_variance
from .._types import ArrayIn
from ..linalg._cholesky import inverse


def noise_variance(
    columns: Assembled,
    moments: Moments,
    prior: Float[Array, " s"] | None,
    counted: Int[Array, ""],
    inside: Bool[Array, " l"],
    precise: Float[Array, ""],
    known: Bool[ArrayIn, ""],
) -> tuple[Int[Array, ""] | Float[Array, ""], Float[Array, ""]]:
    """Degrees of freedom of a curve of `counted` real numbers, and the variance of its noise in units of
    the data as they were searched; NaN where neither is `known` nor degrees are left. A coefficient on
    a bound takes none, and of those with a penalty only what the data determine counts.

    `prior` are residuals in units of the data, each one more observation; `inside`: which parameters of
    its own are off their bounds; `precise`: the variance in those units of noise that is known.
    """
    coefficients = jnp.sum(moments.free)
    if (rows := columns.linear.rows) is not None:
        inverted = jnp.where(moments.free, inverse(moments.gram)[0], 0.0)
        coefficients = coefficients - jnp.sum((rows @ inverted) * rows).real
    coefficients = coefficients * (2 if jnp.iscomplexobj(moments.coef) else 1)
    dof = counted + (0 if prior is None else prior.size) - jnp.sum(inside) - coefficients
    squares = moments.squares
    squares = squares if prior is None else squares + jnp.sum(prior**2) / precise
    variance = jnp.where(known, 1.0 / precise, squares / jnp.where(dof > 0, dof, 1))
    return dof, jnp.where((dof > 0) | known, variance, jnp.nan)


def variances(
    columns: Assembled,
    alpha: Float[Array, " p"],
    moments: Moments,
    covariance: Float[Array, "p p"],
    noise: Float[Array, ""] | float,
    lost: Bool[Array, " p"],
    on_bound: Bool[Array, " p"],
    withheld: Bool[Array, " p"],
) -> tuple[Float[Array, " q"], Float[Array, " n"]]:
    """Variances of the parameter values and of the coefficients of one curve.

    `covariance` of alpha is finite, `noise` the variance that adds to the coefficients. What depends on
    alpha that is `lost` is infinite, and values of one that is `withheld` are NaN, as coefficients on their
    bounds are; coefficients do not move with a parameter `on_bound`.
    """
    gram, lost_coef = inverse(moments.gram)
    gram = jnp.where(moments.free, gram, 0.0)
    sensitivity = gram @ jnp.where(on_bound, 0.0, moments.cross)
    transform = jax.jacfwd(columns.values)(alpha)
    moves = transform != 0
    values = jnp.sum((transform @ covariance) * transform, axis=1)
    values = jnp.where(moves @ lost, jnp.inf, values)
    values = jnp.where(moves @ withheld, jnp.nan, values)
    held = ~moments.free
    if columns.linear.mix is not None:
        mix = jnp.asarray(columns.linear.mix)
        leans = mix != 0
        gram, sensitivity = mix @ gram @ mix.T, mix @ sensitivity
        held = jnp.any(leans, axis=1) & ~jnp.any(leans & moments.free, axis=1)
        lost_coef = jnp.any(leans & lost_coef, axis=1)
    moved = jnp.sum((sensitivity @ covariance) * sensitivity.conj(), axis=1).real
    coef = coef_variance(gram) * noise + moved
    coef = jnp.where(lost_coef | ((sensitivity != 0) @ lost), jnp.inf, coef)
    return values, jnp.where(held, jnp.nan, coef)
