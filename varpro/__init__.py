"""Variable projection for separable nonlinear least squares: y ~ Phi(alpha) c."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import basis as basis, linalg as linalg
    from ._batch import fit_many as fit_many, prepare_many as prepare_many
    from ._batch_fit import BatchFit as BatchFit
    from ._batch_job import BatchJob as BatchJob
    from ._compare import Comparison as Comparison, compare as compare
    from ._compress import Compressed as Compressed, compress as compress
    from ._compressed_fit import CompressedFit as CompressedFit
    from ._diagnostics import Finding as Finding
    from ._dmd import dmd as dmd
    from ._dmd_bags import DmdBags as DmdBags
    from ._dmd_result import DmdResult as DmdResult
    from ._figures import Labels as Labels
    from ._find_starts import find_starts as find_starts
    from ._fit import fit as fit
    from ._fit_result import Estimate as Estimate, FitResult as FitResult
    from ._global_fit import GlobalFit as GlobalFit
    from ._levenberg import LevenbergMarquardt as LevenbergMarquardt
    from ._load import load as load
    from ._params import Param as Param
    from ._programs import keep_programs as keep_programs
    from ._results import (
        RESULTS as RESULTS,
        FitError as FitError,
        InputError as InputError,
        VarproError as VarproError,
    )
    from ._solve import Solution as Solution, solve as solve
    from ._ties import Tie as Tie
    from .basis import (
        ODE as ODE,
        AbstractBasis as AbstractBasis,
        BSpline as BSpline,
        CoherentArtifact as CoherentArtifact,
        ComplexExp as ComplexExp,
        Constant as Constant,
        Custom as Custom,
        Exp as Exp,
        Gaussian as Gaussian,
        GaussianIRF as GaussianIRF,
        Kinetics as Kinetics,
        Lorentzian as Lorentzian,
        MeasuredIRF as MeasuredIRF,
        Offset as Offset,
        Oscillation as Oscillation,
        Pearson7 as Pearson7,
        Polynomial as Polynomial,
        PseudoVoigt as PseudoVoigt,
        Receiver as Receiver,
        StretchedExp as StretchedExp,
        Voigt as Voigt,
    )

__version__ = "0.1.0"

# Public names by the module that holds them, imported on first use: JAX takes a second or more, and
# the command line has no use for it to show its help.
_NAMES = {
    "_batch": ("fit_many", "prepare_many"),
    "_batch_fit": ("BatchFit",),
    "_batch_job": ("BatchJob",),
    "_compare": ("Comparison", "compare"),
    "_compress": ("Compressed", "compress"),
    "_compressed_fit": ("CompressedFit",),
    "_diagnostics": ("Finding",),
    "_find_starts": ("find_starts",),
    "_figures": ("Labels",),
    "_dmd": ("dmd",),
    "_dmd_bags": ("DmdBags",),
    "_dmd_result": ("DmdResult",),
    "_fit": ("fit",),
    "_fit_result": ("Estimate", "FitResult"),
    "_global_fit": ("GlobalFit",),
    "_levenberg": ("LevenbergMarquardt",),
    "_load": ("load",),
    "_params": ("Param",),
    "_programs": ("keep_programs",),
    "_results": ("RESULTS", "FitError", "InputError", "VarproError"),
    "_solve": ("Solution", "solve"),
    "_ties": ("Tie",),
    "basis": (
        *(
            "AbstractBasis",
            "BSpline",
            "CoherentArtifact",
            "ComplexExp",
            "Constant",
            "Custom",
            "Exp",
        ),
        *("Gaussian", "GaussianIRF", "Kinetics", "Lorentzian", "MeasuredIRF", "ODE", "Offset"),
        *("Oscillation", "Pearson7", "Polynomial", "PseudoVoigt", "Receiver", "StretchedExp"),
        *("Voigt",),
    ),
}
_MODULES = ("basis", "linalg")
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [*_MODULES, *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
