"""Which columns of a dictionary explain the data best: variable projection over a grid.

Candidates of all components make the columns of D (m, G); known columns are projected out of D and Y
once. With S chosen, P_S the projection on its columns and n = D^H (I - P_S) Y, a further column i
explains ||n_i||^2 / (D_i^H (I - P_S) D_i) more of ||Y||^2, and two more the like with a 2 x 2 matrix.

Few candidates (decays) are chosen two at a time among all pairs. Many (peaks) are chosen one at a
time, and what is chosen is moved off the grid before the next is sought, because otherwise that would
only mend what the grid spoils: alternating descent conditional gradient (Boyd, Schiebinger and Recht
2017). Exchanges of two follow as long as the residual has a structure that D can see.
"""

from collections.abc import Sequence

import numpy as np

from .components import Components, Values
from .maxima import at_maxima, is_sought_peak

Estimate = list[Values | None]

# Candidates up to which all pairs are tried; rounds of exchanges; joint refinements while components
# are added, which for many are therefore added in batches.
_PAIRS, _ROUNDS, _BATCHES = 160, 3, 12
# What must be left of a unit column (squared) once others are projected out: for decays little more
# than rounding; for peaks enough to tell two of them from one and its derivative.
_LEAST_LEFT_DECAYS, _LEAST_LEFT = 1e-6, 0.01
# A residual has structure if a further column explains this many times what one of noise would.
_STRUCTURE = 25.0
# The same where no more than other starts are at stake.
_HINT = 10.0
# Steps of a refinement to the end, and the least gain of one; overlap of two columns from which other
# starts are tried, and from which they are nearly one.
_TO_THE_END, _END_GAIN, _SUSPECT, _ONE = 40, 1e-5, 0.7, 0.995
# How many unlike candidates are tried as the first of a pair, and their largest overlap (squared).
_FIRSTS, _OVERLAP = 24, 0.7


class DictionarySearch:
    """A search for the candidates of all slots that explain the data best.

    Candidates are unit columns with the known ones projected out (m, G); each slot may choose from its
    own, as `mask` (slots, G) says. `solve` returns values by local name for every slot, and leaves in
    `cost` the sum of squares that remains and in `open` whether that has structure.
    """

    cost: float
    open: bool

    def __init__(self, components: Components):
        self.components = components
        spans: dict[object, slice] = {}
        blocks: list[np.ndarray] = []
        count = 0
        for slot, grid in zip(components.slots, components.grids, strict=True):
            if slot.kind not in spans:
                blocks.append(components.weighted(slot.part, grid))
                spans[slot.kind] = slice(count, count + blocks[-1].shape[1])
                count = spans[slot.kind].stop
        raw = np.concatenate(blocks, axis=1)
        size = np.linalg.norm(raw, axis=0)
        self.finite, self.nonzero = np.isfinite(size), np.isfinite(size) & (size > 1e-100)
        raw = np.where(self.nonzero, raw, 0.0) / np.where(self.nonzero, size, 1.0)
        columns = components.free_of_known(raw)
        left = np.linalg.norm(columns, axis=0)
        useful = left > 1e-5
        self.columns = columns * np.where(useful, 1.0 / np.maximum(left, 1e-5), 0.0)
        self.products = self.columns.conj().T @ components.y
        self.firsts = [spans[slot.kind].start for slot in components.slots]
        self.mask = np.zeros((len(components.slots), count), bool)
        for i, slot in enumerate(components.slots):
            self.mask[i, spans[slot.kind]] = useful[spans[slot.kind]]
        self.all_pairs = count <= _PAIRS
        self.least_left = _LEAST_LEFT_DECAYS if self.all_pairs else _LEAST_LEFT
        if self.all_pairs:
            self.gram = self.columns.conj().T @ self.columns
        else:
            self.window = np.abs(raw) / np.maximum(np.abs(raw).max(axis=0), 1e-100)

    def solve(self) -> Estimate:
        """Choose values for every slot, on the grid and then off it; spread over the grid where the
        data say nothing, and None where every candidate is taken."""
        nothing: Estimate = [None] * len(self.components.slots)
        if self.all_pairs:
            estimate, _ = self.components.refined(
                self._exchange_pairs(self._build_in_pairs(nothing), refine=False)
            )
            estimate = self._exchange_pairs(estimate)
            # Of many samples the grid may spoil more of a strong decay than there is of a weak one.
            other = self._build_one_by_one(nothing) if self._has_structure(estimate) else estimate
        else:
            estimate = self._exchange_pairs(self._build_one_by_one(nothing))
            # Between crowded peaks lie valleys, which negative ones explain well. Try without.
            sign = self._majority_sign(estimate) if self._has_structure(estimate) else 0
            other = (
                self._exchange_pairs(self._build_one_by_one(nothing, sign)) if sign else estimate
            )
        best = min(estimate, other, key=lambda f: self._residual(f)[3])
        best = self._unless_maxima_are_better(best)
        self.cost, self.open = self._residual(best)[3], self._has_structure(best)
        return self._fill_empty(best)

    def _unless_maxima_are_better(self, estimate: Estimate) -> Estimate:
        """The estimate, or one with peaks where the data have maxima if that leaves less, both refined to
        the end; one whose components run together leaves nothing that counts."""
        if not any(is_sought_peak(slot.box) for slot in self.components.slots):
            return estimate
        end = self.components.refined(estimate, _TO_THE_END, _END_GAIN)
        if not (self._crowded(end[0], _SUSPECT) or self._has_structure(end[0], _HINT)):
            return estimate
        trials = [self._build_one_by_one(t) for t in at_maxima(self.components, estimate)]
        refined = [end, *(self.components.refined(t, _TO_THE_END, _END_GAIN) for t in trials)]
        best = min(range(len(refined)), key=lambda i: (self._crowded(refined[i][0]), refined[i][1]))
        return refined[best][0] if best else estimate

    def _crowded(self, estimate: Estimate, overlap_from: float = _ONE) -> bool:
        """Whether two columns of the estimate overlap that much; by default, so that they are nearly one."""
        phi = self.components.columns(estimate)
        phi = phi / np.maximum(np.linalg.norm(phi, axis=0), 1e-300)
        overlap = np.abs(phi.conj().T @ phi) - np.eye(phi.shape[1])
        return bool(overlap.size and overlap.max() > overlap_from)

    def _candidate(self, i: int, j: int) -> Values:
        """Values by local name of column `j` for slot `i`."""
        return {k: float(v[j - self.firsts[i]]) for k, v in self.components.grids[i].items()}

    def _build_in_pairs(self, estimate: Estimate) -> Estimate:
        """Fill the slots two at a time, on the grid, as far as there are candidates of use."""
        while open_ := [i for i, v in enumerate(estimate) if v is None]:
            before = estimate
            if len(open_) > 1:
                estimate = self._add_pair(estimate, (open_[0], open_[1]), self.least_left)
            if estimate == before:
                estimate = self._add_one(estimate, open_)
            if estimate == before:
                break
        return estimate

    def _build_one_by_one(self, estimate: Estimate, sign: int = 0) -> Estimate:
        """Fill the slots one at a time, or some if they are many, and refine all before the next.

        With `sign` 1 or -1 a column must correlate with the residual in that sense.
        """
        batch = -(-len(estimate) // _BATCHES)
        if len(estimate) == 2 and not self.all_pairs and not sign:
            return self.components.refined(self._build_in_pairs(estimate))[0]
        while open_ := [i for i, v in enumerate(estimate) if v is None]:
            extended = estimate
            for _ in range(min(batch, len(open_))):
                extended = self._add_one(extended, [i for i in open_ if extended[i] is None], sign)
            if extended == estimate:
                break
            estimate = self.components.refined(extended)[0]
        return estimate

    def _residual(self, estimate: Estimate) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Project the chosen columns, P_S = Q Q^H, out of the dictionary and the data.

        **Returns:** correlations `D^H (I - P_S) Y` (G, k), the shared part `T = Q^H D` (s, G), by whose
        `T^H T` the Gram matrix is less, squared norms of what is left of each column (G,), and the sum
        of squares that is left of Y.
        """
        phi, total = self.components.columns(estimate), self.components.total
        q = np.linalg.qr(phi)[0] if phi.shape[1] else phi
        shared, rotated = q.conj().T @ self.columns, q.conj().T @ self.components.y
        left = 1.0 - np.sum(np.abs(shared) ** 2, axis=0)
        correlation = self.products - shared.conj().T @ rotated
        return correlation, shared, left, total - float(np.sum(np.abs(rotated) ** 2))

    def _gains(self, estimate: Estimate, correlation: np.ndarray, left: np.ndarray) -> np.ndarray:
        """Sum of squares that each further column explains (G,); of peaks, times the squared share of
        the residual around the column that has its shape."""
        power = np.sum(np.abs(correlation) ** 2, axis=1)
        gain = np.where(left > self.least_left, power / np.maximum(left, self.least_left), 0.0)
        return gain if self.all_pairs else gain * self._likeness(estimate) ** 2

    def _add_one(self, estimate: Estimate, slots: Sequence[int], sign: int = 0) -> Estimate:
        """Add the best candidate for one of `slots`; return the estimate as it is if there is none."""
        correlation, _, left, _ = self._residual(estimate)
        gain = np.where(self.mask[list(slots)], self._gains(estimate, correlation, left), 0.0)
        if sign:
            gain = np.where(sign * np.real(correlation[:, 0]) > 0, gain, 0.0)
        if gain.max() <= 0:
            return estimate
        row, j = divmod(int(np.argmax(gain)), gain.shape[1])
        i = slots[row]
        return [self._candidate(i, j) if n == i else v for n, v in enumerate(estimate)]

    def _add_pair(self, estimate: Estimate, slots: tuple[int, int], least_left: float) -> Estimate:
        """Add the best pair of candidates for two slots; return the estimate as it is if there is none.

        A pair (i, j) explains `n^H A^{-1} n`, with A the 2 x 2 Gram matrix of what is left of both
        columns and n their correlations; pairs with `det A <= least_left A_ii A_jj` are left out.
        """
        correlation, shared, left, _ = self._residual(estimate)
        if self.all_pairs:
            firsts, gram = np.arange(left.size), self.gram - shared.conj().T @ shared
        else:
            gain = self._gains(estimate, correlation, left) * self.mask[list(slots)].any(axis=0)
            firsts = np.array(self._unlike_candidates(gain, shared, left), int)
            gram = (
                self.columns[:, firsts].conj().T @ self.columns
                - shared[:, firsts].conj().T @ shared
            )
        power = np.sum(np.abs(correlation) ** 2, axis=1)
        product = left[firsts][:, None] * left
        det = product - np.abs(gram) ** 2
        cross = np.real(gram * (correlation[firsts] @ correlation.conj().T).conj())
        gain = power[firsts][:, None] * left + power * left[firsts][:, None] - 2 * cross
        gain = np.where(det > least_left * product, gain, 0.0) / np.where(
            det > least_left * product, det, 1.0
        )
        mask = self.mask[list(slots)] & (left > self.least_left)
        best, pair_estimate = 0.0, estimate
        for first, second in ((0, 1), (1, 0)):
            allowed = np.where(mask[first][firsts][:, None] & mask[second], gain, 0.0)
            if allowed.size and allowed.max() > best:
                row, j = divmod(int(np.argmax(allowed)), gain.shape[1])
                best, pair_estimate = allowed.max(), list(estimate)
                pair_estimate[slots[first]] = self._candidate(slots[first], int(firsts[row]))
                pair_estimate[slots[second]] = self._candidate(slots[second], j)
        return pair_estimate

    def _likeness(self, estimate: Estimate) -> np.ndarray:
        """Share of the residual around each candidate that has its shape, from 0 to 1 (G,).

        The share of the residual that the column explains where it is large. Without it one broad
        column that covers two peaks explains more than either of the right ones."""
        phi, r = self.components.columns(estimate), self.components.y
        if phi.shape[1]:
            q = np.linalg.qr(phi)[0]
            r = r - q @ (q.conj().T @ r)
        w, square = self.window, self.window**2
        around = np.sum(square * w, axis=0) * (w.T @ np.sum(np.abs(r) ** 2, axis=1))
        return np.sum(np.abs(square.T @ r) ** 2, axis=1) / np.maximum(around, 1e-300)

    def _unlike_candidates(
        self, gain: np.ndarray, shared: np.ndarray, left: np.ndarray
    ) -> list[int]:
        """Indices of the best candidates, no two of which overlap much."""
        gain, indices = gain.copy(), []
        while len(indices) < _FIRSTS and gain.max() > 0:
            j = int(np.argmax(gain))
            indices.append(j)
            gram = self.columns[:, j].conj() @ self.columns - shared[:, j].conj() @ shared
            gain[np.abs(gram) ** 2 > _OVERLAP * left[j] * left] = 0.0
            gain[j] = 0.0
        return indices

    def _has_structure(self, estimate: Estimate, times: float = _STRUCTURE) -> bool:
        """Whether a further column explains much more of the residual than one of noise would."""
        correlation, _, left, cost = self._residual(estimate)
        new = left > 0.05
        gain = np.sum(np.abs(correlation[new]) ** 2, axis=1) / left[new]
        return bool(gain.size and gain.max() * self.components.x.size > times * cost)

    def _majority_sign(self, estimate: Estimate) -> int:
        """The sign of most coefficients if they differ in sign, else 0; 0 for several columns of Y."""
        phi, y = self.components.columns(estimate), self.components.y
        if y.shape[1] > 1 or np.iscomplexobj(y) or phi.shape[1] < 2:
            return 0
        signs = np.sign(np.linalg.lstsq(phi, y[:, 0], rcond=None)[0].real)
        return 0 if abs(signs.sum()) == signs.size else 1 if signs.sum() >= 0 else -1

    def _exchange_pairs(self, estimate: Estimate, refine: bool = True) -> Estimate:
        """Take two slots out at a time and put in the pair that explains the most, if that is more.

        Off the grid the best pair may be one that was the second on it, so that of peaks only pairs
        with less overlap are tried as well.
        """
        chosen = [i for i, v in enumerate(estimate) if v is not None]
        if len(chosen) < 2:
            return estimate
        cost = self._residual(estimate)[3]
        for _ in range(_ROUNDS if len(chosen) <= _BATCHES else 1):
            if refine and not self._has_structure(estimate):
                break
            start = cost
            for pair in self._partners(estimate):
                fewer = [None if i in pair else v for i, v in enumerate(estimate)]
                for least_left in (self.least_left,) if self.all_pairs else (self.least_left, 0.5):
                    trial = self._add_pair(fewer, pair, least_left)
                    if refine:
                        trial, new = self.components.refined(trial)
                    else:
                        new = self._residual(trial)[3]
                    full = all(
                        (v is None) == (w is None) for v, w in zip(trial, estimate, strict=True)
                    )
                    if full and new < cost * (0.99 if refine else 1 - 1e-9):
                        estimate, cost = trial, new
            if cost == start:
                break
        return estimate

    def _partners(self, estimate: Estimate) -> list[tuple[int, int]]:
        """Pairs of slots to exchange: all of a few; of many each with the one it overlaps most."""
        chosen = [i for i, v in enumerate(estimate) if v is not None]
        if self.all_pairs and len(chosen) <= 5:
            return [(i, j) for i in chosen for j in chosen if i < j]
        phi = self.components.columns(estimate)
        phi = phi / np.maximum(np.linalg.norm(phi, axis=0), 1e-300)
        overlap = np.abs(phi.conj().T @ phi)
        np.fill_diagonal(overlap, -1.0)
        pairs = {(chosen[a], chosen[int(b)]) for a, b in enumerate(overlap.argmax(axis=1))}
        return sorted({(min(pair), max(pair)) for pair in pairs})

    def _fill_empty(self, estimate: Estimate) -> Estimate:
        """Give every empty slot a value, spread over the grid, which no other slot has."""
        empty = [i for i, v in enumerate(estimate) if v is None]
        estimate = list(estimate)
        for rank, i in enumerate(empty):
            size = next(iter(self.components.grids[i].values())).size
            columns = self.firsts[i] + np.arange(size)
            usable = (
                columns[self.nonzero[columns]]
                if self.nonzero[columns].any()
                else columns[self.finite[columns]]
            )
            free = [j for j in usable.tolist() if self._candidate(i, j) not in estimate]
            if free:
                estimate[i] = self._candidate(i, free[(rank + 1) * len(free) // (len(empty) + 1)])
        return estimate
