"""Starts of waves: frequencies and decays that explain the data best, on the host.

The residual's spectrum, filtered by decays a factor two apart, tells the next wave: the matched filter
of a decaying wave is a Fourier transform of what is left times its envelope. Samples at uneven times
are put on a fine grid for that, which is a periodogram (Lomb 1976) but for the phase within a step of
the grid; what is found is then moved off every grid, with all that were found before it, by variable
projection, until the next is sought (Boyd, Schiebinger and Recht 2017). Waves are taken out and sought
once more where that leaves less.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..basis import AbstractBasis
from .components import SoughtComponent, Values

# Steps of a refinement at most, and the gain in the sum of squares below which there is no further one.
_STEPS, _GAIN = 12, 1e-3
# Numbers of data that are looked at, points of the grid for uneven times, and its steps in a spacing.
_MOST, _GRID, _FINE = 2**17, 2**18, 4
# What must be left of a unit column (squared) once others are projected out.
_ALIKE = 0.02
# A residual has structure if a further wave explains this many times what one of noise would.
_STRUCTURE = 25.0
# Rounds in which every wave is sought once more.
_ROUNDS = 2


class _Kind(NamedTuple):
    """How a wave decays, `exp(-a x - (b x)^2)`: which parameter gives the sought one of a and b (None
    if neither is), what they are where they are known, and whether it stands for a and b both."""

    key: str | None
    gaussian: bool
    a: float
    b: float
    both: bool


class _Wave(NamedTuple):
    freq: float
    decay: float


def _strength(part: AbstractBasis, key: str, value: float) -> tuple[float, bool]:
    """What a parameter says of a or b, and whether it is b."""
    if key == "gaussian":
        return np.pi * value / (2 * np.sqrt(np.log(2.0))), True
    size = {"rate": value, "fwhm": np.pi * value}.get(key, 1.0 / value if value > 0 else np.inf)
    bell = getattr(part, "envelope", "") == "gaussian"
    return (size / np.sqrt(2.0), True) if bell else (size, False)


def _value(part: AbstractBasis, key: str, strength: float) -> float:
    """The inverse of `_strength`."""
    if key == "gaussian":
        return strength * 2 * np.sqrt(np.log(2.0)) / np.pi
    if getattr(part, "envelope", "") == "gaussian":
        strength = strength * np.sqrt(2.0)
    return {"rate": strength, "fwhm": strength / np.pi}.get(key, 1.0 / strength)


class Waves:
    """The search for all waves of `slots` in rows `x` (m,), of weights `scale`, with known columns q
    (m, l) orthonormal and data y (m, k) free of them; `solve` returns the values of each."""

    def __init__(
        self,
        slots: Sequence[SoughtComponent],
        x: np.ndarray,
        scale: np.ndarray,
        q: np.ndarray,
        y: np.ndarray,
    ):
        self.slots, self.x, self.scale, self.q = slots, x, scale, q
        most = max(_MOST // len(x), 1)
        if y.shape[1] > most:
            left, size, _ = np.linalg.svd(y, full_matrices=False)
            y = left[:, :most] * size[:most]
        self.y, self.total = y, float(np.sum(np.abs(y) ** 2))
        self.pairs = [len(slot.part.column_names) == 2 for slot in slots]
        spacing = np.diff(np.unique(x))
        self.span, self.spacing = float(np.ptp(x)), float(np.median(spacing))
        even = np.ptp(spacing) <= 1e-6 * self.spacing
        step = self.spacing if even else max(self.spacing / _FINE, self.span / _GRID)
        self.at = np.round((x - x.min()) / step).astype(int)
        self.size = 1 << int(2 * self.at.max() + 1).bit_length()
        self.freq = np.fft.fftfreq(self.size, step)
        self.kinds = [self._kind(slot) for slot in slots]
        self.ends = [self._box(i) for i in range(len(slots))]

    def _kind(self, slot: SoughtComponent) -> _Kind:
        keys = [k for k in ("rate", "tau", "fwhm", "gaussian") if k in slot.box]
        a, b, open_ = 0.0, 0.0, []
        for key in keys:
            low, high = slot.box[key]
            if low < high:
                open_.append(key)
                continue
            strength, bell = _strength(slot.part, key, low)
            a, b = (a, strength) if bell else (strength, b)
        if not open_:
            return _Kind(None, False, a, b, False)
        return _Kind(open_[0], _strength(slot.part, open_[0], 1.0)[1], a, b, len(open_) == 2)

    def _box(self, i: int) -> np.ndarray:
        """Lowest and highest frequency and decay (2, 2) of a slot."""
        slot, kind = self.slots[i], self.kinds[i]
        top = 0.5 / self.spacing
        low, high = slot.box["freq"]
        if low < high:
            # One of a cosine and a sine has no sign, and is no constant.
            least = 0.25 / self.span if self.pairs[i] else -top
            low, high = max(low, least), min(high, top)
            low, high = (low, high) if low < high else slot.box["freq"]
        decays = np.array([0.3 / self.span, 1.0 / self.spacing])
        if kind.key is not None:
            ends = [_strength(slot.part, kind.key, end)[0] for end in slot.box[kind.key]]
            decays = np.clip(decays, max(min(ends), 1e-9 / self.span), max(ends))
        return np.stack([[low, high], decays], axis=1)

    def _envelope(self, i: int, decay: float) -> tuple[np.ndarray, np.ndarray]:
        """The weighted envelope, and its derivative by the decay over itself."""
        kind, x = self.kinds[i], self.x
        a, b = (kind.a, decay) if kind.gaussian else (decay, kind.b)
        a, b = (kind.a, kind.b) if kind.key is None else (a, b)
        # From the first sample on, so that nothing overflows.
        exponent = -a * (x - x.min()) - (b * x) ** 2
        slope = -2 * decay * x**2 if kind.gaussian else -(x - x.min())
        return self.scale * np.exp(exponent - exponent.max()), slope

    def _columns(self, i: int, wave: _Wave) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns (m, 1 or 2), and their derivatives by frequency and by decay."""
        envelope, slope = self._envelope(i, wave.decay)
        turn = 2 * np.pi * self.x
        phase = turn * wave.freq
        if self.pairs[i]:
            cos, sin = envelope * np.cos(phase), envelope * np.sin(phase)
            column = np.stack([cos, sin], axis=1)
            by_freq = np.stack([-turn * sin, turn * cos], axis=1)
        else:
            column = (envelope * np.exp(1j * phase))[:, None]
            by_freq = 1j * turn[:, None] * column
        return column, by_freq, slope[:, None] * column

    def _free(self, a: np.ndarray) -> np.ndarray:
        return a - self.q @ (self.q.conj().T @ a) if self.q.size else a

    def solve(self) -> list[Values | None]:
        """Values for every slot."""
        found: list[_Wave | None] = [None] * len(self.slots)
        cost = self.total
        while None in found:
            found, cost = self._refined(self._with_one(found))
        for _ in range(_ROUNDS if len(found) > 1 else 0):
            if not self._structured(found):
                break
            before = cost
            for i in range(len(found)):
                fewer = [None if j == i else wave for j, wave in enumerate(found)]
                trial, new = self._refined(self._with_one(self._refined(fewer)[0]))
                if new < cost * (1 - _GAIN):
                    found, cost = trial, new
            if cost == before:
                break
        return [self._values(i, wave) for i, wave in enumerate(found) if wave is not None]

    def _values(self, i: int, wave: _Wave) -> Values:
        slot, kind = self.slots[i], self.kinds[i]
        out = {k: low for k, (low, high) in slot.box.items() if low == high}
        out.setdefault("freq", wave.freq)
        if kind.key is not None:
            # Half of a width each, where two parameters make it.
            out[kind.key] = _value(
                slot.part, kind.key, 0.5 * wave.decay if kind.both else wave.decay
            )
            if kind.both:
                out["gaussian"] = 0.5 * wave.decay / np.pi
        return {
            k: float(np.clip(out.get(k, low), low, high)) for k, (low, high) in slot.box.items()
        }

    def _with_one(self, found: list[_Wave | None]) -> list[_Wave | None]:
        """With the wave that explains most of what is left, in the first slot that may have it."""
        _, i, wave = self._best(found, [i for i, one in enumerate(found) if one is None])
        return [wave if j == i else one for j, one in enumerate(found)]

    def _structured(self, found: list[_Wave | None]) -> bool:
        """Whether a further wave would explain much more of what is left than one of noise would."""
        cost = self._look(found)[0]
        gain = self._best(found, range(len(found)))[0]
        return gain * self.x.size > _STRUCTURE * cost

    def _best(
        self, found: Sequence[_Wave | None], slots: Iterable[int]
    ) -> tuple[float, int, _Wave | None]:
        """How much of the sum of squares a further wave can explain, in which of some slots, and which."""
        _, rest, state = self._look(found)
        # What a column has in common with those that are there already explains nothing.
        taken = self.q if state is None else np.concatenate([self.q, state[1]], axis=1)
        gain, slot, best = -1.0, -1, None
        kinds = {(self.kinds[i], self.pairs[i], self.ends[i].tobytes()): i for i in [*slots][::-1]}
        for i in kinds.values():
            (low, slow), (high, fast) = self.ends[i]
            inside = (self.freq >= low) & (self.freq <= high)
            if not inside.any():
                inside[np.argmin(np.abs(self.freq - 0.5 * (low + high)))] = True
            count = max(int(np.ceil(np.log2(fast / slow))), 1) + 1 if fast > slow else 1
            for decay in np.geomspace(slow, fast, count) if self.kinds[i].key else [0.0]:
                gains = self._gains(i, float(decay), rest, taken)
                gains = np.where(inside, gains, -1.0)
                at = int(np.argmax(gains))
                if gains[at] > gain:
                    freq = float(np.clip(self.freq[at], low, high))
                    gain, slot, best = float(gains[at]), i, _Wave(freq, float(decay))
        return gain, slot, best

    def _gains(self, i: int, decay: float, rest: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """What one more wave of this decay explains of `rest`, at every frequency of the grid, with
        `taken` (m, l) orthonormal projected out of it; of pairs by their 2 x 2 matrix."""
        envelope, _ = self._envelope(i, decay)
        n, a = self._spectrum(envelope, rest), self._spectrum(envelope, taken)
        size = max(float(np.sum(envelope**2)), 1e-300)
        left = size - np.sum(np.abs(a) ** 2, axis=1)
        power, left = np.sum(np.abs(n) ** 2, axis=1), np.maximum(left, _ALIKE * size)
        if not self.pairs[i]:
            return power / left

        def opposite(f: np.ndarray) -> np.ndarray:
            return np.roll(f[::-1], 1, axis=0)

        twice = self._spectrum(envelope**2, np.ones((len(self.x), 1)))[:, 0]
        cross = twice[2 * np.arange(self.size) % self.size] - np.sum(a * opposite(a).conj(), axis=1)
        mixed = np.sum(n.conj() * opposite(n), axis=1) * cross
        both = left * opposite(left)
        det = both - np.abs(cross) ** 2
        gain = opposite(left) * power + left * opposite(power) - 2 * mixed.real
        return np.where(det > _ALIKE * both, gain, 0.0) / np.where(det > _ALIKE * both, det, 1.0)

    def _spectrum(self, envelope: np.ndarray, a: np.ndarray) -> np.ndarray:
        """The products of columns (m, c) with waves of this envelope, at every frequency of the grid."""
        put = np.zeros((self.size, a.shape[1]), complex)
        np.add.at(put, self.at, envelope[:, None] * a)
        return np.fft.fft(put, axis=0)

    def _look(self, found: Sequence[_Wave | None]):
        """The sum of squares with these waves, what they leave, and what steps are made from."""
        chosen = [(i, wave) for i, wave in enumerate(found) if wave is not None]
        if not chosen:
            return self.total, self.y, None
        blocks = [[self._free(a) for a in self._columns(i, wave)] for i, wave in chosen]
        q, r = np.linalg.qr(np.concatenate([block[0] for block in blocks], axis=1))
        diagonal = np.abs(np.diag(r))
        if not diagonal.min() > 1e-9 * diagonal.max():
            return np.inf, self.y, None
        turned = q.conj().T @ self.y
        rest = self.y - q @ turned
        return float(np.sum(np.abs(rest) ** 2)), rest, (blocks, q, np.linalg.solve(r, turned))

    def _refined(self, found: list[_Wave | None]) -> tuple[list[_Wave | None], float]:
        """After some steps of Levenberg-Marquardt with Kaufman's Jacobian."""
        chosen = [i for i, wave in enumerate(found) if wave is not None]
        low, high = (
            np.concatenate([self.ends[i][e] for i in chosen] or [np.zeros(0)]) for e in (0, 1)
        )
        held = np.array([self.kinds[i].key is None for i in chosen for _ in (0, 1)], bool)
        held[0::2] = False
        free = (low < high) & ~held
        at = np.array([v for wave in found if wave is not None for v in wave])

        def placed(alpha: np.ndarray) -> list[_Wave | None]:
            out = list(found)
            for j, i in enumerate(chosen):
                out[i] = _Wave(float(alpha[2 * j]), float(alpha[2 * j + 1]))
            return out

        cost, rest, state = self._look(found)
        damping = 1e-3
        for _ in range(_STEPS if free.any() else 0):
            if state is None:
                break
            blocks, q, coef = state
            moved, first = [], 0
            for column, by_freq, by_decay in blocks:
                mine = coef[first : first + column.shape[1]]
                moved += [by_freq @ mine, by_decay @ mine]
                first += column.shape[1]
            jac = np.stack(moved, axis=-1)[..., free]
            flat = jac.reshape(len(jac), -1)
            jac = (flat - q @ (q.conj().T @ flat)).reshape(-1, int(free.sum()))
            normal = np.real(jac.conj().T @ jac)
            slope = np.real(jac.conj().T @ rest.reshape(-1))
            scale, before = np.maximum(np.diag(normal), 1e-300), cost
            for _ in range(5):
                step = np.linalg.lstsq(normal + damping * np.diag(scale), slope, rcond=None)[0]
                trial = at.copy()
                trial[free] = np.clip(at[free] + step, low[free], high[free])
                new, new_rest, new_state = self._look(placed(trial))
                if new < cost:
                    at, cost, rest, state, damping = trial, new, new_rest, new_state, damping / 10
                    break
                damping *= 10
            if not cost < before * (1 - 1e-2 * _GAIN):
                break
        return placed(at), cost
