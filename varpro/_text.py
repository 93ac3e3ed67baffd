"""Tables of text, aligned for a terminal or as HTML, and numbers rounded to their uncertainty."""

import html
import math
import textwrap
from collections.abc import Sequence

import numpy as np

_WIDTH = 100
# Colours come from the page, so that a table reads well in light and dark notebooks.
_CELL = "padding:.15em .8em .15em 0;border:0;border-bottom:1px solid rgba(128,128,128,.35);"
_NUMBER, _WORD = "text-align:right;font-variant-numeric:tabular-nums;", "text-align:left;"


def rounded(value: float | complex, stderr: float) -> tuple[str, str]:
    """A value and its standard error, both to the second digit of the error.

    Without a finite positive error the value has six digits; the error of an undetermined value is
    "inf", and that of a fixed one or of one without an estimate is empty.
    """
    if isinstance(value, complex):
        if not math.isfinite(stderr) or stderr <= 0:
            return f"{value:.6g}", "inf" if math.isinf(stderr) else ""
        digits = max(_digits(max(abs(value.real), abs(value.imag)), stderr), 1)
        return f"{value:.{digits}g}", f"{stderr:.2g}"
    if not math.isfinite(value) or not math.isfinite(stderr) or stderr <= 0:
        return f"{value:.6g}", "inf" if math.isinf(stderr) else ""
    # Rounded first, as rounding may carry: 0.0996 is 0.10, whose second digit is one place higher.
    places = 1 - math.floor(math.log10(float(f"{stderr:.1e}")))
    largest = max(abs(value), stderr)
    if 1e-4 <= largest < 1e7 and places <= 9:
        decimals = max(places, 0)
        return f"{value:.{decimals}f}", f"{stderr:.{decimals}f}"
    digits = min(max(_digits(largest, stderr) - 1, 0), 15)
    return f"{value:.{digits}e}", f"{stderr:.1e}"


def _digits(value: float, stderr: float) -> int:
    """Significant digits of a value down to the second digit of its error."""
    if value == 0 or not math.isfinite(value):
        return 1
    return math.floor(math.log10(value)) - math.floor(math.log10(float(f"{stderr:.1e}"))) + 2


def percent(relative: float) -> str:
    """A relative error as people read it: two digits, and none where it says nothing."""
    if not math.isfinite(relative) or relative == 0:
        return ""
    if relative >= 10:
        return "> 1000 %"
    places = 0 if relative >= 0.0995 else 1
    return f"{100 * relative:.2g} %" if relative < 0.00995 else f"{100 * relative:.{places}f} %"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Aligned lines; the columns in `left` to the left, the others to the right."""
    columns = [i for i in range(len(header)) if any(row[i] for row in rows)]
    lines = [[row[i] for i in columns] for row in (header, *rows)]
    widths = [max(len(line[j]) for line in lines) for j in range(len(columns))]
    text_lines = []
    for line in lines:
        cells = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, cell, width in zip(columns, line, widths, strict=True)
        )
        text_lines.append("  ".join(cells).rstrip())
    return "\n".join(text_lines)


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """The table as HTML that needs no style sheet; every cell is escaped."""
    columns = [i for i in range(len(header)) if any(row[i] for row in rows)]

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{tag} style="{_CELL}{_WORD if i in left else _NUMBER}">{html.escape(cells[i])}</{tag}>'
            for i in columns
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    head = f"<thead><tr>{line('th', header)}</tr></thead>"
    style = "border-collapse:collapse;background:none;color:inherit;margin:.4em 0"
    return f'<table style="{style}">{head}<tbody>{body}</tbody></table>'


def indented(text: str) -> str:
    """Every line two blanks further in."""
    return textwrap.indent(text, "  ")


def bullet(text: str) -> str:
    """A sentence as an item of a list, folded at a readable width."""
    return textwrap.fill(
        text, _WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False
    )


def listed(names: Sequence[str], max_names: int = 6) -> str:
    """Names in a row, the middle ones left out when there are many."""
    if len(names) <= max_names:
        return ", ".join(names)
    return f"{', '.join(names[: max_names - 2])}, ..., {names[-1]} ({len(names)} in all)"


def plain(value: object) -> object:
    """JSON has no complex numbers and no NaN: pairs of lists, and None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, complex):
        return {"real": plain(value.real), "imag": plain(value.imag)}
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
