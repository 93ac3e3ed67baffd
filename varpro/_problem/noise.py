"""Noise models: what is minimised, the weights that lead there, and the data that can be so.

A minimum of a sum of losses `rho(z_i)`, z the weighted residual, is where least squares with the
weights `w_i^2 = rho'(z_i) / (2 z_i)` end where they began; Poisson data have their likelihood's
maximum where least squares with the model's own variance do (Nelder and Wedderburn 1972, McCullagh
and Nelder, Generalized Linear Models, section 2.5). So all of it is least squares, repeated.

A new noise model is its word in `Noise` and a class in `_MODELS`, or a loss in `_LOSSES`.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from .._errors import InputError
from .._given import arguments
from .._types import ArrayIn

Noise = Literal["normal", "poisson", "huber", "soft_l1", "cauchy"]
# The least share of the mean that counts as a mean of counts: where the model has none, one count
# must not weigh infinitely.
_LEAST = 1e-4


class Pointwise(NamedTuple):
    """The cost of each sample (m,), and its derivatives by the model: the `slope` (of complex data that
    along the residual, as a complex number), what the second is `expected` to be, the square of the
    weight, the `curvature` that it is but not less than nothing, and what it is, `bend`. `least`: the
    least mean where nothing was counted, as a share of the mean count; infinite where no mean has to be
    above zero."""

    cost: Float[Array, " m"]
    slope: Inexact[Array, " m"]
    expected: Float[Array, " m"]
    curvature: Float[Array, " m"]
    bend: Float[Array, " m"]
    least: Float[Array, ""]


class AbstractNoise(eqx.Module):
    """How data scatter about their model.

    `weights` and `cost` take the model, the data y and the given weights 1/sigma, all (m,), and
    `unit`, the number by which data and model were divided.

    **Fields:** `name`, the word of the user; `follows_model`, whether the weights depend on the
    model, so that every value has its own; `variance_known`, whether no residual scales the standard
    errors, whatever absolute_sigma says; `degree`, the power of the data's unit that the cost has;
    `incomparable`, why fits cannot be compared, or an empty text; `refusals`, tests of data that cannot
    have this noise, and what to say of them.
    """

    name: eqx.AbstractVar[str]
    follows_model: eqx.AbstractClassVar[bool]
    variance_known: eqx.AbstractClassVar[bool]
    degree: eqx.AbstractClassVar[int]
    incomparable: eqx.AbstractClassVar[str]
    refusals: eqx.AbstractClassVar[tuple[tuple[Callable[[np.ndarray], Any], str], ...]]

    @abc.abstractmethod
    def weights(
        self,
        model: Inexact[Array, " m"],
        y: Inexact[Array, " m"],
        given: Float[ArrayIn, " m"],
        unit: Float[ArrayIn, ""],
    ) -> Float[Array, " m"]:
        """Weights w of the least squares that have the gradient of `cost`."""

    @abc.abstractmethod
    def cost(
        self,
        model: Inexact[Array, " m"],
        y: Inexact[Array, " m"],
        given: Float[ArrayIn, " m"],
        unit: Float[ArrayIn, ""],
    ) -> Float[Array, ""]:
        """The function that is minimised, whose gradient by the model is `-w^2 (y - model)`."""

    @abc.abstractmethod
    def pointwise(
        self,
        model: Inexact[Array, " m"],
        y: Inexact[Array, " m"],
        given: Float[Array, " m"],
        unit: Float[ArrayIn, ""],
        slack: Float[ArrayIn, ""],
    ) -> Pointwise:
        """The cost sample by sample, and its derivatives by the model. `slack`: the share of the mean
        count that stands for none, which keeps means above zero."""

    @property
    def robust(self) -> bool:
        """Whether `spread` tells the variance, and not the weighted residual."""
        return False

    def spread(
        self,
        model: Inexact[ArrayIn, " m"],
        y: Inexact[ArrayIn, " m"],
        given: Float[ArrayIn, " m"],
        unit: Float[ArrayIn, ""],
        dof: ArrayIn | float,
    ) -> Float[ArrayIn, ""]:
        """What the covariance for unit noise and given weights is multiplied by; of a robust noise."""
        raise NotImplementedError

    def room(
        self, model: Float[Array, " m"], change: Float[Array, " m"], used: Bool[Array, " m"]
    ) -> Float[Array, ""]:
        """The share of a change of the model that leads to the end of what this noise allows."""
        return jnp.full((), jnp.inf, model.dtype)

    def slack(self, dtype: Any) -> float:
        """The last slack of a search in this precision; 0 where no mean has to be above zero."""
        return 0.0

    @abc.abstractmethod
    def deviance(self, fit: Any) -> float:
        """Minus twice the largest log-likelihood of a fit, without terms that all models share."""

    def impossible(self, y: np.ndarray) -> Bool[np.ndarray, "..."]:
        """The values that cannot have this noise, True in the shape of y."""
        bad = np.zeros(y.shape, bool)
        for test, _ in self.refusals:
            bad |= test(y)
        return bad

    def refusal(self, y: np.ndarray) -> str:
        """The sentence on data y that cannot have this noise, or an empty text."""
        return next((sentence for test, sentence in self.refusals if np.any(test(y))), "")


def noise_model(name: str, loss_scale: float = 1.0) -> AbstractNoise:
    """The noise model of that name; `InputError` for what is none, or a scale that is not positive."""
    arguments.choice("noise", name, get_args(Noise))
    if not 0 < arguments.number("loss_scale", loss_scale) < math.inf:
        raise InputError(f"loss_scale must be positive, not {loss_scale!r}.", argument="loss_scale")
    return Robust(name, loss_scale) if name in _LOSSES else _MODELS[name]


def check_noise(noise: AbstractNoise, y: np.ndarray, keep: np.ndarray) -> None:
    """Refuse data (m, k) that cannot have this noise where `keep`, (m,) or (m, k), has them in use."""
    if noise.refusals and (sentence := noise.refusal(y[keep])):
        raise InputError(sentence, argument="noise")


class Normal(AbstractNoise):
    """Normal noise, whose standard deviation the given weights tell: least squares."""

    name: str = eqx.field(static=True, default="normal")
    follows_model = False
    variance_known = False
    degree = 2
    incomparable = ""
    refusals = ()

    def weights(self, model, y, given, unit):
        return given

    def cost(self, model, y, given, unit):
        return 0.5 * jnp.sum(_size(jnp.where(given > 0, (y - model) * given, 0.0)) ** 2)

    def pointwise(self, model, y, given, unit, slack):
        resid = jnp.where(given > 0, y - model, 0.0)
        cost = 0.5 * (_size(resid) * given) ** 2
        square = given**2
        return Pointwise(cost, -square * resid, square, square, square, _nowhere(given))

    def deviance(self, fit):
        return _squares_deviance(fit)


class Poisson(AbstractNoise):
    """Counts, whose variance is their mean; the cost is half their deviance."""

    name: str = eqx.field(static=True, default="poisson")
    follows_model = True
    variance_known = True
    degree = 1
    incomparable = ""
    refusals = (
        (np.iscomplexobj, "noise='poisson' is for counts, but y is complex."),
        (lambda y: y < 0, "noise='poisson' is for counts, but y has negative values."),
    )

    def weights(self, model, y, given, unit):
        mean = jnp.maximum(model, _floor(y, given))
        return jnp.where(given > 0, given / jnp.sqrt(mean), 0.0)

    def cost(self, model, y, given, unit):
        # Below the floor it goes on as the parabola that the weight there belongs to.
        used, floor = given > 0, _floor(y, given)
        low, mean = model < floor, jnp.maximum(model, floor)
        some = used & (y > 0)
        share = jnp.where(some, y * jnp.log(jnp.where(some, y, 1.0) / mean), 0.0)
        bent = jnp.where(low, (y - model) ** 2 - (y - floor) ** 2, 0.0) / (2 * floor)
        return jnp.sum(jnp.where(used, given**2 * (mean - y + share + bent), 0.0))

    def pointwise(self, model, y, given, unit, slack):
        used = given > 0
        mean = jnp.sum(jnp.where(used, jnp.abs(y), 0.0)) / jnp.maximum(jnp.sum(used), 1)
        mean = jnp.maximum(mean, jnp.finfo(y.dtype).tiny ** 0.25)
        count = jnp.maximum(y, slack * mean)
        # Below the floor, where no search ends, it goes on as the parabola that it has there.
        floor = 1e-3 * slack * mean
        level, below = jnp.maximum(model, floor), jnp.minimum(model - floor, 0.0)
        slope, bend = 1.0 - count / level, count / level**2
        cost = level - count + count * jnp.log(count / level)
        cost = cost + slope * below + 0.5 * bend * below**2
        square = jnp.where(used, given**2, 0.0)
        empty = used & (y < 0.1 * mean)
        least = jnp.min(jnp.where(empty, model, jnp.inf)) / mean
        return Pointwise(
            *(square * cost, square * (slope + bend * below), square / level),
            *(square * bend, square * bend),
            jnp.minimum(least, jnp.min(jnp.where(used, model, jnp.inf)) / mean),
        )

    def room(self, model, change, used):
        falls = used & (model > 0) & (change < 0)
        return jnp.min(jnp.where(falls, model / jnp.where(falls, -change, 1.0), jnp.inf))

    def slack(self, dtype):
        return float(jnp.finfo(dtype).eps) ** 0.5

    def deviance(self, fit):
        """How much less likely counts are under the model than under themselves; infinite where the
        model has nothing and something was counted."""
        used = fit.weights_of_all > 0
        y, mean = np.asarray(fit.y)[used], np.asarray(fit.fitted)[used]
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.where(y > 0, y * np.log(y / np.maximum(mean, 0.0)), 0.0)
        return float(2.0 * np.sum(log - y + np.maximum(mean, 0.0)))


class Robust(AbstractNoise):
    """Normal noise with outliers, which a loss forgives; the cost is half the sum of losses.

    `scale`: the residual, in units of sigma (or of the data without sigma), from which on the loss
    takes it for an outlier; the parameter of scipy's `f_scale`.
    """

    name: str = eqx.field(static=True)
    scale: Float[ArrayIn, ""] | float
    follows_model = True
    variance_known = False
    degree = 2
    incomparable = (
        "forgives outliers, other ones for each model. Compare fits with normal noise, of which "
        "outliers are left out with mask=."
    )
    refusals = ()

    def weights(self, model, y, given, unit):
        z = _size(jnp.where(given > 0, (y - model) * given, 0.0)) * (unit / self.scale)
        return given * jnp.sqrt(_LOSSES[self.name][1](jnp, z))

    def cost(self, model, y, given, unit):
        z = _size(jnp.where(given > 0, (y - model) * given, 0.0)) * (unit / self.scale)
        return 0.5 * (self.scale / unit) ** 2 * jnp.sum(_LOSSES[self.name][0](jnp, z))

    def pointwise(self, model, y, given, unit, slack):
        resid = jnp.where(given > 0, y - model, 0.0)
        z = _size(resid) * given * (unit / self.scale)
        loss, weight, bend = _LOSSES[self.name]
        square = given**2 * weight(jnp, z)
        # A little of what is expected where the loss is flat: not all samples may be outliers.
        curvature = given**2 * jnp.maximum(bend(jnp, z), 0.05 * weight(jnp, z))
        cost = jnp.asarray(0.5 * (self.scale / unit) ** 2 * loss(jnp, z))
        as_is = given**2 * bend(jnp, z)
        return Pointwise(cost, -square * resid, square, curvature, as_is, _nowhere(given))

    @property
    def robust(self):
        return True

    def spread(self, model, y, given, unit, dof):
        # The sandwich for noise of one distribution (Huber, Robust Statistics, 1981, 7.6), with psi the
        # derivative of the cost by the residual in units of sigma, P parameters and N data:
        #   K^2 [sum psi^2 / (N - P)] / [mean psi']^2,      K = 1 + (P / N) var(psi') / mean(psi')^2
        # Of one fit by NumPy: operations one by one would be as many programs for each number of data.
        xp: Any = np if isinstance(model, np.ndarray) else jnp
        y, given, model = (xp.asarray(a) for a in (y, given, model))
        used = given > 0
        _, weight, bend = _LOSSES[self.name]
        with np.errstate(all="ignore"):
            size = _size(xp.where(used, (y - model) * given, 0.0))
            z = size * (unit / self.scale)
            psi, slope, parts = weight(xp, z) * size, bend(xp, z), 1
            if np.iscomplexobj(y):
                # Each part of a residual that may have any phase.
                slope, parts = 0.5 * (slope + weight(xp, z)), 2
            count = xp.maximum(xp.sum(used), 1)
            mean = xp.sum(xp.where(used, slope, 0.0)) / count
            rest = xp.sum(xp.where(used, (slope - mean) ** 2, 0.0)) / count
            lost = mean <= 0
            mean = xp.where(lost, 1.0, mean)
            share = 1.0 - dof / (parts * count)
            factor = (1.0 + share * rest / mean**2) / mean
            squares = xp.sum(psi**2) / xp.where(dof > 0, dof, 1)
            return xp.where(lost, xp.inf, xp.where(dof > 0, factor**2 * squares, xp.nan))

    def deviance(self, fit):
        return _squares_deviance(fit)


# `rho(z)` in scipy's normalisation, rho(z) ~ z^2 for small z; `rho'(z) / (2 z)`; and `rho''(z) / 2`.
# Each with NumPy or its likes and z.
_Function = Callable[[Any, Any], Any]
_LOSSES: dict[str, tuple[_Function, _Function, _Function]] = {
    "huber": (
        lambda xp, z: xp.where(xp.abs(z) <= 1.0, z**2, 2 * xp.abs(z) - 1.0),
        lambda xp, z: 1.0 / xp.maximum(xp.abs(z), 1.0),
        lambda xp, z: xp.where(xp.abs(z) <= 1.0, 1.0, 0.0),
    ),
    "soft_l1": (
        lambda xp, z: 2 * z**2 / (xp.sqrt(1.0 + z**2) + 1.0),
        lambda xp, z: 1.0 / xp.sqrt(1.0 + z**2),
        lambda _, z: (1.0 + z**2) ** -1.5,
    ),
    "cauchy": (
        lambda xp, z: xp.log1p(z**2),
        lambda _, z: 1.0 / (1.0 + z**2),
        lambda _, z: (1.0 - z**2) / (1.0 + z**2) ** 2,
    ),
}
NORMAL = Normal()
_MODELS: dict[str, AbstractNoise] = {"normal": NORMAL, "poisson": Poisson()}


def _floor(y: Float[Array, " m"], given: Float[ArrayIn, " m"]) -> Float[Array, ""]:
    used = given > 0
    mean = jnp.sum(jnp.where(used, jnp.abs(y), 0.0)) / jnp.maximum(jnp.sum(used), 1)
    return jnp.maximum(_LEAST * mean, jnp.finfo(y.dtype).tiny)


def _nowhere(given: Float[Array, " m"]) -> Float[Array, ""]:
    return jnp.full((), jnp.inf, given.dtype)


def _size(resid: Any) -> Any:
    """Of a complex residual its distance, whatever its phase."""
    return abs(resid) if np.iscomplexobj(resid) else resid


def _squares_deviance(fit: Any) -> float:
    """Chi-square, or what it leaves where sigma is fitted too."""
    if fit.absolute_sigma:
        return fit.chisq
    return fit.num_data * math.log(fit.chisq / fit.num_data) if fit.chisq > 0 else -math.inf
