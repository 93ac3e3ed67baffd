"""What is fitted, however it was stored."""

import dataclasses

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
