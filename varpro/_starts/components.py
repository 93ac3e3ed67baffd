"""Components whose parameters are sought, on the host: their columns, and steps that improve them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ..basis import AbstractBasis, without_names
from .damped_steps import improved

Box = tuple[float, float]
Values = dict[str, float]

# Steps at most, and the gain in the sum of squares below which there is no further one.
_STEPS, _GAIN = 6, 1e-2


class SoughtComponent(NamedTuple):
    """A component that needs a start, and the interval of each of its parameters, by local name."""

    part: AbstractBasis
    box: dict[str, Box]

    @property
    def formula(self) -> object:
        """A key that is equal for components that differ in their names and parameters alone."""
        leaves, structure = jax.tree.flatten(without_names(self.part))
        return structure, tuple(np.asarray(leaf).tobytes() for leaf in leaves), tuple(self.box)

    @property
    def kind(self) -> object:
        """A key that is equal for components of one formula and equal boxes."""
        return self.formula, tuple(self.box.values())


def on_host(part: AbstractBasis, x: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Evaluate a component on host arrays: columns (m, n) for one value of each parameter, (m, g) for
    g values of each, as the bases of varpro make host arrays from host arrays."""
    return np.asarray(part.evaluate(x, values))


class Components:
    """Components that are sought, `slots`, with the rows `x` (m,), their weights `scale` (m,), known
    columns `q` (m, l) orthonormal, and data `y` (m, k) free of them. `growth`: whether what grows is among
    the candidates.

    An estimate is a list of values by local name, one entry for every slot, None for one that is
    empty. `grids` holds the candidates of every slot by local name.
    """

    def __init__(
        self,
        slots: Sequence[SoughtComponent],
        x: np.ndarray,
        scale: np.ndarray,
        q: np.ndarray,
        y: np.ndarray,
        growth: bool = False,
    ):
        self.slots, self.x, self.scale, self.q, self.y = slots, x, scale, q, y
        self.total = float(np.sum(np.abs(y) ** 2))
        self.dtype = np.result_type(q, float)
        families: dict[object, list[int]] = {}
        grids: dict[object, Mapping[str, np.ndarray]] = {}
        for i, slot in enumerate(slots):
            families.setdefault(slot.formula, []).append(i)
            if slot.kind not in grids:
                at = np.unique(x)
                grid = slot.part.candidates(at, slot.box)
                more = slot.part.growing(at, slot.box) if growth else {}
                grids[slot.kind] = {k: np.r_[more.get(k, []), v] for k, v in grid.items()}
        self.families = tuple(families.values())
        self.grids = [grids[slot.kind] for slot in slots]

    @property
    def may_grow(self) -> bool:
        """Whether there are candidates that grow."""
        at = np.unique(self.x)
        return any(slot.part.growing(at, slot.box) for slot in self.slots)

    def weighted(self, part: AbstractBasis, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Weighted columns (m, g) for values (g,) by local name; they may not be finite."""
        with np.errstate(all="ignore"):
            columns = on_host(part, self.x, values)
            # On the denormal numbers of far tails every product is ten times slower.
            floor = 1e-30 * np.abs(columns).max(axis=0)
            return np.where(np.abs(columns) < floor, 0.0, columns) * self.scale[:, None]

    def free_of_known(self, a: np.ndarray) -> np.ndarray:
        """Project the known columns out of columns (m, c)."""
        return a - self.q @ (self.q.conj().T @ a) if self.q.size else a

    def columns(self, estimate: Sequence[Values | None]) -> np.ndarray:
        """Weighted columns (m, s) of the slots that have values, in their order, free of known ones."""
        chosen = [i for i, v in enumerate(estimate) if v is not None]
        columns = np.zeros((self.x.size, len(chosen)), self.dtype)
        for members in self.families:
            positions = [position for position, i in enumerate(chosen) if i in members]
            if positions:
                members_values = [v for i in members if (v := estimate[i]) is not None]
                values = {k: np.array([v[k] for v in members_values]) for k in members_values[0]}
                columns[:, positions] = self.weighted(self.slots[members[0]].part, values)
        return self.free_of_known(columns)

    def refined(
        self, estimate: list[Values | None], steps: int = _STEPS, gain: float = _GAIN
    ) -> tuple[list[Values | None], float]:
        """Improve all values by some steps of Levenberg-Marquardt with Kaufman's Jacobian (1975), on
        the interval of the candidates, until one has a relative `gain` below; return them and the sum of
        squares that is left."""
        free = [
            (i, k)
            for i, v in enumerate(estimate)
            if v is not None
            for k, grid in self.grids[i].items()
            if np.ptp(grid) > 0
        ]
        chosen = [i for i, v in enumerate(estimate) if v is not None]
        owner = np.array([chosen.index(i) for i, _ in free], int)
        low = np.array([self.grids[i][k].min() for i, k in free])
        high = np.array([self.grids[i][k].max() for i, k in free])
        alpha = np.array([estimate[i][k] for i, k in free])  # pyright: ignore[reportOptionalSubscript]

        def values_at(alpha: np.ndarray) -> list[Values | None]:
            values = [None if v is None else dict(v) for v in estimate]
            for (i, k), value in zip(free, alpha, strict=True):
                values[i][k] = float(value)  # pyright: ignore[reportOptionalSubscript]
            return values

        def evaluate(alpha: np.ndarray):
            phi = self.columns(values_at(alpha))
            if phi.shape[1] > phi.shape[0]:
                return np.inf, None
            q, r = np.linalg.qr(phi)
            diagonal = np.abs(np.diag(r))
            if not diagonal.all() or (diagonal < 1e-9 * np.linalg.norm(phi, axis=0)).any():
                return np.inf, None
            rotated = q.conj().T @ self.y
            return self.total - float(np.sum(np.abs(rotated) ** 2)), (phi, q, r, rotated)

        def equations(alpha: np.ndarray, state) -> tuple[np.ndarray, np.ndarray]:
            phi, q, r, rotated = state
            step = 1e-6 * np.maximum(np.abs(alpha), 1e-3 * (high - low))
            derivatives = np.empty((self.x.size, len(free)), phi.dtype)
            for k in dict.fromkeys(k for _, k in free):
                owned = np.array([k == other for _, other in free])
                shifted = self.columns(values_at(alpha + step * owned))
                derivatives[:, owned] = (shifted - phi)[:, owner[owned]] / step[owned]
            coef = np.linalg.solve(r, rotated)[owner]
            derivatives = derivatives - q @ (q.conj().T @ derivatives)
            normal = ((derivatives.conj().T @ derivatives) * (coef.conj() @ coef.T)).real
            return normal, np.sum((derivatives.conj().T @ self.y) * coef.conj(), axis=1).real

        alpha, cost = improved(alpha, low, high, evaluate, equations, steps, gain)
        return values_at(alpha), cost
