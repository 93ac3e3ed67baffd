"""What is fitted, however it was stored."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Columns:
    """The samples of a data set: `x` (m,), `y` (m,) or (m, k), and what weighs them.

    `labels` (k,): numbers that right-hand sides have on an axis of their own, called `labels_name`,
    such as wavelengths; None without.
    """

    x: np.ndarray
    y: np.ndarray
    sigma: np.ndarray | float | None
    weights: np.ndarray | None
    x_name: str
    y_names: tuple[str, ...]
    x_unit: str
    y_unit: str
    dropped: int
    mask: np.ndarray | None = None
    labels: np.ndarray | None = None
    labels_name: str = ""
    # How the file was read: what is common, and what deserves a look.
    common: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def paired(real: Sequence[str], imag: Sequence[str]) -> tuple[str, ...]:
    """What curves are called, of real and imaginary parts of which each has a name."""
    if not imag:
        return tuple(real)
    return tuple(f"{re} + i {im}" for re, im in zip(real, imag, strict=True))
