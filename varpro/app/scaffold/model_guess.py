"""A model for data of which nothing is known: what `varpro new --from` writes down.

A guess looks at the shape of the data for peaks, a rise, or neither; tries sums of decays or of peaks
with starts that are found in the data and taken a few steps towards the optimum; and takes the one of
least BIC.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

import varpro as vp

# Columns of Y, and samples, that a guess looks at.
_COLUMNS, _SAMPLES = 16, 2000
_DECAYS, _PEAKS = 3, 6
_POSITIVE = ("tau", "rate", "width", "fwhm", "sigma", "gamma")
_SHARES = ("eta",)  # between nothing and all
# Evaluations that each candidate is given, what BIC must gain for a component more, and the condition
# number beyond which components are one too many.
_POLISH, _WORTH, _CONDITION = 40, 10.0, 1e4
# The share of the variance below which a model is no more than a place to start from.
_EXPLAINED = 0.8
_SPOKEN: dict[type, str] = {vp.PseudoVoigt: "pseudo-Voigt"}


@dataclasses.dataclass
class DataSummary:
    """What a data file seems to hold: names for the configuration, and numbers for a guess."""

    x_name: str
    y_names: list[str]
    sigma: str | None
    x: np.ndarray
    y: np.ndarray
    extra: dict[str, str]


def guess(summary: DataSummary) -> tuple[list[str], list[str], str]:
    """Responses and components as lines of a configuration, and what was guessed in a sentence."""
    keep = np.isfinite(summary.x) & np.isfinite(summary.y).all(axis=1)
    x, y = summary.x[keep], summary.y[keep]
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    y = y[:, np.linspace(0, y.shape[1] - 1, min(y.shape[1], _COLUMNS)).round().astype(int)]
    step = 1 if np.iscomplexobj(y) else -(-len(x) // _SAMPLES)
    x, y = x[::step], y[::step]
    sigma = np.sqrt(np.maximum(y[:, 0], 1.0)) if summary.sigma == "poisson" else None
    trials = []
    for name, model, known in _candidates(x, y):
        try:
            starts = known | vp.find_starts(model, x, y, init=known, sigma=sigma)
        except vp.InputError:
            continue
        starts = _refined_starts(model, starts, x, y, sigma)
        trials.append((_bic(model, starts, x, y, sigma), name, model, starts))
    trials = [trial for trial in trials if math.isfinite(trial[0])]
    if not trials:
        sentence = "No model of decays or peaks fits; the one written is a place to start from."
        return [], ["decay: {kind: exp, tau: 1.0}", "background: {kind: constant}"], sentence
    best = trials[0]
    for trial in trials[1:]:
        # A component more must be worth it by far, as these are not yet fits.
        best = trial if trial[0] < best[0] - _WORTH else best
    _, name, model, starts = best
    responses, lines = _as_lines(model, starts)
    sentence = f"The model with the least BIC is {name}, with starts from the data."
    unexplained = _weighted_squares(model, starts, x, y, sigma) / max(
        float(np.sum(np.abs(y - y.mean(axis=0)) ** 2)), 1e-300
    )
    if sigma is None and unexplained > 1.0 - _EXPLAINED:
        sentence += (
            f" It explains {1 - unexplained:.0%} of the variance: take it as a place to start from."
        )
    return responses, lines, sentence


def _refined_starts(
    model: vp.basis.AbstractBasis,
    starts: Mapping[str, float],
    x: np.ndarray,
    y: np.ndarray,
    sigma: np.ndarray | None,
) -> dict[str, float]:
    """Starts after a few steps towards the optimum: those found in data are of different quality, and a
    component too many would make up for bad ones. By scipy and not by `vp.fit`, which would compile each
    candidate for seconds."""
    from scipy.optimize import least_squares

    names = list(starts)
    weight = 1.0 if sigma is None else 1.0 / sigma[:, None]
    target = y * weight
    evaluate = jax.jit(model.evaluate)

    def resid(values: np.ndarray) -> np.ndarray:
        phi = np.asarray(evaluate(x, dict(zip(names, values, strict=True)))) * weight
        if not np.isfinite(phi).all():
            return np.full(target.size * (2 if np.iscomplexobj(target) else 1), 1e150)
        q = np.linalg.qr(phi)[0]
        residual = (target - q @ (q.conj().T @ target)).ravel()
        return (
            np.concatenate([residual.real, residual.imag])
            if np.iscomplexobj(residual)
            else residual
        )

    initial = np.array([starts[name] for name in names], float)
    if not names or not np.isfinite(initial).all():
        return dict(starts)
    local = [name.rpartition(".")[2] for name in names]
    share = np.array([local_name in _SHARES for local_name in local])
    positive = np.array([local_name in _POSITIVE for local_name in local])
    lower = np.where(share, 0.0, np.where(positive, 1e-3 * np.abs(initial), -np.inf))
    upper = np.where(share, 1.0, np.inf)
    scale = np.where(initial == 0, 1.0, np.abs(initial))
    try:
        optimum = least_squares(
            resid, initial, bounds=(lower, upper), x_scale=scale, max_nfev=_POLISH, diff_step=1e-6
        )
    except ValueError:  # whatever a start far out does to it
        return dict(starts)
    return dict(zip(names, optimum.x.tolist(), strict=True))


def _bic(
    model: vp.basis.AbstractBasis,
    starts: Mapping[str, float],
    x: np.ndarray,
    y: np.ndarray,
    sigma: np.ndarray | None,
) -> float:
    """Schwarz' criterion at the starts, with the best coefficients."""
    chisq = _weighted_squares(model, starts, x, y, sigma)
    parts = 2 if np.iscomplexobj(y) else 1
    size = parts * y.size
    count = len(starts) + parts * len(model.column_names) * y.shape[1]
    return size * math.log(max(chisq, 1e-300) / size) + count * math.log(size)


def _weighted_squares(
    model: vp.basis.AbstractBasis,
    starts: Mapping[str, float],
    x: np.ndarray,
    y: np.ndarray,
    sigma: np.ndarray | None,
) -> float:
    """The weighted sum of squares at the starts; infinite where the columns depend on each other."""
    values = {name: jnp.asarray(value) for name, value in starts.items()}
    phi = np.asarray(model.evaluate(jnp.asarray(x), values))
    weight = 1.0 if sigma is None else 1.0 / sigma[:, None]
    phi, y = phi * weight, y * weight
    if not np.isfinite(phi).all() or np.linalg.cond(phi) > _CONDITION:
        return math.inf
    resid = y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]
    return float(np.sum(np.abs(resid) ** 2))


def _candidates(
    x: np.ndarray, y: np.ndarray
) -> Iterator[tuple[str, vp.basis.AbstractBasis, dict[str, float]]]:
    """Models from the simplest on, and the starts that are known."""
    if np.iscomplexobj(y):
        for n in range(1, _PEAKS + 1):
            parts = [vp.ComplexExp(f"line{i + 1}", rate=vp.Param(lower=0.0)) for i in range(n)]
            yield _number(n, "decaying wave"), vp.basis.Sum(tuple(parts)), {}
        return
    strength = np.abs(y - np.median(y, axis=0)).sum(axis=1)
    count, rise = _peak_count(strength), int(np.argmax(strength))
    background = vp.Constant("background")
    if count <= 1 and 3 < rise < len(x) // 3:
        half = int(np.argmax(strength >= 0.5 * strength[rise]))
        width = max(float(x[rise] - x[half]) / 1.2, float(x[1] - x[0]) / 2)
        span = float(x[-1] - x[rise])
        irf = vp.GaussianIRF("irf", center=vp.Param(float(x[half])), width=vp.Param(width))
        for n in range(1, _DECAYS + 1):
            taus = np.geomspace(2 * width, span / 2, n + 2)[1:-1] if n > 1 else [span / 4]
            parts = [
                vp.Exp(f"decay{i + 1}", tau=vp.Param(float(tau)), irf=irf)
                for i, tau in enumerate(taus)
            ]
            yield f"{_number(n, 'decay')} after a Gaussian response", sum(parts, background), {}
        return
    if count == 0 or (count == 1 and rise <= 3):
        for n in range(1, _DECAYS + 1):
            parts = [vp.Exp(f"decay{i + 1}") for i in range(n)]
            yield _number(n, "decay"), sum(parts, background), {}
    kinds = (vp.Gaussian, vp.Lorentzian, vp.PseudoVoigt)[: 3 if count < 3 else 2]
    # A maximum may be noise: one peak less is tried first.
    for n in (max(1, count - 1), count) if count > 1 else (count,) * (count > 0):
        for kind in kinds:
            parts = [kind(f"peak{i + 1}") for i in range(n)]
            name = _number(n, f"{_SPOKEN.get(kind, kind.__name__)} peak")
            yield name, sum(parts, background), {}
            if x[0] >= 0 and kind is not vp.PseudoVoigt:
                yield f"{name} on a decaying background", sum(parts, vp.Exp("background")), {}


def _number(n: int, noun: str) -> str:
    return f"{('one', 'two', 'three', 'four', 'five', 'six')[n - 1]} {noun}{'s' * (n > 1)}"


def _peak_count(y: np.ndarray) -> int:
    """Maxima inside the range that stand out of the noise."""
    from scipy.signal import find_peaks

    noise = np.median(np.abs(np.diff(y))) * 1.05
    half_window = max(1, len(y) // 100)
    smooth = np.convolve(
        np.pad(y, half_window, mode="edge"),
        np.ones(2 * half_window + 1) / (2 * half_window + 1),
        "valid",
    )
    peaks, _ = find_peaks(
        smooth, prominence=max(0.08 * np.ptp(smooth), 4 * noise / math.sqrt(2 * half_window + 1))
    )
    return min(len(peaks), _PEAKS)


def _as_lines(
    model: vp.basis.AbstractBasis, starts: Mapping[str, float]
) -> tuple[list[str], list[str]]:
    """Responses and components with rounded starts, as lines of a configuration."""
    responses: dict[str, str] = {}
    lines = []
    kinds = {basis: kind for kind, basis in vp.basis.KINDS.items()}
    for part in model.parts if isinstance(model, vp.basis.Sum) else (model,):
        keys = [f"kind: {kinds[type(part)]}"]
        for local in part.parameters:
            owner, _, local_name = local.rpartition(".")
            value = f"{starts[part.parameter_name(local)]:.4g}"
            value_text = f"{{init: {value}, lower: 0}}" if local_name in _POSITIVE else value
            if local_name in _SHARES:
                value_text = f"{{init: {value}, lower: 0, upper: 1}}"
            if not owner:
                keys.append(f"{local_name}: {value_text}")
            elif f"{local_name}: " not in responses.get(owner, ""):
                responses[owner] = ", ".join(
                    [*filter(None, [responses.get(owner)]), f"{local_name}: {value_text}"]
                )
            if owner and f"irf: {owner}" not in keys:
                keys.append(f"irf: {owner}")
        lines.append(f"{part.name}: {{{', '.join(keys)}}}")
    return [f"{name}: {{{keys}}}" for name, keys in responses.items()], lines
