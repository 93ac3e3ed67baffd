"""Pseudoinverse solves with derivatives made of one factorisation. Knows matrices only."""

from ._balance import (
    Balanced as Balanced,
    balanced as balanced,
    column_scale as column_scale,
)
from ._factor import AbstractFactor as AbstractFactor, AbstractPinvSolver as AbstractPinvSolver
from ._lineax import linear_solve as linear_solve
from ._normal import Normal as Normal
from ._pinv_solve import pinv_solve as pinv_solve
from ._pivoted import PivotedQR as PivotedQR
from ._project import project_out as project_out
from ._qr import QR as QR
from ._small import Small as Small
from ._svd import SVD as SVD
