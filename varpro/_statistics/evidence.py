"""The evidence of a model: the density of the data under it, all parameters integrated out.

The coefficients exactly, sigma exactly where the prior of the coefficients is flat or it is known, and alpha by
Laplace's formula at the mode of the posterior in coordinates z without bounds, with H minus its second derivative,

    log Z = log p(y | z) + log p(z) + d/2 log 2 pi - 1/2 log |H|

(MacKay, Information Theory, Inference, and Learning Algorithms, 2003, chapter 27 f.). It is right as far as the posterior
of z is normal. Under Jeffreys' prior of sigma it is defined up to a factor that all models of the same data share.
"""

import math
from typing import Any

import numpy as np

from .._errors import InputError
from .._types import precision
from .posterior_density import density_of, standard_deviations
from .record import Fitted


def log_evidence(fit: Fitted, coef_sd: Any) -> float:
    """Described in `FitResult.log_evidence`."""
    prior = _log_prior(fit, coef_sd)
    with precision(fit.alpha.dtype):
        density, top = density_of(fit, coef_sd, "evidence")
    if not bool(top.found):
        return math.nan
    d = len(density.sides) + density.samples_sigma
    found = float(top.log_density) + 0.5 * d * math.log(2 * math.pi) + float(top.log_volume)
    # Components that may change places make as many tops of the same height.
    tops = sum(math.lgamma(len(block[0]) + 1) for block in fit.layout.exchange)
    return found + prior + tops


def _log_prior(fit: Fitted, coef_sd: Any) -> float:
    """What the density leaves out: widths of flat priors, and the normalisation of a penalty.

    **Raises:** `InputError` for priors that are not proper.
    """
    layout, total = fit.layout, 0.0
    if layout.chained:
        raise InputError(
            "There is no evidence of a model whose order= holds parameters apart: the volume of what it "
            "allows has no simple formula. Order components that are alike, or use bounds."
        )
    for i in layout.free:
        name = fit.names[i]
        if fit.params[name].prior is not None:
            continue
        place = layout.free.index(i)
        width = float(fit.optimum.upper[place]) - float(fit.optimum.lower[place])
        if not np.isfinite(width):
            raise InputError(
                f"The evidence needs a proper prior of '{name}': finite bounds on both sides, or "
                "vp.Param(prior=(mean, sd)).",
                argument="bounds",
                name=name,
            )
        total -= math.log(width)
    if fit.linear.penalty is not None:
        rows = np.asarray(fit.linear.rows, float)
        sign, logdet = np.linalg.slogdet(rows.T @ rows)
        if sign <= 0 or not np.isfinite(logdet):
            raise InputError("The evidence needs a penalty of every coefficient: ridge=.")
        sides = fit.coef.reshape(len(fit.columns), -1).shape[1]
        parts = 2 if np.iscomplexobj(fit.coef) else 1
        return total + 0.5 * parts * sides * float(logdet)
    sd = standard_deviations(fit, coef_sd)
    if sd is None or not np.isfinite(sd).all():
        raise InputError(
            "The evidence needs a proper prior of every coefficient: coef_sd=, a standard deviation about "
            "zero or {pattern: number}.",
            argument="coef_sd",
        )
    return total
