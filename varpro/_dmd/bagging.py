"""Dynamic modes of random subsets of the snapshots: how much they depend on which there are.

Fits of b of m snapshots, drawn without replacement, spread more than fits of all of them would: with
the deviations of S of them from their mean, a standard error of the fit of all is the root of

    b / (m - b)  *  1 / S  *  sum of squared deviations              (the delete-d jackknife, d = m - b)

(Shao and Wu, Ann. Statist. 17, 1176 (1989)). Sashidhar and Kutz, Phil. Trans. R. Soc. A 380, 20210199
(2022), report the spread itself, which is `std`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._problem.problem import Problem
from .._programs.program import program
from .._reduced.common_basis import Reduced
from .._search.minimise import Search, locate
from .._status import Status
from .._types import ArrayIn
from ..linalg._carried import carried
from .exponentials import Exponentials, Spectrum
from .optimise import entries

# Bags that are searched side by side: all wait for the slowest.
_LANES = 8


class DmdBags(eqx.Module):
    """Eigenvalues of subsets of the snapshots.

    **Fields:** `eigenvalues` (S, r), in the order of those of the fit; `status` of each; `size` of a
    bag and `total`, the number of snapshots; `projector` (S, r, m), which makes coefficients of data.
    Bags that did not converge are left out of what follows from them, and counted in `failed`.
    """

    eigenvalues: np.ndarray
    status: np.ndarray
    size: int
    total: int
    projector: np.ndarray

    @property
    def ok(self) -> np.ndarray:
        """Flags (S,) of the bags that converged."""
        return (self.status == "successful") & np.isfinite(self.eigenvalues).all(axis=1)

    @property
    def failed(self) -> int:
        """Number of bags that did not converge."""
        return int(np.sum(~self.ok))

    @property
    def factor(self) -> float:
        """Ratio of a standard error of the fit of all snapshots to the standard deviation over bags,
        `sqrt(b / (m - b))`."""
        return float(np.sqrt(self.size / (self.total - self.size)))

    @property
    def mean(self) -> np.ndarray:
        """Mean eigenvalues (r,) of the bags that converged; `InputError` if they are fewer than 2."""
        return self._converged().mean(axis=0)

    @property
    def std(self) -> np.ndarray:
        """Standard deviations over bags (r,), of the real part as real part, of the imaginary as
        imaginary part."""
        converged = self._converged()
        return np.real(converged).std(axis=0) + 1j * np.imag(converged).std(axis=0)

    @property
    def stderr(self) -> np.ndarray:
        """Standard errors (r,) of the eigenvalues of the fit of all snapshots: of real parts as real
        parts, of imaginary parts as imaginary parts."""
        return self.factor * self.std

    def _converged(self) -> np.ndarray:
        """Eigenvalues (S, r) of the bags that converged; raises `InputError` if they are fewer than 2."""
        if np.sum(self.ok) < 2:
            raise InputError(
                f"{self.failed} of {len(self.ok)} bags did not converge: too few are left. Give larger "
                "bags, or fewer eigenvalues."
            )
        return self.eigenvalues[self.ok]

    def spread(self, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over bags of the coefficients (r, k) of data (m, k), in units of
        the data; standard deviations of real and imaginary part as real and imaginary part.

        **Raises:** `InputError` if fewer than 2 bags converged.
        """
        self._converged()
        projectors = self.projector[self.ok]
        mean = projectors.mean(axis=0) @ data
        real, imag = np.zeros(mean.shape), np.zeros(mean.shape)
        for projector in projectors:
            deviation = projector @ data - mean
            real += deviation.real**2
            imag += deviation.imag**2
        return mean, np.sqrt(real / len(projectors)) + 1j * np.sqrt(imag / len(projectors))


def draw_bags(
    problem: Problem,
    alpha: np.ndarray,
    limits: PyTree,
    how: Search,
    sizes: tuple[int, int],
    key: int | Array,
) -> dict[str, np.ndarray]:
    """Fit S bags of b snapshots, `sizes` = (S, b), that `key` draws from those of weight above zero.

    **Returns:** coordinates "alpha" (S, p), "status" (S,) and "projector" (S, n, m).
    """
    count, size = sizes
    key = jax.random.key(key) if isinstance(key, int | np.integer) else key
    used = (
        np.arange(problem.y.shape[0])
        if problem.weights is None
        else np.flatnonzero(problem.weights > 0)
    )
    bag_numbers = np.arange(count, dtype=np.uint32)
    bags = _bags(problem, alpha, limits, how, used.astype(np.int32), key, bag_numbers, size)
    return jax.device_get(bags)


def _entries(problem: Problem, alpha: ArrayIn, *rest: Any) -> float:
    numbers = rest[4]
    return entries(problem, alpha) * np.shape(numbers)[0]


@program(entries=_entries)
def _bags(
    problem: Problem,
    alpha: ArrayIn,
    limits: PyTree,
    how: Search,
    used: ArrayIn,
    key: PyTree,
    numbers: ArrayIn,
    size: int,
) -> dict[str, Array]:
    """Fit the bags of `numbers`, some side by side, each from `alpha`."""
    columns = problem.columns
    assert isinstance(columns, Exponentials)
    x, y, used, alpha = (jnp.asarray(a) for a in (columns.x, problem.y, used, alpha))
    weights = None if problem.weights is None else jnp.asarray(problem.weights)

    def fit_bag(number):
        permuted = jax.random.permutation(jax.random.fold_in(key, number), used)
        chosen = jnp.sort(permuted[:size])
        w = None if weights is None else weights[chosen]
        bag = Problem(Exponentials(x[chosen], columns.spectrum), y[chosen], w)
        reduced = Reduced(bag, how.linear_solver, how.jacobian)
        begin = carried(alpha, number)
        optimum, search_outcome, point = locate(reduced, limits, begin, how)
        inverse = point.factor.coefficients(jnp.eye(size, dtype=point.coef.dtype))
        inverse = inverse if w is None else inverse * w
        projector = jnp.zeros((inverse.shape[0], x.size), inverse.dtype)
        return {
            "alpha": optimum,
            "projector": projector.at[:, chosen].set(inverse),
            "status": Status.of(search_outcome.result, search_outcome.stats).result,
        }

    return jax.lax.map(fit_bag, jnp.asarray(numbers), batch_size=_LANES)


def assemble_bags(
    bags: dict[str, np.ndarray],
    spectrum: Spectrum,
    fitted: np.ndarray,
    order: np.ndarray,
    size: int,
    total: int,
) -> DmdBags:
    """Assemble `DmdBags`, the eigenvalues of each in the order of those of the fit, `fitted[order]`, by
    the assignment of least distance."""
    from scipy.optimize import linear_sum_assignment

    eigenvalues, projectors = [], []
    for alpha, projector in zip(bags["alpha"], bags["projector"], strict=True):
        values, coefficients = spectrum.eigenvalues(alpha), spectrum.coefficients(projector)
        matching = order
        if np.isfinite(values).all():
            _, matching = linear_sum_assignment(np.abs(fitted[order][:, None] - values))
        eigenvalues.append(values[matching])
        projectors.append(coefficients[matching])
    status = Status.names(bags["status"])
    return DmdBags(np.array(eigenvalues), status, size, total, np.array(projectors))
