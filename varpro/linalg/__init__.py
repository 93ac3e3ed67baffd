"""Pseudoinverse solves with derivatives made of one factorisation. Knows matrices only."""

from ._active_set import (
    LANES as LANES,
    BoundedSides as BoundedSides,
    bounded_sides_of as bounded_sides_of,
    bounded_solve as bounded_solve,
    in_blocks as in_blocks,
)
from ._bounded_lstsq import bounded_lstsq as bounded_lstsq
from ._column_scaling import (
    Balanced as Balanced,
    balanced as balanced,
    column_scale as column_scale,
)
from ._derivative import solution_derivative as solution_derivative
from ._factor import AbstractFactor as AbstractFactor, AbstractPinvSolver as AbstractPinvSolver
from ._gram_schmidt import Small as Small
from ._lineax import linear_solve as linear_solve
from ._masked_qr import Masked as Masked, masked as masked
from ._normal import Normal as Normal
from ._pinv_solve import pinv_solve as pinv_solve
from ._pivoted_qr import PivotedQR as PivotedQR
from ._project_out import project_out as project_out
from ._qr import QR as QR
from ._svd import SVD as SVD
