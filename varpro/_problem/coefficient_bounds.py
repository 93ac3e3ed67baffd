"""Bounds of coefficients of which some follow others, everywhere or for some right-hand sides."""

from collections.abc import Sequence

import numpy as np

from .._errors import InputError

Somewhere = dict[int, tuple[np.ndarray, float | None]]
"""By column for which right-hand sides (k,) a relation holds that does not hold for all, and the number that the
coefficient is there, None where it follows others."""


def through(
    lower: np.ndarray,
    upper: np.ndarray,
    mix: np.ndarray,
    constant: np.ndarray,
    sought: Sequence[int],
    names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the coefficients that are sought: those of what follows one of them, too."""
    low, high = lower[list(sought)].copy(), upper[list(sought)].copy()
    for i in range(len(names)):
        if i in sought or not (np.isfinite(lower[i]).any() or np.isfinite(upper[i]).any()):
            continue
        at = np.flatnonzero(mix[i])
        if len(at) == 0:
            if np.any(constant[i] < lower[i]) or np.any(constant[i] > upper[i]):
                raise InputError(
                    f"relations: '{names[i]}' is held outside its bounds.",
                    argument="relations",
                    name=names[i],
                )
            continue
        if len(at) > 1:
            raise InputError(
                f"'{names[i]}' follows several coefficients and has bounds. Bound those instead."
            )
        ends = np.stack([lower[i], upper[i]]) - constant[i]
        ends = np.sort(ends / mix[i, at[0]], axis=0)
        low[at[0]], high[at[0]] = np.maximum(low[at[0]], ends[0]), np.minimum(high[at[0]], ends[1])
        if not np.all(low[at[0]] <= high[at[0]]):
            raise InputError(
                f"relations: the bounds of '{names[i]}' and of what it follows have nothing in common.",
                argument="relations",
                name=names[i],
            )
    return low, high


def refuse_bounds(
    names: Sequence[str], somewhere: Somewhere, lower: np.ndarray, upper: np.ndarray
) -> None:
    """Refuse bounds that what holds for some right-hand sides does not keep, or turns into none of those that are
    sought."""
    for i, (where, number) in somewhere.items():
        low, high = (np.broadcast_to(b[i], where.shape) for b in (lower, upper))
        if number is None and (np.isfinite(low).any() or np.isfinite(high).any()):
            raise InputError(
                f"relations: '{names[i]}' follows others for some right-hand sides, so it cannot have bounds or "
                "be nonnegative. Name those that are: nonnegative=['...'].",
                argument="relations",
                name=names[i],
            )
        if number is not None and np.any((number < low[where]) | (number > high[where])):
            raise InputError(
                f"relations: '{names[i]}' is held outside its bounds.",
                argument="relations",
                name=names[i],
            )


def held_within(
    lower: np.ndarray, upper: np.ndarray, somewhere: Somewhere, sought: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the coefficients that are sought, with those that a relation for some right-hand sides holds
    there."""
    for i, (where, number) in somewhere.items():
        shape = (len(lower), len(where))
        lower, upper = (np.array(np.broadcast_to(b, shape)) for b in (lower, upper))
        j = list(sought).index(i)
        lower[j, where] = upper[j, where] = 0.0 if number is None else number
    return lower, upper
