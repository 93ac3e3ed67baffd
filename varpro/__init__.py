"""Variable projection for separable nonlinear least squares: y ~ Phi(alpha) c."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import basis as basis, linalg as linalg
    from ._batch.batch_fit import BatchFit as BatchFit
    from ._batch.fit_many import fit_many as fit_many, prepare_many as prepare_many
    from ._batch.job import BatchJob as BatchJob
    from ._dmd.bagging import DmdBags as DmdBags
    from ._dmd.dmd import dmd as dmd
    from ._dmd.result import DmdResult as DmdResult
    from ._errors import FitError as FitError, InputError as InputError, VarproError as VarproError
    from ._export_cache import keep_programs as keep_programs
    from ._figures.labels import Labels as Labels
    from ._fit import fit as fit
    from ._global.global_fit import GlobalFit as GlobalFit
    from ._load import load as load
    from ._parameters.param import Param as Param
    from ._parameters.tie import Tie as Tie
    from ._problem.compress import Compressed as Compressed, compress as compress
    from ._results.compressed_fit import CompressedFit as CompressedFit
    from ._results.fit_result import FitResult as FitResult
    from ._search.levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
    from ._search.solve import Solution as Solution, solve as solve
    from ._starts.find_starts import find_starts as find_starts
    from ._statistics.compare import Comparison as Comparison, compare as compare
    from ._statistics.diagnostics import Finding as Finding
    from ._statistics.estimate import Estimate as Estimate
    from ._status import RESULTS as RESULTS
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
    "_batch.batch_fit": ("BatchFit",),
    "_batch.fit_many": ("fit_many", "prepare_many"),
    "_batch.job": ("BatchJob",),
    "_dmd.bagging": ("DmdBags",),
    "_dmd.dmd": ("dmd",),
    "_dmd.result": ("DmdResult",),
    "_errors": ("FitError", "InputError", "VarproError"),
    "_export_cache": ("keep_programs",),
    "_figures.labels": ("Labels",),
    "_fit": ("fit",),
    "_global.global_fit": ("GlobalFit",),
    "_load": ("load",),
    "_parameters.param": ("Param",),
    "_parameters.tie": ("Tie",),
    "_problem.compress": ("Compressed", "compress"),
    "_results.compressed_fit": ("CompressedFit",),
    "_results.fit_result": ("FitResult",),
    "_search.levenberg_marquardt": ("LevenbergMarquardt",),
    "_search.solve": ("Solution", "solve"),
    "_starts.find_starts": ("find_starts",),
    "_statistics.compare": ("Comparison", "compare"),
    "_statistics.diagnostics": ("Finding",),
    "_statistics.estimate": ("Estimate",),
    "_status": ("RESULTS",),
    "basis": (
        "ODE",
        "AbstractBasis",
        "BSpline",
        "CoherentArtifact",
        "ComplexExp",
        "Constant",
        "Custom",
        "Exp",
        "Gaussian",
        "GaussianIRF",
        "Kinetics",
        "Lorentzian",
        "MeasuredIRF",
        "Offset",
        "Oscillation",
        "Pearson7",
        "Polynomial",
        "PseudoVoigt",
        "Receiver",
        "StretchedExp",
        "Voigt",
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
