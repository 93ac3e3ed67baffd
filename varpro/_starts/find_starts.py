"""Starts from the data alone, without a fit: the door to `varpro._starts.guess`."""

from collections.abc import Mapping, Sequence

from jaxtyping import PyTree
from numpy.typing import ArrayLike

from .._errors import InputError
from .._given.containers import is_labelled
from .._parameters.param import Param
from .._problem.data import prepare_data
from .._problem.model_like import takes_vectors
from .._problem.options import Constraints, NanPolicy, Weighting
from .._types import precision
from ..basis import AbstractBasis
from .declare import declare
from .guess import guess_starts


def find_starts(
    model: AbstractBasis,
    x: PyTree,
    y: ArrayLike | None = None,
    *,
    dim: str | None = None,
    init: Mapping[str, Param | float] | None = None,
    bounds: Mapping[str, tuple] | None = None,
    order: Sequence[Sequence[str]] = (),
    sigma: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    nan: NanPolicy = "raise",
) -> dict[str, float]:
    """Starts of all nonlinear parameters, those that `varpro.fit` would begin with.

    What the model leaves open is found in the data, in milliseconds and without compiling anything;
    near the optimum for decays and peaks that can be told apart.

    **Arguments:** as of `varpro.fit`.

    **Raises:** `InputError` for data that cannot be right, and for a parameter of which no start can
    be found, such as one of a function of your own.
    """
    if y is None and is_labelled(x):
        x, y = None, x
    constraints = Constraints(init=init, bounds=bounds, order=order)
    weighting = Weighting(sigma, weights, mask, nan=nan)
    data = prepare_data(x, y, weighting, dim=dim, flat=takes_vectors(model))
    with precision(data.real):
        declared = declare(model, data, constraints.init)
        params = guess_starts(declared.basis, declared.params(constraints), data, constraints)
    without = [name for name, param in params.items() if param.init is None]
    if without:
        raise InputError(f"No start can be found for {', '.join(without)}. Give it, as in init=.")
    return {name: float(param.init) for name, param in params.items() if param.init is not None}
