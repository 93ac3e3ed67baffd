"""The model of least AICc among candidates, each taken some steps towards its optimum.

By scipy and not by `varpro.fit`, which would compile every candidate for seconds: the winner alone is fitted.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np

import varpro as vp

from .candidates import PEAKS, Candidate, Shape, candidates, peaks_of, peaks_words, shape_of
from .found import Found

# Columns of Y, and samples, that a choice looks at.
_COLUMNS, _SAMPLES = 16, 1500
_POSITIVE = ("tau", "width", "fwhm", "sigma", "gamma", "hwhm", "beta")
_WIDTHS = ("width", "fwhm", "sigma", "gamma", "hwhm")
_SHARES = ("eta",)  # between nothing and all
# Evaluations that each candidate is given, what AICc must gain for parameters more, and the condition
# number beyond which components are one too many.
_POLISH, WORTH, _CONDITION = 60, 16.0, 1e4
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


@dataclasses.dataclass(frozen=True)
class Samples:
    """What a choice looks at: x (m,) sorted, y (m, k), and weights (m, 1)."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    shape: Shape


def samples_of(found: Found) -> Samples:
    """The samples that are whole, without columns that have hardly any numbers.

    **Raises:** `InputError` where too few are left to guess from.
    """
    x = np.asarray(found.x, float)
    y = np.asarray(found.y, complex if np.iscomplexobj(found.y) else float)
    finite = np.isfinite(y) & np.isfinite(x)[:, None]
    filled = finite.sum(axis=0)
    columns = filled * 2 > max(int(filled.max(initial=0)), 1)
    keep = finite[:, columns].all(axis=1) if columns.any() else np.zeros(len(x), bool)
    if keep.sum() < 4:
        raise vp.InputError(
            f"only {int(keep.sum())} samples of x and y are finite; nothing can be guessed from them. "
            "Write the configuration without --from."
        )
    sigma = None if found.sigma is None else np.asarray(found.sigma, float)[keep]
    x, y = x[keep], y[keep][:, columns]
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    y = y[:, np.linspace(0, y.shape[1] - 1, min(y.shape[1], _COLUMNS)).round().astype(int)]
    counted = found.noise == "poisson" and y.shape[1] == 1 and not np.iscomplexobj(y)
    if counted:
        from scipy.ndimage import gaussian_filter1d

        # Weights from the counts themselves are biased towards small ones.
        expected = gaussian_filter1d(np.real(y[:, 0]), 2.0, mode="nearest")
        weight = 1.0 / np.sqrt(np.maximum(expected, 1.0))
    else:
        weight = np.ones(len(x)) if sigma is None else 1.0 / sigma[order]
    step = 1 if np.iscomplexobj(y) else -(-len(x) // _SAMPLES)
    x, y, weight = x[::step], y[::step], weight[::step]
    curve = np.real(y[:, 0]) if y.shape[1] == 1 else _leading(y)
    return Samples(x, y, weight[:, None], shape_of(x, curve, counted))


def _leading(y: np.ndarray) -> np.ndarray:
    """The curve that explains most of several, so that noise in the others does not hide its shape."""
    centred = y - np.median(y, axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    sign = 1.0 if abs(right[0].real.max()) >= abs(right[0].real.min()) else -1.0
    return sign * (left[:, 0] * sizes[0]).real


def choose(samples: Samples) -> list[Choice]:
    """Models from the best on; none where no candidate has numbers."""
    choices: list[Choice] = []
    for candidate in candidates(samples.x, samples.y, samples.shape):
        choice = tried(candidate, samples)
        if choice is not None:
            choices.append(choice)
            if _exact(choice):
                break
    ranked = _ranked(choices)
    if ranked and (further := list(_further(ranked[0], samples))):
        ranked = _ranked(choices + further)
    return ranked


def of_one_curve(samples: Samples) -> Samples:
    """The curve of several that varies most, alone."""
    j = int(np.argmax(np.ptp(np.real(samples.y), axis=0)))
    curve = samples.y[:, j : j + 1]
    shape = shape_of(samples.x, np.real(curve[:, 0]), False)
    return dataclasses.replace(samples, y=curve, shape=shape)


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
    """A candidate at its optimum; None where it has none that makes sense."""
    try:
        starts = dict(candidate.known)
        names = _names_of(candidate.model)
        if names - starts.keys():
            y = samples.y if samples.y.shape[1] > 1 else samples.y[:, 0]
            sigma = None if (samples.weight == 1.0).all() else 1.0 / samples.weight[:, 0]
            if y.ndim > 1 and sigma is not None:
                sigma = None
            starts |= vp.find_starts(candidate.model, samples.x, y, init=starts, sigma=sigma)
        starts = _refined(candidate, starts, samples)
        chisq, heights = _weighted_squares(candidate, starts, samples)
    except (vp.InputError, np.linalg.LinAlgError, FloatingPointError, ValueError):
        return None  # not finite where it was tried
    if not math.isfinite(chisq) or not _sensible(candidate, starts, heights, samples):
        return None
    complex_data = np.iscomplexobj(samples.y)
    parts, size = (2, 2 * samples.y.size) if complex_data else (1, samples.y.size)
    columns = len(candidate.model.column_names)
    count = len(starts) - len(candidate.fixed) + parts * columns * samples.y.shape[1] + 1
    if size - count - 1 < 1:
        return None
    weighted = samples.y * samples.weight
    mean = (weighted * samples.weight).sum(axis=0) / (samples.weight**2).sum()
    total = float(np.sum(np.abs((samples.y - mean) * samples.weight) ** 2)) + 1e-300
    # Below is rounding, which components more would describe, too.
    floored = max(chisq, _ROUNDING * total)
    aicc = size * math.log(floored / size) + 2 * count * size / (size - count - 1)
    # The largest of m / 2 chi-squares, one for each frequency that the samples tell apart.
    waves = sum(isinstance(p, vp.Oscillation | vp.ComplexExp) for p in _parts(candidate.model))
    searched = 2 * waves * math.log(max(len(samples.x) / 2, 1.0))
    return Choice(candidate, starts, aicc, count, chisq / total, searched)


def _names_of(model: vp.basis.AbstractBasis) -> set[str]:
    parts = model.parts if isinstance(model, vp.basis.Sum) else (model,)
    return {part.parameter_name(k) for part in parts for k in part.parameters}


# Formulas that are evaluated on the host as they are; others are compiled, once for each kind and length.
_ON_HOST = (
    *(vp.Exp, vp.StretchedExp, vp.Gaussian, vp.Lorentzian, vp.PseudoVoigt, vp.Constant),
    *(vp.Polynomial, vp.Step),
)


@functools.lru_cache(maxsize=64)
def _compiled(part: "_Part"):
    import jax

    return jax.jit(part.basis.evaluate)


@dataclasses.dataclass(frozen=True)
class _Part:
    """A component of which one stands for all of a kind: what it is called does not tell them apart."""

    key: tuple
    basis: vp.basis.AbstractBasis = dataclasses.field(compare=False, hash=False)


def _evaluator(model: vp.basis.AbstractBasis, x: np.ndarray):
    """A function of values by name that returns the columns (m, n) of a model."""
    functions = []
    for part in _parts(model):
        names = {local: part.parameter_name(local) for local in part.parameters}
        on_host = type(part) in _ON_HOST and getattr(part, "irf", None) is None
        if on_host:
            functions.append((part.evaluate, names, True))
        else:
            functions.append((_compiled(_Part((type(part), tuple(names)), part)), names, False))

    def columns(values: Mapping[str, float]) -> np.ndarray:
        blocks = []
        for evaluate, names, on_host in functions:
            local = {k: np.array([values[n]]) if on_host else values[n] for k, n in names.items()}
            with np.errstate(all="ignore"):
                blocks.append(np.asarray(evaluate(x, local)))
        return np.concatenate(blocks, axis=1)

    return columns


def _refined(
    candidate: Candidate, starts: Mapping[str, float], samples: Samples
) -> dict[str, float]:
    """Starts after some steps towards the optimum: those found in data are of different quality, and a
    component too many would make up for bad ones."""
    from scipy.optimize import least_squares

    x, target = samples.x, samples.y * samples.weight
    names = [name for name in starts if name not in candidate.fixed]
    evaluate = _evaluator(candidate.model, x)
    held = {name: starts[name] for name in candidate.fixed}
    complex_data = np.iscomplexobj(target)

    def resid(values: np.ndarray) -> np.ndarray:
        phi = evaluate(held | dict(zip(names, values, strict=True))) * samples.weight
        if not np.isfinite(phi).all():
            return np.full(target.size * (2 if complex_data else 1), 1e150)
        q = np.linalg.qr(phi)[0]
        residual = (target - q @ (q.conj().T @ target)).ravel()
        return np.concatenate([np.real(residual), np.imag(residual)]) if complex_data else residual

    initial = np.array([starts[name] for name in names], float)
    if not names or not np.isfinite(initial).all():
        return dict(starts)
    local = [name.rpartition(".")[2] for name in names]
    span, step = float(x[-1] - x[0]), float(np.min(np.diff(np.unique(x))))
    lower, upper = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    for i, name in enumerate(local):
        if name in _SHARES:
            lower[i], upper[i] = 0.0, 1.0
        elif name == "center":
            lower[i], upper[i] = float(x[0]), float(x[-1])
        elif name == "beta":
            lower[i], upper[i] = 0.1, 1.5
        elif name == "tau":
            lower[i], upper[i] = 0.02 * step, 1e3 * span
        elif name == "rate" and names[i] in candidate.known:
            upper[i] = 0.0  # growth
        elif name == "rate" and complex_data:
            lower[i] = 0.0  # a wave that grows is none
        elif name in _WIDTHS:
            lower[i], upper[i] = 0.02 * step, 2.0 * span
    initial = np.clip(initial, lower, upper)
    scale = np.where(initial == 0, 1.0, np.abs(initial))
    scale = np.where([name == "center" for name in local], 0.02 * span, scale)
    inside = np.clip(initial, np.where(np.isfinite(lower), lower + 1e-9 * span, lower), upper)
    try:
        optimum = least_squares(
            resid, inside, bounds=(lower, upper), x_scale=scale, max_nfev=_POLISH, diff_step=1e-6
        )
    except ValueError:  # whatever a start far out does to it
        return dict(starts)
    return held | dict(zip(names, optimum.x.tolist(), strict=True))


def _weighted_squares(
    candidate: Candidate, starts: Mapping[str, float], samples: Samples
) -> tuple[float, np.ndarray]:
    """The weighted sum of squares at the starts, infinite where the columns depend on each other; and the
    largest value (n,) that each component takes in the data."""
    phi = _evaluator(candidate.model, samples.x)(dict(starts))
    weighted, y = phi * samples.weight, samples.y * samples.weight
    if not np.isfinite(phi).all():
        return math.inf, np.zeros(phi.shape[1])
    # Powers of x are told apart as they are needed, whatever the size of x.
    sizes = np.linalg.norm(weighted, axis=0)
    sizes = np.where(sizes > 0, sizes, 1.0)
    limit = 1e10 if not _names_of(candidate.model) else 10 * _CONDITION
    polynomial = any(isinstance(p, vp.Polynomial) for p in _parts(candidate.model))
    if np.linalg.cond(weighted / sizes) > (1e12 if polynomial else limit):
        return math.inf, np.zeros(phi.shape[1])
    coef = np.linalg.lstsq(weighted / sizes, y, rcond=None)[0] / sizes[:, None]
    heights = np.abs(phi).max(axis=0) * np.abs(coef).max(axis=1)
    return float(np.sum(np.abs(y - weighted @ coef) ** 2)), heights


def _parts(model: vp.basis.AbstractBasis) -> tuple[vp.basis.AbstractBasis, ...]:
    return model.parts if isinstance(model, vp.basis.Sum) else (model,)


def _sensible(
    candidate: Candidate, starts: Mapping[str, float], heights: np.ndarray, samples: Samples
) -> bool:
    """Whether components are what they are called in data of this range: lifetimes that the samples show,
    peaks apart from each other and no higher than the data, waves with a period inside."""
    x = samples.x
    span, step = float(x[-1] - x[0]), float(np.median(np.diff(np.unique(x))))
    finest = float(np.min(np.diff(np.unique(x))))
    reach = float(np.abs(samples.y - np.median(samples.y, axis=0)).max())
    peaks = []
    column = 0
    for part in _parts(candidate.model):
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
        if isinstance(part, vp.Gaussian | vp.Lorentzian | vp.PseudoVoigt):
            wide = next(v for k, v in values.items() if k in _WIDTHS)
            if not 0.3 * finest < wide < 0.7 * span or height > 3.0 * reach:
                return False
            peaks.append((values["center"], wide))
        if getattr(part, "irf", None) is not None and values["center"] - x[0] < 0:
            return False
    peaks.sort()
    return all(b - a > 0.3 * min(u, v) for (a, u), (b, v) in zip(peaks, peaks[1:], strict=False))


def _further(best: Choice, samples: Samples):
    """The best model with peaks more, where its residual has summits that are no noise."""
    kinds = {type(p) for p in _parts(best.candidate.model)}
    kind = next((k for k in kinds if k in (vp.Gaussian, vp.Lorentzian, vp.PseudoVoigt)), None)
    if kind is None or samples.y.shape[1] > 1:
        return
    now = best
    for _ in range(_FURTHER):
        phi = _evaluator(now.candidate.model, samples.x)(now.starts) * samples.weight
        target = samples.y * samples.weight
        resid = (target - phi @ np.linalg.lstsq(phi, target, rcond=None)[0])[:, 0] / samples.weight[
            :, 0
        ]
        shape = shape_of(samples.x, resid if samples.shape.upward else -resid, False)
        old = [p for p in _parts(now.candidate.model) if isinstance(p, kind)]
        rest = [p for p in _parts(now.candidate.model) if not isinstance(p, kind)]
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
