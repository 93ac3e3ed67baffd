"""What a data file holds: which column or array is x, which are y, and what weighs them.

A choice is made where the file leaves no doubt, and said together with what else there was; where it does,
a question is asked that `--x` and `--y` answer.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import varpro as vp

from ..data.kinds import is_table
from ..data.number_text import as_number
from .columns_of_arrays import columns_of_arrays
from .columns_of_table import columns_of_table
from .found import Asked, Found


def asked(x: str | None, y: Sequence[str], noise: str | None, spacing: str | None = None) -> Asked:
    """What the command line says.

    **Raises:** `InputError` for a noise that there is not, or a step that is none.
    """
    step = None if spacing is None else as_number(spacing)
    if spacing is not None and (step is None or not math.isfinite(step) or step == 0):
        raise vp.InputError(f"--spacing {spacing}: expected the step from sample to sample, 0.004.")
    if noise not in (None, "poisson", "normal"):
        raise vp.InputError(f"--noise {noise}: expected poisson or normal.")
    return Asked(x, tuple(y), noise, step)


def find_columns(source: Path, asked: Asked) -> Found:
    """x, y and what weighs them.

    **Raises:** `InputError` with a question where a file leaves open what they are.
    """
    if source.suffix.lower() in (".yaml", ".yml"):
        raise vp.InputError(f"{source}: is a configuration by its name, and no data.")
    if is_table(source):
        return columns_of_table(source, asked)
    if asked.spacing is not None:
        raise vp.InputError(
            f"--spacing is for tables without positions; {source} is a file of arrays. Say 'spacing' in a "
            "configuration."
        )
    return columns_of_arrays(source, asked)
