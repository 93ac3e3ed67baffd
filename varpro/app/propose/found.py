"""What is found in a data file, and what was asked about it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file holds: words for the section `data` of a configuration, and numbers to guess from.

    `x` (m,), `y` (m, k); `keys` of the section but `path`; `each`: whether y is a cube of which every curve
    is fitted for itself; `wells`: whether its columns are experiments of their own; `said`: sentences.
    """

    x: np.ndarray
    y: np.ndarray
    sigma: np.ndarray | None
    keys: dict[str, str]
    noise: str | None
    each: bool
    wells: bool
    said: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the caller chose: names of x and y, poisson or normal, and the step of samples without positions."""

    x: str | None = None
    y: tuple[str, ...] = ()
    noise: str | None = None
    spacing: float | None = None
