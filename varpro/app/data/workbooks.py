"""Sheets of workbooks, XLSX, XLS, XLSB and ODS, as lines of cells."""

import datetime
import importlib
import zipfile
from pathlib import Path
from typing import Any

from varpro import InputError

from ..config.messages import nearest
from ..regular_files import is_regular, read_whole, refuse_large
from .table_lines import CELLS

_ENDINGS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
# A sheet takes about so many times its unpacked size in memory.
_SPREAD = 8
_MAGIC = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def is_workbook(path: str | Path) -> bool:
    """Whether a file is a workbook: by its ending, and by its first bytes."""
    path = Path(path)
    if path.suffix.lower() not in _ENDINGS or not is_regular(path):
        return False
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def lines_of_sheet(path: Path, sheet: str | None) -> tuple[list[str], str]:
    """The rows of a sheet from row 1 on, cells joined, and the name of the sheet: that of the name, or of
    the number from 1 on, or the first that holds rows of numbers, or anything at all.

    **Raises:** `InputError` where the reader is not installed, or the sheet is not there.
    """
    try:
        calamine = importlib.import_module("python_calamine")
    except ImportError as error:
        raise InputError(
            f"{path}: data: is a workbook ({path.suffix[1:].upper()}), which needs python-calamine. Install "
            "it with 'pip install varpro[xlsx]', or save the sheet as CSV."
        ) from error
    read_whole(path, "data")  # of a size that may be read
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                refuse_large(path, "sheets", _SPREAD * sum(i.file_size for i in archive.infolist()))
        book = calamine.CalamineWorkbook.from_path(str(path))
        names = list(book.sheet_names)
        if sheet is not None and sheet not in names and sheet.isdecimal() and int(sheet):
            sheet = names[int(sheet) - 1] if int(sheet) <= len(names) else sheet
        if sheet is not None and sheet not in names:
            raise InputError(f"{path}: data: no sheet '{sheet}'. {nearest(sheet, names)}")
        found: tuple[list[str], str] | None = None
        for name in [sheet] if sheet is not None else names:
            rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
            if any(cell not in ("", None) for row in rows for cell in row):
                lines = [CELLS.join(map(_text, row)) for row in rows]
                if sheet is not None or _has_rows(rows):
                    return lines, name
                found = found or (lines, name)
        if found is not None:
            return found
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"{path}: data: cannot be read as a workbook ({reason}). Is it whole?"
        ) from error
    raise InputError(f"{path}: data: the sheet holds nothing.")


def _has_rows(rows: list[list[Any]]) -> bool:
    """Whether three rows have two numbers or dates each."""
    kinds = (int, float, datetime.datetime, datetime.date, datetime.time)
    numbers = [sum(isinstance(c, kinds) and not isinstance(c, bool) for c in row) for row in rows]
    return sum(n > 1 for n in numbers) >= 3


def _text(cell: Any) -> str:
    """A cell as a text of which a number can be read again."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float):
        return repr(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat(*([" "] if isinstance(cell, datetime.datetime) else []))
    if isinstance(cell, datetime.timedelta):
        return repr(cell.total_seconds())
    return "" if cell is None else " ".join(str(cell).replace(CELLS, " ").split())
