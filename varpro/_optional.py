"""Packages that only some purposes need."""

import importlib
from typing import Any

from ._results import InputError


def needed(package: str, purpose: str) -> Any:
    """Import an optional package, or say how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{purpose} needs {package}, which is not installed. Install it with "
            f"'pip install {package}'."
        ) from error
