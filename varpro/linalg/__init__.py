"""Pseudoinverse solves with derivatives made of one factorisation. Knows matrices only."""

from ._factor import AbstractFactor as AbstractFactor, AbstractPinvSolver as AbstractPinvSolver
from ._pinv_solve import pinv_solve as pinv_solve, project_out as project_out
from ._qr import QR as QR
from ._svd import SVD as SVD
