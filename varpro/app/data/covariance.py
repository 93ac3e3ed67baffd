"""A covariance matrix of the noise from a file."""

from pathlib import Path

import numpy as np

import varpro as vp

from .text_table import read_table


def read_covariance(path: Path, count: int) -> np.ndarray:
    """The matrix (count, count) of a table of numbers, or of a file of NumPy.

    **Raises:** `InputError` for what is no such matrix.
    """
    if path.suffix == ".npy":
        try:
            matrix = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise vp.InputError(
                f"{path}: cannot be read as an array of NumPy ({error})."
            ) from error
    else:
        table = read_table(path)
        matrix = np.stack([table.numbers(j) for j in range(len(table.header))], axis=1)
    if matrix.shape != (count, count):
        raise vp.InputError(
            f"{path}: is of shape {matrix.shape}, but the table of data has {count} rows; expected "
            f"({count}, {count})."
        )
    return matrix
