"""Whether the rows of a table are its curves, or those of a plate."""

import numpy as np

from ..data.date_text import is_date
from ..data.number_text import as_number
from ..data.table_units import split_unit
from ..data.text_table import Table
from .looks import X, monotonic


def lies_on_its_side(table: Table) -> bool:
    """Whether rows are the curves: a first column of names, one of which is as x is called, and as many numbers in
    every row; or delays above and wavelengths beside a matrix."""
    names, count = table.names(), len(table.header)
    if count < 5 or len(table.rows) < 2:
        return False
    labels = [row[0] for row in table.rows]
    columns = range(1, count)
    if is_plate(table):
        return False
    words = all(as_number(text) is None and not is_date(text) for text in labels if text)
    if count > len(labels) + 1 and words:
        known = [j for j in columns if as_number(table.rows[-1][j]) is not None]
        # Of two columns of names that of x may stand in the second.
        named = [split_unit(row[k])[0] for row in table.rows for k in (0, 1)]
        named.append(split_unit(names[0])[0])
        top = np.array([as_number(text) for text in table.rows[0][1:]], float)
        # Or samples stand below each other, with their spectra beside them.
        if len(known) >= count - 2 and (any(map(X.fullmatch, named)) or monotonic(top)):
            return True
    above = table.positions([*columns])
    if above is not None and count > 2 * len(labels) and monotonic(above):
        if all(text and as_number(text) is None for text in labels):
            return True
    spectra = [j for j in columns if as_number(names[j]) is not None]
    if len(spectra) >= 10 and len(spectra) > 5 * len(labels) and names[-1] != str(count):
        axis = table.positions(spectra)
        if axis is not None and monotonic(axis):
            return True  # few samples, with their spectra beside them
    beside = np.array([as_number(row[0]) for row in table.rows], float)
    if above is None or not np.isfinite(beside).all() or len(beside) < 5:
        return False
    return _are_delays(above) and _are_wavelengths(beside)


def is_plate(table: Table) -> bool:
    """Whether the first column holds the rows of a plate, A, B, C, ... below each other."""
    labels = [row[0].strip() for row in table.rows]
    labels = labels if labels[:1] == ["A"] else labels[1:]
    whole = [chr(65 + i) for i in range(min(len(labels), 16))]
    return len(labels) >= 4 and len(table.header) > 3 and labels == whole


def _are_delays(x: np.ndarray) -> bool:
    """Numbers that rise from before 0, or many that rise from 0: a few may be concentrations."""
    rising = x[0] <= 0 < x[-1] and (np.diff(x) > 0).all()
    return bool(rising and (x[0] < 0 or len(x) >= 10))


def _are_wavelengths(x: np.ndarray) -> bool:
    """Numbers that rise or fall, as nanometres or wavenumbers do."""
    return bool(monotonic(x) and x.min() >= 150 and x.max() < 2e5 and x.max() < 20 * x.min())
