"""Variable projection for separable nonlinear least squares: y ~ Phi(alpha) c."""

from . import basis as basis, linalg as linalg
from ._fit import fit as fit
from ._fit_result import Estimate as Estimate, FitResult as FitResult
from ._levenberg import LevenbergMarquardt as LevenbergMarquardt
from ._params import Param as Param
from ._results import (
    RESULTS as RESULTS,
    FitError as FitError,
    InputError as InputError,
    VarproError as VarproError,
)
from ._solve import Solution as Solution, solve as solve
from .basis import (
    AbstractBasis as AbstractBasis,
    Constant as Constant,
    Custom as Custom,
    Exp as Exp,
    Gaussian as Gaussian,
    Lorentzian as Lorentzian,
    Offset as Offset,
    Polynomial as Polynomial,
)

__version__ = "0.1.0"
