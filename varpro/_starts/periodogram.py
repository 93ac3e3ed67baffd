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
from .damped_steps import improved

# Steps of a refinement at most, and the gain in the sum of squares below which there is no further one.
_STEPS, _GAIN = 12, 1e-3
# Numbers of data that are looked at, points of the grid for uneven times, and its steps in a spacing.
_NUMBERS, _GRID, _FINE = 2**17, 2**18, 4
# What must be left of a unit column (squared) once others are projected out.
_LEAST_LEFT = 0.02
# A residual has structure if a further wave explains this many times what one of noise would.
_STRUCTURE = 25.0
# Rounds in which every wave is sought once more.
_ROUNDS = 2


class _Kind(NamedTuple):
    """The decay of a wave, `exp(-a x - (b x)^2)`: the parameter that gives the sought one of a and b
    (None if neither is), whether that is b, the known values of a and b, and whether the parameter
    stands for a and b combined."""

    key: str | None
    gaussian: bool
    a: float
    b: float
    combined: bool


class _Wave(NamedTuple):
    """Frequency in cycles per unit of x, and the decay a or b of `_Kind`."""

    freq: float
    decay: float


def _decay_of(part: AbstractBasis, key: str, value: float) -> tuple[float, bool]:
    """Convert a parameter to a or b of `exp(-a x - (b x)^2)`; the flag says whether it is b.

    A Gaussian of full width w in frequency has `b = pi w / (2 sqrt(ln 2))`.
    """
    if key == "gaussian":
        return np.pi * value / (2 * np.sqrt(np.log(2.0))), True
    decay = {"rate": value, "fwhm": np.pi * value}.get(key, 1.0 / value if value > 0 else np.inf)
    gaussian = getattr(part, "envelope", "") == "gaussian"
    return (decay / np.sqrt(2.0), True) if gaussian else (decay, False)


def _parameter_value(part: AbstractBasis, key: str, decay: float) -> float:
    """Convert a or b of `exp(-a x - (b x)^2)` to a parameter: the inverse of `_decay_of`."""
    if key == "gaussian":
        return decay * 2 * np.sqrt(np.log(2.0)) / np.pi
    if getattr(part, "envelope", "") == "gaussian":
        decay = decay * np.sqrt(2.0)
    return {"rate": decay, "fwhm": decay / np.pi}.get(key, 1.0 / decay)


def _squared(a: np.ndarray) -> np.ndarray:
    """Squares of the absolute values of complex numbers."""
    return np.real(a) ** 2 + np.imag(a) ** 2


class WaveSearch:
    """A search for all waves of `slots` in rows `x` (m,), of weights `scale` (m,), with known columns
    q (m, l) orthonormal and data y (m, k) free of them; `solve` returns the values of each."""

    def __init__(
        self,
        slots: Sequence[SoughtComponent],
        x: np.ndarray,
        scale: np.ndarray,
        q: np.ndarray,
        y: np.ndarray,
    ):
        self.slots, self.x, self.scale, self.q = slots, x, scale, q
        width = max(_NUMBERS // len(x), 1)
        if y.shape[1] > width:
            u, s, _ = np.linalg.svd(y, full_matrices=False)
            y = u[:, :width] * s[:width]
        self.y, self.total = y, float(np.sum(np.abs(y) ** 2))
        self.pairs = [len(slot.part.column_names) == 2 for slot in slots]
        spacing = np.diff(np.unique(x))
        self.span, self.spacing = float(np.ptp(x)), float(np.median(spacing))
        even = np.ptp(spacing) <= 1e-6 * self.spacing
        step = self.spacing if even else max(self.spacing / _FINE, self.span / _GRID)
        self.positions = np.round((x - x.min()) / step).astype(int)
        self.size = 1 << int(2 * self.positions.max() + 1).bit_length()
        self.freq = np.fft.fftfreq(self.size, step)
        self.kinds = [self._kind(slot) for slot in slots]
        self.ends = [self._box(i) for i in range(len(slots))]

    def _kind(self, slot: SoughtComponent) -> _Kind:
        """Read from the box of a slot which decay is sought and which is known."""
        keys = [k for k in ("rate", "tau", "fwhm", "gaussian") if k in slot.box]
        a, b, open_ = 0.0, 0.0, []
        for key in keys:
            low, high = slot.box[key]
            if low < high:
                open_.append(key)
                continue
            decay, gaussian = _decay_of(slot.part, key, low)
            a, b = (a, decay) if gaussian else (decay, b)
        if not open_:
            return _Kind(None, False, a, b, False)
        return _Kind(open_[0], _decay_of(slot.part, open_[0], 1.0)[1], a, b, len(open_) == 2)

    def _box(self, i: int) -> np.ndarray:
        """Lowest (row 0) and highest (row 1) frequency and decay of a slot (2, 2)."""
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
            ends = [_decay_of(slot.part, kind.key, end)[0] for end in slot.box[kind.key]]
            decays = np.clip(decays, max(min(ends), 1e-9 / self.span), max(ends))
        return np.stack([[low, high], decays], axis=1)

    def _envelope(self, i: int, decay: float) -> tuple[np.ndarray, np.ndarray]:
        """The weighted envelope (m,), largest value 1 times the weight, and its logarithmic derivative
        by the decay (m,)."""
        kind, x = self.kinds[i], self.x
        a, b = (kind.a, decay) if kind.gaussian else (decay, kind.b)
        a, b = (kind.a, kind.b) if kind.key is None else (a, b)
        # From the first sample on, so that nothing overflows.
        exponent = -a * (x - x.min()) - (b * x) ** 2
        slope = -2 * decay * x**2 if kind.gaussian else -(x - x.min())
        return self.scale * np.exp(exponent - exponent.max()), slope

    def _columns(self, i: int, wave: _Wave) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns (m, 1 or 2) of a wave, and their derivatives by frequency and by decay."""
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

    def _free_of_known(self, a: np.ndarray) -> np.ndarray:
        """Project the known columns out of columns (m, c)."""
        return a - self.q @ (self.q.conj().T @ a) if self.q.size else a

    def solve(self) -> list[Values | None]:
        """Choose values by local name for every slot, inside its box."""
        estimate: list[_Wave | None] = [None] * len(self.slots)
        cost = self.total
        while None in estimate:
            estimate, cost = self._refined(self._add_wave(estimate))
        for _ in range(_ROUNDS if len(estimate) > 1 else 0):
            if not self._has_structure(estimate):
                break
            before = cost
            for i in range(len(estimate)):
                fewer = [None if j == i else wave for j, wave in enumerate(estimate)]
                trial, new = self._refined(self._add_wave(self._refined(fewer)[0]))
                if new < cost * (1 - _GAIN):
                    estimate, cost = trial, new
            if cost == before:
                break
        return [self._values(i, wave) for i, wave in enumerate(estimate) if wave is not None]

    def _values(self, i: int, wave: _Wave) -> Values:
        """Convert a wave to the parameters of slot `i`, inside its box."""
        slot, kind = self.slots[i], self.kinds[i]
        values = {k: low for k, (low, high) in slot.box.items() if low == high}
        values.setdefault("freq", wave.freq)
        if kind.key is not None:
            # Half of a width each, where two parameters make it.
            values[kind.key] = _parameter_value(
                slot.part, kind.key, 0.5 * wave.decay if kind.combined else wave.decay
            )
            if kind.combined:
                values["gaussian"] = 0.5 * wave.decay / np.pi
        return {
            k: float(np.clip(values.get(k, low), low, high)) for k, (low, high) in slot.box.items()
        }

    def _add_wave(self, estimate: list[_Wave | None]) -> list[_Wave | None]:
        """Add the wave that explains most of the residual, in the first slot that may have it."""
        _, i, wave = self._best_wave(
            estimate, [i for i, current in enumerate(estimate) if current is None]
        )
        return [wave if j == i else current for j, current in enumerate(estimate)]

    def _has_structure(self, estimate: list[_Wave | None]) -> bool:
        """Whether a further wave explains much more of the residual than one of noise would."""
        cost = self._project(estimate)[0]
        gain = self._best_wave(estimate, range(len(estimate)))[0]
        return gain * self.x.size > _STRUCTURE * cost

    def _best_wave(
        self, estimate: Sequence[_Wave | None], slots: Iterable[int]
    ) -> tuple[float, int, _Wave | None]:
        """Find the further wave that explains most: its share of the sum of squares, its slot among
        `slots`, and itself."""
        _, residual, state = self._project(estimate)
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
                gains = self._gains(i, float(decay), residual, taken)
                gains = np.where(inside, gains, -1.0)
                index = int(np.argmax(gains))
                if gains[index] > gain:
                    freq = float(np.clip(self.freq[index], low, high))
                    gain, slot, best = float(gains[index]), i, _Wave(freq, float(decay))
        return gain, slot, best

    def _gains(self, i: int, decay: float, residual: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Sum of squares of the residual (m, k) that a wave of this decay explains at every frequency
        of the grid (size,), once `taken` (m, l) orthonormal is projected out of it.

        A cosine and a sine together explain `n^H A^{-1} n` with their 2 x 2 Gram matrix A, which is
        made from the waves of frequency f and -f. Of real numbers the products with these two are each
        other's conjugates, so half of the grid says everything.
        """
        envelope, _ = self._envelope(i, decay)
        real = self.pairs[i] and np.isrealobj(residual) and np.isrealobj(taken)
        correlation = self._spectrum(envelope, residual, real)
        shared = self._spectrum(envelope, taken, real)
        size = max(float(np.sum(envelope**2)), 1e-300)
        left = size - np.sum(_squared(shared), axis=0)
        power, left = np.sum(_squared(correlation), axis=0), np.maximum(left, _LEAST_LEFT * size)
        if not self.pairs[i]:
            return power / left
        twice = self._spectrum(envelope**2, np.ones((len(self.x), 1)), True)[0]
        half = np.concatenate([twice, twice[-2:0:-1].conj()])[::2]  # at frequencies twice as high
        if real:
            cross = np.append(half, half[0]) - np.sum(shared**2, axis=0)
            mixed = np.sum(correlation.conj() ** 2, axis=0) * cross
            product, gain = left**2, 2 * left * power - 2 * mixed.real
        else:

            def opposite(f: np.ndarray) -> np.ndarray:
                return np.roll(f[..., ::-1], 1, axis=-1)

            cross = np.tile(half, 2) - np.sum(shared * opposite(shared).conj(), axis=0)
            mixed = np.sum(correlation.conj() * opposite(correlation), axis=0) * cross
            product = left * opposite(left)
            gain = opposite(left) * power + left * opposite(power) - 2 * mixed.real
        det = product - _squared(cross)
        apart = det > _LEAST_LEFT * product
        gain = np.where(apart, gain, 0.0) / np.where(apart, det, 1.0)
        return np.concatenate([gain, gain[-2:0:-1]]) if real else gain

    def _spectrum(self, envelope: np.ndarray, a: np.ndarray, real: bool) -> np.ndarray:
        """Products of columns (m, c) with waves of this envelope, at every frequency of the grid
        (c, size); of real columns at those that are not negative, and the lowest (c, size / 2 + 1)."""
        grid = np.zeros((a.shape[1], self.size), float if real else complex)
        np.add.at(grid.T, self.positions, envelope[:, None] * a)
        return np.fft.rfft(grid) if real else np.fft.fft(grid)

    def _project(self, estimate: Sequence[_Wave | None]):
        """Project the waves out of the data.

        **Returns:** the sum of squares that is left, the residual (m, k), and for the next step the
        columns of every wave with derivatives, Q and coefficients; None in place of the last if there
        are no waves or their columns are linearly dependent, then with an infinite sum of squares.
        """
        chosen = [(i, wave) for i, wave in enumerate(estimate) if wave is not None]
        if not chosen:
            return self.total, self.y, None
        blocks = [[self._free_of_known(a) for a in self._columns(i, wave)] for i, wave in chosen]
        q, r = np.linalg.qr(np.concatenate([block[0] for block in blocks], axis=1))
        diagonal = np.abs(np.diag(r))
        if not diagonal.min() > 1e-9 * diagonal.max():
            return np.inf, self.y, None
        rotated = q.conj().T @ self.y
        residual = self.y - q @ rotated
        return (
            float(np.sum(np.abs(residual) ** 2)),
            residual,
            (blocks, q, np.linalg.solve(r, rotated)),
        )

    def _refined(self, estimate: list[_Wave | None]) -> tuple[list[_Wave | None], float]:
        """Improve all waves by some steps of Levenberg-Marquardt with Kaufman's Jacobian (1975), inside
        their boxes; return them and the sum of squares."""
        chosen = [i for i, wave in enumerate(estimate) if wave is not None]
        low, high = (
            np.concatenate([self.ends[i][e] for i in chosen] or [np.zeros(0)]) for e in (0, 1)
        )
        held = np.array([self.kinds[i].key is None for i in chosen for _ in (0, 1)], bool)
        held[0::2] = False
        free = (low < high) & ~held
        alpha = np.array([v for wave in estimate if wave is not None for v in wave])

        def waves_of(values: np.ndarray) -> list[_Wave | None]:
            full, waves = alpha.copy(), list(estimate)
            full[free] = values
            for j, i in enumerate(chosen):
                waves[i] = _Wave(float(full[2 * j]), float(full[2 * j + 1]))
            return waves

        def evaluate(values: np.ndarray):
            cost, residual, state = self._project(waves_of(values))
            return cost, None if state is None else (residual, *state)

        def equations(values: np.ndarray, state) -> tuple[np.ndarray, np.ndarray]:
            residual, blocks, q, coef = state
            derivatives, first = [], 0
            for column, by_freq, by_decay in blocks:
                wave_coef = coef[first : first + column.shape[1]]
                derivatives += [by_freq @ wave_coef, by_decay @ wave_coef]
                first += column.shape[1]
            jac = np.stack(derivatives, axis=-1)[..., free]
            flat = jac.reshape(len(jac), -1)
            jac = (flat - q @ (q.conj().T @ flat)).reshape(-1, int(free.sum()))
            return np.real(jac.conj().T @ jac), np.real(jac.conj().T @ residual.reshape(-1))

        values, cost = improved(
            alpha[free], low[free], high[free], evaluate, equations, _STEPS, 1e-2 * _GAIN
        )
        return waves_of(values), cost
