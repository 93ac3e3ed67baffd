"""A dynamic mode decomposition as named arrays on named axes."""

from typing import Any

import numpy as np

from ._dmd_plot import Drawn


def variables_of(result: Drawn) -> tuple[dict[str, Any], dict[str, Any]]:
    """One number for each eigenvalue, by name; and the coordinates."""
    error, mode = result.stderr, ("mode",)
    found: dict[str, Any] = {
        "frequency": (mode, result.frequency),
        "frequency_stderr": (mode, np.imag(error) / (2 * np.pi)),
        "growth": (mode, result.growth),
        "growth_stderr": (mode, np.real(error)),
        "amplitude": (mode, result.amplitudes),
        "amplitude_stderr": (mode, result.amplitude_stderr),
    }
    if result.bags is not None:
        found["frequency_bags"] = (("bag", "mode"), np.imag(result.bags.eigenvalues) / (2 * np.pi))
        found["growth_bags"] = (("bag", "mode"), np.real(result.bags.eigenvalues))
    return found, {"time": ("time", result.t)}


def fields_of(result: Drawn) -> dict[str, Any]:
    """Modes and data, where they are known, over the axes of a snapshot."""
    found: dict[str, Any] = {}
    modes = result.modes
    if modes is None:
        return found
    axes = tuple(f"axis_{i}" for i in range(modes.ndim - 1))
    found["modes"] = ((*axes, "mode"), modes)
    if isinstance(result.X, np.ndarray):
        found["data"] = ((*axes, "time"), result.X)
    return found
