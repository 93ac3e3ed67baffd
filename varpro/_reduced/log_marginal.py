"""The door of the likelihood of alpha without its coefficients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree, Shaped

from .._errors import InputError
from .._given.arguments import shown
from .._problem.columns import Opaque
from .._problem.functions import array_of, check_rows, functions_of, warn_of_single
from .._problem.problem import Problem
from .._programs.program import program
from .._types import ArrayIn
from ..basis import AbstractBasis
from .marginal import Marginal


def log_marginal(
    basis: Callable[[PyTree, PyTree], Inexact[Array, "m n"]] | AbstractBasis,
    y: Shaped[ArrayIn, "m *k"],
    alpha: PyTree = None,
    args: PyTree = None,
    *,
    sigma: Any = None,
    coef_sd: Any = None,
    coef_cov: Any = None,
    coef_mean: Any = None,
    weights: Float[ArrayIn, " m"] | None = None,
    offset: Callable[[PyTree, PyTree], Inexact[Array, " m"]] | None = None,
) -> Float[Array, ""]:
    """The logarithm of the density of y for these nonlinear parameters, the coefficients integrated out.

    With a normal prior c ~ N(mean, S) it is that of the normal distribution of mean `offset + Phi mean` and
    covariance `sigma^2 I + Phi S Phi^T`, determinant included, at the price of a QR factorisation. With a
    flat one (default) it is the integral over all c: then it is a density up to the unit of c, and models
    with other columns must not be compared by it. Pure: for `jit`, `vmap` and `grad`, by alpha, `sigma`, y,
    args and the prior.

    **Arguments:**

    - `basis`, `args`, `offset`: as in `varpro.solve`; `basis` may be a model such as `vp.Exp("a") + vp.Constant("c")`.
    - `y`: data (m,) or (m, k); each of the k columns has coefficients of its own.
    - `alpha`: the parameters, whatever `basis` takes; of a model a dict by name, by default its starts.
    - `sigma`: the standard deviation of the noise, a number or one for each sample (m,). None (default)
        integrates over a common one under Jeffreys' prior d sigma / sigma.
    - `coef_sd`: standard deviation of the coefficients, a number or (n,); infinite for a flat prior. Or
    - `coef_cov`: their covariance S (n, n).
    - `coef_mean`: their mean, zero by default, a number, (n,) or (n, k).
    - `weights`: (m,), one over the standard deviation of each sample up to the factor `sigma`; 0 leaves one out.

    **Returns:** the logarithm, natural. NaN where a coefficient with a flat prior is not determined, and
    where `sigma` is None and nothing tells of the noise. Of complex data `sigma`, and the prior, are those
    of the real and of the imaginary part.

    **Raises:** `InputError` for shapes that do not fit, and a sigma or standard deviation below zero.

    Formulas and sources in `varpro._reduced.marginal`.
    """
    given = functions_of(basis, alpha, args, offset, "alpha")
    y, weights = array_of("y", y), array_of("weights", weights)
    warn_of_single(y)
    known = {"sigma": sigma, "coef_sd": coef_sd, "coef_cov": coef_cov, "coef_mean": coef_mean}
    known = {what: array_of(what, value) for what, value in known.items()}
    _check(known, y, weights)
    return _log_marginal(given.basis, y, given.alpha, args, given.offset, weights, known)


def _check(known: dict[str, Any], y: Any, weights: Any) -> None:
    """Refuse what cannot be, as far as numbers are known."""
    sigma, sd, covariance = known["sigma"], known["coef_sd"], known["coef_cov"]
    if sd is not None and covariance is not None:
        raise InputError("Give coef_sd or coef_cov, not both.", argument="coef_cov")
    if known["coef_mean"] is not None and sd is None and covariance is None:
        raise InputError(
            "coef_mean is for a prior that has coef_sd or coef_cov.", argument="coef_mean"
        )
    if np.ndim(sigma) and weights is not None:
        raise InputError("Give weights, or a sigma for each sample, not both.", argument="sigma")
    if np.ndim(sigma) and np.shape(sigma) != np.shape(y)[:1]:
        raise InputError(
            f"sigma has shape {np.shape(sigma)}; expected a number or one for each of the "
            f"{np.shape(y)[0]} samples.",
            argument="sigma",
        )
    for what, value in (("sigma", sigma), ("coef_sd", sd)):
        if value is None or isinstance(value, jax.core.Tracer):
            continue
        numbers = np.asarray(value)
        fine = numbers > 0 if what == "sigma" else numbers >= 0
        if numbers.dtype.kind not in "iuf" or not np.all(fine):
            raise InputError(f"{what} must be positive, not {shown(value)}.", argument=what)


@program
def _log_marginal(
    basis: Callable,
    y: ArrayIn,
    alpha: PyTree,
    args: PyTree,
    offset: Callable | None,
    weights: ArrayIn | None,
    known: dict[str, Any],
) -> Float[Array, ""]:
    y = jnp.asarray(y, jnp.result_type(y, float))
    m, n = check_rows(basis, alpha, args, y)
    sigma = known["sigma"]
    if sigma is not None and jnp.ndim(sigma):
        weights, sigma = 1.0 / jnp.asarray(sigma), jnp.ones((), y.real.dtype)
    if weights is not None:
        weights = jnp.asarray(weights)
        if weights.shape != (m,):
            raise InputError(
                f"weights has shape {weights.shape}, but there are {m} samples.", argument="weights"
            )
    # Everything of alpha goes to the basis as it is: no vector of coordinates is needed here.
    columns = Opaque(basis, offset, args, _as_it_is)
    problem = Problem(columns, y.reshape(m, -1), weights)
    prior = _prior(known, n, y.reshape(m, -1).shape[1], y.real.dtype)
    found = Marginal.of(problem.phi(alpha), problem.target(alpha), weights=weights, **prior)
    return found.log_marginal() if sigma is None else found.log_density(jnp.asarray(sigma))


def _as_it_is(alpha: PyTree) -> PyTree:
    return alpha


def _prior(known: dict[str, Any], n: int, k: int, real: Any) -> dict[str, Any]:
    """Mean, root and properness of the prior, as `Marginal.of` takes them."""
    sd, covariance, mean = known["coef_sd"], known["coef_cov"], known["coef_mean"]
    if sd is None and covariance is None:
        return {}
    shapes = {"coef_sd": [(), (n,)], "coef_cov": [(n, n)], "coef_mean": [(), (n,), (n, k)]}
    for what, fine in shapes.items():
        value = known[what]
        if value is not None and jnp.shape(value) not in fine:
            expected = " or ".join("a number" if one == () else str(one) for one in fine)
            raise InputError(
                f"{what} has shape {jnp.shape(value)}; expected {expected} for {n} columns.",
                argument=what,
            )
    mean = (
        jnp.zeros((n, 1), real) if mean is None else jnp.asarray(mean, jnp.result_type(mean, real))
    )
    mean = mean[:, None] if mean.ndim == 1 else mean
    if covariance is not None:
        root = jnp.linalg.cholesky(jnp.asarray(covariance))
        return {"mean": mean, "root": root, "proper": jnp.ones(n, real)}
    sd = jnp.broadcast_to(jnp.asarray(sd, real), (n,))
    flat = jnp.isinf(sd)
    mean = jnp.where(flat[:, None], jnp.zeros((), mean.dtype), mean)
    return {"mean": mean, "root": jnp.where(flat, 1.0, sd), "proper": 1.0 - flat.astype(real)}
