"""Values of a candidate taken towards its optimum, by scipy with the derivatives of variable projection.

By `varpro.fit` every candidate would be compiled for seconds.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import varpro as vp

from .candidates import Candidate
from .samples import Samples

WIDTHS = ("width", "fwhm", "sigma", "gamma", "hwhm")
_SHARES = ("eta",)  # between nothing and all
# Evaluations in which a search must end.
SETTLING = 300


def parts_of(model: vp.basis.AbstractBasis) -> tuple[vp.basis.AbstractBasis, ...]:
    return model.parts if isinstance(model, vp.basis.Sum) else (model,)


def names_of(model: vp.basis.AbstractBasis) -> set[str]:
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


@dataclasses.dataclass(frozen=True)
class _Block:
    """The columns of one component: a function of x and its own values, their names in the model, and where they
    stand among the columns of all."""

    evaluate: Callable[..., Any]
    names: Mapping[str, str]
    on_host: bool
    place: slice

    def columns(self, x: np.ndarray, values: Mapping[str, float]) -> np.ndarray:
        """Columns (m, n) at values by name."""
        local = {
            k: np.array([values[n]]) if self.on_host else values[n] for k, n in self.names.items()
        }
        with np.errstate(all="ignore"):
            return np.asarray(self.evaluate(x, local))


def _blocks(model: vp.basis.AbstractBasis) -> list[_Block]:
    blocks, at = [], 0
    for part in parts_of(model):
        names = {local: part.parameter_name(local) for local in part.parameters}
        on_host = type(part) in _ON_HOST and getattr(part, "irf", None) is None
        evaluate = part.evaluate if on_host else _compiled(_Part((type(part), tuple(names)), part))
        place = slice(at, at + len(part.column_names))
        blocks.append(_Block(evaluate, names, on_host, place))
        at = place.stop
    return blocks


def columns_of(model: vp.basis.AbstractBasis, x: np.ndarray, values: Mapping[str, float]):
    """The columns (m, n) of a model at values by name."""
    return np.concatenate([block.columns(x, values) for block in _blocks(model)], axis=1)


class _Projected:
    """What the columns of a candidate leave of data, and its derivatives by the free values: those of Kaufman, with
    a difference of the columns that a value moves and of no others."""

    def __init__(self, candidate: Candidate, names: list[str], samples: Samples):
        self.names, self.blocks = names, _blocks(candidate.model)
        self.x, self.weight = samples.x, samples.weight
        self.target = samples.y * samples.weight
        self.held: dict[str, float] = {}
        self.at: np.ndarray | None = None

    def _look(self, values: np.ndarray) -> bool:
        """Keep the columns at some values with their orthonormal basis; False where they have no numbers."""
        if self.at is None or not np.array_equal(values, self.at):
            self.at = values.copy()
            self.known = self.held | dict(zip(self.names, values.tolist(), strict=True))
            self.parts = [block.columns(self.x, self.known) for block in self.blocks]
            phi = np.concatenate(self.parts, axis=1) * self.weight
            self.finite = bool(np.isfinite(phi).all())
            if self.finite:
                self.q, self.r = np.linalg.qr(phi)
                # Of columns near the largest number the norms are none.
                self.finite = bool(np.isfinite(self.r).all() and np.isfinite(self.q).all())
        return self.finite

    def resid(self, values: np.ndarray) -> np.ndarray:
        """What is left (m k,); of complex data the real and then the imaginary parts."""
        if not self._look(values):
            size = self.target.size * (2 if np.iscomplexobj(self.target) else 1)
            return np.full(size, 1e150)
        return self._flat(self.target - self.q @ (self.q.conj().T @ self.target))

    def jacobian(self, values: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Derivatives (m k, p), each by a difference over its step."""
        size = self.resid(values).size
        found = np.zeros((size, len(self.names)))
        if not self.finite:
            return found
        coef = np.linalg.lstsq(self.r, self.q.conj().T @ self.target, rcond=1e-12)[0]
        for k, name in enumerate(self.names):
            moved = self.known | {name: self.known[name] + float(steps[k])}
            change = np.zeros_like(self.target)
            for block, part in zip(self.blocks, self.parts, strict=True):
                if name in block.names.values():
                    slope = (block.columns(self.x, moved) - part) * (self.weight / steps[k])
                    change = change + slope @ coef[block.place]
            if np.isfinite(change).all():
                found[:, k] = -self._flat(change - self.q @ (self.q.conj().T @ change))
        return found

    def _flat(self, resid: np.ndarray) -> np.ndarray:
        flat = resid.ravel()
        return np.concatenate([np.real(flat), np.imag(flat)]) if np.iscomplexobj(flat) else flat


def refined(
    candidate: Candidate, starts: Mapping[str, float], samples: Samples, most: int
) -> dict[str, float] | None:
    """Starts after at most some evaluations on the way to the optimum: those found in data are of different
    quality, and a component too many would make up for bad ones. None where `SETTLING` of them do not suffice."""
    from scipy.optimize import least_squares

    x = samples.x
    names = [name for name in starts if name not in candidate.fixed]
    projected = _Projected(candidate, names, samples)
    projected.held = held = {name: starts[name] for name in candidate.fixed}
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
        elif name == "rate" and np.iscomplexobj(samples.y):
            lower[i] = 0.0  # a wave that grows is none
        elif name in WIDTHS:
            lower[i], upper[i] = 0.02 * step, 2.0 * span
    initial = np.clip(initial, lower, upper)
    scale = np.where(initial == 0, 1.0, np.abs(initial))
    scale = np.where([name == "center" for name in local], 0.02 * span, scale)
    inside = np.clip(initial, np.where(np.isfinite(lower), lower + 1e-9 * span, lower), upper)

    def jacobian(values: np.ndarray) -> np.ndarray:
        steps = 1e-6 * np.maximum(np.abs(values), 1e-3 * scale)
        return projected.jacobian(values, np.where(values + steps > upper, -steps, steps))

    try:
        optimum = least_squares(
            projected.resid,
            inside,
            jacobian,  # pyright: ignore[reportArgumentType]
            bounds=(lower, upper),
            x_scale=scale,
            max_nfev=most,
            **({} if most < SETTLING else dict.fromkeys(("ftol", "xtol", "gtol"), 1e-11)),
        )
    except ValueError:  # whatever a start far out does to it
        return dict(starts)
    if optimum.status == 0 and most >= SETTLING:
        return None
    return held | dict(zip(names, optimum.x.tolist(), strict=True))
