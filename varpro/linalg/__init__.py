"""Pseudoinverse solves with derivatives made of one factorisation. Knows matrices only."""

from ._factor import AbstractFactor as AbstractFactor, AbstractPinvSolver as AbstractPinvSolver
from ._linear_solve import linear_solve as linear_solve
from ._normal import Normal as Normal
from ._pinv_solve import pinv_solve as pinv_solve, project_out as project_out
from ._pivoted_qr import PivotedQR as PivotedQR
from ._qr import QR as QR
from ._small import Small as Small
from ._svd import SVD as SVD
