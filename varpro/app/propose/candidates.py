"""Models that data may be of, from what their shape allows, and what starts with what.

A candidate is a sum of components, the values that are known of it, and words for it. What is left open is
found by `varpro.find_starts`.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

import varpro as vp

DECAYS, PEAKS = 3, 12
# Prominence, in standard deviations of what is smoothed, from which a maximum is no noise: of a thousand
# samples of noise the largest step from a valley to a summit is six.
_PROMINENT = 8.0
_SPOKEN: dict[type, str] = {
    vp.Gaussian: "Gaussian",
    vp.Lorentzian: "Lorentzian",
    vp.PseudoVoigt: "pseudo-Voigt",
}
_WORDS = (
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model in words, its components, and values of parameters that are known."""

    words: str
    model: vp.basis.AbstractBasis
    known: dict[str, float] = dataclasses.field(default_factory=dict)
    fixed: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Shape:
    """Maxima and minima that stand out of the noise: their places and widths at half height."""

    maxima: list[tuple[float, float]]
    minima: list[tuple[float, float]]
    noise: float
    upward: bool

    @property
    def extrema(self) -> int:
        return len(self.maxima) + len(self.minima)


def shape_of(x: np.ndarray, y: np.ndarray, counted: bool) -> Shape:
    """The shape of one curve y (m,)."""
    # Counts have the same noise everywhere under the root.
    curve = np.sqrt(np.maximum(y, 0.0) + 0.375) if counted else y
    noise = float(np.median(np.abs(np.diff(curve, 2)))) * 1.4826 / math.sqrt(6.0)
    noise = max(noise, 1e-9 * float(np.ptp(curve)))
    maxima, minima = _summits(x, curve, noise), _summits(x, -curve, noise)
    middle = float(np.median(curve))
    upward = float(curve.max()) - middle >= middle - float(curve.min())
    return Shape(maxima, minima, noise, upward)


def _summits(x: np.ndarray, y: np.ndarray, noise: float) -> list[tuple[float, float]]:
    """Maxima inside the range, from the narrow to the broad ones, each found where smoothing suits it."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks, peak_widths

    found: list[tuple[float, float, float, float]] = []  # place, width, and the two ends in samples
    scale = 0.7
    while scale < max(len(y) / 8, 1):
        smooth = gaussian_filter1d(y, scale, mode="nearest")
        left = noise / math.sqrt(2.0 * math.sqrt(math.pi) * scale)
        least = max(_PROMINENT * left, 0.01 * float(np.ptp(smooth)))
        peaks, _ = find_peaks(smooth, prominence=least)
        widths, _, first, last = peak_widths(smooth, peaks, 0.5) if peaks.size else ([], [], [], [])
        index = np.arange(len(x))
        for i, peak in enumerate(peaks):
            a, b = float(first[i]), float(last[i])
            if any(a - scale <= q <= b + scale or c <= peak <= d for q, _, c, d in found):
                continue
            width = abs(float(np.interp(b, index, x) - np.interp(a, index, x)))
            width = math.sqrt(
                max(width**2 - (2.355 * scale * width / max(widths[i], 1.0)) ** 2, 0.1 * width**2)
            )
            found.append((float(peak), width, a, b))
        scale *= 2.0
    found.sort(key=lambda one: one[0])
    return [(float(x[int(place)]), width) for place, width, _, _ in found][:PEAKS]


def number_of(n: int, noun: str) -> str:
    """three decays"""
    return f"{_WORDS[n - 1]} {noun}{'s' * (n > 1)}"


def peaks_of(kind: type, places: list[tuple[float, float]], first: int = 1):
    """Peaks with starts: their components, and values by name."""
    parts, known = [], {}
    for i, (center, width) in enumerate(places, start=first):
        part = kind(f"peak{i}")
        parts.append(part)
        for name in part.parameters:
            local = name.rpartition(".")[2]
            # Of a Gaussian width is the standard deviation, of the others half of that at half height.
            half = width / (2.3548 if kind is vp.Gaussian else 2.0)
            value = {"center": center, "eta": 0.5, "width": half}[local]
            known[part.parameter_name(name)] = value
    return parts, known


def peaks_words(kind: type, n: int) -> str:
    return number_of(n, f"{_SPOKEN[kind]} peak")


def candidates(x: np.ndarray, y: np.ndarray, shape: Shape) -> Iterator[Candidate]:
    """Models from the simplest on."""
    if np.iscomplexobj(y):
        for n in range(1, 7):
            parts = [vp.ComplexExp(f"line{i + 1}", rate=vp.Param(lower=0.0)) for i in range(n)]
            yield Candidate(number_of(n, "decaying wave"), vp.basis.Sum(tuple(parts)))
        return
    background = vp.Constant("background")
    span = float(x[-1] - x[0])
    if y.shape[1] == 1:
        yield Candidate("a constant", background)
        yield Candidate("a straight line", vp.Polynomial("line", degree=1))
        for degree in (2, 3):
            yield Candidate(
                f"a polynomial of degree {degree}", vp.Polynomial("curve", degree=degree)
            )
    if shape.extrema <= 2:
        for n in range(1, DECAYS + 1):
            parts = [vp.Exp(f"decay{i + 1}", tau=vp.Param(lower=0.0)) for i in range(n)]
            yield Candidate(number_of(n, "decay"), sum(parts, background))
        yield Candidate(
            "one stretched decay",
            vp.StretchedExp("decay", tau=vp.Param(lower=0.0), beta=vp.Param(lower=0.1, upper=1.5))
            + background,
        )
        for rate in (1.0 / span, 5.0 / span):
            yield Candidate(
                "exponential growth",
                vp.Exp("growth", rate=vp.Param(-rate, upper=0.0)) + background,
                {"growth.rate": -rate},
            )
    yield from _steps(x, y, shape)
    yield from _after_a_response(x, y, shape)
    if shape.extrema >= 1 or len(x) < 30:
        for n in (1, 2):
            for damped in (False, True):
                parts = [
                    vp.Oscillation(f"wave{i + 1}", tau=vp.Param(lower=0.0) if damped else None)
                    for i in range(n)
                ]
                noun = "decaying wave" if damped else "wave"
                yield Candidate(number_of(n, noun), sum(parts, background))
    places = shape.maxima if shape.upward else shape.minima
    if not places:
        return
    # A maximum may be of the noise, or of what lies below it.
    kinds = (vp.Gaussian, vp.Lorentzian, vp.PseudoVoigt)[: 3 if len(places) <= 5 else 2]
    for below, base in (
        ("", background),
        (" on a decaying background", vp.Exp("background")),
        (" on a curved background", vp.Polynomial("background", degree=2)),
    ):
        for kind in kinds:
            if isinstance(base, vp.Exp) and (x[0] < 0 or kind is vp.PseudoVoigt):
                continue
            parts, known = peaks_of(kind, places)
            yield Candidate(f"{peaks_words(kind, len(parts))}{below}", sum(parts, base), known)


def _steps(x: np.ndarray, y: np.ndarray, shape: Shape) -> Iterator[Candidate]:
    """Edges, where y ends elsewhere than it began."""
    from scipy.ndimage import gaussian_filter1d

    curve = y[:, int(np.argmax(np.ptp(y, axis=0)))]
    if shape.extrema > 2 or len(x) < 6:
        return
    curve = gaussian_filter1d(curve, max(len(x) / 60, 0.3), mode="nearest")
    ends = max(len(x) // 20, 1)
    first, last = float(np.median(curve[:ends])), float(np.median(curve[-ends:]))
    if abs(last - first) <= 0.5 * float(np.ptp(curve)):
        return
    # How far it is from one end to the other, which never goes back.
    way = np.maximum.accumulate((curve - first) / (last - first))
    low, center, high = (
        float(x[min(np.searchsorted(way, q), len(x) - 1)]) for q in (0.16, 0.5, 0.84)
    )
    step = float(np.median(np.diff(np.unique(x))))
    known = {"step.center": center}
    for words, form, width in (
        ("a step", "erf", (high - low) / 2),
        ("a step of logistic shape", "logistic", (high - low) / 3.3),
    ):
        model = vp.Step("step", width=vp.Param(lower=0.0), shape=form) + vp.Constant("background")
        yield Candidate(words, model, known | {"step.width": max(width, step / 4)})


def _after_a_response(x: np.ndarray, y: np.ndarray, shape: Shape) -> Iterator[Candidate]:
    """Decays after a Gaussian response, and decays with what stays, where y is flat at first."""
    strength = np.abs(y - np.median(y[: max(3, len(y) // 20)], axis=0)).sum(axis=1)
    top = float(np.quantile(strength, 0.98))
    high = np.flatnonzero(strength >= 0.9 * top)
    if not high.size or len(shape.maxima) > 2:
        return
    rise = int(high[0])
    if rise < 3 or rise > 0.9 * len(x):
        return
    before = np.flatnonzero(strength[: rise + 1] >= 0.5 * top)
    half = int(before[0]) if before.size else rise
    step = max(float(x[half] - x[max(half - 1, 0)]), float(x[min(half + 1, len(x) - 1)] - x[half]))
    low = np.flatnonzero(strength[: half + 1] <= 0.16 * top)
    edge = float(x[rise] - x[low[-1]]) if low.size else step
    width = max(edge / 2.4, step / 2)
    center, span = float(x[half]), float(x[-1] - x[rise])
    irf = vp.GaussianIRF("irf", center=vp.Param(center), width=vp.Param(width, lower=0.0))
    known = {"irf.center": center, "irf.width": width}
    background = vp.Constant("background")
    if span <= 0:
        return
    stays = vp.Exp("step", rate=vp.Param(0.0, fixed=True), irf=irf)
    for n in range(1, DECAYS + 1):
        taus = (
            np.geomspace(2 * width, max(span / 2, 5 * width), n + 2)[1:-1] if n > 1 else [span / 4]
        )
        parts = [
            vp.Exp(f"decay{i + 1}", tau=vp.Param(float(tau), lower=0.0), irf=irf)
            for i, tau in enumerate(taus)
        ]
        starts = known | {f"decay{i + 1}.tau": float(tau) for i, tau in enumerate(taus)}
        words = f"{number_of(n, 'decay')} after a Gaussian response"
        yield Candidate(words, sum(parts, background), starts)
        yield Candidate(
            f"{words}, and what stays",
            sum(parts, stays) + background,
            starts | {"step.rate": 0.0},
            ("step.rate",),
        )
