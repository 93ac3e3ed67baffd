"""Pseudoinverse solves with derivatives made of one factorisation. Knows matrices only."""

from ._active_set import (
    LANES as LANES,
    BoundedSides as BoundedSides,
    bounded_sides_of as bounded_sides_of,
    bounded_solve as bounded_solve,
    in_blocks as in_blocks,
)
from ._block_tridiagonal import (
    Bordered as Bordered,
    BorderedFactor as BorderedFactor,
    factored as factored,
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
from ._iterative import (
    AbstractIterative as AbstractIterative,
    Accuracy as Accuracy,
    ConjugateGradients as ConjugateGradients,
    Preconditioner as Preconditioner,
    Rows as Rows,
    Solved as Solved,
    as_iterative as as_iterative,
    gram_solve as gram_solve,
    restricted as restricted,
)
from ._lineax import linear_solve as linear_solve
from ._masked_qr import Masked as Masked, masked as masked
from ._normal import Normal as Normal
from ._operator import (
    Flat as Flat,
    FunctionPair as FunctionPair,
    Products as Products,
    adjoint_agrees as adjoint_agrees,
    as_operator as as_operator,
    described as described,
    foreign as foreign,
    is_operator as is_operator,
    real_dot as real_dot,
    signs as signs,
)
from ._pinv_solve import pinv_solve as pinv_solve
from ._pivoted_qr import PivotedQR as PivotedQR
from ._project_out import project_out as project_out
from ._projected import ProjectedGradients as ProjectedGradients
from ._qr import QR as QR
from ._svd import SVD as SVD
from ._thin_qr import solve_upper as solve_upper, thin_qr as thin_qr
