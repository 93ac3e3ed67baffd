"""Some steps of Levenberg-Marquardt on the host, with which guesses are improved."""

from collections.abc import Callable
from typing import Any

import numpy as np

# Dampings that are tried for one step, and the first one.
_TRIALS = 5
_DAMPING = 1e-3


def improved(
    alpha: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    evaluate: Callable[[np.ndarray], tuple[float, Any]],
    equations: Callable[[np.ndarray, Any], tuple[np.ndarray, np.ndarray]],
    steps: int,
    gain: float,
) -> tuple[np.ndarray, float]:
    """Parameters (p,) after steps that make the cost smaller, inside low ... high, and the cost.

    `evaluate` returns the cost and what it knows there, None where no step can begin; `equations` makes
    of parameters and that knowledge the matrix (p, p) and the right-hand side (p,) of a Gauss-Newton step.
    The last step is one with a relative `gain` below.
    """
    cost, known = evaluate(alpha)
    damping = _DAMPING
    for _ in range(steps if alpha.size else 0):
        if known is None:
            break
        normal, slope = equations(alpha, known)
        scale, before = np.diag(np.maximum(np.diag(normal), 1e-300)), cost
        for _ in range(_TRIALS):
            step = np.linalg.lstsq(normal + damping * scale, slope, rcond=None)[0]
            trial = np.clip(alpha + step, low, high)
            new, new_known = evaluate(trial)
            if new < cost:
                alpha, cost, known, damping = trial, new, new_known, damping / 10
                break
            damping *= 10
        if not cost < before * (1 - gain):
            break
    return alpha, cost
