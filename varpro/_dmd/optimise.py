"""All rows searched at the price of a few.

With `W [Phi x Phi] = [Q U] [R S; 0 T]` (x Phi are the derivatives, x the times) the data count by
`Q^H W Y` and `U^H W Y` alone:

    C = R^{-1} Q^H W Y,    gradient = -Re <(x Phi)^H W resid, C>,    (x Phi)^H W resid = T^H U^H W Y

One product with Y at some alpha tells all that. Its rows span the coefficients and how they change to
first order; with V (k, 2n) an orthonormal basis of them the data Y V have the gradient and the
Gauss-Newton matrix of Y there, and these few columns are searched instead. Where that ends, the
gradient for all rows is looked at again: where a Gauss-Newton step would lead nowhere, it is their
optimum, else a new V is made. One to three rounds do for all but the noisiest data; those are
compressed (`varpro._problem.compress`).
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._problem.compress import compress
from .._problem.problem import Problem
from .._programs.program import program
from .._reduced.common_basis import Reduced
from .._search.levenberg_marquardt import LevenbergMarquardt
from .._search.minimise import Search, locate
from .._statistics.covariance import (
    coefficient_sensitivity,
    parameter_covariance,
    without_rounding_coefficients,
)
from .._status import Status
from .._types import ArrayIn
from .exponentials import Exponentials, Spectrum
from .initial import along

# Rounds, and the step, in standard errors, that ends them.
_ROUNDS, _STILL = 8, 1e-6
# Tolerance of the first round.
_LOOSE = 1e-5
# The part of the squares of Y above which those of the residual are taken as a difference.
_DIFFERENCE = 1e-6
# Numbers of the residual that are formed at a time.
_LARGE = 2**22


class _Look(NamedTuple):
    """One look at all data: `seen` (2n, k), what `W [Phi x Phi]` sees of them; the inverse
    `(W Phi)^+` (n, m); coefficients (n, k); the gradient (p,); the squares of the fit."""

    seen: np.ndarray
    inverse: np.ndarray
    coef: np.ndarray
    gradient: np.ndarray
    fitted: float


def optimise(
    spectrum: Spectrum,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    alpha: np.ndarray,
    limits: PyTree,
    how: Search,
) -> dict[str, PyTree]:
    """The optimum for data y (m, k) and what its errors are made of, for the host."""
    columns = Exponentials(x, spectrum)
    weighted = y if weights is None else y * weights[:, None]
    squares = _squares(weighted)
    steps = evaluations = 0
    look = _look(spectrum, x, y, weights, alpha)
    for number in range(_ROUNDS):
        # The last round has all of the data, in as few columns as there are samples.
        few = look.seen.shape[0] if number < _ROUNDS - 1 else len(y)
        if y.shape[1] <= 2 * few:
            some = y
        else:
            some = along(y, look.seen) if number < _ROUNDS - 1 else compress(y).columns
        some = np.ascontiguousarray(some)
        problem = Problem(columns, some, weights)
        # What the first few columns know is not worth more digits.
        loose = number == 0 and some.shape != y.shape
        found = _search(problem, alpha, limits, _rough(how) if loose else how)
        found = jax.device_get(found)
        alpha = found["alpha"]
        steps += int(found["status"].num_steps)
        evaluations += max(int(found["status"].num_residuals), 0)
        if not np.isfinite(alpha).all():
            break
        look = _look(spectrum, x, y, weights, alpha)
        left = max(squares - look.fitted, np.finfo(x.dtype).eps * squares)
        step = found["half"] @ np.where(found["on_bound"], 0.0, look.gradient)
        if (
            np.linalg.norm(step) <= _STILL * np.sqrt(left / y.size)
            or some.shape == y.shape
            or number == _ROUNDS - 1
        ):
            break
    chisq = squares - look.fitted
    if chisq < _DIFFERENCE * squares:
        chisq = _chisq(weighted, _columns(spectrum, x, alpha, weights)[0], look.coef)
    projector = look.inverse if weights is None else look.inverse * weights
    return found | {
        "coef": look.coef,
        "inner": look.coef @ look.coef.conj().T,
        "inverse": look.inverse,
        "projector": projector,
        "chisq": chisq,
        "status": dataclasses.replace(
            found["status"], num_steps=np.array(steps), num_residuals=np.array(evaluations)
        ),
    }


def _rough(how: Search) -> Search:
    if not isinstance(how.solver, LevenbergMarquardt):
        return how
    ends = [np.asarray(_LOOSE, np.asarray(how.solver.ftol).dtype)] * 3
    return eqx.tree_at(lambda h: [h.solver.ftol, h.solver.xtol, h.solver.gtol], how, ends)


def _columns(
    spectrum: Spectrum, x: np.ndarray, alpha: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted columns and those times x."""
    re, single, im = spectrum.split(alpha)
    at = x[:, None]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        wave = np.exp((re + 1j * im) * at)
        if spectrum.paired:
            wave = np.concatenate([np.real(wave), np.imag(wave), np.exp(single * at)], axis=1)
    wave = wave.astype(x.dtype if spectrum.paired else np.result_type(x, 1j), copy=False)
    wave = wave if weights is None else wave * weights[:, None]
    return wave, wave * at


def _look(
    spectrum: Spectrum, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, alpha: np.ndarray
) -> _Look:
    phi, moved = _columns(spectrum, x, alpha, weights)
    n = phi.shape[1]
    size = np.linalg.norm(phi, axis=0)
    size = np.where(np.isfinite(size) & (size > 0), size, 1.0)
    q, upper = np.linalg.qr(np.nan_to_num(np.concatenate([phi / size, moved / size], axis=1)))
    basis = q if weights is None else q * weights[:, None]
    # In this order nothing of the size of Y is copied.
    seen = (y.T @ basis.conj()).T
    top = np.linalg.pinv(upper[:n, :n], rcond=n * np.finfo(x.dtype).eps)
    coef = (top @ seen[:n]) / size[:, None]
    against = (upper[n:, n:].conj().T @ seen[n:]) * size[:, None]
    inverse = (top @ q[:, :n].conj().T) / size[:, None]
    gradient = -spectrum.gradient(against, coef)
    return _Look(seen, inverse, coef, gradient, _squares(seen[:n]))


def _squares(a: np.ndarray) -> float:
    # Of data whose rows are contiguous, without a copy.
    flat = (a.T if a.flags.f_contiguous else a).reshape(-1)
    return float(np.vdot(flat, flat).real)


def _chisq(y: np.ndarray, phi: np.ndarray, coef: np.ndarray) -> float:
    """The sum of squares of what is left of weighted data."""
    total, width = 0.0, max(_LARGE // len(y), 1)
    for first in range(0, y.shape[1], width):
        part = y.T[first : first + width] - coef[:, first : first + width].T @ phi.T
        total += _squares(part)
    return total


def entries(problem: Problem, alpha: ArrayIn, *_: object) -> float:
    """Numbers that one evaluation makes: columns, derivatives and residuals, each of two real ones."""
    m, k = problem.y.shape
    p = np.shape(alpha)[-1]
    return float(2 * m * (p / 2 + p + k))


@program(entries=entries)
def _search(problem: Problem, alpha: ArrayIn, limits: PyTree, how: Search) -> dict[str, PyTree]:
    """The optimum of some data and the errors there, one program per shape."""
    reduced = Reduced(problem, how.linear_solver, how.jacobian)
    alpha, found, point = locate(reduced, limits, jnp.asarray(alpha), how)
    lower, upper = limits
    on_bound = (
        jnp.zeros(alpha.shape, bool) if lower is None else (alpha <= lower) | (alpha >= upper)
    )
    factor = point.factor
    surely, heard_point = without_rounding_coefficients(reduced, alpha, point)
    known = parameter_covariance(surely.rotated(alpha, heard_point)[0], on_bound)
    eye = jnp.eye(point.coef.shape[0], dtype=point.coef.dtype)
    # A coefficient vector c moves with alpha by -(turn c), c = Phi^+ Y.
    turn = coefficient_sensitivity(problem, factor, alpha, eye).transpose(1, 0, 2)
    return {
        "alpha": alpha,
        "status": Status.of(found.result, found.stats),
        "half": known.half,
        "lost": known.lost_alpha,
        "gram_inv": factor.gram_inv(eye) / factor.scale[:, None] / factor.scale,
        "turn": jnp.where(on_bound, jnp.zeros((), turn.dtype), turn),
        "on_bound": on_bound,
        "rank": factor.rank,
        "cond": factor.cond,
    }
