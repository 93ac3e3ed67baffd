"""The responses of a configuration: from their sections, and from files that hold measured ones."""

from collections.abc import Mapping
from pathlib import Path

import varpro as vp

from ..config.config import Config
from ..config.document import Document
from ..config.messages import complain, nearest
from ..config.model import BasisComponent, MeasuredResponse
from ..data.from_table import as_seen_from_here
from ..data.text_table import read_table


def build_responses(
    document: Document, config: Config, folder: Path
) -> tuple[Mapping[str, vp.basis.Shared], dict[str, Path]]:
    """The responses by name, and the files that they were read from by their role."""
    found: dict[str, vp.basis.Shared] = {}
    files: dict[str, Path] = {}
    problems: list[str] = []
    for name, section in config.responses.items():
        try:
            if isinstance(section, MeasuredResponse):
                files[f"responses.{name}"] = folder / section.path
                found[name] = _measured(name, section, folder)
            else:
                assert isinstance(section, BasisComponent)
                found[name] = section.build(name)
        except vp.InputError as error:
            problems.append(complain(document, ("responses", name), str(error)))
    if problems:
        raise vp.InputError("\n".join(problems))
    return found, files


def _measured(name: str, section: MeasuredResponse, folder: Path) -> vp.MeasuredIRF:
    table = read_table(as_seen_from_here(folder / section.path), section.delimiter)
    samples = []
    for column in (section.x, section.y):
        index = table.find(column)
        if index is None:
            raise vp.InputError(
                f"{table.file} has no column '{column}'. {nearest(column, table.names())}"
            )
        samples.append(table.numbers(index))
    shift, period = section.shift, section.period
    return vp.MeasuredIRF(
        name,
        *samples,
        shift=None if shift is None else shift.param(),
        background=section.background,
        period=None if period is None else period.given(),
    )
