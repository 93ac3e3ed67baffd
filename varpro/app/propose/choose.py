"""The model of least AICc among candidates, each taken some steps towards its optimum.

By scipy and not by `varpro.fit`, which would compile every candidate for seconds: the winner alone is fitted.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

import varpro as vp

from .candidates import PEAKS, Candidate, candidates, peaks_of, peaks_words, shape_of
from .polish import SETTLING, WIDTHS, columns_of, names_of, parts_of, refined
from .samples import Samples

_PEAKS = (vp.Gaussian, vp.Lorentzian, vp.PseudoVoigt)
# Evaluations that each candidate is given, what AICc must gain for parameters more, and the condition
# number beyond which components are one too many.
_POLISH, WORTH, _CONDITION = 60, 16.0, 1e4
# How often peaks are left out that make no sense.
_PRUNINGS = 3
# Peaks beyond which their kind is chosen before what lies below them.
_MANY = 5
# The share of the variance below which what is left is rounding.
_ROUNDING = 1e-12
# Summits of the residual that are tried as further peaks, one after the other.
_FURTHER = 3


@dataclasses.dataclass(frozen=True)
class Choice:
    """A candidate with its starts, its AICc, how many parameters it has, the share of the variance that it leaves,
    and what AICc gains in noise alone by a search among all frequencies."""

    candidate: Candidate
    starts: dict[str, float]
    aicc: float
    count: int
    left: float
    searched: float


def choose(samples: Samples) -> list[Choice]:
    """Models from the best on; none where no candidate has numbers."""
    choices: list[Choice] = []
    level: dict[type, float] = {}  # AICc of peaks on a constant
    for candidate in candidates(samples.x, samples.y, samples.shape):
        parts = parts_of(candidate.model)
        peaks = [type(part) for part in parts if isinstance(part, _PEAKS)]
        flat = any(isinstance(part, vp.Constant) for part in parts)
        if len(peaks) > _MANY and not flat and peaks[0] is not min(level, key=level.__getitem__):
            continue
        choice = tried(candidate, samples)
        if peaks and flat:
            level[peaks[0]] = math.inf if choice is None else choice.aicc
        if choice is not None:
            choices.append(choice)
            if _exact(choice):
                break
    ranked = _ranked(choices)
    if ranked and (further := list(_further(ranked[0], samples))):
        ranked = _ranked(choices + further)
    return ranked


def _exact(choice: Choice) -> bool:
    """Whether nothing but rounding is left."""
    return choice.left <= _ROUNDING


def _ranked(choices: list[Choice]) -> list[Choice]:
    """The best first: more parameters must be worth it by far, as these are not yet fits."""
    left, ranked = sorted(choices, key=lambda c: c.count), []
    while left:
        best = left[0]
        for one in left[1:]:
            worth = WORTH if one.count > best.count else 0.0
            worth += max(one.searched - best.searched, 0.0)
            best = one if one.aicc < best.aicc - worth else best
        ranked.append(best)
        left.remove(best)
    return ranked


def tried(candidate: Candidate, samples: Samples) -> Choice | None:
    """A candidate at its optimum; None where it has none that makes sense, peaks of it left out that make none."""
    for _ in range(_PRUNINGS):
        found = _attempt(candidate, samples)
        if isinstance(found, Choice):
            return found
        if not found:
            return None
        candidate = found[0]
    return None


def settled(choice: Choice, samples: Samples) -> Choice | None:
    """A choice at its optimum to the last digit; None where the search does not end there."""
    starts = refined(choice.candidate, choice.starts, samples, SETTLING)
    return None if starts is None else dataclasses.replace(choice, starts=starts)


def _attempt(candidate: Candidate, samples: Samples) -> "Choice | list[Candidate]":
    """A choice, or the candidate without some of its peaks that is to be tried instead, if any is."""
    try:
        starts = dict(candidate.known)
        names = names_of(candidate.model)
        if names - starts.keys():
            y = samples.y if samples.y.shape[1] > 1 else samples.y[:, 0]
            sigma = None if (samples.weight == 1.0).all() else 1.0 / samples.weight[:, 0]
            if y.ndim > 1 and sigma is not None:
                sigma = None
            starts |= vp.find_starts(candidate.model, samples.x, y, init=starts, sigma=sigma)
        starts = refined(candidate, starts, samples, _POLISH) or starts
        chisq, heights = _weighted_squares(candidate, starts, samples)
    except (vp.InputError, np.linalg.LinAlgError, FloatingPointError, ValueError):
        return []  # not finite where it was tried
    if not math.isfinite(chisq):
        return []
    if odd := _senseless_peaks(candidate, starts, heights, samples):
        return _without(candidate, starts, odd)
    if not _sensible(candidate, starts, heights, samples):
        return []
    complex_data = np.iscomplexobj(samples.y)
    parts, size = (2, 2 * samples.y.size) if complex_data else (1, samples.y.size)
    columns = len(candidate.model.column_names)
    count = len(starts) - len(candidate.fixed) + parts * columns * samples.y.shape[1] + 1
    if size - count - 1 < 1:
        return []
    weighted = samples.y * samples.weight
    mean = (weighted * samples.weight).sum(axis=0) / (samples.weight**2).sum()
    total = float(np.sum(np.abs((samples.y - mean) * samples.weight) ** 2)) + 1e-300
    # Below is rounding, which components more would describe, too.
    floored = max(chisq, _ROUNDING * total)
    aicc = size * math.log(floored / size) + 2 * count * size / (size - count - 1)
    # The largest of m / 2 chi-squares, one for each frequency that the samples tell apart.
    waves = sum(isinstance(p, vp.Oscillation | vp.ComplexExp) for p in parts_of(candidate.model))
    searched = 2 * waves * math.log(max(len(samples.x) / 2, 1.0))
    return Choice(candidate, starts, aicc, count, chisq / total, searched)


def _weighted_squares(
    candidate: Candidate, starts: Mapping[str, float], samples: Samples
) -> tuple[float, np.ndarray]:
    """The weighted sum of squares at the starts, infinite where the columns depend on each other; and the
    largest value (n,) that each component takes in the data."""
    phi = columns_of(candidate.model, samples.x, starts)
    weighted, y = phi * samples.weight, samples.y * samples.weight
    if not np.isfinite(phi).all():
        return math.inf, np.zeros(phi.shape[1])
    # Powers of x are told apart as they are needed, whatever the size of x.
    sizes = np.linalg.norm(weighted, axis=0)
    sizes = np.where(sizes > 0, sizes, 1.0)
    limit = 1e10 if not names_of(candidate.model) else 10 * _CONDITION
    polynomial = any(isinstance(p, vp.Polynomial) for p in parts_of(candidate.model))
    if np.linalg.cond(weighted / sizes) > (1e12 if polynomial else limit):
        return math.inf, np.zeros(phi.shape[1])
    coef = np.linalg.lstsq(weighted / sizes, y, rcond=None)[0] / sizes[:, None]
    heights = np.abs(phi).max(axis=0) * np.abs(coef).max(axis=1)
    return float(np.sum(np.abs(y - weighted @ coef) ** 2)), heights


def _sensible(
    candidate: Candidate, starts: Mapping[str, float], heights: np.ndarray, samples: Samples
) -> bool:
    """Whether components are what they are called in data of this range: lifetimes that the samples show,
    peaks apart from each other and no higher than the data, waves with a period inside."""
    x = samples.x
    span, step = float(x[-1] - x[0]), float(np.median(np.diff(np.unique(x))))
    finest = float(np.min(np.diff(np.unique(x))))
    reach = float(np.abs(samples.y - np.median(samples.y, axis=0)).max())
    column = 0
    for part in parts_of(candidate.model):
        width = len(part.column_names)
        height = float(heights[column : column + width].max())
        column += width
        values = {k.rpartition(".")[2]: starts[part.parameter_name(k)] for k in part.parameters}
        if isinstance(part, vp.Exp) and f"{part.name}.rate" not in candidate.fixed:
            tau = values["tau"] if "tau" in values else 1.0 / abs(values["rate"] or 1e-300)
            if not 0.2 * finest < abs(tau) < 5.0 * span or height > 20.0 * reach:
                return False
        if isinstance(part, vp.StretchedExp):
            tau, beta = values["tau"], values["beta"]
            if (
                not 0.02 * finest < tau < 5.0 * span
                or not 0.15 < beta < 1.45
                or height > 20.0 * reach
            ):
                return False
        if isinstance(part, vp.Oscillation):
            if not 0.4 / span < values["freq"] < 0.5 / step * 1.01 or height > 5.0 * reach:
                return False
            if "tau" in values and not step < values["tau"] < 5.0 * span:
                return False
        if isinstance(part, vp.Step):
            # Most of it is seen.
            if not 0.1 * finest < values["width"] < 0.3 * span or height > 3.0 * reach:
                return False
        if getattr(part, "irf", None) is not None and values["center"] - x[0] < 0:
            return False
    return True


def _senseless_peaks(
    candidate: Candidate, starts: Mapping[str, float], heights: np.ndarray, samples: Samples
) -> list[str]:
    """Peaks narrower than the samples show, wider than they reach, higher than the data, or on the place of a
    higher one."""
    x = samples.x
    span, finest = float(x[-1] - x[0]), float(np.min(np.diff(np.unique(x))))
    reach = float(np.abs(samples.y - np.median(samples.y, axis=0)).max())
    odd, kept, column = [], [], 0
    peaks = []
    for part in parts_of(candidate.model):
        height = float(heights[column])
        column += len(part.column_names)
        if isinstance(part, _PEAKS):
            values = {k.rpartition(".")[2]: starts[part.parameter_name(k)] for k in part.parameters}
            wide = next(v for k, v in values.items() if k in WIDTHS)
            peaks.append((height, values["center"], wide, part.name))
    for height, center, wide, name in sorted(peaks, reverse=True):
        seen = 0.3 * finest < wide < 0.7 * span and height <= 3.0 * reach
        apart = all(abs(center - c) > 0.3 * min(wide, w) for c, w in kept)
        if seen and apart:
            kept.append((center, wide))
        else:
            odd.append(name)
    return odd


def _without(candidate: Candidate, starts: Mapping[str, float], odd: list[str]) -> list[Candidate]:
    """A candidate without some of its peaks, if one is left."""
    parts = parts_of(candidate.model)
    peaks = [part for part in parts if isinstance(part, _PEAKS)]
    left = [part for part in peaks if part.name not in odd]
    if not left or candidate.fixed:  # what is held is compared as it is
        return []
    kind = type(peaks[0])
    rest = [part for part in parts if not isinstance(part, _PEAKS)]
    known = {n: starts[n] for part in rest for n in map(part.parameter_name, part.parameters)}
    named = []
    for i, part in enumerate(left, start=1):
        named.append(kind(f"peak{i}"))
        for local in part.parameters:
            known[named[-1].parameter_name(local)] = starts[part.parameter_name(local)]
    words = candidate.words.replace(peaks_words(kind, len(peaks)), peaks_words(kind, len(left)))
    return [Candidate(words, vp.basis.Sum((*named, *rest)), known, candidate.fixed)]


def _further(best: Choice, samples: Samples):
    """The best model with peaks more, where its residual has summits that are no noise."""
    kinds = {type(p) for p in parts_of(best.candidate.model)}
    kind = next((k for k in kinds if k in _PEAKS), None)
    if kind is None or samples.y.shape[1] > 1:
        return
    now = best
    for _ in range(_FURTHER):
        phi = columns_of(now.candidate.model, samples.x, now.starts) * samples.weight
        target = samples.y * samples.weight
        resid = (target - phi @ np.linalg.lstsq(phi, target, rcond=None)[0])[:, 0] / samples.weight[
            :, 0
        ]
        shape = shape_of(samples.x, resid if samples.shape.upward else -resid, False)
        old = [p for p in parts_of(now.candidate.model) if isinstance(p, kind)]
        rest = [p for p in parts_of(now.candidate.model) if not isinstance(p, kind)]
        if not shape.maxima or len(old) >= PEAKS:
            return
        heights = [float(np.interp(place, samples.x, np.abs(resid))) for place, _ in shape.maxima]
        parts, known = peaks_of(kind, [shape.maxima[int(np.argmax(heights))]], len(old) + 1)
        words = now.candidate.words
        more = Candidate(
            words.replace(peaks_words(kind, len(old)), peaks_words(kind, len(old) + 1)),
            vp.basis.Sum((*old, *parts, *rest)),
            now.starts | known,
        )
        choice = tried(more, samples)
        if choice is None or choice.aicc > now.aicc - WORTH:
            return
        yield choice
        now = choice
