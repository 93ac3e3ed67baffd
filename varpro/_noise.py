"""Noise that is not normal with a known variance: weights that follow the model.

A minimum of a sum of losses `rho(z_i)`, z the weighted residual, is where least squares with the
weights `w_i^2 = rho'(z_i) / (2 z_i)` end where they began; Poisson data have their likelihood's
maximum where least squares with the model's own variance do (Nelder and Wedderburn 1972, McCullagh
and Nelder, Generalized Linear Models, section 2.5). So all of it is least squares, repeated.
"""

from typing import Literal, get_args

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._results import InputError
from ._types import ArrayIn

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
        model: Float[Array, " m"],
        y: Float[Array, " m"],
        given: Float[Array, " m"],
        unit: Float[ArrayIn, ""],
    ) -> Float[Array, " m"]:
        """`unit`: the number by which data, model and hence residuals were divided."""
        if self.noise == "poisson":
            used = given > 0
            mean = jnp.sum(jnp.where(used, jnp.abs(y), 0.0)) / jnp.maximum(jnp.sum(used), 1)
            floor = jnp.maximum(_LEAST * mean, jnp.finfo(y.dtype).tiny)
            return jnp.where(used, given / jnp.sqrt(jnp.maximum(model, floor)), 0.0)
        z = jnp.where(given > 0, (y - model) * given, 0.0) * (unit / self.scale)
        return given * jnp.sqrt(_share(self.noise, z))


def _share(noise: Noise, z: Float[Array, " m"]) -> Float[Array, " m"]:
    """`rho'(z) / (2 z)`, in scipy's normalisation, rho(z) ~ z^2 for small z."""
    if noise == "huber":
        return 1.0 / jnp.maximum(jnp.abs(z), 1.0)
    if noise == "soft_l1":
        return 1.0 / jnp.sqrt(1.0 + z**2)
    return 1.0 / (1.0 + z**2)
