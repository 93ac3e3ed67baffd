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

Found = list[Values | None]

# Candidates up to which all pairs are tried; rounds of exchanges; joint refinements while components
# are added, which for many are therefore added in batches.
_PAIRS, _ROUNDS, _BATCHES = 160, 3, 12
# What must be left of a unit column (squared) once others are projected out: for decays little more
# than rounding; for peaks enough to tell two of them from one and its derivative.
_ALIKE_DECAYS, _ALIKE = 1e-6, 0.01
# A residual has structure if a further column explains this many times what one of noise would.
_STRUCTURE = 25.0
# How many unlike candidates are tried as the first of a pair, and how alike (squared) they may be.
_FIRSTS, _UNLIKE = 24, 0.7


class Pursuit:
    """The search among the candidates of all slots; `solve` returns the values of each."""

    def __init__(self, sought: Components):
        self.sought = sought
        spans: dict[object, slice] = {}
        blocks: list[np.ndarray] = []
        count = 0
        for slot, grid in zip(sought.slots, sought.grids, strict=True):
            if slot.kind not in spans:
                blocks.append(sought.weighted(slot.part, grid))
                spans[slot.kind] = slice(count, count + blocks[-1].shape[1])
                count = spans[slot.kind].stop
        raw = np.concatenate(blocks, axis=1)
        size = np.linalg.norm(raw, axis=0)
        self.finite, self.seen = np.isfinite(size), np.isfinite(size) & (size > 1e-100)
        raw = np.where(self.seen, raw, 0.0) / np.where(self.seen, size, 1.0)
        columns = sought.free_of_known(raw)
        left = np.linalg.norm(columns, axis=0)
        useful = left > 1e-5
        self.columns = columns * np.where(useful, 1.0 / np.maximum(left, 1e-5), 0.0)
        self.products = self.columns.conj().T @ sought.y
        self.firsts = [spans[slot.kind].start for slot in sought.slots]
        self.mask = np.zeros((len(sought.slots), count), bool)
        for i, slot in enumerate(sought.slots):
            self.mask[i, spans[slot.kind]] = useful[spans[slot.kind]]
        self.small = count <= _PAIRS
        self.alike = _ALIKE_DECAYS if self.small else _ALIKE
        if self.small:
            self.gram = self.columns.conj().T @ self.columns
        else:
            self.window = np.abs(raw) / np.maximum(np.abs(raw).max(axis=0), 1e-100)

    def solve(self) -> Found:
        """Values for every slot; None where no candidate is of use."""
        empty: Found = [None] * len(self.sought.slots)
        if self.small:
            found, _ = self.sought.refined(self._exchanged(self._in_pairs(empty), refine=False))
            found = self._exchanged(found)
            # Of many samples the grid may spoil more of a strong decay than there is of a weak one.
            other = self._one_by_one(empty) if self._structured(found) else found
        else:
            found = self._exchanged(self._one_by_one(empty))
            # Between crowded peaks lie valleys, which negative ones explain well. Try without.
            sign = self._minority(found) if self._structured(found) else 0
            other = self._exchanged(self._one_by_one(empty, sign)) if sign else found
        return self._filled(min(found, other, key=lambda f: self._remains(f)[3]))

    def _candidate(self, i: int, j: int) -> Values:
        return {k: float(v[j - self.firsts[i]]) for k, v in self.sought.grids[i].items()}

    def _in_pairs(self, found: Found) -> Found:
        """Two more at a time, on the grid, as far as there are candidates of use."""
        while open_ := [i for i, v in enumerate(found) if v is None]:
            before = found
            if len(open_) > 1:
                found = self._with_two(found, (open_[0], open_[1]), self.alike)
            if found == before:
                found = self._with_one(found, open_)
            if found == before:
                break
        return found

    def _one_by_one(self, found: Found, sign: int = 0) -> Found:
        """One more at a time, or some if they are many, all refined before the next; those of one
        `sign` if it is not 0."""
        batch = -(-len(found) // _BATCHES)
        if len(found) == 2 and not self.small and not sign:
            return self.sought.refined(self._in_pairs(found))[0]
        while open_ := [i for i, v in enumerate(found) if v is None]:
            more = found
            for _ in range(min(batch, len(open_))):
                more = self._with_one(more, [i for i in open_ if more[i] is None], sign)
            if more == found:
                break
            found = self.sought.refined(more)[0]
        return found

    def _remains(self, found: Found) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """With the chosen projected out: `D^H Y` (G, k), the factor T (s, G) by whose T^H T the Gram
        matrix is less, squared norms (G,), and the sum of squares that is left of Y."""
        phi, total = self.sought.columns(found), self.sought.total
        q = np.linalg.qr(phi)[0] if phi.shape[1] else phi
        t, turned = q.conj().T @ self.columns, q.conj().T @ self.sought.y
        left = 1.0 - np.sum(np.abs(t) ** 2, axis=0)
        rest = self.products - t.conj().T @ turned
        return rest, t, left, total - float(np.sum(np.abs(turned) ** 2))

    def _gains(self, found: Found, rest: np.ndarray, left: np.ndarray) -> np.ndarray:
        """What one more column explains (G,); of peaks, times how much the residual looks like it."""
        power = np.sum(np.abs(rest) ** 2, axis=1)
        gain = np.where(left > self.alike, power / np.maximum(left, self.alike), 0.0)
        return gain if self.small else gain * self._likeness(found) ** 2

    def _with_one(self, found: Found, slots: Sequence[int], sign: int = 0) -> Found:
        """With the best candidate for one of `slots`."""
        rest, _, left, _ = self._remains(found)
        gain = np.where(self.mask[list(slots)], self._gains(found, rest, left), 0.0)
        if sign:
            gain = np.where(sign * np.real(rest[:, 0]) > 0, gain, 0.0)
        if gain.max() <= 0:
            return found
        row, j = divmod(int(np.argmax(gain)), gain.shape[1])
        i = slots[row]
        return [self._candidate(i, j) if n == i else v for n, v in enumerate(found)]

    def _with_two(self, found: Found, slots: tuple[int, int], alike: float) -> Found:
        """With the best pair of candidates for two slots."""
        rest, t, left, _ = self._remains(found)
        if self.small:
            some, a = np.arange(left.size), self.gram - t.conj().T @ t
        else:
            gain = self._gains(found, rest, left) * self.mask[list(slots)].any(axis=0)
            some = np.array(self._separate(gain, t, left), int)
            a = self.columns[:, some].conj().T @ self.columns - t[:, some].conj().T @ t
        power = np.sum(np.abs(rest) ** 2, axis=1)
        plain = left[some][:, None] * left
        det = plain - np.abs(a) ** 2
        cross = np.real(a * (rest[some] @ rest.conj().T).conj())
        gain = power[some][:, None] * left + power * left[some][:, None] - 2 * cross
        gain = np.where(det > alike * plain, gain, 0.0) / np.where(det > alike * plain, det, 1.0)
        mask = self.mask[list(slots)] & (left > self.alike)
        best, out = 0.0, found
        for first, second in ((0, 1), (1, 0)):
            allowed = np.where(mask[first][some][:, None] & mask[second], gain, 0.0)
            if allowed.size and allowed.max() > best:
                row, j = divmod(int(np.argmax(allowed)), gain.shape[1])
                best, out = allowed.max(), list(found)
                out[slots[first]] = self._candidate(slots[first], int(some[row]))
                out[slots[second]] = self._candidate(slots[second], j)
        return out

    def _likeness(self, found: Found) -> np.ndarray:
        """How much the residual near each candidate looks like it, from 0 to 1 (G,).

        The share of the residual that the column explains where it is large. Without it one broad
        column that covers two peaks explains more than either of the right ones."""
        phi, r = self.sought.columns(found), self.sought.y
        if phi.shape[1]:
            q = np.linalg.qr(phi)[0]
            r = r - q @ (q.conj().T @ r)
        w, square = self.window, self.window**2
        around = np.sum(square * w, axis=0) * (w.T @ np.sum(np.abs(r) ** 2, axis=1))
        return np.sum(np.abs(square.T @ r) ** 2, axis=1) / np.maximum(around, 1e-300)

    def _separate(self, gain: np.ndarray, t: np.ndarray, left: np.ndarray) -> list[int]:
        """The best candidates, no two of them alike."""
        gain, found = gain.copy(), []
        while len(found) < _FIRSTS and gain.max() > 0:
            j = int(np.argmax(gain))
            found.append(j)
            a = self.columns[:, j].conj() @ self.columns - t[:, j].conj() @ t
            gain[np.abs(a) ** 2 > _UNLIKE * left[j] * left] = 0.0
            gain[j] = 0.0
        return found

    def _structured(self, found: Found) -> bool:
        """Whether the residual is more than noise to the dictionary."""
        rest, _, left, cost = self._remains(found)
        new = left > 0.05
        gain = np.sum(np.abs(rest[new]) ** 2, axis=1) / left[new]
        return bool(gain.size and gain.max() * self.sought.x.size > _STRUCTURE * cost)

    def _minority(self, found: Found) -> int:
        """The sign of most coefficients if they differ in sign, else 0; 0 for several columns of Y."""
        phi, y = self.sought.columns(found), self.sought.y
        if y.shape[1] > 1 or np.iscomplexobj(y) or phi.shape[1] < 2:
            return 0
        signs = np.sign(np.linalg.lstsq(phi, y[:, 0], rcond=None)[0].real)
        return 0 if abs(signs.sum()) == signs.size else 1 if signs.sum() >= 0 else -1

    def _exchanged(self, found: Found, refine: bool = True) -> Found:
        """Two at a time are taken out, and the two put in that explain the most.

        Off the grid the best pair may be one that was the second on it, so that of peaks pairs that
        are less alike are tried too.
        """
        chosen = [i for i, v in enumerate(found) if v is not None]
        if len(chosen) < 2:
            return found
        cost = self._remains(found)[3]
        for _ in range(_ROUNDS if len(chosen) <= _BATCHES else 1):
            if refine and not self._structured(found):
                break
            start = cost
            for pair in self._partners(found):
                fewer = [None if i in pair else v for i, v in enumerate(found)]
                for alike in (self.alike,) if self.small else (self.alike, 0.5):
                    trial = self._with_two(fewer, pair, alike)
                    if refine:
                        trial, new = self.sought.refined(trial)
                    else:
                        new = self._remains(trial)[3]
                    full = all(
                        (v is None) == (w is None) for v, w in zip(trial, found, strict=True)
                    )
                    if full and new < cost * (0.99 if refine else 1 - 1e-9):
                        found, cost = trial, new
            if cost == start:
                break
        return found

    def _partners(self, found: Found) -> list[tuple[int, int]]:
        """All pairs of a few; of many each with the one that it has most in common with."""
        chosen = [i for i, v in enumerate(found) if v is not None]
        if self.small and len(chosen) <= 5:
            return [(i, j) for i in chosen for j in chosen if i < j]
        phi = self.sought.columns(found)
        phi = phi / np.maximum(np.linalg.norm(phi, axis=0), 1e-300)
        near = np.abs(phi.conj().T @ phi)
        np.fill_diagonal(near, -1.0)
        pairs = {(chosen[a], chosen[int(b)]) for a, b in enumerate(near.argmax(axis=1))}
        return sorted({(min(pair), max(pair)) for pair in pairs})

    def _filled(self, found: Found) -> Found:
        """Where the data say nothing, values spread over the grid."""
        empty = [i for i, v in enumerate(found) if v is None]
        found = list(found)
        for rank, i in enumerate(empty):
            size = next(iter(self.sought.grids[i].values())).size
            mine = self.firsts[i] + np.arange(size)
            ids = mine[self.seen[mine]] if self.seen[mine].any() else mine[self.finite[mine]]
            free = [j for j in ids.tolist() if self._candidate(i, j) not in found]
            if free:
                found[i] = self._candidate(i, free[(rank + 1) * len(free) // (len(empty) + 1)])
        return found
