"""Starting points that cover the box of the free coordinates, and the best of where they lead."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._errors import InputError
from .._given.arguments import flag, whole
from .._parameters.inverses import Inverses
from .._parameters.layout import Coordinates
from .._reduced.abstract import AbstractReduced
from .._status import RESULTS
from .minimise import Search, SearchEnd, locate

# Starts that are searched at the same time: all wait for the slowest of them.
_LANES = 8

# Of how many steps the costs are kept, for those who want to see how a fit converged.
_HISTORY = 512

# How far from its start a coordinate without bounds is sought: half a decade, either way.
_DECADES = 0.5


class Multistart(eqx.Module):
    """How to look for the lowest of all optima: the search from each of `starts` points that `seed`
    tells, and whether with compressed right-hand sides, None for where that pays."""

    local: Search
    starts: int = 1
    seed: int = 0
    compress: bool | None = None

    def __check_init__(self):
        whole("seed", self.seed, 0)
        if self.compress is not None:
            flag("compress", self.compress)
        if whole("starts", self.starts) < 1:
            raise InputError(f"starts must be at least 1, not {self.starts}.", argument="starts")

    def points(self, coordinates: Coordinates) -> np.ndarray:
        """The starts (starts, p) in these coordinates."""
        return start_points(coordinates, self.starts, self.seed)


def start_points(coordinates: Coordinates, count: int, seed: int) -> np.ndarray:
    """`count` starts (count, p): the given one, then scrambled Sobol points of the box around it.

    Between two finite bounds of one sign that are more than a decade apart points are spread by
    logarithm, between other finite bounds evenly. A coordinate that lacks a bound is spread over
    `start * 10^(-0.5 ... 0.5)`, or over -1 ... 1 if it starts at zero, and kept inside its bounds.
    """
    start, lower, upper = coordinates.start, coordinates.lower, coordinates.upper
    p = start.size
    if count == 1 or p == 0:
        return start[None].repeat(count, axis=0)
    from scipy.stats import qmc  # takes a second to import, and most fits have one start

    sobol = qmc.Sobol(p, scramble=True, rng=np.random.default_rng(seed))
    unit = sobol.random_base2(int(np.ceil(np.log2(count))))[: count - 1]
    points = np.empty((count, p))
    points[0] = start
    for j in range(p):
        points[1:, j] = _spread_points(unit[:, j], start[j], lower[j], upper[j])
    return points


def _spread_points(unit: np.ndarray, start: float, lower: float, upper: float) -> np.ndarray:
    if np.isfinite(lower) and np.isfinite(upper):
        if lower * upper > 0 and max(lower / upper, upper / lower) > 10.0:
            return lower * (upper / lower) ** unit
        return lower + (upper - lower) * unit
    if start == 0.0:
        return np.clip(2.0 * unit - 1.0, lower, upper)
    return np.clip(start * 10.0 ** (_DECADES * (2.0 * unit - 1.0)), lower, upper)


def best_of(
    reduced: AbstractReduced,
    points: Array,
    limits: tuple[Array | None, Array | None],
    how: Search,
    inverses: Inverses | None = None,
    values: Callable[[Array], Array] | None = None,
) -> tuple[Array, SearchEnd, PyTree, Array]:
    """The optimum of least cost over all starts, and the costs where each of them ended; `inverses` and
    `values` as in `locate`."""

    def search_from(point):
        num_costs = min(how.max_steps, _HISTORY)
        given = reduced, limits, point, how, num_costs, inverses, values
        alpha, ends, point_values = locate(*given)
        return alpha, ends, point_values, reduced.cost(alpha, point_values)

    if len(points) == 1:
        alpha, ends, point_values, cost = search_from(points[0])
        return alpha, ends, point_values, cost[None]

    def lane(point):
        alpha, ends, _, cost = search_from(point)
        return alpha, ends, cost

    # Of several at a time no one could tell in order.
    lanes = _LANES if how.watch is None else None
    alpha, ends, costs = jax.lax.map(lane, points, batch_size=lanes)
    costs = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
    # Of equal costs, one that passed a test of convergence.
    failed = ends.result != RESULTS.successful
    best = jnp.argmin(costs * (1.0 + jnp.where(failed, 1e-6, 0.0)))
    alpha, ends = jax.tree.map(lambda a: a[best], (alpha, ends))
    return alpha, ends, reduced.evaluate(alpha)[1], costs
