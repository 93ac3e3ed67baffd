"""Bases: formulas with named parameters. This package knows formulas only."""

from ._asymmetric import (
    DoniachSunjic as DoniachSunjic,
    GaussLorentz as GaussLorentz,
    LorentzianPowers as LorentzianPowers,
)
from ._base import (
    AbstractBasis as AbstractBasis,
    ParamField as ParamField,
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
from ._dispersion import (
    Chirp as Chirp,
    Powers as Powers,
    Sides as Sides,
    Wavelengths as Wavelengths,
    at_side as at_side,
    sides_in as sides_in,
)
from ._gaussian_irf import GaussianIRF as GaussianIRF
from ._kinetics import Amounts as Amounts, Kinetics as Kinetics
from ._loss import AbstractLoss as AbstractLoss, Shirley as Shirley, Tougaard as Tougaard
from ._measured_irf import MeasuredIRF as MeasuredIRF
from ._model import (
    Model as Model,
    Partials as Partials,
    build_model as build_model,
    counted_from as counted_from,
)
from ._ode import ODE as ODE
from ._origin import Origin as Origin, representable as representable, with_origin as with_origin
from ._oscillation import Oscillation as Oscillation
from ._peak import (
    AbstractPeak as AbstractPeak,
    Gaussian as Gaussian,
    Lines as Lines,
    Lorentzian as Lorentzian,
)
from ._polynomial import Constant as Constant, Polynomial as Polynomial
from ._reported import Reported as Reported
from ._response import (
    AbstractResponse as AbstractResponse,
    at_wavelengths as at_wavelengths,
    disperses as disperses,
)
from ._spline import BSpline as BSpline, Knots as Knots
from ._step import Step as Step
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
    "doniach_sunjic": DoniachSunjic,
    "gauss_lorentz": GaussLorentz,
    "lorentzian_powers": LorentzianPowers,
    "step": Step,
    "constant": Constant,
    "polynomial": Polynomial,
    "bspline": BSpline,
    "coherent_artifact": CoherentArtifact,
    "kinetics": Kinetics,
    "custom": Custom,
}
"""The bases by the name that a configuration file gives their kind."""
