"""Noise that is not normal with a known variance: weights that follow the model.

A minimum of a sum of losses `rho(z_i)`, z the weighted residual, is where least squares with the
weights `w_i^2 = rho'(z_i) / (2 z_i)` end where they began; Poisson data have their likelihood's
maximum where least squares with the model's own variance do (Nelder and Wedderburn 1972, McCullagh
and Nelder, Generalized Linear Models, section 2.5). So all of it is least squares, repeated.
"""

from typing import Literal, get_args

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from .._errors import InputError
from .._types import ArrayIn

Noise = Literal["normal", "poisson", "huber", "soft_l1", "cauchy"]
# The least share of the mean that counts as a mean of counts: where the model has none, one count
# must not weigh infinitely.
_LEAST = 1e-4


def check_noise(noise: str, scale: float) -> None:
    """Refuse what is no noise model."""
    if noise not in get_args(Noise):
        raise InputError(f"noise must be one of {get_args(Noise)}, not {noise!r}.")
    if not scale > 0:
        raise InputError(f"loss_scale must be positive, not {scale!r}.")


class Reweighting(eqx.Module):
    """New weights from model, data and given weights, all (m,).

    `scale`: the residual, in units of sigma (or of the data without sigma), from which on a robust
    loss takes it for an outlier; the parameter of scipy's `f_scale`.
    """

    noise: Noise = eqx.field(static=True)
    scale: Float[ArrayIn, ""]

    def __call__(
        self,
        model: Inexact[Array, " m"],
        y: Inexact[Array, " m"],
        given: Float[Array, " m"],
        unit: Float[ArrayIn, ""],
    ) -> Float[Array, " m"]:
        """`unit`: the number by which data, model and hence residuals were divided."""
        if self.noise == "poisson":
            floor = _floor(y, given)
            return jnp.where(given > 0, given / jnp.sqrt(jnp.maximum(model, floor)), 0.0)
        z = _size(jnp.where(given > 0, (y - model) * given, 0.0)) * (unit / self.scale)
        return given * jnp.sqrt(_share(self.noise, z))

    def cost(
        self,
        model: Inexact[Array, " m"],
        y: Inexact[Array, " m"],
        given: Float[Array, " m"],
        unit: Float[ArrayIn, ""],
    ) -> Float[Array, ""]:
        """What is minimised: the function whose gradient by the model is `-w^2 (y - model)` with the
        weights w above, so half the deviance of counts, and half the sum of losses of residuals."""
        used = given > 0
        if self.noise == "poisson":
            # Below the floor it goes on as the parabola that the weight there belongs to.
            floor = _floor(y, given)
            low, mean = model < floor, jnp.maximum(model, floor)
            some = used & (y > 0)
            share = jnp.where(some, y * jnp.log(jnp.where(some, y, 1.0) / mean), 0.0)
            bent = jnp.where(low, (y - model) ** 2 - (y - floor) ** 2, 0.0) / (2 * floor)
            return jnp.sum(jnp.where(used, given**2 * (mean - y + share + bent), 0.0))
        z = _size(jnp.where(used, (y - model) * given, 0.0)) * (unit / self.scale)
        return 0.5 * (self.scale / unit) ** 2 * jnp.sum(_loss(self.noise, z))


def _floor(y: Float[Array, " m"], given: Float[Array, " m"]) -> Float[Array, ""]:
    used = given > 0
    mean = jnp.sum(jnp.where(used, jnp.abs(y), 0.0)) / jnp.maximum(jnp.sum(used), 1)
    return jnp.maximum(_LEAST * mean, jnp.finfo(y.dtype).tiny)


def _size(resid: Inexact[Array, " m"]) -> Float[Array, " m"]:
    """Of a complex residual its distance, whatever its phase."""
    return jnp.abs(resid) if jnp.iscomplexobj(resid) else resid


def _loss(noise: Noise, z: Float[Array, " m"]) -> Float[Array, " m"]:
    """`rho(z)` in scipy's normalisation, rho(z) ~ z^2 for small z."""
    if noise == "huber":
        size = jnp.abs(z)
        return jnp.where(size <= 1.0, z**2, 2 * size - 1.0)
    if noise == "soft_l1":
        return 2 * z**2 / (jnp.sqrt(1.0 + z**2) + 1.0)
    return jnp.log1p(z**2)


def _share(noise: Noise, z: Float[Array, " m"]) -> Float[Array, " m"]:
    """`rho'(z) / (2 z)` of the same."""
    if noise == "huber":
        return 1.0 / jnp.maximum(jnp.abs(z), 1.0)
    if noise == "soft_l1":
        return 1.0 / jnp.sqrt(1.0 + z**2)
    return 1.0 / (1.0 + z**2)
