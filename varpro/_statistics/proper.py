"""Whether a posterior has an end: a flat prior without bounds has a density that need not fall.

From the mode outwards, one coordinate z after the other is held farther and farther away, to both sides, while the
others are sought anew: the profile of the density. It has an end where it has fallen to a part in a million, and
whatever lies behind that no chain sees. Where it gets as far as is looked without falling so low, there is no
posterior: the likelihood stays what it is (lifetimes that are long compared with the window), or the integral over
a coefficient with a flat prior grows without end (columns that vanish, or become one).
"""

import numpy as np

from .._errors import InputError
from .posterior_density import Density, Mode, mode
from .record import Fitted

# Where the profile has ended; where the first look is, in standard deviations; where the last one is: in coordinates
# that are logarithms of a distance (a factor of 6e7), and in standard deviations of others.
_ENDED, _FIRST, _LAST_LOG, _LAST = np.log(1e-6), 4.0, 18.0, 2.0**20
# A coordinate that is held moves by this part of its standard deviation.
_HELD = 1e-9


def check_proper(fit: Fitted, density: Density, top: Mode) -> None:
    """Refuse a density that does not fall.

    **Raises:** `InputError` that names the parameter and the side.
    """
    deviation = np.linalg.norm(np.asarray(top.root, float), axis=1)
    for i, (below, above) in enumerate(density.sides):
        name = fit.names[fit.layout.free[i]]
        if fit.params[name].prior is not None:
            continue
        for sign in (1.0, -1.0):
            if _has_end(density, top, deviation, i, sign):
                continue
            where = _side(below, above, sign)
            raise InputError(
                f"This fit has no posterior: towards {where} of '{name}' the density does not fall, for its prior is "
                f"flat. Give bounds={{'{name}': (lower, upper)}} within which it has a meaning, "
                "vp.Param(prior=(mean, sd)), or coef_sd=.",
                argument="bounds",
                name=name,
            )


def _side(below: bool, above: bool, sign: float) -> str:
    """Which way of a parameter its z goes."""
    up = sign > 0 if below or not above else sign < 0
    if up:
        return "the upper bound" if above else "large values"
    return "the lower bound" if below else "small values"


def _has_end(density: Density, top: Mode, deviation: np.ndarray, i: int, sign: float) -> bool:
    bent = any(density.sides[i])
    first, last = _FIRST * deviation[i], _LAST_LOG if bent else _LAST * deviation[i]
    away, at, scale = min(first, last), np.array(top.z), deviation.astype(top.z.dtype)
    scale[i] *= _HELD
    before = 0.0
    while True:
        at[i] = top.z[i] + sign * away
        there = mode.on_host(density, at, scale)
        # Per unit of z, or of the logarithm of the distance.
        fall = float(there.log_density) - float(top.log_density)
        fall += 0.0 if bent else np.log(away / deviation[i])
        if not fall >= _ENDED:
            # Where it had risen, what is no number has overflowed.
            return not (before > 0 and not np.isfinite(fall))
        if away >= last:
            return False
        at, away, before = np.array(there.z), min(2 * away, last), fall
