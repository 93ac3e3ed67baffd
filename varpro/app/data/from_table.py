"""The columns of a data file that a configuration asks for, checked and ready to fit."""

import dataclasses
import fnmatch
import os
from pathlib import Path

import numpy as np

import varpro as vp

from ..config.data import Data
from ..config.document import Document, Key
from ..config.messages import complain, nearest
from .covariance import read_covariance
from .kinds import is_table
from .samples import Columns, paired
from .table_lines import TableFormat
from .text_table import Table, one_line, read_table


def read_columns(document: Document, data: Data, section: Key, folder: Path) -> Columns:
    """What one section of a configuration says about a data file; `section` is where it stands."""
    path = as_seen_from_here(folder / data.path)
    if not is_table(path):
        from .from_arrays import read_array_columns

        return read_array_columns(document, data, section, path)
    for key in ("select", "mask"):
        if getattr(data, key):
            message = "is for files of arrays. Tables of text have range and where."
            raise vp.InputError(complain(document, (*section, key), message))
    table = read_table(path, written_as(data))
    if data.spacing is not None:
        try:
            table = table.with_positions(data.x, data.spacing, data.origin)
        except vp.InputError as error:
            raise vp.InputError(complain(document, (*section, "spacing"), str(error))) from None
    rows_of_file = {line: row for row, line in enumerate(table.lines)}

    def column(name: str, *key: str | int) -> int:
        try:
            index = table.find(name)
            message = f"{table.file} has no column '{name}'. {nearest(name, table.names())}"
            if index is None and table.notes:
                message += f" How it was read: {'; '.join(table.notes)}."
        except vp.InputError as error:  # several are called so
            index, message = None, str(error)
        if index is None:
            raise vp.InputError(complain(document, (*section, *key), message))
        return index

    for name, word in data.where.items():
        index = column(name, "where", name)
        row_indices = [i for i, row in enumerate(table.rows) if row[index] == word]
        if not row_indices:
            words = sorted({row[index] for row in table.rows})
            message = f"no row of column '{name}' is '{word}'. {nearest(word, words)}"
            raise vp.InputError(complain(document, (*section, "where", name), message))
        table = table.take(row_indices)

    x_index = column(data.x, "x")

    def columns_of(key: str, names: list[str]) -> list[int]:
        indices: list[int] = []
        for i, name in enumerate(names):
            if any(sign in name for sign in "*?[") and table.find(name) is None:
                matches = [j for j, head in enumerate(table.names()) if fnmatch.fnmatch(head, name)]
                matches = [j for j in matches if j != x_index]
                if not matches:
                    message = f"no column matches '{name}'. {nearest(name, table.names())}"
                    raise vp.InputError(complain(document, (*section, key, i), message))
            else:
                matches = [column(name, key, i)]
            indices += [j for j in matches if j not in indices]
        return indices

    y_indices, imag_indices = columns_of("y", data.y), columns_of("imag", data.imag)
    if imag_indices and len(imag_indices) != len(y_indices):
        message = f"{len(imag_indices)} columns for the {len(y_indices)} of y."
        raise vp.InputError(complain(document, (*section, "imag"), message))
    value_indices = [*y_indices, *imag_indices]
    if x_index in value_indices:
        raise vp.InputError(complain(document, section, f"'{data.x}' is both x and y."))
    _check_lengths(table, x_index, value_indices)
    num_rows = len(table.rows)
    table = _finite(table, [x_index], data.nan, dates=True)
    if data.range is not None:
        x = table.numbers(x_index, dates=True)
        row_indices = np.flatnonzero((x >= data.range[0]) & (x <= data.range[1]))
        if not row_indices.size:
            message = f"no {data.x} lies between {data.range[0]:g} and {data.range[1]:g}."
            raise vp.InputError(complain(document, (*section, "range"), message))
        num_rows -= len(table.rows) - len(row_indices)
        table = table.take(row_indices.tolist())

    weight_indices: dict[str, int] = {}
    if isinstance(data.sigma, str) and data.sigma != "poisson":
        weight_indices["sigma"] = column(data.sigma, "sigma")
    if data.weights is not None:
        weight_indices["weights"] = column(data.weights, "weights")
    table = _finite(table, [*value_indices, *weight_indices.values()], data.nan)
    if not table.rows:
        raise vp.InputError(complain(document, section, "no row is left to fit."))

    y = np.stack([table.values(j) for j in y_indices], axis=1)
    if imag_indices:
        y = y + 1j * np.stack([table.numbers(j) for j in imag_indices], axis=1)
    covariance = None
    if data.covariance is not None:
        file = as_seen_from_here(folder / data.covariance)
        try:
            covariance = read_covariance(file, len(rows_of_file))
        except vp.InputError as error:
            raise vp.InputError(complain(document, (*section, "covariance"), str(error))) from error
        kept = [rows_of_file[line] for line in table.lines]
        covariance = covariance[np.ix_(kept, kept)]
    sigma: np.ndarray | float | None = data.sigma if isinstance(data.sigma, float) else None
    if data.sigma == "poisson":
        if y.shape[1] > 1 or imag_indices:
            message = "poisson needs a single y column of counts."
            raise vp.InputError(complain(document, (*section, "sigma"), message))
        _refuse(table, y_indices[0], y[:, 0] < 0, "is negative, so it is no Poisson count")
        sigma = np.sqrt(np.maximum(y[:, 0], 1.0))
    elif "sigma" in weight_indices:
        sigma = table.numbers(weight_indices["sigma"])
        _refuse(
            table,
            weight_indices["sigma"],
            sigma <= 0,
            "is no standard deviation; it must be positive",
        )
    weights = None
    if "weights" in weight_indices:
        weights = table.numbers(weight_indices["weights"])
        _refuse(
            table, weight_indices["weights"], weights < 0, "is no weight; it must be zero or more"
        )

    names = table.names()
    labels = table.positions(y_indices) if len(y_indices) > 1 else None
    # What stands in brackets behind such a number is its own unit, not that of the values.
    unit = table.unit(y_indices[0])
    return Columns(
        x=table.numbers(x_index, dates=True),
        y=y[:, 0] if y.shape[1] == 1 else y,
        sigma=sigma if covariance is None else covariance,
        weights=weights,
        x_name=names[x_index],
        y_names=paired([names[j] for j in y_indices], [names[j] for j in imag_indices]),
        x_unit=data.units.x or table.unit(x_index),
        y_unit=data.units.y or ("" if labels is not None else unit),
        dropped=num_rows - len(table.rows),
        labels=labels,
        common=table.common,
        notes=table.notes,
        labels_name=("column" + (f" [{unit}]" if unit else "")) if labels is not None else "",
    )


def written_as(data: Data) -> TableFormat:
    """How a section says that its table is written."""
    keys = (field.name for field in dataclasses.fields(TableFormat))
    return TableFormat(**{key: getattr(data, key) for key in keys})


def as_seen_from_here(path: Path) -> Path:
    """A path as short as the user would write it, for messages."""
    path, here = Path(os.path.normpath(path)), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _check_lengths(table: Table, x_index: int, y_indices: list[int]) -> None:
    """Columns of different length show as empty fields at the end."""
    filled = {j: [i for i, row in enumerate(table.rows) if row[j]] for j in (x_index, *y_indices)}
    lengths = {j: rows[-1] + 1 if rows else 0 for j, rows in filled.items()}
    for j in y_indices:
        if lengths[j] != lengths[x_index]:
            short = min(lengths[j], lengths[x_index])
            raise vp.InputError(
                f"{table.file}:{table.lines[short]} x ('{one_line(table.header[x_index])}') has "
                f"{lengths[x_index]} points but y ('{one_line(table.header[j])}') has {lengths[j]}."
            )


def _finite(table: Table, indices: list[int], nan: str, dates: bool = False) -> Table:
    """The rows whose numbers are finite; others are an error unless they may be dropped."""
    bad = np.stack([~np.isfinite(table.values(j, dates)) for j in indices])
    if not bad.any():
        return table
    if nan == "drop":
        return table.take(np.flatnonzero(~bad.any(axis=0)).tolist())
    row = int(np.argmax(bad.any(axis=0)))
    index = indices[int(np.argmax(bad[:, row]))]
    text = table.rows[row][index]
    reason = f"'{one_line(text)}' is not finite" if text else "the value is missing"
    num_more = int(bad.sum()) - 1
    count_text = f" ({num_more} more like it)" if num_more else ""
    raise vp.InputError(
        f"{table.at(row, index)} column '{one_line(table.header[index])}': {reason}{count_text}. "
        "Mend it, or set 'nan: drop' under data."
    )


def _refuse(table: Table, index: int, bad: np.ndarray, reason: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise vp.InputError(
            f"{table.at(row, index)} column '{one_line(table.header[index])}': "
            f"{one_line(table.rows[row][index])} {reason}."
        )
