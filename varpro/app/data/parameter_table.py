"""Starts and bounds in a table, for people who keep them in a spreadsheet.

Columns: `name`, and any of `init`, `lower`, `upper`, `fixed` (true or false), `prior_mean`,
`prior_sd`. An empty field is one that is not given. What stands in the table holds, whatever the
model says of the same parameter. Further columns, such as a remark, are left alone.
"""

import csv
import io
import math
from pathlib import Path

import varpro as vp

from .text_table import MISSING, Table, read_table

_NUMBERS = ("init", "lower", "upper", "prior_mean", "prior_sd")
_YES, _NO = ("true", "yes", "1", "t", "y"), ("false", "no", "0", "f", "n", "")


def read_parameters(path: Path) -> dict[str, vp.Param]:
    """The parameters of a table by name.

    **Raises:** `InputError` with line and column.
    """
    table = read_table(path)
    if (name_column := table.find("name")) is None:
        raise vp.InputError(
            f"{path}: parameters: needs a column 'name'; found "
            f"{' '.join(', '.join(table.names()[:12]).split())}."
        )
    params: dict[str, vp.Param] = {}
    for i, row in enumerate(table.rows):
        name = row[name_column]
        shown = " ".join(name.split())
        if name in params:
            raise vp.InputError(f"{table.at(i, name_column)} parameters: '{shown}' is there twice.")
        numbers = {key: _number(table, i, key) for key in _NUMBERS}
        prior = (numbers["prior_mean"], numbers["prior_sd"])
        if (prior[0] is None) != (prior[1] is None):
            raise vp.InputError(
                f"{table.at(i, name_column)} parameters: a prior has a mean and an sd."
            )
        init = numbers["init"]
        lower = -math.inf if numbers["lower"] is None else numbers["lower"]
        upper = math.inf if numbers["upper"] is None else numbers["upper"]
        if not lower < upper:
            raise vp.InputError(
                f"{table.at(i, name_column)} parameters: lower = {lower:g} of '{shown}' must be below upper = "
                f"{upper:g}."
            )
        if init is not None and not lower <= init <= upper:
            raise vp.InputError(
                f"{table.at(i, name_column)} parameters: init = {init:g} of '{shown}' lies outside its bounds "
                f"[{lower:g}, {upper:g}]."
            )
        prior_or_none = None if prior[0] is None or prior[1] is None else (prior[0], prior[1])
        params[name] = vp.Param(
            init, lower=lower, upper=upper, fixed=_truth(table, i), prior=prior_or_none
        )
    return params


def _number(table: Table, i: int, key: str) -> float | None:
    j = table.find(key)
    if j is None or table.rows[i][j] in ("", *MISSING):
        return None
    return float(table.take([i]).numbers(j)[0])


def _truth(table: Table, i: int) -> bool:
    j = table.find("fixed")
    word = "" if j is None else table.rows[i][j].lower()
    if word not in (*_YES, *_NO):
        raise vp.InputError(
            f"{table.at(i, j or 0)} column 'fixed': expected true or false, not '{' '.join(word.split())}'."
        )
    return word in _YES


def parameters_text(fit: vp.FitResult | vp.GlobalFit) -> str:
    """The table of a fit: its values as starts, and their errors for the reader."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("name", "init", "lower", "upper", "fixed", "prior_mean", "prior_sd", "stderr"))
    for name in fit.names:
        estimate, prior = fit[name], fit.params[name].prior
        assert isinstance(estimate, vp.Estimate)
        bounds = (
            "" if math.isinf(end) else repr(float(end)) for end in (estimate.lower, estimate.upper)
        )
        fixed = "true" if estimate.fixed else "false"
        stderr = float(estimate.stderr)
        row = (name, repr(float(estimate.value)), *bounds, fixed, *(prior or ("", "")))
        writer.writerow((*row, repr(stderr)))
    return buffer.getvalue()
