"""Bases: formulas with named parameters. This package knows formulas only."""

from ._base import (
    AbstractBasis as AbstractBasis,
    Params as Params,
    Shared as Shared,
    Sum as Sum,
    column as column,
    parameter as parameter,
    without_names as without_names,
)
from ._coherent_artifact import CoherentArtifact as CoherentArtifact
from ._complex_exp import ComplexExp as ComplexExp, Receiver as Receiver
from ._custom import Custom as Custom, Offset as Offset
from ._decay import Exp as Exp
from ._gaussian_irf import GaussianIRF as GaussianIRF
from ._kinetics import Amounts as Amounts, Kinetics as Kinetics
from ._measured_irf import MeasuredIRF as MeasuredIRF
from ._model import Model as Model, Partials as Partials, build_model as build_model
from ._ode import ODE as ODE
from ._oscillation import Oscillation as Oscillation
from ._peak import Gaussian as Gaussian, Lorentzian as Lorentzian
from ._polynomial import Constant as Constant, Polynomial as Polynomial
from ._response import AbstractResponse as AbstractResponse
from ._spline import BSpline as BSpline, Knots as Knots
from ._stretched import StretchedExp as StretchedExp
from ._voigt import Pearson7 as Pearson7, PseudoVoigt as PseudoVoigt, Voigt as Voigt

KINDS: dict[str, type[AbstractBasis]] = {
    "exp": Exp,
    "stretched_exp": StretchedExp,
    "oscillation": Oscillation,
    "complex_exp": ComplexExp,
    "gaussian": Gaussian,
    "lorentzian": Lorentzian,
    "voigt": Voigt,
    "pseudo_voigt": PseudoVoigt,
    "pearson7": Pearson7,
    "constant": Constant,
    "polynomial": Polynomial,
    "bspline": BSpline,
    "coherent_artifact": CoherentArtifact,
    "kinetics": Kinetics,
    "custom": Custom,
}
"""The bases by the name that a configuration file gives their kind."""
