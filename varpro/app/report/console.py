"""What `varpro run` and `varpro check` print on stdout."""

import os
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

import varpro as vp

from ..config.fit import Solver
from ..plan.plan import Plan
from ..terminal import printable
from .tables import (
    QUANTILES,
    batch_verdict,
    findings,
    listed,
    parameter_rows,
    quantile_rows,
    statistics,
    verdict,
)

_PIPE_WIDTH = 120
# Columns of tables that are set to the right.
_NUMBERS = {"value", "std. error", "start", "lower", "upper", "5 %", "median", "95 %"}


def print_summary(plan: Plan, fit: vp.FitResult | vp.GlobalFit, folder: str) -> None:
    """The fit as a table with units, the statistics, the findings, and where it was written."""
    console = _console()
    for name, data in plan.sets.items():
        for note in data.notes:
            console.print(_text(f"{plan.config.sections[name].path}: {note}", style="dim"))
    console.print(_text(verdict(fit), style="bold green" if fit.success else "bold red"))
    console.print(_parameters(parameter_rows(plan, fit)))
    console.print(_pairs(statistics(plan, fit)))
    for finding in findings(fit):
        console.print(_text(f"- {finding}", style="yellow"))
    console.print(_text(f"Written to {folder}"), soft_wrap=True)


def print_batch(plan: Plan, fit: vp.BatchFit, folder: str) -> None:
    """How many curves converged, the spread of their parameters, and where the maps are."""
    console = _console()
    console.print(_text(batch_verdict(fit), style="bold yellow" if fit.message else "bold green"))
    table = _table(*QUANTILES)
    for row in quantile_rows(plan, fit):
        table.add_row(*(_text(cell) for cell in row))
    console.print(table)
    console.print(_text(f"Written to {folder}"), soft_wrap=True)


def print_plan(plan: Plan) -> None:
    """What a run would do."""
    console = _console()
    config, rows = plan.config, []
    for name, data in plan.sets.items():
        dropped = f", {data.dropped} rows dropped" if data.dropped else ""
        values = f"{data.y.size} values of {listed(data.y_names)} against {data.x_name}{dropped}"
        if plan.source is not None:
            sizes = zip(plan.source.dims, plan.source.shape, strict=True)
            values += f", {' x '.join(f'{n} {d}' for d, n in sizes if d != data.x_name)} times"
        rows += [
            (name or "data", values),
            ("file", config.sections[name].path),
            *(("read as", note) for note in (*data.common, *data.notes)),
            ("x", f"{data.x.min():g} to {data.x.max():g} {data.x_unit}".rstrip()),
            ("columns", listed(plan.models[name].column_names)),
        ]
    if plan.several:
        share = config.fit.share
        rows.append(("share", share if isinstance(share, str) else ", ".join(share)))
    rows += [
        ("solver", f"{_solver(config.fit.solver)}, {config.fit.solver.jacobian} Jacobian"),
        ("memory", f"about {_memory(plan)} MB besides JAX"),
        ("output", os.path.normpath(plan.folder / config.output.dir)),
    ]
    console.print(_pairs(rows))
    table = _table("parameter", "start", "lower", "upper", "unit")
    # A parameter that components share stands once.
    for name, param in (plan.parameters | plan.listed).items():
        start = "from data" if param.init is None else f"{param.init:g}"
        bounds = (f"{float(b):g}" for b in (param.lower, param.upper))
        table.add_row(_text(name), start, *bounds, _text(plan.units.get(name, "")))
    console.print(table)


def _solver(solver: Solver) -> str:
    return solver.kind if solver.name is None else f"{solver.name} of {solver.kind}"


def _memory(plan: Plan) -> int:
    """Data, a copy of them for the compiled program, and the fitted curves."""
    return -(-3 * sum(data.y.nbytes for data in plan.sets.values()) // 2**20)


def _parameters(rows) -> Table:
    columns = ["parameter", "value", "std. error"]
    with_unit, with_note = any(row.unit for row in rows), any(row.note for row in rows)
    columns += ["unit"] * with_unit + ["note"] * with_note
    table = _table(*columns)
    for row in rows:
        cells = [row.name, row.value, row.stderr]
        cells += [row.unit] * with_unit + [row.note] * with_note
        table.add_row(*(_text(cell) for cell in cells))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in columns:
        numeric = name in _NUMBERS
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    return table


def _pairs(rows: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for label, text in rows:
        table.add_row(_text(label, style="dim"), _text(text))
    return table


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # the command line decides what that means; rich would end the program


def _text(text: str, style: str = "") -> Text:
    """Words of files, as a terminal may show them."""
    return Text(printable(text), style=style)


def _console() -> Console:
    # A pipe has no width; the default of 80 would fold long names.
    return _Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
