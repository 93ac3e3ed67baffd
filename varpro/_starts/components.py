"""Components whose parameters are sought, on the host: their columns, and steps that improve them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ..basis import AbstractBasis, without_names

Box = tuple[float, float]
Values = dict[str, float]

# Steps at most, and the gain in the sum of squares below which there is no further one.
_STEPS, _GAIN = 6, 1e-2


class SoughtComponent(NamedTuple):
    """A component that wants a start, and where its parameters may be, by local name."""

    part: AbstractBasis
    box: dict[str, Box]

    @property
    def formula(self) -> object:
        """What components have in common that differ in their names and parameters alone."""
        leaves, structure = jax.tree.flatten(without_names(self.part))
        return structure, tuple(np.asarray(leaf).tobytes() for leaf in leaves), tuple(self.box)

    @property
    def kind(self) -> object:
        """The same for components whose boxes are equal, too."""
        return self.formula, tuple(self.box.values())


def on_host(part: AbstractBasis, x: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Columns for host arrays, from which the bases of varpro make host arrays."""
    return np.asarray(part.evaluate(x, values))  # pyright: ignore[reportArgumentType]


class Components:
    """Rows `x` (m,), their weights `scale`, known columns `q` (m, l) orthonormal, and `y` (m, k)
    free of them, for what is sought: `slots`.

    What is found is a list of values by local name, one entry for every slot, None for one that is
    empty. `grids` holds the candidates of every slot by local name.
    """

    def __init__(
        self,
        slots: Sequence[SoughtComponent],
        x: np.ndarray,
        scale: np.ndarray,
        q: np.ndarray,
        y: np.ndarray,
    ):
        self.slots, self.x, self.scale, self.q, self.y = slots, x, scale, q, y
        self.total = float(np.sum(np.abs(y) ** 2))
        self.dtype = np.result_type(q, float)
        families: dict[object, list[int]] = {}
        grids: dict[object, Mapping[str, np.ndarray]] = {}
        for i, slot in enumerate(slots):
            families.setdefault(slot.formula, []).append(i)
            if slot.kind not in grids:
                grids[slot.kind] = slot.part.candidates(np.unique(x), slot.box)
        self.families = tuple(families.values())
        self.grids = [grids[slot.kind] for slot in slots]

    def weighted(self, part: AbstractBasis, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Weighted columns (m, g) for values (g,) by local name; they may not be finite."""
        with np.errstate(all="ignore"):
            columns = on_host(part, self.x, values)
            # On the denormal numbers of far tails every product is ten times slower.
            floor = 1e-30 * np.abs(columns).max(axis=0)
            return np.where(np.abs(columns) < floor, 0.0, columns) * self.scale[:, None]

    def free_of_known(self, a: np.ndarray) -> np.ndarray:
        return a - self.q @ (self.q.conj().T @ a) if self.q.size else a

    def columns(self, found: Sequence[Values | None]) -> np.ndarray:
        """Columns (m, s) of the chosen, in the order of the slots."""
        chosen = [i for i, v in enumerate(found) if v is not None]
        out = np.zeros((self.x.size, len(chosen)), self.dtype)
        for members in self.families:
            places = [place for place, i in enumerate(chosen) if i in members]
            if places:
                some = [v for i in members if (v := found[i]) is not None]
                values = {k: np.array([v[k] for v in some]) for k in some[0]}
                out[:, places] = self.weighted(self.slots[members[0]].part, values)
        return self.free_of_known(out)

    def refined(self, found: list[Values | None]) -> tuple[list[Values | None], float]:
        """After some steps of Levenberg-Marquardt with Kaufman's Jacobian; and the sum of squares."""
        free = [
            (i, k)
            for i, v in enumerate(found)
            if v is not None
            for k, grid in self.grids[i].items()
            if np.ptp(grid) > 0
        ]
        chosen = [i for i, v in enumerate(found) if v is not None]
        owner = np.array([chosen.index(i) for i, _ in free], int)
        low = np.array([self.grids[i][k].min() for i, k in free])
        high = np.array([self.grids[i][k].max() for i, k in free])
        at = np.array([found[i][k] for i, k in free])  # pyright: ignore[reportOptionalSubscript]

        def placed(alpha: np.ndarray) -> list[Values | None]:
            out = [None if v is None else dict(v) for v in found]
            for (i, k), value in zip(free, alpha, strict=True):
                out[i][k] = float(value)  # pyright: ignore[reportOptionalSubscript]
            return out

        def look(alpha: np.ndarray):
            phi = self.columns(placed(alpha))
            if phi.shape[1] > phi.shape[0]:
                return np.inf, None
            q, r = np.linalg.qr(phi)
            diagonal = np.abs(np.diag(r))
            if not diagonal.all() or (diagonal < 1e-9 * np.linalg.norm(phi, axis=0)).any():
                return np.inf, None
            turned = q.conj().T @ self.y
            return self.total - float(np.sum(np.abs(turned) ** 2)), (phi, q, r, turned)

        cost, state = look(at)
        if state is None or not free:
            return found, cost
        damping = 1e-3
        for _ in range(_STEPS):
            assert state is not None
            phi, q, r, turned = state
            step = 1e-6 * np.maximum(np.abs(at), 1e-3 * (high - low))
            moved = np.empty((self.x.size, len(free)), phi.dtype)
            for k in dict.fromkeys(k for _, k in free):
                mine = np.array([k == other for _, other in free])
                shifted = self.columns(placed(at + step * mine))
                moved[:, mine] = (shifted - phi)[:, owner[mine]] / step[mine]
            coef = np.linalg.solve(r, turned)[owner]
            moved = moved - q @ (q.conj().T @ moved)
            normal = ((moved.conj().T @ moved) * (coef.conj() @ coef.T)).real
            slope = np.sum((moved.conj().T @ self.y) * coef.conj(), axis=1).real
            scale = np.maximum(np.diag(normal), 1e-300)
            before = cost
            for _ in range(4):
                delta = np.linalg.lstsq(normal + damping * np.diag(scale), slope, rcond=None)[0]
                trial = np.clip(at + delta, low, high)
                new, new_state = look(trial)
                if new < cost:
                    at, cost, state, damping = trial, new, new_state, damping / 10
                    break
                damping *= 10
            if not cost < before * (1 - _GAIN):
                break
        return placed(at), cost
