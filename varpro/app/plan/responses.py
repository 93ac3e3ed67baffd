"""The responses of a configuration: from their sections, and from files that hold measured ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import varpro as vp

from ..config.config import Config
from ..config.document import Document
from ..config.messages import complain, nearest
from ..config.model import BasisComponent, MeasuredResponse
from ..data.from_table import as_seen_from_here
from ..data.table_lines import TableFormat
from ..data.text_table import read_table
from ..provenance import Inputs


def build_responses(
    document: Document, config: Config, folder: Path, inputs: Inputs
) -> Mapping[str, vp.basis.Shared]:
    """The responses by name; files that they are read from are noted among the inputs."""
    found: dict[str, vp.basis.Shared] = {}
    problems: list[str] = []
    for name, section in config.responses.items():
        try:
            if isinstance(section, MeasuredResponse):
                inputs.note(f"responses.{name}", folder / section.path, folders=False)
                found[name] = _measured(
                    name, section, folder, _chirp(name, section, folder, inputs)
                )
            else:
                assert isinstance(section, BasisComponent)
                chirp = _chirp(name, section, folder, inputs)
                found[name] = section.build(name, chirp=chirp)
        except vp.InputError as error:
            problems.append(complain(document, ("responses", name), str(error)))
    if problems:
        raise vp.InputError("\n".join(problems))
    return found


def _chirp(name: str, section: Any, folder: Path, inputs: Inputs) -> list[np.ndarray] | None:
    """Wavelengths and times zero from the first two columns of a file."""
    path = getattr(section, "chirp", None)
    if path is None:
        return None
    inputs.note(f"responses.{name}.chirp", folder / path, folders=False)
    table = read_table(as_seen_from_here(folder / path), TableFormat())
    if len(table.names()) != 2:
        raise vp.InputError(
            f"chirp: {table.file} has {len(table.names())} columns, not two, of wavelengths and times zero."
        )
    return [table.numbers(0), table.numbers(1)]


def _measured(
    name: str, section: MeasuredResponse, folder: Path, chirp: list[np.ndarray] | None
) -> vp.MeasuredIRF:
    table = read_table(
        as_seen_from_here(folder / section.path), TableFormat(delimiter=section.delimiter)
    )
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
        shift_dispersion=[one.param() for one in section.shift_dispersion],
        dispersion_center=section.dispersion_center,
        dispersion_in=section.dispersion_in,
        chirp=chirp,
        wavelengths=section.wavelengths,
    )
