"""The public names: what editors complete, checkers check, and `varpro/__init__.py` imports on first use."""

from . import basis as basis, linalg as linalg
from ._batch.batch_fit import BatchFit as BatchFit
from ._batch.fit_many import fit_many as fit_many, prepare_many as prepare_many
from ._batch.job import BatchJob as BatchJob
from ._dmd.bagging import DmdBags as DmdBags
from ._dmd.dmd import dmd as dmd
from ._dmd.result import DmdResult as DmdResult
from ._errors import FitError as FitError, InputError as InputError, VarproError as VarproError
from ._figures.labels import Labels as Labels
from ._fit import fit as fit
from ._global.global_fit import GlobalFit as GlobalFit
from ._load import load as load
from ._operator.operator_fit import OperatorFit as OperatorFit
from ._parameters.expression import Expression as Expression
from ._parameters.inequality import Inequality as Inequality
from ._parameters.param import Param as Param
from ._parameters.tie import Tie as Tie
from ._prepare import PreparedFit as PreparedFit, prepare as prepare
from ._problem.compress import Compressed as Compressed, compress as compress
from ._problem.equal_area import EqualArea as EqualArea
from ._problem.l1 import L1 as L1
from ._problem.tikhonov import Tikhonov as Tikhonov
from ._problem.within import Within as Within
from ._programs.folder import keep_programs as keep_programs, kept_programs as kept_programs
from ._reduced.log_marginal import log_marginal as log_marginal
from ._reduced.loss import reduced_loss as reduced_loss
from ._results.compressed_fit import CompressedFit as CompressedFit
from ._results.fit_result import FitResult as FitResult
from ._search.levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from ._search.progress import Progress as Progress
from ._search.solve import Solution as Solution, solve as solve
from ._starts.find_starts import find_starts as find_starts
from ._statistics.bands import Band as Band
from ._statistics.bootstrap import Bootstrap as Bootstrap
from ._statistics.compare import Comparison as Comparison, compare as compare
from ._statistics.derived_result import Derived as Derived
from ._statistics.diagnostics import Finding as Finding
from ._statistics.estimate import Estimate as Estimate
from ._statistics.intervals import Intervals as Intervals
from ._statistics.posterior import Posterior as Posterior
from ._statistics.profile import Contour as Contour, Profile as Profile
from ._status import RESULTS as RESULTS
from .basis import (
    ODE as ODE,
    AbstractBasis as AbstractBasis,
    BSpline as BSpline,
    CoherentArtifact as CoherentArtifact,
    ComplexExp as ComplexExp,
    Constant as Constant,
    Custom as Custom,
    DoniachSunjic as DoniachSunjic,
    Exp as Exp,
    Gaussian as Gaussian,
    GaussianIRF as GaussianIRF,
    GaussLorentz as GaussLorentz,
    Kinetics as Kinetics,
    Lorentzian as Lorentzian,
    LorentzianPowers as LorentzianPowers,
    MeasuredIRF as MeasuredIRF,
    Offset as Offset,
    Oscillation as Oscillation,
    Pearson7 as Pearson7,
    Polynomial as Polynomial,
    PseudoVoigt as PseudoVoigt,
    Receiver as Receiver,
    Shirley as Shirley,
    Step as Step,
    StretchedExp as StretchedExp,
    Tougaard as Tougaard,
    Voigt as Voigt,
)

__version__: str
