"""What `varpro run` and `varpro check` print on stdout."""

import os
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

import varpro as vp

from .plan import Plan
from .tables import listed, parameter_rows, statistics, verdict

_PIPE_WIDTH = 120


def print_summary(plan: Plan, fit: vp.FitResult, folder: str) -> None:
    """The fit as a table with units, the statistics, the findings, and where it was written."""
    console = _console()
    console.print(Text(verdict(fit), style="bold green" if fit.success else "bold red"))
    console.print(_parameters(parameter_rows(plan, fit)))
    console.print(_pairs(statistics(plan, fit)))
    for finding in fit.diagnostics:
        console.print(Text(f"- {finding}", style="yellow"))
    console.print(Text(f"Written to {folder}"), soft_wrap=True)


def print_plan(plan: Plan) -> None:
    """What a run would do."""
    console = _console()
    data, config = plan.columns, plan.config
    rows = [
        ("data", f"{data.y.size} values of {listed(data.y_names)} against {data.x_name}"),
        ("file", config.data.path),
        ("x", f"{data.x.min():g} to {data.x.max():g} {data.x_unit}".rstrip()),
        ("columns", listed(plan.model.column_names)),
        ("solver", f"{config.fit.solver.kind}, {config.fit.solver.jacobian} Jacobian"),
        ("output", os.path.normpath(plan.folder / config.output.dir)),
    ]
    if data.dropped:
        rows.insert(1, ("dropped", f"{data.dropped} rows"))
    console.print(_pairs(rows))
    table = _table("parameter", "start", "lower", "upper", "unit")
    parts = plan.model.parts if isinstance(plan.model, vp.basis.Sum) else (plan.model,)
    # A parameter that components share stands once.
    params = {p.parameter_name(local): v for p in parts for local, v in p.parameters.items()}
    for name, param in params.items():
        start = "from data" if param.init is None else f"{param.init:g}"
        bounds = (f"{float(b):g}" for b in (param.lower, param.upper))
        table.add_row(Text(name), start, *bounds, Text(plan.units.get(name, "")))
    console.print(table)


def _parameters(rows) -> Table:
    columns = ["parameter", "value", "std. error"]
    with_unit, with_note = any(row.unit for row in rows), any(row.note for row in rows)
    columns += ["unit"] * with_unit + ["note"] * with_note
    table = _table(*columns)
    for row in rows:
        cells = [row.name, row.value, row.stderr]
        cells += [row.unit] * with_unit + [row.note] * with_note
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in columns:
        numeric = name in ("value", "std. error", "start", "lower", "upper")
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    return table


def _pairs(rows: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for label, text in rows:
        table.add_row(Text(label, style="dim"), Text(text))
    return table


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # the command line decides what that means; rich would end the program


def _console() -> Console:
    # A pipe has no width; the default of 80 would fold long names.
    return _Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
