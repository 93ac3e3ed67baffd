"""The text format of the global-analysis community, "Time explicit" or "Wavelength explicit".

Two lines of comment, a line that says which axis the numbers below head, a line `Intervalnr N`, the
N values of that axis, then one line for each value of the other axis: that value and N numbers.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from varpro import InputError

from ..config.document import in_one_line
from .text_encoding import read_data_text

_KINDS = {"time explicit": ("time", "wavelength"), "wavelength explicit": ("wavelength", "time")}


def read_explicit(path: Path) -> xr.Dataset:
    """`data` on the axes `time` and `wavelength`.

    **Raises:** `InputError` with the line where the file is not of this format.
    """
    lines = read_data_text(path)[0].split("\n")
    first_line = next(
        (i for i, line in enumerate(lines[:6]) if line.strip().lower() in _KINDS), None
    )
    if first_line is None:
        raise InputError(f"{path}: data: is neither 'Time explicit' nor 'Wavelength explicit'.")
    inner, outer = _KINDS[lines[first_line].strip().lower()]
    numbers: list[float] = []
    starts: list[tuple[int, int]] = []  # line, and how many numbers stood before it
    count = None
    for number, line in enumerate(lines[first_line + 1 :], start=first_line + 2):
        words = line.split()
        if not words:
            continue
        if count is None:
            if words[0].lower() != "intervalnr" or len(words) != 2 or not words[1].isdigit():
                raise InputError(
                    f"{path}:{number} expected 'Intervalnr N', not '{in_one_line(line)}'."
                )
            count = int(words[1])
            continue
        starts.append((number, len(numbers)))
        for word in words:
            try:
                numbers.append(float(word.replace(",", ".")))
            except ValueError:
                raise InputError(
                    f"{path}:{number} '{in_one_line(word, 40)}' is not a number."
                ) from None
    if not count or len(numbers) <= count:
        raise InputError(f"{path}: data: the file ends before its numbers. Is it whole?")
    num_values = len(numbers) - count
    if num_values % (count + 1):
        row, num_left = divmod(num_values, count + 1)
        first = count + row * (count + 1)
        line = max((n for n, num_before in starts if num_before <= first), default=starts[-1][0])
        raise InputError(
            f"{path}:{line} a row of {num_left} numbers where {count + 1} are expected ({outer} and "
            f"{count} values)."
        )
    rows = np.array(numbers[count:]).reshape(-1, count + 1)
    data = xr.DataArray(
        rows[:, 1:], {outer: rows[:, 0], inner: np.array(numbers[:count])}, (outer, inner)
    )
    return data.transpose("time", "wavelength").to_dataset(name="data")
